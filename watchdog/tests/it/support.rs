//! Tenants with a watchdog, whose log the test bed keeps.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use aws_config::BehaviorVersion;
use fake_superoffice::{
    Clock, Function, Installation, LOG_GROUP, Logs as FakeLogs, SECRET, START, SuperOffice, TENANT, TOKEN, Transport,
    WEBHOOK_URL,
};
use jiff::Timestamp;
use recovery::logs::Logs;
use serde_json::{Value, json};
use superoffice_client::registration::{CONTACT_EVENTS, Desired, ManagedWebhooks};
use superoffice_client::settings;
use superoffice_client::{Client, Limits};
use superoffice_webhook::env::Environment;
use superoffice_webhook_watchdog::config::Config;
use superoffice_webhook_watchdog::run::{Invocation, Watchdog};
use superoffice_webhook_watchdog::telemetry::{Report, RunReport};
use superoffice_webhook_watchdog::visit::Bounds;
use test_support::ssm::ParameterStore;
use tokio::time::Instant;

pub(crate) const OWN_LOG_GROUP: &str = "/aws/lambda/watchdog";
/// The path of the list of tenants.
pub(crate) const LIST: &str = "/superoffice/test";

/// One tenant in the environment, and a watchdog.
pub(crate) struct TestBed {
    installation: Installation,
    pub(crate) variables: BTreeMap<&'static str, String>,
    watchdog: Watchdog,
}

impl Deref for TestBed {
    type Target = Installation;

    fn deref(&self) -> &Installation {
        &self.installation
    }
}

impl TestBed {
    /// Starts an installation with a registered webhook and a watchdog that acts.
    pub(crate) async fn start() -> Self {
        Self::start_with(&[("WATCHDOG_MODE", "act")]).await
    }

    pub(crate) async fn start_with(variables: &[(&'static str, &str)]) -> Self {
        let bed = Self::unregistered(variables).await;
        bed.register().await;
        bed
    }

    pub(crate) async fn unregistered(variables: &[(&'static str, &str)]) -> Self {
        Self::at(Installation::start().await, variables)
    }

    /// The watchdog's `Debug` output.
    pub(crate) fn debug(&self) -> String {
        format!("{:?}", self.watchdog)
    }

    fn at(installation: Installation, variables: &[(&'static str, &str)]) -> Self {
        installation.logs.create(OWN_LOG_GROUP);
        let mut all = installation.lookup_variables();
        all.insert("AWS_LAMBDA_LOG_GROUP_NAME", OWN_LOG_GROUP.to_owned());
        all.extend(variables.iter().map(|(name, value)| (*name, (*value).to_owned())));
        let watchdog = Self::watchdog(&installation, &all, Bounds::default().sweep);
        Self { installation, variables: all, watchdog }
    }

    fn watchdog(installation: &Installation, variables: &BTreeMap<&'static str, String>, sweep: Duration) -> Watchdog {
        let bounds = Bounds { sweep, ..quick_bounds() };
        let tenants = vec![Arc::clone(&installation.superoffice)];
        watchdog(variables, None, &installation.logs, &installation.clock, bounds, tenants)
    }

    /// Starts an installation at a time, for a program that uses the system's clock.
    pub(crate) async fn start_at(time: Timestamp) -> Self {
        Self::start_slow(time, 0, &[]).await
    }

    /// Starts an installation whose tenant has a clock that is behind AWS's by a number of seconds.
    pub(crate) async fn start_slow(time: Timestamp, slow_by: i64, variables: &[(&'static str, &str)]) -> Self {
        let variables = [&[("WATCHDOG_MODE", "act")], variables].concat();
        let bed = Self::at(Installation::start_at(time, slow_by).await, &variables);
        bed.register().await;
        bed
    }

    pub(crate) async fn register(&self) -> ManagedWebhooks {
        let client = client(&self.variables, &self.clock, None);
        client.register(&Desired::new(WEBHOOK_URL, SECRET.into())).await.unwrap().0
    }

    /// Replaces the watchdog's process, which forgets what it has in memory.
    pub(crate) fn restart(&mut self) {
        self.watchdog = Self::watchdog(&self.installation, &self.variables, Bounds::default().sweep);
    }

    /// Visits the tenant with a watchdog of its own, whose time suffices for one contact.
    pub(crate) async fn run_briefly(&self) -> Report {
        let watchdog = Self::watchdog(&self.installation, &self.variables, Duration::ZERO);
        self.finish(&watchdog, Duration::from_secs(300)).await;
        self.visits().pop().unwrap()
    }

    /// Visits the tenant, which is due, delivers every event, and returns the report of the visit.
    pub(crate) async fn run(&self) -> Report {
        let before = self.visits().len();
        self.run_for(Duration::from_secs(300)).await;
        let mut visits = self.visits();
        assert_eq!(visits.len(), before + 1, "the tenant was not visited");
        visits.pop().unwrap()
    }

    /// Runs the watchdog once, and delivers every event.
    pub(crate) async fn run_for(&self, time: Duration) -> RunReport {
        self.finish(&self.watchdog, time).await
    }

    async fn finish(&self, watchdog: &Watchdog, time: Duration) -> RunReport {
        let report = run(watchdog, time, &self.logs, &self.clock).await;
        self.superoffice.idle().await;
        report
    }

    /// Runs the watchdog as its schedule does.
    pub(crate) async fn run_every_five_minutes(&self, runs: usize) -> Vec<Report> {
        let mut reports = Vec::new();
        for _ in 0..runs {
            self.pass(300);
            reports.push(self.run().await);
        }
        reports
    }

    /// The lines of the watchdog's runs.
    pub(crate) fn lines(&self) -> Vec<Value> {
        run_lines(&self.logs)
    }

    /// The reports of the visits.
    pub(crate) fn visits(&self) -> Vec<Report> {
        visits(&self.logs)
    }

    pub(crate) fn state(&self, webhook: usize) -> String {
        self.superoffice.webhooks()[webhook].state().to_owned()
    }

    /// The contacts that were signaled, oldest first.
    pub(crate) fn signals(&self) -> Vec<i64> {
        let contact = |signal: &String| signal.strip_prefix("contact.resync/").map(|id| id.parse().unwrap());
        signals(&self.superoffice).iter().filter_map(contact).collect()
    }
}

/// Several tenants of a list in Parameter Store, one function, and a watchdog.
pub(crate) struct Tenants {
    pub(crate) tenants: Vec<Arc<SuperOffice>>,
    pub(crate) function: Arc<Function>,
    pub(crate) logs: Arc<FakeLogs>,
    pub(crate) clock: Clock,
    pub(crate) store: ParameterStore,
    variables: BTreeMap<&'static str, String>,
    bounds: Bounds,
    watchdog: Watchdog,
}

impl Tenants {
    /// Starts tenants with registered webhooks, and a watchdog that acts. Each tenant has a clock that is behind AWS's by
    /// a number of seconds.
    pub(crate) async fn start(slow_by: &[i64], variables: &[(&'static str, &str)]) -> Self {
        let clock = Clock::fixed(START.parse().unwrap());
        let logs = Arc::new(FakeLogs::start().await);
        let function = Function::new(SECRET, clock.clone(), Arc::clone(&logs), LOG_GROUP);
        let transport: Transport = Arc::new(function.transport());
        logs.create(OWN_LOG_GROUP);
        let store = ParameterStore::start().await;
        let mut tenants = Vec::new();
        for (number, slow_by) in slow_by.iter().enumerate() {
            let name = name(number);
            let clock = clock.slowed(*slow_by);
            let tenant = SuperOffice::start_named(&name, "127.0.0.1:0", clock, Arc::clone(&transport), 0.0).await;
            tenant.accept_token(TOKEN);
            store.put(&format!("{LIST}/{name}"), json!({"url": tenant.url(), "accessToken": TOKEN}));
            tenants.push(Arc::new(tenant));
            tenants[0].add_to_environment(&tenants[number]);
        }
        let mut all = BTreeMap::from([
            ("SUPEROFFICE_TENANTS_PARAMETER", LIST.to_owned()),
            ("SUPEROFFICE_WEBHOOK_SECRET", SECRET.to_owned()),
            ("SUPEROFFICE_ENVIRONMENT_URL", tenants[0].environment_url()),
            ("WEBHOOK_URL", WEBHOOK_URL.to_owned()),
            ("LOG_GROUP_NAME", LOG_GROUP.to_owned()),
            ("AWS_LAMBDA_LOG_GROUP_NAME", OWN_LOG_GROUP.to_owned()),
            ("WATCHDOG_MODE", "act".to_owned()),
        ]);
        all.extend(variables.iter().map(|(name, value)| (*name, (*value).to_owned())));
        let mut first: Option<Client> = None;
        for (number, tenant) in tenants.iter().enumerate() {
            let mut own = all.clone();
            own.remove("SUPEROFFICE_TENANTS_PARAMETER");
            own.insert("SUPEROFFICE_URL", tenant.url());
            own.insert("SUPEROFFICE_TENANT", name(number));
            own.insert("SUPEROFFICE_ACCESS_TOKEN", TOKEN.to_owned());
            let client = client(&own, &clock, first.as_ref());
            client.register(&desired(&all)).await.unwrap();
            tenant.clear_requests();
            first.get_or_insert(client);
        }
        let bounds = quick_bounds();
        let watchdog = watchdog(&all, Some(&store), &logs, &clock, bounds, tenants.clone());
        Self { tenants, function, logs, clock, store, variables: all, bounds, watchdog }
    }

    /// Limits the number of records in each list of a state.
    pub(crate) fn limit_records(&mut self, records: usize) {
        self.bounds.records = records;
        self.restart();
    }

    /// Replaces the watchdog's process.
    pub(crate) fn restart(&mut self) {
        self.watchdog = self.process(self.bounds);
    }

    fn process(&self, bounds: Bounds) -> Watchdog {
        watchdog(&self.variables, Some(&self.store), &self.logs, &self.clock, bounds, self.tenants.clone())
    }

    pub(crate) fn pass(&self, seconds: i64) {
        self.clock.advance(seconds * 1000);
    }

    /// Runs the watchdog once, and delivers every event.
    pub(crate) async fn run(&self) -> RunReport {
        self.run_for(Duration::from_secs(300)).await
    }

    pub(crate) async fn run_for(&self, time: Duration) -> RunReport {
        let report = run(&self.watchdog, time, &self.logs, &self.clock).await;
        self.idle().await;
        report
    }

    /// Runs a watchdog of its own, whose time suffices for one contact of each tenant.
    pub(crate) async fn run_briefly(&self) {
        let watchdog = self.process(Bounds { sweep: Duration::ZERO, ..self.bounds });
        run(&watchdog, Duration::from_secs(300), &self.logs, &self.clock).await;
        self.idle().await;
    }

    /// Runs two watchdogs at the same time.
    pub(crate) async fn run_twice(&self) {
        let other = self.process(self.bounds);
        let time = Duration::from_secs(300);
        tokio::join!(run(&self.watchdog, time, &self.logs, &self.clock), run(&other, time, &self.logs, &self.clock));
        self.idle().await;
    }

    pub(crate) async fn idle(&self) {
        for tenant in &self.tenants {
            tenant.idle().await;
        }
    }

    pub(crate) fn visits(&self) -> Vec<Report> {
        visits(&self.logs)
    }

    pub(crate) fn lines(&self) -> Vec<Value> {
        run_lines(&self.logs)
    }

    pub(crate) fn signals(&self, tenant: usize) -> Vec<String> {
        signals(&self.tenants[tenant])
    }
}

/// The webhook of a tenant. If persons are recovered, it has their events, too.
fn desired(variables: &BTreeMap<&'static str, String>) -> Desired {
    let desired = Desired::new(WEBHOOK_URL, SECRET.into());
    if !variables.contains_key("SYNC_ENTITIES") {
        return desired;
    }
    let persons = ["created", "changed", "softdeleted", "deleted", "resync"].map(|ending| format!("person.{ending}"));
    let events = CONTACT_EVENTS.map(str::to_owned).into_iter().chain(persons).collect();
    Desired { events: Some(events), ..desired }
}

/// The name of a tenant of a list.
pub(crate) fn name(number: usize) -> String {
    format!("Cust{}", 1000 + number)
}

fn quick_bounds() -> Bounds {
    Bounds { read_every: Duration::ZERO, reads: 2, ..Bounds::default() }
}

/// The signals, oldest first: `contact.resync/7`.
fn signals(superoffice: &SuperOffice) -> Vec<String> {
    let requests = superoffice.requests().into_iter();
    let signal =
        |path: &str| path.strip_prefix("Webhook/").filter(|event| event.contains(".resync/")).map(str::to_owned);
    requests.filter_map(|request| signal(&request.path)).collect()
}

fn json_lines(logs: &FakeLogs) -> impl Iterator<Item = Value> {
    logs.lines(OWN_LOG_GROUP).into_iter().map(|line| serde_json::from_str(&line).unwrap())
}

fn run_lines(logs: &FakeLogs) -> Vec<Value> {
    json_lines(logs).filter(|line| line.get("tenant").is_none()).collect()
}

fn visits(logs: &FakeLogs) -> Vec<Report> {
    let visits = json_lines(logs).filter(|line| line.get("tenant").is_some());
    visits.map(|line| serde_json::from_value(line).unwrap()).collect()
}

/// Runs a watchdog, and writes its lines.
async fn run(watchdog: &Watchdog, time: Duration, logs: &FakeLogs, clock: &Clock) -> RunReport {
    let invocation = Invocation { function_name: "watchdog", request_id: "request" };
    let write = |line| logs.write(OWN_LOG_GROUP, clock.now(), line);
    watchdog.run(Instant::now() + time, invocation, write).await
}

/// Creates a client, with the connections of another one if there is one.
fn client(variables: &BTreeMap<&'static str, String>, clock: &Clock, other: Option<&Client>) -> Client {
    let lookup = |name: &str| variables.get(name).cloned();
    let mut environment = Environment::new(&lookup);
    let connection = settings::connection(&mut environment);
    let (clock, connection) = (clock.clone(), environment.finish(connection).unwrap());
    match other {
        Some(other) => other.for_tenant(connection),
        None => Client::with(connection, limits(), Arc::new(move || clock.now())).unwrap(),
    }
}

fn limits() -> Limits {
    Limits { first_wait: Duration::from_millis(1), ..Limits::default() }
}

fn watchdog(
    variables: &BTreeMap<&'static str, String>,
    store: Option<&ParameterStore>,
    logs: &FakeLogs,
    clock: &Clock,
    bounds: Bounds,
    tenants: Vec<Arc<SuperOffice>>,
) -> Watchdog {
    let (mut source, config) = Config::from_lookup(&|name| variables.get(name).cloned()).unwrap();
    let shared = clock.clone();
    let clock: superoffice_client::Clock = Arc::new(move || shared.now());
    if let Some(store) = store {
        let config = aws_sdk_ssm::Config::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .region(aws_sdk_ssm::config::Region::new("eu-north-1"))
            .endpoint_url(store.url())
            .credentials_provider(aws_sdk_ssm::config::Credentials::new("id", "key", None, None, "test"))
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .build();
        source = source.with_client(aws_sdk_ssm::Client::from_conf(config)).with_clock(Arc::clone(&clock));
    }
    let sleep = move |_| {
        let tenants = tenants.clone();
        Box::pin(async move {
            for tenant in &tenants {
                tenant.idle().await;
            }
        }) as std::pin::Pin<Box<dyn Future<Output = ()> + Send>>
    };
    Watchdog::new(config, source, client_of_logs(logs)).with_bounds(bounds, Box::new(sleep)).with_clock(clock, limits())
}

fn client_of_logs(logs: &FakeLogs) -> Logs {
    let config = aws_sdk_cloudwatchlogs::Config::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(aws_sdk_cloudwatchlogs::config::Region::new("eu-north-1"))
        .endpoint_url(logs.url())
        .credentials_provider(aws_sdk_cloudwatchlogs::config::Credentials::new("id", "key", None, None, "test"))
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .build();
    Logs::new(aws_sdk_cloudwatchlogs::Client::from_conf(config)).without_waits()
}

/// The name of the tenant of a [`TestBed`].
pub(crate) const ONLY: &str = TENANT;
