//! Deliveries from API Gateway's envelope to the answer, the queue and the log line, with a queue that is made up.

#![expect(clippy::unwrap_used, reason = "a test fails by it")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use lambda_http::Context;
use lambda_http::lambda_runtime::LambdaEvent;
use serde_json::{Value, json};
use superoffice_webhook::forward::EventFilter;
use superoffice_webhook::gateway::Gateway;
use superoffice_webhook::message::{MessageFormat, QueueMessage};
use superoffice_webhook::queue::{Queue, QueueError, Route};
use superoffice_webhook::receiver::Receiver;
use superoffice_webhook::signature::{Secret, Verifier};

const SECRET: &str = "s3cret";
const TRACE: &str = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1";
const EVENT: &str = r#"{"EventId":"e1","Event":"contact.changed","PrimaryKey":7,"ContextIdentifier":"Cust1"}"#;

/// What the queues took: the queue, the message, and the trace that it came with.
type Taken = Vec<(&'static str, QueueMessage, Option<String>)>;

/// Takes every message, or refuses every one; keeps what it took.
#[derive(Clone)]
struct FakeQueue {
    name: &'static str,
    refusal: Option<QueueError>,
    panics: bool,
    taken: Arc<Mutex<Taken>>,
}

impl Queue for FakeQueue {
    async fn send(&self, message: &QueueMessage, trace_header: Option<&str>) -> Result<String, QueueError> {
        assert!(!self.panics, "the queue panics");
        if let Some(refusal) = &self.refusal {
            return Err(refusal.clone());
        }
        self.taken.lock().unwrap().push((self.name, message.clone(), trace_header.map(str::to_owned)));
        Ok(format!("message-in-{}", self.name))
    }
}

/// The function, and the queues behind it.
struct Function {
    receiver: Receiver<FakeQueue>,
    taken: Arc<Mutex<Taken>>,
}

impl Function {
    fn new() -> Self {
        let taken = Arc::default();
        let queue = |name| FakeQueue { name, refusal: None, panics: false, taken: Arc::clone(&taken) };
        let route = |name| Route { queue: queue(name), fallback: None };
        let receiver = Receiver {
            verifier: Verifier::new(Secret::new(SECRET).unwrap()),
            forward: EventFilter::default(),
            format: MessageFormat::SuperOffice,
            events: route("events"),
            quarantine: Some(route("quarantine")),
        };
        Self { receiver, taken }
    }

    fn with(mut self, change: impl FnOnce(&mut Receiver<FakeQueue>)) -> Self {
        change(&mut self.receiver);
        self
    }

    async fn invoke(&self, envelope: &Value) -> Delivery {
        let mut context = Context::default();
        context.request_id = "request-1".into();
        context.xray_trace_id = Some(TRACE.into());
        let payload = serde_json::value::to_raw_value(envelope).unwrap();
        let (answer, line) = Gateway::new(self.receiver.clone()).answer(LambdaEvent::new(payload, context)).await;
        let taken = std::mem::take(&mut *self.taken.lock().unwrap());
        let answer = serde_json::to_value(answer).unwrap();
        Delivery {
            status: answer["statusCode"].as_u64().unwrap().try_into().unwrap(),
            headers: serde_json::from_value(answer["headers"].clone()).unwrap(),
            body: serde_json::from_str(answer["body"].as_str().unwrap()).unwrap(),
            line: serde_json::from_str(&line).unwrap(),
            taken,
        }
    }
}

/// What became of a delivery.
struct Delivery {
    status: u16,
    headers: BTreeMap<String, String>,
    body: Value,
    line: Value,
    taken: Taken,
}

impl Delivery {
    #[track_caller]
    fn is(&self, status: u16, body: Value) {
        assert_eq!((self.status, &self.body), (status, &body), "{}", self.line);
        assert_eq!(self.line["status"], status);
        let content_type = if status == 200 { "application/json" } else { "application/problem+json" };
        assert_eq!(self.headers["content-type"], content_type);
        let metrics = ["Forwarded", "Tested", "Ignored", "Quarantined", "Rejected", "Failed"];
        let sum: u64 = metrics.iter().map(|name| self.line[name].as_u64().unwrap()).sum();
        assert_eq!(sum, 1, "one outcome and no other: {}", self.line);
    }

    #[track_caller]
    fn is_refused(&self, status: u16, metric: &str, reason: &str) {
        let (title, detail) = match status {
            400 if reason == "signed body is empty" => ("Bad Request", "The body is empty."),
            400 => ("Bad Request", "The body is not an event."),
            401 => ("Unauthorized", "The request is not signed as it has to be."),
            405 => ("Method Not Allowed", "Send events with POST."),
            413 => ("Payload Too Large", "The body is larger than a queue message can be."),
            500 => ("Internal Server Error", "The request could not be handled."),
            503 => ("Service Unavailable", "The event could not be queued. Send it again."),
            _ => panic!("{status} is none of the answers"),
        };
        self.is(status, json!({"title": title, "status": status, "detail": detail}));
        assert_eq!((&self.line[metric], &self.line["reason"]), (&json!(1), &json!(reason)));
        assert!(self.taken.is_empty());
    }

    #[track_caller]
    fn queued(&self) -> (&'static str, &QueueMessage) {
        let [(queue, message, trace)] = self.taken.as_slice() else {
            panic!("{} messages are queued", self.taken.len());
        };
        assert_eq!(trace.as_deref(), Some(TRACE));
        (queue, message)
    }
}

fn sign(body: impl AsRef<[u8]>) -> String {
    Secret::new(SECRET).unwrap().sign(body.as_ref()).to_string()
}

/// An envelope of payload 2.0 with these headers.
fn envelope(method: &str, headers: Value, body: &str) -> Value {
    json!({
        "version": "2.0", "routeKey": "$default", "rawPath": "/any/path", "rawQueryString": "", "headers": headers,
        "requestContext": {
            "accountId": "123456789012", "apiId": "api", "domainName": "api.execute-api.eu-north-1.amazonaws.com",
            "domainPrefix": "api", "requestId": "id", "routeKey": "$default", "stage": "$default",
            "time": "24/Nov/2026:03:00:00 +0000", "timeEpoch": 1_795_489_200_000_i64,
            "http": {"method": method, "path": "/any/path", "protocol": "HTTP/1.1", "sourceIp": "192.0.2.1", "userAgent": "test"},
        },
        "body": body, "isBase64Encoded": false,
    })
}

fn signed(body: &str) -> Value {
    envelope("POST", json!({"x-superoffice-signature": sign(body)}), body)
}

/// An envelope of payload 1.0 with these values of the signature header.
fn rest(signatures: &[&str], body: &str) -> Value {
    json!({
        "resource": "/webhook", "path": "/webhook", "httpMethod": "POST",
        "headers": {"X-SuperOffice-Signature": signatures.last()},
        "multiValueHeaders": {"X-SuperOffice-Signature": signatures},
        "queryStringParameters": null, "multiValueQueryStringParameters": null, "pathParameters": null,
        "stageVariables": null,
        "requestContext": {
            "accountId": "123456789012", "apiId": "api", "httpMethod": "POST", "identity": {"sourceIp": "192.0.2.1"},
            "path": "/prod/webhook", "protocol": "HTTP/1.1", "requestId": "id", "requestTimeEpoch": 1_795_489_200_000_i64,
            "resourceId": "r", "resourcePath": "/webhook", "stage": "prod",
        },
        "body": body, "isBase64Encoded": false,
    })
}

#[tokio::test]
async fn a_contact_event_is_forwarded() {
    let delivery = Function::new().invoke(&signed(EVENT)).await;
    delivery.is(200, json!({"outcome": "forwarded", "eventId": "e1", "messageId": "message-in-events"}));
    let (queue, message) = delivery.queued();
    assert_eq!((queue, message.body.as_str()), ("events", EVENT));
}

#[tokio::test]
async fn the_line_has_what_an_operator_looks_for() {
    let mut envelope = signed(EVENT);
    envelope["headers"]["x-superoffice-retry"] = json!("2");
    let mut line = Function::new().invoke(&envelope).await.line;
    assert!(line["EnqueueLatency"].take().is_f64());
    assert!(line["_aws"]["Timestamp"].take().as_u64().unwrap() > 1_700_000_000_000);
    let count = |name| json!({"Name": name, "Unit": "Count"});
    assert_eq!(
        line,
        json!({
            "_aws": {
                "Timestamp": null,
                "CloudWatchMetrics": [{
                    "Namespace": "SuperOfficeWebhook", "Dimensions": [["FunctionName"]],
                    "Metrics": [
                        count("Forwarded"), count("Tested"), count("Ignored"), count("Quarantined"), count("Rejected"),
                        count("Failed"), count("FallbackUsed"), count("WebhookDisabled"),
                        {"Name": "EnqueueLatency", "Unit": "Milliseconds"}, count("SenderRetries"),
                    ],
                }],
            },
            "FunctionName": "", "Forwarded": 1, "Tested": 0, "Ignored": 0, "Quarantined": 0, "Rejected": 0, "Failed": 0,
            "FallbackUsed": 0, "WebhookDisabled": 0, "EnqueueLatency": null, "SenderRetries": 2,
            "requestId": "request-1", "traceId": "1-5759e988-bd862e3fe1be46a994272793", "outcome": "forwarded",
            "status": 200, "event": "contact.changed", "eventId": "e1", "contextIdentifier": "Cust1", "primaryKey": 7,
            "messageId": "message-in-events", "bodyBytes": EVENT.len(), "secret": "current", "coldStart": true,
        })
    );
}

#[tokio::test]
async fn only_the_first_invocation_is_a_cold_start() {
    let gateway = Gateway::new(Function::new().receiver);
    let mut cold = Vec::new();
    for _ in 0..3 {
        let payload = serde_json::value::to_raw_value(&signed(EVENT)).unwrap();
        let (_, line) = gateway.answer(LambdaEvent::new(payload, Context::default())).await;
        cold.push(serde_json::from_str::<Value>(&line).unwrap()["coldStart"].clone());
    }
    assert_eq!(cold, [true, false, false]);
}

#[tokio::test]
async fn the_registration_probe_is_answered_and_not_queued() {
    let delivery = Function::new().invoke(&signed(r#"{"EventId":"p","Event":"Test","PrimaryKey":0}"#)).await;
    delivery.is(200, json!({"outcome": "test", "eventId": "p"}));
    assert!(delivery.taken.is_empty());
    Function::new().invoke(&signed(r#"{"Event":"test"}"#)).await.is(200, json!({"outcome": "test"}));
}

#[tokio::test]
async fn an_event_that_is_not_forwarded_is_ignored_whatever_its_key() {
    let delivery = Function::new().invoke(&signed(r#"{"EventId":"s","Event":"sale.created","PrimaryKey":"x"}"#)).await;
    delivery.is(200, json!({"outcome": "ignored", "eventId": "s"}));
    assert!(delivery.taken.is_empty());
}

#[tokio::test]
async fn what_is_not_understood_goes_to_quarantine() {
    for (body, reason) in [
        ("not JSON", "not JSON: expected ident at line 1 column 2"),
        (r#"{"EventId":"e1"}"#, "no usable Event"),
        (r#"{"Event":"contact.changed"}"#, "no usable EventId"),
        (r#"{"EventId":"e1","Event":"contact.changed","PrimaryKey":"7"}"#, "no usable PrimaryKey"),
    ] {
        let delivery = Function::new().invoke(&signed(body)).await;
        delivery.is(200, json!({"outcome": "quarantined", "messageId": "message-in-quarantine"}));
        assert_eq!(delivery.line["reason"], reason);
        let (queue, message) = delivery.queued();
        assert_eq!((queue, message.body.as_str()), ("quarantine", body));

        let without = Function::new().with(|receiver| receiver.quarantine = None).invoke(&signed(body)).await;
        without.is_refused(400, "Failed", &format!("{reason}; there is no quarantine queue"));
    }
}

#[tokio::test]
async fn a_request_that_is_not_signed_as_it_has_to_be_is_told_the_same_in_every_case() {
    let function = Function::new();
    let other = Secret::new("other").unwrap().sign(EVENT.as_bytes()).to_string();
    for (headers, reason) in [
        (json!({}), "signature header missing"),
        (json!({"x-superoffice-signature": "§"}), "signature is not base64"),
        (json!({"x-superoffice-signature": "AAAA"}), "signature is not 32 bytes long"),
        (json!({"x-superoffice-signature": other}), "signature mismatch"),
        (json!({"x-superoffice-signature": format!("{0},{0}", sign(EVENT))}), "signature header repeated"),
    ] {
        function.invoke(&envelope("POST", headers, EVENT)).await.is_refused(401, "Rejected", reason);
    }
}

#[tokio::test]
async fn a_rejected_request_is_logged_by_what_its_headers_claim_and_no_more() {
    let headers = json!({
        "x-superoffice-signature": sign("other"), "x-superoffice-event": "e".repeat(5000),
        "x-superoffice-eventid": "id\"", "x-superoffice-retry": "1",
    });
    let line = Function::new().invoke(&envelope("POST", headers, EVENT)).await.line;
    assert_eq!(line["claimedEvent"], "e".repeat(100));
    assert_eq!((&line["claimedEventId"], &line["claimedRetry"]), (&json!("id\""), &json!("1")));
    for name in ["event", "eventId", "contextIdentifier", "primaryKey", "secret", "SenderRetries"] {
        assert_eq!(line.get(name), None, "{name}");
    }
}

#[tokio::test]
async fn of_a_tenants_mismatch_nothing_in_the_body_is_logged() {
    let tenants = BTreeMap::from([("Cust1".to_owned(), vec![Secret::new("its own").unwrap()])]);
    let verifier = Verifier::with_tenants(Some(Secret::new(SECRET).unwrap()), None, tenants);
    let delivery = Function::new().with(|receiver| receiver.verifier = verifier).invoke(&signed(EVENT)).await;
    delivery.is_refused(401, "Rejected", "signature of another tenant");
    assert!(!delivery.line.to_string().contains("Cust1"));
}

#[tokio::test]
async fn a_signed_body_that_is_empty_is_refused() {
    Function::new().invoke(&signed("")).await.is_refused(400, "Rejected", "signed body is empty");
    let mut null = signed("");
    null["body"] = Value::Null;
    Function::new().invoke(&null).await.is_refused(400, "Rejected", "signed body is empty");
}

#[tokio::test]
async fn only_post_is_taken() {
    for method in ["GET", "PUT", "HEAD", "OPTIONS", "DELETE"] {
        let delivery = Function::new().invoke(&envelope(method, json!({}), "")).await;
        delivery.is_refused(405, "Rejected", "method is not POST");
        assert_eq!(delivery.headers["allow"], "POST");
    }
}

#[tokio::test]
async fn a_body_larger_than_a_message_is_refused() {
    let body = format!(r#"{{"EventId":"e1","Event":"contact.changed","PrimaryKey":7,"x":"{}"}}"#, "x".repeat(1 << 20));
    let delivery = Function::new().invoke(&signed(&body)).await;
    let reason = format!("the message would have {} bytes, more than 1048576", body.len() + 169);
    delivery.is_refused(413, "Failed", &reason);
    let junk = "x".repeat((1 << 20) + 1);
    assert_eq!(Function::new().invoke(&signed(&junk)).await.status, 413);
    let unsigned = Function::new().invoke(&envelope("POST", json!({}), &junk)).await;
    assert_eq!(unsigned.status, 401);
}

#[tokio::test]
async fn without_a_queue_the_sender_is_asked_to_come_again() {
    let refuse = |receiver: &mut Receiver<FakeQueue>| receiver.events.queue.refusal = Some(QueueError::Timeout);
    let delivery = Function::new().with(refuse).invoke(&signed(EVENT)).await;
    delivery.is_refused(503, "Failed", "queue: timeout");
    assert_eq!(delivery.headers["retry-after"], "1");
    assert!(delivery.line["EnqueueLatency"].is_f64());
}

#[tokio::test]
async fn the_fallback_takes_what_the_queue_does_not() {
    for body in [EVENT, "not JSON"] {
        let with_fallback = |route: &mut Route<FakeQueue>| {
            route.fallback = Some(FakeQueue { name: "fallback", ..route.queue.clone() });
            route.queue.refusal = Some(QueueError::Refused("AccessDenied".into()));
        };
        let function = Function::new().with(|receiver| {
            with_fallback(&mut receiver.events);
            receiver.quarantine.iter_mut().for_each(with_fallback);
        });
        let delivery = function.invoke(&signed(body)).await;
        assert_eq!((delivery.status, delivery.queued().0), (200, "fallback"));
        let reason = if body == EVENT {
            "queue: AccessDenied"
        } else {
            "not JSON: expected ident at line 1 column 2; queue: AccessDenied"
        };
        assert_eq!(delivery.line["reason"], reason);
        assert_eq!(
            (&delivery.body["messageId"], &delivery.line["FallbackUsed"]),
            (&json!("message-in-fallback"), &json!(1))
        );

        let neither = |route: &mut Route<FakeQueue>| {
            with_fallback(route);
            route.fallback.as_mut().unwrap().refusal = Some(QueueError::Unreachable);
        };
        let function = Function::new().with(|receiver| {
            neither(&mut receiver.events);
            receiver.quarantine.iter_mut().for_each(neither);
        });
        let delivery = function.invoke(&signed(body)).await;
        delivery.is_refused(503, "Failed", "queue: AccessDenied; fallback: unreachable");
    }
}

#[tokio::test]
async fn a_panic_is_answered() {
    let delivery = Function::new().with(|receiver| receiver.events.queue.panics = true).invoke(&signed(EVENT)).await;
    delivery.is_refused(500, "Failed", "panic");
}

#[tokio::test]
async fn an_envelope_that_cannot_be_read_is_answered() {
    let mut broken = signed(EVENT);
    broken["isBase64Encoded"] = json!(true);
    Function::new().invoke(&broken).await.is_refused(500, "Failed", "unreadable event of API Gateway");
    let mut rest = rest(&[&sign(EVENT)], EVENT);
    rest["isBase64Encoded"] = json!(true);
    Function::new().invoke(&rest).await.is_refused(500, "Failed", "unreadable event of API Gateway");
    for other in [json!({}), json!([1]), json!({"Records": []})] {
        Function::new().invoke(&other).await.is_refused(500, "Failed", "not an event of API Gateway");
    }
}

#[tokio::test]
async fn a_disabled_webhook_is_counted_whatever_is_forwarded() {
    let delivery = Function::new().invoke(&signed(r#"{"EventId":"w","Event":"webhook.errors"}"#)).await;
    delivery.is(200, json!({"outcome": "ignored", "eventId": "w"}));
    assert_eq!(delivery.line["WebhookDisabled"], 1);
}

#[tokio::test]
async fn a_rest_api_is_answered_as_an_http_api_is() {
    let function = Function::new();
    let signature = sign(EVENT);
    let delivery = function.invoke(&rest(&[&signature], EVENT)).await;
    delivery.is(200, json!({"outcome": "forwarded", "eventId": "e1", "messageId": "message-in-events"}));

    // Of a repeated header the REST API's single-value map has the last one: it must not count alone.
    let repeated = function.invoke(&rest(&["AAAA", &signature], EVENT)).await;
    repeated.is_refused(401, "Rejected", "signature header repeated");
    let mut unsigned = rest(&[&signature], EVENT);
    unsigned["headers"] = json!({});
    unsigned["multiValueHeaders"] = Value::Null;
    function.invoke(&unsigned).await.is_refused(401, "Rejected", "signature header missing");
}

#[tokio::test]
async fn neither_the_path_nor_other_headers_keep_an_event_back() {
    let mut http = signed(EVENT);
    http["rawPath"] = json!("/a b/ø//%zz");
    http["rawQueryString"] = json!("a=\"{}<>\"&b=ø");
    http["headers"]["x-own"] = json!("blåbær");
    http["headers"]["host"] = json!("no host: at/all");
    assert_eq!(Function::new().invoke(&http).await.status, 200);

    let mut rest = rest(&[&sign(EVENT)], EVENT);
    rest["path"] = json!("/a b/ø//%zz");
    rest["queryStringParameters"] = json!({"a\"": "<ø>"});
    rest["multiValueQueryStringParameters"] = json!({"a\"": ["<ø>", " "]});
    rest["headers"]["Host"] = json!("no host: at/all");
    rest["multiValueHeaders"]["Host"] = json!(["no host: at/all"]);
    assert_eq!(Function::new().invoke(&rest).await.status, 200);
}

#[tokio::test]
async fn a_function_url_hands_out_the_body_in_base64() {
    let body = "{\"EventId\":\"e1\",\"Event\":\"contact.changed\",\"PrimaryKey\":7,\"x\":\"\u{FFFF} ø\\u00e6\"} \r\n";
    let mut envelope = signed(body);
    envelope["isBase64Encoded"] = json!(true);
    // base64 of the body, by Python.
    envelope["body"] = json!(
        "eyJFdmVudElkIjoiZTEiLCJFdmVudCI6ImNvbnRhY3QuY2hhbmdlZCIsIlByaW1hcnlLZXkiOjcsIngiOiLvv78gw7hcdTAwZTYifSANCg=="
    );
    let delivery = Function::new().invoke(&envelope).await;
    assert_eq!(delivery.status, 200);
    assert_eq!(delivery.queued().1.body, body.replace('\u{FFFF}', "\\uffff"));
}
