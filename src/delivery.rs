//! Reads what the function has put into a queue.
//!
//! A message is read from its body and a look-up of its attributes, so that it does not matter which crate it comes
//! from. Of a record of aws_lambda_events' `SqsEvent`, the look-up is
//! `|name| record.message_attributes.get(name)?.string_value.as_deref()`; of a `Message` of aws-sdk-sqs,
//! `|name| message.message_attributes()?.get(name)?.string_value()`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::contact::ContactEvent;
use crate::event::NotUnderstood;
use crate::signature::{Rejection, Verifier};
use crate::webhook_event::WebhookEvent;

/// An event from the queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueuedEvent {
    /// A contact's event.
    Contact(ContactEvent),
    /// Any other entity's.
    Other(WebhookEvent),
}

impl QueuedEvent {
    /// Everything that is in the body, whatever the entity.
    pub fn event(&self) -> &WebhookEvent {
        match self {
            Self::Contact(contact) => contact.event(),
            Self::Other(event) => event,
        }
    }

    fn parse(json: &[u8]) -> Result<Self, Unreadable> {
        let event = WebhookEvent::parse(json)?;
        Ok(ContactEvent::try_from(event).map_or_else(Self::Other, Self::Contact))
    }
}

/// Why a queue message is not read. No text holds anything of the message.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// The body is no event of SuperOffice's.
    #[error(transparent)]
    NotUnderstood(#[from] NotUnderstood),
    /// The message is said to be a CloudEvents event, and has no `data`.
    #[error("not a CloudEvents event with data")]
    NotCloudEvent,
    /// The signature does not hold.
    #[error(transparent)]
    Signature(#[from] Rejection),
    /// The quarantine message's `Encoding` attribute is missing, or neither `utf-8` nor `base64`.
    #[error("the Encoding attribute is neither utf-8 nor base64")]
    UnknownEncoding,
    /// The quarantine message's body is not the base64 that its `Encoding` says.
    #[error("the body is not base64")]
    NotBase64,
}

/// Reads a message of either format. The event is what the body says, never the attributes; they only tell the format,
/// and where they got lost, the body does.
///
/// # Errors
///
/// [`Unreadable`]; a retry does not help.
///
/// ```
/// use superoffice_webhook::contact::ContactEventKind;
/// use superoffice_webhook::delivery::{QueuedEvent, read};
///
/// let body = r#"{"EventId": "6b1c", "Event": "contact.changed", "PrimaryKey": 21, "Changes": ["name"]}"#;
/// let QueuedEvent::Contact(contact) = read(body, |_| None)? else { panic!("a contact's event") };
/// assert_eq!(contact.kind(), &ContactEventKind::Changed);
/// assert_eq!(contact.contact_id(), 21);
/// assert!(contact.changed("name"));
/// # Ok::<(), superoffice_webhook::delivery::Unreadable>(())
/// ```
pub fn read<'m>(body: &'m str, attribute: impl Fn(&str) -> Option<&'m str>) -> Result<QueuedEvent, Unreadable> {
    QueuedEvent::parse(superoffice_json(body, attribute("ContentType"))?.as_bytes())
}

/// Reads a message of either format after checking its `Signature` attribute again, for a consumer that does not trust
/// everyone who can write into the queue. Nothing of an unsigned body is returned.
///
/// Characters that SQS refuses (`U+FFFE`, `U+FFFF`) are in the message as JSON escapes. They are put back for the
/// check; a body in which SuperOffice wrote some of them itself as such escapes and others not fails it.
///
/// # Errors
///
/// [`Unreadable`]; a retry does not help.
pub fn read_verified<'m>(
    body: &'m str,
    attribute: impl Fn(&str) -> Option<&'m str>,
    verifier: &Verifier,
) -> Result<QueuedEvent, Unreadable> {
    let json = superoffice_json(body, attribute("ContentType"))?;
    let verify = |json: &str| verifier.verify(json.as_bytes().to_vec(), attribute("Signature"));
    let verified = match (verify(json), with_refused_characters(json)) {
        (Err(_), Some(original)) => verify(&original)?,
        (result, _) => result?,
    };
    QueuedEvent::parse(verified.bytes())
}

/// The body that SuperOffice sent, byte for byte, from a quarantine message's body and its `Encoding` attribute.
///
/// # Errors
///
/// [`Unreadable::UnknownEncoding`] and [`Unreadable::NotBase64`].
///
/// ```
/// use superoffice_webhook::delivery::quarantined_body;
///
/// assert_eq!(quarantined_body("{", Some("utf-8"))?, b"{");
/// assert_eq!(quarantined_body("//4=", Some("base64"))?, b"\xff\xfe");
/// # Ok::<(), superoffice_webhook::delivery::Unreadable>(())
/// ```
pub fn quarantined_body(body: &str, encoding: Option<&str>) -> Result<Vec<u8>, Unreadable> {
    match encoding {
        Some("utf-8") => Ok(body.as_bytes().to_vec()),
        Some("base64") => STANDARD.decode(body).map_err(|_| Unreadable::NotBase64),
        _ => Err(Unreadable::UnknownEncoding),
    }
}

/// What makes a JSON object a CloudEvents event here.
#[derive(Deserialize)]
struct Envelope<'m> {
    #[serde(rename = "specversion")]
    _specversion: String,
    #[serde(borrow)]
    data: &'m RawValue,
}

/// The JSON document that SuperOffice sent, out of a message of either format.
fn superoffice_json<'m>(body: &'m str, content_type: Option<&str>) -> Result<&'m str, Unreadable> {
    let envelope = match content_type {
        Some("application/json") => None,
        Some("application/cloudevents+json") => {
            Some(serde_json::from_str(body).map_err(|_| Unreadable::NotCloudEvent)?)
        }
        _ => serde_json::from_str(body).ok(),
    };
    Ok(envelope.map_or(body, |envelope| data(body, &envelope)))
}

/// The event's `data`, with the white space around it where it is the last member, as the function writes it: that is
/// signed, too.
fn data<'m>(body: &'m str, envelope: &Envelope<'m>) -> &'m str {
    let data = envelope.data.get();
    let start = data.as_ptr().addr() - body.as_ptr().addr();
    let before = body[..start].trim_end_matches(JSON_WHITE_SPACE).len();
    let after = body[start + data.len()..].trim_end_matches(JSON_WHITE_SPACE);
    match after.strip_suffix('}') {
        Some(space) if space.trim_end_matches(JSON_WHITE_SPACE).is_empty() => {
            &body[before..start + data.len() + space.len()]
        }
        _ => data,
    }
}

const JSON_WHITE_SPACE: [char; 4] = [' ', '\t', '\n', '\r'];

/// The document with the escapes `\ufffe` and `\uffff` undone, when it has any.
fn with_refused_characters(json: &str) -> Option<String> {
    let mut original = String::with_capacity(json.len());
    let mut rest = json;
    while let Some(at) = rest.find('\\') {
        let (text, escape) = rest.split_at(at);
        original.push_str(text);
        let (character, len) = match escape.get(..6) {
            Some("\\ufffe") => ("\u{FFFE}", 6),
            Some("\\uffff") => ("\u{FFFF}", 6),
            // Past the next character, too: it may be an escaped backslash.
            _ => {
                let len = escape.chars().take(2).map(char::len_utf8).sum();
                (&escape[..len], len)
            }
        };
        original.push_str(character);
        rest = &escape[len..];
    }
    original.push_str(rest);
    (original != json).then_some(original)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contact::ContactEventKind;
    use crate::signature::Secret;

    const BODY: &str = r#"{"EventId":"6b1c","Event":"contact.changed","PrimaryKey":21}"#;

    fn read_as(body: &str, content_type: Option<&'static str>) -> Result<QueuedEvent, Unreadable> {
        read(body, |name| content_type.filter(|_| name == "ContentType"))
    }

    fn cloud_event(data: &str) -> String {
        format!(r#"{{"specversion":"1.0","id":"6b1c","source":"urn:superoffice:onsite","type":"t","data":{data}}}"#)
    }

    #[test]
    fn both_formats_are_the_same_event_with_and_without_attributes() {
        let event = read_as(BODY, Some("application/json")).unwrap();
        let QueuedEvent::Contact(contact) = &event else { panic!("{event:?}") };
        assert_eq!((contact.kind(), contact.contact_id()), (&ContactEventKind::Changed, 21));
        assert_eq!(read_as(BODY, None).unwrap(), event);
        assert_eq!(read_as(&cloud_event(BODY), Some("application/cloudevents+json")).unwrap(), event);
        assert_eq!(read_as(&cloud_event(BODY), None).unwrap(), event);
        let spaced = format!("{{ \"data\" : {BODY} , \"specversion\" : \"1.0\" }}");
        assert_eq!(read_as(&spaced, None).unwrap(), event);
    }

    #[test]
    fn the_format_of_a_body_that_looks_like_both_is_what_the_attribute_says() {
        let both = r#"{"specversion":"1.0","data":{"Event":"sale.created","EventId":"1"},
            "EventId":"6b1c","Event":"contact.changed","PrimaryKey":21}"#;
        assert_eq!(read_as(both, Some("application/json")).unwrap().event().head.event, "contact.changed");
        assert_eq!(read_as(both, Some("application/cloudevents+json")).unwrap().event().head.event, "sale.created");
    }

    #[test]
    fn another_entitys_event_is_read_in_general() {
        for body in [
            r#"{"EventId":"1","Event":"sale.created","PrimaryKey":7}"#,
            r#"{"EventId":"1","Event":"contact.created","Entity":"person","PrimaryKey":7}"#,
            r#"{"EventId":"1","Event":"contact.created"}"#,
        ] {
            let QueuedEvent::Other(event) = read_as(body, None).unwrap() else { panic!("{body}") };
            assert_eq!(event.head.event_id, "1");
        }
    }

    #[test]
    fn what_cannot_be_read_is_said_without_a_word_of_it() {
        let text = |body: &str, content_type| read_as(body, content_type).unwrap_err().to_string();
        assert_eq!(text("", None), "not JSON: EOF while parsing a value at line 1 column 0");
        assert_eq!(text("[1]", None), "not a JSON object");
        assert_eq!(text(r#"{"EventId":"1"}"#, None), "no usable Event");
        assert_eq!(text(r#"{"Event":"contact.created"}"#, None), "no usable EventId");
        for body in ["", "[]", BODY, r#"{"specversion":"1.0"}"#, r#"{"specversion":1,"data":{}}"#] {
            assert_eq!(text(body, Some("application/cloudevents+json")), "not a CloudEvents event with data", "{body}");
        }
    }

    #[test]
    fn data_is_cut_out_with_the_white_space_around_it() {
        let cut = |data: &str| superoffice_json(&cloud_event(data), None).map(str::to_owned).unwrap();
        for data in [BODY, " {}", "{}\n", "\r\n\t {\"a\": \"}\"} \n", "null"] {
            assert_eq!(cut(data), data);
        }
        let not_last = r#"{"data": {"a":1} ,"specversion":"1.0"}"#;
        assert_eq!(superoffice_json(not_last, None).unwrap(), r#"{"a":1}"#);
    }

    #[test]
    fn a_signature_is_checked_again_in_both_formats() {
        let secret = Secret::new("a secret").unwrap();
        let verifier = Verifier::new(secret.clone());
        let body = format!(" {BODY}\n");
        let signature = secret.sign(body.as_bytes()).to_string();
        for message in [body.clone(), cloud_event(&body)] {
            let event = read_verified(&message, |name| (name == "Signature").then_some(&signature), &verifier).unwrap();
            assert_eq!(event.event().head.primary_key, Some(21));
            let forged = message.replace("21", "22");
            let error = read_verified(&forged, |name| (name == "Signature").then_some(&signature), &verifier);
            assert_eq!(error.unwrap_err().to_string(), "signature mismatch");
            let error = read_verified(&message, |_| None, &verifier);
            assert_eq!(error.unwrap_err().to_string(), "signature header missing");
        }
    }

    #[test]
    fn escapes_of_refused_characters_are_undone_and_no_others() {
        let undone = |json| with_refused_characters(json);
        assert_eq!(undone(r#""a\ufffeb\uffff""#), Some("\"a\u{FFFE}b\u{FFFF}\"".to_owned()));
        assert_eq!(undone(r#""\\\ufffe""#), Some("\"\\\\\u{FFFE}\"".to_owned()));
        for same in [r#""\\ufffe""#, r#""\uFFFE""#, r#""\n\u00e9é""#, "\\", "\\é", "\\é\\ufff", ""] {
            assert_eq!(undone(same), None, "{same}");
        }
    }

    #[test]
    fn a_quarantined_body_comes_back_to_the_byte() {
        assert_eq!(quarantined_body("not JSON é", Some("utf-8")).unwrap(), "not JSON é".as_bytes());
        assert_eq!(quarantined_body("//4A", Some("base64")).unwrap(), b"\xff\xfe\0");
        assert_eq!(quarantined_body("//4", Some("base64")).unwrap_err().to_string(), "the body is not base64");
        for encoding in [None, Some("utf-16")] {
            let error = quarantined_body("//4A", encoding).unwrap_err();
            assert_eq!(error.to_string(), "the Encoding attribute is neither utf-8 nor base64");
        }
    }
}
