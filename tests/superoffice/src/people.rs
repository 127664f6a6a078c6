//! The changes that people and mishaps make in SuperOffice.

use jiff::Timestamp;
use serde_json::Value;

use crate::{Kind, Record, SuperOffice, Webhook, webhook};

impl SuperOffice {
    /// Creates a record, which raises `contact.created` or `person.created`.
    pub fn create(&self, kind: Kind) -> i64 {
        self.shared.raise(|tenant| tenant.create(kind, None))
    }

    /// Changes a record, which raises `contact.changed` or `person.changed`.
    pub fn change(&self, kind: Kind, id: i64) {
        self.shared.raise(|tenant| tenant.change(kind, id, None));
    }

    /// Deletes a record as a user does, which raises `contact.softdeleted` or `person.softdeleted`.
    pub fn soft_delete(&self, kind: Kind, id: i64) {
        self.shared.raise(|tenant| tenant.soft_delete(kind, id));
    }

    /// Restores a record that a user deleted, which raises `contact.changed` or `person.changed`.
    pub fn restore(&self, kind: Kind, id: i64) {
        self.shared.raise(|tenant| tenant.restore(kind, id));
    }

    /// Deletes a record for ever, which raises `contact.deleted` or `person.deleted`.
    pub fn delete(&self, kind: Kind, id: i64) {
        self.shared.raise(|tenant| tenant.delete(kind, id));
    }

    /// Merges a record into another one, which raises `deleted` and `changed`.
    pub fn merge(&self, kind: Kind, source: i64, destination: i64) {
        self.shared.raise(|tenant| tenant.merge(kind, source, destination));
    }

    /// Adds records that were created at a time, without any event.
    pub fn import(&self, kind: Kind, count: i64, registered: Timestamp) {
        self.tenant().import(kind, count, registered);
    }

    /// Changes a record, and loses the event.
    pub fn change_silently(&self, kind: Kind, id: i64) {
        self.tenant().change_silently(kind, id);
    }

    /// Returns the records, in order of their ids.
    pub fn records(&self, kind: Kind) -> Vec<Record> {
        self.tenant().records_after(kind, None).cloned().collect()
    }

    /// Creates a contact.
    pub fn create_contact(&self) -> i64 {
        self.create(Kind::Contact)
    }

    /// Changes a contact.
    pub fn change_contact(&self, id: i64) {
        self.change(Kind::Contact, id);
    }

    /// Deletes a contact as a user does.
    pub fn soft_delete_contact(&self, id: i64) {
        self.soft_delete(Kind::Contact, id);
    }

    /// Merges a contact into another one.
    pub fn merge_contacts(&self, source: i64, destination: i64) {
        self.merge(Kind::Contact, source, destination);
    }

    /// Adds contacts that were created at a time, without any event.
    pub fn import_contacts(&self, count: i64, registered: Timestamp) {
        self.import(Kind::Contact, count, registered);
    }

    /// Changes a contact, and loses the event.
    pub fn change_contact_silently(&self, id: i64) {
        self.change_silently(Kind::Contact, id);
    }

    /// Returns the contacts, in order of their ids.
    pub fn contacts(&self) -> Vec<Record> {
        self.records(Kind::Contact)
    }

    /// Drops every event that is waiting, which is how events are lost without a failed delivery.
    pub fn lose_waiting_events(&self) {
        self.shared.raise(|tenant| tenant.waiting.clear());
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
}
