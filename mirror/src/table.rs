//! The table, and its conditional writes.

use jiff::Timestamp;

use crate::row::Row;

/// The part of a row that an audit compares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowHead {
    /// The record's id.
    pub id: i64,
    /// SuperOffice has the record.
    pub is_living: bool,
    /// See [`Row::read_at`].
    pub read_at: Timestamp,
    /// See [`Row::stamp`].
    pub stamp: Option<String>,
}

/// The state of an audit, in a row of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// The state as JSON.
    pub state: String,
    /// The version, on which the next write is conditional.
    pub version: i64,
}

/// The table was not read or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// The role may not use the table or its key.
    #[error("the table denies access")]
    Denied,
    /// The table does not exist.
    #[error("the table does not exist")]
    Missing,
    /// The table does not accept as many requests.
    #[error("the table throttles")]
    Throttled,
    /// The table responded with this status.
    #[error("the table failed with status {0}")]
    Status(u16),
    /// There was no response.
    #[error("the table did not respond")]
    NoResponse,
    /// A row does not have the attributes that this program writes.
    #[error("the row is unreadable")]
    Unreadable,
}

/// A row was not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// The row has another version than the one that was read.
    #[error("the row was changed in the meantime")]
    Changed,
    /// The row does not fit into an item.
    #[error("the row is too large")]
    TooLarge,
    /// The table failed.
    #[error(transparent)]
    Failed(#[from] TableError),
}

/// A table with conditional writes. `partition` is for example `Cust1234/contact`.
pub trait Table {
    /// Reads a row.
    ///
    /// # Errors
    ///
    /// [`TableError`]
    fn get(&self, partition: &str, id: i64) -> impl Future<Output = Result<Option<Row>, TableError>>;

    /// Writes a row in place of the one with the version `previous`; `None` stands for the absence of a row.
    ///
    /// # Errors
    ///
    /// [`WriteError::Changed`] if the table has another version. Nothing was written then.
    fn put(
        &self,
        partition: &str,
        id: i64,
        row: &Row,
        previous: Option<i64>,
    ) -> impl Future<Output = Result<(), WriteError>>;

    /// Reads the rows with `after < id <= until` in ascending order. Fewer than `limit` rows are all rows of the range.
    ///
    /// # Errors
    ///
    /// [`TableError`]
    fn range(
        &self,
        partition: &str,
        after: i64,
        until: Option<i64>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<RowHead>, TableError>>;

    /// Reads the position of an audit. `partition` is for example `#audit/Cust1234/contact`.
    ///
    /// # Errors
    ///
    /// [`TableError`]
    fn position(&self, partition: &str) -> impl Future<Output = Result<Option<Position>, TableError>>;

    /// Writes a position in place of the one with the version `previous`.
    ///
    /// # Errors
    ///
    /// [`WriteError::Changed`] if the table has another version. Nothing was written then.
    fn put_position(
        &self,
        partition: &str,
        position: &Position,
        previous: Option<i64>,
    ) -> impl Future<Output = Result<(), WriteError>>;
}
