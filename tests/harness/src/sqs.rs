//! An SQS endpoint (AWS JSON 1.0), plain or TLS, that keeps what it is sent and misbehaves on cue.
//!
//! It answers `SendMessage` and `GetQueueAttributes`; a queue exists as soon as it is named, and is FIFO when its URL
//! ends in `.fifo`. Signatures of requests are not checked.

use crate::{
    PATIENCE,
    http::{Accepting, Handler, Server},
    lock,
};
use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use futures_util::FutureExt;
use http_body_util::{BodyExt, Full};
use hyper::{Response, StatusCode, body::Incoming};
use md5::{Digest, Md5};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde::Deserialize;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    fmt::Write as _,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tempfile::TempDir;
use tokio::{sync::Notify, time::timeout};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, crypto::ring, pki_types::PrivateKeyDer},
};

/// A message may have so many bytes, its attributes included.
const MAX_BYTES: usize = 1024 * 1024;
const MAX_ATTRIBUTES: usize = 10;

/// What becomes of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Behaviour {
    /// It is answered as SQS would.
    Answer,
    /// It is answered as SQS would, so much later.
    AnswerAfter(Duration),
    /// The message is taken, but the answer carries the MD5 of another.
    WrongMd5,
    /// The message is taken, and the connection reset instead of an answer.
    TakeThenReset,
    /// The message is taken, and nothing is ever answered.
    TakeThenHang,
    /// The connection is reset, and the message not taken.
    Reset,
    /// Nothing is ever answered, and the message not taken.
    Hang,
    /// An answer that is not of the protocol: a status and a body of text.
    Status(u16),
    /// HTTP 500, `InternalFailure`.
    InternalFailure,
    /// HTTP 503, `ServiceUnavailable`.
    Unavailable,
    /// `RequestThrottled`.
    Throttle,
    /// `AccessDeniedException`.
    AccessDenied,
    /// `QueueDoesNotExist`.
    QueueDoesNotExist,
}

/// What is kept of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recording {
    /// Everything.
    All,
    /// The counts only, and for FIFO queues 32 bytes a message, by which duplicates are known.
    Counts,
}

/// How many messages came to a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// `SendMessage` requests that came in, whatever became of them.
    pub received: u64,
    /// Messages in the queue.
    pub taken: u64,
    /// Messages that were accepted and not queued again, because their deduplication id was known.
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

/// A message as it came in.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "PascalCase")]
pub struct Message {
    /// The id that SQS gives it.
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
    /// The value of a string or number attribute.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.get(name)?.string_value.as_deref()
    }
}

/// A request that came in.
#[derive(Clone, Debug)]
pub struct Request {
    /// When it had come in whole.
    pub at: Instant,
    /// Which connection it came on; they are numbered from 1.
    pub connection: u64,
    /// `SendMessage`, `GetQueueAttributes`, ...
    pub action: String,
    /// `QueueUrl`.
    pub queue_url: String,
    /// The region in its signature.
    pub region: Option<String>,
    /// The message of a `SendMessage`.
    pub message: Option<Arc<Message>>,
}

#[derive(Default)]
struct Queue {
    counts: Counts,
    messages: Vec<Arc<Message>>,
    script: VecDeque<Behaviour>,
    /// The hash of each deduplication id, and the number of the message that had it.
    known: HashMap<[u8; 16], u64>,
}

type Behave = dyn Fn(&Request) -> Behaviour + Send + Sync;

struct State {
    recording: Mutex<Recording>,
    requests: Mutex<Vec<Request>>,
    queues: Mutex<HashMap<String, Queue>>,
    behave: Mutex<Arc<Behave>>,
    numbers: AtomicU64,
    changed: Notify,
}

struct Certificate {
    directory: TempDir,
    acceptor: TlsAcceptor,
}

/// An SQS endpoint on loopback.
pub struct Sqs {
    server: Server,
    state: Arc<State>,
    certificate: Option<Certificate>,
}

impl Sqs {
    /// Starts one that speaks plain HTTP.
    pub async fn plain() -> Self {
        Self::start(None).await
    }

    /// Starts one that speaks TLS, with a certificate of its own that the function is given as its only root.
    pub async fn tls() -> Self {
        Self::start(Some(Certificate::make(""))).await
    }

    /// Starts one that speaks TLS and whose root is given to the function beside those in `roots`, in PEM, so that it
    /// has as many to load as on Lambda.
    pub async fn tls_beside(roots: &str) -> Self {
        Self::start(Some(Certificate::make(roots))).await
    }

    async fn start(certificate: Option<Certificate>) -> Self {
        let state = Arc::new(State {
            recording: Mutex::new(Recording::All),
            requests: Mutex::default(),
            queues: Mutex::default(),
            behave: Mutex::new(Arc::new(|_| Behaviour::Answer)),
            numbers: AtomicU64::new(0),
            changed: Notify::new(),
        });
        let shared = Arc::clone(&state);
        let handler: Handler =
            Arc::new(move |connection, request| answer(Arc::clone(&shared), connection, request).boxed());
        let server = Server::start(certificate.as_ref().map(|made| made.acceptor.clone()), handler).await;
        Self { server, state, certificate }
    }

    /// Its URL, `http://127.0.0.1:…` or `https://localhost:…`.
    pub fn endpoint(&self) -> String {
        let port = self.server.address().port();
        match self.certificate {
            None => format!("http://127.0.0.1:{port}"),
            Some(_) => format!("https://localhost:{port}"),
        }
    }

    /// The URL of a queue at this endpoint.
    pub fn queue_url(&self, name: &str) -> String {
        format!("{}/123456789012/{name}", self.endpoint())
    }

    /// The variables that lead a function here, and make it trust the certificate.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        let mut variables = vec![("AWS_ENDPOINT_URL_SQS", self.endpoint())];
        if let Some(roots) = self.roots() {
            variables.push(("SSL_CERT_FILE", roots));
        }
        variables
    }

    /// The file with all roots that the function is given, in PEM.
    pub fn roots(&self) -> Option<String> {
        self.certificate_file("roots.pem")
    }

    /// The file with the certificate's own root only, in PEM.
    pub fn root(&self) -> Option<String> {
        self.certificate_file("root.pem")
    }

    fn certificate_file(&self, name: &str) -> Option<String> {
        Some(self.certificate.as_ref()?.directory.path().join(name).display().to_string())
    }

    /// What becomes of the next `SendMessage` requests to a queue, one after the other.
    pub fn script(&self, queue_url: &str, behaviours: impl IntoIterator<Item = Behaviour>) {
        lock(&self.state.queues).entry(queue_url.into()).or_default().script.extend(behaviours);
    }

    /// What becomes of every request for which no script says otherwise; it is asked before the message is taken.
    pub fn behave(&self, behave: impl Fn(&Request) -> Behaviour + Send + Sync + 'static) {
        *lock(&self.state.behave) = Arc::new(behave);
    }

    /// What becomes of new connections.
    pub fn accept(&self, accepting: Accepting) {
        self.server.accept(accepting);
    }

    /// Closes a connection, without announcing it, when it has been idle for so long after an answer; zero closes it
    /// after each. `None` keeps them open.
    pub fn close_idle_after(&self, limit: impl Into<Option<Duration>>) {
        self.server.close_idle_after(limit.into());
    }

    /// Waits until no connection is open.
    ///
    /// # Panics
    /// When one still is after [`PATIENCE`].
    pub async fn no_connection(&self) {
        timeout(PATIENCE, self.server.no_connection()).await.expect("the connections close in time");
    }

    /// What is kept from now on; with [`Recording::Counts`] what was recorded is dropped.
    pub fn record(&self, recording: Recording) {
        *lock(&self.state.recording) = recording;
        if recording == Recording::Counts {
            lock(&self.state.requests).clear();
            lock(&self.state.queues).values_mut().for_each(|queue| queue.messages.clear());
        }
    }

    /// The requests that came in, in their order.
    pub fn requests(&self) -> Vec<Request> {
        lock(&self.state.requests).clone()
    }

    /// The messages in a queue, in their order.
    pub fn messages(&self, queue_url: &str) -> Vec<Arc<Message>> {
        lock(&self.state.queues).get(queue_url).map(|queue| queue.messages.clone()).unwrap_or_default()
    }

    /// How many messages came to a queue.
    pub fn counts(&self, queue_url: &str) -> Counts {
        lock(&self.state.queues).get(queue_url).map(|queue| queue.counts).unwrap_or_default()
    }

    /// Waits until a condition holds, which is looked at after every request.
    ///
    /// # Panics
    /// When it does not hold within [`PATIENCE`].
    pub async fn wait_until(&self, mut condition: impl FnMut(&Self) -> bool) {
        let wait = async {
            loop {
                let mut changed = std::pin::pin!(self.state.changed.notified());
                changed.as_mut().enable();
                if condition(self) {
                    return;
                }
                changed.await;
            }
        };
        timeout(PATIENCE, wait).await.expect("the condition holds in time");
    }
}

impl Certificate {
    fn make(roots: &str) -> Self {
        let root_key = KeyPair::generate().expect("a key");
        let mut root = CertificateParams::new(Vec::new()).expect("no names");
        root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        root.distinguished_name.push(rcgen::DnType::CommonName, "A root for tests");
        let root_certificate = root.self_signed(&root_key).expect("a certificate");
        let key = KeyPair::generate().expect("a key");
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let certificate = CertificateParams::new(names)
            .and_then(|leaf| leaf.signed_by(&key, &Issuer::new(root, root_key)))
            .expect("a certificate");
        let directory = TempDir::new().expect("a temporary directory");
        let pem = root_certificate.pem();
        for (file, content) in [("root.pem", &pem), ("roots.pem", &format!("{roots}\n{pem}"))] {
            std::fs::write(directory.path().join(file), content).expect("a file in it");
        }
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring has the default versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .expect("the key is the certificate's");
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Self { directory, acceptor: TlsAcceptor::from(Arc::new(config)) }
    }
}

async fn answer(
    state: Arc<State>,
    connection: u64,
    request: hyper::Request<Incoming>,
) -> Option<Response<Full<Bytes>>> {
    let (head, body) = request.into_parts();
    let header = |name| head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let action = header("x-amz-target").strip_prefix("AmazonSQS.").unwrap_or_default().to_owned();
    let region = header("authorization").split('/').nth(2).map(str::to_owned);
    let body = body.collect().await.ok()?.to_bytes();
    let at = Instant::now();

    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Addressed {
        queue_url: String,
    }
    let Ok(Addressed { queue_url }) = serde_json::from_slice(&body) else {
        return Some(error("SerializationException", "Sender", 400));
    };
    let message = match action.as_str() {
        "SendMessage" => match serde_json::from_slice::<Message>(&body) {
            Ok(mut message) => {
                let number = state.numbers.fetch_add(1, Ordering::Relaxed) + 1;
                message.id = message_id(number);
                Some((number, Arc::new(message)))
            }
            Err(_) => return Some(error("SerializationException", "Sender", 400)),
        },
        _ => None,
    };
    let request = Request {
        at,
        connection,
        action,
        queue_url,
        region,
        message: message.as_ref().map(|(_, message)| message.clone()),
    };
    let behaviour = state.arrive(&request);
    let answer = match behaviour {
        Behaviour::Hang => None,
        Behaviour::Reset => return None,
        Behaviour::Status(code) => {
            let mut answer = Response::new(Full::new(Bytes::from_static(b"<html>not SQS</html>")));
            *answer.status_mut() = StatusCode::from_u16(code).expect("a status code");
            Some(answer)
        }
        Behaviour::InternalFailure => Some(error("InternalFailure", "Receiver", 500)),
        Behaviour::Unavailable => Some(error("ServiceUnavailable", "Receiver", 503)),
        Behaviour::Throttle => Some(error("RequestThrottled", "Sender", 400)),
        Behaviour::AccessDenied => Some(error("AccessDeniedException", "Sender", 400)),
        Behaviour::QueueDoesNotExist => Some(error("QueueDoesNotExist", "Sender", 400)),
        Behaviour::Answer
        | Behaviour::AnswerAfter(_)
        | Behaviour::WrongMd5
        | Behaviour::TakeThenReset
        | Behaviour::TakeThenHang => Some(match (request.action.as_str(), message) {
            ("SendMessage", Some((number, message))) => {
                state.take(&request.queue_url, number, message, behaviour == Behaviour::WrongMd5)
            }
            ("GetQueueAttributes", _) => {
                let fifo = request.queue_url.ends_with(".fifo");
                let arn = format!("arn:aws:sqs:eu-north-1:123456789012:{}", request.queue_url.rsplit('/').next()?);
                let mut attributes = json!({ "QueueArn": arn });
                if fifo {
                    attributes["FifoQueue"] = "true".into();
                }
                json_answer(200, &json!({ "Attributes": attributes }))
            }
            _ => error("UnknownOperationException", "Sender", 400),
        }),
    };
    state.changed.notify_waiters();
    match behaviour {
        Behaviour::TakeThenReset => None,
        Behaviour::Hang | Behaviour::TakeThenHang => std::future::pending().await,
        Behaviour::AnswerAfter(delay) => {
            tokio::time::sleep(delay).await;
            answer
        }
        _ => answer,
    }
}

impl State {
    /// Notes a request, and says what becomes of it.
    fn arrive(&self, request: &Request) -> Behaviour {
        let scripted = if request.message.is_some() {
            let mut queues = lock(&self.queues);
            let queue = queues.entry(request.queue_url.clone()).or_default();
            queue.counts.received += 1;
            queue.script.pop_front()
        } else {
            None
        };
        let behaviour = scripted.unwrap_or_else(|| {
            let behave = Arc::clone(&lock(&self.behave));
            behave(request)
        });
        if *lock(&self.recording) == Recording::All {
            lock(&self.requests).push(request.clone());
        }
        behaviour
    }

    /// Puts a message into its queue, if SQS would, and answers.
    fn take(&self, queue_url: &str, number: u64, message: Arc<Message>, wrong_md5: bool) -> Response<Full<Bytes>> {
        let fifo = queue_url.ends_with(".fifo");
        if let Some(code) = refusal(&message, fifo) {
            return error(code, "Sender", 400);
        }
        let mut answer = json!({ "MD5OfMessageBody": hex(&Md5::digest(&message.body)) });
        if wrong_md5 {
            answer["MD5OfMessageBody"] = hex(&Md5::digest("another body")).into();
        }
        if !message.attributes.is_empty() {
            answer["MD5OfMessageAttributes"] = md5_of_attributes(&message.attributes).into();
        }
        if !message.system_attributes.is_empty() {
            answer["MD5OfMessageSystemAttributes"] = md5_of_attributes(&message.system_attributes).into();
        }
        let keep = *lock(&self.recording) == Recording::All;
        let mut queues = lock(&self.queues);
        let queue = queues.entry(queue_url.to_owned()).or_default();
        let first = match &message.deduplication_id {
            Some(id) if fifo => *queue.known.entry(Md5::digest(id).into()).or_insert(number),
            _ => number,
        };
        answer["MessageId"] = message_id(first).into();
        if fifo {
            answer["SequenceNumber"] = format!("{first:020}").into();
        }
        if first == number {
            queue.counts.taken += 1;
            if keep {
                queue.messages.push(message);
            }
        } else {
            queue.counts.duplicates += 1;
        }
        json_answer(200, &answer)
    }
}

/// The code of the error with which SQS refuses a message.
fn refusal(message: &Message, fifo: bool) -> Option<&'static str> {
    let attributes: usize = message
        .attributes
        .iter()
        .map(|(name, attribute)| {
            name.len() + attribute.data_type.len() + attribute.string_value.as_ref().map_or(0, String::len)
        })
        .sum();
    let allowed = |c: char| c >= ' ' && !matches!(c, '\u{fffe}' | '\u{ffff}') || matches!(c, '\t' | '\n' | '\r');
    let empty = |attribute: &Attribute| {
        attribute.string_value.as_deref().is_none_or(str::is_empty) && attribute.binary_value.is_none()
    };
    let values = || message.attributes.values().filter_map(|attribute| attribute.string_value.as_deref());
    let id_allowed = |id: &String| (1..=128).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic());
    if message.body.is_empty() || (fifo && message.group_id.is_none()) {
        Some("MissingParameter")
    } else if message.body.len() + attributes > MAX_BYTES
        || message.attributes.len() > MAX_ATTRIBUTES
        || message.attributes.values().any(empty)
        || (!fifo && message.deduplication_id.is_some())
        || ![&message.group_id, &message.deduplication_id].into_iter().flatten().all(id_allowed)
    {
        Some("InvalidParameterValue")
    } else if !message.body.chars().all(allowed) || !values().all(|value| value.chars().all(allowed)) {
        Some("InvalidMessageContents")
    } else {
        None
    }
}

/// The digest that SQS makes of a message's attributes, in the order of their names: each one's name, type and value,
/// with their lengths before them, and a byte for whether the value is text.
fn md5_of_attributes(attributes: &BTreeMap<String, Attribute>) -> String {
    let mut md5 = Md5::new();
    let with_length = |md5: &mut Md5, bytes: &[u8]| {
        md5.update(u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
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
            with_length(&mut md5, &BASE64_STANDARD.decode(binary).unwrap_or_default());
        }
    }
    hex(&md5.finalize())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn message_id(number: u64) -> String {
    format!("11111111-1111-4111-8111-{number:012x}")
}

fn error(code: &str, fault: &str, status: u16) -> Response<Full<Bytes>> {
    let body = json!({ "__type": format!("com.amazonaws.sqs#{code}"), "message": format!("{code}, as scripted") });
    let mut answer = json_answer(status, &body);
    let query_error = match code {
        "QueueDoesNotExist" => "AWS.SimpleQueueService.NonExistentQueue",
        other => other,
    };
    if let Ok(value) = format!("{query_error};{fault}").parse() {
        answer.headers_mut().insert("x-amzn-query-error", value);
    }
    answer
}

fn json_answer(status: u16, body: &Value) -> Response<Full<Bytes>> {
    Response::builder()
        .status(status)
        .header("content-type", "application/x-amz-json-1.0")
        .header("x-amzn-requestid", "22222222-2222-4222-8222-222222222222")
        .body(Full::new(body.to_string().into()))
        .expect("a well-formed response")
}
