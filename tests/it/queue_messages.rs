//! Queue messages: from a signed request to a message and back to an event, in both formats.

use aws_sdk_sqs::types::{Message, MessageAttributeValue};
use futures_util::FutureExt;
use serde_json::Value;
use superoffice_webhook::function::EventFilter;
use superoffice_webhook::message::MessageFormat;
use superoffice_webhook::{ContactEvent, ContactEventKind, DateTime, QueuedEvent, Secret, Verifier};
use test_support::{Delivery, Function, SentMessage, WebhookRequest, sign};

use crate::{payload, payloads};

pub(crate) const FORMATS: [MessageFormat; 2] = [MessageFormat::SuperOffice, MessageFormat::CloudEvents];

fn verifier() -> Verifier {
    Verifier::new(Secret::new(Function::SECRET).unwrap())
}

fn deliver(body: &[u8], format: MessageFormat) -> Delivery {
    let function = Function::with(|handler| {
        handler.format = format;
        handler.filter = "*".parse::<EventFilter>().unwrap();
    });
    let request = WebhookRequest::signed(body, Function::SECRET);
    function.invoke(&request.http_api()).now_or_never().unwrap()
}

/// Returns the message for an event.
#[track_caller]
pub(crate) fn message(body: impl AsRef<[u8]>, format: MessageFormat) -> SentMessage {
    let delivery = deliver(body.as_ref(), format);
    let message = delivery.message();
    assert_eq!(message.queue, "events", "{}", delivery.log);
    message.clone()
}

/// Returns the message for a malformed body.
#[track_caller]
pub(crate) fn quarantine_message(body: &[u8]) -> SentMessage {
    let delivery = deliver(body, MessageFormat::default());
    let message = delivery.message();
    assert_eq!(message.queue, "quarantine", "{}", delivery.log);
    message.clone()
}

/// Returns bodies that are forwarded and difficult to encode or decode, by name.
pub(crate) fn bodies() -> Vec<(String, Vec<u8>)> {
    let difficult = [
        " \t\r\n{\"Event\":\"contact.created\",\"EventId\":\"1\",\"PrimaryKey\":21}\r\n\n",
        "{\"Event\":\"contact.created\",\"EventId\":\"1\",\"PrimaryKey\":21,\"a\":\"}\",\"data\":{\"specversion\":\"1.0\"}}",
        "{\"Event\":\"contact.created\",\"EventId\":\"1\",\"PrimaryKey\":21,\"specversion\":\"1.0\"}",
        "\u{FEFF} {\"Event\":\"contact.created\",\"EventId\":\"1\",\"PrimaryKey\":21,\"\u{FEFF}\":\"\\\\ufffe\"}",
        r#"{"Event":"contact.created","EventId":"\ufffe","PrimaryKey":21,"a":"\uFFFF\\ufffe"}"#,
        r#"{"Event":"x","EventId":"1","PrimaryKey":-9223372036854775808,"n":123456789012345678901234567890.10}"#,
        r#"{"Event":"a.b.c","EventId":"é ü","PrimaryKey":0,"ContextIdentifier":"Kunde №1/ö","Timestamp":"yesterday"}"#,
        r#"{"Event":"sale.created","Event":"contact.changed","EventId":"1","EventId":"2","PrimaryKey":1,"PrimaryKey":2}"#,
        r#"{"Event":"c.d","EventId":"1","PrimaryKey":1,"Entity":1,"Changes":1,"Values":1,"FieldValues":1,"WebhookName":[]}"#,
    ];
    let samples = payloads().into_iter().filter(|(name, _)| !["not-json.txt", "test.json"].contains(&name.as_str()));
    samples.chain(difficult.map(|body| (body.to_owned(), body.into()))).collect()
}

/// Parses a document as a consumer does: without the byte order mark, which JSON libraries reject.
pub(crate) fn document(text: &str) -> Value {
    serde_json::from_str(text.trim_start_matches('\u{FEFF}')).unwrap()
}

/// Decodes a message, with and without verification.
pub(crate) fn decode(sent: &SentMessage) -> QueuedEvent {
    let body = &sent.message.body;
    let event = QueuedEvent::from_message(body, |name| sent.attribute(name)).unwrap();
    assert_eq!(QueuedEvent::from_message(body, |_| None).unwrap(), event, "without attributes");
    let verified = QueuedEvent::from_message_verified(body, |name| sent.attribute(name), &verifier()).unwrap();
    assert_eq!(verified.event().metadata(), event.event().metadata());
    verified
}

fn decode_contact(sent: &SentMessage) -> ContactEvent {
    match decode(sent) {
        QueuedEvent::Contact(contact) => contact,
        other => panic!("not a contact event: {other:?}"),
    }
}

#[test]
fn every_message_decodes_to_the_sent_event() {
    for (name, body) in bodies() {
        let [superoffice, cloudevents] = FORMATS.map(|format| decode(&message(&body, format)));
        assert_eq!(superoffice, cloudevents, "{name}");
        let sent = document(str::from_utf8(&body).unwrap());
        let fields = superoffice.event().fields();
        for (field, value) in sent.as_object().unwrap() {
            let decoded: Value = serde_json::from_str(fields.get(field).unwrap().json()).unwrap();
            assert_eq!(&decoded, value, "{name}: {field}");
        }
    }
}

#[test]
fn superoffice_message_contains_the_body_byte_for_byte() {
    let head = r#""Event":"contact.changed","EventId":"e","PrimaryKey":1"#;
    for body in [
        "{\r\n\t \"Event\" :\"contact.changed\" ,\n\n\"EventId\":\"e\",\"PrimaryKey\"\t:  1 }".to_owned(),
        format!("{{{head}}}\r\n"),
        format!(
            r#"{{{head},"a":1.50,"b":1E+2,"c":-0,"d":12345678901234567890123,"e":1e400,"f":0.1000000000000000055}}"#
        ),
        format!(r#"{{{head},"FieldValues":{{"ContactId":"21","x":"[I:6]","y":"[DT:09/16/2025 14:22:14]"}}}}"#),
        format!(r#"{{{head},"New":{{"deep":[[[{{"er":null}}]]]}},"":0,"PrimaryKey2":true}}"#),
        format!(r#"{{{head},"x":1,"x":2}}"#),
        format!(r#"{{{head},"Changes":"name","FieldValues":[],"Timestamp":5,"WebhookName":{{}},"Entity":[]}}"#),
        format!(r#"{{{head},"x":"\u00e5\/\"\\\b\f\n\r\t\u0000\ud83e\uded0"}}"#),
        format!(r#"{{{head},"x":"\ud800","\udc00":1}}"#),
        format!("{{{head},\"x\":\"æøå Ærlig 北海道 🫐 e\u{301} \u{200f}\u{2028}\u{2029}\u{feff}\u{7f}\u{85}\"}}"),
        format!("{{{head}}}"),
    ] {
        let sent = message(&body, MessageFormat::SuperOffice);
        assert_eq!(sent.message.body, body);
        assert_eq!(sent.attribute("Signature"), Some(sign(&sent.message.body, Function::SECRET).as_str()));
        let cloud_event = message(&body, MessageFormat::CloudEvents).message.body;
        assert!(cloud_event.ends_with(&format!(r#","data":{body}}}"#)), "{cloud_event}");
    }
}

#[test]
fn attributes_come_from_the_signed_body_and_not_from_headers() {
    let request = WebhookRequest::signed(payload("contact-changed.json"), Function::SECRET)
        .header("X-SuperOffice-Event", "contact.deleted")
        .header("X-SuperOffice-EventId", "forged");
    let delivery = Function::new().invoke(&request.http_api()).now_or_never().unwrap();
    assert_eq!(
        delivery.message().message,
        message(payload("contact-changed.json"), MessageFormat::SuperOffice).message
    );
    assert_eq!(delivery.message().attribute("Event"), Some("contact.changed"));
}

#[test]
fn message_received_with_the_aws_sdk_is_decoded() {
    for format in FORMATS {
        let sent = message(payload("contact-changed.json"), format);
        let mut received = Message::builder().body(&sent.message.body);
        for attribute in &sent.message.attributes {
            let value = MessageAttributeValue::builder().data_type(attribute.data_type).string_value(&attribute.value);
            received = received.message_attributes(attribute.name, value.build().unwrap());
        }
        let received = received.build();
        let body = received.body().unwrap_or_default();
        let attribute = |name: &str| received.message_attributes()?.get(name)?.string_value();
        assert_eq!(QueuedEvent::from_message(body, attribute).unwrap(), decode(&sent));
        assert_eq!(QueuedEvent::from_message_verified(body, attribute, &verifier()).unwrap(), decode(&sent));
    }
}

/// Cuts and changes messages at every character. Decoding never panics, and verified decoding never returns an event
/// that was not signed.
#[test]
fn damaged_message_never_decodes_to_another_verified_event() {
    for format in FORMATS {
        let sent = message(payload("contact-changed-unicode.json"), format);
        let (body, undamaged) = (&sent.message.body, decode(&sent));
        for at in (0..body.len()).filter(|&at| body.is_char_boundary(at)) {
            let (before, after) = body.split_at(at);
            let damaged =
                [before.to_owned(), after.to_owned(), format!("{before}\\{after}"), format!("{before}é{after}")];
            for body in damaged {
                for content_type in [None, sent.attribute("ContentType")] {
                    let attribute = |name: &str| match name {
                        "ContentType" => content_type,
                        _ => sent.attribute(name),
                    };
                    let _ = QueuedEvent::from_message(&body, attribute);
                    // Members of a CloudEvents event other than `data` are neither signed nor decoded.
                    if let Ok(event) = QueuedEvent::from_message_verified(&body, attribute, &verifier()) {
                        assert_eq!(event, undamaged, "{body}");
                    }
                }
            }
        }
    }
}

#[test]
fn columns_of_a_changed_contact_have_their_types() {
    for format in FORMATS {
        let contact = decode_contact(&message(payload("contact-changed.json"), format));
        assert_eq!(contact.kind(), &ContactEventKind::Changed);
        assert_eq!((contact.contact_id(), contact.tenant()), (994_863, Some("Cust12345")));
        assert!(contact.changed("category_idx") && contact.changed("x_loyalty_tier") && !contact.changed("country_id"));
        assert_eq!(
            (contact.category_idx(), contact.country_id(), contact.deleted()),
            (Some(5), Some(578), Some(false))
        );
        assert_eq!(contact.deleted_date(), None);
        assert_eq!(contact.registered(), Some(DateTime::Local("2026-03-16T09:14:22".parse().unwrap())));
        let timestamp = "2026-03-16T08:20:41.6812131Z".parse().unwrap();
        assert_eq!(contact.updated(), Some(DateTime::PointInTime(timestamp)));
        let event = contact.event();
        assert_eq!((event.occurred_at(), event.changed_by_associate_id()), (Some(timestamp), Some(117)));
        assert_eq!(event.column("x_loyalty_tier").unwrap().integer(), Some(6));
        assert_eq!(event.column("x_discount").unwrap().json(), "12.50");
    }
}

#[test]
fn deleted_contact_is_decoded_from_newer_and_older_servers() {
    for format in FORMATS {
        let newer = decode_contact(&message(payload("contact-softdeleted.json"), format));
        assert_eq!((newer.kind(), newer.deleted()), (&ContactEventKind::SoftDeleted, Some(true)));
        assert_eq!(newer.deleted_date(), Some(DateTime::Local("2026-03-16T12:02:09".parse().unwrap())));
        let older = decode_contact(&message(payload("contact-deleted.json"), format));
        assert_eq!((older.kind(), older.associate_id()), (&ContactEventKind::Deleted, Some(103)));
        assert_eq!(older.changes(), [""; 0]);
        let sale = decode(&message(payload("sale-created.json"), format));
        assert!(matches!(sale, QueuedEvent::Other(_)), "{sale:?}");
    }
}
