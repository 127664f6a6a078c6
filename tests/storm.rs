//! A storm: thousands of events from a sender that retries as SuperOffice does, a queue that fails a third of the time,
//! answers that get lost, and forged requests in between. Every genuine event is in the FIFO queue once, and no other.

#![expect(clippy::expect_used, reason = "a test fails by it")]

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use harness::{Behaviour, Envelope, Lambda, Process, Request, Running, Sqs, sign};
use serde_json::Value;

const SECRET: &str = "storm-secret";
/// What happens to an attempt depends on this, the event and the attempt's number, and on nothing else.
const SEED: u64 = 20_180_424;
/// SuperOffice waits 1 s and 4 s. A hundredth of it.
const WAITS: [Duration; 2] = [Duration::from_millis(10), Duration::from_millis(40)];
/// The sender makes three attempts and the function three for each of them, but one for an attempt that ends in a
/// failure that is not retried, of which there is one at most: so many failures in a row are survived.
const FAILURES_SURVIVED: u32 = 1 + 3 + 2;
const SENDERS: usize = 24;

fn random(seed: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    (SEED, seed).hash(&mut hasher);
    hasher.finish()
}

/// What has happened to an event so far.
#[derive(Default)]
struct Past {
    attempts: u32,
    failures_in_a_row: u32,
    failed_for_good: bool,
}

/// Fails a third of all attempts.
fn weather(request: &Request, past: &Mutex<HashMap<String, Past>>) -> Behaviour {
    let Some(id) = request.message.as_ref().and_then(|message| message.deduplication_id.clone()) else {
        return Behaviour::Answer;
    };
    let mut past = past.lock().expect("nobody panics");
    let past = past.entry(id.clone()).or_default();
    past.attempts += 1;
    let random = random((id, past.attempts));
    if random % 3 != 0 || past.failures_in_a_row == FAILURES_SURVIVED {
        past.failures_in_a_row = 0;
        return Behaviour::Answer;
    }
    past.failures_in_a_row += 1;
    match random / 3 % 600 {
        0 => Behaviour::Hang,
        1 => Behaviour::TakeThenHang,
        2..70 if !past.failed_for_good => {
            past.failed_for_good = true;
            if random % 2 == 0 { Behaviour::WrongMd5 } else { Behaviour::AccessDenied }
        }
        70..220 => Behaviour::TakeThenReset,
        220..320 => Behaviour::Reset,
        320..420 => Behaviour::Throttle,
        420..470 => Behaviour::Unavailable,
        470..500 => Behaviour::Status(502),
        _ => Behaviour::InternalFailure,
    }
}

fn event(number: usize) -> String {
    format!(
        r#"{{"EventId":"{number:08x}-1111-4111-8111-111111111111","Event":"contact.changed","Entity":"contact","PrimaryKey":{},"ContextIdentifier":"Cust{}","Changes":["name"],"FieldValues":{{"n":{number}.00}}}}"#,
        number % 100,
        number % 7
    )
}

/// What someone sends who has read an event and its signature, and has no secret.
fn forgery(number: usize) -> Envelope {
    let (genuine, forged) = (event(number), event(number + 0x1000_0000));
    let signature = sign(genuine.as_bytes(), SECRET);
    match random(("forgery", number)) % 6 {
        0 => Envelope::unsigned(forged),
        1 => Envelope::signed(forged, "another-secret"),
        2 => Envelope::unsigned(forged).header("x-superoffice-signature", signature),
        3 => Envelope::unsigned(genuine + " ").header("x-superoffice-signature", signature),
        4 => Envelope::unsigned(genuine)
            .header("x-superoffice-signature", &signature)
            .header("x-superoffice-signature", &signature),
        _ => Envelope::unsigned(genuine).header("x-superoffice-signature", signature.replace('=', "")),
    }
}

/// How often each status was answered.
type Statuses = BTreeMap<u64, u64>;

async fn post(lambda: &Lambda, envelope: &Envelope, statuses: &mut Statuses) -> u64 {
    let response = lambda.invoke(envelope.v2()).await.response();
    *statuses.entry(response.status).or_default() += 1;
    response.status
}

/// Sends the events, and before every second one a forgery, and gives up on an event as SuperOffice does.
async fn send_all(lambda: Arc<Lambda>, next: Arc<AtomicUsize>, events: usize) -> Statuses {
    let mut statuses = Statuses::new();
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= events {
            return statuses;
        }
        if number.is_multiple_of(2) {
            assert_eq!(post(&lambda, &forgery(number), &mut statuses).await, 401);
        }
        let envelope = Envelope::signed(event(number), SECRET);
        let mut waits = WAITS.iter();
        for retry in 0.. {
            let attempt = envelope.clone().header("x-superoffice-retry", retry.to_string());
            if post(&lambda, &attempt, &mut statuses).await == 200 {
                break;
            }
            let wait = waits.next().unwrap_or_else(|| panic!("event {number} is lost; seed {SEED}"));
            tokio::time::sleep(*wait).await;
        }
    }
}

async fn storm(events: usize, processes: usize, variables: &[(&str, &str)]) {
    let (lambda, sqs) = (Arc::new(Lambda::start().await), Sqs::plain().await);
    let queue = sqs.queue_url("events.fifo");
    let past = Mutex::default();
    sqs.behave(move |request| weather(request, &past));
    let functions: Vec<Running> = (0..processes)
        .map(|_| {
            Process::new(env!("CARGO_BIN_EXE_superoffice-webhook"))
                .envs(lambda.environment())
                .envs(sqs.environment())
                .envs(variables.iter().copied())
                .env("SUPEROFFICE_WEBHOOK_SECRET", SECRET)
                .env("QUEUE_URL", &queue)
                .start()
        })
        .collect();

    let next = Arc::new(AtomicUsize::new(0));
    let senders: Vec<_> =
        (0..SENDERS).map(|_| tokio::spawn(send_all(Arc::clone(&lambda), Arc::clone(&next), events))).collect();
    let mut statuses = Statuses::new();
    for sender in senders {
        for (status, count) in sender.await.expect("no event is lost") {
            *statuses.entry(status).or_default() += count;
        }
    }

    let mut queued: Vec<String> = sqs.messages(&queue).iter().map(|message| message.body.clone()).collect();
    let mut sent: Vec<String> = (0..events).map(event).collect();
    queued.sort_unstable();
    sent.sort_unstable();
    assert!(queued == sent, "{} events queued of {events}, seed {SEED}", queued.len());

    let forged = (events as u64).div_ceil(2);
    assert_eq!((statuses[&200], statuses[&401]), (events as u64, forged));
    assert_eq!(statuses.keys().copied().collect::<Vec<_>>(), [200, 401, 503], "{statuses:?}");
    // It was a storm: answers got lost after the event was taken, and a third of all attempts failed.
    let counts = sqs.counts(&queue);
    assert!(counts.duplicates > events as u64 / 20, "{counts:?}");
    assert!(counts.received > events as u64 * 4 / 3, "{counts:?}");

    // One line for each request, which says what was answered, and of a forgery no more than its headers.
    let answers: u64 = statuses.values().sum();
    let mut logged = Statuses::new();
    while logged.values().sum::<u64>() < answers {
        logged.clear();
        for function in &functions {
            for line in function.wait_for_lines(function.line_count()).await {
                assert!(!line.contains(SECRET), "{line}");
                let line: Value = serde_json::from_str(&line).expect("a line is JSON");
                *logged.entry(line["status"].as_u64().expect("a status")).or_default() += 1;
                if line["status"] == 401 {
                    assert!(line.get("eventId").or(line.get("event")).or(line.get("secret")).is_none(), "{line}");
                }
            }
        }
        tokio::task::yield_now().await;
    }
    assert_eq!(logged, statuses);
}

#[tokio::test]
async fn every_genuine_event_is_queued_once_by_functions_that_take_one_event_at_a_time() {
    storm(2000, 8, &[]).await;
}

#[tokio::test]
async fn every_genuine_event_is_queued_once_by_a_function_that_takes_many_at_once() {
    storm(2000, 1, &[("AWS_LAMBDA_MAX_CONCURRENCY", "16")]).await;
}
