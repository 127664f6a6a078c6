//! The calls of contacts and persons.

use fake_superoffice::{Kind, Version};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::TestBed;

#[tokio::test]
async fn contact_is_read_as_a_whole() {
    let bed = TestBed::start().await;
    let [contact, gone] = [(); 2].map(|()| bed.superoffice.create_contact());
    let path = format!("/api/v1/contact/{contact}");
    let entity = bed.get(&path).await;
    assert_eq!(
        [&entity["ContactId"], &entity["Name"], &entity["Deleted"], &entity["Persons"][0]["ContactId"]],
        [&json!(contact), &json!("Company 1"), &json!(0), &json!(contact)]
    );
    bed.superoffice.change_contact(contact);
    assert_eq!(bed.get(&path).await["Name"], "Company 1, version 2");
    bed.superoffice.merge_contacts(gone, contact);
    assert_eq!(bed.get(&path).await["Name"], "Company 1, version 2");
    bed.superoffice.soft_delete_contact(contact);
    let selected = bed.get(&format!("{path}?$select=name,deleted")).await;
    assert_eq!([&selected["Deleted"], &selected["Persons"]], [&json!(1), &Value::Null]);
    let unknown = bed.call(Method::GET, &format!("/api/v1/Contact/{gone}"), None, &[]).await;
    assert_eq!((unknown.0, &unknown.1["Error"]), (404, &json!(true)));
}

/// The documented entity has no property `Deleted`.
#[tokio::test]
async fn person_is_read_as_a_whole_until_it_is_deleted() {
    let bed = TestBed::start().await;
    let contact = bed.superoffice.create_contact();
    let [person, gone] = [(); 2].map(|()| bed.superoffice.create(Kind::Person));
    // Contacts and persons are counted on their own.
    assert_eq!((contact, person), (1, 1));
    let path = format!("/api/v1/person/{person}");
    let entity = bed.get(&path).await;
    assert_eq!(
        [&entity["PersonId"], &entity["Lastname"], &entity["Contact"]["ContactId"], &entity["Deleted"]],
        [&json!(person), &json!("Nordmann 1"), &json!(contact), &Value::Null]
    );
    bed.superoffice.change(Kind::Person, person);
    assert_eq!(bed.get(&path).await["FullName"], "Kari Nordmann 1, version 2");
    bed.superoffice.merge(Kind::Person, gone, person);
    bed.superoffice.soft_delete(Kind::Person, person);
    for id in [person, gone] {
        let unknown = bed.call(Method::GET, &format!("/api/v1/Person/{id}"), None, &[]).await;
        assert_eq!((unknown.0, &unknown.1["Message"]), (404, &json!("There is no such person")));
    }
    bed.superoffice.restore(Kind::Person, person);
    assert_eq!(bed.get(&path).await["PersonId"], person);
    assert_eq!(bed.get(&format!("/api/v1/Contact/{contact}")).await["Name"], "Company 1");
}

#[tokio::test]
async fn contact_is_created_changed_merged_and_deleted_with_an_event_each() {
    let bed = TestBed::start().await;
    let webhook = bed.webhook("contact.created").await;
    let events = ["created", "changed", "softdeleted", "deleted"].map(|verb| format!("contact.{verb}"));
    bed.superoffice.set_property(webhook, "Events", json!(events));
    bed.deliveries().await;
    let create =
        async |name| bed.send(Method::POST, "/api/v1/Contact", json!({"name": name})).await["ContactId"].clone();
    let (first, second) = (create("First").await, create("Second").await);
    let path = format!("/api/v1/Contact/{first}");
    let replace = |value| json!([{"op": "replace", "path": "/Name", "value": value}]);
    assert_eq!(bed.send(Method::PATCH, &path, replace("Patched")).await["Name"], "Patched");
    assert_eq!(bed.send(Method::PATCH, &path, json!({"Name": "Merged"})).await["Name"], "Merged");
    let test = json!([{"op": "test", "path": "/Name", "value": "First"}, replace("Lost")[0]]);
    assert_eq!(bed.call(Method::PATCH, &path, Some(&test), &[]).await.0, 409);
    bed.superoffice.set_version(Version::WithoutPatch);
    assert_eq!(bed.call(Method::PATCH, &path, Some(&replace("Lost")), &[]).await.0, 405);
    let mut entity = bed.get(&path).await;
    entity["Name"] = json!("Put");
    assert_eq!(bed.send(Method::PUT, &path, entity).await["Name"], "Put");

    let merge = json!({"SourceContactId": second, "DestinationContactId": first});
    assert_eq!(bed.call(Method::POST, "/api/v1/Agents/Contact/Merge", Some(&merge), &[]).await, (204, Value::Null));
    assert_eq!(bed.call(Method::POST, "/api/v1/Agents/Contact/Merge", Some(&merge), &[]).await.0, 400);
    assert_eq!(bed.call(Method::DELETE, &path, None, &[]).await, (204, Value::Null));
    assert_eq!(bed.get(&path).await["Deleted"], 1);
    let arrived: Vec<_> = bed
        .deliveries()
        .await
        .iter()
        .map(|delivery| {
            let body: Value = serde_json::from_slice(&delivery.body).unwrap();
            (body["Event"].as_str().unwrap().to_owned(), body["PrimaryKey"].clone())
        })
        .collect();
    let event = |verb: &str, contact: &Value| (format!("contact.{verb}"), contact.clone());
    assert_eq!(
        arrived,
        [
            event("created", &first),
            event("created", &second),
            event("changed", &first),
            event("changed", &first),
            event("changed", &first),
            event("deleted", &second),
            event("changed", &first),
            event("softdeleted", &first),
        ]
    );
}
