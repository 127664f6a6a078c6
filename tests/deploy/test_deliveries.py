"""Deliveries over HTTPS to a stack that `sam deploy` created."""

import json
import re

import flask
import pytest
from cloud import wait_for
from deliveries import encode, event
from local_aws import ACCOUNT, REGION, Queue
from processes import ROOT
from samcli.local.apigw.event_constructor import construct_v1_event, construct_v2_event_http
from signing import sign

RUNBOOK = ROOT / "docs/runbooks/fallback-queue.md"


def test_delivery_is_queued_byte_for_byte(webhook):
    body = encode(event(WebhookName="Kontakter til køen ✓"))

    response = webhook.post(body)

    assert response.status == 200
    (message,) = webhook.queue().drain()
    assert response.json["outcome"] == "forwarded"
    assert response.json["messageId"] == message["MessageId"]
    assert message["Body"].encode() == body
    attributes = {name: value["StringValue"] for name, value in message["MessageAttributes"].items()}
    assert attributes["EventId"] == json.loads(body)["EventId"]
    assert message["Attributes"]["MessageGroupId"] == "Cust12345/contact/994863"


@pytest.mark.parametrize("binary_types", [[], ["*/*"]], ids=["text", "base64"])
@pytest.mark.parametrize("construct", [construct_v1_event, construct_v2_event_http])
def test_event_that_sam_constructs_is_forwarded(webhook, aws, construct, binary_types):
    body = encode(event(WebhookName="Kontakter til køen ✓"))
    api = flask.Flask("api")
    api.add_url_rule("/webhook", "webhook", methods=["POST"])
    headers = {"X-SuperOffice-Signature": sign(body), "Content-Type": "application/json"}
    with api.test_request_context("/webhook", method="POST", data=body, headers=headers):
        constructed = construct(flask.request, 443, binary_types, stage_name="$default")
    assert constructed["isBase64Encoded"] == bool(binary_types)

    function, payload = webhook.outputs["FunctionName"], json.dumps(constructed)
    response = json.load(aws.client("lambda").invoke(FunctionName=function, Payload=payload)["Payload"])

    assert response["statusCode"] == 200
    assert [message["Body"].encode() for message in webhook.queue().drain()] == [body]


def test_retried_delivery_is_queued_once(webhook):
    body = encode(event())
    assert [webhook.outcome(body) for _ in range(2)] == [(200, "forwarded")] * 2
    assert len(webhook.queue().drain()) == 1


def test_probe_and_unselected_event_are_not_queued(webhook):
    assert webhook.outcome(event(Event="test", Entity="test", PrimaryKey=0)) == (200, "test")
    assert webhook.outcome(event(Event="sale.changed", Entity="sale")) == (200, "ignored")
    assert webhook.queue().drain() == []


def test_malformed_signed_body_is_quarantined(webhook):
    assert webhook.outcome(b"{not json") == (200, "quarantined")
    (message,) = webhook.queue("QuarantineQueueUrl").drain()
    assert message["Body"] == "{not json"
    assert webhook.queue().drain() == []


@pytest.mark.parametrize("secret", [None, "another secret, of somebody else"])
def test_unauthorized_request_returns_401(webhook, secret):
    response = webhook.post(event(), secret=secret)
    assert response.status == 401
    assert response.content_type == "application/problem+json"
    assert webhook.queue().drain() == []


def test_other_paths_do_not_reach_the_function(webhook):
    lines = len(webhook.stack.log_lines())
    for path in ("/tenant/more", "s", "/../"):
        response = webhook.post(event(), path=path)
        assert (response.status, response.is_from_function) == (404, False), path
    assert len(webhook.stack.log_lines()) == lines


def test_log_line_is_in_the_log_group_with_its_metrics(webhook):
    document = event()
    webhook.post(document)
    webhook.queue().drain()

    line = webhook.line(document["EventId"])

    assert line["outcome"] == "forwarded"
    (directive,) = line["_aws"]["CloudWatchMetrics"]
    assert directive["Namespace"] == "SuperOfficeWebhook"
    assert line["FunctionName"] == webhook.outputs["FunctionName"]
    assert {metric["Name"] for metric in directive["Metrics"]} == {"Forwarded", "EnqueueLatency", "DeliveryDelay"}


def test_outputs_name_the_resources(webhook):
    outputs = webhook.outputs
    assert re.fullmatch(r"https://\w+\.execute-api\.localhost:\d+/webhook", outputs["WebhookUrl"])
    assert outputs["DefaultWebhookUrl"] == outputs["WebhookUrl"]
    assert webhook.queue().attributes["QueueArn"] == outputs["QueueArn"]
    assert webhook.queue("DeadLetterQueueUrl").attributes["QueueArn"] == outputs["DeadLetterQueueArn"]
    assert outputs["AlarmsNotify"].startswith("NOBODY IS NOTIFIED")
    assert "CustomDomainTarget" not in outputs


def test_queues_are_encrypted_and_keep_messages_for_days(webhook):
    day = 24 * 60 * 60
    events = webhook.queue().attributes
    dead_letters = webhook.queue("DeadLetterQueueUrl").attributes
    quarantine = webhook.queue("QuarantineQueueUrl").attributes
    for queue, days in ((events, 10), (dead_letters, 14), (quarantine, 14)):
        assert queue["SqsManagedSseEnabled"] == "true"
        assert queue["MessageRetentionPeriod"] == str(days * day)
        assert queue["MaximumMessageSize"] == "1048576"
    redrive = json.loads(events["RedrivePolicy"])
    assert redrive["deadLetterTargetArn"] == webhook.outputs["DeadLetterQueueArn"]
    assert int(redrive["maxReceiveCount"]) == 5
    assert events["VisibilityTimeout"] == "180"
    for queue in (events, dead_letters):
        assert queue["FifoQueue"] == "true"
        assert (queue["DeduplicationScope"], queue["FifoThroughputLimit"]) == ("messageGroup", "perMessageGroupId")
    assert "FifoQueue" not in quarantine


def test_fallback_queue_accepts_events_while_the_events_queue_rejects_them(webhook, aws):
    sqs = aws.client("sqs")
    fallback = sqs.create_queue(QueueName="fallback.fifo", Attributes={"FifoQueue": "true"})["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=fallback, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    webhook.update(FallbackQueueArn=arn)
    assert webhook.outputs["FallbackQueueUrl"] == f"https://sqs.{REGION}.amazonaws.com/{ACCOUNT}/fallback.fifo"

    def uses_events_queue() -> bool:
        document = event()
        assert webhook.outcome(document) == (200, "forwarded")
        return "FallbackUsed" not in webhook.line(document["EventId"])

    # On a busy machine, the first event after the start can take too long for the events queue.
    wait_for(uses_events_queue)
    for queue in (webhook.queue(), Queue(sqs, fallback)):
        queue.drain()
    document = event()
    # The drill of the runbook.
    (deny,) = re.findall(r"^\{\"Policy\": .*\}$", RUNBOOK.read_text(), re.M)
    original = webhook.queue().attributes["Policy"]
    sqs.set_queue_attributes(
        QueueUrl=webhook.outputs["QueueUrl"],
        Attributes=json.loads(deny),
    )
    try:
        assert webhook.outcome(document) == (200, "forwarded")
    finally:
        sqs.set_queue_attributes(QueueUrl=webhook.outputs["QueueUrl"], Attributes={"Policy": original})
        webhook.update(FallbackQueueArn="")

    (message,) = Queue(sqs, fallback).drain()
    assert json.loads(message["Body"]) == document
    line = webhook.line(document["EventId"])
    assert (line["FallbackUsed"], line["reason"]) == (1, "queue: AccessDenied")
    assert webhook.queue().drain() == []
