//! Windows that are older than what a run reads for all tenants.
//!
//! After the visits, the log is read from the start of the oldest window to the present, in pieces of an hour. Each
//! piece serves every tenant whose window has reached it. The next run continues where time ended.
//!
//! For a tenant, this is: list the changes in its window, compare them with one piece after another, and then with the
//! log that was read for all tenants. Records that remain are missing. If a window has too many changes, this is
//! repeated for one range of records after another.

use std::collections::BTreeMap;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use jiff::{SignedDuration, Timestamp};
use recovery::changes::RecordChanges;
use recovery::comparison::log_margin;
use recovery::delivery_log::DeliveryLog;
use recovery::function_log::FunctionLog;
use recovery::logs::LogError;
use recovery::record::Record;
use recovery::shared_log::SharedLog;
use superoffice_client::ApiError;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, timeout_at};

use crate::state::{Missing, Older, after, before, by_record};
use crate::visit::{Visit, still_missing};

/// The length of a piece, in seconds. Pieces begin at whole hours, so that tenants share them.
const PIECE: i64 = 3600;
/// A list of changes that takes longer ends with the record that was reached.
const PAUSE_LIST_AFTER: Duration = Duration::from_secs(20);
/// A tenant that does not respond for longer is left to the next run.
const GIVE_UP_LIST_AFTER: Duration = Duration::from_secs(60);
/// The number of tenants whose changes are listed at the same time.
const LISTS: usize = 16;
/// The number of changes that are kept at most, which bounds the memory. The tenants share it.
const MAX_CHANGES: usize = 200_000;
/// The number of changes of each tenant, however many tenants there are.
const FEWEST_CHANGES: usize = 100;

/// The windows of several tenants.
pub(crate) struct OlderWindows<'a> {
    pub(crate) log: &'a FunctionLog,
    pub(crate) deadline: Instant,
}

impl OlderWindows<'_> {
    /// Continues each window, and passes each visit on that is done.
    pub(crate) async fn advance<'v>(&self, mut visits: UnboundedReceiver<Visit<'v>>, mut done: impl FnMut(Visit<'v>)) {
        let mut windows: Vec<WindowOfVisit<'v>> = Vec::new();
        while receive(&mut visits, &mut windows).await {
            if Instant::now() < self.deadline {
                self.list_changes(&mut windows).await;
                self.compare_until_deadline(&mut windows).await;
            } else {
                leave_to_next_run(&mut windows);
            }
            for window in windows.extract_if(.., |window| window.stage == Stage::Done) {
                done(window.finish());
            }
        }
    }

    /// Lists the changes of each range that begins, for several tenants at the same time.
    async fn list_changes(&self, windows: &mut [WindowOfVisit<'_>]) {
        let deadline = self.deadline.min(Instant::now() + GIVE_UP_LIST_AFTER);
        let most = (MAX_CHANGES / windows.len().max(1)).max(FEWEST_CHANGES);
        let begin = windows.iter_mut().filter(|window| window.stage == Stage::NotListed);
        let lists = stream::iter(begin).for_each_concurrent(LISTS, async |window| {
            match timeout_at(deadline, window.list(most)).await {
                Ok(Ok(())) => window.stage = Stage::Listed,
                Ok(Err(error)) => {
                    window.visit.fail(error.into());
                    window.stage = Stage::Done;
                }
                // The tenant does not respond.
                Err(_) => window.stage = Stage::Done,
            }
        });
        lists.await;
    }

    /// Compares the windows with the next piece of the log, unless time ends.
    async fn compare_until_deadline(&self, windows: &mut [WindowOfVisit<'_>]) {
        // At the deadline, nothing of this piece is kept: the state of each visit is the one before it.
        if let Ok(Err(error)) = timeout_at(self.deadline, self.compare_next_piece(windows)).await {
            for window in &mut *windows {
                window.visit.report.note(format!("older changes were not compared: {error}"));
            }
            leave_to_next_run(windows);
        }
    }

    /// Ends the ranges that have reached the log that was read for all tenants, and compares the others with the oldest
    /// piece that is needed.
    async fn compare_next_piece(&self, windows: &mut [WindowOfVisit<'_>]) -> Result<(), LogError> {
        for window in windows.iter_mut().filter(|window| window.stage == Stage::Listed) {
            if window.has_reached_shared_log() {
                window.end_range().await?;
            }
        }
        let listed = || windows.iter().filter(|window| window.stage == Stage::Listed);
        let Some(since) = listed().map(|window| window.older.read_until).min() else {
            return Ok(());
        };
        let shared_since = listed().map(WindowOfVisit::shared_since).max().unwrap_or(since);
        let log = self.log.only(listed().map(WindowOfVisit::tenant));
        let piece = SharedLog::read(log, (since, end_of_piece(since).min(shared_since)), self.deadline).await?;
        for window in windows.iter_mut().filter(|window| window.stage == Stage::Listed) {
            if window.older.read_until < piece.until() {
                window.compare(&piece).await?;
            }
        }
        Ok(())
    }
}

/// Accepts the visits that wait, or waits for the next one if there is no work. Returns `false` if none can follow.
async fn receive<'v>(visits: &mut UnboundedReceiver<Visit<'v>>, windows: &mut Vec<WindowOfVisit<'v>>) -> bool {
    // Only visits with an older window are sent.
    while let Ok(visit) = visits.try_recv() {
        windows.extend(WindowOfVisit::new(visit));
    }
    while windows.is_empty() {
        match visits.recv().await {
            Some(visit) => windows.extend(WindowOfVisit::new(visit)),
            None => return false,
        }
    }
    true
}

fn leave_to_next_run(windows: &mut [WindowOfVisit<'_>]) {
    windows.iter_mut().for_each(|window| window.stage = Stage::Done);
}

/// Returns the end of the piece that begins at a time.
fn end_of_piece(since: Timestamp) -> Timestamp {
    Timestamp::from_second((since.as_second().div_euclid(PIECE) + 1) * PIECE).unwrap_or(since)
}

/// The stage of a range of records.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    NotListed,
    Listed,
    /// There is no further range, or the next run continues.
    Done,
}

/// The older window of a tenant.
struct WindowOfVisit<'a> {
    visit: Visit<'a>,
    /// The window as far as it was compared. The state of the visit follows after each piece.
    older: Older,
    stage: Stage,
    /// The changes that only the log after `read_until` can report, in the order of time.
    later: BTreeMap<(Timestamp, Record), Missing>,
}

impl<'a> WindowOfVisit<'a> {
    fn new(visit: Visit<'a>) -> Option<Self> {
        let older = visit.report.state.older.clone()?;
        Some(Self { visit, older, stage: Stage::NotListed, later: BTreeMap::new() })
    }

    fn tenant(&self) -> &str {
        &self.visit.report.tenant
    }

    /// Returns the start of the log that was read for all tenants.
    fn shared_since(&self) -> Timestamp {
        self.visit.coverage.as_ref().map_or(self.older.read_until, |coverage| coverage.since)
    }

    fn has_reached_shared_log(&self) -> bool {
        self.older.read_until >= self.shared_since()
    }

    /// Returns the time to subtract from a change to get the start of the log that can report the change.
    fn margin(&self) -> SignedDuration {
        log_margin(self.visit.access.client.clock_offset())
    }

    /// Lists the changes of the window, from the start of the range to its end. If they are too many, the range ends
    /// earlier.
    async fn list(&mut self, most: usize) -> Result<(), ApiError> {
        let access = Arc::clone(&self.visit.access);
        let pause_at = Instant::now() + PAUSE_LIST_AFTER;
        let mut changes =
            RecordChanges::since(&access.client, &self.visit.settings.entities, self.older.since, self.older.after);
        let first_later = after(self.older.read_until, self.margin());
        let mut last_record = None;
        while let Some(changed) = changes.next().await? {
            if self.older.last.is_some_and(|last| last < changed.record) {
                break;
            }
            let is_enough = pause_at <= Instant::now() || self.later.len() >= most;
            if let Some(last) = last_record.filter(|_| is_enough) {
                self.end_range_after(last);
                break;
            }
            last_record = Some(changed.record);
            if changed.at >= first_later && changed.at < self.older.until {
                self.later.insert((changed.at, changed.record), Missing::from(&changed));
            }
        }
        Ok(())
    }

    /// Leaves the records that follow `last` to a later range.
    fn end_range_after(&mut self, last: Record) {
        let older = &mut self.older;
        older.last = Some(last);
        self.later.retain(|(_, record), _| *record <= last);
        // The next range begins at the window's start, which must not be later than these changes.
        for missing in older.unreported.extract_if(.., |missing| missing.record > last) {
            older.since = older.since.min(missing.changed_at);
        }
    }

    /// Compares the changes with a piece of the log.
    async fn compare(&mut self, piece: &Arc<SharedLog>) -> Result<(), LogError> {
        let first_later = after(piece.until(), self.margin());
        let later = self.later.split_off(&(first_later, Record::FIRST));
        let reached = mem::replace(&mut self.later, later);
        let mut unreported = by_record(mem::take(&mut self.older.unreported));
        unreported.extend(by_record(reached.into_values()));
        let unreported: Vec<Missing> = unreported.into_values().collect();
        let log = DeliveryLog::shared(piece, self.tenant());
        let unreported = still_missing(&self.visit.access.client, &log, &unreported, piece.since()).await?;
        self.older.unreported = unreported.into_values().collect();
        self.older.read_until = piece.until();
        let room = self.visit.settings.bounds.records;
        let last_with_room = self.older.unreported.iter().take(room).next_back().map(|missing| missing.record);
        if let Some(last) = last_with_room.filter(|_| self.older.unreported.len() > room) {
            self.end_range_after(last);
        }
        self.visit.report.state.older = Some(self.older.clone());
        Ok(())
    }

    /// Compares the records that are left with the log that was read for all tenants. Those that remain are missing,
    /// and the next range begins.
    async fn end_range(&mut self) -> Result<(), LogError> {
        self.stage = Stage::Done;
        let Some(coverage) = self.visit.coverage.clone() else {
            return Ok(());
        };
        let unreported = mem::take(&mut self.older.unreported);
        let unreported = still_missing(&self.visit.access.client, &coverage.log, &unreported, coverage.since).await?;
        let (state, room) = (&mut self.visit.report.state, self.visit.settings.bounds.records);
        if state.missing.len() + unreported.len() > room {
            // They wait until the missing records have arrived.
            self.older.unreported = unreported.into_values().collect();
            state.older = Some(self.older.clone());
            return Ok(());
        }
        let mut missing = unreported;
        missing.extend(by_record(mem::take(&mut state.missing)));
        state.missing = missing.into_values().collect();
        let next = self.next_range();
        self.visit.report.state.older.clone_from(&next);
        if let Some(next) = next {
            (self.older, self.stage) = (next, Stage::NotListed);
            self.later.clear();
        }
        Ok(())
    }

    /// Returns the window with the range that follows; `None` after the last range.
    fn next_range(&self) -> Option<Older> {
        let Older { since, until, last, .. } = self.older;
        Some(Older {
            since,
            until,
            after: Some(last?),
            last: None,
            read_until: before(since, self.margin()),
            unreported: Vec::new(),
        })
    }

    fn finish(mut self) -> Visit<'a> {
        if self.visit.report.state.older.is_some() {
            let until = self.older.read_until;
            self.visit
                .report
                .note(format!("older changes were compared with the log until {until}; the next run continues"));
        }
        self.visit
    }
}
