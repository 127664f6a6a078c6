//! Batches of messages, as Lambda passes them.

use serde_json::{Value, json};
use superoffice_consumer::Batch;
use superoffice_webhook::webhook::entity::Archive;

/// A kind of queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Queue {
    Fifo,
    Standard,
}

/// Returns the body of an event of a contact.
pub(crate) fn event(tenant: Option<&str>, verb: &str, id: i64) -> String {
    event_of(Archive::CONTACT, tenant, verb, id)
}

/// Returns the body of an event.
pub(crate) fn event_of(archive: &Archive, tenant: Option<&str>, verb: &str, id: i64) -> String {
    let entity = archive.name;
    let mut body = json!({
        "EventId": format!("{verb}-{id}"), "Timestamp": "2026-11-24T08:59:58Z", "Event": format!("{entity}.{verb}"),
        "Entity": entity, "PrimaryKey": id, "Changes": [],
    });
    if let Some(tenant) = tenant {
        body["ContextIdentifier"] = json!(tenant);
    }
    body.to_string()
}

/// Returns a batch of messages: each has an id, a group and a body.
pub(crate) fn batch(queue: Queue, messages: &[(String, String, String)]) -> Batch {
    let arn = match queue {
        Queue::Fifo => "arn:aws:sqs:eu-north-1:123456789012:events.fifo",
        Queue::Standard => "arn:aws:sqs:eu-north-1:123456789012:events",
    };
    let record = |(id, group, body): &(String, String, String)| -> Value {
        json!({
            "messageId": id, "body": body, "eventSourceARN": arn, "attributes": {"MessageGroupId": group},
            "messageAttributes": {},
        })
    };
    let records: Vec<Value> = messages.iter().map(record).collect();
    serde_json::from_value(json!({ "Records": records })).unwrap()
}

/// Returns a batch of bodies on a standard queue, with the ids `0`, `1` and so on.
pub(crate) fn bodies(bodies: &[String]) -> Batch {
    let message = |(index, body): (usize, &String)| (index.to_string(), "group".to_owned(), body.clone());
    batch(Queue::Standard, &bodies.iter().enumerate().map(message).collect::<Vec<_>>())
}
