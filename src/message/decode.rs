//! Decodes queue messages, for consumers.
//!
//! A message is passed as its body and a lookup of its attributes, so any SQS client can be used. For a record of
//! aws_lambda_events' `SqsEvent`, the lookup is
//! `|name| record.message_attributes.get(name)?.string_value.as_deref()`; for a `Message` of aws-sdk-sqs,
//! `|name| message.message_attributes()?.get(name)?.string_value()`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::message::cloudevents::{self, CloudEvent};
use crate::message::{BASE64, CLOUDEVENTS_JSON, JSON, UTF_8, attribute};
use crate::webhook::contact::ContactEvent;
use crate::webhook::event::WebhookEvent;
use crate::webhook::metadata::ParseError;
use crate::webhook::verifier::{Rejection, Verifier};

/// An event from a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum QueuedEvent {
    /// A contact event.
    Contact(ContactEvent),
    /// An event of any other entity.
    Other(WebhookEvent),
}

/// Errors from decoding a queue message. A retry does not help. The text never quotes the message.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The body is not a SuperOffice event.
    #[error(transparent)]
    Malformed(#[from] ParseError),
    /// The `ContentType` attribute is that of CloudEvents, but the body is not a CloudEvents event, or has no `data`.
    #[error("not a CloudEvents event with data")]
    NotCloudEvent,
    /// The signature is missing or invalid.
    #[error(transparent)]
    Signature(#[from] Rejection),
    /// The `Encoding` attribute of a quarantine message is missing, or neither `utf-8` nor `base64`.
    #[error("the Encoding attribute is neither utf-8 nor base64")]
    UnknownEncoding,
    /// The `Encoding` attribute of a quarantine message is `base64`, but the body is not base64.
    #[error("the body is not base64")]
    NotBase64,
}

impl QueuedEvent {
    /// Decodes a message of either format.
    ///
    /// The event is read from the body only. The `ContentType` attribute selects the format; without it, the body does.
    ///
    /// # Errors
    ///
    /// [`DecodeError`]
    ///
    /// ```
    /// use superoffice_webhook::{ContactEventKind, QueuedEvent};
    ///
    /// let body = r#"{"EventId": "6b1c", "Event": "contact.changed", "PrimaryKey": 21, "Changes": ["name"]}"#;
    /// let QueuedEvent::Contact(contact) = QueuedEvent::from_message(body, |_| None)? else {
    ///     panic!("not a contact event")
    /// };
    /// assert_eq!(contact.kind(), &ContactEventKind::Changed);
    /// assert_eq!(contact.contact_id(), 21);
    /// assert!(contact.changed("name"));
    /// # Ok::<(), superoffice_webhook::DecodeError>(())
    /// ```
    pub fn from_message<'m>(body: &'m str, attribute: impl Fn(&str) -> Option<&'m str>) -> Result<Self, DecodeError> {
        let json = parse_envelope(body, attribute(attribute::CONTENT_TYPE))?.map_or(body, |event| event.data());
        Self::parse(json.as_bytes())
    }

    /// Decodes a message of either format and verifies its `Signature` attribute again, for a consumer that does not
    /// trust everyone who can write to the queue. Derived secrets are verified with the master secret.
    ///
    /// The signed bytes of a CloudEvents event are those of `data`, with the whitespace around it. The function removes a
    /// byte order mark, so `data` is verified both without and with a byte order mark before it. If another program
    /// rewrites the event, the signature no longer matches.
    ///
    /// # Errors
    ///
    /// [`DecodeError`]
    pub fn from_message_verified<'m>(
        body: &'m str,
        attribute: impl Fn(&str) -> Option<&'m str>,
        verifier: &Verifier,
    ) -> Result<Self, DecodeError> {
        let verify = |json: &str| verifier.verify_message(json.as_bytes(), attribute(attribute::SIGNATURE));
        let verified = match parse_envelope(body, attribute(attribute::CONTENT_TYPE))? {
            None => verify(body)?,
            Some(event) => {
                let data = cloudevents::signed_data(body).unwrap_or(event.data());
                verify(data).or_else(|_| verify(&format!("\u{FEFF}{data}")))?
            }
        };
        Self::parse(verified.bytes())
    }

    /// The event with every field of the body, for any entity.
    pub fn event(&self) -> &WebhookEvent {
        match self {
            Self::Contact(contact) => contact.event(),
            Self::Other(event) => event,
        }
    }

    fn parse(json: &[u8]) -> Result<Self, DecodeError> {
        let event = WebhookEvent::parse(json)?;
        Ok(ContactEvent::try_from(event).map_or_else(Self::Other, Self::Contact))
    }
}

/// Decodes the body of a quarantine message to the bytes that SuperOffice sent.
///
/// # Errors
///
/// [`DecodeError::UnknownEncoding`] and [`DecodeError::NotBase64`].
///
/// ```
/// use superoffice_webhook::decode_quarantined_body;
///
/// assert_eq!(decode_quarantined_body("{", Some("utf-8"))?, b"{");
/// assert_eq!(decode_quarantined_body("//4=", Some("base64"))?, b"\xff\xfe");
/// # Ok::<(), superoffice_webhook::DecodeError>(())
/// ```
pub fn decode_quarantined_body(body: &str, encoding: Option<&str>) -> Result<Vec<u8>, DecodeError> {
    match encoding {
        Some(UTF_8) => Ok(body.as_bytes().to_vec()),
        Some(BASE64) => STANDARD.decode(body).map_err(|_| DecodeError::NotBase64),
        _ => Err(DecodeError::UnknownEncoding),
    }
}

/// Returns the CloudEvents event in a message, or `None` if the message is a SuperOffice event.
fn parse_envelope<'m>(body: &'m str, content_type: Option<&str>) -> Result<Option<CloudEvent<'m>>, DecodeError> {
    match content_type {
        Some(JSON) => Ok(None),
        Some(CLOUDEVENTS_JSON) => CloudEvent::parse(body).map(Some).ok_or(DecodeError::NotCloudEvent),
        _ => Ok(CloudEvent::parse(body)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::webhook::contact::ContactEventKind;
    use crate::webhook::signature::Secret;

    const BODY: &str = r#"{"EventId":"6b1c","Event":"contact.changed","PrimaryKey":21}"#;

    fn decode(body: &str, content_type: Option<&'static str>) -> Result<QueuedEvent, DecodeError> {
        QueuedEvent::from_message(body, |name| content_type.filter(|_| name == "ContentType"))
    }

    fn cloud_event(data: &str) -> String {
        format!(r#"{{"specversion":"1.0","id":"6b1c","source":"urn:superoffice:onsite","type":"t","data":{data}}}"#)
    }

    #[test]
    fn both_formats_decode_to_the_same_event() {
        let event = decode(BODY, Some("application/json")).unwrap();
        let QueuedEvent::Contact(contact) = &event else { panic!("{event:?}") };
        assert_eq!((contact.kind(), contact.contact_id()), (&ContactEventKind::Changed, 21));
        assert_eq!(decode(BODY, None).unwrap(), event);
        assert_eq!(decode(&cloud_event(BODY), Some("application/cloudevents+json")).unwrap(), event);
        assert_eq!(decode(&cloud_event(BODY), None).unwrap(), event);
        let spaced = format!("{{ \"data\" : {BODY} , \"specversion\" : \"1.0\" }}");
        assert_eq!(decode(&spaced, None).unwrap(), event);
    }

    #[test]
    fn byte_order_mark_is_ignored() {
        let event = decode(BODY, None).unwrap();
        for (message, content_type) in
            [(BODY.to_owned(), "application/json"), (cloud_event(BODY), "application/cloudevents+json")]
        {
            let message = format!("\u{FEFF}{message}");
            assert_eq!(decode(&message, None).unwrap(), event, "{message}");
            assert_eq!(decode(&message, Some(content_type)).unwrap(), event, "{message}");
        }
    }

    #[test]
    fn content_type_attribute_selects_the_format() {
        let both = r#"{"specversion":"1.0","data":{"Event":"sale.created","EventId":"1"},
            "EventId":"6b1c","Event":"contact.changed","PrimaryKey":21}"#;
        assert_eq!(decode(both, Some("application/json")).unwrap().event().metadata().event(), "contact.changed");
        assert_eq!(
            decode(both, Some("application/cloudevents+json")).unwrap().event().metadata().event(),
            "sale.created"
        );
    }

    #[test]
    fn event_of_another_entity_is_decoded() {
        for body in [
            r#"{"EventId":"1","Event":"sale.created","PrimaryKey":7}"#,
            r#"{"EventId":"1","Event":"contact.created","Entity":"person","PrimaryKey":7}"#,
            r#"{"EventId":"1","Event":"contact.created"}"#,
        ] {
            let QueuedEvent::Other(event) = decode(body, None).unwrap() else { panic!("{body}") };
            assert_eq!(event.metadata().event_id(), "1");
        }
    }

    #[test]
    fn error_quotes_nothing_of_the_message() {
        let text = |body: &str, content_type| decode(body, content_type).unwrap_err().to_string();
        assert_eq!(text("", None), "not JSON: EOF while parsing a value at line 1 column 0");
        assert_eq!(text("[1]", None), "not a JSON object");
        assert_eq!(text(r#"{"EventId":"1"}"#, None), "no usable Event");
        assert_eq!(text(r#"{"Event":"contact.created"}"#, None), "no usable EventId");
        for body in ["", "[]", BODY, r#"{"specversion":"1.0"}"#, r#"{"specversion":1,"data":{}}"#] {
            assert_eq!(text(body, Some("application/cloudevents+json")), "not a CloudEvents event with data", "{body}");
        }
    }

    #[test]
    fn signed_data_includes_surrounding_whitespace() {
        for data in [BODY, " {}", "{}\n", "\r\n\t {\"a\": \"}\"} \n", "null", r#"{"a":1,"data":{}}"#] {
            assert_eq!(cloudevents::signed_data(&cloud_event(data)), Some(data));
        }
        assert_eq!(cloudevents::signed_data(r#"{"data": {"a":1} ,"specversion":"1.0"}"#), None);
    }

    #[test]
    fn signature_is_verified_if_data_is_not_the_last_member() {
        let secret = Secret::new("a secret").unwrap();
        let signature = secret.sign(BODY.as_bytes()).to_string();
        let message = format!("{{ \"data\" : {BODY} , \"specversion\" : \"1.0\" }}");
        let attribute = |name: &str| (name == "Signature").then_some(signature.as_str());
        let event = QueuedEvent::from_message_verified(&message, attribute, &Verifier::new(secret)).unwrap();
        assert_eq!(event.event().metadata().primary_key(), Some(21));
    }

    #[test]
    fn signature_is_verified_in_both_formats() {
        let secret = Secret::new("a secret").unwrap();
        let verifier = Verifier::new(secret.clone());
        let body = format!(" {BODY}\n");
        let with_byte_order_mark = format!("\u{FEFF}{body}");
        for (message, signed) in [
            (body.clone(), &body),
            (cloud_event(&body), &body),
            (with_byte_order_mark.clone(), &with_byte_order_mark),
            (cloud_event(&body), &with_byte_order_mark),
        ] {
            let signature = secret.sign(signed.as_bytes()).to_string();
            let event = QueuedEvent::from_message_verified(
                &message,
                |name| (name == "Signature").then_some(&signature),
                &verifier,
            )
            .unwrap();
            assert_eq!(event.event().metadata().primary_key(), Some(21));
            let forged = message.replace("21", "22");
            let error = QueuedEvent::from_message_verified(
                &forged,
                |name| (name == "Signature").then_some(&signature),
                &verifier,
            );
            assert_eq!(error.unwrap_err().to_string(), "signature mismatch");
            let error = QueuedEvent::from_message_verified(&message, |_| None, &verifier);
            assert_eq!(error.unwrap_err().to_string(), "signature header missing");
        }
    }

    #[test]
    fn quarantined_body_is_decoded_byte_for_byte() {
        assert_eq!(decode_quarantined_body("not JSON é", Some("utf-8")).unwrap(), "not JSON é".as_bytes());
        assert_eq!(decode_quarantined_body("//4A", Some("base64")).unwrap(), b"\xff\xfe\0");
        assert_eq!(decode_quarantined_body("//4", Some("base64")).unwrap_err().to_string(), "the body is not base64");
        for encoding in [None, Some("utf-16")] {
            let error = decode_quarantined_body("//4A", encoding).unwrap_err();
            assert_eq!(error.to_string(), "the Encoding attribute is neither utf-8 nor base64");
        }
    }
}
