//! One smoke test for each part of the support crate.

#![expect(clippy::unwrap_used, reason = "panicking fails the test")]

use std::io;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use test_support::{AcceptMode, Counts, Fault, Process, Recording, RuntimeApi, SqsServer, WebhookRequest, sign};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// A minimal HTTP client with one connection.
struct Client(BufReader<TcpStream>);

struct Reply {
    head: String,
    body: String,
}

impl Reply {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

impl Client {
    async fn connect(url: &str) -> Self {
        let address = url.trim_start_matches("http://");
        Self(BufReader::new(TcpStream::connect(address).await.unwrap()))
    }

    async fn send(&mut self, method: &str, path: &str, body: &str) -> io::Result<()> {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nx-amz-target: AmazonSQS.SendMessage\r\n\
             authorization: AWS4-HMAC-SHA256 Credential=test/20250916/eu-west-1/sqs/aws4_request\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        );
        self.0.write_all(request.as_bytes()).await
    }

    async fn receive(&mut self) -> io::Result<Reply> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if self.0.read_line(&mut head).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let head = head.to_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        let mut body = vec![0; length.parse().unwrap()];
        self.0.read_exact(&mut body).await?;
        Ok(Reply { head, body: String::from_utf8(body).unwrap() })
    }

    async fn request(&mut self, method: &str, path: &str, body: &str) -> io::Result<Reply> {
        self.send(method, path, body).await?;
        self.receive().await
    }

    async fn send_message(&mut self, message: &Value) -> io::Result<Reply> {
        self.request("POST", "/", &message.to_string()).await
    }
}

#[test]
fn request_is_signed_and_has_both_payload_versions() {
    // RFC 4231, test case 2.
    assert_eq!(sign("what do ya want for nothing?", "Jefe"), "W9zBRr9gdU5qBCQmCJV1x1oAPwidJzmDnexYuWTsOEM=");
    let request = WebhookRequest::signed("{}", "secret").header("X-Twice", "1").header("X-Twice", "2");
    let event = request.http_api();
    assert_eq!(event["headers"]["x-superoffice-signature"], sign("{}", "secret"));
    assert_eq!(event["headers"]["x-twice"], "1,2");
    assert_eq!((&event["body"], &event["isBase64Encoded"]), (&json!("{}"), &json!(false)));
    let event = request.base64().rest_api();
    assert_eq!(event["multiValueHeaders"]["X-Twice"], json!(["1", "2"]));
    assert_eq!((&event["body"], &event["isBase64Encoded"]), (&json!("e30="), &json!(true)));
}

#[tokio::test]
async fn runtime_api_passes_each_event_to_one_poll_and_returns_its_response() {
    let lambda = RuntimeApi::start().await;
    let (_, address) = lambda.environment().into_iter().find(|(name, _)| *name == "AWS_LAMBDA_RUNTIME_API").unwrap();
    let (mut first, mut second) = (Client::connect(&address).await, Client::connect(&address).await);
    for function in [&mut first, &mut second] {
        function.send("GET", "/2018-06-01/runtime/invocation/next", "").await.unwrap();
        lambda.first_poll().await;
    }
    let invocations = [lambda.send("event"), lambda.send("event")];
    let (next, other) = (first.receive().await.unwrap(), second.receive().await.unwrap());
    assert_eq!((next.body.as_str(), other.body.as_str()), ("event", "event"));
    let invocation = invocations.into_iter().find(|invocation| next.head.contains(&invocation.request_id)).unwrap();
    assert!(!other.head.contains(&invocation.request_id));
    for header in ["trace-id: root=", "deadline-ms: ", "invoked-function-arn: "] {
        assert!(next.head.contains(&format!("lambda-runtime-{header}")), "{header} in {}", next.head);
    }

    let path = format!("/2018-06-01/runtime/invocation/{}/response", invocation.request_id);
    let response = r#"{"statusCode":200,"headers":{"A":"b"},"body":"accepted"}"#;
    let reply = first.request("POST", &path, response).await.unwrap();
    assert!(reply.head.starts_with("http/1.1 202"), "{}", reply.head);
    let response = invocation.completed().await.response();
    assert_eq!((response.status, response.headers["a"].as_str(), response.body.as_str()), (200, "b", "accepted"));

    let reply = first.request("POST", &path, "{}").await.unwrap();
    assert!(reply.head.starts_with("http/1.1 403"), "an event has one response: {}", reply.head);
}

#[tokio::test]
async fn sqs_server_records_messages_and_deduplicates_on_fifo_queues() {
    let sqs = SqsServer::start().await;
    let (standard, fifo) = (sqs.queue_url("events"), sqs.queue_url("events.fifo"));
    let mut client = Client::connect(&sqs.endpoint()).await;
    let message = json!({
        "QueueUrl": standard,
        "MessageBody": "hello",
        "MessageAttributes": { "timestamp": { "StringValue": "1493147359900", "DataType": "Number" } },
    });
    let reply = client.send_message(&message).await.unwrap().json();
    // The digests that moto computes.
    assert_eq!(reply["MD5OfMessageBody"], "5d41402abc4b2a76b9719d911017c592");
    assert_eq!(reply["MD5OfMessageAttributes"], "235c5c510d26fb653d073faed50ae77c");
    let messages = sqs.messages(&standard);
    assert_eq!((messages.len(), &reply["MessageId"]), (1, &json!(messages[0].id)));
    assert_eq!(messages[0].attribute("timestamp"), Some("1493147359900"));
    let request = sqs.requests().remove(0);
    assert_eq!((request.connection, request.action.as_str()), (1, "SendMessage"));
    assert_eq!(request.region.as_deref(), Some("eu-west-1"));

    sqs.record(Recording::Counts);
    let mut message =
        json!({ "QueueUrl": fifo, "MessageBody": "{}", "MessageGroupId": "1", "MessageDeduplicationId": "one" });
    let first = client.send_message(&message).await.unwrap().json();
    let second = client.send_message(&message).await.unwrap().json();
    assert_eq!(first["MessageId"], second["MessageId"]);
    assert_eq!(sqs.counts(&fifo), Counts { received: 2, accepted: 1, duplicates: 1 });
    assert_eq!(sqs.requests().len() + sqs.messages(&fifo).len(), 0, "only counted");

    message["MessageGroupId"].take();
    let reply = client.send_message(&message).await.unwrap().json();
    assert_eq!(reply["__type"], "com.amazonaws.sqs#MissingParameter");
    let reply = client.send_message(&json!({ "QueueUrl": standard, "MessageBody": "\u{ffff}" })).await.unwrap().json();
    assert_eq!(reply["__type"], "com.amazonaws.sqs#InvalidMessageContents");
}

#[tokio::test]
async fn sqs_server_injects_faults_until_the_script_ends() {
    let sqs = SqsServer::start().await;
    let queue = sqs.queue_url("events");
    let message = json!({ "QueueUrl": queue, "MessageBody": "hello" });
    sqs.script(&queue, [Fault::Throttle, Fault::InternalFailure, Fault::QueueDoesNotExist, Fault::WrongMd5]);
    let mut client = Client::connect(&sqs.endpoint()).await;
    let reply = client.send_message(&message).await.unwrap();
    assert_eq!(reply.json()["__type"], "com.amazonaws.sqs#RequestThrottled");
    let reply = client.send_message(&message).await.unwrap();
    assert!(reply.head.starts_with("http/1.1 500"));
    let reply = client.send_message(&message).await.unwrap();
    let header = "x-amzn-query-error: aws.simplequeueservice.nonexistentqueue;sender";
    assert!(reply.head.contains(header), "{}", reply.head);
    assert_eq!(sqs.counts(&queue).accepted, 0);
    let md5 = "5d41402abc4b2a76b9719d911017c592";
    assert_ne!(client.send_message(&message).await.unwrap().json()["MD5OfMessageBody"], md5);
    assert_eq!(client.send_message(&message).await.unwrap().json()["MD5OfMessageBody"], md5);
    assert_eq!(sqs.counts(&queue).accepted, 2);

    for (fault, end, accepted) in [
        (Fault::Reset, io::ErrorKind::ConnectionReset, 2),
        (Fault::Close, io::ErrorKind::UnexpectedEof, 2),
        (Fault::AcceptThenReset, io::ErrorKind::ConnectionReset, 3),
    ] {
        sqs.script(&queue, [fault]);
        let mut client = Client::connect(&sqs.endpoint()).await;
        let error = client.send_message(&message).await.err().unwrap();
        assert_eq!((error.kind(), sqs.counts(&queue).accepted), (end, accepted));
    }

    // A hanging request does not delay others.
    sqs.script(&queue, [Fault::Hang]);
    let mut hanging = Client::connect(&sqs.endpoint()).await;
    hanging.send("POST", "/", &message.to_string()).await.unwrap();
    sqs.wait_until(|sqs| sqs.counts(&queue).received == 9).await;
    client.send_message(&message).await.unwrap();
    assert_eq!(sqs.counts(&queue).accepted, 4);
}

#[tokio::test]
async fn sqs_server_resets_new_connections_and_closes_idle_ones() {
    let sqs = SqsServer::start().await;
    let message = json!({ "QueueUrl": sqs.queue_url("events"), "MessageBody": "hello" });
    sqs.set_accept_mode(AcceptMode::Reset);
    let mut client = Client::connect(&sqs.endpoint()).await;
    assert!(client.send_message(&message).await.is_err());
    sqs.set_accept_mode(AcceptMode::Serve);
    let mut client = Client::connect(&sqs.endpoint()).await;
    for _ in 0..2 {
        client.send_message(&message).await.unwrap();
    }
    assert_eq!(sqs.requests()[0].connection, sqs.requests()[1].connection);
    sqs.close_idle_after(Duration::ZERO);
    assert_eq!(client.0.read_u8().await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    let mut client = Client::connect(&sqs.endpoint()).await;
    client.send_message(&message).await.unwrap();
    assert_eq!(client.0.read_u8().await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    sqs.all_connections_closed().await;
}

#[tokio::test]
async fn sqs_server_certificate_is_valid_for_localhost() {
    let sqs = SqsServer::start_tls().await;
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_file_iter(sqs.roots_file().unwrap()).unwrap() {
        roots.add(root.unwrap()).unwrap();
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(sqs.endpoint().replace("https://localhost", "127.0.0.1")).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
    stream.write_all(b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2\r\n\r\n{}").await.unwrap();
    let mut status = [0; 12];
    stream.read_exact(&mut status).await.unwrap();
    assert_eq!(&status, b"HTTP/1.1 400");
}

#[tokio::test]
async fn process_has_only_given_variables_and_its_lines_are_read() {
    let mut process = Process::new("/usr/bin/env").env("ONE", "1").start();
    assert!(process.wait().await.success());
    assert_eq!(process.stdout_lines(), ["ONE=1"]);

    let mut process = Process::new("/bin/sh").arg("-c").arg("echo out; echo error >&2; kill -STOP $$").start();
    assert_eq!(process.wait_for_lines(1).await, ["out"]);
    assert!(process.is_running());
    // The peak is read second, because it can only rise.
    let resident = process.resident_bytes();
    assert!(resident > 0 && process.peak_resident_bytes() >= resident);
    process.kill().await;
}
