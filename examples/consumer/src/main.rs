//! A Lambda function for an SQS event source mapping with `ReportBatchItemFailures`, on the queue that
//! superoffice-webhook fills.
//!
//! A template to copy: your own work belongs in `handler.rs`. `IDEMPOTENCY_TABLE` is the DynamoDB table of handled
//! events: a name, or the ARN of a table in another region. Without it, for a local trial, the process remembers them
//! itself. A build without the feature `dynamodb` knows no table and is quicker.
//!
//! `SUPEROFFICE_WEBHOOK_SECRET` or `SUPEROFFICE_TENANT_MASTER_SECRET`, if set, makes the function verify every
//! signature again. `FAIL_EVENT_ID` is the id of an event that fails on purpose, to show the effect on it and on later
//! messages of its group.

mod handler;

use std::time::SystemTime;

use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use superoffice_consumer::{Batch, Consumer, IdempotencyStore, InMemoryStore, Lease};
use superoffice_webhook::Verifier;
use superoffice_webhook::env::Environment;

use crate::handler::ContactHandler;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let env = |name: &str| std::env::var(name).ok();
    let mut environment = Environment::new(&env);
    let table = environment.get("IDEMPOTENCY_TABLE");
    let handler = ContactHandler { fail_event_id: environment.get("FAIL_EVENT_ID") };
    let verifier = Verifier::from_environment(&mut environment);
    let verifier = environment.finish(Some(verifier))?;
    match table {
        #[cfg(feature = "dynamodb")]
        Some(table) => {
            let mut config = aws_setup::load().await?;
            if let Some(region) = aws_setup::region_of(&table) {
                config = aws_setup::in_region(&config, region);
            }
            let client = aws_sdk_dynamodb::Client::new(&config);
            let store = superoffice_consumer::DynamoDbStore::new(client, table);
            serve(Consumer { verifier, store, handler }).await
        }
        #[cfg(not(feature = "dynamodb"))]
        Some(_) => Err("IDEMPOTENCY_TABLE needs a build with the feature `dynamodb`".into()),
        None => serve(Consumer { verifier, store: InMemoryStore::default(), handler }).await,
    }
}

async fn serve(consumer: Consumer<impl IdempotencyStore, ContactHandler>) -> Result<(), Error> {
    let consumer = &consumer;
    run(service_fn(async |event: LambdaEvent<Batch>| {
        let lease = Lease::of_invocation(SystemTime::now(), event.context.deadline());
        // The type of the future is too deep for the compiler without a box.
        Ok::<_, Error>(Box::pin(consumer.process_batch(&event.payload, lease)).await)
    }))
    .await
}
