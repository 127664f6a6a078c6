//! The SQS client: endpoints, credentials, timeouts and retries. The only user of the AWS SDK in the function.
//!
//! SuperOffice does not document its timeout, so every wait is bounded. The SDK retries each transient refusal,
//! broken connections and hanging attempts.

use std::error::Error;
use std::marker::PhantomData;
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
use aws_sdk_sqs::operation::delete_message::DeleteMessageError;
use aws_sdk_sqs::operation::receive_message::ReceiveMessageError;
use aws_sdk_sqs::operation::send_message::SendMessageError;
use aws_sdk_sqs::types::{MessageAttributeValue, MessageSystemAttributeNameForSends, MessageSystemAttributeValue};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use aws_smithy_runtime_api::client::interceptors::context::InterceptorContext;
use aws_smithy_runtime_api::client::orchestrator::OrchestratorError;
use aws_smithy_runtime_api::client::retries::classifiers::{ClassifyRetry, RetryAction};
use aws_smithy_runtime_api::http::StatusCode;
use md5::{Digest, Md5};
use tokio::sync::OnceCell;

use crate::function::config::Config;
use crate::function::queue::{Queue, QueueError, WithFallback};
use crate::function::queue_url::QueueUrl;
use crate::message::QueueMessage;

/// The limit for opening a connection, including name lookup and TLS.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// The limit for the check of the queue during startup. It is short, because an event may be waiting.
const WARM_UP_TIMEOUT: Duration = Duration::from_millis(500);
/// The number of attempts to send a message to a queue.
const ATTEMPTS: u32 = 3;
/// The longest pause before the second attempt; it doubles with each further attempt.
const FIRST_BACKOFF: Duration = Duration::from_millis(50);
/// The longest pause before any attempt.
const LONGEST_BACKOFF: Duration = Duration::from_millis(500);

/// Parts of the error codes that AWS documents as transient, for SQS, for KMS, and for all services.
///
/// SQS documents `KmsDisabled` as throttling. A key's state can be transient, too: `Unavailable` and `Creating`, for
/// example.
const TRANSIENT_CODES: [&str; 14] = [
    "Throttl",
    "TooManyRequests",
    "SlowDown",
    "PriorRequestNotComplete",
    "TransactionInProgress",
    "LimitExceeded",
    "ThroughputExceeded",
    "Timeout",
    "Unavailable",
    "Internal",
    "RequestAborted",
    "KmsDisabled",
    "KMS.Disabled",
    "InvalidState",
];

/// Returns `true` if a later attempt can succeed: after throttling, by SQS, KMS or a proxy, or after a server error.
fn is_transient(status: StatusCode, code: Option<&str>) -> bool {
    status.is_server_error()
        || matches!(status.as_u16(), 408 | 429)
        || code.is_some_and(|code| TRANSIENT_CODES.iter().any(|part| code.contains(part)))
}

/// Makes the SDK retry each transient refusal. By itself, the SDK retries neither throttling by KMS nor 429.
#[derive(Debug)]
struct TransientRefusals<E>(PhantomData<E>);

impl<E: ProvideErrorMetadata + Error + Send + Sync + 'static> ClassifyRetry for TransientRefusals<E> {
    fn classify_retry(&self, context: &InterceptorContext) -> RetryAction {
        let error = context.output_or_error().and_then(|result| result.err());
        let error = error.and_then(OrchestratorError::as_operation_error).and_then(|error| error.downcast_ref::<E>());
        match context.response() {
            Some(response) if is_transient(response.status(), error.and_then(E::code)) => {
                RetryAction::transient_error()
            }
            _ => RetryAction::NoActionIndicated,
        }
    }

    fn name(&self) -> &'static str {
        "transient refusals"
    }
}

impl<E: ProvideErrorMetadata> From<&SdkError<E>> for QueueError {
    fn from(error: &SdkError<E>) -> Self {
        let code = error.as_service_error().and_then(ProvideErrorMetadata::code).map(truncate);
        match error {
            SdkError::TimeoutError(_) => Self::Timeout,
            SdkError::DispatchFailure(failure) if failure.is_timeout() => Self::Timeout,
            // The SDK does not count a connection that was closed before the response as an I/O error.
            SdkError::DispatchFailure(failure) if failure.is_io() || failure.as_other().is_some() => Self::Unreachable,
            SdkError::ServiceError(_) | SdkError::ResponseError(_) => {
                match (code, error.raw_response().map(|response| response.status())) {
                    (code, Some(status)) if is_transient(status, code.as_deref()) => {
                        Self::Unavailable(code.unwrap_or_else(|| format!("HTTP {status}")))
                    }
                    (Some(code), _) => Self::Rejected(code),
                    (None, _) => Self::InvalidResponse,
                }
            }
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
/// A queue with a fallback. The limits are short, because the sender may not wait for two queues.
const PRIMARY: Limits = Limits { attempt: Duration::from_secs(1), all_attempts: Duration::from_secs(2) };
/// A fallback queue, which may be in another region.
const FALLBACK: Limits = Limits { attempt: Duration::from_secs(2), all_attempts: Duration::from_secs(4) };

/// The clients for all queues. They share connections and credentials.
#[derive(Debug)]
pub struct SqsClients {
    config: aws_sdk_sqs::Config,
    /// The endpoint of all queues, instead of the hosts of their URLs.
    endpoint: Option<String>,
}

impl SqsClients {
    /// Loads the configuration that all clients share.
    pub async fn load(config: &Config) -> Self {
        let retries = RetryConfig::standard()
            .with_max_attempts(ATTEMPTS)
            .with_initial_backoff(FIRST_BACKOFF)
            .with_max_backoff(LONGEST_BACKOFF);
        let region = Region::new(config.queue.region().to_owned());
        let http_client = config.https.client(CONNECT_TIMEOUT);
        let config = aws_config::defaults(BehaviorVersion::v2026_01_12())
            .region(region.clone())
            .credentials_provider(credentials(region, http_client.clone()))
            .http_client(http_client)
            .timeout_config(ONLY.timeout_config())
            .retry_config(retries)
            // Each attempt has a timeout, so this protection is unnecessary. It costs a timer for each request.
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .load()
            .await;
        // The SDK's default token bucket is shared by the whole process and is exhausted by about twenty failed sends.
        // Then even a closed connection would not be retried.
        let unlimited = RetryPartition::custom("unlimited").token_bucket(TokenBucket::unlimited()).build();
        let builder = aws_sdk_sqs::config::Builder::from(&config)
            .retry_partition(unlimited)
            .retry_classifier(TransientRefusals::<SendMessageError>(PhantomData))
            // `redrive` uses this client, too.
            .retry_classifier(TransientRefusals::<ReceiveMessageError>(PhantomData))
            .retry_classifier(TransientRefusals::<DeleteMessageError>(PhantomData))
            // The SDK rejects these settings if an endpoint is set.
            .use_fips(false)
            .use_dual_stack(false);
        Self { config: builder.build(), endpoint: aws_setup::endpoint(&config, "SQS") }
    }

    /// Returns a queue with an optional fallback, each with its time limits.
    pub fn with_fallback(&self, primary: &QueueUrl, fallback: Option<&QueueUrl>) -> WithFallback<SqsQueue> {
        let limits = if fallback.is_some() { PRIMARY } else { ONLY };
        WithFallback::new(self.queue(primary, limits), fallback.map(|url| self.queue(url, FALLBACK)))
    }

    /// Returns a client for the host and region of a queue.
    pub fn client(&self, queue: &QueueUrl) -> aws_sdk_sqs::Client {
        self.queue(queue, ONLY).client
    }

    fn queue(&self, url: &QueueUrl, limits: Limits) -> SqsQueue {
        let config = self
            .config
            .to_builder()
            .region(Region::new(url.region().to_owned()))
            .endpoint_url(self.endpoint.as_deref().unwrap_or(url.endpoint()))
            .timeout_config(limits.timeout_config());
        SqsQueue { client: aws_sdk_sqs::Client::from_conf(config.build()), url: url.clone() }
    }
}

impl Limits {
    fn timeout_config(self) -> TimeoutConfig {
        TimeoutConfig::builder().operation_attempt_timeout(self.attempt).operation_timeout(self.all_attempts).build()
    }
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
    use aws_sdk_sqs::operation::send_message::SendMessageOutput;
    use aws_smithy_mocks::{Rule, RuleMode, mock, mock_client};
    use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

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

    const KMS_THROTTLED: &str = r#"{"__type":"com.amazonaws.sqs#KmsThrottled","message":"slow"}"#;

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

    /// Returns the error of a refusal, and the number of attempts.
    async fn refuse(status: u16, query_error: &'static str, body: &'static str) -> (QueueError, usize) {
        let rule = mock!(aws_sdk_sqs::Client::send_message).then_http_response(move || {
            let mut response = HttpResponse::new(StatusCode::try_from(status).unwrap(), body.into());
            if !query_error.is_empty() {
                response.headers_mut().insert("x-amzn-query-error", query_error);
            }
            response
        });
        let client = mock_client!(aws_sdk_sqs, RuleMode::MatchAny, [&rule], |config| {
            let retries = RetryConfig::standard().with_initial_backoff(Duration::from_millis(1));
            config.retry_config(retries).retry_classifier(TransientRefusals::<SendMessageError>(PhantomData))
        });
        let queue = SqsQueue { client, url: QueueUrl::parse(STANDARD, None).unwrap() };
        (queue.send(&message(), None).await.unwrap_err(), rule.num_calls())
    }

    /// The codes that AWS documents for SQS, for its use of KMS, for all services, and the codes of KMS itself.
    #[tokio::test]
    async fn transient_refusal_is_retried_and_counts_as_an_outage() {
        for (status, query_error, body, code) in [
            (400, "KMS.ThrottlingException;Sender", KMS_THROTTLED, "KMS.ThrottlingException"),
            (400, "", KMS_THROTTLED, "KmsThrottled"),
            (400, "RequestThrottled;Sender", "{}", "RequestThrottled"),
            (403, "RequestThrottled;Sender", r#"{"__type":"com.amazonaws.sqs#RequestThrottled"}"#, "RequestThrottled"),
            (400, "", r#"{"__type":"com.amazon.coral.availability#ThrottlingException"}"#, "ThrottlingException"),
            (400, "Throttling;Sender", "{}", "Throttling"),
            (400, "TooManyRequestsException;Sender", "{}", "TooManyRequestsException"),
            (400, "RequestLimitExceeded;Sender", "{}", "RequestLimitExceeded"),
            (400, "PriorRequestNotComplete;Sender", "{}", "PriorRequestNotComplete"),
            (400, "TransactionInProgressException;Sender", "{}", "TransactionInProgressException"),
            (408, "RequestTimeoutException;Sender", "{}", "RequestTimeoutException"),
            (400, "RequestAbortedException;Sender", "{}", "RequestAbortedException"),
            (
                400,
                "KMS.DisabledException;Sender",
                r#"{"__type":"com.amazonaws.sqs#KmsDisabled"}"#,
                "KMS.DisabledException",
            ),
            (400, "", r#"{"__type":"com.amazonaws.sqs#KmsDisabled"}"#, "KmsDisabled"),
            (400, "KMS.InvalidStateException;Sender", "{}", "KMS.InvalidStateException"),
            (400, "", r#"{"__type":"com.amazonaws.sqs#KmsInvalidState"}"#, "KmsInvalidState"),
            (400, "KMS.KMSInternalException;Receiver", "{}", "KMS.KMSInternalException"),
            (400, "KMS.DependencyTimeoutException;Receiver", "{}", "KMS.DependencyTimeoutException"),
            (400, "KMS.KeyUnavailableException;Receiver", "{}", "KMS.KeyUnavailableException"),
            (500, "InternalFailure;Receiver", "{}", "InternalFailure"),
            (500, "", r#"{"__type":"InternalError"}"#, "InternalError"),
            (503, "ServiceUnavailable;Receiver", "{}", "ServiceUnavailable"),
            (408, "", "<html>", "HTTP 408"),
            (429, "", "<html>", "HTTP 429"),
            (429, "", "{}", "HTTP 429"),
            (501, "", "<html>", "HTTP 501"),
            (502, "", "<html>", "HTTP 502"),
            (520, "", "", "HTTP 520"),
        ] {
            let error = QueueError::Unavailable(code.into());
            assert_eq!(refuse(status, query_error, body).await, (error, 3), "{status} {query_error} {body}");
        }
    }

    #[tokio::test]
    async fn permanent_refusal_is_not_retried() {
        for (status, query_error, body, code) in [
            (400, "AWS.SimpleQueueService.NonExistentQueue;Sender", "{}", "AWS.SimpleQueueService.NonExistentQueue"),
            (400, "", r#"{"__type":"com.amazonaws.sqs#QueueDoesNotExist"}"#, "QueueDoesNotExist"),
            (400, "", r#"{"__type":"com.amazonaws.sqs#InvalidMessageContents"}"#, "InvalidMessageContents"),
            (403, "AccessDenied;Sender", r#"{"__type":"AccessDeniedException"}"#, "AccessDenied"),
            (403, "InvalidClientTokenId;Sender", "{}", "InvalidClientTokenId"),
            (403, "OverLimit;Sender", "{}", "OverLimit"),
            (400, "KMS.AccessDeniedException;Sender", "{}", "KMS.AccessDeniedException"),
            (400, "KMS.InvalidKeyUsageException;Sender", "{}", "KMS.InvalidKeyUsageException"),
            (400, "KMS.NotFoundException;Sender", "{}", "KMS.NotFoundException"),
            (400, "KMS.OptInRequired;Sender", "{}", "KMS.OptInRequired"),
        ] {
            assert_eq!(refuse(status, query_error, body).await, (rejected(code), 1), "{status} {query_error} {body}");
        }
    }

    #[tokio::test]
    async fn response_is_classified_by_status_and_code() {
        for status in [200, 403, 404] {
            assert_eq!(refuse(status, "", "<html>").await, (QueueError::InvalidResponse, 1), "{status}");
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
