//! The calls under `/api/v1/Contact`, and the merge of two contacts. Of the properties that a client writes, only the
//! name has an effect.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value};

use crate::call::Call;
use crate::error::Refusal;
use crate::mode::Version;
use crate::patch::{self, lookup};

/// Responds to a call.
pub(crate) fn call(call: &Call<'_>, path: &[&str]) -> Result<Response, Refusal> {
    match (call.method.as_str(), path) {
        ("POST", []) => {
            let name = name(call.object()?);
            view(call, call.shared.raise(|tenant| tenant.create_contact(Some(&name))))
        }
        (_, [id]) => existing(call, parse_id(id)?),
        _ => Err(Refusal::not_found("There is no such call")),
    }
}

fn existing(call: &Call<'_>, id: i64) -> Result<Response, Refusal> {
    let contact = call.shared.tenant().contacts.get(&id).cloned();
    let contact = contact.ok_or_else(|| Refusal::not_found("There is no such contact"))?;
    call.check_preconditions(contact.changed())?;
    match call.method.as_str() {
        "GET" => view(call, id),
        "PUT" => change(call, id, &name(call.object()?)),
        "PATCH" if call.mode.version != Version::WithoutPatch => {
            let mut entity = Value::Object(contact.entity(&call.times));
            patch::apply(&mut entity, call.content)?;
            change(call, id, &entity.as_object().map(name).unwrap_or_default())
        }
        "PATCH" => Err(Refusal::without_patch()),
        "DELETE" => {
            call.shared.raise(|tenant| tenant.soft_delete_contact(id));
            Ok(StatusCode::NO_CONTENT.into_response())
        }
        _ => Err(Refusal::not_found("There is no such call")),
    }
}

/// Responds to a merge. The source no longer exists afterwards.
pub(crate) fn merge(call: &Call<'_>) -> Result<Response, Refusal> {
    let body = call.object()?;
    let id = |name| {
        let id = lookup(body, name).and_then(Value::as_i64).ok_or_else(|| Refusal::argument("An id is missing"))?;
        let exists = call.shared.tenant().contacts.contains_key(&id);
        exists.then_some(id).ok_or_else(|| Refusal::argument(format!("There is no contact {id}")))
    };
    let (source, destination) = (id("SourceContactId")?, id("DestinationContactId")?);
    call.shared.raise(|tenant| tenant.merge_contacts(source, destination));
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn change(call: &Call<'_>, id: i64, name: &str) -> Result<Response, Refusal> {
    call.shared.raise(|tenant| tenant.change_contact(id, Some(name)));
    view(call, id)
}

fn view(call: &Call<'_>, id: i64) -> Result<Response, Refusal> {
    let tenant = call.shared.tenant();
    let contact = tenant.read_contact(id).ok_or_else(|| Refusal::not_found("There is no such contact"))?;
    Ok(Json(call.selected(contact.entity(&call.times))).into_response())
}

/// Returns the name in an entity. Without one, the contact has an empty name.
fn name(entity: &Map<String, Value>) -> String {
    lookup(entity, "Name").and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn parse_id(id: &str) -> Result<i64, Refusal> {
    id.parse().map_err(|_| Refusal::argument("The id is not a number"))
}
