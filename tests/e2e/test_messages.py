"""Queue messages as a consumer receives them with boto3, from an SQS that checks limits and characters as AWS does."""

import base64
import hashlib

import pytest
from deliveries import encode, event
from local_aws import attributes_of
from signing import sign

# The limit of SQS for a message, attributes included.
LARGEST_MESSAGE = 1_048_576


@pytest.fixture(scope="module")
def function(start):
    return start()


def test_message_has_exactly_the_documented_attributes(function):
    sent = event(WebhookName="Kontakter til køen ✓ 北海道 🫐")
    assert function.send(sent).json["outcome"] == "forwarded"
    [message] = function.queued()
    assert message["Body"].encode() == encode(sent)
    assert attributes_of(message) == {
        "Event": "contact.changed",
        "EventId": sent["EventId"],
        "Entity": "contact",
        "PrimaryKey": "994863",
        "ContextIdentifier": "Cust12345",
        "WebhookName": sent["WebhookName"],
        "Timestamp": "2026-03-16T08:14:22.5170413Z",
        "Signature": sign(encode(sent)),
        "ContentType": "application/json",
    }
    kinds = {name: value["DataType"] for name, value in message["MessageAttributes"].items()}
    assert {name: kind for name, kind in kinds.items() if kind != "String"} == {"PrimaryKey": "Number"}
    assert message["Attributes"]["MessageGroupId"] == "Cust12345/contact/994863"
    assert message["Attributes"]["MessageDeduplicationId"] == f"contact.changed/{sent['EventId']}"
    [line] = function.function.log_lines()
    assert message["Attributes"]["AWSTraceHeader"].startswith(f"Root={line['traceId']};")


def test_fifo_ids_that_sqs_rejects_are_received_as_sha_256(function):
    for invalid in ("with space", "æøå", "x" * 150, "\u2028"):
        sent = event(ContextIdentifier=invalid)
        assert function.send(sent).json["outcome"] == "forwarded"
        [message] = function.queued()
        group = hashlib.sha256(f"{invalid}/contact/994863".encode()).hexdigest()
        assert message["Attributes"]["MessageGroupId"] == group


def test_retried_delivery_is_queued_once_and_another_event_with_the_same_id_too(function):
    sent = event(Event="contact.created")
    for retry in ({}, {"X-SuperOffice-Retry": "1"}, {"X-SuperOffice-Retry": "2"}):
        assert function.send(sent, headers=retry).json["outcome"] == "forwarded"
    assert function.send({**sent, "Event": "contact.changed"}).json["outcome"] == "forwarded"
    assert [attributes_of(message)["Event"] for message in function.queued()] == ["contact.created", "contact.changed"]


def test_largest_message_is_accepted_by_sqs_and_one_byte_more_returns_413(function):
    def of_size(size: int) -> bytes:
        """Returns an event whose message, attributes included, has this many bytes."""
        function.send(event())
        [small] = function.queued()
        values = small["MessageAttributes"].items()
        attributes = sum(len(name) + len(value["DataType"]) + len(value["StringValue"]) for name, value in values)
        sent = event(Padding="")
        sent["Padding"] = "x" * (size - attributes - len(encode(sent)))
        return encode(sent)

    largest = of_size(LARGEST_MESSAGE)
    assert function.send(largest).status == 200
    [message] = function.queued()
    assert message["Body"] == largest.decode()
    assert function.send(of_size(LARGEST_MESSAGE + 1)).status == 413
    assert function.queued() == function.quarantined() == []


@pytest.mark.parametrize("raw", [b"{}\n", bytes(range(256)), b"a\x00b", encode(event(WebhookName="a\ufffeb"))])
def test_quarantined_body_is_received_once(function, raw):
    for _ in range(3):
        assert function.send(raw).json["outcome"] == "quarantined"
    [message] = function.quarantined()
    attributes = attributes_of(message)
    body = message["Body"].encode()
    assert (base64.b64decode(body, validate=True) if attributes["Encoding"] == "base64" else body) == raw
    assert attributes["Signature"] == sign(raw)
    assert message["Attributes"]["MessageGroupId"] == "quarantine"
    assert message["Attributes"]["MessageDeduplicationId"] == hashlib.sha256(raw).hexdigest()


def test_message_of_a_standard_queue_has_only_the_tenant_as_its_group(start):
    function, sent = start("events"), event()
    assert function.send(sent).status == 200
    [message] = function.queued()
    assert message["Attributes"]["MessageGroupId"] == sent["ContextIdentifier"]
    assert "MessageDeduplicationId" not in message["Attributes"]
