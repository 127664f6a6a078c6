//! The tenant's data, and the events that its changes raise.

use std::collections::{BTreeMap, VecDeque};

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::auth::Access;
use crate::clock::Clock;

/// A contact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contact {
    /// The id.
    pub id: i64,
    /// The time of its creation.
    pub registered: Timestamp,
    /// The time of its last change.
    pub updated: Option<Timestamp>,
    /// The time of its deletion by a person.
    pub deleted: Option<Timestamp>,
}

/// A contact that was merged into another one, and no longer exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Merge {
    /// The row's id.
    pub id: i64,
    /// The contact that no longer exists.
    pub source: i64,
    /// The contact that received its data.
    pub destination: i64,
    /// The time.
    pub at: Timestamp,
}

/// The generation of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// Counters and the last error are properties of the webhook.
    Current,
    /// Counters are in an archive, and the last error has a call of its own.
    WithoutCounters,
    /// As before, and webhooks are changed by `PUT` only.
    WithoutPatch,
}

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

/// A webhook with its counters.
#[derive(Clone, Debug)]
pub struct Webhook {
    /// The id.
    pub id: i64,
    /// The properties, as a client wrote them.
    pub properties: Map<String, Value>,
    /// The number of deliveries.
    pub total_calls: u64,
    /// The number of failed attempts.
    pub total_errors: u64,
    /// The number of failed attempts since the last success.
    pub consecutive_errors: u64,
    /// The headers and the body of the last response that was not 200.
    pub last_error: Option<String>,
}

impl Webhook {
    /// A property that is text.
    pub fn text(&self, name: &str) -> &str {
        self.properties.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    /// The state.
    pub fn state(&self) -> &str {
        self.text("State")
    }

    /// The names of the events.
    pub fn events(&self) -> Vec<&str> {
        self.properties
            .get("Events")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect()
    }

    pub(crate) fn is_subscribed(&self, event: &str) -> bool {
        self.state() == "Active" && self.events().iter().any(|name| name.eq_ignore_ascii_case(event))
    }

    pub(crate) fn view(&self, version: Version) -> Value {
        let mut view = self.properties.clone();
        view.insert("WebhookId".into(), json!(self.id));
        if version == Version::Current {
            view.insert("TotalCalls".into(), json!(self.total_calls));
            view.insert("TotalErrors".into(), json!(self.total_errors));
            view.insert("ConsecutiveErrors".into(), json!(self.consecutive_errors));
            view.insert("LastError".into(), json!(self.last_error));
            let emails = view.get("ErrorEmails").cloned().unwrap_or(json!([]));
            view.insert("ErrorEmails".into(), emails);
        } else {
            view.remove("ErrorEmails");
        }
        Value::Object(view)
    }
}

/// An event that waits for its delivery.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    /// The name that webhooks subscribe to, `webhook12.errors`.
    pub(crate) topic: String,
    pub(crate) id: String,
    pub(crate) body: Map<String, Value>,
}

pub(crate) struct Tenant {
    pub(crate) clock: Clock,
    pub(crate) running: bool,
    pub(crate) paused: bool,
    /// Deliveries reach no host.
    pub(crate) network_down: bool,
    pub(crate) version: Version,
    pub(crate) paging: Paging,
    pub(crate) access: Access,
    pub(crate) contacts: BTreeMap<i64, Contact>,
    pub(crate) merges: Vec<Merge>,
    pub(crate) webhooks: BTreeMap<i64, Webhook>,
    pub(crate) waiting: VecDeque<Event>,
    last_id: i64,
    last_event: u64,
}

impl Tenant {
    pub(crate) fn new(clock: Clock) -> Self {
        Self {
            clock,
            running: true,
            paused: false,
            network_down: false,
            version: Version::Current,
            paging: Paging::default(),
            access: Access::default(),
            contacts: BTreeMap::new(),
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

    pub(crate) fn create_contact(&mut self) -> i64 {
        let (id, registered) = (self.next_id(), self.stored_now());
        self.contacts.insert(id, Contact { id, registered, updated: None, deleted: None });
        self.raise_for_contact("created", id, &["contact_id", "name", "registered"]);
        id
    }

    pub(crate) fn import_contacts(&mut self, count: i64, registered: Timestamp) {
        for _ in 0..count {
            let id = self.next_id();
            self.contacts.insert(id, Contact { id, registered, updated: None, deleted: None });
        }
    }

    pub(crate) fn change_contact(&mut self, id: i64) {
        let now = self.stored_now();
        if let Some(contact) = self.contacts.get_mut(&id) {
            contact.updated = Some(now);
            self.raise_for_contact("changed", id, &["name", "updated", "updated_associate_id", "updatedCount"]);
        }
    }

    /// Changes a contact, and loses the event.
    pub(crate) fn change_contact_silently(&mut self, id: i64) {
        let waiting = self.waiting.len();
        self.change_contact(id);
        self.waiting.truncate(waiting);
    }

    pub(crate) fn soft_delete_contact(&mut self, id: i64) {
        let now = self.stored_now();
        if let Some(contact) = self.contacts.get_mut(&id) {
            contact.deleted = Some(now);
            self.raise_for_contact("softdeleted", id, &["deleted", "deletedDate"]);
        }
    }

    pub(crate) fn merge_contacts(&mut self, source: i64, destination: i64) {
        if source == destination || !self.contacts.contains_key(&destination) || self.contacts.remove(&source).is_none()
        {
            return;
        }
        let (id, at) = (self.next_id(), self.stored_now());
        self.merges.push(Merge { id, source, destination, at });
        self.raise_for_contact("deleted", source, &[]);
        self.change_contact(destination);
    }

    fn raise_for_contact(&mut self, verb: &str, id: i64, changes: &[&str]) {
        let body =
            json!({"Changes": changes, "Event": format!("contact.{verb}"), "PrimaryKey": id, "Entity": "contact"});
        self.raise(format!("contact.{verb}"), body);
    }

    /// Raises the event that a client signals.
    pub(crate) fn signal(&mut self, event: &str, id: i64) {
        let entity = event.split('.').next().unwrap_or_default();
        let body = json!({"Changes": [], "Event": event, "PrimaryKey": id, "Entity": entity});
        self.raise(event.to_owned(), body);
    }

    pub(crate) fn raise_for_webhook(&mut self, id: i64, verb: &str) {
        // State events name the webhook in the header only, and have no entity.
        let body = json!({"Changes": [], "Event": format!("webhook.{verb}"), "PrimaryKey": id});
        self.raise(format!("webhook{id}.{verb}"), body);
    }

    fn raise(&mut self, topic: String, body: Value) {
        self.last_event += 1;
        let id = format!("00000000-0000-4000-8000-{:012x}", self.last_event);
        let Value::Object(mut body) = body else { unreachable!("bodies are objects") };
        body.insert("EventId".into(), json!(id));
        body.insert("Timestamp".into(), json!(self.clock.now().to_string()));
        body.insert("ContextIdentifier".into(), json!(crate::TENANT));
        body.insert("ChangedByAssociateId".into(), json!(5));
        self.waiting.push_back(Event { topic, id, body });
    }

    pub(crate) fn add_webhook(&mut self, properties: Value) -> i64 {
        let Value::Object(mut properties) = properties else { panic!("a webhook is an object") };
        properties.remove("WebhookId");
        for (name, default) in [("State", json!("Active")), ("Type", json!("webhook")), ("Secret", Value::Null)] {
            properties.entry(name).or_insert(default);
        }
        let id = self.next_id();
        let webhook =
            Webhook { id, properties, total_calls: 0, total_errors: 0, consecutive_errors: 0, last_error: None };
        self.webhooks.insert(id, webhook);
        id
    }

    pub(crate) fn set_property(&mut self, id: i64, name: &str, value: Value) {
        let Some(webhook) = self.webhooks.get_mut(&id) else { return };
        let before = webhook.state().to_owned();
        let key = webhook.properties.keys().find(|key| key.eq_ignore_ascii_case(name)).cloned();
        webhook.properties.insert(key.unwrap_or_else(|| name.to_owned()), value);
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
        self.raise_for_webhook(id, verb);
    }
}
