//! The visit of one tenant: state of the webhook, reactivation, sweep, signals.

mod signals;
mod sweep;
mod webhooks;

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use recovery::delivery_log::DeliveryLog;
use recovery::logs::LogError;
use recovery::record::Record;
use recovery::signaler::Sleep;
use superoffice_client::{ApiError, Archive, Client, SecretString};
use tokio::time::{Instant, timeout_at};

use crate::config::Mode;
use crate::telemetry::{Report, shortened};

pub(crate) use sweep::still_missing;

/// A window is at least this long. Changes that were compared before are compared again, because SuperOffice may list a
/// change only some time after the time of the change.
pub(crate) const SHORTEST_WINDOW: SignedDuration = SignedDuration::from_hours(1);

/// A visit did not complete.
#[derive(Debug, thiserror::Error)]
pub enum VisitError {
    /// SuperOffice did not respond as expected.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The function's log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The function's log could not be read for any tenant.
    #[error("the function's log was not read")]
    NoLog,
    /// The time for the visit has ended.
    #[error("the visit was not completed in time")]
    Deadline,
}

/// The bounds of a visit.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// A sweep that takes longer is continued by the next visit. Each sweep makes some progress.
    pub sweep: Duration,
    /// The longest wait before a read of the log for the event of a signal.
    pub read_every: Duration,
    /// The signals end after this number of reads in a row that find no awaited event.
    pub reads: u32,
    /// The number of records in each list of a state.
    pub records: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        // About a minute, so that a tenant whose events do not arrive does not keep others waiting.
        let (read_every, reads) = (Duration::from_secs(3), 22);
        // Half of the function's time limit, so that enough is left for the log and the signals.
        // A line with two full lists has less than half of its largest size.
        Self { sweep: Duration::from_secs(120), read_every, reads, records: 1500 }
    }
}

/// The settings of every visit.
pub(crate) struct Settings {
    pub(crate) mode: Mode,
    pub(crate) entities: Vec<&'static Archive>,
    pub(crate) max_resyncs: usize,
    pub(crate) bounds: Bounds,
    pub(crate) sleep: Sleep,
}

/// The way to a tenant and to its webhooks. A process keeps it between runs.
pub(crate) struct Access {
    pub(crate) client: Client,
    pub(crate) webhook_url: String,
    pub(crate) secret: Option<SecretString>,
}

/// The part of the function's log that was read for this run.
#[derive(Clone)]
pub(crate) struct Coverage {
    pub(crate) log: DeliveryLog,
    pub(crate) since: Timestamp,
    pub(crate) until: Timestamp,
}

/// The visit of a tenant.
pub(crate) struct Visit<'a> {
    pub(crate) access: Arc<Access>,
    pub(crate) settings: &'a Settings,
    /// The start of the run.
    started: Timestamp,
    pub(crate) coverage: Option<Coverage>,
    pub(crate) report: Report,
    /// The tenant is the reason why the visit did not complete.
    has_failed: bool,
    /// SuperOffice refused the credentials.
    pub(crate) is_refused: bool,
    /// The records to signal, in this order.
    to_signal: Vec<Record>,
}

impl<'a> Visit<'a> {
    pub(crate) fn new(
        access: Arc<Access>,
        settings: &'a Settings,
        started: Timestamp,
        coverage: Option<Coverage>,
        report: Report,
    ) -> Self {
        Self {
            access,
            settings,
            started,
            coverage,
            report,
            has_failed: false,
            is_refused: false,
            to_signal: Vec::new(),
        }
    }

    /// Does everything except signals and older windows, within the time.
    pub(crate) async fn inspect(&mut self, deadline: Instant, sweep: Duration) {
        let result = timeout_at(deadline, self.try_inspect(sweep)).await;
        if let Err(error) = result.unwrap_or(Err(VisitError::Deadline)) {
            self.fail(error);
        }
    }

    /// Returns `true` if the visit is to be continued with signals.
    pub(crate) fn has_signals(&self) -> bool {
        !self.to_signal.is_empty()
    }

    /// Signals the records that were chosen.
    pub(crate) async fn signal(&mut self, deadline: Instant) {
        let records = std::mem::take(&mut self.to_signal);
        let result = timeout_at(deadline, self.signal_all(&records, deadline)).await;
        if let Err(error) = result.unwrap_or(Err(VisitError::Deadline)) {
            self.fail(error);
        }
    }

    /// Returns `true` if the visit is to be continued with its older window.
    pub(crate) fn has_older(&self) -> bool {
        self.report.error.is_none() && self.report.tenant_state.is_none() && self.report.state.older.is_some()
    }

    /// Reports an error.
    pub(crate) fn fail(&mut self, error: VisitError) {
        self.has_failed |= !matches!(error, VisitError::NoLog);
        self.is_refused = matches!(&error, VisitError::Api(error) if error.is_credentials_refused());
        self.report.error = Some(shortened(error.to_string()));
    }

    /// Ends the visit.
    pub(crate) fn finish(mut self) -> Report {
        let state = &mut self.report.state;
        state.has_failed = self.has_failed;
        if self.report.error.is_none() {
            state.completed = Some(self.started);
        }
        self.report.arrived_until = state.arrived_until();
        self.report.swept_after = state.unfinished.map(|unfinished| unfinished.after);
        self.report
    }

    async fn try_inspect(&mut self, sweep: Duration) -> Result<(), VisitError> {
        if !self.is_running().await? {
            return Ok(());
        }
        let inspected = self.inspect_webhooks().await?;
        let coverage = self.coverage.clone().ok_or(VisitError::NoLog)?;
        self.sweep(&coverage, sweep).await?;
        if self.settings.mode == Mode::Act && !self.report.state.missing.is_empty() {
            let entities = self.entities_to_signal(&inspected).await?;
            let missing = self.report.state.missing.iter();
            let missing = missing.filter(|missing| entities.contains(&missing.record.archive));
            self.to_signal = signals::most_urgent(missing.copied(), self.settings.max_resyncs);
        }
        Ok(())
    }

    /// Returns `false`, and reports the tenant's state, if the tenant is suspended.
    async fn is_running(&mut self) -> Result<bool, ApiError> {
        let client = &self.access.client;
        match client.tenant_state().await {
            Ok(Some(state)) if state.is_running == Some(false) => {
                self.report.tenant_state = Some(state.state.unwrap_or_else(|| "not running".into()));
                return Ok(false);
            }
            Ok(_) => {}
            // An on-site installation has no such state.
            Err(error) if client.has_base_url() => {
                self.report.note(format!("the tenant's state is unknown: {error}"));
            }
            Err(error) => return Err(error),
        }
        Ok(true)
    }
}
