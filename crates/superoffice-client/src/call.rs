//! A call of the REST API: its parameters, and the result of its response.

use std::fmt;

use reqwest::{Method, StatusCode};
use serde_json::Value;

use crate::client::Client;
use crate::error::{ApiError, ErrorKind};
use crate::retry::{Repeat, Response};

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

impl Client {
    pub(crate) async fn get(&self, path: &str, query: &[(&str, String)]) -> Result<Value, ApiError> {
        self.call(&Call::get(path, query)).await
    }

    /// Sends a request that has the same effect once and twice.
    pub(crate) async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, ApiError> {
        self.call(&Call { method, path, query: &[], body, repeat: Repeat::Always }).await
    }

    /// Sends a `POST` that is only repeated if SuperOffice cannot have acted on it.
    pub(crate) async fn post_once(&self, path: &str, body: &Value) -> Result<Value, ApiError> {
        let (method, body) = (Method::POST, Some(body));
        self.call(&Call { method, path, query: &[], body, repeat: Repeat::IfNotProcessed }).await
    }

    async fn call(&self, call: &Call<'_>) -> Result<Value, ApiError> {
        let response = self.respond(call).await?;
        self.json(call, response)
    }

    /// Parses the JSON of a success. An empty body is `null`.
    pub(crate) fn json(&self, call: &Call<'_>, response: Response) -> Result<Value, ApiError> {
        let body = self.success(call, response)?;
        if body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&body).map_err(|error| ApiError::unexpected(call.to_string(), error))
    }

    /// Returns the body of a success, without a byte order mark.
    pub(crate) fn success(&self, call: &Call<'_>, response: Response) -> Result<Vec<u8>, ApiError> {
        if response.status.is_success() {
            return Ok(without_byte_order_mark(response.body));
        }
        let (status, message) = (response.status.as_u16(), self.message(&response.body));
        let kind = match response.status {
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

    /// Returns the message of an error response, for people: `: <text>`, or nothing.
    fn message(&self, body: &[u8]) -> String {
        let text = String::from_utf8_lossy(body);
        let json: Option<Value> = serde_json::from_str(text.trim_start_matches('\u{feff}')).ok();
        let field = |name: &str| Some(json.as_ref()?.get(name)?.as_str()?.to_owned());
        let text = ["Message", "ErrorMessage", "detail", "title"].into_iter().find_map(field).unwrap_or(text.into());
        let text: String = self.redact(text.trim()).chars().take(MAX_SHOWN).collect();
        if text.is_empty() { text } else { format!(": {text}") }
    }
}

fn without_byte_order_mark(mut body: Vec<u8>) -> Vec<u8> {
    if body.starts_with(b"\xef\xbb\xbf") {
        body.drain(..3);
    }
    body
}
