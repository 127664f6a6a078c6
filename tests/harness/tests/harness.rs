//! The harness does what it says: a test that passes against it says something about the function.

use harness::{Accepting, Answer, Behaviour, Counts, Envelope, Lambda, Process, Recording, Sqs, sign};
use serde_json::{Value, json};
use std::{io, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, ServerName, pem::PemObject},
    },
};

/// A keep-alive connection that speaks just enough HTTP.
struct Client(BufReader<TcpStream>);

struct Reply {
    head: String,
    body: String,
}

impl Client {
    async fn connect(url: &str) -> Self {
        let address = url.trim_start_matches("http://");
        Self(BufReader::new(TcpStream::connect(address).await.expect("connects")))
    }

    async fn send(&mut self, method: &str, path: &str, target: &str, body: &str) -> io::Result<()> {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: harness\r\nx-amz-target: {target}\r\n\
             authorization: AWS4-HMAC-SHA256 Credential=test/20250916/eu-west-1/sqs/aws4_request\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        );
        self.0.write_all(request.as_bytes()).await
    }

    async fn reply(&mut self) -> io::Result<Reply> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if self.0.read_line(&mut head).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let head = head.to_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
        let mut body = vec![0; length.parse().expect("a number")];
        self.0.read_exact(&mut body).await?;
        Ok(Reply { head, body: String::from_utf8(body).expect("text") })
    }

    async fn ask(&mut self, method: &str, path: &str, target: &str, body: &str) -> io::Result<Reply> {
        self.send(method, path, target, body).await?;
        self.reply().await
    }

    async fn send_message(&mut self, message: &Value) -> io::Result<Reply> {
        self.ask("POST", "/", "AmazonSQS.SendMessage", &message.to_string()).await
    }
}

fn json(reply: &Reply) -> Value {
    serde_json::from_str(&reply.body).expect("JSON")
}

#[tokio::test]
async fn an_event_is_handed_to_a_waiting_poll_and_its_answer_given_back() {
    let lambda = Lambda::start().await;
    let environment = lambda.environment();
    let (_, address) = environment.iter().find(|(name, _)| *name == "AWS_LAMBDA_RUNTIME_API").expect("is there");
    let mut function = Client::connect(address).await;

    function.send("GET", "/2018-06-01/runtime/invocation/next", "", "").await.expect("polls");
    lambda.first_poll().await;
    let invocation = lambda.send("an event");
    let next = function.reply().await.expect("an event");
    assert_eq!(next.body, "an event");
    assert!(next.head.contains(&format!("lambda-runtime-aws-request-id: {}", invocation.request_id)));
    for header in
        ["lambda-runtime-trace-id: root=", "lambda-runtime-deadline-ms: ", "lambda-runtime-invoked-function-arn: "]
    {
        assert!(next.head.contains(header), "{header} in {}", next.head);
    }

    let path = format!("/2018-06-01/runtime/invocation/{}/response", invocation.request_id);
    let response = r#"{"statusCode":200,"headers":{"A":"b"},"body":"taken"}"#;
    let accepted = function.ask("POST", &path, "", response).await.expect("an answer");
    assert!(accepted.head.starts_with("http/1.1 202"), "{}", accepted.head);
    let answered = invocation.answered().await;
    assert_eq!(answered.answer, Answer::Response(response.into()));
    assert_eq!(answered.response().status, 200);
    assert_eq!(answered.response().headers["a"], "b");
    assert_eq!(answered.response().body, "taken");

    let again = function.ask("POST", &path, "", response).await.expect("an answer");
    assert!(again.head.starts_with("http/1.1 403"), "an event is answered once: {}", again.head);
    function.ask("POST", "/2018-06-01/runtime/init/error", "", "{}").await.expect("an answer");
    assert_eq!(lambda.init_errors(), ["{}"]);
}

#[tokio::test]
async fn many_pollers_each_get_one_event() {
    let lambda = Lambda::start().await;
    let address = lambda.environment()[0].1.clone();
    let mut functions = Vec::new();
    for _ in 0..8 {
        let mut function = Client::connect(&address).await;
        function.send("GET", "/2018-06-01/runtime/invocation/next", "", "").await.expect("polls");
        functions.push(function);
    }
    let mut events: Vec<String> = (0..8).map(|number| number.to_string()).collect();
    let _invocations: Vec<_> = events.iter().map(|event| lambda.send(event.clone())).collect();
    let mut handed = Vec::new();
    for function in &mut functions {
        handed.push(function.reply().await.expect("an event").body);
    }
    handed.sort();
    events.sort();
    assert_eq!(handed, events);
}

#[tokio::test]
async fn a_message_is_recorded_and_its_digests_are_those_of_sqs() {
    let sqs = Sqs::plain().await;
    let queue = sqs.queue_url("events");
    let mut client = Client::connect(&sqs.endpoint()).await;
    let message = json!({
        "QueueUrl": queue,
        "MessageBody": "hello",
        "MessageAttributes": { "timestamp": { "StringValue": "1493147359900", "DataType": "Number" } },
    });
    let reply = client.send_message(&message).await.expect("an answer");
    assert!(reply.head.contains("content-type: application/x-amz-json-1.0"));
    assert_eq!(json(&reply)["MD5OfMessageBody"], "5d41402abc4b2a76b9719d911017c592");
    assert_eq!(json(&reply)["MD5OfMessageAttributes"], "235c5c510d26fb653d073faed50ae77c");
    let messages = sqs.messages(&queue);
    assert_eq!(messages.len(), 1);
    assert_eq!(json(&reply)["MessageId"], messages[0].id);
    assert_eq!(messages[0].attribute("timestamp"), Some("1493147359900"));
    let request = sqs.requests().remove(0);
    assert_eq!((request.connection, request.action.as_str()), (1, "SendMessage"));
    assert_eq!(request.region.as_deref(), Some("eu-west-1"));

    let named = json!({ "QueueUrl": queue, "AttributeNames": ["QueueArn"] }).to_string();
    let reply = client.ask("POST", "/", "AmazonSQS.GetQueueAttributes", &named).await.expect("an answer");
    assert_eq!(json(&reply)["Attributes"]["QueueArn"], "arn:aws:sqs:eu-north-1:123456789012:events");
}

#[tokio::test]
async fn a_fifo_queue_takes_a_deduplication_id_once() {
    let sqs = Sqs::plain().await;
    sqs.record(Recording::Counts);
    let queue = sqs.queue_url("events.fifo");
    let mut client = Client::connect(&sqs.endpoint()).await;
    let mut message = json!({
        "QueueUrl": queue, "MessageBody": "{}", "MessageGroupId": "contact/1", "MessageDeduplicationId": "one"
    });
    let first = client.send_message(&message).await.expect("an answer");
    let again = client.send_message(&message).await.expect("an answer");
    assert_eq!(json(&first)["MessageId"], json(&again)["MessageId"]);
    assert_eq!(sqs.counts(&queue), Counts { received: 2, taken: 1, duplicates: 1 });
    assert_eq!(sqs.requests().len() + sqs.messages(&queue).len(), 0, "only counted");

    message.as_object_mut().expect("is one").remove("MessageGroupId");
    let refused = client.send_message(&message).await.expect("an answer");
    assert_eq!(json(&refused)["__type"], "com.amazonaws.sqs#MissingParameter");
    let unknown = json!({ "QueueUrl": sqs.queue_url("standard"), "MessageBody": "\u{ffff}" });
    let refused = client.send_message(&unknown).await.expect("an answer");
    assert_eq!(json(&refused)["__type"], "com.amazonaws.sqs#InvalidMessageContents");
}

#[tokio::test]
async fn it_misbehaves_as_scripted_and_then_no_more() {
    let sqs = Sqs::plain().await;
    let queue = sqs.queue_url("events");
    sqs.script(
        &queue,
        [Behaviour::Throttle, Behaviour::InternalFailure, Behaviour::QueueDoesNotExist, Behaviour::WrongMd5],
    );
    let message = json!({ "QueueUrl": queue, "MessageBody": "hello" });
    let mut client = Client::connect(&sqs.endpoint()).await;
    let mut reply = client.send_message(&message).await.expect("an answer");
    assert_eq!(json(&reply)["__type"], "com.amazonaws.sqs#RequestThrottled");
    reply = client.send_message(&message).await.expect("an answer");
    assert!(reply.head.starts_with("http/1.1 500"));
    reply = client.send_message(&message).await.expect("an answer");
    assert!(
        reply.head.contains("x-amzn-query-error: aws.simplequeueservice.nonexistentqueue;sender"),
        "{}",
        reply.head
    );
    assert_eq!(sqs.counts(&queue).taken, 0);
    reply = client.send_message(&message).await.expect("an answer");
    assert_ne!(json(&reply)["MD5OfMessageBody"], "5d41402abc4b2a76b9719d911017c592");
    assert_eq!(sqs.counts(&queue).taken, 1);
    reply = client.send_message(&message).await.expect("an answer");
    assert_eq!(json(&reply)["MD5OfMessageBody"], "5d41402abc4b2a76b9719d911017c592");
}

#[tokio::test]
async fn a_connection_is_reset_before_or_after_the_message_is_taken() {
    let sqs = Sqs::plain().await;
    let queue = sqs.queue_url("events");
    let message = json!({ "QueueUrl": queue, "MessageBody": "hello" });
    for (behaviour, taken) in [(Behaviour::Reset, 0), (Behaviour::TakeThenReset, 1)] {
        sqs.script(&queue, [behaviour]);
        let mut client = Client::connect(&sqs.endpoint()).await;
        let error = client.send_message(&message).await.err().expect("no answer");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        assert_eq!(sqs.counts(&queue).taken, taken);
    }
}

#[tokio::test]
async fn a_hanging_request_leaves_the_others_alone() {
    let sqs = Sqs::plain().await;
    let (slow, quick) = (sqs.queue_url("slow"), sqs.queue_url("quick"));
    let hangs = slow.clone();
    sqs.behave(move |request| if request.queue_url == hangs { Behaviour::Hang } else { Behaviour::Answer });
    let mut hanging = Client::connect(&sqs.endpoint()).await;
    let message = json!({ "QueueUrl": slow, "MessageBody": "hello" }).to_string();
    hanging.send("POST", "/", "AmazonSQS.SendMessage", &message).await.expect("is sent");
    sqs.wait_until(|sqs| sqs.counts(&slow).received == 1).await;
    let mut client = Client::connect(&sqs.endpoint()).await;
    client.send_message(&json!({ "QueueUrl": quick, "MessageBody": "hello" })).await.expect("an answer");
    assert_eq!((sqs.counts(&slow).taken, sqs.counts(&quick).taken), (0, 1));
}

#[tokio::test]
async fn an_idle_connection_is_closed_after_its_answer() {
    let sqs = Sqs::plain().await;
    let message = json!({ "QueueUrl": sqs.queue_url("events"), "MessageBody": "hello" });
    let mut client = Client::connect(&sqs.endpoint()).await;
    client.send_message(&message).await.expect("kept alive");
    client.send_message(&message).await.expect("kept alive");
    assert_eq!(sqs.requests()[1].connection, 1);
    sqs.close_idle_after(Duration::ZERO);
    assert_eq!(client.0.read_u8().await.expect_err("closed").kind(), io::ErrorKind::UnexpectedEof);
    let mut client = Client::connect(&sqs.endpoint()).await;
    client.send_message(&message).await.expect("is answered first");
    assert_eq!(client.0.read_u8().await.expect_err("closed").kind(), io::ErrorKind::UnexpectedEof);
}

#[tokio::test]
async fn new_connections_can_be_reset() {
    let sqs = Sqs::plain().await;
    sqs.accept(Accepting::Reset);
    let message = json!({ "QueueUrl": sqs.queue_url("events"), "MessageBody": "hello" });
    let mut client = Client::connect(&sqs.endpoint()).await;
    assert!(client.send_message(&message).await.is_err());
    sqs.accept(Accepting::Serve);
    let mut client = Client::connect(&sqs.endpoint()).await;
    client.send_message(&message).await.expect("is served again");
}

#[tokio::test]
async fn its_certificate_is_good_for_localhost() {
    let sqs = Sqs::tls_beside("").await;
    let mut roots = RootCertStore::empty();
    let pem = std::fs::read(sqs.roots().expect("a file")).expect("can be read");
    for root in CertificateDer::pem_slice_iter(&pem) {
        roots.add(root.expect("PEM")).expect("a root");
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring has them")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let address = sqs.endpoint().replace("https://localhost", "127.0.0.1");
    let stream = TcpStream::connect(address).await.expect("connects");
    let name = ServerName::try_from("localhost").expect("a name");
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.expect("is trusted");
    let request = "POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2\r\n\r\n{}";
    stream.write_all(request.as_bytes()).await.expect("is sent");
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.expect("an answer");
    assert_eq!(&answer, b"HTTP/1.1 400");
}

#[tokio::test]
async fn a_process_knows_only_what_it_is_given() {
    let mut process = Process::new("/usr/bin/env").env("ONE", "1").start();
    assert!(process.ended().await.success());
    assert_eq!(process.lines(), ["ONE=1"]);
}

#[tokio::test]
async fn a_process_is_read_line_by_line_and_killed() {
    let mut process = Process::new("/bin/sh").arg("-c").arg("echo out; echo error >&2; kill -STOP $$").start();
    assert_eq!(process.wait_for_lines(1).await, ["out"]);
    assert!(process.runs());
    // In this order: the peak can only have risen since.
    let resident = process.resident();
    assert!(resident > 0 && process.peak_resident() >= resident);
    process.kill().await;
}

#[test]
fn an_envelope_is_signed_over_the_raw_body() {
    // RFC 4231, test case 2.
    assert_eq!(sign(b"what do ya want for nothing?", "Jefe"), "W9zBRr9gdU5qBCQmCJV1x1oAPwidJzmDnexYuWTsOEM=");
    let envelope = Envelope::signed("{}", "secret").header("X-Twice", "1").header("X-Twice", "2");
    let v2: Value = serde_json::from_str(&envelope.v2()).expect("JSON");
    assert_eq!(v2["headers"]["x-superoffice-signature"], sign(b"{}", "secret"));
    assert_eq!(v2["headers"]["x-twice"], "1,2");
    assert_eq!((v2["body"].as_str(), v2["isBase64Encoded"].as_bool()), (Some("{}"), Some(false)));
    let v1: Value = serde_json::from_str(&envelope.base64().v1()).expect("JSON");
    assert_eq!(v1["multiValueHeaders"]["X-Twice"], json!(["1", "2"]));
    assert_eq!((v1["body"].as_str(), v1["isBase64Encoded"].as_bool()), (Some("e30="), Some(true)));
}
