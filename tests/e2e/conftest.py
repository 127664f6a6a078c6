"""The stacks that the end-to-end tests run against.

`lambda_` is the function under cargo lambda, with a FIFO queue and a FIFO quarantine queue, one for all tests; `start`
runs the binary under a Lambda Runtime API of the tests' own, where a test needs another environment.
"""

from __future__ import annotations

import contextlib
import itertools
import json
from pathlib import Path

import pytest
from deliveries import Response, delivery, response
from runtime_api import Function
from schemas import validate_event, validate_quarantined
from stack import SAMPLE_SECRET, Message, Sqs, WatchedFunction, build

_numbers = itertools.count(1)


class Stack:
    """A function, and the two queues behind it."""

    def __init__(self, sqs: Sqs, queue: str, quarantine: str | None, invoke) -> None:
        self._sqs = sqs
        self._queue = queue
        self._quarantine = quarantine
        self.invoke = invoke

    def send(self, body: bytes | dict, form: str = "2.0 text", **how) -> Response:
        """Sends a delivery through API Gateway's envelope; `how` is what `deliveries.delivery` takes."""
        return response(self.invoke(delivery(body, form, **how)))

    def queued(self) -> list[Message]:
        """Takes what is in the queue; every message is what its schema says."""
        messages = self._sqs.drain(self._queue)
        for message in messages:
            validate_event(message)
        return messages

    def quarantined(self) -> list[Message]:
        messages = self._sqs.drain(self._quarantine) if self._quarantine else []
        for message in messages:
            validate_quarantined(message)
        return messages

    def nothing_is_queued(self) -> bool:
        return self.queued() == [] and self.quarantined() == []


@pytest.fixture(scope="session")
def binary() -> Path:
    return build()


@pytest.fixture(scope="session")
def sqs():
    with Sqs() as server:
        yield server


@pytest.fixture(scope="session")
def cargo_lambda(sqs, binary, tmp_path_factory):
    """The function under `cargo lambda watch`, and its queues."""
    queue, quarantine = sqs.create_queue("events.fifo"), sqs.create_queue("quarantine.fifo")
    environment = {
        **sqs.environment,
        "SUPEROFFICE_WEBHOOK_SECRET": SAMPLE_SECRET,
        "QUEUE_URL": queue,
        "QUARANTINE_QUEUE_URL": quarantine,
    }
    with (
        (tmp_path_factory.mktemp("watch") / "watch.log").open("w") as log,
        WatchedFunction(environment, log) as watched,
    ):
        yield watched, Stack(sqs, queue, quarantine, watched.invoke)


@pytest.fixture
def lambda_(cargo_lambda) -> Stack:
    """The function under cargo lambda, with nothing in its queues."""
    stack = cargo_lambda[1]
    stack.queued()
    stack.quarantined()
    return stack


@pytest.fixture
def start(sqs, binary):
    """Starts the binary in an environment: its stack, and its process.

    It has a FIFO queue of its own without a quarantine queue, unless the environment says otherwise; a value of None
    leaves a variable out.
    """
    with contextlib.ExitStack() as running:

        def start(queue: str = "events.fifo", quarantine: str | None = None, **environment: str | None):
            number = next(_numbers)
            queue_url = sqs.create_queue(f"{number}-{queue}")
            quarantine_url = sqs.create_queue(f"{number}-{quarantine}") if quarantine else None
            whole = {
                **sqs.environment,
                "SUPEROFFICE_WEBHOOK_SECRET": SAMPLE_SECRET,
                "QUEUE_URL": queue_url,
                "QUARANTINE_QUEUE_URL": quarantine_url,
                **environment,
            }
            function = running.enter_context(Function(binary, {k: v for k, v in whole.items() if v is not None}))

            def invoke(envelope: object) -> dict:
                answer = function.invoke(envelope)
                assert answer.kind == "response", answer
                return json.loads(answer.body)

            return Stack(sqs, queue_url, quarantine_url, invoke), function

        yield start
