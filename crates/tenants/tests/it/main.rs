//! The list, read from a Parameter Store that decrypts only what it may.

#![expect(clippy::unwrap_used, reason = "panicking fails the test")]

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use aws_sdk_ssm::config::{BehaviorVersion, Credentials, Region, retry::RetryConfig};
use jiff::Timestamp;
use superoffice_webhook::env::Environment;
use tenants::{FindError, ListError, Reason, Tenant, TenantList, TenantSource};
use test_support::ssm::{INVALID_KEY, KEY_DENIED, ParameterStore};

const PATH: &str = "/superoffice/my-app";
const KEY: &str = include_str!("../../../superoffice-client/tests/keys/system-user.pkcs8.pem");

struct TestBed {
    store: ParameterStore,
    source: TenantSource,
    seconds: Arc<AtomicI64>,
}

fn from_environment(variables: &[(&str, &str)]) -> Result<TenantSource, String> {
    let lookup = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
    let mut env = Environment::new(&lookup);
    let source = TenantSource::from_environment(&mut env);
    env.finish(source).map_err(|error| error.to_string())
}

impl TestBed {
    async fn start() -> Self {
        let store = ParameterStore::start().await;
        let variables = [
            ("SUPEROFFICE_TENANTS_PARAMETER", "/superoffice/my-app/"),
            ("SUPEROFFICE_CLIENT_SECRET", "client secret"),
            ("SUPEROFFICE_PRIVATE_KEY", KEY),
        ];
        let seconds = Arc::new(AtomicI64::new(1_795_510_800));
        let clock = Arc::clone(&seconds);
        let config = aws_sdk_ssm::Config::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .region(Region::new("eu-north-1"))
            .endpoint_url(store.url())
            .credentials_provider(Credentials::new("id", "key", None, None, "test"))
            .retry_config(RetryConfig::disabled())
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .build();
        let source = from_environment(&variables)
            .unwrap()
            .with_client(aws_sdk_ssm::Client::from_conf(config))
            .with_clock(Arc::new(move || Timestamp::from_second(clock.load(Ordering::Relaxed)).unwrap()));
        Self { store, source, seconds }
    }

    fn put(&self, name: &str) {
        self.store.put(&format!("{PATH}/{name}"), r#"{"systemToken": "App-token"}"#);
    }

    fn pass(&self, seconds: i64) {
        self.seconds.fetch_add(seconds, Ordering::Relaxed);
    }

    async fn list(&self) -> Arc<TenantList> {
        self.source.list().await.unwrap()
    }

    async fn find(&self, spelling: &str) -> Result<Option<Arc<Tenant>>, FindError> {
        self.source.find(spelling).await
    }

    fn calls(&self) -> Vec<String> {
        let calls = self.store.take_calls();
        calls.iter().map(|call| call.replace("GetParametersByPath /superoffice/my-app", "page")).collect()
    }
}

fn names(list: &TenantList) -> Vec<&str> {
    list.usable().iter().map(|tenant| tenant.name().unwrap()).collect()
}

fn unusable(list: &TenantList) -> Vec<(&str, Reason)> {
    list.unusable().iter().map(|entry| (entry.name.as_str(), entry.reason)).collect()
}

fn get(name: &str) -> String {
    format!("GetParameter {PATH}/{name}")
}

#[tokio::test]
async fn all_pages_are_read_and_only_names_directly_below_the_path_are_tenants() {
    let bed = TestBed::start().await;
    let expected: Vec<_> = (10..35).map(|number| format!("Cust{number}")).collect();
    for name in &expected {
        bed.put(name);
    }
    bed.put("Cust10/nested");
    bed.store.put("/superoffice/my-app2/Cust99", "{}");
    let list = bed.list().await;
    assert_eq!(names(&list), expected);
    assert_eq!((unusable(&list), list.len()), (vec![], 25));
    assert_eq!(bed.calls(), ["page", "page", "page"]);
}

#[tokio::test]
async fn unusable_entries_affect_no_other_entry() {
    let bed = TestBed::start().await;
    for name in ["Cust1", "Cust2", "Cust3", "cust3", "Cust4"] {
        bed.put(name);
    }
    bed.store.put_plain(&format!("{PATH}/Cust5"), r#"{"systemToken": "App-token"}"#);
    bed.store.put(&format!("{PATH}/Cust6"), "hunter2");
    bed.store.put(&format!("{PATH}/Cust7"), r#"{"url": "https://host/Cust70", "accessToken": "hunter2"}"#);
    bed.store.put(&format!("{PATH}/Cust8"), r#"{"systemToken": "App-token", "paused": true}"#);
    let list = bed.list().await;
    assert_eq!(names(&list), ["Cust1", "Cust2", "Cust4", "Cust8"]);
    assert_eq!(list.usable().iter().map(|tenant| tenant.is_paused()).collect::<Vec<_>>(), [false, false, false, true]);
    assert_eq!(
        unusable(&list),
        [
            ("Cust3", Reason::SimilarName),
            ("Cust5", Reason::NotSecure),
            ("Cust6", Reason::NotAnEntry),
            ("Cust7", Reason::OtherTenant),
            ("cust3", Reason::SimilarName),
        ]
    );
    let text = format!("{list:?} {}", list.unusable()[2]);
    assert!(text.ends_with("tenant Cust6: the parameter cannot be used: its value is not a JSON object with systemToken, or with url and accessToken or user and password"), "{text}");
    assert!(!text.contains("hunter2") && !text.contains("App-token"), "{text}");
}

/// Each page has ten entries, and AWS refuses the page with the entry that cannot be decrypted.
#[tokio::test]
async fn entry_that_cannot_be_decrypted_is_the_only_one_that_is_lost() {
    for (locked, binds_tokens, calls_alone, calls) in [
        ("Cust10", false, 10, 14),
        ("Cust22", false, 10, 14),
        ("Cust34", false, 5, 9),
        // The refused token makes the list begin again. The values of page 1 were read alone before.
        ("Cust10", true, 10 + 25, 3 + 10 + 3 + 25),
        ("Cust22", true, 25, 3 + 3 + 25),
        ("Cust34", true, 25, 4 + 3 + 25),
    ] {
        for refusal in [INVALID_KEY, KEY_DENIED] {
            let bed = TestBed::start().await;
            for number in 10..35 {
                bed.put(&format!("Cust{number}"));
            }
            bed.store.lock(&format!("{PATH}/{locked}"), refusal);
            if binds_tokens {
                bed.store.bind_tokens();
            }
            let list = bed.list().await;
            assert_eq!((list.usable().len(), unusable(&list)), (24, vec![(locked, Reason::NotDecrypted)]));
            let made = bed.calls();
            let alone = made.iter().filter(|call| call.starts_with("GetParameter ")).count();
            assert_eq!((alone, made.len()), (calls_alone, calls), "{locked} {binds_tokens}");
        }
    }
}

#[tokio::test]
async fn empty_list_and_a_list_that_cannot_be_read_to_its_end_are_errors() {
    let bed = TestBed::start().await;
    let empty = "the list of tenants is empty: there is no parameter directly below /superoffice/my-app in eu-north-1";
    assert_eq!(bed.source.list().await.unwrap_err().to_string(), empty);
    assert_eq!(bed.find("Cust1").await.unwrap().map(|_| ()), None);
    for number in 10..35 {
        bed.put(&format!("Cust{number}"));
    }
    let unreadable =
        |reason: &str| format!("the list of tenants at /superoffice/my-app in eu-north-1 cannot be read: {reason}");
    bed.store.fail_after(1, ("ThrottlingException", "Rate exceeded"));
    let error = bed.source.list().await.unwrap_err();
    assert_eq!(error.to_string(), unreadable("ThrottlingException: Rate exceeded"));
    // A missing permission is not the fault of one value.
    let denied = "User: arn:aws:sts::1:assumed-role/r is not authorized to perform: ssm:GetParametersByPath";
    bed.store.fail_after(0, ("AccessDeniedException", denied));
    let error = bed.source.list().await.unwrap_err();
    assert_eq!(error.to_string(), unreadable(&format!("AccessDeniedException: {denied}")));
    let denied = "User: arn:aws:sts::1:assumed-role/r is not authorized to perform: ssm:GetParameter";
    bed.store.lock(&format!("{PATH}/Cust10"), INVALID_KEY);
    bed.store.fail_after(2, ("AccessDeniedException", denied));
    let error = bed.source.list().await.unwrap_err();
    assert_eq!(error.to_string(), unreadable(&format!("AccessDeniedException: {denied}")));
    bed.store.succeed();
    assert_eq!(bed.list().await.len(), 25);
}

#[tokio::test]
async fn list_is_kept_for_ten_minutes_and_an_unchanged_tenant_for_longer() {
    let bed = TestBed::start().await;
    bed.put("Cust1");
    bed.put("Cust2");
    let first = bed.list().await;
    bed.store.put(&format!("{PATH}/Cust2"), r#"{"systemToken": "another"}"#);
    bed.pass(599);
    assert!(Arc::ptr_eq(&first, &bed.list().await));
    bed.pass(1);
    let second = bed.list().await;
    assert!(Arc::ptr_eq(&first.usable()[0], &second.usable()[0]));
    assert!(!Arc::ptr_eq(&first.usable()[1], &second.usable()[1]));
    assert_eq!(bed.calls(), ["page", "page"]);
    bed.pass(600);
    bed.store.fail_after(0, ("InternalServerError", "later"));
    assert!(matches!(bed.source.list().await, Err(ListError::Unreadable { .. })));
}

#[tokio::test]
async fn entry_whose_credentials_are_refused_is_read_again_once_a_minute() {
    let bed = TestBed::start().await;
    bed.put("Cust1");
    bed.put("Cust2");
    let list = bed.list().await;
    let before = &list.usable()[0];
    bed.calls();
    let unchanged = bed.source.refresh(before).await.unwrap().unwrap();
    assert!(Arc::ptr_eq(before, &unchanged));
    bed.store.put(&format!("{PATH}/Cust1"), r#"{"systemToken": "another"}"#);
    bed.pass(59);
    assert!(Arc::ptr_eq(before, &bed.source.refresh(before).await.unwrap().unwrap()));
    assert_eq!(bed.calls(), [get("Cust1")]);
    bed.pass(1);
    let changed = bed.source.refresh(before).await.unwrap().unwrap();
    assert!(!Arc::ptr_eq(before, &changed));
    let list = bed.list().await;
    assert!(Arc::ptr_eq(&changed, &list.usable()[0]) && list.usable().len() == 2);
    assert_eq!(bed.calls(), [get("Cust1")]);

    bed.pass(60);
    bed.store.lock(&format!("{PATH}/Cust1"), KEY_DENIED);
    let error = bed.source.refresh(before).await.unwrap_err();
    assert_eq!(error.to_string(), "tenant Cust1: the parameter cannot be used: its value cannot be decrypted");
    assert_eq!(unusable(&*bed.list().await), [("Cust1", Reason::NotDecrypted)]);
    bed.pass(60);
    bed.store.delete(&format!("{PATH}/Cust1"));
    assert!(bed.source.refresh(before).await.unwrap().is_none());
    assert_eq!(names(&*bed.list().await), ["Cust2"]);
}

#[tokio::test]
async fn tenant_of_an_event_is_found_by_its_spelling_or_in_the_list() {
    let bed = TestBed::start().await;
    bed.put("Cust1");
    bed.put("Cust2");
    let found = bed.find("Cust1").await.unwrap().unwrap();
    assert_eq!((found.name(), bed.calls()), (Some("Cust1"), vec![get("Cust1")]));
    assert!(Arc::ptr_eq(&found, &bed.find("cust1").await.unwrap().unwrap()));
    assert_eq!(bed.calls(), Vec::<String>::new());
    let found = bed.find("CUST2").await.unwrap().unwrap();
    assert_eq!((found.name(), bed.calls()), (Some("Cust2"), vec![get("CUST2"), "page".into()]));
    // The list is known, so it is not read again. A tenant may be new.
    for _ in 0..2 {
        assert!(bed.find("Cust3").await.unwrap().is_none());
    }
    assert_eq!(bed.calls(), [get("Cust3")]);
    bed.put("Cust3");
    bed.pass(60);
    assert_eq!(bed.find("Cust3").await.unwrap().unwrap().name(), Some("Cust3"));
    for name in ["", "a/b", "Cust1/nested", "*"] {
        assert!(bed.find(name).await.unwrap().is_none());
    }
    assert_eq!(bed.calls(), [get("Cust3")]);

    bed.store.put(&format!("{PATH}/Cust4"), "hunter2");
    assert!(matches!(bed.find("Cust4").await, Err(FindError::Unusable(entry)) if entry.reason == Reason::NotAnEntry));
    bed.store.fail_after(0, ("ThrottlingException", "Rate exceeded"));
    assert!(matches!(bed.find("Cust5").await, Err(FindError::List(_))));
}

#[tokio::test]
async fn environment_without_a_path_has_one_tenant() {
    for (url, name) in [("https://online3.superoffice.com/Cust1", Some("Cust1")), ("https://server/SuperOffice", None)]
    {
        let source = from_environment(&[("SUPEROFFICE_URL", url), ("SUPEROFFICE_ACCESS_TOKEN", "t")]).unwrap();
        assert_eq!(source.path(), None);
        let list = source.list().await.unwrap();
        let [tenant] = list.usable() else { panic!("{list:?}") };
        assert_eq!((tenant.name(), tenant.is_paused()), (name, false));
        assert!(Arc::ptr_eq(tenant, &source.find("Cust9").await.unwrap().unwrap()));
        assert!(Arc::ptr_eq(tenant, &source.refresh(tenant).await.unwrap().unwrap()));
    }
}

#[test]
fn path_beside_a_variable_of_one_tenant_is_wrong_usage() {
    let error = from_environment(&[
        ("SUPEROFFICE_TENANTS_PARAMETER", "my-app"),
        ("SUPEROFFICE_URL", "https://server/SuperOffice"),
        ("SUPEROFFICE_TENANT", "Cust1"),
        ("SUPEROFFICE_ACCESS_TOKEN", "hunter2"),
        ("SUPEROFFICE_PASSWORD", "hunter2"),
        ("SUPEROFFICE_SYSTEM_TOKEN", "hunter2"),
        ("SUPEROFFICE_CLIENT_SECRET", "hunter2"),
    ]);
    let both = "set, and so is SUPEROFFICE_TENANTS_PARAMETER; set one of them";
    assert_eq!(
        error.unwrap_err(),
        format!(
            "invalid configuration:\
             \n  SUPEROFFICE_TENANTS_PARAMETER: expected a path such as /superoffice/my-app\
             \n  SUPEROFFICE_URL: {both}\
             \n  SUPEROFFICE_TENANT: {both}\
             \n  SUPEROFFICE_ACCESS_TOKEN: {both}\
             \n  SUPEROFFICE_PASSWORD: {both}\
             \n  SUPEROFFICE_SYSTEM_TOKEN: {both}\
             \n  SUPEROFFICE_PRIVATE_KEY: not set"
        )
    );
    for path in ["/", "//", "/a//b", "/a b", ""] {
        assert!(from_environment(&[("SUPEROFFICE_TENANTS_PARAMETER", path)]).is_err(), "{path}");
    }
}
