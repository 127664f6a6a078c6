//! The records that changed in SuperOffice since a point in time: contacts, or persons.
//!
//! Created, changed, deleted and merged records are in different lists. Each list is read in the order of its keys,
//! page by page, and the lists are merged like sorted streams. So a record that is in several lists is returned once,
//! and memory does not grow with the number of records.

mod source;

use std::collections::VecDeque;

use jiff::Timestamp;
use superoffice_webhook::webhook::entity::Archive;

use self::source::{PAGE, Source};
use crate::client::Client;
use crate::error::ApiError;

/// A kind of change. If several happen at the same time, the greatest is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Change {
    /// The record was changed.
    Changed,
    /// The record was created.
    Created,
    /// The record was merged with another: it received the other's data, or it no longer exists.
    Merged,
    /// The record was deleted. Someone can restore it for some days.
    SoftDeleted,
}

impl Change {
    /// `created`, `changed`, `softdeleted` or `merged`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Changed => "changed",
            Self::Created => "created",
            Self::Merged => "merged",
            Self::SoftDeleted => "softdeleted",
        }
    }
}

/// A record, and its latest change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChangedRecord {
    /// The id.
    pub primary_key: i64,
    /// The kind of the latest change.
    pub change: Change,
    /// The time of the latest change.
    pub at: Timestamp,
}

/// A list that is being read.
struct Reader {
    source: Source,
    rows: VecDeque<ChangedRecord>,
    /// The greatest key of the pages so far.
    last_key: Option<i64>,
    complete: bool,
    /// The number of times that SuperOffice sent without an offset.
    without_offset: u64,
}

impl Reader {
    /// Returns the first row that was not taken.
    async fn first(&mut self, client: &Client, since: Timestamp) -> Result<Option<ChangedRecord>, ApiError> {
        while self.rows.is_empty() && !self.complete {
            self.read_page(client, since).await?;
        }
        Ok(self.rows.front().copied())
    }

    async fn read_page(&mut self, client: &Client, since: Timestamp) -> Result<(), ApiError> {
        let query = self.source.query(since, self.last_key);
        let page = client.archive(self.source.list, &query).await?;
        let mut rows = page.rows.iter().map(|row| self.source.read(row)).collect::<Result<Vec<_>, _>>()?;
        // A link after an empty page would lead to the same page for ever.
        self.complete = rows.is_empty() || (rows.len() < PAGE && !page.has_next);
        rows.retain(|(key, _)| self.last_key.is_none_or(|last| *key > last));
        let keys = || rows.iter().map(|(key, _)| *key);
        let (Some(first), Some(last)) = (keys().min(), keys().max()) else {
            // Without this check, a server that does not know the condition would return the same page for ever.
            let problem = format!("the condition on {} has no effect", self.source.key);
            return if self.complete { Ok(()) } else { Err(self.source.unexpected(&problem)) };
        };
        self.last_key = Some(last);
        if !self.complete && first < last {
            // Several merges can have the last key, so the next page may have further rows with it.
            self.last_key = keys().filter(|key| *key < last).max();
            rows.retain(|(key, _)| *key < last);
        }
        let change = self.source.change;
        let mut records = Vec::new();
        for (primary_key, time) in rows {
            let Some(time) = time else { continue };
            self.without_offset += u64::from(!time.has_offset);
            if time.at >= since {
                records.push(ChangedRecord { primary_key, change, at: time.at });
            }
        }
        records.sort_by_key(|record| record.primary_key);
        self.rows = records.into();
        Ok(())
    }
}

/// The records of an entity that changed since a point in time, in the order of their keys.
pub struct Changes<'a> {
    client: &'a Client,
    since: Timestamp,
    readers: Vec<Reader>,
}

impl std::fmt::Debug for Changes<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Changes").field("since", &self.since).finish_non_exhaustive()
    }
}

impl<'a> Changes<'a> {
    /// Begins to read with the key that follows `after`, or with the first key.
    pub fn since(client: &'a Client, archive: &Archive, since: Timestamp, after: Option<i64>) -> Self {
        let reader =
            |source| Reader { source, rows: VecDeque::new(), last_key: after, complete: false, without_offset: 0 };
        Self { client, since, readers: Source::all(archive).map(reader).into() }
    }

    /// Returns the number of times so far that SuperOffice sent without an offset, and that were read as UTC.
    pub fn without_offset(&self) -> u64 {
        self.readers.iter().map(|reader| reader.without_offset).sum()
    }

    /// Returns the next record with its latest change.
    ///
    /// # Errors
    ///
    /// [`ApiError`] if a page cannot be read.
    pub async fn next(&mut self) -> Result<Option<ChangedRecord>, ApiError> {
        let mut smallest: Option<i64> = None;
        for reader in &mut self.readers {
            if let Some(row) = reader.first(self.client, self.since).await? {
                smallest = Some(smallest.map_or(row.primary_key, |key| key.min(row.primary_key)));
            }
        }
        let Some(key) = smallest else {
            return Ok(None);
        };
        let mut rows = Vec::new();
        for reader in &mut self.readers {
            while let Some(row) = reader.rows.pop_front_if(|row| row.primary_key == key) {
                rows.push(row);
            }
        }
        Ok(rows.into_iter().max_by_key(|row| (row.at, row.change)))
    }
}
