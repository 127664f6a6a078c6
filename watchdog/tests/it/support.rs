//! An installation with a watchdog, whose log it keeps.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use aws_config::BehaviorVersion;
use fake_superoffice::{Installation, SECRET, WEBHOOK_URL};
use jiff::Timestamp;
use recovery::logs::Logs;
use serde_json::Value;
use superoffice_client::registration::{Desired, ManagedWebhooks};
use superoffice_client::{Client, Limits};
use superoffice_webhook_watchdog::config::Config;
use superoffice_webhook_watchdog::run::{Pace, Watchdog};
use superoffice_webhook_watchdog::telemetry::{self, Report};
use tokio::time::Instant;

pub(crate) const OWN_LOG_GROUP: &str = "/aws/lambda/watchdog";

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
        let watchdog = watchdog(&installation, &all, Pace::default().sweep);
        Self { installation, variables: all, watchdog }
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
        let desired = Desired::new(WEBHOOK_URL, SECRET.into());
        client(&self.installation, &self.variables).register(&desired).await.unwrap().0
    }

    /// Replaces the watchdog's process, which forgets what it has in memory.
    pub(crate) fn restart(&mut self) {
        self.watchdog = watchdog(&self.installation, &self.variables, Pace::default().sweep);
    }

    /// Runs a watchdog of its own once, whose time suffices for one contact.
    pub(crate) async fn run_briefly(&self) -> Report {
        let watchdog = watchdog(&self.installation, &self.variables, Duration::ZERO);
        self.finish(&watchdog, Duration::from_secs(300)).await
    }

    /// Runs the watchdog once, delivers every event, and writes the watchdog's log line.
    pub(crate) async fn run(&self) -> Report {
        self.run_for(Duration::from_secs(300)).await
    }

    pub(crate) async fn run_for(&self, time: Duration) -> Report {
        self.finish(&self.watchdog, time).await
    }

    async fn finish(&self, watchdog: &Watchdog, time: Duration) -> Report {
        let report = watchdog.run(Instant::now() + time).await;
        self.superoffice.idle().await;
        self.write(&report);
        report
    }

    pub(crate) fn write(&self, report: &Report) {
        let now = self.clock.now();
        self.logs.write(OWN_LOG_GROUP, now, telemetry::line(report, "watchdog", "request", now).to_json());
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

    /// The lines of the watchdog's log.
    pub(crate) fn lines(&self) -> Vec<Value> {
        self.logs.lines(OWN_LOG_GROUP).iter().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    pub(crate) fn state(&self, webhook: usize) -> String {
        self.superoffice.webhooks()[webhook].state().to_owned()
    }

    /// The contacts that were signaled, oldest first.
    pub(crate) fn signals(&self) -> Vec<i64> {
        let requests = self.superoffice.requests();
        let signal = |path: &str| path.strip_prefix("Webhook/contact.resync/").map(|key| key.parse().unwrap());
        requests.iter().filter_map(|request| signal(&request.path)).collect()
    }
}

fn client(installation: &Installation, variables: &BTreeMap<&'static str, String>) -> Client {
    let config = Config::from_lookup(&|name| variables.get(name).cloned()).unwrap();
    let limits = Limits { first_wait: Duration::from_millis(1), ..Limits::default() };
    let clock = installation.clock.clone();
    Client::with(config.connection, limits, Arc::new(move || clock.now())).unwrap()
}

fn watchdog(installation: &Installation, variables: &BTreeMap<&'static str, String>, sweep: Duration) -> Watchdog {
    let config = Config::from_lookup(&|name| variables.get(name).cloned()).unwrap();
    let superoffice = Arc::clone(&installation.superoffice);
    let pace = Pace { sweep, look_every: Duration::ZERO, looks: 2 };
    let sleep = move |_| {
        let superoffice = Arc::clone(&superoffice);
        Box::pin(async move { superoffice.idle().await }) as std::pin::Pin<Box<dyn Future<Output = ()> + Send>>
    };
    Watchdog::new(config, client(installation, variables), logs(installation)).with_pace(pace, Box::new(sleep))
}

fn logs(installation: &Installation) -> Logs {
    let config = aws_sdk_cloudwatchlogs::Config::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(aws_sdk_cloudwatchlogs::config::Region::new("eu-north-1"))
        .endpoint_url(installation.logs.url())
        .credentials_provider(aws_sdk_cloudwatchlogs::config::Credentials::new("id", "key", None, None, "test"))
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .build();
    Logs::new(aws_sdk_cloudwatchlogs::Client::from_conf(config)).without_waits()
}
