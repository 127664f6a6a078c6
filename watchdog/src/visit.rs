//! The visit of one tenant: state of the webhook, reactivation, sweep, signals.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use recovery::comparison::{Comparison, ComparisonError, LOG_MARGIN, Window};
use recovery::delivery_log::DeliveryLog;
use recovery::logs::LogError;
use recovery::signaler::{self, Halt, Signaler, Sleep};
use superoffice_client::changes::{Change, ChangedRecord};
use superoffice_client::registration::ManagedWebhooks;
use superoffice_client::webhooks::{RESYNC_EVENT, State as WebhookState, Webhook};
use superoffice_client::{ApiError, Archive, Client, SecretString};
use tokio::time::{Instant, timeout_at};

use crate::config::Mode;
use crate::state::{Missing, Older, State, Unfinished};
use crate::telemetry::{Report, shortened};

/// A window is at least this long.
pub(crate) const SHORTEST_WINDOW: SignedDuration = SignedDuration::from_hours(1);
/// The longest time that a visit looks back. After that, SuperOffice deletes soft-deleted contacts by default.
const LONGEST_WINDOW: SignedDuration = SignedDuration::from_hours(14 * 24);
/// The latest changes are left to the next visit: their events may still be on the way.
pub(crate) const GRACE: SignedDuration = SignedDuration::from_mins(2);
/// Lines may appear late, so the end of what was read is read again.
pub(crate) const READ_AGAIN: SignedDuration = SignedDuration::from_mins(5);
/// A webhook is reactivated at most once in this time.
const REACTIVATION_PAUSE: SignedDuration = SignedDuration::from_hours(1);

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

impl From<ComparisonError> for VisitError {
    fn from(error: ComparisonError) -> Self {
        match error {
            ComparisonError::Api(error) => Self::Api(error),
            ComparisonError::Log(error) => Self::Log(error),
        }
    }
}

/// The bounds of a visit.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// The time after which a sweep is left to the next visit. It always makes some progress.
    pub sweep: Duration,
    /// The longest wait before a look at the log for the event of a signal.
    pub look_every: Duration,
    /// The number of looks in vain that ends the signals.
    pub looks: u32,
    /// The number of contacts in each list of a state.
    pub contacts: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        // About a minute in vain, so that a tenant whose events do not arrive does not keep others waiting.
        let (look_every, looks) = (Duration::from_secs(3), 22);
        // Half of the function's time limit, so that enough is left for the log and the signals.
        // A line with two full lists has less than half of its largest size.
        Self { sweep: Duration::from_secs(120), look_every, looks, contacts: 1500 }
    }
}

/// The settings of every visit.
pub(crate) struct Settings {
    pub(crate) mode: Mode,
    pub(crate) max_resyncs: usize,
    pub(crate) bounds: Bounds,
    pub(crate) sleep: Sleep,
}

/// The way to a tenant and to its webhooks. A process keeps it between runs.
pub(crate) struct Subject {
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
    pub(crate) subject: Arc<Subject>,
    pub(crate) settings: &'a Settings,
    /// The start of the run.
    started: Timestamp,
    pub(crate) coverage: Option<Coverage>,
    pub(crate) report: Report,
    /// The tenant is the reason why the visit did not complete.
    has_failed: bool,
    /// SuperOffice refused the credentials.
    pub(crate) is_refused: bool,
    /// The contacts to signal, in this order.
    chosen: Vec<i64>,
}

impl<'a> Visit<'a> {
    pub(crate) fn new(
        subject: Arc<Subject>,
        settings: &'a Settings,
        started: Timestamp,
        coverage: Option<Coverage>,
        report: Report,
    ) -> Self {
        Self { subject, settings, started, coverage, report, has_failed: false, is_refused: false, chosen: Vec::new() }
    }

    /// Returns `true` if the visit is to be continued with signals.
    pub(crate) fn has_signals(&self) -> bool {
        !self.chosen.is_empty()
    }

    /// Returns `true` if the visit is to be continued with its older window.
    pub(crate) fn has_older(&self) -> bool {
        self.report.error.is_none() && self.report.tenant_state.is_none() && self.report.state.older.is_some()
    }

    /// Does everything except signals and older windows, within the time.
    pub(crate) async fn look(&mut self, deadline: Instant, sweep: Duration) {
        let result = timeout_at(deadline, self.steps(sweep)).await;
        self.fail(result.unwrap_or(Err(VisitError::Deadline)).err());
    }

    /// Signals the contacts that were chosen.
    pub(crate) async fn signal(&mut self, deadline: Instant) {
        let chosen = std::mem::take(&mut self.chosen);
        let result = timeout_at(deadline, self.signals(&chosen, deadline)).await;
        self.fail(result.unwrap_or(Err(VisitError::Deadline)).err());
    }

    /// Reports an error.
    pub(crate) fn fail(&mut self, error: Option<VisitError>) {
        if let Some(error) = error {
            self.has_failed |= !matches!(error, VisitError::NoLog);
            self.is_refused = matches!(&error, VisitError::Api(error) if error.is_credentials_refused());
            self.report.error = Some(shortened(error.to_string()));
        }
    }

    /// Ends the visit.
    pub(crate) fn finish(mut self) -> Report {
        let state = &mut self.report.state;
        state.has_failed = self.has_failed;
        if self.report.error.is_none() {
            state.completed = Some(self.started);
        }
        self.report.swept_until = state.arrived_until();
        self.report.swept_after = state.unfinished.map(|unfinished| unfinished.after);
        self.report
    }

    async fn steps(&mut self, sweep: Duration) -> Result<(), VisitError> {
        let subject = Arc::clone(&self.subject);
        let client = &subject.client;
        match client.tenant_state().await {
            Ok(Some(state)) if state.is_running == Some(false) => {
                self.report.tenant_state = Some(state.state.unwrap_or_else(|| "not running".into()));
                return Ok(());
            }
            Ok(_) => {}
            // An on-site installation has no such state.
            Err(error) if client.has_base_url() => {
                self.report.note(format!("the tenant's state is unknown: {error}"));
            }
            Err(error) => return Err(error.into()),
        }

        let mut managed = client.webhooks(&subject.webhook_url).await?;
        self.describe(&managed).await;
        let mut tested = None;
        if self.settings.mode == Mode::Act && self.needs_reactivation(&managed) {
            tested = Some(self.test(&managed).await?);
            if tested == Some(true) {
                self.reactivate(&managed).await?;
                managed = client.webhooks(&subject.webhook_url).await?;
                self.report.webhook_active = Some(managed.receives_contacts());
            }
        }

        let coverage = self.coverage.clone().ok_or(VisitError::NoLog)?;
        self.sweep(&coverage, sweep).await?;
        if self.settings.mode == Mode::Act
            && !self.report.state.missing.is_empty()
            && self.may_signal(&managed, tested).await?
        {
            self.chosen = most_urgent(&self.report.state.missing, self.settings.max_resyncs);
        }
        Ok(())
    }

    /// Reports the state of the webhooks.
    async fn describe(&mut self, managed: &ManagedWebhooks) {
        let report = &mut self.report;
        report.webhook_active = Some(managed.receives_contacts());
        for webhook in &managed.contacts {
            match self.subject.client.consecutive_errors(webhook).await {
                Ok(count) => report.consecutive_errors = report.consecutive_errors.max(count),
                // Only a metric. Older servers have an archive of their own for it.
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
        for webhook in managed.all().filter(|webhook| webhook.state() != WebhookState::Active) {
            report.note(format!("webhook {} is {}", webhook.id(), webhook.state().as_str()));
        }
    }

    /// Returns `true` if SuperOffice disabled a webhook, and it was not reactivated within the last hour. A webhook
    /// that was stopped by hand stays stopped.
    fn needs_reactivation(&mut self, managed: &ManagedWebhooks) -> bool {
        if !managed.all().any(is_disabled) {
            return false;
        }
        let recent = |last: &Timestamp| self.started.duration_since(*last) < REACTIVATION_PAUSE;
        let recent = self.report.state.reactivated.filter(recent);
        if let Some(last) = recent {
            self.report.note(format!("the webhook is not reactivated again within an hour of {last}"));
        }
        recent.is_none()
    }

    /// Makes SuperOffice test the URL.
    async fn test(&mut self, managed: &ManagedWebhooks) -> Result<bool, ApiError> {
        let Some(webhook) = managed.contacts.first().or(managed.states.first()) else {
            return Ok(false);
        };
        let result = self.subject.client.test(webhook, self.subject.secret.as_ref()).await?;
        if !result.success {
            self.report.note(format!("SuperOffice's test failed: {}", result.message));
        }
        Ok(result.success)
    }

    async fn reactivate(&mut self, managed: &ManagedWebhooks) -> Result<(), ApiError> {
        let subject = Arc::clone(&self.subject);
        // In advance, because the visit may be stopped before the response.
        let before = self.report.state.reactivated.replace(self.started);
        for webhook in managed.all().filter(|webhook| is_disabled(webhook)) {
            match subject.client.set_state(webhook, WebhookState::Active, subject.secret.as_ref()).await {
                Ok(_) => self.report.note(format!("webhook {} was reactivated", webhook.id())),
                // Someone was faster, or SuperOffice's own test failed.
                Err(error) if error.is_refusal() && error.is_specific() => {
                    self.report.note(format!("webhook {} was not reactivated: {error}", webhook.id()));
                    continue;
                }
                Err(error) => {
                    if !error.is_refusal() {
                        // It may be Active nevertheless.
                        self.report.reactivated += 1;
                    } else if self.report.reactivated == 0 {
                        self.report.state.reactivated = before;
                    }
                    return Err(error);
                }
            }
            self.report.reactivated += 1;
        }
        if self.report.reactivated == 0 {
            self.report.state.reactivated = before;
        }
        Ok(())
    }

    /// Finds the contacts whose changes did not arrive, continuing where the last visit stopped, and pauses when time
    /// is short.
    async fn sweep(&mut self, coverage: &Coverage, time: Duration) -> Result<(), VisitError> {
        let subject = Arc::clone(&self.subject);
        let client = &subject.client;
        let latest = before(self.started.min(coverage.until), GRACE);
        let oldest = before(latest, LONGEST_WINDOW);
        let covered = after(coverage.since, client.clock_offset().max(SignedDuration::ZERO) + LOG_MARGIN);

        let mut state = self.report.state.clone();
        state.missing.retain(|missing| missing.at() >= oldest);
        let swept = state.swept_until.unwrap_or_else(|| before(latest, SHORTEST_WINDOW).max(covered)).max(oldest);
        let is_read = |until: Timestamp| before(until, READ_AGAIN) >= coverage.since;
        let are_compared = state.missing.is_empty() || state.read_until.is_some_and(is_read);
        let mut known = BTreeMap::new();
        if swept < covered || !are_compared {
            set_aside(&mut state, swept, covered, oldest, client.clock_offset());
        } else {
            known = without_arrived(client, &coverage.log, &state.missing, coverage.since).await?;
        }

        let unfinished = state.unfinished;
        let until = unfinished.map_or(latest, |unfinished| unfinished.until);
        let since = match unfinished {
            Some(_) => swept,
            None => swept.min(before(until, SHORTEST_WINDOW)).max(covered),
        };
        let window = Window { since, until };
        (self.report.since, self.report.until) = (Some(since), Some(until));
        let mut found = Found { paused_after: None, excluded: None };
        if since < until {
            found = self.compare(window, unfinished, &coverage.log, time, &mut known).await?;
        }
        let mut missing: Vec<Missing> = known.into_values().collect();
        self.report.missed = u64::try_from(missing.len()).unwrap_or(u64::MAX);
        missing.sort_unstable_by_key(|missing| (missing.1, missing.0));
        let excluded = missing.split_off(missing.len().min(self.settings.bounds.contacts));
        found.excluded = excluded.first().map(Missing::at).into_iter().chain(found.excluded).min();
        state.missing = missing;
        state.read_until = Some(coverage.until);
        match found.paused_after {
            Some(after) => {
                state.swept_until = Some(since);
                state.unfinished = Some(Unfinished { after, until, oldest: found.excluded });
                self.report.note("time did not suffice for all changes; the next run continues");
            }
            None => {
                let end = if since < until { until } else { since.max(swept) };
                state.swept_until = Some(found.excluded.unwrap_or(end));
                state.unfinished = None;
            }
        }
        self.report.state = state;
        Ok(())
    }

    /// Adds the contacts of a window whose changes did not arrive.
    async fn compare(
        &mut self,
        window: Window,
        unfinished: Option<Unfinished>,
        log: &DeliveryLog,
        time: Duration,
        missing: &mut BTreeMap<i64, Missing>,
    ) -> Result<Found, VisitError> {
        let subject = Arc::clone(&self.subject);
        let after = unfinished.map(|unfinished| unfinished.after);
        let mut comparison = Comparison::new(&subject.client, log, window, after).with_pause_at(Instant::now() + time);
        let progress = comparison.progress();
        loop {
            let batch = comparison.next_batch().await?;
            self.report.changed = progress.listed();
            let Some(batch) = batch else {
                break;
            };
            missing.extend(batch.iter().map(|contact| (contact.primary_key, found(contact))));
        }
        match comparison.times_without_offset() {
            0 => {}
            count => self.report.note(format!("{count} times had no offset from UTC and were read as UTC")),
        }
        let excluded = unfinished.and_then(|unfinished| unfinished.oldest);
        Ok(Found { paused_after: comparison.paused_after(), excluded })
    }

    /// Returns `true` if signals can be expected to arrive. Signals that fail would disable the webhook.
    async fn may_signal(&mut self, managed: &ManagedWebhooks, tested: Option<bool>) -> Result<bool, ApiError> {
        if !managed.receives_contacts() {
            self.report.note("missed contacts are not signaled while the webhook is not Active");
            return Ok(false);
        }
        if !managed.contacts.iter().any(|webhook| webhook.receives_resync(Archive::CONTACT)) {
            self.report.note(format!("the webhook does not subscribe to {RESYNC_EVENT}; `register` changes that"));
            return Ok(false);
        }
        match tested {
            Some(success) => Ok(success),
            None => self.test(managed).await,
        }
    }

    /// Signals contacts. Unless deliveries are known to succeed at present, the first one shows whether they do.
    async fn signals(&mut self, contacts: &[i64], deadline: Instant) -> Result<(), VisitError> {
        let (subject, settings) = (Arc::clone(&self.subject), self.settings);
        let log = self.coverage.as_ref().map(|coverage| coverage.log.clone()).ok_or(VisitError::NoLog)?;
        let Bounds { look_every, looks, .. } = settings.bounds;
        let pace = signaler::Pace { look_every, looks, ..signaler::Pace::default() };
        let mut signaler = Signaler::new(&subject.client, &log, pace, &settings.sleep).trusting_recent_deliveries();
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

/// The end of a comparison.
struct Found {
    /// The last contact that was compared, if the comparison is unfinished.
    paused_after: Option<i64>,
    /// The time of the oldest change that has no room in the list of missing contacts.
    excluded: Option<Timestamp>,
}

/// Moves what the log of this run does not cover to the older window, and forgets an unfinished sweep.
fn set_aside(state: &mut State, swept: Timestamp, covered: Timestamp, oldest: Timestamp, clock_offset: SignedDuration) {
    let earlier = state.older.take();
    let since = earlier.iter().map(|older| older.since).chain([swept]).min().unwrap_or(swept).max(oldest);
    let from = before(since, clock_offset.max(SignedDuration::ZERO) + LOG_MARGIN);
    let compared = state.read_until.filter(|_| !state.missing.is_empty()).map(|until| before(until, READ_AGAIN));
    let read_until = earlier.iter().map(|older| older.read_until).chain(compared).chain([from]).min().unwrap_or(from);
    let mut open: BTreeMap<i64, Missing> = BTreeMap::new();
    let earlier_open = earlier.into_iter().flat_map(|older| older.open);
    open.extend(earlier_open.chain(state.missing.drain(..)).map(|missing| (missing.0, missing)));
    let mut older = Older { since, until: covered.max(since), read_until, ..Older::default() };
    older.open = open.into_values().filter(|missing| missing.at() >= oldest).collect();
    state.older = Some(older);
    state.unfinished = None;
}

/// Returns the contacts of a list whose changes have not arrived.
pub(crate) async fn without_arrived(
    client: &Client,
    log: &DeliveryLog,
    missing: &[Missing],
    since: Timestamp,
) -> Result<BTreeMap<i64, Missing>, LogError> {
    let contact = |missing: &Missing| (missing.0, missing.at());
    let mut open: HashMap<i64, Timestamp> = missing.iter().map(contact).collect();
    log.remove_handled(since, client.clock_offset(), &mut open).await?;
    Ok(missing.iter().filter(|missing| open.contains_key(&missing.0)).map(|missing| (missing.0, *missing)).collect())
}

/// Returns the entry of a contact whose change did not arrive.
pub(crate) fn found(contact: &ChangedRecord) -> Missing {
    // A signal for a contact that no longer exists may fail. Such contacts must not keep others waiting.
    let may_be_gone = matches!(contact.change, Change::Merged | Change::SoftDeleted);
    Missing(contact.primary_key, contact.at.as_second(), may_be_gone.into())
}

/// Returns the contacts that are signaled first, at most `count`.
fn most_urgent(missing: &[Missing], count: usize) -> Vec<i64> {
    let mut order: Vec<(u8, i64, i64)> = missing.iter().map(|missing| (missing.2, missing.1, missing.0)).collect();
    order.sort_unstable();
    order.truncate(count);
    order.into_iter().map(|(_, _, key)| key).collect()
}

pub(crate) fn before(time: Timestamp, length: SignedDuration) -> Timestamp {
    time.saturating_sub(length).unwrap_or(time)
}

pub(crate) fn after(time: Timestamp, length: SignedDuration) -> Timestamp {
    time.saturating_add(length).unwrap_or(time)
}

fn is_disabled(webhook: &Webhook) -> bool {
    webhook.state() == WebhookState::TooManyErrors
}
