//! The result of a request, and the facts for its log line.

use std::time::Duration;

use crate::function::queue::{FallbackReason, SendError};
use crate::function::request::InvalidEvent;
use crate::log_line::{FAILED, FORWARDED, IGNORED};
use crate::message::{MAX_MESSAGE_BYTES, TooLarge};
use crate::webhook::authorization::SignedBy;
use crate::webhook::metadata::{EventMetadata, ParseError};
use crate::webhook::verifier::Rejection;

/// The outcome of an accepted request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The event is in a queue.
    Forwarded {
        /// The event's id.
        event_id: String,
        /// The message's id.
        message_id: String,
    },
    /// The request was a registration probe.
    Test {
        /// The event's id. A probe without an id is accepted too.
        event_id: Option<String>,
    },
    /// The event is not among those to forward.
    Ignored {
        /// The event's id.
        event_id: String,
    },
    /// The malformed body is in the quarantine queue.
    Quarantined {
        /// The message's id.
        message_id: String,
    },
}

impl Outcome {
    /// `forwarded`, `test`, `ignored` or `quarantined`.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Forwarded { .. } => FORWARDED,
            Self::Test { .. } => "test",
            Self::Ignored { .. } => IGNORED,
            Self::Quarantined { .. } => "quarantined",
        }
    }
}

/// The reason why a request was not accepted. The text is for the log only.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HandleError {
    /// The method is not `POST`.
    #[error("method is not POST")]
    MethodNotAllowed,
    /// The body, of this size in bytes, is larger than any message. It was not verified.
    #[error("body of {0} bytes exceeds the limit of {MAX_MESSAGE_BYTES}")]
    BodyTooLarge(usize),
    /// The request is not authenticated.
    #[error(transparent)]
    Unauthorized(#[from] Rejection),
    /// The signed body is empty.
    #[error("signed body is empty")]
    EmptyBody,
    /// The signed body is malformed, and there is no quarantine queue.
    #[error("{0}; no quarantine queue is configured")]
    Malformed(ParseError),
    /// The signed body does not fit into a queue message.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
    /// No queue accepted the message in time.
    #[error(transparent)]
    NotEnqueued(#[from] SendError),
    /// The invocation contains no HTTP request.
    #[error(transparent)]
    InvalidEvent(#[from] InvalidEvent),
    /// The handler panicked.
    #[error("panic")]
    Panic,
}

impl HandleError {
    /// `rejected` if the request was not authenticated, its method is not `POST`, or its body is empty or over 1 MiB,
    /// otherwise `failed`.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::MethodNotAllowed | Self::BodyTooLarge(_) | Self::Unauthorized(_) | Self::EmptyBody => "rejected",
            Self::Malformed(_) | Self::TooLarge(_) | Self::NotEnqueued(_) | Self::InvalidEvent(_) | Self::Panic => {
                FAILED
            }
        }
    }
}

/// Verified facts about a request, collected for the log line.
#[derive(Debug, Default)]
pub struct DeliveryRecord {
    /// The kind of secret that signed the body.
    pub signed_by: Option<SignedBy>,
    /// The event's metadata.
    pub metadata: Option<EventMetadata>,
    /// The reason why the body was quarantined.
    pub quarantine_reason: Option<String>,
    /// The size of the body, in bytes.
    pub body_bytes: usize,
    /// The time that the queues took, if a message was sent.
    pub enqueue_latency: Option<Duration>,
    /// The reason why the fallback queue accepted the message, if it did.
    pub fallback_reason: Option<FallbackReason>,
}
