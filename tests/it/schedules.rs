//! Every sequence of queue outcomes over the sender's attempts, compared with a model of the guarantees.
//!
//! The real handler runs on paused time with queues whose outcome is chosen: accepted, accepted with a lost response,
//! retryable error, permanent error, or no response. All choices that a delivery can reach are enumerated. The SDK's own
//! retries are below the `Queue` trait and are tested in `faults.rs`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lambda_http::Context;
use lambda_runtime::LambdaEvent;
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};
use superoffice_webhook::function::{
    ApiGatewayResponse, EventFilter, Handler, LambdaAdapter, Queue, QueueError, WithFallback,
};
use superoffice_webhook::message::{MessageFormat, QueueMessage};
use superoffice_webhook::{Secret, Verifier};
use test_support::{WebhookRequest, outcome_metric};
use tokio::time::{Instant, advance, sleep};

const SECRET: &str = "s3cret";
/// The pauses between the sender's attempts.
const PAUSES: [Duration; 3] = [Duration::ZERO, Duration::from_secs(1), Duration::from_secs(4)];
/// The time in which a FIFO queue recognizes a deduplication id.
const DEDUPLICATION_WINDOW: Duration = Duration::from_secs(300);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reply {
    Accepted,
    AcceptedResponseLost,
    Retryable,
    Permanent,
    Hang,
}

const REPLIES: [Reply; 5] =
    [Reply::Accepted, Reply::AcceptedResponseLost, Reply::Retryable, Reply::Permanent, Reply::Hang];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Name {
    Events,
    Quarantine,
    Fallback,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Body {
    Contact,
    Malformed,
    Ignored,
    Probe,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outage {
    Never,
    Current,
    Over,
}

/// The conditions of a delivery. Each schedule is checked for FIFO and for standard queues.
#[derive(Clone, Copy, Debug)]
struct Scenario {
    body: Body,
    is_genuine: bool,
    has_fallback: bool,
    has_quarantine: bool,
    outage: Outage,
}

impl Scenario {
    fn all() -> Vec<Self> {
        let mut scenarios = Vec::new();
        for body in [Body::Contact, Body::Malformed, Body::Ignored, Body::Probe] {
            for is_genuine in [true, false] {
                for has_quarantine in [true, false] {
                    let scenario =
                        |has_fallback, outage| Self { body, is_genuine, has_fallback, has_quarantine, outage };
                    scenarios.push(scenario(false, Outage::Never));
                    scenarios
                        .extend([Outage::Never, Outage::Current, Outage::Over].map(|outage| scenario(true, outage)));
                }
            }
        }
        // Only malformed bodies are quarantined.
        scenarios.retain(|scenario| scenario.has_quarantine || scenario.body == Body::Malformed);
        scenarios
    }

    /// Returns the Lambda event of a delivery.
    fn payload(self, id: &str) -> Box<RawValue> {
        let body = match self.body {
            Body::Contact => format!(r#"{{"EventId":"{id}","Event":"contact.changed","PrimaryKey":7}}"#),
            Body::Malformed => format!("{id} is not JSON"),
            Body::Ignored => format!(r#"{{"EventId":"{id}","Event":"sale.changed","PrimaryKey":7}}"#),
            Body::Probe => format!(r#"{{"EventId":"{id}","Event":"test","PrimaryKey":0}}"#),
        };
        let request = WebhookRequest::signed(body, if self.is_genuine { SECRET } else { "forged" });
        to_raw_value(&request.http_api()).unwrap()
    }
}

/// The choices of one schedule. Counting through all of them enumerates a tree of unknown shape.
#[derive(Default)]
struct Choices {
    taken: Vec<usize>,
    position: usize,
}

impl Choices {
    fn next(&mut self) -> Reply {
        if self.position == self.taken.len() {
            self.taken.push(0);
        }
        self.position += 1;
        REPLIES[self.taken[self.position - 1]]
    }

    /// Moves to the next schedule. Returns `false` after the last one.
    fn advance(&mut self) -> bool {
        self.taken.truncate(self.position);
        self.position = 0;
        while let Some(last) = self.taken.pop() {
            if last + 1 < REPLIES.len() {
                self.taken.push(last + 1);
                return true;
            }
        }
        false
    }
}

/// The queues, their contents, and everything that happened to them.
#[derive(Default)]
struct World {
    choices: Choices,
    /// Replies to use before the choices.
    scripted: Vec<Reply>,
    asked: Vec<(Name, Reply)>,
    accepted: BTreeMap<Name, Vec<(String, Instant)>>,
}

/// Returns the number of messages that a FIFO queue stores, because it recognizes a repeated deduplication id.
fn stored_in_fifo(accepted: &[(String, Instant)]) -> usize {
    let mut stored: Vec<&(String, Instant)> = Vec::new();
    for message in accepted {
        if !stored.iter().any(|first| first.0 == message.0 && message.1 - first.1 < DEDUPLICATION_WINDOW) {
            stored.push(message);
        }
    }
    stored.len()
}

#[derive(Clone)]
struct FakeQueue {
    name: Name,
    limit: Duration,
    world: Arc<Mutex<World>>,
}

impl Queue for FakeQueue {
    async fn send(&self, message: &QueueMessage, _trace_header: Option<&str>) -> Result<String, QueueError> {
        let reply = {
            let mut world = self.world.lock().unwrap();
            let reply = if world.scripted.is_empty() { world.choices.next() } else { world.scripted.remove(0) };
            world.asked.push((self.name, reply));
            if matches!(reply, Reply::Accepted | Reply::AcceptedResponseLost) {
                let stored = (message.deduplication_id.clone(), Instant::now());
                world.accepted.entry(self.name).or_default().push(stored);
            }
            reply
        };
        match reply {
            Reply::Accepted => Ok("message".into()),
            Reply::Retryable => Err(QueueError::Unavailable("InternalError".into())),
            Reply::Permanent => Err(QueueError::Rejected("AccessDenied".into())),
            Reply::AcceptedResponseLost | Reply::Hang => {
                sleep(self.limit).await;
                Err(QueueError::Timeout)
            }
        }
    }
}

/// The specification: the status of each attempt, and the messages that are stored.
struct Model {
    scenario: Scenario,
    asked: std::vec::IntoIter<(Name, Reply)>,
    outage_ends: Option<Duration>,
    accepted: BTreeMap<Name, usize>,
}

impl Model {
    /// Returns the status of an attempt that starts at `now`, and its duration.
    fn attempt(&mut self, now: Duration) -> (u16, Duration) {
        if !self.scenario.is_genuine {
            return (401, Duration::ZERO);
        }
        let primary = match self.scenario.body {
            Body::Probe | Body::Ignored => return (200, Duration::ZERO),
            Body::Malformed if !self.scenario.has_quarantine => return (400, Duration::ZERO),
            Body::Malformed => Name::Quarantine,
            Body::Contact => Name::Events,
        };
        let mut order = vec![primary];
        if self.scenario.has_fallback {
            let position = if self.outage_ends.is_some_and(|ends| now < ends) { 0 } else { 1 };
            order.insert(position, Name::Fallback);
        }
        let mut end = now;
        for queue in order {
            let (asked, reply) = self.asked.next().unwrap();
            assert_eq!(asked, queue, "the queue that is asked next");
            if matches!(reply, Reply::Hang | Reply::AcceptedResponseLost) {
                end += limit(queue, self.scenario.has_fallback);
            }
            if queue == primary {
                let is_outage = !matches!(reply, Reply::Accepted | Reply::Permanent);
                self.outage_ends = is_outage.then(|| end + Duration::from_secs(30));
            }
            if matches!(reply, Reply::Accepted | Reply::AcceptedResponseLost) {
                *self.accepted.entry(queue).or_default() += 1;
            }
            if reply == Reply::Accepted {
                return (200, end - now);
            }
        }
        (503, end - now)
    }
}

/// The time limit of a queue, as in `sqs.rs`.
fn limit(queue: Name, has_fallback: bool) -> Duration {
    Duration::from_secs(match (queue, has_fallback) {
        (Name::Fallback, _) => 4,
        (_, true) => 2,
        (_, false) => 6,
    })
}

/// Runs one schedule and compares it with the model.
async fn run(scenario: Scenario, [earlier, delivery]: &[Box<RawValue>; 2], world: &Arc<Mutex<World>>) {
    let queue = |name| FakeQueue { name, limit: limit(name, scenario.has_fallback), world: Arc::clone(world) };
    let with_fallback = |name| WithFallback::new(queue(name), scenario.has_fallback.then(|| queue(Name::Fallback)));
    let adapter = LambdaAdapter::new(Handler {
        verifier: Verifier::new(Secret::new(SECRET).unwrap()),
        filter: EventFilter::default(),
        format: MessageFormat::SuperOffice,
        events: with_fallback(Name::Events),
        quarantine: scenario.has_quarantine.then(|| with_fallback(Name::Quarantine)),
    });
    let invoke = async |payload: &RawValue| {
        let (response, line) = adapter.respond(LambdaEvent::new(payload.to_owned(), Context::default())).await;
        let ApiGatewayResponse::V2(response) = response else { panic!("another payload version: {response:?}") };
        (u16::try_from(response.status_code).unwrap(), line)
    };

    // An earlier delivery to which the primary queue did not respond.
    if scenario.outage != Outage::Never {
        world.lock().unwrap().scripted = vec![Reply::Hang, Reply::Accepted];
        invoke(earlier).await;
        if scenario.outage == Outage::Over {
            advance(Duration::from_secs(30)).await;
        }
    }
    let start = Instant::now();
    let asked_earlier = {
        let mut world = world.lock().unwrap();
        world.scripted.clear();
        world.accepted.clear();
        std::mem::take(&mut world.asked).len()
    };

    let mut observed = Vec::new();
    for pause in PAUSES {
        advance(pause).await;
        let begin = Instant::now();
        let (status, line) = invoke(delivery).await;
        let line_count = line.lines().count();
        let line: Value = serde_json::from_str(&line).unwrap();
        assert_eq!((line_count, &line["status"]), (1, &status.into()), "{line}");
        outcome_metric(&line);
        // A latency of zero is omitted.
        assert_eq!(line["EnqueueLatency"].as_u64().unwrap_or(0), begin.elapsed().as_millis() as u64, "{line}");
        observed.push((begin - start, status, begin.elapsed()));
        if status == 200 {
            break;
        }
    }

    let world = world.lock().unwrap();
    let accepted: BTreeMap<Name, usize> =
        world.accepted.iter().map(|(name, messages)| (*name, messages.len())).collect();
    let context = || format!("{scenario:?} {:?} {observed:?} {accepted:?}", world.asked);

    // The guarantees.
    let is_acknowledged = observed.iter().any(|(_, status, _)| *status == 200);
    let is_dropped = matches!(scenario.body, Body::Ignored | Body::Probe);
    assert!(!is_acknowledged || is_dropped || !accepted.is_empty(), "lost: {}", context());
    assert!(scenario.is_genuine || (accepted.is_empty() && !is_acknowledged), "forged: {}", context());
    assert!(world.accepted.values().all(|messages| stored_in_fifo(messages) == 1), "duplicated: {}", context());
    let longest = Duration::from_secs(if scenario.has_fallback { 7 } else { 8 });
    assert!(observed.iter().all(|(_, _, duration)| *duration <= longest), "late: {}", context());

    // The model.
    let outage_ends = (asked_earlier > 0 && scenario.outage == Outage::Current).then_some(Duration::from_secs(30));
    let mut model = Model { scenario, asked: world.asked.clone().into_iter(), outage_ends, accepted: BTreeMap::new() };
    for (begin, status, duration) in &observed {
        assert_eq!(model.attempt(*begin), (*status, *duration), "{}", context());
    }
    assert_eq!((model.asked.next(), &model.accepted), (None, &accepted), "{}", context());
}

#[test]
fn every_schedule_keeps_the_guarantees() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let mut schedules = 0;
    for scenario in Scenario::all() {
        let payloads = ["e0", "e1"].map(|id| scenario.payload(id));
        let mut choices = Choices::default();
        loop {
            let world = Arc::new(Mutex::new(World { choices, ..World::default() }));
            runtime.block_on(run(scenario, &payloads, &world));
            schedules += 1;
            choices = std::mem::take(&mut world.lock().unwrap().choices);
            if !choices.advance() {
                break;
            }
        }
    }
    println!("{schedules} schedules: 0 lost, 0 forged, 0 duplicated in a FIFO queue");
    assert_eq!(schedules, 32_968);
}
