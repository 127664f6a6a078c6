//! Batches of messages and their partial batch responses.

use std::collections::{HashMap, HashSet};
use std::fmt::Display;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value, json};

/// A batch of an SQS event source mapping: the event of a Lambda invocation.
///
/// Every JSON value is a batch. A field of an unexpected type counts as absent, so one odd record never fails another
/// record of its batch.
///
/// Fields: <https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html#example-standard-queue-message-event>
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// The messages, in the order of the queue.
    pub records: Vec<Record>,
}

/// A message of a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// SQS's id of the message. Empty if it is absent; Lambda then returns the whole batch to the queue.
    pub message_id: String,
    /// The message body.
    pub body: String,
    /// The message group on a FIFO queue. `None` on a standard queue, where groups do not imply an order.
    pub fifo_group: Option<String>,
    attributes: HashMap<String, String>,
}

impl Record {
    /// Returns the text of a message attribute of type `String` or `Number`.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.get(name).map(String::as_str)
    }
}

impl<'de> Deserialize<'de> for Batch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let event = Value::deserialize(deserializer)?;
        let records = event.get("Records").and_then(Value::as_array);
        Ok(Self { records: records.into_iter().flatten().map(Record::from).collect() })
    }
}

impl From<&Value> for Record {
    fn from(record: &Value) -> Self {
        let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
        let is_fifo = text(record.get("eventSourceARN")).ends_with(".fifo");
        let attributes = record.get("messageAttributes").and_then(Value::as_object);
        Self {
            message_id: text(record.get("messageId")),
            body: text(record.get("body")),
            fifo_group: is_fifo.then(|| text(record.pointer("/attributes/MessageGroupId"))),
            attributes: attributes.map(texts).unwrap_or_default(),
        }
    }
}

fn texts(attributes: &Map<String, Value>) -> HashMap<String, String> {
    let text = |attribute: &Value| Some(attribute.get("stringValue")?.as_str()?.to_owned());
    attributes.iter().filter_map(|(name, attribute)| Some((name.clone(), text(attribute)?))).collect()
}

/// A partial batch response. The messages that it names are received again; all others are deleted.
///
/// The event source mapping needs `ReportBatchItemFailures`. Without it, Lambda treats every response as a success and
/// deletes the failed messages.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BatchResponse {
    batch_item_failures: Vec<Failure>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Failure {
    item_identifier: String,
}

impl BatchResponse {
    /// Adds a failed message.
    fn add_failure(&mut self, message_id: &str) {
        self.batch_item_failures.push(Failure { item_identifier: message_id.to_owned() });
    }

    /// Returns the ids of the failed messages, in the order of the batch.
    pub fn failed_ids(&self) -> impl Iterator<Item = &str> {
        self.batch_item_failures.iter().map(|failure| failure.item_identifier.as_str())
    }
}

/// Processes the messages of a batch one after the other, and logs each failure to standard output.
///
/// After a failure on a FIFO queue, the later messages of the same group fail without being processed. This keeps the
/// events of one contact in order. Other groups are not affected.
pub async fn process_batch<E: Display>(
    batch: &Batch,
    process: impl AsyncFn(&Record) -> Result<(), E>,
) -> BatchResponse {
    let mut responder = Responder::default();
    for record in &batch.records {
        if !responder.is_skipped(record) {
            responder.add(record, process(record).await);
        }
    }
    responder.response
}

/// Returns the response for messages that were processed in another order than that of the batch, such as those of a
/// contact together, and logs each failure to standard output. `results` has a result for each message.
///
/// After a failure on a FIFO queue, the later messages of the same group are received again, whatever their results are.
pub fn respond<E: Display>(batch: &Batch, results: impl IntoIterator<Item = Result<(), E>>) -> BatchResponse {
    let mut responder = Responder::default();
    for (record, result) in batch.records.iter().zip(results) {
        if !responder.is_skipped(record) {
            responder.add(record, result);
        }
    }
    responder.response
}

/// A response, and the message groups that failed.
#[derive(Default)]
struct Responder<'a> {
    response: BatchResponse,
    failed_groups: HashSet<&'a str>,
}

impl<'a> Responder<'a> {
    /// Returns `true` for a message of a group that failed, and adds it to the failures.
    fn is_skipped(&mut self, record: &Record) -> bool {
        let is_skipped = record.fifo_group.as_deref().is_some_and(|group| self.failed_groups.contains(group));
        if is_skipped {
            log(&record.message_id, "skipped", &"an earlier message of the group failed");
            self.response.add_failure(&record.message_id);
        }
        is_skipped
    }

    fn add<E: Display>(&mut self, record: &'a Record, result: Result<(), E>) {
        if let Err(error) = result {
            log(&record.message_id, "failed", &error);
            self.response.add_failure(&record.message_id);
            self.failed_groups.extend(record.fifo_group.as_deref());
        }
    }
}

fn log(message_id: &str, outcome: &str, reason: &dyn Display) {
    println!("{}", json!({"messageId": message_id, "outcome": outcome, "reason": reason.to_string()}));
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use proptest::prelude::*;

    use super::*;

    const FIFO: &str = "arn:aws:sqs:eu-north-1:123456789012:events.fifo";
    const STANDARD: &str = "arn:aws:sqs:eu-north-1:123456789012:events";

    fn batch(arn: &str, messages: &[(&str, &str)]) -> Batch {
        let record = |(id, group): &(&str, &str)| {
            let attributes = json!({"MessageGroupId": group});
            json!({"messageId": id, "body": "", "eventSourceARN": arn, "attributes": attributes})
        };
        let records: Vec<_> = messages.iter().map(record).collect();
        serde_json::from_value(json!({ "Records": records })).unwrap()
    }

    /// Processes a batch whose messages fail if `fails(id)`. Returns the processed and the failed ids.
    fn process(batch: &Batch, fails: impl Fn(&str) -> bool) -> (Vec<String>, Vec<String>) {
        let processed = RefCell::new(Vec::new());
        let process = async |message: &Record| {
            let id = message.message_id.clone();
            processed.borrow_mut().push(id.clone());
            if fails(&id) { Err("on purpose") } else { Ok(()) }
        };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let response = runtime.block_on(process_batch(batch, process));
        let failed = response.failed_ids().map(str::to_owned).collect();
        (processed.into_inner(), failed)
    }

    #[test]
    fn failure_in_fifo_queue_skips_rest_of_its_group_only() {
        let batch = batch(FIFO, &[("1", "a"), ("2", "b"), ("3", "a"), ("4", "c"), ("5", "b"), ("6", "a"), ("7", "c")]);
        let (processed, failed) = process(&batch, |id| id == "3" || id == "2");
        assert_eq!(processed, ["1", "2", "3", "4", "7"]);
        assert_eq!(failed, ["2", "3", "5", "6"]);
    }

    #[test]
    fn failure_in_standard_queue_returns_only_failed_message() {
        let batch = batch(STANDARD, &[("1", "a"), ("2", "a"), ("3", "a")]);
        assert_eq!(process(&batch, |id| id == "1").1, ["1"]);
    }

    #[test]
    fn batch_without_failure_returns_empty_response() {
        let (processed, failed) = process(&batch(FIFO, &[("1", "a"), ("2", "a")]), |_| false);
        assert_eq!((processed.len(), failed.len()), (2, 0));
        let response = serde_json::to_value(BatchResponse::default()).unwrap();
        assert_eq!(response, json!({"batchItemFailures": []}));
    }

    #[test]
    fn odd_fields_and_records_fail_no_other_record() {
        let good = json!({
            "messageId": "good", "body": "{}", "messageAttributes": {"Event": {"stringValue": "e", "dataType": "String"}},
        });
        for odd in [json!(null), json!(7), json!([1]), json!({"a": {"b": []}}), json!("text")] {
            let mut other = good.clone();
            for field in ["attributes", "messageAttributes", "eventSourceARN", "receiptHandle", "awsRegion"] {
                other[field] = odd.clone();
            }
            let attribute = json!({
                "messageId": "attribute", "body": "{}", "messageAttributes": {"Event": odd, "EventId": {"stringValue": odd}},
            });
            let records =
                json!({"Records": [odd, {"messageId": odd, "body": odd}, attribute, other, good], "more": odd});
            let batch: Batch = serde_json::from_value(records).unwrap();
            let ids: Vec<_> = batch.records.iter().map(|record| record.message_id.as_str()).collect();
            let text = odd.as_str().unwrap_or_default();
            assert_eq!(ids, ["", text, "attribute", "good", "good"], "{odd}");
            assert_eq!(batch.records[4].attribute("Event"), Some("e"));
            assert_eq!(serde_json::from_value::<Batch>(odd).unwrap(), Batch::default());
        }
    }

    #[test]
    fn failed_message_without_id_returns_whole_batch() {
        let batch = serde_json::from_value(json!({"Records": [{"eventSourceARN": FIFO}, {"eventSourceARN": FIFO}]}));
        assert_eq!(process(&batch.unwrap(), |_| true).1, ["", ""]);
    }

    proptest! {
        /// Any interleaving of groups and any failures: each group is processed up to its first failure, and all other
        /// messages are returned in order.
        #[test]
        fn each_group_is_processed_up_to_its_first_failure(
            messages in proptest::collection::vec((0..4_u8, proptest::bool::weighted(0.2)), 0..40),
        ) {
            let named: Vec<(String, String)> =
                messages.iter().enumerate().map(|(i, (group, _))| (i.to_string(), group.to_string())).collect();
            let borrowed: Vec<(&str, &str)> = named.iter().map(|(id, group)| (id.as_str(), group.as_str())).collect();
            let fails = |id: &str| messages[id.parse::<usize>().unwrap()].1;
            let (processed, failed) = process(&batch(FIFO, &borrowed), fails);
            let is_failed = |&i: &usize| messages[..=i].iter().any(|(group, fails)| *group == messages[i].0 && *fails);
            let expected: Vec<String> = (0..messages.len()).filter(is_failed).map(|i| i.to_string()).collect();
            prop_assert_eq!(&failed, &expected);
            let is_skipped = |&i: &usize| messages[..i].iter().any(|(group, fails)| *group == messages[i].0 && *fails);
            let expected: Vec<String> = (0..messages.len()).filter(|i| !is_skipped(i)).map(|i| i.to_string()).collect();
            prop_assert_eq!(&processed, &expected);
        }
    }
}
