//! The work for each event. Replace it with your own.

use serde_json::json;
use superoffice_consumer::{Handler, HandlerError};
use superoffice_webhook::{ContactEventKind, QueuedEvent};

/// The effect of an event on the consumer's copy of a contact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    /// Write the values that the event contains.
    Write,
    /// Read the contact's current state from SuperOffice (`GET api/v1/Contact/{id}`) and write it.
    ///
    /// `contact.resync` says that changes were lost, but not which. So the event's own values are not used.
    /// If the response is 404, delete the contact. If its `Deleted` is not 0, mark the contact as deleted.
    Reload,
    /// Mark the contact as deleted. SuperOffice still has it in its recycle bin.
    MarkDeleted,
    /// Delete the contact.
    Delete,
    /// None: the consumer has no use for the event.
    Ignore,
}

impl Action {
    fn for_event(event: &QueuedEvent) -> Self {
        let QueuedEvent::Contact(contact) = event else {
            return Self::Ignore;
        };
        match contact.kind() {
            ContactEventKind::Created | ContactEventKind::Changed => Self::Write,
            ContactEventKind::Resync => Self::Reload,
            ContactEventKind::SoftDeleted => Self::MarkDeleted,
            ContactEventKind::Deleted => Self::Delete,
            // Kinds that this consumer does not know, today or in a later version of the library.
            _ => Self::Ignore,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Write => "would write the contact",
            Self::Reload => "would read the contact from SuperOffice and write its current state",
            Self::MarkDeleted => "would mark the contact as deleted",
            Self::Delete => "would delete the contact",
            Self::Ignore => "ignores the event",
        }
    }
}

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
        println!(
            "{}",
            json!({
                "event": metadata.event(),
                "eventId": metadata.event_id(),
                "contextIdentifier": metadata.context_identifier(),
                "primaryKey": metadata.primary_key(),
                "action": Action::for_event(event).as_str(),
            })
        );
        Ok(())
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
        for (name, action) in [
            ("contact.created", Action::Write),
            ("contact.changed", Action::Write),
            ("contact.resync", Action::Reload),
            ("contact.softdeleted", Action::MarkDeleted),
            ("contact.deleted", Action::Delete),
            ("contact.merged", Action::Ignore),
            ("sale.changed", Action::Ignore),
        ] {
            assert_eq!(Action::for_event(&event(name)), action, "{name}");
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
