//! The requests of the webhook sender.

use fake_superoffice::{Delivery, Kind, Version};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::TestBed;

fn body(delivery: &Delivery) -> Value {
    serde_json::from_slice(&delivery.body).unwrap()
}

fn header<'a>(delivery: &'a Delivery, name: &str) -> &'a str {
    &delivery.headers.iter().find(|(header, _)| header == name).unwrap().1
}

#[tokio::test]
async fn test_has_the_fields_of_an_event() {
    let bed = TestBed::start().await;
    bed.webhook("contact.changed").await;
    let deliveries = bed.deliveries().await;
    let expected = json!({
        "EventId": "11111111-1111-4111-8111-111111111111", "Timestamp": "2026-11-24T09:00:00.0000000Z",
        "Changes": [], "Event": "test", "Entity": "test", "PrimaryKey": 0, "ContextIdentifier": "Cust12345",
        "ChangedByAssociateId": 5, "WebhookName": "first",
    });
    assert_eq!(body(&deliveries[0]), expected);
    assert_eq!(header(&deliveries[0], "X-Hook-Test"), "true");
}

#[tokio::test]
async fn events_have_values_of_columns_and_two_ids() {
    let bed = TestBed::start().await;
    let webhook = bed.webhook("contact.changed").await;
    bed.superoffice.set_property(webhook, "Events", json!(["contact.created", "contact.deleted", "contact.changed"]));
    bed.superoffice.set_property(webhook, "Properties", json!({"Source": "CRM", "Event": "ignored"}));
    bed.deliveries().await;
    let [destination, source] = [(); 2].map(|()| bed.superoffice.create_contact());
    bed.superoffice.merge_contacts(source, destination);
    let deliveries = bed.deliveries().await;
    let bodies: Vec<Value> = deliveries.iter().map(body).collect();
    let events: Vec<&Value> = bodies.iter().map(|body| &body["Event"]).collect();
    assert_eq!(events, ["contact.created", "contact.created", "contact.deleted", "contact.changed"]);
    assert_eq!(bodies[0]["Timestamp"], "2026-11-24T09:00:00.0000000Z");
    assert_eq!(bodies[0]["FieldValues"]["registered"], "2026-11-24T10:00:00");
    assert_eq!((&bodies[0]["Source"], &bodies[0]["Values"]), (&json!("CRM"), &Value::Null));
    assert_eq!(bodies[2]["Values"], json!({"associate_id": 5, "contact_id": source}));
    assert_ne!(bodies[0]["EventId"], header(&deliveries[0], "X-SuperOffice-EventId"));

    bed.superoffice.set_version(Version::WithoutPatch);
    bed.superoffice.create_contact();
    assert_eq!(body(&bed.deliveries().await[0])["FieldValues"], Value::Null);
}

#[tokio::test]
async fn events_of_a_person_have_its_columns() {
    let bed = TestBed::start().await;
    let contact = bed.superoffice.create_contact();
    let webhook = bed.webhook("person.created").await;
    let endings = ["created", "changed", "softdeleted", "deleted"];
    bed.superoffice.set_property(webhook, "Events", json!(endings.map(|ending| format!("person.{ending}"))));
    bed.deliveries().await;
    let [destination, source] = [(); 2].map(|()| bed.superoffice.create(Kind::Person));
    bed.superoffice.merge(Kind::Person, source, destination);
    bed.superoffice.soft_delete(Kind::Person, destination);
    let bodies: Vec<Value> = bed.deliveries().await.iter().map(body).collect();
    let events = bodies.iter().map(|body| (body["Event"].as_str().unwrap(), body["PrimaryKey"].as_i64().unwrap()));
    let expected = [
        ("person.created", destination),
        ("person.created", source),
        ("person.deleted", source),
        ("person.changed", destination),
        ("person.softdeleted", destination),
    ];
    assert_eq!(events.collect::<Vec<_>>(), expected);
    assert_eq!(bodies[2]["Values"], json!({"associate_id": 5, "contact_id": contact, "person_id": source}));
    let columns = &bodies[4]["FieldValues"];
    assert_eq!(
        [&bodies[4]["Entity"], &columns["person_id"], &columns["contact_id"], &columns["deleted"]],
        [&json!("person"), &json!(destination), &json!(contact), &Value::Null]
    );
    assert_eq!(columns["DeletedDate"], "2026-11-24T10:00:00");
}

#[tokio::test]
async fn data_of_a_signal_reaches_the_delivery() {
    let bed = TestBed::start().await;
    bed.webhook("contact.resync").await;
    bed.deliveries().await;
    bed.send(Method::POST, "/api/v1/Webhook/contact.resync/7", json!({"reason": "manual"})).await;
    let delivered = body(&bed.deliveries().await[0]);
    assert_eq!((&delivered["Event"], &delivered["PrimaryKey"]), (&json!("contact.resync"), &json!(7)));
    assert_eq!(delivered["FieldValues"], json!({"reason": "manual"}));
}
