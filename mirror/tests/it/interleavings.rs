//! Two mirrors that handle events of one contact, or of a contact and a person, at the same time, at every interleaving
//! of their steps with the changes in SuperOffice: reading the row, asking SuperOffice, and writing. A mirror may also
//! end before any step.
//!
//! The mirror's variants that are known to be wrong run through the same interleavings, and each must be found.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use jiff::Timestamp;
use superoffice_client::records::RecordPage;
use superoffice_webhook::webhook::entity::Archive;
use superoffice_webhook_mirror::failure::Failure;
use superoffice_webhook_mirror::row::{Content, Key, Row};
use superoffice_webhook_mirror::superoffice::SuperOffice;
use superoffice_webhook_mirror::table::{Position, RowHead, Table, TableError, WriteError};
use superoffice_webhook_mirror::visit::{Evidence, Visit};

use crate::crm::{Crm, Records};
use crate::table::MemoryTable;

/// A variant of the mirror. All but the first one are wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Variant {
    AsItIs,
    /// A row is written whatever the table contains.
    WithoutCondition,
    /// A row is written unless the table has a later date of SuperOffice.
    ConditionOnDate,
    /// A contact that is gone is deleted from the table.
    WithoutTombstone,
    /// The message is acknowledged before its row is written.
    AcknowledgedBeforeWrite,
    /// A row is only written if it has changed.
    UnchangedIsNotWritten,
}

const WRONG: [Variant; 5] = [
    Variant::WithoutCondition,
    Variant::ConditionOnDate,
    Variant::WithoutTombstone,
    Variant::AcknowledgedBeforeWrite,
    Variant::UnchangedIsNotWritten,
];

/// A change of the record 1 in SuperOffice.
#[derive(Clone, Copy, Debug)]
enum Change {
    Save(&'static str),
    SoftDelete,
    Restore,
    Remove,
    Merge,
}

impl Change {
    fn apply(self, records: &Records) {
        match self {
            Self::Save(name) => records.save(1, name),
            Self::SoftDelete => records.set_deleted(1, true),
            Self::Restore => records.set_deleted(1, false),
            Self::Remove => records.remove(1),
            Self::Merge => records.merge(1, 2),
        }
    }

    fn evidence(self) -> Evidence {
        match self {
            Self::SoftDelete | Self::Remove | Self::Merge => Evidence::DeletionEvent,
            Self::Save(_) | Self::Restore => Evidence::None,
        }
    }
}

/// Lets another task run before the next step.
async fn step() {
    let mut is_first = true;
    std::future::poll_fn(|_| if std::mem::take(&mut is_first) { Poll::Pending } else { Poll::Ready(()) }).await;
}

struct SteppedCrm<'a>(&'a Crm);

impl SuperOffice for SteppedCrm<'_> {
    async fn document(&self, key: Key) -> Result<Option<String>, Failure> {
        step().await;
        self.0.document(key).await
    }

    async fn lists(&self, key: Key) -> Result<bool, Failure> {
        step().await;
        self.0.lists(key).await
    }

    async fn page(&self, archive: &'static Archive, after: i64, rows: usize) -> Result<RecordPage, Failure> {
        step().await;
        self.0.page(archive, after, rows).await
    }

    fn now(&self) -> Timestamp {
        self.0.now()
    }
}

struct SteppedTable<'a> {
    table: &'a MemoryTable,
    variant: Variant,
    /// The message is acknowledged.
    is_acknowledged: &'a Cell<bool>,
}

fn date(row: &Row) -> Option<&str> {
    let Content::Data(data) = &row.content else { return None };
    data.split("\"UpdatedDate\":\"").nth(1)?.split('"').next()
}

impl Table for SteppedTable<'_> {
    async fn get(&self, entity: &str, id: i64) -> Result<Option<Row>, TableError> {
        step().await;
        self.table.get(entity, id).await
    }

    async fn put(&self, entity: &str, id: i64, row: &Row, previous: Option<i64>) -> Result<(), WriteError> {
        if self.variant == Variant::AcknowledgedBeforeWrite {
            self.is_acknowledged.set(true);
        }
        step().await;
        let present = self.table.row(entity, id);
        match self.variant {
            Variant::WithoutCondition => self.table.set(entity, id, Some(row.clone())),
            Variant::ConditionOnDate => {
                let is_older =
                    present.is_some_and(|present| date(&present).is_some_and(|date| self::date(row) < Some(date)));
                // A tombstone has no date.
                if !is_older || !row.is_living() {
                    self.table.set(entity, id, Some(row.clone()));
                }
            }
            Variant::WithoutTombstone if !row.is_living() => {
                if present.map(|present| present.version) != previous {
                    return Err(WriteError::Changed);
                }
                self.table.set(entity, id, None);
            }
            Variant::UnchangedIsNotWritten if row.changed != row.version => {}
            _ => return self.table.put(entity, id, row, previous).await,
        }
        Ok(())
    }

    async fn range(&self, _: &str, _: i64, _: Option<i64>, _: usize) -> Result<Vec<RowHead>, TableError> {
        unreachable!("events read no range")
    }

    async fn position(&self, _: &str) -> Result<Option<Position>, TableError> {
        unreachable!("events read no position")
    }

    async fn put_position(&self, _: &str, _: &Position, _: Option<i64>) -> Result<(), WriteError> {
        unreachable!("events write no position")
    }
}

/// The choices of one run, and the number of alternatives of each.
#[derive(Default)]
struct Schedule {
    choices: Vec<(usize, usize)>,
    next: usize,
}

impl Schedule {
    fn choose(&mut self, alternatives: usize) -> usize {
        if self.next == self.choices.len() {
            self.choices.push((0, alternatives));
        }
        let (choice, known) = self.choices[self.next];
        assert_eq!(known, alternatives, "a run with the same choices is the same");
        self.next += 1;
        choice
    }

    /// Moves to the next schedule; `false` after the last one.
    fn advance(&mut self) -> bool {
        self.next = 0;
        while let Some((choice, alternatives)) = self.choices.pop() {
            if choice + 1 < alternatives {
                self.choices.push((choice + 1, alternatives));
                return true;
            }
        }
        false
    }
}

/// Runs a future that never waits for anything else than [`step`].
fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return value;
        }
    }
}

/// Runs one schedule: SuperOffice makes the changes, and the mirrors handle their events. Mirror `i` begins at any time
/// after change `i`. Returns a description if the table differs from SuperOffice at the end.
fn run(
    changes: &[(&'static Archive, Change)],
    is_known: bool,
    variant: Variant,
    schedule: &mut Schedule,
) -> Result<(), String> {
    let (crm, table) = (Crm::new(), MemoryTable::default());
    for archive in Archive::ALL {
        crm.of(archive).save(2, "other");
        if is_known {
            crm.of(archive).save(1, "first");
            block_on(Visit::new("Cust1", archive, &crm, &table).mirror(1, Evidence::None, None)).unwrap();
        }
    }
    let acknowledged: Vec<Cell<bool>> = changes.iter().map(|_| Cell::new(false)).collect();
    let trace = Rc::new(RefCell::new(Vec::new()));
    let mut tasks: Vec<Option<Pin<Box<dyn Future<Output = ()> + '_>>>> = Vec::new();
    for ((archive, change), is_acknowledged) in changes.iter().zip(&acknowledged) {
        let (crm, table) = (SteppedCrm(&crm), SteppedTable { table: &table, variant, is_acknowledged });
        tasks.push(Some(Box::pin(async move {
            if Visit::new("Cust1", archive, &crm, &table).mirror(1, change.evidence(), None).await.is_ok() {
                is_acknowledged.set(true);
            }
        })));
    }
    let mut made = 0;
    // One mirror may end early: a process that dies, or an invocation whose time has passed.
    let mut may_die = true;
    loop {
        // The choices: the next change, a step of a mirror whose change was made, or the end of such a mirror.
        let running: Vec<usize> = (0..made).filter(|task| tasks[*task].is_some()).collect();
        let has_change = usize::from(made < changes.len());
        let deaths = if may_die { running.len() } else { 0 };
        if has_change + running.len() == 0 {
            break;
        }
        let choice = schedule.choose(has_change + running.len() + deaths);
        if choice < has_change {
            trace.borrow_mut().push(format!("{:?}", changes[made]));
            let (archive, change) = changes[made];
            change.apply(crm.of(archive));
            made += 1;
        } else if let Some(task) = running.get(choice - has_change) {
            trace.borrow_mut().push(format!("mirror {task}"));
            let future = tasks[*task].as_mut().unwrap();
            if future.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready() {
                tasks[*task] = None;
            }
        } else {
            let task = running[choice - has_change - running.len()];
            trace.borrow_mut().push(format!("mirror {task} ends"));
            tasks[task] = None;
            may_die = false;
        }
    }
    drop(tasks);
    // The queue delivers a message until it is acknowledged.
    for ((archive, change), is_acknowledged) in changes.iter().zip(&acknowledged) {
        if !is_acknowledged.get() {
            let table = SteppedTable { table: &table, variant, is_acknowledged };
            block_on(Visit::new("Cust1", archive, &crm, &table).mirror(1, change.evidence(), None))
                .map_err(|error| error.to_string())?;
        }
    }
    for archive in Archive::ALL {
        let mut expected = crm.of(archive).documents();
        expected.remove(&2);
        let found = table.documents(&format!("Cust1/{}", archive.name));
        if found != expected {
            return Err(format!("{:?}: {found:?} instead of {expected:?}", trace.borrow()));
        }
    }
    Ok(())
}

/// Runs every schedule until one fails. Returns the number of schedules.
fn explore(changes: &[(&'static Archive, Change)], is_known: bool, variant: Variant) -> Result<usize, String> {
    let (mut schedule, mut count) = (Schedule::default(), 0);
    loop {
        count += 1;
        run(changes, is_known, variant, &mut schedule)?;
        if !schedule.advance() {
            return Ok(count);
        }
    }
}

/// The histories of a record: the changes, and if the table has the record at first.
const HISTORIES: [(&[Change], bool); 8] = [
    (&[Change::Save("second"), Change::Save("third")], true),
    // SuperOffice returns to the content that the table has.
    (&[Change::Save("second"), Change::Save("first")], true),
    (&[Change::Save("second"), Change::Remove], true),
    (&[Change::Save("first"), Change::Remove], false),
    (&[Change::Save("first"), Change::SoftDelete], false),
    (&[Change::SoftDelete, Change::Restore], true),
    (&[Change::SoftDelete, Change::Remove], true),
    (&[Change::Save("second"), Change::Merge], true),
];

/// Returns two changes, each of a record of its entity.
fn of(changes: &[Change], archives: [&'static Archive; 2]) -> Vec<(&'static Archive, Change)> {
    archives.into_iter().zip(changes.iter().copied()).collect()
}

#[test]
fn table_equals_superoffice_after_every_interleaving() {
    let mut count = 0;
    for (changes, is_known) in HISTORIES {
        // The same record, or a contact and a person with the same id.
        for second in Archive::ALL {
            count += explore(&of(changes, [Archive::CONTACT, second]), is_known, Variant::AsItIs).unwrap();
        }
    }
    assert!(count > 13_000, "{count}");
}

#[test]
fn every_wrong_variant_is_found() {
    for variant in WRONG {
        for archive in Archive::ALL {
            let explore =
                |(changes, is_known): &(&[Change], bool)| explore(&of(changes, [archive; 2]), *is_known, variant);
            assert!(HISTORIES.iter().any(|history| explore(history).is_err()), "{variant:?}");
        }
    }
}
