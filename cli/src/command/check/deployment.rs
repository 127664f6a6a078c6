//! The resources that a stack's outputs lead to: queues, consumers, and recipients of alarms.

use std::fmt;
use std::time::{Duration, SystemTime};

use aws_sdk_cloudwatch::error::ProvideErrorMetadata;
use aws_sdk_cloudwatch::types::{Dimension, Statistic};
use aws_sdk_lambda::types::EventSourceMappingConfiguration;
use aws_sdk_sqs::types::QueueAttributeName;
use aws_types::SdkConfig;
use serde_json::Value;

use super::finding::Finding;
use crate::stack::Stack;

/// The age of an event that raises the alarm `event-age`.
const OLD_EVENT: f64 = 900.0;
/// SQS reports the age of the oldest message within this time. An idle queue reports it late.
const METRIC_WINDOW: Duration = Duration::from_secs(20 * 60);

const ALLOW: &str = "Allow sqs:GetQueueAttributes and cloudwatch:GetMetricStatistics";

/// The clients of one region.
#[derive(Clone, Debug)]
pub(super) struct Clients {
    pub(super) sqs: aws_sdk_sqs::Client,
    pub(super) cloudwatch: aws_sdk_cloudwatch::Client,
    pub(super) lambda: aws_sdk_lambda::Client,
    pub(super) sns: aws_sdk_sns::Client,
}

impl Clients {
    pub(super) fn new(config: &SdkConfig, region: &str) -> Self {
        let config = aws_setup::in_region(config, region);
        Self {
            sqs: aws_sdk_sqs::Client::new(&config),
            cloudwatch: aws_sdk_cloudwatch::Client::new(&config),
            lambda: aws_sdk_lambda::Client::new(&config),
            sns: aws_sdk_sns::Client::new(&config),
        }
    }

    /// Checks everything that the stack's outputs name. `other` returns the clients of another region.
    pub(super) async fn check(&self, stack: &Stack, other: impl Fn(&str) -> Self) -> Vec<Finding> {
        let mut findings = vec![state(stack)];
        if let (Some(url), Some(arn)) = (stack.output("QueueUrl"), stack.output("QueueArn")) {
            findings.push(self.events("queue", url).await);
            findings.push(self.consumer("consumer", arn).await);
        }
        if let Some(url) = stack.output("DeadLetterQueueUrl") {
            findings.push(self.empty("dead-letters", url, "See docs/runbooks/dead-letters.md").await);
        }
        if let Some(url) = stack.output("QuarantineQueueUrl") {
            let action = "Run `so-webhook redrive --dry-run`: docs/runbooks/quarantine.md";
            findings.push(self.empty("quarantine", url, action).await);
        }
        if let (Some(url), Some(arn)) = (stack.output("FallbackQueueUrl"), stack.output("FallbackQueueArn")) {
            let clients = other(region_of(arn));
            findings.push(clients.events("fallback-queue", url).await);
            findings.push(clients.consumer("fallback-consumer", arn).await);
        }
        findings.push(recipients("alarms", "", stack, other).await);
        findings
    }

    /// Returns the number of messages of a queue: visible, received and delayed ones.
    async fn count(&self, url: &str) -> Result<u64, String> {
        const COUNTS: [QueueAttributeName; 3] = [
            QueueAttributeName::ApproximateNumberOfMessages,
            QueueAttributeName::ApproximateNumberOfMessagesNotVisible,
            QueueAttributeName::ApproximateNumberOfMessagesDelayed,
        ];
        let request = self.sqs.get_queue_attributes().queue_url(url).set_attribute_names(Some(COUNTS.to_vec()));
        let response = request.send().await.map_err(|error| aws_setup::reason(&error))?;
        let count = |name| response.attributes()?.get(name)?.parse::<u64>().ok();
        Ok(COUNTS.iter().filter_map(count).sum())
    }

    /// Returns the age of a queue's oldest message in seconds, if SQS has reported it.
    ///
    /// Without a code, the error is not CloudWatch's: something else responds, such as an emulator that does not
    /// understand the request. That is no fault of the deployment.
    async fn oldest(&self, url: &str) -> Result<Option<f64>, String> {
        let now = SystemTime::now();
        let queue = Dimension::builder().name("QueueName").value(url.rsplit('/').next().unwrap_or(url)).build();
        let request = self.cloudwatch.get_metric_statistics().namespace("AWS/SQS").dimensions(queue);
        let request = request.metric_name("ApproximateAgeOfOldestMessage").statistics(Statistic::Maximum).period(60);
        let response = match request.start_time((now - METRIC_WINDOW).into()).end_time(now.into()).send().await {
            Ok(response) => response,
            Err(error) if error.code().is_none() => return Ok(None),
            Err(error) => return Err(aws_setup::reason(&error)),
        };
        let latest = response.datapoints().iter().max_by_key(|point| point.timestamp().map(|time| time.secs()));
        Ok(latest.and_then(|point| point.maximum()))
    }

    /// Returns the number of messages of a queue, and the age of the oldest.
    async fn measure(&self, url: &str) -> Result<Messages, String> {
        let count = self.count(url).await?;
        Ok(Messages { count, age: if count == 0 { None } else { self.oldest(url).await? } })
    }

    /// Checks a queue with events.
    async fn events(&self, check: &'static str, url: &str) -> Finding {
        match self.measure(url).await {
            Err(reason) => Finding::wrong(check, reason, ALLOW),
            Ok(messages) if messages.age.is_some_and(|age| age > OLD_EVENT) => {
                Finding::wrong(check, messages.to_string(), "Check the consumer: docs/runbooks/consumer.md")
            }
            Ok(messages) => Finding::ok(check, messages.to_string()),
        }
    }

    /// Checks a queue whose messages need someone.
    async fn empty(&self, check: &'static str, url: &str, action: &str) -> Finding {
        match self.measure(url).await {
            Err(reason) => Finding::wrong(check, reason, ALLOW),
            Ok(messages) if messages.count == 0 => Finding::ok(check, messages.to_string()),
            Ok(messages) => Finding::wrong(check, messages.to_string(), action),
        }
    }

    /// Checks that one Lambda function reads a queue.
    async fn consumer(&self, check: &'static str, arn: &str) -> Finding {
        let mappings = match self.mappings(arn).await {
            Ok(mappings) => mappings,
            Err(reason) => return Finding::wrong(check, reason, "Allow lambda:ListEventSourceMappings"),
        };
        match mappings.as_slice() {
            [] => {
                let message = "no function in this account and region reads the queue";
                Finding::wrong(check, message, "Deploy one: docs/consumers.md")
            }
            [Mapping { function, state, uuid }] => {
                if matches!(state.as_str(), "Enabled" | "Updating") {
                    return Finding::ok(check, format!("{function} reads the queue"));
                }
                let action = format!("Run `aws lambda update-event-source-mapping --uuid {uuid} --enabled`");
                Finding::wrong(check, format!("the event source mapping of {function} is {state}"), action)
            }
            several => {
                let names: Vec<_> = several.iter().map(|mapping| mapping.function.as_str()).collect();
                let (count, names) = (names.len(), names.join(", "));
                let message = format!("{count} functions read the queue, so each event reaches only one: {names}");
                Finding::wrong(check, message, "Keep one, and see docs/consumers.md for several consumers")
            }
        }
    }

    /// Returns the event source mappings of a queue.
    async fn mappings(&self, arn: &str) -> Result<Vec<Mapping>, String> {
        let mut mappings = Vec::new();
        let mut marker = None;
        loop {
            let request = self.lambda.list_event_source_mappings().event_source_arn(arn).set_marker(marker);
            match request.send().await {
                Ok(page) => {
                    mappings.extend(page.event_source_mappings().iter().map(Mapping::read));
                    marker = page.next_marker.filter(|marker| !marker.is_empty());
                }
                Err(error) => {
                    let page = error.raw_response().filter(|response| response.status().is_success());
                    let page = page.and_then(|response| Mapping::read_leniently(response.body().bytes()?));
                    let (page, next) = page.ok_or_else(|| aws_setup::reason(&error))?;
                    mappings.extend(page);
                    marker = next;
                }
            }
            if marker.is_none() {
                return Ok(mappings);
            }
        }
    }

    /// Adds the recipients of a topic.
    async fn recipients(&self, topic: &str, recipients: &mut Recipients) -> Result<(), String> {
        let mut pages = self.sns.list_subscriptions_by_topic().topic_arn(topic).into_paginator().send();
        while let Some(page) = pages.next().await {
            for subscription in page.map_err(|error| aws_setup::reason(&error))?.subscriptions() {
                let endpoint = subscription.endpoint().unwrap_or_default().to_owned();
                match subscription.subscription_arn() {
                    Some(arn) if arn.starts_with("arn:") => recipients.confirmed.push(endpoint),
                    Some("Deleted") => {}
                    _ => recipients.pending.push(endpoint),
                }
            }
        }
        Ok(())
    }
}

/// The messages of a queue.
struct Messages {
    count: u64,
    /// The age of the oldest message in seconds, if it is known.
    age: Option<f64>,
}

impl fmt::Display for Messages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self { count: 0, .. } => f.write_str("empty"),
            Self { count, age: None } => write!(f, "messages: {count}; the age of the oldest is not reported yet"),
            Self { count, age: Some(age) } => write!(f, "messages: {count}, the oldest {age:.0} s old"),
        }
    }
}

/// Checks the state of the stack.
fn state(stack: &Stack) -> Finding {
    const CHECK: &str = "stack";
    let status = stack.status.as_str();
    let version = stack.output("Version").map(|version| format!(", version {version}")).unwrap_or_default();
    let message = format!("{status}{version}, in account {}, region {}", stack.account, stack.region);
    match status {
        "CREATE_COMPLETE" | "UPDATE_COMPLETE" | "UPDATE_ROLLBACK_COMPLETE" | "IMPORT_COMPLETE" => {
            Finding::ok(CHECK, message)
        }
        "UPDATE_ROLLBACK_FAILED" => {
            let name = &stack.name;
            Finding::wrong(
                CHECK,
                message,
                format!("Run `aws cloudformation continue-update-rollback --stack-name {name}`: docs/upgrade.md"),
            )
        }
        _ if status.ends_with("_IN_PROGRESS") => Finding::wrong(CHECK, message, "Wait until the deployment ends"),
        _ => Finding::wrong(CHECK, message, "See docs/upgrade.md"),
    }
}

/// An event source mapping: a function that reads a queue.
struct Mapping {
    function: String,
    state: String,
    uuid: String,
}

impl Mapping {
    fn read(mapping: &EventSourceMappingConfiguration) -> Self {
        Self::new(mapping.function_arn(), mapping.state(), mapping.uuid())
    }

    /// Reads a page that the SDK rejects because of a field that is not used here: emulators write some numbers as
    /// strings. Returns the page's mappings and the marker of the next page.
    fn read_leniently(page: &[u8]) -> Option<(Vec<Self>, Option<String>)> {
        let page: Value = serde_json::from_slice(page).ok()?;
        let text = |mapping: &Value, name: &str| mapping[name].as_str().map(str::to_owned);
        let read = |mapping| {
            let [function, state, uuid] = ["FunctionArn", "State", "UUID"].map(|name| text(mapping, name));
            Self::new(function.as_deref(), state.as_deref(), uuid.as_deref())
        };
        let mappings = page["EventSourceMappings"].as_array()?.iter().map(read).collect();
        Some((mappings, text(&page, "NextMarker").filter(|marker| !marker.is_empty())))
    }

    fn new(function_arn: Option<&str>, state: Option<&str>, uuid: Option<&str>) -> Self {
        let function = function_arn.and_then(|arn| arn.split(':').nth(6)).unwrap_or("a function");
        Self {
            function: function.to_owned(),
            state: state.unwrap_or_default().to_owned(),
            uuid: uuid.unwrap_or_default().to_owned(),
        }
    }
}

/// Checks the recipients of a stack's alarms. The message begins with `prefix`. `clients` returns the clients of a
/// region.
pub(super) async fn recipients(
    check: &'static str,
    prefix: &str,
    stack: &Stack,
    clients: impl Fn(&str) -> Clients,
) -> Finding {
    let topics = stack.output("AlarmTopics").unwrap_or_default();
    let mut recipients = Recipients::default();
    for topic in topics.split(',').filter(|topic| !topic.is_empty()) {
        match clients(region_of(topic)).recipients(topic, &mut recipients).await {
            Ok(()) => {}
            Err(reason) => recipients.unknown.push(format!("{topic}: {reason}")),
        }
    }
    recipients.finding(check, prefix)
}

/// Returns the region of an ARN. AWS's client reports a region that is empty.
pub(super) fn region_of(arn: &str) -> &str {
    aws_setup::region_of(arn).unwrap_or_default()
}

/// Those who are notified of alarms.
#[derive(Debug, Default)]
struct Recipients {
    confirmed: Vec<String>,
    pending: Vec<String>,
    /// Topics that cannot be read, with the reason.
    unknown: Vec<String>,
}

impl Recipients {
    fn finding(&self, check: &'static str, prefix: &str) -> Finding {
        if !self.unknown.is_empty() {
            let action = "Correct AlarmTopicArn, or allow sns:ListSubscriptionsByTopic";
            let message = format!("{prefix}the recipients are unknown: {}", self.unknown.join(", "));
            return Finding::wrong(check, message, action);
        }
        if !self.pending.is_empty() {
            let action = "Open the link in AWS's mail, or subscribe the address again";
            return Finding::wrong(check, format!("{prefix}not confirmed: {}", self.pending.join(", ")), action);
        }
        if self.confirmed.is_empty() {
            let action = "Deploy with AlarmEmail or AlarmTopicArn: docs/deployment.md";
            return Finding::wrong(check, format!("{prefix}nobody is notified"), action);
        }
        Finding::ok(check, format!("{prefix}notified: {}", self.confirmed.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_with_unexpected_types_is_read() {
        let page = br#"{"NextMarker": "2", "EventSourceMappings": [{"UUID": "u", "State": "Enabled",
            "FunctionArn": "arn:aws:lambda:eu-north-1:123456789012:function:consumer", "BatchSize": "10"}]}"#;
        let (mappings, next) = Mapping::read_leniently(page).unwrap();
        let [Mapping { function, state, uuid }] = mappings.as_slice() else { panic!("{} mappings", mappings.len()) };
        let found = (function.as_str(), state.as_str(), uuid.as_str(), next.as_deref());
        assert_eq!(found, ("consumer", "Enabled", "u", Some("2")));
        assert!(Mapping::read_leniently(b"{}").is_none());
    }
}
