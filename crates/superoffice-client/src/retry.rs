//! Attempts of a call, and the waits between them.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use reqwest::header::{DATE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{StatusCode, Url};

use crate::call::{Call, Repeat, Response};
use crate::error::{ApiError, ErrorKind, innermost};
use crate::exchange::{Exchange, Observer};
use crate::redact::Redactor;

/// The limits of a call.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The time to connect.
    pub connect: Duration,
    /// The time for one attempt.
    pub attempt: Duration,
    /// The number of attempts.
    pub attempts: u32,
    /// The wait before the second attempt; it doubles for each further attempt.
    pub first_wait: Duration,
    /// The longest wait that a `Retry-After` header may ask for.
    pub longest_wait: Duration,
    /// A call that is answered with 401 is repeated once with a new ticket.
    pub renews_tickets: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            attempt: Duration::from_secs(60),
            attempts: 4,
            first_wait: Duration::from_secs(1),
            longest_wait: Duration::from_secs(60),
            renews_tickets: true,
        }
    }
}

/// A clock, so that tests can choose the time.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// The attempts of all calls for one tenant.
pub(crate) struct Transport {
    pub(crate) http: reqwest::Client,
    pub(crate) limits: Limits,
    pub(crate) clock: Clock,
    pub(crate) observer: Option<Observer>,
    pub(crate) redactor: Redactor,
    /// The seconds by which SuperOffice's clock is ahead, according to its last response.
    clock_offset: AtomicI64,
}

/// An attempt without a response.
struct NoResponse {
    kind: ErrorKind,
    /// The request was not sent, because there was no connection.
    is_unsent: bool,
}

impl Transport {
    pub(crate) fn new(http: reqwest::Client, limits: Limits, clock: Clock) -> Self {
        let (observer, redactor, clock_offset) = (None, Redactor::default(), AtomicI64::new(0));
        Self { http, limits, clock, observer, redactor, clock_offset }
    }

    pub(crate) fn now(&self) -> Timestamp {
        (self.clock)()
    }

    pub(crate) fn clock_offset(&self) -> SignedDuration {
        SignedDuration::from_secs(self.clock_offset.load(Ordering::Relaxed))
    }

    /// Makes attempts until there is a response that no further attempt would improve.
    pub(crate) async fn attempts(&self, call: &Call<'_>, url: &Url, headers: &HeaderMap) -> Result<Response, ApiError> {
        let mut wait = self.limits.first_wait;
        let mut attempt = 1;
        loop {
            let outcome = self.attempt(call, url, headers).await;
            let retry_after = outcome.as_ref().ok().and_then(|response| response.retry_after);
            let delay = retry_after.unwrap_or_else(|| jittered(wait));
            let is_last = attempt >= self.limits.attempts || delay > self.limits.longest_wait;
            if is_last || !may_repeat(&outcome, call.repeat) {
                return outcome.map_err(|failure| ApiError::new(call.to_string(), failure.kind));
            }
            tokio::time::sleep(delay).await;
            wait = wait.saturating_mul(2);
            attempt += 1;
        }
    }

    async fn attempt(&self, call: &Call<'_>, url: &Url, headers: &HeaderMap) -> Result<Response, NoResponse> {
        let mut request = self.http.request(call.method.clone(), url.clone()).headers(headers.clone());
        if !call.query.is_empty() {
            request = request.query(call.query);
        }
        if let Some(body) = call.body {
            request = request.json(body);
        }
        let response = request.send().await.map_err(|error| self.no_response(&error))?;
        let (status, retry_after) = (response.status(), retry_after(response.headers(), self.now()));
        let date = response.headers().get(DATE).and_then(http_date);
        if let Some(date) = date {
            self.clock_offset.store(date.duration_since(self.now()).as_secs(), Ordering::Relaxed);
        }
        let body: Vec<u8> = response.bytes().await.map_err(|error| self.no_response(&error))?.into();
        if let Some(observer) = &self.observer {
            let Call { path, query, body: request, .. } = *call;
            let (method, status) = (call.method.as_str(), status.as_u16());
            observer(&Exchange { method, path, query, request, status, date, response: &body });
        }
        Ok(Response { status, body, date, retry_after })
    }

    fn no_response(&self, error: &reqwest::Error) -> NoResponse {
        let kind = if error.is_timeout() {
            ErrorKind::Timeout(self.limits.attempt.as_secs())
        } else {
            let host = error.url().and_then(Url::host_str).unwrap_or("SuperOffice").to_owned();
            let mut reason = self.redactor.redact(&innermost(error));
            if reason.contains("invalid peer certificate") {
                reason += "; SUPEROFFICE_CA can contain the certificate of a private authority";
            }
            ErrorKind::Unreachable { host, reason }
        };
        NoResponse { kind, is_unsent: error.is_connect() }
    }
}

/// Returns `true` if another attempt may succeed, and has no effect that was not intended.
fn may_repeat(outcome: &Result<Response, NoResponse>, repeat: Repeat) -> bool {
    let (may_succeed, is_unprocessed) = match outcome {
        Ok(response) => {
            let is_throttled = response.status == StatusCode::TOO_MANY_REQUESTS;
            (is_throttled || response.status.is_server_error(), is_throttled || response.retry_after.is_some())
        }
        Err(failure) => (true, failure.is_unsent),
    };
    may_succeed && (repeat == Repeat::Always || is_unprocessed)
}

/// Reads `Retry-After`, in seconds or as a date.
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?;
    if let Ok(seconds) = value.to_str().ok()?.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    Some(Duration::try_from(http_date(value)?.duration_since(now)).unwrap_or_default())
}

fn http_date(value: &HeaderValue) -> Option<Timestamp> {
    Some(jiff::fmt::rfc2822::parse(value.to_str().ok()?.trim()).ok()?.timestamp())
}

/// Spreads waits, so that several programs do not return at the same time.
fn jittered(wait: Duration) -> Duration {
    wait.mul_f64(0.5 + fastrand::f64() / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_read_in_both_forms() {
        let now = "2026-11-24T09:00:00Z".parse().unwrap();
        let read = |value: &'static str| {
            retry_after(&HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static(value))]), now)
        };
        assert_eq!(read("7"), Some(Duration::from_secs(7)));
        assert_eq!(read("Tue, 24 Nov 2026 09:00:30 GMT"), Some(Duration::from_secs(30)));
        assert_eq!(read("Tue, 24 Nov 2026 08:00:00 GMT"), Some(Duration::ZERO));
        assert_eq!(read("soon"), None);
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }

    #[test]
    fn jitter_stays_between_half_and_the_whole_wait() {
        for _ in 0..100 {
            let wait = jittered(Duration::from_secs(10));
            assert!(wait >= Duration::from_secs(5) && wait <= Duration::from_secs(10), "{wait:?}");
        }
    }
}
