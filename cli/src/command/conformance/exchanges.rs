//! The requests of a run and their responses: for answers that only the form of a response shows, and for recordings.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::{fs, io};

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use superoffice_client::registration::CONTACT_EVENTS;
use superoffice_client::{Exchange, Observer};
use superoffice_webhook::DateTime;

use super::cleanup::MARK;

/// A request and its response.
#[derive(Clone, Debug)]
pub(super) struct Recorded {
    pub(super) method: String,
    pub(super) path: String,
    query: Vec<(String, String)>,
    request: Option<Value>,
    pub(super) status: u16,
    pub(super) date: Option<Timestamp>,
    /// `Null` if it is not JSON.
    pub(super) response: Value,
    bytes: usize,
}

impl Recorded {
    /// Returns a parameter, or an empty text.
    pub(super) fn parameter(&self, name: &str) -> &str {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str()).unwrap_or_default()
    }

    fn new(exchange: &Exchange<'_>) -> Self {
        let without_mark = exchange.response.strip_prefix(b"\xef\xbb\xbf").unwrap_or(exchange.response);
        Self {
            method: exchange.method.to_owned(),
            path: exchange.path.to_owned(),
            query: exchange.query.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect(),
            request: exchange.request.cloned(),
            status: exchange.status,
            date: exchange.date,
            response: serde_json::from_slice(without_mark).unwrap_or_default(),
            bytes: exchange.response.len(),
        }
    }

    /// Returns the recording. Every text that can be a name, a host or a secret is replaced.
    fn redacted(&self) -> Value {
        let query: Map<String, Value> = self.query.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
        json!({
            "request": {
                "method": self.method, "path": self.path, "query": query,
                "body": self.request.as_ref().map(|body| redact("", body)),
            },
            "response": {
                "status": self.status, "date": self.date, "bytes": self.bytes, "body": redact("", &self.response),
            },
        })
    }
}

/// The exchanges of a run, oldest first.
#[derive(Clone, Default)]
pub(super) struct Exchanges(Arc<Mutex<Vec<Recorded>>>);

impl Exchanges {
    pub(super) fn observer(&self) -> Observer {
        let exchanges = self.clone();
        Arc::new(move |exchange| exchanges.lock().push(Recorded::new(exchange)))
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Recorded>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn count(&self) -> usize {
        self.lock().len()
    }

    /// Returns the exchanges after the first `count`.
    pub(super) fn since(&self, count: usize) -> Vec<Recorded> {
        self.lock().get(count..).unwrap_or_default().to_vec()
    }

    /// Writes each exchange to a file.
    pub(super) fn write(&self, directory: &Path) -> io::Result<()> {
        for (number, recorded) in self.lock().iter().enumerate() {
            let path = recorded.path.replace('/', "-");
            let name = format!("{:04}-{}-{path}.json", number + 1, recorded.method);
            fs::write(directory.join(name), format!("{:#}\n", recorded.redacted()))?;
        }
        Ok(())
    }
}

/// The properties whose own properties are a customer's.
const CUSTOM: [&str; 6] =
    ["UserDefinedFields", "ExtraFields", "CustomFields", "Headers", "Properties", "FieldProperties"];
/// Texts that SuperOffice or this project defines.
const KNOWN: [&str; 12] = [
    "",
    "webhook",
    "test",
    "replace",
    "contact",
    "forAllUsers",
    "Active",
    "Stopped",
    "TooManyErrors",
    "None",
    "JWT",
    "Running",
];

fn redact(name: &str, value: &Value) -> Value {
    match value {
        Value::Object(object) if CUSTOM.iter().any(|custom| custom.eq_ignore_ascii_case(name)) => {
            json!(format!("({} properties)", object.len()))
        }
        Value::Object(object) => {
            object.iter().map(|(name, value)| (name.clone(), redact(name, value))).collect::<Map<_, _>>().into()
        }
        Value::Array(items) => items.iter().map(|item| redact(name, item)).collect(),
        Value::String(text) if !is_public(name, text) => json!("(text)"),
        value => value.clone(),
    }
}

/// Returns `true` if a text names no person, company, host or customer, and is no secret.
fn is_public(name: &str, text: &str) -> bool {
    let is_name_of_type = ["ErrorType", "EntityName"].iter().any(|public| public.eq_ignore_ascii_case(name));
    let lower = name.to_ascii_lowercase();
    let is_key = ["id", "key", "record"].iter().any(|ending| lower.ends_with(ending));
    let is_property = |path: &str| path.bytes().all(|byte| byte.is_ascii_alphabetic());
    is_name_of_type
        || KNOWN.contains(&text)
        || CONTACT_EVENTS.contains(&text)
        || text.starts_with(MARK)
        || (is_key && text.bytes().all(|byte| byte.is_ascii_digit()))
        || DateTime::parse(text).is_ok()
        || (name == "path" && text.strip_prefix('/').is_some_and(is_property))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recording_has_no_text_that_can_be_a_name_a_host_or_a_secret() {
        let query = [("$filter", "contact.contact_id gt 7".to_owned())];
        let request = json!({"Name": "so-webhook conformance: created", "Secret": "hunter2", "ApplicationToken": "9f"});
        let response = br#"{"Name": "Acme AS", "ContactId": 7, "CreatedDate": "2026-11-24T09:00:00Z", "PrimaryKey": "7",
            "State": "Active", "Events": ["contact.created", "y_private.changed"], "TargetUrl": "https://hooks.example.com",
            "Headers": {"X-Api-Key": "hunter2"}, "Persons": [{"Firstname": "Kari"}], "Phones": [{"Value": "4712345"}], "Deleted": false,
            "ExtraFields": {"x_secret": "1"}, "EntityName": "contact", "Message": "no such tenant Cust12345"}"#;
        let exchange = Exchange {
            method: "POST",
            path: "Contact",
            query: &query,
            request: Some(&request),
            status: 200,
            date: Some(Timestamp::UNIX_EPOCH),
            response,
        };
        let text = json!("(text)");
        let expected = json!({
            "request": {
                "method": "POST", "path": "Contact", "query": {"$filter": "contact.contact_id gt 7"},
                "body": {"Name": "so-webhook conformance: created", "Secret": text, "ApplicationToken": text},
            },
            "response": {
                "status": 200, "date": "1970-01-01T00:00:00Z", "bytes": response.len(),
                "body": {
                    "Name": text, "ContactId": 7, "CreatedDate": "2026-11-24T09:00:00Z", "PrimaryKey": "7",
                    "State": "Active", "Events": ["contact.created", text], "TargetUrl": text,
                    "Headers": "(1 properties)", "Persons": [{"Firstname": text}], "Phones": [{"Value": text}], "Deleted": false,
                    "ExtraFields": "(1 properties)", "EntityName": "contact", "Message": text,
                },
            },
        });
        assert_eq!(Recorded::new(&exchange).redacted(), expected);
        let page = Exchange { response: b"<html>Acme AS", request: None, ..exchange };
        assert_eq!(Recorded::new(&page).redacted()["response"]["body"], Value::Null);
    }
}
