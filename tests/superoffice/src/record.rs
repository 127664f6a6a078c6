//! Contacts and persons: their entities in the API, and their columns in events.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::times::Times;

/// A kind of records. Contacts are companies, and persons are humans.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Contacts.
    Contact,
    /// Persons.
    Person,
}

/// The names of a kind in the API, in the archives and in events.
pub(crate) struct Names {
    /// The entity's name, which its table has, too.
    pub(crate) entity: &'static str,
    /// The property with the name that a client can change.
    pub(crate) name_property: &'static str,
    /// The columns of the archive `dynamic`.
    pub(crate) key: &'static str,
    pub(crate) name: &'static str,
    pub(crate) registered: &'static str,
    pub(crate) updated: &'static str,
    /// The archive of deleted records in lower case, and its columns.
    pub(crate) recycle: &'static str,
    pub(crate) recycle_key: &'static str,
    pub(crate) recycle_name: &'static str,
    pub(crate) recycle_date: &'static str,
    /// The number of the table.
    pub(crate) table: i64,
}

const CONTACT: Names = Names {
    entity: "contact",
    name_property: "Name",
    key: "contact.contact_id",
    name: "contact.name",
    registered: "contact.registered",
    updated: "contact.updated",
    recycle: "recyclecontact",
    recycle_key: "contactId",
    recycle_name: "name",
    recycle_date: "deletedDate",
    table: 5,
};

const PERSON: Names = Names {
    entity: "person",
    name_property: "Lastname",
    key: "person.person_id",
    name: "person.lastname",
    registered: "person.registered",
    updated: "person.updated",
    recycle: "recycleperson",
    recycle_key: "personId",
    recycle_name: "lastName",
    recycle_date: "personDeletedDate",
    table: 6,
};

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 2] = [Self::Contact, Self::Person];

    pub(crate) fn names(self) -> &'static Names {
        match self {
            Self::Contact => &CONTACT,
            Self::Person => &PERSON,
        }
    }

    /// Returns `Changes` of an event.
    pub(crate) fn changes(self, verb: &str) -> &'static [&'static str] {
        match (self, verb) {
            (Self::Contact, "created") => &["contact_id", "name", "registered"],
            (Self::Contact, "changed") => &["name", "updated", "updated_associate_id", "updatedCount"],
            (Self::Contact, "softdeleted" | "restored") => &["deleted", "deletedDate"],
            (Self::Person, "created") => &["person_id", "contact_id", "lastname", "registered"],
            (Self::Person, "changed") => &["lastname", "updated", "updated_associate_id", "updatedCount"],
            (Self::Person, "softdeleted" | "restored") => &["DeletedDate"],
            _ => &[],
        }
    }
}

/// A contact or a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The kind.
    pub kind: Kind,
    /// The id. A contact and a person can have the same.
    pub id: i64,
    /// The name, or a person's last name.
    pub name: String,
    /// The id of a person's contact, if it has one.
    pub contact: Option<i64>,
    /// The time of its creation.
    pub registered: Timestamp,
    /// The time of its last change.
    pub updated: Option<Timestamp>,
    /// The time of its deletion by a user.
    pub deleted: Option<Timestamp>,
    /// The number of changes.
    changes: u32,
}

impl Record {
    pub(crate) fn new(kind: Kind, id: i64, contact: Option<i64>, registered: Timestamp) -> Self {
        let name = default_name(kind, id);
        Self { kind, id, name, contact, registered, updated: None, deleted: None, changes: 0 }
    }

    /// Changes the record. Without a name, the new name contains the number of changes.
    pub(crate) fn change(&mut self, name: Option<&str>, at: Timestamp) {
        self.changes += 1;
        let numbered = || format!("{}, version {}", default_name(self.kind, self.id), self.changes + 1);
        self.name = name.map_or_else(numbered, str::to_owned);
        self.updated = Some(at);
    }

    /// Returns the time of the last change, a deletion included.
    pub(crate) fn changed(&self) -> Timestamp {
        self.registered.max(self.updated.unwrap_or_default()).max(self.deleted.unwrap_or_default())
    }

    /// Returns the entity that `GET Contact/{id}` or `GET Person/{id}` returns.
    pub(crate) fn entity(&self, times: &Times) -> Map<String, Value> {
        let entity = match self.kind {
            Kind::Contact => self.contact_entity(times),
            Kind::Person => self.person_entity(times),
        };
        let Value::Object(entity) = entity else { unreachable!("the entity is an object") };
        entity
    }

    fn contact_entity(&self, times: &Times) -> Value {
        let person = json!({
            "PersonId": self.id, "Firstname": "Kari", "Lastname": format!("Nordmann {}", self.id),
            "FullName": format!("Kari Nordmann {}", self.id), "ContactId": self.id,
        });
        json!({
            "ContactId": self.id,
            "Name": self.name,
            "Department": "Head office",
            "OrgNr": "",
            "UpdatedDate": times.write(self.updated),
            "CreatedDate": times.write(Some(self.registered)),
            "Emails": [{"Value": format!("office{}@example.com", self.id), "Description": ""}],
            "Urls": [],
            "Phones": [],
            "Description": "",
            "UpdatedBy": associate(),
            "CreatedBy": associate(),
            "Associate": associate(),
            "Business": {"Id": 2, "Value": "Consulting"},
            "Category": {"Id": 1, "Value": "Customer"},
            "Country": {"CountryId": 578, "Name": "Norway"},
            "Persons": [person],
            "NoMailing": false,
            "Xstop": false,
            "ActiveInterests": 0,
            "Deleted": i64::from(self.deleted.is_some()),
            "Source": 0,
            "UserDefinedFields": {"SuperOffice:1": "[I:6]"},
            "ExtraFields": {},
            "CustomFields": {},
            "TableRight": null,
            "FieldProperties": {},
        })
    }

    /// The documented entity of a person has no property `Deleted`.
    fn person_entity(&self, times: &Times) -> Value {
        json!({
            "PersonId": self.id,
            "Firstname": "Kari",
            "MiddleName": "",
            "Lastname": self.name,
            "Title": "Manager",
            "UpdatedDate": times.write(self.updated),
            "CreatedDate": times.write(Some(self.registered)),
            "Emails": [{"Value": format!("person{}@example.com", self.id), "Description": ""}],
            "IsAssociate": false,
            "OfficePhones": [],
            "UpdatedBy": associate(),
            "CreatedBy": associate(),
            "Contact": self.contact.map(|id| json!({"ContactId": id, "Name": default_name(Kind::Contact, id)})),
            "Country": {"CountryId": 578, "Name": "Norway"},
            "FullName": format!("Kari {}", self.name),
            "NoMailing": false,
            "Retired": false,
            "ActiveInterests": 0,
            "Source": 0,
            "Consents": [],
            "UserDefinedFields": {"SuperOffice:1": "[I:6]"},
            "ExtraFields": {},
            "CustomFields": {},
            "TableRight": null,
            "FieldProperties": {},
        })
    }

    /// Returns the columns that an event contains, with times in the server's base zone.
    pub(crate) fn columns(&self, times: &Times) -> Value {
        let mut columns = json!({
            "activeInterests": 0, "associate_id": 5, "business_idx": 2, "category_idx": 1, "country_id": 578,
            "DeletedDate": times.write(self.deleted), "registered": times.write(Some(self.registered)),
            "registered_associate_id": 5, "source": 0, "updated": times.write(self.updated), "userdef2_id": 0,
            "userdef_id": 0,
        });
        match self.kind {
            Kind::Contact => columns["deleted"] = json!(i64::from(self.deleted.is_some())),
            Kind::Person => {
                let own = [("person_id", self.id), ("contact_id", self.contact.unwrap_or_default())];
                let same = [("group_id", 1), ("position_idx", 0), ("retired", 0), ("updated_associate_id", 5)];
                for (name, value) in own.into_iter().chain(same) {
                    columns[name] = json!(value);
                }
            }
        }
        columns
    }

    /// Returns the columns that an event has after a deletion.
    pub(crate) fn values(&self) -> Value {
        match self.kind {
            Kind::Contact => json!({"associate_id": 5, "contact_id": self.id}),
            Kind::Person => {
                json!({"associate_id": 5, "contact_id": self.contact.unwrap_or_default(), "person_id": self.id})
            }
        }
    }
}

fn default_name(kind: Kind, id: i64) -> String {
    match kind {
        Kind::Contact => format!("Company {id}"),
        Kind::Person => format!("Nordmann {id}"),
    }
}

fn associate() -> Value {
    json!({"AssociateId": 5, "Name": "ADM", "FullName": "Ada Admin"})
}

/// A record that was merged into another one, and no longer exists.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Merge {
    /// The row's id.
    pub(crate) id: i64,
    pub(crate) kind: Kind,
    /// The record that no longer exists.
    pub(crate) source: i64,
    /// The record that received its data.
    pub(crate) destination: i64,
    pub(crate) at: Timestamp,
}
