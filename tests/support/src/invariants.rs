//! Properties of every request, for any body and any signature header. Property tests and fuzz targets search for a
//! counterexample.

use std::collections::BTreeSet;

use futures_util::FutureExt;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use superoffice_webhook::function::EventFilter;
use superoffice_webhook::message::{MAX_MESSAGE_BYTES, MessageFormat, QueueMessage};
use superoffice_webhook::{QueuedEvent, Secret, Verifier, decode_quarantined_body};

use crate::api_gateway::{WebhookRequest, sign};
use crate::function::{Delivery, Function, attribute};
use crate::outcome_metric;

fn verifier() -> Verifier {
    Verifier::new(Secret::new(Function::SECRET).unwrap())
}

/// Delivers a body as base64, so that it can be any bytes.
fn deliver(body: &[u8], signatures: &[&str], format: MessageFormat) -> Delivery {
    let function = Function::with(|handler| {
        handler.filter = "*".parse::<EventFilter>().unwrap();
        handler.format = format;
    });
    let request = WebhookRequest::unsigned(body).base64();
    let request = signatures.iter().fold(request, |request, signature| request.signature(*signature));
    function.invoke(&request.rest_api()).now_or_never().unwrap()
}

/// Checks that a signed body is never lost: it is in one queue, lossless and acceptable to SQS, or it is a registration
/// probe, empty, or too large. Returns the outcome with each message format.
///
/// # Panics
/// If it is lost.
pub fn check_signed_body(body: &[u8]) -> [String; 2] {
    let signature = sign(body, Function::SECRET);
    [MessageFormat::SuperOffice, MessageFormat::CloudEvents].map(|format| {
        let delivery = deliver(body, &[&signature], format);
        let outcome = delivery.log["outcome"].as_str().unwrap();
        let sent: Vec<_> = delivery.sent.iter().map(|sent| (sent.queue, &sent.message)).collect();
        match (delivery.response.status, outcome, sent.as_slice()) {
            (200, "forwarded", [("events", message)]) => {
                check_lossless(message, body, format);
                check_sqs_limits(message);
            }
            (200, "quarantined", [("quarantine", message)]) => {
                let encoding = attribute(message, "Encoding");
                assert_eq!(decode_quarantined_body(&message.body, encoding).unwrap(), body);
                assert!(!attribute(message, "Reason").unwrap().contains('\n'));
                check_sqs_limits(message);
            }
            (200, "test", []) => {
                // Value cannot represent lone surrogates, which the function accepts.
                if let Ok(value) = serde_json::from_slice::<Value>(without_bom(body)) {
                    assert!(value["Event"].as_str().unwrap().eq_ignore_ascii_case("test"));
                }
            }
            (400, "rejected", []) => assert!(body.is_empty()),
            (413, _, []) => assert!(body.len() > MAX_MESSAGE_BYTES / 2, "{} bytes", body.len()),
            (status, outcome, _) => panic!("{status} {outcome}: {}", delivery.log),
        }
        outcome_metric(&delivery.log);
        outcome.to_owned()
    })
}

/// Returns the body without a byte order mark before it.
fn without_bom(body: &[u8]) -> &[u8] {
    body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body)
}

/// Checks that a request is accepted only with one signature header, the base64 of the body's signature, and that every
/// other request has the same response.
///
/// # Panics
/// If another request is accepted, or the signed request is not.
pub fn check_signature_headers(body: &[u8], headers: &[&[u8]]) {
    let valid = sign(body, Function::SECRET);
    let is_valid = headers == [valid.as_bytes()];
    assert_eq!(verifier().authenticate("/webhook", body.to_vec(), headers).is_ok(), is_valid);

    // An API Gateway event contains text without control characters.
    let Ok(texts) = headers.iter().map(|header| std::str::from_utf8(header)).collect::<Result<Vec<_>, _>>() else {
        return;
    };
    if texts.iter().any(|text| text.contains(char::is_control)) {
        return;
    }
    let delivery = deliver(body, &texts, MessageFormat::SuperOffice);
    if is_valid {
        assert_ne!(delivery.response.status, 401, "{}", delivery.log);
        return;
    }
    let problem =
        json!({"title": "Unauthorized", "status": 401, "detail": "The request signature is missing or invalid."});
    assert_eq!((delivery.response.status, delivery.response.json()), (401, problem), "{}", delivery.log);
    assert!(delivery.sent.is_empty());
    for field in ["event", "eventId", "contextIdentifier", "primaryKey", "messageId", "secret"] {
        assert_eq!(delivery.log.get(field), None, "{field}");
    }
}

/// The message contains the body byte for byte. `data` of a CloudEvents event has no byte order mark.
fn check_lossless(message: &QueueMessage, body: &[u8], format: MessageFormat) {
    let document = std::str::from_utf8(without_bom(body)).unwrap();
    match format {
        MessageFormat::SuperOffice => assert_eq!(message.body.as_bytes(), body),
        MessageFormat::CloudEvents => {
            #[derive(Deserialize)]
            struct CloudEvent<'m> {
                specversion: String,
                id: String,
                source: String,
                r#type: String,
                subject: String,
                #[serde(borrow)]
                data: &'m RawValue,
            }
            let event: CloudEvent<'_> = serde_json::from_str(&message.body).unwrap();
            assert_eq!(event.data.get().trim(), document.trim_matches([' ', '\t', '\r', '\n']));
            assert_eq!(event.specversion, "1.0");
            assert!(!event.id.is_empty() && event.source.starts_with("urn:superoffice:"));
            assert!(event.source.bytes().all(|byte| byte.is_ascii_graphic()), "{}", event.source);
            assert!(event.r#type.starts_with("com.superoffice.") && !event.subject.is_empty());
        }
    }
    // The attributes agree with the body.
    if let Ok(value) = serde_json::from_str::<Value>(document) {
        for name in ["Event", "EventId", "ContextIdentifier", "WebhookName", "Timestamp"] {
            if let Some(text) = attribute(message, name) {
                assert_eq!(value[name], text, "{name}");
            }
        }
        let primary_key = &value["PrimaryKey"];
        // `serde_json::Value` reads the integer `-0` as a float, like `-0.0`, which is not a usable key.
        if primary_key.as_f64().is_some_and(|key| key == 0.0 && key.is_sign_negative()) {
            assert!(matches!(attribute(message, "PrimaryKey"), None | Some("0")));
        } else {
            assert_eq!(attribute(message, "PrimaryKey"), primary_key.as_i64().map(|key| key.to_string()).as_deref());
        }
    }
    // Consumers can decode the message, and verify it again.
    let event = QueuedEvent::from_message(&message.body, |name| attribute(message, name)).unwrap();
    let verified = QueuedEvent::from_message_verified(&message.body, |name| attribute(message, name), &verifier());
    assert_eq!(verified.unwrap(), event);
}

/// The message is within the documented limits of SQS.
fn check_sqs_limits(message: &QueueMessage) {
    let is_allowed =
        |c| matches!(u32::from(c), 0x9 | 0xA | 0xD | 0x20..=0xD7FF | 0xE000..=0xFFFD | 0x1_0000..=0x10_FFFF);
    assert!(!message.body.is_empty() && message.body.chars().all(is_allowed));
    assert!(message.attributes.len() <= 10);
    let mut size = message.body.len();
    for attribute in &message.attributes {
        assert!(!attribute.value.is_empty() && attribute.value.chars().all(is_allowed), "{}", attribute.name);
        match attribute.data_type {
            "String" => {}
            "Number" => assert!(attribute.value.parse::<i64>().is_ok()),
            other => panic!("{other}"),
        }
        size += attribute.name.len() + attribute.data_type.len() + attribute.value.len();
    }
    let names: BTreeSet<_> = message.attributes.iter().map(|attribute| attribute.name).collect();
    assert_eq!(names.len(), message.attributes.len(), "repeated attribute");
    assert!(size <= 1_048_576 && message.size() == size, "{size}");
    for id in [&message.group_id, &message.deduplication_id].into_iter().chain(&message.tenant_group_id) {
        assert!((1..=128).contains(&id.len()), "{id}");
        let punctuation = r##"!"#$%&'()*+,-./:;<=>?@[\]^_`{|}~"##;
        assert!(id.chars().all(|c| c.is_ascii_alphanumeric() || punctuation.contains(c)), "{id}");
    }
}
