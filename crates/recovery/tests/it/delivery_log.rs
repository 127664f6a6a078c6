//! The function's log, read page by page.

use fake_superoffice::LOG_GROUP;
use jiff::{SignedDuration, Timestamp};
use recovery::delivery_log::DeliveryLog;
use serde_json::json;
use test_support::ClosedPort;

use crate::support::{TestBed, client_of_logs};

fn write(bed: &TestBed, at: Timestamp, outcome: &str, event: &str) {
    let line = json!({"outcome": outcome, "event": event, "primaryKey": 7});
    bed.logs.write(LOG_GROUP, at, line.to_string());
}

#[tokio::test]
async fn latest_contact_event_tells_whether_deliveries_succeed() {
    let bed = TestBed::start().await;
    // A page for each line.
    bed.logs.set_page(1);
    let (ledger, begin) = (bed.ledger(), bed.now());
    let succeeded = async |since| ledger.last_succeeded(since).await.unwrap();
    assert_eq!(succeeded(begin).await, None);
    let after = |seconds| begin + SignedDuration::from_secs(seconds);
    write(&bed, after(1), "failed", "sale.changed");
    assert_eq!(succeeded(begin).await, None);
    write(&bed, after(2), "failed", "contact.changed");
    assert_eq!(succeeded(begin).await, Some(false));
    write(&bed, after(4), "forwarded", "contact.changed");
    assert_eq!(succeeded(begin).await, Some(true));
    // An older line of another log stream.
    write(&bed, after(3), "failed", "contact.changed");
    assert_eq!(succeeded(begin).await, Some(true));
    // Of the same time, the last line counts.
    write(&bed, after(4), "failed", "contact.changed");
    assert_eq!(succeeded(begin).await, Some(false));
    assert_eq!(succeeded(after(5)).await, None);
}

#[tokio::test]
async fn log_group_that_does_not_exist_is_distinguished_from_other_errors() {
    let bed = TestBed::start().await;
    bed.logs.fail_after(0);
    let denied = bed.ledger().last_succeeded(bed.now()).await.unwrap_err();
    assert!(!denied.is_missing(), "{denied}");
    bed.logs.clear_failures();
    let missing =
        DeliveryLog::new(client_of_logs(bed.logs.url()), "/other", None).last_succeeded(bed.now()).await.unwrap_err();
    assert!(missing.is_missing(), "{missing}");
    let expected =
        "the log group /other cannot be read: ResourceNotFoundException: The specified log group does not exist.";
    assert_eq!(missing.to_string(), expected);
}

#[tokio::test]
async fn pages_that_repeat_for_ever_are_an_error() {
    let bed = TestBed::start().await;
    write(&bed, bed.now(), "forwarded", "contact.changed");
    bed.logs.repeat_last_page();
    let error = bed.ledger().last_succeeded(bed.now()).await.unwrap_err().to_string();
    assert_eq!(error, format!("the log group {LOG_GROUP} cannot be read: more than 100 tokens of pages are repeated"));
    assert_eq!(bed.logs.requests(), 102);
}

#[tokio::test]
async fn service_that_cannot_be_reached_is_an_error_with_its_cause() {
    let port = ClosedPort::bind();
    let ledger = DeliveryLog::new(client_of_logs(port.url()), LOG_GROUP, None);
    let error = ledger.last_succeeded(Timestamp::UNIX_EPOCH).await.unwrap_err().to_string();
    assert!(error.contains("dispatch failure: ") && error.contains("Connection refused"), "{error}");
}
