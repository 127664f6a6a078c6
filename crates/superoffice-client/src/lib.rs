//! A client for SuperOffice CRM's REST API: webhooks, archives and rows. No AWS, no command line.
//!
//! - [`settings`] reads a [`Connection`] from environment variables; a [`Client`] makes calls with it.
//! - [`webhooks`] registers, tests and activates the webhooks that post to one URL.
//! - [`archives`] lists the contacts that changed.

mod auth;
mod call;
mod client;
mod connection;
mod error;
mod redact;
mod retry;
mod session;
mod system_user;

pub mod archives;
pub mod settings;
pub mod webhooks;

pub use auth::Credentials;
pub use client::{Client, Clock};
pub use connection::Connection;
pub use error::{ApiError, ErrorKind, SetupError, with_causes};
pub use retry::Limits;
/// Re-exported because its types appear in the public API.
pub use secrecy::{self, ExposeSecret, SecretString};
pub use session::TenantState;
pub use system_user::{KeyError, SystemUser, TicketError};
