//! Registration, and the webhooks that belong to it.

use std::collections::BTreeSet;

use fake_superoffice::{Fault, Mode, SECRET, WEBHOOK_URL, Webhook, Zones};
use serde_json::json;
use superoffice_client::registration::{CONTACT_EVENTS, Desired, Registration, events_named};
use superoffice_client::webhooks::State;
use superoffice_client::{Archive, SecretString};

use crate::support::{TestBed, VERSIONS, by_id, desired};

/// Webhooks of other integrations, some of which look like managed webhooks.
fn add_others(bed: &TestBed) -> Vec<String> {
    let other = |properties| {
        bed.superoffice.add_webhook(properties);
    };
    other(
        json!({"Name": "superoffice-webhook", "Events": CONTACT_EVENTS, "TargetUrl": "https://hooks.example.com/webhook/"}),
    );
    other(
        json!({"Name": "superoffice-webhook", "Events": CONTACT_EVENTS, "TargetUrl": "https://HOOKS.example.com/webhook"}),
    );
    other(
        json!({"Name": "other", "Events": ["contact.changed"], "TargetUrl": "https://other.example.com", "State": "TooManyErrors"}),
    );
    let sales =
        json!({"Name": "sales", "Events": ["sale.changed"], "TargetUrl": WEBHOOK_URL, "State": "TooManyErrors"});
    let sales = bed.superoffice.add_webhook(sales);
    other(json!({"Name": "sales (state)", "Events": [format!("webhook{sales}.errors")], "TargetUrl": WEBHOOK_URL}));
    other(json!({"Name": "script", "Events": ["contact.changed"], "TargetUrl": WEBHOOK_URL, "Type": "crmscript"}));
    snapshot(bed)
}

fn snapshot(bed: &TestBed) -> Vec<String> {
    let managed = |webhook: &Webhook| {
        webhook.text("TargetUrl") == WEBHOOK_URL
            && webhook.text("Type") == "webhook"
            && !webhook.text("Name").starts_with("sales")
    };
    let webhooks = bed.superoffice.webhooks();
    webhooks.iter().filter(|webhook| !managed(webhook)).map(|webhook| format!("{webhook:?}")).collect()
}

#[tokio::test]
async fn registration_creates_a_webhook_for_contacts_and_one_for_its_state() {
    let bed = TestBed::start().await;
    let emails = vec!["a@example.com".to_owned(), "b@example.com".to_owned()];
    let desired = Desired { name: Some("Events".into()), errors_emails: emails.clone(), ..desired() };
    let (managed, effects) = bed.client().register(&desired).await.unwrap();
    assert_eq!(effects, [Registration::Created, Registration::Created]);
    assert!(managed.is_active());

    let webhooks = bed.superoffice.webhooks();
    let [main, state] = webhooks.as_slice() else { panic!("{webhooks:?}") };
    let expected = ["contact.created", "contact.changed", "contact.softdeleted", "contact.deleted", "contact.resync"];
    assert_eq!((main.text("Name"), main.events()), ("Events", expected.to_vec()));
    let expected = ["started", "stopped", "errors"].map(|ending| format!("webhook{}.{ending}", main.id));
    assert_eq!((state.text("Name"), state.events()), ("Events (state)", expected.iter().map(String::as_str).collect()));
    for webhook in [main, state] {
        assert_eq!(
            (webhook.text("TargetUrl"), webhook.text("Secret"), webhook.state()),
            (WEBHOOK_URL, SECRET, "Active")
        );
        assert_eq!(webhook.properties["Type"], "webhook");
        assert_eq!(webhook.properties["ErrorsEmail"], "a@example.com");
        assert_eq!(webhook.properties["ErrorEmails"], json!(emails));
    }
    // SuperOffice has tested the WEBHOOK_URL before it saved either of them.
    assert_eq!(bed.function.requests(), 2);
}

#[tokio::test]
async fn registration_is_created_kept_and_mended_in_every_mode() {
    for (name, mode) in Mode::ALL {
        let bed = TestBed::start().await;
        bed.superoffice.set_mode(mode);
        let register = async || bed.client().register(&desired()).await.unwrap();
        let (managed, effects) = register().await;
        assert_eq!(effects, [Registration::Created, Registration::Created], "{name}");
        assert!(managed.is_active(), "{name}");
        let id = managed.contacts[0].id();
        let properties =
            || bed.superoffice.webhooks().into_iter().map(|webhook| webhook.properties).collect::<Vec<_>>();
        let complete = properties();
        bed.superoffice.clear_requests();
        let (managed, effects) = register().await;
        let second = if mode.hides_secrets { Registration::SecretWritten } else { Registration::Unchanged };
        assert_eq!(effects, [second.clone(), second], "{name}");
        assert!(managed.is_active(), "{name}");
        assert_eq!(properties(), complete, "{name}");
        if !mode.hides_secrets {
            // A server that refuses offsets is asked once more.
            let expected = 2 + usize::from(mode.zones == Zones::OffsetsRefused);
            assert_eq!(bed.calls(), vec!["GET Webhook"; expected], "{name}");
        }

        bed.superoffice.set_property(id, "State", json!("Stopped"));
        bed.superoffice.set_property(id, "Secret", json!("an old secret"));
        bed.superoffice.set_property(id, "Events", json!(CONTACT_EVENTS[..4]));
        let (managed, effects) = register().await;
        let secret = if mode.hides_secrets {
            "Secret: written again, because SuperOffice does not return it"
        } else {
            "Secret: replaced"
        };
        let events = "Events: [\"contact.created\",\"contact.changed\",\"contact.softdeleted\",\"contact.deleted\"] -> \
            [\"contact.created\",\"contact.changed\",\"contact.softdeleted\",\"contact.deleted\",\"contact.resync\"]";
        assert_eq!(effects[0].to_string(), format!("changed\n  {events}\n  {secret}"), "{name}");
        assert_eq!(managed.contacts[0].state(), State::Stopped, "{name}");
        bed.superoffice.set_property(id, "State", json!("Active"));
        assert_eq!(properties(), complete, "{name}");
    }
}

#[tokio::test]
async fn registration_changes_what_was_given_and_adds_the_resync_event() {
    for version in VERSIONS {
        let bed = TestBed::start().await;
        bed.superoffice.set_version(version);
        let id = bed.register().await.contacts[0].id();
        bed.superoffice.set_property(id, "Events", json!(["sale.changed", "Contact.Created"]));
        bed.superoffice.set_property(id, "Secret", json!("an old secret"));
        bed.superoffice.set_property(id, "Headers", json!({"X-Api-Key": "kept"}));
        bed.superoffice.idle().await;
        let (_, effects) = bed.client().register(&desired()).await.unwrap();
        assert_eq!(
            effects.iter().map(ToString::to_string).collect::<Vec<_>>(),
            [
                "changed\n  Events: [\"sale.changed\",\"Contact.Created\"] -> \
                 [\"sale.changed\",\"Contact.Created\",\"contact.resync\"]\n  Secret: replaced",
                "unchanged"
            ]
        );
        let webhook = by_id(&bed, id);
        assert_eq!(webhook.events(), ["sale.changed", "Contact.Created", "contact.resync"]);
        assert_eq!(webhook.text("Secret"), SECRET);
        assert_eq!(webhook.properties["Headers"], json!({"X-Api-Key": "kept"}));
        let (_, effects) = bed.client().register(&desired()).await.unwrap();
        assert_eq!(effects, [Registration::Unchanged, Registration::Unchanged]);
    }
}

#[tokio::test]
async fn registration_sets_the_events_that_were_given() {
    let bed = TestBed::start().await;
    let given = |events: &[&str]| {
        let events = events.iter().map(|event| (*event).to_owned()).collect();
        Desired { events: Some(events), ..desired() }
    };
    let (managed, _) = bed.client().register(&given(&["contact.created"])).await.unwrap();
    let id = managed.contacts[0].id();
    assert_eq!(by_id(&bed, id).events(), ["contact.created"]);
    let (_, effects) = bed.client().register(&given(&["contact.deleted", "contact.created"])).await.unwrap();
    let [Registration::Changed(_), Registration::Unchanged] = effects.as_slice() else { panic!("{effects:?}") };
    assert_eq!(by_id(&bed, id).events(), ["contact.deleted", "contact.created"]);
}

/// Events of contacts and of 240 lists, for four webhooks.
fn many_events() -> Vec<String> {
    let names = ["contact".to_owned()].into_iter().chain((100..340).map(|list| format!("list.{list}")));
    names.flat_map(|name| events_named(&name).unwrap()).collect()
}

fn with_events(events: Vec<String>) -> Desired {
    Desired { events: Some(events), ..desired() }
}

/// The names and the events of the webhooks, and the number of events. No event has two webhooks.
fn split(bed: &TestBed) -> (Vec<(String, Vec<String>)>, usize) {
    let webhooks = bed.superoffice.webhooks();
    let events = |webhook: &Webhook| webhook.events().into_iter().map(str::to_owned).collect::<Vec<_>>();
    let events: Vec<_> = webhooks.iter().map(|webhook| (webhook.text("Name").to_owned(), events(webhook))).collect();
    let names: BTreeSet<&String> = events.iter().flat_map(|(_, events)| events).collect();
    let count = events.iter().map(|(_, events)| events.len()).sum();
    assert_eq!(names.len(), count);
    (events, count)
}

#[tokio::test]
async fn events_that_one_webhook_has_no_room_for_are_split() {
    use Registration::{Created, Unchanged};
    let (bed, events) = (TestBed::start().await, many_events());
    let (managed, effects) = bed.client().register(&with_events(events.clone())).await.unwrap();
    assert_eq!((effects, managed.is_active()), (vec![Created, Created, Created, Created, Created], true));
    assert_eq!((managed.contacts.len(), managed.further.len(), managed.states.len()), (1, 3, 1));
    let (webhooks, count) = split(&bed);
    let names: Vec<&str> = webhooks.iter().map(|(name, _)| name.as_str()).collect();
    let expected = ["", " (2)", " (3)", " (4)", " (state)"].map(|suffix| format!("superoffice-webhook{suffix}"));
    assert_eq!(names, expected);
    // The state webhook watches all of them.
    let ids = managed.for_rows().map(|webhook| webhook.id());
    let watched: Vec<_> =
        ids.flat_map(|id| ["started", "stopped", "errors"].map(|end| format!("webhook{id}.{end}"))).collect();
    assert_eq!((&webhooks[4].1, count), (&watched, events.len() + watched.len()));
    assert!(CONTACT_EVENTS.iter().all(|event| webhooks[0].1.iter().any(|name| name == event)));

    for repeated in [with_events(events), desired()] {
        let (_, effects) = bed.client().register(&repeated).await.unwrap();
        assert_eq!(effects, [Unchanged, Unchanged, Unchanged, Unchanged, Unchanged]);
    }
    assert_eq!(split(&bed), (webhooks, count));
}

#[tokio::test]
async fn split_registration_is_completed_changed_and_deleted_as_one() {
    let (bed, events) = (TestBed::start().await, many_events());
    for created in 1..5 {
        bed.superoffice.script("POST Webhook", [Fault::None, Fault::Status(400)]);
        bed.client().register(&with_events(events.clone())).await.unwrap_err();
        assert_eq!(bed.superoffice.webhooks().len(), created);
    }
    let (managed, _) = bed.client().register(&with_events(events.clone())).await.unwrap();
    assert_eq!((managed.all().count(), bed.superoffice.webhooks().len()), (5, 5));

    // Another name, which an interruption leaves in some of them.
    let renamed = Desired { name: Some("Events".into()), ..desired() };
    bed.superoffice.script("PATCH Webhook", [Fault::None, Fault::None, Fault::Status(400)]);
    bed.client().register(&renamed).await.unwrap_err();
    bed.client().register(&renamed).await.unwrap();
    let names: Vec<_> = split(&bed).0.into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["Events", "Events (2)", "Events (3)", "Events (4)", "Events (state)"]);

    // A name that someone gave a webhook does not matter, as long as the state webhook watches it.
    bed.superoffice.set_property(managed.further[1].id(), "Name", json!("by hand"));
    let (managed, effects) = bed.client().register(&with_events(events[..300].to_vec())).await.unwrap();
    assert!(
        matches!(
            effects.as_slice(),
            [
                _,
                Registration::Changed(_) | Registration::Unchanged,
                Registration::Deleted,
                Registration::Deleted,
                Registration::Changed(_)
            ]
        ),
        "{effects:?}"
    );
    assert_eq!((managed.further.len(), bed.superoffice.webhooks().len()), (1, 3));
    let (_, count) = split(&bed);
    assert_eq!(count, 300 + 6);

    bed.client().unregister(WEBHOOK_URL).await.unwrap();
    assert!(bed.superoffice.webhooks().is_empty());
}

#[tokio::test]
async fn registration_without_a_contact_event_is_recognized() {
    let bed = TestBed::start().await;
    let sales = || with_events(events_named("sale").unwrap());
    bed.client().register(&sales()).await.unwrap();
    let (managed, effects) = bed.client().register(&sales()).await.unwrap();
    assert_eq!(effects, [Registration::Unchanged, Registration::Unchanged]);
    let expected = ["sale.created", "sale.changed", "sale.deleted", "sale.sold", "sale.lost", "sale.completed"];
    assert_eq!(by_id(&bed, managed.contacts[0].id()).events(), [&expected[..], &["contact.resync"]].concat());
}

#[tokio::test]
async fn registration_asks_for_a_notification_of_the_first_failure() {
    let bed = TestBed::start().await;
    let notified = Desired { notify_first_failure: true, ..desired() };
    let id = bed.client().register(&notified).await.unwrap().0.contacts[0].id();
    let settings = |bed: &TestBed| ["NotifyWhen", "NotifyVia"].map(|name| by_id(bed, id).text(name).to_owned());
    assert_eq!(settings(&bed), ["FirstFailure, Disabling", "Email"]);
    bed.superoffice.set_property(id, "NotifyWhen", json!("Disabling"));
    bed.superoffice.set_property(id, "NotifyVia", json!("InApp"));
    bed.client().register(&desired()).await.unwrap();
    assert_eq!(settings(&bed), ["Disabling", "InApp"]);
    bed.client().register(&notified).await.unwrap();
    assert_eq!(settings(&bed), ["FirstFailure, Disabling", "Email, InApp"]);
    let (_, effects) = bed.client().register(&notified).await.unwrap();
    assert_eq!(effects, [Registration::Unchanged, Registration::Unchanged]);
}

#[tokio::test]
async fn registration_completes_an_interrupted_one() {
    let bed = TestBed::start().await;
    bed.superoffice.script("POST Webhook", [Fault::None, Fault::Status(400)]);
    bed.client().register(&desired()).await.unwrap_err();
    assert_eq!(bed.superoffice.webhooks().len(), 1);
    let (_, effects) = bed.client().register(&desired()).await.unwrap();
    assert_eq!(effects, [Registration::Unchanged, Registration::Created]);
    assert_eq!(bed.superoffice.webhooks().len(), 2);
}

#[tokio::test]
async fn lost_response_of_a_creation_creates_nothing_twice() {
    let bed = TestBed::start().await;
    bed.superoffice.script("POST Webhook", [Fault::StatusAfterEffect(502)]);
    bed.client().register(&desired()).await.unwrap_err();
    let (_, effects) = bed.client().register(&desired()).await.unwrap();
    assert_eq!(effects, [Registration::Unchanged, Registration::Created]);
    assert_eq!(bed.superoffice.webhooks().len(), 2);
}

#[tokio::test]
async fn registration_does_not_start_a_stopped_webhook() {
    let bed = TestBed::start().await;
    let managed = bed.register().await;
    for state in ["Stopped", "TooManyErrors"] {
        bed.superoffice.set_property(managed.contacts[0].id(), "State", json!(state));
        let (managed, _) = bed.client().register(&desired()).await.unwrap();
        assert!(!managed.is_active());
        assert_eq!(by_id(&bed, managed.contacts[0].id()).state(), state);
    }
}

#[tokio::test]
async fn registration_without_a_state_webhook_is_not_active() {
    let bed = TestBed::start().await;
    let state = bed.register().await.states[0].id();
    bed.superoffice.set_property(state, "TargetUrl", json!("https://other.example.com"));
    let managed = bed.client().webhooks(WEBHOOK_URL).await.unwrap();
    assert_eq!((managed.states.len(), managed.receives_events(), managed.is_active()), (0, true, false));
}

#[tokio::test]
async fn signals_are_received_by_an_active_webhook() {
    let bed = TestBed::start().await;
    let contacts = bed.register().await.contacts[0].id();
    let receives = async |archive| bed.client().webhooks(WEBHOOK_URL).await.unwrap().receives_resync(archive);
    assert!(receives(Archive::CONTACT).await);
    assert!(!receives(Archive::PERSON).await);
    bed.superoffice.set_property(contacts, "State", json!("Stopped"));
    assert!(!receives(Archive::CONTACT).await);
}

#[tokio::test]
async fn refused_registration_contains_the_response_and_no_secret() {
    let bed = TestBed::start().await;
    let wrong = SecretString::from("another secret");
    let client = bed.client().hiding(Some(&wrong));
    let error = client.register(&Desired { secret: wrong, ..desired() }).await.unwrap_err().to_string();
    assert!(error.starts_with("POST Webhook: status 400: The webhook did not accept the test: HTTP 401"), "{error}");
    assert!(error.contains("The request signature is missing or invalid."), "{error}");
    assert!(!error.contains("another secret"), "{error}");
    assert!(bed.superoffice.webhooks().is_empty());
}

#[tokio::test]
async fn other_webhooks_are_never_modified() {
    for version in VERSIONS {
        let bed = TestBed::start().await;
        bed.superoffice.set_version(version);
        let others = add_others(&bed);
        assert_eq!(others.len(), 6);
        let managed = bed.register().await;
        assert_eq!(snapshot(&bed), others);
        bed.client().register(&Desired { name: Some("renamed".into()), ..desired() }).await.unwrap();
        for webhook in managed.all() {
            bed.superoffice.set_property(webhook.id(), "State", json!("TooManyErrors"));
        }
        for webhook in bed.client().webhooks(WEBHOOK_URL).await.unwrap().all() {
            bed.client().set_state(webhook, State::Active, None).await.unwrap();
        }
        assert_eq!(snapshot(&bed), others);
        bed.client().unregister(WEBHOOK_URL).await.unwrap();
        assert_eq!(snapshot(&bed), others);
        assert_eq!(bed.superoffice.webhooks().len(), 6);
    }
}

#[tokio::test]
async fn registration_reuses_the_state_webhook_of_one_that_was_deleted() {
    let bed = TestBed::start().await;
    let orphan = bed.superoffice.add_webhook(json!({
        "Name": "superoffice-webhook (state)", "Events": ["webhook999.errors"], "TargetUrl": WEBHOOK_URL,
    }));
    let (managed, effects) = bed.client().register(&desired()).await.unwrap();
    assert!(matches!(effects.as_slice(), [Registration::Created, Registration::Changed(_)]), "{effects:?}");
    assert!(by_id(&bed, orphan).events().contains(&format!("webhook{}.errors", managed.contacts[0].id()).as_str()));
    // Another one with a lower id does not take its place.
    let state_webhook = managed.states[0].id();
    bed.superoffice.set_property(orphan, "Events", json!(["webhook999.errors"]));
    let copy = format!("webhook{}.errors", managed.contacts[0].id());
    let second = bed.superoffice.add_webhook(json!({"Name": "copy", "Events": [copy], "TargetUrl": WEBHOOK_URL}));
    bed.client().register(&desired()).await.unwrap();
    assert_eq!(state_webhook, orphan);
    assert_eq!(by_id(&bed, orphan).events(), ["webhook999.errors"]);
    assert_eq!(by_id(&bed, second).events().len(), 3);
}

#[tokio::test]
async fn stored_secrets_are_kept_out_of_messages() {
    let bed = TestBed::start().await;
    let id = bed.register().await.contacts[0].id();
    bed.superoffice.set_property(id, "Secret", json!("stored by a person"));
    let client = bed.client().hiding(Some(&SecretString::from(SECRET)));
    client.webhooks(WEBHOOK_URL).await.unwrap();
    assert_eq!(client.redact(&format!("stored by a person, {SECRET}")), "(secret), (secret)");
}

#[tokio::test]
async fn unregistering_leaves_nothing_behind() {
    let bed = TestBed::start().await;
    bed.register().await;
    // A duplicate that someone created by hand.
    bed.superoffice.add_webhook(json!({"Name": "copy", "Events": ["contact.changed"], "TargetUrl": WEBHOOK_URL}));
    let deleted = bed.client().unregister(WEBHOOK_URL).await.unwrap();
    assert_eq!(deleted.all().count(), 3);
    assert!(bed.superoffice.webhooks().is_empty());
    assert_eq!(bed.client().unregister(WEBHOOK_URL).await.unwrap().all().count(), 0);
}

#[tokio::test]
async fn webhook_that_is_gone_is_unregistered() {
    let bed = TestBed::start().await;
    bed.register().await;
    bed.superoffice.script("DELETE Webhook/", [Fault::Status(404)]);
    bed.client().unregister(WEBHOOK_URL).await.unwrap();
    assert_eq!(bed.superoffice.webhooks().len(), 1);
    bed.superoffice.script("DELETE Webhook/", [Fault::Status(400)]);
    let error = bed.client().unregister(WEBHOOK_URL).await.unwrap_err();
    assert_eq!(error.to_string().split(": ").nth(1), Some("status 400"));
}
