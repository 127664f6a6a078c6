//! Forwards SuperOffice CRM webhook events to Amazon SQS.
//!
//! This crate is an AWS Lambda function and a library for the consumers of its queue.
//!
//! # Consuming events
//!
//! ```
//! use superoffice_webhook::{ContactEventKind, QueuedEvent};
//!
//! # let body = r#"{"EventId": "6b1c", "Event": "contact.changed", "PrimaryKey": 21, "Changes": ["name"]}"#;
//! # let attribute = |_: &str| None;
//! match QueuedEvent::from_message(body, attribute)? {
//!     QueuedEvent::Contact(contact) if contact.kind() == &ContactEventKind::Changed => {
//!         println!("contact {} changed: {:?}", contact.contact_id(), contact.changes());
//!     }
//!     other => println!("{}", other.event().metadata().event()),
//! }
//! # Ok::<(), superoffice_webhook::DecodeError>(())
//! ```
//!
//! Consumers disable the default feature `lambda` and get a small crate without the AWS SDK.
//!
//! # Modules
//!
//! - [`webhook`]: SuperOffice's deliveries — signatures, tenants, events. No AWS.
//! - [`message`]: the queue message, encoded and decoded. No AWS.
//! - [`mod@env`]: environment variables, read with all problems together.
//! - [`log_line`]: the log lines of the functions, written and read.
#![cfg_attr(
    feature = "lambda",
    doc = "- [`function`]: the Lambda function, in the order in which a delivery passes through it."
)]

pub mod env;
pub mod log_line;
pub mod message;
pub mod webhook;

#[cfg(feature = "lambda")]
pub mod function;

/// Re-exported because its types appear in the public API.
pub use jiff;
pub use message::decode::{DecodeError, QueuedEvent, decode_quarantined_body};
pub use webhook::authorization::SignedBy;
pub use webhook::contact::{ContactEvent, ContactEventKind};
pub use webhook::event::WebhookEvent;
pub use webhook::field::{DateTime, FieldValue, Fields, InvalidDate};
pub use webhook::json::JsonError;
pub use webhook::metadata::{EventMetadata, ParseError};
pub use webhook::signature::{EmptySecret, InvalidSignature, SIGNATURE_HEADER, Secret, Signature};
pub use webhook::tenant::{MasterSecret, ShortMasterSecret, TenantSecrets, TenantSecretsError};
pub use webhook::verifier::{AuthorizedBody, Rejection, Verifier};

/// The Rust code in the documentation is compiled with the tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

#[cfg(doctest)]
#[doc = include_str!("../docs/consumers.md")]
struct ConsumersDocument;

#[cfg(doctest)]
#[doc = include_str!("../docs/entities.md")]
struct EntitiesDocument;
