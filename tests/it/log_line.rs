//! The log line of a request.

use serde_json::{Map, Value, json};
use superoffice_webhook::function::QueueError;
use test_support::{Fault, Function, RuntimeApi, SqsServer, WebhookRequest, sign};

use crate::function_process;

const EVENT: &str = r#"{"EventId":"e1","Event":"contact.changed","PrimaryKey":7,"ContextIdentifier":"Cust1"}"#;

fn signed(body: &str) -> WebhookRequest {
    WebhookRequest::signed(body, Function::SECRET)
}

/// Invokes a function. Returns the metrics and the properties of its log line, without the two times.
async fn log_line(function: &Function, request: &WebhookRequest) -> (Value, Value) {
    let mut log = function.invoke(&request.http_api()).await.log;
    let properties = log.as_object_mut().unwrap();
    let directives = properties.remove("_aws").unwrap();
    assert!(directives["Timestamp"].as_u64().unwrap() > 1_700_000_000_000);
    let [directive] = directives["CloudWatchMetrics"].as_array().unwrap().as_slice() else { panic!("{directives}") };
    assert_eq!(directive["Namespace"], "SuperOfficeWebhook");
    assert_eq!(directive["Dimensions"], json!([["FunctionName"]]));
    let mut metrics = Map::new();
    for metric in directive["Metrics"].as_array().unwrap() {
        let name = metric["Name"].as_str().unwrap();
        let value = properties.remove(name).unwrap();
        let is_duration = ["EnqueueLatency", "DeliveryDelay"].contains(&name);
        assert_eq!(metric["Unit"], if is_duration { "Milliseconds" } else { "Count" });
        assert!(value.as_f64().unwrap() > 0.0, "{name}");
        metrics.insert(name.to_owned(), if is_duration { "measured".into() } else { value });
    }
    (metrics.into(), log)
}

#[tokio::test]
async fn forwarded_event_is_logged_with_its_metadata() {
    let event = EVENT.replace('}', r#","Timestamp":"2026-03-16T08:14:22.5170413Z"}"#);
    let request = signed(&event).header("X-SuperOffice-Retry", "2");
    let (metrics, properties) = log_line(&Function::new(), &request).await;
    assert_eq!(
        metrics,
        json!({"Forwarded": 1, "EnqueueLatency": "measured", "SenderRetries": 2, "DeliveryDelay": "measured"})
    );
    assert_eq!(
        properties,
        json!({
            "FunctionName": "", "requestId": "request-1", "traceId": "1-5759e988-bd862e3fe1be46a994272793",
            "outcome": "forwarded", "status": 200, "event": "contact.changed", "eventId": "e1",
            "contextIdentifier": "Cust1", "primaryKey": 7, "messageId": "message-in-events", "bodyBytes": event.len(),
            "secret": "current", "coldStart": true,
        })
    );
}

#[tokio::test]
async fn quarantined_body_in_the_fallback_queue_is_logged_with_both_reasons() {
    let function = Function::with(|handler| {
        let queue = handler.quarantine.as_mut().unwrap();
        queue.fallback = Some(queue.primary.another("fallback"));
        queue.primary.fail(QueueError::Timeout);
    });
    let (metrics, properties) = log_line(&function, &signed("not JSON")).await;
    assert_eq!(metrics, json!({"Quarantined": 1, "FallbackUsed": 1, "EnqueueLatency": "measured"}));
    assert_eq!(
        properties,
        json!({
            "FunctionName": "", "requestId": "request-1", "traceId": "1-5759e988-bd862e3fe1be46a994272793",
            "outcome": "quarantined", "status": 200,
            "reason": "not JSON: expected ident at line 1 column 2; queue: timeout",
            "messageId": "message-in-fallback", "bodyBytes": 8, "secret": "current", "coldStart": true,
        })
    );
}

#[tokio::test]
async fn rejected_request_is_logged_with_its_claims_truncated() {
    let request = WebhookRequest::signed(EVENT, "another secret")
        .header("X-SuperOffice-Event", "e".repeat(5000))
        .header("X-SuperOffice-EventId", "id\"")
        .header("X-SuperOffice-Retry", "1");
    let (metrics, properties) = log_line(&Function::new(), &request).await;
    assert_eq!(metrics, json!({"Rejected": 1}));
    assert_eq!(
        properties,
        json!({
            "FunctionName": "", "requestId": "request-1", "traceId": "1-5759e988-bd862e3fe1be46a994272793",
            "outcome": "rejected", "status": 401, "reason": "signature mismatch", "bodyBytes": EVENT.len(),
            "coldStart": true, "claimedEvent": "e".repeat(100), "claimedEventId": "id\"", "claimedRetry": "1",
        })
    );
}

#[tokio::test]
async fn failed_request_is_logged_with_its_reason() {
    let function = Function::with(|handler| handler.events.primary.fail(QueueError::Unreachable));
    let (metrics, properties) = log_line(&function, &signed(EVENT)).await;
    assert_eq!(metrics, json!({"Failed": 1, "EnqueueLatency": "measured"}));
    assert_eq!(
        properties,
        json!({
            "FunctionName": "", "requestId": "request-1", "traceId": "1-5759e988-bd862e3fe1be46a994272793",
            "outcome": "failed", "status": 503, "reason": "queue: unreachable", "event": "contact.changed",
            "eventId": "e1", "contextIdentifier": "Cust1", "primaryKey": 7, "bodyBytes": EVENT.len(),
            "secret": "current", "coldStart": true,
        })
    );
}

#[tokio::test]
async fn only_the_first_invocation_is_a_cold_start() {
    let function = Function::new();
    let mut cold_starts = Vec::new();
    for _ in 0..3 {
        cold_starts.push(function.invoke(&signed(EVENT).http_api()).await.log["coldStart"].clone());
    }
    assert_eq!(cold_starts, [true, false, false]);
}

/// At every log level of the function, the SDK, the HTTP client and the Lambda runtime, in both log formats.
#[tokio::test]
async fn no_output_contains_a_body_a_secret_or_a_signature() {
    for format in [None, Some("JSON")] {
        assert_output_contains_nothing_private(format).await;
    }
}

async fn assert_output_contains_nothing_private(format: Option<&str>) {
    let (lambda, sqs, secret) = (RuntimeApi::start().await, SqsServer::start().await, "the-shared-secret");
    let queue = sqs.queue_url("events");
    let mut function = function_process(&lambda, &sqs)
        .env("SUPEROFFICE_WEBHOOK_SECRET", secret)
        .env("QUEUE_URL", &queue)
        .env("QUARANTINE_QUEUE_URL", sqs.queue_url("quarantine"))
        .env("AWS_LAMBDA_LOG_LEVEL", "TRACE")
        .env("RUST_LOG", "trace")
        .envs(format.map(|format| ("AWS_LAMBDA_LOG_FORMAT", format)))
        .start();
    let body = r#"{"EventId":"1","Event":"contact.changed","PrimaryKey":1,"Name":"Jane Doe"}"#;
    let malformed = &body[..body.len() - 1];
    sqs.script(&queue, [Fault::InternalFailure]);
    for (request, status) in [
        (WebhookRequest::signed(body, secret), 200),
        (WebhookRequest::signed(body, "another secret"), 401),
        (WebhookRequest::signed(malformed, secret), 200),
    ] {
        assert_eq!(lambda.invoke(request.http_api()).await.response().status, status);
    }
    let lines = function.wait_for_lines(3).await;
    let statuses = lines.iter().map(|line| serde_json::from_str::<Value>(line).unwrap()["status"].clone());
    assert_eq!(statuses.collect::<Vec<_>>(), [json!(200), json!(401), json!(200)]);
    // Without the Runtime API, the process ends, and its output is complete.
    drop(lambda);
    function.wait().await;
    let is_json = |line: &String| serde_json::from_str::<Value>(line).is_ok();
    let diagnostics = function.stderr_lines();
    assert!(
        !diagnostics.is_empty() && diagnostics.iter().all(|line| is_json(line) == format.is_some()),
        "{diagnostics:?}"
    );
    for line in function.stdout_lines().iter().chain(&diagnostics) {
        for private in
            ["Jane Doe", secret, &sign(body, secret), &sign(body, "another secret"), &sign(malformed, secret)]
        {
            assert!(!line.contains(private), "{private}: {line}");
        }
    }
}
