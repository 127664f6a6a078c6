//! Encodes an event or a quarantined body as a queue message.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use crate::message::{
    Attribute, BASE64, CLOUDEVENTS_JSON, JSON, MessageFormat, QueueMessage, TooLarge, UTF_8, attribute, cloudevents,
    is_sqs_char,
};
use crate::webhook::json::without_bom;
use crate::webhook::metadata::{EventMetadata, ParseError};
use crate::webhook::signature::Signature;
use crate::webhook::verifier::AuthorizedBody;

/// The maximum length of a group or deduplication id, in characters.
const MAX_ID: usize = 128;

/// An authorized event that can be forwarded: it has a primary key, and its text contains only characters that SQS
/// accepts.
///
/// It is made from the proof alone, which owns the body and the metadata:
///
/// ```compile_fail,E0277
/// let forged = superoffice_webhook::message::encode::ForwardableEvent::try_from(b"{}".to_vec());
/// ```
#[derive(Debug)]
pub struct ForwardableEvent {
    text: String,
    metadata: EventMetadata,
    primary_key: i64,
    signature: Signature,
}

/// An authorized body that cannot be forwarded, and the reason.
#[derive(Debug)]
pub struct MalformedBody {
    bytes: Vec<u8>,
    reason: ParseError,
    signature: Signature,
}

impl MalformedBody {
    /// The reason why the body cannot be forwarded.
    pub fn reason(&self) -> &ParseError {
        &self.reason
    }

    /// Consumes the body and returns the reason why it cannot be forwarded.
    pub fn into_reason(self) -> ParseError {
        self.reason
    }
}

impl ForwardableEvent {
    /// The event's id.
    pub fn event_id(&self) -> &str {
        self.metadata.event_id()
    }
}

impl TryFrom<AuthorizedBody> for ForwardableEvent {
    type Error = MalformedBody;

    fn try_from(body: AuthorizedBody) -> Result<Self, MalformedBody> {
        let (bytes, metadata, signature) = body.into_parts();
        let with_key = metadata.and_then(|metadata| {
            let primary_key = metadata.primary_key().ok_or(ParseError::NoPrimaryKey)?;
            Ok((metadata, primary_key))
        });
        match with_key {
            Err(reason) => Err(MalformedBody { bytes, reason, signature }),
            Ok((metadata, primary_key)) => match sqs_text(bytes) {
                Ok(text) => Ok(Self { text, metadata, primary_key, signature }),
                Err(bytes) => Err(MalformedBody { bytes, reason: ParseError::Noncharacter, signature }),
            },
        }
    }
}

impl QueueMessage {
    /// Creates the message for an event.
    ///
    /// # Errors
    ///
    /// [`TooLarge`] if SQS would reject it.
    pub fn for_event(event: ForwardableEvent, format: MessageFormat) -> Result<Self, TooLarge> {
        let ForwardableEvent { text, metadata, primary_key, signature } = event;
        let (body, content_type) = match format {
            MessageFormat::SuperOffice => (text, JSON),
            MessageFormat::CloudEvents => {
                (cloudevents::event(&metadata, primary_key, without_bom(&text)), CLOUDEVENTS_JSON)
            }
        };
        let entity = metadata.entity().to_owned();
        let EventMetadata { event, event_id, context_identifier: tenant, webhook_name, timestamp, .. } = metadata;
        let group_id = accepted_id(format!("{}/{entity}/{primary_key}", tenant.as_deref().unwrap_or_default()));
        let deduplication_id = accepted_id(format!("{event}/{event_id}"));
        let tenant_group_id = tenant.clone().map(accepted_id);

        let mut attributes = Vec::with_capacity(9);
        let mut add = |name, data_type, value: Option<String>| {
            if let Some(value) = value.filter(|value| !value.is_empty() && value.chars().all(is_sqs_char)) {
                attributes.push(Attribute { name, data_type, value });
            }
        };
        add(attribute::EVENT, "String", Some(event));
        add(attribute::EVENT_ID, "String", Some(event_id));
        add(attribute::ENTITY, "String", Some(entity));
        add(attribute::PRIMARY_KEY, "Number", Some(primary_key.to_string()));
        add(attribute::CONTEXT_IDENTIFIER, "String", tenant);
        add(attribute::WEBHOOK_NAME, "String", webhook_name);
        add(attribute::TIMESTAMP, "String", timestamp);
        add(attribute::SIGNATURE, "String", Some(signature.to_string()));
        add(attribute::CONTENT_TYPE, "String", Some(content_type.to_owned()));
        Self { body, attributes, group_id, deduplication_id, tenant_group_id }.within_limit()
    }

    /// Creates the message for a signed body that is malformed.
    ///
    /// # Errors
    ///
    /// [`TooLarge`] if SQS would reject it.
    pub fn for_quarantine(body: MalformedBody) -> Result<Self, TooLarge> {
        let MalformedBody { bytes, reason, signature } = body;
        let deduplication_id = sha256_hex(&bytes);
        let (body, encoding) = match sqs_text(bytes) {
            Ok(text) => (text, UTF_8),
            Err(bytes) => (STANDARD.encode(bytes), BASE64),
        };
        let string = |name, value| Attribute { name, data_type: "String", value };
        Self {
            body,
            attributes: vec![
                string(attribute::REASON, reason.to_string()),
                string(attribute::ENCODING, encoding.to_owned()),
                string(attribute::SIGNATURE, signature.to_string()),
            ],
            group_id: "quarantine".to_owned(),
            deduplication_id,
            tenant_group_id: None,
        }
        .within_limit()
    }
}

/// Returns the text if SQS accepts it as a message body, otherwise the bytes.
fn sqs_text(bytes: Vec<u8>) -> Result<String, Vec<u8>> {
    match String::from_utf8(bytes) {
        Ok(text) if text.chars().all(is_sqs_char) => Ok(text),
        Ok(text) => Err(text.into_bytes()),
        Err(error) => Err(error.into_bytes()),
    }
}

/// Returns a group or deduplication id if SQS accepts it, otherwise its SHA-256 in hex.
fn accepted_id(id: String) -> String {
    let is_accepted = id.len() <= MAX_ID && id.bytes().all(|byte| byte.is_ascii_graphic());
    if is_accepted { id } else { sha256_hex(id.as_bytes()) }
}

fn sha256_hex(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::MAX_MESSAGE_BYTES;
    use crate::webhook::signature::Secret;
    use crate::webhook::verifier::Verifier;

    fn authorized(body: impl Into<Vec<u8>>) -> AuthorizedBody {
        let (secret, body) = (Secret::new("s3cret").unwrap(), body.into());
        let signature = secret.sign(&body).to_string();
        Verifier::new(secret).authenticate("", body, [signature]).unwrap()
    }

    fn forwardable(body: &str) -> ForwardableEvent {
        ForwardableEvent::try_from(authorized(body)).unwrap()
    }

    fn malformed(body: impl Into<Vec<u8>>) -> MalformedBody {
        ForwardableEvent::try_from(authorized(body)).unwrap_err()
    }

    fn message(body: &str, format: MessageFormat) -> QueueMessage {
        QueueMessage::for_event(forwardable(body), format).unwrap()
    }

    fn attribute<'a>(message: &'a QueueMessage, name: &str) -> Option<&'a str> {
        message.attributes.iter().find(|a| a.name == name).map(|a| a.value.as_str())
    }

    const BODY: &str = " {\"EventId\": \"e1\", \"Event\":\"contact.changed\",\"Entity\":\"contact\",\r\n\"PrimaryKey\":994863,\
        \"ContextIdentifier\":\"Cust1234\",\"WebhookName\":\"Blåbær\",\"Timestamp\":\"2018-04-24T07:50:50.6812131Z\",\
        \"n\":1.50e3,\"big\":123456789012345678901234567890}\n";

    #[test]
    fn attributes_identify_the_event() {
        let message = message(BODY, MessageFormat::SuperOffice);
        let signature = authorized(BODY).signature().to_string();
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
    fn attribute_without_an_acceptable_value_is_omitted() {
        for value in ["null", r#""""#, "7", "[]", r#""a\u0000b""#, r#""\uffff""#] {
            let body = format!(
                r#"{{"EventId":"e1","Event":"contact.changed","PrimaryKey":1,"Entity":{value},"ContextIdentifier":{value},
                "WebhookName":{value},"Timestamp":{value}}}"#
            );
            let message = message(&body, MessageFormat::SuperOffice);
            let is_text = value.contains('\\');
            let names: Vec<_> = message.attributes.iter().map(|a| a.name).filter(|name| *name != "Entity").collect();
            assert_eq!(names, ["Event", "EventId", "PrimaryKey", "Signature", "ContentType"], "{value}");
            // The name of the event replaces an absent entity.
            assert_eq!(attribute(&message, "Entity"), (!is_text).then_some("contact"), "{value}");
        }
    }

    #[test]
    fn event_with_character_that_sqs_rejects_is_malformed() {
        for text in ["\u{FFFE}", "\u{FFFF}"] {
            for field in ["WebhookName", "x"] {
                let event = format!(r#"{{"EventId":"e","Event":"contact.changed","PrimaryKey":1,"{field}":"{text}"}}"#);
                assert_eq!(malformed(event.clone()).reason().to_string(), "contains U+FFFE or U+FFFF");
                let message = QueueMessage::for_quarantine(malformed(event.clone())).unwrap();
                assert_eq!(message.body, STANDARD.encode(&event));
                assert_eq!(attribute(&message, "Encoding"), Some("base64"));
            }
        }
    }

    #[test]
    fn escaped_character_that_sqs_rejects_is_forwarded() {
        let body = r#"{"EventId":"e\ufffe","Event":"contact.\uFFFF","PrimaryKey":1}"#;
        assert_eq!(message(body, MessageFormat::SuperOffice).body, body);
        let message = message(body, MessageFormat::CloudEvents);
        assert!(message.body.chars().all(is_sqs_char), "{}", message.body);
        let event: serde_json::Value = serde_json::from_str(&message.body).unwrap();
        assert_eq!(event["id"], "e\u{FFFE}");
        assert_eq!(event["type"], "com.superoffice.contact.\u{FFFF}");
        assert_eq!(attribute(&message, "EventId"), None);
    }

    #[test]
    fn byte_order_mark_is_forwarded_unless_the_body_becomes_data() {
        let body = format!("\u{FEFF}{BODY}");
        assert_eq!(message(&body, MessageFormat::SuperOffice).body, body);
        let cloud_event = message(&body, MessageFormat::CloudEvents).body;
        assert_eq!(cloud_event, message(BODY, MessageFormat::CloudEvents).body);
    }

    #[test]
    fn cloud_event_contains_the_body_byte_for_byte() {
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
    fn cloud_event_omits_a_time_that_is_not_rfc_3339() {
        let body = r#"{"EventId":"e1","Event":"contact.changed","PrimaryKey":1,"Timestamp":"2020-02-16T17:50:17"}"#;
        let message = message(body, MessageFormat::CloudEvents);
        let event: serde_json::Value = serde_json::from_str(&message.body).unwrap();
        assert_eq!(event.get("time"), None);
        assert_eq!(attribute(&message, "Timestamp"), Some("2020-02-16T17:50:17"));
    }

    #[test]
    fn ids_are_tenant_contact_and_event() {
        let message = message(BODY, MessageFormat::SuperOffice);
        assert_eq!(message.group_id, "Cust1234/contact/994863");
        assert_eq!(message.deduplication_id, "contact.changed/e1");
        assert_eq!(message.tenant_group_id.as_deref(), Some("Cust1234"));
        let onsite =
            self::message(r#"{"EventId":"e1","Event":"contact.changed","PrimaryKey":1}"#, MessageFormat::SuperOffice);
        assert_eq!((onsite.group_id.as_str(), onsite.tenant_group_id), ("/contact/1", None));
    }

    #[test]
    fn id_that_sqs_rejects_is_replaced_by_its_sha_256() {
        let longest = "x".repeat(128);
        assert_eq!(accepted_id(longest.clone()), longest);
        // python3 -c 'import hashlib; print(hashlib.sha256(b"x" * 129).hexdigest())'
        assert_eq!(accepted_id("x".repeat(129)), "0ec9eb33e74510bcdd1f2ea55206e82f21649c5c2becbf2b433eb475b34c01bd");
        for id in ["a b", "ø", "a\tb", "\u{7f}"] {
            assert_eq!(accepted_id(id.to_owned()), sha256_hex(id.as_bytes()), "{id:?}");
            let body =
                format!(r#"{{"EventId":{id:?},"Event":"contact.changed","PrimaryKey":1,"ContextIdentifier":{id:?}}}"#);
            let message = message(&body.replace("\\u{7f}", "\u{7f}"), MessageFormat::SuperOffice);
            assert_eq!(message.group_id, sha256_hex(format!("{id}/contact/1").as_bytes()));
            assert_eq!(message.deduplication_id, sha256_hex(format!("contact.changed/{id}").as_bytes()));
            assert_eq!(message.tenant_group_id, Some(sha256_hex(id.as_bytes())));
        }
        let punctuation = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~";
        assert_eq!(accepted_id(punctuation.to_owned()), punctuation);
    }

    #[test]
    fn quarantined_body_is_kept_byte_for_byte_with_its_reason() {
        let all_bytes: Vec<u8> = (0..=255).collect();
        for (body, encoding, reason) in [
            (&b"{\"Event\": nope,\r\n\t}"[..], "utf-8", "not JSON: expected ident at line 1 column 12"),
            (b"{\"Event\":\"\"}", "utf-8", "no usable Event"),
            (b"\xef\xbb\xbf{}", "utf-8", "no usable Event"),
            (b"{\"Event\":\"contact.changed\",\"EventId\":\"1\"}", "utf-8", "no usable PrimaryKey"),
            (&all_bytes, "base64", "not UTF-8: invalid byte at offset 128"),
            (b"\xff\xfe{\0", "base64", "not UTF-8: encoded as UTF-16LE"),
            (b"nul\0", "base64", "not JSON: expected ident at line 1 column 4"),
            ("\u{FFFE}".as_bytes(), "base64", "not JSON: expected value at line 1 column 1"),
        ] {
            let message = QueueMessage::for_quarantine(malformed(body)).unwrap();
            let kept = if encoding == "utf-8" { body.to_vec() } else { STANDARD.encode(body).into_bytes() };
            assert_eq!(message.body.as_bytes(), kept, "{reason}");
            let attributes: Vec<_> =
                message.attributes.iter().map(|a| (a.name, a.data_type, a.value.as_str())).collect();
            let signature = authorized(body).signature().to_string();
            assert_eq!(
                attributes,
                [("Reason", "String", reason), ("Encoding", "String", encoding), ("Signature", "String", &signature)]
            );
            let ids = (message.group_id.as_str(), message.deduplication_id, message.tenant_group_id);
            assert_eq!(ids, ("quarantine", sha256_hex(body), None));
        }
    }

    #[test]
    fn message_over_the_limit_is_an_error() {
        let build = |padding: usize| {
            let padding = " ".repeat(padding);
            let body = format!(r#"{{"EventId":"e1","Event":"contact.changed","PrimaryKey":1}}{padding}"#);
            QueueMessage::for_event(forwardable(&body), MessageFormat::SuperOffice)
        };
        let room = MAX_MESSAGE_BYTES - build(0).unwrap().size();
        assert_eq!(build(room).unwrap().size(), MAX_MESSAGE_BYTES);
        let error = build(room + 1).unwrap_err();
        assert_eq!(error.to_string(), "message of 1048577 bytes exceeds the limit of 1048576");
    }
}
