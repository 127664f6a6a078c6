//! The function as a process, with queue faults: response and its time, attempts per queue, messages, and log line.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use test_support::{
    AcceptMode, CompletedInvocation, Fault, Message, Process, RunningProcess, RuntimeApi, SqsServer, TIMEOUT,
    WebhookRequest, outcome_metric,
};

use crate::{function_process, start_checked};

const SECRET: &str = "faults-secret";

/// The fallback queue, in another region and another account.
const FALLBACK: &str = "https://sqs.eu-west-1.amazonaws.com/999999999999/fallback";

/// The time within which the sender gets a response, whatever the queue does.
const LIMIT: Duration = Duration::from_secs(8);
const LIMIT_WITH_FALLBACK: Duration = Duration::from_secs(7);

/// Less than the time of all attempts of one hanging queue.
const NO_TIMEOUT: Duration = Duration::from_millis(1900);

/// The time that a busy machine may add to the start of a process, of which the limit leaves half a second.
const BUSY_MACHINE: Duration = Duration::from_secs(1);

/// Returns the function's process without its queues, except for the fallback.
fn process(lambda: &RuntimeApi, sqs: &SqsServer, with_fallback: bool) -> Process {
    let fallback = with_fallback.then_some(("FALLBACK_QUEUE_URL", FALLBACK));
    function_process(lambda, sqs).env("SUPEROFFICE_WEBHOOK_SECRET", SECRET).envs(fallback)
}

/// A running function with its surroundings.
struct TestBed {
    lambda: RuntimeApi,
    sqs: SqsServer,
    function: RunningProcess,
    events: String,
    quarantine: String,
    with_fallback: bool,
}

/// The observable effects of a delivery.
struct Observed {
    invocation: CompletedInvocation,
    log: Value,
    /// The number of requests to the primary queue and to the fallback.
    attempts: (u64, u64),
}

impl TestBed {
    async fn start() -> Self {
        Self::start_with(SqsServer::start().await, false, "events.fifo").await
    }

    async fn start_with_fallback() -> Self {
        Self::start_with(SqsServer::start().await, true, "events.fifo").await
    }

    /// Starts a function that has checked its queue, and so has an open connection.
    async fn start_checked(tls: bool) -> Self {
        let start = async || {
            let sqs = if tls { SqsServer::start_tls().await } else { SqsServer::start().await };
            Self::start_with(sqs, false, "events.fifo").await
        };
        start_checked(start, |test_bed| test_bed.function.stderr_lines()).await
    }

    async fn start_with(sqs: SqsServer, with_fallback: bool, queue: &str) -> Self {
        let lambda = RuntimeApi::start().await;
        let (events, quarantine) = (sqs.queue_url(queue), sqs.queue_url("quarantine"));
        let function = process(&lambda, &sqs, with_fallback)
            .env("QUEUE_URL", &events)
            .env("QUARANTINE_QUEUE_URL", &quarantine)
            .start();
        lambda.first_poll().await;
        Self { lambda, sqs, function, events, quarantine, with_fallback }
    }

    /// Delivers a signed body.
    async fn deliver(&self, body: &str) -> Observed {
        let queue = if body.starts_with('{') { &self.events } else { &self.quarantine };
        let attempts = || (self.sqs.counts(queue).received, self.sqs.counts(FALLBACK).received);
        let (before, line_count) = (attempts(), self.function.stdout_line_count());
        let invocation = self.lambda.invoke(WebhookRequest::signed(body, SECRET).http_api()).await;
        let line = self.function.wait_for_lines(line_count + 1).await.pop().unwrap();
        let after = attempts();
        let log = serde_json::from_str(&line).unwrap();
        let observed = Observed { invocation, log, attempts: (after.0 - before.0, after.1 - before.1) };
        observed.assert_consistent(if self.with_fallback { LIMIT_WITH_FALLBACK } else { LIMIT });
        observed
    }
}

impl Observed {
    fn duration(&self) -> Duration {
        self.invocation.duration()
    }

    /// Checks the properties of every delivery: its time, one outcome, and a log line that agrees with the response.
    #[track_caller]
    fn assert_consistent(&self, limit: Duration) {
        let (log, response) = (&self.log, self.invocation.response());
        assert!(self.duration() < limit, "{:?}: {log}", self.duration());
        assert_eq!(log["status"], response.status);
        assert_eq!(log["requestId"], *self.invocation.request_id);
        outcome_metric(log);
        let latency = Duration::from_secs_f64(log["EnqueueLatency"].as_f64().unwrap() / 1e3);
        assert!(latency <= self.duration(), "{log}");
        assert!(latency + Duration::from_secs(1) > self.duration(), "time is spent outside of the queue: {log}");
    }

    #[track_caller]
    fn assert_queued(&self, attempts: (u64, u64)) {
        let response = self.invocation.response();
        assert_eq!((response.status, self.attempts), (200, attempts), "{}", self.log);
        assert_eq!(self.log["outcome"], response.json()["outcome"]);
        assert_eq!(self.log["messageId"], response.json()["messageId"]);
        assert_eq!(self.log["FallbackUsed"].as_u64().unwrap_or(0), u64::from(attempts.1 > 0));
    }

    #[track_caller]
    fn assert_not_queued(&self, attempts: (u64, u64), reason: &str) {
        let response = self.invocation.response();
        assert_eq!((response.status, self.attempts), (503, attempts), "{}", self.log);
        assert_eq!(response.headers["retry-after"], "1");
        assert_eq!(response.headers["content-type"], "application/problem+json");
        let detail = "The event could not be queued. Send it again.";
        assert_eq!(response.json(), json!({"title": "Service Unavailable", "status": 503, "detail": detail}));
        assert_eq!((&self.log["reason"], &self.log["outcome"]), (&json!(reason), &json!("failed")));
        assert_eq!(outcome_metric(&self.log), "Failed");
        assert_eq!((self.log["FallbackUsed"].as_u64().unwrap_or(0), &self.log["messageId"]), (0, &Value::Null));
    }
}

fn event(number: u32) -> String {
    format!(
        r#"{{"EventId":"{number:08x}-0000-4000-8000-000000000000","Event":"contact.changed","Entity":"contact","PrimaryKey":{number}}}"#
    )
}

fn always(fault: Fault) -> impl Iterator<Item = Fault> {
    std::iter::repeat_n(fault, 20)
}

fn bodies(messages: &[Arc<Message>]) -> Vec<&str> {
    messages.iter().map(|message| message.body.as_str()).collect()
}

/// Injects faults one after the other, and checks that the following attempt queues the event once.
async fn assert_recovers(faults: &[Fault], limit: Duration) {
    let test_bed = TestBed::start().await;
    test_bed.sqs.script(&test_bed.events, faults.to_vec());
    let observed = test_bed.deliver(&event(1)).await;
    observed.assert_queued((faults.len() as u64 + 1, 0));
    assert!(observed.duration() < limit, "{:?}", observed.duration());
    assert_eq!(bodies(&test_bed.sqs.messages(&test_bed.events)), [event(1)]);
}

/// Injects a fault into every attempt. Without a fallback, the response is 503; with a fallback, the event is there.
async fn assert_fails(fault: Fault, attempts: u64, reason: &str, limit: Duration) {
    let without_fallback = async {
        let test_bed = TestBed::start().await;
        test_bed.sqs.script(&test_bed.events, always(fault.clone()));
        let observed = test_bed.deliver(&event(1)).await;
        observed.assert_not_queued((attempts, 0), &format!("queue: {reason}"));
        assert!(observed.duration() < limit, "{:?}", observed.duration());
        test_bed
    };
    let with_fallback = async {
        let test_bed = TestBed::start_with_fallback().await;
        test_bed.sqs.script(&test_bed.events, always(fault.clone()));
        let observed = test_bed.deliver(&event(1)).await;
        // With a fallback, the primary queue has less time, so there are fewer attempts if each of them hangs.
        let attempts = if fault == Fault::Hang { 2 } else { attempts };
        observed.assert_queued((attempts, 1));
        assert_eq!(observed.log["outcome"], "forwarded");
        assert!(observed.duration() < limit, "{:?}", observed.duration());
        let messages = test_bed.sqs.messages(FALLBACK);
        assert_eq!(bodies(&messages), [event(1)]);
        assert_eq!(messages[0].attribute("EventId"), Some("00000001-0000-4000-8000-000000000000"));
        // The fallback is a standard queue, which has neither.
        assert_eq!((&messages[0].group_id, &messages[0].deduplication_id), (&None, &None));
        let requests = test_bed.sqs.requests();
        let regions = |queue: &str| -> Vec<_> {
            requests.iter().filter(|request| request.queue_url == queue).map(|r| r.region.clone()).collect()
        };
        assert_eq!(regions(FALLBACK), [Some("eu-west-1".to_owned())]);
        assert!(regions(&test_bed.events).iter().all(|region| region.as_deref() == Some("eu-north-1")));
        test_bed
    };
    let (without_fallback, with_fallback) = tokio::join!(without_fallback, with_fallback);
    // Only a message with a wrong digest was accepted.
    let accepted = u64::from(fault == Fault::WrongMd5);
    assert_eq!(without_fallback.sqs.counts(&without_fallback.events).accepted, accepted);
    assert_eq!(with_fallback.sqs.counts(&with_fallback.events).accepted, accepted);
}

/// The Lambda runtime accepts every JSON text, and the function decodes only the fields of an HTTP request.
#[tokio::test]
async fn invocation_with_any_json_has_a_response_and_a_log_line() {
    let test_bed = TestBed::start().await;
    let delivery = WebhookRequest::signed(event(1), SECRET).header("X-Other", "other").http_api().to_string();
    let deep = "[".repeat(10_000) + &"]".repeat(10_000);
    for (number, (payload, status)) in [
        (delivery.replace(r#""other""#, r#""\ud800""#), 200),
        (delivery.replace(r#""other""#, "1e999"), 200),
        (delivery.replace(r#""other""#, &deep), 200),
        (r#""\ud800""#.into(), 500),
        (deep, 500),
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(test_bed.lambda.invoke(payload).await.response().status, status);
        let line = test_bed.function.wait_for_lines(number as u64 + 1).await.pop().unwrap();
        assert_eq!(serde_json::from_str::<Value>(&line).unwrap()["status"], status);
    }
}

#[tokio::test]
async fn hanging_attempt_is_retried() {
    assert_recovers(&[Fault::Hang], Duration::from_secs(4)).await;
}

#[tokio::test]
async fn lost_response_does_not_queue_an_event_twice() {
    assert_recovers(&[Fault::AcceptThenReset, Fault::AcceptThenReset], NO_TIMEOUT).await;
    assert_recovers(&[Fault::AcceptThenHang], Duration::from_secs(4)).await;
}

#[tokio::test]
async fn transient_fault_is_retried() {
    for fault in [
        Fault::InternalFailure,
        Fault::ServiceUnavailable,
        Fault::Throttle,
        Fault::KmsThrottle,
        Fault::Status(429),
        Fault::Reset,
        Fault::Close,
        Fault::Status(502),
        Fault::Status(504),
    ] {
        assert_recovers(&[fault.clone(), fault], NO_TIMEOUT).await;
    }
}

#[tokio::test]
async fn slow_response_is_awaited() {
    let test_bed = TestBed::start().await;
    test_bed.sqs.script(&test_bed.events, [Fault::Delay(Duration::from_secs(1))]);
    test_bed.deliver(&event(1)).await.assert_queued((1, 0));
}

#[tokio::test]
async fn hanging_queue_times_out_within_the_limit() {
    assert_fails(Fault::Hang, 3, "timeout", LIMIT).await;
}

#[tokio::test]
async fn failing_queue_gets_three_attempts() {
    assert_fails(Fault::InternalFailure, 3, "InternalFailure", NO_TIMEOUT).await;
    assert_fails(Fault::Throttle, 3, "RequestThrottled", NO_TIMEOUT).await;
    assert_fails(Fault::KmsThrottle, 3, "KMS.ThrottlingException", NO_TIMEOUT).await;
    assert_fails(Fault::Status(429), 3, "HTTP 429", NO_TIMEOUT).await;
    assert_fails(Fault::Reset, 3, "unreachable", NO_TIMEOUT).await;
    assert_fails(Fault::Close, 3, "unreachable", NO_TIMEOUT).await;
}

#[tokio::test]
async fn rejecting_queue_gets_one_attempt() {
    assert_fails(Fault::AccessDenied, 1, "AccessDeniedException", NO_TIMEOUT).await;
    assert_fails(Fault::QueueDoesNotExist, 1, "AWS.SimpleQueueService.NonExistentQueue", NO_TIMEOUT).await;
    assert_fails(Fault::Status(403), 1, "invalid response", NO_TIMEOUT).await;
}

#[tokio::test]
async fn wrong_digest_is_a_failure_and_the_sender_retry_is_deduplicated() {
    assert_fails(Fault::WrongMd5, 1, "digest mismatch", NO_TIMEOUT).await;

    let test_bed = TestBed::start().await;
    test_bed.sqs.script(&test_bed.events, [Fault::WrongMd5]);
    test_bed.deliver(&event(1)).await.assert_not_queued((1, 0), "queue: digest mismatch");
    test_bed.deliver(&event(1)).await.assert_queued((1, 0));
    assert_eq!(test_bed.sqs.counts(&test_bed.events).accepted, 1);
}

#[tokio::test]
async fn two_hanging_queues_time_out_within_the_limit() {
    let test_bed = TestBed::start_with_fallback().await;
    test_bed.sqs.inject(|_| Some(Fault::Hang));
    test_bed.deliver(&event(1)).await.assert_not_queued((2, 2), "queue: timeout; fallback: timeout");
}

/// Starts the function while an event is waiting, with and without a fallback, and measures from the start to the
/// response. The endpoint's queues accept nothing, so the check of the queue adds its own time.
async fn assert_waiting_event_times_out_within_the_limit(sqs: &SqsServer, endpoint: &str) {
    let fail = async |with_fallback: bool| {
        let lambda = RuntimeApi::start().await;
        let waiting = lambda.send(WebhookRequest::signed(event(1), SECRET).http_api());
        let function = process(&lambda, sqs, with_fallback)
            .env("QUEUE_URL", sqs.queue_url("events.fifo"))
            .env("AWS_ENDPOINT_URL_SQS", endpoint)
            .start();
        let invocation = waiting.completed().await;
        let (limit, reason) = match with_fallback {
            true => (LIMIT_WITH_FALLBACK, "queue: timeout; fallback: timeout"),
            false => (LIMIT, "queue: timeout"),
        };
        let duration = invocation.completed - function.started();
        assert!(duration < limit + BUSY_MACHINE, "{duration:?}");
        let log: Value = serde_json::from_str(&function.wait_for_lines(1).await[0]).unwrap();
        assert_eq!((invocation.response().status, &log["reason"]), (503, &json!(reason)));
    };
    tokio::join!(fail(false), fail(true));
}

#[tokio::test]
async fn event_that_waits_for_the_start_times_out_within_the_limit() {
    let sqs = SqsServer::start().await;
    sqs.set_accept_mode(AcceptMode::Stall);
    assert_waiting_event_times_out_within_the_limit(&sqs, &sqs.endpoint()).await;
}

#[tokio::test]
async fn unfinished_response_times_out_within_the_limit() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        // Kept open, so that the rest of the body never arrives and the connection does not end.
        let mut open = Vec::new();
        while let Ok((mut stream, _)) = listener.accept() {
            let _ = stream.read(&mut [0; 65_536]);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"MessageId\":");
            open.push(stream);
        }
    });
    assert_waiting_event_times_out_within_the_limit(&SqsServer::start().await, &endpoint).await;
}

#[tokio::test]
async fn errors_of_both_queues_are_logged_and_do_not_persist() {
    let test_bed = TestBed::start_with_fallback().await;
    test_bed.sqs.script(&test_bed.events, [Fault::QueueDoesNotExist]);
    test_bed.sqs.script(FALLBACK, [Fault::AccessDenied]);
    let reason = "queue: AWS.SimpleQueueService.NonExistentQueue; fallback: AccessDeniedException";
    test_bed.deliver(&event(1)).await.assert_not_queued((1, 1), reason);
    test_bed.deliver(&event(1)).await.assert_queued((1, 0));
}

#[tokio::test]
async fn quarantined_body_uses_the_fallback() {
    let test_bed = TestBed::start_with_fallback().await;
    test_bed.sqs.script(&test_bed.quarantine, [Fault::AccessDenied]);
    let observed = test_bed.deliver("no JSON").await;
    observed.assert_queued((1, 1));
    assert_eq!((&observed.log["outcome"], outcome_metric(&observed.log)), (&json!("quarantined"), "Quarantined"));
    let messages = test_bed.sqs.messages(FALLBACK);
    assert_eq!(bodies(&messages), ["no JSON"]);
    assert_eq!(messages[0].attribute("Reason"), Some("not JSON: expected ident at line 1 column 2"));

    test_bed.sqs.script(&test_bed.quarantine, always(Fault::Throttle));
    test_bed.sqs.script(FALLBACK, always(Fault::InternalFailure));
    let reason = "queue: RequestThrottled; fallback: InternalFailure";
    test_bed.deliver("no JSON").await.assert_not_queued((3, 3), reason);
}

#[tokio::test]
async fn hanging_quarantine_queue_times_out_within_the_limit() {
    let test_bed = TestBed::start().await;
    test_bed.sqs.script(&test_bed.quarantine, always(Fault::Hang));
    test_bed.deliver("no JSON").await.assert_not_queued((3, 0), "queue: timeout");
}

#[tokio::test]
async fn closed_endpoint_fails_without_waiting() {
    let TestBed { lambda, sqs, function, .. } = TestBed::start_with_fallback().await;
    drop(sqs);
    let invocation = lambda.invoke(WebhookRequest::signed(event(1), SECRET).http_api()).await;
    let line = function.wait_for_lines(1).await.pop().unwrap();
    let observed = Observed { invocation, log: serde_json::from_str(&line).unwrap(), attempts: (0, 0) };
    observed.assert_consistent(NO_TIMEOUT);
    observed.assert_not_queued((0, 0), "queue: unreachable; fallback: unreachable");
}

#[tokio::test]
async fn stalled_and_reset_connections_fail_within_the_limit() {
    let test_bed = TestBed::start_with(SqsServer::start_tls().await, true, "events.fifo").await;
    test_bed.sqs.set_accept_mode(AcceptMode::Stall);
    test_bed.sqs.close_idle_after(Duration::ZERO);
    test_bed.sqs.all_connections_closed().await;
    test_bed.deliver(&event(1)).await.assert_not_queued((0, 0), "queue: timeout; fallback: timeout");
    test_bed.sqs.set_accept_mode(AcceptMode::Reset);
    let observed = test_bed.deliver(&event(1)).await;
    observed.assert_not_queued((0, 0), "queue: unreachable; fallback: unreachable");
    assert!(observed.duration() < NO_TIMEOUT, "{:?}", observed.duration());
    test_bed.sqs.set_accept_mode(AcceptMode::Serve);
    let observed = test_bed.deliver(&event(1)).await;
    observed.assert_queued((0, 1));
    assert_eq!(observed.log["reason"], "queue: not tried after unreachable");
}

/// Lambda freezes the process between two events, and the queue closes the idle connection meanwhile.
#[tokio::test]
async fn connection_closed_while_the_process_is_frozen_is_replaced() {
    for tls in [false, true] {
        let test_bed = TestBed::start_checked(tls).await;
        test_bed.deliver(&event(1)).await.assert_queued((1, 0));

        test_bed.function.signal("STOP");
        test_bed.sqs.close_idle_after(Duration::ZERO);
        test_bed.sqs.all_connections_closed().await;
        test_bed.sqs.close_idle_after(None);
        let second = test_bed.lambda.send(WebhookRequest::signed(event(2), SECRET).http_api());
        test_bed.function.signal("CONT");
        let invocation = second.completed().await;
        assert_eq!(invocation.response().status, 200);
        assert!(invocation.duration() < NO_TIMEOUT, "{:?}", invocation.duration());
        assert_eq!(bodies(&test_bed.sqs.messages(&test_bed.events)), [event(1), event(2)]);
        let connections: Vec<_> = test_bed.sqs.requests().iter().map(|request| request.connection).collect();
        assert_eq!(connections, [1, 1, 2], "the warm-up, the first event, the second event");
    }
}

/// The close of the connection and the request cross: the queue has read the request and does not respond.
#[tokio::test]
async fn connection_reset_during_a_request_is_retried() {
    let test_bed = TestBed::start_with(SqsServer::start_tls().await, false, "events.fifo").await;
    test_bed.deliver(&event(1)).await.assert_queued((1, 0));
    test_bed.sqs.script(&test_bed.events, [Fault::Reset]);
    test_bed.deliver(&event(2)).await.assert_queued((2, 0));
}

/// After an outage of the primary queue, the sender does not wait for it again.
#[tokio::test]
async fn fallback_is_tried_first_after_an_outage_of_the_primary_queue() {
    for (fault, attempts, reason) in [(Fault::Hang, 2, "timeout"), (Fault::KmsThrottle, 3, "KMS.ThrottlingException")] {
        let test_bed = TestBed::start_with_fallback().await;
        test_bed.sqs.script(&test_bed.events, always(fault));
        let observed = test_bed.deliver(&event(1)).await;
        observed.assert_queued((attempts, 1));
        assert_eq!(observed.log["reason"], format!("queue: {reason}"));
        for number in 2..5 {
            let observed = test_bed.deliver(&event(number)).await;
            observed.assert_queued((0, 1));
            assert_eq!(observed.log["reason"], format!("queue: not tried after {reason}"));
            assert!(observed.duration() < NO_TIMEOUT, "{:?}", observed.duration());
        }
        // The quarantine queue has had no outage.
        test_bed.deliver("no JSON").await.assert_queued((1, 0));
    }
}

/// The SDK's default retry token bucket is shared by the whole process and would be exhausted after some failures.
#[tokio::test]
async fn retries_are_not_exhausted_by_earlier_failures() {
    for with_fallback in [false, true] {
        let test_bed = TestBed::start_with(SqsServer::start().await, with_fallback, "events.fifo").await;
        test_bed.sqs.inject(|_| Some(Fault::InternalFailure));
        let (attempts, reason) = match with_fallback {
            true => ((3, 3), "queue: InternalFailure; fallback: InternalFailure"),
            false => ((3, 0), "queue: InternalFailure"),
        };
        for number in 0..60 {
            test_bed.deliver(&event(number)).await.assert_not_queued(attempts, reason);
        }
        test_bed.sqs.inject(|_| None);
        for queue in [&test_bed.events, FALLBACK] {
            test_bed.sqs.script(queue, [Fault::Reset]);
        }
        test_bed.deliver(&event(60)).await.assert_queued(if with_fallback { (0, 2) } else { (2, 0) });
    }
}

#[tokio::test]
async fn unreachable_queue_does_not_prevent_the_start() {
    let sqs = SqsServer::start().await;
    sqs.set_accept_mode(AcceptMode::Stall);
    let started = Instant::now();
    let test_bed = TestBed::start_with(sqs, false, "events.fifo").await;
    assert!(started.elapsed() < TIMEOUT);
    test_bed.sqs.set_accept_mode(AcceptMode::Serve);
    test_bed.deliver(&event(1)).await.assert_queued((1, 0));
    let errors = test_bed.function.stderr_lines();
    assert!(errors.iter().any(|line| line.contains("queue could not be checked")), "{errors:?}");
}

/// Deduplication works within one queue only.
#[tokio::test]
async fn lost_response_may_queue_an_event_in_the_fallback_too() {
    let test_bed = TestBed::start_with_fallback().await;
    test_bed.sqs.script(&test_bed.events, always(Fault::AcceptThenReset));
    test_bed.deliver(&event(1)).await.assert_queued((3, 1));
    for queue in [&test_bed.events, FALLBACK] {
        assert_eq!(bodies(&test_bed.sqs.messages(queue)), [event(1)]);
    }
}

/// A standard queue cannot recognize the message of a lost response.
#[tokio::test]
async fn lost_response_of_a_standard_queue_may_queue_an_event_twice() {
    let test_bed = TestBed::start_with(SqsServer::start().await, false, "events").await;
    test_bed.sqs.script(&test_bed.events, [Fault::AcceptThenReset]);
    test_bed.deliver(&event(1)).await.assert_queued((2, 0));
    assert_eq!(bodies(&test_bed.sqs.messages(&test_bed.events)), [event(1), event(1)]);
}
