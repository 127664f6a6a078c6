//! One HTTP request in process: response, messages and outcome.

use lambda_http::http::StatusCode;
use serde_json::{Value, json};
use superoffice_webhook::function::{QueueError, WithFallback};
use superoffice_webhook::message::MAX_MESSAGE_BYTES;
use test_support::{Delivery, Function, RecordingQueue, WebhookRequest, outcome_metric, sign};

const EVENT: &str = r#"{"EventId":"e1","Event":"contact.changed","PrimaryKey":7,"ContextIdentifier":"Cust1"}"#;

/// The size of the attributes of a [`padded_event`]: names, types and values.
const ATTRIBUTE_BYTES: usize = 192;

fn signed(body: impl Into<Vec<u8>>) -> WebhookRequest {
    WebhookRequest::signed(body, Function::SECRET)
}

/// Returns an event whose message has the given size, including attributes.
fn padded_event(message_bytes: usize) -> String {
    let event = |padding: &str| {
        format!(r#"{{"EventId":"e","Event":"contact.changed","PrimaryKey":7,"ContextIdentifier":"C","x":"{padding}"}}"#)
    };
    event(&"x".repeat(message_bytes - ATTRIBUTE_BYTES - event("").len()))
}

#[track_caller]
fn assert_accepted(delivery: &Delivery, metric: &str, body: Value) {
    assert_eq!((delivery.response.status, delivery.response.json()), (200, body), "{}", delivery.log);
    assert_eq!(delivery.response.headers["content-type"], "application/json");
    assert_eq!((&delivery.log["status"], outcome_metric(&delivery.log)), (&json!(200), metric));
}

/// Checks the problem document and the log line, and that nothing is queued.
#[track_caller]
fn assert_error(delivery: &Delivery, status: u16, detail: &str, metric: &str, reason: &str) {
    let title = StatusCode::from_u16(status).unwrap().canonical_reason();
    let problem = json!({"title": title, "status": status, "detail": detail});
    assert_eq!(delivery.response.json(), problem, "{}", delivery.log);
    assert_eq!(delivery.response.status, u64::from(status));
    assert_eq!(delivery.response.headers["content-type"], "application/problem+json");
    assert_eq!((&delivery.log["status"], &delivery.log["reason"]), (&json!(status), &json!(reason)));
    assert_eq!(outcome_metric(&delivery.log), metric);
    assert!(delivery.sent.is_empty(), "{} messages", delivery.sent.len());
}

#[track_caller]
fn assert_unauthorized(delivery: &Delivery, reason: &str) {
    let metric = if reason == "signature header missing" { "Unsigned" } else { "Rejected" };
    assert_error(delivery, 401, "The request signature is missing or invalid.", metric, reason);
}

#[tokio::test]
async fn contact_event_is_forwarded_in_every_payload_form() {
    let function = Function::new();
    for (form, event) in signed(EVENT).all_forms() {
        let delivery = function.invoke(&event).await;
        let body = json!({"outcome": "forwarded", "eventId": "e1", "messageId": "message-in-events"});
        assert_accepted(&delivery, "Forwarded", body);
        let sent = delivery.message();
        assert_eq!((sent.queue, sent.message.body.as_str()), ("events", EVENT), "{form}");
        assert_eq!(sent.trace_header.as_deref(), Some(Function::TRACE_HEADER));
    }
}

/// SuperOffice signs no header, so anyone can forge one.
#[tokio::test]
async fn event_with_forged_headers_is_forwarded_unchanged() {
    let function = Function::new();
    let expected = function.invoke(&signed(EVENT).http_api()).await.message().message.clone();
    for (name, value) in [
        ("X-Hook-Test", "true"),
        ("X-SuperOffice-Event", "test"),
        ("X-SuperOffice-Event", "sale.created"),
        ("X-SuperOffice-EventId", "forged"),
        ("X-SuperOffice-Retry", "9"),
        ("Content-Encoding", "gzip"),
        ("X-HTTP-Method-Override", "GET"),
    ] {
        for (form, event) in signed(EVENT).header(name, value).all_forms() {
            let delivery = function.invoke(&event).await;
            let body = json!({"outcome": "forwarded", "eventId": "e1", "messageId": "message-in-events"});
            assert_accepted(&delivery, "Forwarded", body);
            assert_eq!(delivery.message().message, expected, "{name}: {value} {form}");
        }
    }
}

/// Consumers deduplicate by the ids, which therefore do not depend on the form or on the number of the retry.
#[tokio::test]
async fn retried_event_has_the_same_message_in_every_payload_form() {
    let function = Function::new();
    let mut messages = Vec::new();
    for retry in ["0", "1", "2"] {
        for (_, event) in signed(EVENT).header("X-SuperOffice-Retry", retry).all_forms() {
            messages.push(function.invoke(&event).await.message().message.clone());
        }
    }
    messages.dedup();
    assert_eq!(messages.len(), 1);
}

#[tokio::test]
async fn base64_body_is_decoded_before_verification() {
    let body = "{\"EventId\":\"e1\",\"Event\":\"contact.changed\",\"PrimaryKey\":7,\"x\":\"\u{FFFD} ø\\u00e6\"} \r\n";
    let mut event = signed(body).base64().http_api();
    // The base64 of the body, computed with Python.
    event["body"] = json!(
        "eyJFdmVudElkIjoiZTEiLCJFdmVudCI6ImNvbnRhY3QuY2hhbmdlZCIsIlByaW1hcnlLZXkiOjcsIngiOiLvv70gw7hcdTAwZTYifSANCg=="
    );
    let delivery = Function::new().invoke(&event).await;
    assert_eq!(delivery.response.status, 200);
    assert_eq!(delivery.message().message.body, body);
}

#[tokio::test]
async fn registration_probe_is_accepted_and_not_queued() {
    let function = Function::new();
    for name in ["test", "TEST", "Test"] {
        let body = format!(r#"{{"EventId":"p","Event":"{name}","Entity":"test","PrimaryKey":0,"Changes":[]}}"#);
        for (_, event) in signed(body).header("X-Hook-Test", "true").all_forms() {
            let delivery = function.invoke(&event).await;
            assert_accepted(&delivery, "Tested", json!({"outcome": "test", "eventId": "p"}));
            assert!(delivery.sent.is_empty());
        }
    }
    let delivery = function.invoke(&signed(r#"{"Event":"test"}"#).http_api()).await;
    assert_accepted(&delivery, "Tested", json!({"outcome": "test"}));
}

#[tokio::test]
async fn event_outside_the_filter_is_ignored_and_needs_no_primary_key() {
    let function = Function::new();
    for name in ["sale.created", "person.changed", "contacts.changed", "webhook7.errors"] {
        for primary_key in ["", r#","PrimaryKey":"x""#] {
            let body = format!(r#"{{"EventId":"s","Event":"{name}"{primary_key}}}"#);
            for (_, event) in signed(body).all_forms() {
                let delivery = function.invoke(&event).await;
                assert_accepted(&delivery, "Ignored", json!({"outcome": "ignored", "eventId": "s"}));
                assert!(delivery.sent.is_empty());
            }
        }
    }
}

#[tokio::test]
async fn disabled_webhook_is_counted_even_if_its_event_is_ignored() {
    let delivery = Function::new().invoke(&signed(r#"{"EventId":"w","Event":"webhook.errors"}"#).http_api()).await;
    assert_accepted(&delivery, "Ignored", json!({"outcome": "ignored", "eventId": "w"}));
    assert_eq!(delivery.log["WebhookDisabled"], 1);
}

#[tokio::test]
async fn malformed_body_is_quarantined_or_returns_400_without_quarantine_queue() {
    let function = Function::new();
    let without_quarantine = Function::with(|handler| handler.quarantine = None);
    for (body, reason) in [
        ("not JSON", "not JSON: expected ident at line 1 column 2"),
        (r#"{"Event": "contact.changed",}"#, "not JSON: trailing comma at line 1 column 29"),
        (" \r\n", "not JSON: EOF while parsing a value at line 2 column 0"),
        (r#"["contact.changed"]"#, "not a JSON object"),
        (r#"{"EventId":"e1"}"#, "no usable Event"),
        (r#"{"EventId":"e1","Event":null}"#, "no usable Event"),
        (r#"{"EventId":"e1","Event":""}"#, "no usable Event"),
        (r#"{"EventId":"e1","Event":7}"#, "no usable Event"),
        (r#"{"EventId":"e1","Event":" contact.changed ","PrimaryKey":7}"#, "Event has whitespace around it"),
        (r#"{"EventId":"e1","Event":"test\n"}"#, "Event has whitespace around it"),
        (r#"{"Event":"contact.changed"}"#, "no usable EventId"),
        (r#"{"Event":"contact.changed","EventId":null}"#, "no usable EventId"),
        (r#"{"EventId":"e1","Event":"contact.changed"}"#, "no usable PrimaryKey"),
        (r#"{"EventId":"e1","Event":"contact.changed","PrimaryKey":null}"#, "no usable PrimaryKey"),
        (r#"{"EventId":"e1","Event":"contact.changed","PrimaryKey":1.5}"#, "no usable PrimaryKey"),
        (r#"{"EventId":"e1","Event":"contact.changed","PrimaryKey":"7"}"#, "no usable PrimaryKey"),
    ] {
        for (_, event) in signed(body).all_forms() {
            let delivery = function.invoke(&event).await;
            let response = json!({"outcome": "quarantined", "messageId": "message-in-quarantine"});
            assert_accepted(&delivery, "Quarantined", response);
            assert_eq!(delivery.log["reason"], reason);
            let sent = delivery.message();
            assert_eq!((sent.queue, sent.message.body.as_str()), ("quarantine", body));
            assert_eq!(sent.trace_header.as_deref(), Some(Function::TRACE_HEADER));

            let delivery = without_quarantine.invoke(&event).await;
            let reason = format!("{reason}; no quarantine queue is configured");
            assert_error(&delivery, 400, "The body is malformed.", "Failed", &reason);
        }
    }
}

#[tokio::test]
async fn signed_empty_body_returns_400() {
    let function = Function::new();
    let mut events = signed("").all_forms();
    let mut without_body = signed("").http_api();
    without_body["body"] = Value::Null;
    events.push(("2.0 null", without_body));
    for (_, event) in events {
        let delivery = function.invoke(&event).await;
        assert_error(&delivery, 400, "The body is empty.", "Rejected", "signed body is empty");
    }
}

#[tokio::test]
async fn invalid_signature_returns_the_same_401_in_every_case() {
    let function = Function::new();
    let valid = sign(EVENT, Function::SECRET);
    let (other_secret, other_body) = (sign(EVENT, "another secret"), sign(format!("{EVENT} "), Function::SECRET));
    let mut responses = Vec::new();
    for (signatures, reason) in [
        (vec![], "signature header missing"),
        (vec![String::new()], "signature is not 32 bytes long"),
        (vec![other_secret.clone()], "signature mismatch"),
        (vec![other_body], "signature mismatch"),
        (vec![valid.clone(), valid.clone()], "signature header repeated"),
        (vec![other_secret.clone(), valid.clone()], "signature header repeated"),
        (vec![valid.clone(), other_secret], "signature header repeated"),
        (vec!["§".into()], "signature is not base64"),
        (vec![valid.trim_end_matches('=').into()], "signature is not base64"),
        (vec!["-_".repeat(21) + "A="], "signature is not base64"),
        (vec![valid[..40].into()], "signature is not 32 bytes long"),
        (vec![format!("AAAA{valid}")], "signature is not 32 bytes long"),
        (vec![format!("{valid} ")], "signature is not base64"),
        (vec!["0b".repeat(32)], "signature is not 32 bytes long"),
    ] {
        let request = WebhookRequest::unsigned(EVENT);
        let request = signatures.iter().fold(request, |request, signature| request.signature(signature));
        for (_, event) in request.all_forms() {
            let delivery = function.invoke(&event).await;
            assert_unauthorized(&delivery, reason);
            responses.push(delivery.response);
        }
    }
    responses.dedup();
    assert_eq!(responses.len(), 1, "{responses:?}");
}

#[tokio::test]
async fn unsigned_body_returns_401_whatever_it_contains() {
    let function = Function::new();
    for body in ["", "{", "\0", EVENT] {
        for (_, event) in WebhookRequest::unsigned(body).all_forms() {
            assert_unauthorized(&function.invoke(&event).await, "signature header missing");
        }
    }
    let mut without_lists = WebhookRequest::unsigned(EVENT).rest_api();
    without_lists["multiValueHeaders"] = Value::Null;
    assert_unauthorized(&function.invoke(&without_lists).await, "signature header missing");
}

#[tokio::test]
async fn method_other_than_post_returns_405() {
    let function = Function::new();
    for method in ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"] {
        for (_, event) in signed(EVENT).method(method).all_forms() {
            let delivery = function.invoke(&event).await;
            assert_error(&delivery, 405, "Send events with POST.", "Unsigned", "method is not POST");
            assert_eq!(delivery.response.headers["allow"], "POST");
        }
    }
}

/// `src/function/request.rs` tests every field and any header.
#[tokio::test]
async fn path_query_and_other_headers_have_no_effect() {
    let function = Function::new();
    let expected = function.invoke(&signed(EVENT).http_api()).await.message().message.clone();
    let request = signed(EVENT).path("/a b/ø//%zz").header("X-Own", "blåbær").header("Host", "no host: at/all");
    let odd_name = request.clone().header("x-é", "1");
    for (mut event, path, value) in [
        (request.http_api(), "/rawQueryString", json!("a=\"{}<>\"&b=ø")),
        (request.http_api(), "/headers/user-agent", json!("A\u{7f}B")),
        (request.http_api(), "/headers/user-agent", Value::Null),
        (request.http_api(), "/requestContext/timeEpoch", json!("1773648863204")),
        (odd_name.http_api(), "/requestContext/http/sourceIp", json!(7)),
        (odd_name.rest_api(), "/queryStringParameters", json!({"a\"": "<ø>"})),
        (request.rest_api(), "/requestContext/identity", Value::Null),
        (request.rest_api(), "/multiValueHeaders/User-Agent", json!([null, 7, "A\u{7f}B"])),
    ] {
        *event.pointer_mut(path).unwrap() = value;
        assert_eq!(function.invoke(&event).await.message().message, expected, "{event}");
    }
}

#[tokio::test]
async fn largest_message_is_forwarded_and_one_byte_more_returns_413() {
    let function = Function::new();
    for (_, event) in signed(padded_event(MAX_MESSAGE_BYTES)).all_forms() {
        let delivery = function.invoke(&event).await;
        assert_eq!(delivery.response.status, 200, "{}", delivery.log);
        assert_eq!(delivery.message().message.size(), 1_048_576);
    }
    let reason = "message of 1048577 bytes exceeds the limit of 1048576";
    for (_, event) in signed(padded_event(MAX_MESSAGE_BYTES + 1)).all_forms() {
        let delivery = function.invoke(&event).await;
        assert_error(&delivery, 413, "The body is too large for a queue message.", "Failed", reason);
    }
}

#[tokio::test]
async fn body_over_1_mib_returns_413_whether_it_is_signed_or_not() {
    let function = Function::new();
    let body = "x".repeat(MAX_MESSAGE_BYTES + 1);
    let reason = "body of 1048577 bytes exceeds the limit of 1048576";
    for request in [signed(&*body), WebhookRequest::signed(&*body, "another secret"), WebhookRequest::unsigned(&*body)]
    {
        for (_, event) in request.all_forms() {
            let delivery = function.invoke(&event).await;
            assert_error(&delivery, 413, "The body is too large for a queue message.", "Rejected", reason);
        }
    }
    let largest = WebhookRequest::signed("x".repeat(MAX_MESSAGE_BYTES), "another secret");
    assert_eq!(function.invoke(&largest.http_api()).await.response.status, 401);
}

#[tokio::test]
async fn failed_queue_returns_503_with_retry_after() {
    let function = Function::with(|handler| handler.events.primary.fail(QueueError::Timeout));
    for (_, event) in signed(EVENT).all_forms() {
        let delivery = function.invoke(&event).await;
        assert_error(&delivery, 503, "The event could not be queued. Send it again.", "Failed", "queue: timeout");
        assert_eq!(delivery.response.headers["retry-after"], "1");
        assert!(delivery.log["EnqueueLatency"].is_number());
    }
}

fn fail_primary(queue: &mut WithFallback<RecordingQueue>) {
    queue.fallback = Some(queue.primary.another("fallback"));
    queue.primary.fail(QueueError::Rejected("AccessDenied".into()));
}

fn fail_both(queue: &mut WithFallback<RecordingQueue>) {
    fail_primary(queue);
    queue.fallback.as_mut().unwrap().fail(QueueError::Unreachable);
}

#[tokio::test]
async fn fallback_accepts_events_and_quarantined_bodies() {
    let function = Function::with(|handler| {
        fail_primary(&mut handler.events);
        fail_primary(handler.quarantine.as_mut().unwrap());
    });
    for (body, reason) in [
        (EVENT, "queue: AccessDenied"),
        ("not JSON", "not JSON: expected ident at line 1 column 2; queue: AccessDenied"),
    ] {
        let delivery = function.invoke(&signed(body).http_api()).await;
        assert_eq!((delivery.response.status, delivery.message().queue), (200, "fallback"));
        assert_eq!(delivery.response.json()["messageId"], "message-in-fallback");
        assert_eq!((&delivery.log["FallbackUsed"], &delivery.log["reason"]), (&json!(1), &json!(reason)));
    }
}

#[tokio::test]
async fn failed_fallback_returns_503_with_both_reasons_logged() {
    let function = Function::with(|handler| {
        fail_both(&mut handler.events);
        fail_both(handler.quarantine.as_mut().unwrap());
    });
    for body in [EVENT, "not JSON"] {
        let delivery = function.invoke(&signed(body).http_api()).await;
        let reason = "queue: AccessDenied; fallback: unreachable";
        assert_error(&delivery, 503, "The event could not be queued. Send it again.", "Failed", reason);
    }
}

#[tokio::test]
async fn panic_returns_500() {
    let function = Function::with(|handler| handler.events.primary.panic());
    for _ in 0..2 {
        let delivery = function.invoke(&signed(EVENT).http_api()).await;
        assert_error(&delivery, 500, "The request could not be handled.", "Failed", "panic");
        let next = function.invoke(&signed("not JSON").http_api()).await;
        assert_eq!((next.response.status, next.message().queue), (200, "quarantine"));
    }
}

#[tokio::test]
async fn event_that_is_no_http_request_returns_500_and_the_next_delivery_is_forwarded() {
    let marker = "marker in the request";
    let not_base64 = |mut event: Value| {
        event["body"] = json!(format!("*** {marker}"));
        event
    };
    let function = Function::new();
    for (event, reason) in [
        (not_base64(signed(EVENT).base64().http_api()), "request body is not base64"),
        (not_base64(signed(EVENT).base64().rest_api()), "request body is not base64"),
        (json!({"Records": [{"eventSource": "aws:s3", "body": marker}]}), "not an API Gateway event"),
        (json!({}), "not an API Gateway event"),
        (Value::Null, "not an API Gateway event"),
        (json!(7), "not an API Gateway event"),
        (json!([marker]), "not an API Gateway event"),
        (json!(marker), "not an API Gateway event"),
    ] {
        let delivery = function.invoke(&event).await;
        assert_error(&delivery, 500, "The request could not be handled.", "Failed", reason);
        assert!(!delivery.log.to_string().contains(marker));
        let next = function.invoke(&signed(EVENT).http_api()).await;
        assert_eq!(next.message().queue, "events");
    }
}
