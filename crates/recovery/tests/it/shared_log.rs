//! The function's log, read once for all tenants.

use std::ops::ControlFlow;
use std::sync::Arc;

use fake_superoffice::LOG_GROUP;
use jiff::{SignedDuration, Timestamp};
use recovery::delivery::Handled;
use recovery::delivery_log::DeliveryLog;
use recovery::function_log::FunctionLog;
use recovery::shared_log::SharedLog;
use recovery::tenant_names::TenantNames;
use serde_json::json;
use tokio::time::{Duration, Instant};

use crate::support::{TestBed, client_of_logs};

/// Writes the line of a contact's event, a number of seconds after the start.
fn write(bed: &TestBed, second: i64, tenant: Option<&str>, contact: i64) -> String {
    let mut line = json!({"outcome": "forwarded", "event": "contact.changed", "primaryKey": contact});
    if let Some(tenant) = tenant {
        line["contextIdentifier"] = json!(tenant);
    }
    bed.logs.write(LOG_GROUP, after(bed, second), line.to_string());
    line.to_string()
}

fn after(bed: &TestBed, second: i64) -> Timestamp {
    bed.now() + SignedDuration::from_secs(second)
}

async fn read(bed: &TestBed, names: TenantNames, until: Timestamp, time: Duration) -> Arc<SharedLog> {
    let log = FunctionLog::new(client_of_logs(bed.logs.url()), LOG_GROUP, names);
    SharedLog::read(log, (bed.now(), until), Instant::now() + time).await.unwrap()
}

/// The contacts whose events were handled.
async fn contacts(log: &Arc<SharedLog>, tenant: &str) -> Vec<i64> {
    let mut contacts = Vec::new();
    let found = |handled: Handled| {
        contacts.push(handled.record.id);
        ControlFlow::Continue(())
    };
    DeliveryLog::shared(log, tenant).handled(Timestamp::UNIX_EPOCH, found).await.unwrap();
    contacts
}

#[tokio::test]
async fn lines_are_split_by_tenant_and_each_counts_once() {
    let bed = TestBed::start().await;
    write(&bed, 1, Some("Cust1"), 1);
    let line = write(&bed, 2, Some("cust2"), 2);
    bed.logs.write(LOG_GROUP, after(&bed, 2), line);
    write(&bed, 3, None, 3);
    write(&bed, 4, Some("Default"), 4);
    write(&bed, 5, Some("Cust3"), 5);
    write(&bed, 6, Some("Cust1"), 6);
    let minute = Duration::from_secs(60);
    let log = read(&bed, TenantNames::new(["Cust1", "CUST2", "Server"]), after(&bed, 5), minute).await;
    assert_eq!((log.since(), log.until()), (bed.now(), after(&bed, 5)));
    assert_eq!(contacts(&log, "cust1").await, [1]);
    assert_eq!(contacts(&log, "Cust2").await, [2]);
    assert_eq!(contacts(&log, "Server").await, [3, 4]);
    assert_eq!(contacts(&log, "Cust3").await, Vec::<i64>::new());

    let log = read(&bed, TenantNames::new(["Cust1"]), after(&bed, 6), minute).await;
    assert_eq!(contacts(&log, "Cust1").await, [1, 3, 4, 6]);
    let log = read(&bed, TenantNames::every("onsite"), after(&bed, 6), minute).await;
    assert_eq!(contacts(&log, "onsite").await, [1, 2, 3, 4, 5, 6]);
}

#[tokio::test]
async fn period_ends_where_time_ends() {
    let bed = TestBed::start().await;
    bed.logs.set_page(1);
    write(&bed, 1, Some("Cust1"), 1);
    let log = read(&bed, TenantNames::new(["Cust1"]), after(&bed, 60), Duration::ZERO).await;
    assert_eq!((log.until(), contacts(&log, "Cust1").await), (bed.now(), Vec::new()));
}
