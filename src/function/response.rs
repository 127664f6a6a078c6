//! The HTTP response to each outcome and error, in one match.
//!
//! SuperOffice counts only 200 as success, and 410 would disable the webhook. Errors are problem details (RFC 9457)
//! without request data or internal error texts.

use lambda_http::http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER};
use lambda_http::http::{HeaderName, HeaderValue, Response, StatusCode};
use serde::Serialize;

use crate::function::outcome::{HandleError, Outcome};

/// The delay suggested to callers, in seconds. SuperOffice waits 1 s and 4 s in any case.
const RETRY_AFTER_SECONDS: &str = "1";

/// Returns the response to a request.
pub(crate) fn response(result: &Result<Outcome, HandleError>) -> Response<String> {
    let error = match result {
        Ok(outcome) => return success(outcome),
        Err(error) => error,
    };
    let (status, detail, header) = match error {
        HandleError::MethodNotAllowed => {
            (StatusCode::METHOD_NOT_ALLOWED, "Send events with POST.", Some((ALLOW, "POST")))
        }
        HandleError::Unauthorized(_) => {
            (StatusCode::UNAUTHORIZED, "The request signature is missing or invalid.", None)
        }
        HandleError::EmptyBody => (StatusCode::BAD_REQUEST, "The body is empty.", None),
        HandleError::Malformed(_) => (StatusCode::BAD_REQUEST, "The body is malformed.", None),
        HandleError::BodyTooLarge(_) | HandleError::TooLarge(_) => {
            (StatusCode::PAYLOAD_TOO_LARGE, "The body is too large for a queue message.", None)
        }
        HandleError::NotEnqueued(_) => (
            StatusCode::SERVICE_UNAVAILABLE,
            "The event could not be queued. Send it again.",
            Some((RETRY_AFTER, RETRY_AFTER_SECONDS)),
        ),
        HandleError::InvalidEvent(_) | HandleError::Panic => {
            (StatusCode::INTERNAL_SERVER_ERROR, "The request could not be handled.", None)
        }
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

fn success(outcome: &Outcome) -> Response<String> {
    let (event_id, message_id) = match outcome {
        Outcome::Forwarded { event_id, message_id } => (Some(event_id.as_str()), Some(message_id.as_str())),
        Outcome::Test { event_id } => (event_id.as_deref(), None),
        Outcome::Ignored { event_id } => (Some(event_id.as_str()), None),
        Outcome::Quarantined { message_id } => (None, Some(message_id.as_str())),
    };
    json(StatusCode::OK, "application/json", &Success { outcome: outcome.as_str(), event_id, message_id })
}

#[derive(Serialize)]
struct Problem<'a> {
    title: &'a str,
    status: u16,
    detail: &'a str,
}

fn problem(status: StatusCode, detail: &str, header: Option<(HeaderName, &'static str)>) -> Response<String> {
    let title = status.canonical_reason().unwrap_or_default();
    let mut response = json(status, "application/problem+json", &Problem { title, status: status.as_u16(), detail });
    if let Some((name, value)) = header {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

fn json(status: StatusCode, content_type: &'static str, body: &impl Serialize) -> Response<String> {
    #[expect(clippy::expect_used, reason = "structs of strings and numbers always serialize")]
    let body = serde_json::to_string(body).expect("structs of strings and numbers always serialize");
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::function::queue::{QueueError, SendError};
    use crate::function::request::InvalidEvent;
    use crate::message::TooLarge;
    use crate::webhook::metadata::ParseError;
    use crate::webhook::signature::InvalidSignature;
    use crate::webhook::verifier::Rejection;

    /// A 410 or a redirect would disable the webhook.
    #[test]
    fn every_error_has_its_status() {
        for (error, status) in [
            (HandleError::MethodNotAllowed, 405),
            (HandleError::BodyTooLarge(1), 413),
            (HandleError::Unauthorized(Rejection::Missing), 401),
            (HandleError::Unauthorized(Rejection::Repeated), 401),
            (HandleError::Unauthorized(Rejection::Invalid(InvalidSignature::NotBase64)), 401),
            (HandleError::Unauthorized(Rejection::Invalid(InvalidSignature::WrongLength)), 401),
            (HandleError::Unauthorized(Rejection::Mismatch), 401),
            (HandleError::Unauthorized(Rejection::StrayWhitespace), 401),
            (HandleError::Unauthorized(Rejection::TenantMismatch), 401),
            (HandleError::EmptyBody, 400),
            (HandleError::Malformed(ParseError::NoEvent), 400),
            (HandleError::TooLarge(TooLarge { bytes: 1 }), 413),
            (HandleError::NotEnqueued(SendError::Queue(QueueError::Timeout)), 503),
            (HandleError::NotEnqueued(SendError::Both(QueueError::Timeout, QueueError::Unreachable)), 503),
            (HandleError::InvalidEvent(InvalidEvent::NotApiGateway), 500),
            (HandleError::InvalidEvent(InvalidEvent::NotBase64), 500),
            (HandleError::Panic, 500),
        ] {
            // A new error does not compile until it is added here and above.
            match error {
                HandleError::MethodNotAllowed
                | HandleError::BodyTooLarge(_)
                | HandleError::Unauthorized(_)
                | HandleError::EmptyBody
                | HandleError::Malformed(_)
                | HandleError::TooLarge(_)
                | HandleError::NotEnqueued(_)
                | HandleError::InvalidEvent(_)
                | HandleError::Panic => {}
            }
            let response = response(&Err(error));
            assert_eq!(response.status(), status);
            assert!(!response.headers().contains_key("location"), "{status}");
        }
    }

    #[test]
    fn every_outcome_has_status_200() {
        let id = || "id".to_owned();
        for outcome in [
            Outcome::Forwarded { event_id: id(), message_id: id() },
            Outcome::Test { event_id: None },
            Outcome::Ignored { event_id: id() },
            Outcome::Quarantined { message_id: id() },
        ] {
            assert_eq!(response(&Ok(outcome)).status(), 200);
        }
    }
}
