//! The Lambda function: logging, configuration, connections, run.

// The SDK's futures are nested deeper than the compiler's default of 128 queries.
#![recursion_limit = "256"]

use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::Arc;

use lambda_runtime::{LambdaEvent, run_concurrent, service_fn};
use superoffice_webhook::config::Config;
use superoffice_webhook::gateway::Gateway;
use superoffice_webhook::queue::{Connector, Route, SqsQueue};
use superoffice_webhook::receiver::Receiver;
use tracing_subscriber::filter::LevelFilter;

/// What Lambda sets, and its runtime does not start without.
const LAMBDAS_OWN: [&str; 4] = [
    "AWS_LAMBDA_RUNTIME_API",
    "AWS_LAMBDA_FUNCTION_NAME",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
    "AWS_LAMBDA_FUNCTION_VERSION",
];

fn main() -> ExitCode {
    let env = |name: &str| std::env::var(name).ok();
    start_logging(env("AWS_LAMBDA_LOG_LEVEL").as_deref(), env("AWS_LAMBDA_LOG_FORMAT").as_deref());
    let config = match Config::from_lookup(env) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("superoffice-webhook does not start: {error}");
            return ExitCode::FAILURE;
        }
    };
    // Also by hand, outside of Lambda, the mistakes above are what one wants to know first.
    if let Some(missing) = LAMBDAS_OWN.into_iter().find(|name| env(name).is_none()) {
        eprintln!("superoffice-webhook runs in AWS Lambda, or under `cargo lambda watch`: {missing} is not set");
        return ExitCode::FAILURE;
    }
    // Classic Lambda hands out one event at a time, and one thread starts faster; a managed instance hands out more.
    let concurrent = env("AWS_LAMBDA_MAX_CONCURRENCY").and_then(|n| n.parse::<u32>().ok()).is_some_and(|n| n > 1);
    let mut builder = if concurrent {
        tokio::runtime::Builder::new_multi_thread()
    } else {
        tokio::runtime::Builder::new_current_thread()
    };
    let result = match builder.enable_all().build() {
        // As a task of its own, because each wake-up of the future that is blocked on is a system call.
        Ok(runtime) => runtime.block_on(async { tokio::spawn(run(config)).await? }),
        Err(error) => Err(error.into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "the Lambda runtime has ended");
            ExitCode::FAILURE
        }
    }
}

async fn run(config: Config) -> Result<(), lambda_http::Error> {
    let connector = Connector::load(&config.queue, config.fallback_queue.is_some()).await;
    let fallback = config.fallback_queue.as_ref().map(|url| connector.queue(url));
    let route = |queue: SqsQueue| Route { queue, fallback: fallback.clone() };
    let receiver = Receiver {
        verifier: config.verifier,
        forward: config.forward,
        format: config.format,
        events: route(connector.queue(&config.queue)),
        quarantine: config.quarantine_queue.as_ref().map(|url| route(connector.queue(url))),
    };
    receiver.events.queue.warm_up().await;
    let gateway = Gateway::new(receiver);
    run_concurrent(service_fn(move |event: LambdaEvent<_>| Arc::clone(&gateway).invoke(event))).await
}

/// Diagnostics go to standard error, as Lambda's logging controls say; standard output has the deliveries. Nothing below
/// `INFO` is compiled in.
fn start_logging(level: Option<&str>, format: Option<&str>) {
    let level = match level.map(str::to_ascii_uppercase).as_deref() {
        Some("WARN") => LevelFilter::WARN,
        Some("ERROR" | "FATAL") => LevelFilter::ERROR,
        _ => LevelFilter::INFO,
    };
    let logs = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_target(false)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    if format.is_some_and(|format| format.eq_ignore_ascii_case("json")) {
        logs.json().flatten_event(true).init();
    } else {
        logs.init();
    }
    // The default hook prints the panic's message, which can quote what was being handled.
    std::panic::set_hook(Box::new(|panic| {
        let location = panic.location().map(ToString::to_string);
        tracing::error!(location, "panic");
    }));
}
