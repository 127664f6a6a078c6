//! SuperOffice as the mirror sees it.

use jiff::Timestamp;
use superoffice_client::records::RecordPage;
use superoffice_client::{Archive, Client};

use crate::failure::Failure;

/// The calls of one tenant's SuperOffice, so that tests can choose their order.
pub trait SuperOffice {
    /// Reads a contact: the JSON object, or `None` if SuperOffice says that there is none.
    ///
    /// # Errors
    ///
    /// [`Failure`] for every other answer.
    fn contact(&self, id: i64) -> impl Future<Output = Result<Option<String>, Failure>>;

    /// Returns `true` if the list of all contacts, filtered by an id, has a row.
    ///
    /// # Errors
    ///
    /// [`Failure`] unless the answer is a list.
    fn lists(&self, id: i64) -> impl Future<Output = Result<bool, Failure>>;

    /// Reads a page of the list of all contacts: at most `rows` contacts whose id is greater than `after`.
    ///
    /// # Errors
    ///
    /// [`Failure`] unless the answer is a list.
    fn page(&self, after: i64, rows: usize) -> impl Future<Output = Result<RecordPage, Failure>>;

    /// Returns the time.
    fn now(&self) -> Timestamp;
}

impl SuperOffice for Client {
    async fn contact(&self, id: i64) -> Result<Option<String>, Failure> {
        Ok(Self::contact(self, id).await?)
    }

    async fn lists(&self, id: i64) -> Result<bool, Failure> {
        Ok(self.lists(Archive::CONTACT, id).await?)
    }

    async fn page(&self, after: i64, rows: usize) -> Result<RecordPage, Failure> {
        Ok(self.page(Archive::CONTACT, after, rows).await?)
    }

    fn now(&self) -> Timestamp {
        Self::now(self)
    }
}
