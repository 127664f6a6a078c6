//! The Lambda function: from an API Gateway event to a message in SQS and a response.
//!
//! The path of a delivery: [`LambdaAdapter`] → [`Request`] → [`Handler::handle`] → [`WithFallback`] → [`SqsQueue`] →
//! response and log line.

mod config;
mod filter;
mod handler;
mod lambda;
mod outcome;
mod queue;
mod queue_url;
mod request;
mod response;
mod sqs;
mod telemetry;

pub use config::Config;
pub use filter::{EventFilter, FilterError};
pub use handler::Handler;
pub use lambda::{ApiGatewayResponse, LambdaAdapter};
pub use outcome::{DeliveryRecord, HandleError, Outcome};
pub use queue::{FallbackReason, Queue, QueueError, SendError, Sent, WithFallback};
pub use queue_url::{QueueUrl, QueueUrlError};
pub use request::{InvalidEvent, Request};
pub use sqs::{SqsClients, SqsQueue};
