//! Single rules of a run.

use fake_superoffice::{Fault, Kind, Mode, Outage, SECRET, START, TOKEN, Version, WEBHOOK_URL, Zones};
use recovery::record::Record;
use serde_json::json;

use crate::support::{ONLY, OWN_LOG_GROUP, TestBed};

/// Fails deliveries until SuperOffice disables the webhook.
async fn disable(bed: &TestBed, outage: Outage) -> Vec<i64> {
    bed.function.set_outage(outage);
    let contacts = (0..4)
        .map(|_| {
            bed.pass(1);
            bed.superoffice.create_contact()
        })
        .collect();
    bed.superoffice.idle().await;
    assert_eq!(bed.state(0), "TooManyErrors");
    contacts
}

fn resyncs(contacts: &[i64]) -> Vec<(String, i64)> {
    contacts.iter().map(|contact| ("contact.resync".to_owned(), *contact)).collect()
}

#[tokio::test]
async fn quiet_run_makes_only_the_calls_it_needs() {
    let bed = TestBed::start().await;
    bed.superoffice.create_contact();
    bed.superoffice.idle().await;
    bed.pass(300);
    bed.superoffice.clear_requests();
    let report = bed.run().await;
    assert_eq!((report.error, report.missed, report.resynced, report.reactivated), (None, 0, 0, 0));
    assert_eq!((report.tenant.as_str(), report.webhook_active, report.changed), (ONLY, Some(true), 1));
    assert_eq!(
        bed.calls(),
        [
            "GET /api/state/Cust12345",
            "GET Webhook",
            "GET Archive/dynamic",
            "GET Archive/dynamic",
            "GET Archive/RecycleContact",
            "GET Archive/dynamic",
            "GET Archive/dynamic",
        ]
    );
    let line = bed.lines().pop().unwrap();
    assert_eq!((&line["WatchdogOk"], &line["Tenants"], line.get("WebhooksInactive")), (&json!(1), &json!(1), None));
    assert_eq!(report.arrived_until, Some("2026-11-24T09:03:00Z".parse().unwrap()));
    // The own log, where no earlier run is found, and the function's log.
    assert_eq!(bed.logs.requests(), 4);
}

#[tokio::test]
async fn single_lost_event_is_recovered() {
    let bed = TestBed::start().await;
    let [lost, unchanged] = [(); 2].map(|()| bed.superoffice.create_contact());
    bed.superoffice.idle().await;
    bed.pass(60);
    bed.superoffice.change_contact_silently(lost);
    let reports = bed.run_every_five_minutes(3).await;
    let found: Vec<(u64, u64)> = reports.iter().map(|report| (report.missed, report.resynced)).collect();
    assert_eq!(found, [(1, 1), (0, 0), (0, 0)]);
    assert_eq!(bed.signals(), [lost]);
    assert_eq!(bed.function.events()[2..], resyncs(&[lost]));
    assert!(!bed.signals().contains(&unchanged));
    assert_eq!(bed.lines()[0]["Missed"], 1);
    assert_eq!(bed.lines()[0]["Resynced"], 1);
}

#[tokio::test]
async fn lost_event_is_recovered_or_the_reason_is_reported_in_every_mode() {
    for (name, mode) in Mode::ALL {
        let bed = TestBed::start().await;
        let lost = bed.superoffice.create_contact();
        bed.superoffice.idle().await;
        bed.pass(60);
        bed.superoffice.change_contact_silently(lost);
        bed.superoffice.set_mode(mode);
        bed.pass(300);
        let report = bed.run().await;
        // Both dates of the contact. A date in another zone than UTC is outside the window.
        let note = (mode.zones != Zones::Honored).then_some("2 times had no offset from UTC and were read as UTC");
        let recovered = if mode.zones == Zones::Ignored { vec![] } else { vec![lost] };
        assert_eq!((bed.signals(), report.error), (recovered, None), "{name}");
        assert_eq!(report.notes.notes.iter().find(|note| note.contains("offset")).map(String::as_str), note, "{name}");
    }
}

#[tokio::test]
async fn latest_changes_are_left_to_the_next_run() {
    let bed = TestBed::start().await;
    let contact = bed.superoffice.create_contact();
    bed.superoffice.idle().await;
    bed.pass(60);
    bed.superoffice.change_contact_silently(contact);
    bed.pass(119);
    assert_eq!(bed.run().await.missed, 0);
    bed.pass(300);
    assert_eq!(bed.run().await.missed, 1);
}

#[tokio::test]
async fn disabled_webhook_is_reactivated_and_every_change_recovered() {
    for outage in [Outage::Queue, Outage::Permission, Outage::Endpoint, Outage::Gateway] {
        for version in [Version::Current, Version::WithoutCounters, Version::WithoutPatch] {
            let bed = TestBed::start().await;
            bed.superoffice.set_version(version);
            let [changed, deleted, source, destination, unchanged] = [(); 5].map(|()| bed.superoffice.create_contact());
            bed.superoffice.idle().await;
            bed.pass(60);
            let created = disable(&bed, outage).await;
            bed.pass(1);
            bed.superoffice.change_contact(changed);
            bed.pass(1);
            bed.superoffice.soft_delete_contact(deleted);
            bed.pass(1);
            bed.superoffice.merge_contacts(source, destination);
            bed.superoffice.idle().await;
            bed.function.set_outage(Outage::None);
            bed.superoffice.clear_requests();

            let reports = bed.run_every_five_minutes(2).await;
            assert_eq!(bed.state(0), "Active", "{outage:?} {version:?}");
            assert_eq!(reports[0].reactivated, 1);
            assert_eq!((reports[1].missed, reports[1].reactivated), (0, 0));
            let expected = [created.as_slice(), &[changed, deleted, source, destination]].concat();
            assert_eq!(bed.signals(), expected, "{outage:?} {version:?}");
            assert_eq!(bed.function.events()[5..], resyncs(&expected));
            assert!(!expected.contains(&unchanged));
            assert_eq!((&bed.lines()[0]["Reactivated"], bed.lines()[0].get("WebhooksInactive")), (&json!(1), None));
        }
    }
}

#[tokio::test]
async fn clocks_may_differ() {
    for slow_by in [600, 90, 5, -1, -5, -90] {
        let bed = TestBed::start_slow(START.parse().unwrap(), slow_by, &[]).await;
        let unchanged = bed.superoffice.create_contact();
        bed.superoffice.idle().await;
        bed.pass(3600);
        bed.run().await;
        let created = disable(&bed, Outage::Permission).await;
        bed.function.set_outage(Outage::None);
        let reports = bed.run_every_five_minutes(3).await;
        assert_eq!((reports[0].reactivated, reports[0].resynced, reports[2].missed), (1, 4, 0), "{slow_by}");
        assert_eq!(bed.signals().iter().filter(|contact| **contact != unchanged).count(), created.len());
        // An event that is a second older than its own change cannot be told from a lost one.
        assert_eq!(bed.signals().contains(&unchanged), slow_by == -1, "{slow_by}");
    }
}

#[tokio::test]
async fn webhook_is_not_activated_without_a_successful_test() {
    for outage in [Outage::Endpoint, Outage::Gateway] {
        let bed = TestBed::start().await;
        disable(&bed, outage).await;
        for report in bed.run_every_five_minutes(3).await {
            assert_eq!((report.reactivated, report.resynced, report.webhook_active), (0, 0, Some(false)));
            assert!(
                report.notes.notes.iter().any(|note| note.starts_with("SuperOffice's test failed: ")),
                "{:?}",
                report.notes
            );
            assert_eq!(report.missed, 4);
            assert_eq!(report.consecutive_errors, Some(9));
        }
        assert_eq!(bed.state(0), "TooManyErrors");
        assert!(bed.signals().is_empty());
        let line = &bed.lines()[0];
        assert_eq!((&line["WebhooksInactive"], &line["ConsecutiveErrors"]), (&json!(1), &json!(9)));
    }
}

#[tokio::test]
async fn webhook_that_a_person_stopped_stays_stopped() {
    let bed = TestBed::start().await;
    let contact = bed.superoffice.create_contact();
    bed.superoffice.idle().await;
    let id = bed.superoffice.webhooks()[0].id;
    bed.superoffice.set_property(id, "State", json!("Stopped"));
    bed.pass(1);
    bed.superoffice.change_contact(contact);
    bed.superoffice.idle().await;
    for report in bed.run_every_five_minutes(30).await {
        assert_eq!((report.reactivated, report.resynced, report.error), (0, 0, None));
    }
    assert_eq!(bed.state(0), "Stopped");
    assert!(!bed.calls().iter().any(|call| call.starts_with("PATCH") || call.starts_with("PUT")));
    // Afterwards the change is still found, although it is older than an hour.
    bed.superoffice.set_property(id, "State", json!("Active"));
    bed.run_every_five_minutes(1).await;
    assert_eq!(bed.signals(), [contact]);
}

#[tokio::test]
async fn webhook_is_reactivated_once_an_hour() {
    let mut bed = TestBed::start().await;
    // The test succeeds, and deliveries fail.
    disable(&bed, Outage::Permission).await;
    let mut reactivated = Vec::new();
    for run in 0..26 {
        bed.pass(300);
        bed.superoffice.create_contact();
        bed.superoffice.idle().await;
        // The log remembers it, not the process.
        bed.restart();
        if bed.run().await.reactivated > 0 {
            reactivated.push(run * 5);
        }
        bed.superoffice.create_contact();
        bed.superoffice.create_contact();
        bed.superoffice.idle().await;
    }
    assert_eq!(reactivated, [0, 60, 120]);
    bed.function.set_outage(Outage::None);
    bed.run_every_five_minutes(14).await;
    let arrived: Vec<i64> = bed.function.events().into_iter().map(|(_, contact)| contact).collect();
    for contact in bed.superoffice.contacts() {
        assert!(arrived.contains(&contact.id), "{contact:?}");
    }
}

#[tokio::test]
async fn process_remembers_a_reactivation_that_the_log_does_not_show_yet() {
    let bed = TestBed::start().await;
    disable(&bed, Outage::Permission).await;
    bed.pass(300);
    assert_eq!(bed.run().await.reactivated, 1);
    let bed_without_log = bed;
    disable(&bed_without_log, Outage::Permission).await;
    // An invocation by hand, a moment later, before the line of the first run is readable.
    bed_without_log.logs.clear(OWN_LOG_GROUP);
    assert_eq!(bed_without_log.run().await.reactivated, 0);
}

#[tokio::test]
async fn first_signal_shows_whether_deliveries_succeed() {
    let bed = TestBed::start().await;
    disable(&bed, Outage::Permission).await;
    let reports = bed.run_every_five_minutes(1).await;
    assert_eq!((reports[0].reactivated, reports[0].missed, reports[0].resynced), (1, 4, 1));
    assert_eq!(bed.signals().len(), 1);
    assert_eq!(bed.state(0), "Active");
    bed.function.set_outage(Outage::None);
    let reports = bed.run_every_five_minutes(2).await;
    assert_eq!((reports[0].resynced, reports[1].missed), (4, 0));
}

#[tokio::test]
async fn event_that_arrived_before_the_first_signal_confirms_nothing() {
    let bed = TestBed::start().await;
    bed.superoffice.pause_sender(true);
    for _ in 0..4 {
        bed.superoffice.create_contact();
    }
    bed.superoffice.lose_waiting_events();
    bed.superoffice.pause_sender(false);
    bed.pass(300);
    bed.superoffice.create_contact();
    bed.superoffice.idle().await;
    bed.function.set_outage(Outage::Permission);
    bed.superoffice.create_contact();
    bed.superoffice.idle().await;
    let report = bed.run().await;
    assert_eq!((report.missed, report.resynced), (4, 1));
    assert!(
        report.notes.notes[0]
            .ends_with("was signaled but did not arrive; the remaining records are left to the next run"),
        "{:?}",
        report.notes
    );
}

#[tokio::test]
async fn contacts_that_no_longer_exist_keep_no_others_waiting() {
    let bed = TestBed::start_with(&[("WATCHDOG_MODE", "act"), ("MAX_RESYNCS", "2")]).await;
    let contacts: Vec<i64> = (0..6).map(|_| bed.superoffice.create_contact()).collect();
    bed.superoffice.idle().await;
    bed.pass(60);
    bed.superoffice.pause_sender(true);
    bed.superoffice.soft_delete_contact(contacts[0]);
    bed.superoffice.soft_delete_contact(contacts[1]);
    bed.pass(60);
    bed.superoffice.change_contact(contacts[4]);
    bed.superoffice.change_contact(contacts[5]);
    bed.superoffice.lose_waiting_events();
    bed.superoffice.pause_sender(false);
    bed.run_every_five_minutes(2).await;
    assert_eq!(bed.signals(), [contacts[4], contacts[5], contacts[0], contacts[1]]);
}

#[tokio::test]
async fn persons_are_recovered_after_contacts_if_the_webhook_has_their_events() {
    let bed = TestBed::start_with(&[("WATCHDOG_MODE", "act"), ("SYNC_ENTITIES", "contact,person")]).await;
    let (contact, person) = (bed.superoffice.create_contact(), bed.superoffice.create(Kind::Person));
    bed.superoffice.idle().await;
    bed.pass(60);
    bed.superoffice.change_contact_silently(contact);
    bed.pass(300);
    let report = bed.run().await;
    assert_eq!((report.changed, report.missed, report.resynced), (2, 2, 1));
    assert_eq!(
        report.notes.notes,
        ["the webhook does not subscribe to person.resync; `register --events` changes that"]
    );
    assert_eq!(report.state.missing.last().unwrap().record, Record::person(person));

    let webhook = bed.superoffice.webhooks()[0].id;
    bed.superoffice.set_property(webhook, "Events", json!(["contact.resync", "person.resync"]));
    let reports = bed.run_every_five_minutes(2).await;
    let found: Vec<_> = reports.iter().map(|report| (report.missed, report.resynced)).collect();
    assert_eq!(found, [(1, 1), (0, 0)]);
    assert_eq!(bed.function.events().last(), Some(&("person.resync".to_owned(), person)));
}

#[tokio::test]
async fn webhook_for_further_events_is_watched_and_reactivated() {
    let bed = TestBed::start_with(&[("WATCHDOG_MODE", "act"), ("SYNC_ENTITIES", "contact,person")]).await;
    let further = bed.superoffice.add_webhook(json!({
        "Name": "superoffice-webhook (2)", "Events": ["person.resync"], "TargetUrl": WEBHOOK_URL, "State": "Stopped",
        "Secret": SECRET,
    }));
    bed.superoffice.create(Kind::Person);
    bed.pass(300);
    let report = bed.run().await;
    assert_eq!((report.webhook_active, report.missed, report.resynced), (Some(false), 1, 0));
    assert_eq!(report.notes.notes, [format!("webhook {further} is Stopped")]);

    bed.superoffice.set_property(further, "State", json!("TooManyErrors"));
    let reports = bed.run_every_five_minutes(1).await;
    assert_eq!((reports[0].webhook_active, reports[0].reactivated, reports[0].resynced), (Some(true), 1, 1));
}

#[tokio::test]
async fn sweep_that_takes_too_long_is_continued_by_the_next_run() {
    let bed = TestBed::start().await;
    bed.run().await;
    bed.pass(300);
    let contacts: Vec<i64> = (0..4).map(|_| bed.superoffice.create_contact()).collect();
    bed.superoffice.idle().await;
    bed.pass(60);
    bed.superoffice.change_contact_silently(contacts[1]);
    bed.superoffice.change_contact_silently(contacts[3]);
    bed.pass(300);
    let mut reports = Vec::new();
    for _ in 0..5 {
        reports.push(bed.run_briefly().await);
        bed.pass(300);
    }
    let progress: Vec<_> = reports.iter().map(|report| (report.swept_after, report.missed)).collect();
    let after = |contact: usize| Some(Record::contact(contacts[contact]));
    assert_eq!(progress, [(after(0), 0), (after(1), 1), (after(2), 0), (after(3), 1), (None, 0)]);
    assert_eq!(bed.signals(), [contacts[1], contacts[3]]);
    // The window is the same for all parts.
    assert!(reports.iter().all(|report| (report.since, report.until) == (reports[0].since, reports[0].until)));
    assert!(reports[..4].iter().all(|report| report.arrived_until == reports[0].since));
    assert_eq!(reports[4].arrived_until, reports[4].until);
    assert_eq!(reports[0].notes.notes, ["time did not suffice for all changes; the next run continues"]);
    // The next sweep finds that all have arrived.
    let report = bed.run().await;
    assert_eq!((report.missed, report.arrived_until), (0, report.until));
}

#[tokio::test]
async fn changes_during_a_long_pause_are_found() {
    const DAY: i64 = 86_400;
    let bed = TestBed::start().await;
    let contact = bed.superoffice.create_contact();
    bed.superoffice.idle().await;
    bed.run_every_five_minutes(1).await;
    bed.pass(10 * DAY);
    bed.superoffice.change_contact_silently(contact);
    bed.pass(10 * DAY);
    let calls = bed.logs.requests();
    let reports = [bed.run().await, bed.run_every_five_minutes(1).await.remove(0)];
    // The first run finds the change in the older window, after the visit. The next run signals the contact.
    let found: Vec<_> = reports.iter().map(|report| (report.missed, report.resynced)).collect();
    assert_eq!(found, [(0, 0), (1, 1)]);
    assert_eq!(reports[0].since.unwrap(), "2026-12-14T07:58:00Z".parse().unwrap());
    assert_eq!((reports[0].state.missing.len(), &reports[0].state.older), (1, &None));
    // A call for each hour of 14 days.
    assert!((14 * 24..14 * 24 + 20).contains(&(bed.logs.requests() - calls)), "{}", bed.logs.requests() - calls);
}

#[tokio::test]
async fn report_mode_changes_nothing_and_forgets_nothing() {
    let mut bed = TestBed::start_with(&[]).await;
    let contacts = disable(&bed, Outage::Endpoint).await;
    bed.function.set_outage(Outage::None);
    bed.superoffice.clear_requests();
    for report in bed.run_every_five_minutes(40).await {
        assert_eq!((report.missed, report.resynced, report.reactivated), (4, 0, 0));
    }
    assert!(bed.calls().iter().all(|call| call.starts_with("GET ")), "{:?}", bed.calls());
    assert_eq!(bed.lines()[0]["mode"], "report");
    bed.variables.insert("WATCHDOG_MODE", "act".into());
    bed.restart();
    bed.run_every_five_minutes(2).await;
    assert_eq!(bed.signals(), contacts);
}

#[tokio::test]
async fn signals_are_limited_and_the_oldest_are_first() {
    let bed = TestBed::start_with(&[("WATCHDOG_MODE", "act"), ("MAX_RESYNCS", "3")]).await;
    bed.superoffice.pause_sender(true);
    let contacts: Vec<i64> = (0..8).map(|_| bed.superoffice.create_contact()).collect();
    // Changed in the opposite order of their ids.
    for contact in contacts.iter().rev() {
        bed.pass(1);
        bed.superoffice.change_contact(*contact);
    }
    bed.superoffice.lose_waiting_events();
    bed.superoffice.pause_sender(false);
    let reports = bed.run_every_five_minutes(4).await;
    let found: Vec<(u64, u64)> = reports.iter().map(|report| (report.missed, report.resynced)).collect();
    assert_eq!(found, [(8, 3), (5, 3), (2, 2), (0, 0)]);
    assert_eq!(bed.signals(), contacts.into_iter().rev().collect::<Vec<_>>());
}

#[tokio::test]
async fn failed_signal_does_not_stop_the_others() {
    let bed = TestBed::start().await;
    bed.superoffice.pause_sender(true);
    let contacts: Vec<i64> = (0..3)
        .map(|_| {
            bed.pass(1);
            bed.superoffice.create_contact()
        })
        .collect();
    bed.superoffice.lose_waiting_events();
    bed.superoffice.pause_sender(false);
    bed.superoffice.script(&format!("POST Webhook/contact.resync/{}", contacts[0]), [Fault::Status(500)]);
    let reports = bed.run_every_five_minutes(2).await;
    assert_eq!((reports[0].missed, reports[0].resynced), (3, 2));
    assert!(reports[0].notes.notes[0].starts_with(&format!("contact {}: ", contacts[0])), "{:?}", reports[0].notes);
    assert_eq!((reports[1].missed, reports[1].resynced), (1, 1));
}

#[tokio::test]
async fn nothing_is_signaled_without_a_subscription() {
    let bed = TestBed::start().await;
    let id = bed.superoffice.webhooks()[0].id;
    bed.superoffice.set_property(id, "Events", json!(["contact.created", "contact.changed"]));
    let contact = bed.superoffice.create_contact();
    bed.superoffice.idle().await;
    bed.pass(1);
    bed.superoffice.change_contact_silently(contact);
    let report = bed.run_every_five_minutes(1).await.remove(0);
    assert_eq!((report.missed, report.resynced), (1, 0));
    assert_eq!(report.notes.notes, ["the webhook does not subscribe to contact.resync; `register` changes that"]);
}

#[tokio::test]
async fn missing_webhook_is_reported() {
    let bed = TestBed::unregistered(&[("WATCHDOG_MODE", "act")]).await;
    bed.superoffice.create_contact();
    let report = bed.run_every_five_minutes(1).await.remove(0);
    assert_eq!((report.webhook_active, report.missed, report.resynced, report.error), (Some(false), 1, 0, None));
    assert_eq!(report.notes.notes[0], "no webhook for contacts posts to WEBHOOK_URL");
}

#[tokio::test]
async fn tenant_that_is_not_running_is_left_alone() {
    let bed = TestBed::start().await;
    bed.superoffice.create_contact();
    bed.superoffice.idle().await;
    bed.superoffice.set_running(false);
    bed.superoffice.clear_requests();
    let report = bed.run_every_five_minutes(1).await.remove(0);
    assert_eq!((report.tenant_state.as_deref(), report.arrived_until, report.error), (Some("Suspended"), None, None));
    assert_eq!(bed.calls(), ["GET /api/state/Cust12345"]);
    assert_eq!(bed.lines()[0]["WatchdogOk"], 1);
}

#[tokio::test]
async fn unknown_state_of_the_tenant_is_an_error_only_if_its_url_is_needed() {
    let mut bed = TestBed::start().await;
    bed.superoffice.script("GET /api/state", [Fault::Status(404)]);
    assert_eq!(bed.run().await.error.as_deref(), Some("GET api/state: status 404: This call fails in this test"));

    bed.variables.insert("SUPEROFFICE_URL", bed.superoffice.url());
    bed.restart();
    bed.superoffice.script("GET /api/state", [Fault::Status(404)]);
    let report = bed.run().await;
    assert_eq!((report.error, report.webhook_active), (None, Some(true)));
    assert_eq!(
        report.notes.notes,
        ["the tenant's state is unknown: GET api/state: status 404: This call fails in this test"]
    );
}

#[tokio::test]
async fn run_does_not_need_the_number_of_errors() {
    let bed = TestBed::start().await;
    bed.superoffice.set_version(Version::WithoutCounters);
    // The first call for this archive.
    bed.superoffice.script("GET Archive/dynamic", [Fault::Status(403)]);
    let report = bed.run().await;
    assert_eq!((report.error, report.consecutive_errors, report.webhook_active), (None, None, Some(true)));
    assert!(report.notes.notes[0].starts_with("the consecutive errors of webhook "), "{:?}", report.notes);
}

#[tokio::test]
async fn refused_reactivation_is_repeated_by_the_next_run() {
    let bed = TestBed::start().await;
    disable(&bed, Outage::Endpoint).await;
    bed.function.set_outage(Outage::None);
    bed.superoffice.script("PATCH Webhook/", [Fault::Status(400)]);
    let reports = bed.run_every_five_minutes(2).await;
    assert_eq!((reports[0].reactivated, reports[1].reactivated), (0, 1));
    assert!(reports[0].notes.notes.iter().any(|note| note.contains("was not reactivated: PATCH Webhook/")));
}

#[tokio::test]
async fn reactivation_without_a_response_counts() {
    let mut bed = TestBed::start().await;
    disable(&bed, Outage::Permission).await;
    bed.superoffice.script("PATCH Webhook/", [Fault::StatusAfterEffect(502); 4]);
    let report = bed.run().await;
    assert!(report.error.unwrap().contains("status 502"));
    assert_eq!((report.reactivated, bed.state(0).as_str()), (1, "Active"));
    disable(&bed, Outage::Permission).await;
    // Not only this process remembers it.
    bed.restart();
    assert_eq!(bed.run_every_five_minutes(1).await[0].reactivated, 0);
}

#[tokio::test]
async fn window_of_a_failed_visit_is_swept_again() {
    let bed = TestBed::start().await;
    let contact = bed.superoffice.create_contact();
    bed.superoffice.idle().await;
    bed.run_every_five_minutes(1).await;
    bed.superoffice.change_contact_silently(contact);
    // The lists of SuperOffice fail for hours.
    bed.superoffice.forbid("Archive");
    for report in bed.run_every_five_minutes(40).await {
        assert!(report.error.unwrap().contains("access denied (403)"));
    }
    let line = bed.lines().pop().unwrap();
    assert_eq!((&line["WatchdogOk"], &line["TenantsFailed"], &line["failed"]), (&json!(1), &json!(1), &json!([ONLY])));
    bed.superoffice.allow_everything();
    bed.run_every_five_minutes(2).await;
    assert_eq!(bed.signals(), [contact]);
}

#[tokio::test]
async fn unreadable_log_is_an_error_and_nothing_is_signaled() {
    let bed = TestBed::start().await;
    bed.superoffice.create_contact();
    bed.superoffice.idle().await;
    bed.run_every_five_minutes(1).await;
    // The watchdog's own log is read first, and then the function's.
    for readable in 0..2 {
        bed.pass(300);
        bed.logs.fail_after(readable);
        let report = bed.run_for(std::time::Duration::from_secs(300)).await;
        let group = ["/aws/lambda/watchdog", "/aws/lambda/webhook"][readable];
        let expected =
            format!("the log group {group} cannot be read: AccessDeniedException: not authorized in this test");
        assert_eq!((report.error.as_ref(), report.tenants), (Some(&expected), u64::try_from(readable).unwrap()));
        let line = bed.lines().pop().unwrap();
        assert_eq!((line.get("WatchdogOk"), &line["error"]), (None, &json!(expected)));
        bed.logs.clear_failures();
    }
    assert!(bed.signals().is_empty());
    assert_eq!(bed.visits().pop().unwrap().error.as_deref(), Some("the function's log was not read"));
}

#[tokio::test]
async fn webhook_is_reactivated_even_if_the_functions_log_cannot_be_read() {
    let bed = TestBed::start().await;
    disable(&bed, Outage::Queue).await;
    bed.function.set_outage(Outage::None);
    bed.pass(300);
    // The three periods of the watchdog's own log.
    bed.logs.fail_after(3);
    let report = bed.run_for(std::time::Duration::from_secs(300)).await;
    assert!(report.error.unwrap().starts_with("the log group /aws/lambda/webhook cannot be read"));
    assert_eq!((report.reactivated, report.resynced, bed.state(0).as_str()), (1, 0, "Active"));
}

#[tokio::test]
async fn throttled_calls_are_repeated() {
    let bed = TestBed::start().await;
    bed.logs.throttle(3);
    assert_eq!(bed.run().await.error, None);
    bed.pass(300);
    bed.logs.throttle(7);
    let report = bed.run_for(std::time::Duration::from_secs(300)).await;
    let expected = "the log group /aws/lambda/watchdog cannot be read: ThrottlingException: Rate exceeded";
    assert_eq!(report.error.as_deref(), Some(expected));
}

#[tokio::test]
async fn visit_ends_at_the_deadline_and_the_run_is_ok() {
    let bed = TestBed::start().await;
    bed.superoffice.script("GET Webhook", [Fault::Slow(std::time::Duration::from_secs(60))]);
    let report = bed.run_for(std::time::Duration::from_millis(300)).await;
    assert_eq!((report.error, report.tenants, report.tenants_failed), (None, 1, 1));
    let visit = bed.visits().pop().unwrap();
    assert_eq!(visit.error.as_deref(), Some("the visit was not completed in time"));
}

#[tokio::test]
async fn tenant_is_due_five_minutes_after_its_last_completed_visit() {
    let bed = TestBed::start().await;
    bed.run().await;
    bed.pass(269);
    let report = bed.run_for(std::time::Duration::from_secs(300)).await;
    assert_eq!((report.tenants, report.error), (0, None));
    let line = bed.lines().pop().unwrap();
    assert_eq!((&line["WatchdogOk"], line.get("Tenants")), (&json!(1), None));
    // A schedule is not exact to the second.
    bed.pass(1);
    bed.run().await;
    bed.superoffice.forbid("Webhook");
    bed.pass(300);
    assert!(bed.run().await.error.is_some());
    // The next run repeats the visit that failed.
    bed.superoffice.allow_everything();
    assert_eq!(bed.run().await.error, None);
}

#[tokio::test]
async fn known_missing_contacts_do_not_make_the_windows_longer() {
    let bed = TestBed::start_with(&[]).await;
    let contact = bed.superoffice.create_contact();
    bed.superoffice.idle().await;
    bed.run_every_five_minutes(1).await;
    bed.superoffice.change_contact_silently(contact);
    let changed = bed.clock.now();
    for report in bed.run_every_five_minutes(60).await.split_off(1) {
        assert_eq!((report.missed, report.arrived_until), (1, Some(changed)));
        assert_eq!(report.until.unwrap().duration_since(report.since.unwrap()).as_secs(), 3600);
        assert_eq!(report.state.older, None);
    }
}

#[tokio::test]
async fn disabled_webhooks_with_another_url_are_not_reactivated() {
    let bed = TestBed::start().await;
    for target in ["https://other.example.com", "https://hooks.example.com/webhook/"] {
        bed.superoffice.add_webhook(json!({
            "Name": "superoffice-webhook", "Events": ["contact.changed"], "TargetUrl": target, "State": "TooManyErrors",
        }));
    }
    let others = format!("{:?}", &bed.superoffice.webhooks()[2..]);
    disable(&bed, Outage::Queue).await;
    bed.function.set_outage(Outage::None);
    let reports = bed.run_every_five_minutes(2).await;
    assert_eq!(reports[0].reactivated, 1);
    assert_eq!(format!("{:?}", &bed.superoffice.webhooks()[2..]), others);
}

#[tokio::test]
async fn debug_output_hides_the_credentials() {
    let debug = TestBed::start().await.debug();
    assert!(debug.starts_with("Watchdog { tenants: TenantSource(") && !debug.contains(TOKEN), "{debug}");
}

#[tokio::test]
async fn first_run_does_not_need_a_log_of_its_own() {
    let bed = TestBed::start_with(&[("WATCHDOG_MODE", "act"), ("WATCHDOG_LOG_GROUP_NAME", "/not/created")]).await;
    let report = bed.run_every_five_minutes(1).await.remove(0);
    assert_eq!(report.error, None);
}
