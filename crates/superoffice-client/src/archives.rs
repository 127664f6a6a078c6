//! The resource `Archive`: rows of tables, in pages.

use jiff::Timestamp;
use reqwest::StatusCode;
use serde_json::{Map, Value};
use superoffice_webhook::DateTime;
use superoffice_webhook::webhook::field::{get_ignore_case, parse_integer};

use crate::call::Call;
use crate::client::Client;
use crate::error::ApiError;

/// A page of rows.
pub(crate) struct Page {
    pub(crate) rows: Vec<Row>,
    /// The page has a link to another page. The link is not followed: a list is continued after the last key.
    pub(crate) has_next: bool,
    /// The header `Date` of the response.
    pub(crate) date: Option<Timestamp>,
}

/// A row, whose columns have the names that were requested.
pub(crate) struct Row(Map<String, Value>);

/// A time in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RowTime {
    pub(crate) at: Timestamp,
    /// SuperOffice sent the time with its offset. Otherwise it was read as UTC.
    pub(crate) has_offset: bool,
}

impl From<Map<String, Value>> for Row {
    fn from(columns: Map<String, Value>) -> Self {
        Self(columns)
    }
}

impl Row {
    /// Returns the text of a column.
    pub(crate) fn text(&self, column: &str) -> Option<&str> {
        lookup(&self.0, column).and_then(Value::as_str)
    }

    /// Returns a text as it is, and the JSON of another value; an empty text for `null` and for no value.
    pub(crate) fn exact(&self, column: &str) -> String {
        match lookup(&self.0, column) {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(text)) => text.clone(),
            Some(value) => value.to_string(),
        }
    }

    /// Returns an integer, which may be written as a string.
    pub(crate) fn integer(&self, column: &str) -> Option<i64> {
        lookup(&self.0, column).and_then(integer)
    }

    /// Returns the time of a column; `None` if it never happened.
    ///
    /// # Errors
    ///
    /// A description of the problem if the column is not a time.
    pub(crate) fn time(&self, column: &str) -> Result<Option<RowTime>, String> {
        let problem = || format!("{column} is not a time");
        let text = match lookup(&self.0, column) {
            None | Some(Value::Null | Value::Number(_)) => return Ok(None),
            Some(Value::String(text)) if text.is_empty() => return Ok(None),
            value => value.and_then(Value::as_str).ok_or_else(problem)?,
        };
        let Some(time) = DateTime::parse(text).map_err(|_| problem())? else {
            return Ok(None);
        };
        let has_offset = matches!(time, DateTime::PointInTime(_));
        Ok(Some(RowTime { at: time.in_utc().ok_or_else(problem)?, has_offset }))
    }
}

/// Looks a property or column up by its name in any letter case.
pub(crate) fn lookup<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    get_ignore_case(object, name)
}

/// Sets a property or column, whose name may be there in another letter case.
pub(crate) fn set(object: &mut Map<String, Value>, name: &str, value: Value) {
    let key = object.keys().find(|key| key.eq_ignore_ascii_case(name)).cloned();
    object.insert(key.unwrap_or_else(|| name.to_owned()), value);
}

/// Reads an integer that may be written as a string.
pub(crate) fn integer(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| parse_integer(value.as_str()?))
}

impl Client {
    /// Reads a page of an archive.
    pub(crate) async fn archive(&self, archive: &str, query: &[(&str, String)]) -> Result<Page, ApiError> {
        let path = format!("Archive/{archive}");
        let call = Call::get(&path, query);
        let unexpected = |problem| ApiError::unexpected(call.to_string(), problem);
        let response = self.respond(&call).await?;
        let (is_ok, date) = (response.status == StatusCode::OK, response.date);
        let page = self.json(&call, response)?;
        if !is_ok {
            return Err(unexpected("a status other than 200"));
        }
        let has_next = page.get("odata.nextLink").and_then(Value::as_str).is_some_and(|link| !link.is_empty());
        let Some(Value::Array(rows)) = page.get("value").cloned() else {
            return Err(unexpected("no array `value`"));
        };
        let row = |row| match row {
            Value::Object(row) => Ok(Row::from(row)),
            _ => Err(unexpected("a row that is not an object")),
        };
        Ok(Page { rows: rows.into_iter().map(row).collect::<Result<_, _>>()?, has_next, date })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn time(value: Value) -> Result<Option<RowTime>, String> {
        let Value::Object(row) = json!({"Registered": value}) else { unreachable!("a row is an object") };
        Row::from(row).time("registered")
    }

    #[test]
    fn times_without_an_offset_are_in_utc() {
        let at: Timestamp = "2026-11-24T09:05:07Z".parse().unwrap();
        for (text, has_offset) in [
            ("2026-11-24T09:05:07", false),
            ("2026-11-24T09:05:07.0000000", false),
            ("[DT:11/24/2026 09:05:07.0000000]", false),
            ("2026-11-24T09:05:07Z", true),
            ("2026-11-24T10:05:07+01:00", true),
        ] {
            assert_eq!(time(json!(text)), Ok(Some(RowTime { at, has_offset })), "{text}");
        }
    }

    #[test]
    fn what_never_happened_has_no_time() {
        for never in [Value::Null, json!(0), json!(""), json!("0001-01-01T00:00:00"), json!("0001-01-01T00:00:00Z")] {
            assert_eq!(time(never), Ok(None));
        }
        for invalid in [json!("soon"), json!(true), json!("[DT:yesterday]")] {
            assert_eq!(time(invalid), Err("registered is not a time".into()));
        }
    }

    #[test]
    fn integers_may_be_strings() {
        assert_eq!(integer(&json!(7)), Some(7));
        assert_eq!(integer(&json!("7")), Some(7));
        assert_eq!(integer(&json!("seven")), None);
        assert_eq!(integer(&Value::Null), None);
    }
}
