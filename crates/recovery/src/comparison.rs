//! The contacts that changed in SuperOffice and that the function did not handle since.

mod together;

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use crate::delivery_log::{DeliveryLog, Handled};
use crate::logs::LogError;
use superoffice_client::changes::{ChangedRecord, Changes};
use superoffice_client::{ApiError, Archive, Client};

pub use together::{Listing, compare};

/// The number of contacts that are compared with the log at a time. It bounds the memory, and for each such batch the
/// log is read once.
const BATCH: usize = 50_000;
/// The log is read from a little before the oldest change, because CloudWatch files lines under its own time.
pub const LOG_MARGIN: SignedDuration = SignedDuration::from_secs(60);

/// SuperOffice or the log cannot be read.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the variants are named after their errors")]
pub enum ComparisonError {
    #[error(transparent)]
    Api(#[from] ApiError),
    #[error(transparent)]
    Log(#[from] LogError),
}

/// A window of time, including both ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// The start.
    pub since: Timestamp,
    /// The end.
    pub until: Timestamp,
}

/// The progress of a comparison, or of several, readable while they run.
#[derive(Clone, Debug, Default)]
pub struct Progress(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    listed: AtomicU64,
    lines: AtomicU64,
    unsettled: AtomicU64,
}

impl Progress {
    /// Returns the number of changed contacts that were listed so far.
    pub fn listed(&self) -> u64 {
        self.0.listed.load(Ordering::Relaxed)
    }

    /// Returns the number of lines of handled events that were read so far.
    pub fn lines(&self) -> u64 {
        self.0.lines.load(Ordering::Relaxed)
    }

    /// Returns the number of contacts that changed too recently to be compared, see [`Comparison::with_settling`].
    pub fn unsettled(&self) -> u64 {
        self.0.unsettled.load(Ordering::Relaxed)
    }
}

/// The contacts that were missed in a window, found in batches. Memory does not grow with their number.
#[derive(Debug)]
pub struct Comparison<'a> {
    client: &'a Client,
    changes: Changes<'a>,
    log: &'a DeliveryLog,
    window: Window,
    batch: usize,
    settling: SignedDuration,
    /// The latest change that is compared, known after the first response.
    settled: Option<Timestamp>,
    pause_at: Option<Instant>,
    last_key: Option<i64>,
    is_paused: bool,
    progress: Progress,
}

impl<'a> Comparison<'a> {
    /// Begins a comparison with the contact that follows `after`, or with the first contact.
    pub fn new(client: &'a Client, log: &'a DeliveryLog, window: Window, after: Option<i64>) -> Self {
        // SuperOffice stores whole seconds.
        let since = whole_seconds(window.since);
        Self {
            client,
            changes: Changes::since(client, Archive::CONTACT, since, after),
            log,
            window,
            batch: BATCH,
            settling: SignedDuration::ZERO,
            settled: None,
            pause_at: None,
            last_key: None,
            is_paused: false,
            progress: Progress::default(),
        }
    }

    /// Stops at a time. At least one contact is compared before, so that repeated comparisons reach the end.
    #[must_use]
    pub fn with_pause_at(mut self, time: Instant) -> Self {
        self.pause_at = Some(time);
        self
    }

    /// Leaves out, and counts, the contacts that changed in the last `settling` before the comparison began, by
    /// SuperOffice's clock.
    #[must_use]
    pub fn with_settling(mut self, settling: SignedDuration) -> Self {
        self.settling = settling;
        self
    }

    /// Returns the last contact that was compared, if the comparison stopped before the end.
    pub fn paused_after(&self) -> Option<i64> {
        self.last_key.filter(|_| self.is_paused)
    }

    /// Returns the number of times so far that SuperOffice sent without an offset, and that were read as UTC.
    pub fn times_without_offset(&self) -> u64 {
        self.changes.without_offset()
    }

    /// Compares this number of contacts with the log at a time.
    #[must_use]
    pub fn with_batch(mut self, contacts: usize) -> Self {
        self.batch = contacts.max(1);
        self
    }

    /// Adds to the progress of other comparisons.
    #[must_use]
    pub fn with_progress(mut self, progress: &Progress) -> Self {
        self.progress = progress.clone();
        self
    }

    /// Returns the progress.
    pub fn progress(&self) -> Progress {
        self.progress.clone()
    }

    /// Returns the missed contacts of the next batch, in the order of their keys; `None` after the last batch, or when
    /// the comparison has stopped.
    ///
    /// # Errors
    ///
    /// [`ComparisonError`] if SuperOffice or the log cannot be read.
    pub async fn next_batch(&mut self) -> Result<Option<Vec<ChangedRecord>>, ComparisonError> {
        let Some(mut batch) = self.next_changes().await? else {
            return Ok(None);
        };
        let lines = &self.progress.0.lines;
        self.log
            .handled(batch.from, |handled| {
                lines.fetch_add(1, Ordering::Relaxed);
                batch.remove(&handled);
                if batch.open.is_empty() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })
            .await?;
        Ok(Some(batch.into_missed()))
    }

    /// Lists the changed contacts of the next batch; `None` after the last batch, or when the comparison has stopped.
    async fn next_changes(&mut self) -> Result<Option<Batch>, ApiError> {
        let mut open: HashMap<i64, ChangedRecord> = HashMap::new();
        let mut oldest: Option<Timestamp> = None;
        while open.len() < self.batch {
            if self.last_key.is_some() && self.pause_at.is_some_and(|time| time <= Instant::now()) {
                self.is_paused = true;
                break;
            }
            let Some(contact) = self.changes.next().await? else {
                break;
            };
            self.last_key = Some(contact.primary_key);
            if contact.at > self.window.until {
                continue;
            }
            if !self.settling.is_zero() && contact.at > self.settled() {
                self.progress.0.unsettled.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            self.progress.0.listed.fetch_add(1, Ordering::Relaxed);
            oldest = Some(oldest.map_or(contact.at, |oldest| oldest.min(contact.at)));
            open.insert(contact.primary_key, contact);
        }
        let Some(oldest) = oldest else {
            return Ok(None);
        };
        let ahead = self.client.clock_offset();
        let from = oldest.saturating_sub(ahead.max(SignedDuration::ZERO) + LOG_MARGIN).unwrap_or(oldest);
        Ok(Some(Batch { open, from, ahead }))
    }

    fn settled(&mut self) -> Timestamp {
        *self.settled.get_or_insert_with(|| {
            let now = self.client.now();
            now.saturating_add(self.client.clock_offset() - self.settling).unwrap_or(now)
        })
    }
}

/// Changed contacts, and what their comparison with the log needs.
#[derive(Debug)]
struct Batch {
    /// The contacts without an event in the log, as far as it was read.
    open: HashMap<i64, ChangedRecord>,
    /// The start of the lines that can report the changes.
    from: Timestamp,
    /// The time by which SuperOffice's clock is ahead of AWS's.
    ahead: SignedDuration,
}

impl Batch {
    /// Removes the contact of an event if the event is not older than the change.
    fn remove(&mut self, handled: &Handled) {
        let contact = self.open.get(&handled.primary_key);
        if contact.is_some_and(|contact| handled.occurred(self.ahead) >= whole_seconds(contact.at)) {
            self.open.remove(&handled.primary_key);
        }
    }

    /// Returns the remaining contacts, in the order of their keys.
    fn into_missed(self) -> Vec<ChangedRecord> {
        let mut missed: Vec<_> = self.open.into_values().collect();
        missed.sort_unstable_by_key(|contact| contact.primary_key);
        missed
    }
}

/// Removes the fraction of a second, which not every column has.
fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}
