//! The quarantine queue, and the messages received from it.

use std::cell::RefCell;
use std::error::Error;
use std::time::Duration;

use aws_sdk_sqs::Client;
use aws_sdk_sqs::config::timeout::TimeoutConfig;
use aws_sdk_sqs::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_sqs::types::Message;
use superoffice_webhook::function::QueueUrl;

use crate::output::message;

/// The period for which SQS hides a received message. A run that is killed leaves its messages hidden for this long.
const VISIBILITY_TIMEOUT_SECONDS: i32 = 600;
/// The period for which SQS waits for messages. Without waiting, it may return none although there are some.
const WAIT_SECONDS: i32 = 1;
/// The limit for one attempt of a request, above [`WAIT_SECONDS`].
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);
/// The limit for all attempts of a request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(40);

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// The requests to the quarantine queue. Implemented by [`SqsQuarantine`] and by a fake in tests.
pub(super) trait QuarantineQueue {
    /// Receives up to ten messages and hides them from other consumers.
    async fn receive(&self) -> Result<Vec<Message>>;
    /// Deletes a message.
    async fn delete(&self, receipt_handle: &str) -> Result<()>;
    /// Sends a copy of a message and returns the copy's id.
    async fn send_copy(&self, message: &Message) -> Result<String>;
    /// Makes a hidden message visible again.
    async fn make_visible(&self, receipt_handle: &str) -> Result<()>;
}

/// A quarantine queue and the messages to make visible again.
pub(super) struct Quarantine<Q> {
    queue: Q,
    /// Receipt handles of the messages that stay in quarantine.
    kept: RefCell<Vec<String>>,
}

impl<Q: QuarantineQueue> Quarantine<Q> {
    pub(super) fn new(queue: Q) -> Self {
        Self { queue, kept: RefCell::default() }
    }

    /// Receives up to ten messages; none if the queue has no visible messages.
    pub(super) async fn receive(&self) -> Result<Vec<InFlight<'_, Q>>> {
        let messages = self.queue.receive().await?;
        Ok(messages.into_iter().map(|message| InFlight { message, quarantine: self, is_removed: false }).collect())
    }

    /// Makes the kept messages visible again. Called at the end of a run, because SQS would return them to the run.
    pub(super) async fn release(self) {
        for receipt_handle in self.kept.into_inner() {
            if let Err(error) = self.queue.make_visible(&receipt_handle).await {
                message(format_args!("a message stays hidden for up to {VISIBILITY_TIMEOUT_SECONDS} s: {error}"));
            }
        }
    }
}

/// A received message, hidden from other consumers.
///
/// It ends in one of three ways: [`delete`](Self::delete), [`requeue`](Self::requeue), or by being dropped, which keeps
/// it in quarantine until [`Quarantine::release`] makes it visible again. So an early return cannot lose or hide it.
pub(super) struct InFlight<'q, Q> {
    message: Message,
    quarantine: &'q Quarantine<Q>,
    is_removed: bool,
}

impl<Q: QuarantineQueue> InFlight<'_, Q> {
    pub(super) fn message(&self) -> &Message {
        &self.message
    }

    pub(super) fn id(&self) -> &str {
        self.message.message_id().unwrap_or_default()
    }

    /// Deletes the message from quarantine.
    pub(super) async fn delete(mut self) -> Result<()> {
        self.quarantine.queue.delete(self.receipt_handle()).await?;
        self.is_removed = true;
        Ok(())
    }

    /// Moves the message to the end of the queue, and returns its new id. The copy is sent before the original is
    /// deleted.
    pub(super) async fn requeue(self) -> Result<String> {
        let id = self.quarantine.queue.send_copy(&self.message).await?;
        self.delete().await?;
        Ok(id)
    }
}

impl<Q> InFlight<'_, Q> {
    fn receipt_handle(&self) -> &str {
        self.message.receipt_handle().unwrap_or_default()
    }
}

impl<Q> Drop for InFlight<'_, Q> {
    fn drop(&mut self) {
        if !self.is_removed {
            self.quarantine.kept.borrow_mut().push(self.receipt_handle().to_owned());
        }
    }
}

/// A quarantine queue in SQS.
pub(super) struct SqsQuarantine {
    client: Client,
    url: QueueUrl,
}

impl SqsQuarantine {
    /// Creates a queue from a client whose time limits are replaced.
    pub(super) fn new(client: &Client, url: QueueUrl) -> Self {
        let timeouts = TimeoutConfig::builder()
            .operation_attempt_timeout(ATTEMPT_TIMEOUT)
            .operation_timeout(REQUEST_TIMEOUT)
            .build();
        let config = client.config().to_builder().timeout_config(timeouts).build();
        Self { client: Client::from_conf(config), url }
    }
}

impl QuarantineQueue for SqsQuarantine {
    async fn receive(&self) -> Result<Vec<Message>> {
        let request = self.client.receive_message().queue_url(self.url.as_str());
        let response = request
            .max_number_of_messages(10)
            .message_attribute_names("All")
            .visibility_timeout(VISIBILITY_TIMEOUT_SECONDS)
            .wait_time_seconds(WAIT_SECONDS)
            .send()
            .await
            .map_err(|error| sqs_error("ReceiveMessage", &error))?;
        Ok(response.messages.unwrap_or_default())
    }

    async fn delete(&self, receipt_handle: &str) -> Result<()> {
        let request = self.client.delete_message().queue_url(self.url.as_str());
        request.receipt_handle(receipt_handle).send().await.map_err(|error| sqs_error("DeleteMessage", &error))?;
        Ok(())
    }

    async fn send_copy(&self, message: &Message) -> Result<String> {
        let request = self.client.send_message().queue_url(self.url.as_str());
        let response = request
            .message_body(message.body().unwrap_or_default())
            .set_message_attributes(message.message_attributes().cloned())
            .message_group_id("quarantine")
            // With the original's deduplication id, SQS would drop the copy.
            .message_deduplication_id(format!("redrive/{}", message.message_id().unwrap_or_default()))
            .send()
            .await
            .map_err(|error| sqs_error("SendMessage", &error))?;
        response.message_id.ok_or_else(|| "SendMessage: the response has no message id".into())
    }

    async fn make_visible(&self, receipt_handle: &str) -> Result<()> {
        let request = self.client.change_message_visibility().queue_url(self.url.as_str());
        let response = request.receipt_handle(receipt_handle).visibility_timeout(0).send().await;
        match response {
            Ok(_) => Ok(()),
            // It is visible already: the run took longer than the visibility timeout.
            Err(SdkError::ServiceError(error)) if error.err().is_message_not_inflight() => Ok(()),
            Err(error) => Err(sqs_error("ChangeMessageVisibility", &error)),
        }
    }
}

fn sqs_error<E>(operation: &str, error: &E) -> Box<dyn Error + Send + Sync>
where
    E: ProvideErrorMetadata + Error,
{
    format!("{operation}: {}", aws_setup::reason(error)).into()
}

#[cfg(test)]
mod tests {
    use aws_sdk_sqs::error::ErrorMetadata;
    use aws_sdk_sqs::operation::change_message_visibility::{
        ChangeMessageVisibilityError, ChangeMessageVisibilityOutput,
    };
    use aws_sdk_sqs::operation::delete_message::DeleteMessageOutput;
    use aws_sdk_sqs::operation::receive_message::ReceiveMessageOutput;
    use aws_sdk_sqs::operation::send_message::SendMessageOutput;
    use aws_sdk_sqs::types::MessageAttributeValue;
    use aws_sdk_sqs::types::error::MessageNotInflight;
    use aws_smithy_mocks::{Rule, RuleMode, mock, mock_client};

    use super::*;

    const URL: &str = "https://sqs.eu-north-1.amazonaws.com/123456789012/quarantine.fifo";

    fn queue(rules: &[&Rule]) -> SqsQuarantine {
        let client = mock_client!(aws_sdk_sqs, RuleMode::Sequential, rules);
        SqsQuarantine { client, url: QueueUrl::parse(URL, None).unwrap() }
    }

    #[tokio::test]
    async fn messages_are_received_with_attributes_and_hidden() {
        let received = Message::builder().message_id("m1").build();
        let output = ReceiveMessageOutput::builder().messages(received.clone()).build();
        let rule = mock!(Client::receive_message)
            .match_requests(|request| {
                (request.queue_url(), request.max_number_of_messages()) == (Some(URL), Some(10))
                    && request.message_attribute_names() == ["All"]
                    && (request.visibility_timeout(), request.wait_time_seconds()) == (Some(600), Some(1))
            })
            .then_output(move || output.clone());
        assert_eq!(queue(&[&rule]).receive().await.unwrap(), [received]);
    }

    #[tokio::test]
    async fn message_is_deleted_by_its_receipt_handle() {
        let rule = mock!(Client::delete_message)
            .match_requests(|request| (request.queue_url(), request.receipt_handle()) == (Some(URL), Some("r1")))
            .then_output(|| DeleteMessageOutput::builder().build());
        queue(&[&rule]).delete("r1").await.unwrap();
        assert_eq!(rule.num_calls(), 1);
    }

    #[tokio::test]
    async fn copy_has_the_body_the_attributes_and_an_id_of_its_own() {
        let attribute = MessageAttributeValue::builder().data_type("String").string_value("utf-8").build().unwrap();
        let message =
            Message::builder().message_id("m1").body("{}").message_attributes("Encoding", attribute.clone()).build();
        let sent = mock!(Client::send_message)
            .match_requests(move |request| {
                (request.queue_url(), request.message_body()) == (Some(URL), Some("{}"))
                    && request.message_attributes().unwrap()["Encoding"] == attribute
                    && request.message_group_id() == Some("quarantine")
                    && request.message_deduplication_id() == Some("redrive/m1")
            })
            .then_output(|| SendMessageOutput::builder().message_id("m2").build());
        let without_id = mock!(Client::send_message).then_output(|| SendMessageOutput::builder().build());
        let queue = queue(&[&sent, &without_id]);
        assert_eq!(queue.send_copy(&message).await.unwrap(), "m2");
        let error = queue.send_copy(&message).await.unwrap_err();
        assert_eq!(error.to_string(), "SendMessage: the response has no message id");
    }

    #[tokio::test]
    async fn message_that_is_visible_already_is_no_error() {
        let visible = mock!(Client::change_message_visibility)
            .match_requests(|request| {
                (request.receipt_handle(), request.visibility_timeout()) == (Some("r1"), Some(0))
                    && request.queue_url() == Some(URL)
            })
            .then_output(|| ChangeMessageVisibilityOutput::builder().build());
        let not_in_flight = mock!(Client::change_message_visibility)
            .then_error(|| ChangeMessageVisibilityError::MessageNotInflight(MessageNotInflight::builder().build()));
        let denied = mock!(Client::change_message_visibility).then_error(|| {
            ChangeMessageVisibilityError::generic(ErrorMetadata::builder().code("AccessDenied").build())
        });
        let queue = queue(&[&visible, &not_in_flight, &denied]);
        queue.make_visible("r1").await.unwrap();
        queue.make_visible("r1").await.unwrap();
        let error = queue.make_visible("r1").await.unwrap_err().to_string();
        assert!(error.starts_with("ChangeMessageVisibility: ") && error.contains("AccessDenied"), "{error}");
        assert_eq!((visible.num_calls(), not_in_flight.num_calls(), denied.num_calls()), (1, 1, 1));
    }
}
