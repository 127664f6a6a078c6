"""The function in the local AWS, with queues of its own, for tests of what a consumer receives."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import pytest
from deliveries import Response, delivery, response
from local_aws import LocalFunction, Queue
from schemas import validate_event, validate_quarantined
from signing import SAMPLE_SECRET

_numbers = itertools.count(1)


@dataclass
class Deployment:
    """A function and its queues."""

    function: LocalFunction
    events: Queue
    quarantine: Queue

    def send(self, body: bytes | dict, **options) -> Response:
        """Sends a delivery. The options are those of `deliveries.delivery`."""
        return response(self.function.invoke(delivery(body, **options)))

    def queued(self) -> list[dict]:
        """Receives, validates and deletes the messages of the events queue."""
        messages = self.events.drain()
        for message in messages:
            validate_event(message)
        return messages

    def quarantined(self) -> list[dict]:
        """Receives, validates and deletes the messages of the quarantine queue."""
        messages = self.quarantine.drain()
        for message in messages:
            validate_quarantined(message)
        return messages


@pytest.fixture(scope="session")
def start(aws, binary):
    """Creates a function with new queues."""

    def start(queue: str = "events.fifo", **variables: str) -> Deployment:
        number = next(_numbers)
        events, quarantine = aws.create_queue(f"{number}-{queue}"), aws.create_queue(f"{number}-quarantine-{queue}")
        queues = {"QUEUE_URL": events.url, "QUARANTINE_QUEUE_URL": quarantine.url}
        environment = {"SUPEROFFICE_WEBHOOK_SECRET": SAMPLE_SECRET, **queues, **variables}
        return Deployment(aws.create_function(f"function-{number}", binary, environment), events, quarantine)

    return start
