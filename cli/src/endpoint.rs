//! The endpoint at `WEBHOOK_URL`: its webhooks in SuperOffice, and what is printed about them.

use std::io::Write;

use serde_json::json;
use superoffice_client::registration::ManagedWebhooks;
use superoffice_client::settings::WebhookSettings;
use superoffice_client::webhooks::{State, Usage, Webhook};
use superoffice_client::{ApiError, Client, SecretString};
use tenants::{Tenant, TenantSource};

use crate::environment;
use crate::exit::{CommandResult, Failure};
use crate::output::{Format, Output};
use crate::tenants::{Clients, EarlyEnd, Label, OneTenant, Selected, tenant_source};

/// A tenant's client, the URL of the endpoint, and the secret if it is configured.
pub(crate) struct Endpoint {
    pub(crate) client: Client,
    pub(crate) url: String,
    pub(crate) secret: Option<SecretString>,
    pub(crate) label: Label,
    is_paused: bool,
}

impl Endpoint {
    /// Reads the configuration for any tenant. The secret is optional.
    pub(crate) fn settings() -> Result<(TenantSource, WebhookSettings), Failure> {
        Ok(environment::read(|env| {
            let source = tenant_source(env);
            source.zip(WebhookSettings::from_environment(env))
        })?)
    }

    /// Reads the configuration, and selects one tenant.
    pub(crate) async fn load(tenant: &OneTenant) -> Result<Self, Failure> {
        let (source, webhooks) = Self::settings()?;
        let (tenant, label) = tenant.resolve(&source).await?;
        Self::new(&tenant, &webhooks, label, &mut Clients::default())
    }

    pub(crate) fn new(
        tenant: &Tenant,
        webhooks: &WebhookSettings,
        label: Label,
        clients: &mut Clients,
    ) -> Result<Self, Failure> {
        // A command that needs the secret reports that it is missing.
        let (url, secret) = (webhooks.url(tenant.name())?, webhooks.secret(tenant.name()).unwrap_or_default());
        let client = clients.of(tenant)?.hiding(secret.as_ref());
        Ok(Self { client, url, secret, label, is_paused: tenant.is_paused() })
    }

    /// Runs a command for the endpoint of each tenant, as [`Selected::for_each`].
    pub(crate) async fn for_each<W: Write>(
        selected: Selected<'_>,
        settings: &WebhookSettings,
        format: Format,
        output: &mut Output<W>,
        early_end: EarlyEnd<'_>,
        mut run: impl AsyncFnMut(&Self, &mut Output<W>) -> CommandResult,
    ) -> CommandResult {
        let mut clients = Clients::default();
        selected
            .for_each(format, output, early_end, async |tenant, label, output| {
                run(&Self::new(tenant, settings, label, &mut clients)?, output).await
            })
            .await
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
            self.label.message("the test succeeded");
        } else {
            self.label.message(format_args!("the test failed; SuperOffice reports this response:\n{}", result.message));
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
        if self.is_paused {
            let paused = "paused: the watchdog and audits leave this tenant out";
            if format.json { self.label.message(paused) } else { self.label.line(output, paused) }
        }
        for webhook in webhooks.all() {
            self.print_one(webhook, format, output).await;
        }
        self.report_numbers(webhooks);
    }

    async fn print_one(&self, webhook: &Webhook, format: Format, output: &mut Output<impl Write>) {
        let usage = self.client.usage(webhook).await.unwrap_or_else(|error| {
            self.label.message(format_args!("the errors of webhook {} are unknown: {error}", webhook.id()));
            Usage::default()
        });
        let Usage { consecutive_errors, last_error, last_event, lacks_offset, .. } = usage;
        let (id, name, state) = (webhook.id(), webhook.name(), webhook.state().as_str());
        if lacks_offset {
            let text = "the time of the last event had no offset from UTC and was read as UTC";
            self.label.message(format_args!("webhook {id}: {text}"));
        }
        if format.json {
            let mut object = json!({
                "webhookId": id,
                "name": name,
                "state": state,
                "consecutiveErrors": consecutive_errors,
                "lastError": last_error,
                "lastEvent": last_event,
            });
            if self.is_paused {
                object["paused"] = json!(true);
            }
            return self.label.object(output, object);
        }
        let errors = consecutive_errors.map_or("an unknown number of".to_owned(), |count| count.to_string());
        let last = last_event.map(|time| format!(", last event {time}")).unwrap_or_default();
        self.label.line(output, format_args!("{id} {name}: {state}, {errors} consecutive errors{last}"));
        if let Some(error) = last_error {
            self.label.line(output, format_args!("  last error: {}", error.trim().replace('\n', "\n  ")));
        }
    }

    fn report_numbers(&self, webhooks: &ManagedWebhooks) {
        let url = &self.url;
        let report = |webhooks: &[Webhook], purpose: &str| match webhooks.len() {
            0 => self.label.message(format_args!("no webhook for {purpose} posts to {url}; `register` creates it")),
            1 => {}
            many => self
                .label
                .message(format_args!("{many} webhooks for {purpose} post to {url}: each event arrives {many} times")),
        };
        report(&webhooks.contacts, "contacts");
        report(&webhooks.states, "webhook states");
    }
}
