//! A SuperOffice tenant, the function with its log, and a client.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use aws_config::BehaviorVersion;
use fake_superoffice::{Clock, Function, Logs, SuperOffice, TENANT};
use jiff::Timestamp;
use superoffice_webhook_admin::changes::Change;
use superoffice_webhook_admin::client::{Client, Limits};
use superoffice_webhook_admin::config::Environment;
use superoffice_webhook_admin::ledger::Ledger;
use superoffice_webhook_admin::missed::{Missed, Window};
use superoffice_webhook_admin::sensitive::Sensitive;
use superoffice_webhook_admin::webhooks::{Desired, Ours};

pub(crate) const SECRET: &str = "the shared secret";
pub(crate) const TOKEN: &str = "8A:access-token";
pub(crate) const URL: &str = "https://hooks.example.com/webhook";
pub(crate) const LOG_GROUP: &str = "/aws/lambda/webhook";
pub(crate) const START: &str = "2026-11-24T09:00:00Z";

/// Short waits, so that tests of retries are fast.
pub(crate) fn limits() -> Limits {
    Limits {
        attempt: Duration::from_secs(30),
        first_wait: Duration::from_millis(1),
        longest_wait: Duration::from_secs(5),
        ..Limits::default()
    }
}

pub(crate) struct TestBed {
    pub(crate) superoffice: SuperOffice,
    pub(crate) function: Arc<Function>,
    pub(crate) logs: Arc<Logs>,
    pub(crate) clock: Clock,
}

impl TestBed {
    pub(crate) async fn start() -> Self {
        let clock = Clock::fixed(START.parse().unwrap());
        let logs = Arc::new(Logs::start().await);
        let function = Function::new(SECRET, clock.clone(), Arc::clone(&logs), LOG_GROUP);
        let transport = Arc::new(function.transport());
        let superoffice = SuperOffice::start_at("127.0.0.1:0", clock.clone(), transport, 0.0).await;
        superoffice.accept_token(TOKEN);
        Self { superoffice, function, logs, clock }
    }

    /// The variables of a program that uses an access token.
    pub(crate) fn variables(&self) -> BTreeMap<&'static str, String> {
        BTreeMap::from([
            ("SUPEROFFICE_URL", self.superoffice.url()),
            ("SUPEROFFICE_ACCESS_TOKEN", TOKEN.to_owned()),
            ("SUPEROFFICE_WEBHOOK_SECRET", SECRET.to_owned()),
            ("WEBHOOK_URL", URL.to_owned()),
            ("LOG_GROUP_NAME", LOG_GROUP.to_owned()),
        ])
    }

    /// The variables of a program that looks the tenant up.
    pub(crate) fn lookup_variables(&self) -> BTreeMap<&'static str, String> {
        let mut variables = self.variables();
        variables.remove("SUPEROFFICE_URL");
        variables.insert("SUPEROFFICE_TENANT", TENANT.to_owned());
        variables.insert("SUPEROFFICE_ENVIRONMENT_URL", self.superoffice.environment_url());
        variables
    }

    pub(crate) fn client(&self) -> Client {
        self.client_with(&self.variables())
    }

    pub(crate) fn client_with(&self, variables: &BTreeMap<&'static str, String>) -> Client {
        let lookup = |name: &str| variables.get(name).cloned();
        let mut environment = Environment::new(&lookup);
        let connection = environment.connection();
        let clock = self.clock.clone();
        Client::with(environment.finish(connection).unwrap(), limits(), Arc::new(move || clock.now())).unwrap()
    }

    pub(crate) fn ledger(&self) -> Ledger {
        let config = aws_sdk_cloudwatchlogs::Config::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .region(aws_sdk_cloudwatchlogs::config::Region::new("eu-north-1"))
            .endpoint_url(self.logs.url())
            .credentials_provider(aws_sdk_cloudwatchlogs::config::Credentials::new("id", "key", None, None, "test"))
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .build();
        let logs = superoffice_webhook_admin::ledger::Logs::new(aws_sdk_cloudwatchlogs::Client::from_conf(config));
        Ledger::new(logs, LOG_GROUP, Some(TENANT))
    }

    pub(crate) async fn register(&self) -> Ours {
        self.client().register(&desired()).await.unwrap().0
    }

    /// Lists the missed contacts since the start of the test.
    pub(crate) async fn missed(&self) -> Vec<(i64, Change)> {
        self.missed_with(1000).await
    }

    pub(crate) async fn missed_with(&self, batch: usize) -> Vec<(i64, Change)> {
        let (client, ledger) = (self.client(), self.ledger());
        let window = Window { since: START.parse().unwrap(), until: self.clock.now() };
        let mut missed = Missed::new(&client, &ledger, window).with_batch(batch);
        let mut found = Vec::new();
        while let Some(batch) = missed.next_batch().await.unwrap() {
            found.extend(batch.into_iter().map(|contact| (contact.primary_key, contact.change)));
        }
        found
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Lets time pass.
    pub(crate) fn pass(&self, seconds: i64) {
        self.clock.advance(seconds * 1000);
    }

    /// Returns the methods and paths of the requests so far.
    pub(crate) fn calls(&self) -> Vec<String> {
        self.superoffice.requests().iter().map(|request| format!("{} {}", request.method, request.path)).collect()
    }
}

pub(crate) fn desired() -> Desired {
    Desired { name: None, url: URL.to_owned(), secret: Sensitive::new(SECRET), errors_emails: Vec::new() }
}
