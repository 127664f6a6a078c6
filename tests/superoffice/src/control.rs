//! The changes that people make in SuperOffice, over HTTP, for demonstrations: `/_control/…`.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};

use crate::exchange::Request;
use crate::record::Kind;
use crate::shared::Shared;

pub(crate) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/_control/state", get(state))
        .route("/_control/requests", get(requests))
        .route("/_control/idle", get(idle))
        .route("/_control/{kind}", post(create))
        .route("/_control/{kind}/{id}/{action}", post(act))
        .route("/_control/{kind}/{id}/merge/{destination}", post(merge))
        .route("/_control/network/{state}", post(network))
        .with_state(shared)
}

/// Finds the kind with a name in the plural: `contacts`, `persons`.
fn kind(name: &str) -> Result<Kind, StatusCode> {
    let kind = Kind::ALL.into_iter().find(|kind| name.strip_suffix('s') == Some(kind.names().entity));
    kind.ok_or(StatusCode::NOT_FOUND)
}

async fn create(State(shared): State<Arc<Shared>>, Path(name): Path<String>) -> Result<Json<Value>, StatusCode> {
    let kind = kind(&name)?;
    Ok(Json(json!({"id": shared.raise(|tenant| tenant.create(kind, None))})))
}

/// `change`, `softdelete`, `restore`, `delete`, or a change or deletion whose event gets lost: `lose`, `vanish`.
async fn act(
    State(shared): State<Arc<Shared>>,
    Path((name, id, action)): Path<(String, i64, String)>,
) -> Result<StatusCode, StatusCode> {
    let kind = kind(&name)?;
    match action.as_str() {
        "change" => shared.raise(|tenant| tenant.change(kind, id, None)),
        "softdelete" => shared.raise(|tenant| tenant.soft_delete(kind, id)),
        "restore" => shared.raise(|tenant| tenant.restore(kind, id)),
        "delete" => shared.raise(|tenant| tenant.delete(kind, id)),
        "lose" => shared.raise(|tenant| tenant.change_silently(kind, id)),
        "vanish" => drop(shared.tenant().records.remove(&(kind, id))),
        _ => return Err(StatusCode::NOT_FOUND),
    }
    Ok(StatusCode::NO_CONTENT)
}

async fn merge(
    State(shared): State<Arc<Shared>>,
    Path((name, source, destination)): Path<(String, i64, i64)>,
) -> Result<StatusCode, StatusCode> {
    let kind = kind(&name)?;
    shared.raise(|tenant| tenant.merge(kind, source, destination));
    Ok(StatusCode::NO_CONTENT)
}

/// `up` or `down`: deliveries reach the webhook, or no host at all.
async fn network(State(shared): State<Arc<Shared>>, Path(state): Path<String>) -> StatusCode {
    shared.raise(|tenant| tenant.network_down = state == "down");
    StatusCode::NO_CONTENT
}

async fn idle(State(shared): State<Arc<Shared>>) -> StatusCode {
    shared.idle().await;
    StatusCode::NO_CONTENT
}

async fn requests(State(shared): State<Arc<Shared>>) -> Json<Vec<Value>> {
    let requests = shared.requests().into_iter();
    let view = |request: Request| json!({"method": request.method, "path": request.path, "body": request.body});
    Json(requests.map(view).collect())
}

async fn state(State(shared): State<Arc<Shared>>) -> Json<Value> {
    let tenant = shared.tenant();
    let webhooks: Vec<Value> = tenant
        .webhooks
        .values()
        .map(|webhook| {
            json!({
                "id": webhook.id, "name": webhook.text("Name"), "state": webhook.state(),
                "consecutiveErrors": webhook.consecutive_errors, "lastError": webhook.last_error,
            })
        })
        .collect();
    let signals = shared.requests().iter().filter(|request| request.path.contains(".resync/")).count();
    let ids = |kind| tenant.records_after(kind, None).map(|record| record.id).collect::<Vec<_>>();
    Json(json!({
        "contacts": ids(Kind::Contact), "persons": ids(Kind::Person), "webhooks": webhooks, "signals": signals,
    }))
}
