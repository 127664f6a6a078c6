//! The properties that a registration asks for, and those that differ from it.

use secrecy::ExposeSecret;
use serde_json::{Value, json};

use super::Desired;
use crate::webhooks::{PropertyChange, State, Webhook};

/// The names and numbers of the flags in `NotifyWhen` and `NotifyVia`.
const FIRST_FAILURE: (&str, u64) = ("FirstFailure", 1);
const EMAIL: (&str, u64) = ("Email", 1);

pub(super) fn new_webhook(name: &str, events: &[String], desired: &Desired) -> Value {
    let mut body = json!({
        "Name": name,
        "Events": events,
        "TargetUrl": desired.url,
        "Secret": desired.secret.expose_secret(),
        "State": State::Active.as_str(),
        "Type": "webhook",
    });
    if let Some(first) = desired.errors_emails.first() {
        // The single address of older servers, and the list that replaced it.
        body["ErrorsEmail"] = json!(first);
        body["ErrorEmails"] = json!(desired.errors_emails);
    }
    if desired.notify_first_failure {
        body["NotifyWhen"] = json!("FirstFailure, Disabling");
        body["NotifyVia"] = json!("Email");
    }
    body
}

/// Returns the properties to change.
pub(super) fn differences(existing: &Webhook, name: &str, events: &[String], desired: &Desired) -> Vec<PropertyChange> {
    let mut changes = Vec::new();
    let mut change = |name: &'static str, new: Value| {
        changes.push(PropertyChange { name, old: Some(existing.get(name).cloned().unwrap_or_default()), new });
    };
    if desired.name.is_some() && existing.name() != name {
        change("Name", json!(name));
    }
    let has = |event: &String| existing.events().any(|name| name.eq_ignore_ascii_case(event));
    if existing.events().count() != events.len() || !events.iter().all(has) {
        change("Events", json!(events));
    }
    if let Some(first) = desired.errors_emails.first() {
        if !existing.has("ErrorEmails") {
            if existing.text("ErrorsEmail") != Some(first) {
                change("ErrorsEmail", json!(first));
            }
        } else if existing.get("ErrorEmails") != Some(&json!(desired.errors_emails)) {
            change("ErrorEmails", json!(desired.errors_emails));
        }
    }
    for (name, flag) in [("NotifyWhen", FIRST_FAILURE), ("NotifyVia", EMAIL)] {
        // Older servers have no such settings.
        if desired.notify_first_failure && existing.has(name) {
            let old = existing.get(name).cloned().unwrap_or_default();
            let new = with_flag(&old, flag);
            if new != old {
                change(name, new);
            }
        }
    }
    let secret = json!(desired.secret.expose_secret());
    if existing.secret() != Some(desired.secret.expose_secret()) {
        changes.push(PropertyChange {
            name: "Secret",
            old: existing.secret().map(|secret| json!(secret)),
            new: secret,
        });
    }
    changes
}

/// Adds a flag to names that are joined by commas, or to a number.
fn with_flag(flags: &Value, (name, number): (&str, u64)) -> Value {
    if let Some(flags) = flags.as_u64() {
        return json!(flags | number);
    }
    let text = flags.as_str().unwrap_or_default();
    let names = text.split(',').map(str::trim).filter(|name| !name.is_empty() && !name.eq_ignore_ascii_case("None"));
    if names.clone().any(|flag| flag.eq_ignore_ascii_case(name)) {
        return flags.clone();
    }
    json!(std::iter::once(name).chain(names).collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn webhook(properties: Value) -> Webhook {
        Webhook::read(properties).unwrap()
    }

    fn changes(existing: &Value, name: &str, events: &[String], desired: &Desired) -> Vec<String> {
        differences(&webhook(existing.clone()), name, events, desired).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn differences_are_limited_to_what_was_asked_for() {
        let desired = Desired::new("https://host/webhook", "s".into());
        let events = ["contact.created".to_owned(), "contact.changed".to_owned()];
        let mut existing = json!({
            "WebhookId": 1, "Name": "by hand", "Events": ["Contact.Changed", "contact.created"], "Secret": "s",
            "ErrorsEmail": "kept@example.com", "NotifyWhen": "None",
        });
        assert_eq!(changes(&existing, "n", &events, &desired), [""; 0]);

        let desired = Desired {
            name: Some("n".into()),
            secret: "t".into(),
            errors_emails: vec!["a@example.com".into()],
            notify_first_failure: true,
            ..desired
        };
        assert_eq!(
            changes(&existing, "n", &events[..1], &desired),
            [
                r#"Name: "by hand" -> "n""#,
                r#"Events: ["Contact.Changed","contact.created"] -> ["contact.created"]"#,
                r#"ErrorsEmail: "kept@example.com" -> "a@example.com""#,
                r#"NotifyWhen: "None" -> "FirstFailure""#,
                "Secret: replaced",
            ]
        );

        existing["Name"] = json!("n");
        existing["ErrorEmails"] = Value::Null;
        existing["NotifyWhen"] = json!("FirstFailure, Disabling");
        existing["Secret"] = json!("");
        assert_eq!(
            changes(&existing, "n", &events, &desired),
            [
                r#"ErrorEmails: null -> ["a@example.com"]"#,
                "Secret: written again, because SuperOffice does not return it",
            ]
        );
        existing["ErrorEmails"] = json!(["a@example.com"]);
        existing["Secret"] = json!("t");
        assert_eq!(changes(&existing, "n", &events, &desired), [""; 0]);
    }

    #[test]
    fn flag_is_added_to_names_and_numbers() {
        for (flags, expected) in [
            (json!("Disabling"), json!("FirstFailure, Disabling")),
            (json!("disabling,firstfailure"), json!("disabling,firstfailure")),
            (json!("None"), json!("FirstFailure")),
            (Value::Null, json!("FirstFailure")),
            (json!(2), json!(3)),
            (json!(1), json!(1)),
        ] {
            assert_eq!(with_flag(&flags, FIRST_FAILURE), expected);
        }
    }
}
