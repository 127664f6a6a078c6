//! One run: the list of tenants, the log, and the visits of the tenants that are due.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use jiff::{SignedDuration, Timestamp};
use recovery::comparison::{SETTLING, log_margin};
use recovery::delivery_log::DeliveryLog;
use recovery::function_log::FunctionLog;
use recovery::logs::{LogError, Logs};
use recovery::shared_log::SharedLog;
use recovery::signaler::Sleep;
use recovery::tenant_names::TenantNames;
use superoffice_client::settings::NoTenantName;
use superoffice_client::{Client, Clock, Limits, SetupError};
use tenants::{ListError, ONSITE, Tenant, TenantList, TenantSource};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{Instant, timeout_at};

use crate::config::Config;
use crate::history::History;
use crate::older::OlderWindows;
use crate::state::{State, before};
use crate::telemetry::{Report, RunReport, shortened};
use crate::visit::{Access, Bounds, Coverage, SHORTEST_WINDOW, Settings, Visit};

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
/// The number of tenants whose records are signaled at the same time.
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
    accesses: HashMap<String, (Arc<Tenant>, Arc<Access>)>,
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
            entities: config.entities.clone(),
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

    /// Returns the access to a tenant, the known one if the tenant's entry is unchanged.
    fn access(&self, tenant: &Arc<Tenant>) -> Result<Arc<Access>, RunError> {
        let name = tenant.name_or_onsite();
        let mut memory = lock(&self.memory);
        if let Some((known, access)) = memory.accesses.get(name)
            && Arc::ptr_eq(known, tenant)
        {
            return Ok(Arc::clone(access));
        }
        let connection = tenant.connection().clone();
        let client = match memory.accesses.values().next() {
            // The certificates come from the environment, so one pool of connections serves every tenant.
            Some((_, other)) => other.client.for_tenant(connection),
            None => Client::with(connection, self.limits, Arc::clone(&self.clock))?,
        };
        let webhook = &self.config.webhook;
        let (webhook_url, secret) = (webhook.url(tenant.name())?, webhook.secret(tenant.name())?);
        let client = client.hiding(secret.as_ref());
        let access = Arc::new(Access { client, webhook_url, secret });
        memory.accesses.insert(name.to_owned(), (Arc::clone(tenant), Arc::clone(&access)));
        Ok(access)
    }
}

/// Locks, even if a panic in a test has poisoned the lock.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The list, and the states of its tenants.
struct Prepared {
    list: Arc<TenantList>,
    function_log: FunctionLog,
    history: History,
}

/// A tenant that is due.
struct Due {
    tenant: Arc<Tenant>,
    access: Arc<Access>,
    state: State,
}

/// The visits that wait for a part.
type Queue<'a> = UnboundedSender<Visit<'a>>;

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
        let is_listed = |name: &str| list.usable().iter().any(|tenant| tenant.name_or_onsite() == name);
        lock(&self.watchdog.memory).accesses.retain(|name, _| is_listed(name));
        for entry in list.unusable() {
            lock(&self.report).add_unusable(entry);
        }
        let history = History::read(logs, &config.own_log_group, self.started).await?;
        let function_log =
            FunctionLog::new(logs.clone(), &config.log_group, TenantNames::of_list(list.names(), ONSITE));
        Ok(Prepared { list, function_log, history })
    }

    /// Returns the tenants that are due, least recently completed first.
    fn due(&self, prepared: &Prepared) -> Result<Vec<Due>, RunError> {
        let limit = before(self.started, VISIT_INTERVAL - SCHEDULE_JITTER);
        let mut due = Vec::new();
        for tenant in prepared.list.usable().iter().filter(|tenant| !tenant.is_paused()) {
            let mut state = prepared.history.state(tenant.name_or_onsite());
            if state.completed.is_none_or(|completed| completed <= limit) {
                let reactivated = lock(&self.watchdog.memory).reactivated.get(tenant.name_or_onsite()).copied();
                state.reactivated = state.reactivated.max(reactivated);
                due.push(Due { tenant: Arc::clone(tenant), access: self.watchdog.access(tenant)?, state });
            }
        }
        due.sort_by_key(|due| due.state.completed);
        Ok(due)
    }

    /// Visits the tenants that are due. A visit has up to three parts: it inspects the tenant, signals records, and
    /// continues the older window.
    async fn visit_all(&self, prepared: &Prepared) -> Result<(), RunError> {
        let due = self.due(prepared)?;
        if due.is_empty() {
            return Ok(());
        }
        let (log, log_result) = match timeout_at(self.deadline, self.read_log(prepared, &due)).await {
            Ok(Ok(log)) => (Some(log), Ok(())),
            // Webhooks are reactivated nevertheless.
            Ok(Err(error)) => (None, Err(error.into())),
            Err(_) => return Err(RunError::Deadline),
        };
        let (to_signals, signals) = unbounded_channel();
        let (to_older, older) = unbounded_channel();
        let to_older_after_signals = to_older.clone();
        let inspections_and_older_windows = async move {
            // A part ends when its channel closes: when every earlier part has dropped its sender.
            self.inspect_all(due, log.as_ref(), to_signals, to_older).await;
            let windows = OlderWindows { log: &prepared.function_log, deadline: self.deadline };
            windows.advance(older, |visit| self.complete(visit)).await;
        };
        tokio::join!(inspections_and_older_windows, self.signal_all(signals, to_older_after_signals));
        log_result
    }

    /// Reads the log for all visits.
    async fn read_log(&self, prepared: &Prepared, due: &[Due]) -> Result<Arc<SharedLog>, LogError> {
        let latest_start = before(self.started, SETTLING + SHORTEST_WINDOW);
        let earliest_start = before(self.started, LONGEST_READ);
        let margin = log_margin(CLOCK_DIFFERENCE);
        let needed = due.iter().filter_map(|due| due.state.log_since(margin));
        // An older window is read after the visits, so it does not make this period longer.
        let since = needed.filter(|since| *since >= earliest_start).fold(before(latest_start, margin), Timestamp::min);
        let log = prepared.function_log.only(due.iter().map(|due| due.tenant.name_or_onsite()));
        let left = self.deadline.saturating_duration_since(Instant::now());
        SharedLog::read(log, (since, self.started), Instant::now() + left / 2).await
    }

    /// Inspects the tenants, and passes each visit on to its next part.
    async fn inspect_all(&self, due: Vec<Due>, log: Option<&Arc<SharedLog>>, signals: Queue<'a>, older: Queue<'a>) {
        let sweep = self.sweep_time(due.len());
        let inspect = async |due: Vec<Due>, width| {
            let visits = stream::iter(due).map(|due| self.inspect(due, log, sweep)).buffer_unordered(width);
            let mut visits = pin!(visits);
            while let Some(visit) = visits.next().await {
                match visit {
                    None => lock(&self.report).waiting += 1,
                    Some(visit) if visit.has_signals() => self.pass(visit, &signals),
                    Some(visit) => self.pass_to_older(visit, &older),
                }
            }
        };
        let (failed, others): (Vec<Due>, Vec<Due>) = due.into_iter().partition(|due| due.state.has_failed);
        tokio::join!(inspect(others, VISITS), inspect(failed, VISITS_AFTER_FAILURE));
    }

    /// Returns the time for each sweep, so that half of the run suffices for all tenants.
    fn sweep_time(&self, tenants: usize) -> Duration {
        let left = self.deadline.saturating_duration_since(Instant::now());
        let rounds = u32::try_from(tenants.div_ceil(VISITS)).unwrap_or(u32::MAX).max(1);
        (left / 2 / rounds).max(SHORTEST_SWEEP).min(self.watchdog.settings.bounds.sweep)
    }

    /// Inspects a tenant; `None` if time does not suffice.
    async fn inspect(&self, due: Due, log: Option<&Arc<SharedLog>>, sweep: Duration) -> Option<Visit<'a>> {
        let now = Instant::now();
        if now >= self.deadline {
            return None;
        }
        let deadline = self.deadline.min(now + sweep + VISIT_TIME);
        let name = due.tenant.name_or_onsite();
        let log =
            log.map(|log| Coverage { log: DeliveryLog::shared(log, name), since: log.since(), until: log.until() });
        let inspect = async |access, state| {
            let settings = &self.watchdog.settings;
            let mut report = Report::new(settings.mode, name, self.invocation.request_id);
            report.state = state;
            let mut visit = Visit::new(access, settings, self.started, log.clone(), report);
            visit.inspect(deadline, sweep).await;
            visit
        };
        let visit = inspect(due.access, due.state.clone()).await;
        if visit.is_refused
            // The credentials may have been replaced since the list was read.
            && let Ok(Ok(Some(tenant))) = timeout_at(deadline, self.watchdog.tenants.refresh(&due.tenant)).await
            && !Arc::ptr_eq(&tenant, &due.tenant)
            && let Ok(access) = self.watchdog.access(&tenant)
        {
            return Some(inspect(access, due.state).await);
        }
        Some(visit)
    }

    /// Signals the records of visits, and passes each visit on to its next part.
    async fn signal_all(&self, mut visits: UnboundedReceiver<Visit<'a>>, older: Queue<'a>) {
        let visits = stream::poll_fn(|context| visits.poll_recv(context));
        let visits = visits.map(async |mut visit: Visit<'a>| {
            visit.signal(self.deadline).await;
            visit
        });
        let mut visits = pin!(visits.buffer_unordered(SIGNALING));
        while let Some(visit) = visits.next().await {
            self.pass_to_older(visit, &older);
        }
    }

    /// Passes a visit on to its older window, or ends it.
    fn pass_to_older(&self, visit: Visit<'a>, older: &Queue<'a>) {
        if visit.has_older() { self.pass(visit, older) } else { self.complete(visit) }
    }

    /// Passes a visit on to its next part.
    fn pass(&self, visit: Visit<'a>, queue: &Queue<'a>) {
        // The receiver exists as long as there are senders.
        if let Err(error) = queue.send(visit) {
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
            let listed = list.names().map(|name| name.unwrap_or(ONSITE));
            carried = history.carry(listed.filter(|tenant| !visited.contains(*tenant)), now);
            report.remembered = Some(u64::try_from(history.len()).unwrap_or(u64::MAX));
        }
        for line in report.lines(carried, self.invocation.function_name, now) {
            (self.write)(line);
        }
        report
    }
}
