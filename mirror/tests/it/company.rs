//! A SuperOffice in memory, whose answers can be compared with the table.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;

use fake_superoffice::Clock;
use jiff::Timestamp;
use superoffice_client::records::{ListedRecord, RecordPage};
use superoffice_webhook_mirror::failure::Failure;
use superoffice_webhook_mirror::superoffice::SuperOffice;

/// A contact.
#[derive(Clone, Debug)]
pub(crate) struct Company {
    pub(crate) name: String,
    pub(crate) registered: String,
    pub(crate) updated: String,
    /// Deleted by a person, who can restore it.
    pub(crate) is_deleted: bool,
}

/// An answer that differs from the present state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The call fails.
    Failure(Failure),
    /// 404 with a JSON body.
    NotFound,
    /// The document of another contact.
    Other(i64),
    /// Any other document.
    Document(String),
}

/// A tenant's contacts.
#[derive(Debug)]
pub(crate) struct Crm {
    pub(crate) clock: Clock,
    contacts: Mutex<BTreeMap<i64, Company>>,
    /// The contacts that were merged into another one.
    merged: Mutex<BTreeMap<i64, i64>>,
    calls: Mutex<Vec<String>>,
    /// The answers to the next calls that contain a text.
    faults: Mutex<Vec<(String, VecDeque<Fault>)>>,
    /// The number of steps of other tasks before each of the next answers.
    delays: Mutex<VecDeque<u8>>,
}

impl Crm {
    pub(crate) fn new() -> Self {
        Self {
            clock: Clock::fixed(fake_superoffice::START.parse().unwrap()),
            contacts: Mutex::default(),
            merged: Mutex::default(),
            calls: Mutex::default(),
            faults: Mutex::default(),
            delays: Mutex::default(),
        }
    }

    /// Creates or changes a contact.
    pub(crate) fn save(&self, id: i64, name: &str) {
        let now = self.clock.now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        self.merged.lock().unwrap().remove(&id);
        let mut contacts = self.contacts.lock().unwrap();
        match contacts.get_mut(&id) {
            Some(company) => {
                name.clone_into(&mut company.name);
                company.updated = now;
            }
            None => {
                let updated = "0001-01-01T00:00:00Z".to_owned();
                contacts.insert(id, Company { name: name.to_owned(), registered: now, updated, is_deleted: false });
            }
        }
    }

    /// Changes a contact without a new date.
    pub(crate) fn rename_without_date(&self, id: i64, name: &str) {
        if let Some(company) = self.contacts.lock().unwrap().get_mut(&id) {
            name.clone_into(&mut company.name);
        }
    }

    /// Copies all contacts.
    pub(crate) fn backup(&self) -> BTreeMap<i64, Company> {
        self.contacts.lock().unwrap().clone()
    }

    /// Replaces all contacts by those of a backup.
    pub(crate) fn restore(&self, backup: BTreeMap<i64, Company>) {
        *self.contacts.lock().unwrap() = backup;
    }

    /// Marks a contact as deleted, or restores it.
    pub(crate) fn set_deleted(&self, id: i64, is_deleted: bool) {
        if let Some(company) = self.contacts.lock().unwrap().get_mut(&id) {
            company.is_deleted = is_deleted;
        }
    }

    /// Deletes a contact for ever.
    pub(crate) fn remove(&self, id: i64) {
        self.contacts.lock().unwrap().remove(&id);
    }

    /// Merges a contact into another one, whose document is returned for both from now on.
    pub(crate) fn merge(&self, source: i64, destination: i64) {
        if source != destination && self.contacts.lock().unwrap().remove(&source).is_some() {
            self.merged.lock().unwrap().insert(source, destination);
        }
    }

    /// Answers the next calls whose text contains `call` with these faults.
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

    /// Returns what the table's documents must be: every contact that exists, without its persons.
    pub(crate) fn documents(&self) -> BTreeMap<i64, String> {
        let contacts = self.contacts.lock().unwrap();
        let living = contacts.iter().filter(|(_, company)| !company.is_deleted);
        living.map(|(id, company)| (*id, document(*id, company, false))).collect()
    }

    fn fault(&self, call: String) -> Option<Fault> {
        let mut faults = self.faults.lock().unwrap();
        let scripted = faults.iter_mut().find(|(text, left)| call.contains(text.as_str()) && !left.is_empty());
        let fault = scripted.and_then(|(_, left)| left.pop_front());
        self.calls.lock().unwrap().push(call);
        fault
    }

    fn listed(&self, after: i64, rows: usize) -> Vec<ListedRecord> {
        let contacts = self.contacts.lock().unwrap();
        let living = contacts.range(after + 1..).filter(|(_, company)| !company.is_deleted);
        let row = |(id, company): (&i64, &Company)| ListedRecord {
            id: *id,
            registered: company.registered.clone(),
            updated: company.updated.clone(),
        };
        living.take(rows).map(row).collect()
    }
}

fn document(id: i64, company: &Company, has_persons: bool) -> String {
    let persons = if has_persons { r#""Persons":[{"PersonId":1,"Firstname":"Kari"}],"# } else { "" };
    let Company { name, updated, is_deleted, .. } = company;
    format!(
        r#"{{"ContactId":{id},"Name":"{name}",{persons}"UpdatedDate":"{updated}","Deleted":{}}}"#,
        i32::from(*is_deleted)
    )
}

impl SuperOffice for Crm {
    async fn contact(&self, id: i64) -> Result<Option<String>, Failure> {
        let id = match self.fault(format!("contact {id}")) {
            Some(Fault::Failure(failure)) => return Err(failure),
            Some(Fault::NotFound) => return Ok(None),
            Some(Fault::Document(document)) => return Ok(Some(document)),
            Some(Fault::Other(other)) => other,
            None => self.merged.lock().unwrap().get(&id).copied().unwrap_or(id),
        };
        let answer = self.contacts.lock().unwrap().get(&id).map(|company| document(id, company, true));
        let delay = self.delays.lock().unwrap().pop_front();
        for _ in 0..delay.unwrap_or(0) {
            tokio::task::yield_now().await;
        }
        Ok(answer)
    }

    async fn lists(&self, id: i64) -> Result<bool, Failure> {
        match self.fault(format!("lists {id}")) {
            Some(Fault::Failure(failure)) => Err(failure),
            _ => Ok(self.contacts.lock().unwrap().get(&id).is_some_and(|company| !company.is_deleted)),
        }
    }

    async fn page(&self, after: i64, rows: usize) -> Result<RecordPage, Failure> {
        match self.fault(format!("page {after} {rows}")) {
            Some(Fault::Failure(failure)) => Err(failure),
            _ => Ok(RecordPage { records: self.listed(after, rows), date: Some(self.clock.now()) }),
        }
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }
}
