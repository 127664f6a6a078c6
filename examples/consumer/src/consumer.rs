//! One message: read it, claim its event, handle it, remember it.

use aws_lambda_events::sqs::SqsMessage;
use lambda_runtime::Error;
use superoffice_webhook::delivery::{QueuedEvent, Unreadable, read, read_verified};
use superoffice_webhook::signature::Verifier;

use crate::handler::Handler;
use crate::journal::{Claim, Journal};

/// Takes messages.
pub(crate) struct Consumer<J, H> {
    /// Checks the signatures again, for who does not trust everyone who can write into the queue.
    pub(crate) verifier: Option<Verifier>,
    pub(crate) journal: J,
    pub(crate) handler: H,
}

impl<J: Journal, H: Handler> Consumer<J, H> {
    /// Takes one message. An error sends it back to the queue, and in the end to the dead-letter queue: also one that
    /// cannot be read, which nobody should lose.
    pub(crate) async fn take(&self, message: &SqsMessage) -> Result<(), Error> {
        let event = self.read(message)?;
        let head = &event.event().head;
        // Two events can have one id; the function's deduplication id is made of both, too.
        let key = format!("{}/{}", head.event, head.event_id);
        match self.journal.claim(&key).await? {
            Claim::Granted => {}
            Claim::Busy => return Err("the event is being handled elsewhere".into()),
            Claim::Done => return Ok(()),
        }
        match self.handler.handle(&event).await {
            // When this fails, the event comes again: twice is better than never.
            Ok(()) => self.journal.done(&key).await,
            Err(error) => {
                self.journal.release(&key).await?;
                Err(error)
            }
        }
    }

    fn read(&self, message: &SqsMessage) -> Result<QueuedEvent, Unreadable> {
        let body = message.body.as_deref().unwrap_or_default();
        let attribute = |name: &str| message.message_attributes.get(name)?.string_value.as_deref();
        match &self.verifier {
            Some(verifier) => read_verified(body, attribute, verifier),
            None => read(body, attribute),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::time::Duration;

    use serde_json::json;
    use superoffice_webhook::signature::Secret;

    use super::*;
    use crate::journal::InMemory;

    const BODY: &str = r#"{"EventId":"1","Event":"contact.changed","PrimaryKey":21}"#;

    /// Remembers what it was given, and fails as often as it is told.
    #[derive(Default)]
    struct Recorder {
        given: RefCell<Vec<String>>,
        failures_left: RefCell<usize>,
    }

    impl Handler for Recorder {
        async fn handle(&self, event: &QueuedEvent) -> Result<(), Error> {
            self.given.borrow_mut().push(event.event().head.event.clone());
            let left = *self.failures_left.borrow();
            *self.failures_left.borrow_mut() = left.saturating_sub(1);
            if left > 0 { Err("not now".into()) } else { Ok(()) }
        }
    }

    fn consumer(failures: usize) -> Consumer<InMemory, Recorder> {
        let handler = Recorder { failures_left: failures.into(), ..Recorder::default() };
        Consumer { verifier: None, journal: InMemory::new(Duration::from_secs(3600)), handler }
    }

    fn message(body: &str, signature: Option<&str>) -> SqsMessage {
        let mut message = json!({"messageId": "m", "body": body});
        if let Some(signature) = signature {
            message["messageAttributes"] = json!({"Signature": {"stringValue": signature, "dataType": "String"}});
        }
        serde_json::from_value(message).unwrap()
    }

    #[tokio::test]
    async fn an_event_is_handled_once_however_often_it_comes() {
        let consumer = consumer(0);
        for _ in 0..3 {
            consumer.take(&message(BODY, None)).await.unwrap();
        }
        consumer.take(&message(&BODY.replace("changed", "deleted"), None)).await.unwrap();
        assert_eq!(*consumer.handler.given.borrow(), ["contact.changed", "contact.deleted"]);
    }

    #[tokio::test]
    async fn an_event_that_failed_is_handled_when_it_comes_again() {
        let consumer = consumer(1);
        assert_eq!(consumer.take(&message(BODY, None)).await.unwrap_err().to_string(), "not now");
        consumer.take(&message(BODY, None)).await.unwrap();
        consumer.take(&message(BODY, None)).await.unwrap();
        assert_eq!(consumer.handler.given.borrow().len(), 2);
    }

    #[tokio::test]
    async fn an_event_that_somebody_works_on_goes_back() {
        let consumer = consumer(0);
        consumer.journal.claim("contact.changed/1").await.unwrap();
        let error = consumer.take(&message(BODY, None)).await.unwrap_err();
        assert_eq!(error.to_string(), "the event is being handled elsewhere");
        assert_eq!(consumer.handler.given.borrow().len(), 0);
    }

    #[tokio::test]
    async fn a_message_that_cannot_be_read_fails_and_is_not_handled() {
        let consumer = consumer(0);
        for body in ["", "null", "[", "{}", "\u{0}", r#"{"EventId":"1"}"#] {
            assert!(consumer.take(&message(body, None)).await.is_err(), "{body}");
        }
        let empty = serde_json::from_value(json!({})).unwrap();
        assert!(consumer.take(&empty).await.is_err());
        assert_eq!(consumer.handler.given.borrow().len(), 0);
    }

    #[tokio::test]
    async fn with_a_secret_only_signed_messages_are_handled() {
        let secret = Secret::new("s3cret").unwrap();
        let signature = secret.sign(BODY.as_bytes()).to_string();
        let consumer = Consumer { verifier: Some(Verifier::new(secret)), ..consumer(0) };
        consumer.take(&message(BODY, Some(&signature))).await.unwrap();
        let forged = BODY.replace("21", "22").replace("\"1\"", "\"2\"");
        let error = consumer.take(&message(&forged, Some(&signature))).await.unwrap_err();
        assert_eq!(error.to_string(), "signature mismatch");
        let error = consumer.take(&message(&forged, None)).await.unwrap_err();
        assert_eq!(error.to_string(), "signature header missing");
        assert_eq!(consumer.handler.given.borrow().len(), 1);
    }
}
