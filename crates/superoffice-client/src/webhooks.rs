//! The resource `Webhook`.

mod update;
mod usage;

use std::fmt;

use reqwest::Method;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value, json};
use superoffice_webhook::webhook::entity::Archive;

use crate::archives::{lookup, set};
use crate::client::Client;
use crate::error::ApiError;

pub use update::PropertyChange;
pub use usage::Usage;

/// The private event on which a consumer reads the contact's current state. Only the webhook of the function
/// subscribes to it, and SuperOffice signals it on request.
pub const RESYNC_EVENT: &str = "contact.resync";
/// The beginning of the name of a contact event.
const CONTACT_PREFIX: &str = "contact.";
/// The endings of the events that report a webhook's state.
pub(crate) const STATE_EVENTS: [&str; 3] = ["started", "stopped", "errors"];

/// The state of a webhook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// Events are sent.
    Active,
    /// Someone stopped it.
    Stopped,
    /// SuperOffice disabled it after too many errors.
    TooManyErrors,
    /// Another text.
    Unknown,
}

impl State {
    /// Returns the name in SuperOffice.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "Active",
            Self::Stopped => "Stopped",
            Self::TooManyErrors => "TooManyErrors",
            Self::Unknown => "Unknown",
        }
    }

    fn read(value: Option<&Value>) -> Self {
        match (value.and_then(Value::as_str), value.and_then(Value::as_i64)) {
            (Some("Active"), _) | (_, Some(1)) => Self::Active,
            (Some("Stopped"), _) | (_, Some(2)) => Self::Stopped,
            (Some("TooManyErrors"), _) | (_, Some(3)) => Self::TooManyErrors,
            _ => Self::Unknown,
        }
    }
}

/// A webhook as SuperOffice returned it, with every property. Among them are the secret and headers, so its `Debug`
/// output has only the id and the state.
#[derive(Clone)]
pub struct Webhook {
    id: i64,
    properties: Map<String, Value>,
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook").field("id", &self.id).field("state", &self.state()).finish_non_exhaustive()
    }
}

impl Webhook {
    pub(crate) fn read(value: Value) -> Result<Self, ApiError> {
        let problem = || ApiError::unexpected("Webhook", "a webhook without WebhookId");
        let Value::Object(properties) = value else {
            return Err(problem());
        };
        let id = lookup(&properties, "WebhookId").and_then(Value::as_i64).ok_or_else(problem)?;
        Ok(Self { id, properties })
    }

    /// Returns the id.
    pub fn id(&self) -> i64 {
        self.id
    }

    /// Returns the name.
    pub fn name(&self) -> &str {
        self.text("Name").unwrap_or_default()
    }

    /// Returns the URL that events are posted to.
    pub fn target_url(&self) -> &str {
        self.text("TargetUrl").unwrap_or_default()
    }

    /// Returns the names of the events.
    pub fn events(&self) -> impl Iterator<Item = &str> {
        self.get("Events").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
    }

    /// Returns the state.
    pub fn state(&self) -> State {
        State::read(self.get("State"))
    }

    /// Returns `true` if it subscribes to a contact event.
    pub fn is_for_contacts(&self) -> bool {
        self.events().any(is_contact_event)
    }

    /// Returns `true` if it subscribes to the private event of an entity: `contact.resync`.
    pub fn receives_resync(&self, archive: &Archive) -> bool {
        let resync = archive.resync();
        self.events().any(|event| event.eq_ignore_ascii_case(&resync))
    }

    /// Returns `true` if it only subscribes to the state of webhooks.
    pub fn is_for_states(&self) -> bool {
        self.events().next().is_some() && self.events().all(|event| watched_webhook(event).is_some())
    }

    /// Returns `true` if it reports the state of one of these webhooks.
    pub(crate) fn watches(&self, ids: &[i64]) -> bool {
        self.events().filter_map(watched_webhook).any(|id| ids.contains(&id))
    }

    pub(crate) fn is_http(&self) -> bool {
        self.text("Type").is_none_or(|kind| kind.eq_ignore_ascii_case("webhook"))
    }

    /// Returns the stored secret; `None` if the server hides it, or if there is none.
    pub(crate) fn secret(&self) -> Option<&str> {
        self.text("Secret").filter(|secret| !secret.chars().all(|character| matches!(character, '*' | '\u{2022}')))
    }

    /// Returns a property that is not null, by its name in any letter case.
    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        lookup(&self.properties, name).filter(|value| !value.is_null())
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        lookup(&self.properties, name).is_some()
    }

    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(Value::as_str)
    }

    /// Returns the properties with the stored secret, or with `secret` where the server hides the stored one.
    fn with_secret(&self, secret: Option<&SecretString>) -> Map<String, Value> {
        let mut properties = self.properties.clone();
        if let (None, Some(secret)) = (self.secret(), secret) {
            set(&mut properties, "Secret", json!(secret.expose_secret()));
        }
        properties
    }
}

/// Returns `true` for events of contacts, `contact.changed` for example.
pub fn is_contact_event(event: &str) -> bool {
    event.get(..CONTACT_PREFIX.len()).is_some_and(|prefix| prefix.eq_ignore_ascii_case(CONTACT_PREFIX))
}

/// Returns the id of the webhook whose state an event reports: 123 for `webhook123.errors`.
fn watched_webhook(event: &str) -> Option<i64> {
    let (subject, ending) = event.split_once('.')?;
    let (prefix, id) = subject.split_at_checked("webhook".len())?;
    let is_state = prefix.eq_ignore_ascii_case("webhook")
        && id.bytes().all(|byte| byte.is_ascii_digit())
        && STATE_EVENTS.iter().any(|name| name.eq_ignore_ascii_case(ending));
    if is_state { id.parse().ok() } else { None }
}

/// The result of a test that SuperOffice made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestResult {
    /// `true` if the response was 200.
    pub success: bool,
    /// The headers and the body of the response.
    pub message: String,
}

impl Client {
    /// Lists the webhooks that the user may see, in order of their ids.
    pub(crate) async fn all_webhooks(&self) -> Result<Vec<Webhook>, ApiError> {
        let Value::Array(list) = self.get("Webhook", &[]).await? else {
            return Err(ApiError::unexpected("GET Webhook", "not an array"));
        };
        let mut webhooks = list.into_iter().map(Webhook::read).collect::<Result<Vec<_>, _>>()?;
        webhooks.sort_by_key(Webhook::id);
        Ok(webhooks)
    }

    /// Creates a webhook. SuperOffice posts its signed test first.
    pub(crate) async fn create_webhook(&self, properties: &Value) -> Result<Webhook, ApiError> {
        Webhook::read(self.post_once("Webhook", properties).await?)
    }

    /// Deletes a webhook, unless it is gone already.
    pub(crate) async fn delete_webhook(&self, webhook: &Webhook) -> Result<(), ApiError> {
        match self.send(Method::DELETE, &format!("Webhook/{}", webhook.id), None).await {
            Err(error) if error.status() != Some(404) => Err(error),
            _ => Ok(()),
        }
    }

    /// Makes SuperOffice post its signed test. The stored secret signs it; where the server does not return that,
    /// `secret` does.
    ///
    /// # Errors
    ///
    /// [`ApiError`] if the test could not be made; a failed test is a [`TestResult`].
    pub async fn test(&self, webhook: &Webhook, secret: Option<&SecretString>) -> Result<TestResult, ApiError> {
        let body = Value::Object(webhook.with_secret(secret));
        let result = self.send(Method::POST, "Webhook/Test", Some(&body)).await?;
        let field = |name| result.as_object().and_then(|result| lookup(result, name));
        let success = field("Success").and_then(Value::as_bool);
        let success = success.ok_or_else(|| ApiError::unexpected("POST Webhook/Test", "no Success in the response"))?;
        let message = self.redact(field("Message").and_then(Value::as_str).unwrap_or_default());
        Ok(TestResult { success, message })
    }

    /// Makes SuperOffice send the private event of an entity for a record: `contact.resync`.
    ///
    /// # Errors
    ///
    /// [`ApiError`] if the call fails.
    pub async fn signal_resync(&self, archive: &Archive, id: i64) -> Result<(), ApiError> {
        // The documentation requires a body; without one, servers may respond with 400 or 415.
        self.post_once(&format!("Webhook/{}/{id}", archive.resync()), &json!({})).await.map(drop)
    }
}

#[cfg(test)]
mod tests;
