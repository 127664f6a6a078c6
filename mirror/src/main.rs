//! The Lambda function: configuration, connections, batches.

// The SDK's futures are nested deeper than the compiler's default limit of 128 queries.
#![recursion_limit = "256"]

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use lambda_runtime::{LambdaEvent, service_fn};
use serde_json::Value;
use superoffice_client::Limits;
use superoffice_consumer::Batch;
use superoffice_webhook::{Verifier, log_line};
use superoffice_webhook_mirror::audit::{self, Request, Settings};
use superoffice_webhook_mirror::batch;
use superoffice_webhook_mirror::config::Config;
use superoffice_webhook_mirror::dynamodb::DynamoTable;
use superoffice_webhook_mirror::telemetry::Report;
use superoffice_webhook_mirror::tenants::Clients;
use tokio::time::Instant;

/// The time before the end of the invocation at which a batch stops, so that its response is sent.
const RESERVE: Duration = Duration::from_secs(2);

/// The time before the end of the invocation at which an audit has ended: five seconds, and the time to write its line.
const AUDIT_RESERVE: Duration = Duration::from_millis(5500);

/// The limits of a call of AWS, within the time of a batch.
const AWS_LIMITS: aws_setup::Limits = aws_setup::Limits {
    connect: Duration::from_secs(2),
    attempt: Duration::from_secs(3),
    call: Duration::from_secs(8),
    attempts: 3,
};

/// The function, with its connections.
struct Mirror {
    audit: Settings,
    tenants: Clients,
    table: DynamoTable,
    verifier: Option<Verifier>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match start().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log_line::write_start_error(&error, std::env::var("AWS_LAMBDA_LOG_FORMAT").ok().as_deref());
            ExitCode::FAILURE
        }
    }
}

async fn start() -> Result<(), lambda_runtime::Error> {
    let config = Config::from_lookup(&|name| std::env::var(name).ok())?;
    let table = DynamoTable::connect(&aws_setup::load_with(AWS_LIMITS).await?, &config.table);
    let tenants = Clients::new(config.tenants, limits(), Arc::new(Timestamp::now));
    let mirror = Mirror { audit: config.audit, tenants, table, verifier: config.verifier };
    lambda_runtime::run(service_fn(async |event: LambdaEvent<Value>| invoke(&mirror, event).await)).await
}

/// Returns the limits of a call of SuperOffice. The queue repeats a failed contact.
fn limits() -> Limits {
    Limits {
        connect: Duration::from_secs(3),
        attempt: Duration::from_secs(8),
        attempts: 1,
        renews_tickets: false,
        ..Limits::default()
    }
}

/// Handles a batch of messages, or advances audits if there are no messages.
async fn invoke(mirror: &Mirror, event: LambdaEvent<Value>) -> Result<Value, lambda_runtime::Error> {
    let context = &event.context;
    let left = context.deadline().duration_since(SystemTime::now()).unwrap_or_default();
    let end = Instant::now() + left;
    let (response, report) = if event.payload.get("Records").is_some() {
        let batch: Batch = serde_json::from_value(event.payload)?;
        let deadline = before(end, RESERVE);
        let (response, report) =
            batch::handle(&mirror.tenants, &mirror.table, mirror.verifier.as_ref(), &batch, deadline).await;
        (serde_json::to_value(response)?, report)
    } else {
        let request = Request::parse(&event.payload)?;
        (Value::Null, advance_audits(mirror, request, before(end, AUDIT_RESERVE)).await?)
    };
    log_line::write(report.line(&context.env_config.function_name, &context.request_id, Timestamp::now()));
    Ok(response)
}

async fn advance_audits(mirror: &Mirror, request: Request, deadline: Instant) -> Result<Report, lambda_runtime::Error> {
    let (tenants, table) = (&mirror.tenants, &mirror.table);
    match request {
        Request::Scheduled => Ok(audit::run(tenants, table, &mirror.audit, deadline).await),
        Request::Begin { tenant, may_remove } => {
            let report = audit::begin(tenants, table, &mirror.audit, &tenant, may_remove, deadline).await;
            Ok(report.map_err(|failure| format!("the audit does not begin: {failure}"))?)
        }
    }
}

/// Returns the time `reserve` before `end`, but not a time in the past.
fn before(end: Instant, reserve: Duration) -> Instant {
    end.checked_sub(reserve).unwrap_or(end).max(Instant::now())
}
