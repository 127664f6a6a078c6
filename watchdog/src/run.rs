//! One run: the list of tenants, the log, and the visits of the tenants that are due.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use jiff::{SignedDuration, Timestamp};
use recovery::comparison::LOG_MARGIN;
use recovery::logs::{LogError, Logs};
use recovery::shared_log::{SharedLog, TenantNames};
use recovery::signaler::Sleep;
use superoffice_client::settings::NoTenantName;
use superoffice_client::{Client, Clock, Limits, SetupError};
use tenants::{ListError, Tenant, TenantList, TenantSource};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::time::{Instant, timeout_at};

use crate::config::Config;
use crate::history::History;
use crate::older::OlderWindows;
use crate::state::State;
use crate::telemetry::{RunReport, shortened};
use crate::visit::{Bounds, Coverage, GRACE, READ_AGAIN, SHORTEST_WINDOW, Settings, Subject, Visit, before};

/// A tenant is visited again this long after the start of the run that completed its last visit.
const VISIT_INTERVAL: SignedDuration = SignedDuration::from_mins(5);
/// The schedule's runs begin at most this much too early.
const SCHEDULE_JITTER: SignedDuration = SignedDuration::from_secs(30);
/// The longest period of the log that is read for all tenants.
const LONGEST_READ: SignedDuration = SignedDuration::from_hours(2);
/// The difference between the clocks that the shared read allows for before SuperOffice's clock is known.
const CLOCK_DIFFERENCE: SignedDuration = SignedDuration::from_mins(5);
/// The number of tenants that are visited at the same time.
const VISITS: usize = 24;
/// The number of tenants that are visited at the same time although their last visit failed. Tenants that hang can only
/// delay each other.
const VISITS_AFTER_FAILURE: usize = 8;
/// The number of tenants whose contacts are signaled at the same time.
const SIGNALING: usize = 32;
/// The shortest time for a sweep.
const SHORTEST_SWEEP: Duration = Duration::from_secs(20);
/// The time for the other steps of a visit before its signals.
const VISIT_TIME: Duration = Duration::from_secs(40);

/// A run did not complete.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The list of tenants cannot be read.
    #[error(transparent)]
    List(#[from] ListError),
    /// A log cannot be read.
    #[error(transparent)]
    Log(#[from] LogError),
    /// A client cannot be set up.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// The settings do not suit the tenant.
    #[error(transparent)]
    Webhook(#[from] NoTenantName),
    /// The time of the invocation has ended.
    #[error("the run was not completed in time")]
    Deadline,
}

/// The identity of an invocation in log lines.
#[derive(Clone, Copy, Debug)]
pub struct Invocation<'a> {
    /// The function's name.
    pub function_name: &'a str,
    /// Lambda's id of the invocation.
    pub request_id: &'a str,
}

/// The watchdog of the webhooks of all tenants.
pub struct Watchdog {
    tenants: TenantSource,
    logs: Logs,
    config: Config,
    settings: Settings,
    limits: Limits,
    clock: Clock,
    memory: Mutex<Memory>,
}

/// Everything that a process keeps between runs. It only saves work.
#[derive(Default)]
struct Memory {
    /// A client for each tenant, and with it the system user's ticket. [`Arc::ptr_eq`] of the tenant shows that its
    /// entry is unchanged.
    subjects: HashMap<String, (Arc<Tenant>, Arc<Subject>)>,
    /// The last reactivation of each tenant, which the log may not show yet.
    reactivated: HashMap<String, Timestamp>,
}

impl fmt::Debug for Watchdog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watchdog").field("tenants", &self.tenants).finish_non_exhaustive()
    }
}

impl Watchdog {
    /// Creates a watchdog.
    pub fn new(config: Config, tenants: TenantSource, logs: Logs) -> Self {
        let settings = Settings {
            mode: config.mode,
            max_resyncs: config.max_resyncs,
            bounds: Bounds::default(),
            sleep: Box::new(|time| Box::pin(tokio::time::sleep(time))),
        };
        Self {
            tenants,
            logs,
            config,
            settings,
            limits: Limits::default(),
            clock: Arc::new(Timestamp::now),
            memory: Mutex::default(),
        }
    }

    /// Replaces bounds and waits.
    #[must_use]
    pub fn with_bounds(mut self, bounds: Bounds, sleep: Sleep) -> Self {
        (self.settings.bounds, self.settings.sleep) = (bounds, sleep);
        self
    }

    /// Replaces the clock, and the limits of calls to SuperOffice.
    #[must_use]
    pub fn with_clock(mut self, clock: Clock, limits: Limits) -> Self {
        (self.clock, self.limits) = (clock, limits);
        self
    }

    /// Runs once, and passes each log line to `write`. The report contains the progress of the run,
    /// even if it did not complete.
    pub async fn run(&self, deadline: Instant, invocation: Invocation<'_>, write: impl Fn(String)) -> RunReport {
        let mode = self.settings.mode.as_str().to_owned();
        let report = RunReport { request_id: invocation.request_id.to_owned(), mode, ..RunReport::default() };
        let (started, report) = ((self.clock)(), Mutex::new(report));
        let run = Run { watchdog: self, started, deadline, invocation, write, report, visited: Mutex::default() };
        match timeout_at(deadline, run.prepare()).await.unwrap_or(Err(RunError::Deadline)) {
            Ok(prepared) => {
                let result = run.visit_all(&prepared).await;
                run.finish(Some(&prepared), result)
            }
            Err(error) => run.finish(None, Err(error)),
        }
    }

    /// Returns the client of a tenant, the known one if the tenant's entry is unchanged.
    fn subject(&self, tenant: &Arc<Tenant>) -> Result<Arc<Subject>, RunError> {
        let name = name(tenant);
        let mut memory = lock(&self.memory);
        if let Some((known, subject)) = memory.subjects.get(name)
            && Arc::ptr_eq(known, tenant)
        {
            return Ok(Arc::clone(subject));
        }
        let connection = tenant.connection().clone();
        let client = match memory.subjects.values().next() {
            // The certificates come from the environment, so one pool of connections serves every tenant.
            Some((_, other)) => other.client.for_tenant(connection),
            None => Client::with(connection, self.limits, Arc::clone(&self.clock))?,
        };
        let webhook = &self.config.webhook;
        let (webhook_url, secret) = (webhook.url(tenant.name())?, webhook.secret(tenant.name())?);
        let client = client.hiding(secret.as_ref());
        let subject = Arc::new(Subject { client, webhook_url, secret });
        memory.subjects.insert(name.to_owned(), (Arc::clone(tenant), Arc::clone(&subject)));
        Ok(subject)
    }
}

/// Locks, even if a panic in a test has poisoned the lock.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns the name of a tenant in log lines.
fn name(tenant: &Tenant) -> &str {
    tenant.name().unwrap_or("onsite")
}

/// The list, and the states of its tenants.
struct Prepared {
    list: Arc<TenantList>,
    names: TenantNames,
    history: History,
}

/// A tenant that is due.
struct Due {
    tenant: Arc<Tenant>,
    subject: Arc<Subject>,
    state: State,
}

/// A run.
struct Run<'a, W> {
    watchdog: &'a Watchdog,
    started: Timestamp,
    deadline: Instant,
    invocation: Invocation<'a>,
    write: W,
    report: Mutex<RunReport>,
    /// The tenants whose lines were written.
    visited: Mutex<HashSet<String>>,
}

impl<'a, W: Fn(String)> Run<'a, W> {
    /// Reads the list and the states.
    async fn prepare(&self) -> Result<Prepared, RunError> {
        let Watchdog { tenants, logs, config, .. } = self.watchdog;
        let list = tenants.list().await?;
        for entry in list.unusable() {
            lock(&self.report).add_unusable(entry);
        }
        let history = History::read(logs, &config.own_log_group, self.started).await?;
        let usable = list.usable().iter().map(|tenant| name(tenant));
        let names = match list.usable() {
            // Without a name, the tenant of a line cannot be checked.
            [tenant] if tenant.name().is_none() => TenantNames::every(name(tenant)),
            _ => TenantNames::new(usable.chain(list.unusable().iter().map(|entry| entry.name.as_str()))),
        };
        Ok(Prepared { list, names, history })
    }

    /// Returns the tenants that are due, least recently completed first.
    fn due(&self, prepared: &Prepared) -> Result<Vec<Due>, RunError> {
        let limit = before(self.started, VISIT_INTERVAL - SCHEDULE_JITTER);
        let mut due = Vec::new();
        for tenant in prepared.list.usable().iter().filter(|tenant| !tenant.is_paused()) {
            let mut state = prepared.history.state(name(tenant));
            if state.completed.is_none_or(|completed| completed <= limit) {
                let reactivated = lock(&self.watchdog.memory).reactivated.get(name(tenant)).copied();
                state.reactivated = state.reactivated.max(reactivated);
                due.push(Due { tenant: Arc::clone(tenant), subject: self.watchdog.subject(tenant)?, state });
            }
        }
        due.sort_by_key(|due| due.state.completed);
        Ok(due)
    }

    /// Visits the tenants that are due.
    async fn visit_all(&self, prepared: &Prepared) -> Result<(), RunError> {
        let due = self.due(prepared)?;
        if due.is_empty() {
            return Ok(());
        }
        let (log, result) = match timeout_at(self.deadline, self.read_log(prepared, &due)).await {
            Ok(Ok(log)) => (Some(log), Ok(())),
            // Webhooks are reactivated nevertheless.
            Ok(Err(error)) => (None, Err(error.into())),
            Err(_) => return Err(RunError::Deadline),
        };
        let end = self.deadline;
        let left = end.saturating_duration_since(Instant::now());
        let rounds = u32::try_from(due.len().div_ceil(VISITS)).unwrap_or(u32::MAX);
        let sweep = (left / 2 / rounds).max(SHORTEST_SWEEP).min(self.watchdog.settings.bounds.sweep);
        let (failed, others): (Vec<Due>, Vec<Due>) = due.into_iter().partition(|due| due.state.has_failed);

        let (to_signals, mut signals) = unbounded_channel::<Visit<'a>>();
        let (to_older, older) = unbounded_channel::<Visit<'a>>();
        let older_of_signals = to_older.clone();
        let log = log.as_ref();
        let looks = async move {
            let lane = async |due: Vec<Due>, width| {
                let visits = stream::iter(due).map(|due| self.look(due, log, end, sweep)).buffer_unordered(width);
                let mut visits = pin!(visits);
                while let Some(visit) = visits.next().await {
                    match visit {
                        None => lock(&self.report).waiting += 1,
                        Some(visit) if visit.has_signals() => self.pass(visit, &to_signals),
                        Some(visit) if visit.has_older() => self.pass(visit, &to_older),
                        Some(visit) => self.complete(visit),
                    }
                }
            };
            tokio::join!(lane(others, VISITS), lane(failed, VISITS_AFTER_FAILURE));
            drop((to_signals, to_older));
            let windows = OlderWindows {
                logs: &self.watchdog.logs,
                log_group: &self.watchdog.config.log_group,
                names: &prepared.names,
                deadline: end,
            };
            windows.advance(older, |visit| self.complete(visit)).await;
        };
        let signals = async move {
            let visits = stream::poll_fn(|context| signals.poll_recv(context));
            let visits = visits.map(async |mut visit: Visit<'a>| {
                visit.signal(end).await;
                visit
            });
            let mut visits = pin!(visits.buffer_unordered(SIGNALING));
            while let Some(visit) = visits.next().await {
                if visit.has_older() { self.pass(visit, &older_of_signals) } else { self.complete(visit) }
            }
        };
        tokio::join!(looks, signals);
        result
    }

    /// Reads the log for all visits.
    async fn read_log(&self, prepared: &Prepared, due: &[Due]) -> Result<Arc<SharedLog>, LogError> {
        let latest = before(self.started, GRACE);
        let shortest = before(latest, SHORTEST_WINDOW);
        let longest = before(self.started, LONGEST_READ);
        let margin = CLOCK_DIFFERENCE + LOG_MARGIN;
        let needed = due.iter().map(|due| {
            let read = due.state.read_until.filter(|_| !due.state.missing.is_empty());
            let read = read.map(|until| before(until, READ_AGAIN));
            let swept = due.state.swept_until.map(|until| before(until, margin));
            swept.into_iter().chain(read).min().unwrap_or(self.started)
        });
        // An older window is read after the visits, so it does not make this period longer.
        let since = needed.filter(|since| *since >= longest).chain([before(shortest, margin)]).min();
        let names = prepared.names.only(due.iter().map(|due| name(&due.tenant)));
        let left = self.deadline.saturating_duration_since(Instant::now());
        let window = (since.unwrap_or(shortest), self.started);
        let Watchdog { logs, config, .. } = self.watchdog;
        SharedLog::read(logs.clone(), &config.log_group, names, window, Instant::now() + left / 2).await
    }

    /// Visits a tenant up to its signals; `None` if time does not suffice.
    async fn look(&self, due: Due, log: Option<&Arc<SharedLog>>, end: Instant, sweep: Duration) -> Option<Visit<'a>> {
        let now = Instant::now();
        if now >= end {
            return None;
        }
        let deadline = end.min(now + sweep + VISIT_TIME);
        let name = name(&due.tenant);
        let log = log.map(|log| Coverage { log: log.tenant(name), since: log.since(), until: log.until() });
        let look = async |subject, state| {
            let settings = &self.watchdog.settings;
            let mut report = settings.mode.report(name, self.invocation.request_id);
            report.state = state;
            let mut visit = Visit::new(subject, settings, self.started, log.clone(), report);
            visit.look(deadline, sweep).await;
            visit
        };
        let visit = look(due.subject, due.state.clone()).await;
        if visit.is_refused
            // The credentials may have been replaced since the list was read.
            && let Ok(Ok(Some(tenant))) = timeout_at(deadline, self.watchdog.tenants.refresh(&due.tenant)).await
            && !Arc::ptr_eq(&tenant, &due.tenant)
            && let Ok(subject) = self.watchdog.subject(&tenant)
        {
            return Some(look(subject, due.state).await);
        }
        Some(visit)
    }

    /// Passes a visit on to its next part.
    fn pass(&self, visit: Visit<'a>, next: &UnboundedSender<Visit<'a>>) {
        // The receiver exists as long as there are senders.
        if let Err(error) = next.send(visit) {
            self.complete(error.0);
        }
    }

    /// Ends a visit with its line.
    fn complete(&self, visit: Visit<'a>) {
        let report = visit.finish();
        let tenant = report.tenant.clone();
        if let Some(reactivated) = report.state.reactivated {
            lock(&self.watchdog.memory).reactivated.insert(tenant.clone(), reactivated);
        }
        lock(&self.report).add(&report);
        lock(&self.visited).insert(tenant);
        (self.write)(report.line(self.invocation.function_name, (self.watchdog.clock)()));
    }

    /// Ends the run with its line.
    fn finish(self, prepared: Option<&Prepared>, result: Result<(), RunError>) -> RunReport {
        let now = (self.watchdog.clock)();
        let mut report = lock(&self.report).clone();
        report.error = result.err().map(|error| shortened(error.to_string()));
        let mut carried = Vec::new();
        if let Some(Prepared { list, history, .. }) = prepared {
            let visited = lock(&self.visited);
            let usable = list.usable().iter().map(|tenant| name(tenant));
            let listed = usable.chain(list.unusable().iter().map(|entry| entry.name.as_str()));
            carried = history.carry(listed.filter(|tenant| !visited.contains(*tenant)), now);
            report.remembered = Some(u64::try_from(history.len()).unwrap_or(u64::MAX));
        }
        for line in report.lines(carried, self.invocation.function_name, now) {
            (self.write)(line);
        }
        report
    }
}
