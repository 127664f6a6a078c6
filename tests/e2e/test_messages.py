"""Queue messages as a consumer receives them with boto3."""

import base64
import hashlib
import json

import pytest
from deliveries import FORMS, encode, event, sign
from runtime_api import TRACE_ID

# The limit of SQS for a message, attributes included.
LARGEST_MESSAGE = 1_048_576


def body(fields: str) -> bytes:
    """Returns an event with an `EventId` and the given fields, as written."""
    return ('{"EventId":"e-' + hashlib.sha256(fields.encode()).hexdigest() + '",' + fields + "}").encode()


REQUIRED = '"Event":"contact.changed","PrimaryKey":1'
BODIES = {
    "whitespace": body('\r\n\t "Event" :"contact.changed" ,\n\n"PrimaryKey"\t:  1 '),
    "final line break": body(REQUIRED) + b"\r\n",
    "numbers": body(
        REQUIRED + ',"a":1.50,"b":1E+2,"c":-0,"d":12345678901234567890123,"e":1e400,"f":0.10000000000000005'
    ),
    "tagged values": body(REQUIRED + ',"FieldValues":{"ContactId":"21","x":"[I:6]","y":"[DT:09/16/2025 14:22:14]"}'),
    "unknown fields": body(REQUIRED + ',"New":{"deep":[[[{"er":null}]]]},"":0,"PrimaryKey2":true'),
    "duplicate field": body(REQUIRED + ',"x":1,"x":2'),
    "unexpected types": body(
        REQUIRED + ',"Changes":"name","FieldValues":[],"Timestamp":5,"WebhookName":{},"Entity":[]'
    ),
    "escapes": body(REQUIRED + r',"x":"\u00e5\/\"\\\b\f\n\r\t\u0000\ud83e\uded0"'),
    "lone surrogates": body(REQUIRED + r',"x":"\ud800","\udc00":1'),
    "Unicode": body(REQUIRED + ',"x":"æøå Ærlig 北海道 🫐 e\u0301 \u200f\u2028\u2029\ufeff\x7f\u0085"'),
    "required fields only": body(REQUIRED),
}


@pytest.mark.parametrize("raw", BODIES.values(), ids=BODIES.keys())
def test_body_is_received_byte_for_byte(function, raw):
    for form in FORMS:
        # A different EventId per form, because the FIFO queue deduplicates.
        sent = raw.replace(b'"e-', f'"{form} e-'.encode(), 1)
        assert function.send(sent, form).json["outcome"] == "forwarded"
        [message] = function.queued()
        assert message.body.encode() == sent
        assert message.attributes["Signature"] == sign(sent)


def test_characters_that_sqs_rejects_are_received_as_json_escapes(function):
    sent = event(WebhookName="a\ufffeb\uffffc", FieldValues={"\uffff": "\ufffe"})
    assert function.send(sent).status == 200
    [message] = function.queued()
    assert message.body == encode(sent).decode().replace("\ufffe", r"\ufffe").replace("\uffff", r"\uffff")
    assert json.loads(message.body) == sent
    assert "WebhookName" not in message.attributes
    assert message.attributes["Signature"] == sign(encode(sent))


def test_message_has_exactly_the_documented_attributes(function):
    sent = event()
    function.send(sent)
    [message] = function.queued()
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


def test_fifo_ids_that_sqs_rejects_are_received_as_sha_256(function):
    for invalid in ("with space", "æøå", "x" * 150, "\u2028"):
        sent = event(ContextIdentifier=invalid)
        sent["EventId"] = invalid + sent["EventId"]
        assert function.send(sent).json["outcome"] == "forwarded"
        [message] = function.queued()
        group, deduplication = f"{invalid}/contact/994863", f"contact.changed/{sent['EventId']}"
        assert message.system["MessageGroupId"] == hashlib.sha256(group.encode()).hexdigest()
        assert message.system["MessageDeduplicationId"] == hashlib.sha256(deduplication.encode()).hexdigest()


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


@pytest.mark.parametrize("raw", [bytes(range(256)), b'{"x":"\xc3"}', b"\xef\xbf\xbe", b"a\x00b"])
def test_quarantined_body_that_sqs_rejects_is_received_as_base64(function, raw):
    assert function.send(raw, "2.0 base64").json["outcome"] == "quarantined"
    [message] = function.quarantined()
    assert base64.b64decode(message.body, validate=True) == raw
    assert message.attributes["Encoding"] == "base64"
    assert message.attributes["Signature"] == sign(raw)


def test_messages_of_a_standard_queue_have_no_fifo_ids(start):
    deployment, _ = start(queue="events", quarantine="quarantine")
    sent = event()
    assert deployment.send(sent).status == 200
    assert deployment.send(b"not JSON").status == 200
    [message], [quarantined] = deployment.queued(), deployment.quarantined()
    assert (message.body, quarantined.body) == (encode(sent).decode(), "not JSON")
    assert message.attributes["EventId"] == sent["EventId"]
    for received in (message, quarantined):
        assert not {"MessageGroupId", "MessageDeduplicationId"} & received.system.keys()


@pytest.mark.parametrize("queue", ["events.fifo", "events"])
def test_trace_header_reaches_the_consumer(start, queue):
    deployment, _ = start(queue=queue)
    deployment.send(event())
    [message] = deployment.queued()
    assert message.system["AWSTraceHeader"] == TRACE_ID
