//! The signals for the missing contacts of a tenant.

use std::sync::Arc;
use std::time::Duration;

use recovery::signaler::{Halt, Pace, Signaler};
use tokio::time::{Instant, timeout_at};

use super::{Bounds, Visit, VisitError};
use crate::state::Missing;
use crate::telemetry::Report;

impl Visit<'_> {
    /// Signals contacts. Unless deliveries are known to succeed at present, the first one shows whether they do.
    pub(super) async fn signal_all(&mut self, contacts: &[i64], deadline: Instant) -> Result<(), VisitError> {
        let (access, settings) = (Arc::clone(&self.access), self.settings);
        let log = self.coverage.as_ref().map(|coverage| coverage.log.clone()).ok_or(VisitError::NoLog)?;
        let Bounds { read_every, reads, .. } = settings.bounds;
        let pace = Pace { read_every, reads, ..Pace::default() };
        let mut signaler = Signaler::new(&access.client, &log, pace, &settings.sleep).trusting_recent_deliveries();
        // Some time is left for the call in progress.
        let end = deadline.checked_sub(Duration::from_secs(1)).unwrap_or(deadline);
        for contact in contacts {
            if !may_continue(&mut signaler, end, &mut self.report).await? {
                return Ok(());
            }
            match signaler.signal(*contact).await {
                Ok(()) => self.report.resynced += 1,
                Err(error) if error.is_specific() => self.report.note(format!("contact {contact}: {error}")),
                Err(error) => return Err(error.into()),
            }
        }
        may_continue(&mut signaler, end, &mut self.report).await.map(drop)
    }
}

/// Waits until the next contact may be signaled. Otherwise, reports the reason and returns `false`.
async fn may_continue(signaler: &mut Signaler<'_>, end: Instant, report: &mut Report) -> Result<bool, VisitError> {
    const REST: &str = "the remaining contacts are left to the next run";
    if Instant::now() < end
        && let Ok(result) = timeout_at(end, signaler.ready()).await
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

/// Returns the contacts that are signaled first, at most `count`: the oldest changes, and contacts that may be gone last.
pub(super) fn most_urgent(missing: &[Missing], count: usize) -> Vec<i64> {
    let mut missing = missing.to_vec();
    missing.sort_unstable_by_key(|missing| (missing.may_be_gone, missing.changed_at, missing.key));
    missing.into_iter().take(count).map(|missing| missing.key).collect()
}
