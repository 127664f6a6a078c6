//! The fields that identify an event and decide how it is handled.

use jiff::Timestamp;

use crate::webhook::field::{DateTime, Fields};
use crate::webhook::json::{self, JsonError, for_each_field};

/// The `ContextIdentifier` of an on-site installation that names itself. It is no tenant's name.
pub const UNNAMED_TENANT: &str = "Default";

/// The fields that identify an event.
///
/// All but `Event` and `EventId` are optional; a value that is `null`, empty or of the wrong type is treated as absent.
/// If a field is repeated, its last value counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventMetadata {
    pub(crate) event: String,
    pub(crate) event_id: String,
    entity: Option<String>,
    primary_key: Option<i64>,
    pub(crate) context_identifier: Option<String>,
    pub(crate) webhook_name: Option<String>,
    pub(crate) timestamp: Option<String>,
    tenant_field: TenantField,
}

/// The form of the tenant's name in the body. If the field is repeated, JSON parsers differ in the value that they
/// keep. Many programs ignore letter case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum TenantField {
    #[default]
    Absent,
    Unique,
    Ambiguous,
}

/// Errors from parsing a signed body. The text never quotes the body.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ParseError {
    /// The body is not a JSON object.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// `Event` is absent, empty, or not a string.
    #[error("no usable Event")]
    NoEvent,
    /// `Event` has whitespace around it, so no filter would match the event.
    #[error("Event has whitespace around it")]
    EventWithWhitespace,
    /// `EventId` is absent, empty, or not a string.
    #[error("no usable EventId")]
    NoEventId,
    /// `PrimaryKey` is not an integer, but the event is to be forwarded.
    #[error("no usable PrimaryKey")]
    NoPrimaryKey,
    /// The event is to be forwarded, but the body contains a character that no queue message can contain.
    #[error("contains U+FFFE or U+FFFF")]
    Noncharacter,
}

impl EventMetadata {
    /// Parses the metadata of a JSON object. The object need not be an event, see [`EventMetadata::validate`].
    pub(crate) fn parse(body: &[u8]) -> Result<Self, JsonError> {
        let mut metadata = Self::default();
        for_each_field(body, |name, value| metadata.set(name, value))?;
        Ok(metadata)
    }

    /// Returns the metadata of an object that is already parsed.
    pub(crate) fn from_fields(fields: &Fields) -> Self {
        let mut metadata = Self::default();
        for (name, value) in fields.iter() {
            metadata.set(name, value.json());
        }
        metadata
    }

    /// Returns the metadata if it is an event's, see [`EventMetadata::validate`].
    pub(crate) fn validated(self) -> Result<Self, ParseError> {
        self.validate().map(|()| self)
    }

    fn set(&mut self, name: &str, json: &str) {
        match name {
            "Event" => self.event = text(json).unwrap_or_default(),
            "EventId" => self.event_id = text(json).unwrap_or_default(),
            "Entity" => self.entity = text(json),
            "PrimaryKey" => self.primary_key = json.parse().ok(),
            "ContextIdentifier" => {
                self.context_identifier = text(json);
                self.tenant_field = match self.tenant_field {
                    TenantField::Absent => TenantField::Unique,
                    TenantField::Unique | TenantField::Ambiguous => TenantField::Ambiguous,
                };
            }
            "WebhookName" => self.webhook_name = text(json),
            "Timestamp" => self.timestamp = text(json),
            _ if name.eq_ignore_ascii_case("ContextIdentifier") => self.tenant_field = TenantField::Ambiguous,
            _ => {}
        }
    }

    /// Checks that the object is an event. The registration probe needs no `EventId`.
    ///
    /// # Errors
    ///
    /// [`ParseError::NoEvent`], [`ParseError::EventWithWhitespace`] and [`ParseError::NoEventId`].
    pub(crate) fn validate(&self) -> Result<(), ParseError> {
        match self.event.trim() {
            "" => return Err(ParseError::NoEvent),
            trimmed if trimmed.len() < self.event.len() => return Err(ParseError::EventWithWhitespace),
            _ => {}
        }
        if self.event_id.trim().is_empty() && !self.is_test() {
            return Err(ParseError::NoEventId);
        }
        Ok(())
    }

    /// The event's name, `contact.changed`.
    pub fn event(&self) -> &str {
        &self.event
    }

    /// The event's id, a GUID. All attempts of a delivery have the same id. Empty only for a registration probe.
    pub fn event_id(&self) -> &str {
        &self.event_id
    }

    /// The kind of row: `Entity`, or the event's name up to its last dot.
    pub fn entity(&self) -> &str {
        match &self.entity {
            Some(entity) => entity,
            None => self.event.rsplit_once('.').map_or(self.event.as_str(), |(entity, _)| entity),
        }
    }

    /// The row's id. For a contact event, the contact id.
    pub fn primary_key(&self) -> Option<i64> {
        self.primary_key
    }

    /// The tenant in SuperOffice Online, `Cust1234`. On-site installations send no tenant, or `Default`.
    pub fn context_identifier(&self) -> Option<&str> {
        self.context_identifier.as_deref()
    }

    /// The webhook's name, chosen by the customer.
    pub fn webhook_name(&self) -> Option<&str> {
        self.webhook_name.as_deref()
    }

    /// When the event occurred, as SuperOffice wrote it.
    pub fn timestamp(&self) -> Option<&str> {
        self.timestamp.as_deref()
    }

    /// When the event occurred. `None` if `Timestamp` is absent or has no offset.
    pub fn occurred_at(&self) -> Option<Timestamp> {
        match DateTime::parse(self.timestamp()?).ok()?? {
            DateTime::PointInTime(timestamp) => Some(timestamp),
            DateTime::Local(_) | DateTime::Date(_) => None,
        }
    }

    /// Returns `true` if this is the probe that SuperOffice posts when a webhook is saved.
    pub fn is_test(&self) -> bool {
        self.event.eq_ignore_ascii_case("test")
    }

    /// Returns `true` if SuperOffice reports here that the webhook is disabled (`webhook.errors`) or stopped
    /// (`webhook.stopped`). The name may contain the webhook's id: `webhook7.errors`.
    pub fn is_webhook_disabled(&self) -> bool {
        let event = self.event.to_ascii_lowercase();
        event
            .strip_prefix("webhook")
            .and_then(|rest| rest.strip_suffix(".errors").or(rest.strip_suffix(".stopped")))
            .is_some_and(|id| id.bytes().all(|byte| byte.is_ascii_digit()))
    }

    /// Returns `true` if the event names no tenant: `ContextIdentifier` is absent or [`UNNAMED_TENANT`].
    pub(crate) fn has_no_tenant(&self) -> bool {
        self.context_identifier().is_none_or(|tenant| tenant == UNNAMED_TENANT)
    }

    /// Returns `true` if `ContextIdentifier` is repeated, or spelled in another letter case.
    pub(crate) fn has_ambiguous_tenant(&self) -> bool {
        self.tenant_field == TenantField::Ambiguous
    }
}

/// Returns the text of a JSON string that is not empty.
fn text(json: &str) -> Option<String> {
    json::string(json).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: &str) -> Result<EventMetadata, String> {
        let metadata = EventMetadata::parse(body.as_bytes()).map_err(|error| error.to_string())?;
        metadata.validate().map_err(|error| error.to_string())?;
        Ok(metadata)
    }

    #[test]
    fn metadata_is_found_among_other_fields() {
        let body = r#"{
            "EventId": "e1", "Event": "contact.changed", "Entity": "contact", "PrimaryKey": 994863, "Changes": ["name"],
            "FieldValues": {"x": [1.50e3, {"deep": null}]}, "ContextIdentifier": "Cust1", "WebhookName": "CRM",
            "Timestamp": "2018-04-24T07:50:50.6812131Z", "Later": "added"
        }"#;
        assert_eq!(
            parse(body),
            Ok(EventMetadata {
                event: "contact.changed".into(),
                event_id: "e1".into(),
                entity: Some("contact".into()),
                primary_key: Some(994_863),
                context_identifier: Some("Cust1".into()),
                webhook_name: Some("CRM".into()),
                timestamp: Some("2018-04-24T07:50:50.6812131Z".into()),
                tenant_field: TenantField::Unique,
            })
        );
    }

    #[test]
    fn field_of_wrong_type_is_treated_as_absent() {
        for value in ["null", "\"\"", "7.5", "[]", "{}", "true", r#""\ud800""#] {
            let body = format!(
                r#"{{"Event":"contact.changed","EventId":"1","Entity":{value},"PrimaryKey":{value},
                "WebhookName":{value},"Timestamp":{value},"\ud800":{value}}}"#
            );
            let expected =
                EventMetadata { event: "contact.changed".into(), event_id: "1".into(), ..EventMetadata::default() };
            assert_eq!(parse(&body), Ok(expected), "{value}");
            let body = format!(r#"{{"Event":"contact.changed","EventId":"1","ContextIdentifier":{value}}}"#);
            assert_eq!(parse(&body).unwrap().context_identifier(), None, "{value}");
        }
    }

    #[test]
    fn primary_key_is_a_json_integer() {
        for (value, expected) in [
            ("0", Some(0)),
            ("-0", Some(0)),
            ("-3", Some(-3)),
            ("9223372036854775807", Some(i64::MAX)),
            ("9223372036854775808", None),
            ("1.0", None),
            ("1e3", None),
            (r#""21""#, None),
        ] {
            let body = format!(r#"{{"Event":"contact.changed","EventId":"1","PrimaryKey":{value}}}"#);
            assert_eq!(parse(&body).unwrap().primary_key(), expected, "{value}");
        }
    }

    #[test]
    fn object_without_event_or_id_is_not_an_event() {
        for (body, reason) in [
            ("[1]", "not a JSON object"),
            ("{}", "no usable Event"),
            (r#"{"Event":"  ","EventId":"1"}"#, "no usable Event"),
            (r#"{"Event":["contact.changed"],"EventId":"1"}"#, "no usable Event"),
            (r#"{"Event":"contact.changed","EventId":7}"#, "no usable EventId"),
            (r#"{"Event":"contact.changed","EventId":"1","EventId":null}"#, "no usable EventId"),
        ] {
            assert_eq!(parse(body).unwrap_err(), reason, "{body}");
        }
    }

    #[test]
    fn event_with_whitespace_around_it_is_malformed() {
        for space in ('\0'..=char::MAX).filter(|c| c.is_whitespace()) {
            for event in [format!("{space}contact.changed"), format!("contact.changed{space}"), format!("{space}test")]
            {
                let body = serde_json::json!({"Event": event, "EventId": "1", "PrimaryKey": 1}).to_string();
                assert_eq!(parse(&body).unwrap_err(), "Event has whitespace around it", "{body}");
            }
        }
        assert_eq!(parse(r#"{"Event":"a b","EventId":"1"}"#).unwrap().event(), "a b");
    }

    #[test]
    fn repeated_field_last_value_counts() {
        let metadata =
            parse(r#"{"Event":"a.b","Event":"c.d","EventId":"1","EventId":"2","PrimaryKey":1,"PrimaryKey":2}"#)
                .unwrap();
        assert_eq!((metadata.event(), metadata.event_id(), metadata.primary_key()), ("c.d", "2", Some(2)));
    }

    #[test]
    fn repeated_or_respelled_tenant_is_ambiguous() {
        for (fields, ambiguous) in [
            (r#""ContextIdentifier":"A""#, false),
            (r#""ContextIdentifier":"A","ContextIdentifier":"A""#, true),
            (r#""ContextIdentifier":null,"ContextIdentifier":"A""#, true),
            (r#""contextIdentifier":"A""#, true),
            (r#""Context\u0049dentifier":"A""#, false),
        ] {
            let body = format!(r#"{{"Event":"a.b","EventId":"1",{fields}}}"#);
            assert_eq!(parse(&body).unwrap().has_ambiguous_tenant(), ambiguous, "{fields}");
        }
    }

    #[test]
    fn absent_entity_is_taken_from_the_event_name() {
        for (event, entity) in [("contact.changed", "contact"), ("list.110.created", "list.110"), ("odd", "odd")] {
            let body = format!(r#"{{"Event":"{event}","EventId":"1"}}"#);
            assert_eq!(parse(&body).unwrap().entity(), entity);
        }
    }

    #[test]
    fn registration_probe_is_recognized_in_any_case_without_an_id() {
        assert!(parse(r#"{"Event":"Test"}"#).unwrap().is_test());
        assert!(!parse(r#"{"Event":"contact.test","EventId":"1"}"#).unwrap().is_test());
    }

    #[test]
    fn disabled_or_stopped_webhook_is_recognized() {
        for (event, disabled) in [
            ("webhook.errors", true),
            ("Webhook12.Errors", true),
            ("webhook.stopped", true),
            ("webhook7.STOPPED", true),
            ("webhook.started", false),
            ("webhookx.errors", false),
            ("contact.errors", false),
        ] {
            let body = format!(r#"{{"Event":"{event}","EventId":"1"}}"#);
            assert_eq!(parse(&body).unwrap().is_webhook_disabled(), disabled, "{event}");
        }
    }
}
