//! Contacts as SuperOffice sends them.

use fake_superoffice::Fault;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::support::TestBed;

/// Reads a contact from a server that sends this response.
async fn read(response: &'static str) -> Result<Option<String>, String> {
    let bed = TestBed::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut variables = bed.variables();
    variables.insert("SUPEROFFICE_URL", format!("http://{}", listener.local_addr().unwrap()));
    tokio::spawn(async move {
        let mut connection = listener.accept().await.unwrap().0;
        let _ = connection.read(&mut [0; 4096]).await;
        connection.write_all(response.as_bytes()).await.unwrap();
    });
    bed.client_with(&variables).contact(7).await.map_err(|error| error.to_string())
}

#[tokio::test]
async fn contact_is_the_text_that_superoffice_sent() {
    let response = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n\u{feff}{ \"ContactId\" : 7, \"Rate\": 1.10 }";
    assert_eq!(read(response).await, Ok(Some("{ \"ContactId\" : 7, \"Rate\": 1.10 }".into())));

    let bed = TestBed::start().await;
    let id = bed.superoffice.create_contact();
    let contact: Value = serde_json::from_str(&bed.client().contact(id).await.unwrap().unwrap()).unwrap();
    assert_eq!(contact["ContactId"], id);
    assert_eq!(bed.calls(), [format!("GET Contact/{id}")]);
}

#[tokio::test]
async fn contact_is_gone_only_if_superoffice_says_so() {
    let bed = TestBed::start().await;
    assert_eq!(bed.client().contact(7).await.unwrap(), None);
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
