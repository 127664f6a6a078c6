//! One run: state of the webhook, reactivation, sweep, signals.

use std::collections::BinaryHeap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Mutex;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use superoffice_webhook_admin::client::{ApiError, Client};
use superoffice_webhook_admin::ledger::{Ledger, LogError, Logs};
use superoffice_webhook_admin::missed::{Missed, MissedError, Window};
use superoffice_webhook_admin::sensitive::Sensitive;
use superoffice_webhook_admin::webhooks::{Ours, RESYNC_EVENT, State, Webhook};
use tokio::time::Instant;

use crate::config::{Config, Mode};
use crate::history::{History, LONGEST_WINDOW};
use crate::telemetry::Report;

/// A window is at least this long.
const SHORTEST_WINDOW: SignedDuration = SignedDuration::from_hours(1);
/// The latest changes are left to the next run: their events may still be on the way.
const GRACE: SignedDuration = SignedDuration::from_mins(2);
/// A webhook is reactivated at most once in this time.
const REACTIVATION_PAUSE: SignedDuration = SignedDuration::from_hours(1);
/// The log of this time tells whether deliveries succeed at present.
const PRESENT: SignedDuration = SignedDuration::from_mins(10);

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

impl From<MissedError> for RunError {
    fn from(error: MissedError) -> Self {
        match error {
            MissedError::Api(error) => Self::Api(error),
            MissedError::Log(error) => Self::Log(error),
        }
    }
}

/// Waits for a while. Tests pass their own.
pub type Sleep = Box<dyn Fn(Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// The wait for the first signal's event to arrive.
#[derive(Clone, Copy, Debug)]
pub struct Confirmation {
    /// The wait before each look at the log.
    pub every: Duration,
    /// The number of looks.
    pub looks: u32,
}

impl Default for Confirmation {
    fn default() -> Self {
        Self { every: Duration::from_secs(3), looks: 20 }
    }
}

/// The watchdog of one tenant's webhook.
pub struct Watchdog {
    client: Client,
    logs: Logs,
    ledger: Ledger,
    webhook_url: String,
    secret: Option<Sensitive>,
    own_log_group: String,
    mode: Mode,
    max_resyncs: usize,
    confirmation: Confirmation,
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
        let ledger = Ledger::new(logs.clone(), config.log_group, client.context_identifier());
        Self {
            client,
            logs,
            ledger,
            webhook_url: config.webhook_url,
            secret: config.secret,
            own_log_group: config.own_log_group,
            mode: config.mode,
            max_resyncs: config.max_resyncs,
            confirmation: Confirmation::default(),
            sleep: Box::new(|time| Box::pin(tokio::time::sleep(time))),
            reactivated: Mutex::new(None),
        }
    }

    /// Replaces the waits for the first signal's event.
    #[must_use]
    pub fn with_confirmation(mut self, confirmation: Confirmation, sleep: Sleep) -> Self {
        (self.confirmation, self.sleep) = (confirmation, sleep);
        self
    }

    /// Runs once. The report tells how far the run got, whether or not it completed.
    pub async fn run(&self, deadline: Instant) -> Report {
        let mut report = Report { mode: self.mode.as_str(), ..Report::default() };
        let result = tokio::time::timeout_at(deadline, self.steps(&mut report, deadline)).await;
        let result = result.unwrap_or(Err(RunError::Deadline));
        report.error = result.err().map(|error| error.to_string());
        report
    }

    async fn steps(&self, report: &mut Report, deadline: Instant) -> Result<(), RunError> {
        if let Some(state) = self.client.tenant_state().await?
            && state.is_running == Some(false)
        {
            report.tenant_state = Some(state.state.unwrap_or_else(|| "not running".into()));
            return Ok(());
        }

        let now = self.client.now();
        let history = History::read(&self.logs, &self.own_log_group, now).await?;
        let mut ours = self.client.webhooks(&self.webhook_url).await?;
        self.describe(&ours, report).await?;
        let mut tested = None;
        if self.mode == Mode::Act && self.needs_reactivation(&ours, &history, now, report) {
            tested = Some(self.test(&ours, report).await?);
            if tested == Some(true) {
                self.reactivate(&ours, now, report).await?;
                ours = self.client.webhooks(&self.webhook_url).await?;
                report.webhook_active = Some(is_active(&ours.contacts));
            }
        }

        let until = now.saturating_sub(GRACE).unwrap_or(now);
        let since = window_begin(history.swept_until, until);
        (report.since, report.until) = (Some(since), Some(until));
        let (oldest, missed) = self.sweep(Window { since, until }, report).await?;
        if self.mode == Mode::Act && !missed.is_empty() && self.may_signal(&ours, tested, report).await? {
            self.signal(&missed, now, deadline, report).await?;
        }
        // A signal is a request, not an arrival: the next window includes every contact that was missed in this one.
        report.swept_until = Some(oldest.unwrap_or(until));
        Ok(())
    }

    /// Reports the state of the webhooks.
    async fn describe(&self, ours: &Ours, report: &mut Report) -> Result<(), ApiError> {
        report.webhook_active = Some(is_active(&ours.contacts));
        for webhook in &ours.contacts {
            report.consecutive_errors = report.consecutive_errors.max(self.client.consecutive_errors(webhook).await?);
        }
        for (webhooks, purpose) in [(&ours.contacts, "contacts"), (&ours.states, "webhook states")] {
            match webhooks.len() {
                0 => report.notes.push(format!("no webhook for {purpose} posts to WEBHOOK_URL")),
                1 => {}
                many => report.notes.push(format!("{many} webhooks for {purpose} post to WEBHOOK_URL")),
            }
        }
        for webhook in ours.all().filter(|webhook| webhook.state() != State::Active) {
            report.notes.push(format!("webhook {} is {}", webhook.id(), webhook.state().as_str()));
        }
        Ok(())
    }

    /// Returns `true` if SuperOffice disabled a webhook, and it was not reactivated within the last hour. A webhook that a
    /// person stopped stays stopped.
    fn needs_reactivation(&self, ours: &Ours, history: &History, now: Timestamp, report: &mut Report) -> bool {
        if !ours.all().any(is_disabled) {
            return false;
        }
        let own = *self.reactivated.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let last = history.reactivated.max(own);
        let recent = last.filter(|last| now.duration_since(*last) < REACTIVATION_PAUSE);
        if let Some(last) = recent {
            report.notes.push(format!("the webhook is not reactivated again within an hour of {last}"));
        }
        recent.is_none()
    }

    /// Makes SuperOffice test the URL.
    async fn test(&self, ours: &Ours, report: &mut Report) -> Result<bool, ApiError> {
        let Some(webhook) = ours.contacts.first().or(ours.states.first()) else {
            return Ok(false);
        };
        let result = self.client.test(webhook, self.secret.as_ref()).await?;
        if !result.success {
            report.notes.push(format!("SuperOffice's test failed: {}", result.message));
        }
        Ok(result.success)
    }

    async fn reactivate(&self, ours: &Ours, now: Timestamp, report: &mut Report) -> Result<(), ApiError> {
        *self.reactivated.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(now);
        for webhook in ours.all().filter(|webhook| is_disabled(webhook)) {
            match self.client.activate(webhook).await {
                Ok(_) => report.notes.push(format!("webhook {} was reactivated", webhook.id())),
                // A person was faster.
                Err(error) if error.is_specific() => {
                    report.notes.push(format!("webhook {} was not reactivated: {error}", webhook.id()));
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
        Ok(())
    }

    /// Finds the missed contacts: the time of the oldest change, and the oldest contacts as far as they can be signaled.
    async fn sweep(&self, window: Window, report: &mut Report) -> Result<(Option<Timestamp>, Vec<i64>), RunError> {
        let mut missed = Missed::new(&self.client, &self.ledger, window);
        let progress = missed.progress();
        // The newest of the oldest is on top, and leaves first.
        let mut oldest: BinaryHeap<(Timestamp, i64)> = BinaryHeap::new();
        loop {
            let batch = missed.next_batch().await?;
            report.changed = progress.listed();
            let Some(batch) = batch else {
                break;
            };
            for contact in batch {
                report.missed += 1;
                oldest.push((contact.at, contact.primary_key));
                if oldest.len() > self.max_resyncs {
                    oldest.pop();
                }
            }
        }
        let sorted = oldest.into_sorted_vec();
        Ok((sorted.first().map(|(at, _)| *at), sorted.into_iter().map(|(_, key)| key).collect()))
    }

    /// Returns `true` if signals can be expected to arrive. Signals that fail would disable the webhook.
    async fn may_signal(&self, ours: &Ours, tested: Option<bool>, report: &mut Report) -> Result<bool, ApiError> {
        if !is_active(&ours.contacts) {
            report.notes.push("missed contacts are not signaled while the webhook is not Active".into());
            return Ok(false);
        }
        if !ours.contacts.iter().any(|webhook| webhook.events().any(|event| event.eq_ignore_ascii_case(RESYNC_EVENT))) {
            report.notes.push(format!("the webhook does not subscribe to {RESYNC_EVENT}; `register` changes that"));
            return Ok(false);
        }
        match tested {
            Some(success) => Ok(success),
            None => self.test(ours, report).await,
        }
    }

    /// Signals contacts. Unless deliveries are known to succeed at present, the first one shows whether they do.
    async fn signal(
        &self,
        contacts: &[i64],
        now: Timestamp,
        deadline: Instant,
        report: &mut Report,
    ) -> Result<(), RunError> {
        let mut confirmed = self.ledger.last_succeeded(now.saturating_sub(PRESENT).unwrap_or(now)).await? == Some(true);
        // Some time is left for the log line.
        let end = deadline.checked_sub(Duration::from_secs(10)).unwrap_or(deadline);
        for contact in contacts {
            if Instant::now() >= end {
                report.notes.push("the remaining contacts are left to the next run".into());
                return Ok(());
            }
            match self.client.signal_resync(*contact).await {
                Ok(()) => report.resynced += 1,
                Err(error) if error.is_specific() => {
                    report.notes.push(format!("contact {contact}: {error}"));
                    continue;
                }
                Err(error) => return Err(error.into()),
            }
            if !confirmed {
                if !self.something_arrives(now).await? {
                    report.notes.push(format!("contact {contact} was signaled but did not arrive; the rest waits"));
                    return Ok(());
                }
                confirmed = true;
            }
        }
        Ok(())
    }

    /// Waits until the log shows a contact event that was handled after `signaled`.
    async fn something_arrives(&self, signaled: Timestamp) -> Result<bool, LogError> {
        for _ in 0..self.confirmation.looks {
            (self.sleep)(self.confirmation.every).await;
            let mut found = false;
            self.ledger
                .handled(signaled, |handled| {
                    found = handled.written >= signaled;
                    !found
                })
                .await?;
            if found {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Returns the begin of a window that ends at `until`.
fn window_begin(swept_until: Option<Timestamp>, until: Timestamp) -> Timestamp {
    let before = |length| until.saturating_sub(length).unwrap_or(until);
    let begin = before(SHORTEST_WINDOW);
    swept_until.map_or(begin, |swept| swept.min(begin)).max(before(LONGEST_WINDOW))
}

fn is_disabled(webhook: &Webhook) -> bool {
    webhook.state() == State::TooManyErrors
}

fn is_active(webhooks: &[Webhook]) -> bool {
    !webhooks.is_empty() && webhooks.iter().all(|webhook| webhook.state() == State::Active)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn window_begins_at_the_last_sweep_within_limits() {
        let time = |text: &str| text.parse::<Timestamp>().unwrap();
        let until = time("2026-11-24T09:00:00Z");
        assert_eq!(window_begin(None, until), time("2026-11-24T08:00:00Z"));
        assert_eq!(window_begin(Some(time("2026-11-24T08:55:00Z")), until), time("2026-11-24T08:00:00Z"));
        assert_eq!(window_begin(Some(time("2026-11-23T08:55:00Z")), until), time("2026-11-23T08:55:00Z"));
        assert_eq!(window_begin(Some(time("2026-10-01T00:00:00Z")), until), time("2026-11-10T09:00:00Z"));
    }
}
