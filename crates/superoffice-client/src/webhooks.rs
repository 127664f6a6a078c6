//! The webhook calls, and the webhooks that post to `WEBHOOK_URL`.

use std::fmt;

use reqwest::Method;
use serde_json::{Map, Value, json};

use secrecy::{ExposeSecret, SecretString};

use crate::client::Client;
use crate::error::{ApiError, ErrorKind};

/// The events that the function receives for contacts. The last is private: only this webhook subscribes to it, and
/// SuperOffice signals it on request.
pub const CONTACT_EVENTS: [&str; 5] =
    ["contact.created", "contact.changed", "contact.softdeleted", "contact.deleted", RESYNC_EVENT];
/// The private event on which a consumer reads the contact's current state.
pub const RESYNC_EVENT: &str = "contact.resync";
/// The beginning of the name of a contact event.
const CONTACT_PREFIX: &str = "contact.";
/// The endings of the events that report a webhook's state.
const STATE_EVENTS: [&str; 3] = ["started", "stopped", "errors"];

/// The state of a webhook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// Events are sent.
    Active,
    /// A person stopped it.
    Stopped,
    /// SuperOffice disabled it after too many errors.
    TooManyErrors,
    /// Another text.
    Unknown,
}

impl State {
    /// The name in SuperOffice.
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
    fn read(value: Value) -> Result<Self, ApiError> {
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

    /// Returns `true` if it subscribes to `contact.resync`.
    pub fn receives_resync(&self) -> bool {
        self.events().any(|event| event.eq_ignore_ascii_case(RESYNC_EVENT))
    }

    /// Returns `true` if it only subscribes to the state of webhooks.
    pub fn is_for_states(&self) -> bool {
        self.events().next().is_some() && self.events().all(|event| watched_webhook(event).is_some())
    }

    /// Returns `true` if it reports the state of one of these webhooks.
    fn watches(&self, ids: &[i64]) -> bool {
        self.events().filter_map(watched_webhook).any(|id| ids.contains(&id))
    }

    fn get(&self, name: &str) -> Option<&Value> {
        lookup(&self.properties, name).filter(|value| !value.is_null())
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(Value::as_str)
    }

    fn is_http(&self) -> bool {
        self.text("Type").is_none_or(|kind| kind.eq_ignore_ascii_case("webhook"))
    }
}

/// Returns `true` for `contact.changed` and the like.
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

/// Looks a property up by its name in any letter case.
pub(crate) fn lookup<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    object.get(name).or_else(|| object.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value))
}

/// The webhooks that post to `WEBHOOK_URL`: normally one for contacts, and one for the state of the first.
#[derive(Clone, Debug, Default)]
pub struct ManagedWebhooks {
    /// For contacts, in order of their ids.
    pub contacts: Vec<Webhook>,
    /// For states, in order of their ids.
    pub states: Vec<Webhook>,
}

impl ManagedWebhooks {
    /// Returns all of them, those for contacts first.
    pub fn all(&self) -> impl Iterator<Item = &Webhook> {
        self.contacts.iter().chain(&self.states)
    }

    /// Returns `true` if there is a webhook for contacts, and every webhook is Active.
    pub fn is_active(&self) -> bool {
        self.receives_contacts() && self.states.iter().all(|webhook| webhook.state() == State::Active)
    }

    /// Returns `true` if there is a webhook for contacts, and every webhook for contacts is Active.
    pub fn receives_contacts(&self) -> bool {
        !self.contacts.is_empty() && self.contacts.iter().all(|webhook| webhook.state() == State::Active)
    }
}

/// The result of a test that SuperOffice made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestResult {
    /// `true` if the response was 200.
    pub success: bool,
    /// The headers and the body of the response.
    pub message: String,
}

/// The desired registration.
#[derive(Clone, Debug)]
pub struct Desired {
    /// The name. If it is `None`, an existing webhook keeps its name.
    pub name: Option<String>,
    /// The URL.
    pub url: String,
    /// The secret.
    pub secret: SecretString,
    /// Addresses that SuperOffice notifies; existing ones are kept if there are none.
    pub errors_emails: Vec<String>,
}

/// The name of a new webhook unless another is chosen.
const DEFAULT_NAME: &str = "superoffice-webhook";

/// An effect of [`Client::register`], for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registration {
    /// The webhook is new.
    Created,
    /// Properties were different.
    Updated,
    /// Nothing was different.
    Unchanged,
}

impl Client {
    /// Lists the webhooks whose `TargetUrl` is exactly `url`. Webhooks for other entities, and those that watch the
    /// state of such a webhook, are left out.
    ///
    /// # Errors
    ///
    /// [`ApiError`] if the list cannot be read.
    pub async fn webhooks(&self, url: &str) -> Result<ManagedWebhooks, ApiError> {
        let list = self.get("Webhook", &[]).await?;
        let Value::Array(list) = list else {
            return Err(ApiError::unexpected("GET Webhook", "not an array"));
        };
        let mut webhooks = list.into_iter().map(Webhook::read).collect::<Result<Vec<_>, _>>()?;
        webhooks.sort_by_key(Webhook::id);
        let (at_url, others): (Vec<_>, Vec<_>) =
            webhooks.into_iter().partition(|webhook| webhook.target_url() == url && webhook.is_http());
        let (mut states, at_url): (Vec<_>, Vec<_>) = at_url.into_iter().partition(Webhook::is_for_states);
        let (contacts, unrelated): (Vec<_>, Vec<_>) = at_url.into_iter().partition(Webhook::is_for_contacts);
        let foreign: Vec<i64> = others.iter().chain(&unrelated).map(Webhook::id).collect();
        states.retain(|webhook| !webhook.watches(&foreign));
        let managed = ManagedWebhooks { contacts, states };
        self.hide(managed.all().filter_map(|webhook| webhook.text("Secret")));
        Ok(managed)
    }

    /// Creates what is missing of a registration, and updates what is different. The state of an existing webhook is
    /// kept.
    ///
    /// # Errors
    ///
    /// [`ApiError`] of the first call that fails; repeating the command completes the rest.
    pub async fn register(&self, desired: &Desired) -> Result<(ManagedWebhooks, [Registration; 2]), ApiError> {
        let managed = self.webhooks(&desired.url).await?;
        let name = desired.name.clone().or_else(|| Some(managed.contacts.first()?.name().to_owned()));
        let name = name.unwrap_or_else(|| DEFAULT_NAME.into());
        let main = managed.contacts.first();
        // Subscriptions to other entities are not removed.
        let others = main.into_iter().flat_map(Webhook::events).filter(|event| !is_contact_event(event));
        let events: Vec<String> = CONTACT_EVENTS.into_iter().chain(others).map(str::to_owned).collect();
        let (main, first) = self.register_one(main, &name, desired.name.is_some(), &events, desired).await?;
        let state_name = format!("{name} (state)");
        let events: Vec<String> = STATE_EVENTS.map(|ending| format!("webhook{}.{ending}", main.id)).into();
        let watches_main = |webhook: &&Webhook| webhook.watches(&[main.id]);
        let state = managed.states.iter().find(watches_main).or(managed.states.first());
        let (_, second) = self.register_one(state, &state_name, desired.name.is_some(), &events, desired).await?;
        Ok((self.webhooks(&desired.url).await?, [first, second]))
    }

    async fn register_one(
        &self,
        existing: Option<&Webhook>,
        name: &str,
        rename: bool,
        events: &[String],
        desired: &Desired,
    ) -> Result<(Webhook, Registration), ApiError> {
        let Some(existing) = existing else {
            let mut body = json!({
                "Name": name,
                "Events": events,
                "TargetUrl": desired.url,
                "Secret": desired.secret.expose_secret(),
                "State": State::Active.as_str(),
                "Type": "webhook",
            });
            if let Some(first) = desired.errors_emails.first() {
                // The single address of older servers, and the list that replaced it.
                body["ErrorsEmail"] = json!(first);
                body["ErrorEmails"] = json!(desired.errors_emails);
            }
            let created = Webhook::read(self.post_once("Webhook", &body).await?)?;
            return Ok((created, Registration::Created));
        };
        let changes = differences(existing, rename.then_some(name), events, desired);
        if changes.is_empty() {
            return Ok((existing.clone(), Registration::Unchanged));
        }
        Ok((self.update(existing, changes, None).await?, Registration::Updated))
    }

    /// Makes SuperOffice post its signed test. The stored secret signs it; where the server does not return that,
    /// `secret` does.
    ///
    /// # Errors
    ///
    /// [`ApiError`] if the test could not be made; a failed test is a [`TestResult`].
    pub async fn test(&self, webhook: &Webhook, secret: Option<&SecretString>) -> Result<TestResult, ApiError> {
        let mut body = webhook.properties.clone();
        if let Some(secret) = secret
            && webhook.text("Secret").is_none_or(str::is_empty)
        {
            set(&mut body, "Secret", json!(secret.expose_secret()));
        }
        let result = self.send(Method::POST, "Webhook/Test", Some(&Value::Object(body))).await?;
        let field = |name| result.as_object().and_then(|result| lookup(result, name));
        let success = field("Success")
            .and_then(Value::as_bool)
            .ok_or_else(|| ApiError::unexpected("POST Webhook/Test", "no Success in the response"))?;
        let message = self.redact(field("Message").and_then(Value::as_str).unwrap_or_default());
        Ok(TestResult { success, message })
    }

    /// Sets a webhook Active, unless its state or URL was changed since it was read.
    ///
    /// # Errors
    ///
    /// [`ApiError`] if it was changed in between, or the call fails.
    pub async fn activate(&self, webhook: &Webhook) -> Result<Webhook, ApiError> {
        self.update(webhook, vec![("State", json!(State::Active.as_str()))], Some(webhook.state())).await
    }

    /// Deletes the webhooks that [`Client::webhooks`] lists.
    ///
    /// # Errors
    ///
    /// [`ApiError`] of the first deletion that fails.
    pub async fn unregister(&self, url: &str) -> Result<ManagedWebhooks, ApiError> {
        let managed = self.webhooks(url).await?;
        // First those for states, so that they have nothing to report.
        for webhook in managed.states.iter().chain(&managed.contacts) {
            match self.send(Method::DELETE, &format!("Webhook/{}", webhook.id), None).await {
                Ok(_) => {}
                Err(error) if error.status() == Some(404) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(managed)
    }

    /// Makes SuperOffice send `contact.resync` for a contact.
    ///
    /// # Errors
    ///
    /// [`ApiError`] if the call fails.
    pub async fn signal_resync(&self, contact: i64) -> Result<(), ApiError> {
        // The documentation requires a body; without one, servers may respond with 400 or 415.
        self.post_once(&format!("Webhook/{RESYNC_EVENT}/{contact}"), &json!({})).await.map(drop)
    }

    /// Reads the number of consecutive errors and the last error, from the webhook or, on older servers, by other
    /// calls.
    ///
    /// # Errors
    ///
    /// [`ApiError`] if another call fails.
    pub async fn errors(&self, webhook: &Webhook) -> Result<(Option<i64>, Option<String>), ApiError> {
        let consecutive = self.consecutive_errors(webhook).await?;
        let last = match webhook.text("LastError") {
            Some(text) => Some(text.to_owned()),
            // A newer server tells that there was none by a property that is null.
            None if lookup(&webhook.properties, "LastError").is_some() => None,
            None => self.get(&format!("Webhook/{}/LastError", webhook.id), &[]).await?.as_str().map(str::to_owned),
        };
        Ok((consecutive, last.filter(|text| !text.is_empty()).map(|text| self.redact(&text))))
    }

    /// Reads the number of failed deliveries since the last success, on older servers from an archive.
    ///
    /// # Errors
    ///
    /// [`ApiError`] if the archive cannot be read.
    pub async fn consecutive_errors(&self, webhook: &Webhook) -> Result<Option<i64>, ApiError> {
        if let Some(count) = webhook.get("ConsecutiveErrors").and_then(Value::as_i64) {
            return Ok(Some(count));
        }
        let query = [
            ("$select", "webhook_usage.consecutive_errors".to_owned()),
            ("$filter", format!("webhook_usage.webhook_usage_id eq {}", webhook.id)),
        ];
        let usage = self.get("Archive/dynamic", &query).await?;
        let row = usage.get("value").and_then(|rows| rows.get(0)).and_then(Value::as_object);
        Ok(row.and_then(|row| lookup(row, "webhook_usage.consecutive_errors")).and_then(integer))
    }

    /// Changes properties of a webhook: by JSON Patch, or by `PUT` on servers that do not know it. The change is
    /// refused if the URL has changed since it was read or, with `state`, the state.
    async fn update(
        &self,
        webhook: &Webhook,
        changes: Vec<(&str, Value)>,
        state: Option<State>,
    ) -> Result<Webhook, ApiError> {
        let path = format!("Webhook/{}", webhook.id);
        let test = |name, value: &str| json!({"op": "test", "path": format!("/{name}"), "value": value});
        let tests = [Some(test("TargetUrl", webhook.target_url())), state.map(|state| test("State", state.as_str()))];
        let replace =
            |(name, value): &(&str, Value)| json!({"op": "replace", "path": format!("/{name}"), "value": value});
        let patch: Vec<Value> = tests.into_iter().flatten().chain(changes.iter().map(replace)).collect();
        match self.send(Method::PATCH, &path, Some(&Value::Array(patch))).await {
            Ok(updated) => return Webhook::read(updated),
            Err(error) if matches!(error.status(), Some(404 | 405 | 501)) => {}
            Err(error) => return Err(error),
        }
        let current = Webhook::read(self.get(&path, &[]).await?)?;
        if current.target_url() != webhook.target_url() || state.is_some_and(|state| current.state() != state) {
            return Err(ApiError::new(format!("PUT {path}"), ErrorKind::Changed));
        }
        let mut body = current.properties;
        for (name, value) in changes {
            set(&mut body, name, value);
        }
        Webhook::read(self.send(Method::PUT, &path, Some(&Value::Object(body))).await?)
    }
}

/// Returns the properties to change.
fn differences<'a>(
    existing: &Webhook,
    name: Option<&str>,
    events: &[String],
    desired: &Desired,
) -> Vec<(&'a str, Value)> {
    let mut changes = Vec::new();
    if let Some(name) = name
        && existing.name() != name
    {
        changes.push(("Name", json!(name)));
    }
    let has = |event: &String| existing.events().any(|name| name.eq_ignore_ascii_case(event));
    if existing.events().count() != events.len() || !events.iter().all(has) {
        changes.push(("Events", json!(events)));
    }
    if existing.text("Secret") != Some(desired.secret.expose_secret()) {
        changes.push(("Secret", json!(desired.secret.expose_secret())));
    }
    if let Some(first) = desired.errors_emails.first() {
        if lookup(&existing.properties, "ErrorEmails").is_some() {
            if existing.get("ErrorEmails") != Some(&json!(desired.errors_emails)) {
                changes.push(("ErrorEmails", json!(desired.errors_emails)));
            }
        } else if existing.text("ErrorsEmail") != Some(first) {
            changes.push(("ErrorsEmail", json!(first)));
        }
    }
    changes
}

fn set(object: &mut Map<String, Value>, name: &str, value: Value) {
    let key = object.keys().find(|key| key.eq_ignore_ascii_case(name)).cloned();
    object.insert(key.unwrap_or_else(|| name.to_owned()), value);
}

/// Reads an integer that may be written as a string.
pub fn integer(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str()?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn webhook(properties: Value) -> Webhook {
        Webhook::read(properties).unwrap()
    }

    #[test]
    fn state_events_name_their_webhook() {
        for (event, id) in
            [("webhook12.errors", Some(12)), ("Webhook1.Started", Some(1)), ("webhook3.stopped", Some(3))]
        {
            assert_eq!(watched_webhook(event), id, "{event}");
        }
        for event in ["webhook.errors", "webhook12.other", "webhook+1.errors", "contact12.errors", "web", "webhook12"] {
            assert_eq!(watched_webhook(event), None, "{event}");
        }
    }

    #[test]
    fn debug_output_hides_the_secret() {
        let webhook = webhook(json!({"WebhookId": 7, "State": "Stopped", "Secret": "hunter2"}));
        assert_eq!(format!("{webhook:?}"), "Webhook { id: 7, state: Stopped, .. }");
    }

    #[test]
    fn purpose_follows_from_the_events() {
        let purposes = |events: Value| {
            let webhook = webhook(json!({"WebhookId": 1, "Events": events}));
            (webhook.is_for_contacts(), webhook.is_for_states())
        };
        assert_eq!(purposes(json!(["contact.changed", "sale.changed"])), (true, false));
        assert_eq!(purposes(json!(["webhook1.errors", "webhook1.stopped"])), (false, true));
        assert_eq!(purposes(json!(["webhook1.errors", "sale.changed"])), (false, false));
        assert_eq!(purposes(json!(["contactless.changed"])), (false, false));
        assert_eq!(purposes(json!([])), (false, false));
        assert_eq!(purposes(Value::Null), (false, false));
    }

    #[test]
    fn properties_are_read_in_any_letter_case() {
        let webhook = webhook(json!({"webhookId": 7, "name": "n", "state": 3}));
        assert_eq!((webhook.id(), webhook.name(), webhook.state()), (7, "n", State::TooManyErrors));
    }

    #[test]
    fn differences_are_limited_to_what_was_asked_for() {
        let desired =
            Desired { name: None, url: "https://host/webhook".into(), secret: "s".into(), errors_emails: Vec::new() };
        let events = ["contact.created".to_owned(), "contact.changed".to_owned()];
        let existing = json!({
            "WebhookId": 1, "Name": "by hand", "Events": ["Contact.Changed", "contact.created"], "Secret": "s",
            "ErrorsEmail": "kept@example.com",
        });
        assert_eq!(differences(&webhook(existing.clone()), None, &events, &desired), []);

        let desired = Desired { secret: "t".into(), errors_emails: vec!["a@example.com".into()], ..desired };
        let changes = differences(&webhook(existing.clone()), Some("n"), &events[..1], &desired);
        assert_eq!(
            changes,
            [
                ("Name", json!("n")),
                ("Events", json!(["contact.created"])),
                ("Secret", json!("t")),
                ("ErrorsEmail", json!("a@example.com")),
            ]
        );

        let mut newer = existing;
        newer["ErrorEmails"] = Value::Null;
        newer["Secret"] = json!("t");
        assert_eq!(
            differences(&webhook(newer.clone()), None, &events, &desired),
            [("ErrorEmails", json!(["a@example.com"]))]
        );
        newer["ErrorEmails"] = json!(["a@example.com"]);
        assert_eq!(differences(&webhook(newer), None, &events, &desired), []);
    }

    #[test]
    fn integers_may_be_strings() {
        assert_eq!(integer(&json!(7)), Some(7));
        assert_eq!(integer(&json!("7")), Some(7));
        assert_eq!(integer(&json!("seven")), None);
        assert_eq!(integer(&Value::Null), None);
    }
}
