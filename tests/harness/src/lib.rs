//! Plays the surroundings of a Lambda function for tests and benchmarks: the Lambda Runtime API, an SQS endpoint that
//! can misbehave on cue, the envelopes of API Gateway, and the function's own process.
//!
//! ```no_run
//! # #[tokio::main] async fn main() {
//! use harness::{Behaviour, Envelope, Lambda, Process, Sqs};
//! use std::time::Duration;
//!
//! let lambda = Lambda::start().await;
//! let sqs = Sqs::tls().await;
//! let queue = sqs.queue_url("events");
//! let _function = Process::new("target/debug/superoffice-webhook")
//!     .envs(lambda.environment())
//!     .envs(sqs.environment())
//!     .env("SUPEROFFICE_WEBHOOK_SECRET", "secret")
//!     .env("QUEUE_URL", &queue)
//!     .start();
//!
//! sqs.script(&queue, [Behaviour::Throttle, Behaviour::TakeThenReset]);
//! let answered = lambda.invoke(Envelope::signed(r#"{"Event":"contact.created"}"#, "secret").v2()).await;
//! assert_eq!(answered.response().status, 200);
//! assert_eq!(sqs.messages(&queue).len(), 1);
//! # }
//! ```
//!
//! Everything runs on the caller's Tokio runtime, listens on loopback only, and ends when it is dropped.

mod envelope;
mod http;
mod lambda;
mod process;
mod sqs;

pub use envelope::{Envelope, sign};
pub use http::Accepting;
pub use lambda::{Answer, Answered, Invocation, Lambda, Response};
pub use process::{Process, Running};
pub use sqs::{Attribute, Behaviour, Counts, Message, Recording, Request, Sqs};

/// How long a wait goes on before it is a failure: far longer than anything here takes on a busy machine.
pub const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

/// Locks, also when another test thread panicked while it held the lock: its own failure is what should be seen.
pub(crate) fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
