//! A SuperOffice tenant, the function with its log, and a client.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use aws_config::BehaviorVersion;
use fake_superoffice::{Installation, LOG_GROUP, SECRET, START, TENANT, WEBHOOK_URL};
use jiff::{SignedDuration, Timestamp};
use recovery::changes::RecordChange;
use recovery::comparison::{Comparison, Window};
use recovery::delivery_log::DeliveryLog;
use recovery::logs::Logs;
use superoffice_client::changes::Change;
use superoffice_client::registration::{CONTACT_EVENTS, Desired, ManagedWebhooks};
use superoffice_client::settings;
use superoffice_client::{Archive, Client, Clock, Limits};
use superoffice_webhook::env::Environment;

/// An installation with clients for it.
pub(crate) struct TestBed(Installation);

impl Deref for TestBed {
    type Target = Installation;

    fn deref(&self) -> &Installation {
        &self.0
    }
}

impl TestBed {
    pub(crate) async fn start() -> Self {
        Self(Installation::start().await)
    }

    /// Starts at a time that is ahead of the local clock.
    pub(crate) async fn start_ahead(time: SignedDuration) -> Self {
        Self(Installation::start_at(Timestamp::now() + time, 0).await)
    }

    /// Returns a client that repeats a call without a wait.
    pub(crate) fn client(&self) -> Client {
        let clock = self.clock.clone();
        self.client_with_clock(Arc::new(move || clock.now()))
    }

    /// Returns a client that uses the system's clock.
    pub(crate) fn client_with_local_clock(&self) -> Client {
        self.client_with_clock(Arc::new(Timestamp::now))
    }

    fn client_with_clock(&self, clock: Clock) -> Client {
        let variables = self.variables();
        let lookup = |name: &str| variables.get(name).cloned();
        let mut environment = Environment::new(&lookup);
        let connection = settings::connection(&mut environment);
        let limits = Limits { first_wait: Duration::from_millis(1), ..Limits::default() };
        Client::with(environment.finish(connection).unwrap(), limits, clock).unwrap()
    }

    pub(crate) fn ledger(&self) -> DeliveryLog {
        DeliveryLog::new(client_of_logs(self.logs.url()), LOG_GROUP, Some(TENANT))
    }

    pub(crate) async fn register(&self) -> ManagedWebhooks {
        self.client().register(&desired()).await.unwrap().0
    }

    /// Lists the missed contacts since the start of the test.
    pub(crate) async fn missed(&self) -> Vec<(i64, Change)> {
        self.missed_with(1000).await
    }

    pub(crate) async fn missed_with(&self, part: usize) -> Vec<(i64, Change)> {
        let (client, ledger) = (self.client(), self.ledger());
        let comparison = self.since_start().with_part(part);
        let missed = parts(&comparison, &client, &ledger).await.into_iter().flatten();
        missed.map(|changed| (changed.record.id, changed.change)).collect()
    }

    /// Compares the changes since the start of the test.
    pub(crate) fn since_start(&self) -> Comparison {
        self.since_start_of(&[Archive::CONTACT])
    }

    /// Compares the changes of entities since the start of the test.
    pub(crate) fn since_start_of(&self, entities: &[&'static Archive]) -> Comparison {
        Comparison::new(Window { since: START.parse().unwrap(), until: self.clock.now() }, entities)
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }
}

/// The missed records of each part.
pub(crate) async fn parts(comparison: &Comparison, client: &Client, ledger: &DeliveryLog) -> Vec<Vec<RecordChange>> {
    let (mut parts, mut after) = (Vec::new(), None);
    loop {
        let listing = comparison.list(client, after).await.unwrap();
        let compared = comparison.compare(listing, ledger).await.unwrap();
        parts.push(compared.missed);
        after = compared.continue_after;
        if after.is_none() {
            return parts;
        }
    }
}

pub(crate) fn client_of_logs(url: impl Into<String>) -> Logs {
    let config = aws_sdk_cloudwatchlogs::Config::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(aws_sdk_cloudwatchlogs::config::Region::new("eu-north-1"))
        .endpoint_url(url)
        .credentials_provider(aws_sdk_cloudwatchlogs::config::Credentials::new("id", "key", None, None, "test"))
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .build();
    Logs::new(aws_sdk_cloudwatchlogs::Client::from_conf(config)).without_waits()
}

pub(crate) fn desired() -> Desired {
    Desired::new(WEBHOOK_URL, SECRET.into())
}

/// A webhook for contacts and persons.
pub(crate) fn desired_with_persons() -> Desired {
    let persons = ["created", "changed", "softdeleted", "deleted", "resync"].map(|ending| format!("person.{ending}"));
    let events = CONTACT_EVENTS.map(str::to_owned).into_iter().chain(persons).collect();
    Desired { events: Some(events), ..desired() }
}
