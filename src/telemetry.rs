//! One line per delivery, in CloudWatch's Embedded Metric Format: log and metrics in one.
//!
//! Never the body, a secret or a signature. Of a rejected request nothing but what its headers claim, marked as claimed
//! and cut short.
//!
//! Format: <https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html>

use std::io::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lambda_http::http::HeaderMap;
use serde::Serialize;

use crate::receiver::{Facts, Outcome, ReceiveError};

/// The metrics' namespace.
pub const NAMESPACE: &str = "SuperOfficeWebhook";

/// The longest claim of a header that is logged, in characters.
const MAX_CLAIM: usize = 100;

/// The most retries that are believed; the sender makes two.
const MAX_RETRIES: u32 = 100;

/// What the line says beyond what came of the delivery.
#[derive(Clone, Copy, Debug)]
pub struct Invocation<'a> {
    /// The function's name.
    pub function_name: &'a str,
    /// Lambda's id of the invocation.
    pub request_id: &'a str,
    /// The invocation's X-Ray header.
    pub trace_header: Option<&'a str>,
    /// Whether this is the process's first invocation.
    pub cold_start: bool,
    /// When the line is written.
    pub now: SystemTime,
}

/// What the headers say. They are not signed: for diagnosis only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claims {
    event: Option<String>,
    event_id: Option<String>,
    retry: Option<String>,
}

impl Claims {
    /// Picks SuperOffice's headers, cut to a bounded length.
    pub fn of(headers: &HeaderMap) -> Self {
        let claim = |name| {
            let value = headers.get(name)?.as_bytes();
            Some(String::from_utf8_lossy(value).chars().take(MAX_CLAIM).collect())
        };
        Self {
            event: claim("x-superoffice-event"),
            event_id: claim("x-superoffice-eventid"),
            retry: claim("x-superoffice-retry"),
        }
    }

    fn retries(&self) -> u32 {
        self.retry.as_deref().and_then(|retry| retry.trim().parse().ok()).unwrap_or(0).min(MAX_RETRIES)
    }
}

/// The line for a delivery, without its line feed.
pub fn line(
    result: &Result<Outcome, ReceiveError>,
    status: u16,
    facts: &Facts,
    claims: &Claims,
    invocation: &Invocation<'_>,
) -> String {
    let (outcome, reason) = match result {
        Ok(Outcome::Forwarded { .. }) => ("forwarded", None),
        Ok(Outcome::Test { .. }) => ("test", None),
        Ok(Outcome::Ignored { .. }) => ("ignored", None),
        Ok(Outcome::Quarantined { .. }) => ("quarantined", facts.quarantine_reason.clone()),
        Err(error) => (if is_rejection(error) { "rejected" } else { "failed" }, Some(error.to_string())),
    };
    let message_id = match result {
        Ok(Outcome::Forwarded { message_id, .. } | Outcome::Quarantined { message_id }) => Some(message_id.as_str()),
        _ => None,
    };
    let rejected = outcome == "rejected";
    let head = facts.head.as_ref();
    let webhook_disabled = head.is_some_and(|head| head.says_webhook_disabled());
    let enqueue_latency = facts.enqueue_latency.map(milliseconds);
    let sender_retries = (!rejected).then(|| claims.retries());

    let is = |name| u32::from(outcome == name);
    let mut metrics = vec![
        Metric::count("Forwarded"),
        Metric::count("Tested"),
        Metric::count("Ignored"),
        Metric::count("Quarantined"),
        Metric::count("Rejected"),
        Metric::count("Failed"),
        Metric::count("FallbackUsed"),
        Metric::count("WebhookDisabled"),
    ];
    if enqueue_latency.is_some() {
        metrics.push(Metric { name: "EnqueueLatency", unit: "Milliseconds" });
    }
    if sender_retries.is_some() {
        metrics.push(Metric::count("SenderRetries"));
    }
    let line = Line {
        aws: Aws {
            timestamp: invocation.now.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis(),
            cloud_watch_metrics: [Directive { namespace: NAMESPACE, dimensions: [["FunctionName"]], metrics }],
        },
        function_name: invocation.function_name,
        forwarded: is("forwarded"),
        tested: is("test"),
        ignored: is("ignored"),
        quarantined: is("quarantined"),
        rejected: is("rejected"),
        failed: is("failed"),
        fallback_used: u32::from(facts.fallback_used),
        webhook_disabled: u32::from(webhook_disabled),
        enqueue_latency,
        sender_retries,
        request_id: invocation.request_id,
        trace_id: invocation.trace_header.map(trace_id),
        outcome,
        status,
        reason,
        event: head.map(|head| head.event.as_str()),
        event_id: head.map(|head| head.event_id.as_str()).filter(|id| !id.is_empty()),
        context_identifier: head.and_then(|head| head.context_identifier.as_deref()),
        primary_key: head.and_then(|head| head.primary_key),
        message_id,
        body_bytes: facts.body_bytes,
        secret: facts.signed_by.map(|signed_by| signed_by.as_str()),
        cold_start: invocation.cold_start,
        claimed_event: claims.event.as_deref().filter(|_| rejected),
        claimed_event_id: claims.event_id.as_deref().filter(|_| rejected),
        claimed_retry: claims.retry.as_deref().filter(|_| rejected),
    };
    #[expect(clippy::expect_used, reason = "structs of strings and numbers always serialise")]
    serde_json::to_string(&line).expect("structs of strings and numbers always serialise")
}

/// Writes a line to standard output in one piece. A log that cannot be written keeps no event back.
pub fn write(mut line: String) {
    line.push('\n');
    let _ = std::io::stdout().lock().write_all(line.as_bytes());
}

/// Whether nothing is lost by the refusal: the caller is not SuperOffice, or has sent nothing.
fn is_rejection(error: &ReceiveError) -> bool {
    matches!(error, ReceiveError::MethodNotAllowed | ReceiveError::Unauthorized(_) | ReceiveError::EmptyBody)
}

/// In milliseconds, to the microsecond.
fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

/// The trace's id in an X-Ray header, `Root=1-5759e988-bd862e3fe1be46a994272793;…`.
fn trace_id(header: &str) -> &str {
    header.split(';').find_map(|part| part.trim().strip_prefix("Root=")).unwrap_or(header)
}

#[derive(Serialize)]
struct Line<'a> {
    #[serde(rename = "_aws")]
    aws: Aws,
    #[serde(rename = "FunctionName")]
    function_name: &'a str,
    #[serde(rename = "Forwarded")]
    forwarded: u32,
    #[serde(rename = "Tested")]
    tested: u32,
    #[serde(rename = "Ignored")]
    ignored: u32,
    #[serde(rename = "Quarantined")]
    quarantined: u32,
    #[serde(rename = "Rejected")]
    rejected: u32,
    #[serde(rename = "Failed")]
    failed: u32,
    #[serde(rename = "FallbackUsed")]
    fallback_used: u32,
    #[serde(rename = "WebhookDisabled")]
    webhook_disabled: u32,
    #[serde(rename = "EnqueueLatency", skip_serializing_if = "Option::is_none")]
    enqueue_latency: Option<f64>,
    #[serde(rename = "SenderRetries", skip_serializing_if = "Option::is_none")]
    sender_retries: Option<u32>,
    #[serde(rename = "requestId")]
    request_id: &'a str,
    #[serde(rename = "traceId", skip_serializing_if = "Option::is_none")]
    trace_id: Option<&'a str>,
    outcome: &'a str,
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<&'a str>,
    #[serde(rename = "eventId", skip_serializing_if = "Option::is_none")]
    event_id: Option<&'a str>,
    #[serde(rename = "contextIdentifier", skip_serializing_if = "Option::is_none")]
    context_identifier: Option<&'a str>,
    #[serde(rename = "primaryKey", skip_serializing_if = "Option::is_none")]
    primary_key: Option<i64>,
    #[serde(rename = "messageId", skip_serializing_if = "Option::is_none")]
    message_id: Option<&'a str>,
    #[serde(rename = "bodyBytes")]
    body_bytes: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<&'a str>,
    #[serde(rename = "coldStart")]
    cold_start: bool,
    #[serde(rename = "claimedEvent", skip_serializing_if = "Option::is_none")]
    claimed_event: Option<&'a str>,
    #[serde(rename = "claimedEventId", skip_serializing_if = "Option::is_none")]
    claimed_event_id: Option<&'a str>,
    #[serde(rename = "claimedRetry", skip_serializing_if = "Option::is_none")]
    claimed_retry: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Aws {
    timestamp: u128,
    cloud_watch_metrics: [Directive; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Directive {
    namespace: &'static str,
    dimensions: [[&'static str; 1]; 1],
    metrics: Vec<Metric>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Metric {
    name: &'static str,
    unit: &'static str,
}

impl Metric {
    const fn count(name: &'static str) -> Self {
        Self { name, unit: "Count" }
    }
}
