//! Contact events, with typed columns.

use crate::webhook::event::WebhookEvent;
use crate::webhook::field::{DateTime, FieldValue};

/// An event of a contact: a company or an organization in SuperOffice.
///
/// SuperOffice sends some columns in `FieldValues` or, on older servers, in `Values`. A column is converted when it is
/// read. An accessor returns `None` if the column is absent or has another type; its JSON stays available through
/// [`WebhookEvent::column`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContactEvent {
    kind: ContactEventKind,
    contact_id: i64,
    event: WebhookEvent,
}

/// The kind of a contact event.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ContactEventKind {
    /// `contact.created`
    Created,
    /// `contact.changed`
    Changed,
    /// `contact.softdeleted`: deleted by a user. Users can restore the contact for about 14 days.
    SoftDeleted,
    /// `contact.deleted`: permanently deleted by the system.
    Deleted,
    /// `contact.resync`: an event may have been lost. The consumer reads the contact's current state from SuperOffice.
    /// The contact may no longer exist. `Changes` and the columns are empty.
    Resync,
    /// Any other event, by its full name.
    Other(String),
}

impl ContactEventKind {
    fn from_name(event: &str) -> Self {
        match event.to_ascii_lowercase().as_str() {
            "contact.created" => Self::Created,
            "contact.changed" => Self::Changed,
            "contact.softdeleted" => Self::SoftDeleted,
            "contact.deleted" => Self::Deleted,
            "contact.resync" => Self::Resync,
            _ => Self::Other(event.to_owned()),
        }
    }
}

impl ContactEvent {
    /// The kind of the event.
    pub fn kind(&self) -> &ContactEventKind {
        &self.kind
    }

    /// The contact's id, `PrimaryKey` in the body.
    pub fn contact_id(&self) -> i64 {
        self.contact_id
    }

    /// The event's id, the same for every attempt of a delivery. Consumers use it for idempotency.
    pub fn event_id(&self) -> &str {
        self.event.metadata().event_id()
    }

    /// The tenant in SuperOffice Online, `Cust1234`. On-site installations send no tenant, or `Default`.
    pub fn tenant(&self) -> Option<&str> {
        self.event.metadata().context_identifier()
    }

    /// The names of the changed database columns. Empty if the contact was permanently deleted, and for
    /// `contact.resync`.
    pub fn changes(&self) -> &[String] {
        self.event.changes()
    }

    /// Returns `true` if the column is among the changed ones. Letter case and underscores are ignored.
    pub fn changed(&self, column: &str) -> bool {
        self.event.changed(column)
    }

    /// `country_id`
    pub fn country_id(&self) -> Option<i64> {
        self.integer("country_id")
    }

    /// `associate_id`: the user responsible for the contact.
    pub fn associate_id(&self) -> Option<i64> {
        self.integer("associate_id")
    }

    /// `category_idx`
    pub fn category_idx(&self) -> Option<i64> {
        self.integer("category_idx")
    }

    /// `business_idx`
    pub fn business_idx(&self) -> Option<i64> {
        self.integer("business_idx")
    }

    /// `registered_associate_id`: the user who created the contact.
    pub fn registered_associate_id(&self) -> Option<i64> {
        self.integer("registered_associate_id")
    }

    /// `source`
    pub fn source(&self) -> Option<i64> {
        self.integer("source")
    }

    /// `activeInterests`: the number of selected interests.
    pub fn active_interests(&self) -> Option<i64> {
        self.integer("activeInterests")
    }

    /// `userdef_id`: the row of user-defined fields.
    pub fn userdef_id(&self) -> Option<i64> {
        self.integer("userdef_id")
    }

    /// `userdef2_id`: the second row of user-defined fields.
    pub fn userdef2_id(&self) -> Option<i64> {
        self.integer("userdef2_id")
    }

    /// `deleted`: `true` if the contact is deleted.
    pub fn deleted(&self) -> Option<bool> {
        self.event.column("deleted")?.boolean()
    }

    /// `DeletedDate`: when the contact was deleted.
    pub fn deleted_date(&self) -> Option<DateTime> {
        self.date("DeletedDate")
    }

    /// `registered`: when the contact was created.
    pub fn registered(&self) -> Option<DateTime> {
        self.date("registered")
    }

    /// `updated`: when the contact was last changed.
    pub fn updated(&self) -> Option<DateTime> {
        self.date("updated")
    }

    /// The event with every field of the body.
    pub fn event(&self) -> &WebhookEvent {
        &self.event
    }

    /// Consumes the contact event and returns the event with every field of the body.
    pub fn into_event(self) -> WebhookEvent {
        self.event
    }

    fn integer(&self, column: &str) -> Option<i64> {
        self.event.column(column).and_then(FieldValue::integer)
    }

    fn date(&self, column: &str) -> Option<DateTime> {
        self.event.column(column).and_then(FieldValue::date)
    }
}

impl TryFrom<WebhookEvent> for ContactEvent {
    type Error = WebhookEvent;

    /// Returns the event unchanged if it is not a contact event or has no `PrimaryKey`.
    fn try_from(event: WebhookEvent) -> Result<Self, WebhookEvent> {
        let metadata = event.metadata();
        match metadata.primary_key() {
            Some(contact_id) if metadata.entity().eq_ignore_ascii_case("contact") => {
                Ok(Self { kind: ContactEventKind::from_name(metadata.event()), contact_id, event })
            }
            _ => Err(event),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contact(json: &str) -> ContactEvent {
        ContactEvent::try_from(WebhookEvent::parse(json.as_bytes()).unwrap()).unwrap()
    }

    #[test]
    fn kind_is_taken_from_the_event_name() {
        let kind = |event| contact(&format!(r#"{{"EventId":"1","Event":"{event}","PrimaryKey":21}}"#)).kind;
        assert_eq!(kind("contact.created"), ContactEventKind::Created);
        assert_eq!(kind("contact.changed"), ContactEventKind::Changed);
        assert_eq!(kind("contact.softdeleted"), ContactEventKind::SoftDeleted);
        assert_eq!(kind("Contact.Deleted"), ContactEventKind::Deleted);
        assert_eq!(kind("contact.resync"), ContactEventKind::Resync);
        assert_eq!(kind("contact.Merged"), ContactEventKind::Other("contact.Merged".to_owned()));
    }

    #[test]
    fn columns_are_converted_to_their_types() {
        let event = contact(
            r#"{"EventId":"1","Event":"contact.changed","Entity":"contact","PrimaryKey":21,"ContextIdentifier":"Cust1",
            "Changes":["category_idx","Name"],"FieldValues":{"activeInterests":3,"associate_id":"103",
            "business_idx":"[I:6]","category_idx":2,"country_id":578,"deleted":1,"DeletedDate":"2025-05-14T10:48:07+02:00",
            "registered":"2020-02-16T17:50:17","registered_associate_id":104,"source":3,"updated":"0001-01-01T00:00:00",
            "userdef2_id":8,"userdef_id":9,"new_column":"kept"}}"#,
        );
        assert_eq!(event.contact_id(), 21);
        assert_eq!(event.event_id(), "1");
        assert_eq!(event.tenant(), Some("Cust1"));
        assert_eq!(event.changes(), ["category_idx", "Name"]);
        assert!(event.changed("name") && !event.changed("country_id"));
        assert_eq!(event.active_interests(), Some(3));
        assert_eq!(event.associate_id(), Some(103));
        assert_eq!(event.business_idx(), Some(6));
        assert_eq!(event.category_idx(), Some(2));
        assert_eq!(event.country_id(), Some(578));
        assert_eq!(event.deleted(), Some(true));
        assert_eq!(event.deleted_date(), Some(DateTime::PointInTime("2025-05-14T08:48:07Z".parse().unwrap())));
        assert_eq!(event.registered(), Some(DateTime::Local("2020-02-16T17:50:17".parse().unwrap())));
        assert_eq!(event.registered_associate_id(), Some(104));
        assert_eq!(event.source(), Some(3));
        assert_eq!(event.updated(), None);
        assert_eq!((event.userdef_id(), event.userdef2_id()), (Some(9), Some(8)));
        assert_eq!(event.event().column("new_column").unwrap().text().as_deref(), Some("kept"));
        assert_eq!(event.into_event().field_values().len(), 14);
    }

    #[test]
    fn columns_of_older_server_are_read_from_values() {
        let event = contact(
            r#"{"EventId":"1","Event":"contact.deleted","PrimaryKey":21,"Changes":[],"Values":{"associate_id":"5"}}"#,
        );
        assert_eq!((event.associate_id(), event.country_id(), event.deleted()), (Some(5), None, None));
        assert_eq!((event.tenant(), event.changes()), (None, [].as_slice()));
    }

    #[test]
    fn event_of_another_entity_is_returned_unchanged() {
        for json in [
            r#"{"EventId":"1","Event":"sale.created","PrimaryKey":7}"#,
            r#"{"EventId":"1","Event":"contact.created","PrimaryKey":"7"}"#,
        ] {
            let event = WebhookEvent::parse(json.as_bytes()).unwrap();
            assert_eq!(ContactEvent::try_from(event.clone()), Err(event));
        }
    }
}
