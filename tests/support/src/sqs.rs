//! An SQS server (AWS JSON 1.0), plain or TLS, that records requests and injects faults.
//!
//! It supports `SendMessage` and `GetQueueAttributes`. Every queue URL names an existing queue, a FIFO queue if the URL
//! ends in `.fifo`. A FIFO queue deduplicates within message groups, as in `template.yaml`. Request signatures are not
//! verified.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::future;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::FutureExt;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::{Response, StatusCode};
use md5::{Digest, Md5};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::http::{AcceptMode, End, Handler, HandlerResult, Server};
use crate::tls::Certificate;
use crate::{TIMEOUT, lock};

/// The maximum size of a message, including its attributes.
const MAX_BYTES: usize = 1024 * 1024;
const MAX_ATTRIBUTES: usize = 10;

/// A fault of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Delays the response.
    Delay(Duration),
    /// Accepts the message, but responds with the MD5 of another message.
    WrongMd5,
    /// Accepts the message, and resets the connection instead of responding.
    AcceptThenReset,
    /// Accepts the message, and never responds.
    AcceptThenHang,
    /// Resets the connection without accepting the message.
    Reset,
    /// Closes the connection without accepting the message.
    Close,
    /// Never responds and does not accept the message.
    Hang,
    /// Responds with a status and an HTML page, as a proxy would.
    Status(u16),
    /// Responds with 500 `InternalFailure`.
    InternalFailure,
    /// Responds with 503 `ServiceUnavailable`.
    ServiceUnavailable,
    /// Responds with `RequestThrottled`.
    Throttle,
    /// Responds with `KmsThrottled`, for a queue that is encrypted with a key of KMS.
    KmsThrottle,
    /// Responds with `AccessDeniedException`.
    AccessDenied,
    /// Responds with `QueueDoesNotExist`.
    QueueDoesNotExist,
}

impl Fault {
    /// Returns the status and the error code of a refusal by SQS.
    fn refusal(&self) -> Option<(u16, &'static str)> {
        Some(match self {
            Self::InternalFailure => (500, "InternalFailure"),
            Self::ServiceUnavailable => (503, "ServiceUnavailable"),
            Self::Throttle => (400, "RequestThrottled"),
            Self::KmsThrottle => (400, "KmsThrottled"),
            Self::AccessDenied => (400, "AccessDeniedException"),
            Self::QueueDoesNotExist => (400, "QueueDoesNotExist"),
            _ => return None,
        })
    }
}

/// The data that the server keeps of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recording {
    /// Everything.
    All,
    /// Counts, and for FIFO queues 32 bytes per message to recognize duplicates.
    Counts,
}

/// The number of messages by result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// `SendMessage` requests, whatever their result.
    pub received: u64,
    /// Messages in the queue.
    pub accepted: u64,
    /// Messages that were acknowledged but not queued, because their group and deduplication id were known.
    pub duplicates: u64,
}

/// A message attribute.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "PascalCase")]
pub struct Attribute {
    /// `String`, `Number` or `Binary`.
    pub data_type: String,
    /// The value of a string or number.
    pub string_value: Option<String>,
    /// The value of a binary, in base64.
    pub binary_value: Option<String>,
}

/// A received message.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct Message {
    /// `MessageId`, assigned by the server.
    #[serde(skip)]
    pub id: String,
    /// `MessageBody`.
    #[serde(rename = "MessageBody")]
    pub body: String,
    /// `MessageAttributes`.
    #[serde(default, rename = "MessageAttributes")]
    pub attributes: BTreeMap<String, Attribute>,
    /// `MessageSystemAttributes`.
    #[serde(default, rename = "MessageSystemAttributes")]
    pub system_attributes: BTreeMap<String, Attribute>,
    /// `MessageGroupId`.
    #[serde(rename = "MessageGroupId")]
    pub group_id: Option<String>,
    /// `MessageDeduplicationId`.
    #[serde(rename = "MessageDeduplicationId")]
    pub deduplication_id: Option<String>,
}

impl Message {
    /// Returns the value of a string or number attribute.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.get(name)?.string_value.as_deref()
    }
}

/// A received request.
#[derive(Clone, Debug)]
pub struct Request {
    /// The moment when the request had arrived.
    pub received: Instant,
    /// The number of its connection, from 1.
    pub connection: u64,
    /// `SendMessage` or `GetQueueAttributes`.
    pub action: String,
    /// `QueueUrl`.
    pub queue_url: String,
    /// The region in its signature.
    pub region: Option<String>,
    /// The message of a `SendMessage` request.
    pub message: Option<Arc<Message>>,
}

#[derive(Default)]
struct Queue {
    counts: Counts,
    messages: Vec<Arc<Message>>,
    script: VecDeque<Fault>,
    /// The number of the first message by the hash of its group and deduplication id.
    known_ids: HashMap<[u8; 16], u64>,
}

type FaultInjector = dyn Fn(&Request) -> Option<Fault> + Send + Sync;

struct State {
    recording: Mutex<Recording>,
    requests: Mutex<Vec<Request>>,
    queues: Mutex<HashMap<String, Queue>>,
    injector: Mutex<Arc<FaultInjector>>,
    message_count: AtomicU64,
    changed: Notify,
}

/// An SQS server on the loopback interface.
pub struct SqsServer {
    server: Server,
    state: Arc<State>,
    certificate: Option<Certificate>,
}

impl SqsServer {
    /// Starts a server without TLS.
    pub async fn start() -> Self {
        Self::start_with(None).await
    }

    /// Starts a server with TLS. Its root certificate is the only one that the function knows.
    pub async fn start_tls() -> Self {
        Self::start_with(Some(Certificate::generate(""))).await
    }

    /// Starts a server with TLS. The function loads its root certificate together with `roots` (PEM), as many as on
    /// Lambda.
    pub async fn start_tls_with_roots(roots: &str) -> Self {
        Self::start_with(Some(Certificate::generate(roots))).await
    }

    async fn start_with(certificate: Option<Certificate>) -> Self {
        let state = Arc::new(State {
            recording: Mutex::new(Recording::All),
            requests: Mutex::default(),
            queues: Mutex::default(),
            injector: Mutex::new(Arc::new(|_| None)),
            message_count: AtomicU64::new(0),
            changed: Notify::new(),
        });
        let shared = Arc::clone(&state);
        let handler: Handler =
            Arc::new(move |connection, request| respond(Arc::clone(&shared), connection, request).boxed());
        let server = Server::start(certificate.as_ref().map(Certificate::acceptor), handler).await;
        Self { server, state, certificate }
    }

    /// The URL of the server: `http://127.0.0.1:…` or `https://localhost:…`.
    pub fn endpoint(&self) -> String {
        let port = self.server.address().port();
        match self.certificate {
            None => format!("http://127.0.0.1:{port}"),
            Some(_) => format!("https://localhost:{port}"),
        }
    }

    /// The URL of a queue.
    pub fn queue_url(&self, name: &str) -> String {
        format!("{}/123456789012/{name}", self.endpoint())
    }

    /// The environment variables that make a function use this server and trust its certificate.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        let mut variables = vec![("AWS_ENDPOINT_URL_SQS", self.endpoint())];
        variables.extend(self.roots_file().map(|file| ("SSL_CERT_FILE", file)));
        variables
    }

    /// The PEM file with all root certificates, if the server uses TLS.
    pub fn roots_file(&self) -> Option<String> {
        Some(self.certificate.as_ref()?.roots_file().display().to_string())
    }

    /// The PEM file with only the server's root certificate, if the server uses TLS.
    pub fn root_file(&self) -> Option<String> {
        Some(self.certificate.as_ref()?.root_file().display().to_string())
    }

    /// Injects faults into the next `SendMessage` requests to a queue, one fault per request.
    pub fn script(&self, queue_url: &str, faults: impl IntoIterator<Item = Fault>) {
        lock(&self.state.queues).entry(queue_url.into()).or_default().script.extend(faults);
    }

    /// Injects faults into every request that has no scripted fault.
    pub fn inject(&self, injector: impl Fn(&Request) -> Option<Fault> + Send + Sync + 'static) {
        *lock(&self.state.injector) = Arc::new(injector);
    }

    /// Sets the treatment of new connections.
    pub fn set_accept_mode(&self, mode: AcceptMode) {
        self.server.set_accept_mode(mode);
    }

    /// Closes connections that have been idle for the limit after a response. Zero closes a connection after each
    /// response, `None` keeps all connections open.
    pub fn close_idle_after(&self, limit: impl Into<Option<Duration>>) {
        self.server.close_idle_after(limit.into());
    }

    /// Waits until no connection is open.
    pub async fn all_connections_closed(&self) {
        let closed = timeout(TIMEOUT, self.server.all_connections_closed()).await;
        assert!(closed.is_ok(), "a connection is still open after {TIMEOUT:?}");
    }

    /// Sets the data to keep from now on. [`Recording::Counts`] also drops the data recorded so far.
    pub fn record(&self, recording: Recording) {
        *lock(&self.state.recording) = recording;
        if recording == Recording::Counts {
            lock(&self.state.requests).clear();
            lock(&self.state.queues).values_mut().for_each(|queue| queue.messages.clear());
        }
    }

    /// The received requests, in order.
    pub fn requests(&self) -> Vec<Request> {
        lock(&self.state.requests).clone()
    }

    /// The messages in a queue, in order.
    pub fn messages(&self, queue_url: &str) -> Vec<Arc<Message>> {
        lock(&self.state.queues).get(queue_url).map(|queue| queue.messages.clone()).unwrap_or_default()
    }

    /// The number of messages of a queue.
    pub fn counts(&self, queue_url: &str) -> Counts {
        lock(&self.state.queues).get(queue_url).map(|queue| queue.counts).unwrap_or_default()
    }

    /// Waits until a condition holds. It is checked after every request.
    pub async fn wait_until(&self, mut condition: impl FnMut(&Self) -> bool) {
        let wait = async {
            loop {
                let mut changed = pin!(self.state.changed.notified());
                changed.as_mut().enable();
                if condition(self) {
                    return;
                }
                changed.await;
            }
        };
        assert!(timeout(TIMEOUT, wait).await.is_ok(), "the condition does not hold after {TIMEOUT:?}");
    }
}

async fn respond(state: Arc<State>, connection: u64, request: hyper::Request<Incoming>) -> HandlerResult {
    let (head, body) = request.into_parts();
    let header = |name| head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let action = header("x-amz-target").strip_prefix("AmazonSQS.").unwrap_or_default().to_owned();
    let region = header("authorization").split('/').nth(2).map(str::to_owned);
    let body = body.collect().await.map_err(|_| End::Reset)?.to_bytes();
    let received = Instant::now();

    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Addressed {
        queue_url: String,
    }
    let Ok(Addressed { queue_url }) = serde_json::from_slice(&body) else {
        return Ok(error_response(400, "SerializationException"));
    };
    let message = if action == "SendMessage" {
        let Ok(mut message) = serde_json::from_slice::<Message>(&body) else {
            return Ok(error_response(400, "SerializationException"));
        };
        let number = state.message_count.fetch_add(1, Ordering::Relaxed) + 1;
        message.id = message_id(number);
        Some((number, Arc::new(message)))
    } else {
        None
    };
    let request = Request {
        received,
        connection,
        action,
        queue_url,
        region,
        message: message.as_ref().map(|(_, message)| Arc::clone(message)),
    };
    let fault = state.record(&request);
    let response = match (&fault, fault.as_ref().and_then(Fault::refusal)) {
        (_, Some((status, code))) => Ok(error_response(status, code)),
        (Some(Fault::Hang | Fault::Reset), None) => Err(End::Reset),
        (Some(Fault::Close), None) => Err(End::Close),
        (Some(Fault::Status(code)), None) => Ok(html_response(*code)),
        (accepting, None) => Ok(match (request.action.as_str(), message) {
            ("SendMessage", Some((number, message))) => {
                state.accept(&request.queue_url, number, message, *accepting == Some(Fault::WrongMd5))
            }
            ("GetQueueAttributes", _) => queue_attributes(&request.queue_url),
            _ => error_response(400, "UnknownOperationException"),
        }),
    };
    state.changed.notify_waiters();
    match fault {
        Some(Fault::AcceptThenReset) => Err(End::Reset),
        Some(Fault::Hang | Fault::AcceptThenHang) => future::pending().await,
        Some(Fault::Delay(delay)) => {
            tokio::time::sleep(delay).await;
            response
        }
        _ => response,
    }
}

impl State {
    /// Records a request and returns its fault.
    fn record(&self, request: &Request) -> Option<Fault> {
        let mut scripted = None;
        if request.message.is_some() {
            let mut queues = lock(&self.queues);
            let queue = queues.entry(request.queue_url.clone()).or_default();
            queue.counts.received += 1;
            scripted = queue.script.pop_front();
        }
        let fault = scripted.or_else(|| {
            let injector = Arc::clone(&lock(&self.injector));
            injector(request)
        });
        if *lock(&self.recording) == Recording::All {
            lock(&self.requests).push(request.clone());
        }
        fault
    }

    /// Puts a message into its queue, if SQS would, and returns the response.
    fn accept(&self, queue_url: &str, number: u64, message: Arc<Message>, wrong_md5: bool) -> Response<Full<Bytes>> {
        let fifo = queue_url.ends_with(".fifo");
        if let Some(code) = rejection_code(&message, fifo) {
            return error_response(400, code);
        }
        let md5_body = if wrong_md5 { "another body" } else { &message.body };
        let mut response = json!({ "MD5OfMessageBody": hex::encode(Md5::digest(md5_body)) });
        if !message.attributes.is_empty() {
            response["MD5OfMessageAttributes"] = md5_of_attributes(&message.attributes).into();
        }
        if !message.system_attributes.is_empty() {
            response["MD5OfMessageSystemAttributes"] = md5_of_attributes(&message.system_attributes).into();
        }
        let recording = *lock(&self.recording);
        let mut queues = lock(&self.queues);
        let queue = queues.entry(queue_url.to_owned()).or_default();
        let first = match (&message.group_id, &message.deduplication_id) {
            (Some(group), Some(id)) if fifo => {
                // Neither id contains a space.
                let hash = Md5::digest(format!("{group} {id}")).into();
                *queue.known_ids.entry(hash).or_insert(number)
            }
            _ => number,
        };
        response["MessageId"] = message_id(first).into();
        if fifo {
            response["SequenceNumber"] = format!("{first:020}").into();
        }
        if first == number {
            queue.counts.accepted += 1;
            if recording == Recording::All {
                queue.messages.push(message);
            }
        } else {
            queue.counts.duplicates += 1;
        }
        json_response(200, &response)
    }
}

/// Returns the code of the error with which SQS rejects a message.
fn rejection_code(message: &Message, fifo: bool) -> Option<&'static str> {
    let attributes: usize = message
        .attributes
        .iter()
        .map(|(name, attribute)| {
            name.len() + attribute.data_type.len() + attribute.string_value.as_ref().map_or(0, String::len)
        })
        .sum();
    let is_allowed = |c: char| c >= ' ' && !matches!(c, '\u{fffe}' | '\u{ffff}') || matches!(c, '\t' | '\n' | '\r');
    let is_empty = |attribute: &Attribute| {
        attribute.string_value.as_deref().is_none_or(str::is_empty) && attribute.binary_value.is_none()
    };
    let mut values = message.attributes.values().filter_map(|attribute| attribute.string_value.as_deref());
    let is_allowed_id = |id: &String| (1..=128).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic());
    if message.body.is_empty() || (fifo && message.group_id.is_none()) {
        Some("MissingParameter")
    } else if message.body.len() + attributes > MAX_BYTES
        || message.attributes.len() > MAX_ATTRIBUTES
        || message.attributes.values().any(is_empty)
        || (!fifo && message.deduplication_id.is_some())
        || ![&message.group_id, &message.deduplication_id].into_iter().flatten().all(is_allowed_id)
    {
        Some("InvalidParameterValue")
    } else if !message.body.chars().all(is_allowed) || !values.all(|value| value.chars().all(is_allowed)) {
        Some("InvalidMessageContents")
    } else {
        None
    }
}

/// Returns SQS's digest of message attributes: the name, type and value of each, prefixed with their lengths, in the
/// order of the names. A byte before the value is 1 for text and 2 for binary.
fn md5_of_attributes(attributes: &BTreeMap<String, Attribute>) -> String {
    let mut md5 = Md5::new();
    let with_length = |md5: &mut Md5, bytes: &[u8]| {
        md5.update(u32::try_from(bytes.len()).unwrap().to_be_bytes());
        md5.update(bytes);
    };
    for (name, attribute) in attributes {
        with_length(&mut md5, name.as_bytes());
        with_length(&mut md5, attribute.data_type.as_bytes());
        if let Some(text) = &attribute.string_value {
            md5.update([1]);
            with_length(&mut md5, text.as_bytes());
        } else if let Some(binary) = &attribute.binary_value {
            md5.update([2]);
            with_length(&mut md5, &STANDARD.decode(binary).unwrap_or_default());
        }
    }
    hex::encode(md5.finalize())
}

fn message_id(number: u64) -> String {
    format!("11111111-1111-4111-8111-{number:012x}")
}

fn queue_attributes(queue_url: &str) -> Response<Full<Bytes>> {
    let name = queue_url.rsplit('/').next().unwrap_or_default();
    let mut attributes = json!({ "QueueArn": format!("arn:aws:sqs:eu-north-1:123456789012:{name}") });
    if name.ends_with(".fifo") {
        attributes["FifoQueue"] = "true".into();
    }
    json_response(200, &json!({ "Attributes": attributes }))
}

/// Returns an error in SQS's JSON protocol, with the code of its query protocol in a header.
fn error_response(status: u16, code: &str) -> Response<Full<Bytes>> {
    let body = json!({ "__type": format!("com.amazonaws.sqs#{code}"), "message": format!("injected {code}") });
    let mut response = json_response(status, &body);
    let query_code = match code {
        "QueueDoesNotExist" => "AWS.SimpleQueueService.NonExistentQueue",
        "KmsThrottled" => "KMS.ThrottlingException",
        other => other,
    };
    let fault = if status < 500 { "Sender" } else { "Receiver" };
    response.headers_mut().insert("x-amzn-query-error", format!("{query_code};{fault}").parse().unwrap());
    response
}

fn html_response(status: u16) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(b"<html>not SQS</html>")));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response
}

fn json_response(status: u16, body: &Value) -> Response<Full<Bytes>> {
    Response::builder()
        .status(status)
        .header("content-type", "application/x-amz-json-1.0")
        .header("x-amzn-requestid", "22222222-2222-4222-8222-222222222222")
        .body(Full::new(body.to_string().into()))
        .unwrap()
}
