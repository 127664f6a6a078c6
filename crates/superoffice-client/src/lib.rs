//! A client for SuperOffice CRM's REST API: webhooks, archives and rows. No AWS.
//!
//! - [`settings`] reads the connection from environment variables; [`client`] calls the API with the credentials of
//!   [`auth`].
//! - [`webhooks`] registers, tests and activates the webhooks that post to one URL.
//! - [`archives`] lists the contacts that changed.
//! - [`sensitive`] keeps secrets out of every message.

pub mod archives;
pub mod auth;
pub mod client;
pub mod sensitive;
pub mod settings;
pub mod webhooks;
