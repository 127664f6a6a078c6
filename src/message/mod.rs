//! The queue message, encoded by the function and decoded by consumers. No AWS.
//!
//! Limits and allowed characters are those of
//! [`SendMessage`](https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html).

use std::str::FromStr;

pub mod decode;
pub mod encode;

mod cloudevents;

/// The maximum size of a message, body and attributes (names, types and values), in bytes.
pub const MAX_MESSAGE_BYTES: usize = 1_048_576;

/// The names of the message attributes.
pub mod attribute {
    /// The event's name.
    pub const EVENT: &str = "Event";
    /// The event's id.
    pub const EVENT_ID: &str = "EventId";
    /// The kind of row.
    pub const ENTITY: &str = "Entity";
    /// The row's id, a number.
    pub const PRIMARY_KEY: &str = "PrimaryKey";
    /// The tenant.
    pub const CONTEXT_IDENTIFIER: &str = "ContextIdentifier";
    /// The webhook's name.
    pub const WEBHOOK_NAME: &str = "WebhookName";
    /// When the event occurred.
    pub const TIMESTAMP: &str = "Timestamp";
    /// The verified signature header.
    pub const SIGNATURE: &str = "Signature";
    /// The media type of the message body: [`JSON`](super::JSON) or [`CLOUDEVENTS_JSON`](super::CLOUDEVENTS_JSON).
    pub const CONTENT_TYPE: &str = "ContentType";
    /// The reason why a body is quarantined.
    pub const REASON: &str = "Reason";
    /// The encoding of a quarantined body: [`UTF_8`](super::UTF_8) or [`BASE64`](super::BASE64).
    pub const ENCODING: &str = "Encoding";
}

/// The media type of a SuperOffice event.
pub const JSON: &str = "application/json";
/// The media type of a CloudEvents event.
pub const CLOUDEVENTS_JSON: &str = "application/cloudevents+json";
/// A quarantined body as received.
pub const UTF_8: &str = "utf-8";
/// A quarantined body in base64.
pub const BASE64: &str = "base64";

/// The format of a message body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MessageFormat {
    /// The request body, byte for byte.
    #[default]
    SuperOffice,
    /// A CloudEvents 1.0 event in the JSON format. Its `data` is the request body without a byte order mark.
    CloudEvents,
}

impl FromStr for MessageFormat {
    type Err = UnknownFormat;

    fn from_str(name: &str) -> Result<Self, UnknownFormat> {
        match name {
            "superoffice" => Ok(Self::SuperOffice),
            "cloudevents" => Ok(Self::CloudEvents),
            _ => Err(UnknownFormat),
        }
    }
}

/// The name of a format is neither `superoffice` nor `cloudevents`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected superoffice or cloudevents")]
pub struct UnknownFormat;

/// The message is larger than [`MAX_MESSAGE_BYTES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("message of {bytes} bytes exceeds the limit of {MAX_MESSAGE_BYTES}")]
pub struct TooLarge {
    /// The size of the message, in bytes.
    pub bytes: usize,
}

/// A message for a standard or FIFO queue. Only an authorized body becomes a message:
///
/// ```compile_fail,E0639
/// # use superoffice_webhook::message::QueueMessage;
/// # let (body, attributes, group_id, deduplication_id, tenant_group_id) = Default::default();
/// let forged = QueueMessage { body, attributes, group_id, deduplication_id, tenant_group_id };
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueMessage {
    /// The message body. Contains only characters that SQS accepts.
    pub body: String,
    /// The message attributes. SQS accepts ten at most.
    pub attributes: Vec<Attribute>,
    /// `MessageGroupId` on a FIFO queue: messages of a group stay in order.
    pub group_id: String,
    /// `MessageDeduplicationId` on a FIFO queue: repeated messages are queued once.
    pub deduplication_id: String,
    /// `MessageGroupId` on a standard queue: a fair queue delays no tenant because of another tenant's burst.
    pub tenant_group_id: Option<String>,
}

/// A message attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribute {
    /// The name, from [`attribute`].
    pub name: &'static str,
    /// `String` or `Number`.
    pub data_type: &'static str,
    /// The value, never empty.
    pub value: String,
}

impl QueueMessage {
    /// The size as SQS counts it, in bytes.
    pub fn size(&self) -> usize {
        let attribute = |a: &Attribute| a.name.len() + a.data_type.len() + a.value.len();
        self.body.len() + self.attributes.iter().map(attribute).sum::<usize>()
    }

    fn within_limit(self) -> Result<Self, TooLarge> {
        match self.size() {
            bytes if bytes > MAX_MESSAGE_BYTES => Err(TooLarge { bytes }),
            _ => Ok(self),
        }
    }
}

/// Returns `true` if SQS accepts the character in a message body or a text attribute.
fn is_sqs_char(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{D7FF}' | '\u{E000}'..='\u{FFFD}' | '\u{10000}'..)
}
