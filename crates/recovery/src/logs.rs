//! CloudWatch Logs, read with `FilterLogEvents`.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_cloudwatchlogs::Config;
use aws_sdk_cloudwatchlogs::config::retry::RetryConfig;
use aws_sdk_cloudwatchlogs::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_cloudwatchlogs::operation::filter_log_events::builders::FilterLogEventsFluentBuilder;
use aws_sdk_cloudwatchlogs::operation::filter_log_events::{FilterLogEventsError, FilterLogEventsOutput};
use aws_setup::InvalidSettings;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, sleep_until};

/// The time between the starts of two calls, for at most two calls per second: AWS limits `FilterLogEvents` to a few
/// calls per second for a whole account.
const CALL_INTERVAL: Duration = Duration::from_millis(550);
/// The number of attempts for a page.
const ATTEMPTS: u32 = 7;
/// Half of the longest wait before the second attempt; it doubles for each further attempt.
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// CloudWatch can repeat a token while it searches, but not for ever. A page without a token ends the log.
const MAX_REPEATED_TOKENS: usize = 100;
/// A line appears at most this much later than a line of a later time: CloudWatch collects them from several streams.
pub(crate) const DISORDER: SignedDuration = SignedDuration::from_secs(60);

type PageError = SdkError<FilterLogEventsError>;

/// A log group cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("the log group {log_group} cannot be read: {reason}")]
pub struct LogError {
    log_group: String,
    reason: String,
    is_missing: bool,
}

impl LogError {
    /// Returns `true` if the log group does not exist.
    pub fn is_missing(&self) -> bool {
        self.is_missing
    }
}

/// CloudWatch Logs, with the SDK's own configuration.
#[derive(Clone, Debug)]
pub struct Logs {
    client: aws_sdk_cloudwatchlogs::Client,
    interval: Duration,
    /// The earliest time of the next call, of all clones.
    next_call: Arc<Mutex<Instant>>,
}

impl Logs {
    /// Loads the SDK's configuration from the environment.
    ///
    /// # Errors
    ///
    /// [`InvalidSettings`] if the proxy or the root certificates for AWS cannot be used.
    pub async fn load() -> Result<Self, InvalidSettings> {
        Ok(Self::new(aws_sdk_cloudwatchlogs::Client::new(&aws_setup::load().await?)))
    }

    /// Uses a client that is configured already.
    pub fn new(client: aws_sdk_cloudwatchlogs::Client) -> Self {
        Self { client, interval: CALL_INTERVAL, next_call: Arc::new(Mutex::new(Instant::now())) }
    }

    /// Makes calls without waits between them, for tests against a log in the same process.
    #[must_use]
    pub fn without_waits(mut self) -> Self {
        self.interval = Duration::ZERO;
        self
    }

    /// Passes the lines written since a point in time to `found`, oldest first, until it breaks.
    ///
    /// # Errors
    ///
    /// [`LogError`] if a page cannot be read, or if pages repeat for ever.
    pub async fn read(
        &self,
        log_group: &str,
        filter: &str,
        since: Timestamp,
        found: impl FnMut(Timestamp, &str) -> ControlFlow<()>,
    ) -> Result<(), LogError> {
        self.read_between(log_group, filter, since, Timestamp::MAX, found).await
    }

    /// Passes the lines of a period, both ends included, to `found`, oldest first, until it breaks.
    ///
    /// # Errors
    ///
    /// [`LogError`] if a page cannot be read, or if pages repeat for ever.
    pub async fn read_between(
        &self,
        log_group: &str,
        filter: &str,
        since: Timestamp,
        until: Timestamp,
        mut found: impl FnMut(Timestamp, &str) -> ControlFlow<()>,
    ) -> Result<(), LogError> {
        let end = (until != Timestamp::MAX).then(|| until.as_millisecond());
        let request = self
            .client
            .filter_log_events()
            .log_group_name(log_group)
            .filter_pattern(filter)
            .start_time(since.as_millisecond())
            .set_end_time(end);
        let mut next: Option<String> = None;
        let (mut tokens, mut repeated) = (HashSet::new(), 0);
        loop {
            let page = self.page(request.clone().set_next_token(next.take())).await;
            let page = page.map_err(|error| LogError {
                log_group: log_group.to_owned(),
                reason: aws_setup::reason(&error),
                is_missing: error.code() == Some("ResourceNotFoundException"),
            })?;
            for event in page.events() {
                let written = event.timestamp().and_then(|written| Timestamp::from_millisecond(written).ok());
                if let (Some(written), Some(line)) = (written, event.message())
                    && written <= until
                    && found(written, line).is_break()
                {
                    return Ok(());
                }
            }
            match page.next_token {
                None => return Ok(()),
                Some(token) => {
                    repeated += usize::from(!tokens.insert(token.clone()));
                    if repeated > MAX_REPEATED_TOKENS {
                        let reason = format!("more than {MAX_REPEATED_TOKENS} tokens of pages are repeated");
                        return Err(LogError { log_group: log_group.to_owned(), reason, is_missing: false });
                    }
                    next = Some(token);
                }
            }
        }
    }

    /// Reads a page. A transient refusal is repeated, as slowly as every other call.
    async fn page(&self, request: FilterLogEventsFluentBuilder) -> Result<FilterLogEventsOutput, PageError> {
        let mut attempt = 1;
        loop {
            self.turn().await;
            let once = Config::builder().retry_config(RetryConfig::disabled());
            let result = request.clone().customize().config_override(once).send().await;
            match result {
                Err(error) if attempt < ATTEMPTS && is_transient(&error) => {
                    let wait = FIRST_WAIT.saturating_mul(1 << attempt).mul_f64(0.5 + fastrand::f64() / 2.0);
                    // Without waits between calls, a test is not to wait either.
                    sleep(wait.min(self.interval * 40)).await;
                    attempt += 1;
                }
                result => return result,
            }
        }
    }

    /// Waits until the next call may be made.
    async fn turn(&self) {
        let mut next_call = self.next_call.lock().await;
        sleep_until(*next_call).await;
        *next_call = Instant::now() + self.interval;
    }
}

/// Returns `true` if another attempt may succeed: a throttled call, an error of the service, or no response.
fn is_transient(error: &PageError) -> bool {
    let is_service = |status: u16| status == 429 || status >= 500;
    let is_throttled = error.code().is_some_and(|code| code.contains("Throttl") || code == "TooManyRequestsException");
    is_throttled
        || match error {
            SdkError::TimeoutError(_) | SdkError::ResponseError(_) => true,
            SdkError::DispatchFailure(failure) => failure.is_io() || failure.is_timeout(),
            SdkError::ServiceError(refusal) => is_service(refusal.raw().status().as_u16()),
            _ => false,
        }
}
