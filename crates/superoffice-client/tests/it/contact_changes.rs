//! Changes of contacts, and the observation of calls.

use std::sync::{Arc, Mutex};

use fake_superoffice::{Fault, Version};
use serde_json::json;

use crate::support::{TestBed, VERSIONS};

#[tokio::test]
async fn contacts_are_created_renamed_merged_and_deleted() {
    for version in VERSIONS {
        let bed = TestBed::start().await;
        bed.superoffice.set_version(version);
        bed.superoffice.create_contact();
        let client = bed.client();
        let first = client.create_contact("It's first").await.unwrap();
        let second = client.create_contact("It's second").await.unwrap();
        bed.superoffice.clear_requests();
        client.rename_contact(first, "It's new").await.unwrap();
        let put = [format!("GET Contact/{first}"), format!("PUT Contact/{first}")];
        let expected = if version == Version::WithoutPatch { &put[..] } else { &[] };
        assert_eq!(bed.calls(), [&[format!("PATCH Contact/{first}")], expected].concat());
        let named = vec![(first, "It's new".to_owned()), (second, "It's second".to_owned())];
        assert_eq!(client.contacts_named("It's").await.unwrap(), named);
        client.merge_contacts(second, first).await.unwrap();
        assert_eq!(client.contact(second).await.unwrap(), None);
        client.delete_contact(first).await.unwrap();
        client.delete_contact(second).await.unwrap();
        assert_eq!(client.contacts_named("It's").await.unwrap(), []);
    }
}

#[tokio::test]
async fn observer_sees_each_response_without_host_and_credentials() {
    let bed = TestBed::start().await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&seen);
    let client = bed.client().observed_by(Arc::new(move |exchange| {
        let call = format!("{} {} {}", exchange.method, exchange.path, exchange.status);
        kept.lock().unwrap().push((call, exchange.request.cloned()));
    }));
    bed.superoffice.script("GET Contact/7", [Fault::Status(500)]);
    client.contact(7).await.unwrap();
    client.merge_contacts(1, 2).await.unwrap_err();
    let merge = json!({
        "SourceContactId": 1, "DestinationContactId": 2, "MergeIdenticalPersons": false,
        "ReplaceEmptyFieldsOnDestination": false,
    });
    let expected = [
        ("GET Contact/7 500".to_owned(), None),
        ("GET Contact/7 404".to_owned(), None),
        ("POST Agents/Contact/Merge 400".to_owned(), Some(merge)),
    ];
    assert_eq!(*seen.lock().unwrap(), expected);
}
