//! The log line of a request.
//!
//! The line never contains the body, a secret or a signature. For a rejected request, it contains only values from the
//! headers, marked as claimed and truncated.

use std::borrow::Cow;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use lambda_http::http::HeaderMap;
use serde_json::Number;

use crate::function::outcome::{DeliveryRecord, HandleError, Outcome};
use crate::log_line::{LogLine, Request, RequestMetrics};
use crate::webhook::metadata::EventMetadata;
use crate::webhook::verifier::Rejection;

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
    let metrics = metrics(result, record, headers, invocation.now);
    let outcome = result.as_ref().map_or_else(HandleError::as_str, Outcome::as_str);
    let event = record.metadata.as_ref();
    let claims = Some(headers).filter(|_| outcome == "rejected");
    let claim =
        |value: fn(&UnverifiedHeaders) -> &Option<String>| claims.and_then(|c| value(c).as_deref()).map(Cow::from);
    let request = Request {
        request_id: invocation.request_id.into(),
        trace_id: invocation.trace_header.map(|header| trace_id(header).into()),
        outcome: outcome.into(),
        status,
        reason: reason(result, record),
        event: event.map(|event| truncate(event.event()).into()),
        event_id: event.map(|event| truncate(event.event_id()).into()).filter(|id: &Cow<'_, str>| !id.is_empty()),
        context_identifier: event.and_then(|event| event.context_identifier()).map(|tenant| truncate(tenant).into()),
        primary_key: event.and_then(EventMetadata::primary_key),
        message_id: message_id(result).map(Cow::from),
        body_bytes: record.body_bytes,
        secret: record.signed_by.map(|secret| secret.as_str().into()),
        cold_start: invocation.cold_start,
        claimed_event: claim(|claims| &claims.event),
        claimed_event_id: claim(|claims| &claims.event_id),
        claimed_retry: claim(|claims| &claims.retry),
    };
    let now = Timestamp::try_from(invocation.now).unwrap_or_default();
    LogLine::new(invocation.function_name, now, metrics, request).to_json()
}

/// Returns the metrics of a request.
fn metrics(
    result: &Result<Outcome, HandleError>,
    record: &DeliveryRecord,
    headers: &UnverifiedHeaders,
    now: SystemTime,
) -> RequestMetrics {
    let event = record.metadata.as_ref();
    let is_event = matches!(result, Ok(Outcome::Forwarded { .. } | Outcome::Ignored { .. }));
    let mut metrics = RequestMetrics {
        fallback_used: record.fallback_reason.is_some().into(),
        webhook_disabled: event.is_some_and(EventMetadata::is_webhook_disabled).into(),
        enqueue_latency: record.enqueue_latency.and_then(milliseconds),
        sender_retries: record.signed_by.map_or(0, |_| headers.retries()).into(),
        delivery_delay: event.filter(|_| is_event).and_then(|event| milliseconds(delay(event, now)?)),
        ..RequestMetrics::default()
    };
    *match result {
        Ok(Outcome::Forwarded { .. }) => &mut metrics.forwarded,
        Ok(Outcome::Test { .. }) => &mut metrics.tested,
        Ok(Outcome::Ignored { .. }) => &mut metrics.ignored,
        Ok(Outcome::Quarantined { .. }) => &mut metrics.quarantined,
        Err(HandleError::MethodNotAllowed | HandleError::Unauthorized(Rejection::Missing)) => &mut metrics.unsigned,
        Err(HandleError::Unauthorized(_) | HandleError::EmptyBody | HandleError::BodyTooLarge(_)) => {
            &mut metrics.rejected
        }
        Err(_) => &mut metrics.failed,
    } = 1;
    metrics
}

/// Returns the time from the event to now. `None` if the event has no timestamp, or one in the future.
fn delay(event: &EventMetadata, now: SystemTime) -> Option<Duration> {
    now.duration_since(event.occurred_at()?.try_into().ok()?).ok()
}

/// Returns a duration in milliseconds, rounded to three decimals, or `None` if it is zero.
fn milliseconds(duration: Duration) -> Option<Number> {
    let microseconds = (duration.as_secs_f64() * 1e6).round();
    // Whole milliseconds are written without ".0".
    if microseconds % 1e3 == 0.0 {
        Some((microseconds / 1e3) as u64).filter(|whole| *whole > 0).map(Number::from)
    } else {
        Number::from_f64(microseconds / 1e3)
    }
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
