//! Signals `contact.resync` for contacts and `person.resync` for persons, and stops if the events do not arrive.
//!
//! SuperOffice disables a webhook after a few failed deliveries, and then every event is lost. So the first signal is a
//! canary: no other signal follows until the log shows that its event was forwarded. Later, the log is watched, and only
//! a few signals are on their way at a time. So an outage stops the signals even if it prevents every log line. Each
//! entity has a canary, because the function may forward the events of one entity and ignore those of another.

mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use superoffice_client::{ApiError, Archive, Client};
use tokio::time::Instant;

use self::watch::Watch;
use crate::delivery::{Delivery, Outcome};
use crate::delivery_log::DeliveryLog;
use crate::logs::LogError;
use crate::record::Record;

/// The number of canaries whose call may fail. A canary that SuperOffice does not find (404) does not count: the record
/// may have been deleted after it was listed.
const MAX_FAILED: u32 = 3;
/// The number of canaries whose call may fail, including those that SuperOffice does not find.
const MAX_FAILED_OR_NOT_FOUND: u32 = 25;
/// The number of signals whose events are on their way at most. One of them can be the first failed delivery.
const WINDOW: usize = 25;
/// The number of lost events that stops the signals, even if others arrive.
const MAX_LOST: usize = 25;
/// The log is read at least this often while events are on their way.
const READ_INTERVAL: Duration = Duration::from_secs(2);
/// The first wait for a missing event is this fraction of the longest wait: an eighth.
const FIRST_WAIT_DIVISOR: u32 = 8;
/// The log is read from this long before the first signal, because a local clock can be ahead of AWS's. Failures in this
/// period do not stop the signals.
const LOOKBACK: SignedDuration = SignedDuration::from_mins(10);

/// Waits for a while. Tests pass their own function.
pub type Sleep = Box<dyn Fn(Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// The times between signals, and between reads of the log.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// The shortest time between two signals.
    pub interval: Duration,
    /// The longest wait before a read of the log for an awaited event. The first waits are shorter.
    pub read_every: Duration,
    /// The signals stop after this number of reads in a row that find none of the awaited events.
    pub reads: u32,
}

impl Default for Pace {
    /// No pause between signals. 62 reads last about three minutes, because the first waits are shorter.
    fn default() -> Self {
        Self { interval: Duration::ZERO, read_every: Duration::from_secs(3), reads: 62 }
    }
}

impl Pace {
    /// Limits the number of signals per second.
    #[must_use]
    pub fn with_rate(mut self, per_second: u32) -> Self {
        self.interval = Duration::from_secs(1) / per_second.max(1);
        self
    }

    /// Returns the wait before a read: none at first, and then twice as long each time.
    fn wait(&self, reads: u32) -> Duration {
        let Some(doublings) = reads.checked_sub(1) else {
            return Duration::ZERO;
        };
        (self.read_every / FIRST_WAIT_DIVISOR).saturating_mul(1 << doublings.min(16)).min(self.read_every)
    }

    /// Returns the time to wait for an event although later events have arrived.
    fn patience(&self) -> Duration {
        self.read_every * self.reads
    }
}

/// The reason why no further record may be signaled.
#[derive(Debug, thiserror::Error)]
pub enum Halt {
    /// The event of this record did not arrive.
    #[error("{0} was signaled but did not arrive")]
    NotArrived(Record),
    /// The function ignored a signal's event, which has this name.
    #[error("the function ignored the event of a signal: FORWARD_EVENTS does not match {0}")]
    Ignored(String),
    /// The log shows a failed delivery.
    #[error("a delivery failed")]
    DeliveryFailed,
    /// The calls of the first signals failed. This is their number. Each error may concern one record only.
    #[error("the first {0} signals failed")]
    SignalsFailed(u32),
    /// The log cannot be read.
    #[error(transparent)]
    Log(#[from] LogError),
}

/// A signal whose event is not in the log yet.
struct Awaited {
    record: Record,
    /// The position in the order of signals.
    number: u64,
    since: Instant,
}

/// Signals records one after another.
pub struct Signaler<'a> {
    client: &'a Client,
    log: &'a DeliveryLog,
    pace: Pace,
    sleep: &'a Sleep,
    trusts_recent: bool,
    /// Known after the first read.
    watch: Option<Watch>,
    /// The entity whose records are being signaled.
    archive: Option<&'static Archive>,
    /// The entities whose events were forwarded recently.
    confirmed: BTreeSet<&'static str>,
    signals: u64,
    /// The number of the entity's canaries whose call failed, except with 404. A canary whose call failed is not
    /// awaited: the next record is the canary.
    failed: u32,
    /// The number of the entity's canaries whose call failed with 404.
    not_found: u32,
    /// Oldest first.
    awaited: Vec<Awaited>,
    /// The latest signal whose event was forwarded.
    latest_arrival: u64,
    /// Those that the caller has not taken.
    lost: Vec<Record>,
    lost_count: usize,
    last_signal: Option<Instant>,
    last_read: Instant,
}

impl std::fmt::Debug for Signaler<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signaler").field("signals", &self.signals).finish_non_exhaustive()
    }
}

impl<'a> Signaler<'a> {
    /// Creates a signaler for a tenant, and for the log of the function that receives its events.
    pub fn new(client: &'a Client, log: &'a DeliveryLog, pace: Pace, sleep: &'a Sleep) -> Self {
        Self {
            client,
            log,
            pace,
            sleep,
            trusts_recent: false,
            watch: None,
            archive: None,
            confirmed: BTreeSet::new(),
            signals: 0,
            failed: 0,
            not_found: 0,
            awaited: Vec::new(),
            latest_arrival: 0,
            lost: Vec::new(),
            lost_count: 0,
            last_signal: None,
            last_read: Instant::now(),
        }
    }

    /// Needs no canary of an entity if one of its events was delivered in the last ten minutes, and no delivery has
    /// failed since.
    #[must_use]
    pub fn trusting_recent_deliveries(mut self) -> Self {
        self.trusts_recent = true;
        self
    }

    /// Waits until the next record of an entity may be signaled. The wait may be given up and repeated.
    ///
    /// # Errors
    ///
    /// [`Halt`] if no further record may be signaled.
    pub async fn ready(&mut self, archive: &'static Archive) -> Result<(), Halt> {
        if self.watch.is_none() {
            self.begin().await?;
        }
        if self.archive != Some(archive) {
            self.wait(0).await?;
            (self.archive, self.failed, self.not_found) = (Some(archive), 0, 0);
        }
        let allowed = if self.is_confirmed() { WINDOW } else { 1 };
        if self.awaited.len() >= allowed {
            self.wait(allowed - 1).await?;
        } else if !self.awaited.is_empty() && self.last_read.elapsed() >= READ_INTERVAL {
            self.read_log().await?;
        }
        let failed_or_not_found = self.failed + self.not_found;
        if !self.is_confirmed() && (self.failed >= MAX_FAILED || failed_or_not_found >= MAX_FAILED_OR_NOT_FOUND) {
            return Err(Halt::SignalsFailed(failed_or_not_found));
        }
        let left = self.last_signal.map(|last| self.pace.interval.saturating_sub(last.elapsed()));
        if let Some(left) = left.filter(|left| !left.is_zero()) {
            (self.sleep)(left).await;
        }
        Ok(())
    }

    /// Signals a record, after [`ready`](Self::ready).
    ///
    /// # Errors
    ///
    /// [`ApiError`] if the call failed. If the error [is specific](ApiError::is_specific), other records can be
    /// signaled.
    pub async fn signal(&mut self, record: Record) -> Result<(), ApiError> {
        self.last_signal = Some(Instant::now());
        let result = self.client.signal_resync(record.archive, record.id).await;
        if let Err(error) = &result
            && !self.is_confirmed()
        {
            let count = if error.status() == Some(404) { &mut self.not_found } else { &mut self.failed };
            *count += 1;
        }
        result?;
        self.signals += 1;
        self.awaited.push(Awaited { record, number: self.signals, since: Instant::now() });
        Ok(())
    }

    /// Waits until the log shows the event of every signal. The wait may be given up and repeated.
    ///
    /// # Errors
    ///
    /// [`Halt`] if an event did not arrive.
    pub async fn settle(&mut self) -> Result<(), Halt> {
        self.wait(0).await
    }

    /// Returns the number of records that were signaled.
    pub fn signals(&self) -> u64 {
        self.signals
    }

    /// Returns the record that was signaled first of those whose events are awaited.
    pub fn first_awaited(&self) -> Option<Record> {
        self.awaited.first().map(|awaited| awaited.record)
    }

    /// Returns the records whose events got lost since the last call of this method: later events have arrived.
    pub fn take_lost(&mut self) -> Vec<Record> {
        mem::take(&mut self.lost)
    }

    /// Reads the log before the first signal.
    async fn begin(&mut self) -> Result<(), LogError> {
        let now = self.client.now();
        let before = |time: Timestamp| time.saturating_sub(LOOKBACK).unwrap_or(time);
        let recent = before(now);
        let superoffice = now.saturating_add(self.client.clock_offset()).unwrap_or(now);
        let mut watch = Watch::since(before(now.min(superoffice)));
        // The times of each entity's latest delivery, and of the latest failure.
        let mut delivered: BTreeMap<&'static str, Timestamp> = BTreeMap::new();
        let mut failed = None;
        let found = |delivery: &Delivery| match (delivery.outcome, delivery.archive) {
            _ if delivery.written < recent => {}
            (Outcome::Failed, _) => failed = failed.max(Some(delivery.written)),
            (Outcome::Ignored, _) if delivery.is_resync => {}
            (Outcome::Forwarded | Outcome::Ignored, Some(archive)) => {
                let latest = delivered.entry(archive.name).or_default();
                *latest = (*latest).max(delivery.written);
            }
            (_, None) => {}
        };
        watch.read(self.log, found).await?;
        if self.trusts_recent {
            let confirmed = delivered.into_iter().filter(|(_, delivered)| Some(*delivered) > failed);
            self.confirmed.extend(confirmed.map(|(entity, _)| entity));
        }
        self.watch = Some(watch);
        Ok(())
    }

    /// Returns `true` if an event of the entity was forwarded recently.
    fn is_confirmed(&self) -> bool {
        self.archive.is_some_and(|archive| self.confirmed.contains(archive.name))
    }

    /// Reads the log until at most this number of events is awaited.
    async fn wait(&mut self, allowed: usize) -> Result<(), Halt> {
        let mut reads = 0;
        while self.awaited.len() > allowed {
            if reads >= self.pace.reads {
                return Err(self.not_arrived());
            }
            (self.sleep)(self.pace.wait(reads)).await;
            reads = if self.read_log().await? { 0 } else { reads + 1 };
        }
        Ok(())
    }

    /// Reads the new lines of the log. Returns `true` if an event has arrived.
    async fn read_log(&mut self) -> Result<bool, Halt> {
        let archive = self.archive;
        let canary = self.first_awaited().filter(|_| !self.is_confirmed());
        let Some(watch) = &mut self.watch else {
            return Ok(false);
        };
        let (awaited, latest_arrival) = (&mut self.awaited, &mut self.latest_arrival);
        let (mut has_arrived, mut canary_failed, mut another_failed, mut ignored) = (false, false, false, None);
        let found = |delivery: &Delivery| match delivery.outcome {
            Outcome::Failed if delivery.is_resync && canary.is_some() && delivery.record() == canary => {
                canary_failed = true;
            }
            // SuperOffice disables the webhook after failed deliveries of any entity.
            Outcome::Failed => another_failed = true,
            _ if delivery.archive != archive => {}
            Outcome::Ignored if delivery.is_resync => ignored = archive.map(Archive::resync),
            Outcome::Ignored => {}
            Outcome::Forwarded if delivery.is_resync => {
                let position = awaited.iter().position(|awaited| Some(awaited.record) == delivery.record());
                if let Some(position) = position {
                    *latest_arrival = (*latest_arrival).max(awaited.remove(position).number);
                    has_arrived = true;
                }
            }
            Outcome::Forwarded => {}
        };
        watch.read(self.log, found).await?;
        self.last_read = Instant::now();
        if let Some(event) = ignored {
            return Err(Halt::Ignored(event));
        }
        if another_failed {
            return Err(Halt::DeliveryFailed);
        }
        // SuperOffice may have repeated the canary's delivery with success.
        if canary_failed && !has_arrived {
            return Err(self.not_arrived());
        }
        self.confirmed.extend(archive.filter(|_| has_arrived).map(|archive| archive.name));
        self.give_up_lost()?;
        Ok(has_arrived)
    }

    /// No longer waits for old events that later ones have overtaken.
    fn give_up_lost(&mut self) -> Result<(), Halt> {
        let (patience, latest_arrival) = (self.pace.patience(), self.latest_arrival);
        let is_lost = |signal: &mut Awaited| signal.number < latest_arrival && signal.since.elapsed() > patience;
        for signal in self.awaited.extract_if(.., is_lost) {
            self.lost_count += 1;
            self.lost.push(signal.record);
        }
        match self.lost.last() {
            Some(record) if self.lost_count >= MAX_LOST => Err(Halt::NotArrived(*record)),
            _ => Ok(()),
        }
    }

    fn not_arrived(&self) -> Halt {
        self.first_awaited().map_or(Halt::DeliveryFailed, Halt::NotArrived)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_last_three_minutes() {
        let pace = Pace::default();
        let waits: Vec<u128> = (0..6).map(|read| pace.wait(read).as_millis()).collect();
        assert_eq!(waits, [0, 375, 750, 1500, 3000, 3000]);
        let total: Duration = (0..pace.reads).map(|read| pace.wait(read)).sum();
        assert_eq!(total.as_millis(), 176_625);
        assert_eq!(pace.with_rate(5).interval, Duration::from_millis(200));
    }
}
