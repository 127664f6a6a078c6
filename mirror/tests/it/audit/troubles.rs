//! Troubles of the environment, each with its right outcome.

use superoffice_webhook_mirror::failure::Failure;
use superoffice_webhook_mirror::table::TableError;

use super::bed::{Bed, counts, different, reasons};
use crate::crm::Fault;

const BRAKED: &str = "SuperOffice's list lacks most contacts of a range, so no row is removed";
const CONTRADICTED: &str = "the list contradicts the response that the contact does not exist";

#[tokio::test(start_paused = true)]
async fn contact_that_fails_is_passed_and_left_to_the_next_audit() {
    let bed = Bed::filled(6).await;
    bed.pass_hours(1000);
    bed.crm().fail("contact 2", 500, 1);
    let report = bed.run().await;
    assert_eq!(counts(&report), (0, 1, 0));
    assert_eq!(reasons(&report), [(Some(2), "SuperOffice responded with status 500")]);
    assert_eq!(bed.reads().len(), 6);
    let state = bed.state("Cust1");
    assert!(state.failed && state.running.is_none());

    // One hour after an audit that failed, and only the contact that failed.
    bed.run().await;
    assert_eq!(bed.crm().take_calls(), [""; 0]);
    bed.pass_hours(1);
    let report = bed.run().await;
    assert_eq!((bed.reads(), counts(&report)), (vec!["contact 2".to_owned()], (0, 0, 1)));
}

#[tokio::test(start_paused = true)]
async fn poison_contacts_at_the_head_of_a_page_do_not_stop_the_audit() {
    let bed = Bed::new(&["Cust1"]);
    bed.create(1..=6);
    bed.office().rows.set(3);
    for id in [1, 2, 3, 4] {
        bed.crm().script(&format!("contact {id}"), [Fault::Document("<html>".into())]);
    }
    let report = bed.run().await;
    assert_eq!(counts(&report), (0, 4, 0));
    assert_eq!(bed.table.documents("Cust1/contact").keys().copied().collect::<Vec<_>>(), [5, 6]);
    // The list was asked once if the failures are the contacts' own.
    let calls = bed.crm().take_calls();
    assert_eq!(calls.iter().filter(|call| *call == "page 0 1").count(), 1);
    bed.pass_hours(1);
    bed.run().await;
    assert!(bed.is_equal());
}

#[tokio::test(start_paused = true)]
async fn single_403_is_the_failure_of_its_contact() {
    let bed = Bed::new(&["Cust1"]);
    bed.create(1..=3);
    bed.crm().fail("contact 1", 403, 1);
    let report = bed.run().await;
    assert_eq!((counts(&report), report.metrics.written), ((0, 1, 0), 2));
}

#[tokio::test(start_paused = true)]
async fn answers_that_the_list_contradicts_remove_nothing() {
    let bed = Bed::filled(3).await;
    let before = bed.table.documents("Cust1/contact");
    bed.pass_hours(1000);
    bed.crm().script("contact", [Fault::NotFound, Fault::Other(1), Fault::NotFound]);
    // There is no row to protect, but the page has the contact.
    bed.create([9]);
    bed.crm().script("contact 9", [Fault::NotFound]);
    let report = bed.run().await;
    assert_eq!(bed.table.documents("Cust1/contact"), before);
    assert_eq!(reasons(&report), [1, 2, 3, 9].map(|id| (Some(id), CONTRADICTED)));
    assert_eq!(counts(&report), (0, 4, 0));
    assert_eq!(bed.table.row("Cust1/contact", 9), None);
}

#[tokio::test(start_paused = true)]
async fn throttling_ends_the_turn_and_not_the_audit() {
    for call in ["contact 2", "page 0 1000", "page 3 1000"] {
        let bed = Bed::new(&["Cust1", "Cust2"]);
        bed.create(1..=3);
        bed.list.tenants[1].superoffice.crm.save(1, "Company");
        bed.crm().fail(call, 429, 1);
        let report = bed.run().await;
        // No further call in this invocation; the other tenant is audited.
        assert_eq!(bed.crm().take_calls().last().map(String::as_str), Some(call));
        assert_eq!((counts(&report), report.metrics.mirror_throttled), ((0, 0, 1), 1), "{call}");
        assert!(bed.state("Cust1").running.is_some());
        let report = bed.run().await;
        assert_eq!((bed.is_equal(), counts(&report)), (true, (0, 0, 1)), "{call}");
    }
}

#[tokio::test(start_paused = true)]
async fn other_answers_of_the_list_end_the_audit_as_failed() {
    for (failure, reason) in [
        (Failure::Status(401), "the list of all contacts: SuperOffice responded with status 401"),
        (Failure::Status(403), "the list of all contacts: SuperOffice responded with status 403"),
        (Failure::Status(503), "the list of all contacts: SuperOffice responded with status 503"),
        (Failure::Timeout, "the list of all contacts: SuperOffice did not respond in time"),
        (Failure::Unexpected, "the list of all contacts: SuperOffice's response is not as documented"),
        (Failure::NotAscending, "the list of all contacts: the ids of the list do not ascend"),
    ] {
        let bed = Bed::filled(4).await;
        bed.office().rows.set(2);
        bed.crm().script("page 2", [Fault::Failure(failure.clone())]);
        let report = bed.run().await;
        assert_eq!((reasons(&report), counts(&report)), (vec![(None, reason)], (0, 1, 0)));
        assert_eq!(bed.list.refused.borrow().len(), usize::from(failure == Failure::Status(401)));
        bed.run().await;
        assert_eq!(bed.crm().take_calls(), ["page 0 1000", "page 2 1000"]);
        bed.pass_hours(1);
        assert_eq!(counts(&bed.run().await), (0, 0, 1));
        assert_eq!(bed.crm().take_calls()[0], "page 0 1000");
    }
}

#[tokio::test(start_paused = true)]
async fn tenant_that_is_given_up_ends_the_audit_as_failed() {
    let bed = Bed::filled(9).await;
    bed.pass_hours(1000);
    bed.crm().fail("contact 5", 401, 1);
    let report = bed.run().await;
    let expected =
        [(Some(5), "SuperOffice responded with status 401"), (None, "the tenant was given up for this invocation")];
    assert_eq!((reasons(&report), counts(&report)), (expected.to_vec(), (0, 2, 0)));
    assert_eq!(bed.reads().last().map(String::as_str), Some("contact 5"));
    assert_eq!(*bed.list.refused.borrow(), ["Cust1"]);
    assert!(bed.state("Cust1").failed);

    // The list that decides after three failures can refuse the credentials, too.
    let bed = Bed::filled(9).await;
    bed.pass_hours(1000);
    bed.crm().fail("contact", 500, 3);
    bed.crm().fail("page 0 1 ", 401, 1);
    assert_eq!(counts(&bed.run().await), (0, 4, 0));
    assert_eq!(*bed.list.refused.borrow(), ["Cust1"]);
}

#[tokio::test(start_paused = true)]
async fn table_that_fails_ends_the_turn_and_not_the_audit() {
    let bed = Bed::new(&["Cust1"]);
    bed.create(1..=3);
    bed.run().await;
    bed.create([4]);
    bed.pass_hours(24);
    *bed.table.failure.lock().unwrap() = Some(TableError::Throttled);
    let report = bed.run().await;
    assert_eq!((counts(&report), report.metrics.audit_age), ((0, 1, 0), None));
    assert_eq!(reasons(&report), [(None, "the table throttles")]);
    *bed.table.failure.lock().unwrap() = None;
    bed.run().await;
    assert!(bed.is_equal());
}

#[tokio::test(start_paused = true)]
async fn user_who_loses_access_does_not_empty_the_table() {
    let bed = Bed::filled(100).await;
    let before = bed.table.documents("Cust1/contact");
    bed.office().rows.set(30);
    bed.crm().save(80, "Changed");
    bed.pass_hours(1);
    // The first page is complete, and later ones lack most contacts.
    bed.office().hide((31..=100).filter(|id| *id != 80));
    let report = bed.run().await;
    assert_eq!(reasons(&report), [(None, BRAKED)]);
    assert_eq!((counts(&report), different(&report)), ((1, 1, 0), vec![80]));
    let mut expected = before.clone();
    expected.insert(80, bed.crm().documents()[&80].clone());
    assert_eq!(bed.table.documents("Cust1/contact"), expected);
    assert_eq!(bed.reads(), ["contact 80"]);

    // An hour later, with access.
    bed.office().hidden.borrow_mut().clear();
    bed.pass_hours(1);
    assert_eq!((counts(&bed.run().await), bed.is_equal()), ((0, 0, 1), true));
}

#[tokio::test(start_paused = true)]
async fn brake_withholds_surplus_rows_of_later_pages_until_removals_are_allowed() {
    let bed = Bed::filled(60).await;
    bed.office().rows.set(20);
    // The first range has 10 contacts and 20 surplus rows. Each later page has one surplus row.
    (11..=30).chain([45, 60]).for_each(|id| bed.crm().remove(id));
    bed.office().rows.set(10);
    let report = bed.run().await;
    assert_eq!((counts(&report), report.metrics.removed), ((0, 1, 0), 0));
    assert_eq!(bed.table.documents("Cust1/contact").len(), 60);
    assert_eq!(bed.reads(), [""; 0]);
    bed.pass_hours(1);
    assert_eq!(counts(&bed.run().await), (0, 1, 0));

    let report = bed.begin("Cust1", true).await.unwrap();
    assert_eq!((counts(&report), report.metrics.removed, bed.is_equal()), ((22, 0, 1), 22, true));
    // The permission was for one audit.
    (31..=44).chain(46..=59).for_each(|id| bed.crm().remove(id));
    bed.pass_hours(24);
    assert_eq!(counts(&bed.run().await), (0, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn brake_counts_before_the_contacts_of_the_page_are_mended() {
    let bed = Bed::filled(25).await;
    (1..=25).for_each(|id| bed.crm().remove(id));
    bed.create(26..=60);
    bed.office().answers.set(3);
    bed.run().await;
    // The rest of the page would not be braked on its own.
    bed.office().answers.set(usize::MAX);
    let report = bed.audit_to_the_end().await;
    assert_eq!((report.metrics.removed, report.metrics.audit_completed), (0, 0));
    assert_eq!(bed.table.documents("Cust1/contact").len(), 60);
}

#[tokio::test(start_paused = true)]
async fn interrupted_page_is_judged_as_a_whole() {
    // 29 of 61 rows are surplus. They are most of the rows that the interruption leaves.
    let bed = Bed::filled(61).await;
    (1..=31).for_each(|id| bed.crm().save(id, "Changed"));
    (32..=60).for_each(|id| bed.crm().remove(id));
    bed.pass_hours(1);
    bed.office().answers.set(1 + 20);
    bed.run().await;
    assert_eq!(bed.state("Cust1").running.unwrap().after, 20);
    bed.office().answers.set(usize::MAX);
    bed.crm().take_calls();
    let report = bed.audit_to_the_end().await;
    assert_eq!((reasons(&report), report.metrics.removed, bed.is_equal()), (vec![], 29, true));
    assert_eq!(bed.reads().first().map(String::as_str), Some("contact 21"));
    assert_eq!(report.metrics.audit_completed, 1);
}

#[tokio::test(start_paused = true)]
async fn interrupted_page_is_not_compared_again_if_removals_are_allowed() {
    let bed = Bed::filled(60).await;
    (1..=60).for_each(|id| bed.crm().remove(id));
    bed.office().answers.set(1 + 20);
    assert_eq!(bed.begin("Cust1", true).await.unwrap().metrics.removed, 20);
    bed.office().answers.set(usize::MAX);
    bed.crm().take_calls();
    bed.audit_to_the_end().await;
    assert_eq!((bed.crm().take_calls()[0].as_str(), bed.is_equal()), ("page 20 1000", true));
}

#[tokio::test(start_paused = true)]
async fn access_that_is_lost_during_an_interruption_does_not_empty_the_rest_of_the_page() {
    let bed = Bed::filled(60).await;
    (1..=60).for_each(|id| bed.crm().save(id, "Changed"));
    bed.pass_hours(1);
    bed.office().answers.set(1 + 20);
    bed.run().await;
    bed.office().answers.set(usize::MAX);
    bed.office().hide(10..=60);
    let report = bed.audit_to_the_end().await;
    assert_eq!((reasons(&report), report.metrics.removed), (vec![(None, BRAKED)], 0));
    assert_eq!(bed.table.documents("Cust1/contact").len(), 60);
}

#[tokio::test(start_paused = true)]
async fn short_pages_do_not_end_the_audit() {
    let bed = Bed::new(&["Cust1"]);
    bed.create([3, 4, 70, 71, 100]);
    bed.office().rows.set(2);
    assert_eq!(counts(&bed.run().await), (0, 0, 1));
    assert!(bed.is_equal());
    let pages: Vec<_> = bed.crm().take_calls().into_iter().filter(|call| call.starts_with("page")).collect();
    assert_eq!(pages, ["page 0 1000", "page 4 1000", "page 71 1000", "page 100 1000"]);
}

#[tokio::test(start_paused = true)]
async fn dates_decide_nothing_but_the_alarm() {
    let forms: [fn(&str) -> String; 4] = [
        // An hour behind.
        |text| text.replace("T09:", "T08:").replace("T10:", "T09:").replace("T11:", "T10:"),
        // Local time without an offset.
        |text| text.trim_end_matches('Z').replace("T09:", "T11:").replace("T10:", "T12:"),
        |_| "soon".to_owned(),
        |_| String::new(),
    ];
    for (index, form) in forms.into_iter().enumerate() {
        let bed = Bed::filled(5).await;
        bed.office().dates.set(form);
        bed.crm().save(2, "Changed");
        bed.crm().remove(3);
        bed.pass_hours(1);
        bed.run().await;
        assert!(bed.is_equal(), "{index}");
        bed.pass_hours(24);
        bed.crm().take_calls();
        bed.run().await;
        assert_eq!(bed.reads(), [""; 0], "{index}");
    }
}

#[tokio::test(start_paused = true)]
async fn restored_backup_comes_with_the_next_audit() {
    let bed = Bed::filled(5).await;
    let backup = bed.crm().backup();
    bed.crm().save(2, "Changed");
    bed.crm().remove(3);
    bed.crm().save(6, "Created");
    bed.pass_hours(1);
    bed.run().await;
    assert!(bed.is_equal());
    bed.crm().restore(backup);
    let report = bed.begin("Cust1", false).await.unwrap();
    assert_eq!((bed.is_equal(), counts(&report)), (true, (3, 0, 1)));
}
