//! One line per delivery, in CloudWatch's Embedded Metric Format: log and metrics in one.
//!
//! Never the body, a secret or a signature. Of a rejected request nothing but what its headers claim, marked as claimed
//! and cut short.
//!
//! Format: <https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html>

use std::io::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lambda_http::http::HeaderMap;
use serde::{Serialize, Serializer};
use serde_json::Number;

use crate::event::EventHead;
use crate::receiver::{Facts, Outcome, ReceiveError};
use crate::signature::SignedBy;

/// The metrics' namespace.
const NAMESPACE: &str = "SuperOfficeWebhook";

/// The longest claim of a header that is logged, in characters.
const MAX_CLAIM: usize = 100;

/// The longest field of a verified event that is logged, in bytes.
const MAX_FIELD: usize = 256;

/// The most retries that are believed; the sender makes two.
const MAX_RETRIES: u32 = 100;

/// What the line says beyond what came of the delivery.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Invocation<'a> {
    /// The function's name.
    pub(crate) function_name: &'a str,
    /// Lambda's id of the invocation.
    pub(crate) request_id: &'a str,
    /// The invocation's X-Ray header.
    pub(crate) trace_header: Option<&'a str>,
    /// Whether this is the process's first invocation.
    pub(crate) cold_start: bool,
    /// When the line is written.
    pub(crate) now: SystemTime,
}

/// What the headers say. They are not signed: for diagnosis only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Claims {
    event: Option<String>,
    event_id: Option<String>,
    retry: Option<String>,
}

impl Claims {
    /// Picks SuperOffice's headers, cut to a bounded length.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
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
pub(crate) fn line(
    result: &Result<Outcome, ReceiveError>,
    status: u16,
    facts: &Facts,
    claims: &Claims,
    invocation: &Invocation<'_>,
) -> String {
    let outcome = result.as_ref().map_or_else(ReceiveError::name, Outcome::name);
    let rejected = outcome == "rejected";
    let head = facts.head.as_ref();
    let metrics = metrics(outcome, facts, claims);
    let line = Line {
        aws: Aws {
            timestamp: invocation.now.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis(),
            cloud_watch_metrics: [Directive {
                namespace: NAMESPACE,
                dimensions: [["FunctionName"]],
                metrics: &metrics,
            }],
        },
        function_name: invocation.function_name,
        metrics: Values(&metrics),
        request_id: invocation.request_id,
        trace_id: invocation.trace_header.map(trace_id),
        outcome,
        status,
        reason: reason(result, facts),
        event: head.map(|head| clip(&head.event)),
        event_id: head.map(|head| clip(&head.event_id)).filter(|id| !id.is_empty()),
        context_identifier: head.and_then(|head| head.context_identifier.as_deref()).map(clip),
        primary_key: head.and_then(|head| head.primary_key),
        message_id: match result {
            Ok(Outcome::Forwarded { message_id, .. } | Outcome::Quarantined { message_id }) => Some(message_id),
            _ => None,
        },
        body_bytes: facts.body_bytes,
        secret: facts.signed_by.map(SignedBy::as_str),
        cold_start: invocation.cold_start,
        claimed_event: claims.event.as_deref().filter(|_| rejected),
        claimed_event_id: claims.event_id.as_deref().filter(|_| rejected),
        claimed_retry: claims.retry.as_deref().filter(|_| rejected),
    };
    #[expect(clippy::expect_used, reason = "structs of strings and numbers always serialise")]
    serde_json::to_string(&line).expect("structs of strings and numbers always serialise")
}

/// Writes a line to standard output in one piece. A log that cannot be written keeps no event back.
pub(crate) fn write(mut line: String) {
    line.push('\n');
    let _ = std::io::stdout().lock().write_all(line.as_bytes());
}

/// Those that do not apply, the time of a queue that was not asked for one, are left out: a zero would count.
fn metrics(outcome: &str, facts: &Facts, claims: &Claims) -> Vec<Metric> {
    let count = |name, value: bool| Metric { name, unit: "Count", value: Number::from(u32::from(value)) };
    let mut metrics = vec![
        count("Forwarded", outcome == "forwarded"),
        count("Tested", outcome == "test"),
        count("Ignored", outcome == "ignored"),
        count("Quarantined", outcome == "quarantined"),
        count("Rejected", outcome == "rejected"),
        count("Failed", outcome == "failed"),
        count("FallbackUsed", facts.refusal.is_some()),
        count("WebhookDisabled", facts.head.as_ref().is_some_and(EventHead::says_webhook_disabled)),
    ];
    if let Some(value) = facts.enqueue_latency.and_then(milliseconds) {
        metrics.push(Metric { name: "EnqueueLatency", unit: "Milliseconds", value });
    }
    if outcome != "rejected" {
        metrics.push(Metric { name: "SenderRetries", unit: "Count", value: claims.retries().into() });
    }
    metrics
}

/// Why the delivery was not taken, went to quarantine, or was not taken by the first queue.
fn reason(result: &Result<Outcome, ReceiveError>, facts: &Facts) -> Option<String> {
    let refusal = facts.refusal.as_ref().map(|refusal| format!("queue: {refusal}"));
    match (result, &facts.quarantine_reason, refusal) {
        (Err(error), ..) => Some(error.to_string()),
        (Ok(_), Some(quarantine), Some(refusal)) => Some(format!("{quarantine}; {refusal}")),
        (Ok(_), quarantine, refusal) => quarantine.clone().or(refusal),
    }
}

/// In milliseconds, to the microsecond.
fn milliseconds(duration: Duration) -> Option<Number> {
    Number::from_f64((duration.as_secs_f64() * 1e6).round() / 1e3)
}

/// The trace's id in an X-Ray header, `Root=1-5759e988-bd862e3fe1be46a994272793;…`.
fn trace_id(header: &str) -> &str {
    header.split(';').find_map(|part| part.trim().strip_prefix("Root=")).unwrap_or(header)
}

/// A field's beginning: one of the body's size could make the line longer than CloudWatch takes it.
fn clip(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_FIELD)]
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Line<'a> {
    #[serde(rename = "_aws")]
    aws: Aws<'a>,
    #[serde(rename = "FunctionName")]
    function_name: &'a str,
    #[serde(flatten)]
    metrics: Values<'a>,
    request_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<&'a str>,
    outcome: &'a str,
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    event_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    context_identifier: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    primary_key: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message_id: Option<&'a String>,
    body_bytes: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<&'a str>,
    cold_start: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    claimed_event: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    claimed_event_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    claimed_retry: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Aws<'a> {
    timestamp: u128,
    cloud_watch_metrics: [Directive<'a>; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Directive<'a> {
    namespace: &'static str,
    dimensions: [[&'static str; 1]; 1],
    metrics: &'a [Metric],
}

/// A metric as the directive declares it; its value stands among the line's other properties.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Metric {
    name: &'static str,
    unit: &'static str,
    #[serde(skip)]
    value: Number,
}

/// The metrics' values by their names.
struct Values<'a>(&'a [Metric]);

impl Serialize for Values<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|metric| (metric.name, &metric.value)))
    }
}
