//! A Lambda function for an SQS event source mapping with `ReportBatchItemFailures`, on the queue that
//! superoffice-webhook fills.
//!
//! A template to copy: your own work belongs in `handler.rs`, and your table in `idempotency.rs`.
//!
//! `SUPEROFFICE_WEBHOOK_SECRET` or `SUPEROFFICE_TENANT_MASTER_SECRET`, if set, makes the function verify every
//! signature again. `FAIL_EVENT_ID` is the id of an event that fails on purpose, to show the effect on it and on later
//! messages of its group.

mod batch;
mod config;
mod consumer;
mod handler;
mod idempotency;

use std::time::SystemTime;

use aws_lambda_events::sqs::SqsEvent;
use lambda_runtime::{Error, LambdaEvent, run, service_fn};

use crate::batch::process_batch;
use crate::consumer::Consumer;
use crate::handler::ContactHandler;
use crate::idempotency::{InMemoryStore, Lease};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let env = |name: &str| std::env::var(name).ok();
    let consumer = Consumer {
        verifier: config::verifier(env)?,
        store: InMemoryStore::default(),
        handler: ContactHandler { fail_event_id: env("FAIL_EVENT_ID") },
    };
    let consumer = &consumer;
    run(service_fn(async |event: LambdaEvent<SqsEvent>| {
        let lease = Lease::of_invocation(SystemTime::now(), event.context.deadline());
        Ok::<_, Error>(process_batch(&event.payload, async |message| consumer.process(message, lease).await).await)
    }))
    .await
}
