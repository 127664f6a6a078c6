//! The request pipeline: verify, parse, authorize, decide, enqueue. Read [`Handler::handle`] from top to bottom.

use lambda_http::http::Method;
use tokio::time::Instant;

use crate::function::filter::EventFilter;
use crate::function::outcome::{DeliveryRecord, HandleError, Outcome};
use crate::function::queue::{Queue, SendError, Sent, WithFallback};
use crate::function::request::Request;
use crate::message::encode::ForwardableEvent;
use crate::message::{MAX_MESSAGE_BYTES, MessageFormat, QueueMessage};
use crate::webhook::metadata::{EventMetadata, ParseError};
use crate::webhook::signature::SIGNATURE_HEADER;
use crate::webhook::verifier::{AuthorizedBody, Verifier};

/// Handles webhook requests.
#[derive(Clone, Debug)]
pub struct Handler<Q> {
    /// The secrets.
    pub verifier: Verifier,
    /// The events to forward. Other events are acknowledged and dropped.
    pub filter: EventFilter,
    /// The format of a message body.
    pub format: MessageFormat,
    /// The queue for events.
    pub events: WithFallback<Q>,
    /// The queue for malformed bodies.
    pub quarantine: Option<WithFallback<Q>>,
}

impl<Q: Queue> Handler<Q> {
    /// Handles one request. `trace_header` is the invocation's X-Ray header, passed on to the consumer as
    /// `AWSTraceHeader`. Facts for the log are written to `record` as they become known.
    ///
    /// # Errors
    ///
    /// [`HandleError`]. The caller gets a general response, the log the details.
    pub async fn handle(
        &self,
        request: Request,
        trace_header: Option<&str>,
        record: &mut DeliveryRecord,
    ) -> Result<Outcome, HandleError> {
        record.body_bytes = request.body.len();
        if request.method != Method::POST {
            return Err(HandleError::MethodNotAllowed);
        }
        // Such a body can never be queued, and anyone could make the function sign it with every secret.
        if request.body.len() > MAX_MESSAGE_BYTES {
            return Err(HandleError::BodyTooLarge(request.body.len()));
        }

        let verified =
            self.verifier.verify_at(&request.path, request.body, request.headers.get_all(SIGNATURE_HEADER))?;
        let metadata = EventMetadata::parse(verified.bytes());
        // Before the metadata is validated: a malformed body must not be quarantined for another tenant.
        let body = self.verifier.authorize(verified, metadata.as_ref().ok())?;
        record.signed_by = Some(body.signed_by());
        if body.bytes().is_empty() {
            return Err(HandleError::EmptyBody);
        }

        let metadata = match metadata.map_err(ParseError::from).and_then(EventMetadata::validated) {
            Ok(metadata) => metadata,
            Err(reason) => return self.quarantine(body, reason, trace_header, record).await,
        };
        record.metadata = Some(metadata.clone());
        let event_id = metadata.event_id().to_owned();
        if metadata.is_test() {
            return Ok(Outcome::Test { event_id: Some(event_id).filter(|id| !id.is_empty()) });
        }
        if !self.filter.matches(metadata.event()) {
            return Ok(Outcome::Ignored { event_id });
        }

        let event = match ForwardableEvent::new(metadata, body) {
            Ok(event) => event,
            Err((reason, body)) => return self.quarantine(body, reason, trace_header, record).await,
        };
        let message = QueueMessage::for_event(event, self.format)?;
        let message_id = enqueue(&self.events, &message, trace_header, record).await?;
        Ok(Outcome::Forwarded { event_id, message_id })
    }

    /// Keeps a signed but malformed body, because it is the customer's data.
    async fn quarantine(
        &self,
        body: AuthorizedBody,
        reason: ParseError,
        trace_header: Option<&str>,
        record: &mut DeliveryRecord,
    ) -> Result<Outcome, HandleError> {
        let Some(queue) = &self.quarantine else {
            return Err(HandleError::Malformed(reason));
        };
        record.quarantine_reason = Some(reason.to_string());
        let message = QueueMessage::for_quarantine(body, &reason)?;
        let message_id = enqueue(queue, &message, trace_header, record).await?;
        Ok(Outcome::Quarantined { message_id })
    }
}

async fn enqueue<Q: Queue>(
    queue: &WithFallback<Q>,
    message: &QueueMessage,
    trace_header: Option<&str>,
    record: &mut DeliveryRecord,
) -> Result<String, SendError> {
    let start = Instant::now();
    let result = queue.send(message, trace_header).await;
    record.enqueue_latency = Some(start.elapsed());
    let Sent { message_id, fallback_reason } = result?;
    record.fallback_reason = fallback_reason;
    Ok(message_id)
}
