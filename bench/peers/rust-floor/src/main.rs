//! The same work on bare sockets: the queue check at startup, the message with ten attributes, the check of its digest,
//! and the line of log and metrics. A lower bound for any implementation that does this work. Not for production,
//! because it has no timeouts, no retries, no fallback, and only credentials from the environment.

use std::borrow::Cow;
use std::collections::HashMap;
use std::error::Error;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use std::{env, io};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use md5::Md5;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

type Result<T> = std::result::Result<T, Box<dyn Error>>;
type Tls = BufReader<StreamOwned<ClientConnection, TcpStream>>;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct HttpApiEvent<'a> {
    #[serde(borrow)]
    body: Cow<'a, str>,
    #[serde(borrow)]
    headers: HashMap<Cow<'a, str>, Cow<'a, str>>,
    is_base64_encoded: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Event<'a> {
    #[serde(borrow)]
    event: Cow<'a, str>,
    #[serde(borrow)]
    event_id: Cow<'a, str>,
    #[serde(borrow)]
    entity: Cow<'a, str>,
    primary_key: i64,
    #[serde(borrow)]
    context_identifier: Cow<'a, str>,
    #[serde(borrow)]
    webhook_name: Cow<'a, str>,
    #[serde(borrow)]
    timestamp: Cow<'a, str>,
}

/// The facts for the log line besides the event.
struct Invocation<'a> {
    function_name: &'a str,
    request_id: &'a str,
    trace_header: &'a str,
    is_cold_start: bool,
}

struct Queue {
    connection: Tls,
    host: String,
    url: String,
    region: String,
    key_id: String,
    key: String,
    token: String,
}

fn main() -> Result<()> {
    let secret = env::var("SUPEROFFICE_WEBHOOK_SECRET")?;
    let function_name = env::var("AWS_LAMBDA_FUNCTION_NAME")?;
    let mut queue = Queue::connect()?;
    queue.call("GetQueueAttributes", &json!({ "QueueUrl": queue.url, "AttributeNames": ["QueueArn"] }))?;
    let mut is_cold_start = true;
    let api = env::var("AWS_LAMBDA_RUNTIME_API")?;
    let stream = TcpStream::connect(&api)?;
    stream.set_nodelay(true)?;
    let mut lambda = BufReader::new(stream);
    loop {
        let next = format!("GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nhost: {api}\r\n\r\n");
        lambda.get_mut().write_all(next.as_bytes())?;
        let (head, event) = read_response(&mut lambda)?;
        let id = header(&head, "lambda-runtime-aws-request-id").ok_or("no request id")?;
        let trace_header = header(&head, "lambda-runtime-trace-id").unwrap_or_default();
        let invocation = Invocation { function_name: &function_name, request_id: id, trace_header, is_cold_start };
        let result = handle(&mut queue, &secret, &event, &invocation)?.to_string();
        is_cold_start = false;
        let response = format!(
            "POST /2018-06-01/runtime/invocation/{id}/response HTTP/1.1\r\nhost: {api}\r\ncontent-length: {}\r\n\r\n{result}",
            result.len()
        );
        lambda.get_mut().write_all(response.as_bytes())?;
        read_response(&mut lambda)?;
    }
}

fn handle(queue: &mut Queue, secret: &str, event: &[u8], invocation: &Invocation) -> Result<Value> {
    let request: HttpApiEvent = serde_json::from_slice(event)?;
    let body = match request.is_base64_encoded {
        true => Cow::Owned(BASE64_STANDARD.decode(&*request.body)?),
        false => Cow::Borrowed(request.body.as_bytes()),
    };
    let signature = request.headers.get("x-superoffice-signature").ok_or("unsigned")?;
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes())?;
    mac.update(&body);
    if mac.verify_slice(&BASE64_STANDARD.decode(&**signature)?).is_err() {
        return Ok(json!({ "statusCode": 401 }));
    }
    let event: Event = serde_json::from_slice(&body)?;
    let occurred: Timestamp = event.timestamp.parse()?;
    let text = |value: &str| json!({ "DataType": "String", "StringValue": value });
    let message = json!({
        "QueueUrl": queue.url,
        "MessageBody": std::str::from_utf8(&body)?,
        "MessageAttributes": {
            "Event": text(&event.event),
            "EventId": text(&event.event_id),
            "Entity": text(&event.entity),
            "PrimaryKey": { "DataType": "Number", "StringValue": event.primary_key.to_string() },
            "ContextIdentifier": text(&event.context_identifier),
            "WebhookName": text(&event.webhook_name),
            "Timestamp": text(&event.timestamp),
            "Signature": text(signature),
            "ContentType": text("application/json"),
        },
        "MessageSystemAttributes": { "AWSTraceHeader": text(invocation.trace_header) },
    });
    let start = Instant::now();
    let sent: Value = serde_json::from_slice(&queue.call("SendMessage", &message)?)?;
    let latency = start.elapsed();
    if sent["MD5OfMessageBody"] != hex(&Md5::digest(&body)) {
        return Err("another digest".into());
    }

    let now = SystemTime::now();
    let metrics = [("Forwarded", "Count"), ("EnqueueLatency", "Milliseconds"), ("DeliveryDelay", "Milliseconds")];
    let line = json!({
        "_aws": {
            "Timestamp": now.duration_since(UNIX_EPOCH)?.as_millis() as u64,
            "CloudWatchMetrics": [{
                "Namespace": "SuperOfficeWebhook",
                "Dimensions": [["FunctionName"]],
                "Metrics": metrics.map(|(name, unit)| json!({ "Name": name, "Unit": unit })),
            }],
        },
        "FunctionName": invocation.function_name,
        "Forwarded": 1,
        "EnqueueLatency": latency.as_secs_f64() * 1e3,
        "DeliveryDelay": Timestamp::now().duration_since(occurred).as_secs_f64() * 1e3,
        "requestId": invocation.request_id,
        "traceId": invocation.trace_header.split(';').find_map(|part| part.strip_prefix("Root=")),
        "outcome": "forwarded",
        "status": 200,
        "event": event.event,
        "eventId": event.event_id,
        "contextIdentifier": event.context_identifier,
        "primaryKey": event.primary_key,
        "messageId": sent["MessageId"],
        "bodyBytes": body.len(),
        "secret": "current",
        "coldStart": invocation.is_cold_start,
    });
    io::stdout().lock().write_all(format!("{line}\n").as_bytes())?;

    let body = json!({ "outcome": "forwarded", "eventId": event.event_id, "messageId": sent["MessageId"] });
    Ok(json!({ "statusCode": 200, "headers": { "content-type": "application/json" }, "body": body.to_string() }))
}

impl Queue {
    fn connect() -> Result<Self> {
        let url = env::var("QUEUE_URL")?;
        let host = url.split('/').nth(2).ok_or("no host")?.to_owned();
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = host.split(':').next().ok_or("no name")?.to_owned().try_into()?;
        let mut tls = ClientConnection::new(Arc::new(config), name)?;
        let mut stream = TcpStream::connect(&host)?;
        stream.set_nodelay(true)?;
        tls.complete_io(&mut stream)?;
        Ok(Self {
            connection: BufReader::new(StreamOwned::new(tls, stream)),
            host,
            url,
            region: env::var("AWS_REGION")?,
            key_id: env::var("AWS_ACCESS_KEY_ID")?,
            key: env::var("AWS_SECRET_ACCESS_KEY")?,
            token: env::var("AWS_SESSION_TOKEN")?,
        })
    }

    /// Calls an operation of SQS, signed with Signature Version 4.
    fn call(&mut self, operation: &str, input: &Value) -> Result<Vec<u8>> {
        let input = input.to_string();
        let Self { host, region, key_id, key, token, .. } = self;
        let now = Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
        let date = &now[..8];
        let signed = "content-type;host;x-amz-date;x-amz-security-token;x-amz-target";
        let canonical = format!(
            "POST\n/\n\ncontent-type:application/x-amz-json-1.0\nhost:{host}\nx-amz-date:{now}\n\
             x-amz-security-token:{token}\nx-amz-target:AmazonSQS.{operation}\n\n{signed}\n{}",
            hex(&Sha256::digest(&input))
        );
        let scope = format!("{date}/{region}/sqs/aws4_request");
        let to_sign = format!("AWS4-HMAC-SHA256\n{now}\n{scope}\n{}", hex(&Sha256::digest(canonical)));
        let mut signature = format!("AWS4{key}").into_bytes();
        for part in [date, region, "sqs", "aws4_request", &to_sign] {
            let mut mac = Hmac::<Sha256>::new_from_slice(&signature)?;
            mac.update(part.as_bytes());
            signature = mac.finalize().into_bytes().to_vec();
        }
        let request = format!(
            "POST / HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/x-amz-json-1.0\r\nx-amz-date: {now}\r\n\
             x-amz-security-token: {token}\r\nx-amz-target: AmazonSQS.{operation}\r\nauthorization: AWS4-HMAC-SHA256 \
             Credential={key_id}/{scope}, SignedHeaders={signed}, Signature={}\r\ncontent-length: {}\r\n\r\n{input}",
            hex(&signature),
            input.len()
        );
        self.connection.get_mut().write_all(request.as_bytes())?;
        let (head, body) = read_response(&mut self.connection)?;
        if !head.starts_with("HTTP/1.1 200") {
            return Err(head.into());
        }
        Ok(body)
    }
}

fn read_response(reader: &mut impl BufRead) -> Result<(String, Vec<u8>)> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head)? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
    }
    let length = header(&head, "content-length").ok_or("no length")?.parse()?;
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok((head, body))
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let (_, value) =
        head.lines().filter_map(|line| line.split_once(':')).find(|(key, _)| key.eq_ignore_ascii_case(name))?;
    Some(value.trim())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
