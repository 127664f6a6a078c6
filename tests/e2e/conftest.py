"""Fixtures of the end-to-end tests.

`function` runs under `cargo lambda watch`, with a FIFO queue and a FIFO quarantine queue, once for all tests. `start`
runs the binary with its own Runtime API, for tests that need another environment.
"""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from deliveries import Response, delivery, response
from runtime_api import Function
from schemas import validate_event, validate_quarantined
from stack import ADMIN_NAME, SAMPLE_SECRET, DevStack, Message, Sqs, WatchedFunction, build

_numbers = itertools.count(1)


class Deployment:
    """A running function and its queues."""

    def __init__(self, sqs: Sqs, queue: str, quarantine: str | None, invoke: Callable[[object], dict]) -> None:
        self._sqs = sqs
        self._queue = queue
        self._quarantine = quarantine
        self.invoke = invoke

    def send(self, body: bytes | dict, form: str = "2.0 text", **options) -> Response:
        """Sends a delivery. The options are those of `deliveries.delivery`."""
        return response(self.invoke(delivery(body, form, **options)))

    def queued(self) -> list[Message]:
        """Receives, validates and deletes the messages of the events queue."""
        messages = self._sqs.drain(self._queue)
        for message in messages:
            validate_event(message)
        return messages

    def quarantined(self) -> list[Message]:
        """Receives, validates and deletes the messages of the quarantine queue."""
        messages = self._sqs.drain(self._quarantine) if self._quarantine else []
        for message in messages:
            validate_quarantined(message)
        return messages

    def has_no_messages(self) -> bool:
        return self.queued() == [] and self.quarantined() == []


@pytest.fixture(scope="session")
def binary() -> Path:
    return build()


@pytest.fixture(scope="session")
def admin_binary() -> Path:
    return build(ADMIN_NAME)


@pytest.fixture(scope="session")
def dev_stack() -> Iterator[DevStack]:
    with DevStack() as stack:
        yield stack


@pytest.fixture(scope="session")
def sqs(dev_stack) -> Sqs:
    return dev_stack.sqs


@pytest.fixture(scope="session")
def watched(dev_stack, binary, tmp_path_factory) -> Iterator[WatchedFunction]:
    """The function under `cargo lambda watch`."""
    log_path = tmp_path_factory.mktemp("watch") / "watch.log"
    with log_path.open("w") as log, WatchedFunction(dev_stack.environment, log) as watched:
        yield watched


@pytest.fixture
def function(dev_stack, watched) -> Deployment:
    """The function under `cargo lambda watch`, with empty queues."""
    deployment = Deployment(dev_stack.sqs, dev_stack.queue, dev_stack.quarantine, watched.invoke)
    deployment.queued()
    deployment.quarantined()
    return deployment


@pytest.fixture
def start(sqs, binary):
    """Starts the binary with new queues. Returns them and the process.

    Without `quarantine` there is no quarantine queue. A variable with the value `None` is not set.
    """
    with contextlib.ExitStack() as running:

        def start(queue: str = "events.fifo", quarantine: str | None = None, **environment: str | None):
            number = next(_numbers)
            queue_url = sqs.create_queue(f"{number}-{queue}")
            quarantine_url = sqs.create_queue(f"{number}-{quarantine}") if quarantine else None
            variables = {
                **sqs.environment,
                "SUPEROFFICE_WEBHOOK_SECRET": SAMPLE_SECRET,
                "QUEUE_URL": queue_url,
                "QUARANTINE_QUEUE_URL": quarantine_url,
                **environment,
            }
            process = running.enter_context(Function(binary, {k: v for k, v in variables.items() if v is not None}))

            def invoke(event: object) -> dict:
                reply = process.invoke(event)
                assert reply.kind == "response", reply
                return json.loads(reply.body)

            return Deployment(sqs, queue_url, quarantine_url, invoke), process

        yield start
