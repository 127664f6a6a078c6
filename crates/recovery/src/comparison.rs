//! The comparison of SuperOffice with the function's log.
//!
//! [`Comparison::list`] lists records that changed in SuperOffice. [`Comparison::compare`] reads the log, and returns
//! the records whose change it does not report.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::{SignedDuration, Timestamp};
use superoffice_client::{ApiError, Archive, Client};
use tokio::time::Instant;

use crate::changes::{RecordChange, RecordChanges};
use crate::delivery::{Handled, whole_seconds};
use crate::delivery_log::DeliveryLog;
use crate::function_log::FunctionLog;
use crate::logs::LogError;
use crate::record::Record;

/// The number of records that are listed at a time. It bounds the memory, and the log is read once for each part.
const PART: usize = 50_000;
/// The possible difference between the time of a line and CloudWatch's time for it.
const FILING_MARGIN: SignedDuration = SignedDuration::from_secs(60);
/// Younger changes are not compared: CloudWatch returns lines late, so their events may have arrived already.
pub const SETTLING: SignedDuration = SignedDuration::from_mins(2);

/// A window of time, including both ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// The start.
    pub since: Timestamp,
    /// The end.
    pub until: Timestamp,
}

/// The progress of a comparison, readable while it runs.
#[derive(Clone, Debug, Default)]
pub struct Progress(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    listed: AtomicU64,
    lines: AtomicU64,
}

impl Progress {
    /// Returns the number of changed records that were listed so far.
    pub fn listed(&self) -> u64 {
        self.0.listed.load(Ordering::Relaxed)
    }

    /// Returns the number of lines of handled events that were read so far.
    pub fn lines(&self) -> u64 {
        self.0.lines.load(Ordering::Relaxed)
    }

    fn add_listed(&self) {
        self.0.listed.fetch_add(1, Ordering::Relaxed);
    }

    fn add_line(&self) {
        self.0.lines.fetch_add(1, Ordering::Relaxed);
    }
}

/// A comparison of the changes in a window with the log, for any number of tenants.
#[derive(Clone, Debug)]
pub struct Comparison {
    window: Window,
    entities: Vec<&'static Archive>,
    leaves_out_recent: bool,
    part: usize,
    pause_at: Option<Instant>,
    progress: Progress,
}

impl Comparison {
    /// Creates a comparison of the records of these entities. Nothing is read yet.
    pub fn new(window: Window, entities: &[&'static Archive]) -> Self {
        let entities = entities.to_vec();
        Self { window, entities, leaves_out_recent: false, part: PART, pause_at: None, progress: Progress::default() }
    }

    /// Leaves out, and counts, the records that changed in the last two minutes by SuperOffice's clock.
    #[must_use]
    pub fn without_recent_changes(mut self) -> Self {
        self.leaves_out_recent = true;
        self
    }

    /// Lists this number of records at a time.
    #[must_use]
    pub fn with_part(mut self, records: usize) -> Self {
        self.part = records.max(1);
        self
    }

    /// Ends a list at a time. It contains at least one record, so that repeated lists reach the end.
    #[must_use]
    pub fn with_pause_at(mut self, time: Instant) -> Self {
        self.pause_at = Some(time);
        self
    }

    /// Returns the progress of all lists and comparisons.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Lists changed records in order, beginning with the one that follows `after`.
    ///
    /// # Errors
    ///
    /// [`ApiError`] if SuperOffice cannot be read.
    pub async fn list(&self, client: &Client, after: Option<Record>) -> Result<Listing, ApiError> {
        // SuperOffice stores whole seconds.
        let mut changes = RecordChanges::since(client, &self.entities, whole_seconds(self.window.since), after);
        let mut listing = Listing::default();
        let mut last = None;
        listing.continue_after = loop {
            if last.is_some() && self.is_time_up() {
                break last;
            }
            let Some(changed) = changes.next().await? else {
                break None;
            };
            // Only now it is certain that a further part follows.
            if listing.unreported.len() >= self.part {
                break last;
            }
            last = Some(changed.record);
            if changed.at > self.window.until {
                continue;
            }
            if self.leaves_out_recent && is_recent(&changed, client) {
                listing.recent += 1;
                continue;
            }
            listing.unreported.insert(changed.record, changed);
            listing.listed += 1;
            self.progress.add_listed();
        };
        listing.clock_offset = client.clock_offset();
        listing.times_without_offset = changes.without_offset();
        Ok(listing)
    }

    /// Compares a list with the log of its tenant.
    ///
    /// # Errors
    ///
    /// [`LogError`] if the log cannot be read.
    pub async fn compare(&self, mut listing: Listing, log: &DeliveryLog) -> Result<Compared, LogError> {
        if let Some(since) = listing.log_since() {
            log.handled(since, |handled| {
                self.progress.add_line();
                listing.remove_reported(&handled);
                break_if(listing.is_done())
            })
            .await?;
        }
        Ok(listing.into_compared())
    }

    /// Compares the lists of several tenants with the log, which is read once. Each list is beside the name of its
    /// tenant, and the results have the order of the lists.
    ///
    /// # Errors
    ///
    /// [`LogError`] if the log cannot be read.
    pub async fn compare_together(
        &self,
        mut listings: Vec<(String, Listing)>,
        log: &FunctionLog,
    ) -> Result<Vec<Compared>, LogError> {
        let since = listings.iter().filter_map(|(_, listing)| listing.log_since()).min();
        let by_tenant = listings.iter_mut().map(|(tenant, listing)| (tenant.to_ascii_lowercase(), listing));
        let mut unfinished: HashMap<String, &mut Listing> =
            by_tenant.filter(|(_, listing)| !listing.is_done()).collect();
        if let Some(since) = since {
            let log = log.only(unfinished.keys().map(String::as_str));
            let found = |filed: Timestamp, line: &str| {
                let parsed = log.parse(filed, line);
                if let Some((tenants, handled)) = parsed.and_then(|(tenants, line)| Some((tenants, line.handled()?))) {
                    self.progress.add_line();
                    for tenant in tenants.iter() {
                        let Some(listing) = unfinished.get_mut(tenant) else { continue };
                        listing.remove_reported(&handled);
                        if listing.is_done() {
                            unfinished.remove(tenant);
                        }
                    }
                }
                break_if(unfinished.is_empty())
            };
            log.read(since, Timestamp::MAX, found).await?;
        }
        Ok(listings.into_iter().map(|(_, listing)| listing.into_compared()).collect())
    }

    fn is_time_up(&self) -> bool {
        self.pause_at.is_some_and(|time| time <= Instant::now())
    }
}

/// Changed records of one tenant that are not compared with the log yet.
#[derive(Debug, Default)]
pub struct Listing {
    /// The records whose change the log does not report, as far as it was read.
    unreported: HashMap<Record, RecordChange>,
    /// The time that SuperOffice's clock is ahead of AWS's.
    clock_offset: SignedDuration,
    listed: u64,
    recent: u64,
    times_without_offset: u64,
    continue_after: Option<Record>,
}

/// The result of a comparison.
#[derive(Debug, PartialEq, Eq)]
pub struct Compared {
    /// The records whose change the log does not report, in their order.
    pub missed: Vec<RecordChange>,
    /// The number of records that were compared.
    pub listed: u64,
    /// The number of records that changed too recently, see [`Comparison::without_recent_changes`].
    pub recent: u64,
    /// The number of times that SuperOffice sent without an offset, and that were read as UTC.
    pub times_without_offset: u64,
    /// The last record of the list, if a further list follows. That list begins after this record.
    pub continue_after: Option<Record>,
}

impl Listing {
    /// Returns the number of records.
    pub fn listed(&self) -> u64 {
        self.listed
    }

    /// Returns the start of the lines that can report the changes; `None` if there is no change.
    fn log_since(&self) -> Option<Timestamp> {
        let oldest = self.unreported.values().map(|changed| changed.at).min()?;
        Some(oldest.saturating_sub(log_margin(self.clock_offset)).unwrap_or(oldest))
    }

    /// Removes the record of an event if the event is not older than the change.
    fn remove_reported(&mut self, handled: &Handled) {
        let changed = self.unreported.get(&handled.record);
        if changed.is_some_and(|changed| handled.reports(changed.at, self.clock_offset)) {
            self.unreported.remove(&handled.record);
        }
    }

    /// Returns `true` if no further line can change the result.
    fn is_done(&self) -> bool {
        self.unreported.is_empty()
    }

    /// Ends the comparison.
    fn into_compared(self) -> Compared {
        let mut missed: Vec<_> = self.unreported.into_values().collect();
        missed.sort_unstable_by_key(|changed| changed.record);
        Compared {
            missed,
            listed: self.listed,
            recent: self.recent,
            times_without_offset: self.times_without_offset,
            continue_after: self.continue_after,
        }
    }
}

/// Returns the time to subtract from a change to get the start of the log that can report the change. SuperOffice's
/// clock is ahead of AWS's by `clock_offset`.
pub fn log_margin(clock_offset: SignedDuration) -> SignedDuration {
    clock_offset.max(SignedDuration::ZERO) + FILING_MARGIN
}

/// Returns `true` if a record changed in the last two minutes by SuperOffice's clock.
fn is_recent(changed: &RecordChange, client: &Client) -> bool {
    let now = client.now();
    changed.at > now.saturating_add(client.clock_offset() - SETTLING).unwrap_or(now)
}

fn break_if(is_done: bool) -> ControlFlow<()> {
    if is_done { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}
