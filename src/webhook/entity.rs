//! The entities that SuperOffice documents: their events, keys and columns. A further entity is a row of [`ENTITIES`].
//! The function does not read this table: it forwards events of any entity.
//!
//! Source: <https://docs.superoffice.com/en/automation/webhook/reference/index.html>

use crate::env::Environment;

/// An entity, as SuperOffice documents its events.
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entity {
    /// The part of an event's name before the last dot. A part in braces differs: `list.{list}`, `y_{table}`.
    pub name: &'static str,
    /// The table of its rows, if all rows are in one table.
    pub table: Option<&'static str>,
    /// The column that `PrimaryKey` contains, if it is documented.
    pub key: Option<&'static str>,
    /// The part of an event's name after the last dot, one for each event.
    pub endings: &'static [&'static str],
    /// The columns in `FieldValues` that are integers. Some servers write them as text.
    pub integers: &'static [&'static str],
    /// The columns in `FieldValues` that are booleans.
    pub booleans: &'static [&'static str],
    /// The columns in `FieldValues` that are dates, with or without an offset.
    pub dates: &'static [&'static str],
    /// The columns in `Values` of an event that reports a deletion.
    pub values: &'static [&'static str],
    /// The lists of its rows, if lost events are recovered and the mirror can keep its rows.
    pub archive: Option<&'static Archive>,
}

impl Entity {
    /// Finds the entity of an event: `contact` for `contact.changed`, `list.{list}` for `list.category.created`. Letter
    /// case is ignored. `None` if the name is not documented.
    ///
    /// ```
    /// use superoffice_webhook::webhook::entity::Entity;
    ///
    /// let activity = Entity::of_event("Activity.Changed").unwrap();
    /// assert_eq!((activity.table, activity.key), (Some("appointment"), Some("appointment_id")));
    /// ```
    pub fn of_event(event: &str) -> Option<&'static Self> {
        let (name, _) = event.rsplit_once('.')?;
        ENTITIES.iter().find(|entity| entity.is_named(name))
    }

    /// Finds an entity by its name: `contact`, `list.{list}` for `list.category`, and `y_{table}` for `y_equipment`.
    /// Letter case is ignored. `None` if the name is not documented.
    pub fn named(name: &str) -> Option<&'static Self> {
        let ending = name.rsplit('.').next().unwrap_or_default();
        ENTITIES.iter().find(|entity| match entity.name.split_once('{') {
            None => entity.is_named(name),
            // In `list.created`, the name of the list is missing.
            Some((start, _)) => {
                entity.is_named(name)
                    && name.get(start.len()..).is_some_and(is_word)
                    && !(name.contains('.') && entity.endings.contains(&ending))
            }
        })
    }

    /// Returns `true` if an event may have this ending although [`Entity::endings`] lacks it: the rows are in different
    /// tables, which may have events of their own.
    pub fn may_have(&self, ending: &str) -> bool {
        self.table.is_none() && is_word(ending)
    }

    /// Returns the names of its events. A part in braces differs between installations.
    pub fn events(&self) -> impl Iterator<Item = String> {
        self.endings.iter().map(|ending| format!("{}.{ending}", self.name))
    }

    /// Returns `true` if a name is the entity's, whose part in braces stands for any text.
    fn is_named(&self, name: &str) -> bool {
        let Some((beginning, _)) = self.name.split_once('{') else {
            return self.name.eq_ignore_ascii_case(name);
        };
        let rest = name.split_at_checked(beginning.len()).filter(|(start, _)| start.eq_ignore_ascii_case(beginning));
        rest.is_some_and(|(_, rest)| match self.name {
            STATES => rest.bytes().all(|byte| byte.is_ascii_digit()),
            _ => !rest.is_empty(),
        })
    }
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// The entity of state events. The body of such an event has the name without the webhook's id, `webhook.errors`.
const STATES: &str = "webhook{id}";

/// The places from which the rows of an entity are read: its resource and its lists in SuperOffice's REST API.
///
/// Sources: the pages [`GET Contact/{id}`] and [`GET Person/{id}`], the archives [`RecycleContact`] and
/// [`RecyclePerson`], and the [numbers of tables]. No published query reads persons from the archive `dynamic` or from
/// the log of merges. Its columns are those of the database, so both are assumed to work for persons as for contacts.
///
/// [`GET Contact/{id}`]: https://docs.superoffice.com/en/api/reference/restful/rest/Contact/v1ContactEntity_GetContactEntity.html
/// [`GET Person/{id}`]: https://docs.superoffice.com/en/api/reference/restful/rest/Person/v1PersonEntity_GetPersonEntity.html
/// [`RecycleContact`]: https://docs.superoffice.com/en/api/archive-providers/reference/recyclecontact.html
/// [`RecyclePerson`]: https://docs.superoffice.com/en/api/archive-providers/reference/recycleperson.html
/// [numbers of tables]: https://docs.superoffice.com/en/database/tables/index.html
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Archive {
    /// The entity's name, `contact`.
    pub name: &'static str,
    /// The resource of one row: `GET Contact/{id}`.
    pub resource: &'static str,
    /// The property of that resource that contains its id.
    pub id: &'static str,
    /// The key of the list of all rows, in the archive `dynamic`.
    pub key: &'static str,
    /// The date of creation in this list.
    pub registered: &'static str,
    /// The date of the last change in this list.
    pub updated: &'static str,
    /// The archive of deleted rows.
    pub recycle: &'static str,
    /// The key in the archive of deleted rows.
    pub recycle_key: &'static str,
    /// The date of the deletion in the archive of deleted rows.
    pub recycle_date: &'static str,
    /// The number of the table in the log of merges.
    pub merge_table: u32,
}

impl Archive {
    /// Contacts, which are companies.
    pub const CONTACT: &'static Self = &Self {
        name: "contact",
        resource: "Contact",
        id: "ContactId",
        key: "contact.contact_id",
        registered: "contact.registered",
        updated: "contact.updated",
        recycle: "RecycleContact",
        recycle_key: "contactId",
        recycle_date: "deletedDate",
        merge_table: 5,
    };
    /// Persons, who are humans.
    pub const PERSON: &'static Self = &Self {
        name: "person",
        resource: "Person",
        id: "PersonId",
        key: "person.person_id",
        registered: "person.registered",
        updated: "person.updated",
        recycle: "RecyclePerson",
        recycle_key: "personId",
        recycle_date: "personDeletedDate",
        merge_table: 6,
    };
    /// Every archive. Contacts come first.
    pub const ALL: [&'static Self; 2] = [Self::CONTACT, Self::PERSON];

    /// Finds the archive of an entity. Letter case is ignored.
    pub fn of_entity(name: &str) -> Option<&'static Self> {
        Self::ALL.into_iter().find(|archive| archive.name.eq_ignore_ascii_case(name))
    }

    /// Returns the name of the private event that makes a consumer read a row: `contact.resync`.
    pub fn resync(&self) -> String {
        format!("{}.resync", self.name)
    }

    /// Parses the names of entities, separated by commas. Returns their archives without repetition, contacts first.
    fn parse_list(list: &str) -> Result<Vec<&'static Self>, UnknownArchive> {
        let names = list.split(',').map(str::trim).filter(|name| !name.is_empty());
        let named: Vec<_> = names
            .map(|name| Self::of_entity(name).ok_or_else(|| UnknownArchive(name.into())))
            .collect::<Result<_, _>>()?;
        if named.is_empty() {
            return Err(UnknownArchive(list.trim().into()));
        }
        Ok(Self::ALL.into_iter().filter(|archive| named.contains(archive)).collect())
    }

    /// Reads `SYNC_ENTITIES`: the entities that are recovered and mirrored, contacts by default.
    pub fn from_environment(env: &mut Environment<'_>) -> Option<Vec<&'static Self>> {
        const VARIABLE: &str = "SYNC_ENTITIES";
        if env.is_set(VARIABLE) { env.parse(VARIABLE, Self::parse_list) } else { Some(vec![Self::CONTACT]) }
    }
}

/// A name in a list of entities that is not the name of an [`Archive`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not accepted: expected `contact`, `person`, or both with a comma between them")]
struct UnknownArchive(String);

/// Every documented entity. Contacts come first.
pub static ENTITIES: [Entity; 16] = [
    Entity {
        name: "contact",
        table: Some("contact"),
        key: Some("contact_id"),
        endings: &["created", "changed", "softdeleted", "deleted"],
        integers: &[
            "activeInterests",
            "associate_id",
            "business_idx",
            "category_idx",
            "country_id",
            "deleted",
            "registered_associate_id",
            "source",
            "userdef2_id",
            "userdef_id",
        ],
        booleans: &[],
        dates: &["DeletedDate", "registered", "updated"],
        values: &["associate_id", "contact_id"],
        archive: Some(Archive::CONTACT),
    },
    Entity {
        name: "person",
        table: Some("person"),
        key: Some("person_id"),
        endings: &["created", "changed", "softdeleted", "deleted", "consented", "unconsented"],
        integers: &[
            "activeInterests",
            "associate_id",
            "business_idx",
            "category_idx",
            "contact_id",
            "country_id",
            "group_id",
            "person_id",
            "position_idx",
            "registered_associate_id",
            "retired",
            "source",
            "updated_associate_id",
            "userdef2_id",
            "userdef_id",
        ],
        booleans: &[],
        dates: &["DeletedDate", "registered", "updated"],
        values: &["associate_id", "contact_id", "person_id"],
        archive: Some(Archive::PERSON),
    },
    Entity {
        name: "activity",
        table: Some("appointment"),
        key: Some("appointment_id"),
        endings: &["created", "changed", "deleted"],
        integers: &[
            "associate_id",
            "contact_id",
            "document_id",
            "modified_appointment_fields",
            "mother_id",
            "person_id",
            "private",
            "project_id",
            "sale_id",
            "status",
            "task_idx",
            "type",
            "userdef2_id",
            "userdef_id",
        ],
        booleans: &[],
        dates: &["activeDate", "do_by", "endDate", "updated"],
        values: &["appointment_id", "contact_id", "person_id", "project_id", "sale_id"],
        archive: None,
    },
    Entity {
        name: "document",
        table: Some("document"),
        key: Some("document_id"),
        endings: &["created", "changed", "deleted", "edited"],
        integers: &[
            "application_id",
            "appointment_id",
            "document_id",
            "registered_associate_id",
            "updated_associate_id",
            "userdef2_id",
            "userdef_id",
        ],
        booleans: &[],
        dates: &["registered", "updated"],
        values: &["document_id", "appointment_id"],
        archive: None,
    },
    Entity {
        name: "sale",
        table: Some("sale"),
        key: Some("sale_id"),
        endings: &["created", "changed", "deleted", "sold", "lost", "completed"],
        integers: &[
            "activeLinks",
            "appointment_id",
            "associate_id",
            "comptr_id",
            "contact_id",
            "credited_id",
            "currency_id",
            "done",
            "group_idx",
            "person_id",
            "probability_idx",
            "project_id",
            "reason_id",
            "reasonSold_id",
            "reasonStalled_id",
            "registered_associate_id",
            "saleTypeCat_id",
            "saleType_id",
            "source_id",
            "status",
            "updated_associate_id",
            "userdef2_id",
            "userdef_id",
        ],
        booleans: &[],
        dates: &["registered", "saledate", "updated"],
        values: &["associate_id", "contact_id", "person_id", "project_id"],
        archive: None,
    },
    Entity {
        name: "salestakeholder",
        table: Some("salestakeholder"),
        key: Some("salestakeholder_id"),
        endings: &["created", "changed", "deleted"],
        integers: &[
            "contact_id",
            "person_id",
            "registered_associate_id",
            "sale_id",
            "stakeholderrole_id",
            "updated_associate_id",
        ],
        booleans: &[],
        dates: &["registered", "updated"],
        values: &["sale_id"],
        archive: None,
    },
    Entity {
        name: "project",
        table: Some("project"),
        key: Some("project_id"),
        endings: &["created", "changed", "deleted"],
        integers: &[
            "activeLinks",
            "associate_id",
            "done",
            "registered_associate_id",
            "status_idx",
            "type_idx",
            "updated_associate_id",
            "userdef2_id",
            "userdef_id",
        ],
        booleans: &[],
        dates: &["registered", "updated"],
        values: &["associate_id", "project_id"],
        archive: None,
    },
    Entity {
        name: "projectmember",
        table: Some("projectmember"),
        key: Some("projectmember_id"),
        endings: &["created", "changed", "deleted"],
        integers: &[
            "contact_id",
            "mtype_idx",
            "person_id",
            "project_id",
            "projectmember_id",
            "registered_associate_id",
            "updated_associate_id",
        ],
        booleans: &[],
        dates: &["registered", "updated"],
        values: &["associate_id", "project_id"],
        archive: None,
    },
    Entity {
        name: "quote",
        table: Some("quote"),
        key: None,
        endings: &["approved", "rejected", "sent", "ordered"],
        integers: &[],
        booleans: &[],
        dates: &[],
        values: &[],
        archive: None,
    },
    Entity {
        name: "relation",
        table: Some("relations"),
        key: Some("relation_id"),
        endings: &["created", "changed", "deleted"],
        integers: &[
            "associate_id",
            "destination_record",
            "destination_table",
            "registered_associate_id",
            "reldef_id",
            "source_record",
            "source_table",
            "updated_associate_id",
        ],
        booleans: &[],
        dates: &["registered", "updated"],
        values: &["associate_id", "relation_id"],
        archive: None,
    },
    Entity {
        name: "ticket",
        table: Some("ticket"),
        key: Some("id"),
        endings: &["created", "changed"],
        integers: &[
            "category",
            "connect_id",
            "contact_id",
            "cust_id",
            "has_attachment",
            "owned_by",
            "priority",
            "project_id",
            "sale_id",
            "slevel",
            "status",
            "ticket_status",
            "ticket_type",
        ],
        booleans: &[],
        dates: &["created_at", "last_changed"],
        values: &[],
        archive: None,
    },
    Entity {
        name: "chatsession",
        table: Some("chat_session"),
        key: Some("id"),
        endings: &["created", "message", "changed"],
        integers: &[
            "alertLevel",
            "contactId",
            "customerAlias",
            "customerId",
            "projectId",
            "rating",
            "saleId",
            "status",
            "ticketId",
            "topicId",
            "userId",
        ],
        booleans: &["chatbotIsactive", "consented"],
        dates: &[],
        values: &[],
        archive: None,
    },
    Entity {
        name: "associate",
        table: Some("associate"),
        key: Some("associate_id"),
        endings: &["created", "changed", "deleted"],
        integers: &[
            "deleted",
            "group_idx",
            "person_id",
            "registered_associate_id",
            "type",
            "updated_associate_id",
            "waiting_for_approval",
        ],
        booleans: &[],
        dates: &["updated"],
        values: &["associate_id", "person_id"],
        archive: None,
    },
    Entity {
        name: "list.{list}",
        table: None,
        key: None,
        endings: &["created", "changed", "softdeleted"],
        integers: &[],
        booleans: &[],
        dates: &[],
        values: &[],
        archive: None,
    },
    Entity {
        name: "y_{table}",
        table: None,
        key: Some("id"),
        endings: &["created", "changed", "deleted"],
        integers: &["id", "dbi_agent_id"],
        booleans: &[],
        dates: &["last_changed", "dbi_last_syncronized", "dbi_last_modified"],
        values: &[],
        archive: None,
    },
    Entity {
        name: "webhook{id}",
        table: Some("webhook"),
        key: None,
        endings: &["started", "stopped", "errors"],
        integers: &["events", "registered_associate_id", "state", "updated_associate_id"],
        booleans: &[],
        dates: &["registered", "updated"],
        values: &[],
        archive: None,
    },
];

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::webhook::field::{FieldValue, Fields};

    /// The documented facts. The table is their copy in the code.
    fn documented() -> Vec<Value> {
        let facts: Value = serde_json::from_str(include_str!("../../tests/vectors/entities.json")).unwrap();
        facts.as_array().unwrap().clone()
    }

    fn texts(value: &Value) -> Vec<&str> {
        value.as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect()
    }

    fn sorted<'a>(names: impl IntoIterator<Item = &'a &'static str>) -> Vec<&'static str> {
        let mut names: Vec<&str> = names.into_iter().copied().collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn table_has_every_documented_entity_event_key_and_column() {
        let documented = documented();
        let names: Vec<&str> = documented.iter().map(|facts| facts["name"].as_str().unwrap()).collect();
        assert_eq!(ENTITIES.iter().map(|entity| entity.name).collect::<Vec<_>>(), names);
        for (entity, facts) in ENTITIES.iter().zip(&documented) {
            assert_eq!(entity.events().collect::<Vec<_>>(), texts(&facts["events"]));
            assert_eq!((entity.table, entity.key), (facts["table"].as_str(), facts["key"].as_str()), "{}", entity.name);
            for (columns, kind) in [(entity.integers, "integer"), (entity.booleans, "boolean"), (entity.dates, "date")]
            {
                let of_kind = |(name, found): (&String, &Value)| (*found == kind).then(|| name.clone());
                let mut expected: Vec<_> = facts["columns"].as_object().unwrap().iter().filter_map(of_kind).collect();
                expected.sort_unstable();
                assert_eq!(sorted(columns), expected, "{} {kind}", entity.name);
            }
            assert_eq!(entity.values, texts(&facts["values"]), "{}", entity.name);
        }
    }

    #[test]
    fn archives_are_those_of_contacts_and_persons() {
        let archived: Vec<_> = ENTITIES.iter().filter_map(|entity| Some((entity, entity.archive?))).collect();
        assert_eq!(archived.iter().map(|(_, archive)| *archive).collect::<Vec<_>>(), Archive::ALL);
        for (entity, archive) in archived {
            let column = |name: &str| Some(format!("{}.{name}", entity.table?));
            assert_eq!(archive.name, entity.name);
            assert_eq!(Some(archive.key.to_owned()), entity.key.and_then(column));
            for (found, name) in [(archive.registered, "registered"), (archive.updated, "updated")] {
                assert_eq!(Some(found.to_owned()), column(name));
                assert!(entity.dates.contains(&name), "{} {name}", entity.name);
            }
        }
    }

    #[test]
    fn list_of_entities_is_parsed_in_any_order_and_letter_case() {
        for (list, expected) in [
            ("contact", vec![Archive::CONTACT]),
            (" Person ,contact,person", vec![Archive::CONTACT, Archive::PERSON]),
            ("PERSON,", vec![Archive::PERSON]),
        ] {
            assert_eq!(Archive::parse_list(list), Ok(expected), "{list}");
        }
        for (list, name) in [("contact,selection", "selection"), ("contact.*", "contact.*"), (" , ", ",")] {
            let expected =
                format!("`{name}` is not accepted: expected `contact`, `person`, or both with a comma between them");
            assert_eq!(Archive::parse_list(list).unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn contacts_are_synchronized_by_default() {
        for (value, expected) in [("", Ok(vec![Archive::CONTACT])), ("person", Ok(vec![Archive::PERSON]))] {
            let lookup = |name: &str| (name == "SYNC_ENTITIES").then(|| value.to_owned());
            let mut env = Environment::new(&lookup);
            let archives = Archive::from_environment(&mut env);
            assert_eq!(env.finish(archives), expected);
        }
        assert_eq!(Archive::PERSON.resync(), "person.resync");
    }

    /// Samples print some columns in another spelling than the documentation's tables.
    #[test]
    fn documented_name_finds_the_column_of_a_sample() {
        let mut count = 0;
        for facts in documented() {
            for (name, spelling) in facts["samples"].as_object().unwrap() {
                let fields = Fields::parse(format!("{{{spelling}: 7}}").as_bytes()).unwrap();
                assert_eq!(fields.column(name).and_then(FieldValue::integer), Some(7), "{name} {spelling}");
                count += 1;
            }
        }
        assert_eq!(count, 14);
    }

    #[test]
    fn entity_is_found_by_the_name_of_an_event() {
        for (event, name) in [
            ("contact.changed", Some("contact")),
            ("CONTACT.RESYNC", Some("contact")),
            ("chatsession.message", Some("chatsession")),
            ("list.110.created", Some("list.{list}")),
            ("list.category.softdeleted", Some("list.{list}")),
            ("y_equipment.changed", Some("y_{table}")),
            ("webhook12.errors", Some("webhook{id}")),
            ("webhook.errors", Some("webhook{id}")),
            ("webhooks.errors", None),
            ("list..created", None),
            ("y_.created", None),
            ("contacts.changed", None),
            ("selection.changed", None),
            ("test", None),
            ("", None),
        ] {
            assert_eq!(Entity::of_event(event).map(|entity| entity.name), name, "{event}");
        }
    }
}
