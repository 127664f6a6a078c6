//! The record of handled events in a DynamoDB table, which all invocations share.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValuesOnConditionCheckFailure};

use super::{Claim, IdempotencyStore, Lease, RETENTION};
use crate::HandlerError;

const ID: &str = "id";
const STATE: &str = "state";
const UNTIL: &str = "until";
const EXPIRES: &str = "expires";
const IN_PROGRESS: &str = "in progress";
const COMPLETED: &str = "completed";

/// The conditions name attributes by these placeholders, because some of their names are reserved words.
const NAMES: [(&str, &str); 3] = [("#id", ID), ("#state", STATE), ("#until", UNTIL)];

/// A store in a DynamoDB table with the partition key `id` (S). The role needs `dynamodb:PutItem` and
/// `dynamodb:DeleteItem`.
///
/// | attribute | |
/// |---|---|
/// | `id` (S) | the key: tenant, event and event id |
/// | `state` (S) | `in progress` or `completed` |
/// | `until` (N) | the end of the lease, or the end of the record's retention, in Unix milliseconds |
/// | `expires` (N) | the same time in Unix seconds, for the table's time to live |
///
/// DynamoDB deletes expired items up to some days late. So an item counts until `until`, and not as long as it exists.
#[derive(Clone, Debug)]
pub struct DynamoDbStore {
    client: Client,
    table: String,
    retention: Duration,
}

impl DynamoDbStore {
    /// Uses a table, named by its name or ARN. Handled events are remembered for 30 days.
    pub fn new(client: Client, table: impl Into<String>) -> Self {
        Self { client, table: table.into(), retention: RETENTION }
    }

    /// Remembers handled events for another time, which should exceed the retention of the queue and of its dead-letter
    /// queue together.
    #[must_use]
    pub fn with_retention(mut self, retention: Duration) -> Self {
        self.retention = retention;
        self
    }

    fn item(key: &str, state: &str, until: SystemTime) -> HashMap<String, AttributeValue> {
        let expires = milliseconds(until).div_ceil(1000);
        HashMap::from([
            (ID.to_owned(), AttributeValue::S(key.to_owned())),
            (STATE.to_owned(), AttributeValue::S(state.to_owned())),
            (UNTIL.to_owned(), number(milliseconds(until))),
            (EXPIRES.to_owned(), number(expires)),
        ])
    }

    fn failure<E: std::error::Error + ProvideErrorMetadata + 'static>(&self, error: &SdkError<E>) -> HandlerError {
        format!("the table {} of handled events failed: {}", self.table, aws_setup::reason(error)).into()
    }
}

impl IdempotencyStore for DynamoDbStore {
    async fn claim(&self, key: &str, lease: Lease) -> Result<Claim, HandlerError> {
        let [id, _, until] = NAMES;
        let result = self
            .client
            .put_item()
            .table_name(&self.table)
            .set_item(Some(Self::item(key, IN_PROGRESS, lease.end)))
            .condition_expression("attribute_not_exists(#id) OR #until <= :start")
            .set_expression_attribute_names(Some(names([id, until])))
            .expression_attribute_values(":start", number(milliseconds(lease.start)))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .send()
            .await;
        match result {
            Ok(_) => Ok(Claim::Granted),
            Err(error) => match error.as_service_error() {
                Some(PutItemError::ConditionalCheckFailedException(existing)) => {
                    let state = existing.item().and_then(|item| item.get(STATE)).and_then(|state| state.as_s().ok());
                    let is_completed = state.is_some_and(|state| state == COMPLETED);
                    Ok(if is_completed { Claim::Completed } else { Claim::InProgress })
                }
                _ => Err(self.failure(&error)),
            },
        }
    }

    async fn complete(&self, key: &str, lease: Lease) -> Result<(), HandlerError> {
        let item = Self::item(key, COMPLETED, lease.start + self.retention);
        let result = self.client.put_item().table_name(&self.table).set_item(Some(item)).send().await;
        result.map(drop).map_err(|error| self.failure(&error))
    }

    async fn release(&self, key: &str, lease: Lease) -> Result<(), HandlerError> {
        let [_, state, until] = NAMES;
        let result = self
            .client
            .delete_item()
            .table_name(&self.table)
            .key(ID, AttributeValue::S(key.to_owned()))
            // Another invocation may have claimed the event after the end of the lease.
            .condition_expression("#state = :state AND #until = :until")
            .set_expression_attribute_names(Some(names([state, until])))
            .expression_attribute_values(":state", AttributeValue::S(IN_PROGRESS.to_owned()))
            .expression_attribute_values(":until", number(milliseconds(lease.end)))
            .send()
            .await;
        match result {
            Err(error) if error.code() != Some("ConditionalCheckFailedException") => Err(self.failure(&error)),
            _ => Ok(()),
        }
    }
}

fn names<const N: usize>(names: [(&str, &str); N]) -> HashMap<String, String> {
    names.map(|(placeholder, name)| (placeholder.to_owned(), name.to_owned())).into()
}

fn number(number: u128) -> AttributeValue {
    AttributeValue::N(number.to_string())
}

fn milliseconds(time: SystemTime) -> u128 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis()
}

#[cfg(test)]
mod tests {
    use aws_sdk_dynamodb::error::ErrorMetadata;
    use aws_sdk_dynamodb::operation::delete_item::{DeleteItemError, DeleteItemOutput};
    use aws_sdk_dynamodb::operation::put_item::{PutItemInput, PutItemOutput};
    use aws_sdk_dynamodb::types::error::ConditionalCheckFailedException;
    use aws_smithy_mocks::{Rule, mock, mock_client};

    use super::*;

    const KEY: &str = "Cust1/contact.changed/1";

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn lease() -> Lease {
        Lease::of_invocation(at(1000), at(1030))
    }

    fn store(rule: &Rule) -> DynamoDbStore {
        DynamoDbStore::new(mock_client!(aws_sdk_dynamodb, [rule]), "handled")
    }

    fn values(item: &HashMap<String, AttributeValue>) -> Vec<String> {
        [ID, STATE, UNTIL, EXPIRES]
            .iter()
            .map(|name| match &item[*name] {
                AttributeValue::S(text) | AttributeValue::N(text) => text.clone(),
                other => panic!("{other:?}"),
            })
            .collect()
    }

    fn exists(state: &str) -> PutItemError {
        let item = DynamoDbStore::item(KEY, state, at(1060));
        let error = ConditionalCheckFailedException::builder().message("exists").set_item(Some(item)).build();
        PutItemError::ConditionalCheckFailedException(error)
    }

    #[tokio::test]
    async fn claim_writes_the_end_of_the_lease_unless_an_item_counts() {
        let matches = |input: &PutItemInput| {
            let condition = input.condition_expression().unwrap();
            let names = input.expression_attribute_names().unwrap();
            values(input.item().unwrap()) == [KEY, "in progress", "1060000", "1060"]
                && condition == "attribute_not_exists(#id) OR #until <= :start"
                && (names["#id"].as_str(), names["#until"].as_str()) == ("id", "until")
                && input.expression_attribute_values().unwrap()[":start"] == number(1_000_000)
                && input.table_name() == Some("handled")
        };
        let granted = mock!(Client::put_item).match_requests(matches).then_output(|| PutItemOutput::builder().build());
        assert_eq!(store(&granted).claim(KEY, lease()).await.unwrap(), Claim::Granted);
        for (state, claim) in [(IN_PROGRESS, Claim::InProgress), (COMPLETED, Claim::Completed)] {
            let refused = mock!(Client::put_item).match_requests(matches).then_error(move || exists(state));
            assert_eq!(store(&refused).claim(KEY, lease()).await.unwrap(), claim);
        }
    }

    #[tokio::test]
    async fn lease_without_time_left_is_written_with_its_end() {
        let matches = |input: &PutItemInput| values(input.item().unwrap())[2..] == ["1000001", "1001"];
        let rule = mock!(Client::put_item).match_requests(matches).then_output(|| PutItemOutput::builder().build());
        let now = at(1000) + Duration::from_millis(1);
        assert_eq!(store(&rule).claim(KEY, Lease::of_invocation(now, now)).await.unwrap(), Claim::Granted);
    }

    #[tokio::test]
    async fn handled_event_is_remembered_for_the_retention() {
        for (retention, expected) in [(None, "2593000"), (Some(Duration::from_secs(60)), "1060")] {
            let matches = move |input: &PutItemInput| {
                values(input.item().unwrap()) == [KEY, "completed", &format!("{expected}000"), expected]
                    && input.condition_expression().is_none()
            };
            let rule = mock!(Client::put_item).match_requests(matches).then_output(|| PutItemOutput::builder().build());
            let store = store(&rule);
            let store = retention.map_or(store.clone(), |retention| store.with_retention(retention));
            store.complete(KEY, lease()).await.unwrap();
            assert_eq!(rule.num_calls(), 1);
        }
    }

    #[tokio::test]
    async fn only_the_own_claim_is_released() {
        let released = mock!(Client::delete_item)
            .match_requests(|input| {
                let values = input.expression_attribute_values().unwrap();
                input.condition_expression() == Some("#state = :state AND #until = :until")
                    && values[":state"] == AttributeValue::S("in progress".into())
                    && values[":until"] == number(1_060_000)
                    && input.key().unwrap()[ID] == AttributeValue::S(KEY.into())
            })
            .then_output(|| DeleteItemOutput::builder().build());
        store(&released).release(KEY, lease()).await.unwrap();
        let of_another = mock!(Client::delete_item).then_error(|| {
            let metadata = ErrorMetadata::builder().code("ConditionalCheckFailedException");
            DeleteItemError::generic(metadata.build())
        });
        store(&of_another).release(KEY, lease()).await.unwrap();
        assert_eq!((released.num_calls(), of_another.num_calls()), (1, 1));
    }

    #[tokio::test]
    async fn error_of_the_table_is_an_error_with_its_code() {
        let denied = || {
            let metadata = ErrorMetadata::builder().code("AccessDeniedException").message("not authorized");
            PutItemError::generic(metadata.build())
        };
        let rule = mock!(Client::put_item).then_error(denied);
        let expected = "the table handled of handled events failed: AccessDeniedException: not authorized";
        assert_eq!(store(&rule).claim(KEY, lease()).await.unwrap_err().to_string(), expected);
        let rule = mock!(Client::put_item).then_error(denied);
        assert_eq!(store(&rule).complete(KEY, lease()).await.unwrap_err().to_string(), expected);
    }
}
