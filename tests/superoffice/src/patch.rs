//! Changes of a JSON document: JSON Patch and merge patch. Names of properties are found in any letter case.

use axum::http::StatusCode;
use serde_json::{Map, Value};

use crate::error::Refusal;

/// Returns the value of a property, whatever the case of its name.
pub(crate) fn lookup<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    object.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

/// Applies an array of operations, or an object with the properties to change.
pub(crate) fn apply(document: &mut Value, patch: &Value) -> Result<(), Refusal> {
    match patch {
        Value::Array(operations) => operations.iter().try_for_each(|operation| operate(document, operation)),
        Value::Object(changes) => {
            merge(document, changes);
            Ok(())
        }
        _ => Err(Refusal::argument("The body is neither a JSON Patch nor an object")),
    }
}

fn merge(document: &mut Value, changes: &Map<String, Value>) {
    let Value::Object(object) = document else { return };
    for (name, change) in changes {
        let key = spelling(object, name);
        match change {
            Value::Object(inner) => merge(object.entry(key).or_insert_with(|| Value::Object(Map::new())), inner),
            Value::Null => {
                object.remove(&key);
            }
            value => {
                object.insert(key, value.clone());
            }
        }
    }
}

fn operate(document: &mut Value, operation: &Value) -> Result<(), Refusal> {
    let empty = Map::new();
    let operation = operation.as_object().unwrap_or(&empty);
    let text = |name| lookup(operation, name).and_then(Value::as_str).unwrap_or_default();
    let value = lookup(operation, "value").cloned().unwrap_or_default();
    let path = text("path").strip_prefix('/').unwrap_or_default().replace("~1", "/").replace("~0", "~");
    let unknown = || Refusal::argument(format!("The path /{path} does not exist"));
    let (parent, name) = match path.split_once('/') {
        Some((parent, name)) => (find(document, parent).ok_or_else(unknown)?, name),
        None => (document, path.as_str()),
    };
    match (text("op"), parent) {
        ("test", parent) => match find(parent, name) {
            Some(current) if *current == value => Ok(()),
            _ => Err(Refusal::new(
                StatusCode::CONFLICT,
                "JsonPatchTestOperationException",
                format!("The current value of /{path} is not the tested one"),
            )),
        },
        ("add", Value::Array(items)) if name == "-" => {
            items.push(value);
            Ok(())
        }
        ("add" | "replace", Value::Object(object)) => {
            let key = spelling(object, name);
            object.insert(key, value);
            Ok(())
        }
        ("replace", parent) => {
            *find(parent, name).ok_or_else(unknown)? = value;
            Ok(())
        }
        ("remove", Value::Object(object)) => {
            let key = spelling(object, name);
            object.remove(&key).map(drop).ok_or_else(unknown)
        }
        ("remove", Value::Array(items)) => match name.parse::<usize>() {
            Ok(index) if index < items.len() => {
                items.remove(index);
                Ok(())
            }
            _ => Err(unknown()),
        },
        (operation, _) => Err(Refusal::argument(format!("The operation '{operation}' is not supported"))),
    }
}

fn find<'a>(parent: &'a mut Value, name: &str) -> Option<&'a mut Value> {
    match parent {
        Value::Object(object) => {
            let key = spelling(object, name);
            object.get_mut(&key)
        }
        Value::Array(items) => items.get_mut(name.parse::<usize>().ok()?),
        _ => None,
    }
}

/// Returns the name of a property as the object writes it, or as it was given for a new property.
fn spelling(object: &Map<String, Value>, name: &str) -> String {
    object.keys().find(|key| key.eq_ignore_ascii_case(name)).map_or_else(|| name.to_owned(), Clone::clone)
}
