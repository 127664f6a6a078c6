"""The function on this machine: `make run`, `make watch` and `make send`.

run    sends every file in events/ through the function into a local SQS, shows what arrived, hands that to the consumer
       of examples/consumer, and ends
watch  keeps the same stack up while one works, and rebuilds the function when its code changes
send   sends one file of events/ to the stack that `watch` keeps up
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

from stack import (
    CONSUMER_NAME,
    ROOT,
    SAMPLE_SECRET,
    Child,
    Message,
    Sqs,
    StackError,
    WatchedFunction,
    build,
    invoke_file,
    sqs_event,
)

EVENTS = ROOT / "events"

# What the function has to answer to each file of events/, in the order in which they are sent.
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

# The event that the consumer fails on, on purpose.
FAILING = EVENTS / "payloads" / "contact-changed.json"

# Where `send` finds the stack of `watch`.
STATE = ROOT / ".tools" / "watch.json"


class LocalStack:
    """An SQS with the function's two queues, and the environment of the function in front of them."""

    def __init__(self) -> None:
        say("Starting a local SQS (moto)")
        self.sqs = Sqs()
        self.queue = self.sqs.create_queue("superoffice-events.fifo")
        self.quarantine = self.sqs.create_queue("superoffice-quarantine.fifo")
        self.environment = {
            **self.sqs.environment,
            "SUPEROFFICE_WEBHOOK_SECRET": SAMPLE_SECRET,
            "QUEUE_URL": self.queue,
            "QUARANTINE_QUEUE_URL": self.quarantine,
        }

    def __enter__(self) -> LocalStack:
        return self

    def __exit__(self, *exception: object) -> None:
        self.sqs.__exit__(*exception)


def run() -> int:
    """Sends everything, shows everything; 0 if every answer and every message is as it should be."""
    say("Building the function and the consumer (a few minutes the first time)")
    build()
    build(name=CONSUMER_NAME)
    with LocalStack() as stack, tempfile.NamedTemporaryFile("w", suffix=".log") as log:
        say("Starting the function (cargo lambda watch)")
        with WatchedFunction(stack.environment, log) as function:
            say(f"Sending every file in {EVENTS.relative_to(ROOT)}/ (cargo lambda invoke)\n")
            wrong, taken = send_all(function.port)
        found = {url: stack.sqs.drain(url) for url in (stack.queue, stack.quarantine)}
    for url, messages in found.items():
        show_queue(url, messages)
    for url, outcome in ((stack.queue, "forwarded"), (stack.quarantine, "quarantined")):
        # A delivery that was sent twice is queued once.
        if Counter(message.body for message in found[url]) != Counter(set(taken[outcome])):
            wrong.append(f"{name_of(url)} does not hold what was {outcome}")
    wrong += consume(stack.queue, found[stack.queue])
    for problem in wrong:
        print(f"NOT AS EXPECTED: {problem}")
    if not wrong:
        print(f"All {len(EXPECTED)} answers, all messages, and what the consumer made of them are as expected.")
    return 1 if wrong else 0


def send_all(port: int) -> tuple[list[str], dict[str, list[str]]]:
    """Sends every file, and prints its line; gives what was wrong, and the bodies that were taken, by outcome."""
    names = [*EXPECTED, *sorted({file.stem for file in EVENTS.glob("*.json")} - EXPECTED.keys())]
    wrong: list[str] = []
    bodies: dict[str, list[str]] = {"forwarded": [], "quarantined": []}
    print(f"{'file':<32}{'status':<8}outcome")
    for name in names:
        file = EVENTS / f"{name}.json"
        answer = invoke_file(port, file)
        status, outcome = answer["statusCode"], outcome_of(answer)
        print(f"{file.name:<32}{status:<8}{outcome}", flush=True)
        if (status, outcome) != EXPECTED.get(name):
            wrong.append(f"{file.name} has the answer {status} {outcome}; EXPECTED says {EXPECTED.get(name)}")
        if outcome in bodies:
            bodies[outcome].append(body_of(json.loads(file.read_text(encoding="utf-8"))))
    print()
    return wrong, bodies


def outcome_of(answer: dict) -> str:
    """The outcome, or of an error its title."""
    body = json.loads(answer["body"])
    return body.get("outcome") or body["title"]


def body_of(envelope: dict) -> str:
    """What the sender sent."""
    body = envelope["body"]
    return base64.b64decode(body).decode() if envelope["isBase64Encoded"] else body


def show_queue(url: str, messages: list[Message]) -> None:
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
    """Hands the messages to the consumer, in batches of ten, and prints what came of them; gives what was wrong."""
    failing = json.loads(FAILING.read_text(encoding="utf-8"))["EventId"]
    environment = {"SUPEROFFICE_WEBHOOK_SECRET": SAMPLE_SECRET, "FAIL_EVENT_ID": failing}
    failed: set[str] = set()
    say("Starting the consumer (cargo lambda watch)")
    with (
        tempfile.NamedTemporaryFile("w", suffix=".log") as log,
        tempfile.TemporaryDirectory() as folder,
        WatchedFunction(environment, log, name=CONSUMER_NAME) as consumer,
    ):
        say(f"Handing it {name_of(queue)}, with the event of {FAILING.name} to fail on (cargo lambda invoke)\n")
        for start in range(0, len(messages), 10):
            batch = Path(folder) / f"batch-{start}.json"
            batch.write_text(json.dumps(sqs_event(queue, messages[start : start + 10])), encoding="utf-8")
            answer = invoke_file(consumer.port, batch, CONSUMER_NAME)
            failed |= {failure["itemIdentifier"] for failure in answer["batchItemFailures"]}
        lines = Path(log.name).read_text(encoding="utf-8").splitlines()
    # What the consumer says of a message, or, when it has handled it, of its event.
    said = [json.loads(line) for line in lines if line.startswith("{")]
    reasons = {line["messageId"]: f"{line['outcome']}: {line['reason']}" for line in said if "messageId" in line}
    actions = {line["eventId"]: line["action"] for line in said if "eventId" in line}
    print(f"{'event':<22}{'group':<26}{'in the queue':<14}the consumer says")
    wrong, blocked = [], set()
    for message in messages:
        attributes, group = message.attributes, message.system["MessageGroupId"]
        is_back = message.message_id in failed
        comment = reasons.get(message.message_id) or actions.get(attributes["EventId"], "nothing")
        print(f"{attributes['Event']:<22}{group:<26}{'again' if is_back else 'no more':<14}{comment}")
        if attributes["EventId"] == failing:
            blocked.add(group)
        if is_back != (group in blocked) or is_back == (attributes["EventId"] in actions):
            wrong.append(f"what became of {attributes['Event']} of {group} in the consumer")
    if not blocked:
        wrong.append(f"the event of {FAILING.name} is not in the queue")
    print()
    return wrong


def name_of(url: str) -> str:
    return url.rpartition("/")[2]


def watch() -> int:
    """Keeps the stack up until it is interrupted."""
    if STATE.exists() and _alive(json.loads(STATE.read_text())["pid"]):
        raise StackError("`make watch` is already running")
    say("Building the function (a few minutes the first time)")
    build()
    with LocalStack() as stack:
        # What one may want to try out.
        chosen = {name: os.environ[name] for name in ("FORWARD_EVENTS", "MESSAGE_FORMAT") if name in os.environ}
        say("Starting the function (cargo lambda watch)")
        with WatchedFunction({**stack.environment, **chosen}, reload=True) as function:
            STATE.write_text(json.dumps({"pid": os.getpid(), "port": function.port}))
            try:
                print(
                    f"""
The function   {function.url}
SQS            {stack.sqs.endpoint}
  events       {stack.queue}
  quarantine   {stack.quarantine}
Secret         {SAMPLE_SECRET}

In another terminal:
  make send EVENT=contact-created
  cargo run --example sign -- post --secret {SAMPLE_SECRET} \\
    {function.url} events/payloads/contact-created.json

The function is rebuilt when its code changes. Ctrl-C ends everything.
""",
                    flush=True,
                )
                return function.wait()
            finally:
                STATE.unlink()


def send(name: str) -> int:
    """Sends one file to the stack of `watch`, and prints the answer."""
    file = EVENTS / f"{name}.json"
    if not file.is_file():
        names = "\n  ".join(sorted(file.stem for file in EVENTS.glob("*.json")))
        raise StackError(f"name one of the events: make send EVENT=contact-created\n  {names}")
    if not STATE.exists() or not _alive(json.loads(STATE.read_text())["pid"]):
        raise StackError("there is no stack to send to: start one with `make watch`")
    answer = invoke_file(json.loads(STATE.read_text())["port"], file)
    print(f"{answer['statusCode']} {answer['body']}")
    return 0


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def say(text: str) -> None:
    print(text, flush=True)


ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def _end(number: int, _frame: object) -> None:
    # An exception, so that everything that was started is ended on the way out; once, so that it gets there.
    for ending in ENDINGS:
        signal.signal(ending, signal.SIG_IGN)
    raise SystemExit(128 + number)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("run")
    commands.add_parser("watch")
    commands.add_parser("send").add_argument("event")
    arguments = parser.parse_args()
    for number in ENDINGS:
        signal.signal(number, _end)
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
