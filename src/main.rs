//! The Lambda function's startup: logging, configuration, connections.

// The SDK's futures are nested deeper than the compiler's default limit of 128.
#![recursion_limit = "256"]

use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::Arc;

use lambda_runtime::{LambdaEvent, run_concurrent, service_fn};
use superoffice_webhook::function::{Config, Handler, LambdaAdapter, QueueUrl, SqsClients};
use superoffice_webhook::log_line;
use tracing_subscriber::filter::LevelFilter;

/// The variables that the Lambda runtime requires.
const REQUIRED_LAMBDA_VARS: [&str; 4] = [
    "AWS_LAMBDA_RUNTIME_API",
    "AWS_LAMBDA_FUNCTION_NAME",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
    "AWS_LAMBDA_FUNCTION_VERSION",
];

fn main() -> ExitCode {
    let env = |name: &str| std::env::var(name).ok();
    let logs_json = env("AWS_LAMBDA_LOG_FORMAT").is_some_and(|format| format.eq_ignore_ascii_case("json"));
    start_logging(env("AWS_LAMBDA_LOG_LEVEL").as_deref(), logs_json);
    let fail = |message: String| {
        log_line::write_start_error(&message, env("AWS_LAMBDA_LOG_FORMAT").as_deref());
        ExitCode::FAILURE
    };
    let config = match Config::from_lookup(env) {
        Ok(config) => config,
        Err(error) => return fail(format!("superoffice-webhook cannot start: {error}")),
    };
    // Checked after the configuration, so that configuration errors are reported first, even outside Lambda.
    if let Some(missing) = REQUIRED_LAMBDA_VARS.into_iter().find(|name| env(name).is_none()) {
        return fail(format!(
            "superoffice-webhook runs in AWS Lambda or under `cargo lambda watch`: {missing} is not set"
        ));
    }
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "superoffice-webhook starts");
    // Standard Lambda sends one event at a time, and a single thread starts faster. A managed instance sends several.
    let is_concurrent = env("AWS_LAMBDA_MAX_CONCURRENCY").and_then(|n| n.parse::<u32>().ok()).is_some_and(|n| n > 1);
    let mut builder = if is_concurrent {
        tokio::runtime::Builder::new_multi_thread()
    } else {
        tokio::runtime::Builder::new_current_thread()
    };
    let result = match builder.enable_all().build() {
        // `run` is spawned, because each wake-up of a future that `block_on` polls itself costs a system call.
        Ok(runtime) => runtime.block_on(async { tokio::spawn(run(config)).await? }),
        Err(error) => Err(error.into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "the Lambda runtime ended");
            ExitCode::FAILURE
        }
    }
}

async fn run(config: Config) -> Result<(), lambda_http::Error> {
    let clients = SqsClients::load(&config).await;
    let with_fallback = |url: &QueueUrl| clients.with_fallback(url, config.fallback_queue.as_ref());
    let handler = Handler {
        verifier: config.verifier,
        filter: config.filter,
        format: config.format,
        events: with_fallback(&config.queue),
        quarantine: config.quarantine_queue.as_ref().map(with_fallback),
    };
    handler.events.primary.warm_up().await;
    let adapter = LambdaAdapter::new(handler);
    run_concurrent(service_fn(move |event: LambdaEvent<_>| Arc::clone(&adapter).invoke(event))).await
}

/// Sends diagnostics to standard error, as configured by Lambda's logging controls. Standard output has the log lines
/// of the requests. Levels below `INFO` are not compiled in.
fn start_logging(level: Option<&str>, logs_json: bool) {
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
    if logs_json {
        logs.json().flatten_event(true).init();
    } else {
        logs.init();
    }
    // The default hook prints the panic's message, which may quote the request.
    std::panic::set_hook(Box::new(|panic| {
        let location = panic.location().map(ToString::to_string);
        tracing::error!(location, "panic");
    }));
}
