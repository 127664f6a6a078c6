//! `bootstrap`: signals for every existing contact.

use std::time::Duration;

use fake_superoffice::{Fault, Installation, Kind, Outage, WEBHOOK_URL};
use serde_json::json;
use test_support::{Process, RunningProcess};

use super::{Run, register, run, run_with, signals, variables};

/// The contacts that were signaled, oldest first.
fn signaled(bed: &Installation) -> Vec<i64> {
    let key = |call: String| call.strip_prefix("POST Webhook/contact.resync/").map(|key| key.parse().unwrap());
    bed.calls().into_iter().filter_map(key).collect()
}

/// Imports contacts, the first with the id after those of the webhooks. Returns this id.
async fn import(bed: &Installation, count: i64) -> i64 {
    register(bed).await;
    bed.superoffice.import_contacts(count, bed.clock.now());
    bed.superoffice.clear_requests();
    bed.superoffice.contacts()[0].id
}

fn start(bed: &Installation, arguments: &[&str]) -> RunningProcess {
    let process = Process::new(env!("CARGO_BIN_EXE_so-webhook"));
    arguments.iter().fold(process, |process, argument| process.arg(argument)).envs(variables(bed)).start()
}

/// Waits until this number of contacts was signaled.
async fn wait_for_signals(bed: &Installation, process: &mut RunningProcess, count: usize) {
    while signals(bed) < count {
        assert!(process.is_running(), "{:?}", process.stderr_lines());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn every_existing_contact_is_signaled_once_in_the_order_of_ids() {
    let bed = Installation::start().await;
    let first = import(&bed, 60).await;
    bed.superoffice.soft_delete_contact(first + 1);
    bed.superoffice.lose_waiting_events();
    let bootstrap = run(&bed, &["bootstrap", "--rate", "1000"]).await;
    assert_eq!((bootstrap.status, bootstrap.stdout.as_str()), (0, ""));
    assert_eq!(bootstrap.stderr, "59 contacts signaled\n");
    let expected: Vec<i64> = (first..first + 60).filter(|id| *id != first + 1).collect();
    assert_eq!(signaled(&bed), expected);
    let arrived: Vec<(String, i64)> = expected.into_iter().map(|id| ("contact.resync".to_owned(), id)).collect();
    assert_eq!(bed.function.events(), arrived);
    // Two looks at the log for the first contact, and one for every 25 contacts.
    assert!(bed.logs.requests() <= 8, "{} requests", bed.logs.requests());
}

#[tokio::test]
async fn bootstrap_without_contacts_is_complete() {
    let bed = Installation::start().await;
    let bootstrap = run(&bed, &["bootstrap"]).await;
    assert_eq!(bootstrap.status, 1);
    let expected =
        format!("no Active webhook at {WEBHOOK_URL} subscribes to contact.resync, so no signal would arrive\n");
    assert_eq!(bootstrap.stderr, expected);
    register(&bed).await;
    let bootstrap = run(&bed, &["bootstrap"]).await;
    assert_eq!((bootstrap.status, bootstrap.stderr.as_str()), (0, "0 contacts signaled\n"));
}

/// Signals contacts and persons.
async fn bootstrap_both(bed: &Installation, arguments: &[&str]) -> Run {
    let mut variables = variables(bed);
    variables.insert("SYNC_ENTITIES", "contact,person".to_owned());
    run_with(variables, &[&["bootstrap", "--rate", "1000"], arguments].concat()).await
}

#[tokio::test]
async fn persons_follow_the_contacts() {
    let bed = Installation::start().await;
    let contact = import(&bed, 1).await;
    bed.superoffice.import(Kind::Person, 3, bed.clock.now());
    let bootstrap = bootstrap_both(&bed, &[]).await;
    assert_eq!(bootstrap.status, 1);
    let expected =
        format!("no Active webhook at {WEBHOOK_URL} subscribes to person.resync, so no signal would arrive\n");
    assert_eq!((bootstrap.stderr, signals(&bed)), (expected, 0));

    let webhook = bed.superoffice.webhooks()[0].id;
    bed.superoffice.set_property(webhook, "Events", json!(["contact.resync", "person.resync"]));
    let calls = |bed: &Installation| -> Vec<String> {
        let is_signal = |call: &String| call.starts_with("POST Webhook/");
        bed.calls().into_iter().filter(is_signal).map(|call| call.replace("POST Webhook/", "")).collect()
    };
    bed.superoffice.script("POST Webhook/person.resync/2", [Fault::Status(403)]);
    let bootstrap = bootstrap_both(&bed, &[]).await;
    assert_eq!(bootstrap.status, 2);
    assert!(bootstrap.stderr.starts_with("1 contacts signaled\n"), "{}", bootstrap.stderr);
    let command = "bootstrap --rate 1000 --entity person --after 1\n";
    assert!(bootstrap.stderr.ends_with(&format!("continue with: so-webhook {command}")), "{}", bootstrap.stderr);
    let contact = format!("contact.resync/{contact}");
    assert_eq!(calls(&bed), [contact.as_str(), "person.resync/1", "person.resync/2"]);

    bed.superoffice.clear_requests();
    let bootstrap = bootstrap_both(&bed, &["--entity", "person", "--after", "1"]).await;
    assert_eq!((bootstrap.status, bootstrap.stderr.as_str()), (0, "2 persons signaled\n"));
    assert_eq!(calls(&bed), ["person.resync/2", "person.resync/3"]);
}

#[tokio::test]
async fn entity_that_is_not_synchronized_is_wrong_usage() {
    let bed = Installation::start().await;
    let bootstrap = run(&bed, &["bootstrap", "--entity", "person"]).await;
    let expected = "--entity person: SYNC_ENTITIES does not have this entity\n";
    assert_eq!((bootstrap.status, bootstrap.stderr.as_str()), (2, expected));
}

#[tokio::test]
async fn bootstrap_stops_soon_after_the_first_failed_delivery() {
    let bed = Installation::start().await;
    let first = import(&bed, 500).await;
    let mut process = start(&bed, &["bootstrap", "--rate", "1000"]);
    wait_for_signals(&bed, &mut process, 30).await;
    bed.function.set_outage(Outage::Permission);
    let before = signals(&bed) as i64;
    assert_eq!(process.wait().await.code(), Some(1));
    let lines = process.stderr_lines();
    let [reason, next] = lines.as_slice() else { panic!("{lines:?}") };
    assert_eq!(reason, "a delivery failed");
    let after = next.strip_prefix("stopped; continue with: so-webhook bootstrap --rate 1000 --after ").unwrap();
    let after: i64 = after.parse().unwrap();
    let last = first - 1 + signals(&bed) as i64;
    assert!(last - (first - 1) - before <= 25 + 1, "{before} {last}");
    // The contacts whose events are not known to have arrived are signaled again.
    let arrived: Vec<i64> = bed.function.events().into_iter().map(|(_, contact)| contact).collect();
    assert!((first..=after).all(|id| arrived.contains(&id)), "{after} {arrived:?}");
    assert!(last - after <= 25, "{last} {after}");
}

#[tokio::test]
async fn bootstrap_of_many_contacts_reads_a_page_at_a_time_and_continues_without_a_gap() {
    const CONTACTS: i64 = 100_000;
    let bed = Installation::start().await;
    let first = import(&bed, CONTACTS).await;
    let start_after = (first + CONTACTS - 1100).to_string();
    let mut process = start(&bed, &["bootstrap", "--rate", "1000", "--after", &start_after]);
    wait_for_signals(&bed, &mut process, 40).await;
    let peak = process.peak_resident_bytes();
    process.signal("TERM");
    assert_eq!(process.wait().await.code(), Some(1));
    assert!(peak < 64_000_000, "{peak} bytes");
    let requests = bed.superoffice.requests();
    let pages: Vec<_> = requests.iter().filter(|request| request.path.starts_with("Archive")).collect();
    // The first page, and the last id for the remaining time.
    assert_eq!(pages.len(), 2);

    let last_line = process.stderr_lines().pop().unwrap();
    let command = last_line.strip_prefix("interrupted; continue with: so-webhook ").unwrap();
    let before = signaled(&bed);
    bed.superoffice.clear_requests();
    let arguments: Vec<&str> = command.split(' ').collect();
    let mut process = start(&bed, &arguments);
    wait_for_signals(&bed, &mut process, 40).await;
    process.signal("INT");
    assert_eq!(process.wait().await.code(), Some(1));
    let after = signaled(&bed);
    let (last, next) = (*before.last().unwrap(), after[0]);
    assert!(next <= last + 1 && next + 25 > last, "{last} {next}");
    for ids in [before, after] {
        assert!(ids.windows(2).all(|pair| pair[1] == pair[0] + 1), "{ids:?}");
    }
}

#[tokio::test]
async fn contact_whose_signal_failed_is_signaled_by_the_command_that_continues() {
    let bed = Installation::start().await;
    let first = import(&bed, 4).await;
    bed.superoffice.script(&format!("POST Webhook/contact.resync/{}", first + 1), [Fault::Status(500)]);
    let bootstrap = run(&bed, &["bootstrap", "--rate", "1000"]).await;
    let failed = format!("contact {0}: POST Webhook/contact.resync/{0}: status 500", first + 1);
    assert!(bootstrap.stderr.starts_with(&failed), "{}", bootstrap.stderr);
    let expected = format!(
        "3 contacts signaled\nnot every event has arrived; continue with: so-webhook bootstrap --rate 1000 --after {first}\n"
    );
    assert_eq!((bootstrap.status, bootstrap.stderr.ends_with(&expected)), (1, true), "{}", bootstrap.stderr);

    // An error that ends a later entity does not hide the gap.
    bed.superoffice.import(Kind::Person, 1, bed.clock.now());
    let webhook = bed.superoffice.webhooks()[0].id;
    bed.superoffice.set_property(webhook, "Events", json!(["contact.resync", "person.resync"]));
    bed.superoffice.script(&format!("POST Webhook/contact.resync/{}", first + 1), [Fault::Status(500)]);
    bed.superoffice.script("POST Webhook/person.resync", [Fault::Status(403)]);
    let bootstrap = bootstrap_both(&bed, &[]).await;
    let expected = format!("stopped; continue with: so-webhook bootstrap --rate 1000 --after {first}\n");
    assert_eq!((bootstrap.status, bootstrap.stderr.ends_with(&expected)), (2, true), "{}", bootstrap.stderr);

    bed.superoffice.clear_requests();
    let after = first.to_string();
    let bootstrap = run(&bed, &["bootstrap", "--rate", "1000", "--after", &after]).await;
    assert_eq!((bootstrap.status, bootstrap.stderr.as_str()), (0, "3 contacts signaled\n"));
    assert_eq!(signaled(&bed), [first + 1, first + 2, first + 3]);
}

#[tokio::test]
async fn error_names_the_command_that_continues() {
    let bed = Installation::start().await;
    let first = import(&bed, 3).await;
    bed.superoffice.script("POST Webhook/contact.resync", [Fault::None, Fault::Status(403)]);
    let bootstrap = run(&bed, &["bootstrap"]).await;
    assert_eq!(bootstrap.status, 2);
    let expected = format!("stopped; continue with: so-webhook bootstrap --after {first}\n");
    assert!(bootstrap.stderr.ends_with(&expected), "{}", bootstrap.stderr);
    assert!(bootstrap.stderr.contains("access denied (403)"), "{}", bootstrap.stderr);
    // The first contact has arrived, so its event is not sent again.
    assert_eq!(signaled(&bed), [first, first + 1]);

    bed.superoffice.script("GET Archive", [Fault::None, Fault::Status(404)]);
    let bootstrap = run(&bed, &["bootstrap", "--rate", "1000"]).await;
    assert_eq!((bootstrap.status, bootstrap.stderr.as_str()), (0, "3 contacts signaled\n"));
}
