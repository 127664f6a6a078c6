//! The mirror with the real client and a fake SuperOffice over HTTP.

use std::sync::Arc;
use std::time::Duration;

use ::tenants::TenantSource;
use aws_sdk_ssm::config::{BehaviorVersion, Credentials, Region};
use fake_superoffice::{Fault, Installation, Kind, SuperOffice, TENANT, TOKEN};
use serde_json::json;
use superoffice_client::Limits;
use superoffice_webhook::env::Environment;
use superoffice_webhook::webhook::entity::Archive;
use superoffice_webhook_mirror::audit::{self, Settings};
use superoffice_webhook_mirror::batch::handle;
use superoffice_webhook_mirror::tenants::{Clients, Tenants};
use test_support::ssm::ParameterStore;
use tokio::time::Instant;

use crate::messages::{bodies, event, event_of};
use crate::table::MemoryTable;

/// Returns the tenant of an installation, which is looked up.
fn tenants_of(installation: &Installation) -> Clients {
    let variables = installation.lookup_variables();
    let lookup = |name: &str| variables.get(name).cloned();
    let mut environment = Environment::new(&lookup);
    let source = TenantSource::from_environment(&mut environment);
    let limits =
        Limits { attempt: Duration::from_millis(500), attempts: 1, renews_tickets: false, ..Limits::default() };
    let clock = installation.clock.clone();
    Clients::new(environment.finish(source).unwrap(), limits, Arc::new(move || clock.now()))
}

/// Handles an event of each contact. Returns the reasons of the failures.
async fn run(installation: &Installation, table: &MemoryTable, contacts: &[i64]) -> Vec<String> {
    let tenants = tenants_of(installation);
    let events: Vec<String> = contacts.iter().map(|id| event(Some(TENANT), "changed", *id)).collect();
    let deadline = Instant::now() + Duration::from_secs(30);
    let (_, report) = handle(&tenants, table, None, &[Archive::CONTACT], &bodies(&events), deadline).await;
    report.reasons.into_iter().map(|reason| reason.reason).collect()
}

#[tokio::test]
async fn document_is_stored_without_persons() {
    let (installation, table) = (Installation::start().await, MemoryTable::default());
    let contact = installation.superoffice.create_contact();
    assert_eq!(run(&installation, &table, &[contact]).await, [""; 0]);
    let documents = table.documents("Cust12345/contact");
    assert!(documents[&contact].contains(&format!(r#""ContactId":{contact},"#)), "{documents:?}");
    assert!(!documents[&contact].contains("Nordmann"), "{documents:?}");
}

#[tokio::test]
async fn failures_have_reasons_without_text_of_answers() {
    let (installation, table) = (Installation::start().await, MemoryTable::default());
    let contact = installation.superoffice.create_contact();
    for (fault, reason) in [
        (Fault::Status(500), "SuperOffice responded with status 500"),
        (Fault::Throttle(1), "SuperOffice responded with status 429"),
        (Fault::Slow(Duration::from_secs(60)), "SuperOffice did not respond in time"),
    ] {
        installation.superoffice.script("GET Contact", [fault]);
        assert_eq!(run(&installation, &table, &[contact]).await, [reason]);
    }
    // After a redirect, the base URL is looked up again.
    installation.superoffice.script("GET Contact", [Fault::Status(302)]);
    installation.superoffice.clear_requests();
    assert_eq!(run(&installation, &table, &[contact]).await, [""; 0]);
    let state = "GET /api/state/Cust12345";
    assert_eq!(
        installation.calls(),
        [state, &format!("GET Contact/{contact}"), state, &format!("GET Contact/{contact}")]
    );
    installation.superoffice.clear_requests();
    installation.superoffice.script("GET Contact", [Fault::Status(401)]);
    assert_eq!(run(&installation, &table, &[contact]).await, ["SuperOffice responded with status 401"]);
    assert_eq!(installation.calls(), [state, &format!("GET Contact/{contact}")]);
    installation.superoffice.script("GET /api/state", [Fault::Status(404)]);
    assert_eq!(run(&installation, &table, &[contact]).await, ["SuperOffice responded with status 404"]);
}

#[tokio::test]
async fn removed_contact_is_confirmed_by_the_list() {
    let (installation, table) = (Installation::start().await, MemoryTable::default());
    let superoffice = &installation.superoffice;
    let [source, destination] = [superoffice.create_contact(), superoffice.create_contact()];
    run(&installation, &table, &[source, destination]).await;
    superoffice.merge_contacts(source, destination);
    superoffice.clear_requests();
    assert_eq!(run(&installation, &table, &[source]).await, [""; 0]);
    let calls = [format!("GET Contact/{source}"), "GET Archive/dynamic".to_owned()];
    assert_eq!(installation.calls()[1..], calls);
    assert_eq!(table.documents("Cust12345/contact").into_keys().collect::<Vec<_>>(), [destination]);
}

#[tokio::test]
async fn audit_fills_the_table_and_finds_a_deletion_whose_event_was_lost() {
    let (installation, table) = (Installation::start().await, MemoryTable::default());
    let contacts = [(); 3].map(|()| installation.superoffice.create_contact());
    let tenants = tenants_of(&installation);
    let run = async || {
        audit::run(&tenants, &table, &Settings::default(), Instant::now() + Duration::from_secs(24)).await.metrics
    };
    let metrics = run().await;
    assert_eq!((metrics.written, metrics.audit_completed, metrics.audit_age), (3, 1, Some(0.0)));
    assert_eq!(table.documents("Cust12345/contact").into_keys().collect::<Vec<_>>(), contacts);
    installation.superoffice.soft_delete_contact(contacts[1]);
    installation.pass(24 * 3600);
    installation.superoffice.clear_requests();
    let metrics = run().await;
    assert_eq!((metrics.removed, metrics.audit_differences, metrics.audit_completed), (1, 1, 1));
    let list = "GET Archive/dynamic";
    assert_eq!(installation.calls(), [list, &format!("GET Contact/{}", contacts[1]), list]);
}

#[tokio::test]
async fn persons_are_kept_like_contacts() {
    let (installation, table) = (Installation::start().await, MemoryTable::default());
    let superoffice = &installation.superoffice;
    let persons = [(); 4].map(|()| superoffice.create(Kind::Person));
    let contact = superoffice.create_contact();
    let tenants = tenants_of(&installation);
    let settings = Settings { entities: Archive::ALL.to_vec(), ..Settings::default() };
    let run = async || audit::run(&tenants, &table, &settings, Instant::now() + Duration::from_secs(24)).await.metrics;
    let ids = |entity: &str| table.documents(&format!("Cust12345/{entity}")).into_keys().collect::<Vec<_>>();
    let metrics = run().await;
    assert_eq!((metrics.written, metrics.audit_completed), (5, 2));
    assert_eq!((ids("person"), ids("contact")), (persons.to_vec(), vec![contact]));
    assert!(table.documents("Cust12345/person")[&persons[0]].contains(&format!(r#""PersonId":{}"#, persons[0])));

    superoffice.soft_delete(Kind::Person, persons[0]);
    superoffice.delete(Kind::Person, persons[1]);
    superoffice.merge(Kind::Person, persons[2], persons[3]);
    let event = |id| event_of(Archive::PERSON, Some(TENANT), "resync", id);
    let deadline = Instant::now() + Duration::from_secs(30);
    let batch = bodies(&persons[..2].iter().map(|id| event(*id)).collect::<Vec<_>>());
    let (response, _) = handle(&tenants, &table, None, &Archive::ALL, &batch, deadline).await;
    assert_eq!((response.failed_ids().count(), ids("person")), (0, persons[2..].to_vec()));
    installation.pass(24 * 3600);
    let metrics = run().await;
    // The merge changes the person that remains, too.
    assert_eq!((metrics.removed, metrics.audit_differences, metrics.audit_completed), (1, 2, 2));
    assert_eq!(ids("person"), [persons[3]]);
}

fn client_of(store: &ParameterStore) -> aws_sdk_ssm::Client {
    let config = aws_sdk_ssm::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-north-1"))
        .endpoint_url(store.url())
        .credentials_provider(Credentials::new("id", "key", None, None, "test"))
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .build();
    aws_sdk_ssm::Client::from_conf(config)
}

/// Returns the tenants of the list at `/app`.
fn listed(installation: &Installation, store: &ParameterStore) -> Clients {
    let lookup = |name: &str| (name == "SUPEROFFICE_TENANTS_PARAMETER").then(|| "/app".to_owned());
    let mut environment = Environment::new(&lookup);
    let source = TenantSource::from_environment(&mut environment);
    let source = environment.finish(source).unwrap().with_client(client_of(store));
    let clock = installation.clock.clone();
    let limits = Limits { attempts: 1, renews_tickets: false, ..Limits::default() };
    Clients::new(source, limits, Arc::new(move || clock.now()))
}

#[tokio::test]
async fn entry_with_the_name_default_is_the_on_site_installation() {
    let (installation, table, store) =
        (Installation::start().await, MemoryTable::default(), ParameterStore::start().await);
    let (clock, transport) = (installation.clock.clone(), Arc::new(installation.function.transport()));
    let superoffice = SuperOffice::start_named("SuperOffice", "127.0.0.1:0", clock, transport, 0.0).await;
    superoffice.accept_token(TOKEN);
    let contact = superoffice.create_contact();
    let entry = json!({"url": superoffice.url(), "accessToken": TOKEN}).to_string();
    store.put("/app/default", entry.clone());
    let (tenants, settings) = (listed(&installation, &store), Settings::default());
    let deadline = || Instant::now() + Duration::from_secs(24);
    for name in ["Default", "DEFAULT", "default", "onsite"] {
        assert_eq!(tenants.find(name).await.unwrap().name, "onsite", "{name}");
    }
    let events = [Some("Default"), None].map(|tenant| event(tenant, "changed", contact));
    let (response, report) = handle(&tenants, &table, None, &[Archive::CONTACT], &bodies(&events), deadline()).await;
    assert_eq!((response.failed_ids().count(), report.metrics.written), (0, 1));
    superoffice.create_contact();
    let report = audit::begin(&tenants, &table, &settings, "Default", false, deadline()).await.unwrap();
    assert_eq!((report.metrics.audit_completed, report.reasons), (1, vec![]));
    assert_eq!(table.documents("onsite/contact").len(), 2);
    assert!(table.stored_position("#audit/onsite/contact").is_some());

    // Beside an entry `onsite`, it is not used.
    store.put("/app/onsite", entry);
    let list = listed(&installation, &store).all().await.unwrap();
    let names: Vec<_> = list.tenants.iter().map(|tenant| tenant.name.as_str()).collect();
    assert_eq!((names, list.unusable), (vec!["onsite"], vec!["default".to_owned()]));
}

#[tokio::test]
async fn tenants_of_the_list_are_found_and_read_again_after_a_refusal() {
    let (installation, table, store) =
        (Installation::start().await, MemoryTable::default(), ParameterStore::start().await);
    let contact = installation.superoffice.create_contact();
    let entry = |token: &str| json!({"url": installation.superoffice.url(), "accessToken": token}).to_string();
    store.put("/app/Cust12345", entry("expired"));
    store.put("/app/Cust2", "not JSON");
    let tenants = listed(&installation, &store);
    let run = async || {
        let events = ["CUST12345", "Cust2", "Cust3"].map(|tenant| event(Some(tenant), "changed", contact));
        let deadline = Instant::now() + Duration::from_secs(30);
        let (_, report) = handle(&tenants, &table, None, &[Archive::CONTACT], &bodies(&events), deadline).await;
        report.reasons.into_iter().map(|reason| reason.reason).collect::<Vec<_>>()
    };
    let list = tenants.all().await.unwrap();
    assert_eq!((list.tenants.len(), list.unusable), (1, vec!["Cust2".to_owned()]));
    // The list is kept for ten minutes, and an entry is read again when its credentials are refused.
    store.put("/app/Cust12345", entry(TOKEN));
    let others = ["the tenant's entry in the list of tenants is unusable", "the tenant is not in the list of tenants"];
    assert_eq!(run().await, ["SuperOffice responded with status 401", others[0], others[1]]);
    assert_eq!(run().await, others);
    assert_eq!(table.documents("Cust12345/contact").len(), 1);
}
