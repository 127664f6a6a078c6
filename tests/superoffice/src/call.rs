//! A call of the API: arguments, preconditions, and the properties that its answer has.

use std::collections::HashMap;

use axum::http::{HeaderMap, Method, StatusCode, header};
use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::error::Refusal;
use crate::mode::Mode;
use crate::shared::Shared;
use crate::times::{Times, parse_http_date};

/// A call of the API that is allowed.
pub(crate) struct Call<'a> {
    pub(crate) shared: &'a Shared,
    pub(crate) method: &'a Method,
    pub(crate) query: &'a HashMap<String, String>,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) body: &'a [u8],
    pub(crate) content: &'a Value,
    pub(crate) mode: Mode,
    pub(crate) times: Times,
}

impl Call<'_> {
    /// Returns a parameter of the query, or an empty text.
    pub(crate) fn parameter(&self, name: &str) -> &str {
        let found = self.query.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str()).unwrap_or_default()
    }

    /// Returns the body, which must be an object.
    pub(crate) fn object(&self) -> Result<&Map<String, Value>, Refusal> {
        self.content.as_object().ok_or_else(|| Refusal::argument("A non-empty request body is required."))
    }

    /// Sets every property to `null` that `$select` does not name.
    pub(crate) fn selected(&self, mut view: Map<String, Value>) -> Value {
        let columns = self.parameter("$select");
        let is_selected = |name: &str| columns.split(',').any(|column| column.trim().eq_ignore_ascii_case(name));
        if !columns.is_empty() {
            view.iter_mut().filter(|(name, _)| !is_selected(name)).for_each(|(_, value)| *value = Value::Null);
        }
        Value::Object(view)
    }

    /// Checks the headers `If-Modified-Since` and `If-Unmodified-Since`.
    pub(crate) fn check_preconditions(&self, changed: Timestamp) -> Result<(), Refusal> {
        let date = |name| self.headers.get(name).and_then(|value| parse_http_date(value.to_str().ok()?));
        if date(header::IF_UNMODIFIED_SINCE).is_some_and(|date| changed > date) {
            let message = "The entity has been changed since";
            return Err(Refusal::new(StatusCode::PRECONDITION_FAILED, "PreconditionFailedException", message));
        }
        if self.method == Method::GET && date(header::IF_MODIFIED_SINCE).is_some_and(|date| changed <= date) {
            return Err(Refusal::new(StatusCode::NOT_MODIFIED, "", ""));
        }
        Ok(())
    }
}
