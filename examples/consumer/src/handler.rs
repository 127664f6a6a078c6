//! What is done with an event. Your own work goes here.

use lambda_runtime::Error;
use serde_json::json;
use superoffice_webhook::contact::ContactEventKind;
use superoffice_webhook::delivery::QueuedEvent;

/// Handles an event. One that cannot be handled now is an error, and comes again; one that is of no interest is not.
pub(crate) trait Handler {
    async fn handle(&self, event: &QueuedEvent) -> Result<(), Error>;
}

/// Says in the log what it would do.
pub(crate) struct Contacts {
    /// The id of an event that fails on purpose.
    pub(crate) fails: Option<String>,
}

impl Handler for Contacts {
    async fn handle(&self, event: &QueuedEvent) -> Result<(), Error> {
        let head = &event.event().head;
        if self.fails.as_ref() == Some(&head.event_id) {
            return Err("FAIL_EVENT_ID names this event".into());
        }
        let action = match event {
            QueuedEvent::Contact(contact) => match contact.kind() {
                ContactEventKind::Created | ContactEventKind::Changed => "would write the contact",
                ContactEventKind::SoftDeleted => "would mark the contact as deleted",
                ContactEventKind::Deleted => "would delete the contact",
                ContactEventKind::Other(_) => "no interest in this event",
            },
            QueuedEvent::Other(_) => "no interest in this entity",
        };
        println!(
            "{}",
            json!({
                "event": head.event,
                "eventId": head.event_id,
                "contextIdentifier": head.context_identifier,
                "primaryKey": head.primary_key,
                "action": action,
            })
        );
        Ok(())
    }
}
