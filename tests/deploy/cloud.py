"""A deployed stack in the local AWS, used as SuperOffice, a consumer and an operator use it."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import deliveries
import https
from local_aws import Queue
from sam_stack import SamStack
from signing import SAMPLE_SECRET, sign

# Seconds. It ends a test that waits in vain, and a machine with much other work needs most of it.
TIMEOUT = 300


@dataclass
class Webhook:
    """A stack of template.yaml."""

    stack: SamStack

    @property
    def outputs(self) -> dict[str, str]:
        return self.stack.outputs

    def post(self, body: bytes | dict, secret: str | None = SAMPLE_SECRET, path: str = "") -> https.Response:
        """Posts a body over HTTPS, signed unless `secret` is `None`. `path` is appended to the webhook's URL."""
        raw = body if isinstance(body, bytes) else deliveries.encode(body)
        return https.post(self.outputs["WebhookUrl"] + path, raw, sign(raw, secret) if secret else None)

    def outcome(self, *arguments: Any, **options: Any) -> tuple[int, str | None]:
        """Posts as `post` and returns the status and the outcome."""
        response = self.post(*arguments, **options)
        return response.status, response.json.get("outcome")

    def queue(self, output: str = "QueueUrl") -> Queue:
        return Queue(self.stack.aws.client("sqs"), self.outputs[output])

    def line(self, event_id: str) -> dict:
        """Waits for the log line of a delivery."""
        return wait_for(lambda: next((x for x in self.stack.log_lines() if x.get("eventId") == event_id), None))

    def last_line(self, after: int) -> dict:
        """Waits for a log line after the first `after` ones, and returns the last."""
        return wait_for(lambda: self.stack.log_lines()[after:])[-1]

    def update(self, **parameters: str) -> None:
        """Changes parameters in a stack update, as the console does; quicker than `sam deploy`."""
        client = self.stack.aws.client("cloudformation")
        known = [parameter["ParameterKey"] for parameter in self.stack.description["Parameters"]]
        values = [
            {"ParameterKey": name, "ParameterValue": parameters[name]}
            if name in parameters
            else {"ParameterKey": name, "UsePreviousValue": True}
            for name in known
        ]
        client.update_stack(
            StackName=self.stack.name,
            UsePreviousTemplate=True,
            Parameters=values,
            Capabilities=["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"],
        )
        status = wait_for(self._finished_status)
        assert status == "UPDATE_COMPLETE", status

    def _finished_status(self) -> str | None:
        status = self.stack.description["StackStatus"]
        return None if status.endswith("_IN_PROGRESS") else status


@contextlib.contextmanager
def changed_role_policy(iam: Any, role: str, policy: str, change: Callable[[dict], None]) -> Iterator[None]:
    """Changes an inline policy of a role for the duration of the block."""
    original = iam.get_role_policy(RoleName=role, PolicyName=policy)["PolicyDocument"]
    document = json.loads(json.dumps(original))
    change(document)
    iam.put_role_policy(RoleName=role, PolicyName=policy, PolicyDocument=json.dumps(document))
    try:
        yield
    finally:
        iam.put_role_policy(RoleName=role, PolicyName=policy, PolicyDocument=json.dumps(original))


def wait_for(condition: Callable[[], Any]) -> Any:
    """Waits until the condition is true and returns its value."""
    deadline = time.monotonic() + TIMEOUT
    while not (value := condition()):
        assert time.monotonic() < deadline, "timeout"
        time.sleep(0.1)
    return value
