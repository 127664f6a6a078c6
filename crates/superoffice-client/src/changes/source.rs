//! The lists of changes, and their queries.

use jiff::tz::Offset;
use jiff::{SignedDuration, Timestamp};
use superoffice_webhook::webhook::entity::Archive;

use super::Change;
use crate::archives::{Row, RowTime};
use crate::error::ApiError;
use crate::records::{DYNAMIC, columns};

/// The number of rows of a page.
pub(super) const PAGE: usize = 1000;
/// The columns of the log of merges.
const MERGES: &str =
    "mergemovelog.operation,mergemovelog.sourceRecord,mergemovelog.destinationRecord,mergemovelog.registered";
/// A condition on a time begins this much earlier, because the server's time zone is not certain, and the documentation
/// does not say if the boundary is included. Rows are checked afterwards.
const EARLIER: SignedDuration = SignedDuration::from_hours(24);

/// One of the lists.
pub(super) struct Source {
    pub(super) change: Change,
    /// The name of the list in the resource `Archive`.
    pub(super) list: &'static str,
    select: String,
    entities: Option<String>,
    /// A condition besides those on time and key.
    condition: Option<String>,
    pub(super) key: &'static str,
    time: &'static str,
}

impl Source {
    /// Describes the lists of an entity's changes.
    pub(super) fn all(archive: &Archive) -> [Self; 5] {
        let rows = |change, time| Self {
            change,
            list: DYNAMIC,
            select: columns(archive),
            entities: None,
            condition: None,
            key: archive.key,
            time,
        };
        let merges = |key| Self {
            change: Change::Merged,
            list: DYNAMIC,
            select: MERGES.to_owned(),
            entities: None,
            condition: Some(format!("mergemovelog.tableNumber eq {}", archive.merge_table)),
            key,
            time: "mergemovelog.registered",
        };
        [
            rows(Change::Created, archive.registered),
            rows(Change::Changed, archive.updated),
            Self {
                change: Change::SoftDeleted,
                list: archive.recycle,
                select: [archive.recycle_key, archive.recycle_date].join(","),
                entities: Some(format!("{},forAllUsers", archive.name)),
                condition: None,
                key: archive.recycle_key,
                time: archive.recycle_date,
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
            ("$select", self.select.clone()),
            ("$filter", filter),
            ("$orderby", self.key.to_owned()),
            ("$top", PAGE.to_string()),
        ];
        query.extend(self.entities.iter().map(|entities| ("$entities", entities.clone())));
        query
    }

    pub(super) fn unexpected(&self, problem: &str) -> ApiError {
        ApiError::unexpected(format!("GET Archive/{}", self.list), problem)
    }

    /// Reads the key and the time of a row. A row without a time reports a change that never happened.
    pub(super) fn read(&self, row: &Row) -> Result<(i64, Option<RowTime>), ApiError> {
        let key = match self.change {
            // The primary key of a merge is not the key of a record.
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
        let lists = |[all, recycle]: [&str; 2], [table, id, deleted_id, deleted_date, number]: [&str; 5]| {
            let after = "afterTime '2026-11-23T09:05:07'";
            let rows = |column: &str| {
                format!(
                    "{all} $select={table}.{id},{table}.registered,{table}.updated\
                     &$filter={table}.{column} {after} and {table}.{id} gt 41&$orderby={table}.{id}&$top=1000"
                )
            };
            let merges = |key: &str| {
                format!(
                    "{all} $select=mergemovelog.operation,mergemovelog.sourceRecord,mergemovelog.destinationRecord,\
                     mergemovelog.registered&$filter=mergemovelog.tableNumber eq {number} and mergemovelog.registered \
                     {after} and mergemovelog.{key} gt 41&$orderby=mergemovelog.{key}&$top=1000"
                )
            };
            let deleted = format!(
                "{recycle} $select={deleted_id},{deleted_date}&$filter={deleted_date} {after} and {deleted_id} gt 41\
                 &$orderby={deleted_id}&$top=1000&$entities={table},forAllUsers"
            );
            [rows("registered"), rows("updated"), deleted, merges("sourceRecord"), merges("destinationRecord")]
        };
        for (archive, expected) in [
            (
                Archive::CONTACT,
                lists(["dynamic", "RecycleContact"], ["contact", "contact_id", "contactId", "deletedDate", "5"]),
            ),
            (
                Archive::PERSON,
                lists(["dynamic", "RecyclePerson"], ["person", "person_id", "personId", "personDeletedDate", "6"]),
            ),
        ] {
            let queries = Source::all(archive).map(|source| {
                let query = source.query(since, Some(41));
                let parts: Vec<String> = query.iter().map(|(name, value)| format!("{name}={value}")).collect();
                format!("{} {}", source.list, parts.join("&"))
            });
            assert_eq!(queries, expected);
        }
    }

    #[test]
    fn rows_are_read_with_numbers_or_strings_as_keys() {
        let [created, _, deleted, merged, _] = Source::all(Archive::CONTACT);
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
