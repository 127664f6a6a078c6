//! Batches of events of one or several tenants.

use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use superoffice_consumer::Batch;
use superoffice_webhook::webhook::entity::Archive;
use superoffice_webhook::{Secret, Verifier};
use superoffice_webhook_mirror::batch::handle;
use superoffice_webhook_mirror::failure::Failure;
use superoffice_webhook_mirror::row::Content;
use superoffice_webhook_mirror::table::TableError;
use superoffice_webhook_mirror::telemetry::{Reason, Report};
use superoffice_webhook_mirror::tenants::{Tenant, TenantList, Tenants};
use tokio::time::Instant;

use crate::crm::{Crm, Fault};
use crate::messages::{Queue, batch, bodies, event, event_of};
use crate::table::MemoryTable;

const ENTITY: &str = "Cust1/contact";

/// Several tenants.
#[derive(Default)]
struct List(Vec<(&'static str, Arc<Crm>)>);

impl List {
    fn tenant(&self, name: &'static str, crm: &Arc<Crm>) -> Tenant<Crm> {
        Tenant { name: name.to_owned(), is_paused: false, superoffice: Arc::clone(crm) }
    }
}

impl Tenants for List {
    type SuperOffice = Crm;

    async fn find(&self, name: &str) -> Result<Tenant<Crm>, Failure> {
        let found = self.0.iter().find(|(tenant, _)| tenant.eq_ignore_ascii_case(name));
        found.map(|(name, crm)| self.tenant(name, crm)).ok_or(Failure::UnknownTenant)
    }

    async fn all(&self) -> Result<TenantList<Crm>, Failure> {
        Ok(TenantList {
            tenants: self.0.iter().map(|(name, crm)| self.tenant(name, crm)).collect(),
            unusable: Vec::new(),
        })
    }

    async fn refused(&self, _: &str) {}
}

/// Tenants whose entries are read again, or never become readable.
struct Refusals<'a> {
    list: &'a List,
    refused: Mutex<Vec<String>>,
    hangs: bool,
}

impl Tenants for Refusals<'_> {
    type SuperOffice = Crm;

    async fn find(&self, name: &str) -> Result<Tenant<Crm>, Failure> {
        self.list.find(name).await
    }

    async fn all(&self) -> Result<TenantList<Crm>, Failure> {
        self.list.all().await
    }

    async fn refused(&self, name: &str) {
        self.refused.lock().unwrap().push(name.to_owned());
        if self.hangs {
            std::future::pending().await
        }
    }
}

/// One tenant, `Cust1`, with a table.
struct Bed {
    crm: Arc<Crm>,
    tenants: List,
    table: MemoryTable,
    archives: Vec<&'static Archive>,
}

impl Bed {
    fn new() -> Self {
        let crm = Arc::new(Crm::new());
        let tenants = List(vec![("Cust1", Arc::clone(&crm))]);
        Self { crm, tenants, table: MemoryTable::default(), archives: vec![Archive::CONTACT] }
    }

    /// Creates contacts with the ids 1 to `count`, in the table as well.
    async fn with_contacts(count: i64) -> Self {
        let bed = Self::new();
        for id in 1..=count {
            bed.crm.save(id, "first");
        }
        let events: Vec<String> = (1..=count).map(|id| event(Some("Cust1"), "created", id)).collect();
        bed.run(&bodies(&events)).await;
        assert_eq!(bed.table.documents(ENTITY), bed.crm.documents());
        bed.crm.clock.advance(1000);
        bed.crm.take_calls();
        bed
    }

    /// Handles a batch. Returns the ids of the failed messages.
    async fn run(&self, batch: &Batch) -> (Vec<String>, Report) {
        let deadline = Instant::now() + Duration::from_secs(30);
        let (response, report) = handle(&self.tenants, &self.table, None, &self.archives, batch, deadline).await;
        (response.failed_ids().map(str::to_owned).collect(), report)
    }

    /// Handles events of `Cust1`: verbs and contacts.
    async fn events(&self, events: &[(&str, i64)]) -> (Vec<String>, Report) {
        self.run(&bodies(&events.iter().map(|(verb, id)| event(Some("Cust1"), verb, *id)).collect::<Vec<_>>())).await
    }
}

fn reasons(report: &Report) -> Vec<(Option<&str>, Option<i64>, &str)> {
    let id = |reason: &Reason| reason.key.map(|key| key.id);
    report.reasons.iter().map(|reason| (reason.tenant.as_deref(), id(reason), reason.reason.as_str())).collect()
}

fn counts(report: &Report) -> (u64, u64, u64, usize) {
    (report.metrics.written, report.metrics.removed, report.metrics.unchanged, report.failed_messages)
}

#[tokio::test]
async fn all_events_of_a_contact_cause_one_read() {
    let bed = Bed::new();
    bed.crm.save(1, "first");
    bed.crm.save(2, "second");
    let (failed, report) = bed.events(&[("created", 1), ("changed", 2), ("changed", 1), ("resync", 1)]).await;
    assert_eq!(failed, [""; 0]);
    assert_eq!(bed.crm.take_calls(), ["contact 1", "contact 2"]);
    assert_eq!(counts(&report), (2, 0, 0, 0));
    let row = bed.table.row(ENTITY, 1).unwrap();
    let document = r#"{"ContactId":1,"Name":"first","UpdatedDate":"0001-01-01T00:00:00Z","Deleted":0}"#;
    assert_eq!(row.content, Content::Data(document.into()));
    assert_eq!((row.version, row.changed, row.stamp), (1_795_510_800_000, 1_795_510_800_000, None));
    assert_eq!(row.read_at.to_string(), "2026-11-24T09:00:00Z");
}

#[tokio::test]
async fn line_has_the_metrics_of_the_batch() {
    let bed = Bed::with_contacts(2).await;
    bed.crm.save(1, "second");
    bed.crm.remove(2);
    bed.crm.fail("contact 4", 500, 1);
    let (_, report) = bed.events(&[("changed", 1), ("deleted", 2), ("changed", 3), ("changed", 4)]).await;
    let line: Value = serde_json::from_str(&report.line("mirror", "id", bed.crm.clock.now())).unwrap();
    let metric = |name, unit| json!({"Name": name, "Unit": unit});
    assert_eq!(
        line,
        json!({
            "_aws": {"Timestamp": 1_795_510_801_000_i64, "CloudWatchMetrics": [{
                "Namespace": "SuperOfficeWebhook", "Dimensions": [["FunctionName"]], "Metrics": [
                    metric("MirrorFailed", "Count"), metric("MirrorLag", "Milliseconds"), metric("Removed", "Count"),
                    metric("Written", "Count"),
                ],
            }]},
            "FunctionName": "mirror", "Written": 1, "Removed": 2, "MirrorFailed": 1, "MirrorLag": 3000,
            "requestId": "id", "messages": 4, "failedMessages": 1,
            "reasons": [{"tenant": "Cust1", "contact": 4, "reason": "SuperOffice responded with status 500"}],
        })
    );
}

#[tokio::test]
async fn unchanged_contact_moves_the_version_only() {
    let bed = Bed::with_contacts(1).await;
    let before = bed.table.row(ENTITY, 1).unwrap();
    let (_, report) = bed.events(&[("changed", 1)]).await;
    let after = bed.table.row(ENTITY, 1).unwrap();
    assert_eq!(counts(&report), (0, 0, 1, 0));
    assert_eq!(
        (after.version, after.changed, &after.content),
        (before.version + 1000, before.changed, &before.content)
    );
    assert_eq!(after.read_at.to_string(), "2026-11-24T09:00:01Z");
    for version in [2, 3] {
        bed.crm.remove(1);
        bed.crm.clock.advance(1000);
        bed.events(&[("deleted", 1)]).await;
        let row = bed.table.row(ENTITY, 1).unwrap();
        assert_eq!((row.version, row.changed), (before.version + 1000 * version, before.version + 2000));
    }
}

#[tokio::test]
async fn events_that_need_no_read_are_acknowledged_whatever_their_tenant() {
    let bed = Bed::new();
    let other = json!({"EventId": "1", "Event": "sale.created", "PrimaryKey": 7, "ContextIdentifier": "Cust9"});
    let state = json!({"EventId": "1", "Event": "webhook12.errors", "ContextIdentifier": "Cust1"});
    let person = event_of(Archive::PERSON, Some("Cust1"), "changed", 7);
    let (failed, report) = bed
        .run(&bodies(&[
            event(Some("Cust9"), "changed", 0),
            event(None, "changed", -1),
            other.to_string(),
            state.to_string(),
            person,
        ]))
        .await;
    assert_eq!((failed.len(), reasons(&report), bed.crm.take_calls().len()), (0, vec![], 0));
}

#[tokio::test]
async fn messages_that_cannot_be_decoded_fail() {
    let bed = Bed::with_contacts(1).await;
    let without_id = json!({"EventId": "1", "Event": "contact.changed", "PrimaryKey": "1"}).to_string();
    let (failed, report) = bed.run(&bodies(&["{".into(), event(Some("Cust1"), "changed", 1), without_id])).await;
    assert_eq!(failed, ["0", "2"]);
    let reason = (None, None, "the message cannot be decoded");
    assert_eq!((reasons(&report), report.metrics.unchanged), (vec![reason, reason], 1));
}

#[test]
fn message_that_cannot_be_decoded_is_logged_in_fixed_words() {
    let program = std::env::current_exe().unwrap();
    let test = "batches::messages_that_cannot_be_decoded_fail";
    let output = Command::new(program).args(["--exact", test, "--nocapture"]).output().unwrap();
    let output = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = output.lines().filter_map(|line| Some(&line[line.find("{\"messageId\"")?..])).collect();
    let line = |id| format!(r#"{{"messageId":"{id}","outcome":"failed","reason":"the message cannot be decoded"}}"#);
    assert_eq!(lines, [line("0"), line("2")], "{output}");
}

#[tokio::test]
async fn signatures_are_verified_with_the_secrets() {
    let bed = Bed::new();
    bed.crm.save(1, "first");
    let (secret, body) = (Secret::new("secret").unwrap(), event(Some("Cust1"), "created", 1));
    let cloud_event = format!(r#"{{"specversion":"1.0","id":"1","source":"urn:x","type":"t","data":{body}}}"#);
    let signature = secret.sign(body.as_bytes()).to_string();
    let record = |id, body: &str, signature: Option<&str>| {
        let attributes = signature.map(|text| json!({"Signature": {"stringValue": text, "dataType": "String"}}));
        json!({"messageId": id, "body": body, "messageAttributes": attributes})
    };
    let records = json!({"Records": [
        record("signed", &body, Some(&signature)),
        record("unsigned", &body, None),
        record("changed", &body.replace("Cust1", "Cust2"), Some(&signature)),
        record("cloud event", &cloud_event, Some(&signature)),
    ]});
    let batch = serde_json::from_value(records).unwrap();
    let verifier = Verifier::new(secret);
    let deadline = Instant::now() + Duration::from_secs(30);
    let (response, report) = handle(&bed.tenants, &bed.table, Some(&verifier), &bed.archives, &batch, deadline).await;
    assert_eq!(response.failed_ids().collect::<Vec<_>>(), ["unsigned", "changed"]);
    assert_eq!(report.metrics.written, 1);
}

#[tokio::test]
async fn tenants_have_the_spelling_of_their_list() {
    let bed = Bed::new();
    bed.crm.save(1, "first");
    let onsite = Arc::new(Crm::new());
    onsite.save(1, "on-site");
    let tenants = List(vec![("Cust1", Arc::clone(&bed.crm)), ("onsite", Arc::clone(&onsite))]);
    let bed = Bed { tenants, ..bed };
    let (failed, report) = bed
        .run(&bodies(&[
            event(Some("CUST1"), "changed", 1),
            event(Some("cust1"), "changed", 1),
            event(Some("Default"), "changed", 1),
            event(None, "changed", 1),
            event(Some("Cust2"), "changed", 1),
        ]))
        .await;
    assert_eq!(failed, ["4"]);
    assert_eq!(reasons(&report), [(Some("Cust2"), Some(1), "the tenant is not in the list of tenants")]);
    assert_eq!(
        (bed.table.documents(ENTITY), bed.table.documents("onsite/contact")),
        (bed.crm.documents(), onsite.documents())
    );
    assert_eq!(
        (bed.crm.take_calls(), onsite.take_calls()),
        (vec!["contact 1".to_owned()], vec!["contact 1".to_owned()])
    );
}

#[tokio::test]
async fn deleted_contacts_are_replaced_by_tombstones() {
    let bed = Bed::with_contacts(4).await;
    bed.crm.set_deleted(1, true);
    bed.crm.remove(2);
    bed.crm.merge(3, 4);
    let (failed, report) = bed.events(&[("softdeleted", 1), ("deleted", 2), ("deleted", 3), ("changed", 4)]).await;
    assert_eq!((failed.len(), counts(&report)), (0, (0, 3, 1, 0)));
    assert_eq!(bed.table.documents(ENTITY), bed.crm.documents());
    // The events say it, and the own flag of contact 1.
    assert_eq!(bed.crm.take_calls(), ["contact 1", "contact 2", "contact 3", "contact 4"]);
    let expires = bed.crm.clock.now().as_second() + 35 * 86_400;
    for id in 1..=3 {
        assert_eq!(bed.table.row(ENTITY, id).unwrap().content, Content::Deleted { expires });
    }
    bed.crm.set_deleted(1, false);
    bed.events(&[("changed", 1)]).await;
    assert_eq!(bed.table.documents(ENTITY), bed.crm.documents());
}

#[tokio::test]
async fn list_confirms_that_a_living_row_is_gone() {
    let bed = Bed::with_contacts(2).await;
    bed.crm.remove(1);
    bed.crm.merge(2, 1);
    bed.crm.save(1, "again");
    bed.crm.remove(1);
    let (_, report) = bed.events(&[("changed", 1), ("resync", 2), ("resync", 3)]).await;
    assert_eq!(counts(&report), (0, 3, 0, 0));
    // A contact without a living row needs no confirmation.
    assert_eq!(bed.crm.take_calls(), ["contact 1", "lists 1", "contact 2", "lists 2", "contact 3"]);
    assert_eq!(bed.table.rows(ENTITY).values().filter(|row| row.is_living()).count(), 0);
}

#[tokio::test]
async fn answers_that_the_list_contradicts_fail() {
    let bed = Bed::with_contacts(3).await;
    let documents = bed.table.documents(ENTITY);
    bed.crm.script("contact 1", [Fault::NotFound]);
    bed.crm.script("contact 2", [Fault::Other(3)]);
    bed.crm.script("contact 3", [Fault::NotFound]);
    bed.crm.fail("lists 3", 400, 1);
    let (failed, report) = bed.events(&[("changed", 1), ("changed", 2), ("changed", 3)]).await;
    assert_eq!(failed, ["0", "1", "2"]);
    let contradicted = "the list contradicts the response that the contact does not exist";
    assert_eq!(
        reasons(&report),
        [
            (Some("Cust1"), Some(1), contradicted),
            (Some("Cust1"), Some(2), contradicted),
            (Some("Cust1"), Some(3), "the list, filtered by the contact: SuperOffice responded with status 400"),
        ]
    );
    assert_eq!(bed.table.documents(ENTITY), documents);
    assert_eq!(bed.events(&[("changed", 1), ("changed", 2), ("changed", 3)]).await.0.len(), 0);
}

#[tokio::test]
async fn documents_that_are_no_contact_fail() {
    let bed = Bed::with_contacts(1).await;
    let row = bed.table.row(ENTITY, 1);
    for document in ["{}", r#"{"ContactId":null}"#, r#"{"error":"maintenance"}"#] {
        bed.crm.script("contact 1", [Fault::Document(document.into())]);
        let (failed, report) = bed.events(&[("deleted", 1)]).await;
        assert_eq!(
            (failed.len(), report.reasons[0].reason.as_str()),
            (1, "SuperOffice's response is not as documented")
        );
    }
    assert_eq!(bed.table.row(ENTITY, 1), row);
}

#[tokio::test]
async fn document_that_does_not_fit_is_marked() {
    let bed = Bed::new();
    for (name, length, written) in
        [("too long for any item", 500_000, 1), ("too long with the other attributes", 409_500, 0)]
    {
        let document = format!(r#"{{"ContactId":1,"Name":"{}"}}"#, "x".repeat(length));
        bed.crm.script("contact 1", [Fault::Document(document)]);
        let (failed, report) = bed.events(&[("changed", 1)]).await;
        // A reader of the table sees no difference between two documents that are too large.
        let metrics = &report.metrics;
        assert_eq!((failed.len(), metrics.written, metrics.unchanged), (0, written, 1 - written), "{name}");
        let row = bed.table.row(ENTITY, 1).unwrap();
        assert_eq!((row.content, row.changed), (Content::TooLarge, row.version), "{name}");
    }
}

#[tokio::test]
async fn refused_credentials_end_the_calls_at_once() {
    for failure in [Failure::Status(401), Failure::SignIn] {
        let bed = Bed::with_contacts(3).await;
        bed.crm.script("contact 1", [Fault::Failure(failure.clone())]);
        let (failed, report) = bed.events(&[("changed", 1), ("changed", 2), ("changed", 3)]).await;
        assert_eq!((failed.len(), bed.crm.take_calls()), (3, vec!["contact 1".to_owned()]));
        let given_up = "the tenant was given up for this invocation";
        let found: Vec<&str> = report.reasons.iter().map(|reason| reason.reason.as_str()).collect();
        assert_eq!(found, [&failure.to_string(), given_up, given_up]);
    }
}

#[tokio::test]
async fn entry_is_read_again_if_its_credentials_are_refused_for_a_contact_or_for_the_list() {
    for (contact, list, expected) in [(401, 200, true), (403, 401, true), (500, 401, true), (500, 500, false)] {
        let bed = Bed::with_contacts(3).await;
        bed.crm.fail("contact", contact, 3);
        bed.crm.fail("page", list, 1);
        let tenants = Refusals { list: &bed.tenants, refused: Mutex::default(), hangs: false };
        let events = [1, 2, 3].map(|id| event(Some("cust1"), "changed", id));
        let deadline = Instant::now() + Duration::from_secs(30);
        handle(&tenants, &bed.table, None, &bed.archives, &bodies(&events), deadline).await;
        let expected = if expected { &["Cust1"][..] } else { &[] };
        assert_eq!(*tenants.refused.lock().unwrap(), expected, "{contact} {list}");
    }
}

#[tokio::test(start_paused = true)]
async fn entry_that_cannot_be_read_again_in_time_does_not_hold_the_response() {
    let bed = Bed::with_contacts(1).await;
    bed.crm.fail("contact", 401, 1);
    let tenants = Refusals { list: &bed.tenants, refused: Mutex::default(), hangs: true };
    let begun = Instant::now();
    let (deadline, batch) = (begun + Duration::from_secs(28), bodies(&[event(Some("Cust1"), "changed", 1)]));
    let (response, report) = handle(&tenants, &bed.table, None, &bed.archives, &batch, deadline).await;
    assert_eq!((response.failed_ids().count(), begun.elapsed()), (1, Duration::from_secs(28)));
    assert_eq!(reasons(&report), [(Some("Cust1"), Some(1), "SuperOffice responded with status 401")]);
}

#[tokio::test]
async fn list_decides_after_a_403_and_after_three_failures() {
    for (status, failures, before) in [(403, 1, 1), (500, 3, 3)] {
        for is_list_readable in [true, false] {
            let bed = Bed::with_contacts(9).await;
            let event = |id| ("changed", id);
            bed.crm.fail("contact", status, failures);
            if !is_list_readable {
                bed.crm.fail("page", 403, 1);
            }
            let (failed, _) = bed.events(&(1..=9).map(event).collect::<Vec<_>>()).await;
            let calls = bed.crm.take_calls();
            assert_eq!(calls[before], "page 0 1");
            let expected = if is_list_readable { (10, failures) } else { (before + 1, 9) };
            assert_eq!((calls.len(), failed.len()), expected, "{status} {is_list_readable}");
        }
    }
}

#[tokio::test]
async fn list_is_asked_once_and_only_after_failures_in_a_row() {
    let bed = Bed::with_contacts(10).await;
    let all: Vec<(&str, i64)> = (1..=10).map(|id| ("changed", id)).collect();
    for id in [1, 2, 4, 5, 7, 8] {
        bed.crm.fail(&format!("contact {id}"), 500, 1);
    }
    assert_eq!(bed.events(&all).await.0.len(), 6);
    assert_eq!(bed.crm.take_calls().len(), 10);
    bed.crm.clear_faults();
    bed.crm.fail("contact", 503, 10);
    assert_eq!(bed.events(&all).await.0.len(), 10);
    assert_eq!(bed.crm.take_calls().iter().filter(|call| call.starts_with("page")).count(), 1);
}

#[tokio::test]
async fn throttling_ends_the_calls_to_this_tenant_only() {
    for (call, calls) in [("contact 2", 2), ("lists 2", 3), ("page", 4)] {
        let bed = Bed::with_contacts(5).await;
        let other = Arc::new(Crm::new());
        other.save(1, "other");
        let tenants = List(vec![("Cust1", Arc::clone(&bed.crm)), ("Cust2", Arc::clone(&other))]);
        let bed = Bed { tenants, ..bed };
        match call {
            "lists 2" => bed.crm.script("contact 2", [Fault::NotFound]),
            "page" => bed.crm.fail("contact", 500, 3),
            _ => {}
        }
        bed.crm.fail(call, 429, 1);
        let mut events: Vec<String> = (1..=5).map(|id| event(Some("Cust1"), "changed", id)).collect();
        events.push(event(Some("Cust2"), "changed", 1));
        let (failed, report) = bed.run(&bodies(&events)).await;
        let expected = if call == "page" { 5 } else { 4 };
        assert_eq!((failed.len(), bed.crm.take_calls().len()), (expected, calls), "{call}");
        assert_eq!(
            report.reasons[4 - (5 - expected)].reason,
            "SuperOffice throttled an earlier call of this invocation"
        );
        assert_eq!(bed.table.documents("Cust2/contact"), other.documents());
        assert_eq!(report.metrics.mirror_throttled, 1);
    }
}

#[tokio::test]
async fn failure_of_the_table_fails_the_contact_and_does_not_count_against_superoffice() {
    let bed = Bed::with_contacts(5).await;
    *bed.table.failure.lock().unwrap() = Some(TableError::Throttled);
    let (failed, report) = bed.events(&(1..=5).map(|id| ("changed", id)).collect::<Vec<_>>()).await;
    assert_eq!((failed.len(), report.reasons[4].reason.as_str()), (5, "the table throttles"));
    assert_eq!(bed.crm.take_calls(), [""; 0]);
}

#[tokio::test]
async fn later_messages_of_a_failed_group_fail_on_a_fifo_queue_only() {
    for (queue, expected) in [(Queue::Fifo, vec!["1", "2", "4"]), (Queue::Standard, vec!["1", "4"])] {
        let bed = Bed::with_contacts(3).await;
        bed.crm.fail("contact 3", 500, 1);
        let message = |id: &str, group: &str, body| (id.to_owned(), group.to_owned(), body);
        let messages = [
            message("0", "a", event(Some("Cust1"), "changed", 1)),
            message("1", "a", "{".to_owned()),
            message("2", "a", event(Some("Cust1"), "changed", 1)),
            message("3", "b", event(Some("Cust1"), "changed", 2)),
            message("4", "c", event(Some("Cust1"), "changed", 3)),
        ];
        let (failed, report) = bed.run(&batch(queue, &messages)).await;
        assert_eq!(
            (&failed, report.failed_messages),
            (&expected.iter().map(ToString::to_string).collect(), expected.len())
        );
    }
}

#[tokio::test(start_paused = true)]
async fn work_that_does_not_fit_into_the_time_fails() {
    let bed = Bed::with_contacts(2).await;
    let batch = bodies(&[event(Some("Cust1"), "changed", 1)]);
    let (response, report) = handle(&bed.tenants, &bed.table, None, &bed.archives, &batch, Instant::now()).await;
    assert_eq!(response.failed_ids().collect::<Vec<_>>(), ["0"]);
    assert_eq!(reasons(&report), [(Some("Cust1"), Some(1), "the time of the invocation did not suffice")]);
    assert_eq!(bed.crm.take_calls(), [""; 0]);
}

/// Returns a bed that keeps persons, too. The contacts and persons 1 to `count` exist.
fn with_persons(count: i64) -> Bed {
    let bed = Bed { archives: Archive::ALL.to_vec(), ..Bed::new() };
    for id in 1..=count {
        bed.crm.save(id, "company");
        bed.crm.persons.save(id, "person");
    }
    bed
}

/// Returns events of all persons and contacts in turn.
fn events_of_all(count: i64) -> Batch {
    let of_id = |id| [Archive::PERSON, Archive::CONTACT].map(|archive| event_of(archive, Some("Cust1"), "changed", id));
    bodies(&(1..=count).flat_map(of_id).collect::<Vec<_>>())
}

#[tokio::test]
async fn persons_have_rows_of_their_own() {
    let bed = with_persons(2);
    let (failed, report) = bed.run(&events_of_all(2)).await;
    assert_eq!((failed.len(), counts(&report)), (0, (4, 0, 0, 0)));
    assert_eq!(bed.crm.take_calls(), ["contact 1", "contact 2", "person 1", "person 2"]);
    // The consent of a person changes the person, and a merged person is confirmed by the list of persons.
    bed.crm.persons.merge(1, 2);
    bed.crm.fail("person 2", 500, 1);
    let person = |verb, id| event_of(Archive::PERSON, Some("Cust1"), verb, id);
    let (failed, report) =
        bed.run(&bodies(&[person("resync", 1), person("consented", 2), person("unconsented", 2)])).await;
    assert_eq!((failed.len(), counts(&report)), (2, (0, 1, 0, 2)));
    assert_eq!(bed.crm.take_calls(), ["person 1", "lists of persons 1", "person 2"]);
    for archive in Archive::ALL {
        let entity = format!("Cust1/{}", archive.name);
        assert_eq!(bed.table.documents(&entity), bed.crm.of(archive).documents());
    }
    let line: Value = serde_json::from_str(&report.line("mirror", "id", bed.crm.clock.now())).unwrap();
    let reason = json!({"tenant": "Cust1", "person": 2, "reason": "SuperOffice responded with status 500"});
    assert_eq!(line["reasons"], json!([reason]));
}

#[tokio::test]
async fn user_who_may_not_read_an_entity_does_not_stop_the_others() {
    // The answer of the list, the calls, and the number of messages that fail.
    for (denied, list, status, calls, failed) in [
        ("person ", "page of persons", 403, vec!["contact 1", "contact 2", "person 1", "page of persons 0 1"], 2),
        ("contact ", "page ", 403, vec!["contact 1", "page 0 1", "person 1", "person 2"], 2),
        ("contact ", "page ", 404, vec!["contact 1", "page 0 1"], 4),
        ("contact ", "page ", 429, vec!["contact 1", "page 0 1"], 4),
    ] {
        let bed = with_persons(2);
        bed.crm.fail(denied, 403, 1);
        bed.crm.fail(list, status, 1);
        assert_eq!(bed.run(&events_of_all(2)).await.0.len(), failed, "{denied}{status}");
        assert_eq!(bed.crm.take_calls(), calls);
    }
    let bed = with_persons(2);
    bed.crm.fail("contact ", 401, 1);
    assert_eq!(bed.run(&events_of_all(2)).await.0.len(), 4);
    assert_eq!(bed.crm.take_calls(), ["contact 1"]);
}
