//! A storm: thousands of events from a sender that retries as SuperOffice does, a queue with faults in a third of all
//! requests, lost responses, and forged requests. Every genuine event is in the FIFO queue once, in the group of its
//! contact, and no other. Every request has one log line.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use test_support::{Fault, Request, RunningProcess, RuntimeApi, SqsServer, WebhookRequest, sign};

use crate::function_process;

const SECRET: &str = "storm-secret";

/// The faults depend only on this, the event and the number of the attempt.
const SEED: u64 = 20_180_424;

/// The delays between the sender's attempts: a hundredth of SuperOffice's 1 s and 4 s.
const RETRY_DELAYS: [Duration; 2] = [Duration::from_millis(10), Duration::from_millis(40)];

/// The number of consecutive faults that no event exceeds. The sender makes three attempts. The function makes three for
/// each of them, except that a fault without retry, of which an event has at most one, ends them early.
const MAX_CONSECUTIVE_FAULTS: u32 = 1 + 3 + 2;

const SENDERS: usize = 24;

fn random(seed: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    (SEED, seed).hash(&mut hasher);
    hasher.finish()
}

/// The attempts to queue one event.
#[derive(Default)]
struct History {
    attempts: u32,
    consecutive_faults: u32,
    had_permanent_fault: bool,
}

/// Injects a fault into a third of all attempts.
fn inject_faults(request: &Request, histories: &Mutex<HashMap<String, History>>) -> Option<Fault> {
    let id = request.message.as_ref()?.deduplication_id.clone()?;
    let mut histories = histories.lock().unwrap();
    let history = histories.entry(id.clone()).or_default();
    history.attempts += 1;
    let random = random((id, history.attempts));
    if random % 3 != 0 || history.consecutive_faults == MAX_CONSECUTIVE_FAULTS {
        history.consecutive_faults = 0;
        return None;
    }
    history.consecutive_faults += 1;
    Some(match random / 3 % 600 {
        0 => Fault::Hang,
        1 => Fault::AcceptThenHang,
        2..70 if !history.had_permanent_fault => {
            history.had_permanent_fault = true;
            if random % 2 == 0 { Fault::WrongMd5 } else { Fault::AccessDenied }
        }
        70..220 => Fault::AcceptThenReset,
        220..320 => Fault::Reset,
        320..370 => Fault::Throttle,
        370..420 => Fault::KmsThrottle,
        420..470 => Fault::ServiceUnavailable,
        470..500 => Fault::Status(502),
        _ => Fault::InternalFailure,
    })
}

fn event(number: usize) -> String {
    format!(
        r#"{{"EventId":"{number:08x}-1111-4111-8111-111111111111","Event":"contact.changed","Entity":"contact","PrimaryKey":{},"ContextIdentifier":"Cust{}","Changes":["name"],"FieldValues":{{"n":{number}.00}}}}"#,
        number % 100,
        number % 7
    )
}

/// Returns the message group of an event: its tenant and contact.
fn group_id(number: usize) -> String {
    format!("Cust{}/contact/{}", number % 7, number % 100)
}

/// Returns a request of an attacker who knows an event and its signature, but not the secret.
fn forgery(number: usize) -> WebhookRequest {
    let (genuine, forged) = (event(number), event(number + 0x1000_0000));
    let signature = sign(&genuine, SECRET);
    match random(("forgery", number)) % 6 {
        0 => WebhookRequest::unsigned(forged),
        1 => WebhookRequest::signed(forged, "another-secret"),
        2 => WebhookRequest::unsigned(forged).signature(signature),
        3 => WebhookRequest::unsigned(genuine + " ").signature(signature),
        4 => WebhookRequest::unsigned(genuine).signature(&signature).signature(&signature),
        _ => WebhookRequest::unsigned(genuine).signature(signature.replace('=', "")),
    }
}

/// The number of responses by status.
type Statuses = BTreeMap<u64, u64>;

async fn post(lambda: &RuntimeApi, request: &WebhookRequest, statuses: &mut Statuses) -> u64 {
    let status = lambda.invoke(request.http_api()).await.response().status;
    *statuses.entry(status).or_default() += 1;
    status
}

/// Sends events until all are sent, and a forgery before every second one. Fails if an event is rejected three times,
/// because SuperOffice would not send it again.
async fn send_events(lambda: Arc<RuntimeApi>, next: Arc<AtomicUsize>, events: usize) -> Statuses {
    let mut statuses = Statuses::new();
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= events {
            return statuses;
        }
        if number.is_multiple_of(2) {
            assert_eq!(post(&lambda, &forgery(number), &mut statuses).await, 401);
        }
        let request = WebhookRequest::signed(event(number), SECRET);
        let mut delays = RETRY_DELAYS.iter();
        for retry in 0.. {
            let attempt = request.clone().header("X-SuperOffice-Retry", retry.to_string());
            if post(&lambda, &attempt, &mut statuses).await == 200 {
                break;
            }
            let delay = delays.next().unwrap_or_else(|| panic!("event {number} is lost; seed {SEED}"));
            tokio::time::sleep(*delay).await;
        }
    }
}

async fn storm(events: usize, processes: usize, variables: &[(&str, &str)]) {
    let (lambda, sqs) = (Arc::new(RuntimeApi::start().await), SqsServer::start().await);
    let queue = sqs.queue_url("events.fifo");
    let histories = Mutex::default();
    sqs.inject(move |request| inject_faults(request, &histories));
    let mut functions: Vec<RunningProcess> = (0..processes)
        .map(|_| {
            function_process(&lambda, &sqs)
                .envs(variables.iter().copied())
                .env("SUPEROFFICE_WEBHOOK_SECRET", SECRET)
                .env("QUEUE_URL", &queue)
                .start()
        })
        .collect();

    let next = Arc::new(AtomicUsize::new(0));
    let senders: Vec<_> =
        (0..SENDERS).map(|_| tokio::spawn(send_events(Arc::clone(&lambda), Arc::clone(&next), events))).collect();
    let mut statuses = Statuses::new();
    for sender in senders {
        for (status, count) in sender.await.unwrap() {
            *statuses.entry(status).or_default() += count;
        }
    }

    let messages = sqs.messages(&queue);
    let mut queued: Vec<_> = messages.iter().map(|message| (message.body.clone(), message.group_id.clone())).collect();
    let mut sent: Vec<_> = (0..events).map(|number| (event(number), Some(group_id(number)))).collect();
    queued.sort_unstable();
    sent.sort_unstable();
    let first_difference = queued.iter().zip(&sent).find(|(queued, sent)| queued != sent);
    assert!(queued == sent, "{} messages of {events} events, seed {SEED}: {first_difference:?}", queued.len());

    let forged = (events as u64).div_ceil(2);
    assert_eq!((statuses[&200], statuses[&401]), (events as u64, forged));
    assert_eq!(statuses.keys().copied().collect::<Vec<_>>(), [200, 401, 503], "{statuses:?}");
    // The storm was strong enough: responses of accepted events were lost, and a third of all attempts had a fault.
    let counts = sqs.counts(&queue);
    assert!(counts.duplicates > events as u64 / 20, "{counts:?}");
    assert!(counts.received > events as u64 * 4 / 3, "{counts:?}");

    for function in &mut functions {
        // Ended, so that the output is complete.
        function.signal("TERM");
        function.wait().await;
    }
    assert_eq!(logged_statuses(&functions), statuses);
}

/// Returns the statuses in the log, of which there is one per request. Lines never contain the secret, and lines of
/// forgeries nothing from the body.
fn logged_statuses(functions: &[RunningProcess]) -> Statuses {
    let mut statuses = Statuses::new();
    for line in functions.iter().flat_map(RunningProcess::stdout_lines) {
        assert!(!line.contains(SECRET), "{line}");
        let line: Value = serde_json::from_str(&line).unwrap();
        *statuses.entry(line["status"].as_u64().unwrap()).or_default() += 1;
        if line["status"] == 401 {
            assert!(line.get("eventId").or(line.get("event")).or(line.get("secret")).is_none(), "{line}");
        }
    }
    statuses
}

#[tokio::test]
async fn every_genuine_event_is_queued_once_by_eight_processes() {
    storm(2000, 8, &[]).await;
}

#[tokio::test]
async fn every_genuine_event_is_queued_once_by_one_concurrent_process() {
    storm(2000, 1, &[("AWS_LAMBDA_MAX_CONCURRENCY", "16")]).await;
}
