//! An installation whose audits are run: tenants in memory, a table in memory, and interruptions.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use superoffice_client::records::RecordPage;
use superoffice_webhook::webhook::entity::Archive;
use superoffice_webhook_mirror::audit::state::State;
use superoffice_webhook_mirror::audit::{self, Settings};
use superoffice_webhook_mirror::failure::Failure;
use superoffice_webhook_mirror::row::{Key, Row};
use superoffice_webhook_mirror::superoffice::SuperOffice;
use superoffice_webhook_mirror::table::{Position, RowHead, Table, TableError, WriteError};
use superoffice_webhook_mirror::telemetry::Report;
use superoffice_webhook_mirror::tenants::{Tenant, TenantList, Tenants};
use superoffice_webhook_mirror::visit::{Evidence, Visit};
use tokio::time::Instant;

use crate::crm::Crm;
use crate::table::MemoryTable;

/// The time of an invocation for its work.
pub(crate) const INVOCATION: Duration = Duration::from_secs(24);

/// A tenant's SuperOffice, as its system user sees it.
#[derive(Debug)]
pub(crate) struct Office {
    pub(crate) crm: Crm,
    /// The largest number of rows of a page.
    pub(crate) rows: Cell<usize>,
    /// The ids that the user may not see. Reading them is answered with 404.
    pub(crate) hidden: RefCell<BTreeSet<i64>>,
    /// The ids that the list lacks, although SuperOffice has the contacts.
    pub(crate) unlisted: RefCell<BTreeSet<i64>>,
    /// The ids that the list has, although the contacts' own documents say that they are deleted.
    pub(crate) marked: RefCell<BTreeSet<i64>>,
    /// The form of the list's dates.
    pub(crate) dates: Cell<fn(&str) -> String>,
    /// The time of each call.
    pub(crate) delay: Cell<Duration>,
    /// The number of calls that are answered. The next one never is.
    pub(crate) answers: Cell<usize>,
    started: Instant,
}

impl Office {
    pub(crate) fn new() -> Self {
        Self {
            crm: Crm::new(),
            rows: Cell::new(1000),
            hidden: RefCell::default(),
            unlisted: RefCell::default(),
            marked: RefCell::default(),
            dates: Cell::new(str::to_owned),
            delay: Cell::new(Duration::ZERO),
            answers: Cell::new(usize::MAX),
            started: Instant::now(),
        }
    }

    pub(crate) fn hide(&self, ids: impl IntoIterator<Item = i64>) {
        self.hidden.borrow_mut().extend(ids);
    }

    async fn call(&self) {
        tokio::time::sleep(self.delay.get()).await;
        match self.answers.get().checked_sub(1) {
            Some(left) => self.answers.set(left),
            None => std::future::pending().await,
        }
    }
}

impl SuperOffice for Office {
    async fn document(&self, key: Key) -> Result<Option<String>, Failure> {
        self.call().await;
        let document = self.crm.document(key).await?;
        let document = document.filter(|_| !self.hidden.borrow().contains(&key.id));
        let is_marked = self.marked.borrow().contains(&key.id);
        Ok(document
            .map(|document| if is_marked { document.replace(r#""Deleted":0"#, r#""Deleted":1"#) } else { document }))
    }

    async fn lists(&self, key: Key) -> Result<bool, Failure> {
        self.call().await;
        Ok(self.crm.lists(key).await? && !self.hidden.borrow().contains(&key.id))
    }

    async fn page(&self, archive: &'static Archive, after: i64, rows: usize) -> Result<RecordPage, Failure> {
        self.call().await;
        let mut page = self.crm.page(archive, after, rows).await?;
        let is_left_out = |id| self.hidden.borrow().contains(&id) || self.unlisted.borrow().contains(&id);
        page.records.retain(|record| !is_left_out(record.id));
        page.records.truncate(self.rows.get());
        for record in &mut page.records {
            record.registered = self.dates.get()(&record.registered);
            record.updated = self.dates.get()(&record.updated);
        }
        Ok(page)
    }

    fn now(&self) -> Timestamp {
        self.crm.now() + self.started.elapsed()
    }
}

/// A list of tenants.
#[derive(Debug, Default)]
pub(crate) struct List {
    pub(crate) tenants: Vec<Tenant<Office>>,
    pub(crate) unusable: Vec<String>,
    pub(crate) refused: RefCell<Vec<String>>,
    pub(crate) failure: Option<Failure>,
}

impl Tenants for List {
    type SuperOffice = Office;

    async fn find(&self, name: &str) -> Result<Tenant<Office>, Failure> {
        let found = self.tenants.iter().find(|tenant| tenant.name.eq_ignore_ascii_case(name));
        found.cloned().ok_or(Failure::UnknownTenant)
    }

    async fn all(&self) -> Result<TenantList<Office>, Failure> {
        self.failure.clone().map_or(Ok(()), Err)?;
        Ok(TenantList { tenants: self.tenants.clone(), unusable: self.unusable.clone() })
    }

    async fn refused(&self, name: &str) {
        self.refused.borrow_mut().push(name.to_owned());
    }
}

/// A variant of the mirror. All but the first one are wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Variant {
    AsItIs,
    /// An audit writes its row whatever the table contains.
    OverwritesNewerRow,
    /// An audit continues after the next thousand ids.
    SkipsPageAfterInterruption,
    /// A write by an event leaves the stamp.
    StampSurvivesEvent,
}

/// The table of a variant. Its calls can be interrupted.
#[derive(Debug)]
pub(crate) struct Wired<'a> {
    pub(crate) table: &'a MemoryTable,
    pub(crate) variant: Variant,
    /// The number of calls that are answered. The next one never is.
    pub(crate) answers: Cell<usize>,
    /// The time before a row is written.
    pub(crate) before_write: Cell<Duration>,
    /// The number of positions that were written.
    pub(crate) positions: Cell<usize>,
}

impl<'a> Wired<'a> {
    pub(crate) fn new(table: &'a MemoryTable, variant: Variant) -> Self {
        Self {
            table,
            variant,
            answers: Cell::new(usize::MAX),
            before_write: Cell::new(Duration::ZERO),
            positions: Cell::new(0),
        }
    }

    async fn call(&self) {
        tokio::task::yield_now().await;
        match self.answers.get().checked_sub(1) {
            Some(left) => self.answers.set(left),
            None => std::future::pending().await,
        }
    }
}

impl Table for Wired<'_> {
    async fn get(&self, entity: &str, id: i64) -> Result<Option<Row>, TableError> {
        self.call().await;
        self.table.get(entity, id).await
    }

    async fn put(&self, entity: &str, id: i64, row: &Row, previous: Option<i64>) -> Result<(), WriteError> {
        self.call().await;
        tokio::time::sleep(self.before_write.get()).await;
        let stored = self.table.row(entity, id);
        match self.variant {
            Variant::OverwritesNewerRow if row.stamp.is_some() => {
                self.table.set(entity, id, Some(row.clone()));
                Ok(())
            }
            Variant::StampSurvivesEvent if row.stamp.is_none() => {
                let row = Row { stamp: stored.and_then(|stored| stored.stamp), ..row.clone() };
                self.table.put(entity, id, &row, previous).await
            }
            _ => self.table.put(entity, id, row, previous).await,
        }
    }

    async fn range(
        &self,
        entity: &str,
        after: i64,
        until: Option<i64>,
        limit: usize,
    ) -> Result<Vec<RowHead>, TableError> {
        self.call().await;
        self.table.range(entity, after, until, limit).await
    }

    async fn position(&self, entity: &str) -> Result<Option<Position>, TableError> {
        self.call().await;
        let position = self.table.position(entity).await?;
        let Some(position) = position.filter(|_| self.variant == Variant::SkipsPageAfterInterruption) else {
            return self.table.position(entity).await;
        };
        let mut state = State::parse(&position.state).unwrap();
        state.running.iter_mut().filter(|running| running.after > 0).for_each(|running| running.after += 1000);
        let state = state.position(None, Timestamp::UNIX_EPOCH).state;
        Ok(Some(Position { state, ..position }))
    }

    async fn put_position(&self, entity: &str, position: &Position, previous: Option<i64>) -> Result<(), WriteError> {
        self.call().await;
        self.table.put_position(entity, position, previous).await?;
        self.positions.set(self.positions.get() + 1);
        Ok(())
    }
}

/// Tenants, their table, and the settings.
#[derive(Debug)]
pub(crate) struct Bed {
    pub(crate) list: List,
    pub(crate) table: MemoryTable,
    pub(crate) settings: Settings,
}

impl Bed {
    /// Creates tenants without contacts.
    #[expect(clippy::arc_with_non_send_sync, reason = "the type that owns a tenant's client; a test has one thread")]
    pub(crate) fn new(names: &[&str]) -> Self {
        let tenant =
            |name: &&str| Tenant { name: (*name).to_owned(), is_paused: false, superoffice: Arc::new(Office::new()) };
        let list = List { tenants: names.iter().map(tenant).collect(), ..List::default() };
        Self { list, table: MemoryTable::default(), settings: Settings::default() }
    }

    /// Creates the tenant `Cust1` with contacts from the id 1, whose table is filled.
    pub(crate) async fn filled(contacts: i64) -> Self {
        let bed = Self::new(&["Cust1"]);
        bed.create(1..=contacts);
        bed.audit_to_the_end().await;
        assert_eq!(bed.table.documents("Cust1/contact"), bed.crm().documents());
        bed.crm().take_calls();
        bed.pass_hours(24);
        bed
    }

    pub(crate) fn office(&self) -> &Office {
        &self.list.tenants[0].superoffice
    }

    pub(crate) fn crm(&self) -> &Crm {
        &self.office().crm
    }

    pub(crate) fn create(&self, ids: impl IntoIterator<Item = i64>) {
        ids.into_iter().for_each(|id| self.crm().save(id, &format!("Company {id}")));
    }

    /// Lets time pass for every tenant.
    pub(crate) fn pass_hours(&self, hours: i64) {
        self.list.tenants.iter().for_each(|tenant| tenant.superoffice.crm.clock.advance(hours * 3_600_000));
    }

    pub(crate) fn state(&self, tenant: &str) -> State {
        State::parse(&self.table.stored_position(&format!("#audit/{tenant}/contact")).unwrap().state).unwrap()
    }

    /// Returns `true` if the table equals SuperOffice.
    pub(crate) fn is_equal(&self) -> bool {
        let mut expected = self.crm().documents();
        expected.retain(|id, _| !self.office().marked.borrow().contains(id));
        self.table.documents("Cust1/contact") == expected
    }

    /// Returns the calls so far that are not answered by the list.
    pub(crate) fn reads(&self) -> Vec<String> {
        self.crm().take_calls().into_iter().filter(|call| !call.starts_with("page")).collect()
    }

    /// Handles an event of a contact with a table.
    pub(crate) async fn handle_event(&self, id: i64, table: &impl Table) {
        Visit::new("Cust1", Archive::CONTACT, self.office(), table).mirror(id, Evidence::None, None).await.unwrap();
    }

    /// Runs the schedule once.
    pub(crate) async fn run(&self) -> Report {
        self.run_with(&self.table).await
    }

    pub(crate) async fn run_with(&self, table: &impl Table) -> Report {
        audit::run(&self.list, table, &self.settings, Instant::now() + INVOCATION).await
    }

    /// Begins an audit of a tenant.
    pub(crate) async fn begin(&self, tenant: &str, may_remove: bool) -> Result<Report, Failure> {
        let deadline = Instant::now() + INVOCATION;
        audit::begin(&self.list, &self.table, &self.settings, tenant, may_remove, deadline).await
    }

    /// Runs the schedule until no audit is in progress, and returns the sum of the metrics and all reasons.
    pub(crate) async fn audit_to_the_end(&self) -> Report {
        self.audit_to_the_end_with(&self.table).await
    }

    pub(crate) async fn audit_to_the_end_with(&self, table: &impl Table) -> Report {
        let mut sum = Report::default();
        for _ in 0..1000 {
            let report = self.run_with(table).await;
            add(&mut sum, report);
            if self.list.tenants.iter().all(|tenant| self.state(&tenant.name).running.is_none()) {
                return sum;
            }
        }
        panic!("the audit does not end");
    }
}

pub(crate) fn add(sum: &mut Report, report: Report) {
    let (metrics, more) = (&mut sum.metrics, &report.metrics);
    metrics.written += more.written;
    metrics.removed += more.removed;
    metrics.unchanged += more.unchanged;
    metrics.audit_differences += more.audit_differences;
    metrics.audit_failed += more.audit_failed;
    metrics.audit_completed += more.audit_completed;
    metrics.audit_age = more.audit_age;
    metrics.mirror_throttled += more.mirror_throttled;
    sum.reasons.extend(report.reasons);
    sum.differences.extend(report.differences);
}

/// Returns the ids of the records that were different.
pub(crate) fn different(report: &Report) -> Vec<i64> {
    report.differences.iter().map(|mended| mended.key.id).collect()
}

/// Returns the id and the text of each reason.
pub(crate) fn reasons(report: &Report) -> Vec<(Option<i64>, &str)> {
    report.reasons.iter().map(|reason| (reason.key.map(|key| key.id), reason.reason.as_str())).collect()
}

/// Returns the audit's metrics: differences, failures and completions.
pub(crate) fn counts(report: &Report) -> (u64, u64, u64) {
    (report.metrics.audit_differences, report.metrics.audit_failed, report.metrics.audit_completed)
}
