//! Base URL, authentication, retries and errors.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use fake_superoffice::{Fault, TENANT, TOKEN, WEBHOOK_URL};
use jiff::SignedDuration;
use superoffice_client::{ApiError, Archive, Client, ErrorKind, Limits};
use test_support::{ClosedPort, SqsServer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::support::{TestBed, limits};

const PRIVATE_KEY: &str = include_str!("../keys/system-user.pkcs8.pem");

async fn list(client: &Client) -> Result<(), ApiError> {
    client.webhooks(WEBHOOK_URL).await.map(drop)
}

fn system_user(bed: &TestBed) -> BTreeMap<&'static str, String> {
    use rustls::pki_types::pem::PemObject;
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from_pem_slice(PRIVATE_KEY.as_bytes()).unwrap();
    let key = ring::signature::RsaKeyPair::from_pkcs8(key.secret_pkcs8_der()).unwrap();
    bed.superoffice.accept_system_user("Application-abc", "client-secret", key.public().as_ref());
    let mut variables = bed.lookup_variables();
    variables.remove("SUPEROFFICE_ACCESS_TOKEN");
    variables.insert("SUPEROFFICE_SYSTEM_TOKEN", "Application-abc".into());
    variables.insert("SUPEROFFICE_CLIENT_SECRET", "client-secret".into());
    variables.insert("SUPEROFFICE_PRIVATE_KEY", PRIVATE_KEY.into());
    variables
}

#[tokio::test]
async fn access_token_is_sent_as_bearer() {
    let bed = TestBed::start().await;
    list(&bed.client()).await.unwrap();
    let requests = bed.superoffice.requests();
    assert_eq!(bed.calls(), ["GET Webhook"]);
    assert_eq!(requests[0].headers["authorization"], format!("Bearer {TOKEN}"));
    assert_eq!(requests[0].headers["accept"], "application/json");
    assert_eq!(requests[0].headers["so-timezone"], "UTC, includeTZOffset");
}

#[tokio::test]
async fn user_and_password_are_sent_as_basic() {
    let bed = TestBed::start().await;
    bed.superoffice.accept_user("admin", "pass:word");
    let mut variables = bed.variables();
    variables.remove("SUPEROFFICE_ACCESS_TOKEN");
    variables.extend([("SUPEROFFICE_USER", "admin".into()), ("SUPEROFFICE_PASSWORD", "pass:word".into())]);
    list(&bed.client_with(&variables)).await.unwrap();
}

#[tokio::test]
async fn expired_access_token_is_an_error_without_another_attempt() {
    let bed = TestBed::start().await;
    let mut variables = bed.variables();
    variables.insert("SUPEROFFICE_ACCESS_TOKEN", "8A:expired".into());
    let error = list(&bed.client_with(&variables)).await.unwrap_err();
    assert_eq!(error.to_string(), "GET Webhook: the credentials are invalid or expired (401)");
    assert_eq!(bed.calls(), ["GET Webhook"]);
}

#[tokio::test]
async fn missing_access_is_explained() {
    let bed = TestBed::start().await;
    bed.superoffice.forbid("Webhook");
    let error = list(&bed.client()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "GET Webhook: access denied (403). An Online app must be granted the webhook API when it is registered, and the \
         user must be allowed to make this call: The Webhook agent is not available to this application"
    );
}

#[tokio::test]
async fn base_url_is_looked_up_once() {
    let bed = TestBed::start().await;
    let client = bed.client_with(&bed.lookup_variables());
    list(&client).await.unwrap();
    list(&client).await.unwrap();
    assert_eq!(bed.calls(), [&format!("GET /api/state/{TENANT}"), "GET Webhook", "GET Webhook"]);
    assert!(!bed.superoffice.requests()[0].headers.contains_key("authorization"));
}

#[tokio::test]
async fn wrong_host_is_looked_up_again() {
    let bed = TestBed::start().await;
    let client = bed.client_with(&bed.lookup_variables());
    list(&client).await.unwrap();
    bed.superoffice.change_host();
    bed.superoffice.clear_requests();
    list(&client).await.unwrap();
    assert_eq!(bed.calls(), ["GET Webhook", &format!("GET /api/state/{TENANT}"), "GET Webhook"]);
}

#[tokio::test]
async fn wrong_host_without_a_tenant_is_explained() {
    let bed = TestBed::start().await;
    let client = bed.client();
    bed.superoffice.change_host();
    let error = list(&client).await.unwrap_err();
    let expected = "GET Webhook: wrong host for this tenant (421). Set SUPEROFFICE_TENANT to look the host up";
    assert_eq!(error.to_string(), expected);
}

#[tokio::test]
async fn unknown_tenant_is_an_error() {
    let bed = TestBed::start().await;
    let mut variables = bed.lookup_variables();
    variables.insert("SUPEROFFICE_TENANT", "Cust99999".into());
    let error = list(&bed.client_with(&variables)).await.unwrap_err();
    assert_eq!(error.to_string(), "GET api/state: status 404: There is no such tenant");
}

#[tokio::test]
async fn system_user_obtains_one_ticket_for_many_calls() {
    let bed = TestBed::start().await;
    let client = bed.client_with(&system_user(&bed));
    for _ in 0..3 {
        list(&client).await.unwrap();
    }
    let calls = bed.calls();
    assert_eq!(calls.iter().filter(|call| call.contains("Authenticate")).count(), 1, "{calls:?}");
    let last = bed.superoffice.requests().pop().unwrap();
    assert_eq!(last.headers["authorization"], "SOTicket 7T:ticket-1");
    assert_eq!(last.headers["so-apptoken"], "client-secret");
}

#[tokio::test]
async fn ticket_is_renewed_before_its_lifetime_ends() {
    let bed = TestBed::start().await;
    let client = bed.client_with(&system_user(&bed));
    list(&client).await.unwrap();
    bed.pass(5 * 3600);
    list(&client).await.unwrap();
    assert_eq!(bed.superoffice.requests().pop().unwrap().headers["authorization"], "SOTicket 7T:ticket-1");
    bed.pass(1800);
    list(&client).await.unwrap();
    assert_eq!(bed.superoffice.requests().pop().unwrap().headers["authorization"], "SOTicket 7T:ticket-2");
}

#[tokio::test]
async fn rejected_ticket_is_renewed_once() {
    let bed = TestBed::start().await;
    let client = bed.client_with(&system_user(&bed));
    list(&client).await.unwrap();
    bed.superoffice.expire_tickets();
    list(&client).await.unwrap();

    bed.superoffice.clear_requests();
    bed.superoffice.script("GET Webhook", [Fault::Status(401), Fault::Status(401)]);
    assert_eq!(list(&client).await.unwrap_err().kind(), &ErrorKind::Unauthorized);
    assert_eq!(bed.calls().iter().filter(|call| *call == "GET Webhook").count(), 2);
}

#[tokio::test]
async fn rejected_system_user_is_explained() {
    let bed = TestBed::start().await;
    let mut variables = system_user(&bed);
    variables.insert("SUPEROFFICE_CLIENT_SECRET", "another".into());
    let error = list(&bed.client_with(&variables)).await.unwrap_err();
    let expected = "POST Login/api/PartnerSystemUser/Authenticate: SuperOffice rejected the system user: \
                    The application is not authorized for this tenant";
    assert_eq!(error.to_string(), expected);
}

#[tokio::test]
async fn throttling_and_server_errors_are_repeated() {
    let bed = TestBed::start().await;
    bed.superoffice.script("GET Webhook", [Fault::Status(500), Fault::Status(502), Fault::Status(503)]);
    list(&bed.client()).await.unwrap();
    assert_eq!(bed.calls().len(), 4);
}

#[tokio::test]
async fn attempts_are_bounded() {
    let bed = TestBed::start().await;
    bed.superoffice.script("GET Webhook", [Fault::Status(503); 9]);
    let error = list(&bed.client()).await.unwrap_err();
    assert_eq!(error.to_string(), "GET Webhook: throttled or unavailable (503): This call fails in this test");
    assert_eq!(bed.calls().len(), 4);
}

#[tokio::test]
async fn retry_after_is_waited_for() {
    let bed = TestBed::start().await;
    bed.superoffice.script("GET Webhook", [Fault::Throttle(1)]);
    let limits = Limits { longest_wait: Duration::from_secs(1), ..limits() };
    let client = bed.client_with_limits(&bed.variables(), limits);
    let begin = Instant::now();
    list(&client).await.unwrap();
    assert!(begin.elapsed() >= Duration::from_secs(1));
    assert_eq!(bed.calls().len(), 2);
}

#[tokio::test]
async fn retry_after_that_is_too_long_is_not_waited_for() {
    let bed = TestBed::start().await;
    bed.superoffice.script("GET Webhook", [Fault::Throttle(3600)]);
    let error = list(&bed.client()).await.unwrap_err();
    assert_eq!(error.to_string(), "GET Webhook: throttled or unavailable (429): Too many requests");
    assert_eq!(bed.calls().len(), 1);
}

#[tokio::test]
async fn client_errors_are_not_repeated() {
    let bed = TestBed::start().await;
    bed.superoffice.script("GET Webhook", [Fault::Status(400)]);
    let error = list(&bed.client()).await.unwrap_err();
    assert_eq!(error.to_string(), "GET Webhook: status 400: This call fails in this test");
    assert_eq!(bed.calls().len(), 1);
}

#[tokio::test]
async fn slow_response_is_a_timeout() {
    let bed = TestBed::start().await;
    let limits = Limits { attempt: Duration::from_secs(1), attempts: 2, ..limits() };
    let client = bed.client_with_limits(&bed.variables(), limits);
    bed.superoffice.script("GET Webhook", [Fault::Slow(Duration::from_secs(20)); 2]);
    let error = list(&client).await.unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Timeout(1));
    assert_eq!(bed.calls().len(), 2);
}

#[tokio::test]
async fn unreachable_host_is_named() {
    let bed = TestBed::start().await;
    let port = ClosedPort::bind();
    let mut variables = bed.variables();
    variables.insert("SUPEROFFICE_URL", port.url());
    let error = list(&bed.client_with(&variables)).await.unwrap_err().to_string();
    assert!(error.starts_with("GET Webhook: 127.0.0.1 is unreachable: Connection refused"), "{error}");
}

#[tokio::test]
async fn certificate_of_a_private_authority_is_trusted_if_it_is_configured() {
    let bed = TestBed::start().await;
    // Any server with such a certificate will do.
    let server = SqsServer::start_tls().await;
    let mut variables = bed.variables();
    variables.insert("SUPEROFFICE_URL", server.endpoint());
    let error = list(&bed.client_with(&variables)).await.unwrap_err().to_string();
    assert!(error.contains("invalid peer certificate"), "{error}");
    assert!(error.ends_with("; SUPEROFFICE_CA can contain the certificate of a private authority"), "{error}");

    let file = server.root_file().unwrap();
    let escaped = std::fs::read_to_string(&file).unwrap().replace('\n', "\\n");
    for (name, value) in [("SUPEROFFICE_CA_FILE", file), ("SUPEROFFICE_CA", escaped)] {
        let mut variables = variables.clone();
        variables.insert(name, value);
        let error = list(&bed.client_with(&variables)).await.unwrap_err();
        assert!(error.status().is_some(), "{error}");
    }
}

/// Counts the connections of a signal to a server that closes each of them, after it has read the request.
async fn connections_of_a_signal(bed: &TestBed, scheme: &str) -> usize {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut variables = bed.variables();
    variables.insert("SUPEROFFICE_URL", format!("{scheme}://{}", listener.local_addr().unwrap()));
    let client = bed.client_with(&variables);
    let connections = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&connections);
    let server = tokio::spawn(async move {
        loop {
            let mut connection = listener.accept().await.unwrap().0;
            counter.fetch_add(1, Ordering::SeqCst);
            let _ = connection.read(&mut [0; 4096]).await;
            let _ = connection.shutdown().await;
        }
    });
    client.signal_resync(Archive::CONTACT, 7).await.unwrap_err();
    server.abort();
    connections.load(Ordering::SeqCst)
}

#[tokio::test]
async fn signal_is_repeated_only_if_the_connection_failed() {
    let bed = TestBed::start().await;
    // The request is sent, and its response lost.
    assert_eq!(connections_of_a_signal(&bed, "http").await, 1);
    // TLS fails, so no request is sent.
    assert_eq!(connections_of_a_signal(&bed, "https").await, 4);
}

#[tokio::test]
async fn signal_has_an_empty_object_as_its_body() {
    let bed = TestBed::start().await;
    for (archive, path) in
        [(Archive::CONTACT, "Webhook/contact.resync/7"), (Archive::PERSON, "Webhook/person.resync/7")]
    {
        bed.client().signal_resync(archive, 7).await.unwrap();
        let request = bed.superoffice.requests().pop().unwrap();
        assert_eq!((request.path.as_str(), request.body), (path, serde_json::json!({})));
        assert_eq!(
            ["content-type", "content-length"].map(|name| request.headers[name].as_str()),
            ["application/json", "2"]
        );
    }
}

#[tokio::test]
async fn offset_of_the_clock_and_tenant_are_known() {
    let bed = TestBed::start_slow(600).await;
    let client = bed.client_with(&bed.lookup_variables());
    list(&client).await.unwrap();
    assert_eq!(client.clock_offset(), SignedDuration::from_secs(-600));
    assert_eq!(client.context_identifier(), Some(TENANT));
    assert_eq!((client.has_base_url(), bed.client().has_base_url()), (false, true));
}

#[tokio::test]
async fn signal_is_not_repeated_if_superoffice_may_have_acted_on_it() {
    let bed = TestBed::start().await;
    bed.register().await;
    bed.superoffice.clear_requests();
    bed.superoffice.script("POST Webhook/contact.resync", [Fault::StatusAfterEffect(502)]);
    let error = bed.client().signal_resync(Archive::CONTACT, 7).await.unwrap_err();
    assert_eq!(error.to_string(), "POST Webhook/contact.resync/7: status 502: This call fails in this test");
    assert_eq!(bed.calls(), ["POST Webhook/contact.resync/7"]);
    bed.superoffice.idle().await;
    assert_eq!(bed.function.events(), [("contact.resync".to_owned(), 7)]);
}

#[tokio::test]
async fn throttled_signal_is_repeated() {
    let bed = TestBed::start().await;
    bed.register().await;
    bed.superoffice.script("POST Webhook/contact.resync", [Fault::Throttle(0), Fault::Status(429)]);
    bed.client().signal_resync(Archive::CONTACT, 7).await.unwrap();
    bed.superoffice.idle().await;
    assert_eq!(bed.function.events(), [("contact.resync".to_owned(), 7)]);
}

#[tokio::test]
async fn secrets_are_removed_from_errors_and_debug_output() {
    let bed = TestBed::start().await;
    let client = bed.client();
    let debug = format!("{client:?}");
    assert!(debug.starts_with("Client { connection: Connection") && !debug.contains(TOKEN), "{debug}");
    assert_eq!(client.redact(&format!("a{TOKEN}b")), "a(secret)b");
}
