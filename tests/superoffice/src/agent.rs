//! The calls under `/api/v1/Agents/Webhook`, which SuperOffice's own client uses. Arguments are in the body.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use crate::call::Call;
use crate::error::Refusal;
use crate::patch::lookup;
use crate::webhooks;

/// Responds to a call. `operation` is in lower case.
pub(crate) async fn call(call: &Call<'_>, operation: &str) -> Result<Response, Refusal> {
    let argument = |name| call.object().map(|body| lookup(body, name).cloned().unwrap_or_default());
    let text = |name| argument(name).map(|value| value.as_str().unwrap_or_default().to_owned());
    let answer = match operation {
        "createdefaultwebhook" => Value::Object(webhooks::new(call)),
        "getwebhook" => {
            json!(webhooks::find(call, parameter_id(call)?).map(|found| found.view(&call.mode, &call.times)))
        }
        "getallwebhooks" => {
            json!(webhooks::list(call, &text("nameFilter")?, &text("eventFilter")?, &text("statusFilter")?)?)
        }
        "savewebhook" => {
            let carrier = call.object()?;
            let id = lookup(carrier, "WebhookId").and_then(Value::as_i64).filter(|id| *id != 0);
            json!(webhooks::save(call, id, carrier).await?.view(&call.mode, &call.times))
        }
        "deletewebhook" => {
            webhooks::delete(call, parameter_id(call)?);
            return Ok(StatusCode::NO_CONTENT.into_response());
        }
        "testwebhook" => {
            let carrier = argument("webhook")?;
            webhooks::test(call, carrier.as_object().unwrap_or(&Map::new())).await?
        }
        "signalevent" => {
            let (event, data) = (text("eventName")?, argument("data")?);
            let key = argument("primaryKey")?.as_i64().unwrap_or_default();
            call.shared.raise(|tenant| tenant.signal(&event, key, &data));
            return Ok(StatusCode::NO_CONTENT.into_response());
        }
        "getlasterror" => {
            let id = argument("webhookId")?.as_i64().unwrap_or_default();
            json!(webhooks::find(call, id).and_then(|found| found.last_error).unwrap_or_default())
        }
        _ => return Err(Refusal::not_found("There is no such call")),
    };
    Ok(Json(answer).into_response())
}

fn parameter_id(call: &Call<'_>) -> Result<i64, Refusal> {
    call.parameter("webhookId").parse().map_err(|_| Refusal::argument("The webhook's id is not a number"))
}
