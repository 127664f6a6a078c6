//! The function as a process, against queues that misbehave on cue: what the sender is told and when, how often each
//! queue was asked, what is in it afterwards, and what the log says.

#![expect(clippy::expect_used, reason = "a test fails by it")]

use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use harness::{Accepting, Answered, Behaviour, Envelope, Lambda, Message, PATIENCE, Process, Running, Sqs};
use serde_json::{Value, json};

const SECRET: &str = "faults-secret";
/// In another region and another account than the rest.
const FALLBACK: &str = "https://sqs.eu-west-1.amazonaws.com/999999999999/fallback";
/// In which the sender must have its answer, whatever the queue does.
const LIMIT: Duration = Duration::from_secs(8);
const LIMIT_WITH_FALLBACK: Duration = Duration::from_secs(10);
/// Far less than one hanging attempt costs.
const SOON: Duration = Duration::from_millis(1900);

/// The function with its surroundings.
struct Stand {
    lambda: Lambda,
    sqs: Sqs,
    function: Running,
    events: String,
    quarantine: String,
    with_fallback: bool,
}

/// What became of a delivery.
struct Seen {
    answered: Answered,
    line: Value,
    /// How often the first queue was asked, and the fallback.
    attempts: (u64, u64),
}

impl Stand {
    async fn start(with_fallback: bool) -> Self {
        Self::start_with(Sqs::plain().await, with_fallback, "events.fifo").await
    }

    async fn start_with(sqs: Sqs, with_fallback: bool, queue: &str) -> Self {
        let lambda = Lambda::start().await;
        let (events, quarantine) = (sqs.queue_url(queue), sqs.queue_url("quarantine"));
        let mut process = Process::new(env!("CARGO_BIN_EXE_superoffice-webhook"))
            .envs(lambda.environment())
            .envs(sqs.environment())
            .env("SUPEROFFICE_WEBHOOK_SECRET", SECRET)
            .env("QUEUE_URL", &events)
            .env("QUARANTINE_QUEUE_URL", &quarantine);
        if with_fallback {
            process = process.env("FALLBACK_QUEUE_URL", FALLBACK);
        }
        let function = process.start();
        lambda.first_poll().await;
        Self { lambda, sqs, function, events, quarantine, with_fallback }
    }

    /// Delivers a body, signed.
    async fn deliver(&self, body: &str) -> Seen {
        let queue = if body.starts_with('{') { &self.events } else { &self.quarantine };
        let attempts = || (self.sqs.counts(queue).received, self.sqs.counts(FALLBACK).received);
        let (before, lines) = (attempts(), self.function.line_count());
        let answered = self.lambda.invoke(Envelope::signed(body, SECRET).v2()).await;
        let line = self.function.wait_for_lines(lines + 1).await.pop().expect("waited for");
        let after = attempts();
        let line = serde_json::from_str(&line).expect("a line is JSON");
        let seen = Seen { answered, line, attempts: (after.0 - before.0, after.1 - before.1) };
        seen.is_consistent(if self.with_fallback { LIMIT_WITH_FALLBACK } else { LIMIT });
        seen
    }

    fn signal(&self, signal: &str) {
        let kill = format!("kill -{signal} {}", self.function.pid());
        assert!(Command::new("sh").args(["-c", &kill]).status().expect("sh is there").success(), "{kill}");
    }
}

impl Seen {
    fn took(&self) -> Duration {
        self.answered.took()
    }

    /// What holds whatever happened: the time, one outcome, and a line that says what the sender was told.
    #[track_caller]
    fn is_consistent(&self, limit: Duration) {
        let (line, response) = (&self.line, self.answered.response());
        assert!(self.took() < limit, "{:?}: {line}", self.took());
        assert_eq!(line["status"], response.status);
        assert_eq!(line["requestId"], *self.answered.request_id);
        let outcomes = ["Forwarded", "Tested", "Ignored", "Quarantined", "Rejected", "Failed"];
        assert_eq!(outcomes.iter().filter_map(|outcome| line[outcome].as_u64()).sum::<u64>(), 1, "{line}");
        let latency = Duration::from_secs_f64(line["EnqueueLatency"].as_f64().expect("a queue was asked") / 1e3);
        assert!(latency <= self.took(), "{line}");
        assert!(latency + Duration::from_secs(1) > self.took(), "what takes time is the queue: {line}");
    }

    #[track_caller]
    fn is_queued(&self, attempts: (u64, u64)) {
        let body: Value = serde_json::from_str(&self.answered.response().body).expect("JSON");
        assert_eq!(self.answered.response().status, 200, "{}", self.line);
        assert_eq!(self.attempts, attempts, "{}", self.line);
        assert_eq!(self.line["outcome"], body["outcome"]);
        assert_eq!(self.line["messageId"], body["messageId"]);
        assert_eq!(self.line["FallbackUsed"], u64::from(attempts.1 > 0));
    }

    #[track_caller]
    fn is_for_a_retry(&self, attempts: (u64, u64), reason: &str) {
        let response = self.answered.response();
        assert_eq!(response.status, 503, "{}", self.line);
        assert_eq!(response.headers["retry-after"], "1");
        assert_eq!(response.headers["content-type"], "application/problem+json");
        let problem = json!({
            "title": "Service Unavailable",
            "status": 503,
            "detail": "The event could not be queued. Send it again."
        });
        assert_eq!(serde_json::from_str::<Value>(&response.body).expect("JSON"), problem);
        assert_eq!(self.attempts, attempts, "{}", self.line);
        assert_eq!(self.line["reason"], reason);
        assert_eq!((&self.line["outcome"], &self.line["Failed"]), (&json!("failed"), &json!(1)));
        assert_eq!((&self.line["FallbackUsed"], &self.line["messageId"]), (&json!(0), &Value::Null));
    }
}

fn event(number: u32) -> String {
    format!(
        r#"{{"EventId":"{number:08x}-0000-4000-8000-000000000000","Event":"contact.changed","Entity":"contact","PrimaryKey":{number}}}"#
    )
}

fn always(behaviour: Behaviour) -> impl Iterator<Item = Behaviour> {
    std::iter::repeat_n(behaviour, 20)
}

fn bodies(messages: &[Arc<Message>]) -> Vec<&str> {
    messages.iter().map(|message| message.body.as_str()).collect()
}

/// A queue that misbehaves so often, and then no more: the event is queued after so many attempts.
async fn recovers(behaviours: &[Behaviour], within: Duration) {
    let stand = Stand::start(false).await;
    stand.sqs.script(&stand.events, behaviours.to_vec());
    let seen = stand.deliver(&event(1)).await;
    seen.is_queued((behaviours.len() as u64 + 1, 0));
    assert!(seen.took() < within, "{:?}", seen.took());
    assert_eq!(bodies(&stand.sqs.messages(&stand.events)), [event(1)], "once");
}

/// A queue that only misbehaves: without a fallback the sender is asked to come again, with one the event goes there.
async fn fails(behaviour: Behaviour, attempts: u64, reason: &str, within: Duration) {
    let alone = async {
        let stand = Stand::start(false).await;
        stand.sqs.script(&stand.events, always(behaviour.clone()));
        let seen = stand.deliver(&event(1)).await;
        seen.is_for_a_retry((attempts, 0), &format!("queue: {reason}"));
        assert!(seen.took() < within, "{:?}", seen.took());
        stand
    };
    let with_fallback = async {
        let stand = Stand::start(true).await;
        stand.sqs.script(&stand.events, always(behaviour.clone()));
        let seen = stand.deliver(&event(1)).await;
        // Half the time, so fewer attempts where each takes long.
        let attempts = if behaviour == Behaviour::Hang { 2 } else { attempts };
        seen.is_queued((attempts, 1));
        assert_eq!(seen.line["outcome"], "forwarded");
        assert!(seen.took() < within, "{:?}", seen.took());
        let messages = stand.sqs.messages(FALLBACK);
        assert_eq!(bodies(&messages), [event(1)]);
        assert_eq!(messages[0].attribute("EventId"), Some("00000001-0000-4000-8000-000000000000"));
        // The fallback is a standard queue, which takes neither.
        assert_eq!((&messages[0].group_id, &messages[0].deduplication_id), (&None, &None));
        let requests = stand.sqs.requests();
        let regions = |queue: &str| -> Vec<_> {
            requests.iter().filter(|request| request.queue_url == queue).map(|r| r.region.clone()).collect()
        };
        assert_eq!(regions(FALLBACK), [Some("eu-west-1".to_owned())]);
        assert!(regions(&stand.events).iter().all(|region| region.as_deref() == Some("eu-north-1")));
        stand
    };
    let (alone, with_fallback) = tokio::join!(alone, with_fallback);
    // What the queue took although it said otherwise is there; nothing else is.
    let taken = u64::from(behaviour == Behaviour::WrongMd5);
    assert_eq!(alone.sqs.counts(&alone.events).taken, taken);
    assert_eq!(with_fallback.sqs.counts(&with_fallback.events).taken, taken);
}

#[tokio::test]
async fn one_hanging_attempt_costs_a_second_one() {
    recovers(&[Behaviour::Hang], Duration::from_secs(4)).await;
}

#[tokio::test]
async fn a_lost_answer_does_not_queue_an_event_twice() {
    recovers(&[Behaviour::TakeThenReset, Behaviour::TakeThenReset], SOON).await;
    recovers(&[Behaviour::TakeThenHang], Duration::from_secs(4)).await;
}

#[tokio::test]
async fn what_a_retry_can_help_is_retried() {
    for behaviour in [
        Behaviour::InternalFailure,
        Behaviour::Unavailable,
        Behaviour::Throttle,
        Behaviour::Reset,
        Behaviour::Status(502),
        Behaviour::Status(504),
    ] {
        recovers(&[behaviour.clone(), behaviour], SOON).await;
    }
}

#[tokio::test]
async fn a_slow_answer_is_waited_for() {
    let stand = Stand::start(false).await;
    stand.sqs.script(&stand.events, [Behaviour::AnswerAfter(Duration::from_secs(1))]);
    stand.deliver(&event(1)).await.is_queued((1, 0));
}

#[tokio::test]
async fn a_queue_that_hangs_is_given_up_in_time() {
    fails(Behaviour::Hang, 3, "timeout", LIMIT).await;
}

#[tokio::test]
async fn a_queue_that_fails_is_given_up_after_three_attempts() {
    fails(Behaviour::InternalFailure, 3, "InternalFailure", SOON).await;
    fails(Behaviour::Throttle, 3, "RequestThrottled", SOON).await;
    fails(Behaviour::Reset, 3, "unreachable", SOON).await;
}

#[tokio::test]
async fn a_queue_that_refuses_is_not_asked_again() {
    fails(Behaviour::AccessDenied, 1, "AccessDeniedException", SOON).await;
    fails(Behaviour::QueueDoesNotExist, 1, "AWS.SimpleQueueService.NonExistentQueue", SOON).await;
    fails(Behaviour::Status(403), 1, "unusable answer", SOON).await;
}

#[tokio::test]
async fn a_queue_that_took_something_else_has_not_taken_the_event() {
    fails(Behaviour::WrongMd5, 1, "digest mismatch", SOON).await;

    let stand = Stand::start(false).await;
    stand.sqs.script(&stand.events, [Behaviour::WrongMd5]);
    stand.deliver(&event(1)).await.is_for_a_retry((1, 0), "queue: digest mismatch");
    stand.deliver(&event(1)).await.is_queued((1, 0));
    assert_eq!(stand.sqs.counts(&stand.events).taken, 1, "the sender's retry is not queued twice");
}

#[tokio::test]
async fn two_hanging_queues_are_given_up_in_time() {
    let stand = Stand::start(true).await;
    stand.sqs.behave(|_| Behaviour::Hang);
    stand.deliver(&event(1)).await.is_for_a_retry((2, 2), "queue: timeout; fallback: timeout");
}

#[tokio::test]
async fn the_log_says_what_both_queues_said() {
    let stand = Stand::start(true).await;
    stand.sqs.script(&stand.events, [Behaviour::QueueDoesNotExist]);
    stand.sqs.script(FALLBACK, [Behaviour::AccessDenied]);
    let reason = "queue: AWS.SimpleQueueService.NonExistentQueue; fallback: AccessDeniedException";
    stand.deliver(&event(1)).await.is_for_a_retry((1, 1), reason);
    // Neither fault sticks.
    stand.deliver(&event(1)).await.is_queued((1, 0));
}

#[tokio::test]
async fn quarantine_falls_back_too() {
    let stand = Stand::start(true).await;
    stand.sqs.script(&stand.quarantine, [Behaviour::AccessDenied]);
    let seen = stand.deliver("no JSON").await;
    seen.is_queued((1, 1));
    assert_eq!((&seen.line["outcome"], &seen.line["Quarantined"]), (&json!("quarantined"), &json!(1)));
    let messages = stand.sqs.messages(FALLBACK);
    assert_eq!(bodies(&messages), ["no JSON"]);
    assert_eq!(messages[0].attribute("Reason"), Some("not JSON: expected ident at line 1 column 2"));

    stand.sqs.script(&stand.quarantine, always(Behaviour::Throttle));
    stand.sqs.script(FALLBACK, always(Behaviour::InternalFailure));
    let reason = "queue: RequestThrottled; fallback: InternalFailure";
    stand.deliver("no JSON").await.is_for_a_retry((3, 3), reason);
}

#[tokio::test]
async fn a_hanging_quarantine_queue_is_given_up_in_time() {
    let stand = Stand::start(false).await;
    stand.sqs.script(&stand.quarantine, always(Behaviour::Hang));
    stand.deliver("no JSON").await.is_for_a_retry((3, 0), "queue: timeout");
}

#[tokio::test]
async fn an_endpoint_that_is_gone_is_said_at_once() {
    let Stand { lambda, sqs, function, .. } = Stand::start(true).await;
    drop(sqs);
    let answered = lambda.invoke(Envelope::signed(event(1), SECRET).v2()).await;
    let line = function.wait_for_lines(1).await.pop().expect("waited for");
    let seen = Seen { answered, line: serde_json::from_str(&line).expect("JSON"), attempts: (0, 0) };
    seen.is_consistent(SOON);
    seen.is_for_a_retry((0, 0), "queue: unreachable; fallback: unreachable");
}

#[tokio::test]
async fn connections_that_are_reset_or_never_open_are_given_up_in_time() {
    let stand = Stand::start_with(Sqs::tls().await, true, "events.fifo").await;
    stand.sqs.accept(Accepting::Stall);
    stand.sqs.close_idle_after(Duration::ZERO);
    stand.deliver(&event(1)).await.is_for_a_retry((0, 0), "queue: timeout; fallback: timeout");
    stand.sqs.accept(Accepting::Reset);
    let seen = stand.deliver(&event(1)).await;
    seen.is_for_a_retry((0, 0), "queue: unreachable; fallback: unreachable");
    assert!(seen.took() < SOON, "{:?}", seen.took());
    stand.sqs.accept(Accepting::Serve);
    stand.deliver(&event(1)).await.is_queued((1, 0));
}

/// Lambda freezes the process between two events; the queue closes the idle connection meanwhile.
#[tokio::test]
async fn a_connection_closed_while_the_process_was_frozen_costs_no_error() {
    for tls in [false, true] {
        let sqs = if tls { Sqs::tls().await } else { Sqs::plain().await };
        let stand = Stand::start_with(sqs, false, "events.fifo").await;
        stand.deliver(&event(1)).await.is_queued((1, 0));

        stand.signal("STOP");
        stand.sqs.close_idle_after(Duration::ZERO);
        stand.sqs.no_connection().await;
        stand.sqs.close_idle_after(None);
        let second = stand.lambda.send(Envelope::signed(event(2), SECRET).v2());
        stand.signal("CONT");
        let answered = second.answered().await;
        assert_eq!(answered.response().status, 200);
        assert!(answered.took() < SOON, "{:?}", answered.took());
        assert_eq!(bodies(&stand.sqs.messages(&stand.events)), [event(1), event(2)]);
        let connections: Vec<_> = stand.sqs.requests().iter().map(|request| request.connection).collect();
        assert_eq!(connections, [1, 1, 2], "opened in the init phase, used, and opened anew");
    }
}

/// The same, when the close crosses with the request: the queue has read it and will not answer.
#[tokio::test]
async fn a_connection_that_dies_under_a_request_costs_a_retry() {
    let stand = Stand::start_with(Sqs::tls().await, false, "events.fifo").await;
    stand.deliver(&event(1)).await.is_queued((1, 0));
    stand.sqs.script(&stand.events, [Behaviour::Reset]);
    stand.deliver(&event(2)).await.is_queued((2, 0));
}

/// The SDK's retries are rationed by default: after some failures there are none for a long time, in the whole process.
#[tokio::test]
async fn retries_do_not_run_out() {
    let stand = Stand::start(true).await;
    stand.sqs.behave(|_| Behaviour::InternalFailure);
    for number in 0..60 {
        let reason = "queue: InternalFailure; fallback: InternalFailure";
        stand.deliver(&event(number)).await.is_for_a_retry((3, 3), reason);
    }
    stand.sqs.behave(|_| Behaviour::Answer);
    stand.sqs.script(&stand.events, [Behaviour::Reset]);
    stand.deliver(&event(60)).await.is_queued((2, 0));
}

#[tokio::test]
async fn an_unreachable_queue_does_not_keep_the_function_from_starting() {
    let sqs = Sqs::plain().await;
    sqs.accept(Accepting::Stall);
    let started = Instant::now();
    let stand = Stand::start_with(sqs, false, "events.fifo").await;
    assert!(started.elapsed() < PATIENCE);
    stand.sqs.accept(Accepting::Serve);
    stand.deliver(&event(1)).await.is_queued((1, 0));
    let errors = stand.function.error_lines();
    assert!(errors.iter().any(|line| line.contains("queue could not be checked")), "{errors:?}");
}

/// Whatever the log level, and whatever the SDK, the HTTP client and the runtime have to say.
#[tokio::test]
async fn no_log_holds_a_body_a_secret_or_a_signature() {
    let (lambda, sqs) = (Lambda::start().await, Sqs::plain().await);
    let function = Process::new(env!("CARGO_BIN_EXE_superoffice-webhook"))
        .envs(lambda.environment())
        .envs(sqs.environment())
        .env("SUPEROFFICE_WEBHOOK_SECRET", SECRET)
        .env("QUEUE_URL", sqs.queue_url("events"))
        .env("AWS_LAMBDA_LOG_LEVEL", "TRACE")
        .start();
    let body = r#"{"EventId":"1","Event":"contact.changed","PrimaryKey":1,"Name":"Jane Doe"}"#;
    let signature = harness::sign(body.as_bytes(), SECRET);
    sqs.script(&sqs.queue_url("events"), [Behaviour::InternalFailure]);
    assert_eq!(lambda.invoke(Envelope::signed(body, SECRET).v2()).await.response().status, 200);
    assert_eq!(lambda.invoke(Envelope::signed(body, "forged").v2()).await.response().status, 401);
    function.wait_for_lines(2).await;
    for line in function.lines().iter().chain(&function.error_lines()) {
        for private in ["Jane Doe", SECRET, signature.as_str()] {
            assert!(!line.contains(private), "{private}: {line}");
        }
    }
}

/// A standard queue cannot tell a lost answer's message from the retry's.
#[tokio::test]
async fn on_a_standard_queue_a_lost_answer_may_queue_an_event_twice() {
    let stand = Stand::start_with(Sqs::plain().await, false, "events").await;
    stand.sqs.script(&stand.events, [Behaviour::TakeThenReset]);
    stand.deliver(&event(1)).await.is_queued((2, 0));
    assert_eq!(bodies(&stand.sqs.messages(&stand.events)), [event(1), event(1)]);
}
