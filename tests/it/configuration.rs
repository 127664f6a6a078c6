//! Configuration errors, in process and at startup.

use serde_json::{Value, json};
use superoffice_webhook::function::Config;
use test_support::{Fault, RuntimeApi, SqsServer};

use crate::{function_process, start_checked};

const QUEUE: &str = "https://sqs.eu-north-1.amazonaws.com/123456789012/events.fifo";

fn config_error(variables: &[(&str, &str)]) -> String {
    let lookup = |name: &str| Some(variables.iter().find(|(variable, _)| *variable == name)?.1.to_owned());
    Config::from_lookup(lookup).unwrap_err().to_string()
}

#[test]
fn empty_variables_have_the_same_error_as_unset_ones() {
    let empty = Config::variables().map(|name| (name, "")).collect::<Vec<_>>();
    assert_eq!(config_error(&empty), config_error(&[]));
    assert_eq!(
        config_error(&[]),
        "invalid configuration:\n  SUPEROFFICE_WEBHOOK_SECRET: not set\n  QUEUE_URL: not set"
    );
}

#[test]
fn fifo_queue_without_region_is_an_error() {
    let variables =
        [("SUPEROFFICE_WEBHOOK_SECRET", "s"), ("QUEUE_URL", "http://127.0.0.1:1/1/q.fifo"), ("AWS_REGION", "")];
    let expected = "invalid configuration:\n  QUEUE_URL: no region in the host, and AWS_REGION is not set";
    assert_eq!(config_error(&variables), expected);
}

#[test]
fn configuration_error_contains_no_secret() {
    for (name, value) in [
        ("QUEUE_URL", "hunter2 is no URL"),
        ("SUPEROFFICE_TENANT_SECRETS", r#"{"Cust1": "hunter2-tenant", "Cust2": 7}"#),
        ("SUPEROFFICE_TENANT_SECRETS", r#"{"Cust1": "hunter2-tenant""#),
        ("SUPEROFFICE_TENANT_SECRETS", r#"{"Cust1": "hunter2-tenant", "cust1": "hunter2-other"}"#),
        ("SUPEROFFICE_TENANT_SECRETS", r#"{"Cust1": "hunter2-tenant", "Cust2": ""}"#),
        ("SUPEROFFICE_TENANT_SECRETS", r#""hunter2-tenant""#),
        ("SUPEROFFICE_TENANT_MASTER_SECRET", "hunter2-short"),
        ("SUPEROFFICE_TENANT_MASTER_SECRET_PREVIOUS", "hunter2-older"),
        ("FALLBACK_QUEUE_URL", "no URL"),
    ] {
        let error = config_error(&[
            (name, value),
            ("SUPEROFFICE_WEBHOOK_SECRET", "hunter2-current"),
            ("SUPEROFFICE_WEBHOOK_SECRET_PREVIOUS", "hunter2-previous"),
            ("SUPEROFFICE_TENANT_MASTER_SECRET", "hunter2-master, 32 bytes or longer"),
            ("SUPEROFFICE_TENANT_MASTER_SECRET_PREVIOUS", "hunter2-previous, 32 bytes or longer"),
            ("QUEUE_URL", QUEUE),
        ]);
        assert!(error.contains(name), "{error}");
        assert!(!error.contains("hunter2-"), "{error}");
    }
}

#[tokio::test]
async fn invalid_configuration_ends_the_process_before_the_first_event() {
    let (lambda, sqs) = (RuntimeApi::start().await, SqsServer::start().await);
    let invocation = lambda.send("{}");
    let mut function = function_process(&lambda, &sqs).env("MESSAGE_FORMAT", "xml").start();
    assert_eq!(function.wait().await.code(), Some(1));
    assert_eq!(
        function.stderr_lines(),
        [
            "superoffice-webhook cannot start: invalid configuration:",
            "  SUPEROFFICE_WEBHOOK_SECRET: not set",
            "  QUEUE_URL: not set",
            "  MESSAGE_FORMAT: expected superoffice or cloudevents",
        ]
    );
    drop(lambda);
    assert!(invocation.completed_within(test_support::TIMEOUT).await.is_none(), "the event was handled");
}

#[tokio::test]
async fn configuration_error_is_one_line_in_the_json_log_format() {
    for level in [None, Some("FATAL")] {
        let (lambda, sqs) = (RuntimeApi::start().await, SqsServer::start().await);
        let mut function = function_process(&lambda, &sqs)
            .env("SUPEROFFICE_WEBHOOK_SECRET", "s")
            .env("MESSAGE_FORMAT", "xml")
            .env("AWS_LAMBDA_LOG_FORMAT", "JSON")
            .envs(level.map(|level| ("AWS_LAMBDA_LOG_LEVEL", level)))
            .start();
        assert_eq!(function.wait().await.code(), Some(1));
        let lines = [function.stdout_lines(), function.stderr_lines()].concat();
        let [line] = lines.as_slice() else { panic!("{lines:?}") };
        let line: Value = serde_json::from_str(line).unwrap();
        let message = "superoffice-webhook cannot start: invalid configuration:\n  QUEUE_URL: not set\n  \
                       MESSAGE_FORMAT: expected superoffice or cloudevents";
        assert_eq!((&line["level"], &line["message"]), (&json!("ERROR"), &json!(message)));
    }
}

/// Starts the function with another variable, ends it, and returns its diagnostics.
async fn startup_lines(sqs: &SqsServer, variable: Option<(&str, &str)>) -> Vec<String> {
    let run = async || {
        let lambda = RuntimeApi::start().await;
        let mut function = function_process(&lambda, sqs)
            .env("SUPEROFFICE_WEBHOOK_SECRET", "s")
            .env("QUEUE_URL", sqs.queue_url("events"))
            .envs(variable)
            .start();
        lambda.first_poll().await;
        drop(lambda);
        function.wait().await;
        function.stderr_lines()
    };
    start_checked(run, Vec::clone).await
}

/// The check of the queue writes a line whose level depends on the error.
#[tokio::test]
async fn log_level_can_be_raised() {
    for (fault, line_level) in [(Fault::AccessDenied, " INFO "), (Fault::QueueDoesNotExist, " WARN ")] {
        let sqs = SqsServer::start().await;
        let injected = fault.clone();
        sqs.inject(move |_| Some(injected.clone()));
        for (level, is_logged) in [
            (None, true),
            (Some("trace"), true),
            (Some("warn"), line_level == " WARN "),
            (Some("ERROR"), false),
            (Some("fatal"), false),
        ] {
            let lines = startup_lines(&sqs, level.map(|level| ("AWS_LAMBDA_LOG_LEVEL", level))).await;
            let expected = |line: &String| line.contains(line_level) && line.contains("queue could not be checked");
            assert_eq!(lines.iter().any(expected), is_logged, "{fault:?} {level:?}: {lines:?}");
        }
    }
}

#[tokio::test]
async fn start_is_logged_with_the_version() {
    let lines = startup_lines(&SqsServer::start().await, None).await;
    let expected = concat!("superoffice-webhook starts version=\"", env!("CARGO_PKG_VERSION"), "\"");
    assert_eq!(lines.iter().filter(|line| line.ends_with(expected)).count(), 1, "{lines:?}");
}

#[tokio::test]
async fn secret_with_whitespace_around_it_is_logged() {
    let sqs = SqsServer::start().await;
    for (secret, expected) in [("a secret", false), (" a secret", true), ("a secret\n", true)] {
        let lines = startup_lines(&sqs, Some(("SUPEROFFICE_WEBHOOK_SECRET", secret))).await;
        let warning = "SUPEROFFICE_WEBHOOK_SECRET begins or ends with whitespace";
        assert_eq!(lines.iter().any(|line| line.contains(warning)), expected, "{secret:?}: {lines:?}");
    }
}
