//! Signals into working and failing deliveries.

use std::sync::Arc;
use std::time::Duration;

use fake_superoffice::{Fault, LOG_GROUP, Outage};
use jiff::{SignedDuration, Timestamp};
use recovery::delivery_log::DeliveryLog;
use recovery::record::Record;
use recovery::signaler::{Halt, Pace, Signaler, Sleep};
use serde_json::json;
use superoffice_client::{Archive, Client};

use crate::support::TestBed;

/// Signals are made at once, and every wait lasts until each event was delivered.
const PACE: Pace = Pace { interval: Duration::ZERO, read_every: Duration::ZERO, reads: 3 };

/// A test bed with a registered webhook, and the parts of a signaler.
struct Parts {
    bed: TestBed,
    client: Client,
    log: DeliveryLog,
    sleep: Sleep,
}

impl Parts {
    async fn start() -> Self {
        let bed = TestBed::start().await;
        bed.register().await;
        let (client, log, superoffice) = (bed.client(), bed.ledger(), Arc::clone(&bed.superoffice));
        let sleep = move |_| {
            let superoffice = Arc::clone(&superoffice);
            Box::pin(async move { superoffice.idle().await }) as std::pin::Pin<Box<dyn Future<Output = ()> + Send>>
        };
        Self { bed, client, log, sleep: Box::new(sleep) }
    }

    fn signaler(&self) -> Signaler<'_> {
        Signaler::new(&self.client, &self.log, PACE, &self.sleep)
    }

    /// Returns the number of calls that signaled a contact.
    fn calls(&self) -> usize {
        self.bed.calls().iter().filter(|call| call.contains("contact.resync")).count()
    }

    fn write(&self, at: Timestamp, outcome: &str, event: &str, contact: i64) {
        let line = json!({"outcome": outcome, "event": event, "primaryKey": contact});
        self.bed.logs.write(LOG_GROUP, at, line.to_string());
    }
}

async fn signal_all(signaler: &mut Signaler<'_>, contacts: impl IntoIterator<Item = i64>) -> Result<(), Halt> {
    for contact in contacts {
        signaler.ready(Archive::CONTACT).await?;
        let _ = signaler.signal(Record::contact(contact)).await;
    }
    signaler.settle().await
}

#[tokio::test]
async fn every_contact_is_signaled_if_the_events_arrive() {
    let parts = Parts::start().await;
    let mut signaler = parts.signaler();
    signal_all(&mut signaler, 1..=120).await.unwrap();
    assert_eq!((signaler.signals(), signaler.first_awaited(), signaler.take_lost()), (120, None, vec![]));
    let expected: Vec<_> = (1..=120).map(|contact| ("contact.resync".to_owned(), contact)).collect();
    assert_eq!(parts.bed.function.events(), expected);
    assert!(format!("{signaler:?}").starts_with("Signaler { signals: 120"));
}

#[tokio::test]
async fn no_signal_follows_a_canary_that_does_not_arrive() {
    for outage in [Outage::Queue, Outage::Permission, Outage::Endpoint, Outage::Gateway] {
        let parts = Parts::start().await;
        parts.bed.function.set_outage(outage);
        let mut signaler = parts.signaler();
        let halt = signal_all(&mut signaler, 7..=9).await.unwrap_err();
        assert_eq!(halt.to_string(), "contact 7 was signaled but did not arrive");
        assert_eq!((parts.calls(), signaler.first_awaited()), (1, Some(Record::contact(7))), "{outage:?}");
    }
}

#[tokio::test]
async fn events_of_the_past_and_of_other_contacts_do_not_confirm_the_canary() {
    let parts = Parts::start().await;
    let now = parts.bed.now();
    parts.write(now, "forwarded", "contact.resync", 7);
    let mut signaler = parts.signaler();
    signaler.ready(Archive::CONTACT).await.unwrap();
    parts.bed.superoffice.pause_sender(true);
    signaler.signal(Record::contact(7)).await.unwrap();
    parts.write(now, "forwarded", "contact.changed", 7);
    parts.write(now, "forwarded", "contact.resync", 8);
    let halt = signaler.ready(Archive::CONTACT).await.unwrap_err();
    assert_eq!(halt.to_string(), "contact 7 was signaled but did not arrive");
}

#[tokio::test]
async fn canary_whose_second_delivery_succeeds_has_arrived() {
    let parts = Parts::start().await;
    parts.bed.superoffice.pause_sender(true);
    let mut signaler = parts.signaler();
    signaler.ready(Archive::CONTACT).await.unwrap();
    signaler.signal(Record::contact(7)).await.unwrap();
    parts.write(parts.bed.now(), "failed", "contact.resync", 7);
    parts.write(parts.bed.now(), "forwarded", "contact.resync", 7);
    signaler.ready(Archive::CONTACT).await.unwrap();
    signaler.signal(Record::contact(8)).await.unwrap();
}

#[tokio::test]
async fn event_that_the_function_ignores_has_not_arrived() {
    for arrived in [vec![], vec![6]] {
        let parts = Parts::start().await;
        let mut signaler = parts.signaler();
        signal_all(&mut signaler, arrived).await.unwrap();
        parts.bed.superoffice.pause_sender(true);
        signaler.ready(Archive::CONTACT).await.unwrap();
        signaler.signal(Record::contact(7)).await.unwrap();
        parts.write(parts.bed.now(), "ignored", "contact.resync", 7);
        let expected = "the function ignored the event of a signal: FORWARD_EVENTS does not match contact.resync";
        assert_eq!(signaler.settle().await.unwrap_err().to_string(), expected);
    }
}

#[tokio::test]
async fn few_signals_follow_the_first_failed_delivery() {
    for (outage, expected) in [
        (Outage::Queue, "a delivery failed"),
        (Outage::Permission, "a delivery failed"),
        // The function is not invoked, so no line reports the failure.
        (Outage::Endpoint, "contact 41 was signaled but did not arrive"),
        (Outage::Gateway, "contact 41 was signaled but did not arrive"),
    ] {
        let parts = Parts::start().await;
        let mut signaler = parts.signaler();
        signal_all(&mut signaler, 1..=40).await.unwrap();
        parts.bed.function.set_outage(outage);
        let halt = signal_all(&mut signaler, 41..=200).await.unwrap_err();
        assert_eq!(halt.to_string(), expected);
        assert_eq!((parts.calls(), signaler.first_awaited()), (40 + 25, Some(Record::contact(41))), "{outage:?}");
    }
}

#[tokio::test]
async fn failed_delivery_of_any_entity_stops_the_signals() {
    for event in ["contact.changed", "person.changed", "person.resync", "sale.changed", "custom"] {
        for arrived in [vec![], vec![1]] {
            let parts = Parts::start().await;
            let mut signaler = parts.signaler();
            signaler.ready(Archive::CONTACT).await.unwrap();
            signal_all(&mut signaler, arrived).await.unwrap();
            parts.bed.superoffice.pause_sender(true);
            signaler.signal(Record::contact(7)).await.unwrap();
            parts.write(parts.bed.now(), "failed", event, 7);
            assert_eq!(signaler.settle().await.unwrap_err().to_string(), "a delivery failed", "{event}");
        }
    }
}

#[tokio::test]
async fn failed_delivery_of_another_tenant_does_not_stop_the_signals() {
    let parts = Parts::start().await;
    let mut signaler = parts.signaler();
    signal_all(&mut signaler, [1]).await.unwrap();
    let line = json!({"outcome": "failed", "event": "sale.changed", "contextIdentifier": "Cust1"});
    parts.bed.logs.write(LOG_GROUP, parts.bed.now(), line.to_string());
    signal_all(&mut signaler, [2]).await.unwrap();
}

#[tokio::test]
async fn event_that_gets_lost_among_others_is_reported() {
    let parts = Parts::start().await;
    let mut signaler = parts.signaler();
    signal_all(&mut signaler, [1]).await.unwrap();
    parts.bed.function.lose_next();
    signal_all(&mut signaler, 2..=40).await.unwrap();
    assert_eq!(
        (signaler.signals(), signaler.take_lost(), signaler.take_lost()),
        (40, vec![Record::contact(2)], vec![])
    );
    // Many events that get lost one by one are an outage.
    for contact in 41.. {
        parts.bed.function.lose_next();
        if let Err(halt) = signal_all(&mut signaler, [contact, -contact]).await {
            assert_eq!(halt.to_string(), "contact 64 was signaled but did not arrive");
            break;
        }
    }
}

#[tokio::test]
async fn first_signals_may_fail_thrice_unless_superoffice_does_not_find_the_contacts() {
    for (statuses, expected) in [
        (vec![500; 50], 3),
        (vec![400; 50], 3),
        (vec![405; 50], 3),
        ([vec![404; 5], vec![415, 404, 500], vec![400; 50]].concat(), 9),
        (vec![404; 50], 25),
        ([vec![404; 23], vec![400; 50]].concat(), 25),
    ] {
        let parts = Parts::start().await;
        parts.bed.superoffice.script("contact.resync", statuses.iter().map(|status| Fault::Status(*status)));
        let mut signaler = parts.signaler();
        let halt = signal_all(&mut signaler, 1..=50).await.unwrap_err();
        assert_eq!(halt.to_string(), format!("the first {expected} signals failed"));
        assert_eq!((parts.calls(), signaler.signals()), (expected, 0), "{statuses:?}");
    }
}

#[tokio::test]
async fn failed_calls_count_for_each_entity_until_an_event_arrives() {
    let parts = Parts::start().await;
    parts.bed.superoffice.script("contact.resync", [Fault::Status(400), Fault::Status(400), Fault::None]);
    parts.bed.superoffice.script("contact.resync", [Fault::Status(400); 5]);
    let mut signaler = parts.signaler();
    signal_all(&mut signaler, 1..=9).await.unwrap();
    assert_eq!((parts.calls(), signaler.signals()), (9, 2));

    parts.bed.superoffice.script("person.resync", [Fault::Status(400), Fault::Status(400)]);
    for person in 1..=2 {
        signaler.ready(Archive::PERSON).await.unwrap();
        signaler.signal(Record::person(person)).await.unwrap_err();
    }
    signaler.ready(Archive::PERSON).await.unwrap();
}

#[tokio::test]
async fn canary_is_only_needed_if_the_latest_delivery_did_not_succeed() {
    let later = SignedDuration::from_secs;
    for (name, lines, is_needed) in [
        ("no delivery", vec![], true),
        ("another entity", vec![(1, "forwarded", "person.changed")], true),
        ("failure of another entity", vec![(1, "forwarded", "contact.changed"), (2, "failed", "sale.changed")], true),
        ("older failure of another", vec![(1, "failed", "sale.changed"), (2, "forwarded", "contact.changed")], false),
        ("success", vec![(1, "forwarded", "contact.changed")], false),
        ("success of an ignored event", vec![(1, "ignored", "contact.changed")], false),
        ("ignored signal", vec![(1, "ignored", "contact.resync")], true),
        ("failure", vec![(1, "forwarded", "contact.changed"), (2, "failed", "contact.changed")], true),
        ("older failure", vec![(2, "forwarded", "contact.changed"), (1, "failed", "contact.changed")], false),
        ("failure at that time", vec![(1, "forwarded", "contact.changed"), (1, "failed", "contact.changed")], true),
        ("success long ago", vec![(-660, "forwarded", "contact.changed")], true),
    ] {
        let parts = Parts::start().await;
        // A page for each line.
        parts.bed.logs.set_page(1);
        for (seconds, outcome, event) in lines {
            parts.write(parts.bed.now() + later(seconds), outcome, event, 7);
        }
        for (trusts_recent, is_needed) in [(true, is_needed), (false, true)] {
            let mut signaler = parts.signaler();
            if trusts_recent {
                signaler = signaler.trusting_recent_deliveries();
            }
            signaler.ready(Archive::CONTACT).await.unwrap();
            parts.bed.superoffice.pause_sender(true);
            signaler.signal(Record::contact(1)).await.unwrap();
            assert_eq!(signaler.ready(Archive::CONTACT).await.is_err(), is_needed, "{name} {trusts_recent}");
        }
    }
}

#[tokio::test]
async fn clock_that_is_wrong_hides_no_delivery() {
    // SuperOffice's clock, and so the time of the log, is far behind the local clock or ahead of it.
    for hours in [-30, 30] {
        let bed = TestBed::start_ahead(SignedDuration::from_hours(hours)).await;
        bed.register().await;
        let (client, log) = (bed.client_with_local_clock(), bed.ledger());
        client.webhooks("https://hooks.example.com").await.unwrap();
        let sleep: Sleep = Box::new(|time| Box::pin(tokio::time::sleep(time)));
        let mut signaler = Signaler::new(&client, &log, Pace::default().with_rate(1000), &sleep);
        signal_all(&mut signaler, 1..=30).await.unwrap();
    }
}

#[tokio::test]
async fn rate_is_limited() {
    let parts = Parts::start().await;
    let sleep: Sleep = Box::new(|time| Box::pin(tokio::time::sleep(time)));
    let mut signaler = Signaler::new(&parts.client, &parts.log, Pace::default().with_rate(50), &sleep);
    let start = tokio::time::Instant::now();
    signal_all(&mut signaler, 1..=11).await.unwrap();
    assert!(start.elapsed() >= Duration::from_millis(200), "{:?}", start.elapsed());
}

#[tokio::test]
async fn each_entity_has_a_canary() {
    for (line, expected) in [
        (None, "person 7 was signaled but did not arrive"),
        (Some("ignored"), "the function ignored the event of a signal: FORWARD_EVENTS does not match person.resync"),
    ] {
        let parts = Parts::start().await;
        let mut signaler = parts.signaler();
        signal_all(&mut signaler, 1..=3).await.unwrap();
        parts.bed.superoffice.pause_sender(true);
        signaler.ready(Archive::PERSON).await.unwrap();
        signaler.signal(Record::person(7)).await.unwrap();
        // The events of contacts with this id say nothing about the person.
        parts.write(parts.bed.now(), "forwarded", "contact.resync", 7);
        if let Some(outcome) = line {
            parts.write(parts.bed.now(), outcome, "person.resync", 7);
        }
        assert_eq!(signaler.ready(Archive::PERSON).await.unwrap_err().to_string(), expected);
    }
}
