//! A body for each documented event, composed from the documented names and types in `tests/vectors/entities.json`.

use std::collections::BTreeMap;
use std::{fs, io};

use md5::{Digest, Md5};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::project_root;

/// The documented facts of an entity.
#[derive(Clone, Debug, Deserialize)]
pub struct EntityFacts {
    /// The name: `contact`, `list.{list}`.
    pub name: String,
    /// The names of the events.
    pub events: Vec<String>,
    /// The columns in `FieldValues`, with `integer`, `boolean` or `date`.
    pub columns: BTreeMap<String, String>,
    /// The columns in `Values`.
    pub values: Vec<String>,
    /// The names of columns that samples spell in another way.
    pub samples: BTreeMap<String, String>,
    /// The columns that are integers, and that samples write as text.
    pub texts: Vec<String>,
    /// The parts of each event's sample that are not empty: `Changes`, `Values`, `FieldValues`.
    pub parts: BTreeMap<String, Vec<String>>,
}

/// An event with its body.
#[derive(Clone, Debug)]
pub struct EntityEvent {
    /// The name without braces: `list.category.created`.
    pub name: String,
    /// The body.
    pub body: Value,
}

impl EntityFacts {
    /// Reads the facts of all entities.
    ///
    /// # Errors
    ///
    /// The error of a file that cannot be read.
    pub fn all() -> io::Result<Vec<Self>> {
        let file = fs::read(project_root().join("tests/vectors/entities.json"))?;
        serde_json::from_slice(&file).map_err(io::Error::from)
    }

    /// Composes a body for each event.
    pub fn samples(&self) -> Vec<EntityEvent> {
        self.events.iter().map(|event| self.sample(event)).collect()
    }

    fn sample(&self, event: &str) -> EntityEvent {
        let name = event.replace("{list}", "category").replace("{table}", "equipment").replace("{id}", "");
        let has = |part: &str| self.parts[event].iter().any(|name| name == part);
        let is_tagged = self.name.starts_with("y_") && !event.ends_with(".deleted");
        let columns = self.columns.iter().enumerate();
        let columns: Map<String, Value> = columns
            .map(|(index, (column, kind))| {
                (self.spelling(column).to_owned(), self.value(column, kind, index, is_tagged))
            })
            .collect();
        let mut body = json!({
            "EventId": guid(&name),
            "Timestamp": "2026-03-16T08:31:10.7500000Z",
            "Changes": if has("Changes") { columns.keys().cloned().collect::<Vec<_>>() } else { Vec::new() },
            "Event": name,
            "PrimaryKey": 1001,
            "ContextIdentifier": "Cust12345",
            "ChangedByAssociateId": 103,
            "WebhookName": "Every entity",
        });
        // A state event has no entity.
        if self.name != "webhook{id}" {
            body["Entity"] = json!(name.rsplit_once('.').map(|(entity, _)| entity));
        }
        if has("Values") {
            body["Values"] = self.values.iter().zip(200..).map(|(column, id)| (column.clone(), json!(id))).collect();
        }
        if has("FieldValues") {
            body["FieldValues"] = columns.into();
        }
        EntityEvent { name, body }
    }

    /// Returns the name of a column as samples spell it.
    pub fn spelling<'a>(&'a self, column: &'a str) -> &'a str {
        self.samples.get(column).map_or(column, String::as_str)
    }

    /// Returns a value in one of the documented forms.
    fn value(&self, column: &str, kind: &str, index: usize, is_tagged: bool) -> Value {
        let number = 100 + index;
        match kind {
            "integer" if is_tagged => json!(format!("[I:{number}]")),
            "integer" if self.texts.iter().any(|text| text == column) => json!(number.to_string()),
            "integer" if column == "cust_id" => Value::Null,
            "integer" if column == "connect_id" => json!(-1),
            "integer" => json!(number),
            "boolean" => json!(true),
            _ if is_tagged => json!("[DT:03/16/2026 09:31:10.0000000]"),
            _ if column == "updated" => json!("2026-03-16T09:31:10.7500000+01:00"),
            _ if ["DeletedDate", "endDate"].contains(&column) => json!("0001-01-01T00:00:00"),
            _ => json!("2025-11-02T14:05:33"),
        }
    }
}

/// Returns an id in the form of a GUID, always the same for a name.
fn guid(name: &str) -> String {
    let id = hex::encode(Md5::digest(name));
    [&id[..8], &id[8..12], &id[12..16], &id[16..20], &id[20..]].join("-")
}

/// Composes the JSON Schema of the events: for each entity, the types of its columns.
///
/// # Errors
///
/// The error of a file that cannot be read.
pub fn schema() -> io::Result<String> {
    let facts = EntityFacts::all()?;
    let condition = |entity: &EntityFacts| {
        let pattern = format!("^{}\\.", entity.name.replace('.', "\\."));
        let pattern = ["{list}", "{table}"].iter().fold(pattern, |pattern, part| pattern.replace(part, ".+"));
        json!({
            "if": {"properties": {"Event": {"type": "string", "pattern": pattern.replace("{id}", "[0-9]*")}}},
            "then": {"$ref": format!("#/$defs/{}", entity.key())},
        })
    };
    let mut definitions: Map<String, Value> =
        facts.iter().map(|entity| (entity.key().to_owned(), entity.schema())).collect();
    let text = |pattern: &str| json!({"type": "string", "pattern": pattern});
    definitions.extend([
        (
            "integer".to_owned(),
            json!({
                "description": "An integer, as a number, as text, or tagged. null, 0 and -1 mean that there is no row.",
                "anyOf": [{"type": ["integer", "null"]}, text("^(-?[0-9]+|\\[I:-?[0-9]+\\])$")],
            }),
        ),
        (
            "boolean".to_owned(),
            json!({
                "description": "A boolean, or an integer that is 0 for false.",
                "anyOf": [{"type": ["boolean", "null"]}, {"$ref": "#/$defs/integer"}],
            }),
        ),
        (
            "date".to_owned(),
            json!({
                "description": "A date, with or without an offset, or tagged. 0001-01-01T00:00:00 is no date.",
                "anyOf": [
                    {"type": "null"},
                    text("^([0-9]{4}-[0-9]{2}-[0-9]{2}(T.+)?|\\[DT?:[0-9]{2}/[0-9]{2}/[0-9]{4}.*\\])?$"),
                ],
            }),
        ),
    ]);
    let mut schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Events of SuperOffice, by entity",
        "description": "The body of an event, with the documented events, columns and types of each entity. SuperOffice adds events and columns over time, and any event is forwarded: a body that this schema rejects differs from the documentation, and is not damaged. Generated by make events.",
        "type": "object",
        "required": ["Event"],
        "allOf": facts.iter().map(condition).collect::<Vec<_>>(),
        "$defs": definitions,
    });
    schema.sort_all_objects();
    Ok(format!("{schema:#}\n"))
}

impl EntityFacts {
    /// Returns the name without the part in braces.
    fn key(&self) -> &str {
        self.name.split('{').next().unwrap_or_default().trim_end_matches(['.', '_'])
    }

    fn schema(&self) -> Value {
        let columns: Map<String, Value> = self
            .columns
            .iter()
            .flat_map(|(column, kind)| [column.as_str(), self.spelling(column)].map(|name| (name, kind)))
            .map(|(name, kind)| (name.to_owned(), json!({"$ref": format!("#/$defs/{kind}")})))
            .collect();
        let values = self.values.iter().map(|column| (column.clone(), json!({"$ref": "#/$defs/integer"})));
        json!({
            "properties": {
                "Event": {"description": "The documented names.", "examples": self.events},
                "FieldValues": {"type": ["object", "null"], "properties": columns},
                "Values": {"type": ["object", "null"], "properties": values.collect::<Map<_, _>>()},
            },
        })
    }
}
