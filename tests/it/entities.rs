//! Every documented event of every entity, through the function and back.

use std::collections::BTreeSet;

use futures_util::FutureExt;
use serde_json::Value;
use superoffice_webhook::webhook::entity::{ENTITIES, Entity};
use superoffice_webhook::{Fields, WebhookEvent, decode_quarantined_body};
use test_support::entity_events::{EntityEvent, EntityFacts};
use test_support::{Function, WebhookRequest};

use crate::queue_messages::{FORMATS, decode, message, quarantine_message};

/// Returns a body for each documented event, with the facts of its entity.
pub(crate) fn samples() -> Vec<(EntityFacts, EntityEvent)> {
    let of_entity = |facts: EntityFacts| facts.samples().into_iter().map(move |sample| (facts.clone(), sample));
    EntityFacts::all().unwrap().into_iter().flat_map(of_entity).collect()
}

/// Returns other spellings of a column: `alertLevel` as `ALERTLEVEL`, `alertlevel` and `alert_level`.
fn spellings(column: &str) -> [String; 4] {
    let snake = column.chars().flat_map(|c| c.is_ascii_uppercase().then_some('_').into_iter().chain([c])).collect();
    [column.to_owned(), column.to_ascii_uppercase(), column.to_ascii_lowercase().replace('_', ""), snake]
}

/// Checks the values of columns, each by its documented name in every spelling.
fn check_columns<'a>(
    fields: &Fields,
    columns: impl IntoIterator<Item = &'a String>,
    facts: &EntityFacts,
    sent: &Value,
) {
    for column in columns {
        for name in spellings(column) {
            let expected = sent.get(facts.spelling(column)).unwrap_or(&sent[column]).to_string();
            assert_eq!(fields.column(&name).unwrap().json(), expected, "{} {name}", facts.name);
        }
    }
}

/// Checks that every column is read with the type that the table has for it.
fn check_types(event: &WebhookEvent, entity: &Entity) {
    let value = |column: &str| event.field_values().column(column).unwrap();
    for column in entity.integers {
        let value = value(column);
        assert!(value.integer().is_some() || value.is_null(), "{column}");
    }
    for column in entity.booleans {
        assert_eq!(value(column).boolean(), Some(true), "{column}");
    }
    for column in entity.dates {
        let value = value(column);
        assert_eq!(value.date().is_none(), value.is_none(), "{column}");
    }
}

#[test]
fn every_documented_event_is_forwarded_and_read_by_its_documented_names() {
    let mut found = BTreeSet::new();
    let samples = samples();
    for (facts, sample) in &samples {
        let entity = Entity::of_event(&sample.name).unwrap();
        assert_eq!(entity.name, facts.name);
        for format in FORMATS {
            let decoded = decode(&message(sample.body.to_string(), format));
            let event = decoded.event();
            let metadata = event.metadata();
            assert_eq!((metadata.event(), metadata.primary_key()), (sample.name.as_str(), Some(1001)));
            assert_eq!(metadata.entity(), sample.body["Entity"].as_str().unwrap_or("webhook"));
            assert_eq!(event.changes().len(), sample.body["Changes"].as_array().unwrap().len());
            if let Some(values) = sample.body.get("Values") {
                check_columns(event.values(), &facts.values, facts, values);
            }
            if let Some(values) = sample.body.get("FieldValues") {
                check_columns(event.field_values(), facts.columns.keys(), facts, values);
                check_types(event, entity);
            }
        }
        found.insert(entity.name);
    }
    assert_eq!(found, ENTITIES.iter().map(|entity| entity.name).collect::<BTreeSet<_>>());
    assert_eq!(samples.len(), 47 + 3 * 3);
}

#[test]
fn default_filter_forwards_the_events_of_contacts() {
    let mut forwarded = Vec::new();
    for (_, sample) in samples() {
        let request = WebhookRequest::signed(sample.body.to_string(), Function::SECRET);
        let delivery = Function::new().invoke(&request.http_api()).now_or_never().unwrap();
        assert_eq!(delivery.response.status, 200);
        if delivery.sent.is_empty() {
            assert_eq!(delivery.log["outcome"], "ignored");
        } else {
            forwarded.push(sample.name);
        }
    }
    assert_eq!(forwarded, ["contact.created", "contact.changed", "contact.softdeleted", "contact.deleted"]);
}

/// SuperOffice's pages print four payloads with syntax errors, and one without the id of the event.
#[test]
fn documented_payload_is_quarantined_as_printed_and_forwarded_when_corrected() {
    let corrected = |name: &str| {
        let mut sample = samples().into_iter().map(|(_, sample)| sample).find(|sample| sample.name == name).unwrap();
        sample.body.sort_all_objects();
        format!("{:#}", sample.body)
    };
    // (event, text of the correct payload, text of the printed payload)
    for (name, correct, printed) in [
        // reference/contact-events.md: no comma between two columns, and a comma after the last one.
        ("contact.created", "\"category_idx\",\n", "\"category_idx\"\n"),
        ("contact.created", "\"userdef_id\"\n  ],", "\"userdef_id\",\n  ],"),
        // reference/chat-events.md: a comma after the last column.
        ("chatsession.created", "\"UserId\": 112\n", "\"UserId\": 112,\n"),
        ("chatsession.message", "\"UserId\"\n  ],", "\"UserId\",\n  ],"),
        // dev/notification.md: the headers stand before the body.
        ("contact.changed", "{\n", "X-Superoffice-Event: contact.changed\n{\n"),
        // reference/index.md: no EventId.
        ("sale.deleted", "\"EventId\"", "\"Other\""),
    ] {
        let body = corrected(name);
        let as_printed = body.replacen(correct, printed, 1);
        assert_ne!(as_printed, body, "{name}");
        let sent = quarantine_message(as_printed.as_bytes());
        let kept = decode_quarantined_body(&sent.message.body, sent.attribute("Encoding")).unwrap();
        assert_eq!(kept, as_printed.as_bytes());
        for format in FORMATS {
            assert_eq!(decode(&message(&body, format)).event().metadata().event(), name);
        }
    }
}
