//! The row of a record, which is a contact or a person.

use jiff::{SignedDuration, Timestamp};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use superoffice_webhook::webhook::entity::Archive;

/// The largest item of DynamoDB, in bytes.
///
/// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/ServiceQuotas.html>
pub const MAX_ITEM: usize = 400 * 1024;
/// The life of a tombstone. DynamoDB deletes an expired item, and until then no old response can bring the record back.
const TOMBSTONE_LIFETIME: SignedDuration = SignedDuration::from_hours(35 * 24);

/// The key of a record within a tenant. The log has it as a property, for example `"contact": 7`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// The entity, and the way to read it.
    pub archive: &'static Archive,
    /// The contact id or the person id.
    pub id: i64,
}

impl Serialize for Key {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry(self.archive.name, &self.id)?;
        map.end()
    }
}

/// The row of a record. It is always written as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The document, or its absence.
    pub content: Content,
    /// The version. It begins with the time of the write in Unix milliseconds, and grows with every write.
    pub version: i64,
    /// The version at which `data` or `deleted` last changed.
    pub changed: i64,
    /// The moment before SuperOffice was asked.
    pub read_at: Timestamp,
    /// The texts of SuperOffice's list at the time an audit wrote the row.
    pub stamp: Option<String>,
}

/// The document as SuperOffice returned it, or its absence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// The JSON object without `Persons`.
    Data(String),
    /// SuperOffice has the record, and its JSON object does not fit into an item.
    TooLarge,
    /// SuperOffice does not have the record: a tombstone.
    Deleted {
        /// The end of the tombstone's life, in Unix seconds.
        expires: i64,
    },
}

impl Content {
    /// Returns the content of a record that SuperOffice has.
    pub fn living(data: String) -> Self {
        if data.len() > MAX_ITEM { Self::TooLarge } else { Self::Data(data) }
    }

    /// Returns the content of a record that SuperOffice does not have.
    pub fn deleted(now: Timestamp) -> Self {
        Self::Deleted { expires: now.as_second() + TOMBSTONE_LIFETIME.as_secs() }
    }

    /// Returns `true` if SuperOffice has the record.
    pub fn is_living(&self) -> bool {
        !matches!(self, Self::Deleted { .. })
    }

    /// Returns `true` if a reader of the table sees no difference. Two documents that are too large count as different,
    /// because the row does not have them.
    fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Data(data), Self::Data(other)) => data == other,
            (Self::Deleted { .. }, Self::Deleted { .. }) => true,
            _ => false,
        }
    }
}

impl Row {
    /// Returns the row that follows `previous`.
    pub fn following(
        previous: Option<&Self>,
        content: Content,
        read_at: Timestamp,
        now: Timestamp,
        stamp: Option<&str>,
    ) -> Self {
        let version = next_version(previous.map(|row| row.version), now);
        let unchanged = previous.filter(|row| row.content.is_same(&content));
        Self {
            changed: unchanged.map_or(version, |row| row.changed),
            // A tombstone has no row in the list.
            stamp: stamp.filter(|_| content.is_living()).map(str::to_owned),
            content,
            version,
            read_at,
        }
    }

    /// Returns `true` if SuperOffice has the record.
    pub fn is_living(&self) -> bool {
        self.content.is_living()
    }
}

/// Returns the version that follows another one: the time, unless the clock is behind the previous version.
pub fn next_version(previous: Option<i64>, now: Timestamp) -> i64 {
    let now = now.as_millisecond();
    previous.map_or(now, |previous| now.max(previous + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn follow(previous: Option<&Row>, content: Content, stamp: Option<&str>) -> Row {
        Row::following(previous, content, at("2026-11-24T09:00:00Z"), at("2026-11-24T09:00:00.125Z"), stamp)
    }

    #[test]
    fn version_is_the_time_and_grows_when_the_clock_does_not() {
        let first = follow(None, Content::living("{}".into()), None);
        assert_eq!((first.version, first.changed), (1_795_510_800_125, 1_795_510_800_125));
        let second = follow(Some(&first), Content::living("{}".into()), Some("a/b"));
        assert_eq!((second.version, second.changed), (1_795_510_800_126, 1_795_510_800_125));
        assert_eq!(second.stamp.as_deref(), Some("a/b"));
        let third = follow(Some(&second), Content::living("{ }".into()), None);
        assert_eq!((third.version, third.changed, third.stamp), (1_795_510_800_127, 1_795_510_800_127, None));
        assert_eq!(next_version(Some(5), at("2026-11-24T09:00:00.125Z")), 1_795_510_800_125);
    }

    #[test]
    fn tombstone_lives_for_five_weeks_and_has_no_stamp() {
        let now = at("2026-11-24T09:00:00.125Z");
        let tombstone = follow(None, Content::deleted(now), Some("a/b"));
        assert_eq!(tombstone.content, Content::Deleted { expires: now.as_second() + 35 * 86400 });
        assert_eq!((tombstone.is_living(), &tombstone.stamp), (false, &None));
        let again = follow(Some(&tombstone), Content::Deleted { expires: 7 }, None);
        assert_eq!((again.version, again.changed), (tombstone.version + 1, tombstone.version));
        let restored = follow(Some(&again), Content::living("{}".into()), None);
        assert_eq!(restored.changed, restored.version);
    }

    #[test]
    fn document_that_does_not_fit_is_left_out_and_always_counts_as_changed() {
        assert_eq!(Content::living("x".repeat(MAX_ITEM + 1)), Content::TooLarge);
        assert!(matches!(Content::living("x".repeat(MAX_ITEM)), Content::Data(_)));
        let large = follow(None, Content::TooLarge, None);
        let again = follow(Some(&large), Content::TooLarge, None);
        assert_eq!((large.is_living(), again.changed), (true, again.version));
    }
}
