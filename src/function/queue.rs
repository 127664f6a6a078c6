//! Destinations for messages, and the fallback.

use std::future::Future;

use crate::message::QueueMessage;

/// A destination for messages. Implemented by [`SqsQueue`](crate::function::SqsQueue) and by fakes in tests.
pub trait Queue: Send + Sync {
    /// Sends a message with its X-Ray header, and returns its `MessageId` once it is stored.
    fn send(
        &self,
        message: &QueueMessage,
        trace_header: Option<&str>,
    ) -> impl Future<Output = Result<String, QueueError>> + Send;
}

/// The reason why a queue did not accept a message. For the log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QueueError {
    /// No response in time.
    #[error("timeout")]
    Timeout,
    /// No connection.
    #[error("unreachable")]
    Unreachable,
    /// SQS rejected the message, with this error code.
    #[error("{0}")]
    Rejected(String),
    /// SQS acknowledged a different body (MD5 mismatch).
    #[error("digest mismatch")]
    DigestMismatch,
    /// The request could not be built or signed, for example because there are no credentials.
    #[error("request could not be built")]
    ConstructionFailure,
    /// SQS returned an invalid response.
    #[error("invalid response")]
    InvalidResponse,
}

/// A queue with an optional fallback.
#[derive(Clone, Debug)]
pub struct WithFallback<Q> {
    /// The queue to try first.
    pub primary: Q,
    /// The queue to try if the primary queue does not accept a message.
    pub fallback: Option<Q>,
}

/// The acknowledgement of a sent message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The `MessageId` in the queue that accepted the message.
    pub message_id: String,
    /// The error of the primary queue, if the fallback accepted the message.
    pub primary_error: Option<QueueError>,
}

/// No queue accepted the message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// There is no fallback.
    #[error("queue: {0}")]
    Queue(QueueError),
    /// The primary queue and the fallback failed.
    #[error("queue: {0}; fallback: {1}")]
    Both(QueueError, QueueError),
}

impl<Q: Queue> WithFallback<Q> {
    /// Sends a message to the primary queue and, if that fails, to the fallback.
    ///
    /// # Errors
    ///
    /// [`SendError`] if no queue accepted the message in time. A queue may contain the message nevertheless, because its
    /// response can be lost.
    pub async fn send(&self, message: &QueueMessage, trace_header: Option<&str>) -> Result<Sent, SendError> {
        let primary_error = match self.primary.send(message, trace_header).await {
            Ok(message_id) => return Ok(Sent { message_id, primary_error: None }),
            Err(error) => error,
        };
        let Some(fallback) = &self.fallback else {
            return Err(SendError::Queue(primary_error));
        };
        match fallback.send(message, trace_header).await {
            Ok(message_id) => Ok(Sent { message_id, primary_error: Some(primary_error) }),
            Err(error) => Err(SendError::Both(primary_error, error)),
        }
    }
}
