//! The processing of one message: decode it, claim its event, handle it, record it.

use aws_lambda_events::sqs::SqsMessage;
use lambda_runtime::Error;
use superoffice_webhook::{DecodeError, QueuedEvent, Verifier};

use crate::handler::Handler;
use crate::idempotency::{Claim, IdempotencyStore, Lease};

/// Processes messages, and hands each event to its handler once.
pub(crate) struct Consumer<S, H> {
    /// Verifies signatures again, for a queue to which others can write.
    pub(crate) verifier: Option<Verifier>,
    pub(crate) store: S,
    pub(crate) handler: H,
}

impl<S: IdempotencyStore, H: Handler> Consumer<S, H> {
    /// Processes one message.
    ///
    /// An error returns the message to the queue, and after the queue's last receive to the dead-letter queue. That
    /// includes a message that cannot be decoded, so that it is not lost.
    pub(crate) async fn process(&self, message: &SqsMessage, lease: Lease) -> Result<(), Error> {
        let event = self.decode(message)?;
        let metadata = event.event().metadata();
        // Different events can have the same id. The function's deduplication id has both parts as well.
        let key = format!("{}/{}", metadata.event(), metadata.event_id());
        match self.store.claim(&key, lease).await? {
            Claim::Granted => {}
            Claim::InProgress => return Err("another invocation is handling the event".into()),
            Claim::Completed => return Ok(()),
        }
        match self.handler.handle(&event).await {
            // If this fails, the event is delivered and handled again. That is better than losing it.
            Ok(()) => self.store.complete(&key).await,
            Err(error) => {
                self.store.release(&key).await?;
                Err(error)
            }
        }
    }

    fn decode(&self, message: &SqsMessage) -> Result<QueuedEvent, DecodeError> {
        let body = message.body.as_deref().unwrap_or_default();
        let attribute = |name: &str| message.message_attributes.get(name)?.string_value.as_deref();
        match &self.verifier {
            Some(verifier) => QueuedEvent::from_message_verified(body, attribute, verifier),
            None => QueuedEvent::from_message(body, attribute),
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
        async fn handle(&self, event: &QueuedEvent) -> Result<(), Error> {
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

    fn message(body: &str, signature: Option<&str>) -> SqsMessage {
        let mut message = json!({"messageId": "m", "body": body});
        if let Some(signature) = signature {
            message["messageAttributes"] = json!({"Signature": {"stringValue": signature, "dataType": "String"}});
        }
        serde_json::from_value(message).unwrap()
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
        consumer.store.claim("contact.changed/1", lease()).await.unwrap();
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
        let empty = serde_json::from_value(json!({})).unwrap();
        assert!(consumer.process(&empty, lease()).await.is_err());
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
