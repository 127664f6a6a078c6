"""The function on this machine: `make run`, `make watch` and `make send`.

run    sends every file in events/ through the function to a local SQS, prints the messages, passes them to the consumer
       of examples/consumer, and exits
watch  keeps the same stack running and rebuilds the function when its code changes
send   sends one file of events/ to the stack of `watch`
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import signal
import sys
import tempfile
from collections import Counter
from pathlib import Path

import psutil
from signing import SAMPLE_SECRET
from stack import (
    CONSUMER_NAME,
    ROOT,
    Child,
    DevStack,
    Message,
    StackError,
    WatchedFunction,
    build,
    invoke_file,
    sqs_event,
)

EVENTS = ROOT / "events"

# The expected status and outcome of every file in events/, in sending order.
EXPECTED = {
    "contact-created": (200, "forwarded"),
    "contact-created-retried": (200, "forwarded"),
    "contact-changed": (200, "forwarded"),
    "contact-softdeleted": (200, "forwarded"),
    "contact-deleted": (200, "forwarded"),
    "contact-changed-base64": (200, "forwarded"),
    "contact-changed-rest": (200, "forwarded"),
    "test": (200, "test"),
    "sale-created": (200, "ignored"),
    "signature-wrong": (401, "Unauthorized"),
    "signature-missing": (401, "Unauthorized"),
    "not-json": (200, "quarantined"),
}

# The event that the consumer fails to process, to demonstrate a partial batch response.
FAILING = EVENTS / "payloads" / "contact-changed.json"

# The process id and port of a running `watch`.
STATE = ROOT / ".tools" / "watch.json"


def run() -> int:
    """Sends all events and prints all messages. Returns 0 if every response and every message is as expected."""
    say("Building the function and the consumer (a few minutes the first time)")
    build()
    build(CONSUMER_NAME)
    say("Starting a local SQS (moto)")
    with DevStack() as stack, tempfile.NamedTemporaryFile("w", suffix=".log") as log:
        say("Starting the function (cargo lambda watch)")
        with WatchedFunction(stack.environment, log) as function:
            say(f"Sending every file in {EVENTS.relative_to(ROOT)}/ (cargo lambda invoke)\n")
            problems, sent = send_all(function.port)
        received = {url: stack.sqs.drain(url) for url in (stack.queue, stack.quarantine)}
    for url, messages in received.items():
        print_queue(url, messages)
    for url, outcome in ((stack.queue, "forwarded"), (stack.quarantine, "quarantined")):
        # A retried delivery is queued once.
        if Counter(message.body for message in received[url]) != Counter(set(sent[outcome])):
            problems.append(f"{name_of(url)} does not contain exactly the {outcome} bodies")
    problems += consume(stack.queue, received[stack.queue])
    for problem in problems:
        print(f"UNEXPECTED: {problem}")
    if not problems:
        print(f"All {len(EXPECTED)} responses, all messages and all results of the consumer are as expected.")
    return 1 if problems else 0


def send_all(port: int) -> tuple[list[str], dict[str, list[str]]]:
    """Sends every file and prints its outcome. Returns the problems, and the queued bodies by outcome."""
    names = [*EXPECTED, *sorted({file.stem for file in EVENTS.glob("*.json")} - EXPECTED.keys())]
    problems: list[str] = []
    bodies: dict[str, list[str]] = {"forwarded": [], "quarantined": []}
    print(f"{'file':<32}{'status':<8}outcome")
    for name in names:
        file = EVENTS / f"{name}.json"
        response = invoke_file(port, file)
        status, outcome = response["statusCode"], outcome_of(response)
        print(f"{file.name:<32}{status:<8}{outcome}", flush=True)
        if (status, outcome) != EXPECTED.get(name):
            problems.append(f"{file.name} returned {status} {outcome}; EXPECTED contains {EXPECTED.get(name)}")
        if outcome in bodies:
            bodies[outcome].append(body_of(json.loads(file.read_text(encoding="utf-8"))))
    print()
    return problems, bodies


def outcome_of(response: dict) -> str:
    """Returns the outcome of a response, or the title of its problem document."""
    body = json.loads(response["body"])
    return body.get("outcome") or body["title"]


def body_of(envelope: dict) -> str:
    """Returns the request body in an API Gateway event."""
    body = envelope["body"]
    return base64.b64decode(body).decode() if envelope["isBase64Encoded"] else body


def print_queue(url: str, messages: list[Message]) -> None:
    print(f"{name_of(url)}: {len(messages)} message{'' if len(messages) == 1 else 's'}")
    for number, message in enumerate(messages, 1):
        print(f"\n  message {number}: {message.message_id}")
        for name in ("MessageGroupId", "MessageDeduplicationId", "AWSTraceHeader"):
            if name in message.system:
                print(f"    {name:<24}{message.system[name]}")
        print("    attributes")
        for name, value in sorted(message.attributes.items()):
            kind = "" if message.types[name] == "String" else f"  ({message.types[name]})"
            print(f"      {name:<22}{value}{kind}")
        print(f"    body, {len(message.body.encode())} bytes")
        for line in message.body.splitlines():
            print(f"      {line}")
    print()


def consume(queue: str, messages: list[Message]) -> list[str]:
    """Passes the messages to the consumer in batches of ten and prints the results. Returns the problems."""
    failing = json.loads(FAILING.read_text(encoding="utf-8"))["EventId"]
    environment = {"SUPEROFFICE_WEBHOOK_SECRET": SAMPLE_SECRET, "FAIL_EVENT_ID": failing}
    failed: set[str] = set()
    say("Starting the consumer (cargo lambda watch)")
    with (
        tempfile.NamedTemporaryFile("w", suffix=".log") as log,
        tempfile.TemporaryDirectory() as folder,
        WatchedFunction(environment, log, name=CONSUMER_NAME) as consumer,
    ):
        say(f"Passing it {name_of(queue)}; the event of {FAILING.name} fails (cargo lambda invoke)\n")
        for start in range(0, len(messages), 10):
            batch = Path(folder) / f"batch-{start}.json"
            batch.write_text(json.dumps(sqs_event(queue, messages[start : start + 10])), encoding="utf-8")
            response = invoke_file(consumer.port, batch, CONSUMER_NAME)
            failed |= {failure["itemIdentifier"] for failure in response["batchItemFailures"]}
        log_lines = Path(log.name).read_text(encoding="utf-8").splitlines()
    # The consumer logs the action for a processed event, and the reason for a message that it returns.
    records = [json.loads(line) for line in log_lines if line.startswith("{")]
    reasons = {line["messageId"]: f"{line['outcome']}: {line['reason']}" for line in records if "messageId" in line}
    actions = {line["eventId"]: line["action"] for line in records if "eventId" in line}
    print(f"{'event':<22}{'group':<26}{'result':<12}log of the consumer")
    problems, blocked = [], set()
    for message in messages:
        attributes, group = message.attributes, message.system["MessageGroupId"]
        is_returned = message.message_id in failed
        comment = reasons.get(message.message_id) or actions.get(attributes["EventId"], "none")
        print(f"{attributes['Event']:<22}{group:<26}{'returned' if is_returned else 'processed':<12}{comment}")
        if attributes["EventId"] == failing:
            blocked.add(group)
        if is_returned != (group in blocked) or is_returned == (attributes["EventId"] in actions):
            problems.append(f"the consumer's result for {attributes['Event']} of {group}")
    if not blocked:
        problems.append(f"the event of {FAILING.name} is not in the queue")
    print()
    return problems


def name_of(url: str) -> str:
    return url.rpartition("/")[2]


def watch() -> int:
    """Keeps the stack running until it is interrupted."""
    if running_watch() is not None:
        raise StackError("`make watch` is already running")
    say("Building the function (a few minutes the first time)")
    build()
    say("Starting a local SQS (moto)")
    with DevStack() as stack:
        # Settings that are useful to try locally.
        chosen = {name: os.environ[name] for name in ("FORWARD_EVENTS", "MESSAGE_FORMAT") if name in os.environ}
        say("Starting the function (cargo lambda watch)")
        with WatchedFunction({**stack.environment, **chosen}, reload=True) as function:
            STATE.write_text(json.dumps({"pid": os.getpid(), "port": function.port}))
            try:
                print(
                    f"""
Function       {function.url}
SQS            {stack.sqs.endpoint}
  events       {stack.queue}
  quarantine   {stack.quarantine}
Secret         {SAMPLE_SECRET}

In another terminal:
  make send EVENT=contact-created
  SUPEROFFICE_WEBHOOK_SECRET={SAMPLE_SECRET} \\
    cargo run -p so-webhook -- post {function.url} events/payloads/contact-created.json

The function is rebuilt when its code changes. Ctrl-C stops everything.
""",
                    flush=True,
                )
                return function.wait()
            finally:
                STATE.unlink()


def send(name: str) -> int:
    """Sends one file to the stack of `watch` and prints the response."""
    file = EVENTS / f"{name}.json"
    if not file.is_file():
        names = "\n  ".join(sorted(file.stem for file in EVENTS.glob("*.json")))
        raise StackError(f"unknown event; choose one with make send EVENT=contact-created\n  {names}")
    port = running_watch()
    if port is None:
        raise StackError("no stack is running; start one with `make watch`")
    response = invoke_file(port, file)
    print(f"{response['statusCode']} {response['body']}")
    return 0


def running_watch() -> int | None:
    """Returns the port of a running `watch`."""
    if not STATE.exists():
        return None
    state = json.loads(STATE.read_text())
    return state["port"] if psutil.pid_exists(state["pid"]) else None


def say(text: str) -> None:
    print(text, flush=True)


STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def _stop(number: int, _frame: object) -> None:
    # Further signals must not interrupt the clean-up.
    for stop_signal in STOP_SIGNALS:
        signal.signal(stop_signal, signal.SIG_IGN)
    raise SystemExit(128 + number)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("run")
    commands.add_parser("watch")
    commands.add_parser("send").add_argument("event")
    arguments = parser.parse_args()
    for number in STOP_SIGNALS:
        signal.signal(number, _stop)
    try:
        if arguments.command == "send":
            return send(arguments.event)
        return run() if arguments.command == "run" else watch()
    except StackError as error:
        print(f"{Path(__file__).name}: {error}", file=sys.stderr)
        return 1
    finally:
        Child.close_all()


if __name__ == "__main__":
    sys.exit(main())
