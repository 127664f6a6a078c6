//! The AWS SDK's configuration, the same for every program of this workspace.
//!
//! ```no_run
//! # async fn example() -> Result<(), aws_setup::InvalidSettings> {
//! let config = aws_setup::load().await?;
//! let logs = aws_sdk_cloudwatchlogs::Client::new(&config);
//! # Ok(()) }
//! ```

mod https;

use std::error::Error;
use std::time::Duration;

use aws_config::BehaviorVersion;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
pub use aws_types::SdkConfig;
use aws_types::region::Region;
use aws_types::service_config::{LoadServiceConfig, ServiceConfigKey};

pub use https::{HttpsSettings, InvalidSettings};

/// The time limits of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The limit for opening a connection, including name lookup and TLS.
    pub connect: Duration,
    /// The limit for one attempt.
    pub attempt: Duration,
    /// The limit for a call with all its attempts.
    pub call: Duration,
    /// The number of attempts of a call. The SDK waits a random time before each further attempt.
    pub attempts: u32,
}

impl Default for Limits {
    /// Returns the limits of a program that nobody waits for.
    fn default() -> Self {
        let (connect, attempt, call) = (Duration::from_secs(5), Duration::from_secs(20), Duration::from_secs(120));
        Self { connect, attempt, call, attempts: 5 }
    }
}

/// Loads the configuration with the default limits. Clients are created from it with `Client::new`.
///
/// # Errors
///
/// [`InvalidSettings`] if `HTTPS_PROXY` or `AWS_CA_BUNDLE` cannot be used.
pub async fn load() -> Result<SdkConfig, InvalidSettings> {
    load_with(Limits::default()).await
}

/// Loads the configuration: credentials, region, endpoints and the way to AWS, from the environment and from profiles.
///
/// # Errors
///
/// [`InvalidSettings`] if `HTTPS_PROXY` or `AWS_CA_BUNDLE` cannot be used.
pub async fn load_with(limits: Limits) -> Result<SdkConfig, InvalidSettings> {
    let https = HttpsSettings::from_lookup(|name| std::env::var(name).ok())?;
    let timeouts =
        TimeoutConfig::builder().operation_attempt_timeout(limits.attempt).operation_timeout(limits.call).build();
    let config = aws_config::defaults(BehaviorVersion::v2026_01_12())
        .http_client(https.client(limits.connect))
        .timeout_config(timeouts)
        .retry_config(RetryConfig::standard().with_max_attempts(limits.attempts))
        .load()
        .await;
    Ok(without_empty_endpoints(config))
}

/// Returns the region in an ARN, or `None` for a text that is no ARN.
pub fn region_of(arn: &str) -> Option<&str> {
    let mut parts = arn.split(':');
    (parts.next() == Some("arn")).then(|| parts.nth(2)).flatten().filter(|region| !region.is_empty())
}

/// Returns the configuration for another region.
pub fn in_region(config: &SdkConfig, region: &str) -> SdkConfig {
    config.clone().into_builder().region(Region::new(region.to_owned())).build()
}

/// Returns the configuration for a resource that is named by its name or its ARN. An ARN contains the region.
pub fn for_resource(config: &SdkConfig, name: &str) -> SdkConfig {
    region_of(name).map_or_else(|| config.clone(), |region| in_region(config, region))
}

/// Returns the endpoint of a service: `AWS_ENDPOINT_URL_` with the service's id, `AWS_ENDPOINT_URL`, or the same
/// settings of a profile. An empty value counts as unset, although the SDK would try to use it.
pub fn endpoint(config: &SdkConfig, service_id: &str) -> Option<String> {
    let key = ServiceConfigKey::builder().service_id(service_id).env("AWS_ENDPOINT_URL").profile("endpoint_url");
    let of_service = config.service_config().and_then(|config| config.load_config(key.build().ok()?));
    [of_service, config.endpoint_url().map(str::to_owned)].into_iter().flatten().find(|url| !url.is_empty())
}

/// Returns the code and message of an AWS service, or the chain of causes if the service did not respond.
pub fn reason<E: ProvideErrorMetadata + Error>(error: &E) -> String {
    if let (Some(code), Some(message)) = (error.code(), error.message()) {
        return format!("{code}: {message}");
    }
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}

/// Makes every client that is created from the configuration ignore empty endpoints.
fn without_empty_endpoints(config: SdkConfig) -> SdkConfig {
    let endpoint = config.endpoint_url().filter(|url| !url.is_empty()).map(str::to_owned);
    let mut builder = config.clone().into_builder();
    builder.set_endpoint_url(endpoint).set_service_config(Some(NonEmpty(config)));
    builder.build()
}

/// The settings of single services, without empty values.
#[derive(Debug)]
struct NonEmpty(SdkConfig);

impl LoadServiceConfig for NonEmpty {
    fn load_config(&self, key: ServiceConfigKey<'_>) -> Option<String> {
        self.0.service_config()?.load_config(key).filter(|value| !value.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn region_is_read_from_an_arn() {
        assert_eq!(region_of("arn:aws:dynamodb:eu-west-1:123456789012:table/events"), Some("eu-west-1"));
        assert_eq!(region_of("arn:aws:iam::123456789012:role/events"), None);
        assert_eq!(region_of("events"), None);
    }

    /// The environment's settings: `AWS_ENDPOINT_URL_CLOUDWATCH_LOGS` and `AWS_ENDPOINT_URL`.
    #[derive(Debug)]
    struct Endpoints(Option<&'static str>, Option<&'static str>);

    impl LoadServiceConfig for Endpoints {
        fn load_config(&self, key: ServiceConfigKey<'_>) -> Option<String> {
            assert_eq!((key.service_id(), key.env(), key.profile()), (SERVICE, "AWS_ENDPOINT_URL", "endpoint_url"));
            self.0.or(self.1).map(str::to_owned)
        }
    }

    const SERVICE: &str = "CloudWatch Logs";

    #[test]
    fn endpoint_of_a_service_precedes_the_endpoint_of_all_and_empty_is_unset() {
        for (service, all, expected) in [
            (None, None, None),
            (None, Some("https://all"), Some("https://all")),
            (None, Some(""), None),
            (Some(""), None, None),
            (Some(""), Some("https://all"), Some("https://all")),
            (Some("https://logs"), Some(""), Some("https://logs")),
        ] {
            let mut builder = SdkConfig::builder().behavior_version(BehaviorVersion::v2026_01_12());
            builder.set_endpoint_url(all.map(str::to_owned)).set_service_config(Some(Endpoints(service, all)));
            let config = builder.build();
            assert_eq!(endpoint(&config, SERVICE).as_deref(), expected, "{service:?} {all:?}");
            let config = without_empty_endpoints(config);
            assert_eq!(endpoint(&config, SERVICE).as_deref(), expected, "{service:?} {all:?}");
            let client = aws_sdk_cloudwatchlogs::Config::from(&config);
            let text = format!("{client:?}");
            let found = expected.is_some_and(|url| text.contains(&format!("EndpointUrl({url:?})")));
            assert_eq!((found, text.contains("EndpointUrl(")), (expected.is_some(), expected.is_some()), "{text}");
        }
    }
}
