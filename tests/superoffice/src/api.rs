//! The REST API's routes, credentials and faults.

use std::collections::HashMap;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use axum::{Json, Router};
use serde_json::json;

use crate::call::Call;
use crate::error::Refusal;
use crate::exchange::{Fault, Request};
use crate::record::Kind;
use crate::shared::Shared;
use crate::times::{Times, http_date};
use crate::{agent, archive, control, records, webhooks};

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
        .route("/{tenant}/{api}/{version}/{*path}", any(api))
        .fallback(async || StatusCode::NOT_FOUND)
        .with_state(Host { shared: Arc::clone(&shared), index })
        .layer(axum::middleware::map_response(move |mut response: Response| {
            let date = http_date(shared.tenant().clock.now());
            response.headers_mut().insert(header::DATE, date.parse().expect("a date is a valid header"));
            async move { response }
        }))
        .merge(control)
}

/// Plays the fault that is scripted for a request.
async fn fault(host: &Host, method: &Method, path: &str) -> Result<Fault, Response> {
    let fault = host.shared.fault(method, path);
    match fault {
        Fault::Status(status) => return Err(Refusal::scripted(status).into_response()),
        Fault::Throttle(seconds) => {
            let headers = [(header::RETRY_AFTER, seconds.to_string())];
            return Err((StatusCode::TOO_MANY_REQUESTS, headers, "Too many requests").into_response());
        }
        Fault::Slow(time) => tokio::time::sleep(time).await,
        Fault::StatusAfterEffect(_) | Fault::None => {}
    }
    Ok(fault)
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

async fn state(State(mut host): State<Host>, Path(tenant): Path<String>, uri: Uri, headers: HeaderMap) -> Response {
    let known = host.shared.in_environment(&tenant);
    host.shared = known.clone().unwrap_or(host.shared);
    host.shared.record(recorded(&Method::GET, uri.path(), &uri, &headers, b""));
    if let Err(response) = fault(&host, &Method::GET, uri.path()).await {
        return response;
    }
    if headers.get(header::ACCEPT).is_none_or(|accept| accept != "application/json") {
        let message = "The request does not accept JSON";
        return Refusal::new(StatusCode::NOT_ACCEPTABLE, "Exception", message).into_response();
    }
    if known.is_none() {
        return Refusal::not_found("There is no such tenant").into_response();
    }
    let running = host.shared.tenant().running;
    let url = host.shared.url();
    Json(json!({
        "ContextIdentifier": host.shared.name,
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
    host.shared.record(request.clone());
    if let Err(response) = fault(&host, &Method::POST, uri.path()).await {
        return response;
    }
    let mut tenant = host.shared.tenant();
    let now = tenant.clock.now();
    Json(tenant.access.authenticate(&host.shared.name, &request.body, now)).into_response()
}

async fn api(
    State(host): State<Host>,
    Path((tenant, api, version, path)): Path<(String, String, String, String)>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let request = recorded(&method, &path, &uri, &headers, &body);
    host.shared.record(request.clone());
    let fault = match fault(&host, &method, &path).await {
        Ok(fault) => fault,
        Err(response) => return response,
    };
    if !host.shared.is_host(host.index) || !tenant.eq_ignore_ascii_case(&host.shared.name) {
        let message = "Wrong subdomain used to access tenant";
        return Refusal::new(StatusCode::MISDIRECTED_REQUEST, "Exception", message).into_response();
    }
    if !api.eq_ignore_ascii_case("api") || !version.eq_ignore_ascii_case("v1") {
        return Refusal::not_found("There is no such call").into_response();
    }
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let allowed = {
        let mut tenant = host.shared.tenant();
        let now = tenant.clock.now();
        tenant.access.check(header("authorization"), header("so-apptoken"), &path, now).map(|()| tenant.mode)
    };
    let answer = async {
        let mode = allowed?;
        let times = Times::requested(header("so-timezone"), &mode)?;
        let (query, content) = (&request.query, &request.body);
        let call =
            Call { shared: &host.shared, method: &method, query, headers: &headers, body: &body, content, mode, times };
        route(&call, &path).await
    };
    let response = answer.await.unwrap_or_else(Refusal::into_response);
    match fault {
        Fault::StatusAfterEffect(status) => Refusal::scripted(status).into_response(),
        _ => response,
    }
}

/// Finds the call, whatever the letter case of its path and with or without a slash at its end.
async fn route(call: &Call<'_>, path: &str) -> Result<Response, Refusal> {
    let names: Vec<&str> = path.split('/').filter(|name| !name.is_empty()).collect();
    let lower: Vec<String> = names.iter().map(|name| name.to_ascii_lowercase()).collect();
    let lower: Vec<&str> = lower.iter().map(String::as_str).collect();
    match (call.method.as_str(), lower.as_slice()) {
        ("GET", ["archive", provider]) => {
            let page = archive::query(&call.shared.tenant(), provider, call)?;
            Ok(Json(page).into_response())
        }
        (_, ["contact", rest @ ..]) => records::call(call, Kind::Contact, rest),
        (_, ["person", rest @ ..]) => records::call(call, Kind::Person, rest),
        ("POST", ["agents", "contact", "merge"]) => records::merge_contacts(call),
        (_, ["webhook", rest @ ..]) => webhooks::call(call, rest, &names[1..]).await,
        ("POST", ["agents", "webhook", operation]) => agent::call(call, operation).await,
        _ => Err(Refusal::not_found("There is no such call")),
    }
}
