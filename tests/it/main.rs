//! Integration tests. `tests/README.md` says which kind of test belongs where.

#![expect(clippy::unwrap_used, reason = "panicking fails the test")]

mod configuration;
mod credentials;
mod endpoints;
mod entities;
mod faults;
mod guarantees;
mod http;
mod layers;
mod log_line;
mod properties;
mod queue_messages;
mod sample_events;
mod schedules;
mod schemas;
mod secrets;
mod soak;
mod storm;
mod vectors;

use std::collections::BTreeMap;
use std::fs;

use test_support::{Process, RuntimeApi, SqsServer, project_root};

/// Returns the function's process, connected to Lambda and SQS. It has no secret and no queue yet.
fn function_process(lambda: &RuntimeApi, sqs: &SqsServer) -> Process {
    Process::new(env!("CARGO_BIN_EXE_superoffice-webhook")).envs(lambda.environment()).envs(sqs.environment())
}

/// Repeats the start of a function whose check of the queue timed out, as it can on a busy machine.
async fn start_checked<T>(start: impl AsyncFn() -> T, diagnostics: impl Fn(&T) -> Vec<String>) -> T {
    for _ in 0..5 {
        let started = start().await;
        let timed_out = |line: &String| line.contains("queue could not be checked") && line.contains("timeout");
        if !diagnostics(&started).iter().any(timed_out) {
            return started;
        }
    }
    panic!("the function never checked the queue in time")
}

/// Returns a file in `events/payloads/`.
fn payload(name: &str) -> Vec<u8> {
    fs::read(project_root().join("events/payloads").join(name)).unwrap()
}

/// Returns all files in `events/payloads/`, by name.
fn payloads() -> BTreeMap<String, Vec<u8>> {
    fs::read_dir(project_root().join("events/payloads"))
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .map(|name| (name.clone(), payload(&name)))
        .collect()
}
