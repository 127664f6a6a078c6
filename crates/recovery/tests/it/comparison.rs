//! The comparison of SuperOffice with the log.

use fake_superoffice::{Fault, Kind, LOG_GROUP, Outage, Paging, START};
use recovery::comparison::{Comparison, Window};
use recovery::record::Record;
use serde_json::json;
use superoffice_client::Archive;
use superoffice_client::changes::{Change, Changes};

use crate::support::{TestBed, desired_with_persons, parts};

#[tokio::test]
async fn nothing_is_missed_if_every_event_arrives() {
    let bed = TestBed::start().await;
    bed.register().await;
    let (kept, deleted) = (bed.superoffice.create_contact(), bed.superoffice.create_contact());
    bed.pass(10);
    bed.superoffice.change_contact(kept);
    bed.superoffice.soft_delete_contact(deleted);
    bed.superoffice.idle().await;
    assert_eq!(bed.missed().await, []);
}

#[tokio::test]
async fn every_kind_of_change_is_found_during_an_outage() {
    for outage in [Outage::Queue, Outage::Permission, Outage::Endpoint, Outage::Gateway] {
        let bed = TestBed::start().await;
        bed.register().await;
        let [changed, deleted, source, destination, unchanged] = [(); 5].map(|()| bed.superoffice.create_contact());
        bed.superoffice.idle().await;
        bed.pass(60);
        bed.function.set_outage(outage);
        let created = bed.superoffice.create_contact();
        bed.superoffice.change_contact(changed);
        bed.superoffice.soft_delete_contact(deleted);
        bed.superoffice.merge_contacts(source, destination);
        bed.superoffice.idle().await;
        assert_eq!(bed.superoffice.webhooks()[0].state(), "TooManyErrors");
        assert_eq!(
            bed.missed().await,
            [
                (changed, Change::Changed),
                (deleted, Change::SoftDeleted),
                (source, Change::Merged),
                (destination, Change::Merged),
                (created, Change::Created),
            ]
        );
        assert!(!bed.missed().await.iter().any(|(key, _)| *key == unchanged));
    }
}

#[tokio::test]
async fn signaled_contacts_are_no_longer_missed() {
    let bed = TestBed::start().await;
    bed.register().await;
    let contact = bed.superoffice.create_contact();
    bed.superoffice.idle().await;
    bed.pass(60);
    bed.function.lose_next();
    bed.superoffice.change_contact(contact);
    bed.superoffice.idle().await;
    assert_eq!(bed.missed().await, [(contact, Change::Changed)]);
    bed.pass(60);
    bed.client().signal_resync(Archive::CONTACT, contact).await.unwrap();
    bed.superoffice.idle().await;
    assert_eq!(bed.missed().await, []);
    assert_eq!(bed.function.events().last(), Some(&("contact.resync".to_owned(), contact)));
}

#[tokio::test]
async fn earlier_events_of_a_contact_do_not_hide_a_later_change() {
    let bed = TestBed::start().await;
    bed.register().await;
    let contact = bed.superoffice.create_contact();
    bed.pass(1);
    bed.superoffice.change_contact(contact);
    // Both events are late, and the second one is lost.
    bed.superoffice.pause_sender(true);
    bed.pass(30);
    bed.superoffice.pause_sender(false);
    bed.superoffice.idle().await;
    assert_eq!(bed.missed().await, []);

    let bed = TestBed::start().await;
    bed.register().await;
    bed.superoffice.pause_sender(true);
    let contact = bed.superoffice.create_contact();
    bed.pass(10);
    bed.superoffice.lose_waiting_events();
    bed.superoffice.change_contact(contact);
    bed.superoffice.lose_waiting_events();
    bed.pass(10);
    bed.superoffice.pause_sender(false);
    // A delivery of the first event that was repeated for 20 s: it says nothing about the change.
    let late = json!({
        "outcome": "forwarded", "event": "contact.created", "primaryKey": contact, "DeliveryDelay": 20_000,
        "_aws": {"Timestamp": bed.now().as_millisecond()},
    });
    bed.logs.write(LOG_GROUP, bed.now(), late.to_string());
    assert_eq!(bed.missed().await, [(contact, Change::Changed)]);
}

#[tokio::test]
async fn window_limits_the_changes() {
    let bed = TestBed::start().await;
    let before = bed.superoffice.create_contact();
    bed.pass(3600);
    let since = bed.now();
    let inside = bed.superoffice.create_contact();
    bed.pass(3600);
    let until = bed.now();
    let last = bed.superoffice.create_contact();
    bed.pass(1);
    let after = bed.superoffice.create_contact();
    for _ in 0..3 {
        let line = json!({"outcome": "forwarded", "event": "contact.created", "primaryKey": last + 100});
        bed.logs.write(LOG_GROUP, bed.now(), line.to_string());
    }
    let comparison = Comparison::new(Window { since, until }, &[Archive::CONTACT]);
    let parts = parts(&comparison, &bed.client(), &bed.ledger()).await;
    let keys: Vec<Vec<i64>> = parts.iter().map(|part| part.iter().map(|changed| changed.record.id).collect()).collect();
    assert_eq!(keys, [[inside, last]]);
    assert!(!keys[0].contains(&before) && !keys[0].contains(&after));
    assert_eq!((comparison.progress().listed(), comparison.progress().lines()), (2, 3));
}

#[tokio::test]
async fn pages_of_the_log_are_followed() {
    let bed = TestBed::start().await;
    bed.register().await;
    bed.logs.set_page(2);
    for _ in 0..7 {
        bed.superoffice.create_contact();
    }
    bed.superoffice.idle().await;
    let requests = bed.logs.requests();
    assert_eq!(bed.missed().await, []);
    assert!(bed.logs.requests() - requests >= 4);
}

#[tokio::test]
async fn log_that_cannot_be_read_is_an_error() {
    let bed = TestBed::start().await;
    bed.superoffice.create_contact();
    bed.logs.fail_after(0);
    let comparison = bed.since_start();
    let listing = comparison.list(&bed.client(), None).await.unwrap();
    let error = comparison.compare(listing, &bed.ledger()).await.unwrap_err().to_string();
    let expected =
        format!("the log group {LOG_GROUP} cannot be read: AccessDeniedException: not authorized in this test");
    assert_eq!(error, expected);
}

#[tokio::test]
async fn parts_are_bounded() {
    let bed = TestBed::start().await;
    bed.superoffice.import_contacts(25, bed.clock.now());
    let parts = parts(&bed.since_start().with_part(10), &bed.client(), &bed.ledger()).await;
    assert_eq!(parts.iter().map(Vec::len).collect::<Vec<_>>(), [10, 10, 5]);
    // The log is read once for each part.
    assert_eq!(bed.logs.requests(), 3);
}

#[tokio::test]
async fn pages_of_any_size_are_followed() {
    for (rows, has_links, contacts) in
        [(1000, true, 1000), (1000, true, 2500), (1000, false, 1000), (1000, false, 2500), (7, true, 30), (1, true, 3)]
    {
        let bed = TestBed::start().await;
        bed.superoffice.set_paging(Paging { rows, has_links, ..Paging::default() });
        bed.superoffice.import_contacts(contacts, bed.clock.now());
        let keys: Vec<i64> = bed.missed().await.into_iter().map(|(key, _)| key).collect();
        let expected: Vec<i64> = bed.superoffice.contacts().iter().map(|contact| contact.id).collect();
        assert_eq!(keys, expected, "{rows} {has_links} {contacts}");
    }
}

#[tokio::test]
async fn rows_of_one_contact_may_be_on_two_pages() {
    let bed = TestBed::start().await;
    bed.superoffice.set_paging(Paging { rows: 3, ..Paging::default() });
    let contacts: Vec<i64> = (0..6).map(|_| bed.superoffice.create_contact()).collect();
    bed.superoffice.idle().await;
    let [first, second, sources @ ..] = contacts.as_slice() else { panic!("{contacts:?}") };
    // The third of the four rows ends the first page.
    for (source, destination) in sources.iter().zip([first, first, second, second]) {
        bed.pass(60);
        bed.superoffice.merge_contacts(*source, *destination);
    }
    let client = bed.client();
    let mut changes = Changes::since(&client, Archive::CONTACT, START.parse().unwrap(), None);
    assert_eq!(changes.next().await.unwrap().unwrap().primary_key, *first);
    let contact = changes.next().await.unwrap().unwrap();
    assert_eq!((contact.primary_key, contact.change, contact.at), (*second, Change::Merged, bed.now()));
    assert!(format!("{changes:?}").starts_with("Changes { since: "));
}

#[tokio::test]
async fn short_page_without_a_link_is_the_last_one() {
    let bed = TestBed::start().await;
    bed.superoffice.import_contacts(3, bed.clock.now());
    bed.superoffice.clear_requests();
    assert_eq!(bed.missed().await.len(), 3);
    assert_eq!(bed.calls().len(), 5, "{:?}", bed.calls());
}

#[tokio::test]
async fn condition_on_the_key_that_has_no_effect_is_an_error() {
    let bed = TestBed::start().await;
    bed.superoffice.set_paging(Paging { filters_keys: false, ..Paging::default() });
    bed.superoffice.import_contacts(1000, bed.clock.now());
    let client = bed.client();
    let mut changes = Changes::since(&client, Archive::CONTACT, START.parse().unwrap(), None);
    let mut found = 0;
    let error = loop {
        match changes.next().await {
            Ok(contact) => found += usize::from(contact.is_some()),
            Err(error) => break error,
        }
    };
    assert_eq!(found, 1000);
    let expected = "GET Archive/dynamic: unexpected response: the condition on contact.contact_id has no effect";
    assert_eq!(error.to_string(), expected);
}

#[tokio::test]
async fn list_that_pauses_is_continued() {
    let bed = TestBed::start().await;
    bed.superoffice.import_contacts(5, bed.clock.now());
    let comparison = bed.since_start().with_pause_at(tokio::time::Instant::now());
    let parts = parts(&comparison, &bed.client(), &bed.ledger()).await;
    assert_eq!(parts.iter().map(Vec::len).collect::<Vec<_>>(), [1, 1, 1, 1, 1, 0]);
    let keys: Vec<i64> = parts.iter().flatten().map(|changed| changed.record.id).collect();
    let expected: Vec<i64> = bed.superoffice.contacts().iter().map(|contact| contact.id).collect();
    assert_eq!(keys, expected);
}

#[tokio::test]
async fn several_merges_into_one_contact_are_reported_once() {
    let bed = TestBed::start().await;
    let destination = bed.superoffice.create_contact();
    let sources: Vec<i64> = (0..2500).map(|_| bed.superoffice.create_contact()).collect();
    bed.pass(60);
    for source in &sources {
        bed.superoffice.merge_contacts(*source, destination);
    }
    let missed = bed.missed_with(700).await;
    let expected: Vec<(i64, Change)> =
        std::iter::once(destination).chain(sources).map(|key| (key, Change::Merged)).collect();
    assert_eq!(missed, expected);
}

#[tokio::test]
async fn failing_page_is_an_error() {
    let bed = TestBed::start().await;
    bed.superoffice.script("GET Archive/RecycleContact", [Fault::Status(400)]);
    let error = bed.since_start().list(&bed.client(), None).await.unwrap_err();
    assert_eq!(error.to_string(), "GET Archive/RecycleContact: status 400: This call fails in this test");
}

#[tokio::test]
async fn persons_follow_contacts_and_are_matched_by_their_own_events() {
    let bed = TestBed::start().await;
    bed.client().register(&desired_with_persons()).await.unwrap();
    let [arrived, lost] = [(); 2].map(|()| bed.superoffice.create(Kind::Person));
    let lost_contact = bed.superoffice.create_contact();
    bed.superoffice.idle().await;
    bed.pass(60);
    bed.superoffice.change(Kind::Person, arrived);
    bed.superoffice.change_silently(Kind::Person, lost);
    bed.superoffice.change_contact_silently(lost_contact);
    bed.superoffice.idle().await;
    // A contact with the id of the person says nothing about the person.
    let line = json!({"outcome": "forwarded", "event": "contact.changed", "primaryKey": lost});
    bed.logs.write(LOG_GROUP, bed.now(), line.to_string());
    let comparison = bed.since_start_of(&[Archive::PERSON, Archive::CONTACT]);
    for part in [1, 2, 3, 100] {
        let parts = parts(&comparison.clone().with_part(part), &bed.client(), &bed.ledger()).await;
        let missed: Vec<Record> = parts.iter().flatten().map(|changed| changed.record).collect();
        assert_eq!(missed, [Record::contact(lost_contact), Record::person(lost)], "{part}");
    }
    assert_eq!(bed.missed().await, [(lost_contact, Change::Changed)]);
    bed.pass(60);
    bed.client().signal_resync(Archive::PERSON, lost).await.unwrap();
    bed.superoffice.idle().await;
    let parts = parts(&comparison, &bed.client(), &bed.ledger()).await;
    let missed: Vec<Record> = parts.iter().flatten().map(|changed| changed.record).collect();
    assert_eq!(missed, [Record::contact(lost_contact)]);
}
