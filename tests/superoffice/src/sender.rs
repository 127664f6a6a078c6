//! The webhook sender: three attempts for an event, and the end of all events after nine failures.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use crate::shared::Shared;
use crate::tenant::Event;
use crate::transport::Delivery;
use crate::webhook::Webhook;

/// The waits before the second and the third attempt, in seconds.
const WAITS: [f64; 2] = [1.0, 4.0];
/// The number of consecutive failed attempts that disables a webhook.
const MAX_CONSECUTIVE_ERRORS: u64 = 9;
/// The longest error that is stored, in characters.
const MAX_ERROR: usize = 4000;

/// Delivers waiting events, one after another, until the task is aborted.
pub(crate) async fn run(shared: Arc<Shared>, pace: f64) {
    loop {
        let Some(event) = shared.next_event().await else {
            continue;
        };
        let subscribers: Vec<i64> = {
            let tenant = shared.tenant();
            tenant
                .webhooks
                .values()
                .filter(|webhook| webhook.is_subscribed(&event.topic))
                .map(|webhook| webhook.id)
                .collect()
        };
        for webhook in subscribers {
            deliver(&shared, pace, webhook, &event).await;
        }
        shared.delivered();
    }
}

async fn deliver(shared: &Shared, pace: f64, webhook: i64, event: &Event) {
    for attempt in 0..=WAITS.len() {
        if attempt > 0 {
            tokio::time::sleep(Duration::from_secs_f64(WAITS[attempt - 1] * pace)).await;
        }
        let delivery = {
            let mut tenant = shared.tenant();
            let now = tenant.clock.now();
            let Some(webhook) = tenant.webhooks.get_mut(&webhook).filter(|webhook| webhook.is_subscribed(&event.topic))
            else {
                return;
            };
            webhook.total_calls += 1;
            webhook.last_event = Some(now);
            compose(webhook, &event.topic, &event.header_id, event.body.clone(), attempt)
        };
        let result = shared.deliver(delivery).await;
        let mut tenant = shared.tenant();
        let Some(stored) = tenant.webhooks.get_mut(&webhook) else {
            return;
        };
        let (status, error) = match result {
            Ok(reply) if reply.status == 200 => {
                stored.consecutive_errors = 0;
                return;
            }
            Ok(reply) => (reply.status, reply.text()),
            Err(error) => (0, error),
        };
        stored.total_errors += 1;
        stored.consecutive_errors += 1;
        stored.last_error = Some(error.chars().take(MAX_ERROR).collect());
        if stored.state() == "Active" && (stored.consecutive_errors >= MAX_CONSECUTIVE_ERRORS || status == 410) {
            tenant.set_property(webhook, "State", &json!("TooManyErrors"));
            return;
        }
    }
}

/// Composes the test, to which a webhook must respond with 200 before it is saved.
pub(crate) fn test(webhook: &Webhook, origin: [(String, Value); 3]) -> Delivery {
    let id = |first: char| format!("{first}1111111-1111-4111-8111-111111111111");
    let body = json!({"EventId": id('1'), "Changes": [], "Event": "test", "PrimaryKey": 0, "Entity": "test"});
    let Value::Object(mut body) = body else { unreachable!("the body is an object") };
    body.extend(origin);
    let mut delivery = compose(webhook, "test", &id('2'), body, 0);
    delivery.headers.push(("X-Hook-Test".into(), "true".into()));
    delivery
}

fn compose(webhook: &Webhook, topic: &str, id: &str, mut body: Map<String, Value>, attempt: usize) -> Delivery {
    body.insert("WebhookName".into(), json!(webhook.text("Name")));
    let own = |name| webhook.properties.get(name).and_then(Value::as_object).into_iter().flatten();
    for (name, value) in own("Properties") {
        body.entry(name.as_str()).or_insert_with(|| value.clone());
    }
    let body = Value::Object(body).to_string().into_bytes();
    let mut headers = vec![
        ("Content-Type".to_owned(), "application/json; charset=utf-8".to_owned()),
        ("User-Agent".to_owned(), "NetServer-Webhook/12.1".to_owned()),
        ("X-SuperOffice-Event".to_owned(), topic.to_owned()),
        ("X-SuperOffice-EventId".to_owned(), id.to_owned()),
    ];
    if attempt > 0 {
        headers.push(("X-SuperOffice-Retry".into(), attempt.to_string()));
    }
    if !webhook.text("Secret").is_empty() {
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, webhook.text("Secret").as_bytes());
        headers.push(("X-SuperOffice-Signature".into(), STANDARD.encode(ring::hmac::sign(&key, &body))));
    }
    headers.extend(own("Headers").filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))));
    Delivery { url: webhook.text("TargetUrl").to_owned(), headers, body }
}
