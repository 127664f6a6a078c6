//! The SQS client: connections, credentials, TLS, timeouts and retries. The only user of the AWS SDK.
//!
//! SuperOffice does not document its timeout, so every wait is bounded. The SDK retries throttling, 5xx responses,
//! broken connections and hanging attempts.

use std::sync::Arc;
use std::time::Duration;

use aws_config::default_provider::credentials::DefaultCredentialsChain;
use aws_config::environment::EnvironmentVariableCredentialsProvider;
use aws_config::meta::credentials::CredentialsProviderChain;
use aws_config::provider_config::ProviderConfig;
use aws_config::stalled_stream_protection::StalledStreamProtectionConfig;
use aws_config::{BehaviorVersion, Region};
use aws_credential_types::credential_fn::provide_credentials_fn;
use aws_credential_types::provider::ProvideCredentials;
use aws_sdk_sqs::config::retry::{RetryConfig, RetryPartition, TokenBucket};
use aws_sdk_sqs::config::timeout::TimeoutConfig;
use aws_sdk_sqs::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_sqs::types::{MessageAttributeValue, MessageSystemAttributeNameForSends, MessageSystemAttributeValue};
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use aws_smithy_runtime_api::client::http::{
    HttpConnectorSettings, SharedHttpClient, SharedHttpConnector, http_client_fn,
};
use md5::{Digest, Md5};
use tokio::sync::OnceCell;

use crate::env::has_empty_endpoint;
use crate::function::queue::{Queue, QueueError, WithFallback};
use crate::function::queue_url::QueueUrl;
use crate::message::QueueMessage;

/// The limit for opening a connection, including name lookup and TLS.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// The limit for the check of the queue during startup. Short, because an event may be waiting.
const WARM_UP_TIMEOUT: Duration = Duration::from_millis(500);
/// The number of attempts to send a message to a queue.
const ATTEMPTS: u32 = 3;
/// The longest pause before the second attempt; it doubles with each further attempt.
const FIRST_BACKOFF: Duration = Duration::from_millis(50);
/// The longest pause before any attempt.
const LONGEST_BACKOFF: Duration = Duration::from_millis(500);

impl<E: ProvideErrorMetadata> From<&SdkError<E>> for QueueError {
    fn from(error: &SdkError<E>) -> Self {
        let code = error.as_service_error().and_then(ProvideErrorMetadata::code).map(truncate);
        let status = error.raw_response().map(|response| response.status());
        match error {
            SdkError::TimeoutError(_) => Self::Timeout,
            SdkError::DispatchFailure(failure) if failure.is_timeout() => Self::Timeout,
            // The SDK does not count a connection that was closed before the response as an I/O error.
            SdkError::DispatchFailure(failure) if failure.is_io() || failure.as_other().is_some() => Self::Unreachable,
            SdkError::ServiceError(_) | SdkError::ResponseError(_) => match (code, status) {
                (code, Some(status)) if status.is_server_error() => {
                    Self::Unavailable(code.unwrap_or_else(|| format!("HTTP {status}")))
                }
                (Some(code), _) => Self::Rejected(code),
                (None, _) => Self::InvalidResponse,
            },
            _ => Self::ConstructionFailure,
        }
    }
}

/// Bounds an error code for the log.
fn truncate(code: &str) -> String {
    code.chars().take(100).collect()
}

/// An SQS queue.
#[derive(Clone, Debug)]
pub struct SqsQueue {
    client: aws_sdk_sqs::Client,
    url: QueueUrl,
}

impl SqsQueue {
    /// Opens the connection and checks that the queue exists, so that the first event pays for neither. Failures are
    /// logged and do not prevent startup.
    pub async fn warm_up(&self) {
        let timeouts = TimeoutConfig::builder().operation_timeout(WARM_UP_TIMEOUT).build();
        let once = aws_sdk_sqs::config::Builder::new().retry_config(RetryConfig::disabled()).timeout_config(timeouts);
        let attributes = self
            .client
            .get_queue_attributes()
            .queue_url(self.url.as_str())
            .attribute_names(aws_sdk_sqs::types::QueueAttributeName::QueueArn)
            .customize()
            .config_override(once)
            .send()
            .await;
        match attributes.as_ref().map_err(QueueError::from) {
            Ok(_) => {}
            // This permission is not needed to send.
            Err(QueueError::Rejected(code)) if code.contains("AccessDenied") => {
                tracing::info!(queue = self.url.as_str(), %code, "queue could not be checked");
            }
            Err(error) => tracing::warn!(queue = self.url.as_str(), %error, "queue could not be checked"),
        }
    }
}

impl Queue for SqsQueue {
    async fn send(&self, message: &QueueMessage, trace_header: Option<&str>) -> Result<String, QueueError> {
        let mut request = self.client.send_message().queue_url(self.url.as_str()).message_body(&message.body);
        for attribute in &message.attributes {
            let value = MessageAttributeValue::builder()
                .data_type(attribute.data_type)
                .string_value(&attribute.value)
                .build()
                .map_err(|_| QueueError::ConstructionFailure)?;
            request = request.message_attributes(attribute.name, value);
        }
        if let Some(header) = trace_header {
            let value = MessageSystemAttributeValue::builder()
                .data_type("String")
                .string_value(header)
                .build()
                .map_err(|_| QueueError::ConstructionFailure)?;
            request = request.message_system_attributes(MessageSystemAttributeNameForSends::AwsTraceHeader, value);
        }
        request = if self.url.is_fifo() {
            request.message_group_id(&message.group_id).message_deduplication_id(&message.deduplication_id)
        } else {
            request.set_message_group_id(message.tenant_group_id.clone())
        };
        let sent = request.send().await.map_err(|error| QueueError::from(&error))?;
        // The SDK for Rust does not compare the digest.
        if sent.md5_of_message_body().is_some_and(|digest| digest != hex::encode(Md5::digest(&message.body))) {
            return Err(QueueError::DigestMismatch);
        }
        sent.message_id.ok_or(QueueError::InvalidResponse)
    }
}

/// The time limits of a queue. SQS usually responds within tens of milliseconds, so a hanging attempt leaves time for
/// another.
#[derive(Clone, Copy, Debug)]
struct Limits {
    attempt: Duration,
    all_attempts: Duration,
}

/// A queue without a fallback.
const ONLY: Limits = Limits { attempt: Duration::from_secs(2), all_attempts: Duration::from_secs(6) };
/// A queue with a fallback. Short, because the sender may not wait for both.
const PRIMARY: Limits = Limits { attempt: Duration::from_secs(1), all_attempts: Duration::from_secs(2) };
/// A fallback queue, which may be in another region.
const FALLBACK: Limits = Limits { attempt: Duration::from_secs(2), all_attempts: Duration::from_secs(4) };

/// The clients for all queues. They share connections and credentials.
#[derive(Debug)]
pub struct SqsClients {
    client: aws_sdk_sqs::Client,
}

impl SqsClients {
    /// Loads the configuration that all clients share, for the region of `queue`.
    pub async fn load(queue: &QueueUrl) -> Self {
        let retries = RetryConfig::standard()
            .with_max_attempts(ATTEMPTS)
            .with_initial_backoff(FIRST_BACKOFF)
            .with_max_backoff(LONGEST_BACKOFF);
        let region = Region::new(queue.region().to_owned());
        let http_client = http_client();
        let config = aws_config::defaults(BehaviorVersion::v2026_01_12())
            .region(region.clone())
            .credentials_provider(credentials(region, http_client.clone()))
            .http_client(http_client)
            .timeout_config(ONLY.timeout_config())
            .retry_config(retries)
            // Unnecessary: each attempt has a timeout, and the protection costs a timer per request.
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .load()
            .await;
        // The SDK's default token bucket is shared by the whole process and is exhausted by about twenty failed sends.
        // Then even a closed connection would not be retried.
        let unlimited = RetryPartition::custom("unlimited").token_bucket(TokenBucket::unlimited()).build();
        let mut builder = aws_sdk_sqs::config::Builder::from(&config).retry_partition(unlimited);
        if has_empty_endpoint("AWS_ENDPOINT_URL_SQS", |name| std::env::var(name).ok()) {
            builder.set_endpoint_url(config.endpoint_url().map(str::to_owned));
        }
        Self { client: aws_sdk_sqs::Client::from_conf(builder.build()) }
    }

    /// Returns a queue with an optional fallback, each with its time limits.
    pub fn with_fallback(&self, primary: &QueueUrl, fallback: Option<&QueueUrl>) -> WithFallback<SqsQueue> {
        let limits = if fallback.is_some() { PRIMARY } else { ONLY };
        WithFallback::new(self.queue(primary, limits), fallback.map(|url| self.queue(url, FALLBACK)))
    }

    /// Returns a client for the region of a queue.
    pub fn client(&self, queue: &QueueUrl) -> aws_sdk_sqs::Client {
        self.queue(queue, ONLY).client
    }

    fn queue(&self, url: &QueueUrl, limits: Limits) -> SqsQueue {
        let config = self.client.config().to_builder();
        let config = config.region(Region::new(url.region().to_owned())).timeout_config(limits.timeout_config());
        SqsQueue { client: aws_sdk_sqs::Client::from_conf(config.build()), url: url.clone() }
    }
}

impl Limits {
    fn timeout_config(self) -> TimeoutConfig {
        TimeoutConfig::builder().operation_attempt_timeout(self.attempt).operation_timeout(self.all_attempts).build()
    }
}

/// Returns a client with one HTTPS connector. By default, the SDK creates a connector for each client and each set of
/// timeouts, and each of them reads all root certificates.
fn http_client() -> SharedHttpClient {
    let settings = HttpConnectorSettings::builder().connect_timeout(CONNECT_TIMEOUT).build();
    let connector = aws_smithy_http_client::Connector::builder()
        .tls_provider(Provider::Rustls(CryptoMode::Ring))
        .connector_settings(settings)
        .build();
    let connector = SharedHttpConnector::new(connector);
    http_client_fn(move |_, _| connector.clone())
}

/// Returns the default credentials chain. Environment credentials (the Lambda case) are tried first; the rest is built
/// when it is needed.
fn credentials(region: Region, http_client: SharedHttpClient) -> CredentialsProviderChain {
    let config = ProviderConfig::default().with_region(Some(region)).with_http_client(http_client);
    let chain = Arc::new(OnceCell::new());
    let other_sources = provide_credentials_fn(move || {
        let (config, chain) = (config.clone(), Arc::clone(&chain));
        async move {
            let build = || DefaultCredentialsChain::builder().configure(config).build();
            let chain: &DefaultCredentialsChain = chain.get_or_init(build).await;
            chain.provide_credentials().await
        }
    });
    CredentialsProviderChain::first_try("Environment", EnvironmentVariableCredentialsProvider::new())
        .or_else("Default", other_sources)
}

#[cfg(test)]
mod tests {
    use aws_sdk_sqs::operation::send_message::{SendMessageError, SendMessageOutput};
    use aws_sdk_sqs::types::error::QueueDoesNotExist;
    use aws_smithy_mocks::{Rule, RuleMode, mock, mock_client};
    use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
    use aws_smithy_runtime_api::http::StatusCode;

    use super::*;
    use crate::message::Attribute;

    const STANDARD: &str = "https://sqs.eu-north-1.amazonaws.com/123456789012/events";
    const FIFO: &str = "https://sqs.eu-north-1.amazonaws.com/123456789012/events.fifo";
    const TRACE: &str = "Root=1-5759e988-bd862e3fe1be46a994272793";

    fn message() -> QueueMessage {
        QueueMessage {
            body: "{}".into(),
            attributes: vec![Attribute { name: "PrimaryKey", data_type: "Number", value: "7".into() }],
            group_id: "group".into(),
            deduplication_id: "deduplication".into(),
            tenant_group_id: Some("tenant".into()),
        }
    }

    async fn send(url: &str, rule: &Rule) -> Result<String, QueueError> {
        let client = mock_client!(aws_sdk_sqs, RuleMode::Sequential, [rule], |config| {
            config.retry_config(RetryConfig::disabled())
        });
        let queue = SqsQueue { client, url: QueueUrl::parse(url, None).unwrap() };
        queue.send(&message(), Some(TRACE)).await
    }

    fn sent(id: Option<&str>, md5: Option<&str>) -> SendMessageOutput {
        let output = SendMessageOutput::builder();
        output.set_message_id(id.map(str::to_owned)).set_md5_of_message_body(md5.map(str::to_owned)).build()
    }

    /// echo -n '{}' | md5sum
    const MD5: &str = "99914b932bd37a50b983c5e7c90ae93b";

    /// SuperOffice receives a response within 8 s, or within 7 s with a fallback.
    #[test]
    fn limits_leave_time_for_a_cold_start() {
        let rest = Duration::from_millis(500);
        assert!(WARM_UP_TIMEOUT + ONLY.all_attempts + rest <= Duration::from_secs(8));
        assert!(WARM_UP_TIMEOUT + PRIMARY.all_attempts + FALLBACK.all_attempts + rest <= Duration::from_secs(7));
    }

    #[tokio::test]
    async fn message_is_sent_with_attributes_and_trace_header() {
        let rule = mock!(aws_sdk_sqs::Client::send_message)
            .match_requests(|request| {
                let attribute = &request.message_attributes().unwrap()["PrimaryKey"];
                let system = request.message_system_attributes().unwrap();
                request.queue_url() == Some(STANDARD)
                    && request.message_body() == Some("{}")
                    && (attribute.data_type(), attribute.string_value()) == ("Number", Some("7"))
                    && system[&MessageSystemAttributeNameForSends::AwsTraceHeader].string_value() == Some(TRACE)
                    && request.message_group_id() == Some("tenant")
                    && request.message_deduplication_id().is_none()
            })
            .then_output(|| sent(Some("m1"), Some(MD5)));
        assert_eq!(send(STANDARD, &rule).await, Ok("m1".into()));
    }

    #[tokio::test]
    async fn fifo_queue_gets_group_and_deduplication_ids() {
        let rule = mock!(aws_sdk_sqs::Client::send_message)
            .match_requests(|request| {
                request.message_group_id() == Some("group")
                    && request.message_deduplication_id() == Some("deduplication")
            })
            .then_output(|| sent(Some("m1"), None));
        assert_eq!(send(FIFO, &rule).await, Ok("m1".into()));
    }

    #[tokio::test]
    async fn response_without_id_or_with_another_digest_is_an_error() {
        for (id, md5, error) in
            [(None, Some(MD5), QueueError::InvalidResponse), (Some("m1"), Some("00"), QueueError::DigestMismatch)]
        {
            let rule = mock!(aws_sdk_sqs::Client::send_message).then_output(move || sent(id, md5));
            assert_eq!(send(STANDARD, &rule).await, Err(error));
        }
    }

    #[tokio::test]
    async fn error_code_of_sqs_is_kept() {
        let rule = mock!(aws_sdk_sqs::Client::send_message).then_error(|| {
            let metadata = aws_sdk_sqs::error::ErrorMetadata::builder().code("QueueDoesNotExist").build();
            SendMessageError::QueueDoesNotExist(QueueDoesNotExist::builder().meta(metadata).build())
        });
        assert_eq!(send(STANDARD, &rule).await, Err(rejected("QueueDoesNotExist")));
    }

    #[tokio::test]
    async fn response_is_classified_by_status_and_code() {
        for (status, body, error) in [
            (200, "<html>", QueueError::InvalidResponse),
            (404, "<html>", QueueError::InvalidResponse),
            (400, r#"{"__type":"com.amazonaws.sqs#InvalidMessageContents"}"#, rejected("InvalidMessageContents")),
            (503, "<html>", QueueError::Unavailable("HTTP 503".into())),
            (500, r#"{"__type":"InternalFailure"}"#, QueueError::Unavailable("InternalFailure".into())),
        ] {
            let rule = mock!(aws_sdk_sqs::Client::send_message)
                .then_http_response(move || HttpResponse::new(StatusCode::try_from(status).unwrap(), body.into()));
            assert_eq!(send(STANDARD, &rule).await, Err(error), "{status} {body}");
        }
    }

    fn rejected(code: &str) -> QueueError {
        QueueError::Rejected(code.into())
    }

    #[test]
    fn sdk_errors_are_classified() {
        use aws_smithy_runtime_api::client::result::ConnectorError;

        type Error = SdkError<SendMessageError>;
        for (error, expected) in [
            (Error::timeout_error("t"), QueueError::Timeout),
            (Error::dispatch_failure(ConnectorError::timeout("t".into())), QueueError::Timeout),
            (Error::dispatch_failure(ConnectorError::io("i".into())), QueueError::Unreachable),
            (Error::dispatch_failure(ConnectorError::other("o".into(), None)), QueueError::ConstructionFailure),
            (Error::dispatch_failure(ConnectorError::user("u".into())), QueueError::ConstructionFailure),
            (Error::construction_failure("c"), QueueError::ConstructionFailure),
        ] {
            assert_eq!(QueueError::from(&error), expected, "{error:?}");
        }
    }
}
