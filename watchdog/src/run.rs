//! One run: state of the webhook, reactivation, sweep, signals.

use std::collections::BinaryHeap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use recovery::comparison::{Comparison, ComparisonError, Window};
use recovery::delivery_log::DeliveryLog;
use recovery::logs::{LogError, Logs};
use recovery::signaler::{self, Halt, Signaler, Sleep};
use superoffice_client::changes::Change;
use superoffice_client::registration::ManagedWebhooks;
use superoffice_client::webhooks::{RESYNC_EVENT, State, Webhook};
use superoffice_client::{ApiError, Client, SecretString};
use tokio::time::{Instant, timeout_at};

use crate::config::{Config, Mode};
use crate::history::{History, LONGEST_WINDOW, Unfinished};
use crate::telemetry::Report;

/// A window is at least this long.
const SHORTEST_WINDOW: SignedDuration = SignedDuration::from_hours(1);
/// The latest changes are left to the next run: their events may still be on the way.
const GRACE: SignedDuration = SignedDuration::from_mins(2);
/// A webhook is reactivated at most once in this time.
const REACTIVATION_PAUSE: SignedDuration = SignedDuration::from_hours(1);

/// A run did not complete.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// SuperOffice.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// A log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The time of the invocation has ended.
    #[error("the run was not completed in time")]
    Deadline,
}

impl From<ComparisonError> for RunError {
    fn from(error: ComparisonError) -> Self {
        match error {
            ComparisonError::Api(error) => Self::Api(error),
            ComparisonError::Log(error) => Self::Log(error),
        }
    }
}

/// The time that parts of a run take at most.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// The time after which a sweep is left to the next run. It always makes some progress.
    pub sweep: Duration,
    /// The longest wait before a look at the log for the event of a signal.
    pub look_every: Duration,
    /// The number of looks in vain that ends the signals.
    pub looks: u32,
}

impl Default for Pace {
    fn default() -> Self {
        // Half of the function's time limit, so that enough is left for the log and the signals.
        Self { sweep: Duration::from_secs(120), look_every: Duration::from_secs(3), looks: 20 }
    }
}

/// The watchdog of one tenant's webhook.
pub struct Watchdog {
    client: Client,
    logs: Logs,
    ledger: DeliveryLog,
    webhook_url: String,
    secret: Option<SecretString>,
    own_log_group: String,
    mode: Mode,
    max_resyncs: usize,
    pace: Pace,
    sleep: Sleep,
    /// The last reactivation by this process, which the log may not show yet.
    reactivated: Mutex<Option<Timestamp>>,
}

impl std::fmt::Debug for Watchdog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watchdog").field("client", &self.client).finish_non_exhaustive()
    }
}

impl Watchdog {
    /// Creates a watchdog. Its client is kept between runs, and with it the system user's ticket.
    pub fn new(config: Config, client: Client, logs: Logs) -> Self {
        let client = client.hiding(config.secret.as_ref());
        let ledger = DeliveryLog::new(logs.clone(), config.log_group, client.context_identifier());
        Self {
            client,
            logs,
            ledger,
            webhook_url: config.webhook_url,
            secret: config.secret,
            own_log_group: config.own_log_group,
            mode: config.mode,
            max_resyncs: config.max_resyncs,
            pace: Pace::default(),
            sleep: Box::new(|time| Box::pin(tokio::time::sleep(time))),
            reactivated: Mutex::new(None),
        }
    }

    /// Replaces times and waits.
    #[must_use]
    pub fn with_pace(mut self, pace: Pace, sleep: Sleep) -> Self {
        (self.pace, self.sleep) = (pace, sleep);
        self
    }

    /// Runs once. The report tells how far the run got, whether or not it completed.
    pub async fn run(&self, deadline: Instant) -> Report {
        let mut report = Report { mode: self.mode.as_str().to_owned(), ..Report::default() };
        let result = timeout_at(deadline, self.steps(&mut report, deadline)).await;
        let result = result.unwrap_or(Err(RunError::Deadline));
        report.error = result.err().map(|error| error.to_string());
        report
    }

    async fn steps(&self, report: &mut Report, deadline: Instant) -> Result<(), RunError> {
        match self.client.tenant_state().await {
            Ok(Some(state)) if state.is_running == Some(false) => {
                report.tenant_state = Some(state.state.unwrap_or_else(|| "not running".into()));
                return Ok(());
            }
            Ok(_) => {}
            // An on-site installation has no such state.
            Err(error) if self.client.has_base_url() => report.note(format!("the tenant's state is unknown: {error}")),
            Err(error) => return Err(error.into()),
        }

        let now = self.client.now();
        let history = History::read(&self.logs, &self.own_log_group, now).await?;
        let mut managed = self.client.webhooks(&self.webhook_url).await?;
        self.describe(&managed, report).await;
        let mut tested = None;
        if self.mode == Mode::Act && self.needs_reactivation(&managed, &history, now, report) {
            tested = Some(self.test(&managed, report).await?);
            if tested == Some(true) {
                self.reactivate(&managed, now, report).await?;
                managed = self.client.webhooks(&self.webhook_url).await?;
                report.webhook_active = Some(managed.receives_contacts());
            }
        }

        let latest = now.saturating_sub(GRACE).unwrap_or(now);
        let until = history.unfinished.map_or(latest, |unfinished| unfinished.until);
        let window = Window { since: window_start(history.swept_until, until), until };
        (report.since, report.until) = (Some(window.since), Some(until));
        let sweep = self.sweep(window, history.unfinished, report).await?;
        if self.mode == Mode::Act && !sweep.missed.is_empty() && self.may_signal(&managed, tested, report).await? {
            self.signal(&sweep.missed, deadline, report).await?;
        }
        // A signal is a request, not an arrival: the next window includes every contact that was missed in this one.
        if sweep.paused_after.is_some() {
            (report.swept_until, report.swept_after) = (Some(window.since), sweep.paused_after);
            report.oldest_missed = sweep.oldest;
            report.note("time did not suffice for all changes; the next run continues");
        } else {
            report.swept_until = Some(sweep.oldest.unwrap_or(until));
        }
        Ok(())
    }

    /// Reports the state of the webhooks.
    async fn describe(&self, managed: &ManagedWebhooks, report: &mut Report) {
        report.webhook_active = Some(managed.receives_contacts());
        for webhook in &managed.contacts {
            match self.client.consecutive_errors(webhook).await {
                Ok(count) => report.consecutive_errors = report.consecutive_errors.max(count),
                // Only a metric, for which older servers have an archive of their own.
                Err(error) => {
                    report.note(format!("the consecutive errors of webhook {} are unknown: {error}", webhook.id()))
                }
            }
        }
        for (webhooks, purpose) in [(&managed.contacts, "contacts"), (&managed.states, "webhook states")] {
            match webhooks.len() {
                0 => report.note(format!("no webhook for {purpose} posts to WEBHOOK_URL")),
                1 => {}
                many => report.note(format!("{many} webhooks for {purpose} post to WEBHOOK_URL")),
            }
        }
        for webhook in managed.all().filter(|webhook| webhook.state() != State::Active) {
            report.note(format!("webhook {} is {}", webhook.id(), webhook.state().as_str()));
        }
    }

    /// Returns `true` if SuperOffice disabled a webhook, and it was not reactivated within the last hour. A webhook
    /// that a person stopped stays stopped.
    fn needs_reactivation(
        &self,
        managed: &ManagedWebhooks,
        history: &History,
        now: Timestamp,
        report: &mut Report,
    ) -> bool {
        if !managed.all().any(is_disabled) {
            return false;
        }
        let last = history.reactivated.max(*self.own_reactivation());
        let recent = last.filter(|last| now.duration_since(*last) < REACTIVATION_PAUSE);
        if let Some(last) = recent {
            report.note(format!("the webhook is not reactivated again within an hour of {last}"));
        }
        recent.is_none()
    }

    /// Makes SuperOffice test the URL.
    async fn test(&self, managed: &ManagedWebhooks, report: &mut Report) -> Result<bool, ApiError> {
        let Some(webhook) = managed.contacts.first().or(managed.states.first()) else {
            return Ok(false);
        };
        let result = self.client.test(webhook, self.secret.as_ref()).await?;
        if !result.success {
            report.note(format!("SuperOffice's test failed: {}", result.message));
        }
        Ok(result.success)
    }

    async fn reactivate(&self, managed: &ManagedWebhooks, now: Timestamp, report: &mut Report) -> Result<(), ApiError> {
        // In advance, because the run may be stopped before the response.
        let before = self.own_reactivation().replace(now);
        for webhook in managed.all().filter(|webhook| is_disabled(webhook)) {
            match self.client.set_state(webhook, State::Active, self.secret.as_ref()).await {
                Ok(_) => report.note(format!("webhook {} was reactivated", webhook.id())),
                // A person was faster, or SuperOffice's own test failed.
                Err(error) if error.is_refusal() => {
                    report.note(format!("webhook {} was not reactivated: {error}", webhook.id()));
                    continue;
                }
                // It may be Active nevertheless.
                Err(error) => {
                    report.reactivated += 1;
                    return Err(error);
                }
            }
            report.reactivated += 1;
        }
        if report.reactivated == 0 {
            *self.own_reactivation() = before;
        }
        Ok(())
    }

    fn own_reactivation(&self) -> MutexGuard<'_, Option<Timestamp>> {
        self.reactivated.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Finds the missed contacts of a window, continuing where the last run stopped, and pauses when time is short.
    async fn sweep(
        &self,
        window: Window,
        unfinished: Option<Unfinished>,
        report: &mut Report,
    ) -> Result<Sweep, RunError> {
        let after = unfinished.map(|unfinished| unfinished.after);
        let mut missed =
            Comparison::new(&self.client, &self.ledger, window, after).with_pause_at(Instant::now() + self.pace.sweep);
        let progress = missed.progress();
        let mut oldest = unfinished.and_then(|unfinished| unfinished.oldest_missed);
        // A max-heap: `pop` removes the least urgent contact.
        let mut chosen: BinaryHeap<(bool, Timestamp, i64)> = BinaryHeap::new();
        loop {
            let batch = missed.next_batch().await?;
            report.changed = progress.listed();
            let Some(batch) = batch else {
                break;
            };
            for contact in batch {
                report.missed += 1;
                oldest = Some(oldest.map_or(contact.at, |oldest| oldest.min(contact.at)));
                // A signal for a contact that no longer exists may fail. Such contacts must not keep others waiting.
                let may_be_gone = matches!(contact.change, Change::Merged | Change::SoftDeleted);
                chosen.push((may_be_gone, contact.at, contact.primary_key));
                if chosen.len() > self.max_resyncs {
                    chosen.pop();
                }
            }
        }
        match missed.times_without_offset() {
            0 => {}
            count => report.note(format!("{count} times had no offset from UTC and were read as UTC")),
        }
        let chosen = chosen.into_sorted_vec().into_iter().map(|(_, _, key)| key).collect();
        Ok(Sweep { missed: chosen, oldest, paused_after: missed.paused_after() })
    }

    /// Returns `true` if signals can be expected to arrive. Signals that fail would disable the webhook.
    async fn may_signal(
        &self,
        managed: &ManagedWebhooks,
        tested: Option<bool>,
        report: &mut Report,
    ) -> Result<bool, ApiError> {
        if !managed.receives_contacts() {
            report.note("missed contacts are not signaled while the webhook is not Active");
            return Ok(false);
        }
        if !managed.contacts.iter().any(Webhook::receives_resync) {
            report.note(format!("the webhook does not subscribe to {RESYNC_EVENT}; `register` changes that"));
            return Ok(false);
        }
        match tested {
            Some(success) => Ok(success),
            None => self.test(managed, report).await,
        }
    }

    /// Signals contacts. Unless deliveries are known to succeed at present, the first one shows whether they do.
    async fn signal(&self, contacts: &[i64], deadline: Instant, report: &mut Report) -> Result<(), RunError> {
        let Pace { look_every, looks, .. } = self.pace;
        let pace = signaler::Pace { look_every, looks, ..signaler::Pace::default() };
        let mut signaler = Signaler::new(&self.client, &self.ledger, pace, &self.sleep).trusting_recent_deliveries();
        // Some time is left for the log line.
        let end = deadline.checked_sub(Duration::from_secs(10)).unwrap_or(deadline);
        for contact in contacts {
            if !may_continue(&mut signaler, end, report).await? {
                return Ok(());
            }
            match signaler.signal(*contact).await {
                Ok(()) => report.resynced += 1,
                Err(error) if error.is_specific() => report.note(format!("contact {contact}: {error}")),
                Err(error) => return Err(error.into()),
            }
        }
        may_continue(&mut signaler, end, report).await.map(drop)
    }
}

/// Waits until the next contact may be signaled. Otherwise, reports the reason and returns `false`.
async fn may_continue(signaler: &mut Signaler<'_>, end: Instant, report: &mut Report) -> Result<bool, RunError> {
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

/// The result of a sweep.
struct Sweep {
    /// The contacts to signal, in this order, at most `MAX_RESYNCS`.
    missed: Vec<i64>,
    /// The time of the oldest change that was missed.
    oldest: Option<Timestamp>,
    /// The last contact that was compared, if the sweep is unfinished.
    paused_after: Option<i64>,
}

/// Returns the start of a window that ends at `until`.
fn window_start(swept_until: Option<Timestamp>, until: Timestamp) -> Timestamp {
    let before = |length| until.saturating_sub(length).unwrap_or(until);
    let start = before(SHORTEST_WINDOW);
    swept_until.map_or(start, |swept| swept.min(start)).max(before(LONGEST_WINDOW))
}

fn is_disabled(webhook: &Webhook) -> bool {
    webhook.state() == State::TooManyErrors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn window_starts_at_the_last_sweep_within_limits() {
        let time = |text: &str| text.parse::<Timestamp>().unwrap();
        let until = time("2026-11-24T09:00:00Z");
        assert_eq!(window_start(None, until), time("2026-11-24T08:00:00Z"));
        assert_eq!(window_start(Some(time("2026-11-24T08:55:00Z")), until), time("2026-11-24T08:00:00Z"));
        assert_eq!(window_start(Some(time("2026-11-23T08:55:00Z")), until), time("2026-11-23T08:55:00Z"));
        assert_eq!(window_start(Some(time("2026-10-01T00:00:00Z")), until), time("2026-11-10T09:00:00Z"));
    }
}
