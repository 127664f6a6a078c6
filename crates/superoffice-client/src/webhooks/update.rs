//! Changes of a webhook.

use std::fmt;

use reqwest::Method;
use secrecy::SecretString;
use serde_json::{Value, json};

use super::{State, Webhook};
use crate::archives::set;
use crate::client::Client;
use crate::error::{ApiError, ErrorKind};

/// A change of a property, for people: its name, and the old and the new value. A secret is shown without values.
#[derive(Clone, PartialEq)]
pub struct PropertyChange {
    pub(crate) name: &'static str,
    /// `None` if the server hides it.
    pub(crate) old: Option<Value>,
    pub(crate) new: Value,
}

impl fmt::Display for PropertyChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.name, &self.old) {
            ("Secret", None) => f.write_str("Secret: written again, because SuperOffice does not return it"),
            ("Secret", Some(_)) => f.write_str("Secret: replaced"),
            (name, old) => write!(f, "{name}: {} -> {}", old.as_ref().unwrap_or(&Value::Null), self.new),
        }
    }
}

impl fmt::Debug for PropertyChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PropertyChange({self})")
    }
}

impl Client {
    /// Sets the state of a webhook, unless its state or URL was changed since it was read. A server that knows only
    /// `PUT` and hides the stored secret is sent `secret`.
    ///
    /// # Errors
    ///
    /// [`ApiError`] if the webhook was changed in between, if its secret would be lost, or if the call fails.
    pub async fn set_state(
        &self,
        webhook: &Webhook,
        state: State,
        secret: Option<&SecretString>,
    ) -> Result<Webhook, ApiError> {
        let old = webhook.get("State").cloned();
        let change = PropertyChange { name: "State", old, new: json!(state.as_str()) };
        self.update(webhook, &[change], Some(webhook.state()), secret).await
    }

    /// Changes properties of a webhook: by JSON Patch, or by `PUT` on servers that do not know it. Nothing is changed if
    /// the URL has changed since the webhook was read or, with `state`, the state.
    pub(crate) async fn update(
        &self,
        webhook: &Webhook,
        changes: &[PropertyChange],
        state: Option<State>,
        secret: Option<&SecretString>,
    ) -> Result<Webhook, ApiError> {
        let mut patched = self.patch(webhook, changes, state).await;
        if let (Err(error), Some(_)) = (&patched, state)
            && error.status() == Some(409)
        {
            // The server may compare states in another form. The current state then replaces its test.
            self.read_unchanged(webhook, state).await?;
            patched = self.patch(webhook, changes, None).await;
        }
        match patched {
            Ok(updated) => return Webhook::read(updated),
            Err(error) if matches!(error.status(), Some(404 | 405 | 501)) => {}
            Err(error) => return Err(error),
        }
        let current = self.read_unchanged(webhook, state).await?;
        let path = format!("Webhook/{}", webhook.id);
        let mut properties = current.with_secret(secret);
        for change in changes {
            set(&mut properties, change.name, change.new.clone());
        }
        let writes_secret = changes.iter().any(|change| change.name == "Secret");
        if current.secret().is_none() && secret.is_none() && !writes_secret {
            return Err(ApiError::new(format!("PUT {path}"), ErrorKind::HiddenSecret));
        }
        Webhook::read(self.send(Method::PUT, &path, Some(&Value::Object(properties))).await?)
    }

    async fn patch(
        &self,
        webhook: &Webhook,
        changes: &[PropertyChange],
        state: Option<State>,
    ) -> Result<Value, ApiError> {
        let test = |name, value: &str| json!({"op": "test", "path": format!("/{name}"), "value": value});
        let tests = [Some(test("TargetUrl", webhook.target_url())), state.map(|state| test("State", state.as_str()))];
        let replace = |change: &PropertyChange| json!({"op": "replace", "path": format!("/{}", change.name), "value": change.new});
        let patch = tests.into_iter().flatten().chain(changes.iter().map(replace)).collect();
        self.send(Method::PATCH, &format!("Webhook/{}", webhook.id), Some(&Value::Array(patch))).await
    }

    /// Reads a webhook again, which must have the URL and, with `state`, the state that it had.
    async fn read_unchanged(&self, webhook: &Webhook, state: Option<State>) -> Result<Webhook, ApiError> {
        let path = format!("Webhook/{}", webhook.id);
        let current = Webhook::read(self.get(&path, &[]).await?)?;
        if current.target_url() != webhook.target_url() || state.is_some_and(|state| current.state() != state) {
            return Err(ApiError::new(format!("GET {path}"), ErrorKind::Changed));
        }
        Ok(current)
    }
}
