//! Invocations of the Lambda function.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lambda_runtime::{Context, LambdaEvent};
use serde_json::{Value, json};
use superoffice_webhook_mirror::config::Config;
use superoffice_webhook_mirror::function::Mirror;
use superoffice_webhook_mirror::row::Row;
use superoffice_webhook_mirror::table::{Position, RowHead, Table, TableError, WriteError};
use tokio::time::Instant;

use crate::messages::event;

/// A table that never responds.
struct HangingTable;

impl Table for HangingTable {
    async fn get(&self, _: &str, _: i64) -> Result<Option<Row>, TableError> {
        std::future::pending().await
    }

    async fn put(&self, _: &str, _: i64, _: &Row, _: Option<i64>) -> Result<(), WriteError> {
        std::future::pending().await
    }

    async fn range(&self, _: &str, _: i64, _: Option<i64>, _: usize) -> Result<Vec<RowHead>, TableError> {
        std::future::pending().await
    }

    async fn position(&self, _: &str) -> Result<Option<Position>, TableError> {
        std::future::pending().await
    }

    async fn put_position(&self, _: &str, _: &Position, _: Option<i64>) -> Result<(), WriteError> {
        std::future::pending().await
    }
}

/// Invokes the function of the tenant `Cust1` with 30 seconds. Returns the response, and the time that is left.
async fn invoke(payload: Value) -> (Result<Value, String>, Duration) {
    let lookup = |name: &str| match name {
        "MIRROR_TABLE" => Some("contacts".to_owned()),
        "SUPEROFFICE_URL" => Some("https://server/Cust1".to_owned()),
        "SUPEROFFICE_ACCESS_TOKEN" => Some("token".to_owned()),
        _ => None,
    };
    let mirror = Mirror::new(Config::from_lookup(&lookup).unwrap(), HangingTable);
    let timeout = Duration::from_secs(30);
    let mut context = Context::default();
    let end = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() + timeout;
    context.deadline = u64::try_from(end.as_millis()).unwrap();
    let begun = Instant::now();
    let response = mirror.invoke(LambdaEvent::new(payload, context)).await.map_err(|error| error.to_string());
    (response, timeout - begun.elapsed())
}

/// Asserts that a time was left. The clock of the deadline is real, and shows a little more than the test's clock.
fn assert_left(left: Duration, expected: Duration) {
    assert!(left >= expected && left < expected + Duration::from_millis(500), "{left:?}");
}

#[tokio::test(start_paused = true)]
async fn batch_that_hangs_ends_two_seconds_before_the_timeout() {
    let message = json!({"messageId": "m", "body": event(Some("Cust1"), "changed", 1)});
    let (response, left) = invoke(json!({"Records": [message]})).await;
    assert_eq!(response, Ok(json!({"batchItemFailures": [{"itemIdentifier": "m"}]})));
    assert_left(left, Duration::from_secs(2));
    assert_eq!(invoke(json!({"Records": []})).await.0, Ok(json!({"batchItemFailures": []})));
}

#[tokio::test(start_paused = true)]
async fn audit_that_hangs_ends_five_seconds_before_the_timeout() {
    let (response, left) = invoke(json!({"source": "aws.events"})).await;
    assert_eq!(response, Ok(Value::Null));
    assert_left(left, Duration::from_millis(5500));
    let (response, left) = invoke(json!({"audit": "cust1"})).await;
    assert_eq!(response, Err("the audit does not begin: the time of the invocation did not suffice".into()));
    assert_left(left, Duration::from_millis(5500));
}

#[tokio::test(start_paused = true)]
async fn audit_of_an_unknown_tenant_is_an_error() {
    for request in ["audit", "allowRemovals"] {
        let (response, _) = invoke(json!({request: "Cust2"})).await;
        assert_eq!(response, Err("the audit does not begin: the tenant is not in the list of tenants".into()));
    }
    let expected = r#"the event is neither {"audit":"Cust1234"} nor {"allowRemovals":"Cust1234"}"#;
    assert_eq!(invoke(json!({"audit": 7})).await.0, Err(expected.into()));
}
