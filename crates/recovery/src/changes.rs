//! The changes of several entities, one entity after another.

use jiff::Timestamp;
use superoffice_client::changes::{Change, Changes};
use superoffice_client::{ApiError, Archive, Client};

use crate::record::Record;

/// A record, and its latest change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordChange {
    /// The record.
    pub record: Record,
    /// The kind of the latest change.
    pub change: Change,
    /// The time of the latest change.
    pub at: Timestamp,
}

/// The records that changed since a point in time, in their order.
#[derive(Debug)]
pub struct RecordChanges<'a> {
    entities: Vec<(&'static Archive, Changes<'a>)>,
    /// The index of the entity that is being read.
    current: usize,
}

impl<'a> RecordChanges<'a> {
    /// Begins to read with the record that follows `after`, or with the first record.
    pub fn since(client: &'a Client, entities: &[&'static Archive], since: Timestamp, after: Option<Record>) -> Self {
        let follows = |archive: &&'static Archive| {
            let last = Record { archive, id: i64::MAX };
            after.is_none_or(|after| after < last)
        };
        let begin = |archive: &'static Archive| {
            let after = after.filter(|after| after.archive == archive).map(|after| after.id);
            (archive, Changes::since(client, archive, since, after))
        };
        let mut entities: Vec<_> = entities.iter().copied().filter(follows).map(begin).collect();
        entities.sort_by_key(|(archive, _)| Record { archive, id: i64::MIN });
        Self { entities, current: 0 }
    }

    /// Returns the number of times so far that SuperOffice sent without an offset, and that were read as UTC.
    pub fn without_offset(&self) -> u64 {
        self.entities.iter().map(|(_, changes)| changes.without_offset()).sum()
    }

    /// Returns the next record with its latest change.
    ///
    /// # Errors
    ///
    /// [`ApiError`] if a page cannot be read.
    pub async fn next(&mut self) -> Result<Option<RecordChange>, ApiError> {
        while let Some((archive, changes)) = self.entities.get_mut(self.current) {
            if let Some(changed) = changes.next().await? {
                let record = Record { archive, id: changed.primary_key };
                return Ok(Some(RecordChange { record, change: changed.change, at: changed.at }));
            }
            self.current += 1;
        }
        Ok(None)
    }
}
