//! Audits of large tables: their calls, their memory and their end.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use jiff::Timestamp;
use superoffice_client::records::{ListedRecord, RecordPage};
use superoffice_webhook::webhook::entity::Archive;
use superoffice_webhook_mirror::audit::state::State;
use superoffice_webhook_mirror::audit::{self, Settings};
use superoffice_webhook_mirror::failure::Failure;
use superoffice_webhook_mirror::row::{Key, Row};
use superoffice_webhook_mirror::superoffice::SuperOffice;
use superoffice_webhook_mirror::table::{Position, RowHead, Table, TableError, WriteError};
use tokio::time::Instant;

use crate::table::MemoryTable;
use crate::tenants::SingleTenant;

/// The contacts of the range from `first`. Nothing is stored.
#[derive(Debug)]
struct Contacts {
    first: i64,
    count: i64,
    pages: Rc<Cell<usize>>,
}

const REGISTERED: &str = "2024-01-01T00:00:00Z";

fn now() -> Timestamp {
    fake_superoffice::START.parse().unwrap()
}

fn ids(after: i64, until: i64, limit: usize) -> impl Iterator<Item = i64> {
    (after + 1..=until).take(limit)
}

impl SuperOffice for Contacts {
    async fn document(&self, _: Key) -> Result<Option<String>, Failure> {
        panic!("no contact is read")
    }

    async fn lists(&self, _: Key) -> Result<bool, Failure> {
        panic!("no contact is looked up")
    }

    async fn page(&self, _: &'static Archive, after: i64, rows: usize) -> Result<RecordPage, Failure> {
        self.pages.set(self.pages.get() + 1);
        tokio::time::sleep(Duration::from_millis(200)).await;
        let record = |id| ListedRecord { id, registered: REGISTERED.into(), updated: format!("{REGISTERED}{id}") };
        Ok(RecordPage { records: ids(after.max(self.first - 1), self.count, rows).map(record).collect(), date: None })
    }

    fn now(&self) -> Timestamp {
        now()
    }
}

/// The rows of the contacts from 1.
struct Rows {
    count: i64,
    is_living: bool,
    /// The time of a call.
    delay: Duration,
    positions: MemoryTable,
    queries: Cell<usize>,
}

impl Table for Rows {
    async fn get(&self, _: &str, _: i64) -> Result<Option<Row>, TableError> {
        panic!("no row is read alone")
    }

    async fn put(&self, _: &str, _: i64, _: &Row, _: Option<i64>) -> Result<(), WriteError> {
        panic!("no row is written")
    }

    async fn range(&self, _: &str, after: i64, until: Option<i64>, limit: usize) -> Result<Vec<RowHead>, TableError> {
        self.queries.set(self.queries.get() + 1);
        tokio::time::sleep(self.delay).await;
        let stamp = |id| Some(format!("{REGISTERED}/{REGISTERED}{id}"));
        let row = |id| RowHead { id, is_living: self.is_living, read_at: now(), stamp: stamp(id) };
        Ok(ids(after, until.unwrap_or(i64::MAX).min(self.count), limit).map(row).collect())
    }

    async fn position(&self, entity: &str) -> Result<Option<Position>, TableError> {
        self.positions.position(entity).await
    }

    async fn put_position(&self, entity: &str, position: &Position, previous: Option<i64>) -> Result<(), WriteError> {
        self.positions.put_position(entity, position, previous).await
    }
}

/// Audits contacts whose rows agree. Returns the number of pages, of queries, and the largest memory so far in KiB.
async fn audit(count: i64) -> (usize, usize, u64) {
    let pages = Rc::new(Cell::new(0));
    let tenants = SingleTenant::new("Cust1", Contacts { first: 1, count, pages: Rc::clone(&pages) });
    let table = Rows {
        count,
        is_living: true,
        delay: Duration::ZERO,
        positions: MemoryTable::default(),
        queries: Cell::new(0),
    };
    let mut completed = 0;
    while completed == 0 {
        let deadline = Instant::now() + Duration::from_secs(24);
        let report = audit::run(&tenants, &table, &Settings::default(), deadline).await;
        assert_eq!(report.metrics.audit_failed, 0);
        completed = report.metrics.audit_completed;
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    (pages.get(), table.queries.get(), peak.trim().trim_end_matches(" kB").parse().unwrap())
}

#[tokio::test(start_paused = true)]
async fn audit_of_rows_that_agree_needs_one_call_for_a_thousand_contacts_and_constant_memory() {
    let (pages, queries, before) = audit(10_000).await;
    assert_eq!((pages, queries), (11, 11));
    let (pages, queries, after) = audit(100_000).await;
    assert_eq!((pages, queries), (101, 101));
    assert!(after - before < 1024, "{before} KiB, then {after} KiB");
}

#[tokio::test(start_paused = true)]
async fn audit_of_a_slow_table_ends_however_many_rows_the_list_lacks() {
    const BRAKED: &str = "SuperOffice's list lacks most contacts of a range, so no row is removed";
    // The first contact of the list, the rows, if they are living, the reasons and the most runs.
    for (first, is_living, reasons, most_runs) in [
        // An empty list.
        (200_001, true, vec![BRAKED], 1),
        // A page with many surplus rows before its first contact.
        (190_001, true, vec![BRAKED], 20),
        // Many tombstones at the end of the list.
        (200_001, false, vec![], 20),
    ] {
        let tenants = SingleTenant::new("Cust1", Contacts { first, count: 200_000, pages: Rc::default() });
        let delay = Duration::from_millis(if is_living { 1000 } else { 300 });
        let table = Rows { count: 200_000, is_living, delay, positions: MemoryTable::default(), queries: Cell::new(0) };
        let (mut runs, mut found) = (0, Vec::new());
        while table.positions.stored_position("#audit/Cust1/contact").is_none_or(|position| is_running(&position)) {
            let deadline = Instant::now() + Duration::from_secs(24);
            let report = audit::run(&tenants, &table, &Settings::default(), deadline).await;
            found.extend(report.reasons.into_iter().map(|reason| reason.reason));
            runs += 1;
            assert!(runs <= most_runs, "{first} {is_living}");
        }
        assert_eq!(found, reasons, "{first} {is_living}");
    }
}

fn is_running(position: &Position) -> bool {
    State::parse(&position.state).unwrap().ended.is_none()
}
