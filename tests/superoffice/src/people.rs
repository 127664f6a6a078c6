//! The changes that people and mishaps make in SuperOffice.

use jiff::Timestamp;
use serde_json::Value;

use crate::{Contact, SuperOffice, Webhook, webhook};

impl SuperOffice {
    /// Creates a contact, which raises `contact.created`.
    pub fn create_contact(&self) -> i64 {
        self.shared.raise(|tenant| tenant.create_contact(None))
    }

    /// Changes a contact, which raises `contact.changed`.
    pub fn change_contact(&self, id: i64) {
        self.shared.raise(|tenant| tenant.change_contact(id, None));
    }

    /// Deletes a contact as a person does, which raises `contact.softdeleted`.
    pub fn soft_delete_contact(&self, id: i64) {
        self.shared.raise(|tenant| tenant.soft_delete_contact(id));
    }

    /// Merges a contact into another one, which raises `contact.deleted` and `contact.changed`.
    pub fn merge_contacts(&self, source: i64, destination: i64) {
        self.shared.raise(|tenant| tenant.merge_contacts(source, destination));
    }

    /// Adds contacts that were created at a time, without any event.
    pub fn import_contacts(&self, count: i64, registered: Timestamp) {
        self.tenant().import_contacts(count, registered);
    }

    /// Drops every event that is waiting, which is how events are lost without a failed delivery.
    pub fn lose_waiting_events(&self) {
        self.shared.raise(|tenant| tenant.waiting.clear());
    }

    /// Changes a contact, and loses the event.
    pub fn change_contact_silently(&self, id: i64) {
        self.tenant().change_contact_silently(id);
    }

    /// Makes the sender hold events back, or go on.
    pub fn pause_sender(&self, paused: bool) {
        self.shared.raise(|tenant| tenant.paused = paused);
    }

    /// Waits until the sender has delivered or discarded every event.
    pub async fn idle(&self) {
        self.shared.idle().await;
    }

    /// Returns the webhooks, in order of their ids.
    pub fn webhooks(&self) -> Vec<Webhook> {
        self.tenant().webhooks.values().cloned().collect()
    }

    /// Adds a webhook without a test, and returns its id.
    pub fn add_webhook(&self, properties: Value) -> i64 {
        let properties = properties.as_object().expect("a webhook is an object");
        self.tenant().add_webhook(webhook::read(properties).expect("a valid webhook"))
    }

    /// Sets a property of a webhook, as a person does in the user interface.
    pub fn set_property(&self, webhook: i64, name: &str, value: Value) {
        self.shared.raise(|tenant| tenant.set_property(webhook, name, &value));
    }

    /// Returns the contacts, in order of their ids.
    pub fn contacts(&self) -> Vec<Contact> {
        self.tenant().contacts.values().cloned().collect()
    }
}
