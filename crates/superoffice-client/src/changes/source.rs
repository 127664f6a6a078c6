//! The lists of changes, and their queries.

use jiff::tz::Offset;
use jiff::{SignedDuration, Timestamp};

use super::Change;
use crate::archives::{Row, RowTime};
use crate::error::ApiError;

/// The number of rows of a page.
pub(super) const PAGE: usize = 1000;
/// The number of the contact table in the log of merges.
const CONTACT_TABLE: u32 = 5;
/// A condition on a time begins this much earlier, because the server's time zone is not certain, and the documentation
/// does not say if the boundary is included. Rows are checked afterwards.
const EARLIER: SignedDuration = SignedDuration::from_hours(24);

/// One of the lists.
pub(super) struct Source {
    pub(super) change: Change,
    pub(super) archive: &'static str,
    select: &'static str,
    entities: Option<&'static str>,
    /// A condition besides those on time and key.
    condition: Option<String>,
    pub(super) key: &'static str,
    time: &'static str,
}

impl Source {
    pub(super) fn all() -> [Self; 5] {
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

    pub(super) fn query(&self, since: Timestamp, after: Option<i64>) -> Vec<(&'static str, String)> {
        let since = since.saturating_sub(EARLIER).unwrap_or(since);
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

    pub(super) fn unexpected(&self, problem: &str) -> ApiError {
        ApiError::unexpected(format!("GET Archive/{}", self.archive), problem)
    }

    /// Reads the key and the time of a row. A row without a time reports a change that never happened.
    pub(super) fn read(&self, row: &Row) -> Result<(i64, Option<RowTime>), ApiError> {
        let key = match self.change {
            // The primary key of a merge is not a contact.
            Change::Merged => row.integer(self.key),
            _ => row.integer(self.key).or_else(|| row.integer("PrimaryKey")),
        };
        let key = key.ok_or_else(|| self.unexpected(&format!("a row without {}", self.key)))?;
        Ok((key, row.time(self.time).map_err(|problem| self.unexpected(&problem))?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

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
                 &$filter=contact.registered afterTime '2026-11-23T09:05:07' and contact.contact_id gt 41\
                 &$orderby=contact.contact_id&$top=1000",
                "dynamic $select=contact.contact_id,contact.registered,contact.updated\
                 &$filter=contact.updated afterTime '2026-11-23T09:05:07' and contact.contact_id gt 41\
                 &$orderby=contact.contact_id&$top=1000",
                "RecycleContact $select=contactId,deletedDate\
                 &$filter=deletedDate afterTime '2026-11-23T09:05:07' and contactId gt 41\
                 &$orderby=contactId&$top=1000&$entities=contact,forAllUsers",
                "dynamic $select=mergemovelog.operation,mergemovelog.sourceRecord,mergemovelog.destinationRecord,\
                 mergemovelog.registered&$filter=mergemovelog.tableNumber eq 5 and mergemovelog.registered afterTime \
                 '2026-11-23T09:05:07' and mergemovelog.sourceRecord gt 41&$orderby=mergemovelog.sourceRecord&$top=1000",
                "dynamic $select=mergemovelog.operation,mergemovelog.sourceRecord,mergemovelog.destinationRecord,\
                 mergemovelog.registered&$filter=mergemovelog.tableNumber eq 5 and mergemovelog.registered afterTime \
                 '2026-11-23T09:05:07' and mergemovelog.destinationRecord gt 41\
                 &$orderby=mergemovelog.destinationRecord&$top=1000",
            ]
        );
    }

    #[test]
    fn rows_are_read_with_numbers_or_strings_as_keys() {
        let [created, _, deleted, merged, _] = Source::all();
        let read = |source: &Source, row: Value| {
            let Value::Object(row) = row else { unreachable!("a row is an object") };
            let row = source.read(&row.into()).map_err(|error| error.to_string());
            row.map(|(key, time)| (key, time.map(|time| time.at)))
        };
        let changed = Ok((7, "2026-11-24T09:05:07Z".parse().ok()));
        let time = "2026-11-24T09:05:07";
        let row = json!({"PrimaryKey": "6", "contact.contact_id": 7, "contact.registered": time});
        assert_eq!(read(&created, row), changed);
        assert_eq!(read(&deleted, json!({"PrimaryKey": "7", "deletedDate": time})), changed);
        let row = json!({"PrimaryKey": "1", "mergemovelog.SourceRecord": "7", "mergemovelog.registered": time});
        assert_eq!(read(&merged, row), changed);
        assert_eq!(read(&created, json!({"PrimaryKey": 7})), Ok((7, None)));
        for (source, row, problem) in [
            (&merged, json!({"PrimaryKey": "1"}), "a row without mergemovelog.sourceRecord"),
            (&created, json!({"PrimaryKey": "1", "contact.registered": "soon"}), "contact.registered is not a time"),
        ] {
            assert_eq!(read(source, row), Err(format!("GET Archive/dynamic: unexpected response: {problem}")));
        }
    }
}
