//! SuperOffice's error carrier.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

/// A call that is refused.
#[derive(Debug)]
pub(crate) struct Refusal {
    status: StatusCode,
    kind: &'static str,
    message: String,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        Self { status, kind, message: message.into() }
    }

    /// 400 for an argument.
    pub(crate) fn argument(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "ArgumentException", message)
    }

    /// 404.
    pub(crate) fn not_found(message: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "NotFoundException", message)
    }

    /// 405 for `PATCH`, on servers that do not know it.
    pub(crate) fn without_patch() -> Self {
        let message = "The requested resource does not support http method 'PATCH'.";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "NotSupportedException", message)
    }

    /// A scripted fault.
    pub(crate) fn scripted(status: u16) -> Self {
        let status = StatusCode::from_u16(status).expect("a valid status");
        Self::new(status, "Exception", "This call fails in this test")
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        if self.status == StatusCode::NOT_MODIFIED {
            return self.status.into_response();
        }
        let carrier = json!({
            "Error": true,
            "ErrorType": self.kind,
            "Message": self.message,
            "ErrorSource": "SuperOffice.Services.Implementation",
        });
        (self.status, Json(carrier)).into_response()
    }
}
