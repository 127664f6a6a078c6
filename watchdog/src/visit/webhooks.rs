//! The webhooks of a tenant: their state, reactivation, and the subscription that signals need.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use superoffice_client::registration::ManagedWebhooks;
use superoffice_client::webhooks::{RESYNC_EVENT, State as WebhookState, Webhook};
use superoffice_client::{ApiError, Archive};

use super::Visit;
use crate::config::Mode;

/// A webhook is reactivated at most once in this time.
const REACTIVATION_PAUSE: SignedDuration = SignedDuration::from_hours(1);

/// The webhooks after they were inspected, and reactivated if necessary.
pub(super) struct Inspected {
    pub(super) webhooks: ManagedWebhooks,
    /// The result of SuperOffice's test, if it was made.
    pub(super) tested: Option<bool>,
}

impl Visit<'_> {
    /// Reports the state of the webhooks, and reactivates those that SuperOffice disabled.
    pub(super) async fn inspect_webhooks(&mut self) -> Result<Inspected, ApiError> {
        let access = Arc::clone(&self.access);
        let list = || access.client.webhooks(&access.webhook_url);
        let webhooks = list().await?;
        self.describe(&webhooks).await;
        if self.settings.mode != Mode::Act || !self.needs_reactivation(&webhooks) {
            return Ok(Inspected { webhooks, tested: None });
        }
        if !self.test(&webhooks).await? {
            return Ok(Inspected { webhooks, tested: Some(false) });
        }
        self.reactivate(&webhooks).await?;
        let webhooks = list().await?;
        self.report.webhook_active = Some(webhooks.receives_events());
        Ok(Inspected { webhooks, tested: Some(true) })
    }

    /// Reports the state of the webhooks.
    async fn describe(&mut self, webhooks: &ManagedWebhooks) {
        let report = &mut self.report;
        report.webhook_active = Some(webhooks.receives_events());
        for webhook in webhooks.for_rows() {
            match self.access.client.consecutive_errors(webhook).await {
                Ok(count) => report.consecutive_errors = report.consecutive_errors.max(count),
                // Only a metric. Older servers have an archive of their own for it.
                Err(error) => {
                    report.note(format!("the consecutive errors of webhook {} are unknown: {error}", webhook.id()))
                }
            }
        }
        for (webhooks, purpose) in [(&webhooks.contacts, "contacts"), (&webhooks.states, "webhook states")] {
            match webhooks.len() {
                0 => report.note(format!("no webhook for {purpose} posts to WEBHOOK_URL")),
                1 => {}
                many => report.note(format!("{many} webhooks for {purpose} post to WEBHOOK_URL")),
            }
        }
        for webhook in webhooks.all().filter(|webhook| webhook.state() != WebhookState::Active) {
            report.note(format!("webhook {} is {}", webhook.id(), webhook.state().as_str()));
        }
        // Without the events of an entity, each of its changes counts as missing.
        let others = self.settings.entities.iter().filter(|archive| **archive != Archive::CONTACT);
        for archive in others.filter(|archive| !receives_resync(webhooks, archive)) {
            let event = archive.resync();
            report.note(format!("the webhook does not subscribe to {event}; `register --events` changes that"));
        }
    }

    /// Returns `true` if SuperOffice disabled a webhook, and it was not reactivated within the last hour. A webhook
    /// that was stopped by hand stays stopped.
    fn needs_reactivation(&mut self, webhooks: &ManagedWebhooks) -> bool {
        if !webhooks.all().any(is_disabled) {
            return false;
        }
        let recent = |last: &Timestamp| self.started.duration_since(*last) < REACTIVATION_PAUSE;
        let recent = self.report.state.reactivated.filter(recent);
        if let Some(last) = recent {
            self.report.note(format!("the webhook is not reactivated again within an hour of {last}"));
        }
        recent.is_none()
    }

    /// Makes SuperOffice test the URL.
    async fn test(&mut self, webhooks: &ManagedWebhooks) -> Result<bool, ApiError> {
        let Some(webhook) = webhooks.contacts.first().or(webhooks.states.first()) else {
            return Ok(false);
        };
        let result = self.access.client.test(webhook, self.access.secret.as_ref()).await?;
        if !result.success {
            self.report.note(format!("SuperOffice's test failed: {}", result.message));
        }
        Ok(result.success)
    }

    async fn reactivate(&mut self, webhooks: &ManagedWebhooks) -> Result<(), ApiError> {
        let access = Arc::clone(&self.access);
        // In advance, because the visit may be stopped before the response.
        let before = self.report.state.reactivated.replace(self.started);
        for webhook in webhooks.all().filter(|webhook| is_disabled(webhook)) {
            match access.client.set_state(webhook, WebhookState::Active, access.secret.as_ref()).await {
                Ok(_) => self.report.note(format!("webhook {} was reactivated", webhook.id())),
                // Someone was faster, or SuperOffice's own test failed.
                Err(error) if error.is_refusal() && error.is_specific() => {
                    self.report.note(format!("webhook {} was not reactivated: {error}", webhook.id()));
                    continue;
                }
                Err(error) => {
                    if !error.is_refusal() {
                        // It may be Active nevertheless.
                        self.report.reactivated += 1;
                    } else if self.report.reactivated == 0 {
                        self.report.state.reactivated = before;
                    }
                    return Err(error);
                }
            }
            self.report.reactivated += 1;
        }
        if self.report.reactivated == 0 {
            self.report.state.reactivated = before;
        }
        Ok(())
    }

    /// Returns the entities of missing records whose signals can be expected to arrive. Signals that fail would disable
    /// the webhook.
    pub(super) async fn entities_to_signal(
        &mut self,
        inspected: &Inspected,
    ) -> Result<Vec<&'static Archive>, ApiError> {
        let Inspected { webhooks, tested } = inspected;
        if !webhooks.receives_contacts() {
            self.report.note("missed records are not signaled while the webhook is not Active");
            return Ok(Vec::new());
        }
        let missing = &self.report.state.missing;
        let mut entities = self.settings.entities.clone();
        entities.retain(|archive| missing.iter().any(|missing| missing.record.archive == *archive));
        if entities.contains(&Archive::CONTACT) && !receives_resync(webhooks, Archive::CONTACT) {
            self.report.note(format!("the webhook does not subscribe to {RESYNC_EVENT}; `register` changes that"));
        }
        // A webhook for further events can be stopped alone.
        let is_active = |webhook: &&Webhook| webhook.state() == WebhookState::Active;
        let active: Vec<&Webhook> = webhooks.for_rows().filter(is_active).collect();
        entities.retain(|archive| active.iter().any(|webhook| webhook.receives_resync(archive)));
        if entities.is_empty() {
            return Ok(entities);
        }
        let succeeds = match tested {
            Some(success) => *success,
            None => self.test(webhooks).await?,
        };
        Ok(if succeeds { entities } else { Vec::new() })
    }
}

/// Returns `true` if a webhook subscribes to the events that signals of an entity cause.
fn receives_resync(webhooks: &ManagedWebhooks, archive: &Archive) -> bool {
    webhooks.for_rows().any(|webhook| webhook.receives_resync(archive))
}

fn is_disabled(webhook: &Webhook) -> bool {
    webhook.state() == WebhookState::TooManyErrors
}
