//! Tests, states and counters of webhooks.

use fake_superoffice::{Fault, Mode, Outage, SECRET, Version, WEBHOOK_URL};
use serde_json::json;
use superoffice_client::SecretString;
use superoffice_client::webhooks::State;

use crate::support::{TestBed, VERSIONS, by_id};

#[tokio::test]
async fn refused_change_is_not_made_in_another_way() {
    let bed = TestBed::start().await;
    let managed = bed.register().await;
    bed.superoffice.script("PATCH Webhook/", [Fault::Status(400)]);
    bed.superoffice.clear_requests();
    bed.client().set_state(&managed.contacts[0], State::Active, None).await.unwrap_err();
    assert_eq!(bed.calls(), [format!("PATCH Webhook/{}", managed.contacts[0].id())]);
}

#[tokio::test]
async fn test_uses_the_stored_secret() {
    let bed = TestBed::start().await;
    let managed = bed.register().await;
    let result = bed.client().test(&managed.contacts[0], None).await.unwrap();
    assert!(result.success, "{result:?}");

    bed.superoffice.set_property(managed.contacts[0].id(), "Secret", json!("another secret"));
    let managed = bed.client().webhooks(WEBHOOK_URL).await.unwrap();
    let result = bed.client().test(&managed.contacts[0], Some(&SecretString::from(SECRET))).await.unwrap();
    assert!(!result.success);
    assert!(result.message.starts_with("HTTP 401"), "{result:?}");
}

#[tokio::test]
async fn test_uses_the_configured_secret_if_the_server_hides_the_stored_one() {
    let bed = TestBed::start().await;
    let managed = bed.register().await;
    bed.superoffice.set_property(managed.contacts[0].id(), "Secret", json!(null));
    let managed = bed.client().webhooks(WEBHOOK_URL).await.unwrap();
    assert!(bed.client().test(&managed.contacts[0], Some(&SecretString::from(SECRET))).await.unwrap().success);
    assert!(!bed.client().test(&managed.contacts[0], None).await.unwrap().success);
}

#[tokio::test]
async fn state_is_set_in_every_mode() {
    for (name, mode) in Mode::ALL {
        let bed = TestBed::start().await;
        let id = bed.register().await.contacts[0].id();
        bed.superoffice.set_mode(mode);
        let secret = SecretString::from(SECRET);
        for (before, state) in [("TooManyErrors", State::Active), ("Active", State::Stopped)] {
            bed.superoffice.set_property(id, "State", json!(before));
            let managed = bed.client().webhooks(WEBHOOK_URL).await.unwrap();
            let updated = bed.client().set_state(&managed.contacts[0], state, Some(&secret)).await.unwrap();
            assert_eq!((updated.state(), by_id(&bed, id).state()), (state, state.as_str()), "{name}");
            assert_eq!(by_id(&bed, id).text("Secret"), SECRET, "{name}");
        }
    }
}

#[tokio::test]
async fn hidden_secret_is_never_overwritten_with_nothing() {
    let bed = TestBed::start().await;
    let id = bed.register().await.contacts[0].id();
    bed.superoffice.set_mode(Mode { version: Version::WithoutPatch, hides_secrets: true, ..Mode::DOCUMENTED });
    bed.superoffice.set_property(id, "State", json!("TooManyErrors"));
    let managed = bed.client().webhooks(WEBHOOK_URL).await.unwrap();
    let error = bed.client().set_state(&managed.contacts[0], State::Active, None).await.unwrap_err();
    assert!(error.is_refusal() && error.is_specific());
    assert_eq!(
        error.to_string(),
        format!(
            "PUT Webhook/{id}: SuperOffice does not return the webhook's secret, and writing the webhook would lose it; \
             set SUPEROFFICE_WEBHOOK_SECRET"
        )
    );
    assert_eq!((by_id(&bed, id).state(), by_id(&bed, id).text("Secret")), ("TooManyErrors", SECRET));
}

#[tokio::test]
async fn activation_is_refused_if_the_state_or_the_url_has_changed() {
    for (version, [name, value]) in VERSIONS.into_iter().flat_map(|version| {
        [["State", "Stopped"], ["TargetUrl", "https://other.example.com"]].map(|property| (version, property))
    }) {
        let bed = TestBed::start().await;
        bed.superoffice.set_version(version);
        let id = bed.register().await.contacts[0].id();
        bed.superoffice.set_property(id, "State", json!("TooManyErrors"));
        let managed = bed.client().webhooks(WEBHOOK_URL).await.unwrap();
        // A person changes it in the meantime.
        bed.superoffice.set_property(id, name, json!(value));
        let before = format!("{:?}", by_id(&bed, id));
        let error = bed.client().set_state(&managed.contacts[0], State::Active, None).await.unwrap_err();
        assert!(error.is_refusal() && error.is_specific(), "{error}");
        assert_eq!(format!("{:?}", by_id(&bed, id)), before);
    }
}

/// The state, the counters and the last event, as `status` shows them.
#[tokio::test]
async fn disabled_webhook_is_shown_in_every_mode() {
    for (name, mode) in Mode::ALL {
        let bed = TestBed::start().await;
        bed.superoffice.set_mode(mode);
        bed.register().await;
        let webhooks = async || bed.client().webhooks(WEBHOOK_URL).await.unwrap();
        let usage = async || bed.client().usage(&webhooks().await.contacts[0]).await.unwrap();
        assert!(webhooks().await.is_active(), "{name}");
        let unused = usage().await;
        assert_eq!((unused.consecutive_errors, unused.last_error, unused.last_event), (Some(0), None, None), "{name}");
        bed.function.set_outage(Outage::Queue);
        for _ in 0..3 {
            bed.superoffice.create_contact();
        }
        bed.superoffice.idle().await;
        let states: Vec<State> = webhooks().await.all().map(|webhook| webhook.state()).collect();
        assert_eq!(states, [State::TooManyErrors, State::Active], "{name}");
        let usage = usage().await;
        let last = usage.last_error.unwrap();
        assert!(last.starts_with("HTTP 503") && last.contains("The event could not be queued."), "{last}");
        // Only the current version has the archive of webhooks.
        let is_current = mode.version == Version::Current;
        let total = if is_current { Some(9) } else { None };
        assert_eq!(
            (usage.consecutive_errors, usage.total_errors, usage.total_calls),
            (Some(9), total, total),
            "{name}"
        );
        let (last_event, lacks_offset) = match name {
            _ if !is_current => (None, false),
            // The server's zone is unknown.
            "zone ignored, east of UTC" => (Some("2026-11-24T11:00:00Z".parse().unwrap()), true),
            "zone ignored, west of UTC" => (Some("2026-11-24T04:00:00Z".parse().unwrap()), true),
            "offsets refused" => (Some(bed.now()), true),
            _ => (Some(bed.now()), false),
        };
        assert_eq!((usage.last_event, usage.lacks_offset), (last_event, lacks_offset), "{name}");
    }
}
