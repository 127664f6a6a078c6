//! The log line of a request, in CloudWatch's Embedded Metric Format: log and metrics in one.
//!
//! The line never contains the body, a secret or a signature. For a rejected request, it contains only values from the
//! headers, marked as claimed and truncated.
//!
//! Format:
//! <https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html>

use std::io::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lambda_http::http::HeaderMap;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::Number;

use crate::function::outcome::{DeliveryRecord, HandleError, Outcome};
use crate::webhook::metadata::EventMetadata;
use crate::webhook::tenant::SignedBy;
use crate::webhook::verifier::Rejection;

const NAMESPACE: &str = "SuperOfficeWebhook";

/// The maximum length of a logged header value, in characters.
const MAX_CLAIM: usize = 100;

/// The maximum length of a logged event field, in bytes. A longer line could exceed CloudWatch's limit.
const MAX_FIELD: usize = 256;

/// The maximum number of retries that is logged. The sender makes two, but the header is not signed.
const MAX_RETRIES: u32 = 100;

/// The facts about an invocation that do not depend on the request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Invocation<'a> {
    /// The function's name.
    pub(crate) function_name: &'a str,
    /// Lambda's id of the invocation.
    pub(crate) request_id: &'a str,
    /// The invocation's X-Ray header.
    pub(crate) trace_header: Option<&'a str>,
    /// `true` for the first invocation of the process.
    pub(crate) cold_start: bool,
    /// The current time.
    pub(crate) now: SystemTime,
}

/// Values of SuperOffice's headers. They are not signed, so they serve diagnosis only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct UnverifiedHeaders {
    event: Option<String>,
    event_id: Option<String>,
    retry: Option<String>,
}

impl UnverifiedHeaders {
    /// Copies the headers, truncated.
    pub(crate) fn from_headers(headers: &HeaderMap) -> Self {
        let value = |name| {
            let value = headers.get(name)?.as_bytes();
            Some(String::from_utf8_lossy(value).chars().take(MAX_CLAIM).collect())
        };
        Self {
            event: value("x-superoffice-event"),
            event_id: value("x-superoffice-eventid"),
            retry: value("x-superoffice-retry"),
        }
    }

    fn retries(&self) -> u32 {
        self.retry.as_deref().and_then(|retry| retry.trim().parse().ok()).unwrap_or(0).min(MAX_RETRIES)
    }
}

/// Returns the log line of a request, without a line feed.
pub(crate) fn line(
    result: &Result<Outcome, HandleError>,
    status: u16,
    record: &DeliveryRecord,
    headers: &UnverifiedHeaders,
    invocation: &Invocation<'_>,
) -> String {
    let line = LogLine {
        result,
        status,
        record,
        headers,
        invocation,
        metrics: metrics(result, record, headers, invocation.now),
    };
    #[expect(clippy::expect_used, reason = "maps of strings and numbers always serialize")]
    serde_json::to_string(&line).expect("maps of strings and numbers always serialize")
}

/// Writes a line to standard output at once. An error is ignored, because it must not affect the delivery.
pub(crate) fn write(mut line: String) {
    line.push('\n');
    let _ = std::io::stdout().lock().write_all(line.as_bytes());
}

/// A metric, as declared in the line's `_aws` object. Its value is a property of the line.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Metric {
    name: &'static str,
    unit: &'static str,
    #[serde(skip)]
    value: Number,
}

/// Returns the metrics of a request. Zeros are omitted: they cost money, skew statistics, and hide late data points
/// from alarms.
fn metrics(
    result: &Result<Outcome, HandleError>,
    record: &DeliveryRecord,
    headers: &UnverifiedHeaders,
    now: SystemTime,
) -> Vec<Metric> {
    let event = record.metadata.as_ref();
    let count = |name, value: u32| Some((name, "Count", f64::from(value)));
    let flag = |name, value: bool| count(name, value.into());
    let duration = |name, value: Option<Duration>| Some((name, "Milliseconds", value?.as_secs_f64() * 1e3));
    let is_event = matches!(result, Ok(Outcome::Forwarded { .. } | Outcome::Ignored { .. }));
    [
        count(outcome_metric(result), 1),
        flag("FallbackUsed", record.fallback_reason.is_some()),
        flag("WebhookDisabled", event.is_some_and(EventMetadata::is_webhook_disabled)),
        duration("EnqueueLatency", record.enqueue_latency),
        count("SenderRetries", record.signed_by.map_or(0, |_| headers.retries())),
        duration("DeliveryDelay", event.filter(|_| is_event).and_then(|event| delay(event, now))),
    ]
    .into_iter()
    .flatten()
    .filter_map(|(name, unit, value)| Some(Metric { name, unit, value: non_zero(value)? }))
    .collect()
}

/// Returns the metric that counts requests with this result.
fn outcome_metric(result: &Result<Outcome, HandleError>) -> &'static str {
    match result {
        Ok(Outcome::Forwarded { .. }) => "Forwarded",
        Ok(Outcome::Test { .. }) => "Tested",
        Ok(Outcome::Ignored { .. }) => "Ignored",
        Ok(Outcome::Quarantined { .. }) => "Quarantined",
        Err(HandleError::MethodNotAllowed | HandleError::Unauthorized(Rejection::Missing)) => "Unsigned",
        Err(HandleError::Unauthorized(_) | HandleError::EmptyBody | HandleError::BodyTooLarge(_)) => "Rejected",
        Err(_) => "Failed",
    }
}

/// Returns the time from the event to now. `None` if the event has no timestamp, or one in the future.
fn delay(event: &EventMetadata, now: SystemTime) -> Option<Duration> {
    now.duration_since(event.occurred_at()?.try_into().ok()?).ok()
}

/// Returns a value rounded to three decimals, or `None` if it is zero.
fn non_zero(value: f64) -> Option<Number> {
    let thousandths = (value * 1e3).round();
    if thousandths == 0.0 {
        None
    } else if thousandths % 1e3 == 0.0 {
        // A count has no decimals.
        Some(Number::from((thousandths / 1e3) as u64))
    } else {
        Number::from_f64(thousandths / 1e3)
    }
}

struct LogLine<'a> {
    result: &'a Result<Outcome, HandleError>,
    status: u16,
    record: &'a DeliveryRecord,
    headers: &'a UnverifiedHeaders,
    invocation: &'a Invocation<'a>,
    metrics: Vec<Metric>,
}

impl Serialize for LogLine<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { result, record, headers, invocation, .. } = self;
        let outcome = outcome(result);
        let event = record.metadata.as_ref();
        let claims = Some(headers).filter(|_| outcome == "rejected");

        let mut line = Properties(serializer.serialize_map(None)?);
        line.add("_aws", &self.directives())?;
        line.add("FunctionName", invocation.function_name)?;
        for metric in &self.metrics {
            line.add(metric.name, &metric.value)?;
        }
        line.add("requestId", invocation.request_id)?;
        line.add_some("traceId", invocation.trace_header.map(trace_id))?;
        line.add("outcome", outcome)?;
        line.add("status", &self.status)?;
        line.add_some("reason", reason(result, record))?;
        line.add_some("event", event.map(|event| truncate(event.event())))?;
        line.add_some("eventId", event.map(|event| truncate(event.event_id())).filter(|id| !id.is_empty()))?;
        line.add_some("contextIdentifier", event.and_then(|event| event.context_identifier()).map(truncate))?;
        line.add_some("primaryKey", event.and_then(EventMetadata::primary_key))?;
        line.add_some("messageId", message_id(result))?;
        line.add("bodyBytes", &record.body_bytes)?;
        line.add_some("secret", record.signed_by.map(SignedBy::as_str))?;
        line.add("coldStart", &invocation.cold_start)?;
        line.add_some("claimedEvent", claims.and_then(|claims| claims.event.as_deref()))?;
        line.add_some("claimedEventId", claims.and_then(|claims| claims.event_id.as_deref()))?;
        line.add_some("claimedRetry", claims.and_then(|claims| claims.retry.as_deref()))?;
        line.0.end()
    }
}

impl LogLine<'_> {
    /// The metric directives, which tell CloudWatch the properties that are metrics.
    fn directives(&self) -> impl Serialize {
        #[derive(Serialize)]
        #[serde(rename_all = "PascalCase")]
        struct Directives<'a> {
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

        let timestamp = self.invocation.now.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let directive = Directive { namespace: NAMESPACE, dimensions: [["FunctionName"]], metrics: &self.metrics };
        Directives { timestamp, cloud_watch_metrics: [directive] }
    }
}

/// The properties of the line, in order.
struct Properties<M>(M);

impl<M: SerializeMap> Properties<M> {
    fn add<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) -> Result<(), M::Error> {
        self.0.serialize_entry(name, value)
    }

    /// Adds a property, unless it is `None`.
    fn add_some<T: Serialize>(&mut self, name: &str, value: Option<T>) -> Result<(), M::Error> {
        value.map_or(Ok(()), |value| self.add(name, &value))
    }
}

fn outcome(result: &Result<Outcome, HandleError>) -> &'static str {
    result.as_ref().map_or_else(HandleError::as_str, Outcome::as_str)
}

fn message_id(result: &Result<Outcome, HandleError>) -> Option<&str> {
    match result {
        Ok(Outcome::Forwarded { message_id, .. } | Outcome::Quarantined { message_id }) => Some(message_id),
        _ => None,
    }
}

/// Returns why the request failed, was quarantined, or needed the fallback queue.
fn reason(result: &Result<Outcome, HandleError>, record: &DeliveryRecord) -> Option<String> {
    let fallback = record.fallback_reason.as_ref().map(ToString::to_string);
    match (result, &record.quarantine_reason, fallback) {
        (Err(error), ..) => Some(error.to_string()),
        (Ok(_), Some(quarantine), Some(fallback)) => Some(format!("{quarantine}; {fallback}")),
        (Ok(_), quarantine, fallback) => quarantine.clone().or(fallback),
    }
}

/// Returns the trace id in an X-Ray header, `Root=1-5759e988-bd862e3fe1be46a994272793;…`.
fn trace_id(header: &str) -> &str {
    header.split(';').find_map(|part| part.trim().strip_prefix("Root=")).unwrap_or(header)
}

fn truncate(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_FIELD)]
}
