"""From SuperOffice to a consumer: the examples in Rust, Python and Node, CloudEvents SDKs, and the documented filters.

The function writes to a local SQS, in both message formats and for both types of queue. The tests pass the messages on
as an event source mapping does.
"""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import subprocess
import sys

import pytest
from cloudevents.core.formats.json import JSONFormat
from deliveries import encode, event, sign
from moto.events.models import EventPattern
from runtime_api import Function
from stack import CONSUMER_NAME, ROOT, SAMPLE_SECRET, build, sqs_event

DOCUMENT = (ROOT / "docs" / "consumers.md").read_text(encoding="utf-8")
FORMATS = ["superoffice", "cloudevents"]
PAYLOADS = ROOT / "events" / "payloads"
FORWARDED = sorted(path for path in PAYLOADS.glob("*.json") if path.stem != "test")


@pytest.fixture(params=FORMATS)
def message_format(request):
    return request.param


@pytest.fixture(params=["events", "events.fifo"])
def queue(request):
    return request.param


@pytest.fixture
def function(start, message_format, queue):
    """A function that forwards every event."""
    return start(queue, MESSAGE_FORMAT=message_format, FORWARD_EVENTS="*")[0]


@pytest.fixture(scope="session")
def consumer_binary():
    return build(CONSUMER_NAME)


PYTHON_MAIN = """
import json, sys
from consumer import lambda_handler
print(json.dumps(lambda_handler(json.load(sys.stdin), None)))
"""
NODE_MAIN = """
import { readFileSync } from "node:fs";
import { handler } from "./examples/node/consumer.mjs";
console.log(JSON.stringify(await handler(JSON.parse(readFileSync(0, "utf8")))));
"""


@pytest.fixture(params=["Rust", "Python", "Node"])
def consume(request):
    """An example consumer: processes a batch, and returns its response and the ids of the handled events."""
    if request.param == "Rust":
        binary = request.getfixturevalue("consumer_binary")
        with Function(binary, {"SUPEROFFICE_WEBHOOK_SECRET": SAMPLE_SECRET}) as function:

            def run_rust(batch):
                before = len(function.lines)
                reply = function.invoke(batch)
                assert reply.kind == "response", reply
                return reply.json, [line["eventId"] for line in function.lines[before:] if "action" in line]

            yield run_rust
        return
    if request.param == "Python":
        command, folder = [sys.executable, "-c", PYTHON_MAIN], ROOT / "examples" / "python"
    else:
        node = shutil.which("node")
        if node is None:
            pytest.skip("Node is not installed")
        command, folder = [node, "--input-type=module", "--eval", NODE_MAIN], ROOT

    def run_script(batch):
        ran = subprocess.run(command, cwd=folder, input=json.dumps(batch), capture_output=True, text=True, timeout=60)
        assert ran.returncode == 0, ran.stderr
        *lines, response = [json.loads(line) for line in ran.stdout.splitlines()]
        return response, [line["eventId"] for line in lines if "eventId" in line]

    yield run_script


def test_consumer_handles_every_sample_event(function, queue, consume):
    sent = [path.read_bytes() for path in FORWARDED]
    for body in sent:
        assert function.send(body).json["outcome"] == "forwarded"
    response, handled = consume(sqs_event(queue, function.queued()))
    assert response == {"batchItemFailures": []}
    assert sorted(handled) == sorted(json.loads(body)["EventId"] for body in sent)


def test_consumer_returns_failed_messages_and_later_ones_of_their_fifo_group(function, queue, consume):
    """Interleaves three groups: A fails at its second message, B at its first, C does not fail."""
    for contact in "BACABCAB":
        function.send(event(PrimaryKey=ord(contact)))
    messages = function.queued()
    contacts = "".join(chr(int(message.attributes["PrimaryKey"])) for message in messages)
    if queue.endswith(".fifo"):
        assert sorted(contacts) == sorted("BACABCAB")
    by_contact = {
        contact: [m for m in messages if chr(int(m.attributes["PrimaryKey"])) == contact] for contact in "ABC"
    }
    bad = {by_contact["A"][1].message_id: "not JSON", by_contact["B"][0].message_id: "null"}
    batch = [
        dataclasses.replace(message, body=bad[message.message_id]) if message.message_id in bad else message
        for message in messages
    ]
    if queue.endswith(".fifo"):
        returned = {message.message_id for message in by_contact["A"][1:] + by_contact["B"]}
    else:
        returned = set(bad)
    response, handled = consume(sqs_event(queue, batch))
    assert [failure["itemIdentifier"] for failure in response["batchItemFailures"]] == [
        message.message_id for message in messages if message.message_id in returned
    ]
    assert handled == [m.attributes["EventId"] for m in messages if m.message_id not in returned]


@pytest.mark.parametrize("consume", ["Python", "Node"], indirect=True)
def test_script_reads_records_with_odd_attributes_and_a_byte_order_mark(function, queue, consume):
    for contact in range(4):
        function.send(event(PrimaryKey=contact))
    batch = sqs_event(queue, function.queued())
    records = batch["Records"]
    del records[0]["messageAttributes"]
    records[1]["messageAttributes"] = {"ContentType": 7, "Event": None}
    records[2]["body"] = "\ufeff" + records[2]["body"]
    response, handled = consume(batch)
    assert (response, len(handled)) == ({"batchItemFailures": []}, 4)


def test_rust_example_handles_an_event_once_and_rejects_forged_messages(function, queue, consumer_binary):
    function.send(event())
    [message] = function.queued()
    with Function(consumer_binary, {"SUPEROFFICE_WEBHOOK_SECRET": SAMPLE_SECRET}) as consumer:
        forged = dataclasses.replace(message, body=message.body.replace("994863", "994864"))
        response = consumer.invoke(sqs_event(queue, [forged])).json
        assert response == {"batchItemFailures": [{"itemIdentifier": message.message_id}]}
        assert [line["reason"] for line in consumer.lines] == ["signature mismatch"]
        for _ in range(2):
            assert consumer.invoke(sqs_event(queue, [message])).json == {"batchItemFailures": []}
        assert [line["eventId"] for line in consumer.lines[1:]] == [message.attributes["EventId"]]


def test_rust_example_returns_a_failing_event_until_it_succeeds(function, queue, consumer_binary):
    failing = event()
    function.send(failing)
    batch = sqs_event(queue, function.queued())
    with Function(consumer_binary, {"FAIL_EVENT_ID": failing["EventId"]}) as consumer:
        for _ in range(2):
            assert len(consumer.invoke(batch).json["batchItemFailures"]) == 1
    with Function(consumer_binary, {"FAIL_EVENT_ID": "another"}) as consumer:
        assert consumer.invoke(batch).json == {"batchItemFailures": []}


def test_signature_can_be_verified_as_documented(function, message_format):
    """Includes whitespace around the body, and characters that SQS rejects."""
    for sent in (b" \r\n" + encode(event()) + b"\n\t", encode(event(WebhookName="a\ufffeb\uffff"))):
        function.send(sent)
        [message] = function.queued()
        signed = message.body
        if message_format == "cloudevents":
            signed = signed[signed.index(',"data":') + len(',"data":') : signed.rindex("}")]
        signed = signed.replace(r"\ufffe", "\ufffe").replace(r"\uffff", "\uffff")
        assert message.attributes["Signature"] == sign(signed.encode())


ODD_EVENTS = [
    event(ContextIdentifier="Kunde \u2116 1/\u00f6"),
    event(ContextIdentifier=None, Timestamp=None),
    event(Timestamp="2026-03-16T08:14:22"),
    event(Event="list.110.created", Entity=None),
    event(WebhookName="a\ufffeb"),
]


@pytest.fixture
def cloud_events(start):
    """CloudEvents from a queue, each with the event that was sent."""
    function, _ = start("events", MESSAGE_FORMAT="cloudevents", FORWARD_EVENTS="*")
    sent = {each["EventId"]: each for each in [json.loads(path.read_bytes()) for path in FORWARDED] + ODD_EVENTS}
    for each in sent.values():
        function.send(each)
    messages = function.queued()
    assert len(messages) == len(sent)
    return [(message.body, sent[message.attributes["EventId"]]) for message in messages]


def test_cloudevents_sdk_for_python_reads_the_event(cloud_events):
    for body, sent in cloud_events:
        read = JSONFormat().read(None, body)
        assert read.get_specversion() == "1.0"
        assert read.get_id() == sent["EventId"]
        assert read.get_type() == f"com.superoffice.{sent['Event']}"
        assert read.get_datacontenttype() == "application/json"
        assert read.get_subject().endswith(f"/{sent['PrimaryKey']}")
        if "time" in json.loads(body):  # without one, the SDK inserts the current time
            assert read.get_time().isoformat().startswith(sent["Timestamp"][:26].rstrip("Z"))
        assert read.get_data() == sent


def test_cloudevents_sdk_for_node_reads_and_validates_the_event(cloud_events, tmp_path):
    node = shutil.which("node")
    modules = ROOT / ".tools" / "node" / "node_modules"
    if node is None or not modules.is_dir():
        pytest.skip("Node and npm are not installed: see `make test`")
    script = """
        const { readFileSync } = require("node:fs");
        const { HTTP } = require("cloudevents");
        // The JSON Schema of the CloudEvents specification, as compiled in the SDK.
        const schema = require(require("node:path").join(process.argv[2], "cloudevents", "dist", "schema", "v1.js"));
        const validate = schema.default ?? schema;
        const read = JSON.parse(readFileSync(0, "utf8")).map((body) => {
          if (!validate(JSON.parse(body))) throw new Error(JSON.stringify(validate.errors));
          const event = HTTP.toEvent({ headers: { "content-type": "application/cloudevents+json" }, body });
          if (!event.validate()) throw new Error("not valid");
          return { id: event.id, source: event.source, type: event.type, subject: event.subject, data: event.data };
        });
        // A schema that accepts everything would prove nothing.
        if (validate({ ...read[0], specversion: "1.0", id: "" })) throw new Error("an empty id is valid");
        console.log(JSON.stringify(read));
    """
    (tmp_path / "read.cjs").write_text(script, encoding="utf-8")
    ran = subprocess.run(
        [node, str(tmp_path / "read.cjs"), str(modules)],
        input=json.dumps([body for body, _ in cloud_events]),
        env={"NODE_PATH": str(modules)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stderr
    for read, (body, sent) in zip(json.loads(ran.stdout), cloud_events, strict=True):
        assert read["id"] == sent["EventId"]
        assert read["type"] == f"com.superoffice.{sent['Event']}"
        assert (read["source"], read["subject"]) == (json.loads(body)["source"], json.loads(body)["subject"])
        assert read["data"] == sent


def documented_filters(message_format: str) -> dict:
    """Returns the filters of the documented table by name."""
    rows = re.findall(r"^\| ([\w ]+) \| `(\{.*\})` \| `(\{.*\})` \|$", DOCUMENT, re.MULTILINE)
    return {name: (superoffice, cloudevents)[FORMATS.index(message_format)] for name, superoffice, cloudevents in rows}


WANTED = {
    "deletions": lambda sent: sent["Event"] in ("contact.softdeleted", "contact.deleted"),
    "one tenant": lambda sent: sent.get("ContextIdentifier") == "Cust12345",
    "deletions of one tenant": lambda sent: WANTED["deletions"](sent) and WANTED["one tenant"](sent),
    "changes of the name or the category": lambda sent: (
        sent["Event"] == "contact.changed" and bool({"name", "category_idx"} & set(sent["Changes"]))
    ),
}


def test_all_documented_filters_are_tested(message_format):
    assert documented_filters(message_format).keys() == WANTED.keys()


@pytest.mark.parametrize("name", WANTED)
def test_documented_filter_matches_exactly_the_wanted_events(start, message_format, name):
    function, _ = start("events", MESSAGE_FORMAT=message_format, FORWARD_EVENTS="*")
    deletion = {"Event": "contact.deleted", "Changes": []}
    sent = [json.loads(path.read_bytes()) for path in FORWARDED]
    sent += [
        event(ContextIdentifier="Cust1234"),
        event(ContextIdentifier="Cust123456", **deletion),
        event(ContextIdentifier=None, **deletion),
        event(Event="sale.deleted", Entity="sale"),
        event(Changes=["department"]),
        event(Changes=["department", "category_idx"], ContextIdentifier=None),
    ]
    for each in sent:
        function.send(each)
    pattern = EventPattern.load(documented_filters(message_format)[name])
    matched = {
        message.attributes["EventId"]
        for message in function.queued()
        if pattern.matches_event({"body": json.loads(message.body)})
    }
    wanted = {each["EventId"] for each in sent if WANTED[name](each)}
    assert matched == wanted
    assert 0 < len(wanted) < len(sent)


def test_template_snippet_contains_the_filter_for_deletions():
    [pattern] = re.findall(r"Pattern: '(.*)'", DOCUMENT)
    assert pattern == documented_filters("superoffice")["deletions"]
