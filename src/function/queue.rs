//! Destinations for messages, and the fallback.

use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::message::QueueMessage;

/// The time during which the fallback is tried first after the primary queue failed.
const FALLBACK_FIRST: Duration = Duration::from_secs(30);

/// A destination for messages. Implemented by [`SqsQueue`](crate::function::SqsQueue) and by fakes in tests.
pub trait Queue: Send + Sync {
    /// Sends a message with its X-Ray header, and returns its `MessageId` once it is stored.
    fn send(
        &self,
        message: &QueueMessage,
        trace_header: Option<&str>,
    ) -> impl Future<Output = Result<String, QueueError>> + Send;
}

/// The reason why a queue did not accept a message, for the log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QueueError {
    /// The queue did not respond in time.
    #[error("timeout")]
    Timeout,
    /// The connection could not be opened, or was closed before the response.
    #[error("unreachable")]
    Unreachable,
    /// A refusal that can pass, with its error code: a server error or throttling.
    #[error("{0}")]
    Unavailable(String),
    /// A permanent refusal, with its error code.
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

impl QueueError {
    /// Returns `true` if the queue itself is unavailable, so that the next message would probably fail, too.
    fn is_outage(&self) -> bool {
        matches!(self, Self::Timeout | Self::Unreachable | Self::Unavailable(_))
    }
}

/// A queue with an optional fallback.
///
/// After an outage of the primary queue, the fallback is tried first for 30 s. Otherwise every delivery would wait for
/// the primary queue's timeout.
#[derive(Clone, Debug)]
pub struct WithFallback<Q> {
    /// The queue to try first.
    pub primary: Q,
    /// The queue to try if the primary queue does not accept a message.
    pub fallback: Option<Q>,
    outage: Arc<Mutex<Option<Outage>>>,
}

/// The last outage of the primary queue.
#[derive(Clone, Debug)]
struct Outage {
    error: QueueError,
    ends: Instant,
}

/// The acknowledgement of a sent message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The `MessageId` in the queue that accepted the message.
    pub message_id: String,
    /// The reason why the fallback accepted the message. `None` if the primary queue did.
    pub fallback_reason: Option<FallbackReason>,
}

/// The reason why a message was sent to the fallback.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FallbackReason {
    /// The primary queue did not accept this message.
    Failed(QueueError),
    /// The primary queue was not tried, because it failed less than 30 s ago.
    RecentlyFailed(QueueError),
}

impl fmt::Display for FallbackReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(error) => write!(f, "queue: {error}"),
            Self::RecentlyFailed(error) => write!(f, "queue: not tried after {error}"),
        }
    }
}

/// No queue accepted the message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The queue failed, and there is no fallback.
    #[error("queue: {0}")]
    Queue(QueueError),
    /// The primary queue and the fallback failed.
    #[error("queue: {0}; fallback: {1}")]
    Both(QueueError, QueueError),
}

impl<Q: Queue> WithFallback<Q> {
    /// Creates a queue with an optional fallback.
    pub fn new(primary: Q, fallback: Option<Q>) -> Self {
        Self { primary, fallback, outage: Arc::default() }
    }

    /// Sends a message to the primary queue and, if that fails, to the fallback. After an outage of the primary queue,
    /// the order is reversed.
    ///
    /// # Errors
    ///
    /// [`SendError`] if no queue accepted the message in time. A queue may still contain the message, because its
    /// response can be lost.
    pub async fn send(&self, message: &QueueMessage, trace_header: Option<&str>) -> Result<Sent, SendError> {
        let Some(fallback) = &self.fallback else {
            let message_id = self.primary.send(message, trace_header).await.map_err(SendError::Queue)?;
            return Ok(Sent { message_id, fallback_reason: None });
        };
        let try_primary = async || self.send_to_primary(message, trace_header).await;
        let try_fallback = async || fallback.send(message, trace_header).await;
        match self.recent_outage() {
            None => match try_primary().await {
                Ok(message_id) => Ok(Sent { message_id, fallback_reason: None }),
                Err(error) => match try_fallback().await {
                    Ok(message_id) => Ok(Sent { message_id, fallback_reason: Some(FallbackReason::Failed(error)) }),
                    Err(fallback_error) => Err(SendError::Both(error, fallback_error)),
                },
            },
            Some(outage) => match try_fallback().await {
                Ok(message_id) => {
                    Ok(Sent { message_id, fallback_reason: Some(FallbackReason::RecentlyFailed(outage)) })
                }
                Err(fallback_error) => match try_primary().await {
                    Ok(message_id) => Ok(Sent { message_id, fallback_reason: None }),
                    Err(error) => Err(SendError::Both(error, fallback_error)),
                },
            },
        }
    }

    /// Sends a message to the primary queue, and remembers an outage.
    async fn send_to_primary(&self, message: &QueueMessage, trace_header: Option<&str>) -> Result<String, QueueError> {
        let result = self.primary.send(message, trace_header).await;
        let outage = match &result {
            Err(error) if error.is_outage() => {
                Some(Outage { error: error.clone(), ends: Instant::now() + FALLBACK_FIRST })
            }
            _ => None,
        };
        *self.outage.lock().unwrap_or_else(PoisonError::into_inner) = outage;
        result
    }

    /// Returns the error of the primary queue's last outage while the fallback queue is tried first.
    fn recent_outage(&self) -> Option<QueueError> {
        let outage = self.outage.lock().unwrap_or_else(PoisonError::into_inner);
        outage.as_ref().filter(|outage| Instant::now() < outage.ends).map(|outage| outage.error.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A queue with one response for each message, and the id that it assigns.
    struct Script(Mutex<Vec<Result<(), QueueError>>>, &'static str);

    impl Queue for Script {
        async fn send(&self, _: &QueueMessage, _: Option<&str>) -> Result<String, QueueError> {
            self.0.lock().unwrap().remove(0).map(|()| self.1.to_owned())
        }
    }

    type Responses = Vec<Result<(), QueueError>>;

    fn queue(primary: Responses, fallback: Responses) -> WithFallback<Script> {
        WithFallback::new(Script(primary.into(), "primary"), Some(Script(fallback.into(), "fallback")))
    }

    async fn send(queue: &WithFallback<Script>) -> Result<(String, Option<String>), String> {
        let message = QueueMessage {
            body: "{}".into(),
            attributes: vec![],
            group_id: "g".into(),
            deduplication_id: "d".into(),
            tenant_group_id: None,
        };
        let sent = queue.send(&message, None).await.map_err(|error| error.to_string())?;
        Ok((sent.message_id, sent.fallback_reason.map(|reason| reason.to_string())))
    }

    fn by(name: &str, reason: Option<&str>) -> Result<(String, Option<String>), String> {
        Ok((name.into(), reason.map(Into::into)))
    }

    #[tokio::test(start_paused = true)]
    async fn fallback_is_tried_first_for_30_s_after_an_outage() {
        for (error, text) in [
            (QueueError::Timeout, "timeout"),
            (QueueError::Unreachable, "unreachable"),
            (QueueError::Unavailable("InternalError".into()), "InternalError"),
        ] {
            let queue = queue(vec![Err(error), Ok(())], vec![Ok(()), Ok(()), Ok(())]);
            assert_eq!(send(&queue).await, by("fallback", Some(&format!("queue: {text}"))));
            tokio::time::advance(Duration::from_millis(29_999)).await;
            assert_eq!(send(&queue).await, by("fallback", Some(&format!("queue: not tried after {text}"))));
            tokio::time::advance(Duration::from_millis(1)).await;
            assert_eq!(send(&queue).await, by("primary", None));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn primary_is_tried_first_after_a_rejection() {
        for error in [QueueError::Rejected("AccessDenied".into()), QueueError::DigestMismatch] {
            let queue = queue(vec![Err(error), Ok(())], vec![Ok(())]);
            assert_eq!(send(&queue).await.unwrap().0, "fallback");
            assert_eq!(send(&queue).await, by("primary", None));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn primary_is_tried_if_the_preferred_fallback_fails() {
        let fallback = vec![Ok(()), Err(QueueError::Unreachable), Err(QueueError::Timeout)];
        let queue = queue(vec![Err(QueueError::Timeout), Err(QueueError::Timeout), Ok(()), Ok(())], fallback);
        assert_eq!(send(&queue).await.unwrap().0, "fallback");
        assert_eq!(send(&queue).await, Err("queue: timeout; fallback: unreachable".into()));
        assert_eq!(send(&queue).await, by("primary", None));
        assert_eq!(send(&queue).await, by("primary", None), "success ends the outage");
    }

    #[tokio::test(start_paused = true)]
    async fn without_fallback_the_primary_is_always_tried() {
        let queue = WithFallback::new(Script(vec![Err(QueueError::Timeout), Ok(())].into(), "primary"), None);
        assert_eq!(send(&queue).await, Err("queue: timeout".into()));
        assert_eq!(send(&queue).await, by("primary", None));
    }
}
