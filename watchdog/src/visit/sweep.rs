//! The sweep of a tenant: the comparison of its latest changes with the log that was read for this run.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use recovery::comparison::{Comparison, SETTLING, Window, log_margin};
use recovery::delivery_log::DeliveryLog;
use recovery::logs::LogError;
use recovery::record::Record;
use superoffice_client::Client;
use tokio::time::Instant;

use super::{Coverage, SHORTEST_WINDOW, Visit, VisitError};
use crate::state::{Missing, Unfinished, after, before, by_record};

/// The longest time that a visit looks back. After that, SuperOffice deletes soft-deleted rows by default.
const LONGEST_WINDOW: SignedDuration = SignedDuration::from_hours(14 * 24);

impl Visit<'_> {
    /// Finds the records whose changes did not arrive, continuing where the last visit stopped, and pauses when time
    /// is short.
    pub(super) async fn sweep(&mut self, coverage: &Coverage, time: Duration) -> Result<(), VisitError> {
        let access = Arc::clone(&self.access);
        let client = &access.client;
        let margin = log_margin(client.clock_offset());
        let room = self.settings.bounds.records;
        let latest = before(self.started.min(coverage.until), SETTLING);
        let oldest = before(latest, LONGEST_WINDOW);
        // The log that was read can report each change since this time.
        let covered_since = after(coverage.since, margin);

        let mut state = self.report.state.clone();
        let entities = &self.settings.entities;
        state.missing.retain(|missing| missing.changed_at >= oldest && entities.contains(&missing.record.archive));
        let first_since = || before(latest, SHORTEST_WINDOW).max(covered_since);
        // Earlier visits have compared each change before this time.
        let swept_until = state.swept_until.unwrap_or_else(first_since).max(oldest);
        let covers_missing = state.log_since_for_missing().is_none_or(|since| since >= coverage.since);
        if swept_until < covered_since || !covers_missing {
            state.set_aside(Window { since: swept_until, until: covered_since }, margin, oldest, room);
        }
        let mut missing = still_missing(client, &coverage.log, &state.missing, coverage.since).await?;

        let unfinished = state.unfinished.take();
        let window = window(swept_until, covered_since, latest, unfinished);
        (self.report.since, self.report.until) = (Some(window.since), Some(window.until));
        let mut paused_after = None;
        if window.since < window.until {
            let begin_after = unfinished.map(|unfinished| unfinished.after);
            paused_after = self.compare(window, begin_after, &coverage.log, time, &mut missing).await?;
        }

        self.report.missed = u64::try_from(missing.len()).unwrap_or(u64::MAX);
        let left_out = state.set_missing(missing.into_values().collect(), room);
        let left_out_before = unfinished.and_then(|unfinished| unfinished.oldest_left_out);
        let oldest_left_out = left_out.into_iter().chain(left_out_before).min();
        state.read_until = Some(coverage.until);
        if let Some(after) = paused_after {
            state.swept_until = Some(window.since);
            state.unfinished = Some(Unfinished { after, until: window.until, oldest_left_out });
            self.report.note("time did not suffice for all changes; the next run continues");
        } else {
            // In an empty window, everything before its start was compared or set aside.
            let end = if window.since < window.until { window.until } else { window.since.max(swept_until) };
            // Changes without room are compared again.
            state.swept_until = Some(oldest_left_out.unwrap_or(end));
        }
        self.report.state = state;
        Ok(())
    }

    /// Adds the records of a window whose changes did not arrive. Returns the last record that was compared if time did
    /// not suffice for all.
    async fn compare(
        &mut self,
        window: Window,
        mut after: Option<Record>,
        log: &DeliveryLog,
        time: Duration,
        missing: &mut BTreeMap<Record, Missing>,
    ) -> Result<Option<Record>, VisitError> {
        let access = Arc::clone(&self.access);
        let pause_at = Instant::now() + time;
        let comparison = Comparison::new(window, &self.settings.entities).with_pause_at(pause_at);
        let mut times_without_offset = 0;
        loop {
            let listing = comparison.list(&access.client, after).await?;
            self.report.changed += listing.listed();
            let compared = comparison.compare(listing, log).await?;
            missing.extend(by_record(compared.missed.iter().map(Missing::from)));
            times_without_offset += compared.times_without_offset;
            after = compared.continue_after;
            if after.is_none() || pause_at <= Instant::now() {
                break;
            }
        }
        if times_without_offset > 0 {
            self.report.note(format!("{times_without_offset} times had no offset from UTC and were read as UTC"));
        }
        Ok(after)
    }
}

/// Returns the window of a sweep. It begins where the last one ended, or earlier, but not before `covered_since`.
fn window(
    swept_until: Timestamp,
    covered_since: Timestamp,
    latest: Timestamp,
    unfinished: Option<Unfinished>,
) -> Window {
    match unfinished {
        // The window is the same until each of its records was compared.
        Some(unfinished) => Window { since: swept_until, until: unfinished.until },
        None => {
            let since = swept_until.min(before(latest, SHORTEST_WINDOW));
            Window { since: since.max(covered_since), until: latest }
        }
    }
}

/// Returns the records whose changes the log since a point in time does not report.
pub(crate) async fn still_missing(
    client: &Client,
    log: &DeliveryLog,
    missing: &[Missing],
    since: Timestamp,
) -> Result<BTreeMap<Record, Missing>, LogError> {
    let mut unreported: HashMap<Record, Timestamp> =
        missing.iter().map(|missing| (missing.record, missing.changed_at)).collect();
    log.remove_handled(since, client.clock_offset(), &mut unreported).await?;
    Ok(by_record(missing.iter().copied().filter(|missing| unreported.contains_key(&missing.record))))
}
