//! The checks of a stack's resources, against answers of AWS.

use aws_sdk_cloudwatch::operation::get_metric_statistics::GetMetricStatisticsOutput;
use aws_sdk_cloudwatch::types::Datapoint;
use aws_sdk_lambda::operation::list_event_source_mappings::ListEventSourceMappingsOutput;
use aws_sdk_lambda::types::EventSourceMappingConfiguration;
use aws_sdk_sns::operation::list_subscriptions_by_topic::ListSubscriptionsByTopicOutput;
use aws_sdk_sns::types::Subscription;
use aws_sdk_sqs::operation::get_queue_attributes::GetQueueAttributesOutput;
use aws_sdk_sqs::types::QueueAttributeName;
use aws_smithy_mocks::{RuleMode, mock, mock_client};
use fake_superoffice::Logs as LogServer;
use serde_json::json;

use super::*;
use crate::signals::tests::logs;

const TOPIC: &str = "arn:aws:sns:eu-north-1:123456789012:alarms";
const DEPLOY_WITH_RECIPIENTS: &str = "Deploy with AlarmEmail or AlarmTopicArn: docs/deployment.md";

/// The answers of AWS.
#[derive(Clone, Copy)]
struct Answers {
    messages: &'static str,
    age: Option<f64>,
    mappings: &'static [(&'static str, &'static str)],
    subscriptions: &'static [&'static str],
}

const WELL: Answers =
    Answers { messages: "0", age: None, mappings: &[("consumer", "Enabled")], subscriptions: &["arn:aws:sns:1"] };

fn clients(answers: Answers) -> Clients {
    let Answers { messages, age, mappings, subscriptions } = answers;
    let sqs = mock!(aws_sdk_sqs::Client::get_queue_attributes).then_output(move || {
        GetQueueAttributesOutput::builder()
            .attributes(QueueAttributeName::ApproximateNumberOfMessages, messages)
            .build()
    });
    let cloudwatch = mock!(aws_sdk_cloudwatch::Client::get_metric_statistics).then_output(move || {
        let point = |seconds, age| {
            let time = aws_sdk_cloudwatch::primitives::DateTime::from_secs(seconds);
            Datapoint::builder().timestamp(time).maximum(age).build()
        };
        // In no order.
        let points = age.map(|age| vec![point(60, 1.0), point(180, age), point(120, 2.0)]);
        GetMetricStatisticsOutput::builder().set_datapoints(points).build()
    });
    let lambda = mock!(aws_sdk_lambda::Client::list_event_source_mappings).then_output(move || {
        let mapping = |(name, state): &(&str, &str)| {
            let arn = format!("arn:aws:lambda:eu-north-1:123456789012:function:{name}");
            EventSourceMappingConfiguration::builder().uuid("u-1").function_arn(arn).state(*state).build()
        };
        let mappings = mappings.iter().map(mapping).collect();
        ListEventSourceMappingsOutput::builder().set_event_source_mappings(Some(mappings)).build()
    });
    let sns = mock!(aws_sdk_sns::Client::list_subscriptions_by_topic).then_output(move || {
        let subscription =
            |arn: &&str| Subscription::builder().subscription_arn(*arn).endpoint("ops@example.com").build();
        let subscriptions = subscriptions.iter().map(subscription).collect();
        ListSubscriptionsByTopicOutput::builder().set_subscriptions(Some(subscriptions)).build()
    });
    Clients {
        sqs: mock_client!(aws_sdk_sqs, RuleMode::MatchAny, [&sqs]),
        cloudwatch: mock_client!(aws_sdk_cloudwatch, RuleMode::MatchAny, [&cloudwatch]),
        lambda: mock_client!(aws_sdk_lambda, RuleMode::MatchAny, [&lambda]),
        sns: mock_client!(aws_sdk_sns, RuleMode::MatchAny, [&sns]),
    }
}

fn stack() -> Stack {
    Stack::with_outputs(
        "webhook",
        &[
            ("QueueUrl", "https://sqs/1/events"),
            ("QueueArn", "arn:aws:sqs:eu-north-1:123456789012:events"),
            ("DeadLetterQueueUrl", "https://sqs/1/dead"),
            ("QuarantineQueueUrl", "https://sqs/1/quarantine"),
            ("AlarmTopics", TOPIC),
            ("LogGroupName", "function"),
            ("Version", "0.1.0"),
        ],
    )
}

async fn check(answers: Answers) -> Vec<Finding> {
    clients(answers).check(&stack(), |_| clients(answers)).await
}

#[tokio::test]
async fn stack_in_order_has_no_wrong_finding() {
    assert_eq!(
        check(WELL).await,
        [
            Finding::ok("stack", "CREATE_COMPLETE, version 0.1.0, in account 123456789012, region eu-north-1"),
            Finding::ok("queue", "empty"),
            Finding::ok("consumer", "consumer reads the queue"),
            Finding::ok("dead-letters", "empty"),
            Finding::ok("quarantine", "empty"),
            Finding::ok("alarms", "notified: ops@example.com"),
        ]
    );
}

#[tokio::test]
async fn messages_are_wrong_if_they_are_old_or_need_someone() {
    let quarantine = "Run `so-webhook redrive --dry-run`: docs/runbooks/quarantine.md";
    for (age, message, is_young) in [
        (None, "messages: 3; the age of the oldest is not reported yet", true),
        (Some(900.0), "messages: 3, the oldest 900 s old", true),
        (Some(901.0), "messages: 3, the oldest 901 s old", false),
    ] {
        let findings = check(Answers { messages: "3", age, ..WELL }).await;
        let old = Finding::wrong("queue", message, "Check the consumer: docs/runbooks/consumer.md");
        assert_eq!(findings[1], if is_young { Finding::ok("queue", message) } else { old });
        assert_eq!(findings[3], Finding::wrong("dead-letters", message, "See docs/runbooks/dead-letters.md"));
        assert_eq!(findings[4], Finding::wrong("quarantine", message, quarantine));
    }
}

#[tokio::test]
async fn one_enabled_consumer_is_expected() {
    for (mappings, message, action) in [
        (&[][..], "no function in this account and region reads the queue", "Deploy one: docs/consumers.md"),
        (
            &[("consumer", "Disabled")],
            "the event source mapping of consumer is Disabled",
            "Run `aws lambda update-event-source-mapping --uuid u-1 --enabled`",
        ),
        (
            &[("consumer", "Enabled"), ("mirror", "Enabled")],
            "2 functions read the queue, so each event reaches only one: consumer, mirror",
            "Keep one, and see docs/consumers.md for several consumers",
        ),
    ] {
        let findings = check(Answers { mappings, ..WELL }).await;
        assert_eq!(findings[2], Finding::wrong("consumer", message, action));
    }
}

#[tokio::test]
async fn recipients_are_expected_to_be_confirmed() {
    for (subscriptions, message, action) in [
        (&[][..], "nobody is notified", DEPLOY_WITH_RECIPIENTS),
        (&["Deleted"], "nobody is notified", DEPLOY_WITH_RECIPIENTS),
        (
            &["arn:aws:sns:1", "PendingConfirmation"],
            "not confirmed: ops@example.com",
            "Open the link in AWS's mail, or subscribe the address again",
        ),
    ] {
        let findings = check(Answers { subscriptions, ..WELL }).await;
        assert_eq!(findings[5], Finding::wrong("alarms", message, action));
    }
}

async fn companions(all: &[Stack], lines: &[(&str, i64, serde_json::Value)]) -> Vec<Finding> {
    let server = LogServer::start().await;
    for group in ["watchdog", "mirror"] {
        server.create(group);
    }
    for (group, minutes_ago, line) in lines {
        let at = Timestamp::now() - jiff::SignedDuration::from_mins(*minutes_ago);
        server.write(group, at, line.to_string());
    }
    companions::check(&logs(&server.url()), &stack(), all, |_| clients(WELL)).await
}

#[tokio::test]
async fn watchdog_and_mirror_are_found_by_their_parameters() {
    let watchdog = Stack::with_outputs("dog", &[("LogGroupName", "watchdog"), ("AlarmTopics", TOPIC)])
        .with_parameter("LogGroupName", "function");
    // Without a topic, nobody is notified.
    let mirror = Stack::with_outputs("mirror", &[("LogGroupName", "mirror"), ("TableName", "contacts")])
        .with_parameter("QueueArn", "arn:aws:sqs:eu-north-1:123456789012:events");
    let others = [
        stack(),
        Stack::with_outputs("other", &[("LogGroupName", "watchdog")]).with_parameter("LogGroupName", "another"),
        Stack::with_outputs("consumer", &[]).with_parameter("QueueArn", "arn:aws:sqs:eu-north-1:123456789012:events"),
    ];
    assert_eq!(
        companions(&others, &[]).await,
        [
            Finding::ok("watchdog", "not deployed; lost events are only found by `so-webhook missed`"),
            Finding::ok("audit", "no mirror is deployed"),
        ]
    );
    let all = [&others[..], &[watchdog, mirror]].concat();
    let audit = "the oldest last audit of mirror was completed";
    let notified = Finding::ok("watchdog-alarms", "dog: notified: ops@example.com");
    let nobody = Finding::wrong("mirror-alarms", "mirror: nobody is notified", DEPLOY_WITH_RECIPIENTS);
    for (lines, findings) in [
        (
            vec![
                ("watchdog", 9, json!({"WatchdogOk": 1})),
                ("watchdog", 4, json!({"error": "unreachable"})),
                ("mirror", 2, json!({"AuditAge": 48.5})),
                ("mirror", 1, json!({"AuditAge": 0})),
                ("mirror", 1, json!({"Written": 3})),
            ],
            [
                Finding::ok("watchdog", "dog completed a run 9 min ago"),
                notified.clone(),
                Finding::ok("audit", format!("{audit} 0.0 hours ago")),
                nobody.clone(),
            ],
        ),
        (
            vec![("watchdog", 21, json!({"WatchdogOk": 1})), ("mirror", 2, json!({"AuditAge": 48.5}))],
            [
                Finding::wrong(
                    "watchdog",
                    "dog has completed no run for 20 minutes",
                    "See `error` in its log: docs/runbooks/missed-events.md#the-watchdog-does-not-run",
                ),
                notified,
                Finding::wrong(
                    "audit",
                    format!("{audit} 48.5 hours ago"),
                    "See `reasons` in its log: docs/runbooks/mirror.md",
                ),
                nobody,
            ],
        ),
    ] {
        assert_eq!(companions(&all, &lines).await, findings);
    }
}

#[tokio::test]
async fn recipients_of_a_fallback_queue_are_found_by_its_arn() {
    let arn = "arn:aws:sqs:eu-west-1:123456789012:fallback";
    let all = [stack(), Stack::with_outputs("fallback", &[("QueueArn", arn), ("AlarmTopics", TOPIC)])];
    assert_eq!(
        companions::check_fallback(arn, &all, |_| clients(WELL)).await,
        Some(Finding::ok("fallback-alarms", "fallback: notified: ops@example.com"))
    );
    // Its stack can be in another account.
    assert_eq!(companions::check_fallback(arn, &all[..1], |_| clients(WELL)).await, None);
}
