//! The queue message that a delivery becomes: its formats, attributes and FIFO ids, within SQS's limits.
//!
//! Limits and alphabets are those of [`SendMessage`](https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html).

use std::fmt::Write as _;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::event::{Event, EventHead, NotUnderstood};
use crate::signature::VerifiedBody;
use crate::timestamp::is_rfc3339;

/// The most that a message's body and attributes (names, types and values) may come to, in bytes.
pub const MAX_MESSAGE_BYTES: usize = 1_048_576;

/// The longest group or deduplication id, in characters.
const MAX_FIFO_ID: usize = 128;

/// What a message's body holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MessageFormat {
    /// The request body as it was received.
    #[default]
    SuperOffice,
    /// A CloudEvents 1.0 event in the JSON format, with the request body as its `data`.
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

/// The format's name is neither `superoffice` nor `cloudevents`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be superoffice or cloudevents")]
pub struct UnknownFormat;

/// The message would be larger than [`MAX_MESSAGE_BYTES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the message would have {bytes} bytes, more than {MAX_MESSAGE_BYTES}")]
pub struct TooLarge {
    /// The size that it would have, in bytes.
    pub bytes: usize,
}

/// A message for a queue of either kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueMessage {
    /// The message's body, of characters that SQS allows.
    pub body: String,
    /// The message's attributes; SQS takes ten at most.
    pub attributes: Vec<Attribute>,
    /// `MessageGroupId`, for a FIFO queue: what stays in order.
    pub group_id: String,
    /// `MessageDeduplicationId`, for a FIFO queue: what is queued once.
    pub deduplication_id: String,
}

/// A message attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribute {
    /// Its name.
    pub name: &'static str,
    /// `String` or `Number`.
    pub data_type: &'static str,
    /// Its value, which is not empty.
    pub value: String,
}

impl QueueMessage {
    /// The message for an event that is to be forwarded.
    ///
    /// # Errors
    ///
    /// [`TooLarge`] when no queue can take it.
    pub fn for_event(event: Event, primary_key: i64, format: MessageFormat) -> Result<Self, TooLarge> {
        let head = event.head().clone();
        let entity = head.entity();
        let signature = event.body().signature().to_string();
        let json = escape_refused(event.into_text());
        let (body, content_type) = match format {
            MessageFormat::SuperOffice => (json, "application/json"),
            MessageFormat::CloudEvents => {
                (cloud_event(&head, entity, primary_key, &json), "application/cloudevents+json")
            }
        };
        let mut attributes = Vec::with_capacity(10);
        let mut attribute = |name, data_type, value: Option<&str>| {
            if let Some(value) = value
                && !value.is_empty()
                && value.chars().all(sqs_allows)
            {
                attributes.push(Attribute { name, data_type, value: value.to_owned() });
            }
        };
        attribute("Event", "String", Some(&head.event));
        attribute("EventId", "String", Some(&head.event_id));
        attribute("Entity", "String", Some(entity));
        attribute("PrimaryKey", "Number", Some(&primary_key.to_string()));
        attribute("ContextIdentifier", "String", head.context_identifier.as_deref());
        attribute("WebhookName", "String", head.webhook_name.as_deref());
        attribute("Timestamp", "String", head.timestamp.as_deref());
        attribute("Signature", "String", Some(&signature));
        attribute("ContentType", "String", Some(content_type));
        let tenant = head.context_identifier.as_deref().unwrap_or_default();
        Self {
            body,
            attributes,
            group_id: fifo_id(format!("{tenant}/{entity}/{primary_key}")),
            deduplication_id: fifo_id(format!("{}/{}", head.event, head.event_id)),
        }
        .within_limit()
    }

    /// The message for a signed body that is not understood.
    ///
    /// # Errors
    ///
    /// [`TooLarge`] when no queue can take it.
    pub fn for_quarantine(body: VerifiedBody, reason: &NotUnderstood) -> Result<Self, TooLarge> {
        let signature = body.signature().to_string();
        let deduplication_id = sha256_hex(body.bytes());
        let (body, encoding) = match String::from_utf8(body.into_bytes()) {
            Ok(text) if text.chars().all(sqs_allows) => (text, "utf-8"),
            Ok(text) => (STANDARD.encode(text), "base64"),
            Err(e) => (STANDARD.encode(e.as_bytes()), "base64"),
        };
        let attribute = |name, value| Attribute { name, data_type: "String", value };
        Self {
            body,
            attributes: vec![
                attribute("Reason", reason.to_string()),
                attribute("Encoding", encoding.to_owned()),
                attribute("Signature", signature),
            ],
            group_id: "quarantine".to_owned(),
            deduplication_id,
        }
        .within_limit()
    }

    /// The size that SQS counts, in bytes.
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

/// A CloudEvents event in the JSON format, without its `data`; one with an empty attribute would not be valid.
#[derive(Serialize)]
struct CloudEvent<'a> {
    specversion: &'a str,
    id: &'a str,
    source: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    subject: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<&'a str>,
    datacontenttype: &'a str,
}

/// `data` is put in as text, as the last member, so that it is the document that was received to the byte, and a
/// consumer can cut it out again and check its signature.
fn cloud_event(head: &EventHead, entity: &str, primary_key: i64, json: &str) -> String {
    let event = CloudEvent {
        specversion: "1.0",
        id: &head.event_id,
        source: &source(head.context_identifier.as_deref()),
        kind: &format!("com.superoffice.{}", head.event),
        subject: &format!("{entity}/{primary_key}"),
        time: head.timestamp.as_deref().filter(|timestamp| is_rfc3339(timestamp)),
        datacontenttype: "application/json",
    };
    #[expect(clippy::expect_used, reason = "strings with fixed keys always serialise")]
    let mut attributes = serde_json::to_string(&event).expect("strings with fixed keys always serialise");
    attributes.pop();
    let mut event = escape_refused(attributes);
    event.reserve(json.len() + 10);
    event.push_str(",\"data\":");
    event.push_str(json);
    event.push('}');
    event
}

/// What a URN's namespace-specific string can hold as it is: RFC 8141's `pchar`.
const URN_ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'!')
    .remove(b'$')
    .remove(b'&')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')')
    .remove(b'*')
    .remove(b'+')
    .remove(b',')
    .remove(b';')
    .remove(b'=')
    .remove(b':')
    .remove(b'@');

/// The CloudEvents `source` of a customer's events.
fn source(context_identifier: Option<&str>) -> String {
    match context_identifier {
        Some(tenant) => format!("urn:superoffice:{}", utf8_percent_encode(tenant, URN_ESCAPED)),
        None => "urn:superoffice:onsite".to_owned(),
    }
}

/// Whether SQS takes this character in a message's body or a text attribute.
fn sqs_allows(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{D7FF}' | '\u{E000}'..='\u{FFFD}' | '\u{10000}'..)
}

/// Writes the only characters of a JSON document that SQS refuses as JSON escapes. JSON itself refuses the other
/// ones, and has these in strings only.
fn escape_refused(json: String) -> String {
    if !json.contains(['\u{FFFE}', '\u{FFFF}']) {
        return json;
    }
    json.replace('\u{FFFE}', "\\ufffe").replace('\u{FFFF}', "\\uffff")
}

/// The id itself where SQS allows it, otherwise its SHA-256 in hex.
fn fifo_id(id: String) -> String {
    if id.len() <= MAX_FIFO_ID && id.bytes().all(|b| b.is_ascii_graphic()) { id } else { sha256_hex(id.as_bytes()) }
}

fn sha256_hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::with_capacity(64), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signature::{Secret, Verifier};

    fn verified(body: impl Into<Vec<u8>>) -> VerifiedBody {
        let (secret, body) = (Secret::new("s3cret").unwrap(), body.into());
        let signature = secret.sign(&body).to_string();
        Verifier::new(secret).verify(body, [signature]).unwrap()
    }

    fn message(body: &str, format: MessageFormat) -> QueueMessage {
        let event = Event::parse(verified(body)).unwrap();
        let primary_key = event.head().primary_key.unwrap();
        QueueMessage::for_event(event, primary_key, format).unwrap()
    }

    fn attribute<'a>(message: &'a QueueMessage, name: &str) -> Option<&'a str> {
        message.attributes.iter().find(|a| a.name == name).map(|a| a.value.as_str())
    }

    const BODY: &str = " {\"EventId\": \"e1\", \"Event\":\"contact.changed\",\"Entity\":\"contact\",\r\n\"PrimaryKey\":994863,\
        \"ContextIdentifier\":\"Cust1234\",\"WebhookName\":\"Blåbær\",\"Timestamp\":\"2018-04-24T07:50:50.6812131Z\",\
        \"n\":1.50e3,\"big\":123456789012345678901234567890}\n";

    #[test]
    fn the_body_is_forwarded_byte_for_byte() {
        assert_eq!(message(BODY, MessageFormat::SuperOffice).body, BODY);
    }

    #[test]
    fn what_identifies_the_event_is_in_the_attributes() {
        let message = message(BODY, MessageFormat::SuperOffice);
        let signature = verified(BODY).signature().to_string();
        let attributes: Vec<_> = message.attributes.iter().map(|a| (a.name, a.data_type, a.value.as_str())).collect();
        assert_eq!(
            attributes,
            [
                ("Event", "String", "contact.changed"),
                ("EventId", "String", "e1"),
                ("Entity", "String", "contact"),
                ("PrimaryKey", "Number", "994863"),
                ("ContextIdentifier", "String", "Cust1234"),
                ("WebhookName", "String", "Blåbær"),
                ("Timestamp", "String", "2018-04-24T07:50:50.6812131Z"),
                ("Signature", "String", signature.as_str()),
                ("ContentType", "String", "application/json"),
            ]
        );
    }

    #[test]
    fn an_attribute_that_sqs_would_refuse_is_left_out() {
        let body = r#"{"EventId":"e1","Event":"contact.changed","PrimaryKey":1,"ContextIdentifier":"a\u0000b",
            "WebhookName":"\uffff","Timestamp":""}"#;
        let message = message(body, MessageFormat::SuperOffice);
        let names: Vec<_> = message.attributes.iter().map(|a| a.name).collect();
        assert_eq!(names, ["Event", "EventId", "Entity", "PrimaryKey", "Signature", "ContentType"]);
        assert_eq!(attribute(&message, "Entity"), Some("contact"));
    }

    #[test]
    fn characters_that_sqs_refuses_become_json_escapes() {
        let body =
            "{\"EventId\":\"e\u{FFFE}\",\"Event\":\"contact.changed\",\"PrimaryKey\":1,\"x\":\"\u{FFFF}\\\\\u{FFFE}\"}";
        for format in [MessageFormat::SuperOffice, MessageFormat::CloudEvents] {
            let message = message(body, format);
            assert!(message.body.chars().all(sqs_allows));
            let sent: serde_json::Value = serde_json::from_str(&message.body).unwrap();
            let data = if format == MessageFormat::SuperOffice { &sent } else { &sent["data"] };
            assert_eq!(data, &serde_json::from_str::<serde_json::Value>(body).unwrap());
            assert_eq!(attribute(&message, "EventId"), None);
        }
    }

    #[test]
    fn a_cloud_event_holds_the_same_document() {
        let message = message(BODY, MessageFormat::CloudEvents);
        assert_eq!(
            message.body,
            format!(
                "{{\"specversion\":\"1.0\",\"id\":\"e1\",\"source\":\"urn:superoffice:Cust1234\",\
                 \"type\":\"com.superoffice.contact.changed\",\"subject\":\"contact/994863\",\
                 \"time\":\"2018-04-24T07:50:50.6812131Z\",\"datacontenttype\":\"application/json\",\"data\":{BODY}}}"
            )
        );
        assert_eq!(attribute(&message, "ContentType"), Some("application/cloudevents+json"));
    }

    #[test]
    fn a_cloud_event_has_no_time_that_is_not_rfc_3339() {
        let body = r#"{"EventId":"e1","Event":"contact.changed","PrimaryKey":1,"Timestamp":"2020-02-16T17:50:17"}"#;
        let message = message(body, MessageFormat::CloudEvents);
        let event: serde_json::Value = serde_json::from_str(&message.body).unwrap();
        assert_eq!(event.get("time"), None);
        assert_eq!(attribute(&message, "Timestamp"), Some("2020-02-16T17:50:17"));
    }

    #[test]
    fn the_source_is_a_urn() {
        for (tenant, expected) in [
            (Some("Cust1234"), "urn:superoffice:Cust1234"),
            (Some("Default"), "urn:superoffice:Default"),
            (Some("a b/ø%?#"), "urn:superoffice:a%20b%2F%C3%B8%25%3F%23"),
            (Some("a:b@c-d.e_f~"), "urn:superoffice:a:b@c-d.e_f~"),
            (None, "urn:superoffice:onsite"),
        ] {
            assert_eq!(source(tenant), expected);
        }
    }

    #[test]
    fn one_contacts_events_stay_in_order_and_a_retry_is_known() {
        let message = message(BODY, MessageFormat::SuperOffice);
        assert_eq!(message.group_id, "Cust1234/contact/994863");
        assert_eq!(message.deduplication_id, "contact.changed/e1");
        let onsite =
            self::message(r#"{"EventId":"e1","Event":"contact.changed","PrimaryKey":1}"#, MessageFormat::SuperOffice);
        assert_eq!(onsite.group_id, "/contact/1");
    }

    #[test]
    fn a_fifo_id_that_sqs_would_refuse_is_its_sha_256() {
        let longest = "x".repeat(128);
        assert_eq!(fifo_id(longest.clone()), longest);
        // python3 -c 'import hashlib; print(hashlib.sha256(b"x" * 129).hexdigest())'
        assert_eq!(fifo_id("x".repeat(129)), "0ec9eb33e74510bcdd1f2ea55206e82f21649c5c2becbf2b433eb475b34c01bd");
        for id in ["a b", "ø", "a\tb", "\u{7f}"] {
            assert_eq!(fifo_id(id.to_owned()).len(), 64, "{id:?}");
        }
        let punctuation = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~";
        assert_eq!(fifo_id(punctuation.to_owned()), punctuation);
    }

    #[test]
    fn what_is_not_understood_is_kept_as_it_came() {
        for (body, kept, encoding) in [
            (&b"{\"Event\": nope,\r\n\t}"[..], "{\"Event\": nope,\r\n\t}", "utf-8"),
            (b"\xff\xfe", "//4=", "base64"),
            (b"nul\0", "bnVsAA==", "base64"),
            ("\u{FFFE}".as_bytes(), "77++", "base64"),
        ] {
            let message = QueueMessage::for_quarantine(verified(body), &NotUnderstood::NoEvent).unwrap();
            assert_eq!(message.body, kept);
            let attributes: Vec<_> =
                message.attributes.iter().map(|a| (a.name, a.data_type, a.value.as_str())).collect();
            let signature = verified(body).signature().to_string();
            assert_eq!(
                attributes,
                [
                    ("Reason", "String", "no usable Event"),
                    ("Encoding", "String", encoding),
                    ("Signature", "String", signature.as_str())
                ]
            );
            assert_eq!(message.group_id, "quarantine");
            assert_eq!(message.deduplication_id, sha256_hex(body));
        }
    }

    #[test]
    fn a_message_may_be_as_large_as_sqs_takes_it_and_no_larger() {
        let body = |padding: usize| {
            let padding = " ".repeat(padding);
            verified(format!(r#"{{"EventId":"e1","Event":"contact.changed","PrimaryKey":1}}{padding}"#))
        };
        let build =
            |padding| QueueMessage::for_event(Event::parse(body(padding)).unwrap(), 1, MessageFormat::SuperOffice);
        let room = MAX_MESSAGE_BYTES - build(0).unwrap().size();
        assert_eq!(build(room).unwrap().size(), MAX_MESSAGE_BYTES);
        let error = build(room + 1).unwrap_err();
        assert_eq!(error.to_string(), "the message would have 1048577 bytes, more than 1048576");
    }
}
