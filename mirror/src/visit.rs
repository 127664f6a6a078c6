//! One tenant in one invocation: its contacts are read and written until there is a reason to stop.

use crate::answer::{Answer, judge};
use crate::failure::Failure;
use crate::row::{Content, Row};
use crate::superoffice::SuperOffice;
use crate::table::{Table, WriteError};

/// The number of times that a contact is read because others write its row.
const MAX_ATTEMPTS: u32 = 5;
/// The number of contacts in a row that may fail before SuperOffice's list decides if the tenant is given up.
const MAX_FAILURES: u32 = 3;

/// The evidence of a contact's existence, besides the answer for the contact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// None. SuperOffice's list is asked before a living row is removed.
    None,
    /// An event says that the contact was deleted.
    DeletionEvent,
    /// The page of an audit has the contact. The filtered list is asked, even if there is no living row.
    InPage,
    /// The page of an audit lacks the contact.
    NotInPage,
}

/// The effect of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A new or changed contact was written.
    Written,
    /// A tombstone was written in place of a contact or of no row.
    Removed,
    /// Only the version and the time of the row have changed.
    Unchanged,
}

/// The reason why a tenant receives no further call in this invocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// SuperOffice throttles.
    Throttled,
    /// The failures concern the whole tenant.
    GivenUp,
}

impl From<Stop> for Failure {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Throttled => Self::Throttled,
            Stop::GivenUp => Self::GivenUp,
        }
    }
}

/// One tenant in one invocation.
#[derive(Debug)]
pub struct Visit<'a, S, T> {
    superoffice: &'a S,
    table: &'a T,
    entity: String,
    stop: Option<Stop>,
    failures_in_a_row: u32,
    /// The list has answered after failures, so that they are the contacts' own.
    has_answered: bool,
}

impl<'a, S: SuperOffice, T: Table> Visit<'a, S, T> {
    /// Begins the visit of a tenant, named by the spelling of the list of tenants.
    pub fn new(tenant: &str, superoffice: &'a S, table: &'a T) -> Self {
        let entity = entity(tenant);
        Self { superoffice, table, entity, stop: None, failures_in_a_row: 0, has_answered: false }
    }

    /// Returns the reason why no further call is made.
    pub fn stop(&self) -> Option<Stop> {
        self.stop
    }

    /// Reads a contact from SuperOffice and writes its row. An audit's `stamp` is written with a living row.
    ///
    /// # Errors
    ///
    /// [`Failure`] if the row was not written.
    pub async fn mirror(&mut self, id: i64, evidence: Evidence, stamp: Option<&str>) -> Result<Outcome, Failure> {
        if let Some(stop) = self.stop {
            return Err(stop.into());
        }
        let result = self.read_and_write(id, evidence, stamp).await;
        match &result {
            Ok(_) => self.failures_in_a_row = 0,
            Err(failure) => self.note(failure).await,
        }
        result
    }

    /// Reads the version of the row, asks SuperOffice, and writes if the row still has this version. So an answer only
    /// replaces a row that was written before SuperOffice was asked.
    async fn read_and_write(&self, id: i64, evidence: Evidence, stamp: Option<&str>) -> Result<Outcome, Failure> {
        for _ in 0..MAX_ATTEMPTS {
            let previous = self.table.get(&self.entity, id).await?;
            let read_at = self.superoffice.now();
            let answer = self.superoffice.contact(id).await?;
            let content = match judge(id, answer.as_deref())? {
                Answer::Living(data) => Content::living(data),
                Answer::Deleted => Content::deleted(self.superoffice.now()),
                Answer::Gone => {
                    self.confirm(id, evidence, previous.as_ref()).await?;
                    Content::deleted(self.superoffice.now())
                }
            };
            let row = Row::following(previous.as_ref(), content, read_at, self.superoffice.now(), stamp);
            match self.write(id, previous.as_ref(), row).await {
                Err(WriteError::Changed) => {}
                Err(WriteError::TooLarge) => return Err(Failure::Unexpected),
                Err(WriteError::Failed(error)) => return Err(error.into()),
                Ok(outcome) => return Ok(outcome),
            }
        }
        Err(Failure::Contended)
    }

    /// Confirms that a contact is gone.
    async fn confirm(&self, id: i64, evidence: Evidence, previous: Option<&Row>) -> Result<(), Failure> {
        let is_certain = match evidence {
            Evidence::DeletionEvent | Evidence::NotInPage => true,
            Evidence::InPage => false,
            Evidence::None => !previous.is_some_and(Row::is_living),
        };
        if !is_certain && self.superoffice.lists(id).await.map_err(|failure| Failure::List(failure.into()))? {
            return Err(Failure::Contradicted);
        }
        Ok(())
    }

    /// Writes a row, without its document if the table cannot hold it.
    async fn write(&self, id: i64, previous: Option<&Row>, row: Row) -> Result<Outcome, WriteError> {
        let version = previous.map(|row| row.version);
        let mut outcome = effect(previous, &row);
        match self.table.put(&self.entity, id, &row, version).await {
            Err(WriteError::TooLarge) => {
                let row = Row { content: Content::TooLarge, changed: row.version, ..row };
                outcome = effect(previous, &row);
                self.table.put(&self.entity, id, &row, version).await?;
            }
            result => result?,
        }
        Ok(outcome)
    }

    /// Decides if a failure concerns the whole tenant.
    async fn note(&mut self, failure: &Failure) {
        if failure.is_of_table() {
            return;
        }
        self.failures_in_a_row += 1;
        let status = failure.status();
        if status == Some(429) {
            self.stop = Some(Stop::Throttled);
        } else if failure.is_unauthorized() {
            self.stop = Some(Stop::GivenUp);
        } else if !self.has_answered && (status == Some(403) || self.failures_in_a_row >= MAX_FAILURES) {
            match self.superoffice.page(0, 1).await {
                Ok(_) => self.has_answered = true,
                Err(failure) if failure.status() == Some(429) => self.stop = Some(Stop::Throttled),
                Err(_) => self.stop = Some(Stop::GivenUp),
            }
        }
    }
}

/// Returns the effect of a write for a reader of the table. A document that is too large looks like the next.
fn effect(previous: Option<&Row>, row: &Row) -> Outcome {
    match (previous.map(|row| &row.content), &row.content) {
        (Some(Content::TooLarge), Content::TooLarge) => Outcome::Unchanged,
        _ if row.changed != row.version => Outcome::Unchanged,
        (_, Content::Deleted { .. }) => Outcome::Removed,
        _ => Outcome::Written,
    }
}

/// Returns the partition of a tenant's contacts.
pub fn entity(tenant: &str) -> String {
    format!("{tenant}/contact")
}
