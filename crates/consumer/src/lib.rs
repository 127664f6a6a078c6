//! The parts of a Lambda function that consumes the queue of superoffice-webhook: batches, partial batch responses,
//! message groups, and the record of handled events. No AWS SDK without the feature `dynamodb`.
//!
//! A consumer is a [`Handler`]. In production, `DynamoDbStore` of the feature `dynamodb` replaces [`InMemoryStore`]:
//!
//! ```
//! use std::time::SystemTime;
//! use superoffice_consumer::{Batch, Consumer, Handler, HandlerError, InMemoryStore, Lease};
//! use superoffice_webhook::QueuedEvent;
//!
//! struct PrintKey;
//!
//! impl Handler for PrintKey {
//!     async fn handle(&self, event: &QueuedEvent) -> Result<(), HandlerError> {
//!         println!("{:?}", event.event().metadata().primary_key());
//!         Ok(())
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! let consumer = Consumer { verifier: None, store: InMemoryStore::default(), handler: PrintKey };
//! let batch: Batch = serde_json::from_str(r#"{"Records": [
//!     {"messageId": "m1", "body": "{\"EventId\":\"1\",\"Event\":\"contact.changed\",\"PrimaryKey\":21}"},
//!     {"messageId": "m2", "body": "not JSON"}
//! ]}"#).unwrap();
//! let lease = Lease::of_invocation(SystemTime::now(), SystemTime::now());
//! let response = consumer.process_batch(&batch, lease).await;
//! assert_eq!(serde_json::to_string(&response).unwrap(), r#"{"batchItemFailures":[{"itemIdentifier":"m2"}]}"#);
//! # }
//! ```
//!
//! - [`batch`]: the records of an SQS event source mapping, and the partial batch response.
//! - [`idempotency`]: the record of handled events, and the lease of an invocation.
//! - [`consumer`]: one message: decode it, claim its event, handle it, record it.
//! - [`rows`]: the rows that a batch is about, for consumers that read a row once for all its events.

pub mod batch;
pub mod consumer;
pub mod idempotency;
pub mod rows;

pub use batch::{Batch, BatchResponse, Record};
pub use consumer::{Consumer, Handler};
#[cfg(feature = "dynamodb")]
pub use idempotency::DynamoDbStore;
pub use idempotency::{Claim, IdempotencyStore, InMemoryStore, Lease};

/// The error of a handler or of a store.
pub type HandlerError = Box<dyn std::error::Error + Send + Sync>;
