//! The calls of webhooks.

use fake_superoffice::{EmptyBody, Mode, States};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::TestBed;

const CARRIER: [&str; 23] = [
    "ConsecutiveErrors",
    "Description",
    "ErrorAssociates",
    "ErrorEmails",
    "ErrorsEmail",
    "Events",
    "Headers",
    "LastError",
    "Name",
    "NotifyVia",
    "NotifyWhen",
    "Properties",
    "Registered",
    "RegisteredAssociate",
    "Secret",
    "State",
    "TargetUrl",
    "TotalCalls",
    "TotalErrors",
    "Type",
    "Updated",
    "UpdatedAssociate",
    "WebhookId",
];

fn names(carrier: &Value) -> Vec<&str> {
    let mut names: Vec<&str> = carrier.as_object().unwrap().keys().map(String::as_str).collect();
    names.sort_unstable();
    names
}

/// The recorded body is in camelCase, and each call returns the whole carrier in PascalCase.
#[tokio::test]
async fn recorded_body_of_the_official_client_is_accepted_by_every_route() {
    let recorded: Value = serde_json::from_str(include_str!("../recorded/save-webhook.json")).unwrap();
    for path in ["/api/v1/Webhook/", "/API/V1/webhook", "/api/v1/Agents/Webhook/SaveWebhook"] {
        let bed = TestBed::start().await;
        let mut created = bed.send(Method::POST, path, recorded.clone()).await;
        let link = created.as_object_mut().unwrap().remove("_Links");
        assert_eq!(link.is_some(), !path.contains("Agents"));
        assert_eq!(names(&created), CARRIER);
        assert_eq!((&created["Name"], &created["Events"]), (&json!("witness"), &json!(["contact.resync"])));
        assert_eq!(bed.get("/api/v1/Webhook").await, json!([created]));
    }
}

#[tokio::test]
async fn default_webhook_has_no_id() {
    let default = TestBed::start().await.get("/api/v1/Webhook/default").await;
    assert_eq!(names(&default), CARRIER);
    assert_eq!(
        (&default["WebhookId"], &default["State"], &default["Registered"]),
        (&json!(0), &json!("Active"), &json!("0001-01-01T00:00:00"))
    );
}

#[tokio::test]
async fn lists_are_filtered_and_selected() {
    let bed = TestBed::start().await;
    let first = bed.webhook("contact.created").await;
    let second = bed.webhook("contact.changed").await;
    bed.superoffice.set_property(second, "Name", json!("second"));
    bed.superoffice.set_property(second, "State", json!("Stopped"));
    for (query, expected) in [
        ("nameFilter=FIRST", vec![first]),
        ("eventFilter=Contact.Changed", vec![second]),
        ("statusFilter=Stopped", vec![second]),
        ("statusfilter=1", vec![first]),
        ("statusFilter=Unknown", vec![first, second]),
        ("nameFilter=second&statusFilter=Active", vec![]),
    ] {
        let listed = bed.get(&format!("/api/v1/Webhook?{query}")).await;
        let ids: Vec<i64> = listed.as_array().unwrap().iter().map(|item| item["WebhookId"].as_i64().unwrap()).collect();
        assert_eq!(ids, expected, "{query}");
    }
    let selected = bed.get(&format!("/api/v1/Webhook/{first}?$select=name,Events")).await;
    assert_eq!(
        [&selected["Name"], &selected["Events"], &selected["Secret"]],
        [&json!("first"), &json!(["contact.created"]), &Value::Null]
    );
}

#[tokio::test]
async fn put_replaces_the_whole_webhook() {
    let bed = TestBed::start().await;
    let path = format!("/api/v1/Webhook/{}", bed.webhook("contact.changed").await);
    let put = json!({"name": "renamed", "events": ["contact.changed"], "targetUrl": "https://hooks.example.com"});
    let replaced = bed.send(Method::PUT, &path, put).await;
    assert_eq!((&replaced["Name"], &replaced["Secret"]), (&json!("renamed"), &Value::Null));
}

#[tokio::test]
async fn patch_changes_the_named_properties() {
    let bed = TestBed::start().await;
    let path = format!("/api/v1/Webhook/{}", bed.webhook("contact.changed").await);
    let operations = json!([
        {"op": "test", "path": "/state", "value": "Active"},
        {"op": "add", "path": "/Events/-", "value": "contact.created"},
        {"op": "replace", "path": "/State", "value": 2},
        {"op": "add", "path": "/Headers/X-Api-Key", "value": "key"},
    ]);
    let patched = bed.send(Method::PATCH, &path, operations).await;
    assert_eq!(patched["Events"], json!(["contact.changed", "contact.created"]));
    assert_eq!((&patched["State"], &patched["Headers"]), (&json!("Stopped"), &json!({"X-Api-Key": "key"})));
    let merged = bed.send(Method::PATCH, &path, json!({"name": "merged", "headers": {"x-api-key": null}})).await;
    assert_eq!((&merged["Name"], &merged["Headers"]), (&json!("merged"), &json!({})));
    assert_eq!((&merged["Secret"], &merged["State"]), (&json!("secret"), &json!("Stopped")));
    let test = json!([{"op": "test", "path": "/State", "value": "Active"}]);
    assert_eq!(bed.call(Method::PATCH, &path, Some(&test), &[]).await.0, 409);
}

#[tokio::test]
async fn dates_are_preconditions() {
    let bed = TestBed::start().await;
    let path = format!("/api/v1/Webhook/{}", bed.webhook("contact.changed").await);
    let contact = format!("/api/v1/Contact/{}", bed.superoffice.create_contact());
    let (before, now) = ("Tue, 24 Nov 2026 08:59:59 GMT", "Tue, 24 Nov 2026 09:00:00 GMT");
    for path in [&path, &contact] {
        for (header, date, status) in [
            ("If-Modified-Since", now, 304),
            ("If-Modified-Since", before, 200),
            ("If-Unmodified-Since", before, 412),
            ("If-Unmodified-Since", now, 200),
        ] {
            assert_eq!(bed.call(Method::GET, path, None, &[(header, date)]).await.0, status, "{path} {header} {date}");
        }
    }
    assert_eq!(bed.call(Method::DELETE, &path, None, &[("If-Unmodified-Since", before)]).await.0, 412);
    assert_eq!(bed.call(Method::DELETE, &path, None, &[("If-Unmodified-Since", now)]).await.0, 204);
}

#[tokio::test]
async fn refusals_have_the_error_carrier() {
    let bed = TestBed::start().await;
    let insecure = json!({"Name": "n", "Events": ["contact.changed"], "TargetUrl": "http://hooks.example.com"});
    let refused = bed.call(Method::POST, "/api/v1/Webhook", Some(&insecure), &[]).await;
    let carrier = json!({
        "Error": true, "ErrorType": "ArgumentException", "ErrorSource": "SuperOffice.Services.Implementation",
        "Message": "Webhook TargetUrl must be secure: 'HTTPS:' not found in http://hooks.example.com",
    });
    assert_eq!(refused, (400, carrier));
    let (status, body) = bed.call(Method::GET, "/api/v1/Webhook/999", None, &[]).await;
    assert_eq!((status, &body["ErrorType"]), (404, &json!("NotFoundException")));
}

#[tokio::test]
async fn modes_decide_what_is_unknown() {
    let bed = TestBed::start().await;
    let path = format!("/api/v1/Webhook/{}", bed.webhook("contact.changed").await);
    let test = |value: Value| json!([{"op": "test", "path": "/State", "value": value}]);
    for (states, shown, by_name, by_number) in [
        (States::Names, json!("Active"), 200, 409),
        (States::TestedAsNumbers, json!("Active"), 409, 200),
        (States::Numbers, json!(1), 409, 200),
    ] {
        bed.superoffice.set_mode(Mode { states, ..Mode::DOCUMENTED });
        assert_eq!(bed.get(&path).await["State"], shown);
        assert_eq!(bed.call(Method::PATCH, &path, Some(&test(json!("Active"))), &[]).await.0, by_name, "{states:?}");
        assert_eq!(bed.call(Method::PATCH, &path, Some(&test(json!(1))), &[]).await.0, by_number, "{states:?}");
    }
    bed.superoffice.set_mode(Mode { hides_secrets: true, ..Mode::DOCUMENTED });
    assert_eq!(bed.get(&path).await["Secret"], json!(""));
    for (empty_body, status) in [(EmptyBody::BadRequest, 400), (EmptyBody::UnsupportedMediaType, 415)] {
        bed.superoffice.set_mode(Mode { empty_body, ..Mode::DOCUMENTED });
        let signal = "/api/v1/Webhook/contact.resync/7";
        assert_eq!(bed.call(Method::POST, signal, None, &[]).await.0, status, "{empty_body:?}");
        assert_eq!(bed.call(Method::POST, signal, Some(&json!({})), &[]).await.0, 204, "{empty_body:?}");
    }
}
