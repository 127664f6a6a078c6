//! The contacts of a batch. A consumer that reads a contact's current state needs one read for all its events.

use std::fmt::Display;

use superoffice_webhook::{ContactEvent, DecodeError, QueuedEvent, Verifier};

use crate::batch::{Batch, BatchResponse, Record, respond};

/// The tenant of on-site installations that name themselves.
const ONSITE: &str = "Default";

/// A contact of a batch, with its events in the order of the queue.
#[derive(Clone, Debug)]
pub struct ContactEvents {
    events: Vec<ContactEvent>,
    /// The positions of the messages in the batch.
    messages: Vec<usize>,
}

impl ContactEvents {
    /// Returns the tenant; `None` for an on-site installation.
    pub fn tenant(&self) -> Option<&str> {
        tenant(&self.events[0])
    }

    /// Returns the contact's id.
    pub fn contact_id(&self) -> i64 {
        self.events[0].contact_id()
    }

    /// Returns the events, at least one.
    pub fn events(&self) -> &[ContactEvent] {
        &self.events
    }
}

/// Processes each contact of a batch once, in the order of their first messages.
///
/// If a contact fails, all its messages are received again. Events of other entities need no work, and neither do those of
/// a contact with an id below 1, which SuperOffice does not have. A message that cannot be decoded fails. With a
/// `verifier`, so does a message without a valid signature.
///
/// No record of handled events is needed if the work is to read the contact's current state and to store it.
///
/// ```
/// use superoffice_consumer::Batch;
/// use superoffice_consumer::contacts::process_contacts;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let batch: Batch = serde_json::from_str(r#"{"Records": [
///     {"messageId": "m1", "body": "{\"EventId\":\"1\",\"Event\":\"contact.created\",\"PrimaryKey\":21}"},
///     {"messageId": "m2", "body": "{\"EventId\":\"2\",\"Event\":\"contact.changed\",\"PrimaryKey\":21}"}
/// ]}"#).unwrap();
/// let response = process_contacts(&batch, None, async |contact| {
///     println!("read contact {} of {:?}", contact.contact_id(), contact.tenant());
///     Err("SuperOffice does not respond")
/// }).await;
/// assert_eq!(response.failed_ids().collect::<Vec<_>>(), ["m1", "m2"]);
/// # }
/// ```
pub async fn process_contacts<E: Display>(
    batch: &Batch,
    verifier: Option<&Verifier>,
    process: impl AsyncFn(&ContactEvents) -> Result<(), E>,
) -> BatchResponse {
    let mut results: Vec<Result<(), String>> = vec![Ok(()); batch.records.len()];
    let mut contacts: Vec<ContactEvents> = Vec::new();
    for (index, record) in batch.records.iter().enumerate() {
        match decode(record, verifier) {
            Ok(QueuedEvent::Contact(event)) if event.contact_id() > 0 => add(&mut contacts, index, event),
            Ok(_) => {}
            Err(error) => results[index] = Err(error.to_string()),
        }
    }
    for contact in &contacts {
        if let Err(error) = process(contact).await {
            for index in &contact.messages {
                results[*index] = Err(error.to_string());
            }
        }
    }
    respond(batch, results)
}

/// Decodes a message, and verifies its signature again if there is a verifier.
pub(crate) fn decode(message: &Record, verifier: Option<&Verifier>) -> Result<QueuedEvent, DecodeError> {
    let (body, attribute) = (message.body.as_str(), |name: &str| message.attribute(name));
    match verifier {
        Some(verifier) => QueuedEvent::from_message_verified(body, attribute, verifier),
        None => QueuedEvent::from_message(body, attribute),
    }
}

fn add(contacts: &mut Vec<ContactEvents>, index: usize, event: ContactEvent) {
    let is_of_event = |contact: &&mut ContactEvents| {
        let (first, second) = (contact.tenant().unwrap_or_default(), tenant(&event).unwrap_or_default());
        contact.contact_id() == event.contact_id() && first.eq_ignore_ascii_case(second)
    };
    match contacts.iter_mut().find(is_of_event) {
        Some(contact) => {
            contact.events.push(event);
            contact.messages.push(index);
        }
        None => contacts.push(ContactEvents { events: vec![event], messages: vec![index] }),
    }
}

fn tenant(event: &ContactEvent) -> Option<&str> {
    event.tenant().filter(|tenant| *tenant != ONSITE)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use serde_json::{Value, json};
    use superoffice_webhook::Secret;

    use super::*;

    /// A message of a FIFO queue, whose group is the contact.
    fn message(number: usize, event: &Value, signature: Option<&str>) -> Value {
        json!({
            "messageId": number.to_string(), "body": event.to_string(), "eventSourceARN": "arn:events.fifo",
            "attributes": {"MessageGroupId": format!("{}/{}", event["ContextIdentifier"], event["PrimaryKey"])},
            "messageAttributes": {"Signature": {"stringValue": signature, "dataType": "String"}},
        })
    }

    fn event(tenant: Option<&str>, name: &str, contact: i64) -> Value {
        json!({"EventId": "1", "Event": name, "PrimaryKey": contact, "ContextIdentifier": tenant})
    }

    /// Processes a batch whose contact 7 fails. Returns the contacts, each with its events, and the failed messages.
    async fn process(messages: &[Value], verifier: Option<&Verifier>) -> (Vec<String>, Vec<String>) {
        let batch: Batch = serde_json::from_value(json!({ "Records": messages })).unwrap();
        let processed = RefCell::new(Vec::new());
        let response = process_contacts(&batch, verifier, async |contact| {
            let names: Vec<_> = contact.events().iter().map(|event| event.event().metadata().event()).collect();
            let text = format!("{:?} {} {}", contact.tenant(), contact.contact_id(), names.join(","));
            processed.borrow_mut().push(text);
            if contact.contact_id() == 7 { Err("on purpose") } else { Ok(()) }
        });
        let failed = response.await.failed_ids().map(str::to_owned).collect();
        (processed.into_inner(), failed)
    }

    #[tokio::test]
    async fn events_of_a_contact_are_processed_together() {
        let messages: Vec<Value> = [
            event(Some("Cust1"), "contact.created", 21),
            event(Some("Cust2"), "contact.created", 21),
            event(Some("Cust1"), "contact.changed", 7),
            event(Some("cust1"), "contact.changed", 21),
            event(Some("Default"), "contact.resync", 21),
            event(None, "contact.deleted", 21),
            event(Some("Cust1"), "contact.deleted", 7),
            event(Some("Cust1"), "contact.changed", 0),
            event(Some("Cust1"), "sale.changed", 21),
            json!({"EventId": "1"}),
        ]
        .iter()
        .enumerate()
        .map(|(number, event)| message(number, event, None))
        .collect();
        let (processed, failed) = process(&messages, None).await;
        let expected = [
            r#"Some("Cust1") 21 contact.created,contact.changed"#,
            r#"Some("Cust2") 21 contact.created"#,
            r#"Some("Cust1") 7 contact.changed,contact.deleted"#,
            "None 21 contact.resync,contact.deleted",
        ];
        assert_eq!(
            (processed, failed),
            (expected.map(str::to_owned).into(), ["2", "6", "9"].map(str::to_owned).into())
        );
    }

    #[tokio::test]
    async fn only_signed_messages_are_processed_with_a_secret() {
        let secret = Secret::new("s3cret").unwrap();
        let event = event(None, "contact.changed", 21);
        let signature = secret.sign(event.to_string().as_bytes()).to_string();
        let messages = [message(0, &event, Some(&signature)), message(1, &event, None)];
        let (processed, failed) = process(&messages, Some(&Verifier::new(secret))).await;
        assert_eq!((processed.len(), failed), (1, vec!["1".to_owned()]));
    }
}
