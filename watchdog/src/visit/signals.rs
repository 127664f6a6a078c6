//! The signals for the missing records of a tenant.

use std::sync::Arc;
use std::time::Duration;

use recovery::record::Record;
use recovery::signaler::{Halt, Pace, Signaler};
use superoffice_client::Archive;
use tokio::time::{Instant, timeout_at};

use super::{Bounds, Visit, VisitError};
use crate::state::Missing;
use crate::telemetry::Report;

impl Visit<'_> {
    /// Signals records. Unless deliveries are known to succeed at present, the first one shows whether they do.
    pub(super) async fn signal_all(&mut self, records: &[Record], deadline: Instant) -> Result<(), VisitError> {
        let (access, settings) = (Arc::clone(&self.access), self.settings);
        let log = self.coverage.as_ref().map(|coverage| coverage.log.clone()).ok_or(VisitError::NoLog)?;
        let Bounds { read_every, reads, .. } = settings.bounds;
        let pace = Pace { read_every, reads, ..Pace::default() };
        let mut signaler = Signaler::new(&access.client, &log, pace, &settings.sleep).trusting_recent_deliveries();
        // Some time is left for the call in progress.
        let end = deadline.checked_sub(Duration::from_secs(1)).unwrap_or(deadline);
        for record in records {
            if !may_continue(&mut signaler, record.archive, end, &mut self.report).await? {
                return Ok(());
            }
            match signaler.signal(*record).await {
                Ok(()) => self.report.resynced += 1,
                Err(error) if error.is_specific() => self.report.note(format!("{record}: {error}")),
                Err(error) => return Err(error.into()),
            }
        }
        let Some(last) = records.last() else {
            return Ok(());
        };
        may_continue(&mut signaler, last.archive, end, &mut self.report).await.map(drop)
    }
}

/// Waits until the next record of an entity may be signaled. Otherwise, reports the reason and returns `false`.
async fn may_continue(
    signaler: &mut Signaler<'_>,
    archive: &'static Archive,
    end: Instant,
    report: &mut Report,
) -> Result<bool, VisitError> {
    const REST: &str = "the remaining records are left to the next run";
    if Instant::now() < end
        && let Ok(result) = timeout_at(end, signaler.ready(archive)).await
    {
        match result {
            Ok(()) => return Ok(true),
            Err(Halt::Log(error)) => return Err(error.into()),
            Err(halt) => report.note(format!("{halt}; {REST}")),
        }
    } else {
        report.note(REST);
    }
    Ok(false)
}

/// Returns the records that are signaled first, at most `count`. Records that may be gone are last, because their
/// events may not arrive. Persons do not keep contacts waiting, and old changes come first.
pub(super) fn most_urgent(missing: impl Iterator<Item = Missing>, count: usize) -> Vec<Record> {
    let mut missing: Vec<Missing> = missing.collect();
    missing.sort_by_key(|Missing { record, changed_at, may_be_gone }| {
        (*may_be_gone, record.entity_order(), *changed_at, *record)
    });
    missing.into_iter().take(count).map(|missing| missing.record).collect()
}
