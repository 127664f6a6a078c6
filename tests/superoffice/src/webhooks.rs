//! The calls under `/api/v1/Webhook`.

use axum::Json;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use crate::call::Call;
use crate::error::Refusal;
use crate::mode::{EmptyBody, Version};
use crate::webhook::{self, Webhook};
use crate::{patch, sender};

/// The length of the column `webhook.events`.
const EVENTS_LENGTH: usize = 4000;

/// Responds to a call. `path` is in lower case, `names` is the path as it was sent.
pub(crate) async fn call(call: &Call<'_>, path: &[&str], names: &[&str]) -> Result<Response, Refusal> {
    match (call.method.as_str(), path) {
        ("GET", []) => {
            let filter = |name| call.parameter(name);
            let all = list(call, filter("nameFilter"), filter("eventFilter"), filter("statusFilter"))?;
            Ok(Json(all.into_iter().map(|webhook| call.selected(webhook)).collect::<Vec<_>>()).into_response())
        }
        ("POST", []) => Ok(single(call, &save(call, None, call.object()?).await?)),
        ("GET", ["default"]) => Ok(Json(call.selected(new(call))).into_response()),
        ("POST", ["test"]) => Ok(Json(test(call, call.object()?).await?).into_response()),
        ("POST", [_, key]) => {
            let key = key.parse().map_err(|_| Refusal::argument("The primary key is not a number"))?;
            signal(call, names[0], key)
        }
        (_, [id, rest @ ..]) => {
            let id: i64 = id.parse().map_err(|_| Refusal::not_found("There is no such call"))?;
            let webhook = find(call, id).ok_or_else(|| Refusal::not_found("There is no such webhook"))?;
            call.check_preconditions(webhook.changed())?;
            existing(call, &webhook, rest).await
        }
        _ => Err(Refusal::not_found("There is no such call")),
    }
}

async fn existing(call: &Call<'_>, webhook: &Webhook, rest: &[&str]) -> Result<Response, Refusal> {
    match (call.method.as_str(), rest) {
        ("GET", []) => Ok(single(call, webhook)),
        ("GET", ["lasterror"]) => Ok(Json(webhook.last_error.clone().unwrap_or_default()).into_response()),
        ("DELETE", []) => {
            delete(call, webhook.id);
            Ok(StatusCode::NO_CONTENT.into_response())
        }
        ("PUT", []) => Ok(single(call, &save(call, Some(webhook.id), call.object()?).await?)),
        ("PATCH", []) if call.mode.version != Version::WithoutPatch => {
            let mut carrier = webhook.patched(&call.mode);
            patch::apply(&mut carrier, call.content)?;
            let carrier = carrier.as_object().ok_or_else(|| Refusal::argument("The webhook is not an object"))?;
            Ok(single(call, &save(call, Some(webhook.id), carrier).await?))
        }
        ("PATCH", []) => Err(Refusal::without_patch()),
        _ => Err(Refusal::not_found("There is no such call")),
    }
}

/// Rejects events that do not fit into the column of the table `webhook`, joined by commas.
fn check_events(properties: &Map<String, Value>) -> Result<(), Refusal> {
    let events = properties.get("Events").and_then(Value::as_array).into_iter().flatten();
    let events: Vec<&str> = events.filter_map(Value::as_str).collect();
    match events.join(",").chars().count() {
        0..=EVENTS_LENGTH => Ok(()),
        length => {
            Err(Refusal::argument(format!("Webhook Events have {length} characters, the limit is {EVENTS_LENGTH}")))
        }
    }
}

/// Returns the carrier of one webhook, with a link to itself.
fn single(call: &Call<'_>, webhook: &Webhook) -> Response {
    let Value::Object(mut view) = call.selected(webhook.view(&call.mode, &call.times)) else {
        unreachable!("a webhook is an object")
    };
    view.insert("_Links".into(), json!({"Self": format!("{}/api/v1/Webhook/{}", call.shared.url(), webhook.id)}));
    Json(view).into_response()
}

/// Returns the carrier of a webhook that does not exist yet.
pub(crate) fn new(call: &Call<'_>) -> Map<String, Value> {
    let now = call.shared.tenant().clock.now();
    let mut view = Webhook::new(0, webhook::defaults(), now).view(&call.mode, &call.times);
    view.insert("Registered".into(), call.times.write(None));
    view.insert("RegisteredAssociate".into(), Value::Null);
    view
}

pub(crate) fn find(call: &Call<'_>, id: i64) -> Option<Webhook> {
    call.shared.tenant().webhooks.get(&id).cloned()
}

/// Returns the webhooks with this name, event and state; an empty text and the state Unknown are no condition.
pub(crate) fn list(call: &Call<'_>, name: &str, event: &str, state: &str) -> Result<Vec<Map<String, Value>>, Refusal> {
    let number = state.parse::<u64>().map_or_else(|_| json!(state), |number| json!(number));
    let state = match webhook::state(&number) {
        Some("Unknown") => None,
        None if state.is_empty() => None,
        None => return Err(Refusal::argument(format!("The state {state} is unknown"))),
        state => state,
    };
    let tenant = call.shared.tenant();
    let listed = tenant.webhooks.values().filter(|webhook| {
        (name.is_empty() || webhook.text("Name").eq_ignore_ascii_case(name))
            && (event.is_empty() || webhook.listens_to(event))
            && state.is_none_or(|state| webhook.state() == state)
    });
    Ok(listed.map(|webhook| webhook.view(&call.mode, &call.times)).collect())
}

/// Saves a webhook whose URL responds to the test with 200. Properties that the carrier lacks have their defaults.
pub(crate) async fn save(
    call: &Call<'_>,
    existing: Option<i64>,
    carrier: &Map<String, Value>,
) -> Result<Webhook, Refusal> {
    let properties = webhook::read(carrier)?;
    check_target(&properties)?;
    check_events(&properties)?;
    let (success, message) = post_test(call, properties.clone()).await;
    if !success {
        return Err(Refusal::argument(format!("The webhook did not accept the test: {message}")));
    }
    call.shared.raise(|tenant| {
        let id = match existing {
            Some(id) => {
                tenant.replace_properties(id, properties);
                id
            }
            None => tenant.add_webhook(properties),
        };
        tenant.webhooks.get(&id).cloned().ok_or_else(|| Refusal::not_found("There is no such webhook"))
    })
}

pub(crate) fn delete(call: &Call<'_>, id: i64) {
    call.shared.tenant().webhooks.remove(&id);
}

/// Rejects URLs without TLS, except those of this machine.
fn check_target(properties: &Map<String, Value>) -> Result<(), Refusal> {
    let url = properties.get("TargetUrl").and_then(Value::as_str).unwrap_or_default();
    let is_local = |rest: &str| rest.starts_with("127.0.0.1") || rest.starts_with("localhost");
    if url.starts_with("https://") || url.strip_prefix("http://").is_some_and(is_local) {
        return Ok(());
    }
    Err(Refusal::argument(format!("Webhook TargetUrl must be secure: 'HTTPS:' not found in {url}")))
}

/// Responds to a test with its result.
pub(crate) async fn test(call: &Call<'_>, carrier: &Map<String, Value>) -> Result<Value, Refusal> {
    let (success, message) = post_test(call, webhook::read(carrier)?).await;
    Ok(json!({"Success": success, "Message": message, "TableRight": null, "FieldProperties": {}}))
}

async fn post_test(call: &Call<'_>, properties: Map<String, Value>) -> (bool, String) {
    let delivery = {
        let tenant = call.shared.tenant();
        sender::test(&Webhook::new(0, properties, tenant.clock.now()), tenant.origin())
    };
    match call.shared.deliver(delivery).await {
        Ok(reply) => (reply.status == 200, reply.text()),
        Err(error) => (false, error),
    }
}

/// Raises an event. A signal without a body is refused.
fn signal(call: &Call<'_>, event: &str, key: i64) -> Result<Response, Refusal> {
    let has_type = call.headers.contains_key(header::CONTENT_TYPE);
    if call.body.is_empty() && !has_type && call.mode.empty_body == EmptyBody::UnsupportedMediaType {
        let message = "The media type of the request is not supported";
        return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "Exception", message));
    }
    call.object()?;
    call.shared.raise(|tenant| tenant.signal(event, key, call.content));
    Ok(StatusCode::NO_CONTENT.into_response())
}
