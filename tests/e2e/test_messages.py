"""What a consumer finds in the queues, read with boto3."""

import base64
import hashlib
import json

import pytest
from deliveries import FORMS, delivery, encode, event, sign
from runtime_api import TRACE_ID

every_form = pytest.mark.parametrize("form", FORMS)


def body(inner: str) -> bytes:
    """An event with an id, and whatever else."""
    return ('{"EventId":"e-' + hashlib.sha256(inner.encode()).hexdigest() + '",' + inner + "}").encode()


HEAD = '"Event":"contact.changed","PrimaryKey":1'
BYTE_FOR_BYTE = {
    "white space": body('\r\n\t "Event" :"contact.changed" ,\n\n"PrimaryKey"\t:  1 '),
    "a final line break": body(HEAD) + b"\r\n",
    "numbers": body(HEAD + ',"a":1.50,"b":1E+2,"c":-0,"d":12345678901234567890123,"e":1e400,"f":0.1000000000000000055'),
    "numbers as strings": body(HEAD + ',"FieldValues":{"ContactId":"21","x":"[I:6]","y":"[DT:09/16/2025 14:22:14]"}'),
    "unknown fields": body(HEAD + ',"New":{"deep":[[[{"er":null}]]]},"":0,"PrimaryKey2":true'),
    "a field twice": body(HEAD + ',"x":1,"x":2'),
    "unexpected types": body(HEAD + ',"Changes":"name","FieldValues":[],"Timestamp":5,"WebhookName":{},"Entity":[]'),
    "escapes": body(HEAD + r',"x":"\u00e5\/\"\\\b\f\n\r\t\u0000\ud83e\uded0"'),
    "lone surrogates": body(HEAD + r',"x":"\ud800","\udc00":1'),
    "Unicode": body(HEAD + ',"x":"æøå Ærlig 北海道 🫐 e\u0301 \u200f\u2028\u2029\ufeff\x7f\u0085"'),
    "no field but the needed ones": body(HEAD),
}


@every_form
@pytest.mark.parametrize("raw", BYTE_FOR_BYTE.values(), ids=BYTE_FOR_BYTE.keys())
def test_a_body_is_the_same_in_the_queue_as_on_the_wire(lambda_, form, raw):
    # Not the same event for each form: a FIFO queue would take it once.
    raw = raw.replace(b'"e-', f'"{form} e-'.encode(), 1)
    answer = lambda_.send(raw, form)
    assert answer.json["outcome"] == "forwarded", answer
    [message] = lambda_.queued()
    assert message.body.encode() == raw
    assert message.attributes["Signature"] == sign(message.body.encode())


@pytest.mark.parametrize("form", ["2.0 text", "1.0 base64"])
def test_characters_that_sqs_refuses_are_written_as_json_escapes(lambda_, form):
    sent = event(WebhookName="a\ufffeb\uffffc", FieldValues={"\uffff": "\ufffe"})
    assert lambda_.send(sent, form).status == 200
    [message] = lambda_.queued()
    assert message.body == encode(sent).decode().replace("\ufffe", r"\ufffe").replace("\uffff", r"\uffff")
    assert json.loads(message.body) == sent
    assert "WebhookName" not in message.attributes
    assert message.attributes["Signature"] == sign(encode(sent))


@every_form
def test_a_message_has_these_attributes_and_no_others(lambda_, form):
    sent = event()
    lambda_.send(sent, form)
    [message] = lambda_.queued()
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


@pytest.mark.parametrize("value", [None, "null", ""], ids=["missing", "null", "empty"])
def test_an_attribute_without_a_value_is_left_out(lambda_, value):
    sent = event(**dict.fromkeys(["ContextIdentifier", "WebhookName", "Timestamp", "Entity"], value))
    raw = encode(sent).replace(b'"null"', b"null")
    lambda_.send(raw)
    [message] = lambda_.queued()
    assert message.attributes == {
        "Event": "contact.changed",
        "EventId": sent["EventId"],
        "Entity": "contact",  # from the event's name
        "PrimaryKey": "994863",
        "Signature": sign(raw),
        "ContentType": "application/json",
    }
    assert message.system["MessageGroupId"] == "/contact/994863"


def test_attributes_come_from_the_signed_body_and_not_from_the_headers(lambda_):
    sent = event()
    lambda_.send(sent, headers=[("X-SuperOffice-Event", "contact.deleted"), ("X-SuperOffice-EventId", "forged")])
    [message] = lambda_.queued()
    assert (message.attributes["Event"], message.attributes["EventId"]) == ("contact.changed", sent["EventId"])
    assert message.system["MessageDeduplicationId"] == f"contact.changed/{sent['EventId']}"


@every_form
def test_a_fifo_message_has_its_contacts_group_and_its_events_id(lambda_, form):
    sent = event(PrimaryKey=7, ContextIdentifier="Cust1")
    lambda_.send(sent, form)
    [message] = lambda_.queued()
    assert message.system["MessageGroupId"] == "Cust1/contact/7"
    assert message.system["MessageDeduplicationId"] == f"contact.changed/{sent['EventId']}"


@pytest.mark.parametrize("odd", ["with space", "æøå", "x" * 150, "\u2028"], ids=["space", "Unicode", "long", "line"])
def test_an_id_that_sqs_does_not_allow_is_its_sha_256(lambda_, odd):
    sent = event(ContextIdentifier=odd)
    sent["EventId"] = odd + sent["EventId"]
    lambda_.send(sent)
    [message] = lambda_.queued()
    group, deduplication = f"{odd}/contact/994863", f"contact.changed/{sent['EventId']}"
    assert message.system["MessageGroupId"] == hashlib.sha256(group.encode()).hexdigest()
    assert message.system["MessageDeduplicationId"] == hashlib.sha256(deduplication.encode()).hexdigest()


@every_form
def test_a_retried_delivery_is_queued_once(lambda_, form):
    sent = event()
    for retry in (None, "1", "2"):
        answer = lambda_.send(sent, form, headers=[("X-SuperOffice-Retry", retry)] if retry else [])
        assert answer.json["outcome"] == "forwarded"
    assert [message.body for message in lambda_.queued()] == [encode(sent).decode()]


def test_two_events_with_the_same_id_are_both_queued(lambda_):
    first = event(Event="contact.created")
    second = {**first, "Event": "contact.changed"}
    lambda_.send(first)
    lambda_.send(second)
    assert [message.attributes["Event"] for message in lambda_.queued()] == ["contact.created", "contact.changed"]


def test_the_events_of_a_contact_stay_in_order(lambda_):
    sent = [event(PrimaryKey=key) for key in (1, 2, 1, 2, 1, 1, 2)]
    for each in sent:
        lambda_.send(each)
    taken = lambda_.queued()
    for key in (1, 2):
        expected = [each["EventId"] for each in sent if each["PrimaryKey"] == key]
        found = [m.attributes["EventId"] for m in taken if m.attributes["PrimaryKey"] == str(key)]
        assert found == expected


def test_a_quarantined_body_comes_with_its_reason(lambda_):
    raw = b'{"Event": "contact.changed",}\n'
    lambda_.send(raw)
    [message] = lambda_.quarantined()
    reason = message.attributes.pop("Reason")
    assert reason.startswith("not JSON: ")
    assert "\n" not in reason
    assert message.attributes == {"Encoding": "utf-8", "Signature": sign(raw)}
    assert message.types == dict.fromkeys(["Reason", "Encoding", "Signature"], "String")
    assert message.system["MessageGroupId"] == "quarantine"
    assert message.system["MessageDeduplicationId"] == hashlib.sha256(raw).hexdigest()


@pytest.mark.parametrize("raw", [bytes(range(256)), b'{"x":"\xc3"}', b"\xef\xbf\xbe", b"a\x00b"])
@pytest.mark.parametrize("form", ["2.0 base64", "1.0 base64"])
def test_a_quarantined_body_that_sqs_does_not_allow_is_kept_as_base64(lambda_, form, raw):
    # Another one for each form: the quarantine queue takes the same body once.
    raw = form.encode() + raw
    assert lambda_.send(raw, form).json["outcome"] == "quarantined"
    [message] = lambda_.quarantined()
    assert base64.b64decode(message.body, validate=True) == raw
    assert message.attributes["Encoding"] == "base64"
    assert message.attributes["Signature"] == sign(raw)


def test_a_quarantined_delivery_that_is_retried_is_queued_once(lambda_):
    for _ in range(3):
        assert lambda_.send(b"a retried body that is not JSON").json["outcome"] == "quarantined"
    assert len(lambda_.quarantined()) == 1


def test_a_standard_queue_gets_the_same_message_without_fifo_ids(start):
    stack, _ = start(queue="events", quarantine="quarantine")
    sent = event()
    for form in FORMS:
        assert stack.send(sent, form).status == 200
    stack.send(b"not JSON")
    messages, quarantined = stack.queued(), stack.quarantined()
    # A standard queue does not deduplicate: the consumer does, by EventId.
    assert [message.body for message in messages] == [encode(sent).decode()] * len(FORMS)
    assert messages[0].attributes["EventId"] == sent["EventId"]
    assert [message.body for message in quarantined] == ["not JSON"]
    for message in messages + quarantined:
        assert not {"MessageGroupId", "MessageDeduplicationId"} & message.system.keys()


@pytest.mark.parametrize("queue", ["events.fifo", "events"])
def test_the_trace_goes_on_in_the_consumer(start, queue):
    stack, _ = start(queue=queue)
    stack.send(event())
    [message] = stack.queued()
    assert message.system["AWSTraceHeader"] == TRACE_ID


def test_an_event_as_a_cloud_event(start):
    stack, _ = start(MESSAGE_FORMAT="cloudevents")
    raw = body('"Event":"contact.changed","Entity":"contact","PrimaryKey":21,"ContextIdentifier":"Cust 1","x":1.50')
    raw = raw.replace(b'"x"', b'"Timestamp":"2018-04-24T07:50:50.6812131Z","x"')
    stack.send(raw)
    [message] = stack.queued()
    cloud_event = json.loads(message.body)
    data = cloud_event.pop("data")
    assert cloud_event == {
        "specversion": "1.0",
        "id": json.loads(raw)["EventId"],
        "source": "urn:superoffice:Cust%201",
        "type": "com.superoffice.contact.changed",
        "subject": "contact/21",
        "time": "2018-04-24T07:50:50.6812131Z",
        "datacontenttype": "application/json",
    }
    assert data == json.loads(raw)
    assert '"x":1.50' in message.body
    assert message.attributes["ContentType"] == "application/cloudevents+json"
    assert message.attributes["Signature"] == sign(raw)


def test_a_cloud_event_from_an_on_site_installation_has_no_customer_and_no_bad_time(start):
    stack, _ = start(MESSAGE_FORMAT="cloudevents")
    stack.send(event(ContextIdentifier="", Timestamp="2020-02-16T17:50:17"))
    [message] = stack.queued()
    cloud_event = json.loads(message.body)
    assert cloud_event["source"] == "urn:superoffice:onsite"
    assert "time" not in cloud_event
    assert message.attributes["Timestamp"] == "2020-02-16T17:50:17"


def test_the_body_of_an_unsigned_request_is_nowhere(start):
    stack, function = start(quarantine="quarantine.fifo")
    marker = "hunter2-in-the-body"
    for form in FORMS:
        stack.invoke(delivery(event(WebhookName=marker), form, signatures=[sign(b"")]))
    assert stack.nothing_is_queued()
    assert marker not in function.stdout + function.stderr
