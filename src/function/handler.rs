//! The request pipeline: [`Handler::handle`] authenticates a body, [`Handler::route`] decides and enqueues.

use lambda_http::http::Method;
use tokio::time::Instant;

use crate::function::filter::EventFilter;
use crate::function::outcome::{DeliveryRecord, HandleError, Outcome};
use crate::function::queue::{Queue, SendError, Sent, WithFallback};
use crate::function::request::Request;
use crate::message::encode::{ForwardableEvent, MalformedBody};
use crate::message::{MAX_MESSAGE_BYTES, MessageFormat, QueueMessage};
use crate::webhook::signature::SIGNATURE_HEADER;
use crate::webhook::verifier::{AuthorizedBody, Verifier};

/// Handles webhook requests.
#[derive(Clone, Debug)]
pub struct Handler<Q> {
    /// The secrets that sign request bodies.
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
    /// Handles one request: authenticates its body, and routes the body. `trace_header` is the invocation's X-Ray header,
    /// which the consumer receives as `AWSTraceHeader`. Facts for the log line are written to `record` as they become
    /// known.
    ///
    /// # Errors
    ///
    /// [`HandleError`]. The response is general. The log line has the details.
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
        // A larger body fits into no message, and anyone could make the function compute a MAC of it with
        // every secret.
        if request.body.len() > MAX_MESSAGE_BYTES {
            return Err(HandleError::BodyTooLarge(request.body.len()));
        }
        let signatures = request.headers.get_all(SIGNATURE_HEADER);
        let body = self.verifier.authenticate(&request.path, request.body, signatures)?;
        self.route(body, trace_header, record).await
    }

    /// Routes an authorized body: an event to forward into the events queue, a malformed body into quarantine. Nothing
    /// is queued for a registration probe or an event that the filter does not match.
    ///
    /// # Errors
    ///
    /// [`HandleError`], as for [`Handler::handle`].
    pub async fn route(
        &self,
        body: AuthorizedBody,
        trace_header: Option<&str>,
        record: &mut DeliveryRecord,
    ) -> Result<Outcome, HandleError> {
        record.signed_by = Some(body.signed_by());
        if body.bytes().is_empty() {
            return Err(HandleError::EmptyBody);
        }
        if let Ok(metadata) = body.metadata() {
            record.metadata = Some(metadata.clone());
            let event_id = metadata.event_id();
            if metadata.is_test() {
                return Ok(Outcome::Test { event_id: Some(event_id.to_owned()).filter(|id| !id.is_empty()) });
            }
            if !self.filter.matches(metadata.event()) {
                return Ok(Outcome::Ignored { event_id: event_id.to_owned() });
            }
        }
        match ForwardableEvent::try_from(body) {
            Ok(event) => {
                let event_id = event.event_id().to_owned();
                let message = QueueMessage::for_event(event, self.format)?;
                let message_id = enqueue(&self.events, &message, trace_header, record).await?;
                Ok(Outcome::Forwarded { event_id, message_id })
            }
            Err(malformed) => self.quarantine(malformed, trace_header, record).await,
        }
    }

    /// Keeps a signed but malformed body, because it is the customer's data.
    async fn quarantine(
        &self,
        body: MalformedBody,
        trace_header: Option<&str>,
        record: &mut DeliveryRecord,
    ) -> Result<Outcome, HandleError> {
        let Some(queue) = &self.quarantine else {
            return Err(HandleError::Malformed(body.into_reason()));
        };
        record.quarantine_reason = Some(body.reason().to_string());
        let message = QueueMessage::for_quarantine(body)?;
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
