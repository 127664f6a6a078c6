"""From SuperOffice to a consumer: the example, those in the README as they stand there, CloudEvents, filters.

For both message formats and both kinds of queue, what the function has put into a local SQS is handed on as an event
source mapping does.
"""

import base64
import dataclasses
import hashlib
import hmac
import json
import re
import shutil
import subprocess
import sys

import pytest
from deliveries import encode, event
from moto.events.models import EventPattern
from runtime_api import Function
from stack import CONSUMER_NAME, ROOT, SAMPLE_SECRET, build, sqs_event

DOCUMENT = "".join(ROOT.joinpath(file).read_text(encoding="utf-8") for file in ("README.md", "docs/consumers.md"))
FORMATS = ["superoffice", "cloudevents"]
PAYLOADS = ROOT / "events" / "payloads"
FORWARDED = sorted(path for path in PAYLOADS.glob("*.json") if path.stem != "test")


def code_block(language: str) -> str:
    """The only code block of a language in the documents."""
    [block] = re.findall(rf"^```{language}\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL)
    return block


@pytest.fixture(params=FORMATS)
def message_format(request):
    return request.param


@pytest.fixture(params=["events", "events.fifo"])
def queue(request):
    return request.param


@pytest.fixture
def function(start, message_format, queue):
    """A function for any event."""
    return start(queue, MESSAGE_FORMAT=message_format, FORWARD_EVENTS="*")[0]


@pytest.fixture(scope="session")
def consumer_binary():
    return build(name=CONSUMER_NAME)


@pytest.fixture(params=["the example", "Python", "Node"])
def consume(request, tmp_path):
    """A consumer: takes batches, and gives for each its answer and the ids of the events that it handled."""
    if request.param == "the example":
        binary = request.getfixturevalue("consumer_binary")
        with Function(binary, {"SUPEROFFICE_WEBHOOK_SECRET": SAMPLE_SECRET}) as function:

            def in_rust(batch):
                before = len(function.lines)
                answer = function.invoke(batch)
                assert answer.kind == "response", answer
                return answer.json, [line["eventId"] for line in function.lines[before:] if "action" in line]

            yield in_rust
        return
    if request.param == "Python":
        command = python_command(tmp_path)
    else:
        node = shutil.which("node")
        if node is None:
            pytest.skip("Node is not installed")
        command = node_command(node, tmp_path)

    def by_script(batch):
        ran = subprocess.run(command, input=json.dumps(batch), capture_output=True, text=True, timeout=60)
        assert ran.returncode == 0, ran.stderr
        *lines, answer = [json.loads(line) for line in ran.stdout.splitlines()]
        return answer, [line["eventId"] for line in lines if "eventId" in line]

    yield by_script


def python_command(folder):
    (folder / "consumer.py").write_text(code_block("python"), encoding="utf-8")
    main = (
        "import json, sys; from consumer import lambda_handler as f; print(json.dumps(f(json.load(sys.stdin), None)))"
    )
    (folder / "main.py").write_text(main, encoding="utf-8")
    return [sys.executable, str(folder / "main.py")]


def node_command(node, folder):
    (folder / "consumer.mjs").write_text(code_block("js"), encoding="utf-8")
    main = """
        import { readFileSync } from "node:fs";
        import { handler } from "./consumer.mjs";
        console.log(JSON.stringify(await handler(JSON.parse(readFileSync(0, "utf8")))));
    """
    (folder / "main.mjs").write_text(main, encoding="utf-8")
    return [node, str(folder / "main.mjs")]


def test_a_consumer_handles_what_superoffice_sent(function, queue, consume):
    sent = [path.read_bytes() for path in FORWARDED]
    for body in sent:
        assert function.send(body).json["outcome"] == "forwarded"
    answer, handled = consume(sqs_event(queue, function.queued()))
    assert answer == {"batchItemFailures": []}
    assert sorted(handled) == sorted(json.loads(body)["EventId"] for body in sent)


def test_a_consumer_keeps_what_fails_and_in_a_fifo_queue_what_stands_behind_it(function, queue, consume):
    """Interleaved groups: A fails at its second message, which cannot be read, B at its first; C does not fail."""
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
        back = {message.message_id for message in by_contact["A"][1:] + by_contact["B"]}
    else:
        back = set(bad)
    answer, handled = consume(sqs_event(queue, batch))
    assert [failure["itemIdentifier"] for failure in answer["batchItemFailures"]] == [
        message.message_id for message in messages if message.message_id in back
    ]
    assert handled == [m.attributes["EventId"] for m in messages if m.message_id not in back]


def test_the_example_handles_an_event_once_and_checks_its_signature(function, queue, consumer_binary):
    function.send(event())
    [message] = function.queued()
    with Function(consumer_binary, {"SUPEROFFICE_WEBHOOK_SECRET": SAMPLE_SECRET}) as consumer:
        forged = dataclasses.replace(message, body=message.body.replace("994863", "994864"))
        answer = consumer.invoke(sqs_event(queue, [forged])).json
        assert answer == {"batchItemFailures": [{"itemIdentifier": message.message_id}]}
        assert [line["reason"] for line in consumer.lines] == ["signature mismatch"]
        for _ in range(2):
            assert consumer.invoke(sqs_event(queue, [message])).json == {"batchItemFailures": []}
        assert [line["eventId"] for line in consumer.lines[1:]] == [message.attributes["EventId"]]


def test_the_example_returns_an_event_that_fails_until_it_does_not(function, queue, consumer_binary):
    failing = event()
    function.send(failing)
    batch = sqs_event(queue, function.queued())
    with Function(consumer_binary, {"FAIL_EVENT_ID": failing["EventId"]}) as consumer:
        for _ in range(2):
            assert len(consumer.invoke(batch).json["batchItemFailures"]) == 1
    with Function(consumer_binary, {"FAIL_EVENT_ID": "another"}) as consumer:
        assert consumer.invoke(batch).json == {"batchItemFailures": []}


def test_a_signature_can_be_checked_as_the_document_says(function, message_format):
    """Also with white space around the body, and with characters that SQS refuses."""
    for sent in (b" \r\n" + encode(event()) + b"\n\t", encode(event(WebhookName="a\ufffeb\uffff"))):
        function.send(sent)
        [message] = function.queued()
        signed = message.body
        if message_format == "cloudevents":
            signed = signed[signed.index(',"data":') + len(',"data":') : signed.rindex("}")]
        signed = signed.replace(r"\ufffe", "\ufffe").replace(r"\uffff", "\uffff")
        mac = hmac.new(SAMPLE_SECRET.encode(), signed.encode(), hashlib.sha256).digest()
        assert message.attributes["Signature"] == base64.b64encode(mac).decode()


ODD_EVENTS = [
    event(ContextIdentifier="Kunde \u2116 1/\u00f6"),
    event(ContextIdentifier=None, Timestamp=None),
    event(Timestamp="2026-03-16T08:14:22"),
    event(Event="list.110.created", Entity=None),
    event(WebhookName="a\ufffeb"),
]


@pytest.fixture
def cloud_events(start):
    """CloudEvents from the queue, each with the event that was sent."""
    function, _ = start("events", MESSAGE_FORMAT="cloudevents", FORWARD_EVENTS="*")
    sent = {each["EventId"]: each for each in [json.loads(path.read_bytes()) for path in FORWARDED] + ODD_EVENTS}
    for each in sent.values():
        function.send(each)
    messages = function.queued()
    assert len(messages) == len(sent)
    return [(message.body, sent[message.attributes["EventId"]]) for message in messages]


def test_the_cloudevents_sdk_for_python_reads_the_event(cloud_events):
    json_format = pytest.importorskip("cloudevents.core.formats.json", reason="the SDK needs Python 3.10")
    for body, sent in cloud_events:
        read = json_format.JSONFormat().read(None, body)
        assert read.get_specversion() == "1.0"
        assert read.get_id() == sent["EventId"]
        assert read.get_type() == f"com.superoffice.{sent['Event']}"
        assert read.get_datacontenttype() == "application/json"
        assert read.get_subject().endswith(f"/{sent['PrimaryKey']}")
        if "time" in json.loads(body):  # the SDK makes one up where there is none
            assert read.get_time().isoformat().startswith(sent["Timestamp"][:26].rstrip("Z"))
        assert read.get_data() == sent


def test_the_cloudevents_sdk_for_node_reads_the_event_and_its_json_schema_holds(cloud_events, tmp_path):
    node = shutil.which("node")
    modules = ROOT / ".tools" / "node" / "node_modules"
    if node is None or not modules.is_dir():
        pytest.skip("Node and npm are not installed: see `make test`")
    script = """
        const { readFileSync } = require("node:fs");
        const { HTTP } = require("cloudevents");
        // The JSON Schema of the CloudEvents specification, compiled, as it is in the SDK.
        const schema = require(require("node:path").join(process.argv[2], "cloudevents", "dist", "schema", "v1.js"));
        const holds = schema.default ?? schema;
        const read = JSON.parse(readFileSync(0, "utf8")).map((body) => {
          if (!holds(JSON.parse(body))) throw new Error(JSON.stringify(holds.errors));
          const event = HTTP.toEvent({ headers: { "content-type": "application/cloudevents+json" }, body });
          if (!event.validate()) throw new Error("not valid");
          return { id: event.id, source: event.source, type: event.type, subject: event.subject, data: event.data };
        });
        // A schema that takes everything would prove nothing.
        if (holds({ ...read[0], specversion: "1.0", id: "" })) throw new Error("an empty id is taken");
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
    for read, (body, sent) in zip(json.loads(ran.stdout), cloud_events):
        assert read["id"] == sent["EventId"]
        assert read["type"] == f"com.superoffice.{sent['Event']}"
        assert (read["source"], read["subject"]) == (json.loads(body)["source"], json.loads(body)["subject"])
        assert read["data"] == sent


def documented_filters(message_format: str) -> dict:
    """The filters of the documents' table, by what they let through."""
    rows = re.findall(r"^\| ([\w ]+) \| `(\{.*\})` \| `(\{.*\})` \|$", DOCUMENT, re.MULTILINE)
    return {only: (superoffice, cloudevents)[FORMATS.index(message_format)] for only, superoffice, cloudevents in rows}


WANTED = {
    "deletions": lambda sent: sent["Event"] in ("contact.softdeleted", "contact.deleted"),
    "one tenant": lambda sent: sent.get("ContextIdentifier") == "Cust12345",
    "deletions of one tenant": lambda sent: WANTED["deletions"](sent) and WANTED["one tenant"](sent),
    "changes of the name or the category": lambda sent: (
        sent["Event"] == "contact.changed" and bool({"name", "category_idx"} & set(sent["Changes"]))
    ),
}


def test_every_documented_filter_is_tested(message_format):
    assert documented_filters(message_format).keys() == WANTED.keys()


@pytest.mark.parametrize("only", WANTED)
def test_a_filter_lets_through_what_it_says(start, message_format, only):
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
    pattern = EventPattern.load(documented_filters(message_format)[only])
    through = {
        message.attributes["EventId"]
        for message in function.queued()
        if pattern.matches_event({"body": json.loads(message.body)})
    }
    wanted = {each["EventId"] for each in sent if WANTED[only](each)}
    assert through == wanted
    assert 0 < len(wanted) < len(sent)


def test_the_template_snippet_has_the_filter_for_deletions():
    [pattern] = re.findall(r"Pattern: '(.*)'", code_block("yaml"))
    assert pattern == documented_filters("superoffice")["deletions"]
