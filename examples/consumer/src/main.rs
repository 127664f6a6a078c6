//! A Lambda function for an SQS event source mapping with `ReportBatchItemFailures`, on the queue that
//! superoffice-webhook fills.
//!
//! A template to copy: your own work belongs in `handler.rs`, and your table replaces `InMemoryStore`.
//!
//! `SUPEROFFICE_WEBHOOK_SECRET` or `SUPEROFFICE_TENANT_MASTER_SECRET`, if set, makes the function verify every
//! signature again. `FAIL_EVENT_ID` is the id of an event that fails on purpose, to show the effect on it and on later
//! messages of its group.

mod handler;

use std::time::SystemTime;

use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use superoffice_consumer::{Batch, Consumer, InMemoryStore, Lease};
use superoffice_webhook::Verifier;
use superoffice_webhook::env::Environment;

use crate::handler::ContactHandler;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let env = |name: &str| std::env::var(name).ok();
    let mut environment = Environment::new(&env);
    let verifier = Verifier::from_environment(&mut environment);
    let verifier = environment.finish(Some(verifier))?;
    let consumer = Consumer {
        verifier,
        store: InMemoryStore::default(),
        handler: ContactHandler { fail_event_id: env("FAIL_EVENT_ID") },
    };
    let consumer = &consumer;
    run(service_fn(async |event: LambdaEvent<Batch>| {
        let lease = Lease::of_invocation(SystemTime::now(), event.context.deadline());
        Ok::<_, Error>(consumer.process_batch(&event.payload, lease).await)
    }))
    .await
}
