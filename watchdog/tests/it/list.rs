//! A list of tenants.

use std::time::Duration;

use fake_superoffice::{Fault, Outage, TOKEN};
use serde_json::json;

use crate::support::{LIST, OWN_LOG_GROUP, Tenants, name};

/// Changes a contact of each tenant, and loses the events.
async fn lose_a_change_of_each(bed: &Tenants) {
    for tenant in &bed.tenants {
        tenant.create_contact();
    }
    bed.idle().await;
    bed.pass(60);
    for tenant in &bed.tenants {
        tenant.change_contact_silently(tenant.contacts()[0].id);
    }
    bed.pass(240);
}

#[tokio::test]
async fn each_tenant_is_recovered_and_no_other_line_counts_for_it() {
    let bed = Tenants::start(&[0, 0, 0], &[]).await;
    bed.run().await;
    lose_a_change_of_each(&bed).await;
    // The contacts of all tenants have the same keys.
    bed.tenants[1].change_contact(bed.tenants[1].contacts()[0].id);
    bed.idle().await;
    bed.pass(120);
    let report = bed.run().await;
    assert_eq!((report.tenants, report.missed, report.resynced, report.error), (3, 2, 2, None));
    assert_eq!([0, 1, 2].map(|tenant| bed.signals(tenant).len()), [1, 0, 1]);
    bed.pass(300);
    assert_eq!(bed.run().await.missed, 0);
    let names: Vec<String> = bed.visits().into_iter().map(|visit| visit.tenant).collect();
    assert_eq!(names.len(), 9);
    assert!(names.iter().all(|tenant| (0..3).any(|number| *tenant == name(number))));
    let line = bed.lines().pop().unwrap();
    assert_eq!((&line["WatchdogOk"], &line["Tenants"], line.get("TenantsFailed")), (&json!(1), &json!(3), None));
}

#[tokio::test]
async fn failing_hanging_and_suspended_tenants_cost_the_others_nothing() {
    let bed = Tenants::start(&[0; 6], &[]).await;
    bed.run().await;
    lose_a_change_of_each(&bed).await;
    bed.tenants[0].revoke_token(TOKEN);
    bed.tenants[1].script("GET Webhook", [Fault::Slow(Duration::from_secs(3600))]);
    bed.tenants[2].set_running(false);
    bed.tenants[3].change_host();
    let report = bed.run_for(Duration::from_secs(3)).await;
    assert_eq!((report.error, report.tenants, report.tenants_failed, report.resynced), (None, 6, 2, 3));
    let mut failed = report.failed;
    failed.sort();
    assert_eq!(failed, [name(0), name(1)]);
    assert_eq!([0, 1, 2, 3, 4, 5].map(|tenant| bed.signals(tenant).len()), [0, 0, 0, 1, 1, 1]);
    let visits = bed.visits();
    let error = |tenant| visits.iter().rfind(|visit| visit.tenant == name(tenant)).unwrap().error.clone();
    assert_eq!(error(1).as_deref(), Some("the visit was not completed in time"));
    assert!(error(0).unwrap().ends_with("the credentials are invalid or expired (401)"));
    assert_eq!(error(2), None);

    // All of them recover as soon as their faults clear.
    bed.tenants[0].accept_token(TOKEN);
    bed.tenants[1].clear_faults();
    bed.tenants[2].set_running(true);
    bed.pass(300);
    let report = bed.run().await;
    assert_eq!((report.tenants_failed, report.resynced), (0, 3));
}

#[tokio::test]
async fn replaced_credentials_are_read_again() {
    let bed = Tenants::start(&[0, 0], &[]).await;
    bed.run().await;
    bed.tenants[1].revoke_token(TOKEN);
    bed.tenants[1].accept_token("8A:another");
    let parameter = format!("{LIST}/{}", name(1));
    bed.store.put(&parameter, json!({"url": bed.tenants[1].url(), "accessToken": "8A:another"}));
    bed.pass(300);
    let report = bed.run().await;
    assert_eq!((report.tenants, report.tenants_failed), (2, 0));
}

#[tokio::test]
async fn unusable_entries_are_named_and_paused_tenants_are_left_out() {
    let bed = Tenants::start(&[0, 0], &[]).await;
    bed.store.put_plain(&format!("{LIST}/Cust7"), "{}");
    let paused = json!({"url": bed.tenants[1].url(), "accessToken": TOKEN, "paused": true});
    bed.store.put(&format!("{LIST}/{}", name(1)), paused);
    bed.tenants[1].clear_requests();
    let report = bed.run().await;
    assert_eq!((report.error, report.tenants, report.tenants_failed), (None, 1, 1));
    assert_eq!(report.unusable, ["tenant Cust7: the parameter cannot be used: not a SecureString"]);
    assert!(bed.tenants[1].requests().is_empty());
}

#[tokio::test]
async fn empty_list_is_a_run_that_has_not_completed() {
    let bed = Tenants::start(&[0], &[]).await;
    bed.store.delete(&format!("{LIST}/{}", name(0)));
    let report = bed.run().await;
    let expected = format!("the list of tenants is empty: there is no parameter directly below {LIST} in eu-north-1");
    assert_eq!((report.error, report.tenants), (Some(expected.clone()), 0));
    let line = bed.lines().pop().unwrap();
    assert_eq!((line.get("WatchdogOk"), &line["error"]), (None, &json!(expected)));
}

#[tokio::test]
async fn state_of_a_paused_tenant_is_carried_on() {
    let mut bed = Tenants::start(&[0, 0], &[]).await;
    bed.run().await;
    let parameter = format!("{LIST}/{}", name(1));
    let entry = |paused| json!({"url": bed.tenants[1].url(), "accessToken": TOKEN, "paused": paused});
    let (paused, resumed) = (entry(true), entry(false));
    bed.store.put(&parameter, paused);
    lose_a_change_of_each(&bed).await;
    // The process does not remember it, and the lines of the last hour do not show a visit.
    for _ in 0..36 {
        bed.pass(300);
        bed.run().await;
        bed.restart();
    }
    assert!(bed.signals(1).is_empty());
    bed.store.put(&parameter, resumed);
    for _ in 0..5 {
        bed.pass(300);
        bed.run().await;
    }
    assert_eq!(bed.signals(1).len(), 1);
}

#[tokio::test]
async fn run_after_a_long_pause_finds_the_states() {
    let mut bed = Tenants::start(&[0, 0], &[]).await;
    bed.run().await;
    lose_a_change_of_each(&bed).await;
    bed.pass(5 * 86_400);
    bed.restart();
    for _ in 0..3 {
        bed.pass(300);
        bed.run().await;
    }
    assert_eq!([0, 1].map(|tenant| bed.signals(tenant).len()), [1, 1]);
}

#[tokio::test]
async fn broken_lines_are_ignored() {
    let bed = Tenants::start(&[0], &[]).await;
    bed.run().await;
    lose_a_change_of_each(&bed).await;
    let lines = bed.logs.lines(OWN_LOG_GROUP);
    for line in [&lines[0][..lines[0].len() / 2], "{\"tenant\":\"Cust1000\",\"state\":7}", "null", "REPORT 1"] {
        bed.logs.write(OWN_LOG_GROUP, bed.clock.now(), line);
    }
    // The test bed does not parse them.
    let report = bed.run().await;
    assert_eq!((report.error, report.missed, report.resynced), (None, 1, 1));
}

#[tokio::test]
async fn log_is_read_once_for_all_tenants_while_they_are_signaled() {
    let mut calls = Vec::new();
    for count in [1, 12] {
        let bed = Tenants::start(&vec![0; count], &[]).await;
        bed.run().await;
        lose_a_change_of_each(&bed).await;
        let before = bed.logs.requests();
        assert_eq!(bed.run().await.resynced, u64::try_from(count).unwrap());
        calls.push(bed.logs.requests() - before);
        let filter = bed.logs.filters().pop().unwrap();
        assert_eq!(filter.contains("contextIdentifier"), count == 1, "{filter}");
    }
    // The own log, the function's log, and the reads of the signalers. Several tenants share most of them.
    assert!(calls[0] <= 6 && calls[1] <= 2 * calls[0], "{calls:?}");
}

#[tokio::test]
async fn outage_of_the_function_signals_one_contact_of_each_tenant() {
    let bed = Tenants::start(&[0; 3], &[]).await;
    bed.run().await;
    lose_a_change_of_each(&bed).await;
    lose_a_change_of_each(&bed).await;
    bed.function.set_outage(Outage::Permission);
    let report = bed.run().await;
    assert_eq!((report.tenants_failed, report.resynced), (0, 3));
    bed.function.set_outage(Outage::None);
    for _ in 0..2 {
        bed.pass(300);
        bed.run().await;
    }
    assert_eq!(bed.run().await.missed, 0);
}

/// The number of calls that a run makes to read logs, and the number of changes that it compares.
async fn cost_of_a_run(tenants: usize) -> (usize, u64) {
    let bed = Tenants::start(&vec![0; tenants], &[]).await;
    for tenant in &bed.tenants {
        tenant.create_contact();
    }
    bed.idle().await;
    bed.pass(300);
    let calls = bed.logs.requests();
    let report = bed.run().await;
    assert_eq!((report.error, report.missed, report.waiting), (None, 0, 0));
    // Each tenant is visited in one run, so the longest interval is that of the schedule.
    assert_eq!(report.tenants, u64::try_from(tenants).unwrap());
    let most = bed.tenants.iter().map(|tenant| tenant.requests().len()).max().unwrap();
    assert!(most <= 7, "{most} calls for a tenant");
    let lines = bed.logs.lines(OWN_LOG_GROUP);
    assert!(lines.iter().all(|line| line.len() < 1000));
    (bed.logs.requests() - calls, report.changed)
}

#[tokio::test]
async fn log_is_read_as_often_for_1000_tenants_as_for_one() {
    let (one, many) = (cost_of_a_run(1).await, cost_of_a_run(1000).await);
    // Three periods of the own log without an earlier run, and the function's log.
    assert_eq!((one, many), ((4, 1), (4, 1000)));
}

#[tokio::test]
async fn tenants_that_had_to_wait_are_the_first_of_the_next_run() {
    let bed = Tenants::start(&[0; 60], &[]).await;
    bed.run().await;
    bed.pass(300);
    // Every tenant responds so slowly that time does not suffice for all.
    for tenant in &bed.tenants {
        tenant.script("GET Webhook", [Fault::Slow(Duration::from_millis(700))]);
    }
    let report = bed.run_for(Duration::from_millis(1500)).await;
    assert!(report.waiting > 0 && report.tenants >= 24, "{report:?}");
    bed.pass(300);
    bed.tenants.iter().for_each(|tenant| tenant.clear_faults());
    let before = bed.visits().len();
    bed.run().await;
    let completed: Vec<_> = bed.visits()[before..].iter().map(|visit| visit.state.completed).collect();
    assert_eq!(completed.len(), 60);
    assert!(completed.iter().all(Option::is_some));
}
