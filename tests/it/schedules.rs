//! Every sequence of queue outcomes over the sender's attempts, compared with a model of the guarantees.
//!
//! The real handler runs on paused time with queues whose outcome is chosen. All choices that a delivery can reach are
//! enumerated. The SDK's own retries are below the `Queue` trait and are tested in `faults.rs`.
//!
//! The handler does not know the type of a queue. A standard queue contains every message that the fake accepted, and
//! the model predicts each request. A FIFO queue contains these messages without those that repeat a group and a
//! deduplication id. A schedule takes less than the five minutes in which SQS recognizes them.
//!
//! `LambdaAdapter::respond` returns one log line. `storm.rs` tests that the process writes this line only.

use std::fs;
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
use test_support::{WebhookRequest, outcome_metric, project_root};
use tokio::time::{Instant, advance, sleep};

const SECRET: &str = "s3cret";
/// The pauses between the sender's attempts.
const PAUSES: [Duration; 3] = [Duration::ZERO, Duration::from_secs(1), Duration::from_secs(4)];
/// The time during which the fallback is tried first, as in `queue.rs`.
const FALLBACK_FIRST: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reply {
    Accepted,
    AcceptedThenHang,
    AcceptedThenReset,
    Retryable,
    Permanent,
    Hang,
}

const REPLIES: [Reply; 6] = [
    Reply::Accepted,
    Reply::AcceptedThenHang,
    Reply::AcceptedThenReset,
    Reply::Retryable,
    Reply::Permanent,
    Reply::Hang,
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

/// The conditions of a delivery.
#[derive(Clone, Copy, Debug)]
struct Scenario {
    body: Body,
    is_genuine: bool,
    has_fallback: bool,
    has_quarantine: bool,
    /// The rest of [`FALLBACK_FIRST`], if the primary queue did not respond to the earlier delivery.
    outage_left: Option<Duration>,
}

impl Scenario {
    fn all() -> Vec<Self> {
        // With three seconds left, the outage ends while the fallback hangs.
        let outages = [None, Some(30), Some(3), Some(0)].map(|seconds| seconds.map(Duration::from_secs));
        let mut scenarios = Vec::new();
        for body in [Body::Contact, Body::Malformed, Body::Ignored, Body::Probe] {
            for is_genuine in [true, false] {
                for has_quarantine in [true, false] {
                    let scenario = |has_fallback, outage_left| Self {
                        body,
                        is_genuine,
                        has_fallback,
                        has_quarantine,
                        outage_left,
                    };
                    scenarios.push(scenario(false, None));
                    scenarios.extend(outages.map(|outage_left| scenario(true, outage_left)));
                }
            }
        }
        // Only malformed bodies are quarantined.
        scenarios.retain(|scenario| scenario.has_quarantine || scenario.body == Body::Malformed);
        scenarios
    }

    /// Returns an earlier genuine delivery. It asks the primary queue that this delivery asks, if it asks any.
    fn earlier(self) -> Delivery {
        let is_quarantined = self.body == Body::Malformed && self.has_quarantine;
        Delivery::new(if is_quarantined { Body::Malformed } else { Body::Contact }, "e0", SECRET)
    }

    fn delivery(self) -> Delivery {
        Delivery::new(self.body, "e1", if self.is_genuine { SECRET } else { "forged" })
    }
}

/// A body and the Lambda event of its delivery.
struct Delivery {
    body: String,
    payload: Box<RawValue>,
}

impl Delivery {
    fn new(body: Body, id: &str, secret: &str) -> Self {
        let body = match body {
            Body::Contact => format!(r#"{{"EventId":"{id}","Event":"contact.changed","PrimaryKey":7}}"#),
            Body::Malformed => format!("{id} is not JSON"),
            Body::Ignored => format!(r#"{{"EventId":"{id}","Event":"sale.changed","PrimaryKey":7}}"#),
            Body::Probe => format!(r#"{{"EventId":"{id}","Event":"test","PrimaryKey":0}}"#),
        };
        let payload = to_raw_value(&WebhookRequest::signed(body.as_str(), secret).http_api()).unwrap();
        Self { body, payload }
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

/// A request to a queue.
#[derive(Debug)]
struct Sent {
    queue: Name,
    message: QueueMessage,
    reply: Reply,
    /// The message id, if the queue responds with one. Each request has its own.
    message_id: String,
}

impl Sent {
    fn is_accepted(&self) -> bool {
        matches!(self.reply, Reply::Accepted | Reply::AcceptedThenHang | Reply::AcceptedThenReset)
    }
}

/// Everything that happened to the queues.
#[derive(Default)]
struct World {
    choices: Choices,
    /// Replies to use before the choices.
    scripted: Vec<Reply>,
    sent: Vec<Sent>,
}

#[derive(Clone)]
struct FakeQueue {
    name: Name,
    limit: Duration,
    world: Arc<Mutex<World>>,
}

impl Queue for FakeQueue {
    async fn send(&self, message: &QueueMessage, _trace_header: Option<&str>) -> Result<String, QueueError> {
        let (reply, message_id) = {
            let mut world = self.world.lock().unwrap();
            let reply = if world.scripted.is_empty() { world.choices.next() } else { world.scripted.remove(0) };
            let message_id = format!("message-{}", world.sent.len());
            let sent = Sent { queue: self.name, message: message.clone(), reply, message_id: message_id.clone() };
            world.sent.push(sent);
            (reply, message_id)
        };
        match reply {
            Reply::Accepted => Ok(message_id),
            Reply::AcceptedThenReset => Err(QueueError::Unreachable),
            Reply::Retryable => Err(QueueError::Unavailable("InternalError".into())),
            Reply::Permanent => Err(QueueError::Rejected("AccessDenied".into())),
            Reply::AcceptedThenHang | Reply::Hang => {
                sleep(self.limit).await;
                Err(QueueError::Timeout)
            }
        }
    }
}

/// The result of an attempt, as the sender and CloudWatch see it.
#[derive(Debug, PartialEq)]
struct Response {
    status: u16,
    metric: &'static str,
    message_id: Option<String>,
    duration: Duration,
}

/// The specification: the queues that are asked, and the response to each attempt.
struct Model<'s> {
    scenario: Scenario,
    /// The requests to the queues, of which the model uses the replies.
    sent: std::slice::Iter<'s, Sent>,
    outage_ends: Option<Duration>,
}

impl Model<'_> {
    /// Returns the response to an attempt that starts at `now`.
    fn attempt(&mut self, now: Duration) -> Response {
        let at_once = |status, metric| Response { status, metric, message_id: None, duration: Duration::ZERO };
        if !self.scenario.is_genuine {
            return at_once(401, "Rejected");
        }
        let (primary, metric) = match self.scenario.body {
            Body::Probe => return at_once(200, "Tested"),
            Body::Ignored => return at_once(200, "Ignored"),
            Body::Malformed if !self.scenario.has_quarantine => return at_once(400, "Failed"),
            Body::Malformed => (Name::Quarantine, "Quarantined"),
            Body::Contact => (Name::Events, "Forwarded"),
        };
        let mut order = vec![primary];
        if self.scenario.has_fallback {
            let position = if self.outage_ends.is_some_and(|ends| now < ends) { 0 } else { 1 };
            order.insert(position, Name::Fallback);
        }
        let mut end = now;
        for queue in order {
            let Some(sent) = self.sent.next() else { panic!("{queue:?} was not asked: {:?}", self.scenario) };
            assert_eq!(sent.queue, queue, "the queue that is asked next: {:?}", self.scenario);
            if matches!(sent.reply, Reply::Hang | Reply::AcceptedThenHang) {
                end += limit(queue, self.scenario.has_fallback);
            }
            if queue == primary {
                let is_outage = !matches!(sent.reply, Reply::Accepted | Reply::Permanent);
                self.outage_ends = is_outage.then(|| end + FALLBACK_FIRST);
            }
            if sent.reply == Reply::Accepted {
                return Response {
                    status: 200,
                    metric,
                    message_id: Some(sent.message_id.clone()),
                    duration: end - now,
                };
            }
        }
        Response { status: 503, metric: "Failed", message_id: None, duration: end - now }
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
async fn run(scenario: Scenario, earlier: &Delivery, delivery: &Delivery, world: &Arc<Mutex<World>>) {
    let queue = |name| FakeQueue { name, limit: limit(name, scenario.has_fallback), world: Arc::clone(world) };
    let with_fallback = |name| WithFallback::new(queue(name), scenario.has_fallback.then(|| queue(Name::Fallback)));
    let adapter = LambdaAdapter::new(Handler {
        verifier: Verifier::new(Secret::new(SECRET).unwrap()),
        filter: EventFilter::default(),
        format: MessageFormat::SuperOffice,
        events: with_fallback(Name::Events),
        quarantine: scenario.has_quarantine.then(|| with_fallback(Name::Quarantine)),
    });
    let attempt = async |delivery: &Delivery| {
        let begin = Instant::now();
        let event = LambdaEvent::new(delivery.payload.clone(), Context::default());
        let (response, line) = adapter.respond(event).await;
        let ApiGatewayResponse::V2(response) = response else { panic!("another payload version: {response:?}") };
        let (status, duration) = (u16::try_from(response.status_code).unwrap(), begin.elapsed());
        let body: Value = serde_json::from_slice(&response.body.unwrap()).unwrap();
        let line_count = line.lines().count();
        let line: Value = serde_json::from_str(&line).unwrap();
        assert_eq!((line_count, &line["status"]), (1, &status.into()), "{line}");
        assert_eq!(line["messageId"], body["messageId"], "{line}");
        // A latency of zero is omitted.
        assert_eq!(line["EnqueueLatency"].as_u64().unwrap_or(0), duration.as_millis() as u64, "{line}");
        let message_id = body["messageId"].as_str().map(str::to_owned);
        Response { status, metric: outcome_metric(&line), message_id, duration }
    };

    // An earlier delivery is in a queue, and the primary queue has failed if there is an outage.
    let replies =
        if scenario.outage_left.is_some() { vec![Reply::Hang, Reply::Accepted] } else { vec![Reply::Accepted] };
    let queues_asked = replies.len();
    world.lock().unwrap().scripted = replies;
    let status = attempt(earlier).await.status;
    assert_eq!((status, world.lock().unwrap().sent.len()), (200, queues_asked), "earlier delivery: {scenario:?}");
    if let Some(left) = scenario.outage_left {
        advance(FALLBACK_FIRST - left).await;
    }

    let start = Instant::now();
    let mut observed = Vec::new();
    for pause in PAUSES {
        advance(pause).await;
        let begin = start.elapsed();
        let response = attempt(delivery).await;
        let is_success = response.status == 200;
        observed.push((begin, response));
        if is_success {
            break;
        }
    }

    let world = world.lock().unwrap();
    let (earlier, sent) = world.sent.split_at(queues_asked);
    let earlier = &earlier[0].message;
    let context = || {
        let asked: Vec<_> = sent.iter().map(|sent| (sent.queue, sent.reply)).collect();
        format!("{scenario:?} {asked:?} {observed:?}")
    };

    // The guarantees.
    let is_acknowledged = observed.iter().any(|(_, response)| response.status == 200);
    let is_dropped = matches!(scenario.body, Body::Ignored | Body::Probe);
    assert!(scenario.is_genuine || (sent.is_empty() && !is_acknowledged), "forged: {}", context());
    assert!(!is_acknowledged || is_dropped || sent.iter().any(Sent::is_accepted), "lost: {}", context());
    for Sent { message, .. } in sent {
        assert_eq!(message.body, delivery.body, "changed: {}", context());
        // A FIFO queue drops a message with the deduplication id of another.
        assert_ne!(message.deduplication_id, earlier.deduplication_id, "lost: {}", context());
        assert_eq!(*message, sent[0].message, "duplicated: {}", context());
        // The order of a contact's events, and of quarantined bodies.
        assert_eq!(message.group_id, earlier.group_id, "unordered: {}", context());
    }
    let longest = Duration::from_secs(if scenario.has_fallback { 7 } else { 8 });
    assert!(observed.iter().all(|(_, response)| response.duration <= longest), "late: {}", context());

    // The model.
    let mut model = Model { scenario, sent: sent.iter(), outage_ends: scenario.outage_left };
    for (begin, response) in &observed {
        assert_eq!(*response, model.attempt(*begin), "{}", context());
    }
    assert!(model.sent.next().is_none(), "another queue was asked: {}", context());
}

#[test]
fn every_schedule_keeps_the_guarantees() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let (mut sequences, mut forged, mut others) = (0, 0, 0);
    for scenario in Scenario::all() {
        let (earlier, delivery) = (scenario.earlier(), scenario.delivery());
        let mut choices = Choices::default();
        loop {
            let world = Arc::new(Mutex::new(World { choices, ..World::default() }));
            runtime.block_on(run(scenario, &earlier, &delivery, &world));
            choices = std::mem::take(&mut world.lock().unwrap().choices);
            match (choices.position > 0, scenario.is_genuine) {
                (true, _) => sequences += 1,
                (false, false) => forged += 1,
                (false, true) => others += 1,
            }
            if !choices.advance() {
                break;
            }
        }
    }
    println!(
        "{sequences} sequences of queue outcomes: none lost, none duplicated in a FIFO queue. \
         {forged} forged deliveries: none queued. {others} genuine deliveries without a queue."
    );
    // The number in the README has commas.
    let readme = fs::read_to_string(project_root().join("README.md")).unwrap().replace(',', "");
    assert!(readme.contains(&format!("[{sequences} sequences of queue outcomes]")), "README.md: {sequences}");
    assert_eq!((forged, others), (25, 15));
}
