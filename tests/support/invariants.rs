//! What holds for every body and every signature header, whatever is in it. The property tests and the fuzz targets
//! look for one for which it does not.

#![allow(dead_code, reason = "each of its users needs a part")]

use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::FutureExt;
use lambda_http::Context;
use lambda_http::lambda_runtime::LambdaEvent;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use superoffice_webhook::delivery::{quarantined_body, read, read_verified};
use superoffice_webhook::forward::EventFilter;
use superoffice_webhook::gateway::Gateway;
use superoffice_webhook::message::{MAX_MESSAGE_BYTES, MessageFormat, QueueMessage};
use superoffice_webhook::queue::{Queue, QueueError, Route};
use superoffice_webhook::receiver::Receiver;
use superoffice_webhook::signature::{Secret, Verifier};

const SECRET: &str = "s3cret";

#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<QueueMessage>>>);

impl Queue for Kept {
    async fn send(&self, message: &QueueMessage, _trace_header: Option<&str>) -> Result<String, QueueError> {
        self.0.lock().unwrap().push(message.clone());
        Ok("message-1".into())
    }
}

struct Delivery {
    status: u16,
    answer: Value,
    line: Value,
    events: Vec<QueueMessage>,
    quarantine: Vec<QueueMessage>,
}

fn secret() -> Secret {
    Secret::new(SECRET).unwrap()
}

fn deliver(body: &[u8], signatures: &[&str], format: MessageFormat) -> Delivery {
    let (events, quarantine) = (Kept::default(), Kept::default());
    let route = |queue: &Kept| Route { queue: queue.clone(), fallback: None };
    let gateway = Gateway::new(Receiver {
        verifier: Verifier::new(secret()),
        forward: "*".parse::<EventFilter>().unwrap(),
        format,
        events: route(&events),
        quarantine: Some(route(&quarantine)),
    });
    let envelope = json!({
        "version": "1.0", "httpMethod": "POST", "path": "/", "resource": "/",
        "headers": {}, "multiValueHeaders": { "X-SuperOffice-Signature": signatures },
        "requestContext": { "httpMethod": "POST", "path": "/", "identity": {} },
        "body": STANDARD.encode(body), "isBase64Encoded": true
    });
    let event = LambdaEvent::new(serde_json::value::to_raw_value(&envelope).unwrap(), Context::default());
    let (answer, line) = gateway.answer(event).now_or_never().expect("nothing here waits");
    assert!(!line.contains('\n'), "one line: {line}");
    let answer = serde_json::to_value(&answer).unwrap();
    let taken = |queue: &Kept| std::mem::take(&mut *queue.0.lock().unwrap());
    Delivery {
        status: u16::try_from(answer["statusCode"].as_u64().unwrap()).unwrap(),
        answer: serde_json::from_str(answer["body"].as_str().unwrap()).unwrap(),
        line: serde_json::from_str(&line).unwrap(),
        events: taken(&events),
        quarantine: taken(&quarantine),
    }
}

/// Whatever is signed has one of the answers, and is in one of the queues as it came, or is a test, or cannot be queued.
pub(crate) fn any_signed_body(body: &[u8]) {
    let signature = secret().sign(body).to_string();
    for format in [MessageFormat::SuperOffice, MessageFormat::CloudEvents] {
        let delivery = deliver(body, &[&signature], format);
        let outcome = delivery.line["outcome"].as_str().unwrap();
        match (delivery.status, outcome, delivery.events.as_slice(), delivery.quarantine.as_slice()) {
            (200, "forwarded", [message], []) => {
                is_lossless(message, body, format);
                is_taken_by_sqs(message);
            }
            (200, "quarantined", [], [message]) => {
                let encoding = attribute(message, "Encoding");
                assert_eq!(quarantined_body(&message.body, encoding).unwrap(), body);
                assert!(!attribute(message, "Reason").unwrap().contains('\n'));
                is_taken_by_sqs(message);
            }
            (200, "test", [], []) => {
                // Value does not read lone surrogates, which the function passes over.
                if let Ok(value) = serde_json::from_slice::<Value>(body) {
                    assert!(value["Event"].as_str().unwrap().eq_ignore_ascii_case("test"));
                }
            }
            (400, "rejected", [], []) => assert!(body.is_empty()),
            (413, "failed", [], []) => assert!(body.len() > MAX_MESSAGE_BYTES / 2, "{} bytes", body.len()),
            (status, outcome, ..) => panic!("{status} {outcome}: {}", delivery.line),
        }
        let metrics = ["Forwarded", "Tested", "Ignored", "Quarantined", "Rejected", "Failed"];
        assert_eq!(metrics.iter().map(|metric| delivery.line[metric].as_u64().unwrap()).sum::<u64>(), 1);
    }
}

/// Only the signature of the body lets it in, as its one base64 text; everything else has one and the same answer.
pub(crate) fn any_signature(body: &[u8], headers: &[&[u8]]) {
    let right = secret().sign(body).to_string();
    let is_right = headers == [right.as_bytes()];
    let verified = Verifier::new(secret()).verify(body.to_vec(), headers);
    assert_eq!(verified.is_ok(), is_right);

    // Through the gateway, which has text.
    let Ok(texts) = headers.iter().map(|header| std::str::from_utf8(header)).collect::<Result<Vec<_>, _>>() else {
        return;
    };
    // What is no header is no delivery.
    if texts.iter().any(|text| text.chars().any(|c| c.is_control())) {
        return;
    }
    let delivery = deliver(body, &texts, MessageFormat::SuperOffice);
    if !is_right {
        let refusal =
            json!({"title": "Unauthorized", "status": 401, "detail": "The request is not signed as it has to be."});
        assert_eq!((delivery.status, &delivery.answer), (401, &refusal), "{}", delivery.line);
        assert!(delivery.events.is_empty() && delivery.quarantine.is_empty());
        for field in ["event", "eventId", "contextIdentifier", "primaryKey", "messageId", "secret"] {
            assert!(delivery.line.get(field).is_none(), "{}", delivery.line);
        }
    } else {
        assert_ne!(delivery.status, 401, "{}", delivery.line);
    }
}

fn attribute<'m>(message: &'m QueueMessage, name: &str) -> Option<&'m str> {
    message.attributes.iter().find(|attribute| attribute.name == name).map(|attribute| attribute.value.as_str())
}

/// The message holds the body byte for byte, but for the two characters that are written as escapes.
fn is_lossless(message: &QueueMessage, body: &[u8], format: MessageFormat) {
    let sent = std::str::from_utf8(body).expect("only UTF-8 is forwarded");
    let expected: String = sent
        .chars()
        .map(|c| match c {
            '\u{FFFE}' => "\\ufffe".to_owned(),
            '\u{FFFF}' => "\\uffff".to_owned(),
            c => c.to_string(),
        })
        .collect();
    match format {
        MessageFormat::SuperOffice => assert_eq!(message.body, expected),
        MessageFormat::CloudEvents => {
            #[derive(serde::Deserialize)]
            struct CloudEvent<'m> {
                specversion: String,
                id: String,
                source: String,
                r#type: String,
                subject: String,
                #[serde(borrow)]
                data: &'m RawValue,
            }
            let event: CloudEvent<'_> = serde_json::from_str(&message.body).expect("a CloudEvents event");
            assert_eq!(event.data.get().trim(), expected.trim_matches([' ', '\t', '\r', '\n']));
            assert_eq!(event.specversion, "1.0");
            assert!(!event.id.is_empty() && event.source.starts_with("urn:superoffice:"));
            assert!(event.source.bytes().all(|b| b.is_ascii_graphic()), "{}", event.source);
            assert!(event.r#type.starts_with("com.superoffice.") && !event.subject.is_empty());
        }
    }
    // The attributes say what the body says, and consumers can read it, the signature included.
    if let Ok(value) = serde_json::from_slice::<Value>(body) {
        for name in ["Event", "EventId", "ContextIdentifier", "WebhookName", "Timestamp"] {
            if let Some(text) = attribute(message, name) {
                assert_eq!(value[name], text, "{name}");
            }
        }
        assert_eq!(
            attribute(message, "PrimaryKey").map(str::to_owned),
            value["PrimaryKey"].as_i64().map(|k| k.to_string())
        );
    }
    read(&message.body, |name| attribute(message, name)).expect("consumers read what is forwarded");
    if !sent.contains("\\u") {
        read_verified(&message.body, |name| attribute(message, name), &Verifier::new(secret())).expect("it is signed");
    }
}

/// SQS's documented limits.
fn is_taken_by_sqs(message: &QueueMessage) {
    let allowed = |text: &str| {
        text.chars()
            .all(|c| matches!(u32::from(c), 0x9 | 0xA | 0xD | 0x20..=0xD7FF | 0xE000..=0xFFFD | 0x1_0000..=0x10_FFFF))
    };
    assert!(!message.body.is_empty() && allowed(&message.body));
    assert!(message.attributes.len() <= 10);
    let mut size = message.body.len();
    for attribute in &message.attributes {
        assert!(!attribute.value.is_empty() && allowed(&attribute.value), "{}", attribute.name);
        match attribute.data_type {
            "String" => {}
            "Number" => assert!(attribute.value.parse::<i64>().is_ok()),
            other => panic!("{other}"),
        }
        size += attribute.name.len() + attribute.data_type.len() + attribute.value.len();
    }
    let names: std::collections::BTreeSet<_> = message.attributes.iter().map(|attribute| attribute.name).collect();
    assert_eq!(names.len(), message.attributes.len(), "each once");
    assert!(size <= 1_048_576 && message.size() == size, "{size}");
    for id in [&message.group_id, &message.deduplication_id] {
        assert!((1..=128).contains(&id.len()), "{id}");
        let punctuation = r##"!"#$%&'()*+,-./:;<=>?@[\]^_`{|}~"##;
        assert!(id.chars().all(|c| c.is_ascii_alphanumeric() || punctuation.contains(c)), "{id}");
    }
}
