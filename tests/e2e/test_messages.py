"""Queue messages as a consumer receives them with boto3."""

import base64
import hashlib

import pytest
from deliveries import encode, event, sign
from runtime_api import TRACE_ID

# The limit of SQS for a message, attributes included.
LARGEST_MESSAGE = 1_048_576


def test_message_has_exactly_the_documented_attributes(function):
    sent = event(FieldValues={"x": "æøå 北海道 🫐 \u2028\ufeff\x7f\u0085"})
    function.send(sent)
    [message] = function.queued()
    assert message.body == encode(sent).decode()
    assert message.attributes == {
        "Event": "contact.changed",
        "EventId": sent["EventId"],
        "Entity": "contact",
        "PrimaryKey": "994863",
        "ContextIdentifier": "Cust12345",
        "WebhookName": "Contacts to the data platform",
        "Timestamp": "2026-03-16T08:14:22.5170413Z",
        "Signature": sign(encode(sent)),
        "ContentType": "application/json",
    }
    assert {name: kind for name, kind in message.types.items() if kind != "String"} == {"PrimaryKey": "Number"}
    assert message.system["MessageGroupId"] == "Cust12345/contact/994863"
    assert message.system["MessageDeduplicationId"] == f"contact.changed/{sent['EventId']}"


def test_retried_delivery_is_queued_once_and_another_event_with_the_same_id_too(function):
    sent = event(Event="contact.created")
    for retry in ([], [("X-SuperOffice-Retry", "1")], [("X-SuperOffice-Retry", "2")]):
        assert function.send(sent, headers=retry).json["outcome"] == "forwarded"
    assert function.send({**sent, "Event": "contact.changed"}).json["outcome"] == "forwarded"
    assert [message.attributes["Event"] for message in function.queued()] == ["contact.created", "contact.changed"]


def test_largest_message_is_accepted_by_sqs_and_one_byte_more_returns_413(function):
    def of_size(size: int) -> bytes:
        """Returns an event whose message, attributes included, has this many bytes."""
        function.send(event())
        [small] = function.queued()
        attributes = sum(len(name) + len(small.types[name]) + len(value) for name, value in small.attributes.items())
        sent = event(Padding="")
        sent["Padding"] = "x" * (size - attributes - len(encode(sent)))
        return encode(sent)

    largest = of_size(LARGEST_MESSAGE)
    assert function.send(largest).status == 200
    [message] = function.queued()
    assert message.body == largest.decode()
    assert function.send(of_size(LARGEST_MESSAGE + 1)).status == 413
    assert function.has_no_messages()


def test_quarantined_body_is_received_once_with_its_reason(function):
    raw = b'{"Event": "contact.changed",}\n'
    for _ in range(3):
        assert function.send(raw).json["outcome"] == "quarantined"
    [message] = function.quarantined()
    assert message.body.encode() == raw
    reason = message.attributes.pop("Reason")
    assert reason.startswith("not JSON: ")
    assert "\n" not in reason
    assert message.attributes == {"Encoding": "utf-8", "Signature": sign(raw)}
    assert message.types == dict.fromkeys(["Reason", "Encoding", "Signature"], "String")
    assert message.system["MessageGroupId"] == "quarantine"
    assert message.system["MessageDeduplicationId"] == hashlib.sha256(raw).hexdigest()


@pytest.mark.parametrize("raw", [bytes(range(256)), b"a\x00b", encode(event(EventId="1", WebhookName="a\ufffeb"))])
def test_quarantined_body_that_sqs_rejects_is_received_as_base64(function, raw):
    assert function.send(raw, "2.0 base64").json["outcome"] == "quarantined"
    [message] = function.quarantined()
    assert base64.b64decode(message.body, validate=True) == raw
    assert message.attributes["Encoding"] == "base64"
    assert message.attributes["Signature"] == sign(raw)


def test_message_of_a_standard_queue_has_only_the_tenant_as_its_group(start):
    deployment, _ = start(queue="events", quarantine="quarantine")
    sent = event()
    assert deployment.send(sent).status == 200
    assert deployment.send(b"not JSON").status == 200
    [message], [quarantined] = deployment.queued(), deployment.quarantined()
    assert (message.body, quarantined.body) == (encode(sent).decode(), "not JSON")
    assert message.attributes["EventId"] == sent["EventId"]
    assert message.system["MessageGroupId"] == sent["ContextIdentifier"]
    assert "MessageDeduplicationId" not in message.system
    assert not {"MessageGroupId", "MessageDeduplicationId"} & quarantined.system.keys()


@pytest.mark.parametrize("queue", ["events.fifo", "events"])
def test_trace_header_reaches_the_consumer(start, queue):
    deployment, _ = start(queue=queue)
    deployment.send(event())
    [message] = deployment.queued()
    assert message.system["AWSTraceHeader"] == TRACE_ID
