"""`so-webhook redrive` between two queues of a local SQS."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest
from local_aws import LocalAws
from signing import SAMPLE_SECRET, sign

_numbers = itertools.count(1)


class Quarantine:
    """A quarantine queue, an events queue, and the command that moves messages between them."""

    def __init__(self, aws: LocalAws, binary: Path, suffix: str) -> None:
        number = next(_numbers)
        self._aws, self._binary = aws, binary
        self._events = aws.create_queue(f"redrive-events-{number}{suffix}")
        self._quarantine = aws.create_queue(f"redrive-quarantine-{number}{suffix}")
        self.events, self.url = self._events.url, self._quarantine.url

    def put(self, body: bytes, secret: str = SAMPLE_SECRET, encoding: str = "utf-8") -> None:
        text = body.decode() if encoding == "utf-8" else base64.b64encode(body).decode()
        values = {"Reason": "for a test", "Encoding": encoding, "Signature": sign(body, secret)}
        attributes = {name: {"DataType": "String", "StringValue": value} for name, value in values.items()}
        fifo = {"MessageGroupId": "quarantine", "MessageDeduplicationId": hashlib.sha256(body).hexdigest()}
        self._quarantine.client.send_message(
            QueueUrl=self.url,
            MessageBody=text,
            MessageAttributes=attributes,
            **(fifo if self.url.endswith(".fifo") else {}),
        )

    def start(self, *arguments: str, **variables: str) -> subprocess.Popen:
        environment = {
            "PATH": os.environ["PATH"],
            **self._aws.client_environment,
            "SSL_CERT_FILE": str(self._aws.ca_file),
            "SUPEROFFICE_WEBHOOK_SECRET": SAMPLE_SECRET,
            "QUEUE_URL": self.events,
            "QUARANTINE_QUEUE_URL": self.url,
            **variables,
        }
        command = [self._binary, "redrive", *arguments]
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def run(self, *arguments: str, **variables: str) -> tuple[int, str, str]:
        process = self.start(*arguments, **variables)
        try:
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
        return process.returncode, out, err

    def queued(self) -> list[str]:
        return sorted(message["Body"] for message in self._events.drain())

    def kept(self) -> list[str]:
        """Returns the visible messages in quarantine."""
        return sorted(message["Body"] for message in self._quarantine.drain())


@pytest.fixture(params=["", ".fifo"], ids=["standard", "fifo"])
def quarantine(aws, programs, request) -> Quarantine:
    return Quarantine(aws, programs["so-webhook"], request.param)


def event(number: int, name: str = "contact.changed") -> bytes:
    return json.dumps({"EventId": f"redrive-{number}", "Event": name, "PrimaryKey": number}).encode()


IGNORED = [event(4, "sale.created").decode(), event(5, "test").decode()]


def fill(quarantine: Quarantine) -> tuple[list[str], list[str]]:
    """Fills a quarantine queue. Returns the bodies to forward, and those to keep.

    More than ten malformed messages come first, because SQS returns at most ten messages per request.
    """
    malformed = [f"no event {number}" for number in range(12)]
    for body in malformed:
        quarantine.put(body.encode())
    quarantine.put(event(1))
    quarantine.put(event(2), encoding="base64")
    quarantine.put(event(3), secret="another secret")
    for body in IGNORED:
        quarantine.put(body.encode())
    return sorted(event(number).decode() for number in (1, 2)), [*malformed, event(3).decode()]


def test_parsable_messages_are_forwarded_and_others_kept(quarantine):
    forwarded, kept = fill(quarantine)
    code, out, err = quarantine.run()
    assert (code, err) == (0, "2 forwarded, 0 deleted, 15 kept\n")
    assert "no event" not in out, "bodies are not printed"
    assert " kept: not JSON: expected ident at line 1 column 2\n" in out
    assert quarantine.queued() == forwarded
    assert quarantine.kept() == sorted(kept + IGNORED)


def test_ignored_events_and_probes_are_deleted_on_request(quarantine):
    forwarded, kept = fill(quarantine)
    code, _, err = quarantine.run("--delete-ignored")
    assert (code, err) == (0, "2 forwarded, 2 deleted, 13 kept\n")
    assert (quarantine.queued(), quarantine.kept()) == (forwarded, sorted(kept))


def test_second_run_finds_the_kept_messages_again(quarantine):
    forwarded, kept = fill(quarantine)
    quarantine.run()
    code, _, err = quarantine.run()
    assert (code, err) == (0, "0 forwarded, 0 deleted, 15 kept\n")
    assert (quarantine.queued(), quarantine.kept()) == (forwarded, sorted(kept + IGNORED))


def test_dry_run_changes_nothing(quarantine):
    quarantine.put(event(1))
    quarantine.put(b"no event")
    code, _, err = quarantine.run("--dry-run", "--delete-ignored")
    assert (code, err) == (0, "1 would be forwarded, 0 would be deleted, 1 kept\n")
    assert quarantine.queued() == []
    assert quarantine.kept() == sorted([event(1).decode(), "no event"])


def test_all_messages_are_kept_when_no_queue_accepts_events(quarantine):
    for number in range(3):
        quarantine.put(event(number))
    code, out, err = quarantine.run(QUEUE_URL=quarantine.events.replace("redrive-events", "nonexistent"))
    assert code == 2, out
    assert "\nno queue accepts events (queue: " in err
    assert quarantine.kept() == sorted(event(number).decode() for number in range(3))


def test_quarantine_that_does_not_exist_is_an_error(quarantine):
    code, _, err = quarantine.run(QUARANTINE_QUEUE_URL=quarantine.url.replace("redrive-quarantine", "nonexistent"))
    assert code == 2
    assert re.fullmatch(
        r"0 forwarded, 0 deleted, 0 kept\nReceiveMessage: \S*NonExistentQueue: .*does not exist.*\n", err
    ), err


def test_interrupted_run_loses_nothing(quarantine):
    bodies = sorted(event(number).decode() for number in range(60))
    for body in bodies:
        quarantine.put(body.encode())
    process = quarantine.start()
    try:
        first = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert "forwarded" in first
    queued, kept = quarantine.queued(), quarantine.kept()
    assert queued and kept, "interrupted halfway"
    summary = f"{len(queued)} forwarded, 0 deleted, 0 kept"
    assert process.returncode == 1
    assert err == f"{summary}\ninterrupted; continue with: so-webhook redrive\n"
    assert sorted(queued + kept) == bodies
