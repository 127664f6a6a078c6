//! The JSON schemas in `schema/`, with the messages of the function.

use std::fs;

use jsonschema::Validator;
use serde_json::{Map, Value, json};
use superoffice_webhook::message::MessageFormat;
use test_support::{SentMessage, project_root};

use crate::entities::samples;
use crate::queue_messages::{FORMATS, bodies, document, message, quarantine_message};
use crate::{payload, payloads};

fn schema(name: &str) -> Value {
    serde_json::from_slice(&fs::read(project_root().join("schema").join(name)).unwrap()).unwrap()
}

fn validator(name: &str) -> Validator {
    jsonschema::draft202012::options().should_validate_formats(true).build(&schema(name)).unwrap()
}

fn event_validator(format: MessageFormat) -> Validator {
    validator(match format {
        MessageFormat::SuperOffice => "superoffice-message.schema.json",
        MessageFormat::CloudEvents => "cloudevents-message.schema.json",
    })
}

/// Returns a message as Lambda passes it to a consumer, with the body parsed if it is JSON.
fn instance(sent: &SentMessage, body: Value) -> Value {
    let attributes = sent.message.attributes.iter().map(|attribute| {
        (attribute.name.to_owned(), json!({"dataType": attribute.data_type, "stringValue": attribute.value}))
    });
    json!({"body": body, "messageAttributes": attributes.collect::<Map<_, _>>()})
}

#[test]
fn every_event_message_is_valid() {
    for format in FORMATS {
        let validator = event_validator(format);
        for (name, body) in bodies() {
            let sent = message(&body, format);
            let instance = instance(&sent, document(&sent.message.body));
            validator.validate(&instance).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
    }
}

#[test]
fn every_quarantine_message_is_valid() {
    let validator = validator("quarantine-message.schema.json");
    for body in [&payload("not-json.txt"), &b"\xff\xfe"[..], "\u{FFFE}".as_bytes(), b"[\x00]", b"{\"Event\":\"\"}"] {
        let sent = quarantine_message(body);
        validator
            .validate(&instance(&sent, sent.message.body.clone().into()))
            .unwrap_or_else(|error| panic!("{error}"));
    }
}

#[test]
fn altered_message_is_invalid() {
    let changes: &[(MessageFormat, &str, Value)] = &[
        (MessageFormat::SuperOffice, "/body/PrimaryKey", json!("994863")),
        (MessageFormat::SuperOffice, "/body/EventId", json!(" ")),
        (MessageFormat::SuperOffice, "/body/Event", json!(null)),
        (MessageFormat::SuperOffice, "/messageAttributes/PrimaryKey/dataType", json!("String")),
        (MessageFormat::SuperOffice, "/messageAttributes/PrimaryKey/stringValue", json!("1e3")),
        (MessageFormat::SuperOffice, "/messageAttributes/Signature/stringValue", json!("c2hvcnQ=")),
        (
            MessageFormat::SuperOffice,
            "/messageAttributes/ContentType/stringValue",
            json!("application/cloudevents+json"),
        ),
        (MessageFormat::SuperOffice, "/messageAttributes/Entity/stringValue", json!("")),
        (MessageFormat::SuperOffice, "/messageAttributes", json!({})),
        (MessageFormat::CloudEvents, "/body/specversion", json!("0.3")),
        (MessageFormat::CloudEvents, "/body/source", json!("urn:superoffice:a b")),
        (MessageFormat::CloudEvents, "/body/type", json!("contact.changed")),
        (MessageFormat::CloudEvents, "/body/time", json!("2026-03-16T08:20:41")),
        (MessageFormat::CloudEvents, "/body/subject", json!("contact")),
        (MessageFormat::CloudEvents, "/body/data/PrimaryKey", json!(null)),
        (MessageFormat::CloudEvents, "/messageAttributes/ContentType/stringValue", json!("application/json")),
    ];
    for (format, pointer, value) in changes {
        let sent = message(payload("contact-changed.json"), *format);
        let mut instance = instance(&sent, document(&sent.message.body));
        let validator = event_validator(*format);
        assert!(validator.is_valid(&instance));
        *instance.pointer_mut(pointer).unwrap() = value.clone();
        assert!(!validator.is_valid(&instance), "{pointer} {value}");
    }
    let sent = quarantine_message(b"\xff\xfe");
    assert!(!validator("quarantine-message.schema.json").is_valid(&instance(&sent, json!("not base64"))));
}

/// The schema of the entities describes the documented bodies, in both formats the content of a message.
#[test]
fn every_documented_event_is_valid_for_its_entity() {
    let validator = validator("entities.schema.json");
    for (_, sample) in samples() {
        validator.validate(&sample.body).unwrap_or_else(|error| panic!("{}: {error}", sample.name));
    }
    for (name, body) in payloads().into_iter().filter(|(name, _)| name.ends_with(".json")) {
        let body: Value = serde_json::from_slice(&body).unwrap();
        validator.validate(&body).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

#[test]
fn column_of_another_type_is_invalid_for_its_entity() {
    let validator = validator("entities.schema.json");
    let mut count = 0;
    for (facts, sample) in samples() {
        let columns = facts.columns.keys().map(|column| facts.spelling(column)).zip(std::iter::repeat("FieldValues"));
        let values = facts.values.iter().map(String::as_str).zip(std::iter::repeat("Values"));
        for (column, part) in columns.chain(values).filter(|(_, part)| sample.body.get(part).is_some()) {
            let mut altered = sample.body.clone();
            altered[part][column] = json!("another text");
            assert!(!validator.is_valid(&altered), "{} {column}", sample.name);
            count += 1;
        }
    }
    assert!(count > 300, "{count}");
}

#[test]
fn both_formats_define_the_same_event() {
    let event = |name| schema(name)["$defs"]["event"].take();
    assert_eq!(event("superoffice-message.schema.json"), event("cloudevents-message.schema.json"));
}
