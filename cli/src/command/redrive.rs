//! `redrive`: forwards the quarantined messages that now parse.
//!
//! Each message takes the path of a delivery: its signature is verified again, and it leaves quarantine only after a
//! queue has accepted its event. However a run ends, no event is lost. At worst, an event is queued twice, with the
//! same `EventId`.

mod quarantine;

use std::collections::HashSet;
use std::io::Write;

use aws_sdk_sqs::types::Message;
use superoffice_webhook::function::{
    Config, DeliveryRecord, HandleError, Handler, Outcome, Queue, QueueError, SqsClients, SqsQueue, WithFallback,
};
use superoffice_webhook::message::QueueMessage;
use superoffice_webhook::{WebhookEvent, decode_quarantined_body};

use crate::environment::{self, AWS, FUNCTION};
use crate::exit::{CommandResult, Failure, Status};
use crate::interrupt::{Interrupt, interrupted};
use crate::output::{Output, message};
use quarantine::{InFlight, Quarantine, QuarantineQueue, SqsQuarantine};

/// Forward quarantined messages that can be parsed
///
/// The other messages stay in quarantine. The environment is the function's. Ctrl-C ends the run after the current
/// message. The exit status is 0 if the end of the queue was reached; messages may remain.
#[derive(Debug, clap::Args)]
#[command(after_long_help = environment::help(&[&FUNCTION, &AWS]))]
pub(crate) struct Redrive {
    #[command(flatten)]
    options: Options,
}

/// The reason why a run ended without an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// No message is visible.
    Queue,
    /// SIGINT or SIGTERM. The remaining messages stay in quarantine.
    Interrupt,
    /// Nobody reads the report of a dry run.
    Reader,
}

impl End {
    fn status(self, options: Options) -> Status {
        match self {
            Self::Queue => Status::Well,
            Self::Reader => Status::NeedsAttention,
            Self::Interrupt => interrupted(&options.continuation()),
        }
    }
}

#[derive(Clone, Copy, Debug, Default, clap::Args)]
struct Options {
    /// Report the result for each message, and change nothing
    ///
    /// SQS returns only the first ten messages of a FIFO quarantine queue.
    #[arg(long)]
    dry_run: bool,
    /// Delete registration probes, and events that FORWARD_EVENTS does not match
    ///
    /// The function acknowledges and drops such events.
    #[arg(long)]
    delete_ignored: bool,
}

impl Options {
    /// Returns the command that continues.
    fn continuation(self) -> String {
        let options = [(self.dry_run, " --dry-run"), (self.delete_ignored, " --delete-ignored")];
        "redrive".to_owned()
            + &options.into_iter().filter_map(|(is_set, name)| is_set.then_some(name)).collect::<String>()
    }
}

impl Redrive {
    pub(crate) async fn run(self, output: &mut Output<impl Write>) -> CommandResult {
        let (config, quarantine_url) = environment::read(|env| {
            let config = Config::read(env);
            env.required("QUARANTINE_QUEUE_URL");
            let config = config?;
            config.quarantine_queue.clone().map(|quarantine| (config, quarantine))
        })?;
        let clients = SqsClients::load(&config).await;
        let queues = clients.with_fallback(&config.queue, config.fallback_queue.as_ref());
        let destination = |queue| if self.options.dry_run { Destination::DryRun } else { Destination::Queue(queue) };
        let handler = Handler {
            verifier: config.verifier,
            filter: config.filter,
            format: config.format,
            events: WithFallback::new(destination(queues.primary), queues.fallback.map(destination)),
            // A message that is still malformed stays where it is.
            quarantine: None,
        };
        let interrupt = Interrupt::listen()?;
        let is_fifo = quarantine_url.is_fifo();
        let quarantine = Quarantine::new(SqsQuarantine::new(&clients.client(&quarantine_url), quarantine_url));
        let mut run =
            Run { options: self.options, is_fifo, handler, output, seen: HashSet::new(), summary: Summary::default() };
        let end = run.all(&quarantine, || interrupt.is_requested()).await;
        quarantine.release().await;
        if !matches!(end, Ok(End::Reader)) {
            message(run.summary.report(self.options.dry_run));
        }
        Ok(end?.status(self.options))
    }
}

/// The destination of events: a queue, or in a dry run none.
#[derive(Clone)]
enum Destination {
    Queue(SqsQueue),
    DryRun,
}

impl Queue for Destination {
    async fn send(&self, message: &QueueMessage, trace_header: Option<&str>) -> Result<String, QueueError> {
        match self {
            Self::Queue(queue) => queue.send(message, trace_header).await,
            Self::DryRun => Ok(String::new()),
        }
    }
}

/// One pass through the quarantine queue.
struct Run<'a, D, W> {
    options: Options,
    is_fifo: bool,
    handler: Handler<D>,
    /// The report, a line for each message.
    output: &'a mut Output<W>,
    /// Ids of the messages that were examined or requeued.
    seen: HashSet<String>,
    summary: Summary,
}

impl<D: Queue, W: Write> Run<'_, D, W> {
    /// Redrives all messages, until none is visible. A message that was kept long ago may be visible, and received,
    /// again.
    async fn all<Q: QuarantineQueue>(
        &mut self,
        quarantine: &Quarantine<Q>,
        is_interrupted: impl Fn() -> bool,
    ) -> Result<End, Failure> {
        loop {
            let messages = quarantine.receive().await?;
            if messages.is_empty() {
                return Ok(End::Queue);
            }
            for received in messages {
                if is_interrupted() {
                    return Ok(End::Interrupt);
                }
                if self.options.dry_run && !self.output.is_open() {
                    return Ok(End::Reader);
                }
                if self.seen.insert(received.id().to_owned()) {
                    self.redrive(received).await?;
                }
            }
        }
    }

    /// Redrives one message.
    async fn redrive<Q: QuarantineQueue>(&mut self, message: InFlight<'_, Q>) -> Result<(), Failure> {
        let id = message.id().to_owned();
        let decision = self.decide(message.message()).await;
        let report = decision.report(&id, self.options.dry_run);
        match decision {
            Decision::Forward { .. } | Decision::Delete => {
                if !self.options.dry_run {
                    let deleted = message.delete().await;
                    deleted.map_err(|error| format!("{report}, but the message is still in quarantine: {error}"))?;
                }
            }
            Decision::Keep(_) => {
                // While it is hidden, SQS returns no later message of a FIFO queue.
                if self.is_fifo && !self.options.dry_run {
                    self.seen.insert(message.requeue().await?);
                }
            }
            Decision::Stop(_) => return Err(report.into()),
        }
        self.summary.count(&decision);
        self.output.line(report);
        Ok(())
    }

    /// Verifies a message's body, and routes it as the function does.
    async fn decide(&self, message: &Message) -> Decision {
        let attribute = |name: &str| message.message_attributes()?.get(name)?.string_value();
        let body = match decode_quarantined_body(message.body().unwrap_or_default(), attribute("Encoding")) {
            Ok(body) => body,
            Err(error) => return Decision::Keep(error.to_string()),
        };
        match self.handler.verifier.verify_message(&body, attribute("Signature")) {
            Ok(body) => {
                let result = self.handler.route(body, None, &mut DeliveryRecord::default()).await;
                Decision::for_result(result, self.options.delete_ignored)
            }
            Err(rejection) => Decision::Keep(match WebhookEvent::parse(&body) {
                // A malformed body may name no tenant. Then no secret can be derived, and the signature may be valid.
                Err(reason) => reason.to_string(),
                Ok(_) => rejection.to_string(),
            }),
        }
    }
}

/// The next step for a message.
#[derive(Debug, PartialEq, Eq)]
enum Decision {
    /// A queue has accepted the event. Delete the message.
    Forward { event_id: String, message_id: String },
    /// The event needs no queue. Delete the message.
    Delete,
    /// Leave the message in quarantine, for this reason.
    Keep(String),
    /// Leave the message and all others in quarantine: no queue accepts events, for this reason.
    Stop(String),
}

impl Decision {
    fn for_result(result: Result<Outcome, HandleError>, delete_ignored: bool) -> Self {
        match result {
            Ok(Outcome::Forwarded { event_id, message_id }) => Self::Forward { event_id, message_id },
            Ok(Outcome::Test { .. } | Outcome::Ignored { .. }) if delete_ignored => Self::Delete,
            Ok(Outcome::Test { .. } | Outcome::Ignored { .. } | Outcome::Quarantined { .. }) => {
                Self::Keep("not to be forwarded".into())
            }
            Err(HandleError::Malformed(reason)) => Self::Keep(reason.to_string()),
            Err(error @ HandleError::NotEnqueued(_)) => Self::Stop(error.to_string()),
            Err(error) => Self::Keep(error.to_string()),
        }
    }

    /// Returns the line about the message with this id.
    fn report(&self, id: &str, dry_run: bool) -> String {
        match self {
            Self::Forward { event_id, .. } if dry_run => format!("{id} would be forwarded: event {event_id}"),
            Self::Forward { event_id, message_id } => format!("{id} forwarded: event {event_id}, message {message_id}"),
            Self::Delete if dry_run => format!("{id} would be deleted: not to be forwarded"),
            Self::Delete => format!("{id} deleted: not to be forwarded"),
            Self::Keep(reason) => format!("{id} kept: {reason}"),
            Self::Stop(reason) => {
                format!("no queue accepts events ({reason}); the remaining messages stay in quarantine")
            }
        }
    }
}

/// The number of messages by decision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Summary {
    forwarded: usize,
    deleted: usize,
    kept: usize,
}

impl Summary {
    fn count(&mut self, decision: &Decision) {
        match decision {
            Decision::Forward { .. } => self.forwarded += 1,
            Decision::Delete => self.deleted += 1,
            Decision::Keep(_) => self.kept += 1,
            Decision::Stop(_) => {}
        }
    }

    /// Returns the summary.
    fn report(self, dry_run: bool) -> String {
        let Self { forwarded, deleted, kept } = self;
        let verb = if dry_run { "would be " } else { "" };
        format!("{forwarded} {verb}forwarded, {deleted} {verb}deleted, {kept} kept")
    }
}

#[cfg(test)]
mod tests;
