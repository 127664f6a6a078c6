//! A call of the REST API, and its response.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use reqwest::{Method, StatusCode};
use serde_json::Value;

use crate::error::{ApiError, ErrorKind};
use crate::redact::Redactor;

/// The longest part of an error response that is shown, in characters.
const MAX_SHOWN: usize = 1000;

/// A call of the REST API.
pub(crate) struct Call<'a> {
    pub(crate) method: Method,
    /// The part of the path after `/api/v1/`.
    pub(crate) path: &'a str,
    pub(crate) query: &'a [(&'a str, String)],
    pub(crate) body: Option<&'a Value>,
    pub(crate) repeat: Repeat,
}

/// The condition for another attempt after a failed one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// The call has the same effect once and twice.
    Always,
    /// SuperOffice cannot have acted on the failed attempt.
    IfNotProcessed,
}

impl<'a> Call<'a> {
    /// Describes a `GET`.
    pub(crate) fn get(path: &'a str, query: &'a [(&'a str, String)]) -> Self {
        Self { method: Method::GET, path, query, body: None, repeat: Repeat::Always }
    }
}

impl fmt::Display for Call<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.path)
    }
}

/// A response with any status.
pub(crate) struct Response {
    pub(crate) status: StatusCode,
    pub(crate) body: Vec<u8>,
    /// The header `Date`.
    pub(crate) date: Option<Timestamp>,
    /// The header `Retry-After`.
    pub(crate) retry_after: Option<Duration>,
}

impl Response {
    /// Returns the body of a success, without a byte order mark.
    pub(crate) fn success(self, call: &Call<'_>, redactor: &Redactor) -> Result<Vec<u8>, ApiError> {
        if self.status.is_success() {
            return Ok(without_byte_order_mark(&self.body).to_vec());
        }
        let (status, message) = (self.status.as_u16(), message(&self.body, redactor));
        let kind = match self.status {
            StatusCode::UNAUTHORIZED => ErrorKind::Unauthorized,
            StatusCode::FORBIDDEN => ErrorKind::Forbidden(message),
            StatusCode::MISDIRECTED_REQUEST => ErrorKind::WrongHost,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                ErrorKind::Unavailable { status, message }
            }
            _ => ErrorKind::Status { status, message },
        };
        Err(ApiError::new(call.to_string(), kind))
    }
}

/// Returns the message of an error response, for people: `: <text>`, or nothing.
fn message(body: &[u8], redactor: &Redactor) -> String {
    let text = String::from_utf8_lossy(body);
    let json: Option<Value> = serde_json::from_str(text.trim_start_matches('\u{feff}')).ok();
    let field = |name: &str| Some(json.as_ref()?.get(name)?.as_str()?.to_owned());
    let text = ["Message", "ErrorMessage", "detail", "title"].into_iter().find_map(field).unwrap_or(text.into());
    let text: String = redactor.redact(text.trim()).chars().take(MAX_SHOWN).collect();
    if text.is_empty() { text } else { format!(": {text}") }
}

/// Returns a body without the byte order mark at its beginning.
pub(crate) fn without_byte_order_mark(body: &[u8]) -> &[u8] {
    body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body)
}
