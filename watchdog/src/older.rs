//! Windows that are older than what a run reads for all tenants.
//!
//! After the visits, the log is read from the start of the oldest window to the present, in pieces of an hour. Each
//! piece serves every tenant whose window has reached it. The next run continues where time ended.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use jiff::{SignedDuration, Timestamp};
use recovery::comparison::LOG_MARGIN;
use recovery::delivery_log::DeliveryLog;
use recovery::logs::{LogError, Logs};
use recovery::shared_log::{SharedLog, TenantNames};
use superoffice_client::changes::Changes;
use superoffice_client::{ApiError, Archive};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, timeout_at};

use crate::state::{Missing, Older};
use crate::visit::{Visit, VisitError, after, before, found, without_arrived};

/// The length of a piece, in seconds. Pieces begin at whole hours, so that tenants share them.
const PIECE: i64 = 3600;
/// The time after which a list of changes ends with the contact that was reached.
const LIST_TIME: Duration = Duration::from_secs(20);
/// The time after which a tenant that does not respond is left to the next run.
const LIST_TIMEOUT: Duration = Duration::from_secs(60);
/// The number of tenants whose changes are listed at the same time.
const LISTS: usize = 16;
/// The number of changes that are kept at most, which bounds the memory. The tenants share it.
const MAX_CHANGES: usize = 200_000;
/// The number of changes of each tenant, however many tenants there are.
const FEWEST_CHANGES: usize = 100;

/// The windows of several tenants.
pub(crate) struct OlderWindows<'a> {
    pub(crate) logs: &'a Logs,
    pub(crate) log_group: &'a str,
    pub(crate) names: &'a TenantNames,
    pub(crate) deadline: Instant,
}

/// A tenant with its window.
struct Entry<'a> {
    visit: Visit<'a>,
    older: Older,
    /// The changes in the window whose time in the log was not reached, as keys in the order of time.
    waiting: BTreeMap<(Timestamp, i64), Missing>,
    is_listed: bool,
    is_done: bool,
}

impl OlderWindows<'_> {
    /// Continues each window, and passes each visit on that is done.
    pub(crate) async fn advance<'v>(&self, mut visits: UnboundedReceiver<Visit<'v>>, mut done: impl FnMut(Visit<'v>)) {
        let mut entries: Vec<Entry<'v>> = Vec::new();
        loop {
            while let Ok(visit) = visits.try_recv() {
                entries.extend(Entry::new(visit));
            }
            if entries.is_empty() {
                match visits.recv().await {
                    Some(visit) => entries.extend(Entry::new(visit)),
                    None => return,
                }
                continue;
            }
            if Instant::now() < self.deadline {
                list(&mut entries, self.deadline.min(Instant::now() + LIST_TIMEOUT)).await;
                let piece = timeout_at(self.deadline, self.read_piece(&mut entries)).await;
                if let Ok(Err(error)) = piece {
                    // Every window is where it was before this piece.
                    for entry in &mut entries {
                        entry.visit.report.note(format!("older changes were not compared: {error}"));
                        entry.is_done = true;
                    }
                }
            } else {
                entries.iter_mut().for_each(|entry| entry.is_done = true);
            }
            for entry in entries.extract_if(.., |entry| entry.is_done) {
                done(entry.finish());
            }
        }
    }

    /// Reads the oldest piece that is needed.
    async fn read_piece(&self, entries: &mut [Entry<'_>]) -> Result<(), LogError> {
        for entry in entries.iter_mut().filter(|entry| !entry.is_done && entry.has_reached_shared_log()) {
            entry.compare_with_shared_log().await?;
        }
        // A range that has just begun is listed first: a change that is listed later would not be compared with this piece.
        let is_active = |entry: &Entry<'_>| entry.is_listed && !entry.is_done;
        let active = || entries.iter().filter(|entry| is_active(entry));
        let Some(since) = active().map(|entry| entry.older.read_until).min() else {
            return Ok(());
        };
        let present = active().map(Entry::shared_since).max().unwrap_or(since);
        let next = Timestamp::from_second((since.as_second().div_euclid(PIECE) + 1) * PIECE).unwrap_or(since);
        let until = next.min(present);
        let names = self.names.only(active().map(Entry::name));
        let window = (since, until);
        let log = SharedLog::read(self.logs.clone(), self.log_group, names, window, self.deadline).await?;
        for entry in entries.iter_mut().filter(|entry| is_active(entry) && entry.older.read_until < log.until()) {
            entry.compare(&log).await?;
        }
        Ok(())
    }
}

/// Lists the changes of the windows that are new, at the same time. A tenant that does not respond in time is left to the
/// next run.
async fn list(entries: &mut [Entry<'_>], deadline: Instant) {
    let most = (MAX_CHANGES / entries.len()).max(FEWEST_CHANGES);
    let new = entries.iter_mut().filter(|entry| !entry.is_listed && !entry.is_done);
    let lists = stream::iter(new).for_each_concurrent(LISTS, async |entry| {
        entry.is_listed = true;
        let result = timeout_at(deadline, entry.list(most)).await.unwrap_or(Ok(false));
        entry.is_done = !matches!(result, Ok(true));
        entry.visit.fail(result.err().map(VisitError::from));
    });
    lists.await;
}

impl<'a> Entry<'a> {
    fn new(visit: Visit<'a>) -> Option<Self> {
        let older = visit.report.state.older.clone()?;
        Some(Self { visit, older, waiting: BTreeMap::new(), is_listed: false, is_done: false })
    }

    fn name(&self) -> &str {
        &self.visit.report.tenant
    }

    /// Returns the start of the log that was read for all tenants.
    fn shared_since(&self) -> Timestamp {
        self.visit.coverage.as_ref().map_or(self.older.read_until, |coverage| coverage.since)
    }

    fn has_reached_shared_log(&self) -> bool {
        self.older.read_until >= self.shared_since()
    }

    /// Returns the time by which the log is read earlier than a change.
    fn margin(&self) -> SignedDuration {
        self.visit.subject.client.clock_offset().max(SignedDuration::ZERO) + LOG_MARGIN
    }

    /// Lists the changes of the window and of the range of keys that is being compared. Returns `false` if time did not
    /// suffice.
    async fn list(&mut self, most: usize) -> Result<bool, ApiError> {
        let subject = Arc::clone(&self.visit.subject);
        let started = Instant::now();
        let mut changes = Changes::since(&subject.client, Archive::CONTACT, self.older.since, self.older.after);
        let comparable_since = after(self.older.read_until, self.margin());
        let mut last_key = None;
        while let Some(contact) = changes.next().await? {
            if self.older.last.is_some_and(|last| last < contact.primary_key) {
                break;
            }
            if last_key.is_some() && (started.elapsed() > LIST_TIME || self.waiting.len() >= most) {
                self.end_range_at(last_key.unwrap_or(contact.primary_key));
                break;
            }
            last_key = Some(contact.primary_key);
            if contact.at >= comparable_since && contact.at < self.older.until {
                self.waiting.insert((contact.at, contact.primary_key), found(&contact));
            }
        }
        Ok(true)
    }

    /// Leaves greater keys to a later range.
    fn end_range_at(&mut self, last: i64) {
        let older = &mut self.older;
        older.last = Some(last);
        self.waiting.retain(|(_, key), _| *key <= last);
        let rest = older.open.extract_if(.., |missing| missing.0 > last);
        older.since = rest.map(|missing| missing.at()).chain([older.since]).min().unwrap_or(older.since);
    }

    /// Compares the changes with a piece of the log.
    async fn compare(&mut self, log: &Arc<SharedLog>) -> Result<(), LogError> {
        let until = log.until();
        let comparable_since = after(until, self.margin());
        let later = self.waiting.split_off(&(comparable_since, i64::MIN));
        let opened = std::mem::replace(&mut self.waiting, later);
        let mut open: BTreeMap<i64, Missing> = self.older.open.drain(..).map(|missing| (missing.0, missing)).collect();
        open.extend(opened.into_values().map(|missing| (missing.0, missing)));
        let open: Vec<Missing> = open.into_values().collect();
        self.close(&open, &log.tenant(self.name()), log.since()).await?;
        self.older.read_until = until;
        if let Some(first_excluded) = self.older.open.get(self.visit.settings.bounds.contacts) {
            self.end_range_at(first_excluded.0 - 1);
        }
        self.visit.report.state.older = Some(self.older.clone());
        Ok(())
    }

    /// Keeps the contacts whose changes have not arrived.
    async fn close(&mut self, open: &[Missing], log: &DeliveryLog, since: Timestamp) -> Result<(), LogError> {
        let subject = Arc::clone(&self.visit.subject);
        let left = without_arrived(&subject.client, log, open, since).await?;
        self.older.open = left.into_values().collect();
        Ok(())
    }

    /// Compares the contacts that are left with what was read for all tenants, and ends the range.
    async fn compare_with_shared_log(&mut self) -> Result<(), LogError> {
        self.is_done = true;
        let Some(coverage) = self.visit.coverage.clone() else {
            return Ok(());
        };
        let open = std::mem::take(&mut self.older.open);
        self.close(&open, &coverage.log, coverage.since).await?;
        let state = &mut self.visit.report.state;
        if state.missing.len() + self.older.open.len() > self.visit.settings.bounds.contacts {
            // They wait until the missing contacts have arrived.
            state.older = Some(self.older.clone());
            return Ok(());
        }
        let mut missing: BTreeMap<i64, Missing> = state.missing.drain(..).map(|missing| (missing.0, missing)).collect();
        for contact in self.older.open.drain(..) {
            missing.entry(contact.0).or_insert(contact);
        }
        state.missing = missing.into_values().collect();
        let margin = self.visit.subject.client.clock_offset().max(SignedDuration::ZERO) + LOG_MARGIN;
        let older = &self.older;
        state.older = older.last.map(|last| Older {
            since: older.since,
            until: older.until,
            after: Some(last),
            last: None,
            read_until: before(older.since, margin),
            open: Vec::new(),
        });
        // The next range can begin in this run.
        if let Some(next) = &state.older {
            self.older = next.clone();
            (self.is_listed, self.is_done) = (false, false);
            self.waiting.clear();
        }
        Ok(())
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
