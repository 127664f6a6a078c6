//! The contacts that changed in SuperOffice since a point in time.
//!
//! Created, changed, deleted and merged contacts are in different lists. Each list is read in the order of its keys,
//! page by page, and the lists are merged like sorted streams. So a contact that is in several lists is returned once,
//! and memory does not grow with the number of contacts.

use std::collections::VecDeque;

use jiff::fmt::temporal::Pieces;
use jiff::tz::Offset;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::client::Client;
use crate::error::ApiError;
use crate::webhooks::{integer, lookup};

/// The number of rows of a page.
const PAGE: usize = 1000;
/// The number of the contact table in the log of merges.
const CONTACT_TABLE: u32 = 5;

/// A kind of change. If several happen at the same time, the greatest is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Change {
    /// The contact was changed.
    Changed,
    /// The contact was created.
    Created,
    /// The contact was merged with another: it received the other's data, or it no longer exists.
    Merged,
    /// The contact was deleted by a person, who can restore it for some days.
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

/// A contact, and its latest change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChangedContact {
    /// The contact id.
    pub primary_key: i64,
    /// The kind of the latest change.
    pub change: Change,
    /// The time of the latest change.
    pub at: Timestamp,
}

/// One of the lists.
struct Source {
    change: Change,
    archive: &'static str,
    select: &'static str,
    entities: Option<&'static str>,
    /// A condition besides those on time and key.
    condition: Option<String>,
    key: &'static str,
    time: &'static str,
}

impl Source {
    fn all() -> [Self; 5] {
        let contacts = |change, time| Self {
            change,
            archive: "dynamic",
            select: "contact.contact_id,contact.registered,contact.updated",
            entities: None,
            condition: None,
            key: "contact.contact_id",
            time,
        };
        let merges = |key| Self {
            change: Change::Merged,
            archive: "dynamic",
            select: "mergemovelog.operation,mergemovelog.sourceRecord,mergemovelog.destinationRecord,mergemovelog.registered",
            entities: None,
            condition: Some(format!("mergemovelog.tableNumber eq {CONTACT_TABLE}")),
            key,
            time: "mergemovelog.registered",
        };
        [
            contacts(Change::Created, "contact.registered"),
            contacts(Change::Changed, "contact.updated"),
            Self {
                change: Change::SoftDeleted,
                archive: "RecycleContact",
                select: "contactId,deletedDate",
                entities: Some("contact,forAllUsers"),
                condition: None,
                key: "contactId",
                time: "deletedDate",
            },
            merges("mergemovelog.sourceRecord"),
            merges("mergemovelog.destinationRecord"),
        ]
    }

    fn query(&self, since: Timestamp, after: Option<i64>) -> Vec<(&'static str, String)> {
        // The documentation does not say if the boundary is included, so it is shifted, and rows are checked.
        let since = since.saturating_sub(SignedDuration::from_secs(1)).unwrap_or(since);
        let since = Offset::UTC.to_datetime(since).strftime("%Y-%m-%dT%H:%M:%S");
        let mut filter = format!("{} afterTime '{since}'", self.time);
        if let Some(condition) = &self.condition {
            filter = format!("{condition} and {filter}");
        }
        if let Some(after) = after {
            filter = format!("{filter} and {} gt {after}", self.key);
        }
        let mut query = vec![
            ("$select", self.select.to_owned()),
            ("$filter", filter),
            ("$orderby", self.key.to_owned()),
            ("$top", PAGE.to_string()),
        ];
        query.extend(self.entities.map(|entities| ("$entities", entities.to_owned())));
        query
    }

    fn unexpected(&self, problem: &str) -> ApiError {
        ApiError::unexpected(format!("GET Archive/{}", self.archive), problem)
    }

    /// Reads the key and the time of a row. A row without a time is how SuperOffice writes that the change never
    /// happened.
    fn read(&self, row: &Value) -> Result<(i64, Option<Timestamp>), ApiError> {
        let row = row.as_object().ok_or_else(|| self.unexpected("a row that is not an object"))?;
        let key = lookup(row, self.key).and_then(integer);
        let key = match self.change {
            // The primary key of a merge is not a contact.
            Change::Merged => key,
            _ => key.or_else(|| lookup(row, "PrimaryKey").and_then(integer)),
        };
        let key = key.ok_or_else(|| self.unexpected(&format!("a row without {}", self.key)))?;
        let time = match lookup(row, self.time) {
            None | Some(Value::Null | Value::Number(_)) => None,
            Some(Value::String(text)) if text.is_empty() => None,
            value => {
                let time = value.and_then(Value::as_str).and_then(parse_time);
                Some(time.ok_or_else(|| self.unexpected(&format!("{} is not a time", self.time)))?)
            }
        };
        Ok((key, time))
    }
}

/// Parses a time. Without an offset, it is in UTC.
fn parse_time(text: &str) -> Option<Timestamp> {
    // The tagged form of some archives.
    if let Some(tagged) = text.strip_prefix("[DT:").and_then(|text| text.strip_suffix(']')) {
        let date = jiff::civil::DateTime::strptime("%m/%d/%Y %H:%M:%S%.f", tagged).ok()?;
        return Offset::UTC.to_timestamp(date).ok();
    }
    let pieces = Pieces::parse(text).ok()?;
    let date = pieces.date().to_datetime(pieces.time().unwrap_or_default());
    pieces.to_numeric_offset().unwrap_or(Offset::UTC).to_timestamp(date).ok()
}

/// A list that is being read.
struct Reader {
    source: Source,
    rows: VecDeque<ChangedContact>,
    /// The greatest key of the pages so far.
    last_key: Option<i64>,
    complete: bool,
}

impl Reader {
    /// Returns the first row that was not taken.
    async fn first(&mut self, client: &Client, since: Timestamp) -> Result<Option<ChangedContact>, ApiError> {
        while self.rows.is_empty() && !self.complete {
            self.read_page(client, since).await?;
        }
        Ok(self.rows.front().copied())
    }

    async fn read_page(&mut self, client: &Client, since: Timestamp) -> Result<(), ApiError> {
        let query = self.source.query(since, self.last_key);
        let page = client.get(&format!("Archive/{}", self.source.archive), &query).await?;
        let rows = page.get("value").and_then(Value::as_array);
        let rows = rows.ok_or_else(|| self.source.unexpected("no array `value`"))?;
        let has_next = page.get("odata.nextLink").and_then(Value::as_str).is_some_and(|link| !link.is_empty());
        let mut rows = rows.iter().map(|row| self.source.read(row)).collect::<Result<Vec<_>, _>>()?;
        self.complete = rows.len() < PAGE && !has_next;
        rows.retain(|(key, _)| self.last_key.is_none_or(|last| *key > last));
        let keys = || rows.iter().map(|(key, _)| *key);
        let (Some(first), Some(last)) = (keys().min(), keys().max()) else {
            // Without this check, a server that does not know the condition would return the same page for ever.
            let problem = format!("the condition on {} has no effect", self.source.key);
            return if self.complete { Ok(()) } else { Err(self.source.unexpected(&problem)) };
        };
        self.last_key = Some(last);
        if !self.complete && first < last {
            // Further rows with the last key, of which there can be several merges, may be on the next page.
            self.last_key = keys().filter(|key| *key < last).max();
            rows.retain(|(key, _)| *key < last);
        }
        let change = self.source.change;
        let changed =
            rows.into_iter().filter_map(|(primary_key, at)| Some(ChangedContact { primary_key, change, at: at? }));
        let mut contacts: Vec<_> = changed.filter(|contact| contact.at >= since).collect();
        contacts.sort_by_key(|contact| contact.primary_key);
        self.rows = contacts.into();
        Ok(())
    }
}

/// The contacts that changed since a point in time, in the order of their keys.
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
    pub fn since(client: &'a Client, since: Timestamp, after: Option<i64>) -> Self {
        let reader = |source| Reader { source, rows: VecDeque::new(), last_key: after, complete: false };
        Self { client, since, readers: Source::all().map(reader).into() }
    }

    /// Returns the next contact with its latest change.
    ///
    /// # Errors
    ///
    /// [`ApiError`] if a page cannot be read.
    pub async fn next(&mut self) -> Result<Option<ChangedContact>, ApiError> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn times_are_read_in_every_form() {
        let expected: Timestamp = "2026-11-24T09:05:07Z".parse().unwrap();
        for text in [
            "2026-11-24T09:05:07",
            "2026-11-24T09:05:07Z",
            "2026-11-24T10:05:07+01:00",
            "2026-11-24T04:05:07-0500",
            "2026-11-24T09:05:07.0000000",
            "[DT:11/24/2026 09:05:07.0000000]",
            "[DT:11/24/2026 09:05:07]",
        ] {
            assert_eq!(parse_time(text), Some(expected), "{text}");
        }
        assert_eq!(parse_time("2026-11-24"), "2026-11-24T00:00:00Z".parse().ok());
        assert_eq!(parse_time("yesterday"), None);
        assert_eq!(parse_time("[DT:yesterday]"), None);
    }

    #[test]
    fn queries_are_those_of_the_documentation() {
        let since = "2026-11-24T09:05:07.5Z".parse().unwrap();
        let queries: Vec<String> = Source::all()
            .iter()
            .map(|source| {
                let query = source.query(since, Some(41));
                let parts: Vec<String> = query.iter().map(|(name, value)| format!("{name}={value}")).collect();
                format!("{} {}", source.archive, parts.join("&"))
            })
            .collect();
        assert_eq!(
            queries,
            [
                "dynamic $select=contact.contact_id,contact.registered,contact.updated\
                 &$filter=contact.registered afterTime '2026-11-24T09:05:06' and contact.contact_id gt 41\
                 &$orderby=contact.contact_id&$top=1000",
                "dynamic $select=contact.contact_id,contact.registered,contact.updated\
                 &$filter=contact.updated afterTime '2026-11-24T09:05:06' and contact.contact_id gt 41\
                 &$orderby=contact.contact_id&$top=1000",
                "RecycleContact $select=contactId,deletedDate\
                 &$filter=deletedDate afterTime '2026-11-24T09:05:06' and contactId gt 41\
                 &$orderby=contactId&$top=1000&$entities=contact,forAllUsers",
                "dynamic $select=mergemovelog.operation,mergemovelog.sourceRecord,mergemovelog.destinationRecord,\
                 mergemovelog.registered&$filter=mergemovelog.tableNumber eq 5 and mergemovelog.registered afterTime \
                 '2026-11-24T09:05:06' and mergemovelog.sourceRecord gt 41&$orderby=mergemovelog.sourceRecord&$top=1000",
                "dynamic $select=mergemovelog.operation,mergemovelog.sourceRecord,mergemovelog.destinationRecord,\
                 mergemovelog.registered&$filter=mergemovelog.tableNumber eq 5 and mergemovelog.registered afterTime \
                 '2026-11-24T09:05:06' and mergemovelog.destinationRecord gt 41\
                 &$orderby=mergemovelog.destinationRecord&$top=1000",
            ]
        );
    }

    #[test]
    fn rows_are_read_with_numbers_or_strings_as_keys() {
        let [created, _, deleted, merged, _] = Source::all();
        let read = |source: &Source, row: Value| source.read(&row).map_err(|error| error.to_string());
        let changed = Ok((7, "2026-11-24T09:05:07Z".parse().ok()));
        let time = "2026-11-24T09:05:07";
        let row = json!({"PrimaryKey": "6", "contact.contact_id": 7, "contact.registered": time});
        assert_eq!(read(&created, row), changed);
        assert_eq!(read(&deleted, json!({"PrimaryKey": "7", "deletedDate": time})), changed);
        let row = json!({"PrimaryKey": "1", "mergemovelog.SourceRecord": "7", "mergemovelog.registered": time});
        assert_eq!(read(&merged, row), changed);
        for never in [
            json!({"PrimaryKey": 7}),
            json!({"PrimaryKey": 7, "contact.registered": null}),
            json!({"PrimaryKey": 7, "contact.registered": 0}),
            json!({"PrimaryKey": 7, "contact.registered": ""}),
        ] {
            assert_eq!(read(&created, never), Ok((7, None)));
        }
        for (source, row, problem) in [
            (
                &merged,
                json!({"PrimaryKey": "1", "mergemovelog.registered": time}),
                "a row without mergemovelog.sourceRecord",
            ),
            (&created, json!({"PrimaryKey": "1", "contact.registered": "soon"}), "contact.registered is not a time"),
            (&created, json!({"PrimaryKey": "1", "contact.registered": true}), "contact.registered is not a time"),
            (&created, json!([1]), "a row that is not an object"),
        ] {
            assert_eq!(read(source, row), Err(format!("GET Archive/dynamic: unexpected response: {problem}")));
        }
    }
}
