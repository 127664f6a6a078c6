//! The optional stacks beside the function's: watchdogs, mirrors and a fallback queue. The parameters of watchdogs and
//! mirrors name the function's log or queue.

use std::ops::ControlFlow;

use jiff::{SignedDuration, Timestamp};
use recovery::logs::Logs;
use serde_json::Value;

use super::deployment::{Clients, recipients};
use super::finding::Finding;
use crate::stack::Stack;

/// The alarm `not-running` fires after three of four periods of five minutes.
const MAX_SILENCE: SignedDuration = SignedDuration::from_mins(20);
/// The default of the mirror's `AuditHours`.
const AUDIT_HOURS: f64 = 24.0;

/// Checks the watchdogs and mirrors of a stack. `clients` returns the clients of a region.
pub(super) async fn check(
    logs: &Logs,
    stack: &Stack,
    all: &[Stack],
    clients: impl Fn(&str) -> Clients,
) -> Vec<Finding> {
    let uses = |parameter: &'static str, output: &str| {
        let value = stack.output(output);
        all.iter().filter(move |other| other.parameter(parameter).is_some() && other.parameter(parameter) == value)
    };
    let mut findings = Vec::new();
    for watchdog in uses("LogGroupName", "LogGroupName") {
        findings.push(watchdog_runs(logs, watchdog).await);
        findings.push(recipients("watchdog-alarms", &prefix(watchdog), watchdog, &clients).await);
    }
    if findings.is_empty() {
        findings.push(Finding::ok("watchdog", "not deployed; lost events are only found by `so-webhook missed`"));
    }
    let mut mirrors = uses("QueueArn", "QueueArn").filter(|other| other.output("TableName").is_some()).peekable();
    if mirrors.peek().is_none() {
        findings.push(Finding::ok("audit", "no mirror is deployed"));
    }
    for mirror in mirrors {
        findings.push(audit_is_young(logs, mirror).await);
        findings.push(recipients("mirror-alarms", &prefix(mirror), mirror, &clients).await);
    }
    findings
}

/// Checks the recipients of a fallback queue's alarms, if a stack of its region has the queue.
pub(super) async fn check_fallback(arn: &str, all: &[Stack], clients: impl Fn(&str) -> Clients) -> Option<Finding> {
    let fallback = all.iter().find(|other| other.output("QueueArn") == Some(arn))?;
    Some(recipients("fallback-alarms", &prefix(fallback), fallback, clients).await)
}

/// Returns the beginning of a message about a stack.
fn prefix(stack: &Stack) -> String {
    format!("{}: ", stack.name)
}

async fn watchdog_runs(logs: &Logs, watchdog: &Stack) -> Finding {
    const CHECK: &str = "watchdog";
    let name = &watchdog.name;
    match latest(logs, watchdog, "{ $.WatchdogOk = 1 }", |line| line["WatchdogOk"].as_f64().filter(|ok| *ok == 1.0))
        .await
    {
        Err(reason) => Finding::wrong(CHECK, reason, "Allow logs:FilterLogEvents on the watchdog's log"),
        Ok(Some((at, _))) => {
            let age = Timestamp::now().duration_since(at).as_mins().max(0);
            Finding::ok(CHECK, format!("{name} completed a run {age} min ago"))
        }
        Ok(None) => Finding::wrong(
            CHECK,
            format!("{name} has completed no run for {} minutes", MAX_SILENCE.as_mins()),
            "See `error` in its log: docs/runbooks/missed-events.md#the-watchdog-does-not-run",
        ),
    }
}

async fn audit_is_young(logs: &Logs, mirror: &Stack) -> Finding {
    const CHECK: &str = "audit";
    let name = &mirror.name;
    let hours = mirror.parameter("AuditHours").and_then(|hours| hours.parse().ok()).unwrap_or(AUDIT_HOURS);
    if hours == 0.0 {
        return Finding::ok(CHECK, format!("{name} does not audit: AuditHours is 0"));
    }
    match latest(logs, mirror, "{ $.AuditAge >= 0 }", |line| line["AuditAge"].as_f64()).await {
        Err(reason) => Finding::wrong(CHECK, reason, "Allow logs:FilterLogEvents on the mirror's log"),
        Ok(Some((_, age))) if age <= 2.0 * hours => {
            Finding::ok(CHECK, format!("the oldest last audit of {name} was completed {age:.1} hours ago"))
        }
        Ok(Some((_, age))) => Finding::wrong(
            CHECK,
            format!("the oldest last audit of {name} was completed {age:.1} hours ago"),
            "See `reasons` in its log: docs/runbooks/mirror.md",
        ),
        Ok(None) => Finding::wrong(
            CHECK,
            format!("{name} has reported no audit for {} minutes", MAX_SILENCE.as_mins()),
            "Check its schedule and its function's errors: docs/runbooks/mirror.md",
        ),
    }
}

/// Returns the latest value that a stack's log reports, with the time of its line.
async fn latest(
    logs: &Logs,
    stack: &Stack,
    filter: &str,
    value: impl Fn(&Value) -> Option<f64>,
) -> Result<Option<(Timestamp, f64)>, String> {
    let log_group = stack.required("LogGroupName").map_err(|error| error.to_string())?;
    let since = Timestamp::now().saturating_sub(MAX_SILENCE).unwrap_or(Timestamp::MIN);
    let mut latest = None;
    let read = logs.read(log_group, filter, since, |written, line| {
        let value = serde_json::from_str(line.trim()).ok().as_ref().and_then(&value);
        if let Some(value) = value.filter(|_| latest.is_none_or(|(at, _)| at <= written)) {
            latest = Some((written, value));
        }
        ControlFlow::Continue(())
    });
    read.await.map_err(|error| error.to_string())?;
    Ok(latest)
}
