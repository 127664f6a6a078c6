//! From a signed body to a queue message and back to an event, in both formats, and what `schema/` says of the messages.

#![cfg(feature = "lambda")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by it")]

use std::fs;
use std::path::Path;

use aws_sdk_sqs::types::{Message, MessageAttributeValue};
use jsonschema::Validator;
use serde_json::{Value, json};
use superoffice_webhook::contact::{ContactEvent, ContactEventKind};
use superoffice_webhook::delivery::{QueuedEvent, quarantined_body, read, read_verified};
use superoffice_webhook::event::{Event, EventHead};
use superoffice_webhook::field::DateTime;
use superoffice_webhook::message::{MessageFormat, QueueMessage};
use superoffice_webhook::signature::{Secret, VerifiedBody, Verifier};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const FORMATS: [MessageFormat; 2] = [MessageFormat::SuperOffice, MessageFormat::CloudEvents];

fn secret() -> Secret {
    Secret::new("s3cret").unwrap()
}

fn verifier() -> Verifier {
    Verifier::new(secret())
}

fn verified(body: &[u8]) -> VerifiedBody {
    verifier().verify(body.to_vec(), [secret().sign(body).to_string()]).unwrap()
}

fn message(body: &[u8], format: MessageFormat) -> QueueMessage {
    let event = Event::parse(verified(body)).map_err(|(reason, _)| reason).unwrap();
    let primary_key = event.head().primary_key.unwrap();
    QueueMessage::for_event(event, primary_key, format).unwrap()
}

fn quarantine_message(body: &[u8]) -> QueueMessage {
    let (reason, body) = Event::parse(verified(body)).unwrap_err();
    QueueMessage::for_quarantine(body, &reason).unwrap()
}

fn attribute<'m>(message: &'m QueueMessage, name: &str) -> Option<&'m str> {
    message.attributes.iter().find(|attribute| attribute.name == name).map(|attribute| attribute.value.as_str())
}

fn read_back(message: &QueueMessage) -> QueuedEvent {
    let event = read(&message.body, |name| attribute(message, name)).unwrap();
    assert_eq!(read(&message.body, |_| None).unwrap(), event, "the format is recognised without attributes");
    let verified = read_verified(&message.body, |name| attribute(message, name), &verifier()).unwrap();
    assert_eq!(head(&verified), head(&event));
    verified
}

fn head(event: &QueuedEvent) -> &EventHead {
    &event.event().head
}

fn contact(event: QueuedEvent) -> ContactEvent {
    match event {
        QueuedEvent::Contact(contact) => contact,
        QueuedEvent::Other(event) => panic!("not a contact's: {event:?}"),
    }
}

fn payload(name: &str) -> Vec<u8> {
    fs::read(Path::new(ROOT).join("events/payloads").join(name)).unwrap()
}

fn payloads() -> Vec<(String, Vec<u8>)> {
    let files = fs::read_dir(Path::new(ROOT).join("events/payloads")).unwrap();
    files
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .map(|name| (name.clone(), payload(&name)))
        .collect()
}

/// Bodies that are forwarded, and that a reader can go wrong on.
fn bodies() -> Vec<(String, Vec<u8>)> {
    let odd = [
        " \t\r\n{\"Event\":\"contact.created\",\"EventId\":\"1\",\"PrimaryKey\":21}\r\n\n",
        "{\"Event\":\"contact.created\",\"EventId\":\"1\",\"PrimaryKey\":21,\"a\":\"}\",\"data\":{\"specversion\":\"1.0\"}}",
        "{\"Event\":\"contact.created\",\"EventId\":\"1\",\"PrimaryKey\":21,\"specversion\":\"1.0\"}",
        "{\"Event\":\"contact.created\",\"EventId\":\"\u{FFFE}\u{FFFF}\",\"PrimaryKey\":21,\"\u{FFFF}\":\"\\\\\u{FFFE}\"}",
        r#"{"Event":"contact.created","EventId":"1","PrimaryKey":21,"a":"\ufffe\\ufffe"}"#,
        r#"{"Event":"x","EventId":"1","PrimaryKey":-9223372036854775808,"n":123456789012345678901234567890.10}"#,
        r#"{"Event":"a.b.c","EventId":"é ü","PrimaryKey":0,"ContextIdentifier":"Kunde №1/ö","Timestamp":"yesterday"}"#,
        r#"{"Event":"sale.created","Event":"contact.changed","EventId":"1","EventId":"2","PrimaryKey":1,"PrimaryKey":2}"#,
        r#"{"Event":"c.d","EventId":"1","PrimaryKey":1,"Entity":1,"Changes":1,"Values":1,"FieldValues":1,"WebhookName":[]}"#,
    ];
    let sample = payloads().into_iter().filter(|(name, _)| !["not-json.txt", "test.json"].contains(&name.as_str()));
    sample.chain(odd.map(|body| (body.to_owned(), body.into()))).collect()
}

fn schema(name: &str) -> Value {
    let file = Path::new(ROOT).join("schema").join(name);
    serde_json::from_slice(&fs::read(file).unwrap()).unwrap()
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

/// The message as Lambda hands it to a consumer, its body parsed where that is JSON.
fn instance(message: &QueueMessage, body: Value) -> Value {
    let attributes = message.attributes.iter().map(|attribute| {
        (attribute.name.to_owned(), json!({"dataType": attribute.data_type, "stringValue": attribute.value}))
    });
    json!({"body": body, "messageAttributes": attributes.collect::<serde_json::Map<_, _>>()})
}

#[test]
fn every_message_is_read_back_as_what_was_sent() {
    for (name, body) in bodies() {
        let [in_superoffice, in_cloudevents] = FORMATS.map(|format| read_back(&message(&body, format)));
        assert_eq!(in_superoffice, in_cloudevents, "{name}");
        let sent: Value = serde_json::from_slice(&body).unwrap();
        let fields = &in_superoffice.event().fields;
        for (field, value) in sent.as_object().unwrap() {
            let read: Value = serde_json::from_str(fields.get(field).unwrap().json()).unwrap();
            assert_eq!(&read, value, "{name}: {field}");
        }
    }
}

#[test]
fn a_message_of_the_aws_sdk_is_read() {
    for format in FORMATS {
        let queued = message(&payload("contact-changed.json"), format);
        let mut received = Message::builder().body(&queued.body);
        for attribute in &queued.attributes {
            let value = MessageAttributeValue::builder().data_type(attribute.data_type).string_value(&attribute.value);
            received = received.message_attributes(attribute.name, value.build().unwrap());
        }
        let message = received.build();
        let body = message.body().unwrap_or_default();
        let attribute = |name: &str| message.message_attributes()?.get(name)?.string_value();
        assert_eq!(read(body, attribute).unwrap(), read_back(&queued));
        assert_eq!(read_verified(body, attribute, &verifier()).unwrap(), read_back(&queued));
    }
}

/// Cuts and changes at every character of real messages: the reader never panics, and never takes another event for a
/// signed one.
#[test]
fn a_damaged_message_is_never_read_as_a_signed_one() {
    for format in FORMATS {
        let message = message(&payload("contact-changed-unicode.json"), format);
        let undamaged = read_back(&message);
        for at in (0..message.body.len()).filter(|&at| message.body.is_char_boundary(at)) {
            let (before, after) = message.body.split_at(at);
            let damaged =
                [before.to_owned(), after.to_owned(), format!("{before}\\{after}"), format!("{before}é{after}")];
            for body in damaged {
                for content_type in [None, attribute(&message, "ContentType")] {
                    let attribute = |name: &str| match name {
                        "ContentType" => content_type,
                        _ => attribute(&message, name),
                    };
                    let _ = read(&body, attribute);
                    // Around a CloudEvents event's data, nothing is signed, and nothing is read.
                    if let Ok(event) = read_verified(&body, attribute, &verifier()) {
                        assert_eq!(event, undamaged, "{body}");
                    }
                }
            }
        }
    }
}

#[test]
fn an_altered_message_is_not_read_by_who_checks_its_signature() {
    for format in FORMATS {
        let message = message(&payload("contact-changed.json"), format);
        let altered = message.body.replace("12.50", "12.5");
        assert_ne!(altered, message.body);
        let error = read_verified(&altered, |name| attribute(&message, name), &verifier()).unwrap_err();
        assert_eq!(error.to_string(), "signature mismatch");
    }
}

#[test]
fn a_changed_contact_has_its_types() {
    for format in FORMATS {
        let event = contact(read_back(&message(&payload("contact-changed.json"), format)));
        assert_eq!(event.kind(), &ContactEventKind::Changed);
        assert_eq!((event.contact_id(), event.tenant()), (994_863, Some("Cust12345")));
        assert!(event.changed("category_idx") && event.changed("x_loyalty_tier") && !event.changed("country_id"));
        assert_eq!((event.category_idx(), event.country_id(), event.deleted()), (Some(5), Some(578), Some(false)));
        assert_eq!(event.deleted_date(), None);
        assert_eq!(event.registered(), Some(DateTime::Local("2026-03-16T09:14:22".parse().unwrap())));
        assert_eq!(event.updated(), Some(DateTime::PointInTime("2026-03-16T08:20:41.6812131Z".parse().unwrap())));
        assert_eq!(event.event().occurred_at(), Some("2026-03-16T08:20:41.6812131Z".parse().unwrap()));
        assert_eq!(event.event().changed_by_associate_id, Some(117));
        assert_eq!(event.event().column("x_loyalty_tier").unwrap().integer(), Some(6));
        assert_eq!(event.event().column("x_discount").unwrap().json(), "12.50");
    }
}

#[test]
fn a_deleted_contact_is_read_from_newer_and_older_servers() {
    for format in FORMATS {
        let soft = contact(read_back(&message(&payload("contact-softdeleted.json"), format)));
        assert_eq!((soft.kind(), soft.deleted()), (&ContactEventKind::SoftDeleted, Some(true)));
        assert_eq!(soft.deleted_date(), Some(DateTime::Local("2026-03-16T12:02:09".parse().unwrap())));
        let gone = contact(read_back(&message(&payload("contact-deleted.json"), format)));
        assert_eq!((gone.kind(), gone.associate_id()), (&ContactEventKind::Deleted, Some(103)));
        assert_eq!(gone.changes(), [""; 0]);
        let sale = read_back(&message(&payload("sale-created.json"), format));
        assert!(matches!(sale, QueuedEvent::Other(_)), "{sale:?}");
    }
}

#[test]
fn a_quarantined_body_comes_back_and_its_message_is_what_the_schema_says() {
    let validator = validator("quarantine-message.schema.json");
    let bodies = [
        payload("not-json.txt"),
        b"\xff\xfe".to_vec(),
        "\u{FFFE}".into(),
        b"[\x00]".to_vec(),
        b"{\"Event\":\"\"}".to_vec(),
    ];
    for body in bodies {
        let message = quarantine_message(&body);
        assert_eq!(quarantined_body(&message.body, attribute(&message, "Encoding")).unwrap(), body);
        validator.validate(&instance(&message, message.body.clone().into())).map_err(|e| e.to_string()).unwrap();
    }
}

#[test]
fn every_message_is_what_the_schemas_say() {
    for format in FORMATS {
        let validator = event_validator(format);
        for (name, body) in bodies() {
            let message = message(&body, format);
            let instance = instance(&message, serde_json::from_str(&message.body).unwrap());
            validator.validate(&instance).map_err(|e| format!("{name}: {e}")).unwrap();
        }
    }
}

#[test]
fn the_schemas_refuse_what_the_function_never_writes() {
    let changes: &[(MessageFormat, &str, Value)] = &[
        (FORMATS[0], "/body/PrimaryKey", json!("994863")),
        (FORMATS[0], "/body/EventId", json!(" ")),
        (FORMATS[0], "/body/Event", json!(null)),
        (FORMATS[0], "/messageAttributes/PrimaryKey/dataType", json!("String")),
        (FORMATS[0], "/messageAttributes/PrimaryKey/stringValue", json!("1e3")),
        (FORMATS[0], "/messageAttributes/Signature/stringValue", json!("c2hvcnQ=")),
        (FORMATS[0], "/messageAttributes/ContentType/stringValue", json!("application/cloudevents+json")),
        (FORMATS[0], "/messageAttributes/Entity/stringValue", json!("")),
        (FORMATS[0], "/messageAttributes", json!({})),
        (FORMATS[1], "/body/specversion", json!("0.3")),
        (FORMATS[1], "/body/source", json!("urn:superoffice:a b")),
        (FORMATS[1], "/body/type", json!("contact.changed")),
        (FORMATS[1], "/body/time", json!("2026-03-16T08:20:41")),
        (FORMATS[1], "/body/subject", json!("contact")),
        (FORMATS[1], "/body/data/PrimaryKey", json!(null)),
        (FORMATS[1], "/messageAttributes/ContentType/stringValue", json!("application/json")),
    ];
    for (format, pointer, value) in changes {
        let message = message(&payload("contact-changed.json"), *format);
        let mut instance = instance(&message, serde_json::from_str(&message.body).unwrap());
        let validator = event_validator(*format);
        assert!(validator.is_valid(&instance));
        *instance.pointer_mut(pointer).unwrap() = value.clone();
        assert!(!validator.is_valid(&instance), "{pointer} {value}");
    }
    let message = quarantine_message(b"\xff\xfe");
    assert!(!validator("quarantine-message.schema.json").is_valid(&instance(&message, json!("not base64"))));
}

#[test]
fn both_formats_have_the_same_event_in_them() {
    let event = |name| schema(name)["$defs"]["event"].take();
    assert_eq!(event("superoffice-message.schema.json"), event("cloudevents-message.schema.json"));
}
