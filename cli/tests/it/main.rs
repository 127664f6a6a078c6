//! The program: exit statuses, output, and no secret in either.

#![expect(clippy::unwrap_used, reason = "panicking fails the test")]

mod bootstrap;
mod conformance;
mod tenants;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::ffi::OsStrExt;
use std::process::Stdio;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use fake_superoffice::{
    Fault, Installation, Kind, LOG_GROUP, Mode, Outage, SECRET, START, TOKEN, Version, WEBHOOK_URL,
};
use serde_json::{Value, json};
use test_support::{ClosedPort, Process};
use tokio::process::Command;

struct Run {
    status: i32,
    stdout: String,
    stderr: String,
}

impl Run {
    fn lines(&self) -> Vec<Value> {
        self.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn command(variables: BTreeMap<&'static str, String>, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_so-webhook"));
    command.args(arguments).env_clear().envs(variables).stdin(Stdio::null()).stdout(Stdio::piped());
    command
}

async fn run_with(variables: BTreeMap<&'static str, String>, arguments: &[&str]) -> Run {
    run_command(command(variables, arguments)).await
}

async fn run_command(mut command: Command) -> Run {
    // `output` would replace the standard output that a test has chosen.
    let output = command.stderr(Stdio::piped()).spawn().unwrap().wait_with_output().await.unwrap();
    let run = Run {
        status: output.status.code().unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    };
    for text in [&run.stdout, &run.stderr] {
        assert!(!text.contains(SECRET) && !text.contains(TOKEN), "{text}");
    }
    run
}

fn variables(bed: &Installation) -> BTreeMap<&'static str, String> {
    bed.variables().into_iter().chain(bed.aws_variables()).collect()
}

async fn run(bed: &Installation, arguments: &[&str]) -> Run {
    run_with(variables(bed), arguments).await
}

/// Creates two contacts whose events are lost.
fn lose_two(bed: &Installation) -> [i64; 2] {
    bed.superoffice.pause_sender(true);
    let contacts = [bed.superoffice.create_contact(), bed.superoffice.create_contact()];
    bed.superoffice.lose_waiting_events();
    bed.superoffice.pause_sender(false);
    contacts
}

/// Returns the number of calls that signaled a contact.
fn signals(bed: &Installation) -> usize {
    bed.calls().iter().filter(|call| call.contains("contact.resync")).count()
}

/// Registers the webhooks, and returns the id of the one for contacts.
async fn register(bed: &Installation) -> i64 {
    let registered = run(bed, &["register"]).await;
    assert_eq!(registered.status, 0, "{}", registered.stderr);
    bed.superoffice.webhooks()[0].id
}

#[tokio::test]
async fn life_of_a_registration() {
    let bed = Installation::start().await;
    let status = run(&bed, &["status"]).await;
    assert_eq!((status.status, status.stdout.as_str()), (1, ""));
    assert!(status.stderr.contains(&format!("no webhook for contacts posts to {WEBHOOK_URL}; `register` creates it")));

    let registered = run(&bed, &["register", "--name", "Events", "--errors-email", "ops@example.com", "--json"]).await;
    assert_eq!(registered.status, 0, "{}", registered.stderr);
    let ids: Vec<i64> = bed.superoffice.webhooks().iter().map(|webhook| webhook.id).collect();
    let view = |id: i64, name: &str| json!({"webhookId": id, "name": name, "state": "Active", "consecutiveErrors": 0, "lastError": null, "lastEvent": null});
    assert_eq!(registered.lines(), [view(ids[0], "Events"), view(ids[1], "Events (state)")]);
    assert_eq!(registered.stderr, "webhook for contacts: created\nwebhook for webhook states: created\n");

    let again = run(&bed, &["register"]).await;
    assert_eq!((again.status, bed.superoffice.webhooks().len()), (0, 2));
    assert_eq!(again.stderr, "webhook for contacts: unchanged\nwebhook for webhook states: unchanged\n");

    let status = run(&bed, &["status"]).await;
    assert_eq!(status.status, 0);
    assert_eq!(
        status.stdout,
        format!(
            "{} Events: Active, 0 consecutive errors\n{} Events (state): Active, 0 consecutive errors\n",
            ids[0], ids[1]
        )
    );

    let refused = run(&bed, &["unregister"]).await;
    assert_eq!((refused.status, bed.superoffice.webhooks().len()), (2, 2));
    let expected = "nothing was deleted: --yes is required where standard input is not a terminal\n";
    assert_eq!(refused.stderr, expected);
    let unregistered = run(&bed, &["unregister", "--yes"]).await;
    assert_eq!((unregistered.status, bed.superoffice.webhooks().len()), (0, 0));
    assert_eq!(run(&bed, &["unregister", "--yes"]).await.status, 0);
}

#[tokio::test]
async fn webhooks_of_split_events_are_managed_together() {
    let bed = Installation::start().await;
    let lists: String = (100..340).map(|list| format!(",list.{list}")).collect();
    let events = format!("contact,person.consented{lists}");
    let registered = run(&bed, &["register", "--events", &events]).await;
    let purposes = ["contacts", "further events", "further events", "further events", "webhook states"];
    let report = |effect: &str| purposes.map(|purpose| format!("webhook for {purpose}: {effect}\n")).concat();
    assert_eq!((registered.status, registered.stderr), (0, report("created")));
    let ids: Vec<i64> = bed.superoffice.webhooks().iter().map(|webhook| webhook.id).collect();
    let subscribed = bed.superoffice.webhooks()[0].events().join(" ");
    let contacts =
        "contact.created contact.changed contact.softdeleted contact.deleted contact.resync person.consented";
    assert!(subscribed.starts_with(contacts), "{subscribed}");
    let again = run(&bed, &["register"]).await;
    assert_eq!((again.status, again.stderr), (0, report("unchanged")));

    let states = || bed.superoffice.webhooks().iter().map(|webhook| webhook.state().to_owned()).collect::<Vec<_>>();
    bed.superoffice.set_property(ids[2], "State", json!("TooManyErrors"));
    let status = run(&bed, &["status"]).await;
    let line = format!("{} superoffice-webhook (3): TooManyErrors, 0 consecutive errors", ids[2]);
    assert_eq!((status.status, status.stdout.lines().nth(2), status.stderr.as_str()), (1, Some(line.as_str()), ""));
    assert_eq!(run(&bed, &["activate"]).await.status, 0);
    assert_eq!(states(), ["Active"; 5]);
    assert_eq!(run(&bed, &["deactivate"]).await.status, 0);
    assert_eq!(states(), ["Stopped", "Stopped", "Stopped", "Stopped", "Active"]);

    let fewer = run(&bed, &["register", "--events", "contact"]).await;
    assert_eq!(fewer.stderr.lines().filter(|line| *line == "webhook for further events: deleted").count(), 3);
    assert_eq!(states(), ["Stopped", "Active"]);
    assert_eq!(run(&bed, &["unregister", "--yes"]).await.status, 0);
    assert!(bed.superoffice.webhooks().is_empty());
}

#[tokio::test]
async fn unknown_event_is_wrong_usage() {
    let bed = Installation::start().await;
    let refused = run(&bed, &["register", "--events", "contact,ticket.deleted"]).await;
    assert_eq!((refused.status, bed.superoffice.webhooks().len()), (2, 0));
    let problem = "`ticket.deleted` is not an event: expected ticket.created, ticket.changed";
    assert!(refused.stderr.contains(problem), "{}", refused.stderr);
}

#[tokio::test]
async fn disabled_webhook_is_shown_and_activated_only_after_a_successful_test() {
    let bed = Installation::start().await;
    let id = register(&bed).await;
    bed.function.set_outage(Outage::Endpoint);
    for _ in 0..3 {
        bed.superoffice.create_contact();
    }
    bed.superoffice.idle().await;

    let status = run(&bed, &["status", "--json"]).await;
    assert_eq!(status.status, 1);
    let shown = &status.lines()[0];
    assert_eq!((&shown["webhookId"], &shown["state"]), (&json!(id), &json!("TooManyErrors")));
    assert_eq!((&shown["consecutiveErrors"], &shown["lastError"]), (&json!(9), &json!("connection refused")));

    let test = run(&bed, &["test"]).await;
    assert_eq!(test.status, 1);
    assert!(test.stderr.starts_with("the test failed"), "{}", test.stderr);
    let activation = run(&bed, &["activate"]).await;
    assert_eq!(activation.status, 1);
    assert_eq!(bed.superoffice.webhooks()[0].state(), "TooManyErrors");

    bed.function.set_outage(Outage::None);
    assert_eq!(run(&bed, &["test"]).await.status, 0);
    let activation = run(&bed, &["activate", "--json"]).await;
    assert_eq!(activation.status, 0, "{}", activation.stderr);
    assert_eq!(activation.lines()[0]["state"], "Active");
    assert_eq!(bed.superoffice.webhooks()[0].state(), "Active");

    // Active, but the test fails.
    bed.function.set_outage(Outage::Endpoint);
    assert_eq!(run(&bed, &["activate"]).await.status, 1);
}

#[tokio::test]
async fn missing_state_webhook_needs_attention() {
    let bed = Installation::start().await;
    register(&bed).await;
    bed.superoffice.set_property(bed.superoffice.webhooks()[1].id, "TargetUrl", json!("https://other.example.com"));
    let missing = format!("no webhook for webhook states posts to {WEBHOOK_URL}; `register` creates it\n");
    let status = run(&bed, &["status"]).await;
    assert_eq!((status.status, status.stderr), (1, missing.clone()));
    let activation = run(&bed, &["activate"]).await;
    assert_eq!((activation.status, activation.stderr), (0, format!("the test succeeded\n{missing}")));
    assert_eq!(run(&bed, &["register"]).await.status, 0);
    assert_eq!(run(&bed, &["status"]).await.status, 0);
}

#[tokio::test]
async fn deactivation_stops_the_webhook_for_contacts_until_activation() {
    let bed = Installation::start().await;
    register(&bed).await;
    let states = || bed.superoffice.webhooks().iter().map(|webhook| webhook.state().to_owned()).collect::<Vec<_>>();
    for _ in 0..2 {
        let deactivation = run(&bed, &["deactivate", "--json"]).await;
        assert_eq!((deactivation.status, states()), (0, vec!["Stopped".to_owned(), "Active".to_owned()]));
        assert_eq!(deactivation.lines()[0]["state"], "Stopped");
    }
    assert_eq!(run(&bed, &["activate"]).await.status, 0);
    assert_eq!(states(), ["Active", "Active"]);
}

#[tokio::test]
async fn test_activate_and_deactivate_need_a_webhook() {
    let bed = Installation::start().await;
    for command in ["test", "activate", "deactivate"] {
        let run = run(&bed, &[command]).await;
        assert_eq!(run.status, 1);
        assert!(run.stderr.contains("`register` creates it"), "{}", run.stderr);
    }
}

#[tokio::test]
async fn missed_contacts_are_listed_and_signaled() {
    let bed = Installation::start().await;
    register(&bed).await;
    bed.function.lose_next();
    let contact = bed.superoffice.create_contact();
    bed.superoffice.idle().await;
    let young = run(&bed, &["missed", "--since", START]).await;
    assert_eq!((young.status, young.stdout.as_str()), (0, ""));
    let expected = "0 contacts changed, 0 missed\n\
        1 more changed in the last two minutes; log lines appear late, so their events may have arrived\n";
    assert_eq!(young.stderr, expected);
    bed.pass(120);
    assert_eq!(run(&bed, &["missed", "--since", START]).await.status, 1);
    let until = "2026-11-24T10:00:00Z";
    let found = run(&bed, &["missed", "--since", START, "--until", until, "--json"]).await;
    assert_eq!(found.status, 1);
    assert_eq!(found.lines(), [json!({"primaryKey": contact, "change": "created", "at": START})]);
    let text = run(&bed, &["missed", "--since", START, "--until", until]).await;
    assert_eq!(text.stdout, format!("{contact} created {START}\n"));
    assert_eq!(text.stderr, "1 contacts changed, 1 missed\n");

    bed.pass(5);
    let signaled = run(&bed, &["missed", "--since", START, "--until", until, "--resync"]).await;
    assert_eq!((signaled.status, signaled.stderr.as_str()), (0, "1 contacts changed, 1 missed, 1 signaled\n"));
    bed.superoffice.idle().await;
    assert_eq!(bed.function.events(), [("contact.resync".to_owned(), contact)]);
    assert_eq!(run(&bed, &["missed", "--since", START, "--until", until]).await.status, 0);
}

#[tokio::test]
async fn missed_persons_follow_the_contacts() {
    let bed = Installation::start().await;
    register(&bed).await;
    bed.superoffice.set_property(
        bed.superoffice.webhooks()[0].id,
        "Events",
        json!(["contact.resync", "person.resync"]),
    );
    let (contact, person) = (bed.superoffice.create_contact(), bed.superoffice.create(Kind::Person));
    bed.superoffice.idle().await;
    bed.pass(120);
    let mut variables = variables(&bed);
    variables.insert("SYNC_ENTITIES", "contact,person".to_owned());
    let window = ["missed", "--since", START, "--until", START];
    let text = run_with(variables.clone(), &window).await;
    assert_eq!(text.stdout, format!("contact {contact} created {START}\nperson {person} created {START}\n"));
    assert_eq!((text.status, text.stderr.as_str()), (1, "2 contacts and persons changed, 2 missed\n"));
    let signaled = run_with(variables.clone(), &[&window[..], &["--resync", "--json"]].concat()).await;
    let object = |entity: &str, id: i64| json!({"entity": entity, "primaryKey": id, "change": "created", "at": START});
    assert_eq!(signaled.lines(), [object("contact", contact), object("person", person)]);
    let expected = "2 contacts and persons changed, 2 missed, 2 signaled\n";
    assert_eq!((signaled.status, signaled.stderr.as_str()), (0, expected));
    bed.superoffice.idle().await;
    let expected = [("contact.resync".to_owned(), contact), ("person.resync".to_owned(), person)];
    assert_eq!(bed.function.events(), expected);
    assert_eq!(run_with(variables, &window).await.status, 0);
}

#[tokio::test]
async fn lost_events_are_signaled_in_every_mode() {
    let window = ["--since", "2026-11-24", "--until", "2026-11-24T12:00:00Z"];
    let tasks = Mode::ALL.map(|(name, mode)| {
        tokio::spawn(async move {
            let bed = Installation::start().await;
            register(&bed).await;
            bed.superoffice.set_mode(mode);
            let lost = lose_two(&bed);
            let resync = run(&bed, &[&["missed", "--resync"], &window[..]].concat()).await;
            assert_eq!((resync.status, resync.stdout.lines().count()), (0, 2), "{name}: {}", resync.stderr);
            assert_eq!(bed.function.events(), lost.map(|contact| ("contact.resync".to_owned(), contact)), "{name}");
        })
    });
    for task in tasks {
        task.await.unwrap();
    }
}

#[tokio::test]
async fn signals_that_do_not_arrive_are_not_followed_by_others() {
    for outage in [Outage::Queue, Outage::Permission] {
        let bed = Installation::start().await;
        register(&bed).await;
        let [first, _] = lose_two(&bed);
        bed.function.set_outage(outage);
        let arguments = ["missed", "--since", START, "--until", START, "--resync", "--rate", "7"];
        let resync = run(&bed, &arguments).await;
        let expected = format!(
            "contact {first} was signaled but did not arrive\n\
             stopped; continue with: so-webhook missed --since {START} --until {START} --resync --rate 7\n"
        );
        assert_eq!((resync.status, resync.stderr, signals(&bed)), (1, expected, 1));
    }
}

#[tokio::test]
async fn rate_without_signals_is_an_error() {
    let bed = Installation::start().await;
    for (arguments, message) in [
        (&["missed", "--since", START, "--rate", "7"][..], "--rate needs --resync\n"),
        (&["bootstrap", "--rate", "0"], "error: invalid value '0' for '--rate <N>': 0 is not in 1..=4294967295"),
    ] {
        let run = run(&bed, arguments).await;
        assert_eq!(run.status, 2);
        assert!(run.stderr.starts_with(message), "{}", run.stderr);
    }
}

#[tokio::test]
async fn failed_signal_is_reported_and_the_others_are_sent() {
    let bed = Installation::start().await;
    register(&bed).await;
    let [first, second] = lose_two(&bed);
    bed.superoffice.script("POST Webhook/contact.resync", [Fault::Status(500)]);
    let run = run(&bed, &["missed", "--since", START, "--until", START, "--resync"]).await;
    assert_eq!(run.status, 1);
    assert!(
        run.stderr.contains(&format!("contact {first}: POST Webhook/contact.resync/{first}: status 500")),
        "{}",
        run.stderr
    );
    assert!(run.stderr.ends_with("2 contacts changed, 2 missed, 1 signaled\n"), "{}", run.stderr);
    bed.superoffice.idle().await;
    assert_eq!(bed.function.events(), [("contact.resync".to_owned(), second)]);
}

#[tokio::test]
async fn window_that_ends_before_it_begins_is_an_error() {
    let bed = Installation::start().await;
    let (early, late) = ("2026-11-24T09:00:00Z", "2026-11-24T09:00:01Z");
    for (since, until, message) in [
        (late, early, "--since is later than --until, or in the future\n"),
        (early, early, "0 contacts changed, 0 missed\n"),
        (early, late, "0 contacts changed, 0 missed\n"),
    ] {
        let missed = run(&bed, &["missed", "--since", since, "--until", until]).await;
        assert_eq!(missed.stderr, message, "{since} {until}");
    }
}

#[tokio::test]
async fn window_of_the_future_is_an_error() {
    let bed = Installation::start().await;
    let missed = run(&bed, &["missed", "--since", "2999-01-01"]).await;
    assert_eq!((missed.status, missed.stderr.as_str()), (2, "--since is later than --until, or in the future\n"));
}

#[tokio::test]
async fn nothing_is_signaled_if_no_active_webhook_receives_it() {
    let bed = Installation::start().await;
    let id = register(&bed).await;
    bed.superoffice.create_contact();
    bed.superoffice.idle().await;
    for (name, value) in [("State", json!("TooManyErrors")), ("Events", json!(["contact.created", "contact.changed"]))]
    {
        run(&bed, &["register"]).await;
        bed.superoffice.set_property(id, "State", json!("Active"));
        bed.superoffice.set_property(id, name, value);
        bed.superoffice.clear_requests();
        let resync = run(&bed, &["missed", "--since", START, "--resync"]).await;
        assert_eq!((resync.status, resync.stdout.as_str()), (1, ""));
        let expected =
            format!("no Active webhook at {WEBHOOK_URL} subscribes to contact.resync, so no signal would arrive\n");
        assert_eq!(resync.stderr, expected);
        assert_eq!(bed.calls(), ["GET Webhook"]);
    }
}

#[tokio::test]
async fn status_does_not_need_the_number_of_errors() {
    let bed = Installation::start().await;
    register(&bed).await;
    bed.superoffice.set_version(Version::WithoutCounters);
    bed.superoffice.forbid("Archive");
    let status = run(&bed, &["status", "--json"]).await;
    assert_eq!(status.status, 0);
    assert_eq!(
        (&status.lines()[0]["state"], &status.lines()[0]["consecutiveErrors"]),
        (&json!("Active"), &json!(null))
    );
    assert!(status.stderr.contains("are unknown: GET Archive/dynamic: access denied (403)"), "{}", status.stderr);
}

#[tokio::test]
async fn error_that_concerns_every_signal_ends_the_command() {
    let bed = Installation::start().await;
    register(&bed).await;
    lose_two(&bed);
    bed.superoffice.forbid("contact.resync");
    bed.superoffice.clear_requests();
    let resync = run(&bed, &["missed", "--since", START, "--until", START, "--resync"]).await;
    assert_eq!(resync.status, 2);
    assert!(resync.stderr.contains("access denied (403)"), "{}", resync.stderr);
    assert_eq!(signals(&bed), 1);
}

#[tokio::test]
async fn first_signal_ends_resync_after_the_call_in_progress_and_second_at_once() {
    let bed = Installation::start().await;
    register(&bed).await;
    let continuation =
        format!("interrupted; continue with: so-webhook missed --since {START} --until {START} --resync");
    for (signal, call, kills, last_line) in [
        ("TERM", Fault::Slow(Duration::from_secs(1)), 1, Some(continuation.as_str())),
        ("INT", Fault::Slow(Duration::from_secs(1)), 1, Some(continuation.as_str())),
        ("INT", Fault::Slow(Duration::from_secs(3600)), 2, None),
    ] {
        lose_two(&bed);
        bed.superoffice.clear_requests();
        bed.superoffice.script("POST Webhook/contact.resync", [call]);
        let arguments = ["missed", "--since", START, "--until", START, "--resync"];
        let start = |process: Process, argument: &&str| process.arg(argument);
        let process = arguments.iter().fold(Process::new(env!("CARGO_BIN_EXE_so-webhook")), start);
        let mut process = process.envs(variables(&bed)).start();
        while signals(&bed) == 0 {
            assert!(process.is_running(), "{:?}", process.stderr_lines());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        for _ in 0..kills {
            process.signal(signal);
            // Two signals of a kind would be one if both arrived before the first was handled.
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(process.wait().await.code(), Some(1), "{signal}");
        assert_eq!(process.stderr_lines().last().map(String::as_str), last_line);
        assert_eq!(signals(&bed), 1);
        bed.superoffice.clear_faults();
    }
}

#[tokio::test]
async fn reader_that_goes_away_ends_only_a_command_that_reads() {
    let bed = Installation::start().await;
    register(&bed).await;
    lose_two(&bed);
    bed.superoffice.clear_requests();
    let window = ["missed", "--since", START, "--until", START];
    for (arguments, status, stderr, signaled) in [
        (&window[..], 1, "", 0),
        (&[&window[..], &["--resync"]].concat(), 0, "2 contacts changed, 2 missed, 2 signaled\n", 2),
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = command(variables(&bed), arguments);
        command.stdout(writer);
        let run = run_command(command).await;
        assert_eq!((run.status, run.stderr.as_str(), signals(&bed)), (status, stderr, signaled));
    }
}

/// Answers the three requests of `check`, each on its own connection, as the function does. Returns the URL, and a thread
/// that ends after the last answer.
fn serve_check() -> (String, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/webhook", listener.local_addr().unwrap());
    let server = thread::spawn(move || {
        let answers = [
            ("401 Unauthorized", r#"{"title": "Unauthorized"}"#),
            ("200 OK", r#"{"outcome": "test"}"#),
            ("200 OK", r#"{"outcome": "forwarded"}"#),
        ];
        for (status, body) in answers {
            let mut stream = BufReader::new(listener.accept().unwrap().0);
            let head = stream.by_ref().lines().map(Result::unwrap).take_while(|line| !line.is_empty());
            let length = |line: String| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok();
            let length = head.filter_map(length).last().unwrap();
            stream.read_exact(&mut vec![0; length]).unwrap();
            let length = body.len();
            let response = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
            stream.get_mut().write_all(response.as_bytes()).unwrap();
        }
    });
    (url, server)
}

#[tokio::test]
async fn check_without_a_reader_does_not_wait_for_the_log() {
    let bed = Installation::start().await;
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let (url, server) = serve_check();
    let mut command = command(variables(&bed), &["check", &url]);
    command.stdout(writer);
    let run = run_command(command).await;
    server.join().unwrap();
    assert_eq!((run.status, run.stderr.as_str(), bed.logs.requests()), (1, "", 0));
}

#[tokio::test]
async fn redrive_reports_missing_queues_together() {
    let queue = ("QUEUE_URL", "https://sqs.eu-north-1.amazonaws.com/1/events");
    let quarantine = ("QUARANTINE_QUEUE_URL", "https://sqs.eu-north-1.amazonaws.com/1/quarantine");
    for (variables, error) in [
        (vec![], "invalid configuration:\n  QUEUE_URL: not set\n  QUARANTINE_QUEUE_URL: not set\n"),
        (
            vec![("QUARANTINE_QUEUE_URL", "")],
            "invalid configuration:\n  QUEUE_URL: not set\n  QUARANTINE_QUEUE_URL: not set\n",
        ),
        (vec![quarantine], "invalid configuration:\n  QUEUE_URL: not set\n"),
        (vec![queue], "invalid configuration:\n  QUARANTINE_QUEUE_URL: not set\n"),
    ] {
        let variables = variables.into_iter().chain([("SUPEROFFICE_WEBHOOK_SECRET", "s")]);
        let run = run_with(variables.map(|(name, value)| (name, value.to_owned())).collect(), &["redrive"]).await;
        assert_eq!((run.status, run.stderr.as_str()), (2, error));
    }
}

#[tokio::test]
async fn empty_endpoint_counts_as_unset() {
    let bed = Installation::start().await;
    let mut variables = variables(&bed);
    variables.insert("AWS_ENDPOINT_URL", bed.logs.url());
    variables.insert("AWS_ENDPOINT_URL_CLOUDWATCH_LOGS", String::new());
    bed.superoffice.create_contact();
    bed.superoffice.idle().await;
    let missed = run_with(variables, &["missed", "--since", START, "--until", START]).await;
    assert_eq!(missed.stderr, "1 contacts changed, 1 missed\n");
}

#[tokio::test]
async fn missed_only_needs_the_archives() {
    let bed = Installation::start().await;
    bed.superoffice.forbid("Webhook");
    bed.superoffice.create_contact();
    assert_eq!(run(&bed, &["missed", "--since", START, "--until", START]).await.status, 1);
    let resync = run(&bed, &["missed", "--since", START, "--resync"]).await;
    assert_eq!(resync.status, 2);
    assert!(resync.stderr.contains("access denied (403)"), "{}", resync.stderr);
}

#[tokio::test]
async fn log_group_that_does_not_exist_is_an_error() {
    let bed = Installation::start().await;
    bed.superoffice.create_contact();
    let mut variables = variables(&bed);
    variables.insert("LOG_GROUP_NAME", "/other".into());
    let run = run_with(variables, &["missed", "--since", START, "--until", START]).await;
    assert_eq!(run.status, 2);
    assert!(run.stderr.contains("the log group /other cannot be read"), "{}", run.stderr);
    assert!(!run.stderr.contains(LOG_GROUP));
}

/// Lists 100,000 contacts, of which every hundredth was missed. Two batches, and for each of them the whole log.
#[tokio::test]
async fn many_contacts_are_listed_in_bounded_memory_and_requests() {
    const CONTACTS: i64 = 100_000;
    let bed = Installation::start().await;
    bed.superoffice.import_contacts(CONTACTS, bed.clock.now());
    // Pages of CloudWatch are smaller. But the program waits before each of them.
    bed.logs.set_page(50_000);
    let is_lost = |key: &i64| key % 100 == 0;
    for key in (1..=CONTACTS).rev().filter(|key| !is_lost(key)) {
        let line = json!({"outcome": "forwarded", "event": "contact.created", "primaryKey": key});
        bed.logs.write(LOG_GROUP, bed.clock.now(), line.to_string());
    }
    let mut process = Process::new(env!("CARGO_BIN_EXE_so-webhook"))
        .arg("missed")
        .arg("--json")
        .arg("--since")
        .arg(START)
        .arg("--until")
        .arg(START)
        .envs(variables(&bed))
        .start();
    let mut peak = 0;
    while process.is_running() {
        peak = peak.max(process.peak_resident_bytes());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(process.wait().await.code(), Some(1), "{:?}", process.stderr_lines());
    let key = |line: &String| serde_json::from_str::<Value>(line).unwrap()["primaryKey"].as_i64().unwrap();
    let found: Vec<i64> = process.stdout_lines().iter().map(key).collect();
    assert_eq!(found, (1..=CONTACTS).filter(is_lost).collect::<Vec<_>>());
    assert_eq!(process.stderr_lines().last().unwrap(), "100000 contacts changed, 1000 missed");
    println!("peak of the resident memory: {} MB", peak / 1_000_000);
    assert!(peak < 64_000_000, "{peak} bytes");

    // A request for each page of 1,000 rows, and one for each empty list. The log has two pages, and is read twice.
    let requests = bed.superoffice.requests();
    assert!(requests.len() <= 110, "{} requests", requests.len());
    assert!(requests.iter().all(|request| request.query["$top"] == "1000" && !request.query.contains_key("$skip")));
    assert!(bed.logs.requests() <= 4, "{} requests", bed.logs.requests());
}

#[tokio::test]
async fn purge_refuses_without_yes_and_for_a_tenant_of_the_list() {
    let bed = Installation::start().await;
    let purge = |tenant: &'static str| ["purge", "--tenant", tenant, "--table", "contacts"];
    let refused = run(&bed, &purge("Cust7")).await;
    let expected = "nothing was deleted: --yes is required where standard input is not a terminal\n";
    assert_eq!((refused.status, refused.stderr.as_str()), (2, expected));
    let arguments = [&purge("CUST12345")[..], &["--yes"]].concat();
    let refused = run(&bed, &arguments).await;
    let expected = "nothing was deleted: the tenant CUST12345 is in the list of tenants\n";
    assert_eq!((refused.status, refused.stderr.as_str()), (2, expected));
    let refused = run(&bed, &[&purge("#audit/Cust12345")[..], &["--yes"]].concat()).await;
    assert_eq!(refused.status, 2);
    let expected = "error: invalid value '#audit/Cust12345' for '--tenant <TENANT>': expected a name";
    assert!(refused.stderr.starts_with(expected), "{}", refused.stderr);
    assert_eq!(bed.calls(), [""; 0]);
    // The rows of an installation that names itself `Default` have the name `onsite`.
    let variables = BTreeMap::from([
        ("SUPEROFFICE_URL", "https://server/SuperOffice".to_owned()),
        ("SUPEROFFICE_TENANT", "Default".to_owned()),
        ("SUPEROFFICE_ACCESS_TOKEN", TOKEN.to_owned()),
    ]);
    for tenant in ["onsite", "default"] {
        let refused = run_with(variables.clone(), &[&purge(tenant)[..], &["--yes"]].concat()).await;
        let expected = "nothing was deleted: the tenant onsite is in the list of tenants\n";
        assert_eq!((refused.status, refused.stderr.as_str()), (2, expected), "{tenant}");
    }
}

#[tokio::test]
async fn tenant_without_a_name_has_no_secret() {
    let master = ("SUPEROFFICE_TENANT_MASTER_SECRET", "0123456789abcdef0123456789abcdef".to_owned());
    for arguments in [
        &["secret", "--tenant", ""][..],
        &["sign", "--tenant", "", "Cargo.toml"],
        &["post", "--tenant", "", "http://127.0.0.1:9", "Cargo.toml"],
    ] {
        let run = run_with(BTreeMap::from([master.clone()]), arguments).await;
        assert_eq!((run.status, run.stdout.as_str()), (2, ""));
        assert!(run.stderr.starts_with("error: a value is required for '--tenant"), "{}", run.stderr);
    }
}

#[tokio::test]
async fn argument_that_is_not_utf_8_is_wrong_usage() {
    let mut command = command(BTreeMap::new(), &[]);
    command.arg(OsStr::from_bytes(b"\xff"));
    assert_eq!(run_command(command).await.status, 2);
}

#[tokio::test]
async fn derived_secret_is_printed() {
    let master = "0123456789abcdef0123456789abcdef";
    let variables = BTreeMap::from([("SUPEROFFICE_TENANT_MASTER_SECRET", master.to_owned())]);
    let run = run_with(variables, &["secret", "--tenant", "CUST12345"]).await;
    assert_eq!((run.status, run.stdout.as_str()), (0, "ept8pKsU7Xu8M45EHzsNvZr7otRE6RXuLYcuTmu1Ghk=\n"));
}

#[tokio::test]
async fn invalid_configuration_is_reported_completely() {
    let run = run_with(BTreeMap::from([("SUPEROFFICE_ACCESS_TOKEN", TOKEN.to_owned())]), &["register"]).await;
    assert_eq!((run.status, run.stdout.as_str()), (2, ""));
    assert_eq!(
        run.stderr,
        "invalid configuration:\
         \n  SUPEROFFICE_URL: not set, nor is SUPEROFFICE_TENANT\
         \n  WEBHOOK_URL: not set\
         \n  SUPEROFFICE_WEBHOOK_SECRET: not set, nor is SUPEROFFICE_TENANT_MASTER_SECRET\n"
    );
}

#[tokio::test]
async fn unusable_settings_of_aws_are_reported_with_all_problems() {
    let bed = Installation::start().await;
    let certificates = "AWS_CA_BUNDLE: cannot be read: No such file or directory (os error 2)";
    let mut variables = variables(&bed);
    variables.insert("AWS_CA_BUNDLE", "/missing.pem".to_owned());
    variables.remove("LOG_GROUP_NAME");
    let missed = run_with(variables.clone(), &["missed", "--since", START]).await;
    let expected = format!("invalid configuration:\n  LOG_GROUP_NAME: not set\n  {certificates}\n");
    assert_eq!((missed.status, missed.stderr), (2, expected));
    // A command that does not call AWS ignores them.
    assert_eq!(run_with(variables.clone(), &["status"]).await.status, 1);

    variables.retain(|name, _| !name.starts_with("SUPEROFFICE_") && *name != "WEBHOOK_URL");
    variables.insert("SUPEROFFICE_TENANTS_PARAMETER", "/tenants".to_owned());
    for command in [&["status"][..], &["activate"], &["register"], &["check"]] {
        let run = run_with(variables.clone(), command).await;
        let problems: Vec<&str> = run.stderr.lines().collect();
        assert!(problems.contains(&"  WEBHOOK_URL: not set"), "{problems:?}");
        assert!(problems.contains(&format!("  {certificates}").as_str()), "{problems:?}");
    }
}

/// `eval` of an empty output would succeed, and keep the variables of another stack.
#[tokio::test]
async fn env_prints_only_false_after_any_error() {
    let bed = Installation::start().await;
    let mut variables = variables(&bed);
    // This server does not know the call.
    variables.insert("AWS_ENDPOINT_URL_CLOUDFORMATION", bed.logs.url());
    for (arguments, error) in [
        (&["env"][..], "--stack <NAME>"),
        (&["env", "--stac", "webhook"], "'--stac'"),
        (&["--stack", "webhook", "env"], "'--stack'"),
        (&["env", "--stack", "webhook"], "the stack webhook (eu-north-1) cannot be read"),
    ] {
        let run = run_with(variables.clone(), arguments).await;
        assert_eq!((run.status, run.stdout.as_str()), (2, "false\n"), "{arguments:?}");
        assert!(run.stderr.contains(error), "{}", run.stderr);
    }
    let help = run_with(variables, &["env", "--help"]).await;
    assert_eq!(help.status, 0);
    assert!(!help.stdout.starts_with("false"), "{}", help.stdout);
}

#[tokio::test]
async fn interrupted_env_prints_only_false() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let bed = Installation::start().await;
    let process = Process::new(env!("CARGO_BIN_EXE_so-webhook")).arg("env").arg("--stack").arg("webhook");
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let mut process =
        process.envs(bed.aws_variables()).env("AWS_ENDPOINT_URL_CLOUDFORMATION", endpoint.as_str()).start();
    // The call is never answered.
    let _connection = loop {
        match listener.accept() {
            Ok(connection) => break connection,
            Err(_) => assert!(process.is_running(), "{:?}", process.stderr_lines()),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    process.signal("TERM");
    assert_eq!(process.wait().await.code(), Some(2));
    assert_eq!((process.stdout_lines(), process.stderr_lines()), (vec!["false".into()], vec!["interrupted".into()]));
}

#[tokio::test]
async fn interrupted_registration_without_a_list_names_the_command_that_continues() {
    let bed = Installation::start().await;
    bed.superoffice.script("GET Webhook", [Fault::Slow(Duration::from_secs(1))]);
    let process = Process::new(env!("CARGO_BIN_EXE_so-webhook")).arg("register").arg("--all");
    let mut process = process.envs(variables(&bed)).start();
    while bed.calls().is_empty() {
        assert!(process.is_running(), "{:?}", process.stderr_lines());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    process.signal("INT");
    assert_eq!(process.wait().await.code(), Some(1));
    let lines = process.stderr_lines();
    let last = lines.last().map(String::as_str);
    assert_eq!(last, Some("interrupted; continue with: so-webhook register --all"), "{lines:?}");
    assert_eq!(bed.superoffice.webhooks().len(), 2);
}

#[tokio::test]
async fn check_reports_endpoint_that_cannot_be_reached_in_three_lines() {
    let bed = Installation::start().await;
    let port = ClosedPort::bind();
    let mut variables = variables(&bed);
    variables.remove("LOG_GROUP_NAME");
    let url = format!("{}/webhook", port.url());
    let check = run_with(variables, &["check", &url, "--json"]).await;
    assert_eq!((check.status, check.stderr.as_str()), (1, ""));
    let lines = check.lines();
    let names: Vec<_> = lines.iter().map(|line| (line["check"].clone(), line["ok"].clone())).collect();
    assert_eq!(
        names,
        [(json!("unsigned"), json!(false)), (json!("probe"), json!(false)), (json!("event"), json!(false))]
    );
    assert!(
        lines.iter().all(|line| line["message"].as_str().unwrap().contains("refused") && line["action"].is_string())
    );
}

#[tokio::test]
async fn check_needs_url_and_secret() {
    let check = run_with(BTreeMap::new(), &["check"]).await;
    let expected = "invalid configuration:\n  WEBHOOK_URL: not set\
        \n  SUPEROFFICE_WEBHOOK_SECRET: not set, nor is SUPEROFFICE_TENANT_MASTER_SECRET\n";
    assert_eq!((check.status, check.stderr.as_str()), (2, expected));
}
