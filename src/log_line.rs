//! The log lines of the Lambda functions, in CloudWatch's Embedded Metric Format: log and metrics in one.
//!
//! The functions write these types, and recovery reads the same types, so that a renamed field breaks no reader.
//!
//! Format:
//! <https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html>

use std::borrow::Cow;
use std::io::Write;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Number, Value, json};

const NAMESPACE: &str = "SuperOfficeWebhook";

/// A log line: metrics `M` and properties `P`, both structs whose fields become fields of the line.
///
/// A metric that is absent in `M` is absent in the line. Its unit is milliseconds if its name ends with `Latency`,
/// `Delay` or `Lag`, and a count otherwise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LogLine<M, P> {
    #[serde(rename = "_aws", default, skip_serializing_if = "Option::is_none")]
    aws: Option<Directives>,
    #[serde(rename = "FunctionName", default)]
    function_name: String,
    /// The metrics.
    #[serde(flatten)]
    pub metrics: M,
    /// The properties.
    #[serde(flatten)]
    pub properties: P,
}

/// The directives that declare the line's metrics to CloudWatch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Directives {
    /// Milliseconds since 1970.
    timestamp: i64,
    #[serde(skip_deserializing)]
    cloud_watch_metrics: Vec<Directive>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Directive {
    namespace: &'static str,
    dimensions: [[&'static str; 1]; 1],
    metrics: Vec<Definition>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Definition {
    name: String,
    unit: &'static str,
}

impl<M: Serialize, P: Serialize> LogLine<M, P> {
    /// Creates a line that is written now, with the dimension `FunctionName`.
    pub fn new(function_name: &str, now: Timestamp, metrics: M, properties: P) -> Self {
        let definitions = definitions(&metrics);
        let directive = Directive { namespace: NAMESPACE, dimensions: [["FunctionName"]], metrics: definitions };
        // A directive needs at least one metric.
        let aws = (!directive.metrics.is_empty())
            .then(|| Directives { timestamp: now.as_millisecond(), cloud_watch_metrics: vec![directive] });
        Self { aws, function_name: function_name.to_owned(), metrics, properties }
    }

    /// Returns the line without a line feed.
    pub fn to_json(&self) -> String {
        #[expect(clippy::expect_used, reason = "structs of strings and numbers always serialize")]
        serde_json::to_string(self).expect("structs of strings and numbers always serialize")
    }
}

impl<'de, M: Deserialize<'de>, P: Deserialize<'de>> LogLine<M, P> {
    /// Parses a line of a log; `None` if it is another line.
    pub fn parse(line: &'de str) -> Option<Self> {
        serde_json::from_str(line.trim()).ok()
    }

    /// Returns the time at which the line was written, with a precision of milliseconds.
    pub fn written_at(&self) -> Option<Timestamp> {
        Timestamp::from_millisecond(self.aws.as_ref()?.timestamp).ok()
    }
}

fn definitions(metrics: &impl Serialize) -> Vec<Definition> {
    let Ok(Value::Object(metrics)) = serde_json::to_value(metrics) else {
        return Vec::new();
    };
    let is_duration = |name: &str| ["Latency", "Delay", "Lag"].iter().any(|ending| name.ends_with(ending));
    let unit = |name: &str| if is_duration(name) { "Milliseconds" } else { "Count" };
    let mut names: Vec<String> = metrics.into_iter().map(|(name, _)| name).collect();
    // The order of a map depends on a feature that any other crate can enable.
    names.sort_unstable();
    names.into_iter().map(|name| Definition { unit: unit(&name), name }).collect()
}

/// Writes a line to standard output at once. An error is ignored, because it must not affect the work that is logged.
pub fn write(mut line: String) {
    line.push('\n');
    let _ = std::io::stdout().lock().write_all(line.as_bytes());
}

/// Writes the error that ends a function's start to standard error, in the format of `AWS_LAMBDA_LOG_FORMAT`. In JSON,
/// it is one line with a level, so that it is found and counted as an error. Otherwise, its lines are for people.
pub fn write_start_error(error: &dyn std::fmt::Display, format: Option<&str>) {
    if format.is_some_and(|format| format.eq_ignore_ascii_case("json")) {
        eprintln!("{}", json!({"level": "ERROR", "message": error.to_string()}));
    } else {
        eprintln!("{error}");
    }
}

/// Returns `true` if a metric is zero. Zeros are omitted: they cost money, skew statistics, and hide late data points
/// from alarms.
pub fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// The line that the function writes for each request.
pub type RequestLine<'a> = LogLine<RequestMetrics, Request<'a>>;

/// The metrics of a request.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RequestMetrics {
    /// 1 if a message was queued for the event.
    #[serde(skip_serializing_if = "is_zero")]
    pub forwarded: u64,
    /// 1 for a registration probe.
    #[serde(skip_serializing_if = "is_zero")]
    pub tested: u64,
    /// 1 for an event that `FORWARD_EVENTS` does not match.
    #[serde(skip_serializing_if = "is_zero")]
    pub ignored: u64,
    /// 1 for a malformed body in the quarantine queue.
    #[serde(skip_serializing_if = "is_zero")]
    pub quarantined: u64,
    /// 1 for a request without a signature, or with another method than `POST`.
    #[serde(skip_serializing_if = "is_zero")]
    pub unsigned: u64,
    /// 1 for an invalid signature, an empty body, or a body over 1 MiB.
    #[serde(skip_serializing_if = "is_zero")]
    pub rejected: u64,
    /// 1 for any other error.
    #[serde(skip_serializing_if = "is_zero")]
    pub failed: u64,
    /// 1 if the fallback queue accepted the message.
    #[serde(skip_serializing_if = "is_zero")]
    pub fallback_used: u64,
    /// 1 for an event that reports a disabled or stopped webhook.
    #[serde(skip_serializing_if = "is_zero")]
    pub webhook_disabled: u64,
    /// The time that the queues took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enqueue_latency: Option<Number>,
    /// The number of the sender's earlier attempts.
    #[serde(skip_serializing_if = "is_zero")]
    pub sender_retries: u64,
    /// The time from the signed `Timestamp` to the line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delivery_delay: Option<Number>,
}

/// The properties of a request. Never the body, a secret or a signature.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, bound(deserialize = "'de: 'a"))]
pub struct Request<'a> {
    /// Lambda's id of the invocation.
    pub request_id: Cow<'a, str>,
    /// The trace id in the invocation's X-Ray header.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<Cow<'a, str>>,
    /// [`FORWARDED`], [`IGNORED`], [`FAILED`], `test`, `quarantined` or `rejected`.
    pub outcome: Cow<'a, str>,
    /// The HTTP status of the response.
    pub status: u16,
    /// The reason why the request failed, was quarantined, or needed the fallback queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The event's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event: Option<Cow<'a, str>>,
    /// The event's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event_id: Option<Cow<'a, str>>,
    /// The tenant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context_identifier: Option<Cow<'a, str>>,
    /// The row's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub primary_key: Option<i64>,
    /// The id of the message in its queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_id: Option<Cow<'a, str>>,
    /// The size of the body, in bytes.
    pub body_bytes: usize,
    /// The kind of secret that signed the body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<Cow<'a, str>>,
    /// `true` for the first invocation of the process.
    pub cold_start: bool,
    /// The event's name in a header of a rejected request, truncated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claimed_event: Option<Cow<'a, str>>,
    /// The event's id in a header of a rejected request, truncated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claimed_event_id: Option<Cow<'a, str>>,
    /// The number of retries in a header of a rejected request, truncated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claimed_retry: Option<Cow<'a, str>>,
}

/// The outcome of a forwarded event.
pub const FORWARDED: &str = "forwarded";
/// The outcome of an event that `FORWARD_EVENTS` does not match.
pub const IGNORED: &str = "ignored";
/// The outcome of an error.
pub const FAILED: &str = "failed";

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-11-24T09:00:00.125Z".parse().unwrap()
    }

    #[test]
    fn line_declares_the_metrics_that_are_not_zero() {
        let metrics =
            RequestMetrics { enqueue_latency: Number::from_f64(1.5), sender_retries: 2, ..RequestMetrics::default() };
        let request = Request { request_id: "r".into(), outcome: FORWARDED.into(), status: 200, ..Request::default() };
        let line = LogLine::new("webhook", now(), metrics, request);
        assert_eq!(
            serde_json::from_str::<Value>(&line.to_json()).unwrap(),
            json!({
                "_aws": {
                    "Timestamp": 1795510800125_i64,
                    "CloudWatchMetrics": [{
                        "Namespace": "SuperOfficeWebhook",
                        "Dimensions": [["FunctionName"]],
                        "Metrics": [
                            {"Name": "EnqueueLatency", "Unit": "Milliseconds"}, {"Name": "SenderRetries", "Unit": "Count"},
                        ],
                    }],
                },
                "FunctionName": "webhook", "EnqueueLatency": 1.5, "SenderRetries": 2,
                "requestId": "r", "outcome": "forwarded", "status": 200, "bodyBytes": 0, "coldStart": false,
            })
        );
    }

    #[test]
    fn line_without_metrics_has_no_directive() {
        let line = LogLine::new("webhook", now(), RequestMetrics::default(), Request::default());
        assert!(!line.to_json().contains("_aws"));
    }

    #[test]
    fn written_line_is_read() {
        let metrics = RequestMetrics { ignored: 1, ..RequestMetrics::default() };
        let request = Request { event: Some("contact.\"changed\"".into()), primary_key: Some(7), ..Request::default() };
        let json = LogLine::new("webhook", now(), metrics.clone(), request.clone()).to_json();
        let line = RequestLine::parse(&json).unwrap();
        assert_eq!((&line.metrics, &line.properties, line.written_at()), (&metrics, &request, Some(now())));
    }

    #[test]
    fn other_lines_are_not_read() {
        assert!(RequestLine::parse("REPORT RequestId: 1").is_none());
        let line = RequestLine::parse(r#" {"later": [1], "outcome": "forwarded"} "#).unwrap();
        assert_eq!((line.properties.outcome.as_ref(), line.written_at()), ("forwarded", None));
    }
}
