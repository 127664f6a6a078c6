//! `FilterLogEvents` of CloudWatch Logs.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::server::Server;
use crate::shared::lock;

/// The number of events of a page of CloudWatch.
const PAGE: usize = 10_000;

#[derive(Default)]
struct Groups {
    groups: HashMap<String, Vec<(i64, String)>>,
    page: Option<usize>,
    requests: usize,
    /// The last page names itself as the next one.
    endless: bool,
    /// The number of requests until every request fails.
    failing_after: Option<usize>,
    /// The number of requests that are throttled.
    throttled: usize,
    /// The filter patterns of the requests.
    filters: Vec<String>,
}

/// A running CloudWatch Logs. Like other emulators, it disregards filter patterns.
pub struct Logs {
    groups: Arc<Mutex<Groups>>,
    server: Server,
}

impl Logs {
    /// Starts it.
    pub async fn start() -> Self {
        let groups = Arc::new(Mutex::new(Groups::default()));
        let router = Router::new().route("/", post(filter)).with_state(Arc::clone(&groups));
        Self { groups, server: Server::start("127.0.0.1:0", router).await }
    }

    /// The endpoint: `AWS_ENDPOINT_URL_CLOUDWATCH_LOGS`.
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// Creates a log group.
    pub fn create(&self, group: &str) {
        lock(&self.groups).groups.entry(group.to_owned()).or_default();
    }

    /// Writes a line.
    pub fn write(&self, group: &str, at: Timestamp, line: impl Into<String>) {
        lock(&self.groups).groups.entry(group.to_owned()).or_default().push((at.as_millisecond(), line.into()));
    }

    /// Returns every line of a group, oldest first.
    pub fn lines(&self, group: &str) -> Vec<String> {
        let groups = lock(&self.groups);
        groups.groups.get(group).into_iter().flatten().map(|(_, line)| line.clone()).collect()
    }

    /// Limits the number of events of a page.
    pub fn set_page(&self, events: usize) {
        lock(&self.groups).page = Some(events);
    }

    /// Makes the last page of every log name itself as the next page.
    pub fn repeat_last_page(&self) {
        lock(&self.groups).endless = true;
    }

    /// Removes every line of a group.
    pub fn clear(&self, group: &str) {
        lock(&self.groups).groups.entry(group.to_owned()).or_default().clear();
    }

    /// Denies every request after this number of further ones.
    pub fn fail_after(&self, requests: usize) {
        lock(&self.groups).failing_after = Some(requests);
    }

    /// Throttles the next requests.
    pub fn throttle(&self, requests: usize) {
        lock(&self.groups).throttled = requests;
    }

    /// Returns the filter pattern of each request so far that was not refused.
    pub fn filters(&self) -> Vec<String> {
        lock(&self.groups).filters.clone()
    }

    /// Ends the denial of requests.
    pub fn clear_failures(&self) {
        lock(&self.groups).failing_after = None;
    }

    /// Returns the number of requests so far.
    pub fn requests(&self) -> usize {
        lock(&self.groups).requests
    }
}

async fn filter(State(groups): State<Arc<Mutex<Groups>>>, headers: HeaderMap, body: Bytes) -> Response {
    let mut groups = lock(&groups);
    groups.requests += 1;
    if let Some(left) = groups.failing_after {
        groups.failing_after = Some(left.saturating_sub(1));
        if left == 0 {
            return failure(StatusCode::BAD_REQUEST, "AccessDeniedException", "not authorized in this test");
        }
    }
    if groups.throttled > 0 {
        groups.throttled -= 1;
        return failure(StatusCode::BAD_REQUEST, "ThrottlingException", "Rate exceeded");
    }
    let target = headers.get("x-amz-target").and_then(|target| target.to_str().ok());
    if target != Some("Logs_20140328.FilterLogEvents") {
        return failure(StatusCode::BAD_REQUEST, "UnknownOperationException", "only FilterLogEvents is played");
    }
    let request: Value = serde_json::from_slice(&body).unwrap_or_default();
    let name = request.get("logGroupName").and_then(Value::as_str).unwrap_or_default();
    let filter = request.get("filterPattern").and_then(Value::as_str).unwrap_or_default();
    groups.filters.push(filter.to_owned());
    let Some(group) = groups.groups.get(name) else {
        return failure(
            StatusCode::BAD_REQUEST,
            "ResourceNotFoundException",
            "The specified log group does not exist.",
        );
    };
    let start = request.get("startTime").and_then(Value::as_i64).unwrap_or(i64::MIN);
    let end = request.get("endTime").and_then(Value::as_i64).unwrap_or(i64::MAX);
    let from: usize = match request.get("nextToken").and_then(Value::as_str) {
        Some(token) => token.parse().unwrap_or(usize::MAX),
        None => 0,
    };
    let page = groups.page.unwrap_or(PAGE);
    // CloudWatch can return pages without a match, of which there are more.
    let lines = group.iter().enumerate().skip(from).take(page);
    let events: Vec<Value> = lines
        .filter(|(_, (at, _))| (start..=end).contains(at))
        .map(|(index, (at, line))| {
            json!({"timestamp": at, "ingestionTime": at, "message": line, "logStreamName": "s", "eventId": index.to_string()})
        })
        .collect();
    let is_last = from.saturating_add(page) >= group.len();
    let next = if is_last { groups.endless.then(|| from.to_string()) } else { Some((from + page).to_string()) };
    respond(StatusCode::OK, json!({"events": events, "searchedLogStreams": [], "nextToken": next}))
}

fn failure(status: StatusCode, kind: &str, message: &str) -> Response {
    respond(status, json!({"__type": kind, "message": message}))
}

fn respond(status: StatusCode, body: Value) -> Response {
    (status, [(header::CONTENT_TYPE, "application/x-amz-json-1.1")], Json(body)).into_response()
}
