//! The list of changes on servers that differ in offsets and pages.

use fake_superoffice::{Kind, Mode, START, Zones};
use jiff::{SignedDuration, Timestamp};
use superoffice_client::Archive;
use superoffice_client::changes::{Change, Changes};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::support::{ENTITIES, TestBed};

#[tokio::test]
async fn times_without_an_offset_are_counted_inside_and_outside_the_window() {
    let hours = |hours| Some(SignedDuration::from_hours(hours));
    for (zones, base_zone, shift, without_offset) in [
        (Zones::Honored, -5, hours(0), 0),
        (Zones::OffsetsRefused, -5, hours(0), 1),
        (Zones::Ignored, 2, hours(2), 1),
        // Five hours before the window, if it is read as UTC.
        (Zones::Ignored, -5, None, 1),
    ] {
        let bed = TestBed::start().await;
        bed.superoffice.set_mode(Mode { zones, base_zone, ..Mode::DOCUMENTED });
        bed.superoffice.create_contact();
        let client = bed.client();
        let mut changes = Changes::since(&client, Archive::CONTACT, START.parse().unwrap(), None);
        let found = changes.next().await.unwrap().map(|contact| contact.at.duration_since(bed.now()));
        assert_eq!((found, changes.without_offset()), (shift, without_offset), "{zones:?} {base_zone}");
    }
}

/// The other entity has rows with the same ids, whose changes are not listed.
#[tokio::test]
async fn changes_are_those_of_one_entity() {
    for (archive, kind) in ENTITIES {
        let bed = TestBed::start().await;
        for _ in 0..6 {
            for kind in Kind::ALL {
                bed.superoffice.create(kind);
            }
        }
        bed.pass(3 * 24 * 3600);
        let since = bed.now();
        let (source, destination) = (2, 4);
        bed.superoffice.merge(kind, source, destination);
        bed.superoffice.soft_delete(kind, 5);
        bed.superoffice.change(kind, 6);
        bed.superoffice.create(kind);
        let other = Kind::ALL.into_iter().find(|other| *other != kind).unwrap();
        bed.superoffice.merge(other, 1, 3);
        let client = bed.client();
        let mut changes = Changes::since(&client, archive, since, None);
        let mut found = Vec::new();
        while let Some(record) = changes.next().await.unwrap() {
            assert_eq!(record.at, since);
            found.push((record.primary_key, record.change));
        }
        let created = bed.superoffice.records(kind).last().unwrap().id;
        let expected = [
            (source, Change::Merged),
            (destination, Change::Merged),
            (5, Change::SoftDeleted),
            (6, Change::Changed),
            (created, Change::Created),
        ];
        assert_eq!(found, expected, "{}", archive.name);
    }
}

/// Lists the changes of a server that returns this page, with a link to another page, for every request.
async fn list_endless(rows: &str) -> Result<Vec<i64>, String> {
    let bed = TestBed::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut variables = bed.variables();
    variables.insert("SUPEROFFICE_URL", format!("http://{}", listener.local_addr().unwrap()));
    let page = format!(r#"{{"odata.nextLink":"https://next","value":[{rows}]}}"#);
    let server = tokio::spawn(async move {
        loop {
            let mut connection = listener.accept().await.unwrap().0;
            let _ = connection.read(&mut [0; 4096]).await;
            let response = format!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{page}");
            connection.write_all(response.as_bytes()).await.unwrap();
        }
    });
    let client = bed.client_with(&variables);
    let mut changes = Changes::since(&client, Archive::CONTACT, Timestamp::UNIX_EPOCH, None);
    let mut keys = Vec::new();
    let result = loop {
        match changes.next().await {
            Ok(Some(contact)) => keys.push(contact.primary_key),
            Ok(None) => break Ok(keys),
            Err(error) => break Err(error.to_string()),
        }
    };
    server.abort();
    result
}

#[tokio::test]
async fn repeated_links_end() {
    assert_eq!(list_endless("").await, Ok(Vec::new()));
    let row = r#"{"contact.contact_id":7,"contactId":7,"mergemovelog.sourceRecord":7,"mergemovelog.destinationRecord":7,
                  "contact.registered":"2026-11-24T09:00:00Z"}"#;
    let expected = "GET Archive/dynamic: unexpected response: the condition on contact.contact_id has no effect";
    assert_eq!(list_endless(row).await, Err(expected.into()));
}
