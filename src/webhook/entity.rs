//! The entities that SuperOffice documents: their events, keys and columns. A further entity is a row of [`ENTITIES`].
//! The function does not read this table: it forwards events of any entity.
//!
//! Source: <https://docs.superoffice.com/en/automation/webhook/reference/index.html>

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

/// The entity of state events. The body of such an event has the name without the webhook's id, `webhook.errors`.
const STATES: &str = "webhook{id}";

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
