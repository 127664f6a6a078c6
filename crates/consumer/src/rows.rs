//! The rows that a batch is about. A consumer that reads a row's current state from SuperOffice needs one read for all
//! its events. A row is a contact or a person.

use std::fmt::Display;

use superoffice_webhook::jiff::Timestamp;
use superoffice_webhook::webhook::entity::Archive;
use superoffice_webhook::webhook::metadata::UNNAMED_TENANT;
use superoffice_webhook::{DecodeError, ParseError, QueuedEvent, Verifier};

use crate::batch::{Batch, BatchResponse, Record, respond};

/// A row of SuperOffice, with its events in the order of the queue.
#[derive(Clone, Debug)]
pub struct RowEvents {
    archive: &'static Archive,
    id: i64,
    events: Vec<QueuedEvent>,
    /// The positions of the messages in the batch.
    messages: Vec<usize>,
}

impl RowEvents {
    /// Returns the tenant; `None` for an on-site installation, which names no tenant or `Default`.
    pub fn tenant(&self) -> Option<&str> {
        tenant(&self.events[0])
    }

    /// Returns the entity, and the way to read it.
    pub fn archive(&self) -> &'static Archive {
        self.archive
    }

    /// Returns the row's id: the contact id or the person id.
    pub fn id(&self) -> i64 {
        self.id
    }

    /// Returns the events, at least one.
    pub fn events(&self) -> &[QueuedEvent] {
        &self.events
    }

    /// Returns `true` if an event says that the row was deleted.
    pub fn has_deletion(&self) -> bool {
        let is_deletion =
            |ending: &str| ["softdeleted", "deleted"].iter().any(|name| ending.eq_ignore_ascii_case(name));
        let mut names = self.events.iter().filter_map(|event| event.event().metadata().event().rsplit_once('.'));
        names.any(|(_, ending)| is_deletion(ending))
    }

    /// Returns the time of the oldest event that has a time.
    pub fn oldest(&self) -> Option<Timestamp> {
        self.events.iter().filter_map(|event| event.event().occurred_at()).min()
    }
}

/// The rows that a batch is about.
#[derive(Debug)]
pub struct Rows<'a> {
    batch: &'a Batch,
    rows: Vec<RowEvents>,
    /// The messages that cannot be decoded, by their positions.
    undecodable: Vec<(usize, DecodeError)>,
}

impl<'a> Rows<'a> {
    /// Groups the messages of a batch by tenant, entity and id.
    ///
    /// Events of other entities than `archives` belong to no row, and neither do those with an id below 1, which
    /// SuperOffice does not have. With a `verifier`, a message without a valid signature cannot be decoded.
    pub fn of(batch: &'a Batch, verifier: Option<&Verifier>, archives: &[&'static Archive]) -> Self {
        let mut rows = Self { batch, rows: Vec::new(), undecodable: Vec::new() };
        for (index, record) in batch.records.iter().enumerate() {
            if let Err(error) = decode(record, verifier).and_then(|event| rows.add(index, event, archives)) {
                rows.undecodable.push((index, error));
            }
        }
        rows
    }

    /// Returns the rows, in the order of their first messages.
    pub fn rows(&self) -> &[RowEvents] {
        &self.rows
    }

    /// Returns the number of messages that cannot be decoded.
    pub fn undecodable(&self) -> usize {
        self.undecodable.len()
    }

    /// Returns the response for the results of the rows, one for each.
    ///
    /// If a row fails, all its messages are received again, and so is every message that cannot be decoded. `reason`
    /// returns the text that is logged for a message that cannot be decoded.
    pub fn respond<E: Display, R: Display>(
        &self,
        results: impl IntoIterator<Item = Result<(), E>>,
        reason: impl Fn(&DecodeError) -> R,
    ) -> BatchResponse {
        let mut messages: Vec<Result<(), String>> = vec![Ok(()); self.batch.records.len()];
        for (index, error) in &self.undecodable {
            messages[*index] = Err(reason(error).to_string());
        }
        for (row, result) in self.rows.iter().zip(results) {
            if let Err(error) = result {
                row.messages.iter().for_each(|index| messages[*index] = Err(error.to_string()));
            }
        }
        respond(self.batch, messages)
    }

    fn add(&mut self, index: usize, event: QueuedEvent, archives: &[&'static Archive]) -> Result<(), DecodeError> {
        let metadata = event.event().metadata();
        let named = archives.iter().find(|archive| archive.name.eq_ignore_ascii_case(metadata.entity()));
        let Some(archive) = named.copied() else { return Ok(()) };
        let id = metadata.primary_key().ok_or(ParseError::NoPrimaryKey)?;
        if id < 1 {
            return Ok(());
        }
        let name = tenant(&event).unwrap_or_default();
        let is_of_event = |row: &&mut RowEvents| {
            let own = row.tenant().unwrap_or_default();
            row.id == id && row.archive == archive && own.eq_ignore_ascii_case(name)
        };
        match self.rows.iter_mut().find(is_of_event) {
            Some(row) => {
                row.events.push(event);
                row.messages.push(index);
            }
            None => self.rows.push(RowEvents { archive, id, events: vec![event], messages: vec![index] }),
        }
        Ok(())
    }
}

/// Processes each row of a batch once, in the order of their first messages. See [`Rows`].
///
/// No record of handled events is needed if the work is to read the row's current state and to store it.
///
/// ```
/// use superoffice_consumer::Batch;
/// use superoffice_consumer::rows::process_rows;
/// use superoffice_webhook::webhook::entity::Archive;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let batch: Batch = serde_json::from_str(r#"{"Records": [
///     {"messageId": "m1", "body": "{\"EventId\":\"1\",\"Event\":\"contact.created\",\"PrimaryKey\":21}"},
///     {"messageId": "m2", "body": "{\"EventId\":\"2\",\"Event\":\"contact.changed\",\"PrimaryKey\":21}"}
/// ]}"#).unwrap();
/// let response = process_rows(&batch, None, &[Archive::CONTACT], async |contact| {
///     println!("read contact {} of {:?}", contact.id(), contact.tenant());
///     Err("SuperOffice does not respond")
/// }).await;
/// assert_eq!(response.failed_ids().collect::<Vec<_>>(), ["m1", "m2"]);
/// # }
/// ```
pub async fn process_rows<E: Display>(
    batch: &Batch,
    verifier: Option<&Verifier>,
    archives: &[&'static Archive],
    process: impl AsyncFn(&RowEvents) -> Result<(), E>,
) -> BatchResponse {
    let rows = Rows::of(batch, verifier, archives);
    let mut results = Vec::with_capacity(rows.rows().len());
    for row in rows.rows() {
        results.push(process(row).await);
    }
    rows.respond(results, ToString::to_string)
}

/// Decodes a message, and verifies its signature again if there is a verifier.
pub(crate) fn decode(message: &Record, verifier: Option<&Verifier>) -> Result<QueuedEvent, DecodeError> {
    let (body, attribute) = (message.body.as_str(), |name: &str| message.attribute(name));
    match verifier {
        Some(verifier) => QueuedEvent::from_message_verified(body, attribute, verifier),
        None => QueuedEvent::from_message(body, attribute),
    }
}

fn tenant(event: &QueuedEvent) -> Option<&str> {
    let tenant = event.event().metadata().context_identifier();
    tenant.filter(|tenant| !tenant.eq_ignore_ascii_case(UNNAMED_TENANT))
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use serde_json::{Value, json};
    use superoffice_webhook::Secret;

    use super::*;

    /// A message of a FIFO queue, whose group is the row.
    fn message(number: usize, event: &Value, signature: Option<&str>) -> Value {
        let group = ["ContextIdentifier", "Event", "PrimaryKey"].map(|name| event[name].to_string()).join("/");
        json!({
            "messageId": number.to_string(), "body": event.to_string(), "eventSourceARN": "arn:events.fifo",
            "attributes": {"MessageGroupId": group},
            "messageAttributes": {"Signature": {"stringValue": signature, "dataType": "String"}},
        })
    }

    fn event(tenant: Option<&str>, name: &str, id: i64) -> Value {
        json!({"EventId": "1", "Event": name, "PrimaryKey": id, "ContextIdentifier": tenant})
    }

    /// Processes a batch whose row 7 fails. Returns the rows, each with its events, and the failed messages.
    async fn process(
        messages: &[Value],
        verifier: Option<&Verifier>,
        archives: &[&'static Archive],
    ) -> (Vec<String>, Vec<String>) {
        let batch: Batch = serde_json::from_value(json!({ "Records": messages })).unwrap();
        let processed = RefCell::new(Vec::new());
        let response = process_rows(&batch, verifier, archives, async |row| {
            let names: Vec<_> = row.events().iter().map(|event| event.event().metadata().event()).collect();
            let deletion = if row.has_deletion() { " deleted" } else { "" };
            processed.borrow_mut().push(format!("{:?} {}{deletion}: {}", row.tenant(), row.id(), names.join(",")));
            if row.id() == 7 { Err("on purpose") } else { Ok(()) }
        });
        let failed = response.await.failed_ids().map(str::to_owned).collect();
        (processed.into_inner(), failed)
    }

    fn owned<const N: usize>(texts: [&str; N]) -> Vec<String> {
        texts.map(str::to_owned).into()
    }

    #[tokio::test]
    async fn events_of_a_row_are_processed_together() {
        let messages: Vec<Value> = [
            event(Some("Cust1"), "contact.created", 21),
            event(Some("Cust2"), "contact.created", 21),
            event(Some("Cust1"), "contact.changed", 7),
            event(Some("cust1"), "contact.changed", 21),
            event(Some("Default"), "contact.resync", 21),
            event(None, "contact.deleted", 21),
            event(Some("DEFAULT"), "contact.changed", 21),
            event(Some("Cust1"), "Contact.SoftDeleted", 7),
            event(Some("Cust1"), "contact.changed", 0),
            event(Some("Cust1"), "sale.changed", 21),
            json!({"EventId": "1"}),
            event(Some("Cust1"), "person.consented", 21),
            json!({"EventId": "1", "Event": "contact.changed"}),
        ]
        .iter()
        .enumerate()
        .map(|(number, event)| message(number, event, None))
        .collect();
        let contacts = [
            r#"Some("Cust1") 21: contact.created,contact.changed"#,
            r#"Some("Cust2") 21: contact.created"#,
            r#"Some("Cust1") 7 deleted: contact.changed,Contact.SoftDeleted"#,
            "None 21 deleted: contact.resync,contact.deleted,contact.changed",
        ];
        let failed = owned(["2", "7", "10", "12"]);
        assert_eq!(process(&messages, None, &[Archive::CONTACT]).await, (owned(contacts), failed.clone()));
        let person = r#"Some("Cust1") 21: person.consented"#;
        let expected = [owned(contacts), owned([person])].concat();
        assert_eq!(process(&messages, None, &[Archive::PERSON, Archive::CONTACT]).await, (expected, failed));
        assert_eq!(process(&messages, None, &[Archive::PERSON]).await, (owned([person]), owned(["10"])));
    }

    #[tokio::test]
    async fn only_signed_messages_are_processed_with_a_secret() {
        let secret = Secret::new("s3cret").unwrap();
        let event = event(None, "contact.changed", 21);
        let signature = secret.sign(event.to_string().as_bytes()).to_string();
        let messages = [message(0, &event, Some(&signature)), message(1, &event, None)];
        let (processed, failed) = process(&messages, Some(&Verifier::new(secret)), &[Archive::CONTACT]).await;
        assert_eq!((processed.len(), failed), (1, owned(["1"])));
    }

    #[test]
    fn oldest_event_has_the_earliest_time() {
        let event =
            |timestamp| json!({"EventId": "1", "Event": "contact.changed", "PrimaryKey": 21, "Timestamp": timestamp});
        let times = [json!("2026-11-24T10:00:00+01:00"), json!("2026-11-24T08:59:00Z"), json!(null)];
        let messages: Vec<_> = times.iter().map(|time| message(0, &event(time), None)).collect();
        let batch: Batch = serde_json::from_value(json!({ "Records": messages })).unwrap();
        let oldest = Rows::of(&batch, None, &[Archive::CONTACT]).rows()[0].oldest();
        assert_eq!(oldest.map(|time| time.to_string()).as_deref(), Some("2026-11-24T08:59:00Z"));
    }
}
