//! The answer: outcome or error to status and body, in one place.
//!
//! Only 200 counts with SuperOffice, and 410 would switch the webhook off. Errors are problem details (RFC 9457) that
//! carry nothing of what the caller sent and nothing from inside.

use lambda_http::http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER};
use lambda_http::http::{HeaderName, HeaderValue, StatusCode};
use lambda_http::{Body, Response};
use serde::Serialize;

use crate::receiver::{Outcome, ReceiveError};

/// What a caller is asked to wait, in seconds. SuperOffice waits 1 s and 4 s whatever it is told.
const RETRY_AFTER_SECONDS: &str = "1";

/// The response to a request.
pub(crate) fn response(result: &Result<Outcome, ReceiveError>) -> Response<Body> {
    let error = match result {
        Ok(outcome) => return success(outcome),
        Err(error) => error,
    };
    let (status, detail, header) = match error {
        ReceiveError::MethodNotAllowed => {
            (StatusCode::METHOD_NOT_ALLOWED, "Send events with POST.", Some((ALLOW, "POST")))
        }
        ReceiveError::Unauthorized(_) => (StatusCode::UNAUTHORIZED, "The request is not signed as it has to be.", None),
        ReceiveError::EmptyBody => (StatusCode::BAD_REQUEST, "The body is empty.", None),
        ReceiveError::NotUnderstood(_) => (StatusCode::BAD_REQUEST, "The body is not an event.", None),
        ReceiveError::TooLarge(_) => {
            (StatusCode::PAYLOAD_TOO_LARGE, "The body is larger than a queue message can be.", None)
        }
        ReceiveError::NotAccepted(_) => (
            StatusCode::SERVICE_UNAVAILABLE,
            "The event could not be queued. Send it again.",
            Some((RETRY_AFTER, RETRY_AFTER_SECONDS)),
        ),
        ReceiveError::Unforeseen(_) => (StatusCode::INTERNAL_SERVER_ERROR, "The request could not be handled.", None),
    };
    problem(status, detail, header)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Success<'a> {
    outcome: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    event_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message_id: Option<&'a str>,
}

fn success(outcome: &Outcome) -> Response<Body> {
    let (event_id, message_id) = match outcome {
        Outcome::Forwarded { event_id, message_id } => (Some(event_id.as_str()), Some(message_id.as_str())),
        Outcome::Test { event_id } => (event_id.as_deref(), None),
        Outcome::Ignored { event_id } => (Some(event_id.as_str()), None),
        Outcome::Quarantined { message_id } => (None, Some(message_id.as_str())),
    };
    json(StatusCode::OK, "application/json", &Success { outcome: outcome.name(), event_id, message_id })
}

#[derive(Serialize)]
struct Problem<'a> {
    title: &'a str,
    status: u16,
    detail: &'a str,
}

fn problem(status: StatusCode, detail: &str, header: Option<(HeaderName, &'static str)>) -> Response<Body> {
    let title = status.canonical_reason().unwrap_or_default();
    let mut response = json(status, "application/problem+json", &Problem { title, status: status.as_u16(), detail });
    if let Some((name, value)) = header {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

fn json(status: StatusCode, content_type: &'static str, body: &impl Serialize) -> Response<Body> {
    #[expect(clippy::expect_used, reason = "structs of strings and numbers always serialise")]
    let body = serde_json::to_string(body).expect("structs of strings and numbers always serialise");
    let mut response = Response::new(Body::Text(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
