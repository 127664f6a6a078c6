//! Batches of messages and their partial batch responses.

use std::collections::HashSet;
use std::fmt::Display;

use aws_lambda_events::sqs::{SqsBatchResponse, SqsEvent, SqsMessage};
use serde_json::json;

/// Processes the messages of a batch one after the other. Returns the failed ones, in the order of the batch.
///
/// After a failure on a FIFO queue, the later messages of the same group fail without being processed. This keeps the
/// events of one contact in order. Other groups are not affected.
///
/// The event source mapping needs `ReportBatchItemFailures`. Without it, Lambda treats every response as a success and
/// deletes the failed messages.
pub(crate) async fn process_batch<E: Display>(
    batch: &SqsEvent,
    process: impl AsyncFn(&SqsMessage) -> Result<(), E>,
) -> SqsBatchResponse {
    let mut response = SqsBatchResponse::default();
    let mut failed_groups = HashSet::new();
    for message in &batch.records {
        // An empty id makes Lambda return the whole batch to the queue, which is right for a message without an id.
        let id = message.message_id.as_deref().unwrap_or_default();
        let group = fifo_group(message);
        if group.is_some_and(|group| failed_groups.contains(group)) {
            log(id, "skipped", &"an earlier message of the group failed");
            response.add_failure(id);
        } else if let Err(error) = process(message).await {
            log(id, "failed", &error);
            response.add_failure(id);
            failed_groups.extend(group);
        }
    }
    response
}

/// Returns the message group on a FIFO queue. On a standard queue, groups do not imply an order.
fn fifo_group(message: &SqsMessage) -> Option<&str> {
    let is_fifo = message.event_source_arn.as_deref().is_some_and(|arn| arn.ends_with(".fifo"));
    is_fifo.then(|| message.attributes.get("MessageGroupId").map(String::as_str).unwrap_or_default())
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

    fn batch(arn: &str, messages: &[(&str, &str)]) -> SqsEvent {
        let record = |(id, group): &(&str, &str)| {
            let attributes = json!({"MessageGroupId": group});
            json!({"messageId": id, "body": "", "eventSourceARN": arn, "attributes": attributes})
        };
        let records: Vec<_> = messages.iter().map(record).collect();
        serde_json::from_value(json!({ "Records": records })).unwrap()
    }

    /// Processes a batch in which the messages with `fails(id)` fail. Returns the processed and the failed ids.
    fn process(batch: &SqsEvent, fails: impl Fn(&str) -> bool) -> (Vec<String>, Vec<String>) {
        let processed = RefCell::new(Vec::new());
        let process = async |message: &SqsMessage| {
            let id = message.message_id.clone().unwrap_or_default();
            processed.borrow_mut().push(id.clone());
            if fails(&id) { Err("on purpose") } else { Ok(()) }
        };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let response = runtime.block_on(process_batch(batch, process));
        let failed = response.batch_item_failures.into_iter().map(|failure| failure.item_identifier).collect();
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
        let response = serde_json::to_value(SqsBatchResponse::default()).unwrap();
        assert_eq!(response, json!({"batchItemFailures": []}));
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
