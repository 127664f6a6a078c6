//! The function in this process, with queues that record messages instead of SQS.

use std::sync::{Arc, Mutex};
use std::time::Duration;
use std::{mem, thread};

use lambda_runtime::{Context, LambdaEvent};
use serde_json::Value;
use superoffice_webhook::function::{EventFilter, Handler, LambdaAdapter, Queue, QueueError, WithFallback};
use superoffice_webhook::message::{MessageFormat, QueueMessage};
use superoffice_webhook::{Secret, Verifier};

use crate::lock;
use crate::runtime_api::HttpResponse;

/// The function in this process. It has a queue for events, a quarantine queue, and no fallback.
pub struct Function {
    adapter: Arc<LambdaAdapter<RecordingQueue>>,
    sent: Arc<Mutex<Vec<SentMessage>>>,
}

impl Function {
    /// The secret of the function.
    pub const SECRET: &str = "s3cret";

    /// The X-Ray header of every invocation.
    pub const TRACE_HEADER: &str = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1";

    /// Creates a function with the default configuration.
    #[expect(clippy::new_without_default, reason = "consistent with `with`")]
    pub fn new() -> Self {
        Self::with(|_| {})
    }

    /// Creates a function with another configuration.
    pub fn with(configure: impl FnOnce(&mut Handler<RecordingQueue>)) -> Self {
        let sent = Arc::default();
        let queue = |name| WithFallback::new(RecordingQueue { name, failure: None, sent: Arc::clone(&sent) }, None);
        let mut handler = Handler {
            verifier: Verifier::new(Secret::new(Self::SECRET).unwrap()),
            filter: EventFilter::default(),
            format: MessageFormat::default(),
            events: queue("events"),
            quarantine: Some(queue("quarantine")),
        };
        configure(&mut handler);
        Self { adapter: LambdaAdapter::new(handler), sent }
    }

    /// Invokes the function with a Lambda event.
    pub async fn invoke(&self, event: &Value) -> Delivery {
        let mut context = Context::default();
        context.request_id = "request-1".into();
        context.xray_trace_id = Some(Self::TRACE_HEADER.into());
        let event = LambdaEvent::new(serde_json::value::to_raw_value(event).unwrap(), context);
        let (response, line) = self.adapter.respond(event).await;
        assert!(!line.contains('\n'), "{line}");
        Delivery {
            response: HttpResponse::from_json(&serde_json::to_value(response).unwrap()),
            log: serde_json::from_str(&line).unwrap(),
            sent: mem::take(&mut *lock(&self.sent)),
        }
    }
}

/// The result of one invocation.
#[derive(Debug)]
pub struct Delivery {
    /// The response.
    pub response: HttpResponse,
    /// The log line.
    pub log: Value,
    /// The messages in all queues.
    pub sent: Vec<SentMessage>,
}

impl Delivery {
    /// Returns the only sent message.
    #[track_caller]
    pub fn message(&self) -> &SentMessage {
        let [message] = self.sent.as_slice() else { panic!("{} messages, expected 1: {}", self.sent.len(), self.log) };
        message
    }
}

/// A message in a [`RecordingQueue`].
#[derive(Clone, Debug)]
pub struct SentMessage {
    /// The name of the queue.
    pub queue: &'static str,
    /// The message.
    pub message: QueueMessage,
    /// The X-Ray header.
    pub trace_header: Option<String>,
}

impl SentMessage {
    /// Returns the value of a message attribute.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        attribute(&self.message, name)
    }
}

/// Returns the value of a message attribute.
pub(crate) fn attribute<'m>(message: &'m QueueMessage, name: &str) -> Option<&'m str> {
    message.attributes.iter().find(|attribute| attribute.name == name).map(|attribute| attribute.value.as_str())
}

/// A queue in memory. Its message ids are `message-in-` and its name.
#[derive(Clone)]
pub struct RecordingQueue {
    name: &'static str,
    failure: Option<Failure>,
    sent: Arc<Mutex<Vec<SentMessage>>>,
}

#[derive(Clone)]
enum Failure {
    Error(QueueError),
    Panic,
}

impl RecordingQueue {
    /// Returns another working queue of the same function.
    #[must_use]
    pub fn another(&self, name: &'static str) -> Self {
        Self { name, failure: None, ..self.clone() }
    }

    /// Makes the queue reject every message.
    pub fn fail(&mut self, error: QueueError) {
        self.failure = Some(Failure::Error(error));
    }

    /// Makes the queue panic at every message.
    pub fn panic(&mut self) {
        self.failure = Some(Failure::Panic);
    }
}

impl Queue for RecordingQueue {
    async fn send(&self, message: &QueueMessage, trace_header: Option<&str>) -> Result<String, QueueError> {
        // The log line omits a latency of zero.
        thread::sleep(Duration::from_micros(1));
        match &self.failure {
            Some(Failure::Error(error)) => return Err(error.clone()),
            Some(Failure::Panic) => panic!("the queue panics"),
            None => {}
        }
        let trace_header = trace_header.map(str::to_owned);
        lock(&self.sent).push(SentMessage { queue: self.name, message: message.clone(), trace_header });
        Ok(format!("message-in-{}", self.name))
    }
}
