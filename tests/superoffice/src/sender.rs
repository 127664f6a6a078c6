//! The webhook sender: three attempts for an event, and the end of all events after nine failures.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::future::BoxFuture;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use serde_json::{Map, Value, json};

use crate::api::Shared;
use crate::lock;
use crate::tenant::{Event, Webhook};

/// The waits before the second and the third attempt, in seconds.
const WAITS: [f64; 2] = [1.0, 4.0];
/// The number of consecutive failed attempts that disables a webhook.
const MAX_CONSECUTIVE_ERRORS: u64 = 9;
/// The longest error that is stored, in characters.
const MAX_ERROR: usize = 4000;

/// An HTTP request of the sender.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The webhook's URL.
    pub url: String,
    /// The headers.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

/// The response to a delivery.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

impl Reply {
    /// A response with an empty body.
    pub fn status(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: String::new() }
    }

    fn text(&self) -> String {
        let headers: String = self.headers.iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
        format!("HTTP {}\n{headers}\n{}", self.status, self.body)
    }
}

/// Makes a request; an error is a connection that failed.
pub type Transport = Arc<dyn Fn(Delivery) -> BoxFuture<'static, Result<Reply, String>> + Send + Sync>;

/// Resolves every name under `localhost` to the loopback address, as browsers do. Local gateways use such names.
struct LoopbackNames;

impl Resolve for LoopbackNames {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            if name.as_str().ends_with(".localhost") {
                let loopback: Addrs = Box::new(std::iter::once(SocketAddr::from(([127, 0, 0, 1], 0))));
                return Ok(loopback);
            }
            let addresses: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

/// Delivers over HTTP; `certificates` are PEM texts to trust besides the system's.
pub fn http_transport(certificates: &[String]) -> Transport {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let certificates = certificates
        .iter()
        .flat_map(|pem| reqwest::Certificate::from_pem_bundle(pem.as_bytes()).expect("certificates in PEM"));
    let client = reqwest::Client::builder()
        .timeout(Duration::from_secs(30))
        .redirect(reqwest::redirect::Policy::none())
        .tls_certs_merge(certificates)
        .dns_resolver(LoopbackNames)
        .build()
        .expect("a client with these certificates");
    Arc::new(move |delivery| {
        let client = client.clone();
        Box::pin(async move {
            let mut request = client.post(&delivery.url).body(delivery.body);
            for (name, value) in delivery.headers {
                request = request.header(name, value);
            }
            let response = request.send().await.map_err(|error| error.to_string())?;
            let status = response.status().as_u16();
            let header = |(name, value): (&reqwest::header::HeaderName, &reqwest::header::HeaderValue)| {
                (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())
            };
            let headers = response.headers().iter().map(header).collect();
            let body = response.text().await.map_err(|error| error.to_string())?;
            Ok(Reply { status, headers, body })
        })
    })
}

/// Delivers waiting events, one after another, until the task is aborted.
pub(crate) async fn run(shared: Arc<Shared>, pace: f64) {
    loop {
        let Some(event) = shared.next_event().await else {
            continue;
        };
        let subscribers: Vec<i64> = {
            let tenant = lock(&shared.tenant);
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
            let mut tenant = lock(&shared.tenant);
            let Some(webhook) = tenant.webhooks.get_mut(&webhook).filter(|webhook| webhook.is_subscribed(&event.topic))
            else {
                return;
            };
            webhook.total_calls += 1;
            compose(webhook, &event.topic, &event.id, event.body.clone(), attempt)
        };
        let result = shared.deliver(delivery).await;
        let mut tenant = lock(&shared.tenant);
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
            tenant.set_property(webhook, "State", json!("TooManyErrors"));
            return;
        }
    }
}

/// Composes the test, to which a webhook must respond with 200 before it is saved.
pub(crate) fn test(webhook: &Webhook, timestamp: String) -> Delivery {
    let id = "11111111-1111-4111-8111-111111111111";
    let body = json!({"EventId": id, "Timestamp": timestamp, "Changes": [], "Event": "test", "PrimaryKey": 0, "Entity": "test"});
    let Value::Object(body) = body else { unreachable!("the body is an object") };
    let mut delivery = compose(webhook, "test", id, body, 0);
    delivery.headers.push(("X-Hook-Test".into(), "true".into()));
    delivery
}

fn compose(webhook: &Webhook, topic: &str, id: &str, mut body: Map<String, Value>, attempt: usize) -> Delivery {
    body.insert("WebhookName".into(), json!(webhook.text("Name")));
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
    if let Some(Value::Object(own)) = webhook.properties.get("Headers") {
        headers.extend(own.iter().filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))));
    }
    Delivery { url: webhook.text("TargetUrl").to_owned(), headers, body }
}
