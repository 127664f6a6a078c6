//! The event in a signed body: the few fields that decide what happens to it.
//!
//! SuperOffice adds fields and columns over time, and writes numbers as strings now and then, so nothing but the
//! fields that are needed can keep an event back, whatever the type of the others.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::signature::VerifiedBody;

/// What identifies an event. Every field but the first two can be missing; one that is `null`, empty or of an
/// unexpected type is as good as missing. Where a field is given twice, the last one counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventHead {
    /// The event's name, `contact.changed`.
    pub event: String,
    /// The event's id, a GUID; the same in every attempt to deliver it.
    pub event_id: String,
    /// The kind of row, `contact`.
    pub entity: Option<String>,
    /// The row's id, the contact id of a contact.
    pub primary_key: Option<i64>,
    /// The customer in SuperOffice Online, `Cust1234`; on-site installations have none.
    pub context_identifier: Option<String>,
    /// The name that the customer gave to the webhook.
    pub webhook_name: Option<String>,
    /// When the event occurred, as SuperOffice wrote it.
    pub timestamp: Option<String>,
    /// Whether `ContextIdentifier` stands there more than once, or in other case: readers disagree on which of them
    /// counts, and many do not mind the case.
    pub(crate) context_identifier_ambiguous: bool,
}

/// Why a signed body is not understood. The text says nothing of what the body holds.
#[derive(Debug, thiserror::Error)]
pub enum NotUnderstood {
    /// The body is not UTF-8.
    #[error("not UTF-8: invalid byte at offset {0}")]
    NotUtf8(usize),
    /// The body is not JSON; where, and what was expected there.
    #[error("not JSON: {0}")]
    NotJson(serde_json::Error),
    /// The body is JSON, but not an object.
    #[error("not a JSON object")]
    NotAnObject,
    /// There is no usable `Event`.
    #[error("no usable Event")]
    NoEvent,
    /// There is no usable `EventId`.
    #[error("no usable EventId")]
    NoEventId,
    /// The event is to be forwarded, and there is no integer `PrimaryKey`.
    #[error("no usable PrimaryKey")]
    NoPrimaryKey,
}

/// A verified body that is understood, and its head.
#[derive(Clone, Debug)]
pub struct Event {
    head: EventHead,
    body: VerifiedBody,
}

impl Event {
    /// Reads a verified body.
    ///
    /// # Errors
    ///
    /// [`NotUnderstood`], and the body again, when it is not a JSON object, or has no usable `Event` or, but for the
    /// registration probe, no usable `EventId`.
    pub fn parse(body: VerifiedBody) -> Result<Self, (NotUnderstood, VerifiedBody)> {
        match EventHead::parse_signed(body.bytes()) {
            Ok(head) => Ok(Self { head, body }),
            Err(reason) => Err((reason, body)),
        }
    }

    /// What identifies the event.
    pub fn head(&self) -> &EventHead {
        &self.head
    }

    /// The verified body.
    pub fn body(&self) -> &VerifiedBody {
        &self.body
    }

    /// The verified body, given away.
    pub fn into_body(self) -> VerifiedBody {
        self.body
    }

    /// The body's text, as it was received.
    pub fn into_text(self) -> String {
        #[expect(clippy::expect_used, reason = "only UTF-8 is parsed")]
        String::from_utf8(self.body.into_bytes()).expect("only UTF-8 is parsed")
    }
}

impl EventHead {
    /// Reads the head of a body that a secret has signed, while it is still open whose secret that is.
    pub(crate) fn parse_signed(body: &[u8]) -> Result<Self, NotUnderstood> {
        let head = Self::read_signed(body)?;
        if head.event.trim().is_empty() {
            return Err(NotUnderstood::NoEvent);
        }
        if head.event_id.trim().is_empty() && !head.is_test() {
            return Err(NotUnderstood::NoEventId);
        }
        Ok(head)
    }

    /// The same of a JSON object that need not be an event.
    pub(crate) fn read_signed(body: &[u8]) -> Result<Self, NotUnderstood> {
        let text = std::str::from_utf8(body).map_err(|e| NotUnderstood::NotUtf8(e.valid_up_to()))?;
        let JsonHead(head) = serde_json::from_str(text).map_err(|e| match e.classify() {
            // The text of such an error quotes the value.
            serde_json::error::Category::Data => NotUnderstood::NotAnObject,
            _ => NotUnderstood::NotJson(e),
        })?;
        Ok(head)
    }

    /// The kind of row: the body's `Entity`, or the event's name up to its last dot.
    pub fn entity(&self) -> &str {
        match &self.entity {
            Some(entity) => entity,
            None => self.event.rsplit_once('.').map_or(self.event.as_str(), |(entity, _)| entity),
        }
    }

    /// Whether this is the probe that SuperOffice sends when a webhook is saved.
    pub fn is_test(&self) -> bool {
        self.event.eq_ignore_ascii_case("test")
    }

    /// Whether the event says so little of its tenant that it may be any of them: SuperOffice writes `Default`, or
    /// nothing, where there is none.
    pub(crate) fn names_no_tenant(&self) -> bool {
        self.context_identifier.as_deref().is_none_or(|tenant| tenant == "Default")
    }

    /// Whether SuperOffice says here that it has switched the webhook off: `webhook.errors`, or with the webhook's
    /// number, `webhook7.errors`.
    pub fn says_webhook_disabled(&self) -> bool {
        let event = self.event.to_ascii_lowercase();
        event
            .strip_prefix("webhook")
            .and_then(|rest| rest.strip_suffix(".errors"))
            .is_some_and(|id| id.bytes().all(|b| b.is_ascii_digit()))
    }
}

/// A head as JSON has it. The errors of its deserialisation can quote the body, so it is private.
struct JsonHead(EventHead);

impl<'de> Deserialize<'de> for JsonHead {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(HeadVisitor).map(Self)
    }
}

/// Picks the known fields and passes over the rest. A derived `Deserialize` would refuse a field of an unexpected
/// type, or one that is given twice.
struct HeadVisitor;

impl<'de> Visitor<'de> for HeadVisitor {
    type Value = EventHead;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<EventHead, A::Error> {
        let mut head = EventHead::default();
        let mut context_identifiers = 0;
        while let Some((name, value)) = map.next_entry::<&'de RawValue, &'de RawValue>()? {
            match field_name(name).as_ref() {
                "Event" => head.event = text(value).unwrap_or_default(),
                "EventId" => head.event_id = text(value).unwrap_or_default(),
                "Entity" => head.entity = text(value),
                "PrimaryKey" => head.primary_key = value.get().parse().ok(),
                "ContextIdentifier" => {
                    context_identifiers += 1;
                    head.context_identifier = text(value);
                }
                "WebhookName" => head.webhook_name = text(value),
                "Timestamp" => head.timestamp = text(value),
                name if name.eq_ignore_ascii_case("ContextIdentifier") => head.context_identifier_ambiguous = true,
                _ => {}
            }
        }
        head.context_identifier_ambiguous |= context_identifiers > 1;
        Ok(head)
    }
}

/// A field's name, read from its JSON: a `String` key would refuse the whole body for a lone surrogate in it, and bytes
/// would let a name pass that is not JSON. A name that is no text stays as it was written.
pub(crate) fn field_name(json: &RawValue) -> Cow<'_, str> {
    let quoted = json.get();
    let written = &quoted[1..quoted.len() - 1];
    match serde_json::from_str(quoted) {
        Ok(name) if written.contains('\\') => Cow::Owned(name),
        _ => Cow::Borrowed(written),
    }
}

/// A JSON string that is not empty.
fn text(value: &RawValue) -> Option<String> {
    serde_json::from_str::<String>(value.get()).ok().filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(body: &str) -> Result<EventHead, String> {
        EventHead::parse_signed(body.as_bytes()).map_err(|e| e.to_string())
    }

    #[test]
    fn the_head_is_picked_from_whatever_else_is_there() {
        let body = r#"{
            "EventId": "e1", "Event": "contact.changed", "Entity": "contact", "PrimaryKey": 994863, "Changes": ["name"],
            "FieldValues": {"x": [1.50e3, {"deep": null}]}, "ContextIdentifier": "Cust1", "WebhookName": "CRM",
            "Timestamp": "2018-04-24T07:50:50.6812131Z", "Later": "added"
        }"#;
        assert_eq!(
            head(body),
            Ok(EventHead {
                event: "contact.changed".into(),
                event_id: "e1".into(),
                entity: Some("contact".into()),
                primary_key: Some(994_863),
                context_identifier: Some("Cust1".into()),
                webhook_name: Some("CRM".into()),
                timestamp: Some("2018-04-24T07:50:50.6812131Z".into()),
                context_identifier_ambiguous: false,
            })
        );
    }

    #[test]
    fn a_field_of_another_type_is_as_good_as_missing() {
        for value in ["null", "\"\"", "7.5", "[]", "{}", "true", r#""\ud800""#] {
            let body = format!(
                r#"{{"Event":"contact.changed","EventId":"1","Entity":{value},"PrimaryKey":{value},
                "ContextIdentifier":{value},"WebhookName":{value},"Timestamp":{value},"\ud800":{value}}}"#
            );
            let expected = EventHead { event: "contact.changed".into(), event_id: "1".into(), ..EventHead::default() };
            assert_eq!(head(&body), Ok(expected), "{value}");
        }
    }

    #[test]
    fn a_primary_key_is_a_json_integer() {
        for (value, expected) in [
            ("0", Some(0)),
            ("-3", Some(-3)),
            ("9223372036854775807", Some(i64::MAX)),
            ("9223372036854775808", None),
            ("1.0", None),
            ("1e3", None),
            (r#""21""#, None),
        ] {
            let body = format!(r#"{{"Event":"contact.changed","EventId":"1","PrimaryKey":{value}}}"#);
            assert_eq!(head(&body).unwrap().primary_key, expected, "{value}");
        }
    }

    #[test]
    fn a_body_that_is_not_understood_says_why_and_quotes_nothing() {
        for (body, reason) in [
            ("", "not JSON: EOF while parsing a value at line 1 column 0"),
            (r#"{"Event":"a" "b":1}"#, "not JSON: expected `,` or `}` at line 1 column 14"),
            (r#"{"Event":"a",}"#, "not JSON: trailing comma at line 1 column 14"),
            (r#"{"Event":"a"} x"#, "not JSON: trailing characters at line 1 column 15"),
            (r#""hush""#, "not a JSON object"),
            ("[1]", "not a JSON object"),
            (
                "{\"a\u{1}\":1}",
                "not JSON: control character (\\u0000-\\u001F) found while parsing a string at line 1 column 3",
            ),
            (
                "{\"a\":\"\t\"}",
                "not JSON: control character (\\u0000-\\u001F) found while parsing a string at line 1 column 6",
            ),
            ("{}", "no usable Event"),
            (r#"{"Event":"  ","EventId":"1"}"#, "no usable Event"),
            (r#"{"Event":["contact.changed"],"EventId":"1"}"#, "no usable Event"),
            (r#"{"Event":"contact.changed","EventId":7}"#, "no usable EventId"),
            (r#"{"Event":"contact.changed","EventId":"1","EventId":null}"#, "no usable EventId"),
        ] {
            assert_eq!(head(body).unwrap_err(), reason, "{body}");
        }
        let reason = EventHead::parse_signed(b"{\"Event\":\"\xff\"}").unwrap_err().to_string();
        assert_eq!(reason, "not UTF-8: invalid byte at offset 10");
    }

    #[test]
    fn of_a_field_given_twice_the_last_one_counts() {
        let head = head(r#"{"Event":"a.b","Event":"c.d","EventId":"1","EventId":"2","PrimaryKey":1,"PrimaryKey":2}"#);
        let head = head.unwrap();
        assert_eq!((head.event.as_str(), head.event_id.as_str(), head.primary_key), ("c.d", "2", Some(2)));
    }

    #[test]
    fn nesting_keeps_no_event_back() {
        let deep =
            format!(r#"{{"x":{}{},"Event":"contact.changed","EventId":"1"}}"#, "[".repeat(5000), "]".repeat(5000));
        assert_eq!(head(&deep).unwrap().event, "contact.changed");
    }

    #[test]
    fn the_entity_is_the_events_name_up_to_its_last_dot_when_the_body_has_none() {
        for (event, entity) in [("contact.changed", "contact"), ("list.110.created", "list.110"), ("odd", "odd")] {
            let body = format!(r#"{{"Event":"{event}","EventId":"1"}}"#);
            assert_eq!(head(&body).unwrap().entity(), entity);
        }
    }

    #[test]
    fn the_probe_is_known_in_any_case_and_needs_no_id() {
        assert!(head(r#"{"Event":"Test"}"#).unwrap().is_test());
        assert!(!head(r#"{"Event":"contact.test","EventId":"1"}"#).unwrap().is_test());
    }

    #[test]
    fn a_disabled_webhook_is_noticed() {
        for (event, disabled) in [
            ("webhook.errors", true),
            ("Webhook12.Errors", true),
            ("webhook.stopped", false),
            ("webhookx.errors", false),
            ("contact.errors", false),
        ] {
            let body = format!(r#"{{"Event":"{event}","EventId":"1"}}"#);
            assert_eq!(head(&body).unwrap().says_webhook_disabled(), disabled, "{event}");
        }
    }
}
