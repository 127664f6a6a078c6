//! A SuperOffice in memory, whose answers can be compared with the table.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Deref;
use std::sync::Mutex;

use fake_superoffice::Clock;
use jiff::Timestamp;
use superoffice_client::records::{ListedRecord, RecordPage};
use superoffice_webhook::webhook::entity::Archive;
use superoffice_webhook_mirror::failure::Failure;
use superoffice_webhook_mirror::row::Key;
use superoffice_webhook_mirror::superoffice::SuperOffice;

/// A contact or a person.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) name: String,
    pub(crate) registered: String,
    pub(crate) updated: String,
    /// Deleted by a user, who can restore it.
    pub(crate) is_deleted: bool,
}

/// An answer that differs from the present state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The call fails.
    Failure(Failure),
    /// 404 with a JSON body.
    NotFound,
    /// The document of another record.
    Other(i64),
    /// Any other document.
    Document(String),
}

/// All records of an entity.
#[derive(Debug)]
pub(crate) struct Records {
    archive: &'static Archive,
    clock: Clock,
    records: Mutex<BTreeMap<i64, Record>>,
    /// The records that were merged into another one.
    merged: Mutex<BTreeMap<i64, i64>>,
}

impl Records {
    fn new(archive: &'static Archive, clock: &Clock) -> Self {
        Self { archive, clock: clock.clone(), records: Mutex::default(), merged: Mutex::default() }
    }

    /// Creates or changes a record.
    pub(crate) fn save(&self, id: i64, name: &str) {
        let now = self.clock.now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        self.merged.lock().unwrap().remove(&id);
        let mut records = self.records.lock().unwrap();
        match records.get_mut(&id) {
            Some(record) => {
                name.clone_into(&mut record.name);
                record.updated = now;
            }
            None => {
                let updated = "0001-01-01T00:00:00Z".to_owned();
                records.insert(id, Record { name: name.to_owned(), registered: now, updated, is_deleted: false });
            }
        }
    }

    /// Changes a record without a new date.
    pub(crate) fn rename_without_date(&self, id: i64, name: &str) {
        if let Some(record) = self.records.lock().unwrap().get_mut(&id) {
            name.clone_into(&mut record.name);
        }
    }

    /// Copies all records.
    pub(crate) fn backup(&self) -> BTreeMap<i64, Record> {
        self.records.lock().unwrap().clone()
    }

    /// Replaces all records by those of a backup.
    pub(crate) fn restore(&self, backup: BTreeMap<i64, Record>) {
        *self.records.lock().unwrap() = backup;
    }

    /// Marks a record as deleted, or restores it.
    pub(crate) fn set_deleted(&self, id: i64, is_deleted: bool) {
        if let Some(record) = self.records.lock().unwrap().get_mut(&id) {
            record.is_deleted = is_deleted;
        }
    }

    /// Deletes a record for ever.
    pub(crate) fn remove(&self, id: i64) {
        self.records.lock().unwrap().remove(&id);
    }

    /// Merges a record into another one, whose document is returned for both from now on.
    pub(crate) fn merge(&self, source: i64, destination: i64) {
        if source != destination && self.records.lock().unwrap().remove(&source).is_some() {
            self.merged.lock().unwrap().insert(source, destination);
        }
    }

    /// Returns what the table's documents must be: every record that exists, without its persons.
    pub(crate) fn documents(&self) -> BTreeMap<i64, String> {
        let records = self.records.lock().unwrap();
        let living = records.iter().filter(|(_, record)| !record.is_deleted);
        living.map(|(id, record)| (*id, self.document(*id, record, ""))).collect()
    }

    /// Returns the answer for a record.
    fn answer(&self, id: i64) -> Option<String> {
        let persons =
            if self.archive == Archive::CONTACT { r#""Persons":[{"PersonId":1,"Firstname":"Kari"}],"# } else { "" };
        self.records.lock().unwrap().get(&id).map(|record| self.document(id, record, persons))
    }

    fn document(&self, id: i64, record: &Record, persons: &str) -> String {
        let (key, deleted) = (self.archive.id, i32::from(record.is_deleted));
        let Record { name, updated, .. } = record;
        format!(r#"{{"{key}":{id},"Name":"{name}",{persons}"UpdatedDate":"{updated}","Deleted":{deleted}}}"#)
    }

    fn listed(&self, after: i64, rows: usize) -> Vec<ListedRecord> {
        let records = self.records.lock().unwrap();
        let living = records.range(after + 1..).filter(|(_, record)| !record.is_deleted);
        let row = |(id, record): (&i64, &Record)| ListedRecord {
            id: *id,
            registered: record.registered.clone(),
            updated: record.updated.clone(),
        };
        living.take(rows).map(row).collect()
    }
}

/// A tenant's SuperOffice. Without another entity, a call is about its contacts.
#[derive(Debug)]
pub(crate) struct Crm {
    pub(crate) clock: Clock,
    contacts: Records,
    pub(crate) persons: Records,
    calls: Mutex<Vec<String>>,
    /// The answers to the next calls that contain a text.
    faults: Mutex<Vec<(String, VecDeque<Fault>)>>,
    /// The number of steps of other tasks before each of the next answers.
    delays: Mutex<VecDeque<u8>>,
}

impl Deref for Crm {
    type Target = Records;

    fn deref(&self) -> &Records {
        &self.contacts
    }
}

impl Crm {
    pub(crate) fn new() -> Self {
        let clock = Clock::fixed(fake_superoffice::START.parse().unwrap());
        Self {
            contacts: Records::new(Archive::CONTACT, &clock),
            persons: Records::new(Archive::PERSON, &clock),
            clock,
            calls: Mutex::default(),
            faults: Mutex::default(),
            delays: Mutex::default(),
        }
    }

    /// Returns the records of an entity.
    pub(crate) fn of(&self, archive: &Archive) -> &Records {
        if archive == Archive::PERSON { &self.persons } else { &self.contacts }
    }

    /// Answers the next calls whose text, followed by a space, contains `call` with these faults.
    pub(crate) fn script(&self, call: &str, faults: impl IntoIterator<Item = Fault>) {
        self.faults.lock().unwrap().push((call.to_owned(), faults.into_iter().collect()));
    }

    /// Fails the next calls whose text contains `call` with a status.
    pub(crate) fn fail(&self, call: &str, status: u16, times: usize) {
        self.script(call, std::iter::repeat_n(Fault::Failure(Failure::Status(status)), times));
    }

    /// Holds each of the next answers for a number of steps of other tasks.
    pub(crate) fn hold_answers(&self, delays: &[u8]) {
        self.delays.lock().unwrap().extend(delays);
    }

    pub(crate) fn clear_faults(&self) {
        self.faults.lock().unwrap().clear();
    }

    /// Returns the calls so far.
    pub(crate) fn calls(&self) -> Vec<String> {
        self.calls.lock().unwrap().clone()
    }

    /// Returns the calls so far, and forgets them.
    pub(crate) fn take_calls(&self) -> Vec<String> {
        std::mem::take(&mut self.calls.lock().unwrap())
    }

    fn fault(&self, call: String) -> Option<Fault> {
        let mut faults = self.faults.lock().unwrap();
        let delimited = format!("{call} ");
        let scripted = faults.iter_mut().find(|(text, left)| delimited.contains(text.as_str()) && !left.is_empty());
        let fault = scripted.and_then(|(_, left)| left.pop_front());
        self.calls.lock().unwrap().push(call);
        fault
    }
}

/// Returns the name of a call of a list.
fn list(call: &str, archive: &Archive) -> String {
    if archive == Archive::CONTACT { call.to_owned() } else { format!("{call} of {}s", archive.name) }
}

impl SuperOffice for Crm {
    async fn document(&self, Key { archive, id }: Key) -> Result<Option<String>, Failure> {
        let records = self.of(archive);
        let id = match self.fault(format!("{} {id}", archive.name)) {
            Some(Fault::Failure(failure)) => return Err(failure),
            Some(Fault::NotFound) => return Ok(None),
            Some(Fault::Document(document)) => return Ok(Some(document)),
            Some(Fault::Other(other)) => other,
            None => records.merged.lock().unwrap().get(&id).copied().unwrap_or(id),
        };
        let answer = records.answer(id);
        let delay = self.delays.lock().unwrap().pop_front();
        for _ in 0..delay.unwrap_or(0) {
            tokio::task::yield_now().await;
        }
        Ok(answer)
    }

    async fn lists(&self, Key { archive, id }: Key) -> Result<bool, Failure> {
        match self.fault(format!("{} {id}", list("lists", archive))) {
            Some(Fault::Failure(failure)) => Err(failure),
            _ => Ok(self.of(archive).records.lock().unwrap().get(&id).is_some_and(|record| !record.is_deleted)),
        }
    }

    async fn page(&self, archive: &'static Archive, after: i64, rows: usize) -> Result<RecordPage, Failure> {
        match self.fault(format!("{} {after} {rows}", list("page", archive))) {
            Some(Fault::Failure(failure)) => Err(failure),
            _ => Ok(RecordPage { records: self.of(archive).listed(after, rows), date: Some(self.clock.now()) }),
        }
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }
}
