//! The answers about the contacts of a run: from lists, from reads, and from the events that arrived.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use recovery::comparison::{Comparison, Window};
use recovery::delivery_log::DeliveryLog;
use recovery::record::Record;
use serde_json::Value;
use superoffice_client::changes::{Change, Changes};
use superoffice_client::{Archive, ErrorKind};

use super::arrivals::Arrival;
use super::assumptions::{Answer, Assumption};
use super::run::{Contacts, Run, Stop, property, specific};

/// The possible error of a comparison between the clocks of this computer, AWS and SuperOffice.
const CLOCK_ERROR: SignedDuration = SignedDuration::from_secs(1);
/// The longest plausible time between an event and its log line, in milliseconds.
const LONGEST_DELAY: f64 = 3_600_000.0;

/// The assumptions that are answered with events of contacts.
const WITH_EVENTS: [Assumption; 10] = [
    Assumption::EventCreated,
    Assumption::EventChanged,
    Assumption::EventSoftDeleted,
    Assumption::EventMergedSource,
    Assumption::EventMergedDestination,
    Assumption::EventResync,
    Assumption::EventResyncGone,
    Assumption::EventTenant,
    Assumption::EventTime,
    Assumption::ReadAfterEvent,
];

impl Contacts {
    /// Returns the events that the contacts raised.
    fn events(&self) -> [(Assumption, &'static str, i64); 8] {
        [
            (Assumption::EventCreated, "contact.created", self.created),
            (Assumption::EventChanged, "contact.changed", self.renamed[0]),
            (Assumption::EventChanged, "contact.changed", self.renamed[1]),
            (Assumption::EventSoftDeleted, "contact.softdeleted", self.deleted),
            (Assumption::EventMergedSource, "contact.deleted", self.source),
            (Assumption::EventMergedDestination, "contact.changed", self.destination),
            (Assumption::EventResync, "contact.resync", self.created),
            (Assumption::EventResyncGone, "contact.resync", self.source),
        ]
    }

    /// Returns the time before the first contact was created, by SuperOffice's clock.
    fn since(&self, ahead: SignedDuration) -> Timestamp {
        self.since.saturating_add(ahead - CLOCK_ERROR).unwrap_or(self.since)
    }

    /// Returns the id before the first contact.
    fn before(&self) -> i64 {
        self.created - 1
    }
}

impl Run<'_> {
    /// Answers from the lists of changes, and from the list of all contacts.
    pub(super) async fn lists(&mut self, contacts: &Contacts) -> Result<(), Stop> {
        self.proceed("reading the lists of changes")?;
        let before = self.exchanges.count();
        let since = contacts.since(self.client.clock_offset());
        let mut changes = Changes::since(self.client, Archive::CONTACT, since, Some(contacts.before()));
        let mut listed = BTreeMap::new();
        let complete = loop {
            match specific(changes.next().await)? {
                Ok(Some(contact)) => listed.insert(contact.primary_key, contact.change),
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            };
        };
        let Contacts { created, renamed, deleted, source, destination, .. } = *contacts;
        for (assumption, list, expected) in [
            (Assumption::ListCreated, "contact.registered afterTime", vec![(created, Change::Created)]),
            (Assumption::ListChanged, "contact.updated afterTime", renamed.map(|id| (id, Change::Changed)).into()),
            (Assumption::ListSoftDeleted, "deletedDate afterTime", vec![(deleted, Change::SoftDeleted)]),
            (Assumption::ListMerged, "mergemovelog", vec![(source, Change::Merged), (destination, Change::Merged)]),
        ] {
            let exchanges = self.exchanges.since(before);
            let refused = exchanges.iter().rfind(|exchange| exchange.parameter("$filter").contains(list));
            let refused = refused.map(|exchange| exchange.status).filter(|status| *status != 200);
            let found = |(id, change): &(i64, Change)| match listed.get(id) {
                Some(listed) if listed == change => "listed".to_owned(),
                Some(listed) => format!("listed as {}", listed.as_str()),
                None => "not listed".to_owned(),
            };
            let found: Vec<_> = expected.iter().map(found).collect();
            let (answer, evidence) = match (&complete, refused) {
                (_, Some(status)) => (Answer::No, format!("status {status}")),
                (Err(error), None) => (Answer::CouldNotTell, error.clone()),
                (Ok(()), None) => (Answer::yes_if(found.iter().all(|found| found == "listed")), found.join(", ")),
            };
            self.findings.set(assumption, answer, evidence);
        }
        let (times, count) = (listed.len(), changes.without_offset());
        let (answer, evidence) = match times {
            0 => (Answer::CouldNotTell, "no time was listed".to_owned()),
            _ => (Answer::yes_if(count == 0), format!("{count} times without an offset")),
        };
        self.findings.set(Assumption::Offsets, answer, evidence);
        self.list_of_all(contacts).await
    }

    async fn list_of_all(&mut self, contacts: &Contacts) -> Result<(), Stop> {
        let [.., last] = contacts.renamed;
        let (answer, evidence) = match self.client.page(Archive::CONTACT, last, 1000).await {
            Ok(page) => {
                let is_listed = page.records.iter().any(|contact| contact.id == contacts.destination);
                (Answer::yes_if(is_listed), format!("{} contacts in a page", page.records.len()))
            }
            Err(error) if *error.kind() == ErrorKind::NotAscending => (Answer::No, error.to_string()),
            result => (Answer::CouldNotTell, specific(result.map(drop))?.err().unwrap_or_default()),
        };
        self.findings.set(Assumption::ListOrder, answer, evidence);
        let mut listed = Vec::new();
        for contact in [contacts.created, contacts.deleted, contacts.source] {
            listed.push(specific(self.client.lists(Archive::CONTACT, contact).await)?);
        }
        let deletion = contacts.calls.get(&Assumption::EventSoftDeleted);
        let (answer, evidence) = match listed.as_slice() {
            _ if !matches!(deletion, Some(Ok(()))) => (Answer::CouldNotTell, "no contact was deleted".to_owned()),
            [Ok(true), Ok(deleted), Ok(merged)] => {
                let evidence = format!("a deleted contact is listed: {deleted}; a merged contact is listed: {merged}");
                (Answer::yes_if(!deleted && !merged), evidence)
            }
            _ => (Answer::CouldNotTell, "the list has no new contact, or cannot be read".to_owned()),
        };
        self.findings.set(Assumption::ListWithoutDeleted, answer, evidence);
        Ok(())
    }

    /// Answers from reads of contacts that exist, that were deleted, and that were merged.
    pub(super) async fn reads(&mut self, contacts: &Contacts) -> Result<(), Stop> {
        self.proceed("reading contacts")?;
        let is_own = |text: &str, contact: i64| property(text, "ContactId").is_some_and(|id| id == contact);
        let Contacts { created, deleted, source, .. } = *contacts;
        let (answer, evidence) = match specific(self.client.contact(created).await)? {
            Ok(Some(text)) => (Answer::yes_if(is_own(&text, created)), "a JSON object".to_owned()),
            Ok(None) => (Answer::No, "status 404".to_owned()),
            Err(error) => (Answer::No, error),
        };
        self.findings.set(Assumption::Read, answer, evidence);
        for (assumption, call, contact) in [
            (Assumption::ReadDeleted, Assumption::EventSoftDeleted, deleted),
            (Assumption::ReadMerged, Assumption::EventMergedSource, source),
        ] {
            if let Some(Err(error)) = contacts.calls.get(&call) {
                self.findings.set(assumption, Answer::CouldNotTell, error);
                continue;
            }
            let (answer, evidence) = match specific(self.client.contact(contact).await)? {
                Ok(None) => (Answer::Yes, "status 404".to_owned()),
                Ok(Some(text)) if !is_own(&text, contact) => (Answer::Yes, "another contact".to_owned()),
                Ok(Some(text)) => {
                    let deleted = property(&text, "Deleted").unwrap_or_default();
                    let is_deleted = deleted == true || deleted.as_i64().is_some_and(|number| number != 0);
                    let is_expected = assumption == Assumption::ReadDeleted && is_deleted;
                    (Answer::yes_if(is_expected), format!("its Deleted is {}", shown(&deleted)))
                }
                Err(error) => (Answer::CouldNotTell, error),
            };
            self.findings.set(assumption, answer, evidence);
        }
        Ok(())
    }

    /// Waits for the events of the contacts, and answers from them.
    pub(super) async fn events(
        &mut self,
        contacts: &Contacts,
        has_webhook: bool,
        start: Timestamp,
    ) -> Result<(), Stop> {
        if !has_webhook {
            self.findings.unknown(&WITH_EVENTS, "there is no webhook");
            self.findings.unknown(&[Assumption::Comparable], "there is no webhook");
            return Ok(());
        }
        let wait = self.log.wait.as_secs();
        self.proceed(&format!("waiting for the events in the function's log, {wait} s at most"))?;
        let events = contacts.events();
        let was_raised = |assumption: &Assumption| matches!(contacts.calls.get(assumption), Some(Ok(())));
        let has = |arrivals: &[Arrival], event: &str, contact: i64| arrivals.iter().any(|one| one.is(event, contact));
        let is_complete = |arrivals: &[Arrival]| {
            events.iter().all(|(raised, event, contact)| !was_raised(raised) || has(arrivals, event, *contact))
        };
        let since = start.saturating_sub(CLOCK_ERROR).unwrap_or(start);
        let arrivals = self.log.arrivals(since, self.interrupt, is_complete).await.ok_or(Stop::Interrupted)?;
        let arrivals = match arrivals {
            Ok(arrivals) => arrivals,
            Err(error) => {
                self.findings.unknown(&WITH_EVENTS, &error.to_string());
                self.findings.unknown(&[Assumption::Comparable], &error.to_string());
                return Ok(());
            }
        };
        let own: Vec<&Arrival> = arrivals.iter().filter(|arrival| arrival.is_about(&contacts.all())).collect();
        for (assumption, event, contact) in events {
            let arrival = own.iter().find(|arrival| arrival.is(event, contact));
            let (answer, evidence) = match (contacts.calls.get(&assumption), arrival) {
                (Some(Err(error)), _) => (Answer::CouldNotTell, error.clone()),
                (_, Some(arrival)) => (Answer::Yes, arrival.describe()),
                (_, None) if own.is_empty() => {
                    (Answer::CouldNotTell, "no event of this run is in the function's log".to_owned())
                }
                (_, None) => (Answer::No, format!("not in the function's log within {wait} s")),
            };
            self.findings.set(assumption, answer, evidence);
        }
        self.tenant_and_time(&own);
        self.read_after_event(contacts, &own);
        self.comparable(contacts, |contact| {
            events.iter().filter(|event| event.2 == contact).all(|(_, event, contact)| has(&arrivals, event, *contact))
        })
        .await
    }

    fn tenant_and_time(&mut self, arrivals: &[&Arrival]) {
        if arrivals.is_empty() {
            let reason = "no event of this run is in the function's log";
            return self.findings.unknown(&[Assumption::EventTenant, Assumption::EventTime], reason);
        }
        let tenant = self.client.context_identifier();
        let is_tenant = |named: Option<&str>| match (tenant, named) {
            (Some(tenant), Some(named)) => tenant.eq_ignore_ascii_case(named),
            (Some(_), None) => false,
            (None, _) => true,
        };
        let named = arrivals.iter().filter(|arrival| arrival.tenant.is_some()).count();
        let evidence = format!("{named} of {} events name a tenant", arrivals.len());
        let is_named = arrivals.iter().all(|arrival| is_tenant(arrival.tenant.as_deref()));
        self.findings.set(Assumption::EventTenant, Answer::yes_if(is_named), evidence);
        let delays = || arrivals.iter().filter_map(|arrival| arrival.delay);
        let longest = delays().fold(0.0, f64::max);
        let is_plausible = delays().count() == arrivals.len() && longest < LONGEST_DELAY;
        let evidence = format!(
            "{} of {} events have a time in the past, {:.1} s ago at most",
            delays().count(),
            arrivals.len(),
            longest / 1000.0
        );
        self.findings.set(Assumption::EventTime, Answer::yes_if(is_plausible), evidence);
    }

    /// Compares the answers with the events: an answer to a request that began after an event had arrived must contain
    /// the change.
    fn read_after_event(&mut self, contacts: &Contacts, arrivals: &[&Arrival]) {
        let (mut fresh, mut doubtful, mut stale) = (0, 0, None);
        for read in &contacts.reads {
            let arrival = arrivals.iter().find(|arrival| arrival.is("contact.changed", read.contact));
            let Some(after) = arrival.map(|arrival| read.began.duration_since(arrival.written)) else { continue };
            match read.has_new_name {
                _ if after.is_negative() => {}
                true => fresh += 1,
                false if after < CLOCK_ERROR => doubtful += 1,
                false => stale = stale.max(Some(after)),
            }
        }
        let (answer, evidence) = match (stale, fresh, doubtful) {
            (Some(after), ..) => {
                let seconds = after.as_secs_f64();
                (Answer::No, format!("an answer to a request {seconds:.1} s after the event lacks the change"))
            }
            (None, _, 1..) => {
                let evidence = format!("{doubtful} answers within a second after the event lack the change");
                (Answer::CouldNotTell, evidence)
            }
            (None, 0, 0) => (Answer::CouldNotTell, "no contact was read after its event".to_owned()),
            (None, ..) => (Answer::Yes, format!("{fresh} answers after the event have the change")),
        };
        self.findings.set(Assumption::ReadAfterEvent, answer, evidence);
    }

    /// Compares as `missed` does. A contact whose events arrived must not be missed.
    async fn comparable(&mut self, contacts: &Contacts, arrived: impl Fn(i64) -> bool) -> Result<(), Stop> {
        let [first, second] = contacts.renamed;
        // A signaled contact has a later event, which would hide the time of the first one.
        let not_signaled = [first, second, contacts.deleted, contacts.destination];
        let expected: Vec<i64> = not_signaled.into_iter().filter(|contact| arrived(*contact)).collect();
        let tenant = self.client.context_identifier();
        let log = DeliveryLog::new(self.log.logs.clone(), self.log.log_group.clone(), tenant);
        let window = Window { since: contacts.since(self.client.clock_offset()), until: Timestamp::MAX };
        let comparison = Comparison::new(window, &[Archive::CONTACT]);
        let compared = match comparison.list(self.client, Some(Record::contact(contacts.before()))).await {
            Ok(listing) => comparison.compare(listing, &log).await.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        let (answer, evidence) = match compared {
            Err(error) => (Answer::CouldNotTell, error),
            Ok(compared) if expected.is_empty() || compared.listed == 0 => {
                (Answer::CouldNotTell, "no event arrived, or no change is listed".to_owned())
            }
            Ok(compared) => {
                let count = compared.missed.iter().filter(|contact| expected.contains(&contact.record.id)).count();
                let evidence =
                    format!("{count} of {} contacts are missed, though their events arrived", expected.len());
                (Answer::yes_if(count == 0), evidence)
            }
        };
        self.findings.set(Assumption::Comparable, answer, evidence);
        Ok(())
    }

    /// Waits for the event that reports the stopped webhook.
    pub(super) async fn state_event(&mut self, start: Timestamp, call: Result<(), String>) -> Result<(), Stop> {
        if let Err(error) = call {
            self.findings.set(Assumption::EventState, Answer::CouldNotTell, error);
            return Ok(());
        }
        self.proceed("waiting for the event of the webhook's state")?;
        let since = start.saturating_sub(CLOCK_ERROR).unwrap_or(start);
        let is_reported = |arrivals: &[Arrival]| arrivals.iter().any(|arrival| arrival.is_event("webhook.stopped"));
        let arrivals = self.log.arrivals(since, self.interrupt, is_reported).await.ok_or(Stop::Interrupted)?;
        let (answer, evidence) = match arrivals {
            Ok(arrivals) => match arrivals.iter().find(|arrival| arrival.is_event("webhook.stopped")) {
                Some(arrival) => (Answer::Yes, arrival.describe()),
                None if self.findings.is_yes(Assumption::EventCreated) => {
                    (Answer::No, format!("not in the function's log within {} s", self.log.wait.as_secs()))
                }
                None => (Answer::CouldNotTell, "no event of this run is in the function's log".to_owned()),
            },
            Err(error) => (Answer::CouldNotTell, error.to_string()),
        };
        self.findings.set(Assumption::EventState, answer, evidence);
        Ok(())
    }
}

/// Returns a value that is no text, for people.
fn shown(value: &Value) -> String {
    if value.is_string() { "a text".to_owned() } else { value.to_string() }
}
