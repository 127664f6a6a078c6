//! The processing of one message: decode it, claim its event, handle it, record it.

use superoffice_webhook::{QueuedEvent, Verifier};

use crate::HandlerError;
use crate::batch::{Batch, BatchResponse, Record, process_batch};
use crate::idempotency::{Claim, IdempotencyStore, Lease};
use crate::rows::decode;

/// The work for each event.
pub trait Handler {
    /// Handles an event. After an error, the event is delivered again; an event of no interest is not an error.
    fn handle(&self, event: &QueuedEvent) -> impl Future<Output = Result<(), HandlerError>>;
}

/// Processes messages, and passes each event to its handler once.
#[derive(Debug)]
pub struct Consumer<S, H> {
    /// Verifies signatures again, for a queue that others can write to.
    pub verifier: Option<Verifier>,
    /// The record of handled events.
    pub store: S,
    /// The work for each event.
    pub handler: H,
}

impl<S: IdempotencyStore, H: Handler> Consumer<S, H> {
    /// Processes a batch, see [`process_batch`].
    pub async fn process_batch(&self, batch: &Batch, lease: Lease) -> BatchResponse {
        process_batch(batch, async |record| self.process(record, lease).await).await
    }

    /// Processes one message.
    ///
    /// # Errors
    ///
    /// An error returns the message to the queue, and after the queue's last receive to the dead-letter queue. That
    /// includes a message that cannot be decoded, so that it is not lost.
    pub async fn process(&self, message: &Record, lease: Lease) -> Result<(), HandlerError> {
        let event = decode(message, self.verifier.as_ref())?;
        let metadata = event.event().metadata();
        // Different events, and events of different tenants, can have the same id.
        let tenant = metadata.context_identifier().unwrap_or_default();
        let key = format!("{tenant}/{}/{}", metadata.event(), metadata.event_id());
        match self.store.claim(&key, lease).await? {
            Claim::Granted => {}
            Claim::InProgress => return Err("another invocation is handling the event".into()),
            Claim::Completed => return Ok(()),
        }
        match self.handler.handle(&event).await {
            // If this fails, the event is delivered and handled again. That is better than losing it.
            Ok(()) => self.store.complete(&key, lease).await,
            Err(error) => {
                self.store.release(&key, lease).await?;
                Err(error)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::time::{Duration, SystemTime};

    use serde_json::json;
    use superoffice_webhook::Secret;

    use super::*;
    use crate::idempotency::InMemoryStore;

    const BODY: &str = r#"{"EventId":"1","Event":"contact.changed","PrimaryKey":21}"#;

    /// A handler that records its events, and fails a number of times before it succeeds.
    #[derive(Default)]
    struct RecordingHandler {
        events: RefCell<Vec<String>>,
        failures_left: Cell<usize>,
    }

    impl Handler for RecordingHandler {
        async fn handle(&self, event: &QueuedEvent) -> Result<(), HandlerError> {
            self.events.borrow_mut().push(event.event().metadata().event().to_owned());
            match self.failures_left.get() {
                0 => Ok(()),
                left => {
                    self.failures_left.set(left - 1);
                    Err("not now".into())
                }
            }
        }
    }

    fn consumer(failures: usize) -> Consumer<InMemoryStore, RecordingHandler> {
        let handler = RecordingHandler { failures_left: failures.into(), ..RecordingHandler::default() };
        Consumer { verifier: None, store: InMemoryStore::default(), handler }
    }

    fn lease() -> Lease {
        Lease::of_invocation(SystemTime::UNIX_EPOCH, SystemTime::UNIX_EPOCH + Duration::from_secs(30))
    }

    fn message(body: &str, signature: Option<&str>) -> Record {
        let signature = json!({"Signature": {"stringValue": signature, "dataType": "String"}});
        Record::from(&json!({"messageId": "m", "body": body, "messageAttributes": signature}))
    }

    #[tokio::test]
    async fn event_delivered_three_times_is_handled_once() {
        let consumer = consumer(0);
        for _ in 0..3 {
            consumer.process(&message(BODY, None), lease()).await.unwrap();
        }
        consumer.process(&message(&BODY.replace("changed", "deleted"), None), lease()).await.unwrap();
        assert_eq!(*consumer.handler.events.borrow(), ["contact.changed", "contact.deleted"]);
    }

    #[tokio::test]
    async fn failed_event_is_handled_at_next_delivery() {
        let consumer = consumer(1);
        assert_eq!(consumer.process(&message(BODY, None), lease()).await.unwrap_err().to_string(), "not now");
        consumer.process(&message(BODY, None), lease()).await.unwrap();
        consumer.process(&message(BODY, None), lease()).await.unwrap();
        assert_eq!(consumer.handler.events.borrow().len(), 2);
    }

    #[tokio::test]
    async fn event_claimed_by_another_invocation_fails() {
        let consumer = consumer(0);
        consumer.store.claim("/contact.changed/1", lease()).await.unwrap();
        let error = consumer.process(&message(BODY, None), lease()).await.unwrap_err();
        assert_eq!(error.to_string(), "another invocation is handling the event");
        assert_eq!(consumer.handler.events.borrow().len(), 0);
    }

    #[tokio::test]
    async fn malformed_message_fails_without_being_handled() {
        let consumer = consumer(0);
        for body in ["", "null", "[", "{}", "\u{0}", r#"{"EventId":"1"}"#] {
            assert!(consumer.process(&message(body, None), lease()).await.is_err(), "{body}");
        }
        assert!(consumer.process(&Record::default(), lease()).await.is_err());
        assert_eq!(consumer.handler.events.borrow().len(), 0);
    }

    #[tokio::test]
    async fn consumer_with_secret_handles_only_signed_messages() {
        let secret = Secret::new("s3cret").unwrap();
        let signature = secret.sign(BODY.as_bytes()).to_string();
        let consumer = Consumer { verifier: Some(Verifier::new(secret)), ..consumer(0) };
        consumer.process(&message(BODY, Some(&signature)), lease()).await.unwrap();
        let forged = BODY.replace("21", "22").replace("\"1\"", "\"2\"");
        let error = consumer.process(&message(&forged, Some(&signature)), lease()).await.unwrap_err();
        assert_eq!(error.to_string(), "signature mismatch");
        let error = consumer.process(&message(&forged, None), lease()).await.unwrap_err();
        assert_eq!(error.to_string(), "signature header missing");
        assert_eq!(consumer.handler.events.borrow().len(), 1);
    }
}
