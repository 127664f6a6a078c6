//! The tenant's data, and the events that its changes raise.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};

use crate::auth::Access;
use crate::clock::Clock;
use crate::mode::{Mode, Version};
use crate::record::{Kind, Merge, Record};
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
    pub(crate) records: BTreeMap<(Kind, i64), Record>,
    /// A record is read as it was before a change that is younger.
    pub(crate) read_lag: SignedDuration,
    /// The records before their last change, with the time of that change.
    earlier: BTreeMap<(Kind, i64), (Record, Timestamp)>,
    pub(crate) merges: Vec<Merge>,
    pub(crate) webhooks: BTreeMap<i64, Webhook>,
    pub(crate) waiting: VecDeque<Event>,
    last_id: i64,
    /// Persons are counted on their own, so that they have the ids of contacts.
    last_person: i64,
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
            records: BTreeMap::new(),
            read_lag: SignedDuration::ZERO,
            earlier: BTreeMap::new(),
            merges: Vec::new(),
            webhooks: BTreeMap::new(),
            waiting: VecDeque::new(),
            last_id: 0,
            last_person: 0,
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

    /// Returns the records of a kind whose id is greater than `after`, in order of their ids.
    pub(crate) fn records_after(&self, kind: Kind, after: Option<i64>) -> impl Iterator<Item = &Record> {
        let start = after.map_or(Bound::Included((kind, i64::MIN)), |after| Bound::Excluded((kind, after)));
        self.records.range((start, Bound::Included((kind, i64::MAX)))).map(|(_, record)| record)
    }

    fn add(&mut self, kind: Kind, registered: Timestamp) -> &mut Record {
        let (id, contact) = match kind {
            Kind::Contact => (self.next_id(), None),
            Kind::Person => {
                self.last_person += 1;
                let contact = self.records_after(Kind::Contact, None).next().map(|contact| contact.id);
                (self.last_person, contact)
            }
        };
        self.records.entry((kind, id)).insert_entry(Record::new(kind, id, contact, registered)).into_mut()
    }

    /// Creates a record. Without a name, it has one that contains its id. A person belongs to the first contact.
    pub(crate) fn create(&mut self, kind: Kind, name: Option<&str>) -> i64 {
        let now = self.stored_now();
        let record = self.add(kind, now);
        if let Some(name) = name {
            name.clone_into(&mut record.name);
        }
        let record = record.clone();
        self.raise_for("created", &record, kind.changes("created"));
        record.id
    }

    pub(crate) fn import(&mut self, kind: Kind, count: i64, registered: Timestamp) {
        for _ in 0..count {
            self.add(kind, registered);
        }
    }

    pub(crate) fn change(&mut self, kind: Kind, id: i64, name: Option<&str>) {
        let now = self.stored_now();
        let Some(record) = self.records.get_mut(&(kind, id)) else { return };
        let before = record.clone();
        record.change(name, now);
        let record = record.clone();
        self.earlier.insert((kind, id), (before, self.clock.now()));
        self.raise_for("changed", &record, kind.changes("changed"));
    }

    /// Returns a record as a read shows it.
    pub(crate) fn read(&self, kind: Kind, id: i64) -> Option<&Record> {
        let is_late = |at: Timestamp| self.clock.now().duration_since(at) < self.read_lag;
        let earlier = self.earlier.get(&(kind, id)).filter(|(_, at)| is_late(*at)).map(|(before, _)| before);
        self.records.get(&(kind, id)).map(|record| earlier.unwrap_or(record))
    }

    /// Changes a record, and loses the event.
    pub(crate) fn change_silently(&mut self, kind: Kind, id: i64) {
        let waiting = self.waiting.len();
        self.change(kind, id, None);
        self.waiting.truncate(waiting);
    }

    pub(crate) fn soft_delete(&mut self, kind: Kind, id: i64) {
        let now = self.stored_now();
        let Some(record) = self.records.get_mut(&(kind, id)) else { return };
        record.deleted = Some(now);
        let record = record.clone();
        self.raise_for("softdeleted", &record, kind.changes("softdeleted"));
    }

    /// Restores a record that a user deleted.
    pub(crate) fn restore(&mut self, kind: Kind, id: i64) {
        let now = self.stored_now();
        let Some(record) = self.records.get_mut(&(kind, id)) else { return };
        (record.deleted, record.updated) = (None, Some(now));
        let record = record.clone();
        self.raise_for("changed", &record, kind.changes("restored"));
    }

    /// Deletes a record for ever, as the system does.
    pub(crate) fn delete(&mut self, kind: Kind, id: i64) {
        if let Some(record) = self.records.remove(&(kind, id)) {
            self.raise_for("deleted", &record, kind.changes("deleted"));
        }
    }

    pub(crate) fn merge(&mut self, kind: Kind, source: i64, destination: i64) {
        let Some(name) = self.records.get(&(kind, destination)).map(|record| record.name.clone()) else { return };
        if source == destination {
            return;
        }
        let Some(removed) = self.records.remove(&(kind, source)) else { return };
        let (id, at) = (self.next_id(), self.stored_now());
        self.merges.push(Merge { id, kind, source, destination, at });
        self.raise_for("deleted", &removed, kind.changes("deleted"));
        self.change(kind, destination, Some(&name));
    }

    fn raise_for(&mut self, verb: &str, record: &Record, changes: &[&str]) {
        let entity = record.kind.names().entity;
        let event = format!("{entity}.{verb}");
        let mut body = json!({"Changes": changes, "Event": event, "PrimaryKey": record.id, "Entity": entity});
        if self.mode.version != Version::WithoutPatch {
            body["FieldValues"] = record.columns(&Times::base(&self.mode));
        }
        if verb == "deleted" {
            body["Values"] = record.values();
        }
        self.raise(event, body);
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
