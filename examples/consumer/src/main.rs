//! A Lambda function for an SQS event source mapping with `ReportBatchItemFailures`, on the queue that
//! superoffice-webhook fills. A template: `handler.rs` is where your own work goes, `journal.rs` where your table goes.
//!
//! `SUPEROFFICE_WEBHOOK_SECRET`, when set, makes it check every signature again. `FAIL_EVENT_ID` names an event that
//! fails, to see what becomes of it and of those behind it.

mod batch;
mod consumer;
mod handler;
mod journal;

use std::time::Duration;

use aws_lambda_events::sqs::SqsEvent;
use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use superoffice_webhook::signature::{Secret, Verifier};

use crate::consumer::Consumer;
use crate::handler::Contacts;
use crate::journal::InMemory;

/// Longer than an invocation can last, so that an event that somebody still works on is not begun again.
const LEASE: Duration = Duration::from_secs(15 * 60);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let env = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let consumer = Consumer {
        verifier: env("SUPEROFFICE_WEBHOOK_SECRET").map(Secret::new).transpose()?.map(Verifier::new),
        journal: InMemory::new(LEASE),
        handler: Contacts { fails: env("FAIL_EVENT_ID") },
    };
    let consumer = &consumer;
    run(service_fn(async |event: LambdaEvent<SqsEvent>| {
        Ok::<_, Error>(batch::answer(&event.payload, async |message| consumer.take(message).await).await)
    }))
    .await
}
