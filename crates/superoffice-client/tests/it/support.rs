//! A SuperOffice tenant, the function with its log, and a client.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use fake_superoffice::{Installation, Kind, SECRET, START, Version, WEBHOOK_URL, Webhook};
use jiff::Timestamp;
use superoffice_client::registration::{Desired, ManagedWebhooks};
use superoffice_client::settings;
use superoffice_client::{Archive, Client, Limits};
use superoffice_webhook::env::Environment;

/// The entities with an archive, and their kinds in the fake.
pub(crate) const ENTITIES: [(&Archive, Kind); 2] = [(Archive::CONTACT, Kind::Contact), (Archive::PERSON, Kind::Person)];

/// Short waits, so that tests of retries are fast.
pub(crate) fn limits() -> Limits {
    Limits {
        attempt: Duration::from_secs(30),
        first_wait: Duration::from_millis(1),
        longest_wait: Duration::from_secs(5),
        ..Limits::default()
    }
}

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

    /// Starts an installation whose tenant has a clock that is behind by a number of seconds.
    pub(crate) async fn start_slow(seconds: i64) -> Self {
        Self(Installation::start_at(START.parse().unwrap(), seconds).await)
    }

    pub(crate) fn client(&self) -> Client {
        self.client_with(&self.variables())
    }

    pub(crate) fn client_with(&self, variables: &BTreeMap<&'static str, String>) -> Client {
        self.client_with_limits(variables, limits())
    }

    pub(crate) fn client_with_limits(&self, variables: &BTreeMap<&'static str, String>, limits: Limits) -> Client {
        let lookup = |name: &str| variables.get(name).cloned();
        let mut environment = Environment::new(&lookup);
        let connection = settings::connection(&mut environment);
        let clock = self.clock.clone();
        Client::with(environment.finish(connection).unwrap(), limits, Arc::new(move || clock.now())).unwrap()
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(crate) async fn register(&self) -> ManagedWebhooks {
        self.client().register(&desired()).await.unwrap().0
    }
}

pub(crate) fn desired() -> Desired {
    Desired::new(WEBHOOK_URL, SECRET.into())
}

pub(crate) const VERSIONS: [Version; 3] = [Version::Current, Version::WithoutCounters, Version::WithoutPatch];

pub(crate) fn by_id(bed: &TestBed, id: i64) -> Webhook {
    bed.superoffice.webhooks().into_iter().find(|webhook| webhook.id == id).unwrap()
}
