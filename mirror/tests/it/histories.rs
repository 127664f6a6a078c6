//! Random histories of a tenant's contacts and persons: changes, deletions, restores and merges; deliveries that are
//! lost, repeated and reordered; batches that are handled at the same time; a SuperOffice that is slow, throttles and
//! fails. At the end, the table equals SuperOffice.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use superoffice_webhook::webhook::entity::Archive;
use superoffice_webhook_mirror::audit::{self, Settings};
use superoffice_webhook_mirror::batch::handle;
use superoffice_webhook_mirror::failure::Failure;
use superoffice_webhook_mirror::row::Key;
use tokio::time::Instant;

use crate::crm::{Crm, Fault};
use crate::messages::{Queue, batch, event_of};
use crate::table::MemoryTable;
use crate::tenants::SingleTenant;

/// The number of contacts, and of persons.
const RECORDS: i64 = 3;

#[derive(Clone, Copy, Debug)]
enum Change {
    Save(u8),
    SoftDelete,
    Restore,
    Remove,
    Merge(i64),
}

/// The fate of an event on its way to the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Delivery {
    Once,
    Twice,
    Lost,
}

#[derive(Clone, Debug)]
enum Step {
    /// A user changes a record.
    Change(Key, Change, Delivery),
    /// A batch is handled: the positions of its messages in the queue.
    Batch(Vec<usize>),
    /// Two batches are handled at the same time, and SuperOffice's answers are held.
    Batches(Vec<usize>, Vec<usize>, Vec<u8>),
    /// The next calls fail.
    Fail(Failure, usize),
    /// The next answers for records of an entity say that they do not exist.
    WrongPath(&'static Archive, usize),
    /// Time passes, in milliseconds.
    Pass(i64),
}

struct Message {
    id: String,
    key: Key,
    body: String,
}

struct World {
    crm: Arc<Crm>,
    table: MemoryTable,
    tenants: SingleTenant<Crm>,
    queue: Queue,
    messages: Vec<Message>,
    sent: usize,
    has_lost: bool,
}

impl World {
    fn new(queue: Queue) -> Self {
        let crm = Arc::new(Crm::new());
        Self {
            tenants: SingleTenant::shared("Cust1", Arc::clone(&crm)),
            crm,
            table: MemoryTable::default(),
            queue,
            messages: Vec::new(),
            sent: 0,
            has_lost: false,
        }
    }

    fn change(&mut self, key: Key, change: Change, delivery: Delivery) {
        let Key { archive, id } = key;
        let records = self.crm.of(archive);
        let verb = match change {
            Change::Save(name) => {
                records.save(id, &format!("name {name}"));
                "changed"
            }
            Change::SoftDelete => {
                records.set_deleted(id, true);
                "softdeleted"
            }
            Change::Restore => {
                records.set_deleted(id, false);
                "changed"
            }
            Change::Remove => {
                records.remove(id);
                "deleted"
            }
            Change::Merge(destination) => {
                records.merge(id, destination);
                "deleted"
            }
        };
        let copies = match delivery {
            Delivery::Lost => 0,
            Delivery::Once => 1,
            Delivery::Twice => 2,
        };
        for _ in 0..copies {
            self.sent += 1;
            let body = event_of(archive, Some("Cust1"), verb, id);
            self.messages.push(Message { id: self.sent.to_string(), key, body });
        }
        self.has_lost |= delivery == Delivery::Lost;
    }

    /// Takes messages from the queue. On a FIFO queue, a message waits for the earlier ones of its record, and for
    /// those that are being handled.
    fn take(&mut self, positions: &[usize], busy: &[Key]) -> Vec<Message> {
        let mut taken: Vec<usize> = Vec::new();
        for position in positions {
            if self.messages.is_empty() {
                break;
            }
            let position = position % self.messages.len();
            let key = self.messages[position].key;
            let is_free = self.queue == Queue::Standard || !busy.contains(&key);
            let position = match self.queue {
                Queue::Standard => Some(position),
                Queue::Fifo => {
                    (0..self.messages.len()).find(|index| self.messages[*index].key == key && !taken.contains(index))
                }
            };
            if let Some(position) = position.filter(|position| is_free && !taken.contains(position)) {
                taken.push(position);
            }
        }
        let mut messages = Vec::new();
        taken.sort_unstable();
        for position in taken.into_iter().rev() {
            messages.push(self.messages.remove(position));
        }
        messages.reverse();
        messages
    }

    /// Handles messages. Returns those that are received again.
    async fn handle(&self, messages: Vec<Message>) -> Vec<Message> {
        let group = |key: Key| format!("{}/{}", key.archive.name, key.id);
        let record = |message: &Message| (message.id.clone(), group(message.key), message.body.clone());
        let batch = batch(self.queue, &messages.iter().map(record).collect::<Vec<_>>());
        let deadline = Instant::now() + Duration::from_secs(28);
        let (response, _) = handle(&self.tenants, &self.table, None, &Archive::ALL, &batch, deadline).await;
        let failed: HashSet<&str> = response.failed_ids().collect();
        messages.into_iter().filter(|message| failed.contains(message.id.as_str())).collect()
    }

    /// Puts messages back before the others.
    fn put_back(&mut self, messages: Vec<Message>) {
        self.messages.splice(0..0, messages);
    }

    async fn step(&mut self, step: &Step) {
        match step {
            Step::Change(key, change, delivery) => self.change(*key, *change, *delivery),
            Step::Batch(positions) => {
                let messages = self.take(positions, &[]);
                let failed = self.handle(messages).await;
                self.put_back(failed);
            }
            Step::Batches(first, second, delays) => {
                let first = self.take(first, &[]);
                let busy: Vec<Key> = first.iter().map(|message| message.key).collect();
                let second = self.take(second, &busy);
                self.crm.hold_answers(delays);
                let (first, second) = tokio::join!(self.handle(first), self.handle(second));
                self.put_back(first.into_iter().chain(second).collect());
            }
            Step::Fail(failure, calls) => {
                self.crm.script("", std::iter::repeat_n(Fault::Failure(failure.clone()), *calls));
            }
            Step::WrongPath(archive, calls) => {
                self.crm.script(&format!("{} ", archive.name), std::iter::repeat_n(Fault::NotFound, *calls));
            }
            Step::Pass(milliseconds) => self.crm.clock.advance(*milliseconds),
        }
    }

    /// Empties the queue.
    async fn settle(&mut self) {
        self.crm.clear_faults();
        for _ in 0..100 {
            if self.messages.is_empty() {
                return;
            }
            self.step(&Step::Batch((0..10).collect())).await;
        }
        panic!("the queue does not become empty");
    }

    /// Completes an audit of each entity that begins now.
    async fn audit(&mut self) {
        let settings = Settings { entities: Archive::ALL.to_vec(), ..Settings::default() };
        let deadline = || Instant::now() + Duration::from_secs(24);
        let mut report = audit::begin(&self.tenants, &self.table, &settings, "Cust1", true, deadline()).await.unwrap();
        let mut completed = 0;
        for _ in 0..10 {
            completed += report.metrics.audit_completed;
            if completed == 2 {
                return;
            }
            self.crm.clock.advance(60_000);
            report = audit::run(&self.tenants, &self.table, &settings, deadline()).await;
        }
        panic!("the audit does not complete: {report:?}");
    }
}

fn archive() -> impl Strategy<Value = &'static Archive> {
    prop_oneof![Just(Archive::CONTACT), Just(Archive::PERSON)]
}

fn changes() -> impl Strategy<Value = Step> {
    let change = prop_oneof![
        4 => (0..3_u8).prop_map(Change::Save),
        1 => Just(Change::SoftDelete),
        1 => Just(Change::Restore),
        1 => Just(Change::Remove),
        1 => (1..=RECORDS).prop_map(Change::Merge),
    ];
    let delivery = prop_oneof![6 => Just(Delivery::Once), 2 => Just(Delivery::Twice), 1 => Just(Delivery::Lost)];
    let key = (archive(), 1..=RECORDS).prop_map(|(archive, id)| Key { archive, id });
    (key, change, delivery).prop_map(|(key, change, delivery)| Step::Change(key, change, delivery))
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let positions = || proptest::collection::vec(0..12_usize, 1..5);
    let failure = prop_oneof![
        Just(Failure::Status(401)),
        Just(Failure::Status(403)),
        Just(Failure::Status(429)),
        Just(Failure::Status(500)),
        Just(Failure::Timeout),
        Just(Failure::Unexpected),
    ];
    let delays = proptest::collection::vec(0..6_u8, 0..8);
    let step = prop_oneof![
        8 => changes(),
        3 => positions().prop_map(Step::Batch),
        4 => (positions(), positions(), delays).prop_map(|(first, second, delays)| Step::Batches(first, second, delays)),
        1 => (failure, 1..5_usize).prop_map(|(failure, calls)| Step::Fail(failure, calls)),
        1 => (archive(), 1..3_usize).prop_map(|(archive, calls)| Step::WrongPath(archive, calls)),
        2 => prop_oneof![Just(0), Just(1), Just(999), Just(60_000)].prop_map(Step::Pass),
    ];
    proptest::collection::vec(step, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn table_equals_superoffice_after_every_history(
        queue in prop_oneof![Just(Queue::Fifo), Just(Queue::Standard)],
        steps in steps(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let (found, expected) = runtime.block_on(async {
            let mut world = World::new(queue);
            for step in &steps {
                world.step(step).await;
            }
            world.settle().await;
            // A wrong answer for a record without a row, with an event of its deletion, needs an audit.
            let needs_audit = world.has_lost || steps.iter().any(|step| matches!(step, Step::WrongPath(..)));
            if needs_audit {
                world.audit().await;
            }
            let found = Archive::ALL.map(|archive| world.table.documents(&format!("Cust1/{}", archive.name)));
            (found, Archive::ALL.map(|archive| world.crm.of(archive).documents()))
        });
        prop_assert_eq!(found, expected);
    }
}
