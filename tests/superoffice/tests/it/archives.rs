//! Archives, and the times in them.

use fake_superoffice::{Kind, Mode, Version, Zones};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::TestBed;

fn keys(page: &Value) -> Vec<&str> {
    page["value"].as_array().unwrap().iter().map(|row| row["PrimaryKey"].as_str().unwrap()).collect()
}

/// The filter's time has the form and the zone of the answer, without an offset.
#[tokio::test]
async fn times_follow_the_header_unless_the_server_ignores_it() {
    let bed = TestBed::start().await;
    let contact = bed.superoffice.create_contact();
    let archive = "/api/v1/Archive/dynamic?$select=contact.registered&$filter=contact.registered afterTime";
    let zone = |zones, base_zone| Mode { zones, base_zone, ..Mode::DOCUMENTED };
    for (mode, header, created, before, at) in [
        (zone(Zones::Honored, 1), "UTC", "2026-11-24T09:00:00", "08:59:59", "09:00:00"),
        (zone(Zones::Honored, 1), "utc,includeTZOffset", "2026-11-24T09:00:00Z", "08:59:59", "09:00:00"),
        (zone(Zones::Honored, 1), "", "2026-11-24T10:00:00", "09:59:59", "10:00:00"),
        (zone(Zones::Honored, 1), "includeTZOffset", "2026-11-24T10:00:00+01:00", "09:59:59", "10:00:00"),
        (zone(Zones::OffsetsRefused, 1), "UTC", "2026-11-24T09:00:00", "08:59:59", "09:00:00"),
        (zone(Zones::Ignored, -5), "UTC, includeTZOffset", "2026-11-24T04:00:00", "03:59:59", "04:00:00"),
    ] {
        bed.superoffice.set_mode(mode);
        let headers = [("SO-TimeZone", header)];
        let entity = bed.call(Method::GET, &format!("/api/v1/Contact/{contact}"), None, &headers).await.1;
        assert_eq!(entity["CreatedDate"], created, "{header}");
        for (time, found) in [(before, 1), (at, 0)] {
            let page = bed.call(Method::GET, &format!("{archive} '2026-11-24T{time}'"), None, &headers).await.1;
            assert_eq!(page["value"].as_array().unwrap().len(), found, "{header} {time}");
        }
    }
    bed.superoffice.set_mode(zone(Zones::OffsetsRefused, 1));
    let refused = bed.call(Method::GET, "/api/v1/Webhook", None, &[("SO-TimeZone", "UTC, includeTZOffset")]).await;
    assert_eq!((refused.0, &refused.1["ErrorType"]), (400, &json!("ArgumentException")));
}

#[tokio::test]
async fn archives_understand_every_operator_and_any_letter_case() {
    let bed = TestBed::start().await;
    for _ in 0..4 {
        bed.superoffice.create_contact();
        bed.clock.advance(24 * 3600 * 1000);
    }
    let select = "$select=Contact.contact_id,contact.NAME";
    for (filter, expected) in [
        ("Contact.Contact_Id gt 2", vec!["3", "4"]),
        ("contact.contact_id > 2 and contact.contact_id < 4", vec!["3"]),
        ("contact.contact_id in (1, 4)", vec!["1", "4"]),
        ("contact.contact_id = 2", vec!["2"]),
        ("contact.name eq 'company 3'", vec!["3"]),
        ("contact.name begins 'company'", vec!["1", "2", "3", "4"]),
        ("contact.name begins 'pany 3'", vec![]),
        ("contact.registered after '2026-11-25'", vec!["3", "4"]),
        ("contact.registered before '2026-11-25T23:00:00'", vec!["1"]),
        ("contact.registered afterTime '2026-11-26T10:00:00'", vec!["4"]),
        ("contact.registered beforeTime '2026-11-25T10:00:00'", vec!["1"]),
    ] {
        let page = bed.get(&format!("/api/v1/archive/DYNAMIC?{select}&$filter={filter}")).await;
        assert_eq!(keys(&page), expected, "{filter}");
    }
    let page = bed.get(&format!("/api/v1/Archive/dynamic?{select}&$top=1")).await;
    let row = json!({"PrimaryKey": "1", "EntityName": "contact", "Contact.contact_id": 1, "contact.NAME": "Company 1"});
    assert_eq!(page["value"], json!([row]));
    assert_ne!(page["odata.nextLink"], Value::Null);
    for filter in ["contact.contact_id ge 2", "contact.contact_id", "contact.registered after 'soon'"] {
        let path = format!("/api/v1/Archive/dynamic?{select}&$filter={filter}");
        assert_eq!(bed.call(Method::GET, &path, None, &[]).await.0, 400, "{filter}");
    }
}

#[tokio::test]
async fn deleted_records_are_listed_with_and_without_entities() {
    let bed = TestBed::start().await;
    for (kind, entity, archive, id, date) in [
        (Kind::Contact, "contact", "RecycleContact", "contactid", "deletedDate"),
        (Kind::Person, "person", "RecyclePerson", "personid", "personDeletedDate"),
    ] {
        let deleted = bed.superoffice.create(kind);
        bed.superoffice.create(kind);
        bed.superoffice.soft_delete(kind, deleted);
        for entities in [String::new(), format!("&$entities={entity},forAllUsers")] {
            let page = bed.get(&format!("/api/v1/Archive/{archive}?$select={id},{date}{entities}")).await;
            let row = json!({
                "PrimaryKey": deleted.to_string(), "EntityName": entity, id: deleted, date: "2026-11-24T10:00:00",
            });
            assert_eq!(page["value"], json!([row]));
        }
    }
}

#[tokio::test]
async fn merges_have_the_number_of_their_table() {
    let bed = TestBed::start().await;
    for kind in Kind::ALL {
        let [destination, source] = [(); 2].map(|()| bed.superoffice.create(kind));
        bed.superoffice.merge(kind, source, destination);
    }
    let merges = "/api/v1/Archive/dynamic?$select=mergemovelog.tableNumber,mergemovelog.sourceRecord";
    for table in [5, 6] {
        let page = bed.get(&format!("{merges}&$filter=mergemovelog.tableNumber eq {table}")).await;
        assert_eq!(page["value"].as_array().unwrap().len(), 1, "{table}");
        assert_eq!(page["value"][0]["mergemovelog.tableNumber"], table);
    }
}

#[tokio::test]
async fn webhooks_are_an_archive_of_the_current_version() {
    let bed = TestBed::start().await;
    let id = bed.webhook("contact.created").await;
    bed.superoffice.create_contact();
    bed.deliveries().await;
    let archive = "/api/v1/Archive/Webhook?$select=webhookId,webhookUsage/totalCalls,webhookUsage/lastEvent,eventCount";
    let row = json!({
        "PrimaryKey": id.to_string(), "EntityName": "webhook", "webhookId": id, "eventCount": 1,
        "webhookUsage/totalCalls": 1, "webhookUsage/lastEvent": "2026-11-24T10:00:00",
    });
    assert_eq!(bed.get(archive).await["value"], json!([row]));
    let usage = "/api/v1/Archive/dynamic?$select=webhook_usage.total_calls";
    assert_eq!(bed.get(usage).await["value"][0]["webhook_usage.total_calls"], 1);
    bed.superoffice.set_version(Version::WithoutCounters);
    assert_eq!(bed.call(Method::GET, archive, None, &[]).await.0, 400);
}
