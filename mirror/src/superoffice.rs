//! SuperOffice as the mirror sees it.

use jiff::Timestamp;
use superoffice_client::Client;
use superoffice_client::records::RecordPage;
use superoffice_webhook::webhook::entity::Archive;

use crate::failure::Failure;
use crate::row::Key;

/// The calls of one tenant's SuperOffice, so that tests can choose their order.
pub trait SuperOffice {
    /// Reads a record: the JSON object, or `None` if SuperOffice says that it does not exist.
    ///
    /// # Errors
    ///
    /// [`Failure`] for every other response.
    fn document(&self, key: Key) -> impl Future<Output = Result<Option<String>, Failure>>;

    /// Returns `true` if the list of all records, filtered by an id, has this one.
    ///
    /// # Errors
    ///
    /// [`Failure`] unless the response is a list.
    fn lists(&self, key: Key) -> impl Future<Output = Result<bool, Failure>>;

    /// Reads a page of the list of all records of an entity: at most `rows` records whose id is greater than `after`.
    ///
    /// # Errors
    ///
    /// [`Failure`] unless the response is a list.
    fn page(
        &self,
        archive: &'static Archive,
        after: i64,
        rows: usize,
    ) -> impl Future<Output = Result<RecordPage, Failure>>;

    /// Returns the time.
    fn now(&self) -> Timestamp;
}

impl SuperOffice for Client {
    async fn document(&self, key: Key) -> Result<Option<String>, Failure> {
        Ok(Self::document(self, key.archive, key.id).await?)
    }

    async fn lists(&self, key: Key) -> Result<bool, Failure> {
        Ok(Self::lists(self, key.archive, key.id).await?)
    }

    async fn page(&self, archive: &'static Archive, after: i64, rows: usize) -> Result<RecordPage, Failure> {
        Ok(Self::page(self, archive, after, rows).await?)
    }

    fn now(&self) -> Timestamp {
        Self::now(self)
    }
}
