//! The mirror with the real client and a fake SuperOffice over HTTP.

use std::sync::Arc;
use std::time::Duration;

use fake_superoffice::{Fault, Installation, TENANT};
use superoffice_client::{Client, Limits, settings};
use superoffice_webhook::env::Environment;
use superoffice_webhook_mirror::batch::handle;
use superoffice_webhook_mirror::tenants::SingleTenant;
use tokio::time::Instant;

use crate::messages::{bodies, event};
use crate::table::MemoryTable;

/// Handles an event of each contact. Returns the reasons of the failures.
async fn run(installation: &Installation, table: &MemoryTable, contacts: &[i64]) -> Vec<String> {
    let variables = installation.lookup_variables();
    let lookup = |name: &str| variables.get(name).cloned();
    let mut environment = Environment::new(&lookup);
    let connection = settings::connection(&mut environment);
    let limits =
        Limits { attempt: Duration::from_millis(500), attempts: 1, renews_tickets: false, ..Limits::default() };
    let clock = installation.clock.clone();
    let client = Client::with(environment.finish(connection).unwrap(), limits, Arc::new(move || clock.now())).unwrap();
    let events: Vec<String> = contacts.iter().map(|id| event(Some(TENANT), "changed", *id)).collect();
    let (tenants, deadline) = (SingleTenant::new(TENANT, client), Instant::now() + Duration::from_secs(30));
    let (_, report) = handle(&tenants, table, None, &bodies(&events), deadline).await;
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
        (Fault::Status(500), "SuperOffice answered with status 500"),
        (Fault::Throttle(1), "SuperOffice answered with status 429"),
        (Fault::Slow(Duration::from_secs(60)), "SuperOffice did not answer in time"),
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
    assert_eq!(run(&installation, &table, &[contact]).await, ["SuperOffice answered with status 401"]);
    assert_eq!(installation.calls(), [state, &format!("GET Contact/{contact}")]);
    installation.superoffice.script("GET /api/state", [Fault::Status(404)]);
    assert_eq!(run(&installation, &table, &[contact]).await, ["SuperOffice answered with status 404"]);
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
