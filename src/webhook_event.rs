//! An event of any entity, as a consumer reads it: everything that is in the body.

use jiff::Timestamp;

use crate::event::{EventHead, NotUnderstood};
use crate::field::{FieldValue, Fields};
use crate::timestamp::is_rfc3339;

/// An event. Read one from a queue message with [`delivery::read`](crate::delivery::read).
///
/// Nothing but `Event` and `EventId` is needed to be there; what is `null` or of an unexpected type is as good as
/// missing, and in [`WebhookEvent::fields`] all the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookEvent {
    /// What identifies the event.
    pub head: EventHead,
    /// `Changes`: the names of the database columns that changed.
    pub changes: Vec<String>,
    /// `ChangedByAssociateId`: the user who triggered the event, `0` for the system.
    pub changed_by_associate_id: Option<i64>,
    /// `FieldValues`: column name and value, from newer servers.
    pub field_values: Fields,
    /// `Values`: column name and value, from older servers.
    pub values: Fields,
    /// Every field of the body, the known ones too, as it was written.
    pub fields: Fields,
}

impl WebhookEvent {
    /// Reads the JSON document that SuperOffice sent.
    pub(crate) fn parse(json: &[u8]) -> Result<Self, NotUnderstood> {
        let head = EventHead::parse_signed(json)?;
        let fields: Fields = serde_json::from_slice(json).map_err(NotUnderstood::NotJson)?;
        let object = |name| fields.get(name).and_then(|field| serde_json::from_str(field.json()).ok());
        Ok(Self {
            head,
            changes: fields.get("Changes").map(texts).unwrap_or_default(),
            changed_by_associate_id: fields.get("ChangedByAssociateId").and_then(FieldValue::integer),
            field_values: object("FieldValues").unwrap_or_default(),
            values: object("Values").unwrap_or_default(),
            fields,
        })
    }

    /// A column's value, from `FieldValues` or else from `Values`; `null` counts as none.
    pub fn column(&self, name: &str) -> Option<&FieldValue> {
        let in_fields = |fields: &'_ Fields| fields.get(name).is_some_and(|value| value.json() != "null");
        [&self.field_values, &self.values].into_iter().find(|fields| in_fields(fields))?.get(name)
    }

    /// When the event occurred.
    pub fn occurred_at(&self) -> Option<Timestamp> {
        self.head.timestamp.as_deref().filter(|timestamp| is_rfc3339(timestamp))?.parse().ok()
    }
}

/// The strings of an array.
fn texts(array: &FieldValue) -> Vec<String> {
    let values: Vec<serde_json::Value> = serde_json::from_str(array.json()).unwrap_or_default();
    values.iter().filter_map(|value| value.as_str()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> WebhookEvent {
        WebhookEvent::parse(json.as_bytes()).unwrap()
    }

    #[test]
    fn everything_in_the_body_is_there() {
        let event = parse(
            r#"{"EventId":"1","Timestamp":"2018-04-24T07:50:50.6812131Z","Event":"sale.changed","Entity":"sale",
            "PrimaryKey":7,"Changes":["amount","status"],"ChangedByAssociateId":12,"FieldValues":{"amount":12.50},
            "Values":{"sale_id":7},"ContextIdentifier":"Cust1234","WebhookName":"hook","Properties":{"a":[1,{}]}}"#,
        );
        assert_eq!(event.head.entity(), "sale");
        assert_eq!(event.changes, ["amount", "status"]);
        assert_eq!(event.changed_by_associate_id, Some(12));
        assert_eq!(event.field_values.get("amount").unwrap().json(), "12.50");
        assert_eq!(event.values.get("sale_id").unwrap().integer(), Some(7));
        assert_eq!(event.occurred_at(), Some("2018-04-24T07:50:50.6812131Z".parse().unwrap()));
        assert_eq!(event.fields.get("Properties").unwrap().json(), r#"{"a":[1,{}]}"#);
        assert_eq!(event.fields.len(), 12);
    }

    #[test]
    fn fields_of_unexpected_types_are_as_good_as_missing_and_still_there() {
        let event = parse(
            r#"{"EventId":"1","Event":"sale.changed","Timestamp":"yesterday","Changes":"amount","FieldValues":[1],
            "Values":null,"ChangedByAssociateId":{}}"#,
        );
        assert_eq!(event.changes, [""; 0]);
        assert_eq!(event.changed_by_associate_id, None);
        assert!(event.field_values.is_empty() && event.values.is_empty());
        assert_eq!(event.occurred_at(), None);
        assert_eq!(event.fields.get("FieldValues").unwrap().json(), "[1]");
        assert_eq!(parse(r#"{"EventId":"1","Event":"e","Changes":["a",1,null,"b"]}"#).changes, ["a", "b"]);
    }

    #[test]
    fn field_values_go_before_values() {
        let event = parse(
            r#"{"EventId":"1","Event":"e","FieldValues":{"a":1,"b":null},"Values":{"a":2,"b":3,"c":4,"d":null}}"#,
        );
        let column = |name| event.column(name).map(FieldValue::json);
        assert_eq!(
            [column("a"), column("b"), column("c"), column("d"), column("e")],
            [Some("1"), Some("3"), Some("4"), None, None]
        );
    }
}
