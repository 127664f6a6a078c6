//! CloudWatch Logs, read with `FilterLogEvents`.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_cloudwatchlogs::error::ProvideErrorMetadata;
use aws_setup::InvalidSettings;
pub use aws_setup::reason as aws_reason;
use jiff::Timestamp;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};

/// The time between the starts of two calls, for at most two calls per second: AWS limits `FilterLogEvents` to a few
/// calls per second for a whole account.
const CALL_INTERVAL: Duration = Duration::from_millis(550);
/// CloudWatch can repeat a token while it searches, but not for ever. A page without a token ends the log.
const MAX_REPEATED_TOKENS: usize = 100;

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
        mut found: impl FnMut(Timestamp, &str) -> ControlFlow<()>,
    ) -> Result<(), LogError> {
        let mut next: Option<String> = None;
        let (mut tokens, mut repeated) = (HashSet::new(), 0);
        loop {
            self.turn().await;
            let page = self
                .client
                .filter_log_events()
                .log_group_name(log_group)
                .filter_pattern(filter)
                .start_time(since.as_millisecond())
                .set_next_token(next.take())
                .send()
                .await
                .map_err(|error| LogError {
                    log_group: log_group.to_owned(),
                    reason: aws_reason(&error),
                    is_missing: error.code() == Some("ResourceNotFoundException"),
                })?;
            for event in page.events() {
                let written = event.timestamp().and_then(|written| Timestamp::from_millisecond(written).ok());
                if let (Some(written), Some(line)) = (written, event.message())
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

    /// Waits until the next call may be made.
    async fn turn(&self) {
        let mut next_call = self.next_call.lock().await;
        sleep_until(*next_call).await;
        *next_call = Instant::now() + self.interval;
    }
}
