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
    pub(super) url_test: UrlTest,
}

/// SuperOffice's test of the URL.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum UrlTest {
    NotMade,
    Succeeded,
    Failed,
}

impl Visit<'_> {
    /// Reports the state of the webhooks, and reactivates those that SuperOffice disabled.
    pub(super) async fn inspect_webhooks(&mut self) -> Result<Inspected, ApiError> {
        let access = Arc::clone(&self.access);
        let list = || access.client.webhooks(&access.webhook_url);
        let webhooks = list().await?;
        self.describe(&webhooks).await;
        if self.settings.mode != Mode::Act || !self.needs_reactivation(&webhooks) {
            return Ok(Inspected { webhooks, url_test: UrlTest::NotMade });
        }
        let url_test = self.test(&webhooks).await?;
        if url_test == UrlTest::Failed {
            return Ok(Inspected { webhooks, url_test });
        }
        self.reactivate(&webhooks).await?;
        let webhooks = list().await?;
        self.report.webhook_active = Some(webhooks.receives_events());
        Ok(Inspected { webhooks, url_test })
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
        for archive in others.filter(|archive| !subscribes_to_resync(webhooks, archive)) {
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
    async fn test(&mut self, webhooks: &ManagedWebhooks) -> Result<UrlTest, ApiError> {
        let Some(webhook) = webhooks.contacts.first().or(webhooks.states.first()) else {
            return Ok(UrlTest::Failed);
        };
        let result = self.access.client.test(webhook, self.access.secret.as_ref()).await?;
        if result.success {
            return Ok(UrlTest::Succeeded);
        }
        self.report.note(format!("SuperOffice's test failed: {}", result.message));
        Ok(UrlTest::Failed)
    }

    /// Reactivates the disabled webhooks, and remembers the time if a webhook was or may have been reactivated.
    async fn reactivate(&mut self, webhooks: &ManagedWebhooks) -> Result<(), ApiError> {
        // In advance, because the visit may be stopped before the response.
        let last = self.report.state.reactivated.replace(self.started);
        let result = self.activate_disabled(webhooks).await;
        if self.report.reactivated == 0 {
            self.report.state.reactivated = last;
        }
        result
    }

    /// Sets each disabled webhook Active, and counts those that are or may be Active.
    async fn activate_disabled(&mut self, webhooks: &ManagedWebhooks) -> Result<(), ApiError> {
        let access = Arc::clone(&self.access);
        for webhook in webhooks.all().filter(|webhook| is_disabled(webhook)) {
            match access.client.set_state(webhook, WebhookState::Active, access.secret.as_ref()).await {
                Ok(_) => {
                    self.report.reactivated += 1;
                    self.report.note(format!("webhook {} was reactivated", webhook.id()));
                }
                // Someone was faster, or SuperOffice's own test failed.
                Err(error) if error.is_refusal() && error.is_specific() => {
                    self.report.note(format!("webhook {} was not reactivated: {error}", webhook.id()));
                }
                Err(error) => {
                    // Unless SuperOffice refused, the webhook may be Active nevertheless.
                    self.report.reactivated += u64::from(!error.is_refusal());
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Returns the entities of missing records whose signals can be expected to arrive. Signals that fail would disable
    /// the webhook.
    pub(super) async fn entities_to_signal(
        &mut self,
        inspected: &Inspected,
    ) -> Result<Vec<&'static Archive>, ApiError> {
        let Inspected { webhooks, url_test } = inspected;
        if !webhooks.receives_contacts() {
            self.report.note("missed records are not signaled while the webhook is not Active");
            return Ok(Vec::new());
        }
        let missing = &self.report.state.missing;
        let mut entities = self.settings.entities.clone();
        entities.retain(|archive| missing.iter().any(|missing| missing.record.archive == *archive));
        if entities.contains(&Archive::CONTACT) && !subscribes_to_resync(webhooks, Archive::CONTACT) {
            self.report.note(format!("the webhook does not subscribe to {RESYNC_EVENT}; `register` changes that"));
        }
        // A webhook for further events can be stopped alone.
        entities.retain(|archive| webhooks.receives_resync(archive));
        if entities.is_empty() {
            return Ok(entities);
        }
        let url_test = if *url_test == UrlTest::NotMade { self.test(webhooks).await? } else { *url_test };
        Ok(if url_test == UrlTest::Succeeded { entities } else { Vec::new() })
    }
}

/// Returns `true` if a webhook subscribes to the events that signals of an entity cause.
fn subscribes_to_resync(webhooks: &ManagedWebhooks, archive: &Archive) -> bool {
    webhooks.for_rows().any(|webhook| webhook.receives_resync(archive))
}

fn is_disabled(webhook: &Webhook) -> bool {
    webhook.state() == WebhookState::TooManyErrors
}
