//! A batch of messages, and which of them go back to the queue.
//!
//! Messages are taken one after the other. Of a FIFO queue, what stands behind a failed message of its group goes back
//! untouched, so that one contact's events are never handled out of order; other groups go on. The failed ones are
//! named in the order of the batch.

use std::collections::HashSet;
use std::fmt::Display;

use aws_lambda_events::sqs::{SqsBatchResponse, SqsEvent, SqsMessage};
use serde_json::json;

/// Hands the messages to `take`, and gives the answer to Lambda: which of them failed.
///
/// Needs `ReportBatchItemFailures` on the event source mapping; without it, Lambda takes every answer for a success and
/// deletes the failed messages, too.
pub(crate) async fn answer<E: Display>(
    batch: &SqsEvent,
    take: impl AsyncFn(&SqsMessage) -> Result<(), E>,
) -> SqsBatchResponse {
    let mut answer = SqsBatchResponse::default();
    let mut blocked = HashSet::new();
    for message in &batch.records {
        // An empty id makes Lambda return the whole batch to the queue: right for a message that cannot be named.
        let id = message.message_id.as_deref().unwrap_or_default();
        let group = fifo_group(message);
        if group.is_some_and(|group| blocked.contains(group)) {
            log(id, "not begun", &"a message before it in its group has failed");
            answer.add_failure(id);
        } else if let Err(error) = take(message).await {
            log(id, "failed", &error);
            answer.add_failure(id);
            blocked.extend(group);
        }
    }
    answer
}

/// The group in which the message has its place, if its queue is a FIFO queue: messages of a standard queue can have a
/// group, too, and no order.
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
        let record = |(id, group): &(&str, &str)| json!({"messageId": id, "body": "", "eventSourceARN": arn, "attributes": {"MessageGroupId": group}});
        let records: Vec<_> = messages.iter().map(record).collect();
        serde_json::from_value(json!({ "Records": records })).unwrap()
    }

    /// Takes a batch in which the messages that `fails` names fail; gives those that were begun and those that failed.
    fn take(batch: &SqsEvent, fails: impl Fn(&str) -> bool) -> (Vec<String>, Vec<String>) {
        let begun = RefCell::new(Vec::new());
        let take = async |message: &SqsMessage| {
            let id = message.message_id.clone().unwrap_or_default();
            begun.borrow_mut().push(id.clone());
            if fails(&id) { Err("on purpose") } else { Ok(()) }
        };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let answer = runtime.block_on(answer(batch, take));
        let failed = answer.batch_item_failures.into_iter().map(|failure| failure.item_identifier).collect();
        (begun.into_inner(), failed)
    }

    #[test]
    fn behind_a_failure_the_rest_of_its_group_goes_back_in_order_and_other_groups_go_on() {
        let batch = batch(FIFO, &[("1", "a"), ("2", "b"), ("3", "a"), ("4", "c"), ("5", "b"), ("6", "a"), ("7", "c")]);
        let (begun, failed) = take(&batch, |id| id == "3" || id == "2");
        assert_eq!(begun, ["1", "2", "3", "4", "7"]);
        assert_eq!(failed, ["2", "3", "5", "6"]);
    }

    #[test]
    fn in_a_standard_queue_only_the_failed_message_goes_back() {
        let batch = batch(STANDARD, &[("1", "a"), ("2", "a"), ("3", "a")]);
        assert_eq!(take(&batch, |id| id == "1").1, ["1"]);
    }

    #[test]
    fn a_batch_without_a_failure_has_an_empty_answer() {
        let (begun, failed) = take(&batch(FIFO, &[("1", "a"), ("2", "a")]), |_| false);
        assert_eq!((begun.len(), failed.len()), (2, 0));
        let answer = serde_json::to_value(SqsBatchResponse::default()).unwrap();
        assert_eq!(answer, json!({"batchItemFailures": []}));
    }

    #[test]
    fn a_failed_message_without_an_id_takes_the_whole_batch_back() {
        let batch = serde_json::from_value(json!({"Records": [{"eventSourceARN": FIFO}, {"eventSourceARN": FIFO}]}));
        assert_eq!(take(&batch.unwrap(), |_| true).1, ["", ""]);
    }

    proptest! {
        /// However the groups are interleaved and whatever fails: what was handled is, group by group, what stands
        /// before the first failure, and everything else is named, in order.
        #[test]
        fn a_group_is_handled_up_to_its_first_failure(
            messages in proptest::collection::vec((0..4_u8, proptest::bool::weighted(0.2)), 0..40),
        ) {
            let named: Vec<(String, String)> =
                messages.iter().enumerate().map(|(i, (group, _))| (i.to_string(), group.to_string())).collect();
            let borrowed: Vec<(&str, &str)> = named.iter().map(|(id, group)| (id.as_str(), group.as_str())).collect();
            let fails = |id: &str| messages[id.parse::<usize>().unwrap()].1;
            let (_, failed) = take(&batch(FIFO, &borrowed), fails);
            let expected: Vec<String> = (0..messages.len())
                .filter(|&i| messages[..=i].iter().any(|(group, fails)| *group == messages[i].0 && *fails))
                .map(|i| i.to_string())
                .collect();
            prop_assert_eq!(failed, expected);
        }
    }
}
