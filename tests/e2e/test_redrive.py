"""`make redrive`: what leaves quarantine, what stays, and that an interrupted run loses nothing."""

from __future__ import annotations

import base64
import hashlib
import hmac
import itertools
import json
import os
import signal
import subprocess
from pathlib import Path

import pytest
from stack import CARGO, SAMPLE_SECRET, outer_environment

ROOT = Path(__file__).resolve().parents[2]
_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def redrive_binary() -> Path:
    subprocess.run([CARGO, "build", "--quiet", "--example", "redrive"], cwd=ROOT, env=outer_environment(), check=True)
    metadata = subprocess.run(
        [CARGO, "metadata", "--format-version", "1", "--no-deps"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return Path(json.loads(metadata.stdout)["target_directory"]) / "debug" / "examples" / "redrive"


class Quarantine:
    """A quarantine queue, the events queue, and the command between them."""

    def __init__(self, sqs, binary: Path, suffix: str) -> None:
        number = next(_numbers)
        self._sqs, self._binary = sqs, binary
        self.events = sqs.create_queue(f"redrive-events-{number}{suffix}")
        self.url = sqs.create_queue(f"redrive-quarantine-{number}{suffix}")

    def put(self, body: bytes, secret: str = SAMPLE_SECRET, encoding: str = "utf-8") -> None:
        mac = hmac.new(secret.encode(), body, hashlib.sha256).digest()
        text = body.decode() if encoding == "utf-8" else base64.b64encode(body).decode()
        values = {"Reason": "for a test", "Encoding": encoding, "Signature": base64.b64encode(mac).decode()}
        attributes = {name: {"DataType": "String", "StringValue": value} for name, value in values.items()}
        fifo = {"MessageGroupId": "quarantine", "MessageDeduplicationId": hashlib.sha256(body).hexdigest()}
        self._sqs.client.send_message(
            QueueUrl=self.url,
            MessageBody=text,
            MessageAttributes=attributes,
            **(fifo if self.url.endswith(".fifo") else {}),
        )

    def start(self, *arguments: str, **variables: str) -> subprocess.Popen:
        environment = {
            "PATH": os.environ["PATH"],
            **self._sqs.environment,
            "SUPEROFFICE_WEBHOOK_SECRET": SAMPLE_SECRET,
            "QUEUE_URL": self.events,
            "QUARANTINE_QUEUE_URL": self.url,
            **variables,
        }
        return subprocess.Popen(
            [self._binary, *arguments], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def run(self, *arguments: str, **variables: str) -> tuple[int, str, str]:
        process = self.start(*arguments, **variables)
        try:
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
        return process.returncode, out, err

    def queued(self) -> list[str]:
        return sorted(message.body for message in self._sqs.drain(self.events))

    def left(self) -> list[str]:
        """What is in quarantine and not hidden."""
        return sorted(message.body for message in self._sqs.drain(self.url))


@pytest.fixture(params=["", ".fifo"], ids=["standard", "fifo"])
def quarantine(sqs, redrive_binary, request) -> Quarantine:
    return Quarantine(sqs, redrive_binary, request.param)


def event(number: int, name: str = "contact.changed") -> bytes:
    return json.dumps({"EventId": f"redrive-{number}", "Event": name, "PrimaryKey": number}).encode()


def fill(quarantine: Quarantine) -> tuple[list[str], list[str]]:
    """Puts more messages that stay in front than SQS hands out at once; gives what is understood, and what is not."""
    for number in range(12):
        quarantine.put(f"no event {number}".encode())
    quarantine.put(event(1))
    quarantine.put(event(2), encoding="base64")
    quarantine.put(event(3), secret="somebody else's")
    quarantine.put(event(4, "sale.created"))
    quarantine.put(event(5, "test"))
    stays = [*(f"no event {number}" for number in range(12)), *(event(n).decode() for n in [3])]
    return sorted(event(n).decode() for n in (1, 2)), stays


IGNORED = [event(4, "sale.created").decode(), event(5, "test").decode()]


def test_what_is_understood_by_now_is_sent_on_and_the_rest_stays(quarantine):
    understood, stays = fill(quarantine)
    code, out, err = quarantine.run()
    assert (code, err) == (0, "")
    assert out.splitlines()[-1] == "2 left quarantine, 15 left"
    assert "no event" not in out, "no body is shown"
    assert " stays: not JSON: expected ident at line 1 column 2\n" in out
    assert quarantine.queued() == understood
    assert quarantine.left() == sorted(stays + IGNORED)


def test_ignored_events_and_tests_are_deleted_when_asked_to(quarantine):
    understood, stays = fill(quarantine)
    code, out, _ = quarantine.run("--delete-ignored")
    assert (code, out.splitlines()[-1]) == (0, "4 left quarantine, 13 left")
    assert (quarantine.queued(), quarantine.left()) == (understood, sorted(stays))


def test_a_second_run_finds_the_same(quarantine):
    understood, stays = fill(quarantine)
    quarantine.run()
    code, out, _ = quarantine.run()
    assert (code, out.splitlines()[-1]) == (0, "0 left quarantine, 15 left")
    assert (quarantine.queued(), quarantine.left()) == (understood, sorted(stays + IGNORED))


def test_a_dry_run_changes_nothing(quarantine):
    quarantine.put(event(1))
    quarantine.put(b"no event")
    code, out, _ = quarantine.run("--dry-run", "--delete-ignored")
    assert (code, out.splitlines()[-1]) == (0, "1 would leave quarantine, 1 left")
    assert quarantine.queued() == []
    assert quarantine.left() == sorted([event(1).decode(), "no event"])


def test_nothing_leaves_quarantine_when_no_queue_takes_it(quarantine):
    for number in range(3):
        quarantine.put(event(number))
    code, out, err = quarantine.run(QUEUE_URL=quarantine.events.replace("redrive-events", "nowhere"))
    assert (code, err) == (1, "no queue takes events; the rest stays in quarantine\n"), out
    assert quarantine.left() == sorted(event(number).decode() for number in range(3))


def test_an_interrupted_run_loses_nothing(quarantine):
    bodies = sorted(event(number).decode() for number in range(60))
    for body in bodies:
        quarantine.put(body.encode())
    process = quarantine.start()
    try:
        first = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        rest, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, err) == (1, "")
    assert "forwarded" in first and rest.splitlines()[-1] == "interrupted"
    queued, left = quarantine.queued(), quarantine.left()
    assert queued and left, "it was interrupted half-way"
    assert sorted(queued + left) == bodies
