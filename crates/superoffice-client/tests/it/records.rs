//! Contacts and persons as SuperOffice sends them.

use fake_superoffice::{Fault, Paging};
use serde_json::Value;
use superoffice_client::{Archive, Client, ErrorKind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::support::{ENTITIES, TestBed};

/// Returns a client for a server that sends this response once.
async fn client_of(response: &'static str) -> Client {
    let bed = TestBed::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut variables = bed.variables();
    variables.insert("SUPEROFFICE_URL", format!("http://{}", listener.local_addr().unwrap()));
    tokio::spawn(async move {
        let mut connection = listener.accept().await.unwrap().0;
        let _ = connection.read(&mut [0; 4096]).await;
        connection.write_all(response.as_bytes()).await.unwrap();
    });
    bed.client_with(&variables)
}

/// Reads a contact from a server that sends this response.
async fn read(response: &'static str) -> Result<Option<String>, String> {
    client_of(response).await.contact(7).await.map_err(|error| error.to_string())
}

/// Returns a response with these rows of an archive.
fn archive(rows: &str) -> &'static str {
    format!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{{\"value\":[{rows}]}}").leak()
}

#[tokio::test]
async fn document_is_the_text_that_superoffice_sent() {
    let response = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n\u{feff}{ \"ContactId\" : 7, \"Rate\": 1.10 }";
    assert_eq!(read(response).await, Ok(Some("{ \"ContactId\" : 7, \"Rate\": 1.10 }".into())));

    let bed = TestBed::start().await;
    for (archive, kind) in ENTITIES {
        let id = bed.superoffice.create(kind);
        bed.superoffice.clear_requests();
        let document = bed.client().document(archive, id).await.unwrap().unwrap();
        let document: Value = serde_json::from_str(&document).unwrap();
        assert_eq!(document[archive.id], id);
        assert_eq!(bed.calls(), [format!("GET {}/{id}", archive.resource)]);
    }
}

#[tokio::test]
async fn record_is_gone_only_if_superoffice_says_so() {
    let bed = TestBed::start().await;
    for (archive, _) in ENTITIES {
        assert_eq!(bed.client().document(archive, 7).await.unwrap(), None);
    }
    let with_byte_order_mark = "HTTP/1.1 404 Not Found\r\nConnection: close\r\n\r\n\u{feff}{\"Message\":\"gone\"}";
    assert_eq!(read(with_byte_order_mark).await, Ok(None));
    for (response, expected) in [
        ("404 Not Found\r\nConnection: close\r\n\r\n<html>", "status 404: <html>"),
        ("404 Not Found\r\nConnection: close\r\n\r\n", "status 404"),
        ("200 OK\r\nConnection: close\r\n\r\n[{}]", "unexpected response: not a JSON object"),
        ("200 OK\r\nConnection: close\r\n\r\n{\"ContactId\":", "unexpected response: not a JSON object"),
        ("302 Found\r\nLocation: https://example.com\r\nConnection: close\r\n\r\n", "status 302"),
    ] {
        let response: &'static str = format!("HTTP/1.1 {response}").leak();
        assert_eq!(read(response).await, Err(format!("GET Contact/7: {expected}")));
    }
}

#[tokio::test]
async fn other_responses_are_errors_with_their_status() {
    for status in [401, 403, 429, 500] {
        let bed = TestBed::start().await;
        bed.superoffice.script("GET Contact/7", [Fault::Status(status); 4]);
        assert_eq!(bed.client().contact(7).await.unwrap_err().status(), Some(status));
    }
}

#[tokio::test]
async fn list_has_every_record_that_is_not_deleted_in_pages_by_key() {
    for (archive, kind) in ENTITIES {
        let bed = TestBed::start().await;
        for _ in 0..5 {
            bed.superoffice.create(kind);
        }
        bed.pass(60);
        bed.superoffice.change(kind, 2);
        bed.superoffice.soft_delete(kind, 3);
        bed.superoffice.set_paging(Paging { rows: 2, ..Paging::default() });
        bed.superoffice.clear_requests();
        let client = bed.client();
        let (mut after, mut listed, mut sizes) = (0, Vec::new(), Vec::new());
        loop {
            let page = client.page(archive, after, 1000).await.unwrap();
            assert_eq!(page.date, Some(bed.now()));
            sizes.push(page.records.len());
            let Some(last) = page.records.last() else { break };
            after = last.id;
            listed.extend(page.records.into_iter().map(|record| (record.id, record.registered, record.updated)));
        }
        let never = |id| (id, "2026-11-24T09:00:00Z".to_owned(), "0001-01-01T00:00:00".to_owned());
        let changed = (2, "2026-11-24T09:00:00Z".to_owned(), "2026-11-24T09:01:00Z".to_owned());
        assert_eq!(listed, [never(1), changed, never(4), never(5)]);
        assert_eq!(sizes, [2, 2, 0]);
        let requests = bed.superoffice.requests();
        let filters: Vec<&str> = requests.iter().map(|request| request.query["$filter"].as_str()).collect();
        let key = archive.key;
        assert_eq!(filters, [format!("{key} gt 0"), format!("{key} gt 2"), format!("{key} gt 5")]);
        let query = |name: &str| requests[0].query[name].as_str();
        assert_eq!(query("$select"), format!("{key},{}.registered,{}.updated", archive.name, archive.name));
        assert_eq!((query("$orderby"), query("$top")), (key, "1000"));

        assert!(client.lists(archive, 5).await.unwrap());
        assert!(!client.lists(archive, 3).await.unwrap());
        assert!(!client.lists(archive, 6).await.unwrap());
        assert_eq!(client.last_id(archive).await.unwrap(), Some(5));
        bed.superoffice.soft_delete(kind, 5);
        assert_eq!(client.last_id(archive).await.unwrap(), Some(4));
    }
}

#[tokio::test]
async fn ids_that_do_not_ascend_are_an_error() {
    for (after, rows) in [
        (7, r#"{"PrimaryKey":"7"}"#),
        (0, r#"{"PrimaryKey":"0"},{"PrimaryKey":"7"}"#),
        (0, r#"{"PrimaryKey":"7"},{"PrimaryKey":"7"}"#),
        (0, r#"{"PrimaryKey":"8"},{"PrimaryKey":"7"}"#),
    ] {
        let error = client_of(archive(rows)).await.page(Archive::CONTACT, after, 1000).await.unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::NotAscending, "{rows}");
    }
}

#[tokio::test]
async fn list_with_another_record_says_nothing_about_a_record() {
    let error = client_of(archive(r#"{"PrimaryKey":"8"}"#)).await.lists(Archive::CONTACT, 7).await.unwrap_err();
    let expected = "GET Archive/dynamic: unexpected response: the condition on contact.contact_id has no effect";
    assert_eq!(error.to_string(), expected);
}
