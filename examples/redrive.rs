//! Sends what is in quarantine, and is understood by now, on to the queue for events.
//!
//! ```sh
//! cargo run --example redrive -- --dry-run
//! ```
//!
//! The environment is the function's. Every body's signature is checked again, and then the body goes the way of a
//! delivery; a message leaves quarantine only after a queue has accepted the event, and the rest stays. So whatever
//! ends a run, nothing is lost, and at worst an event is queued twice, with the same `EventId`.

use std::collections::HashSet;
use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aws_config::{BehaviorVersion, Region};
use aws_sdk_sqs::Client;
use aws_sdk_sqs::error::DisplayErrorContext;
use aws_sdk_sqs::types::Message;
use aws_smithy_http_client::Builder;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use clap::Parser;
use lambda_http::Body;
use lambda_http::http::Request;
use superoffice_webhook::config::{Config, QueueUrl};
use superoffice_webhook::delivery::quarantined_body;
use superoffice_webhook::message::QueueMessage;
use superoffice_webhook::queue::{Connector, Queue, QueueError, Route, SqsQueue};
use superoffice_webhook::receiver::{Facts, Outcome, ReceiveError, Receiver};
use superoffice_webhook::signature::SIGNATURE_HEADER;

/// For how long SQS hides a message from everybody else, in seconds. A run that is killed leaves it hidden so long.
const HIDDEN_SECONDS: i32 = 600;
/// For how long an empty queue is waited for, in seconds.
const WAIT_SECONDS: i32 = 1;

/// Sends what is in quarantine, and is understood by now, on to the queue for events. The environment is the function's
/// (SUPEROFFICE_WEBHOOK_SECRET, QUEUE_URL, QUARANTINE_QUEUE_URL, ...), and the credentials the AWS SDK's. Ctrl-C ends a
/// run after the message at hand.
#[derive(Parser)]
struct Options {
    /// Say what would become of each message, and leave all of them; of a FIFO quarantine queue, SQS shows the first ten
    #[arg(long)]
    dry_run: bool,
    /// Delete tests, and events that FORWARD_EVENTS does not match; the function would answer and forget them
    #[arg(long)]
    delete_ignored: bool,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(Options::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// The events queue, or nothing at all in a dry run.
#[derive(Clone)]
struct Target(Option<SqsQueue>);

impl Queue for Target {
    async fn send(&self, message: &QueueMessage, trace_header: Option<&str>) -> Result<String, QueueError> {
        match &self.0 {
            Some(queue) => queue.send(message, trace_header).await,
            None => Ok("none, in a dry run".into()),
        }
    }
}

/// What becomes of a message in quarantine.
enum Decision {
    /// Its event is in a queue, or need not be: it is deleted.
    Done(String),
    /// It stays.
    Leave(String),
    /// It stays, and so does everything behind it: there is no use in going on.
    Stop(String),
}

async fn run(options: Options) -> Result<bool, Box<dyn Error>> {
    let config = Config::from_lookup(|name| std::env::var(name).ok())?;
    let url = config.quarantine_queue.clone().ok_or("QUARANTINE_QUEUE_URL is not set")?;
    let connector = Connector::load(&config.queue, config.fallback_queue.is_some()).await;
    let target = |url: &QueueUrl| Target((!options.dry_run).then(|| connector.queue(url)));
    let receiver = Receiver {
        verifier: config.verifier,
        forward: config.forward,
        format: config.format,
        events: Route { queue: target(&config.queue), fallback: config.fallback_queue.as_ref().map(target) },
        // What is still not understood stays where it is.
        quarantine: None,
    };
    let interrupted = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&interrupted);
    tokio::spawn(async move {
        while tokio::signal::ctrl_c().await.is_ok() {
            flag.store(true, Ordering::Relaxed);
        }
    });
    let quarantine = Quarantine::connect(url).await;
    let mut redrive = Redrive { options, receiver, quarantine, held: Vec::new(), seen: HashSet::new() };
    let result = redrive.all(&interrupted).await;
    // Also after an error: what was looked at and not sent on is there for others again.
    redrive.quarantine.show(&redrive.held).await;
    let (done, left) = result?;
    println!(
        "{done} {}, {left} left",
        if redrive.options.dry_run { "would leave quarantine" } else { "left quarantine" }
    );
    if interrupted.load(Ordering::Relaxed) {
        println!("interrupted");
        return Ok(false);
    }
    Ok(true)
}

struct Redrive {
    options: Options,
    receiver: Receiver<Target>,
    quarantine: Quarantine,
    /// Receipt handles of the messages that stay.
    held: Vec<String>,
    /// Ids of the messages that were looked at, or were put behind the others.
    seen: HashSet<String>,
}

impl Redrive {
    /// Goes through the queue once; gives the number of messages done and left.
    async fn all(&mut self, interrupted: &AtomicBool) -> Result<(usize, usize), Box<dyn Error>> {
        let (mut done, mut left) = (0, 0);
        let mut through = false;
        while !through && !interrupted.load(Ordering::Relaxed) {
            let messages = self.quarantine.receive().await?;
            through = messages.is_empty();
            let mut messages = messages.into_iter();
            for message in messages.by_ref() {
                let id = message.message_id().unwrap_or_default().to_owned();
                let handle = message.receipt_handle().unwrap_or_default().to_owned();
                // Held until it is known to be gone.
                self.held.push(handle.clone());
                if !self.seen.insert(id.clone()) {
                    // One that comes again stands behind all others, or was hidden for too long.
                    through = true;
                    continue;
                }
                let stop = match self.decide(&message).await {
                    Decision::Done(what) => {
                        println!("{id} {what}");
                        done += 1;
                        if !self.options.dry_run {
                            self.quarantine.delete(&handle).await?;
                            self.held.pop();
                        }
                        false
                    }
                    Decision::Leave(why) => {
                        println!("{id} stays: {why}");
                        left += 1;
                        if self.quarantine.url.is_fifo() && !self.options.dry_run {
                            // SQS shows nothing behind it as long as it is hidden.
                            self.seen.insert(self.quarantine.put_behind(&message).await?);
                            self.held.pop();
                        }
                        false
                    }
                    Decision::Stop(why) => {
                        println!("{id} stays: {why}");
                        left += 1;
                        true
                    }
                };
                if stop || interrupted.load(Ordering::Relaxed) {
                    self.held.extend(messages.filter_map(|message| message.receipt_handle));
                    if stop {
                        return Err("no queue takes events; the rest stays in quarantine".into());
                    }
                    break;
                }
            }
        }
        Ok((done, left))
    }

    /// Sends a message's body the way of a delivery.
    async fn decide(&self, message: &Message) -> Decision {
        let attribute = |name: &str| message.message_attributes()?.get(name)?.string_value();
        let body = match quarantined_body(message.body().unwrap_or_default(), attribute("Encoding")) {
            Ok(body) => body,
            Err(error) => return Decision::Leave(error.to_string()),
        };
        let mut request = Request::post("/");
        if let Some(signature) = attribute("Signature") {
            request = request.header(SIGNATURE_HEADER, signature);
        }
        let request = match request.body(Body::Binary(body)) {
            Ok(request) => request,
            Err(error) => return Decision::Leave(error.to_string()),
        };
        match self.receiver.receive(request, None, &mut Facts::default()).await {
            Ok(Outcome::Forwarded { event_id, message_id }) => {
                Decision::Done(format!("forwarded: event {event_id}, message {message_id}"))
            }
            Ok(Outcome::Test { .. } | Outcome::Ignored { .. }) if self.options.delete_ignored => {
                Decision::Done("deleted: not to be forwarded".into())
            }
            Ok(_) => Decision::Leave("not to be forwarded".into()),
            Err(ReceiveError::NotUnderstood(reason)) => Decision::Leave(reason.to_string()),
            Err(error @ ReceiveError::NotAccepted(_)) => Decision::Stop(error.to_string()),
            Err(error) => Decision::Leave(error.to_string()),
        }
    }
}

/// The quarantine queue.
struct Quarantine {
    client: Client,
    url: QueueUrl,
}

impl Quarantine {
    async fn connect(url: QueueUrl) -> Self {
        let config = aws_config::defaults(BehaviorVersion::v2026_01_12())
            .region(Region::new(url.region().to_owned()))
            .http_client(Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https())
            .load()
            .await;
        Self { client: Client::new(&config), url }
    }

    async fn receive(&self) -> Result<Vec<Message>, Box<dyn Error>> {
        let received = self
            .client
            .receive_message()
            .queue_url(self.url.as_str())
            .max_number_of_messages(10)
            .message_attribute_names("All")
            .visibility_timeout(HIDDEN_SECONDS)
            .wait_time_seconds(WAIT_SECONDS)
            .send()
            .await
            .map_err(said)?;
        Ok(received.messages.unwrap_or_default())
    }

    async fn delete(&self, handle: &str) -> Result<(), Box<dyn Error>> {
        self.client.delete_message().queue_url(self.url.as_str()).receipt_handle(handle).send().await.map_err(said)?;
        Ok(())
    }

    /// Puts a message of a FIFO queue behind all others, and gives its new id. It is deleted in front only when it is
    /// there behind; its own deduplication id would not let it in again.
    async fn put_behind(&self, message: &Message) -> Result<String, Box<dyn Error>> {
        let sent = self
            .client
            .send_message()
            .queue_url(self.url.as_str())
            .message_body(message.body().unwrap_or_default())
            .set_message_attributes(message.message_attributes().cloned())
            .message_group_id("quarantine")
            .message_deduplication_id(format!("redrive/{}", message.message_id().unwrap_or_default()))
            .send()
            .await
            .map_err(said)?;
        self.delete(message.receipt_handle().unwrap_or_default()).await?;
        sent.message_id.ok_or_else(|| "the queue's answer makes no sense".into())
    }

    /// Makes messages visible again.
    async fn show(&self, handles: &[String]) {
        for handle in handles {
            let shown = self
                .client
                .change_message_visibility()
                .queue_url(self.url.as_str())
                .receipt_handle(handle)
                .visibility_timeout(0)
                .send()
                .await;
            if let Err(error) = shown {
                eprintln!("a message stays hidden for {HIDDEN_SECONDS} s at most: {}", DisplayErrorContext(error));
            }
        }
    }
}

/// An error of the SDK with its causes.
fn said<E: Error + Send + Sync + 'static, R: std::fmt::Debug + Send + Sync + 'static>(
    error: aws_sdk_sqs::error::SdkError<E, R>,
) -> Box<dyn Error> {
    DisplayErrorContext(error).to_string().into()
}
