//! The endpoint at `WEBHOOK_URL`: its webhooks in SuperOffice, and what is printed about them.

use std::io::Write;

use serde_json::json;
use superoffice_client::registration::ManagedWebhooks;
use superoffice_client::webhooks::{State, Usage, Webhook};
use superoffice_client::{ApiError, Client, Connection, SecretString, settings};

use crate::environment;
use crate::exit::Failure;
use crate::output::{Format, Output, message};

/// A client, the URL of the endpoint, and the secret if it is configured.
pub(crate) struct Endpoint {
    pub(crate) client: Client,
    pub(crate) url: String,
    secret: Option<SecretString>,
}

impl Endpoint {
    /// Reads the configuration. The secret is optional.
    pub(crate) fn load() -> Result<Self, Failure> {
        let ((connection, url), secret) = environment::read(|env| {
            let secret = settings::optional_webhook_secret(env);
            settings::connection(env).zip(settings::webhook_url(env)).zip(Some(secret))
        })?;
        Self::new(connection, url, secret)
    }

    pub(crate) fn new(connection: Connection, url: String, secret: Option<SecretString>) -> Result<Self, Failure> {
        let client = Client::new(connection)?.hiding(secret.as_ref());
        Ok(Self { client, url, secret })
    }

    pub(crate) async fn webhooks(&self) -> Result<ManagedWebhooks, ApiError> {
        self.client.webhooks(&self.url).await
    }

    /// Makes SuperOffice test the URL with the first webhook for contacts, and reports the result. Returns `None` without
    /// a webhook.
    pub(crate) async fn test(&self, webhooks: &ManagedWebhooks) -> Result<Option<bool>, ApiError> {
        let Some(webhook) = webhooks.contacts.first() else {
            self.report_numbers(webhooks);
            return Ok(None);
        };
        let result = self.client.test(webhook, self.secret.as_ref()).await?;
        if result.success {
            message("the test succeeded");
        } else {
            message(format_args!("the test failed; SuperOffice reports this response:\n{}", result.message));
        }
        Ok(Some(result.success))
    }

    /// Sets the state of webhooks that have another one.
    pub(crate) async fn set_state<'a>(
        &self,
        webhooks: impl IntoIterator<Item = &'a Webhook>,
        state: State,
    ) -> Result<(), ApiError> {
        for webhook in webhooks.into_iter().filter(|webhook| webhook.state() != state) {
            self.client.set_state(webhook, state, self.secret.as_ref()).await?;
        }
        Ok(())
    }

    /// Prints the webhooks, each with its errors, and reports missing and surplus ones.
    pub(crate) async fn print(&self, webhooks: &ManagedWebhooks, format: Format, output: &mut Output<impl Write>) {
        for webhook in webhooks.all() {
            self.print_one(webhook, format, output).await;
        }
        self.report_numbers(webhooks);
    }

    async fn print_one(&self, webhook: &Webhook, format: Format, output: &mut Output<impl Write>) {
        let usage = self.client.usage(webhook).await.unwrap_or_else(|error| {
            message(format_args!("the errors of webhook {} are unknown: {error}", webhook.id()));
            Usage::default()
        });
        let Usage { consecutive_errors, last_error, last_event, .. } = usage;
        let (id, name, state) = (webhook.id(), webhook.name(), webhook.state().as_str());
        if format.json {
            return output.line(json!({
                "webhookId": id,
                "name": name,
                "state": state,
                "consecutiveErrors": consecutive_errors,
                "lastError": last_error,
                "lastEvent": last_event,
            }));
        }
        let errors = consecutive_errors.map_or("an unknown number of".to_owned(), |count| count.to_string());
        let last = last_event.map(|time| format!(", last event {time}")).unwrap_or_default();
        output.line(format_args!("{id} {name}: {state}, {errors} consecutive errors{last}"));
        if let Some(error) = last_error {
            output.line(format_args!("  last error: {}", error.trim().replace('\n', "\n  ")));
        }
    }

    fn report_numbers(&self, webhooks: &ManagedWebhooks) {
        let url = &self.url;
        let report = |webhooks: &[Webhook], purpose: &str| match webhooks.len() {
            0 => message(format_args!("no webhook for {purpose} posts to {url}; `register` creates it")),
            1 => {}
            many => {
                message(format_args!("{many} webhooks for {purpose} post to {url}: each event arrives {many} times"))
            }
        };
        report(&webhooks.contacts, "contacts");
        report(&webhooks.states, "webhook states");
    }
}
