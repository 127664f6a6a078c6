//! The Lambda function: configuration, connections, run.

// The SDK's futures are nested deeper than the compiler's default limit of 128 queries.
#![recursion_limit = "256"]

use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use lambda_runtime::{LambdaEvent, service_fn};
use recovery::logs::Logs;
use serde_json::Value;
use superoffice_webhook::log_line;
use superoffice_webhook_watchdog::config::Config;
use superoffice_webhook_watchdog::run::{Invocation, Watchdog};
use tokio::time::Instant;

/// A run stops this long before the end of the invocation, so that its line is written.
const RESERVE: Duration = Duration::from_secs(5);

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
    let (tenants, config) = Config::from_lookup(&|name| std::env::var(name).ok())?;
    let watchdog = Watchdog::new(config, tenants, Logs::load().await?);
    lambda_runtime::run(service_fn(async |event: LambdaEvent<Value>| invoke(&watchdog, event).await)).await
}

/// Runs once, whatever the event. A run that did not complete is an error of the invocation, too.
async fn invoke(watchdog: &Watchdog, event: LambdaEvent<Value>) -> Result<Value, lambda_runtime::Error> {
    let context = &event.context;
    let left = context.deadline().duration_since(SystemTime::now()).unwrap_or_default();
    let invocation = Invocation { function_name: &context.env_config.function_name, request_id: &context.request_id };
    let report = watchdog.run(Instant::now() + left.saturating_sub(RESERVE), invocation, log_line::write).await;
    match &report.error {
        Some(error) => Err(error.clone().into()),
        None => Ok(serde_json::to_value(report)?),
    }
}
