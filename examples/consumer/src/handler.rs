//! The work for each event. Replace it with your own.

use serde_json::json;
use superoffice_consumer::{Handler, HandlerError};
use superoffice_webhook::{ContactEventKind, QueuedEvent};

/// A handler that only logs the action it would take.
pub(crate) struct ContactHandler {
    /// The id of an event that fails on purpose.
    pub(crate) fail_event_id: Option<String>,
}

impl Handler for ContactHandler {
    async fn handle(&self, event: &QueuedEvent) -> Result<(), HandlerError> {
        let metadata = event.event().metadata();
        if self.fail_event_id.as_deref() == Some(metadata.event_id()) {
            return Err("FAIL_EVENT_ID is the id of this event".into());
        }
        let (name, key) = (metadata.event(), metadata.primary_key());
        println!(
            "{}",
            json!({"event": name, "eventId": metadata.event_id(), "primaryKey": key, "action": action(event)})
        );
        Ok(())
    }
}

fn action(event: &QueuedEvent) -> &'static str {
    let QueuedEvent::Contact(contact) = event else {
        return "ignores the event";
    };
    match contact.kind() {
        ContactEventKind::Deleted => "would delete the contact",
        ContactEventKind::SoftDeleted => "would mark the contact as deleted",
        // The event has no names. So the contact's current state is read from SuperOffice.
        _ => "would read the contact from SuperOffice, and write its current state",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(name: &str) -> QueuedEvent {
        let body = json!({"EventId": "1", "Event": name, "PrimaryKey": 21}).to_string();
        QueuedEvent::from_message(&body, |_| None).unwrap()
    }

    #[test]
    fn event_kind_determines_action() {
        let reads = "would read the contact from SuperOffice, and write its current state";
        for (name, expected) in [
            ("contact.changed", reads),
            ("contact.resync", reads),
            ("contact.softdeleted", "would mark the contact as deleted"),
            ("contact.deleted", "would delete the contact"),
            ("sale.changed", "ignores the event"),
        ] {
            assert_eq!(action(&event(name)), expected, "{name}");
        }
    }

    #[tokio::test]
    async fn event_with_fail_event_id_fails() {
        let handler = ContactHandler { fail_event_id: Some("1".into()) };
        let error = handler.handle(&event("contact.changed")).await.unwrap_err();
        assert_eq!(error.to_string(), "FAIL_EVENT_ID is the id of this event");
        let handler = ContactHandler { fail_event_id: Some("2".into()) };
        handler.handle(&event("contact.changed")).await.unwrap();
    }
}
