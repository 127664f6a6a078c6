//! The Lambda Runtime API: hands queued events to whoever polls, one or many at once, and gives back each answer.

use crate::{
    PATIENCE,
    http::{Handler, Server},
    lock,
};
use bytes::Bytes;
use futures_util::FutureExt;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, body::Incoming};
use serde_json::Value;
use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::timeout,
};

const FUNCTION_NAME: &str = "superoffice-webhook";
const RUNTIME: &str = "/2018-06-01/runtime/";

/// What a function said of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It posted a response: its bytes.
    Response(Bytes),
    /// It posted an error: its bytes.
    Error(Bytes),
}

/// An HTTP response as a function gives it to API Gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u64,
    /// The headers, their names in lower case.
    pub headers: BTreeMap<String, String>,
    /// The body.
    pub body: String,
}

/// An event that was answered.
#[derive(Clone, Debug)]
pub struct Answered {
    /// `Lambda-Runtime-Aws-Request-Id`.
    pub request_id: String,
    /// `Lambda-Runtime-Trace-Id`.
    pub trace_id: String,
    /// What the function said.
    pub answer: Answer,
    /// When the event was handed to the function.
    pub handed: Instant,
    /// When the answer had come in whole.
    pub answered: Instant,
}

impl Answered {
    /// How long the function took.
    pub fn took(&self) -> Duration {
        self.answered - self.handed
    }

    /// The HTTP response, of payload format 1.0 or 2.0.
    ///
    /// # Panics
    /// When the function posted an error, or no such response.
    #[track_caller]
    pub fn response(&self) -> Response {
        let Answer::Response(bytes) = &self.answer else { panic!("the function failed: {:?}", self.answer) };
        let json: Value = serde_json::from_slice(bytes).expect("a response is JSON");
        let mut headers = BTreeMap::new();
        for (name, value) in json["headers"].as_object().into_iter().flatten() {
            headers.insert(name.to_lowercase(), value.as_str().unwrap_or_default().to_owned());
        }
        for (name, values) in json["multiValueHeaders"].as_object().into_iter().flatten() {
            let values: Vec<_> = values.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            headers.entry(name.to_lowercase()).or_insert_with(|| values.join(","));
        }
        Response {
            status: json["statusCode"].as_u64().expect("a response has a statusCode"),
            headers,
            body: json["body"].as_str().unwrap_or_default().to_owned(),
        }
    }
}

/// An event on its way, whose answer can be waited for.
pub struct Invocation {
    /// `Lambda-Runtime-Aws-Request-Id`.
    pub request_id: String,
    answered: oneshot::Receiver<Answered>,
}

impl Invocation {
    /// Waits for the answer; `None` when none came in that time.
    pub async fn answered_within(self, limit: Duration) -> Option<Answered> {
        timeout(limit, self.answered).await.ok()?.ok()
    }

    /// Waits for the answer.
    ///
    /// # Panics
    /// When none comes within [`PATIENCE`].
    pub async fn answered(self) -> Answered {
        let id = self.request_id.clone();
        self.answered_within(PATIENCE).await.unwrap_or_else(|| panic!("no answer to {id} within {PATIENCE:?}"))
    }
}

struct Queued {
    request_id: String,
    trace_id: String,
    event: Bytes,
    time_left: Duration,
    answered: oneshot::Sender<Answered>,
}

struct Handed {
    trace_id: String,
    at: Instant,
    answered: oneshot::Sender<Answered>,
}

struct State {
    /// Pollers wait for the lock, and so are served in the order in which they came.
    queue: tokio::sync::Mutex<mpsc::UnboundedReceiver<Queued>>,
    handed: Mutex<HashMap<String, Handed>>,
    first_poll: watch::Sender<Option<Instant>>,
    init_errors: Mutex<Vec<Bytes>>,
}

/// A Lambda Runtime API on loopback.
pub struct Lambda {
    server: Server,
    state: Arc<State>,
    queue: mpsc::UnboundedSender<Queued>,
    invocations: AtomicU64,
    one_trace: AtomicBool,
}

impl Lambda {
    /// Starts it on a free port.
    pub async fn start() -> Self {
        let (queue, receiver) = mpsc::unbounded_channel();
        let state = Arc::new(State {
            queue: tokio::sync::Mutex::new(receiver),
            handed: Mutex::default(),
            first_poll: watch::Sender::new(None),
            init_errors: Mutex::default(),
        });
        let shared = Arc::clone(&state);
        let handler: Handler = Arc::new(move |_, request| answer(Arc::clone(&shared), request).map(Some).boxed());
        let server = Server::start(None, handler).await;
        Self { server, state, queue, invocations: AtomicU64::new(0), one_trace: AtomicBool::new(false) }
    }

    /// The variables by which Lambda tells a function where and what it is.
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

    /// Gives every event from now on the same trace id. `lambda_runtime` puts it into the environment, and glibc keeps
    /// every value that it has ever had: about 150 bytes an event.
    pub fn one_trace(&self) {
        self.one_trace.store(true, Ordering::Relaxed);
    }

    /// Queues an event, to be handed to the next poll, with thirty seconds to its deadline.
    pub fn send(&self, event: impl Into<Bytes>) -> Invocation {
        self.send_with(event, Duration::from_secs(30))
    }

    /// Queues an event whose deadline is `time_left` after it is handed out.
    pub fn send_with(&self, event: impl Into<Bytes>, time_left: Duration) -> Invocation {
        let number = self.invocations.fetch_add(1, Ordering::Relaxed) + 1;
        let request_id = format!("00000000-0000-4000-8000-{number:012x}");
        let trace = if self.one_trace.load(Ordering::Relaxed) { 1 } else { number };
        let trace_id = format!("Root=1-68c9568a-{trace:024x};Parent={trace:016x};Sampled=1");
        let (answered, receiver) = oneshot::channel();
        let event = event.into();
        let queued = Queued { request_id: request_id.clone(), trace_id, event, time_left, answered };
        assert!(self.queue.send(queued).is_ok(), "the server has ended");
        Invocation { request_id, answered: receiver }
    }

    /// Queues an event and waits for its answer.
    ///
    /// # Panics
    /// When no answer comes within [`PATIENCE`].
    pub async fn invoke(&self, event: impl Into<Bytes>) -> Answered {
        self.send(event).answered().await
    }

    /// Waits until a function has polled for an event, and says when it first did: when its init phase ended.
    ///
    /// # Panics
    /// When it does not within [`PATIENCE`].
    pub async fn first_poll(&self) -> Instant {
        let mut polled = self.state.first_poll.subscribe();
        let at = timeout(PATIENCE, polled.wait_for(Option::is_some)).await.expect("the function polls for an event");
        at.ok().and_then(|at| *at).expect("waited for")
    }

    /// Forgets the first poll, for a function that is started anew.
    pub fn forget_first_poll(&self) {
        self.state.first_poll.send_replace(None);
    }

    /// What functions posted to `/runtime/init/error`.
    pub fn init_errors(&self) -> Vec<Bytes> {
        lock(&self.state.init_errors).clone()
    }
}

async fn answer(state: Arc<State>, request: Request<Incoming>) -> hyper::Response<Full<Bytes>> {
    let path = request.uri().path().strip_prefix(RUNTIME).unwrap_or_default().to_owned();
    let parts: Vec<&str> = path.split('/').collect();
    match (request.method(), parts.as_slice()) {
        (&Method::GET, ["invocation", "next"]) => next(&state).await,
        (&Method::POST, ["invocation", id, kind @ ("response" | "error")]) => {
            let Some(bytes) = read(request).await else {
                return status(400);
            };
            let answered = Instant::now();
            let Some(handed) = lock(&state.handed).remove(*id) else {
                return status(403);
            };
            let answer = if *kind == "response" { Answer::Response(bytes) } else { Answer::Error(bytes) };
            // Nobody may be waiting for it any more.
            let _ = handed.answered.send(Answered {
                request_id: (*id).to_owned(),
                trace_id: handed.trace_id,
                answer,
                handed: handed.at,
                answered,
            });
            status(202)
        }
        (&Method::POST, ["init", "error"]) => {
            let Some(bytes) = read(request).await else {
                return status(400);
            };
            lock(&state.init_errors).push(bytes);
            status(202)
        }
        _ => status(404),
    }
}

async fn next(state: &State) -> hyper::Response<Full<Bytes>> {
    state.first_poll.send_if_modified(|first| {
        let modified = first.is_none();
        first.get_or_insert_with(Instant::now);
        modified
    });
    let queued = state.queue.lock().await.recv().await;
    let Some(Queued { request_id, trace_id, event, time_left, answered }) = queued else {
        return status(500);
    };
    let deadline = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() + time_left;
    let arn = format!("arn:aws:lambda:eu-north-1:123456789012:function:{FUNCTION_NAME}");
    let handed = Handed { trace_id: trace_id.clone(), at: Instant::now(), answered };
    lock(&state.handed).insert(request_id.clone(), handed);
    hyper::Response::builder()
        .header("content-type", "application/json")
        .header("Lambda-Runtime-Aws-Request-Id", request_id)
        .header("Lambda-Runtime-Deadline-Ms", deadline.as_millis().to_string())
        .header("Lambda-Runtime-Invoked-Function-Arn", arn)
        .header("Lambda-Runtime-Trace-Id", trace_id)
        .body(Full::new(event))
        .expect("a well-formed response")
}

async fn read(request: Request<Incoming>) -> Option<Bytes> {
    Some(request.into_body().collect().await.ok()?.to_bytes())
}

fn status(code: u16) -> hyper::Response<Full<Bytes>> {
    let mut response = hyper::Response::new(Full::new(Bytes::from_static(b"{\"status\":\"OK\"}")));
    *response.status_mut() = hyper::StatusCode::from_u16(code).expect("a status code");
    response
}
