//! The REST API.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use axum::{Json, Router};
use jiff::Timestamp;
use jiff::tz::Offset;
use serde_json::{Map, Value, json};
use tokio::sync::Notify;

use crate::sender::{self, Delivery, Reply, Transport};
use crate::tenant::{Event, Tenant, Version, Webhook};
use crate::{TENANT, archive, control, lock};

/// A fault of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A response with this status.
    Status(u16),
    /// 429 with `Retry-After` in seconds.
    Throttle(u64),
    /// A normal response after this time.
    Slow(Duration),
    /// The effect of the call, and then a response with this status.
    StatusAfterEffect(u16),
    /// No fault: the call takes its turn.
    None,
}

/// A request that was received.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// The method.
    pub method: String,
    /// The path after `/api/v1/`, or the whole path of other requests.
    pub path: String,
    /// The query's parameters.
    pub query: HashMap<String, String>,
    /// The body, if it is JSON.
    pub body: Value,
    /// The headers.
    pub headers: HashMap<String, String>,
}

pub(crate) struct Shared {
    pub(crate) tenant: Mutex<Tenant>,
    host: AtomicUsize,
    addresses: OnceLock<[SocketAddr; 2]>,
    transport: OnceLock<Transport>,
    faults: Mutex<Vec<(String, VecDeque<Fault>)>>,
    requests: Mutex<Vec<Request>>,
    /// Signaled when events were added, removed or delivered.
    notify: Notify,
    /// The number of events that are being delivered.
    busy: AtomicUsize,
}

impl Shared {
    pub(crate) fn new(tenant: Tenant) -> Self {
        Self {
            tenant: Mutex::new(tenant),
            host: AtomicUsize::new(0),
            addresses: OnceLock::new(),
            transport: OnceLock::new(),
            faults: Mutex::new(Vec::new()),
            requests: Mutex::new(Vec::new()),
            notify: Notify::new(),
            busy: AtomicUsize::new(0),
        }
    }

    pub(crate) fn set_addresses(&self, addresses: [SocketAddr; 2]) {
        let _ = self.addresses.set(addresses);
    }

    pub(crate) fn set_transport(&self, transport: Transport) {
        let _ = self.transport.set(transport);
    }

    /// Makes a delivery.
    pub(crate) async fn deliver(&self, delivery: Delivery) -> Result<Reply, String> {
        if lock(&self.tenant).network_down {
            return Err("no route to host".into());
        }
        let transport = self.transport.get().expect("the tenant has started");
        transport(delivery).await
    }

    pub(crate) fn url(&self) -> String {
        let addresses = self.addresses.get().expect("the servers have started");
        format!("http://{}/{TENANT}", addresses[self.host.load(Ordering::SeqCst)])
    }

    pub(crate) fn change_host(&self) {
        self.host.fetch_xor(1, Ordering::SeqCst);
    }

    pub(crate) fn script(&self, call: &str, faults: impl IntoIterator<Item = Fault>) {
        lock(&self.faults).push((call.to_owned(), faults.into_iter().collect()));
    }

    pub(crate) fn clear_faults(&self) {
        lock(&self.faults).clear();
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        lock(&self.requests).clone()
    }

    pub(crate) fn clear_requests(&self) {
        lock(&self.requests).clear();
    }

    pub(crate) fn changed(&self) {
        self.notify.notify_waiters();
    }

    /// Waits for an event and removes it from the queue; `None` if it was removed in the meantime.
    pub(crate) async fn next_event(&self) -> Option<Event> {
        let notified = self.notify.notified();
        let event = {
            let mut tenant = lock(&self.tenant);
            let event = if tenant.paused { None } else { tenant.waiting.pop_front() };
            if event.is_some() {
                self.busy.fetch_add(1, Ordering::SeqCst);
            }
            event
        };
        if event.is_none() {
            notified.await;
        }
        event
    }

    pub(crate) fn delivered(&self) {
        self.busy.fetch_sub(1, Ordering::SeqCst);
        self.changed();
    }

    pub(crate) async fn idle(&self) {
        loop {
            let notified = self.notify.notified();
            let idle = {
                let tenant = lock(&self.tenant);
                (tenant.paused || tenant.waiting.is_empty()) && self.busy.load(Ordering::SeqCst) == 0
            };
            if idle {
                return;
            }
            notified.await;
        }
    }

    fn fault(&self, method: &Method, path: &str) -> Fault {
        let call = format!("{method} {path}");
        let mut faults = lock(&self.faults);
        let scripted = faults.iter_mut().find(|(pattern, left)| call.contains(pattern.as_str()) && !left.is_empty());
        scripted.and_then(|(_, left)| left.pop_front()).unwrap_or(Fault::None)
    }
}

/// A server's part of the state: the API, and which of the two hosts it plays.
#[derive(Clone)]
struct Host {
    shared: Arc<Shared>,
    index: usize,
}

pub(crate) fn router(shared: Arc<Shared>, index: usize) -> Router {
    let control = control::router(Arc::clone(&shared));
    Router::new()
        .route("/api/state/{tenant}", get(state))
        .route("/Login/api/PartnerSystemUser/Authenticate", post(authenticate))
        .route("/{tenant}/api/v1/{*path}", any(api))
        .fallback(async || StatusCode::NOT_FOUND)
        .with_state(Host { shared: Arc::clone(&shared), index })
        .layer(axum::middleware::map_response(move |response: Response| {
            let now = lock(&shared.tenant).clock.now();
            async move { with_date(response, now) }
        }))
        .merge(control)
}

/// Adds the time by the tenant's clock.
fn with_date(mut response: Response, now: Timestamp) -> Response {
    let date = Offset::UTC.to_datetime(now).strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    response.headers_mut().insert(header::DATE, date.parse().expect("a date is a valid header"));
    response
}

fn error(status: StatusCode, message: &str) -> Response {
    (status, Json(json!({"Error": true, "ErrorType": "Exception", "Message": message}))).into_response()
}

/// Records a request, and plays the fault that is scripted for it.
async fn record(host: &Host, request: Request, method: &Method) -> Result<Fault, Response> {
    let fault = host.shared.fault(method, &request.path);
    lock(&host.shared.requests).push(request);
    match fault {
        Fault::Status(status) => {
            let status = StatusCode::from_u16(status).expect("a valid status");
            Err(error(status, "This call fails in this test"))
        }
        Fault::Throttle(seconds) => {
            let headers = [(header::RETRY_AFTER, seconds.to_string())];
            Err((StatusCode::TOO_MANY_REQUESTS, headers, "Too many requests").into_response())
        }
        Fault::Slow(time) => {
            tokio::time::sleep(time).await;
            Ok(fault)
        }
        Fault::StatusAfterEffect(_) | Fault::None => Ok(fault),
    }
}

fn recorded(method: &Method, path: &str, uri: &Uri, headers: &HeaderMap, body: &[u8]) -> Request {
    let query = Query::<HashMap<String, String>>::try_from_uri(uri).map(|query| query.0).unwrap_or_default();
    let headers = headers
        .iter()
        .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect();
    Request {
        method: method.to_string(),
        path: path.to_owned(),
        query,
        body: serde_json::from_slice(body).unwrap_or_default(),
        headers,
    }
}

async fn state(State(host): State<Host>, Path(tenant): Path<String>, uri: Uri, headers: HeaderMap) -> Response {
    let request = recorded(&Method::GET, uri.path(), &uri, &headers, b"");
    if let Err(response) = record(&host, request, &Method::GET).await {
        return response;
    }
    if headers.get(header::ACCEPT).is_none_or(|accept| accept != "application/json") {
        return error(StatusCode::NOT_ACCEPTABLE, "The request does not accept JSON");
    }
    if !tenant.eq_ignore_ascii_case(TENANT) {
        return error(StatusCode::NOT_FOUND, "There is no such tenant");
    }
    let running = lock(&host.shared.tenant).running;
    let url = host.shared.url();
    Json(json!({
        "ContextIdentifier": TENANT,
        "Endpoint": url,
        "State": if running { "Running" } else { "Suspended" },
        "IsRunning": running,
        "ValidUntil": "2030-01-01T00:00:00Z",
        "Api": format!("{url}/api"),
        "Version": "12.1",
    }))
    .into_response()
}

async fn authenticate(State(host): State<Host>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let request = recorded(&Method::POST, uri.path(), &uri, &headers, &body);
    let content = request.body.clone();
    if let Err(response) = record(&host, request, &Method::POST).await {
        return response;
    }
    let mut tenant = lock(&host.shared.tenant);
    let now = tenant.clock.now();
    Json(tenant.access.authenticate(&content, now)).into_response()
}

async fn api(
    State(host): State<Host>,
    Path((tenant, path)): Path<(String, String)>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let request = recorded(&method, &path, &uri, &headers, &body);
    let (query, content) = (request.query.clone(), request.body.clone());
    let fault = match record(&host, request, &method).await {
        Ok(fault) => fault,
        Err(response) => return response,
    };
    if host.index != host.shared.host.load(Ordering::SeqCst) || !tenant.eq_ignore_ascii_case(TENANT) {
        return error(StatusCode::MISDIRECTED_REQUEST, "Wrong subdomain used to access tenant");
    }
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    {
        let mut tenant = lock(&host.shared.tenant);
        let now = tenant.clock.now();
        if !tenant.access.allows(header("authorization"), header("so-apptoken"), now) {
            return error(StatusCode::UNAUTHORIZED, "Authentication failed");
        }
        if tenant.access.forbidden.iter().any(|part| path.contains(part.as_str())) {
            return error(StatusCode::FORBIDDEN, "The Webhook agent is not available to this application");
        }
    }
    let segments: Vec<&str> = path.split('/').collect();
    let response = match (method.as_str(), segments.as_slice()) {
        ("GET", ["Archive", provider]) => match archive::query(&lock(&host.shared.tenant), provider, &query) {
            Ok(page) => Json(page).into_response(),
            Err(reason) => error(StatusCode::BAD_REQUEST, &reason),
        },
        ("GET", ["Webhook"]) => {
            let tenant = lock(&host.shared.tenant);
            let all: Vec<Value> = tenant.webhooks.values().map(|webhook| webhook.view(tenant.version)).collect();
            Json(all).into_response()
        }
        ("POST", ["Webhook"]) => save(&host.shared, None, content).await,
        ("POST", ["Webhook", "Test"]) => test(&host.shared, content).await,
        ("POST", ["Webhook", event, key]) => match key.parse() {
            Ok(key) => {
                lock(&host.shared.tenant).signal(event, key);
                host.shared.changed();
                StatusCode::NO_CONTENT.into_response()
            }
            Err(_) => error(StatusCode::BAD_REQUEST, "The primary key is not a number"),
        },
        (_, ["Webhook", id, rest @ ..]) => match id.parse() {
            Ok(id) => webhook(&host.shared, &method, id, rest, content).await,
            Err(_) => error(StatusCode::NOT_FOUND, "There is no such call"),
        },
        _ => error(StatusCode::NOT_FOUND, "There is no such call"),
    };
    match fault {
        Fault::StatusAfterEffect(status) => {
            error(StatusCode::from_u16(status).expect("a valid status"), "This call fails in this test")
        }
        _ => response,
    }
}

async fn webhook(shared: &Shared, method: &Method, id: i64, rest: &[&str], content: Value) -> Response {
    let (stored, version) = {
        let tenant = lock(&shared.tenant);
        (tenant.webhooks.get(&id).cloned(), tenant.version)
    };
    let Some(stored) = stored else {
        return error(StatusCode::NOT_FOUND, "There is no such webhook");
    };
    match (method.as_str(), rest) {
        ("GET", []) => Json(stored.view(version)).into_response(),
        ("GET", ["LastError"]) => Json(json!(stored.last_error.unwrap_or_default())).into_response(),
        ("DELETE", []) => {
            lock(&shared.tenant).webhooks.remove(&id);
            StatusCode::NO_CONTENT.into_response()
        }
        ("PUT", []) => save(shared, Some(&stored), content).await,
        ("PATCH", []) if version != Version::WithoutPatch => {
            let Value::Array(operations) = content else {
                return error(StatusCode::BAD_REQUEST, "Not a JSON Patch");
            };
            let mut properties = stored.properties.clone();
            for operation in &operations {
                let text = |name: &str| operation.get(name).and_then(Value::as_str).unwrap_or_default();
                let name = text("path").trim_start_matches('/');
                let key = properties.keys().find(|key| key.eq_ignore_ascii_case(name)).cloned();
                let key = key.unwrap_or_else(|| name.to_owned());
                let value = operation.get("value").cloned().unwrap_or_default();
                match text("op") {
                    "test" if properties.get(&key) == Some(&value) => {}
                    "test" => return error(StatusCode::CONFLICT, "A test operation has detected a conflict"),
                    "replace" | "add" => {
                        properties.insert(key, value);
                    }
                    "remove" => {
                        properties.remove(&key);
                    }
                    _ => return error(StatusCode::BAD_REQUEST, "The operation is not supported"),
                }
            }
            save(shared, Some(&stored), Value::Object(properties)).await
        }
        ("PATCH", []) => error(StatusCode::METHOD_NOT_ALLOWED, "The method is not supported"),
        _ => error(StatusCode::NOT_FOUND, "There is no such call"),
    }
}

/// Saves a webhook whose URL responds to the test with 200.
async fn save(shared: &Shared, existing: Option<&Webhook>, content: Value) -> Response {
    let Value::Object(properties) = content else {
        return error(StatusCode::BAD_REQUEST, "Not a webhook");
    };
    let draft = draft(properties);
    let (success, message) = post_test(shared, &draft).await;
    if !success {
        return error(StatusCode::BAD_REQUEST, &format!("The webhook did not accept the test: {message}"));
    }
    let view = {
        let mut tenant = lock(&shared.tenant);
        let id = match existing {
            None => tenant.add_webhook(Value::Object(draft.properties)),
            Some(existing) => {
                for (name, value) in draft.properties {
                    tenant.set_property(existing.id, &name, value);
                }
                existing.id
            }
        };
        let version = tenant.version;
        tenant.webhooks.get(&id).map(|webhook| webhook.view(version))
    };
    shared.changed();
    Json(view).into_response()
}

async fn test(shared: &Shared, content: Value) -> Response {
    let Value::Object(properties) = content else {
        return error(StatusCode::BAD_REQUEST, "Not a webhook");
    };
    let (success, message) = post_test(shared, &draft(properties)).await;
    Json(json!({"Success": success, "Message": message, "TableRight": null, "FieldProperties": {}})).into_response()
}

fn draft(mut properties: Map<String, Value>) -> Webhook {
    for name in ["WebhookId", "TotalCalls", "TotalErrors", "ConsecutiveErrors", "LastError"] {
        properties.remove(name);
    }
    Webhook { id: 0, properties, total_calls: 0, total_errors: 0, consecutive_errors: 0, last_error: None }
}

async fn post_test(shared: &Shared, draft: &Webhook) -> (bool, String) {
    let delivery = sender::test(draft, lock(&shared.tenant).clock.now().to_string());
    match shared.deliver(delivery).await {
        Ok(reply) => (reply.status == 200, format!("HTTP {}\n{}", reply.status, reply.body)),
        Err(error) => (false, error),
    }
}
