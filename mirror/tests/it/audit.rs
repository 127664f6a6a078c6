//! Audits of tenants in memory, in virtual time.

mod bed;
mod interruptions;
mod scale;
mod troubles;

use std::time::Duration;

use superoffice_webhook::webhook::entity::Archive;
use superoffice_webhook_mirror::audit::{self, Settings};
use superoffice_webhook_mirror::failure::Failure;
use tokio::time::Instant;

use self::bed::{Bed, Variant, Wired, counts, different, reasons};

#[tokio::test(start_paused = true)]
async fn first_audit_fills_the_table_and_counts_no_difference() {
    let bed = Bed::new(&["Cust1"]);
    bed.create([1, 2, 5, 9]);
    let report = bed.run().await;
    assert!(bed.is_equal());
    assert_eq!((report.metrics.written, report.metrics.audit_age), (4, Some(0.0)));
    assert_eq!(counts(&report), (0, 0, 1));
    assert_eq!(
        bed.crm().take_calls(),
        ["page 0 1000", "contact 1", "contact 2", "contact 5", "contact 9", "page 9 1000"]
    );
    let stamp = "2026-11-24T09:00:00Z/0001-01-01T00:00:00Z";
    assert_eq!(bed.table.row("Cust1/contact", 5).unwrap().stamp.as_deref(), Some(stamp));
    let state = bed.state("Cust1");
    assert!(state.filled && !state.failed && state.running.is_none());

    // Nothing is due before its time.
    bed.pass_hours(23);
    let report = bed.run().await;
    assert_eq!((bed.crm().take_calls().len(), counts(&report), report.metrics.audit_age), (0, (0, 0, 0), Some(23.0)));
}

#[tokio::test(start_paused = true)]
async fn rows_that_agree_are_not_read_again() {
    let bed = Bed::filled(5).await;
    let report = bed.run().await;
    assert_eq!(bed.crm().take_calls(), ["page 0 1000", "page 5 1000"]);
    assert_eq!((counts(&report), report.metrics.audit_age), ((0, 0, 1), Some(0.0)));

    // Only the rows' age causes these reads.
    bed.pass_hours(30 * 24 + 1);
    let report = bed.run().await;
    assert_eq!(bed.reads().len(), 5);
    assert_eq!((counts(&report), report.metrics.unchanged), ((0, 0, 1), 5));

    // An aged row that has changed without a new date is mended without an alarm.
    bed.crm().rename_without_date(3, "Values of another table");
    bed.pass_hours(30 * 24 + 1);
    let report = bed.run().await;
    assert_eq!((counts(&report), report.metrics.written, bed.is_equal()), ((0, 0, 1), 1, true));
}

#[tokio::test(start_paused = true)]
async fn lost_events_are_mended_and_counted() {
    let bed = Bed::filled(9).await;
    bed.crm().save(2, "Changed");
    bed.crm().remove(3);
    bed.crm().set_deleted(4, true);
    bed.crm().merge(5, 6);
    bed.crm().save(12, "Created");
    bed.pass_hours(1);
    // Its event may still be on its way.
    bed.crm().save(7, "Changed just now");
    bed.create([13]);
    let report = bed.run().await;
    assert!(bed.is_equal());
    assert_eq!((different(&report), counts(&report)), (vec![2, 3, 4, 5, 12], (5, 0, 1)));

    // A restored contact has a tombstone.
    bed.crm().set_deleted(4, false);
    bed.pass_hours(24);
    let report = bed.run().await;
    assert_eq!((bed.is_equal(), different(&report)), (true, vec![4]));
}

#[tokio::test(start_paused = true)]
async fn row_that_an_event_wrote_is_read_once_more_and_is_no_difference() {
    let bed = Bed::filled(3).await;
    bed.crm().save(2, "Changed");
    bed.handle_event(2, &bed.table).await;
    assert_eq!(bed.table.row("Cust1/contact", 2).unwrap().stamp, None);
    bed.pass_hours(1);
    bed.crm().take_calls();
    let report = bed.run().await;
    assert_eq!((bed.reads(), counts(&report)), (vec!["contact 2".to_owned()], (0, 0, 1)));
    bed.pass_hours(24);
    bed.run().await;
    assert_eq!(bed.reads(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn stamp_does_not_survive_the_write_of_an_event() {
    for variant in [Variant::AsItIs, Variant::StampSurvivesEvent] {
        let bed = Bed::filled(3).await;
        let table = Wired::new(&bed.table, variant);
        let before = bed.crm().backup();
        bed.crm().save(2, "Changed");
        bed.handle_event(2, &table).await;
        // A restored backup raises no event, and the list has the old texts again.
        bed.crm().restore(before);
        bed.run_with(&table).await;
        assert_eq!(bed.is_equal(), variant == Variant::AsItIs, "{variant:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn row_with_a_stamp_was_read_two_seconds_after_its_page() {
    let bed = Bed::filled(3).await;
    bed.crm().save(2, "First change of this second");
    bed.pass_hours(1);
    let second_change = async {
        tokio::time::sleep(Duration::from_millis(1999)).await;
        // The list's text stays the same.
        bed.crm().rename_without_date(2, "Second change of this second");
    };
    let begun = Instant::now();
    let (report, ()) = tokio::join!(bed.run(), second_change);
    assert!(bed.is_equal());
    assert_eq!((different(&report), begun.elapsed()), (vec![2], Duration::from_secs(2)));
    // A surplus row gets no stamp, and is read at once.
    bed.crm().remove(1);
    bed.pass_hours(24);
    let begun = Instant::now();
    bed.run().await;
    assert_eq!((bed.is_equal(), begun.elapsed()), (true, Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn answer_that_is_older_than_a_row_does_not_replace_it() {
    for variant in [Variant::AsItIs, Variant::OverwritesNewerRow] {
        let bed = Bed::filled(3).await;
        bed.crm().save(2, "First");
        bed.pass_hours(1);
        let table = Wired::new(&bed.table, variant);
        table.before_write.set(Duration::from_millis(100));
        let event = async {
            // Between the audit's answer and its write.
            while bed.crm().calls().last().map(String::as_str) != Some("contact 2") {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            bed.crm().save(2, "Second");
            bed.handle_event(2, &bed.table).await;
        };
        tokio::join!(bed.run_with(&table), event);
        assert_eq!(bed.is_equal(), variant == Variant::AsItIs, "{variant:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn reads_are_limited_per_second() {
    let mut bed = Bed::new(&["Cust1"]);
    bed.settings = Settings { reads_per_second: 4, ..bed.settings };
    bed.create(1..=21);
    let begun = Instant::now();
    bed.run().await;
    assert_eq!((bed.is_equal(), begun.elapsed()), (true, Duration::from_secs(2 + 5)));
}

#[tokio::test(start_paused = true)]
async fn run_ends_before_its_deadline_whatever_hangs() {
    for (hangs_after, seconds) in (0..6).flat_map(|calls| [24, 6].map(|seconds| (calls, seconds))) {
        let bed = Bed::new(&["Cust1"]);
        bed.create(1..=3);
        bed.office().answers.set(hangs_after);
        let (begun, invocation) = (Instant::now(), Duration::from_secs(seconds));
        let report = audit::run(&bed.list, &bed.table, &bed.settings, begun + invocation).await;
        let is_hanging = hangs_after < 5;
        assert_eq!(begun.elapsed() >= Duration::from_secs(4), is_hanging, "{hangs_after}");
        // Two seconds are left to write the position.
        assert!(begun.elapsed() <= invocation - Duration::from_secs(2), "{:?}", begun.elapsed());
        assert_eq!(counts(&report), (0, 0, u64::from(!is_hanging)));
        bed.office().answers.set(usize::MAX);
        bed.run().await;
        assert!(bed.is_equal());
    }
}

#[tokio::test(start_paused = true)]
async fn tenants_take_turns_and_none_waits_for_another() {
    let bed = Bed::new(&["Cust1", "Cust2", "Cust3"]);
    for tenant in &bed.list.tenants {
        (1..=60).for_each(|id| tenant.superoffice.crm.save(id, "Company"));
    }
    // The first tenant never answers, and the second one is slow.
    bed.list.tenants[0].superoffice.answers.set(0);
    bed.list.tenants[1].superoffice.delay.set(Duration::from_secs(1));
    bed.run().await;
    bed.run().await;
    let rows = |tenant: &str| bed.table.documents(&format!("{tenant}/contact")).len();
    assert_eq!(rows("Cust1"), 0);
    assert!(rows("Cust2") > 3, "{}", rows("Cust2"));
    assert!(rows("Cust3") > 20, "{}", rows("Cust3"));
}

#[tokio::test(start_paused = true)]
async fn age_is_that_of_the_oldest_completion() {
    let mut bed = Bed::new(&["Cust1", "Cust2", "Cust3"]);
    bed.list.tenants[2].is_paused = true;
    bed.list.unusable = vec!["Cust8".into(), "Cust9".into()];
    bed.list.tenants[1].superoffice.crm.fail("page", 500, 99);
    let report = bed.run().await;
    assert_eq!((counts(&report), report.metrics.audit_age), ((0, 3, 1), Some(0.0)));
    let tenants: Vec<_> = report.reasons.iter().map(|reason| reason.tenant.as_deref().unwrap()).collect();
    assert_eq!(tenants, ["Cust8", "Cust9", "Cust2"]);
    assert_eq!(bed.list.tenants[2].superoffice.crm.take_calls(), [""; 0]);
    for (hours, age) in [(5, 5.0), (20, 25.0), (25, 50.0)] {
        bed.pass_hours(hours);
        assert_eq!(bed.run().await.metrics.audit_age, Some(age));
    }
    bed.list.tenants[1].superoffice.crm.clear_faults();
    bed.pass_hours(1);
    assert_eq!(bed.run().await.metrics.audit_age, Some(1.0));

    bed.list.tenants.iter_mut().for_each(|tenant| tenant.is_paused = true);
    assert_eq!(bed.run().await.metrics.audit_age, Some(0.0));
    bed.list.failure = Some(Failure::UnusableTenant);
    let report = bed.run().await;
    assert_eq!((counts(&report), report.metrics.audit_age), ((0, 1, 0), None));
}

#[tokio::test(start_paused = true)]
async fn audits_that_are_turned_off_run_if_someone_asks_for_one() {
    let mut bed = Bed::new(&["Cust1", "Cust2"]);
    bed.create(1..=3);
    bed.settings.hours = 0;
    let report = bed.run().await;
    assert_eq!((counts(&report), report.metrics.audit_age), ((0, 0, 0), None));
    assert_eq!(bed.crm().take_calls(), [""; 0]);

    let report = bed.begin("cust1", false).await.unwrap();
    assert_eq!((bed.is_equal(), counts(&report), report.metrics.audit_age), (true, (0, 0, 1), None));

    // The schedule continues an audit that someone asked for, and nothing else.
    bed.create(4..=300);
    bed.begin("Cust1", false).await.unwrap();
    assert!(!bed.is_equal());
    bed.run().await;
    assert!(bed.is_equal());
    bed.crm().take_calls();
    bed.run().await;
    assert_eq!(bed.crm().take_calls(), [""; 0]);
    assert_eq!(bed.list.tenants[1].superoffice.crm.take_calls(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn audit_of_an_unknown_or_paused_tenant_does_not_begin() {
    let mut bed = Bed::new(&["Cust1"]);
    assert_eq!(bed.begin("Cust2", true).await.unwrap_err(), Failure::UnknownTenant);
    bed.list.tenants[0].is_paused = true;
    assert_eq!(bed.begin("Cust1", true).await.unwrap_err(), Failure::Paused);
    assert_eq!(bed.crm().take_calls(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn audit_that_someone_asks_for_replaces_the_one_in_progress() {
    let bed = Bed::new(&["Cust1"]);
    bed.create(1..=500);
    bed.run().await;
    let after = bed.state("Cust1").running.unwrap().after;
    assert!(after > 100 && after < 500, "{after}");
    bed.crm().take_calls();
    let report = bed.begin("Cust1", false).await.unwrap();
    // The rows that were written already agree.
    assert_eq!(bed.crm().take_calls()[..2], ["page 0 1000".to_owned(), format!("contact {}", after + 1)]);
    assert_eq!(counts(&report), (0, 0, 0));
    assert_eq!(reasons(&report), []);
}

/// Returns a tenant with contacts and persons from the id 1, whose persons are audited, too.
fn with_persons(count: i64) -> Bed {
    let mut bed = Bed::new(&["Cust1"]);
    bed.settings.entities = Archive::ALL.to_vec();
    bed.create(1..=count);
    (1..=count).for_each(|id| bed.crm().persons.save(id, "Person"));
    bed
}

fn has_all_persons(bed: &Bed) -> bool {
    bed.table.documents("Cust1/person") == bed.crm().persons.documents()
}

#[tokio::test(start_paused = true)]
async fn each_entity_has_an_audit_of_its_own() {
    let bed = with_persons(3);
    let report = bed.run().await;
    assert_eq!((bed.is_equal(), has_all_persons(&bed)), (true, true));
    assert_eq!((counts(&report), report.metrics.audit_age), ((0, 0, 2), Some(0.0)));
    assert!(bed.table.stored_position("#audit/Cust1/person").is_some());

    // A lost event of a person is an alarm that names the person.
    bed.crm().persons.remove(2);
    bed.crm().fail("page of persons", 403, 1);
    bed.pass_hours(24);
    let report = bed.run().await;
    let denied = "the list of all persons: SuperOffice responded with status 403";
    assert_eq!(
        (counts(&report), report.metrics.audit_age, reasons(&report)),
        ((0, 1, 1), Some(24.0), vec![(None, denied)])
    );
    bed.pass_hours(1);
    let report = bed.run().await;
    assert_eq!((counts(&report), report.metrics.audit_age, has_all_persons(&bed)), ((1, 0, 1), Some(1.0), true));
    let key = report.differences[0].key;
    assert_eq!((key.archive, key.id), (Archive::PERSON, 2));

    // Someone who asks for an audit gets one of each entity.
    let report = bed.begin("Cust1", false).await.unwrap();
    assert_eq!(counts(&report), (0, 0, 2));
}

#[tokio::test(start_paused = true)]
async fn audits_of_a_tenant_share_its_limit_of_reads() {
    let mut bed = with_persons(30);
    bed.settings.reads_per_second = 4;
    let begun = Instant::now();
    bed.run().await;
    assert_eq!((bed.is_equal(), has_all_persons(&bed)), (true, true));
    // 60 reads with 250 ms between them. The first of each page waits for two seconds instead.
    assert_eq!(begun.elapsed(), Duration::from_millis(2 * 2000 + 58 * 250));
}

#[tokio::test(start_paused = true)]
async fn trouble_of_a_tenant_ends_the_turns_of_all_its_entities() {
    for (call, status) in [("page 0", 429), ("contact 2", 429), ("page 0", 401), ("contact 2", 401)] {
        let bed = with_persons(3);
        bed.crm().fail(call, status, 1);
        bed.run().await;
        let calls = bed.crm().take_calls();
        assert!(calls.last().unwrap().starts_with(call), "{call} {status}: {calls:?}");
        bed.pass_hours(1);
        bed.run().await;
        assert_eq!((bed.is_equal(), has_all_persons(&bed)), (true, true));
    }
    // A tenant that hangs costs one turn.
    let bed = with_persons(3);
    bed.office().answers.set(0);
    let begun = Instant::now();
    bed.run().await;
    assert_eq!(begun.elapsed(), Duration::from_secs(12));
}
