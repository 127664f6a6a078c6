//! A webhook, and the carrier that SuperOffice reads and writes.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::error::Refusal;
use crate::mode::{Mode, States, Version};
use crate::patch::lookup;
use crate::times::Times;

/// The states, in order of their numbers.
const STATES: [&str; 4] = ["Unknown", "Active", "Stopped", "TooManyErrors"];
/// Names of the flags 1 and 2.
const NOTIFY_VIA: [&str; 2] = ["Email", "InApp"];
const NOTIFY_WHEN: [&str; 2] = ["FirstFailure", "Disabling"];
/// The properties that version 12.0.342 added.
const NEW_PROPERTIES: [&str; 5] = ["ErrorEmails", "ErrorAssociates", "Description", "NotifyVia", "NotifyWhen"];

/// A webhook with its counters.
#[derive(Clone, Debug)]
pub struct Webhook {
    /// The id.
    pub id: i64,
    /// The properties that a client can write, all of them.
    pub properties: Map<String, Value>,
    /// The number of deliveries.
    pub total_calls: u64,
    /// The number of failed attempts.
    pub total_errors: u64,
    /// The number of failed attempts since the last success.
    pub consecutive_errors: u64,
    /// The headers and the body of the last response that was not 200.
    pub last_error: Option<String>,
    pub(crate) last_event: Option<Timestamp>,
    pub(crate) registered: Timestamp,
    pub(crate) updated: Option<Timestamp>,
}

impl Webhook {
    pub(crate) fn new(id: i64, properties: Map<String, Value>, registered: Timestamp) -> Self {
        let (total_calls, total_errors, consecutive_errors) = (0, 0, 0);
        let (last_error, last_event, updated) = (None, None, None);
        Self {
            id,
            properties,
            total_calls,
            total_errors,
            consecutive_errors,
            last_error,
            last_event,
            registered,
            updated,
        }
    }

    /// Returns a property that is text.
    pub fn text(&self, name: &str) -> &str {
        self.properties.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    /// Returns the state.
    pub fn state(&self) -> &str {
        self.text("State")
    }

    /// Returns the names of the events.
    pub fn events(&self) -> Vec<&str> {
        let events = self.properties.get("Events").and_then(Value::as_array);
        events.into_iter().flatten().filter_map(Value::as_str).collect()
    }

    pub(crate) fn listens_to(&self, event: &str) -> bool {
        self.events().iter().any(|name| name.eq_ignore_ascii_case(event))
    }

    pub(crate) fn is_subscribed(&self, event: &str) -> bool {
        self.state() == "Active" && self.listens_to(event)
    }

    /// Returns the time of the last change.
    pub(crate) fn changed(&self) -> Timestamp {
        self.updated.unwrap_or(self.registered)
    }

    /// Returns the whole carrier.
    pub(crate) fn view(&self, mode: &Mode, times: &Times) -> Map<String, Value> {
        let mut view = self.properties.clone();
        let associate = json!({"AssociateId": 5, "Name": "ADM", "FullName": "Ada Admin", "Deleted": false});
        let updated_associate = if self.updated.is_some() { associate.clone() } else { Value::Null };
        view.extend([
            ("WebhookId".to_owned(), json!(self.id)),
            ("Registered".to_owned(), times.write(Some(self.registered))),
            ("RegisteredAssociate".to_owned(), associate),
            ("Updated".to_owned(), times.write(self.updated)),
            ("UpdatedAssociate".to_owned(), updated_associate),
        ]);
        if mode.version == Version::Current {
            view.extend([
                ("TotalCalls".to_owned(), json!(self.total_calls)),
                ("TotalErrors".to_owned(), json!(self.total_errors)),
                ("ConsecutiveErrors".to_owned(), json!(self.consecutive_errors)),
                ("LastError".to_owned(), json!(self.last_error)),
            ]);
        } else {
            view.retain(|name, _| !NEW_PROPERTIES.contains(&name.as_str()));
        }
        if mode.hides_secrets {
            view.insert("Secret".into(), json!(""));
        }
        if mode.states == States::Numbers {
            view.insert("State".into(), self.state_number());
        }
        view
    }

    /// Returns the carrier that a JSON Patch applies to.
    pub(crate) fn patched(&self, mode: &Mode) -> Value {
        let mut properties = self.properties.clone();
        if mode.states != States::Names {
            properties.insert("State".into(), self.state_number());
        }
        Value::Object(properties)
    }

    fn state_number(&self) -> Value {
        json!(STATES.iter().position(|name| *name == self.state()))
    }
}

/// Reads a state that a client wrote.
pub(crate) fn state(value: &Value) -> Option<&'static str> {
    let number = value.as_u64().and_then(|number| usize::try_from(number).ok());
    match value.as_str() {
        Some(text) => STATES.into_iter().find(|name| name.eq_ignore_ascii_case(text)),
        None => number.and_then(|number| STATES.get(number).copied()),
    }
}

/// Returns the writable properties with their defaults.
pub(crate) fn defaults() -> Map<String, Value> {
    let defaults = json!({
        "Name": null, "Events": [], "TargetUrl": null, "Secret": null, "State": "Active", "Type": "webhook",
        "Headers": {}, "Properties": {}, "ErrorsEmail": null, "ErrorEmails": [], "ErrorAssociates": [],
        "Description": null, "NotifyVia": "None", "NotifyWhen": "None",
    });
    let Value::Object(defaults) = defaults else { unreachable!("the defaults are an object") };
    defaults
}

/// Reads a carrier, whatever the case of its names. Absent properties have their defaults; unknown and read-only ones
/// have no effect.
pub(crate) fn read(carrier: &Map<String, Value>) -> Result<Map<String, Value>, Refusal> {
    let mut properties = defaults();
    for (name, stored) in &mut properties {
        if let Some(value) = lookup(carrier, name) {
            *stored = property(name, value, stored)?;
        }
    }
    Ok(properties)
}

/// Reads the value of one property in any form that SuperOffice accepts.
pub(crate) fn property(name: &str, value: &Value, default: &Value) -> Result<Value, Refusal> {
    let refusal = || Refusal::argument(format!("The value of {name} is invalid: {value}"));
    let read = match (name, value) {
        ("State", value) => return state(value).map(|state| json!(state)).ok_or_else(refusal),
        ("NotifyVia", value) => return flags(value, NOTIFY_VIA).ok_or_else(refusal),
        ("NotifyWhen", value) => return flags(value, NOTIFY_WHEN).ok_or_else(refusal),
        (_, Value::Null) => default_of(default),
        ("Events" | "ErrorEmails", Value::Array(items)) if !items.iter().all(Value::is_string) => return Err(refusal()),
        ("Events" | "ErrorEmails" | "ErrorAssociates", Value::Array(_)) => value.clone(),
        ("Headers" | "Properties", Value::Object(_)) => value.clone(),
        ("Name" | "TargetUrl" | "Secret" | "Type" | "ErrorsEmail" | "Description", Value::String(_)) => value.clone(),
        _ => return Err(refusal()),
    };
    Ok(read)
}

/// Returns the empty value of a property's type.
fn default_of(value: &Value) -> Value {
    match value {
        Value::Array(_) => json!([]),
        Value::Object(_) => json!({}),
        _ => Value::Null,
    }
}

/// Reads flags, names joined by a comma or a number, as SuperOffice writes them.
fn flags(value: &Value, names: [&str; 2]) -> Option<Value> {
    let set = match value {
        Value::Number(number) => {
            let number = number.as_u64().filter(|number| *number < 4)?;
            [number & 1 != 0, number & 2 != 0]
        }
        Value::String(text) => {
            let parts: Vec<&str> = text.split(',').map(str::trim).filter(|part| !part.is_empty()).collect();
            let known = |part: &&str| ["None", names[0], names[1]].iter().any(|name| name.eq_ignore_ascii_case(part));
            parts
                .iter()
                .all(known)
                .then(|| names.map(|name| parts.iter().any(|part| part.eq_ignore_ascii_case(name))))?
        }
        _ => return None,
    };
    let set: Vec<&str> = names.into_iter().zip(set).filter_map(|(name, set)| set.then_some(name)).collect();
    Some(json!(if set.is_empty() { "None".to_owned() } else { set.join(", ") }))
}
