//! A contact, its entity in the API, and its columns in events.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::times::Times;

/// A contact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contact {
    /// The id.
    pub id: i64,
    /// The name.
    pub name: String,
    /// The time of its creation.
    pub registered: Timestamp,
    /// The time of its last change.
    pub updated: Option<Timestamp>,
    /// The time of its deletion by a person.
    pub deleted: Option<Timestamp>,
    /// The number of changes.
    changes: u32,
}

impl Contact {
    pub(crate) fn new(id: i64, registered: Timestamp) -> Self {
        Self { id, name: format!("Company {id}"), registered, updated: None, deleted: None, changes: 0 }
    }

    /// Changes the contact. Without a name, the new name contains the number of changes.
    pub(crate) fn change(&mut self, name: Option<&str>, at: Timestamp) {
        self.changes += 1;
        let numbered = || format!("Company {}, version {}", self.id, self.changes + 1);
        self.name = name.map_or_else(numbered, str::to_owned);
        self.updated = Some(at);
    }

    /// Returns the time of the last change, a deletion included.
    pub(crate) fn changed(&self) -> Timestamp {
        self.registered.max(self.updated.unwrap_or_default()).max(self.deleted.unwrap_or_default())
    }

    /// Returns the entity that `GET Contact/{id}` returns.
    pub(crate) fn entity(&self, times: &Times) -> Map<String, Value> {
        let person = json!({
            "PersonId": self.id, "Firstname": "Kari", "Lastname": format!("Nordmann {}", self.id),
            "FullName": format!("Kari Nordmann {}", self.id), "ContactId": self.id,
        });
        let associate = json!({"AssociateId": 5, "Name": "ADM", "FullName": "Ada Admin"});
        let entity = json!({
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
            "UpdatedBy": associate,
            "CreatedBy": associate,
            "Associate": associate,
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
        });
        let Value::Object(entity) = entity else { unreachable!("the entity is an object") };
        entity
    }

    /// Returns the columns that an event contains, with times in the server's base zone.
    pub(crate) fn columns(&self, times: &Times) -> Value {
        json!({
            "activeInterests": 0, "associate_id": 5, "business_idx": 2, "category_idx": 1, "country_id": 578,
            "deleted": i64::from(self.deleted.is_some()), "DeletedDate": times.write(self.deleted),
            "registered": times.write(Some(self.registered)), "registered_associate_id": 5, "source": 0,
            "updated": times.write(self.updated), "userdef2_id": 0, "userdef_id": 0,
        })
    }
}

/// A contact that was merged into another one, and no longer exists.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Merge {
    /// The row's id.
    pub(crate) id: i64,
    /// The contact that no longer exists.
    pub(crate) source: i64,
    /// The contact that received its data.
    pub(crate) destination: i64,
    pub(crate) at: Timestamp,
}
