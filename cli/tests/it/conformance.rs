//! `conformance` against the fake: its answers in every mode, and the removal of its test data.

use std::collections::BTreeMap;
use std::time::Duration;

use fake_superoffice::{Fault, Installation, Mode, Outage, WEBHOOK_URL};
use jiff::SignedDuration;
use serde_json::{Value, json};
use test_support::Process;
use tokio::task::JoinSet;

use crate::{Run, run_with, variables};

const ARGUMENTS: [&str; 4] = ["conformance", "--json", "--log-wait", "3"];
const ASSUMPTIONS: usize = 33;

/// Returns the assumptions without the answer yes.
fn others(run: &Run) -> BTreeMap<String, String> {
    let lines = run.lines();
    assert_eq!(lines.len(), ASSUMPTIONS, "{}", run.stderr);
    let text = |line: &Value, name| line[name].as_str().unwrap().to_owned();
    assert!(lines.iter().all(|line| !text(line, "evidence").is_empty()), "{}", run.stdout);
    let others = lines.iter().filter(|line| line["answer"] != "yes");
    others.map(|line| (text(line, "assumption"), text(line, "answer"))).collect()
}

fn answers(expected: &[(&str, &str)]) -> BTreeMap<String, String> {
    expected.iter().map(|(assumption, answer)| ((*assumption).to_owned(), (*answer).to_owned())).collect()
}

/// Asserts that no webhook and no contact of the test is left.
fn assert_clean(bed: &Installation) {
    assert_eq!(bed.superoffice.webhooks().len(), 0);
    let left: Vec<_> = bed.superoffice.contacts().into_iter().filter(|contact| contact.deleted.is_none()).collect();
    assert_eq!(left, []);
}

#[tokio::test]
async fn answers_are_right_in_every_mode() {
    let expected: BTreeMap<&str, Vec<(&str, &str)>> = BTreeMap::from([
        ("documented", vec![]),
        ("zone ignored, east of UTC", vec![("offsets", "no"), ("comparable", "no")]),
        (
            "zone ignored, west of UTC",
            vec![
                ("offsets", "could not tell"),
                ("list-created", "no"),
                ("list-changed", "no"),
                ("list-softdeleted", "no"),
                ("list-merged", "no"),
                ("comparable", "could not tell"),
            ],
        ),
        ("offsets refused", vec![("offsets", "no")]),
        ("secret hidden", vec![("secret-returned", "no")]),
        ("states tested as numbers", vec![("state-compared", "no")]),
        ("states as numbers", vec![("state-text", "no"), ("state-compared", "no")]),
        ("no counters", vec![("usage", "no")]),
        ("no PATCH", vec![("usage", "no"), ("json-patch", "no"), ("state-compared", "could not tell")]),
        (
            "no PATCH, secret hidden",
            vec![
                ("usage", "no"),
                ("json-patch", "no"),
                ("state-compared", "could not tell"),
                ("secret-returned", "no"),
            ],
        ),
        ("empty body refused with 415", vec![]),
    ]);
    let mut runs = JoinSet::new();
    for (name, mode) in Mode::ALL {
        let expected = answers(&expected[name]);
        runs.spawn(async move {
            let bed = Installation::start_now().await;
            bed.superoffice.set_mode(mode);
            let run = run_with(variables(&bed), &ARGUMENTS).await;
            assert_eq!(others(&run), expected, "{name}: {}{}", run.stdout, run.stderr);
            assert_eq!(run.status, i32::from(!expected.is_empty()), "{name}");
            assert_clean(&bed);
        });
    }
    runs.join_all().await;
}

#[tokio::test]
async fn answer_without_a_change_whose_event_was_sent_is_found() {
    let bed = Installation::start_now().await;
    bed.superoffice.set_read_lag(SignedDuration::from_secs(60));
    let run = run_with(variables(&bed), &ARGUMENTS).await;
    assert_eq!(others(&run), answers(&[("read-after-event", "no")]), "{}", run.stdout);
    assert_eq!(run.status, 1);
}

#[tokio::test]
async fn events_that_never_arrive_cannot_be_told_from_a_wrong_log() {
    let events = [
        "event-created",
        "event-changed",
        "event-softdeleted",
        "event-merge-source",
        "event-merge-destination",
        "event-resync",
        "event-resync-gone",
        "event-state",
        "event-tenant",
        "event-time",
        "comparable",
        "read-after-event",
    ];
    let expected = answers(&events.map(|event| (event, "could not tell")));
    for log_group in ["/aws/lambda/other", "/missing"] {
        let bed = Installation::start_now().await;
        bed.logs.create("/aws/lambda/other");
        let mut variables = variables(&bed);
        variables.insert("LOG_GROUP_NAME", log_group.to_owned());
        let run = run_with(variables, &ARGUMENTS).await;
        assert_eq!((others(&run), run.status), (expected.clone(), 1), "{}", run.stdout);
        assert_clean(&bed);
    }
}

#[tokio::test]
async fn refused_webhook_and_refused_contact_are_answers() {
    let bed = Installation::start_now().await;
    bed.function.set_outage(Outage::Endpoint);
    let run = run_with(variables(&bed), &ARGUMENTS).await;
    let found = others(&run);
    assert_eq!((found["webhook-created"].as_str(), run.status), ("no", 1), "{}", run.stdout);
    assert!(!found.contains_key("list-merged") && !found.contains_key("read-merged"), "{found:?}");

    let bed = Installation::start_now().await;
    bed.superoffice.script("POST Contact", [Fault::Status(400)]);
    let run = run_with(variables(&bed), &ARGUMENTS).await;
    let found = others(&run);
    assert_eq!((found["read"].as_str(), run.status), ("could not tell", 1), "{}", run.stdout);
    assert!(!found.contains_key("webhook-created") && !found.contains_key("json-patch"), "{found:?}");
    assert_clean(&bed);
}

/// A text in the output has the same answers, and only data of the test is deleted.
#[tokio::test]
async fn text_has_one_line_for_each_assumption_and_other_data_is_kept() {
    let bed = Installation::start_now().await;
    let contact = bed.superoffice.create_contact();
    let other = json!({"Name": "so-webhook conformance", "Events": ["contact.created"], "TargetUrl": WEBHOOK_URL});
    let webhook = bed.superoffice.add_webhook(other);
    let run = run_with(variables(&bed), &["conformance"]).await;
    assert_eq!((run.status, run.stdout.lines().count()), (0, ASSUMPTIONS), "{}{}", run.stdout, run.stderr);
    let line = "yes             webhook-deleted          a deleted webhook is no longer listed: 0 webhooks are left";
    assert_eq!(run.stdout.lines().last(), Some(line));
    assert!(run.stderr.ends_with("33 assumptions: 33 yes, 0 no, 0 could not tell\n"), "{}", run.stderr);
    assert_eq!(bed.superoffice.webhooks().iter().map(|webhook| webhook.id).collect::<Vec<_>>(), [webhook]);
    let kept = bed.superoffice.contacts().into_iter().filter(|contact| contact.deleted.is_none());
    assert_eq!(kept.map(|contact| contact.id).collect::<Vec<_>>(), [contact]);
}

#[tokio::test]
async fn test_data_is_deleted_after_an_error_and_after_a_signal() {
    let bed = Installation::start_now().await;
    bed.superoffice.script("Agents/Contact/Merge", [Fault::Status(403)]);
    let run = run_with(variables(&bed), &ARGUMENTS).await;
    assert_eq!(run.status, 2);
    assert!(run.stderr.contains("POST Agents/Contact/Merge: access denied (403)"), "{}", run.stderr);
    assert_clean(&bed);

    for signal in ["INT", "TERM"] {
        let bed = Installation::start_now().await;
        bed.superoffice.pause_sender(true);
        let start = |process: Process, argument: &&str| process.arg(argument);
        let process =
            ["conformance", "--log-wait", "600"].iter().fold(Process::new(env!("CARGO_BIN_EXE_so-webhook")), start);
        let mut process = process.envs(variables(&bed)).start();
        while !bed.calls().iter().any(|call| call.contains("Agents/Contact/Merge")) {
            assert!(process.is_running(), "{:?}", process.stderr_lines());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        process.signal(signal);
        assert_eq!(process.wait().await.code(), Some(1), "{signal}");
        let last = "interrupted; continue with: so-webhook conformance --log-wait 600";
        assert_eq!(process.stderr_lines().last().map(String::as_str), Some(last));
        assert_clean(&bed);
    }
}

/// A killed run deletes nothing; the next one does.
#[tokio::test]
async fn test_data_of_a_killed_run_is_deleted_by_the_next() {
    let bed = Installation::start_now().await;
    let mark = "so-webhook conformance";
    bed.superoffice.add_webhook(json!({
        "Name": mark, "Events": ["contact.created"], "TargetUrl": format!("{WEBHOOK_URL}?so-webhook-conformance"),
    }));
    let mut variables = variables(&bed);
    let mut process = Process::new(env!("CARGO_BIN_EXE_so-webhook")).arg("conformance").envs(variables.clone()).start();
    while !bed.calls().iter().any(|call| call == "POST Contact") {
        assert!(process.is_running(), "{:?}", process.stderr_lines());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    process.signal("KILL");
    process.wait().await;
    assert!(!bed.superoffice.webhooks().is_empty());
    variables.insert("SUPEROFFICE_WEBHOOK_SECRET", "a wrong secret".to_owned());
    assert_eq!(run_with(variables, &ARGUMENTS).await.status, 1);
    assert_clean(&bed);
}

#[tokio::test]
async fn recordings_have_no_secret_no_host_and_no_name() {
    let bed = Installation::start_now().await;
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path().join("recordings");
    let path = directory.to_str().unwrap();
    let run = run_with(
        bed.lookup_variables().into_iter().chain(bed.aws_variables()).collect(),
        &["conformance", "--record", path],
    )
    .await;
    assert_eq!(run.status, 0, "{}{}", run.stdout, run.stderr);
    let mut files: Vec<_> = std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert_eq!(files.len(), bed.calls().len());
    assert_eq!(files[0].file_name().unwrap(), "0001-GET-api-state.json");
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        for private in ["127.0.0.1", "hooks.example.com", "Cust12345", "Nordmann", "office", "ADM", "shared secret"] {
            assert!(!text.contains(private), "{private} in {}: {text}", file.display());
        }
        serde_json::from_str::<Value>(&text).unwrap();
    }
}
