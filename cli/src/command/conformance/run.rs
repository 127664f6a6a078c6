//! The steps of a run: it changes test data, and answers each assumption from the responses and from the function's log.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use superoffice_client::registration::{CONTACT_EVENTS, Desired, ManagedWebhooks};
use superoffice_client::webhooks::{State, Usage, Webhook};
use superoffice_client::{ApiError, Archive, Client, ExposeSecret, SecretString};
use superoffice_webhook::webhook::field::get_ignore_case;
use tokio::time::Instant;

use super::arrivals::FunctionLog;
use super::assumptions::{Answer, Assumption, Findings};
use super::cleanup::MARK;
use super::exchanges::Exchanges;
use crate::exit::Failure;
use crate::interrupt::Interrupt;
use crate::output::message;

/// Times in SuperOffice have whole seconds. After this time, a change is later than the creation.
const NEXT_SECOND: Duration = Duration::from_millis(1100);
/// A renamed contact is read for this time after the response to the change.
const READ_TIME: Duration = Duration::from_secs(2);
/// The pause between two reads of a contact.
const READ_EVERY: Duration = Duration::from_millis(100);

/// The assumptions that are answered with a webhook, with contacts, and with the log.
const WITH_WEBHOOK: [Assumption; 6] = [
    Assumption::SavedAsSent,
    Assumption::SecretReturned,
    Assumption::StateText,
    Assumption::TestCall,
    Assumption::JsonPatch,
    Assumption::StateCompared,
];
const WITH_CONTACTS: [Assumption; 22] = [
    Assumption::EventCreated,
    Assumption::EventChanged,
    Assumption::EventSoftDeleted,
    Assumption::EventMergedSource,
    Assumption::EventMergedDestination,
    Assumption::EventResync,
    Assumption::EventResyncGone,
    Assumption::EventTenant,
    Assumption::EventTime,
    Assumption::Offsets,
    Assumption::ListCreated,
    Assumption::ListChanged,
    Assumption::ListSoftDeleted,
    Assumption::ListMerged,
    Assumption::ListOrder,
    Assumption::ListWithoutDeleted,
    Assumption::Comparable,
    Assumption::Read,
    Assumption::ReadDeleted,
    Assumption::ReadMerged,
    Assumption::ReadAfterEvent,
    Assumption::Usage,
];

/// The end of a run before its last step.
pub(super) enum Stop {
    Interrupted,
    Failed(Failure),
}

impl<E: Into<Failure>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// A run.
pub(super) struct Run<'a> {
    pub(super) client: &'a Client,
    /// The URL of the test's webhooks.
    pub(super) url: &'a str,
    pub(super) secret: &'a SecretString,
    pub(super) log: &'a FunctionLog,
    pub(super) exchanges: &'a Exchanges,
    pub(super) interrupt: &'a Interrupt,
    pub(super) findings: &'a mut Findings,
    /// The contacts that the run has created.
    pub(super) created: &'a mut Vec<i64>,
}

/// The contacts of a run, in ascending order of their ids.
pub(super) struct Contacts {
    pub(super) created: i64,
    pub(super) renamed: [i64; 2],
    pub(super) deleted: i64,
    pub(super) source: i64,
    pub(super) destination: i64,
    /// The time before the first of them was created, by the local clock.
    pub(super) since: Timestamp,
    /// The results of the calls that were to raise events.
    pub(super) calls: BTreeMap<Assumption, Result<(), String>>,
    /// The answers to reads of the renamed contacts.
    pub(super) reads: Vec<ReadContact>,
}

impl Contacts {
    pub(super) fn all(&self) -> [i64; 6] {
        let Self { created, renamed: [first, second], deleted, source, destination, .. } = *self;
        [created, first, second, deleted, source, destination]
    }
}

/// An answer with a contact that is being renamed.
pub(super) struct ReadContact {
    pub(super) contact: i64,
    /// The time before the request, by the local clock.
    pub(super) began: Timestamp,
    pub(super) has_new_name: bool,
}

/// Passes an error on that concerns one call only. Any other error ends the run.
pub(super) fn specific<T>(result: Result<T, ApiError>) -> Result<Result<T, String>, Stop> {
    match result {
        Err(error) if !error.is_specific() => Err(error.into()),
        result => Ok(result.map_err(|error| error.to_string())),
    }
}

/// Returns a property of a JSON object.
pub(super) fn property(json: &str, name: &str) -> Option<Value> {
    let object: serde_json::Map<String, Value> = serde_json::from_str(json).ok()?;
    get_ignore_case(&object, name).cloned()
}

impl Run<'_> {
    pub(super) async fn run(&mut self) -> Result<(), Stop> {
        let start = Timestamp::now();
        self.reject_wrong_secret().await?;
        let webhooks = self.register().await?;
        self.note_clock();
        if let Some(contacts) = self.change_contacts().await? {
            self.lists(&contacts).await?;
            self.reads(&contacts).await?;
            self.events(&contacts, webhooks.is_some(), start).await?;
        }
        match webhooks.as_ref().and_then(|webhooks| webhooks.contacts.first()) {
            Some(main) => self.usage(main).await?,
            None => self.findings.unknown(&[Assumption::Usage], "there is no webhook"),
        }
        self.disable(webhooks.as_ref()).await
    }

    /// Ends the run after a signal. Called between two steps that change something.
    pub(super) fn proceed(&self, step: &str) -> Result<(), Stop> {
        if self.interrupt.is_requested() {
            return Err(Stop::Interrupted);
        }
        message(step);
        Ok(())
    }

    fn desired(&self, secret: SecretString) -> Desired {
        Desired { name: Some(MARK.to_owned()), ..Desired::new(self.url, secret) }
    }

    async fn reject_wrong_secret(&mut self) -> Result<(), Stop> {
        self.proceed("registering a webhook with a wrong secret")?;
        let wrong = self.desired(format!("{MARK}: a wrong secret").into());
        let (answer, evidence) = match specific(self.client.register(&wrong).await)? {
            Ok(_) => {
                self.client.unregister(self.url).await?;
                (Answer::No, "the webhook was saved".to_owned())
            }
            Err(error) => match self.exchanges.since(0).iter().rfind(|exchange| exchange.method == "POST") {
                Some(exchange) if (400..500).contains(&exchange.status) => {
                    (Answer::Yes, format!("status {}", exchange.status))
                }
                _ => (Answer::CouldNotTell, error),
            },
        };
        self.findings.set(Assumption::WrongSecretRefused, answer, evidence);
        Ok(())
    }

    async fn register(&mut self) -> Result<Option<ManagedWebhooks>, Stop> {
        self.proceed("registering the webhooks of the test")?;
        let webhooks = match specific(self.client.register(&self.desired(self.secret.clone())).await)? {
            Ok((webhooks, _)) => webhooks,
            Err(error) => {
                self.findings.set(Assumption::Created, Answer::No, &error);
                self.findings.unknown(&WITH_WEBHOOK, "there is no webhook");
                return Ok(None);
            }
        };
        let listed = webhooks.all().count();
        self.findings.set(Assumption::Created, Answer::Yes, "SuperOffice saved two webhooks");
        let Some(main) = webhooks.contacts.first() else {
            self.findings.unknown(&WITH_WEBHOOK, "the webhook is not listed");
            self.findings.set(Assumption::SavedAsSent, Answer::No, format!("{listed} of 2 webhooks are listed"));
            return Ok(None);
        };
        let has = |event: &&str| main.events().any(|name| name.eq_ignore_ascii_case(event));
        let is_same =
            main.name() == MARK && main.events().count() == CONTACT_EVENTS.len() && CONTACT_EVENTS.iter().all(has);
        let evidence = format!("{listed} of 2 webhooks are listed under their URL");
        self.findings.set(Assumption::SavedAsSent, Answer::yes_if(is_same && listed == 2), evidence);
        self.read_list(main);
        match specific(self.client.test(main, Some(self.secret)).await)? {
            Ok(result) => {
                let evidence = format!("Success is {}", result.success);
                self.findings.set(Assumption::TestCall, Answer::yes_if(result.success), evidence);
            }
            Err(error) => self.findings.set(Assumption::TestCall, Answer::No, error),
        }
        Ok(Some(webhooks))
    }

    /// Answers from the list that contained the webhook.
    fn read_list(&mut self, main: &Webhook) {
        let exchanges = self.exchanges.since(0);
        let list = exchanges.iter().rfind(|exchange| exchange.method == "GET" && exchange.path == "Webhook");
        let webhooks = list.and_then(|list| list.response.as_array()).into_iter().flatten();
        let mut webhooks = webhooks.filter_map(Value::as_object);
        let property = |name| {
            let is_main = |id: &Value| id.as_i64() == Some(main.id());
            let webhook = webhooks.clone().find(|webhook| get_ignore_case(*webhook, "WebhookId").is_some_and(is_main));
            webhook.and_then(|webhook| get_ignore_case(webhook, name))
        };
        let secret = property("Secret").and_then(Value::as_str);
        let (answer, evidence) = match secret {
            Some(secret) if secret == self.secret.expose_secret() => (Answer::Yes, "the secret that was sent"),
            None | Some("") => (Answer::No, "no secret"),
            Some(_) => (Answer::No, "another text"),
        };
        self.findings.set(Assumption::SecretReturned, answer, evidence);
        let is_text = webhooks.all(|webhook| get_ignore_case(webhook, "State").is_some_and(Value::is_string));
        let evidence = if is_text { "every webhook of the list" } else { "not every webhook of the list" };
        self.findings.set(Assumption::StateText, Answer::yes_if(is_text), evidence);
    }

    fn note_clock(&mut self) {
        let has_date = self.exchanges.since(0).iter().any(|exchange| exchange.date.is_some());
        let seconds = self.client.clock_offset().as_secs();
        let evidence = if has_date {
            format!("SuperOffice's clock is {seconds} s ahead of this computer's")
        } else {
            "no response has a header Date".to_owned()
        };
        self.findings.set(Assumption::Clock, Answer::yes_if(has_date), evidence);
    }

    /// Creates contacts and changes them. Returns `None` if SuperOffice refuses to create one.
    async fn change_contacts(&mut self) -> Result<Option<Contacts>, Stop> {
        let since = self.client.now();
        for role in ["created", "renamed 1", "renamed 2", "deleted", "merged", "remaining"] {
            self.proceed(&format!("creating a contact: {role}"))?;
            match specific(self.client.create_contact(&format!("{MARK}: {role}")).await)? {
                Ok(id) => self.created.push(id),
                Err(error) => {
                    self.findings.unknown(&WITH_CONTACTS, &error);
                    return Ok(None);
                }
            }
        }
        let mut ids = self.created.clone();
        ids.sort_unstable();
        let [created, first, second, deleted, source, destination] = ids[..] else {
            return Err(Stop::Failed("a contact is missing".into()));
        };
        let (calls, reads, renamed) = (BTreeMap::new(), Vec::new(), [first, second]);
        let mut contacts = Contacts { created, renamed, deleted, source, destination, since, calls, reads };
        contacts.calls.insert(Assumption::EventCreated, Ok(()));
        self.interrupt.or(tokio::time::sleep(NEXT_SECOND)).await.ok_or(Stop::Interrupted)?;

        for contact in renamed {
            self.proceed("renaming a contact, and reading it")?;
            let renamed = self.rename(contact, &mut contacts.reads).await?;
            contacts.calls.insert(Assumption::EventChanged, renamed);
        }
        self.proceed("deleting a contact, and merging two")?;
        let deletion = specific(self.client.delete_contact(deleted).await)?;
        contacts.calls.insert(Assumption::EventSoftDeleted, deletion);
        let merge = specific(self.client.merge_contacts(source, destination).await)?;
        contacts.calls.insert(Assumption::EventMergedSource, merge.clone());
        contacts.calls.insert(Assumption::EventMergedDestination, merge.clone());
        self.proceed("signaling contacts")?;
        let signal = specific(self.client.signal_resync(Archive::CONTACT, created).await)?;
        contacts.calls.insert(Assumption::EventResync, signal);
        let signal = match merge {
            Ok(()) => specific(self.client.signal_resync(Archive::CONTACT, source).await)?,
            Err(error) => Err(error),
        };
        contacts.calls.insert(Assumption::EventResyncGone, signal);
        Ok(Some(contacts))
    }

    /// Renames a contact, and reads it at the same time.
    async fn rename(&self, contact: i64, reads: &mut Vec<ReadContact>) -> Result<Result<(), String>, Stop> {
        let name = format!("{MARK}: renamed contact");
        let renamed_at = Cell::new(None::<Instant>);
        let rename = async {
            let result = self.client.rename_contact(contact, &name).await;
            renamed_at.set(Some(Instant::now()));
            result
        };
        let read = async {
            while renamed_at.get().is_none_or(|time| time.elapsed() < READ_TIME) {
                let began = Timestamp::now();
                if let Ok(Some(text)) = specific(self.client.contact(contact).await)? {
                    let has_new_name = property(&text, "Name").is_some_and(|found| found == name.as_str());
                    reads.push(ReadContact { contact, began, has_new_name });
                }
                tokio::time::sleep(READ_EVERY).await;
            }
            Ok::<(), Stop>(())
        };
        let (renamed, read) = tokio::join!(rename, read);
        read?;
        specific(renamed)
    }

    async fn usage(&mut self, main: &Webhook) -> Result<(), Stop> {
        self.proceed("reading the counters of the webhook")?;
        let before = self.exchanges.count();
        let usage = specific(self.client.usage(main).await)?;
        let exchanges = self.exchanges.since(before);
        let status =
            exchanges.iter().find(|exchange| exchange.path == "Archive/Webhook").map(|exchange| exchange.status);
        let (answer, evidence) = match (status, usage) {
            (Some(200), Ok(Usage { total_calls: Some(calls), last_event: Some(time), .. })) => {
                (Answer::Yes, format!("{calls} calls, the last at {time}"))
            }
            (Some(200), Ok(_)) => (Answer::No, "no last event, or no counters".to_owned()),
            (Some(status), _) => (Answer::No, format!("status {status}")),
            (None, _) => (Answer::CouldNotTell, "no response".to_owned()),
        };
        self.findings.set(Assumption::Usage, answer, evidence);
        Ok(())
    }

    /// Stops the webhook, which must raise an event, and deletes the webhooks.
    async fn disable(&mut self, webhooks: Option<&ManagedWebhooks>) -> Result<(), Stop> {
        let Some(main) = webhooks.and_then(|webhooks| webhooks.contacts.first()) else {
            let reason = "there is no webhook";
            self.findings.unknown(&[Assumption::EventState, Assumption::Unregistered], reason);
            return Ok(());
        };
        self.proceed("stopping the webhook")?;
        let (before, start) = (self.exchanges.count(), Timestamp::now());
        let stopped = specific(self.client.set_state(main, State::Stopped, Some(self.secret)).await)?;
        let exchanges = self.exchanges.since(before);
        let patches = exchanges.iter().filter(|exchange| exchange.method == "PATCH").map(|exchange| exchange.status);
        let (patch, compared) = match *patches.collect::<Vec<_>>() {
            [200] => (Answer::Yes, Answer::Yes),
            [409, 200] => (Answer::Yes, Answer::No),
            [404 | 405 | 501] => (Answer::No, Answer::CouldNotTell),
            _ => (Answer::CouldNotTell, Answer::CouldNotTell),
        };
        let statuses: Vec<_> =
            exchanges.iter().map(|exchange| format!("{} {}", exchange.method, exchange.status)).collect();
        self.findings.set(Assumption::JsonPatch, patch, statuses.join(", "));
        self.findings.set(Assumption::StateCompared, compared, statuses.join(", "));
        self.state_event(start, stopped.map(drop)).await?;
        self.proceed("deleting the webhooks")?;
        let (answer, evidence) = match specific(self.client.unregister(self.url).await)? {
            Ok(_) => {
                let left = self.client.webhooks(self.url).await?.all().count();
                (Answer::yes_if(left == 0), format!("{left} webhooks are left"))
            }
            Err(error) => (Answer::No, error),
        };
        self.findings.set(Assumption::Unregistered, answer, evidence);
        Ok(())
    }
}
