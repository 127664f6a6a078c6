//! The webhooks that post to one URL: normally one for contacts, and one for the state of the first.

mod differences;

use std::fmt;

use secrecy::SecretString;

use self::differences::{contact_events, differences, new_webhook};
use crate::client::Client;
use crate::error::ApiError;
use crate::webhooks::{PropertyChange, RESYNC_EVENT, STATE_EVENTS, State, Webhook};

/// The events of a new webhook, unless others are chosen.
pub const CONTACT_EVENTS: [&str; 5] =
    ["contact.created", "contact.changed", "contact.softdeleted", "contact.deleted", RESYNC_EVENT];
/// The name of a new webhook, unless another is chosen.
const DEFAULT_NAME: &str = "superoffice-webhook";

/// The webhooks that post to one URL.
#[derive(Clone, Debug, Default)]
pub struct ManagedWebhooks {
    /// The webhooks for contacts, in order of their ids.
    pub contacts: Vec<Webhook>,
    /// The webhooks for states, in order of their ids.
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

/// The desired registration.
#[derive(Clone, Debug)]
pub struct Desired {
    /// The name. If it is `None`, an existing webhook keeps its name.
    pub name: Option<String>,
    /// The URL that events are posted to.
    pub url: String,
    /// The secret that signs the events.
    pub secret: SecretString,
    /// The events. If it is `None`, a new webhook has [`CONTACT_EVENTS`]; an existing webhook keeps its events, and
    /// [`RESYNC_EVENT`] is added if it is missing.
    pub events: Option<Vec<String>>,
    /// Addresses that SuperOffice notifies. If there are none, an existing webhook keeps its addresses.
    pub errors_emails: Vec<String>,
    /// SuperOffice notifies by email on the first failed delivery. If it is `false`, the settings are kept.
    pub notify_first_failure: bool,
}

impl Desired {
    /// Describes a registration with every default.
    pub fn new(url: impl Into<String>, secret: SecretString) -> Self {
        let (name, events, errors_emails, notify_first_failure) = (None, None, Vec::new(), false);
        Self { name, url: url.into(), secret, events, errors_emails, notify_first_failure }
    }
}

/// The effect of [`Client::register`] on one webhook.
#[derive(Clone, Debug, PartialEq)]
pub enum Registration {
    /// The webhook is new.
    Created,
    /// Properties were different.
    Changed(Vec<PropertyChange>),
    /// Nothing was different, as far as it can be seen. The secret was written, because SuperOffice does not return it.
    SecretWritten,
    /// Nothing was different.
    Unchanged,
}

impl fmt::Display for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Created => f.write_str("created"),
            Self::Changed(changes) => {
                f.write_str("changed")?;
                changes.iter().try_for_each(|change| write!(f, "\n  {change}"))
            }
            Self::SecretWritten => {
                f.write_str("unchanged; the secret was written again, because SuperOffice does not return it")
            }
            Self::Unchanged => f.write_str("unchanged"),
        }
    }
}

impl Client {
    /// Lists the webhooks for contacts whose `TargetUrl` is exactly `url`, and the webhooks for states there. A webhook
    /// for the state of an unlisted webhook is not listed.
    ///
    /// # Errors
    ///
    /// [`ApiError`] if the list cannot be read.
    pub async fn webhooks(&self, url: &str) -> Result<ManagedWebhooks, ApiError> {
        let webhooks = self.all_webhooks().await?;
        let (at_url, others): (Vec<_>, Vec<_>) =
            webhooks.into_iter().partition(|webhook| webhook.target_url() == url && webhook.is_http());
        let (mut states, at_url): (Vec<_>, Vec<_>) = at_url.into_iter().partition(Webhook::is_for_states);
        let (contacts, unrelated): (Vec<_>, Vec<_>) = at_url.into_iter().partition(Webhook::is_for_contacts);
        let foreign: Vec<i64> = others.iter().chain(&unrelated).map(Webhook::id).collect();
        states.retain(|webhook| !webhook.watches(&foreign));
        let managed = ManagedWebhooks { contacts, states };
        self.hide(managed.all().filter_map(Webhook::secret));
        Ok(managed)
    }

    /// Creates what is missing of a registration, and updates what is different. The state of an existing webhook is
    /// kept. Returns the webhooks, and the effects on the one for contacts and the one for its state.
    ///
    /// # Errors
    ///
    /// [`ApiError`] of the first call that fails; repeating the command completes the rest.
    pub async fn register(&self, desired: &Desired) -> Result<(ManagedWebhooks, [Registration; 2]), ApiError> {
        let managed = self.webhooks(&desired.url).await?;
        let main = managed.contacts.first();
        let name = desired.name.as_deref().or(main.map(Webhook::name)).unwrap_or(DEFAULT_NAME);
        let events = contact_events(main, desired);
        let (main, first) = self.register_one(main, name, &events, desired).await?;
        let events = STATE_EVENTS.map(|ending| format!("webhook{}.{ending}", main.id()));
        let watches_main = |webhook: &&Webhook| webhook.watches(&[main.id()]);
        let state = managed.states.iter().find(watches_main).or(managed.states.first());
        let (_, second) = self.register_one(state, &format!("{name} (state)"), &events, desired).await?;
        Ok((self.webhooks(&desired.url).await?, [first, second]))
    }

    async fn register_one(
        &self,
        existing: Option<&Webhook>,
        name: &str,
        events: &[String],
        desired: &Desired,
    ) -> Result<(Webhook, Registration), ApiError> {
        let Some(existing) = existing else {
            return Ok((self.create_webhook(&new_webhook(name, events, desired)).await?, Registration::Created));
        };
        let changes = differences(existing, name, events, desired);
        if changes.is_empty() {
            return Ok((existing.clone(), Registration::Unchanged));
        }
        let updated = self.update(existing, &changes, None, Some(&desired.secret)).await?;
        let is_hidden = |change: &PropertyChange| change.name == "Secret" && change.old.is_none();
        let effect =
            if changes.iter().all(is_hidden) { Registration::SecretWritten } else { Registration::Changed(changes) };
        Ok((updated, effect))
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
            self.delete_webhook(webhook).await?;
        }
        Ok(managed)
    }
}
