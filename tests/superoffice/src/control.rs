//! The changes that people make in SuperOffice, over HTTP, for demonstrations: `/_control/…`.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};

use crate::api::Request;
use crate::shared::Shared;

pub(crate) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/_control/state", get(state))
        .route("/_control/requests", get(requests))
        .route("/_control/idle", get(idle))
        .route("/_control/contacts", post(create))
        .route("/_control/contacts/{id}/{action}", post(act))
        .route("/_control/merge/{source}/{destination}", post(merge))
        .route("/_control/network/{state}", post(network))
        .with_state(shared)
}

async fn create(State(shared): State<Arc<Shared>>) -> Json<Value> {
    Json(json!({"id": shared.raise(|tenant| tenant.create_contact(None))}))
}

/// `change`, `softdelete`, `restore`, `delete`, or a change or deletion whose event gets lost: `lose`, `vanish`.
async fn act(State(shared): State<Arc<Shared>>, Path((id, action)): Path<(i64, String)>) -> StatusCode {
    match action.as_str() {
        "change" => shared.raise(|tenant| tenant.change_contact(id, None)),
        "softdelete" => shared.raise(|tenant| tenant.soft_delete_contact(id)),
        "restore" => shared.raise(|tenant| tenant.restore_contact(id)),
        "delete" => shared.raise(|tenant| tenant.delete_contact(id)),
        "lose" => shared.raise(|tenant| tenant.change_contact_silently(id)),
        "vanish" => drop(shared.tenant().contacts.remove(&id)),
        _ => return StatusCode::NOT_FOUND,
    }
    StatusCode::NO_CONTENT
}

async fn merge(State(shared): State<Arc<Shared>>, Path((source, destination)): Path<(i64, i64)>) -> StatusCode {
    shared.raise(|tenant| tenant.merge_contacts(source, destination));
    StatusCode::NO_CONTENT
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
    let signals = shared.requests().iter().filter(|request| request.path.contains("contact.resync")).count();
    Json(json!({"contacts": tenant.contacts.keys().collect::<Vec<_>>(), "webhooks": webhooks, "signals": signals}))
}
