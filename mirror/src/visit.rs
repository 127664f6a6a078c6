//! One tenant's records of an entity in one invocation: each is read and written until there is a reason to stop.

use superoffice_webhook::webhook::entity::Archive;
use tenants::partition;

use crate::failure::Failure;
use crate::response::{Meaning, judge};
use crate::row::{Content, Key, Row};
use crate::superoffice::SuperOffice;
use crate::table::{Table, WriteError};

/// The number of times that a record is read because others write its row.
const MAX_ATTEMPTS: u32 = 5;
/// The number of records, one after the other, that may fail before SuperOffice's list decides if the tenant is given
/// up.
const MAX_FAILURES: u32 = 3;

/// The evidence of a record's existence, besides the response for the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// None. SuperOffice's list is asked before a living row is removed.
    None,
    /// An event says that the record was deleted.
    DeletionEvent,
    /// The page of an audit has the record. The filtered list is asked, even if there is no living row.
    InPage,
    /// The page of an audit lacks the record.
    NotInPage,
}

/// The effect of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A new or changed document was written.
    Written,
    /// A tombstone was written in place of a document or of no row.
    Removed,
    /// Only the version and the time of the row have changed.
    Unchanged,
}

/// The reason why SuperOffice receives no further call for a tenant in this invocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// SuperOffice throttles.
    Throttled,
    /// The failures concern the whole tenant.
    GivenUp,
    /// The user may not read records of this entity. Other entities are not affected.
    Denied,
}

impl From<Stop> for Failure {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Throttled => Self::Throttled,
            Stop::GivenUp | Stop::Denied => Self::GivenUp,
        }
    }
}

/// One tenant's records of an entity in one invocation.
#[derive(Debug)]
pub struct Visit<'a, S, T> {
    superoffice: &'a S,
    table: &'a T,
    archive: &'static Archive,
    partition: String,
    stop: Option<Stop>,
    failures_in_a_row: u32,
    /// The list was read after failures, so that they are the records' own.
    list_is_readable: bool,
    is_refused: bool,
}

impl<'a, S: SuperOffice, T: Table> Visit<'a, S, T> {
    /// Begins the visit of a tenant, named by the spelling of the list of tenants.
    pub fn new(tenant: &str, archive: &'static Archive, superoffice: &'a S, table: &'a T) -> Self {
        let partition = partition::of_rows(tenant, archive.name);
        Self {
            superoffice,
            table,
            archive,
            partition,
            stop: None,
            failures_in_a_row: 0,
            list_is_readable: false,
            is_refused: false,
        }
    }

    /// Continues after the visit of another entity of the tenant, which has ended for this reason.
    #[must_use]
    pub fn after(self, stop: Option<Stop>) -> Self {
        Self { stop: stop.filter(|stop| *stop != Stop::Denied), ..self }
    }

    /// Returns the reason why no further call is made.
    pub fn stop(&self) -> Option<Stop> {
        self.stop
    }

    /// Returns `true` if SuperOffice refused the credentials, for a record or for the list.
    pub fn is_refused(&self) -> bool {
        self.is_refused
    }

    /// Reads a record from SuperOffice and writes its row. An audit's `stamp` is written with a living row.
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

    /// Reads the version of the row, asks SuperOffice, and writes if the row still has this version. So a response only
    /// replaces a row that was written before SuperOffice was asked.
    async fn read_and_write(&self, id: i64, evidence: Evidence, stamp: Option<&str>) -> Result<Outcome, Failure> {
        for _ in 0..MAX_ATTEMPTS {
            let key = Key { archive: self.archive, id };
            let previous = self.table.get(&self.partition, id).await?;
            let read_at = self.superoffice.now();
            let document = self.superoffice.document(key).await?;
            let content = match judge(key, document.as_deref())? {
                Meaning::Living(data) => Content::living(data),
                Meaning::Deleted => Content::deleted(self.superoffice.now()),
                Meaning::Gone => {
                    self.confirm(key, evidence, previous.as_ref()).await?;
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

    /// Confirms that a record is gone.
    async fn confirm(&self, key: Key, evidence: Evidence, previous: Option<&Row>) -> Result<(), Failure> {
        let is_certain = match evidence {
            Evidence::DeletionEvent | Evidence::NotInPage => true,
            Evidence::InPage => false,
            Evidence::None => !previous.is_some_and(Row::is_living),
        };
        let name = key.archive.name;
        if !is_certain && self.superoffice.lists(key).await.map_err(|failure| Failure::List(name, failure.into()))? {
            return Err(Failure::Contradicted(name));
        }
        Ok(())
    }

    /// Writes a row, without its document if the table cannot hold it.
    async fn write(&self, id: i64, previous: Option<&Row>, row: Row) -> Result<Outcome, WriteError> {
        let version = previous.map(|row| row.version);
        let mut outcome = effect(previous, &row);
        match self.table.put(&self.partition, id, &row, version).await {
            Err(WriteError::TooLarge) => {
                let row = Row { content: Content::TooLarge, changed: row.version, ..row };
                outcome = effect(previous, &row);
                self.table.put(&self.partition, id, &row, version).await?;
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
        self.is_refused |= failure.is_unauthorized();
        let status = failure.status();
        if status == Some(429) {
            self.stop = Some(Stop::Throttled);
        } else if failure.is_unauthorized() {
            self.stop = Some(Stop::GivenUp);
        } else if !self.list_is_readable && (status == Some(403) || self.failures_in_a_row >= MAX_FAILURES) {
            match self.superoffice.page(self.archive, 0, 1).await {
                Ok(_) => self.list_is_readable = true,
                Err(failure) => {
                    self.is_refused |= failure.is_unauthorized();
                    self.stop = Some(match failure.status() {
                        Some(429) => Stop::Throttled,
                        Some(403) => Stop::Denied,
                        _ => Stop::GivenUp,
                    });
                }
            }
        }
    }
}

/// Returns the effect of a write for the metrics. A document that is too large counts as unchanged if the previous one
/// was too large, although the row's `changed` grows.
fn effect(previous: Option<&Row>, row: &Row) -> Outcome {
    match (previous.map(|row| &row.content), &row.content) {
        (Some(Content::TooLarge), Content::TooLarge) => Outcome::Unchanged,
        _ if row.changed != row.version => Outcome::Unchanged,
        (_, Content::Deleted { .. }) => Outcome::Removed,
        _ => Outcome::Written,
    }
}
