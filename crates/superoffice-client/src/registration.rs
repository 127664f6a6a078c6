//! The webhooks that post to one URL: normally one for contacts, and one for the state of the first. Events that the
//! first has no room for have further webhooks.

mod differences;
mod names;
mod split;

use std::fmt;

use secrecy::SecretString;
use superoffice_webhook::webhook::entity::Archive;

use self::differences::{differences, new_webhook};
use self::split::events_of_webhooks;
use crate::client::Client;
use crate::error::ApiError;
use crate::webhooks::{PropertyChange, RESYNC_EVENT, STATE_EVENTS, State, Webhook};

pub use self::names::{UnknownName, events_named};
pub use self::split::MAX_EVENTS_LENGTH;

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
    /// The webhooks for the events that a webhook for contacts has no room for, in order of their ids.
    pub further: Vec<Webhook>,
    /// The webhooks for states, in order of their ids.
    pub states: Vec<Webhook>,
}

impl ManagedWebhooks {
    /// Returns all of them, those for contacts first.
    pub fn all(&self) -> impl Iterator<Item = &Webhook> {
        self.for_rows().chain(&self.states)
    }

    /// Returns those for events of contacts and other rows.
    pub fn for_rows(&self) -> impl Iterator<Item = &Webhook> {
        self.contacts.iter().chain(&self.further)
    }

    /// Returns `true` if there are a webhook for contacts and one for states, and every webhook is Active.
    pub fn is_active(&self) -> bool {
        let are_states_active = self.states.iter().all(|webhook| webhook.state() == State::Active);
        self.receives_events() && !self.states.is_empty() && are_states_active
    }

    /// Returns `true` if there is a webhook for contacts, and every webhook for events of rows is Active.
    pub fn receives_events(&self) -> bool {
        !self.contacts.is_empty() && self.for_rows().all(|webhook| webhook.state() == State::Active)
    }

    /// Returns `true` if there is a webhook for contacts, and every webhook for contacts is Active.
    pub fn receives_contacts(&self) -> bool {
        !self.contacts.is_empty() && self.contacts.iter().all(|webhook| webhook.state() == State::Active)
    }

    /// Returns `true` if an Active webhook subscribes to the private event of an entity: `contact.resync`.
    pub fn receives_resync(&self, archive: &Archive) -> bool {
        self.for_rows().any(|webhook| webhook.state() == State::Active && webhook.receives_resync(archive))
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
    /// The events. Those without an event of contacts are completed with [`RESYNC_EVENT`]. More than
    /// [`MAX_EVENTS_LENGTH`] characters are split over several webhooks.
    ///
    /// If it is `None`, a new webhook has [`CONTACT_EVENTS`]; an existing webhook keeps its events, and
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
    /// The other webhooks have room for its events.
    Deleted,
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
            Self::Deleted => f.write_str("deleted"),
        }
    }
}

impl Client {
    /// Lists the webhooks for contacts whose `TargetUrl` is exactly `url`, the webhooks there for further events, and
    /// the webhooks there for states. A webhook for the state of an unlisted webhook is not listed.
    ///
    /// A webhook for further events has the name of a webhook for contacts with a number, or a webhook for states
    /// watches it together with a webhook for contacts.
    ///
    /// # Errors
    ///
    /// [`ApiError`] if the list cannot be read.
    pub async fn webhooks(&self, url: &str) -> Result<ManagedWebhooks, ApiError> {
        self.webhooks_named(url, None).await
    }

    /// Lists the webhooks. A name that the webhook for contacts is about to have leads to further webhooks, too.
    async fn webhooks_named(&self, url: &str, next_name: Option<&str>) -> Result<ManagedWebhooks, ApiError> {
        let webhooks = self.all_webhooks().await?;
        let (at_url, others): (Vec<_>, Vec<_>) =
            webhooks.into_iter().partition(|webhook| webhook.target_url() == url && webhook.is_http());
        let (mut states, at_url): (Vec<_>, Vec<_>) = at_url.into_iter().partition(Webhook::is_for_states);
        let (contacts, at_url): (Vec<_>, Vec<_>) = at_url.into_iter().partition(Webhook::is_for_contacts);
        let ids: Vec<i64> = contacts.iter().map(Webhook::id).collect();
        let is_watched = |id: i64| states.iter().any(|state| state.watches(&ids) && state.watches(&[id]));
        let (further, unrelated): (Vec<_>, Vec<_>) = at_url.into_iter().partition(|webhook| {
            let names = contacts.iter().map(Webhook::name).chain(next_name.filter(|_| !contacts.is_empty()));
            is_watched(webhook.id()) || names.into_iter().any(|first| number_in_name(webhook.name(), first).is_some())
        });
        let foreign: Vec<i64> = others.iter().chain(&unrelated).map(Webhook::id).collect();
        states.retain(|webhook| !webhook.watches(&foreign));
        let managed = ManagedWebhooks { contacts, further, states };
        self.hide(managed.all().filter_map(Webhook::secret));
        Ok(managed)
    }

    /// Creates what is missing of a registration, and updates what is different. The state of an existing webhook is
    /// kept. Returns the webhooks, and the effects on the one for contacts, on those for further events, and on the one
    /// for states.
    ///
    /// # Errors
    ///
    /// [`ApiError`] of the first call that fails; repeating the command completes the rest.
    pub async fn register(&self, desired: &Desired) -> Result<(ManagedWebhooks, Vec<Registration>), ApiError> {
        let managed = self.webhooks_named(&desired.url, desired.name.as_deref()).await?;
        let existing: Vec<&Webhook> = managed.contacts.iter().take(1).chain(&managed.further).collect();
        let main = existing.first().copied();
        let name = desired.name.as_deref().or(main.map(Webhook::name)).unwrap_or(DEFAULT_NAME);
        let current: Vec<Vec<&str>> = existing.iter().map(|webhook| webhook.events().collect()).collect();
        let events = events_of_webhooks(desired.events.as_deref(), &current);

        let number = |webhook: &&Webhook| {
            let names = main.map(Webhook::name).into_iter().chain([name]);
            names.into_iter().find_map(|first| number_in_name(webhook.name(), first))
        };
        let numbers: Vec<u32> = existing.iter().filter_map(number).collect();
        let mut free = (2..).filter(|number| !numbers.contains(number));

        // The names of the further webhooks lead to the first one, so it is created before them. It is changed after
        // them: an event that moves is not lost in between.
        let mut effects = vec![Registration::Unchanged];
        let mut ids = Vec::new();
        if main.is_none() {
            let (created, effect) = self.register_one(None, name, &events[0], desired).await?;
            effects[0] = effect;
            ids.push(created.id());
        }
        for (index, events) in events.iter().enumerate().skip(1) {
            let webhook = existing.get(index).copied();
            let number = webhook.as_ref().and_then(number).or_else(|| free.next()).unwrap_or_default();
            let name = &format!("{name} ({number})");
            let (webhook, effect) = self.register_one(webhook, name, events, desired).await?;
            effects.push(effect);
            ids.push(webhook.id());
        }
        if let Some(main) = main {
            effects[0] = self.register_one(Some(main), name, &events[0], desired).await?.1;
            ids.insert(0, main.id());
        }

        let watched = ids.iter().flat_map(|id| STATE_EVENTS.map(|ending| format!("webhook{id}.{ending}")));
        let watches_main = |webhook: &&Webhook| webhook.watches(&ids[..1]);
        let state = managed.states.iter().find(watches_main).or(managed.states.first());
        let watched: Vec<String> = watched.collect();
        let (_, effect) = self.register_one(state, &format!("{name} (state)"), &watched, desired).await?;
        for surplus in existing.iter().skip(events.len()) {
            self.delete_webhook(surplus).await?;
            effects.push(Registration::Deleted);
        }
        effects.push(effect);
        Ok((self.webhooks(&desired.url).await?, effects))
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
        for webhook in managed.states.iter().chain(managed.for_rows()) {
            self.delete_webhook(webhook).await?;
        }
        Ok(managed)
    }
}

/// Returns the number of a webhook for further events: 2 for `Events (2)`, if the first webhook is `Events`.
fn number_in_name(name: &str, first: &str) -> Option<u32> {
    let number = name.strip_prefix(first)?.strip_prefix(" (")?.strip_suffix(')')?;
    number.parse().ok().filter(|number| *number > 1)
}
