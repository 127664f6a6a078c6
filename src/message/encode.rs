//! Encodes an event or a quarantined body as a queue message.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use crate::message::{
    Attribute, BASE64, CLOUDEVENTS_JSON, JSON, MessageFormat, NONCHARACTERS, QueueMessage, TooLarge, UTF_8, attribute,
    cloudevents, is_sqs_char,
};
use crate::webhook::metadata::{EventMetadata, ParseError};
use crate::webhook::verifier::AuthorizedBody;

/// The maximum length of a group or deduplication id, in characters.
const MAX_FIFO_ID: usize = 128;

/// An authorized event that can be forwarded: it has a primary key.
#[derive(Clone, Debug)]
pub struct ForwardableEvent {
    metadata: EventMetadata,
    primary_key: i64,
    body: AuthorizedBody,
}

impl ForwardableEvent {
    /// Combines a body with its metadata.
    ///
    /// # Errors
    ///
    /// [`ParseError::NoPrimaryKey`], together with the body.
    pub fn new(metadata: EventMetadata, body: AuthorizedBody) -> Result<Self, (ParseError, AuthorizedBody)> {
        match metadata.primary_key() {
            Some(primary_key) => Ok(Self { metadata, primary_key, body }),
            None => Err((ParseError::NoPrimaryKey, body)),
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
        let ForwardableEvent { metadata, primary_key, body } = event;
        let signature = body.signature().to_string();
        #[expect(clippy::expect_used, reason = "metadata was parsed, so the body is UTF-8")]
        let text = String::from_utf8(body.into_bytes()).expect("metadata was parsed, so the body is UTF-8");
        let json = escape_noncharacters(text);
        let (body, content_type) = match format {
            MessageFormat::SuperOffice => (json, JSON),
            MessageFormat::CloudEvents => {
                let envelope = escape_noncharacters(cloudevents::envelope(&metadata, primary_key));
                (cloudevents::with_data(&envelope, &json), CLOUDEVENTS_JSON)
            }
        };
        let entity = metadata.entity();
        let mut attributes = Vec::with_capacity(10);
        let mut add = |name, data_type, value: Option<&str>| {
            if let Some(value) = value
                && !value.is_empty()
                && value.chars().all(is_sqs_char)
            {
                attributes.push(Attribute { name, data_type, value: value.to_owned() });
            }
        };
        add(attribute::EVENT, "String", Some(metadata.event()));
        add(attribute::EVENT_ID, "String", Some(metadata.event_id()));
        add(attribute::ENTITY, "String", Some(entity));
        add(attribute::PRIMARY_KEY, "Number", Some(&primary_key.to_string()));
        add(attribute::CONTEXT_IDENTIFIER, "String", metadata.context_identifier());
        add(attribute::WEBHOOK_NAME, "String", metadata.webhook_name());
        add(attribute::TIMESTAMP, "String", metadata.timestamp());
        add(attribute::SIGNATURE, "String", Some(&signature));
        add(attribute::CONTENT_TYPE, "String", Some(content_type));
        let tenant = metadata.context_identifier().unwrap_or_default();
        Self {
            body,
            attributes,
            group_id: fifo_id(format!("{tenant}/{entity}/{primary_key}")),
            deduplication_id: fifo_id(format!("{}/{}", metadata.event(), metadata.event_id())),
        }
        .within_limit()
    }

    /// Creates the message for a signed body that is malformed.
    ///
    /// # Errors
    ///
    /// [`TooLarge`] if SQS would reject it.
    pub fn for_quarantine(body: AuthorizedBody, reason: &ParseError) -> Result<Self, TooLarge> {
        let signature = body.signature().to_string();
        let deduplication_id = sha256_hex(body.bytes());
        let (body, encoding) = match String::from_utf8(body.into_bytes()) {
            Ok(text) if text.chars().all(is_sqs_char) => (text, UTF_8),
            Ok(text) => (STANDARD.encode(text), BASE64),
            Err(error) => (STANDARD.encode(error.as_bytes()), BASE64),
        };
        let string = |name, value| Attribute { name, data_type: "String", value };
        Self {
            body,
            attributes: vec![
                string(attribute::REASON, reason.to_string()),
                string(attribute::ENCODING, encoding.to_owned()),
                string(attribute::SIGNATURE, signature),
            ],
            group_id: "quarantine".to_owned(),
            deduplication_id,
        }
        .within_limit()
    }
}

/// Replaces the characters of a JSON document that SQS rejects by JSON escapes.
fn escape_noncharacters(json: String) -> String {
    if !json.contains(NONCHARACTERS.map(|(character, _)| character)) {
        return json;
    }
    NONCHARACTERS.iter().fold(json, |json, (character, escape)| json.replace(*character, escape))
}

/// Returns the id if SQS accepts it, otherwise its SHA-256 in hex.
fn fifo_id(id: String) -> String {
    let accepted = id.len() <= MAX_FIFO_ID && id.bytes().all(|byte| byte.is_ascii_graphic());
    if accepted { id } else { sha256_hex(id.as_bytes()) }
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
        let verifier = Verifier::new(secret);
        let metadata = EventMetadata::parse(&body).ok();
        verifier.authorize(verifier.verify(body, [signature]).unwrap(), metadata.as_ref()).unwrap()
    }

    fn forwardable(body: &str) -> ForwardableEvent {
        ForwardableEvent::new(EventMetadata::parse(body.as_bytes()).unwrap(), authorized(body)).unwrap()
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
    fn the_body_is_forwarded_byte_for_byte() {
        assert_eq!(message(BODY, MessageFormat::SuperOffice).body, BODY);
    }

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
    fn attribute_with_invalid_character_is_omitted() {
        let body = r#"{"EventId":"e1","Event":"contact.changed","PrimaryKey":1,"ContextIdentifier":"a\u0000b",
            "WebhookName":"\uffff","Timestamp":""}"#;
        let message = message(body, MessageFormat::SuperOffice);
        let names: Vec<_> = message.attributes.iter().map(|a| a.name).collect();
        assert_eq!(names, ["Event", "EventId", "Entity", "PrimaryKey", "Signature", "ContentType"]);
        assert_eq!(attribute(&message, "Entity"), Some("contact"));
    }

    #[test]
    fn noncharacters_become_json_escapes() {
        let body =
            "{\"EventId\":\"e\u{FFFE}\",\"Event\":\"contact.changed\",\"PrimaryKey\":1,\"x\":\"\u{FFFF}\\\\\u{FFFE}\"}";
        for format in [MessageFormat::SuperOffice, MessageFormat::CloudEvents] {
            let message = message(body, format);
            assert!(message.body.chars().all(is_sqs_char));
            let sent: serde_json::Value = serde_json::from_str(&message.body).unwrap();
            let data = if format == MessageFormat::SuperOffice { &sent } else { &sent["data"] };
            assert_eq!(data, &serde_json::from_str::<serde_json::Value>(body).unwrap());
            assert_eq!(attribute(&message, "EventId"), None);
        }
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
    fn fifo_ids_are_tenant_contact_and_event() {
        let message = message(BODY, MessageFormat::SuperOffice);
        assert_eq!(message.group_id, "Cust1234/contact/994863");
        assert_eq!(message.deduplication_id, "contact.changed/e1");
        let onsite =
            self::message(r#"{"EventId":"e1","Event":"contact.changed","PrimaryKey":1}"#, MessageFormat::SuperOffice);
        assert_eq!(onsite.group_id, "/contact/1");
    }

    #[test]
    fn invalid_fifo_id_is_replaced_by_its_sha_256() {
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
    fn quarantined_body_is_kept_as_received() {
        for (body, kept, encoding) in [
            (&b"{\"Event\": nope,\r\n\t}"[..], "{\"Event\": nope,\r\n\t}", "utf-8"),
            (b"\xff\xfe", "//4=", "base64"),
            (b"nul\0", "bnVsAA==", "base64"),
            ("\u{FFFE}".as_bytes(), "77++", "base64"),
        ] {
            let message = QueueMessage::for_quarantine(authorized(body), &ParseError::NoEvent).unwrap();
            assert_eq!(message.body, kept);
            let attributes: Vec<_> =
                message.attributes.iter().map(|a| (a.name, a.data_type, a.value.as_str())).collect();
            let signature = authorized(body).signature().to_string();
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
