//! The Lambda Runtime API: passes queued events to the processes that poll, and their responses to the test.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Display;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures_util::FutureExt;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode};
use serde_json::Value;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

use crate::http::{Handler, Server};
use crate::{TIMEOUT, lock};

const FUNCTION_NAME: &str = "superoffice-webhook";
const PATH_PREFIX: &str = "/2018-06-01/runtime/";
/// The time from the start of an invocation to its deadline.
const TIME_LEFT: Duration = Duration::from_secs(30);

/// An HTTP response that a function returned to API Gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpResponse {
    /// The status code.
    pub status: u64,
    /// The headers, with lower-case names.
    pub headers: BTreeMap<String, String>,
    /// The body.
    pub body: String,
}

impl HttpResponse {
    /// Parses a response to payload 1.0 or 2.0.
    pub fn from_json(json: &Value) -> Self {
        let mut headers = BTreeMap::new();
        for (name, value) in json["headers"].as_object().into_iter().flatten() {
            headers.insert(name.to_lowercase(), value.as_str().unwrap().to_owned());
        }
        for (name, values) in json["multiValueHeaders"].as_object().into_iter().flatten() {
            let values: Vec<_> = values.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            headers.entry(name.to_lowercase()).or_insert_with(|| values.join(","));
        }
        let body = json["body"].as_str().unwrap_or_default().to_owned();
        Self { status: json["statusCode"].as_u64().unwrap(), headers, body }
    }

    /// Parses the body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// An invocation that a function completed.
#[derive(Clone, Debug)]
pub struct CompletedInvocation {
    /// `Lambda-Runtime-Aws-Request-Id`.
    pub request_id: String,
    /// `Lambda-Runtime-Trace-Id`.
    pub trace_id: String,
    /// The posted response, or the posted error.
    pub result: Result<Bytes, Bytes>,
    /// The moment when the event was passed to the function.
    pub started: Instant,
    /// The moment when the result had arrived.
    pub completed: Instant,
}

impl CompletedInvocation {
    /// The duration of the invocation.
    pub fn duration(&self) -> Duration {
        self.completed - self.started
    }

    /// Parses the HTTP response.
    pub fn response(&self) -> HttpResponse {
        let response = self.result.as_ref().unwrap();
        HttpResponse::from_json(&serde_json::from_slice(response).unwrap())
    }
}

/// A queued or running invocation.
pub struct Invocation {
    /// `Lambda-Runtime-Aws-Request-Id`.
    pub request_id: String,
    completed: oneshot::Receiver<CompletedInvocation>,
}

impl Invocation {
    /// Waits for the result. Returns `None` if there is none within the limit.
    pub async fn completed_within(self, limit: Duration) -> Option<CompletedInvocation> {
        timeout(limit, self.completed).await.ok()?.ok()
    }

    /// Waits for the result.
    pub async fn completed(self) -> CompletedInvocation {
        let id = self.request_id.clone();
        self.completed_within(TIMEOUT).await.unwrap_or_else(|| panic!("no response to {id} within {TIMEOUT:?}"))
    }
}

struct Queued {
    request_id: String,
    trace_id: String,
    event: Bytes,
    completed: oneshot::Sender<CompletedInvocation>,
}

struct Running {
    trace_id: String,
    started: Instant,
    completed: oneshot::Sender<CompletedInvocation>,
}

struct State {
    /// Pollers queue for the lock, so they are served in order.
    queue: tokio::sync::Mutex<mpsc::UnboundedReceiver<Queued>>,
    running: Mutex<HashMap<String, Running>>,
    first_poll: watch::Sender<Option<Instant>>,
}

/// A Lambda Runtime API server on the loopback interface.
pub struct RuntimeApi {
    server: Server,
    state: Arc<State>,
    queue: mpsc::UnboundedSender<Queued>,
    invocations: AtomicU64,
    constant_trace_id: AtomicBool,
}

impl RuntimeApi {
    /// Starts a server on a free port.
    pub async fn start() -> Self {
        let (queue, receiver) = mpsc::unbounded_channel();
        let state = Arc::new(State {
            queue: tokio::sync::Mutex::new(receiver),
            running: Mutex::default(),
            first_poll: watch::Sender::new(None),
        });
        let shared = Arc::clone(&state);
        let handler: Handler = Arc::new(move |_, request| respond(Arc::clone(&shared), request).map(Ok).boxed());
        let server = Server::start(None, handler).await;
        Self { server, state, queue, invocations: AtomicU64::new(0), constant_trace_id: AtomicBool::new(false) }
    }

    /// The environment variables that Lambda sets for a function.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("AWS_LAMBDA_RUNTIME_API", self.server.address().to_string()),
            ("AWS_LAMBDA_FUNCTION_NAME", FUNCTION_NAME.into()),
            ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST".into()),
            ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128".into()),
            ("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand".into()),
            ("AWS_LAMBDA_LOG_GROUP_NAME", format!("/aws/lambda/{FUNCTION_NAME}")),
            ("AWS_LAMBDA_LOG_STREAM_NAME", "stream".into()),
            ("AWS_REGION", "eu-north-1".into()),
            ("AWS_DEFAULT_REGION", "eu-north-1".into()),
            ("AWS_ACCESS_KEY_ID", "test".into()),
            ("AWS_SECRET_ACCESS_KEY", "test".into()),
            ("AWS_SESSION_TOKEN", "test".into()),
            ("LAMBDA_TASK_ROOT", "/var/task".into()),
        ]
    }

    /// Uses the same trace id for all following events.
    ///
    /// `lambda_runtime` sets the trace id as an environment variable, and glibc never frees old values: about 150 bytes
    /// per event.
    pub fn use_constant_trace_id(&self) {
        self.constant_trace_id.store(true, Ordering::Relaxed);
    }

    /// Queues an event for the next poll.
    pub fn send(&self, event: impl Display) -> Invocation {
        let number = self.invocations.fetch_add(1, Ordering::Relaxed) + 1;
        let request_id = format!("00000000-0000-4000-8000-{number:012x}");
        let trace = if self.constant_trace_id.load(Ordering::Relaxed) { 1 } else { number };
        let trace_id = format!("Root=1-68c9568a-{trace:024x};Parent={trace:016x};Sampled=1");
        let (completed, receiver) = oneshot::channel();
        let event = event.to_string().into();
        let queued = Queued { request_id: request_id.clone(), trace_id, event, completed };
        assert!(self.queue.send(queued).is_ok(), "the server has stopped");
        Invocation { request_id, completed: receiver }
    }

    /// Queues an event and waits for the result.
    pub async fn invoke(&self, event: impl Display) -> CompletedInvocation {
        self.send(event).completed().await
    }

    /// Waits until a function polls for its first event. Returns the moment of that poll, the end of its init phase.
    pub async fn first_poll(&self) -> Instant {
        let mut first_poll = self.state.first_poll.subscribe();
        let at = timeout(TIMEOUT, first_poll.wait_for(Option::is_some)).await;
        at.unwrap_or_else(|_| panic!("no poll within {TIMEOUT:?}")).unwrap().unwrap()
    }
}

async fn respond(state: Arc<State>, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let path = request.uri().path().strip_prefix(PATH_PREFIX).unwrap_or_default().to_owned();
    let parts: Vec<&str> = path.split('/').collect();
    match (request.method(), parts.as_slice()) {
        (&Method::GET, ["invocation", "next"]) => next(&state).await,
        (&Method::POST, ["invocation", id, kind @ ("response" | "error")]) => {
            let Some(bytes) = read(request).await else {
                return status(StatusCode::BAD_REQUEST);
            };
            let completed = Instant::now();
            let Some(running) = lock(&state.running).remove(*id) else {
                return status(StatusCode::FORBIDDEN);
            };
            // The test may not wait for the result.
            let _ = running.completed.send(CompletedInvocation {
                request_id: (*id).to_owned(),
                trace_id: running.trace_id,
                result: if *kind == "response" { Ok(bytes) } else { Err(bytes) },
                started: running.started,
                completed,
            });
            status(StatusCode::ACCEPTED)
        }
        _ => status(StatusCode::NOT_FOUND),
    }
}

async fn next(state: &State) -> Response<Full<Bytes>> {
    state.first_poll.send_if_modified(|first| {
        let modified = first.is_none();
        first.get_or_insert_with(Instant::now);
        modified
    });
    let queued = state.queue.lock().await.recv().await;
    let Some(Queued { request_id, trace_id, event, completed }) = queued else {
        return status(StatusCode::INTERNAL_SERVER_ERROR);
    };
    let deadline = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() + TIME_LEFT;
    let arn = format!("arn:aws:lambda:eu-north-1:123456789012:function:{FUNCTION_NAME}");
    let running = Running { trace_id: trace_id.clone(), started: Instant::now(), completed };
    lock(&state.running).insert(request_id.clone(), running);
    Response::builder()
        .header("content-type", "application/json")
        .header("Lambda-Runtime-Aws-Request-Id", request_id)
        .header("Lambda-Runtime-Deadline-Ms", deadline.as_millis().to_string())
        .header("Lambda-Runtime-Invoked-Function-Arn", arn)
        .header("Lambda-Runtime-Trace-Id", trace_id)
        .body(Full::new(event))
        .unwrap()
}

async fn read(request: Request<Incoming>) -> Option<Bytes> {
    Some(request.into_body().collect().await.ok()?.to_bytes())
}

fn status(code: StatusCode) -> Response<Full<Bytes>> {
    Response::builder().status(code).body(Full::new(Bytes::from_static(b"{\"status\":\"OK\"}"))).unwrap()
}
