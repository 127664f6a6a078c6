"""From SuperOffice to a consumer: the examples in Rust, Python and Node, CloudEvents SDKs, and the documented filters.

The function writes to a local SQS, in both message formats and for both types of queue. The tests pass the messages on
as an event source mapping does.
"""

from __future__ import annotations

import itertools
import json
import re
import shutil
import subprocess
import sys
import uuid

import pytest
from cloudevents.core.formats.json import JSONFormat
from deliveries import encode, event
from local_aws import ACCOUNT, REGION, attributes_of, sqs_event
from processes import ROOT, base_environment
from signing import SAMPLE_SECRET, sign

DOCUMENT = (ROOT / "docs" / "consumers.md").read_text(encoding="utf-8")
FORMATS = ["superoffice", "cloudevents"]
PAYLOADS = ROOT / "events" / "payloads"
FORWARDED = sorted(path for path in PAYLOADS.glob("*.json") if path.stem != "test")


@pytest.fixture(scope="module", params=FORMATS)
def message_format(request):
    return request.param


@pytest.fixture(scope="module", params=["events", "events.fifo"])
def function(start, message_format, request):
    """A function that forwards every event."""
    return start(request.param, MESSAGE_FORMAT=message_format, FORWARD_EVENTS="*")


@pytest.fixture(scope="module")
def table(aws):
    """A table for handled events."""
    name = f"handled-events-{uuid.uuid4()}"
    aws.client("dynamodb").create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
    )
    return name


@pytest.fixture(scope="module")
def start_consumer(aws, programs, table):
    """Creates the example in Rust. The returned function passes a batch, and returns response and new log lines."""
    numbers = itertools.count(1)

    def start(**variables):
        variables = {"IDEMPOTENCY_TABLE": table, **variables}
        consumer = aws.create_function(f"consumer-{next(numbers)}", programs["consumer"], variables)

        def run(batch):
            before = len(consumer.log_lines())
            response = consumer.invoke(batch)
            return response, consumer.log_lines()[before:]

        return run

    return start


PYTHON_MAIN = """
import json, sys
from types import SimpleNamespace
from consumer import lambda_handler
context = SimpleNamespace(get_remaining_time_in_millis=lambda: 30_000)
print(json.dumps(lambda_handler(json.load(sys.stdin), context)))
"""
NODE_MAIN = """
import { readFileSync } from "node:fs";
import { handler } from "./examples/node/consumer.mjs";
const context = { getRemainingTimeInMillis: () => 30_000 };
console.log(JSON.stringify(await handler(JSON.parse(readFileSync(0, "utf8")), context)));
"""


@pytest.fixture(scope="module", params=["Rust", "Python", "Node"])
def consume(request, aws, table, start_consumer):
    """An example consumer: processes a batch, and returns its response and the ids of the handled events.

    Each script is a process of its own, so only the table remembers handled events."""
    if request.param == "Rust":
        run = start_consumer(SUPEROFFICE_WEBHOOK_SECRET=SAMPLE_SECRET)

        def run_rust(batch):
            response, lines = run(batch)
            return response, [line["eventId"] for line in lines if "action" in line]

        return run_rust
    if request.param == "Python":
        command, folder = [sys.executable, "-c", PYTHON_MAIN], ROOT / "examples" / "python"
    else:
        node = shutil.which("node")
        if node is None or not (ROOT / "examples" / "node" / "node_modules").is_dir():
            pytest.skip("Node and npm are not installed: see `make test`")
        command, folder = [node, "--input-type=module", "--eval", NODE_MAIN], ROOT
    variables = {"IDEMPOTENCY_TABLE": table, "NODE_EXTRA_CA_CERTS": str(aws.ca_file)}
    environment = {**base_environment(), **aws.client_environment, **variables}

    def run_script(batch):
        ran = subprocess.run(
            command, cwd=folder, env=environment, input=json.dumps(batch), capture_output=True, text=True, timeout=60
        )
        assert ran.returncode == 0, ran.stderr
        *lines, response = [json.loads(line) for line in ran.stdout.splitlines()]
        return response, [line["eventId"] for line in lines if "eventId" in line]

    return run_script


def test_consumer_handles_every_sample_event(function, consume):
    # Once per consumer, because a FIFO queue deduplicates.
    sent = [{**json.loads(path.read_bytes()), "EventId": str(uuid.uuid4())} for path in FORWARDED]
    for each in sent:
        assert function.send(each).json["outcome"] == "forwarded"
    response, handled = consume(sqs_event(function.queued(), function.events))
    assert response == {"batchItemFailures": []}
    assert sorted(handled) == sorted(each["EventId"] for each in sent)


def test_consumer_handles_a_repeated_message_once(function, consume):
    first = event()
    function.send(first)
    batch = sqs_event(function.queued(), function.events)
    # Different events can have the same id.
    function.send({**first, "Event": "contact.deleted"})
    both = batch["Records"] + sqs_event(function.queued(), function.events)["Records"]
    for records, expected in (batch["Records"], 1), (both, 1), (both, 0):
        response, handled = consume({"Records": records})
        assert (response, len(handled)) == ({"batchItemFailures": []}, expected)


def test_consumer_returns_failed_messages_and_later_ones_of_their_fifo_group(function, consume):
    """Interleaves three groups: A fails at its second message, B at its first, C does not fail."""
    for contact in "BACABCAB":
        function.send(event(PrimaryKey=ord(contact)))
    messages = function.queued()
    contacts = [chr(int(attributes_of(message)["PrimaryKey"])) for message in messages]
    assert sorted(contacts) == sorted("BACABCAB")
    of = {contact: [m for m, c in zip(messages, contacts, strict=True) if c == contact] for contact in "ABC"}
    bad = {of["A"][1]["MessageId"]: "not JSON", of["B"][0]["MessageId"]: "null"}
    batch = [{**message, "Body": bad.get(message["MessageId"], message["Body"])} for message in messages]
    if function.events.name.endswith(".fifo"):
        returned = {message["MessageId"] for message in of["A"][1:] + of["B"]}
    else:
        returned = set(bad)
    response, handled = consume(sqs_event(batch, function.events))
    assert [failure["itemIdentifier"] for failure in response["batchItemFailures"]] == [
        message["MessageId"] for message in messages if message["MessageId"] in returned
    ]
    assert handled == [attributes_of(m)["EventId"] for m in messages if m["MessageId"] not in returned]


@pytest.mark.parametrize("consume", ["Python", "Node"], indirect=True)
def test_script_handles_the_sample_batch(consume):
    """Two contacts: the first message of one is malformed, and an event of the other is repeated."""
    response, handled = consume(json.loads((ROOT / "examples" / "batch.json").read_bytes()))
    assert [failure["itemIdentifier"] for failure in response["batchItemFailures"]] == ["message-2", "message-3"]
    assert [event_id[-1] for event_id in handled] == ["1", "4"]


@pytest.mark.parametrize("consume", ["Python", "Node"], indirect=True)
def test_script_reads_records_with_odd_attributes_and_a_byte_order_mark(function, consume):
    for contact in range(4):
        function.send(event(PrimaryKey=contact))
    batch = sqs_event(function.queued(), function.events)
    records = batch["Records"]
    del records[0]["messageAttributes"]
    records[1]["messageAttributes"] = {"ContentType": 7, "Event": None}
    records[2]["body"] = "\ufeff" + records[2]["body"]
    response, handled = consume(batch)
    assert (response, len(handled)) == ({"batchItemFailures": []}, 4)


def test_rust_example_handles_an_event_once_and_rejects_forged_messages(function, start_consumer):
    function.send(event(PrimaryKey=1))
    function.send(event(PrimaryKey=2))
    first, second = sorted(function.queued(), key=lambda message: attributes_of(message)["PrimaryKey"])
    consumer = start_consumer(SUPEROFFICE_WEBHOOK_SECRET=SAMPLE_SECRET)
    forged = {**first, "Body": first["Body"].replace('"PrimaryKey": 1', '"PrimaryKey": 3')}
    response, lines = consumer(sqs_event([forged], function.events))
    assert response == {"batchItemFailures": [{"itemIdentifier": first["MessageId"]}]}
    assert [line["reason"] for line in lines] == ["signature mismatch"]
    for batch, handled in ([first], first), ([first, second], second):
        response, lines = consumer(sqs_event(batch, function.events))
        assert response == {"batchItemFailures": []}
        assert [line["eventId"] for line in lines] == [attributes_of(handled)["EventId"]]


def test_rust_example_without_a_table_remembers_events_in_its_process(function, start_consumer):
    function.send(event())
    batch = sqs_event(function.queued(), function.events)
    for handled in 1, 1:
        consumer = start_consumer(IDEMPOTENCY_TABLE="")
        assert [len(consumer(batch)[1]) for _ in range(2)] == [handled, 0]


def test_rust_example_returns_a_failing_event_until_it_succeeds(function, start_consumer):
    failing = event()
    function.send(failing)
    batch = sqs_event(function.queued(), function.events)
    consumer = start_consumer(FAIL_EVENT_ID=failing["EventId"])
    for _ in range(2):
        assert len(consumer(batch)[0]["batchItemFailures"]) == 1
    assert start_consumer(FAIL_EVENT_ID="another")(batch)[0] == {"batchItemFailures": []}


def test_signature_can_be_verified_as_documented(function, message_format):
    sent = b" \r\n" + encode(event()) + b"\n\t"
    function.send(sent)
    [message] = function.queued()
    signed = message["Body"]
    if message_format == "cloudevents":
        signed = signed[signed.index(',"data":') + len(',"data":') : signed.rindex("}")]
    assert signed.encode() == sent
    assert attributes_of(message)["Signature"] == sign(signed.encode())


ODD_EVENTS = [
    event(ContextIdentifier="Kunde \u2116 1/\u00f6"),
    event(ContextIdentifier=None, Timestamp=None),
    event(Timestamp="2026-03-16T08:14:22"),
    event(Event="list.110.created", Entity=None),
]


@pytest.fixture(scope="module")
def cloud_events(start):
    """CloudEvents from a queue, each with the event that was sent."""
    function = start("events", MESSAGE_FORMAT="cloudevents", FORWARD_EVENTS="*")
    sent = {each["EventId"]: each for each in [json.loads(path.read_bytes()) for path in FORWARDED] + ODD_EVENTS}
    for each in sent.values():
        function.send(each)
    messages = function.queued()
    assert len(messages) == len(sent)
    return [(message["Body"], sent[attributes_of(message)["EventId"]]) for message in messages]


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


@pytest.fixture(scope="module")
def messages(start, message_format):
    """The events that were sent, and their messages."""
    function = start("events", MESSAGE_FORMAT=message_format, FORWARD_EVENTS="*")
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
    return sent, function.queued()


@pytest.mark.parametrize("name", WANTED)
def test_documented_filter_matches_exactly_the_wanted_events(aws, messages, message_format, name):
    sent, received = messages
    events, pattern = aws.client("events"), documented_filters(message_format)[name]
    # What EventBridge requires of an event. The filter of a queue has the same syntax.
    required = {"id": "1", "account": ACCOUNT, "source": "s", "time": "2026-01-01T00:00:00Z", "region": REGION}
    required |= {"resources": [], "detail-type": "t"}

    def matches(message: dict) -> bool:
        document = json.dumps({**required, "body": json.loads(message["Body"])})
        return events.test_event_pattern(EventPattern=pattern, Event=document)["Result"]

    matched = {attributes_of(message)["EventId"] for message in received if matches(message)}
    wanted = {each["EventId"] for each in sent if WANTED[name](each)}
    assert matched == wanted
    assert 0 < len(wanted) < len(sent)


def test_template_snippet_contains_the_filter_for_deletions():
    [pattern] = re.findall(r"Pattern: '(.*)'", DOCUMENT)
    assert pattern == documented_filters("superoffice")["deletions"]
