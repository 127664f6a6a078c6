//! CloudWatch Logs, read with `FilterLogEvents`.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use aws_config::BehaviorVersion;
use aws_sdk_cloudwatchlogs::error::ProvideErrorMetadata;
use aws_smithy_http_client::Builder;
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;
use jiff::Timestamp;
use superoffice_client::with_causes;
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
    /// Loads credentials, region and endpoint from the environment.
    pub async fn load() -> Self {
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(Duration::from_secs(5))
            .operation_attempt_timeout(Duration::from_secs(20))
            .operation_timeout(Duration::from_secs(120))
            .build();
        let config = aws_config::defaults(BehaviorVersion::v2026_01_12())
            .http_client(Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https())
            .timeout_config(timeouts)
            .retry_config(RetryConfig::standard().with_max_attempts(5))
            .load()
            .await;
        let mut builder = aws_sdk_cloudwatchlogs::config::Builder::from(&config);
        if has_empty_endpoint("AWS_ENDPOINT_URL_CLOUDWATCH_LOGS", |name| std::env::var(name).ok()) {
            builder.set_endpoint_url(config.endpoint_url().map(str::to_owned));
        }
        Self::new(aws_sdk_cloudwatchlogs::Client::from_conf(builder.build()))
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

/// Returns the code and message of an AWS service, or the chain of causes if the service did not respond.
pub fn aws_reason<E: ProvideErrorMetadata + std::error::Error>(error: &E) -> String {
    match (error.code(), error.message()) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        _ => with_causes(error),
    }
}

/// Returns `true` if the variable for the endpoint of an AWS service is empty. If the service's own variable does not
/// exist, `AWS_ENDPOINT_URL` is the one. Empty means unset, but the SDK for Rust would panic.
fn has_empty_endpoint(service_variable: &str, lookup: impl Fn(&str) -> Option<String>) -> bool {
    lookup(service_variable).or_else(|| lookup("AWS_ENDPOINT_URL")).is_some_and(|url| url.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoint_of_a_service_precedes_the_endpoint_of_all() {
        for (service, all, expected) in [
            (None, None, false),
            (None, Some("https://all"), false),
            (None, Some(""), true),
            (Some(""), None, true),
            (Some(""), Some("https://all"), true),
            (Some("https://sqs"), Some(""), false),
        ] {
            let lookup = |name: &str| if name == "AWS_ENDPOINT_URL" { all } else { service }.map(str::to_owned);
            assert_eq!(has_empty_endpoint("AWS_ENDPOINT_URL_SQS", lookup), expected, "{service:?} {all:?}");
        }
    }
}
