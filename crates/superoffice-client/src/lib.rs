//! A client for SuperOffice CRM's REST API: contacts, persons, webhooks, and lists of changes. No AWS, no command line.
//!
//! A SuperOffice *contact* is a company; a human is a *person*. A consumer of events reads the contact that an event
//! names:
//!
//! ```no_run
//! # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use superoffice_client::{Client, Connection, Credentials};
//!
//! let client = Client::new(Connection {
//!     url: Some("https://online3.superoffice.com/Cust12345".parse()?),
//!     tenant: None,
//!     environment_url: "https://online.superoffice.com".parse()?,
//!     credentials: Credentials::Bearer("8A:Cust12345.token".into()),
//!     certificates: Vec::new(),
//! })?;
//! match client.contact(21).await? {
//!     Some(json) => println!("{json}"),
//!     None => println!("the contact does not exist"),
//! }
//! # Ok(()) }
//! ```
//!
//! The client authenticates, finds the tenant's host, renews tickets, repeats attempts that may succeed, and keeps
//! credentials out of every message. [`settings::connection`] reads the connection from environment variables, as
//! `examples/read_contact.rs` does.
//!
//! # Modules
//!
//! Each resource of the API has a module with its calls. A new call belongs to the module of its resource:
//!
//! - [`records`]: a contact or a person, and the list of all contacts or persons
//! - `contacts`: contacts that a program creates, changes and deletes
//! - [`webhooks`]: the webhooks, their tests, states and counters
//! - `archives`: pages of rows
//!
//! Two modules above combine calls: [`registration`] manages the webhooks that post to one URL, and [`changes`] lists
//! the contacts or persons that changed.
//!
//! A call passes through `client` (its result), `session` (base URL and ticket) and `retry` (attempts and waits).

mod auth;
mod call;
mod client;
mod connection;
mod error;
mod exchange;
mod redact;
mod retry;
mod session;
mod system_user;

mod archives;
mod contacts;
pub mod records;
pub mod webhooks;

pub mod changes;
pub mod registration;
pub mod settings;

pub use auth::Credentials;
pub use client::Client;
pub use connection::{Connection, tenant_identifiers};
pub use error::{ApiError, ErrorKind, SetupError, with_causes};
pub use exchange::{Exchange, Observer};
/// Re-exported because their types appear in the public API.
pub use reqwest::{Certificate, Url};
pub use retry::{Clock, Limits};
pub use secrecy::{self, ExposeSecret, SecretString};
pub use session::TenantState;
pub use superoffice_webhook::webhook::entity::Archive;
pub use system_user::{KeyError, SystemApp, SystemUser, TicketError};
