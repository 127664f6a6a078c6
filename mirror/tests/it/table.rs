//! A table in memory.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use superoffice_webhook_mirror::row::{Content, MAX_ITEM, Row};
use superoffice_webhook_mirror::table::{Position, RowHead, Table, TableError, WriteError};

/// The bytes of an item's other attributes.
const OVERHEAD: usize = 200;

#[derive(Debug, Default)]
pub(crate) struct MemoryTable {
    rows: Mutex<BTreeMap<(String, i64), Row>>,
    positions: Mutex<BTreeMap<String, Position>>,
    /// The number of calls so far.
    pub(crate) reads: AtomicUsize,
    pub(crate) writes: AtomicUsize,
    /// Every call fails for this reason.
    pub(crate) failure: Mutex<Option<TableError>>,
}

impl MemoryTable {
    pub(crate) fn row(&self, entity: &str, id: i64) -> Option<Row> {
        self.rows.lock().unwrap().get(&(entity.to_owned(), id)).cloned()
    }

    /// Returns the rows of an entity by their ids.
    pub(crate) fn rows(&self, entity: &str) -> BTreeMap<i64, Row> {
        let rows = self.rows.lock().unwrap();
        rows.iter().filter(|((name, _), _)| name == entity).map(|((_, id), row)| (*id, row.clone())).collect()
    }

    /// Returns the position of an audit.
    pub(crate) fn stored_position(&self, entity: &str) -> Option<Position> {
        self.positions.lock().unwrap().get(entity).cloned()
    }

    /// Returns the documents of the contacts that exist.
    pub(crate) fn documents(&self, entity: &str) -> BTreeMap<i64, String> {
        let document = |(id, row): (i64, Row)| match row.content {
            Content::Data(data) => Some((id, data)),
            Content::TooLarge => Some((id, "too large".to_owned())),
            Content::Deleted { .. } => None,
        };
        self.rows(entity).into_iter().filter_map(document).collect()
    }

    /// Writes a row without a condition.
    pub(crate) fn set(&self, entity: &str, id: i64, row: Option<Row>) {
        let (mut rows, key) = (self.rows.lock().unwrap(), (entity.to_owned(), id));
        match row {
            Some(row) => rows.insert(key, row),
            None => rows.remove(&key),
        };
    }

    fn check(&self, calls: &AtomicUsize) -> Result<(), TableError> {
        calls.fetch_add(1, Ordering::SeqCst);
        self.failure.lock().unwrap().map_or(Ok(()), Err)
    }
}

impl Table for MemoryTable {
    async fn get(&self, entity: &str, id: i64) -> Result<Option<Row>, TableError> {
        self.check(&self.reads)?;
        Ok(self.row(entity, id))
    }

    async fn put(&self, entity: &str, id: i64, row: &Row, previous: Option<i64>) -> Result<(), WriteError> {
        self.check(&self.writes)?;
        if matches!(&row.content, Content::Data(data) if data.len() + OVERHEAD > MAX_ITEM) {
            return Err(WriteError::TooLarge);
        }
        let mut rows = self.rows.lock().unwrap();
        let key = (entity.to_owned(), id);
        if rows.get(&key).map(|row| row.version) != previous {
            return Err(WriteError::Changed);
        }
        assert!(previous.is_none_or(|previous| row.version > previous), "versions grow");
        rows.insert(key, row.clone());
        Ok(())
    }

    async fn range(
        &self,
        entity: &str,
        after: i64,
        until: Option<i64>,
        limit: usize,
    ) -> Result<Vec<RowHead>, TableError> {
        self.check(&self.reads)?;
        let until = until.unwrap_or(i64::MAX);
        if until <= after {
            return Ok(Vec::new());
        }
        let rows = self.rows.lock().unwrap();
        let rows = rows.range((entity.to_owned(), after + 1)..=(entity.to_owned(), until)).take(limit);
        let head = |((_, id), row): (&(String, i64), &Row)| RowHead {
            id: *id,
            is_living: row.is_living(),
            read_at: row.read_at,
            stamp: row.stamp.clone(),
        };
        Ok(rows.map(head).collect())
    }

    async fn position(&self, entity: &str) -> Result<Option<Position>, TableError> {
        self.check(&self.reads)?;
        Ok(self.positions.lock().unwrap().get(entity).cloned())
    }

    async fn put_position(&self, entity: &str, position: &Position, previous: Option<i64>) -> Result<(), WriteError> {
        self.check(&self.writes)?;
        let mut positions = self.positions.lock().unwrap();
        if positions.get(entity).map(|position| position.version) != previous {
            return Err(WriteError::Changed);
        }
        positions.insert(entity.to_owned(), position.clone());
        Ok(())
    }
}
