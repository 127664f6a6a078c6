//! SQS: where messages go, in bounded time. The only user of the AWS SDK.
//!
//! How long the sender waits for an answer is not documented, so every wait here is bounded. Retries are the SDK's own:
//! for throttling, 5xx, a broken connection and an attempt that hangs, not for what a retry cannot help.

use std::future::Future;
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

use crate::config::QueueUrl;
use crate::message::QueueMessage;

/// To open a connection, name look-up and TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// For one attempt; a queue answers in some ten milliseconds, so a hanging attempt leaves time for another.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(2);
/// For all attempts at the only queue.
const ONLY_QUEUE_TIMEOUT: Duration = Duration::from_secs(6);
/// For all attempts at a queue that has a fallback, and at the fallback.
const EACH_QUEUE_TIMEOUT: Duration = Duration::from_secs(4);
/// For the request that opens the connection before the first event.
const WARM_UP_TIMEOUT: Duration = Duration::from_secs(1);
const ATTEMPTS: u32 = 3;
const FIRST_BACKOFF: Duration = Duration::from_millis(50);
const LONGEST_BACKOFF: Duration = Duration::from_millis(500);

/// Takes messages. The seam between a delivery and SQS.
pub trait Queue: Send + Sync {
    /// Sends a message, with the X-Ray header that its trace goes on with, and gives its `MessageId`.
    fn send(
        &self,
        message: &QueueMessage,
        trace_header: Option<&str>,
    ) -> impl Future<Output = Result<String, QueueError>> + Send;
}

/// Why a queue did not take a message. For the operator's log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueueError {
    /// The queue has not answered in time.
    #[error("timeout")]
    Timeout,
    /// The queue cannot be reached.
    #[error("unreachable")]
    Unreachable,
    /// The queue has refused the message, with its error code.
    #[error("{0}")]
    Refused(String),
    /// What the queue has taken is not what was sent.
    #[error("digest mismatch")]
    DigestMismatch,
    /// The request could not be made, for want of credentials for example.
    #[error("request not sent")]
    NotSent,
    /// The queue's answer makes no sense.
    #[error("unusable answer")]
    UnusableAnswer,
}

impl<E: ProvideErrorMetadata, R> From<&SdkError<E, R>> for QueueError {
    fn from(error: &SdkError<E, R>) -> Self {
        match error {
            SdkError::TimeoutError(_) => Self::Timeout,
            SdkError::DispatchFailure(failure) if failure.is_timeout() => Self::Timeout,
            SdkError::DispatchFailure(failure) if failure.is_io() => Self::Unreachable,
            SdkError::ServiceError(service) => match service.err().code() {
                Some(code) => Self::Refused(code.chars().take(100).collect()),
                None => Self::UnusableAnswer,
            },
            SdkError::ResponseError(_) => Self::UnusableAnswer,
            _ => Self::NotSent,
        }
    }
}

/// One SQS queue.
#[derive(Clone, Debug)]
pub struct SqsQueue {
    client: aws_sdk_sqs::Client,
    url: QueueUrl,
}

impl SqsQueue {
    /// Opens the connection and checks that the queue is there, so that neither falls to the first event. Whatever
    /// comes of it, the function starts; a queue that is not there is said in the log.
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
            // Not needed for sending.
            Err(QueueError::Refused(code)) if code.contains("AccessDenied") => {
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
                .map_err(|_| QueueError::NotSent)?;
            request = request.message_attributes(attribute.name, value);
        }
        if let Some(header) = trace_header {
            let value = MessageSystemAttributeValue::builder()
                .data_type("String")
                .string_value(header)
                .build()
                .map_err(|_| QueueError::NotSent)?;
            request = request.message_system_attributes(MessageSystemAttributeNameForSends::AwsTraceHeader, value);
        }
        if self.url.is_fifo() {
            request = request.message_group_id(&message.group_id).message_deduplication_id(&message.deduplication_id);
        }
        let sent = request.send().await.map_err(|error| QueueError::from(&error))?;
        if sent.md5_of_message_body().is_some_and(|taken| taken != md5_hex(&message.body)) {
            return Err(QueueError::DigestMismatch);
        }
        sent.message_id.ok_or(QueueError::UnusableAnswer)
    }
}

fn md5_hex(text: &str) -> String {
    Md5::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A queue, and the one that takes its messages when it does not.
#[derive(Clone, Debug)]
pub struct Route<Q> {
    /// The queue.
    pub queue: Q,
    /// The other queue.
    pub fallback: Option<Q>,
}

/// A message that is safe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The `MessageId` in the queue that took it.
    pub message_id: String,
    /// Why the fallback had to take it, where it did.
    pub refusal: Option<QueueError>,
}

/// No queue took the message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAccepted {
    /// There is only one.
    #[error("queue: {0}")]
    Queue(QueueError),
    /// Neither has.
    #[error("queue: {0}; fallback: {1}")]
    Both(QueueError, QueueError),
}

impl<Q: Queue> Route<Q> {
    /// Sends a message to the queue, and when that fails to the fallback.
    ///
    /// # Errors
    ///
    /// [`NotAccepted`] when neither has taken it in time. One of them may have it all the same: an answer can be lost.
    pub async fn send(&self, message: &QueueMessage, trace_header: Option<&str>) -> Result<Accepted, NotAccepted> {
        let refusal = match self.queue.send(message, trace_header).await {
            Ok(message_id) => return Ok(Accepted { message_id, refusal: None }),
            Err(refusal) => refusal,
        };
        let Some(fallback) = &self.fallback else {
            return Err(NotAccepted::Queue(refusal));
        };
        match fallback.send(message, trace_header).await {
            Ok(message_id) => Ok(Accepted { message_id, refusal: Some(refusal) }),
            Err(error) => Err(NotAccepted::Both(refusal, error)),
        }
    }
}

/// Connects to the queues: one pool of connections for all of them, and credentials by the SDK's default chain.
#[derive(Debug)]
pub struct Connector {
    client: aws_sdk_sqs::Client,
}

impl Connector {
    /// Loads what all queues share; `queue` is the one whose region stands for all that have none of their own. With a
    /// fallback, there are two queues to try, and less time for each.
    pub async fn load(queue: &QueueUrl, with_fallback: bool) -> Self {
        let operation = if with_fallback { EACH_QUEUE_TIMEOUT } else { ONLY_QUEUE_TIMEOUT };
        let timeouts =
            TimeoutConfig::builder().operation_attempt_timeout(ATTEMPT_TIMEOUT).operation_timeout(operation).build();
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
            .timeout_config(timeouts)
            .retry_config(retries)
            // It watches over long streams, at the cost of a timer for each request; here an attempt has its limit.
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .load()
            .await;
        // By default, a process has a ration of retries for all of SQS, and after some twenty failed deliveries there
        // are none for a long time, not even for a closed connection or at the fallback. Here each delivery has its
        // ATTEMPTS, whatever became of those before it.
        let unrationed = RetryPartition::custom("unrationed").token_bucket(TokenBucket::unlimited()).build();
        let config = aws_sdk_sqs::config::Builder::from(&config).retry_partition(unrationed).build();
        Self { client: aws_sdk_sqs::Client::from_conf(config) }
    }

    /// A queue in its own region.
    pub fn queue(&self, url: &QueueUrl) -> SqsQueue {
        let config = self.client.config();
        let client = if config.region().is_some_and(|region| region.as_ref() == url.region()) {
            self.client.clone()
        } else {
            let region = Region::new(url.region().to_owned());
            aws_sdk_sqs::Client::from_conf(config.to_builder().region(region).build())
        };
        SqsQueue { client, url: url.clone() }
    }
}

/// One HTTPS connector for all clients. By itself the SDK makes another for each client and each set of time-outs, and
/// each reads all the roots anew.
fn http_client() -> SharedHttpClient {
    let settings = HttpConnectorSettings::builder().connect_timeout(CONNECT_TIMEOUT).build();
    let connector = aws_smithy_http_client::Connector::builder()
        .tls_provider(Provider::Rustls(CryptoMode::Ring))
        .connector_settings(settings)
        .build();
    let connector = SharedHttpConnector::new(connector);
    http_client_fn(move |_, _| connector.clone())
}

/// The SDK's default chain; all of it but the environment, where Lambda puts credentials, is made only when asked.
fn credentials(region: Region, http_client: SharedHttpClient) -> CredentialsProviderChain {
    let config = ProviderConfig::default().with_region(Some(region)).with_http_client(http_client);
    let chain = Arc::new(OnceCell::new());
    let elsewhere = provide_credentials_fn(move || {
        let (config, chain) = (config.clone(), Arc::clone(&chain));
        async move {
            let make = || DefaultCredentialsChain::builder().configure(config).build();
            let chain: &DefaultCredentialsChain = chain.get_or_init(make).await;
            chain.provide_credentials().await
        }
    });
    CredentialsProviderChain::first_try("Environment", EnvironmentVariableCredentialsProvider::new())
        .or_else("Default", elsewhere)
}
