"""The function on this machine, with a local AWS: `make run`, `watch`, `send`, `deploy-local` and `demo`.

run     sends every file in events/ through the function to a queue, prints the messages, passes them to the consumer of
        examples/consumer, and exits
watch   runs the function under `cargo lambda watch`, which rebuilds it when its code changes
send    sends one file of events/ to the function of `watch`
deploy  deploys the template, prints how to use it, and runs until Ctrl-C
demo    deploys mirror and watchdog as well, and compares the table with SuperOffice during and after outages
"""

from __future__ import annotations

import argparse
import base64
import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import urllib.error
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from local_aws import LocalAws, LocalFunction, Queue, attributes_of, sqs_event, stripped
from processes import ROOT, TOOLS, Child, StackError, base_environment, build, free_ports, opener
from signing import SAMPLE_SECRET

EVENTS = ROOT / "events"
FUNCTION, CONSUMER = "superoffice-webhook", "consumer"
CARGO_LAMBDA = Path(sys.executable).parent / "cargo-lambda"
# A build of both programs has one set of features.
# Without the SDK of DynamoDB, because the consumer of `make run` needs no table.
PACKAGES = ("--package", FUNCTION, "--package", CONSUMER, "--no-default-features", "--features", f"{FUNCTION}/lambda")

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
STATE = TOOLS / "watch.json"


@contextmanager
def local_aws(name: str) -> Iterator[LocalAws]:
    """Starts a local AWS with its files in an empty folder of .tools/."""
    folder = TOOLS / name
    shutil.rmtree(folder, ignore_errors=True)
    say("Starting a local AWS (MiniStack)")
    with LocalAws(folder) as aws:
        yield aws


def create_queues(aws: LocalAws) -> tuple[Queue, Queue, dict[str, str]]:
    """Creates an events queue and a quarantine queue. Returns them and the variables of a function that uses them."""
    events, quarantine = (aws.create_queue(f"superoffice-{name}.fifo") for name in ("events", "quarantine"))
    variables = {"QUEUE_URL": events.url, "QUARANTINE_QUEUE_URL": quarantine.url}
    return events, quarantine, {**variables, "SUPEROFFICE_WEBHOOK_SECRET": SAMPLE_SECRET}


def run() -> int:
    """Sends all events and prints all messages. Returns 0 if every response and every message is as expected."""
    say("Building the function and the consumer (a minute or two the first time)")
    binaries = build(FUNCTION, CONSUMER, selection=PACKAGES)
    with local_aws("run") as aws:
        events, quarantine, variables = create_queues(aws)
        function_binary, consumer_binary = (stripped(binary, aws.folder / binary.name) for binary in binaries)
        function = aws.create_function(FUNCTION, function_binary, variables)
        say(f"Sending every file in {EVENTS.relative_to(ROOT)}/\n")
        problems, sent = send_all(function)
        received = {queue.name: queue.drain() for queue in (events, quarantine)}
        for name, messages in received.items():
            print_queue(name, messages)
        for queue, outcome in ((events, "forwarded"), (quarantine, "quarantined")):
            # A retried delivery is queued once.
            if Counter(message["Body"] for message in received[queue.name]) != Counter(set(sent[outcome])):
                problems.append(f"{queue.name} does not contain exactly the {outcome} bodies")
        failing = json.loads(FAILING.read_text(encoding="utf-8"))["EventId"]
        variables = {"SUPEROFFICE_WEBHOOK_SECRET": SAMPLE_SECRET, "FAIL_EVENT_ID": failing}
        consumer = aws.create_function(CONSUMER, consumer_binary, variables)
        problems += consume(consumer, events, received[events.name], failing)
    for problem in problems:
        print(f"UNEXPECTED: {problem}")
    if not problems:
        print(f"All {len(EXPECTED)} responses, all messages and all results of the consumer are as expected.")
    return 1 if problems else 0


def send_all(function: LocalFunction) -> tuple[list[str], dict[str, list[str]]]:
    """Sends every file and prints its outcome. Returns the problems, and the queued bodies by outcome."""
    names = [*EXPECTED, *sorted({file.stem for file in EVENTS.glob("*.json")} - EXPECTED.keys())]
    problems: list[str] = []
    bodies: dict[str, list[str]] = {"forwarded": [], "quarantined": []}
    print(f"{'file':<32}{'status':<8}outcome")
    for name in names:
        file = EVENTS / f"{name}.json"
        envelope = json.loads(file.read_text(encoding="utf-8"))
        response = function.invoke(envelope)
        status, outcome = response["statusCode"], outcome_of(response)
        print(f"{file.name:<32}{status:<8}{outcome}", flush=True)
        if (status, outcome) != EXPECTED.get(name):
            problems.append(f"{file.name} returned {status} {outcome}; EXPECTED contains {EXPECTED.get(name)}")
        if outcome in bodies:
            bodies[outcome].append(body_of(envelope))
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


def print_queue(name: str, messages: list[dict]) -> None:
    print(f"{name}: {len(messages)} message{'' if len(messages) == 1 else 's'}")
    for number, message in enumerate(messages, 1):
        print(f"\n  message {number}: {message['MessageId']}")
        for attribute in ("MessageGroupId", "MessageDeduplicationId", "AWSTraceHeader"):
            if attribute in message["Attributes"]:
                print(f"    {attribute:<24}{message['Attributes'][attribute]}")
        print("    attributes")
        for attribute, value in sorted(message["MessageAttributes"].items()):
            kind = "" if value["DataType"] == "String" else f"  ({value['DataType']})"
            print(f"      {attribute:<22}{value['StringValue']}{kind}")
        print(f"    body, {len(message['Body'].encode())} bytes")
        for line in message["Body"].splitlines():
            print(f"      {line}")
    print()


def consume(consumer: LocalFunction, queue: Queue, messages: list[dict], failing: str) -> list[str]:
    """Passes the messages to the consumer in batches of ten and prints the results. Returns the problems."""
    say(f"Passing {queue.name} to the consumer; the event of {FAILING.name} fails\n")
    failed: set[str] = set()
    for start in range(0, len(messages), 10):
        response = consumer.invoke(sqs_event(messages[start : start + 10], queue))
        failed |= {failure["itemIdentifier"] for failure in response["batchItemFailures"]}
    # The consumer logs the action for a processed event, and the reason for a message that it returns.
    lines = consumer.log_lines()
    reasons = {line["messageId"]: f"{line['outcome']}: {line['reason']}" for line in lines if "messageId" in line}
    actions = {line["eventId"]: line["action"] for line in lines if "eventId" in line}
    print(f"{'event':<22}{'group':<26}{'result':<12}log of the consumer")
    problems, blocked = [], set()
    for message in messages:
        attributes, group = attributes_of(message), message["Attributes"]["MessageGroupId"]
        is_returned = message["MessageId"] in failed
        comment = reasons.get(message["MessageId"]) or actions.get(attributes["EventId"], "none")
        print(f"{attributes['Event']:<22}{group:<26}{'returned' if is_returned else 'processed':<12}{comment}")
        if attributes["EventId"] == failing:
            blocked.add(group)
        if is_returned != (group in blocked) or is_returned == (attributes["EventId"] in actions):
            problems.append(f"the consumer's result for {attributes['Event']} of {group}")
    if not blocked:
        problems.append(f"the event of {FAILING.name} is not in the queue")
    print()
    return problems


def watch() -> int:
    """Keeps the function running until it is interrupted."""
    if running_watch() is not None:
        raise StackError("`make watch` is already running")
    with local_aws("watch") as aws:
        events, quarantine, variables = create_queues(aws)
        # Settings that are useful to try locally.
        variables |= {name: os.environ[name] for name in ("FORWARD_EVENTS", "MESSAGE_FORMAT") if name in os.environ}
        variables |= {**aws.client_environment, "SSL_CERT_FILE": str(aws.ca_file)}
        (port,) = free_ports(1)
        say("Building and starting the function (cargo lambda watch)")
        command = [str(CARGO_LAMBDA), "lambda", "watch", "--package", FUNCTION, "--bin", FUNCTION]
        command += ["--invoke-address", "127.0.0.1", "--invoke-port", str(port)]
        with Child(command, {**base_environment(), **variables}) as function:
            url = f"http://127.0.0.1:{port}/lambda-url/{FUNCTION}/"
            function.wait_until(lambda: status_of(url) == 405, 600)
            STATE.write_text(json.dumps({"pid": os.getpid(), "port": port}))
            try:
                say(
                    f"""
Function       {url}
SQS            {aws.url}
  events       {events.url}
  quarantine   {quarantine.url}
Secret         {SAMPLE_SECRET}

In another terminal:
  make send EVENT=contact-created
  SUPEROFFICE_WEBHOOK_SECRET={SAMPLE_SECRET} \\
    cargo run -p so-webhook -- post {url} events/payloads/contact-created.json

The function is rebuilt when its code changes. Ctrl-C stops everything.
"""
                )
                return function.wait()
            finally:
                STATE.unlink()


def status_of(url: str) -> int:
    """Returns the status of a GET request, which the function rejects before it checks a signature."""
    try:
        with opener.open(url, timeout=2) as response:
            return response.status
    except urllib.error.HTTPError as error:
        return error.code


def send(name: str) -> int:
    """Sends one file to the function of `watch` and prints the response."""
    file = EVENTS / f"{name}.json"
    if not file.is_file():
        names = "\n  ".join(sorted(file.stem for file in EVENTS.glob("*.json")))
        raise StackError(f"unknown event; choose one with make send EVENT=contact-created\n  {names}")
    port = running_watch()
    if port is None:
        raise StackError("no function is running; start one with `make watch`")
    command = [str(CARGO_LAMBDA), "lambda", "invoke", FUNCTION, "--data-file", str(file)]
    command += ["--invoke-address", "127.0.0.1", "--invoke-port", str(port)]
    sent = subprocess.run(command, cwd=ROOT, env=base_environment(), capture_output=True, text=True, timeout=60)
    if sent.returncode != 0:
        raise StackError(f"cargo lambda invoke {file.name}: {sent.stderr.strip() or sent.stdout.strip()}")
    response = json.loads(sent.stdout)
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


def stop(number: int, _frame: object) -> None:
    # Further signals must not interrupt the clean-up.
    for stop_signal in STOP_SIGNALS:
        signal.signal(stop_signal, signal.SIG_IGN)
    raise SystemExit(128 + number)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("run", "watch"):
        commands.add_parser(name)
    demo = commands.add_parser("demo")
    demo.add_argument("--persons", action="store_true", help="show persons as well as contacts")
    commands.add_parser("send").add_argument("name", metavar="event")
    deployment = commands.add_parser("deploy")
    deployment.add_argument("--dev", action="store_true", help="build without optimization, which is faster")
    deployment.add_argument("--consumer", action="store_true", help="deploy examples/consumer as well")
    arguments = vars(parser.parse_args())
    command = arguments.pop("command")
    for number in STOP_SIGNALS:
        signal.signal(number, stop)
    try:
        if command in ("deploy", "demo"):
            # They need more packages than `run`.
            return importlib.import_module(command).main(**arguments)
        return {"run": run, "watch": watch, "send": send}[command](**arguments)
    except StackError as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        Child.close_all()


if __name__ == "__main__":
    sys.exit(main())
