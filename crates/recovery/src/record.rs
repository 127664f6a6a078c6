//! A row of an entity whose lost events are recovered: a contact, or a person.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};

use serde::{Deserialize, Serialize};
use superoffice_client::Archive;

/// A contact or a person. In order, contacts come before persons, and the records of an entity have the order of their
/// ids.
///
/// In JSON, a contact is its id. Another record is a text, `person/7`.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(try_from = "Form", into = "Form")]
pub struct Record {
    /// The entity.
    pub archive: &'static Archive,
    /// The id.
    pub id: i64,
}

impl Record {
    /// The first record in order.
    pub const FIRST: Self = Self::contact(i64::MIN);

    /// Returns a contact.
    pub const fn contact(id: i64) -> Self {
        Self { archive: Archive::CONTACT, id }
    }

    /// Returns a person.
    pub const fn person(id: i64) -> Self {
        Self { archive: Archive::PERSON, id }
    }

    /// Returns the position of the entity in the order of records. It is the number of its table.
    pub fn entity_order(&self) -> u32 {
        self.archive.merge_table
    }

    fn key(&self) -> (u32, i64) {
        (self.entity_order(), self.id)
    }
}

impl PartialEq for Record {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Record {}

impl Ord for Record {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

impl PartialOrd for Record {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Hash for Record {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

/// `contact 7`.
impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.archive.name, self.id)
    }
}

/// The form of a record in JSON.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Form {
    Contact(i64),
    Other(String),
}

impl From<Record> for Form {
    fn from(Record { archive, id }: Record) -> Self {
        if archive == Archive::CONTACT { Self::Contact(id) } else { Self::Other(format!("{}/{id}", archive.name)) }
    }
}

impl TryFrom<Form> for Record {
    type Error = &'static str;

    fn try_from(form: Form) -> Result<Self, Self::Error> {
        let text = match form {
            Form::Contact(id) => return Ok(Self::contact(id)),
            Form::Other(text) => text,
        };
        let parsed = text.split_once('/').and_then(|(name, id)| Some((Archive::of_entity(name)?, id.parse().ok()?)));
        parsed.map(|(archive, id)| Self { archive, id }).ok_or("expected an entity and an id, such as person/7")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contacts_come_before_persons() {
        let mut records = [Record::person(1), Record::contact(9), Record::person(-2), Record::contact(8)];
        records.sort_unstable();
        assert_eq!(records, [Record::contact(8), Record::contact(9), Record::person(-2), Record::person(1)]);
        assert!(Record::FIRST < records[0]);
    }

    #[test]
    fn contact_in_json_is_its_id() {
        for (record, json) in [(Record::contact(7), "7"), (Record::person(7), r#""person/7""#)] {
            assert_eq!(serde_json::to_string(&record).unwrap(), json);
            assert_eq!(serde_json::from_str::<Record>(json).unwrap(), record);
        }
        for wrong in [r#""7""#, r#""sale/7""#, r#""person/x""#] {
            assert!(serde_json::from_str::<Record>(wrong).is_err(), "{wrong}");
        }
        assert_eq!(Record::person(7).to_string(), "person 7");
    }
}
