//! The way of a delivery: verify, parse, decide, queue. Read [`Receiver::receive`] from top to bottom.

use std::time::{Duration, Instant};

use lambda_http::http::Method;
use lambda_http::{Body, Request};

use crate::event::{Event, EventHead, NotUnderstood};
use crate::forward::EventFilter;
use crate::message::{MessageFormat, QueueMessage, TooLarge};
use crate::queue::{Accepted, NotAccepted, Queue, QueueError, Route};
use crate::signature::{Rejection, SIGNATURE_HEADER, SignedBy, VerifiedBody, Verifier};

/// Takes deliveries and puts them where they belong.
#[derive(Clone, Debug)]
pub struct Receiver<Q> {
    /// Who may send.
    pub verifier: Verifier,
    /// Which events are forwarded; the others are answered and forgotten.
    pub forward: EventFilter,
    /// What a message's body holds.
    pub format: MessageFormat,
    /// Where events go.
    pub events: Route<Q>,
    /// Where signed bodies go that are not understood.
    pub quarantine: Option<Route<Q>>,
}

/// What became of a request that was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The event is in a queue.
    Forwarded {
        /// The event's id.
        event_id: String,
        /// The message's id.
        message_id: String,
    },
    /// It was the registration probe.
    Test {
        /// The event's id; the probe is answered without one, too.
        event_id: Option<String>,
    },
    /// It is none of the events that are forwarded.
    Ignored {
        /// The event's id.
        event_id: String,
    },
    /// It is not understood, and in the quarantine queue.
    Quarantined {
        /// The message's id.
        message_id: String,
    },
}

impl Outcome {
    /// `forwarded`, `test`, `ignored` or `quarantined`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Forwarded { .. } => "forwarded",
            Self::Test { .. } => "test",
            Self::Ignored { .. } => "ignored",
            Self::Quarantined { .. } => "quarantined",
        }
    }
}

/// Why a request was not taken.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// The method is not `POST`.
    #[error("method is not POST")]
    MethodNotAllowed,
    /// The signature does not hold.
    #[error(transparent)]
    Unauthorized(#[from] Rejection),
    /// The body is signed, and empty.
    #[error("signed body is empty")]
    EmptyBody,
    /// The body is signed and not understood, and there is no quarantine queue.
    #[error("{0}; there is no quarantine queue")]
    NotUnderstood(NotUnderstood),
    /// The body is signed, and larger than a queue message can be.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
    /// No queue has taken the message.
    #[error(transparent)]
    NotAccepted(#[from] NotAccepted),
    /// Something that should not happen has happened.
    #[error("{0}")]
    Unforeseen(&'static str),
}

impl ReceiveError {
    /// `rejected` when there was no event to take, as far as can be told: not signed by a configured secret, or empty.
    /// Otherwise `failed`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::MethodNotAllowed | Self::Unauthorized(_) | Self::EmptyBody => "rejected",
            Self::NotUnderstood(_) | Self::TooLarge(_) | Self::NotAccepted(_) | Self::Unforeseen(_) => "failed",
        }
    }
}

/// What is known of a delivery by the time it is answered. What is not verified is not in here.
#[derive(Debug, Default)]
pub struct Facts {
    /// Which secret signed the body.
    pub signed_by: Option<SignedBy>,
    /// The event, where the body is understood that far.
    pub head: Option<EventHead>,
    /// Why the body went to quarantine.
    pub quarantine_reason: Option<String>,
    /// The size of the body, in bytes.
    pub body_bytes: usize,
    /// How long the queues took, where one was asked.
    pub enqueue_latency: Option<Duration>,
    /// Why the fallback queue took the message, where it did.
    pub refusal: Option<QueueError>,
}

impl<Q: Queue> Receiver<Q> {
    /// Takes one request to its end. `trace_header` is the invocation's X-Ray header; the queue's consumer goes on
    /// with its trace.
    ///
    /// # Errors
    ///
    /// [`ReceiveError`]: what the caller is told in general terms, and the log in particular ones.
    pub async fn receive(
        &self,
        request: Request,
        trace_header: Option<&str>,
        facts: &mut Facts,
    ) -> Result<Outcome, ReceiveError> {
        let (parts, body) = request.into_parts();
        let body = raw(body);
        facts.body_bytes = body.len();
        if parts.method != Method::POST {
            return Err(ReceiveError::MethodNotAllowed);
        }

        let body = self.verifier.verify(body, parts.headers.get_all(SIGNATURE_HEADER))?;
        facts.signed_by = Some(body.signed_by());
        if body.bytes().is_empty() {
            return Err(ReceiveError::EmptyBody);
        }

        let event = match Event::parse(body) {
            Ok(event) => event,
            Err((reason, body)) => return self.quarantine(body, reason, trace_header, facts).await,
        };
        let head = event.head();
        facts.head = Some(head.clone());
        let event_id = head.event_id.clone();
        if head.is_test() {
            return Ok(Outcome::Test { event_id: Some(event_id).filter(|id| !id.is_empty()) });
        }
        if !self.forward.matches(&head.event) {
            return Ok(Outcome::Ignored { event_id });
        }
        let Some(primary_key) = head.primary_key else {
            return self.quarantine(event.into_body(), NotUnderstood::NoPrimaryKey, trace_header, facts).await;
        };

        let message = QueueMessage::for_event(event, primary_key, self.format)?;
        let message_id = enqueue(&self.events, &message, trace_header, facts).await?;
        Ok(Outcome::Forwarded { event_id, message_id })
    }

    /// Keeps a signed body that is not understood: it is the customer's data all the same.
    async fn quarantine(
        &self,
        body: VerifiedBody,
        reason: NotUnderstood,
        trace_header: Option<&str>,
        facts: &mut Facts,
    ) -> Result<Outcome, ReceiveError> {
        let Some(route) = &self.quarantine else {
            return Err(ReceiveError::NotUnderstood(reason));
        };
        facts.quarantine_reason = Some(reason.to_string());
        let message = QueueMessage::for_quarantine(body, &reason)?;
        let message_id = enqueue(route, &message, trace_header, facts).await?;
        Ok(Outcome::Quarantined { message_id })
    }
}

async fn enqueue<Q: Queue>(
    route: &Route<Q>,
    message: &QueueMessage,
    trace_header: Option<&str>,
    facts: &mut Facts,
) -> Result<String, NotAccepted> {
    let start = Instant::now();
    let accepted = route.send(message, trace_header).await;
    facts.enqueue_latency = Some(start.elapsed());
    let Accepted { message_id, refusal } = accepted?;
    facts.refusal = refusal;
    Ok(message_id)
}

/// The bytes that were signed, without a copy.
fn raw(body: Body) -> Vec<u8> {
    match body {
        Body::Text(text) => text.into_bytes(),
        Body::Binary(bytes) => bytes,
        _ => Vec::new(),
    }
}
