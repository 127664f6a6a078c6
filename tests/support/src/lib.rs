//! The surroundings of the function, for tests and benchmarks: API Gateway events, the Lambda Runtime API, an SQS
//! server with faults, and the function's process. For the other programs: SSM Parameter Store.
//!
//! ```no_run
//! # #[tokio::main] async fn main() {
//! use test_support::{Fault, Process, RuntimeApi, SqsServer, WebhookRequest};
//!
//! let lambda = RuntimeApi::start().await;
//! let sqs = SqsServer::start_tls().await;
//! let queue = sqs.queue_url("events");
//! let _function = Process::new("target/debug/superoffice-webhook")
//!     .envs(lambda.environment())
//!     .envs(sqs.environment())
//!     .env("SUPEROFFICE_WEBHOOK_SECRET", "secret")
//!     .env("QUEUE_URL", &queue)
//!     .start();
//!
//! sqs.script(&queue, [Fault::Throttle, Fault::AcceptThenReset]);
//! let request = WebhookRequest::signed(r#"{"EventId":"1","Event":"contact.created","PrimaryKey":21}"#, "secret");
//! let invocation = lambda.invoke(request.http_api()).await;
//! assert_eq!(invocation.response().status, 200);
//! assert_eq!(sqs.messages(&queue).len(), 1);
//! # }
//! ```
//!
//! Servers run on the caller's Tokio runtime, listen on the loopback interface, and stop when they are dropped. A method
//! panics if what it waits for does not happen within [`TIMEOUT`].

#![expect(clippy::unwrap_used, reason = "panicking fails the test")]

pub mod entity_events;
#[cfg(feature = "function")]
pub mod invariants;
pub mod sample_events;

mod answers;
mod api_gateway;
#[cfg(feature = "function")]
mod function;
mod http;
mod process;
mod runtime_api;
mod sqs;
pub mod ssm;
mod tls;

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub use answers::AnswerServer;
pub use api_gateway::{WebhookRequest, sign};
#[cfg(feature = "function")]
pub use function::{Delivery, Function, RecordingQueue, SentMessage};
pub use http::{AcceptMode, ClosedPort};
pub use process::{Process, RunningProcess};
pub use runtime_api::{CompletedInvocation, HttpResponse, Invocation, RuntimeApi};
use serde_json::Value;
pub use sqs::{Attribute, Counts, Fault, Message, Recording, Request, SqsServer};

/// The time after which a wait fails. Far longer than anything here needs on a busy machine.
pub const TIMEOUT: Duration = Duration::from_secs(60);

/// Returns the root folder of the project.
pub fn project_root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap()
}

/// Returns the only outcome metric in a log line whose value is 1.
#[track_caller]
pub fn outcome_metric(log: &Value) -> &'static str {
    let all = ["Forwarded", "Tested", "Ignored", "Quarantined", "Unsigned", "Rejected", "Failed"];
    let counted: Vec<_> =
        all.into_iter().filter(|metric| log[metric].as_u64().is_some_and(|count| count > 0)).collect();
    let [metric] = counted.as_slice() else { panic!("counted outcomes: {counted:?} in {log}") };
    assert_eq!(log[metric], 1, "{log}");
    // CloudWatch reads only the properties that are declared as metrics.
    let metrics = log["_aws"]["CloudWatchMetrics"][0]["Metrics"].as_array().unwrap_or_else(|| panic!("{log}"));
    let names = metrics.iter().filter_map(|metric| metric["Name"].as_str());
    let declared: Vec<_> = names.filter(|name| all.contains(name)).collect();
    assert_eq!(declared, [*metric], "{log}");
    metric
}

/// Locks a mutex, even if another thread panicked while holding the lock: that panic should be reported, not this one.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
