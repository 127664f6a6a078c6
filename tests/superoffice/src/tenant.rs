//! The tenant's data, and the events that its changes raise.

use std::collections::{BTreeMap, VecDeque};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};

use crate::auth::Access;
use crate::clock::Clock;
use crate::contact::{Contact, Merge};
use crate::mode::{Mode, Version};
use crate::times::{Times, event_time};
use crate::webhook::{self, Webhook};

/// The way in which archives return pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paging {
    /// The largest number of rows of a page.
    pub rows: usize,
    /// A page has a link to the next page.
    pub has_links: bool,
    /// Conditions on keys have an effect.
    pub filters_keys: bool,
}

impl Default for Paging {
    fn default() -> Self {
        Self { rows: 1000, has_links: true, filters_keys: true }
    }
}

/// An event that waits for its delivery.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    /// The name that webhooks subscribe to, `webhook12.errors`.
    pub(crate) topic: String,
    /// The id in the header, which differs from the one in the body.
    pub(crate) header_id: String,
    pub(crate) body: Map<String, Value>,
}

pub(crate) struct Tenant {
    pub(crate) name: String,
    pub(crate) clock: Clock,
    pub(crate) running: bool,
    pub(crate) paused: bool,
    /// Deliveries reach no host.
    pub(crate) network_down: bool,
    pub(crate) mode: Mode,
    pub(crate) paging: Paging,
    pub(crate) access: Access,
    pub(crate) contacts: BTreeMap<i64, Contact>,
    /// A contact is read as it was before a change that is younger.
    pub(crate) read_lag: SignedDuration,
    /// The contacts before their last change, with the time of that change.
    earlier: BTreeMap<i64, (Contact, Timestamp)>,
    pub(crate) merges: Vec<Merge>,
    pub(crate) webhooks: BTreeMap<i64, Webhook>,
    pub(crate) waiting: VecDeque<Event>,
    last_id: i64,
    last_event: u64,
}

impl Tenant {
    pub(crate) fn new(name: &str, clock: Clock) -> Self {
        Self {
            name: name.to_owned(),
            clock,
            running: true,
            paused: false,
            network_down: false,
            mode: Mode::default(),
            paging: Paging::default(),
            access: Access::default(),
            contacts: BTreeMap::new(),
            read_lag: SignedDuration::ZERO,
            earlier: BTreeMap::new(),
            merges: Vec::new(),
            webhooks: BTreeMap::new(),
            waiting: VecDeque::new(),
            last_id: 0,
            last_event: 0,
        }
    }

    /// The time as SuperOffice stores it, in whole seconds.
    fn stored_now(&self) -> Timestamp {
        Timestamp::from_second(self.clock.now().as_second()).expect("a time of this century")
    }

    fn next_id(&mut self) -> i64 {
        self.last_id += 1;
        self.last_id
    }

    /// Creates a contact. Without a name, it has one that contains its id.
    pub(crate) fn create_contact(&mut self, name: Option<&str>) -> i64 {
        let id = self.next_id();
        let mut contact = Contact::new(id, self.stored_now());
        if let Some(name) = name {
            name.clone_into(&mut contact.name);
        }
        self.contacts.insert(id, contact.clone());
        self.raise_for_contact("created", &contact, &["contact_id", "name", "registered"]);
        id
    }

    pub(crate) fn import_contacts(&mut self, count: i64, registered: Timestamp) {
        for _ in 0..count {
            let id = self.next_id();
            self.contacts.insert(id, Contact::new(id, registered));
        }
    }

    pub(crate) fn change_contact(&mut self, id: i64, name: Option<&str>) {
        let now = self.stored_now();
        let Some(contact) = self.contacts.get_mut(&id) else { return };
        let before = contact.clone();
        contact.change(name, now);
        let contact = contact.clone();
        self.earlier.insert(id, (before, self.clock.now()));
        self.raise_for_contact("changed", &contact, &["name", "updated", "updated_associate_id", "updatedCount"]);
    }

    /// Returns a contact as a read shows it.
    pub(crate) fn read_contact(&self, id: i64) -> Option<&Contact> {
        let is_late = |at: Timestamp| self.clock.now().duration_since(at) < self.read_lag;
        let earlier = self.earlier.get(&id).filter(|(_, at)| is_late(*at)).map(|(before, _)| before);
        self.contacts.get(&id).map(|contact| earlier.unwrap_or(contact))
    }

    /// Changes a contact, and loses the event.
    pub(crate) fn change_contact_silently(&mut self, id: i64) {
        let waiting = self.waiting.len();
        self.change_contact(id, None);
        self.waiting.truncate(waiting);
    }

    pub(crate) fn soft_delete_contact(&mut self, id: i64) {
        let now = self.stored_now();
        let Some(contact) = self.contacts.get_mut(&id) else { return };
        contact.deleted = Some(now);
        let contact = contact.clone();
        self.raise_for_contact("softdeleted", &contact, &["deleted", "deletedDate"]);
    }

    /// Restores a contact that a person deleted.
    pub(crate) fn restore_contact(&mut self, id: i64) {
        let now = self.stored_now();
        let Some(contact) = self.contacts.get_mut(&id) else { return };
        (contact.deleted, contact.updated) = (None, Some(now));
        let contact = contact.clone();
        self.raise_for_contact("changed", &contact, &["deleted", "deletedDate"]);
    }

    /// Deletes a contact for ever, as the system does.
    pub(crate) fn delete_contact(&mut self, id: i64) {
        if let Some(contact) = self.contacts.remove(&id) {
            self.raise_for_contact("deleted", &contact, &[]);
        }
    }

    pub(crate) fn merge_contacts(&mut self, source: i64, destination: i64) {
        let Some(name) = self.contacts.get(&destination).map(|contact| contact.name.clone()) else { return };
        if source == destination {
            return;
        }
        let Some(removed) = self.contacts.remove(&source) else { return };
        let (id, at) = (self.next_id(), self.stored_now());
        self.merges.push(Merge { id, source, destination, at });
        self.raise_for_contact("deleted", &removed, &[]);
        self.change_contact(destination, Some(&name));
    }

    fn raise_for_contact(&mut self, verb: &str, contact: &Contact, changes: &[&str]) {
        let mut body = json!({
            "Changes": changes, "Event": format!("contact.{verb}"), "PrimaryKey": contact.id, "Entity": "contact",
        });
        if self.mode.version != Version::WithoutPatch {
            body["FieldValues"] = contact.columns(&Times::base(&self.mode));
        }
        if verb == "deleted" {
            body["Values"] = json!({"associate_id": 5, "contact_id": contact.id});
        }
        self.raise(format!("contact.{verb}"), body);
    }

    /// Raises the event that a client signals. The documentation does not say where the body has the data.
    pub(crate) fn signal(&mut self, event: &str, id: i64, data: &Value) {
        let entity = event.split('.').next().unwrap_or_default();
        let body = json!({"Changes": [], "Event": event, "PrimaryKey": id, "Entity": entity, "FieldValues": data});
        self.raise(event.to_owned(), body);
    }

    fn raise(&mut self, topic: String, body: Value) {
        self.last_event += 1;
        let Value::Object(mut body) = body else { unreachable!("bodies are objects") };
        body.insert("EventId".into(), json!(format!("00000000-0000-4000-8000-{:012x}", self.last_event)));
        body.extend(self.origin());
        let header_id = format!("ffffffff-0000-4000-8000-{:012x}", self.last_event);
        self.waiting.push_back(Event { topic, header_id, body });
    }

    /// Returns the fields that every event has, a test included.
    pub(crate) fn origin(&self) -> [(String, Value); 3] {
        [
            ("Timestamp".to_owned(), event_time(self.clock.now())),
            ("ContextIdentifier".to_owned(), json!(self.name)),
            ("ChangedByAssociateId".to_owned(), json!(5)),
        ]
    }

    /// Adds a webhook with properties that were read, and returns its id.
    pub(crate) fn add_webhook(&mut self, properties: Map<String, Value>) -> i64 {
        let id = self.next_id();
        let webhook = Webhook::new(id, properties, self.stored_now());
        self.webhooks.insert(id, webhook);
        id
    }

    /// Sets one property of a webhook.
    pub(crate) fn set_property(&mut self, id: i64, name: &str, value: &Value) {
        let Some(webhook) = self.webhooks.get(&id) else { return };
        let mut properties = webhook.properties.clone();
        let (_, stored) = properties.iter_mut().find(|(key, _)| key.eq_ignore_ascii_case(name)).expect("a property");
        *stored = webhook::property(name, value, stored).expect("a valid value");
        self.replace_properties(id, properties);
    }

    /// Replaces all properties of a webhook, and reports a new state.
    pub(crate) fn replace_properties(&mut self, id: i64, properties: Map<String, Value>) {
        let now = self.stored_now();
        let Some(webhook) = self.webhooks.get_mut(&id) else { return };
        let before = webhook.state().to_owned();
        webhook.properties = properties;
        webhook.updated = Some(now);
        let after = webhook.state().to_owned();
        if before == after {
            return;
        }
        let verb = match after.as_str() {
            "Active" => {
                webhook.consecutive_errors = 0;
                "started"
            }
            "Stopped" => "stopped",
            _ => "errors",
        };
        // State events name the webhook in the header only, and have no entity.
        let body = json!({"Changes": [], "Event": format!("webhook.{verb}"), "PrimaryKey": id});
        self.raise(format!("webhook{id}.{verb}"), body);
    }
}
