//! The real function in this process, behind a queue that can fail.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use lambda_runtime::{Context, LambdaEvent};
use serde_json::{Value, json};
use superoffice_webhook::function::{Handler, LambdaAdapter, Queue, QueueError, WithFallback};
use superoffice_webhook::message::{MessageFormat, QueueMessage};
use superoffice_webhook::{Secret, Verifier};

use crate::shared::lock;
use crate::{Clock, Delivery, Logs, Reply};

/// A fault of the function's surroundings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outage {
    /// None.
    None,
    /// The queue does not respond: the function responds with 503.
    Queue,
    /// The function may not send to the queue: it responds with 503.
    Permission,
    /// The endpoint cannot be reached.
    Endpoint,
    /// The gateway responds with 500, and the function is not invoked.
    Gateway,
}

/// An event in the queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// The tenant.
    pub tenant: String,
    /// The event's name.
    pub event: String,
    /// The id of the contact or person.
    pub primary_key: i64,
    /// The time of the event, from its body.
    pub occurred: Timestamp,
    /// The time of the arrival.
    pub at: Timestamp,
}

#[derive(Clone)]
struct FakeQueue {
    arrivals: Arc<Mutex<Vec<Arrival>>>,
    clock: Clock,
    outage: Arc<Mutex<Outage>>,
}

impl Queue for FakeQueue {
    async fn send(&self, message: &QueueMessage, _: Option<&str>) -> Result<String, QueueError> {
        match *lock(&self.outage) {
            Outage::Queue => Err(QueueError::Unavailable("ServiceUnavailable".into())),
            Outage::Permission => Err(QueueError::Rejected("AccessDeniedException".into())),
            _ => {
                let body: Value = serde_json::from_str(&message.body).expect("the sender's body is JSON");
                let mut arrivals = lock(&self.arrivals);
                arrivals.push(Arrival {
                    tenant: body["ContextIdentifier"].as_str().unwrap_or_default().to_owned(),
                    event: body["Event"].as_str().unwrap_or_default().to_owned(),
                    primary_key: body["PrimaryKey"].as_i64().unwrap_or_default(),
                    occurred: body["Timestamp"].as_str().and_then(|time| time.parse().ok()).unwrap_or_default(),
                    at: self.clock.now(),
                });
                Ok(format!("message-{}", arrivals.len()))
            }
        }
    }
}

/// A function that forwards the events of contacts and persons. Its log lines go to a log group, with the times of a
/// test's clock.
pub struct Function {
    adapter: Arc<LambdaAdapter<FakeQueue>>,
    queue: FakeQueue,
    clock: Clock,
    logs: Arc<Logs>,
    log_group: String,
    loses_next: AtomicBool,
    requests: AtomicU64,
}

impl Function {
    /// Sets a function up.
    pub fn new(secret: &str, clock: Clock, logs: Arc<Logs>, log_group: &str) -> Arc<Self> {
        let queue =
            FakeQueue { arrivals: Arc::default(), clock: clock.clone(), outage: Arc::new(Mutex::new(Outage::None)) };
        let handler = Handler {
            verifier: Verifier::new(Secret::new(secret).expect("a secret that is not empty")),
            filter: "contact.*,person.*".parse().expect("a valid list"),
            format: MessageFormat::default(),
            events: WithFallback::new(queue.clone(), None),
            quarantine: None,
        };
        logs.create(log_group);
        Arc::new(Self {
            adapter: LambdaAdapter::new(handler),
            queue,
            clock,
            logs,
            log_group: log_group.to_owned(),
            loses_next: AtomicBool::new(false),
            requests: AtomicU64::new(0),
        })
    }

    /// The sender's way to this function.
    pub fn transport(
        self: &Arc<Self>,
    ) -> impl Fn(Delivery) -> BoxFuture<'static, Result<Reply, String>> + Send + Sync + 'static {
        let function = Arc::clone(self);
        move |delivery| {
            let function = Arc::clone(&function);
            Box::pin(async move { function.receive(delivery).await })
        }
    }

    /// Begins or ends an outage.
    pub fn set_outage(&self, outage: Outage) {
        *lock(&self.queue.outage) = outage;
    }

    /// Acknowledges the next event without any trace, as a gateway does that responds from a cache.
    pub fn lose_next(&self) {
        self.loses_next.store(true, Ordering::SeqCst);
    }

    /// Ends the effect of [`lose_next`](Self::lose_next).
    pub fn keep_next(&self) {
        self.loses_next.store(false, Ordering::SeqCst);
    }

    /// Returns the events in the queue, oldest first.
    pub fn arrivals(&self) -> Vec<Arrival> {
        lock(&self.queue.arrivals).clone()
    }

    /// Returns the names and ids of the events in the queue, oldest first.
    pub fn events(&self) -> Vec<(String, i64)> {
        lock(&self.queue.arrivals).iter().map(|arrival| (arrival.event.clone(), arrival.primary_key)).collect()
    }

    /// Returns the number of requests so far, tests included.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::SeqCst)
    }

    async fn receive(&self, delivery: Delivery) -> Result<Reply, String> {
        self.requests.fetch_add(1, Ordering::SeqCst);
        let outage = *lock(&self.queue.outage);
        match outage {
            Outage::Endpoint => return Err("connection refused".into()),
            Outage::Gateway => return Ok(Reply::status(500)),
            _ => {}
        }
        let body: Value = serde_json::from_slice(&delivery.body).map_err(|error| error.to_string())?;
        if body["Event"] != "test" && self.loses_next.swap(false, Ordering::SeqCst) {
            return Ok(Reply::status(200));
        }
        let headers: serde_json::Map<String, Value> =
            delivery.headers.iter().map(|(name, value)| (name.to_ascii_lowercase(), json!(value))).collect();
        let event = json!({
            "version": "2.0", "routeKey": "POST /webhook", "rawPath": "/webhook", "rawQueryString": "", "headers": headers,
            "requestContext": {"http": {"method": "POST", "path": "/webhook"}},
            "body": String::from_utf8_lossy(&delivery.body), "isBase64Encoded": false,
        });
        let payload = serde_json::value::to_raw_value(&event).map_err(|error| error.to_string())?;
        let (response, line) = self.adapter.respond(LambdaEvent { payload, context: Context::default() }).await;
        self.log(&line, &body);
        let response = serde_json::to_value(response).map_err(|error| error.to_string())?;
        let status = response["statusCode"].as_u64().and_then(|status| u16::try_from(status).ok());
        Ok(Reply {
            status: status.ok_or("a response without status")?,
            headers: Vec::new(),
            body: response["body"].as_str().unwrap_or_default().to_owned(),
        })
    }

    /// Writes a log line with the times of the test's clock.
    fn log(&self, line: &str, body: &Value) {
        let now = self.clock.now();
        let mut line: Value = serde_json::from_str(line).expect("a log line is JSON");
        line["_aws"]["Timestamp"] = json!(now.as_millisecond());
        if let Some(object) = line.as_object_mut() {
            object.remove("DeliveryDelay");
        }
        let occurred = body["Timestamp"].as_str().and_then(|time| time.parse::<jiff::Timestamp>().ok());
        let delay = occurred.map(|occurred| now.as_millisecond() - occurred.as_millisecond());
        if let Some(delay @ 0..) = delay
            && matches!(line["outcome"].as_str(), Some("forwarded" | "ignored"))
        {
            line["DeliveryDelay"] = json!(delay);
        }
        self.logs.write(&self.log_group, now, line.to_string());
    }
}
