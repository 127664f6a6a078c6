use super::*;

fn webhook(properties: Value) -> Webhook {
    Webhook::read(properties).unwrap()
}

#[test]
fn state_events_name_their_webhook() {
    for (event, id) in [("webhook12.errors", Some(12)), ("Webhook1.Started", Some(1)), ("webhook3.stopped", Some(3))] {
        assert_eq!(watched_webhook(event), id, "{event}");
    }
    for event in ["webhook.errors", "webhook12.other", "webhook+1.errors", "contact12.errors", "web", "webhook12"] {
        assert_eq!(watched_webhook(event), None, "{event}");
    }
}

#[test]
fn debug_output_hides_the_secret() {
    let webhook = webhook(json!({"WebhookId": 7, "State": "Stopped", "Secret": "hunter2"}));
    assert_eq!(format!("{webhook:?}"), "Webhook { id: 7, state: Stopped, .. }");
}

#[test]
fn purpose_follows_from_the_events() {
    let purposes = |events: Value| {
        let webhook = webhook(json!({"WebhookId": 1, "Events": events}));
        (webhook.is_for_contacts(), webhook.is_for_states())
    };
    assert_eq!(purposes(json!(["contact.changed", "sale.changed"])), (true, false));
    assert_eq!(purposes(json!(["webhook1.errors", "webhook1.stopped"])), (false, true));
    assert_eq!(purposes(json!(["webhook1.errors", "sale.changed"])), (false, false));
    assert_eq!(purposes(json!(["contactless.changed"])), (false, false));
    assert_eq!(purposes(json!([])), (false, false));
    assert_eq!(purposes(Value::Null), (false, false));
}

#[test]
fn properties_are_read_in_any_letter_case() {
    let webhook = webhook(json!({"webhookId": 7, "name": "n", "state": 3}));
    assert_eq!((webhook.id(), webhook.name(), webhook.state()), (7, "n", State::TooManyErrors));
}

#[test]
fn hidden_secret_is_no_secret() {
    for hidden in [Value::Null, json!(""), json!("********"), json!("\u{2022}\u{2022}")] {
        assert_eq!(webhook(json!({"WebhookId": 7, "Secret": hidden})).secret(), None);
    }
    assert_eq!(webhook(json!({"WebhookId": 7, "Secret": "*s*"})).secret(), Some("*s*"));
}
