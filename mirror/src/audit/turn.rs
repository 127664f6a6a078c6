//! The audit of a tenant's records of an entity in one invocation.

use std::collections::VecDeque;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use superoffice_webhook::webhook::entity::Archive;
use tenants::partition;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::audit::Settings;
use crate::audit::comparison::{Brake, Comparison, Difference, Rules};
use crate::audit::state::{Running, State};
use crate::failure::Failure;
use crate::row::Key;
use crate::superoffice::SuperOffice;
use crate::table::{Table, TableError, WriteError};
use crate::telemetry::Report;
use crate::tenants::Tenant;
use crate::visit::{Outcome, Stop, Visit};

/// The number of records of a page of the list, and of rows that are read from the table at once.
const PAGE: usize = 1000;
/// The time of a turn.
const TURN: Duration = Duration::from_secs(4);
/// The time that a turn waits longer for a call in progress. A tenant that hangs does not use up the run.
const LAST_CALL: Duration = Duration::from_secs(8);
/// The time from a page to the first read whose row gets the page's stamp. SuperOffice's dates have whole seconds, so a
/// change shortly after the page can have the date that the page shows. A read after this time contains that change.
const BEFORE_STAMP: Duration = Duration::from_secs(2);
/// The number of records after which the position is written.
const BETWEEN_POSITIONS: u32 = 100;

/// The effect of a turn on the tenant's further turns in this invocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// The time of the next read at the earliest.
    next_read: Instant,
    /// There is no further turn: SuperOffice hangs, throttles, or refused the credentials.
    is_last: bool,
    /// SuperOffice refused the credentials.
    pub is_refused: bool,
}

/// The reason why a turn ends.
#[derive(Debug)]
enum End {
    /// The time of the turn has passed.
    TimeIsUp,
    /// A call was in progress for too long.
    Hangs,
    /// SuperOffice throttles.
    Throttled,
    /// Another run has advanced the audit.
    Lost,
    /// The table failed.
    Table(TableError),
    /// The audit has failed.
    Failed(Failure),
    /// The audit has reached the end of the list.
    Reached,
}

impl From<WriteError> for End {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Changed => Self::Lost,
            WriteError::TooLarge => Self::Table(TableError::Unreadable),
            WriteError::Failed(error) => Self::Table(error),
        }
    }
}

/// A page of the list that was compared with its rows.
#[derive(Debug)]
struct Page {
    fetched: Instant,
    /// The records that are left to read.
    differences: VecDeque<Difference>,
    /// The last id of the range; `None` if the range is open, at the end of the list.
    last: Option<i64>,
}

/// The audit of a tenant's records of an entity.
#[derive(Debug)]
pub struct Audit<'a, S, T> {
    tenant: &'a Tenant<S>,
    archive: &'static Archive,
    table: &'a T,
    settings: &'a Settings,
    visit: Visit<'a, S, T>,
    state: State,
    /// The version of the position in the table.
    version: Option<i64>,
    page: Option<Page>,
    /// The time of the next read at the earliest.
    next_read: Instant,
    /// The number of records since the position was written.
    unwritten: u32,
    /// There is no further turn in this invocation.
    is_over: bool,
    is_refused: bool,
}

impl<'a, S: SuperOffice, T: Table> Audit<'a, S, T> {
    /// Reads the state of an audit. The first scheduled run is noted, because the age of the table counts from it.
    pub(super) async fn open(
        tenant: &'a Tenant<S>,
        archive: &'static Archive,
        table: &'a T,
        settings: &'a Settings,
    ) -> Result<Self, Failure> {
        let now = tenant.superoffice.now();
        let mut audit = Self {
            tenant,
            archive,
            table,
            settings,
            visit: Visit::new(&tenant.name, archive, &*tenant.superoffice, table),
            state: State::new(now),
            version: None,
            page: None,
            next_read: Instant::now(),
            unwritten: 0,
            is_over: false,
            is_refused: false,
        };
        let entity = audit.partition();
        let mut position = table.position(&entity).await?;
        if position.is_none() && settings.hours > 0 {
            let first = audit.state.position(None, now);
            position = match table.put_position(&entity, &first, None).await {
                Ok(()) => Some(first),
                // Another run was faster.
                Err(WriteError::Changed) => table.position(&entity).await?,
                Err(WriteError::TooLarge) => return Err(Failure::Unexpected),
                Err(WriteError::Failed(error)) => return Err(error.into()),
            };
        }
        if let Some(position) = position {
            audit.state = State::parse(&position.state)?;
            audit.version = Some(position.version);
        }
        Ok(audit)
    }

    /// Returns the tenant.
    pub(super) fn tenant(&self) -> &'a Tenant<S> {
        self.tenant
    }

    /// Returns the partition of the position.
    fn partition(&self) -> String {
        partition::of_audit(&self.tenant.name, self.archive.name)
    }

    /// Returns `true` if the audit can have a turn.
    pub(super) fn is_due(&self) -> bool {
        !self.is_over && self.state.is_due(self.settings.hours, self.now())
    }

    /// Returns the time of the last turn.
    pub(super) fn last_advanced(&self) -> Option<Timestamp> {
        self.state.advanced
    }

    /// Returns the time since the last completion, or since the first run.
    pub(super) fn age(&self) -> SignedDuration {
        self.now().duration_since(self.state.completed.unwrap_or(self.state.first_run))
    }

    /// Follows a turn of this audit, or of the audit of another entity of the tenant.
    pub(super) fn follow(&mut self, turn: &Turn) {
        self.next_read = self.next_read.max(turn.next_read);
        self.is_over |= turn.is_last;
    }

    /// Advances the audit for a turn. No record is read after `stop`, and nothing is written after `deadline`.
    pub(super) async fn advance(&mut self, stop: Instant, deadline: Instant, report: &mut Report) -> Turn {
        let until = Instant::now() + TURN;
        let end = timeout_at(stop.min(until + LAST_CALL), self.work(until, report)).await.unwrap_or(End::Hangs);
        let is_refused = std::mem::take(&mut self.is_refused);
        let is_last = is_refused || matches!(end, End::Hangs | End::Throttled);
        let written = timeout_at(deadline, self.end_turn(end, report)).await;
        if written != Ok(true) {
            self.is_over = true;
            self.page = None;
        }
        Turn { next_read: self.next_read, is_last, is_refused }
    }

    /// Writes the position after a turn. Returns `true` if another turn can follow in this invocation.
    async fn end_turn(&mut self, end: End, report: &mut Report) -> bool {
        let now = self.now();
        let mut is_complete = false;
        match &end {
            End::TimeIsUp | End::Hangs => {}
            End::Throttled => report.metrics.mirror_throttled += 1,
            End::Lost => return false,
            End::Table(error) => {
                report.fail_audit(Some(&self.tenant.name), None, &Failure::Table(*error));
                return false;
            }
            End::Failed(failure) => {
                report.fail_audit(Some(&self.tenant.name), None, failure);
                self.state.end(false, now);
            }
            End::Reached => is_complete = self.state.end(true, now),
        }
        match self.write_position().await {
            Ok(()) => report.metrics.audit_completed += u64::from(is_complete),
            Err(End::Table(error)) => {
                report.fail_audit(Some(&self.tenant.name), None, &Failure::Table(error));
                return false;
            }
            Err(_) => return false,
        }
        matches!(end, End::TimeIsUp)
    }

    async fn work(&mut self, until: Instant, report: &mut Report) -> End {
        loop {
            if let Err(end) = self.step(report).await {
                return end;
            }
            if Instant::now() >= until {
                return End::TimeIsUp;
            }
        }
    }

    /// Fetches a page, or reads its next record, or leaves it.
    async fn step(&mut self, report: &mut Report) -> Result<(), End> {
        let Some(page) = &self.page else {
            return self.fetch(report).await;
        };
        if let Some(difference) = page.differences.front().cloned() {
            let not_before = if difference.is_surplus() { page.fetched } else { page.fetched + BEFORE_STAMP };
            return self.mend(&difference, not_before, report).await;
        }
        let last = page.last.ok_or(End::Reached)?;
        self.page = None;
        let now = self.now();
        let running = self.running();
        running.page_after = last;
        // After an interruption, the page can end before the last record that was handled: that record may be gone.
        running.after = running.after.max(last);
        running.reached = Some(now);
        self.write_position().await
    }

    /// Fetches the next page, and compares it with the rows of its range. As long as the brake can be applied, the range
    /// of an interrupted page is compared from its beginning, because its rest can have other proportions.
    async fn fetch(&mut self, report: &mut Report) -> Result<(), End> {
        let now = self.now();
        if self.state.running.is_none() {
            // Written before any record is read, so that no read of the first page is repeated.
            self.running().reached = Some(now);
            self.write_position().await?;
        }
        let running = self.running();
        let brake = match running {
            Running { may_remove: true, .. } => Brake::Off,
            Running { braked: true, .. } => Brake::Applied,
            _ => Brake::On,
        };
        let (after, reached) = (running.after, running.reached);
        let mut last_id = if brake == Brake::On { running.page_after } else { after };
        let page = match self.tenant.superoffice.page(self.archive, last_id, PAGE).await {
            Ok(page) => page,
            Err(failure) if failure.status() == Some(429) => return Err(End::Throttled),
            Err(failure) => {
                self.is_refused |= failure.is_unauthorized();
                return Err(End::Failed(Failure::Page(self.archive.name, failure.into())));
            }
        };
        let fetched = Instant::now();
        // An empty page ends the list: the range then has no end.
        let until = page.records.last().map(|record| record.id);
        // With the brake applied, no row is removed, and rows that the list lacks do not matter.
        let mut covers_range = brake == Brake::Applied && until.is_none();
        let lifetime = SignedDuration::from_hours(24 * i64::from(self.settings.refresh_days));
        let refresh_before = now.saturating_sub(lifetime).unwrap_or(Timestamp::MIN);
        let mut comparison = Comparison::new(page, now, Rules { brake, after, refresh_before, reached });
        let entity = partition::of_rows(&self.tenant.name, self.archive.name);
        while !covers_range && !comparison.is_full() {
            let rows = self.table.range(&entity, last_id, until, PAGE).await.map_err(End::Table)?;
            covers_range = rows.len() < PAGE || rows.last().map(|row| row.id) == until;
            for row in &rows {
                comparison.add(row);
                last_id = row.id;
                if comparison.is_full() {
                    covers_range = false;
                    break;
                }
            }
        }
        let compared = comparison.finish(covers_range);
        if compared.is_braked {
            report.fail_audit(Some(&self.tenant.name), None, &Failure::Braked(self.archive.name));
            // Written before any record is read, because a row that is mended changes the count.
            self.running().braked = true;
            self.write_position().await?;
        }
        let last = if covers_range { until } else { Some(last_id) };
        self.page = Some(Page { fetched, differences: compared.differences, last });
        Ok(())
    }

    /// Reads a record and writes its row. A record that fails is passed.
    async fn mend(&mut self, difference: &Difference, not_before: Instant, report: &mut Report) -> Result<(), End> {
        sleep_until(self.next_read.max(not_before)).await;
        self.next_read = Instant::now() + Duration::from_secs(1) / self.settings.reads_per_second.max(1);
        let id = difference.id;
        let key = Key { archive: self.archive, id };
        match self.visit.mirror(id, difference.evidence(), difference.stamp.as_deref()).await {
            Ok(outcome) => {
                report.add_outcome(outcome);
                if difference.counts_as_lost && self.state.filled && outcome != Outcome::Unchanged {
                    report.add_difference(&self.tenant.name, key);
                }
            }
            Err(failure) => {
                self.is_refused |= self.visit.is_refused();
                match (self.visit.stop(), &failure) {
                    (Some(Stop::Throttled), _) => return Err(End::Throttled),
                    (_, Failure::Table(error)) if *error != TableError::Unreadable => return Err(End::Table(*error)),
                    _ => {}
                }
                report.fail_audit(Some(&self.tenant.name), Some(key), &failure);
                self.running().failures += 1;
                if self.visit.stop().is_some() {
                    return Err(End::Failed(Failure::GivenUp));
                }
            }
        }
        self.running().after = id;
        if let Some(page) = &mut self.page {
            page.differences.pop_front();
        }
        self.unwritten += 1;
        if self.unwritten >= BETWEEN_POSITIONS { self.write_position().await } else { Ok(()) }
    }

    /// Writes the position, unless another run has written it.
    async fn write_position(&mut self) -> Result<(), End> {
        let now = self.now();
        self.state.advanced = Some(now);
        let position = self.state.position(self.version, now);
        self.table.put_position(&self.partition(), &position, self.version).await?;
        self.version = Some(position.version);
        self.unwritten = 0;
        Ok(())
    }

    /// Returns the audit in progress, and begins one if there is none.
    fn running(&mut self) -> &mut Running {
        self.state.running.get_or_insert_default()
    }

    fn now(&self) -> Timestamp {
        self.tenant.superoffice.now()
    }
}
