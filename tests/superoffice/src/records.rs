//! The calls under `/api/v1/Contact` and `/api/v1/Person`, and the merge of two contacts. Of the properties that a
//! client writes, only the name has an effect.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value};

use crate::call::Call;
use crate::error::Refusal;
use crate::mode::Version;
use crate::patch::{self, lookup};
use crate::record::{Kind, Record};

/// Responds to a call.
pub(crate) fn call(call: &Call<'_>, kind: Kind, path: &[&str]) -> Result<Response, Refusal> {
    match (call.method.as_str(), path) {
        ("POST", []) => {
            let name = name(kind, call.object()?);
            view(call, kind, call.shared.raise(|tenant| tenant.create(kind, Some(&name))))
        }
        (_, [id]) => existing(call, kind, parse_id(id)?),
        _ => Err(Refusal::not_found("There is no such call")),
    }
}

fn existing(call: &Call<'_>, kind: Kind, id: i64) -> Result<Response, Refusal> {
    let record = call.shared.tenant().records.get(&(kind, id)).filter(|record| is_readable(record)).cloned();
    let record = record.ok_or_else(|| missing(kind))?;
    call.check_preconditions(record.changed())?;
    match call.method.as_str() {
        "GET" => view(call, kind, id),
        "PUT" => change(call, kind, id, &name(kind, call.object()?)),
        "PATCH" if call.mode.version != Version::WithoutPatch => {
            let mut entity = Value::Object(record.entity(&call.times));
            patch::apply(&mut entity, call.content)?;
            change(call, kind, id, &entity.as_object().map(|entity| name(kind, entity)).unwrap_or_default())
        }
        "PATCH" => Err(Refusal::without_patch()),
        "DELETE" => {
            call.shared.raise(|tenant| tenant.soft_delete(kind, id));
            Ok(StatusCode::NO_CONTENT.into_response())
        }
        _ => Err(Refusal::not_found("There is no such call")),
    }
}

/// Responds to a merge. The source no longer exists afterwards.
pub(crate) fn merge_contacts(call: &Call<'_>) -> Result<Response, Refusal> {
    let body = call.object()?;
    let id = |name| {
        let id = lookup(body, name).and_then(Value::as_i64).ok_or_else(|| Refusal::argument("An id is missing"))?;
        let exists = call.shared.tenant().records.contains_key(&(Kind::Contact, id));
        exists.then_some(id).ok_or_else(|| Refusal::argument(format!("There is no contact {id}")))
    };
    let (source, destination) = (id("SourceContactId")?, id("DestinationContactId")?);
    call.shared.raise(|tenant| tenant.merge(Kind::Contact, source, destination));
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn change(call: &Call<'_>, kind: Kind, id: i64, name: &str) -> Result<Response, Refusal> {
    call.shared.raise(|tenant| tenant.change(kind, id, Some(name)));
    view(call, kind, id)
}

fn view(call: &Call<'_>, kind: Kind, id: i64) -> Result<Response, Refusal> {
    let tenant = call.shared.tenant();
    let record = tenant.read(kind, id).filter(|record| is_readable(record)).ok_or_else(|| missing(kind))?;
    Ok(Json(call.selected(record.entity(&call.times))).into_response())
}

/// Returns `true` if a read returns the record. A deleted contact has the property `Deleted`. The documented entity of
/// a person has none, so a deleted person is not found.
fn is_readable(record: &Record) -> bool {
    record.kind == Kind::Contact || record.deleted.is_none()
}

fn missing(kind: Kind) -> Refusal {
    Refusal::not_found(&format!("There is no such {}", kind.names().entity))
}

/// Returns the name in an entity. Without one, the record has an empty name.
fn name(kind: Kind, entity: &Map<String, Value>) -> String {
    lookup(entity, kind.names().name_property).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn parse_id(id: &str) -> Result<i64, Refusal> {
    id.parse().map_err(|_| Refusal::argument("The id is not a number"))
}
