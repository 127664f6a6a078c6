//! Events of any entity, with every field of the body.

use jiff::Timestamp;

use crate::webhook::field::{FieldValue, Fields, is_same_column};
use crate::webhook::metadata::{EventMetadata, ParseError};

/// An event of any entity. Decoded from a queue message with
/// [`QueuedEvent::from_message`](crate::QueuedEvent::from_message).
///
/// Only `Event` and `EventId` are required. A field that is `null` or of the wrong type is treated as absent, and stays
/// available in [`WebhookEvent::fields`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookEvent {
    metadata: EventMetadata,
    changes: Vec<String>,
    changed_by_associate_id: Option<i64>,
    field_values: Fields,
    values: Fields,
    fields: Fields,
}

impl WebhookEvent {
    /// Parses a request body. A byte order mark before the JSON is ignored.
    ///
    /// # Errors
    ///
    /// [`ParseError`] if the body is malformed.
    pub fn parse(json: &[u8]) -> Result<Self, ParseError> {
        let fields = Fields::parse(json)?;
        let metadata = EventMetadata::from_fields(&fields).validated()?;
        Ok(Self {
            metadata,
            changes: fields.get("Changes").map(FieldValue::texts).unwrap_or_default(),
            changed_by_associate_id: fields.get("ChangedByAssociateId").and_then(FieldValue::integer),
            field_values: fields.get("FieldValues").and_then(FieldValue::object).unwrap_or_default(),
            values: fields.get("Values").and_then(FieldValue::object).unwrap_or_default(),
            fields,
        })
    }

    /// The fields that identify the event.
    pub fn metadata(&self) -> &EventMetadata {
        &self.metadata
    }

    /// `Changes`: the names of the changed database columns.
    pub fn changes(&self) -> &[String] {
        &self.changes
    }

    /// Returns `true` if a column is among the changed ones. Letter case and underscores are ignored.
    pub fn changed(&self, column: &str) -> bool {
        self.changes.iter().any(|change| is_same_column(change, column))
    }

    /// `ChangedByAssociateId`: the user who caused the event, `0` for the system.
    pub fn changed_by_associate_id(&self) -> Option<i64> {
        self.changed_by_associate_id
    }

    /// `FieldValues`: columns and their values, from newer servers.
    pub fn field_values(&self) -> &Fields {
        &self.field_values
    }

    /// `Values`: columns and their values, from older servers and for `contact.deleted`.
    pub fn values(&self) -> &Fields {
        &self.values
    }

    /// Every field of the body, exactly as written.
    pub fn fields(&self) -> &Fields {
        &self.fields
    }

    /// Returns a column's value from `FieldValues`, otherwise from `Values`. `null` is treated as absent. The name may
    /// differ as in [`Fields::column`].
    pub fn column(&self, name: &str) -> Option<&FieldValue> {
        [&self.field_values, &self.values]
            .into_iter()
            .find_map(|fields| fields.column(name).filter(|value| !value.is_null()))
    }

    /// When the event occurred. `None` if `Timestamp` is absent or has no offset.
    pub fn occurred_at(&self) -> Option<Timestamp> {
        self.metadata.occurred_at()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> WebhookEvent {
        WebhookEvent::parse(json.as_bytes()).unwrap()
    }

    #[test]
    fn every_field_of_the_body_is_available() {
        let event = parse(
            r#"{"EventId":"1","Timestamp":"2018-04-24T07:50:50.6812131Z","Event":"sale.changed","Entity":"sale",
            "PrimaryKey":7,"Changes":["amount","status"],"ChangedByAssociateId":12,"FieldValues":{"amount":12.50},
            "Values":{"sale_id":7},"ContextIdentifier":"Cust1234","WebhookName":"hook","Properties":{"a":[1,{}]}}"#,
        );
        assert_eq!(event.metadata().entity(), "sale");
        assert_eq!(event.changes(), ["amount", "status"]);
        assert!(event.changed("Amount") && event.changed("sta_tus") && !event.changed("state"));
        assert_eq!(event.changed_by_associate_id(), Some(12));
        assert_eq!(event.field_values().get("amount").unwrap().json(), "12.50");
        assert_eq!(event.values().get("sale_id").unwrap().integer(), Some(7));
        assert_eq!(event.occurred_at(), Some("2018-04-24T07:50:50.6812131Z".parse().unwrap()));
        assert_eq!(event.fields().get("Properties").unwrap().json(), r#"{"a":[1,{}]}"#);
        assert_eq!(event.fields().len(), 12);
    }

    #[test]
    fn field_of_wrong_type_is_treated_as_absent_and_kept() {
        let event = parse(
            r#"{"EventId":"1","Event":"sale.changed","Timestamp":"yesterday","Changes":"amount","FieldValues":[1],
            "Values":null,"ChangedByAssociateId":{}}"#,
        );
        assert_eq!(event.changes(), [""; 0]);
        assert_eq!(event.changed_by_associate_id(), None);
        assert!(event.field_values().is_empty() && event.values().is_empty());
        assert_eq!(event.occurred_at(), None);
        assert_eq!(event.fields().get("FieldValues").unwrap().json(), "[1]");
        assert_eq!(parse(r#"{"EventId":"1","Event":"e","Changes":["a",1,null,"b"]}"#).changes(), ["a", "b"]);
    }

    #[test]
    fn column_of_another_spelling_is_found_unless_several_match() {
        let event = parse(
            r#"{"EventId":"1","Event":"e","FieldValues":{"associateId":1,"AlertLevel":2,"a_b":3,"AB":4,"x_y":5,"xY":6,
            "Z":7,"z":8}}"#,
        );
        for (name, value) in [
            ("associate_id", Some("1")),
            ("associateId", Some("1")),
            ("alert_level", Some("2")),
            ("alertLevel", Some("2")),
            ("ab", Some("4")),
            ("A_B", Some("3")),
            ("xy", Some("6")),
            ("_xy", None),
            ("Z", Some("7")),
            ("_z", None),
            ("y", None),
        ] {
            assert_eq!(event.column(name).map(FieldValue::json), value, "{name}");
        }
    }

    #[test]
    fn column_prefers_field_values_and_ignores_case() {
        let event = parse(
            r#"{"EventId":"1","Event":"e","FieldValues":{"a":1,"b":null},"Values":{"a":2,"b":3,"C":4,"d":null}}"#,
        );
        let column = |name| event.column(name).map(FieldValue::json);
        assert_eq!(
            [column("a"), column("b"), column("c"), column("d"), column("e")],
            [Some("1"), Some("3"), Some("4"), None, None]
        );
    }
}
