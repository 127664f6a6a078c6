//! The program as a process.

use std::process::Stdio;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use test_support::{Process, RuntimeApi};
use tokio::process::Command;

use crate::support::{ONLY, OWN_LOG_GROUP, TestBed};

/// Starts the program for a test bed whose clock is the system's.
fn start(bed: &TestBed, lambda: &RuntimeApi) -> test_support::RunningProcess {
    Process::new(env!("CARGO_BIN_EXE_watchdog"))
        .envs(lambda.environment())
        .envs(&bed.variables)
        .envs(bed.aws_variables())
        .env("AWS_LAMBDA_LOG_GROUP_NAME", OWN_LOG_GROUP)
        .start()
}

#[tokio::test]
async fn any_invocation_is_a_run_with_a_line_for_each_tenant_and_one_for_the_run() {
    let bed = TestBed::start_at(Timestamp::now() - SignedDuration::from_mins(8)).await;
    bed.superoffice.create_contact();
    bed.superoffice.idle().await;
    bed.pass(1);
    bed.function.lose_next();
    let lost = bed.superoffice.create_contact();
    bed.superoffice.idle().await;
    bed.pass(8 * 60 - 1);

    let lambda = RuntimeApi::start().await;
    let process = start(&bed, &lambda);
    let invocation = lambda.invoke(json!({"source": "aws.scheduler"})).await;
    let response: Value = serde_json::from_slice(&invocation.result.unwrap()).unwrap();
    assert_eq!((&response["missed"], &response["resynced"]), (&json!(1), &json!(1)));
    let lines = process.wait_for_lines(2).await;
    let [visit, run] = [0, 1].map(|line| serde_json::from_str::<Value>(&lines[line]).unwrap());
    assert_eq!((&visit["tenant"], &visit["missed"], visit.get("_aws")), (&json!(ONLY), &json!(1), None));
    assert_eq!((&run["WatchdogOk"], &run["Missed"], &run["Resynced"]), (&json!(1), &json!(1), &json!(1)));
    for line in [visit, run] {
        assert_eq!(line["requestId"], invocation.request_id);
        assert_eq!(line["FunctionName"], "superoffice-webhook");
    }
    bed.superoffice.idle().await;
    assert_eq!(bed.function.events().last(), Some(&("contact.resync".to_owned(), lost)));

    let invocation = lambda.invoke("null").await;
    let response: Value = serde_json::from_slice(&invocation.result.unwrap()).unwrap();
    assert_eq!(response["missed"], 0);
    assert_eq!(process.wait_for_lines(4).await.len(), 4);
    assert_eq!(process.stderr_lines(), Vec::<String>::new());
}

#[tokio::test]
async fn failed_run_is_an_error_of_the_invocation() {
    let bed = TestBed::start_at(Timestamp::now()).await;
    bed.logs.fail_after(0);
    let lambda = RuntimeApi::start().await;
    let process = start(&bed, &lambda);
    let error: Value = serde_json::from_slice(&lambda.invoke("{}").await.result.unwrap_err()).unwrap();
    assert!(error["errorMessage"].as_str().unwrap().contains("AccessDeniedException"), "{error}");
    let line: Value = serde_json::from_str(&process.wait_for_lines(1).await[0]).unwrap();
    assert_eq!(line.get("WatchdogOk"), None);
    assert!(line["error"].as_str().unwrap().contains("AccessDeniedException"), "{line}");
}

/// Starts the program with these variables only. It must fail. Returns its diagnostics.
async fn configuration_error(variables: &[(&str, &str)]) -> String {
    let mut program = Command::new(env!("CARGO_BIN_EXE_watchdog"));
    let output = program.env_clear().envs(variables.iter().copied()).stdin(Stdio::null()).output().await.unwrap();
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8(output.stderr).unwrap()
}

#[tokio::test]
async fn invalid_configuration_ends_the_process_before_any_invocation() {
    assert_eq!(
        configuration_error(&[("SUPEROFFICE_ACCESS_TOKEN", "hunter2"), ("WATCHDOG_MODE", "attack")]).await,
        "invalid configuration:\
         \n  SUPEROFFICE_URL: not set, nor is SUPEROFFICE_TENANT\
         \n  WEBHOOK_URL: not set\
         \n  LOG_GROUP_NAME: not set\
         \n  WATCHDOG_LOG_GROUP_NAME: not set, nor is AWS_LAMBDA_LOG_GROUP_NAME\
         \n  WATCHDOG_MODE: expected `report` or `act`\n"
    );
}

#[tokio::test]
async fn configuration_error_is_one_line_if_the_log_format_is_json() {
    let line = configuration_error(&[("AWS_LAMBDA_LOG_FORMAT", "JSON")]).await;
    assert_eq!(line.lines().count(), 1, "{line}");
    let line: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["level"], "ERROR");
    assert!(line["message"].as_str().unwrap().contains("WEBHOOK_URL: not set"), "{line}");
}
