//! Shared, listed and derived secrets, in process.

use std::collections::BTreeSet;
use std::fs;

use proptest::prelude::*;
use serde_json::{Value, json};
use superoffice_webhook::{MasterSecret, Secret, Verifier};
use test_support::{Function, WebhookRequest, project_root, sign};

fn secret(text: &str) -> Secret {
    text.parse().unwrap()
}

const MASTER: &str = "the current master secret, 32 bytes";
const PREVIOUS_MASTER: &str = "the previous master secret, 32 bytes";

/// Returns the secret of a tenant, derived by an HMAC implementation other than the function's.
fn derived(master: &str, tenant: &str) -> String {
    sign(format!("superoffice-webhook/tenant/v1/{}", tenant.to_ascii_lowercase()), master)
}

fn function_with_masters() -> Function {
    let tenants = r#"{"Listed": "listed"}"#.parse().unwrap();
    let verifier = Verifier::with_tenants(Some(secret("shared")), Some(secret("older")), tenants)
        .with_master(MASTER.parse().unwrap())
        .with_master(PREVIOUS_MASTER.parse().unwrap());
    Function::with(|handler| handler.verifier = verifier)
}

#[tokio::test]
async fn kind_of_secret_is_logged_in_every_payload_form() {
    let function = function_with_masters();
    for (path, signed_by, tenant, logged) in [
        ("/webhook", "shared", "Cust1", "current"),
        ("/webhook", "older", "Cust1", "previous"),
        ("/webhook", "listed", "Listed", "tenant"),
        ("/Prod/base/webhook/Cust%31/", &derived(PREVIOUS_MASTER, "Cust1"), "Cust1", "derived"),
    ] {
        for (form, event) in WebhookRequest::signed(event_of(&[tenant]), signed_by).path(path).all_forms() {
            let delivery = function.invoke(&event).await;
            assert_eq!((delivery.response.status, &delivery.log["secret"]), (200, &json!(logged)), "{path} {form}");
            assert_eq!(delivery.message().attribute("ContextIdentifier"), Some(tenant));
        }
    }
}

#[tokio::test]
async fn secret_of_another_tenant_returns_401_and_nothing_of_the_body_is_logged() {
    let function = function_with_masters();
    for (path, signed_by, tenant, reason) in [
        ("/webhook", &*derived(MASTER, "Cust1"), "Cust1", "signature mismatch"),
        ("/webhook/Cust1", "shared", "Cust1", "signature mismatch"),
        ("/webhook", "listed", "Cust1", "tenant mismatch"),
        ("/webhook/Cust1", &derived(MASTER, "Cust1"), "Cust2", "tenant mismatch"),
    ] {
        for (form, event) in WebhookRequest::signed(event_of(&[tenant]), signed_by).path(path).all_forms() {
            let delivery = function.invoke(&event).await;
            assert_eq!((delivery.response.status, delivery.sent.len()), (401, 0), "{path} {form}");
            assert_eq!(delivery.log["reason"], reason, "{path} {form}");
            assert!(!delivery.log.to_string().contains(tenant), "{}", delivery.log);
        }
    }
}

#[test]
fn derived_secret_equals_the_one_derived_by_python() {
    let vectors = fs::read(project_root().join("tests/vectors/tenant_secrets.json")).unwrap();
    let vectors: Vec<Value> = serde_json::from_slice(&vectors).unwrap();
    assert!(vectors.len() >= 5);
    for vector in vectors {
        let text = |name: &str| vector[name].as_str().unwrap().to_owned();
        let master: MasterSecret = text("master").parse().unwrap();
        assert_eq!(master.derive_text(&text("tenant")), text("secret"), "{vector}");
        assert_eq!(derived(&text("master"), &text("tenant")), text("secret"), "{vector}");
    }
}

/// A tenant, sometimes with characters that need encoding.
fn tenant() -> impl Strategy<Value = String> {
    prop_oneof!["Cust[0-9]{1,5}", "[a-zA-Z0-9]{1,12}", "[a-z/ %æø.?#]{1,6}"]
}

/// A path of the tenant, with any letter case, encoding, prefix and trailing slash.
fn path_of(tenant: String) -> impl Strategy<Value = String> {
    let encode = |(byte, (upper, percent)): (u8, (bool, bool))| {
        let byte = if upper { byte.to_ascii_uppercase() } else { byte.to_ascii_lowercase() };
        if byte.is_ascii_alphanumeric() && !percent { char::from(byte).to_string() } else { format!("%{byte:02x}") }
    };
    let prefix = prop::sample::select(vec!["/webhook/", "/prod/webhook/", "/a/b/webhook/", "/webhook/webhook/"]);
    let flags = prop::collection::vec(any::<(bool, bool)>(), tenant.len());
    let suffix = prop::sample::select(vec!["", "/"]);
    (prefix, flags, suffix).prop_map(move |(prefix, flags, suffix)| {
        let segment: String = tenant.bytes().zip(flags).map(encode).collect();
        format!("{prefix}{segment}{suffix}")
    })
}

/// Two different tenants, each with a path.
fn two_tenants() -> impl Strategy<Value = (String, String, String, String)> {
    (tenant(), tenant())
        .prop_filter("two tenants", |(own, other)| !own.eq_ignore_ascii_case(other))
        .prop_flat_map(|(own, other)| (Just(own.clone()), Just(other.clone()), path_of(own), path_of(other)))
}

/// An event with these `ContextIdentifier` fields.
fn event_of(tenants: &[&str]) -> String {
    let fields: String = tenants.iter().map(|tenant| format!(r#","ContextIdentifier":{}"#, json!(tenant))).collect();
    format!(r#"{{"EventId":"e","Event":"contact.changed","PrimaryKey":7{fields}}}"#)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn derived_secret_is_accepted_only_for_an_event_of_its_tenant_on_its_path(
        (own, other, own_path, other_path) in two_tenants(),
        is_previous: bool,
    ) {
        let secret = derived(if is_previous { PREVIOUS_MASTER } else { MASTER }, &own);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let post = |path: &str, tenants: &[&str]| {
            let request = WebhookRequest::signed(event_of(tenants), &secret).path(path);
            runtime.block_on(function_with_masters().invoke(&request.http_api()))
        };
        let accepted = post(&own_path, &[&own]);
        prop_assert_eq!(accepted.response.status, 200, "{} {}", own_path, accepted.log);
        let mut responses = BTreeSet::new();
        for (path, tenants) in [
            (&*other_path, &[&*own][..]),
            (&other_path, &[&other]),
            (&other_path, &[&other, &own]),
            (&own_path, &[&other]),
            (&own_path, &[&own, &other]),
            (&own_path, &[&own, &own]),
            (&own_path, &[]),
            ("/webhook", &[&own]),
            ("/", &[&own]),
        ] {
            let delivery = post(path, tenants);
            prop_assert_eq!((delivery.response.status, delivery.sent.len()), (401, 0), "{} {:?}", path, tenants);
            responses.insert(format!("{:?}", delivery.response));
        }
        prop_assert_eq!(responses.len(), 1, "{:?}", responses);
    }
}
