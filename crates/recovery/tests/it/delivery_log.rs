//! The function's log, read page by page.

use std::ops::ControlFlow;

use fake_superoffice::LOG_GROUP;
use jiff::Timestamp;
use recovery::delivery_log::DeliveryLog;
use recovery::logs::LogError;
use test_support::ClosedPort;

use crate::support::{TestBed, client_of_logs};

/// Reads a log to its end.
async fn read(log: &DeliveryLog) -> Result<(), LogError> {
    log.handled(Timestamp::UNIX_EPOCH, |_| ControlFlow::Continue(())).await
}

#[tokio::test]
async fn log_group_that_does_not_exist_is_distinguished_from_other_errors() {
    let bed = TestBed::start().await;
    bed.logs.fail_after(0);
    let denied = read(&bed.ledger()).await.unwrap_err();
    assert!(!denied.is_missing(), "{denied}");
    bed.logs.clear_failures();
    let missing = read(&DeliveryLog::new(client_of_logs(bed.logs.url()), "/other", None)).await.unwrap_err();
    assert!(missing.is_missing(), "{missing}");
    let expected =
        "the log group /other cannot be read: ResourceNotFoundException: The specified log group does not exist.";
    assert_eq!(missing.to_string(), expected);
}

#[tokio::test]
async fn pages_that_repeat_for_ever_are_an_error() {
    let bed = TestBed::start().await;
    bed.logs.write(LOG_GROUP, bed.now(), "a line");
    bed.logs.repeat_last_page();
    let error = read(&bed.ledger()).await.unwrap_err().to_string();
    assert_eq!(error, format!("the log group {LOG_GROUP} cannot be read: more than 100 tokens of pages are repeated"));
    assert_eq!(bed.logs.requests(), 102);
}

#[tokio::test]
async fn service_that_cannot_be_reached_is_an_error_with_its_cause() {
    let port = ClosedPort::bind();
    let ledger = DeliveryLog::new(client_of_logs(port.url()), LOG_GROUP, None);
    let error = read(&ledger).await.unwrap_err().to_string();
    assert!(error.contains("dispatch failure: ") && error.contains("Connection refused"), "{error}");
}
