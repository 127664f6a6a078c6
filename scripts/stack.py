"""Parts of the development stack: a local SQS, and functions under `cargo lambda watch`.

local.py combines them for `make run` and `make watch`, and tests/e2e for the end-to-end tests. Every part is a context
manager that leaves no process running. The operating system chooses the ports.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import boto3
import psutil
from botocore.config import Config
from moto.server import ThreadedMotoServer
from signing import SAMPLE_SECRET

ROOT = Path(__file__).resolve().parent.parent
FUNCTION_NAME = "superoffice-webhook"
CONSUMER_NAME = "consumer"
ADMIN_NAME = "so-webhook"
CARGO = os.environ.get("CARGO", "cargo")
CARGO_LAMBDA = Path(sys.executable).parent / "cargo-lambda"

# The variables that the function reads. The stack never inherits them from its caller.
FUNCTION_VARIABLES = [
    "SUPEROFFICE_WEBHOOK_SECRET",
    "SUPEROFFICE_WEBHOOK_SECRET_PREVIOUS",
    "SUPEROFFICE_TENANT_SECRETS",
    "SUPEROFFICE_TENANT_MASTER_SECRET",
    "SUPEROFFICE_TENANT_MASTER_SECRET_PREVIOUS",
    "QUEUE_URL",
    "QUARANTINE_QUEUE_URL",
    "FALLBACK_QUEUE_URL",
    "FORWARD_EVENTS",
    "MESSAGE_FORMAT",
]

# The AWS variables of the caller name its account; neither boto3 here nor the function may use them.
for _name in [name for name in os.environ if name.startswith("AWS_")]:
    del os.environ[_name]

# A GET request. The function rejects it before it checks a signature.
GET_REQUEST = {
    "version": "2.0",
    "routeKey": "$default",
    "rawPath": "/",
    "rawQueryString": "",
    "headers": {"host": "localhost"},
    "requestContext": {"http": {"method": "GET", "path": "/"}, "stage": "$default"},
    "isBase64Encoded": False,
}

# For each function, the event of the readiness check and a predicate for the expected result.
READINESS_CHECKS = {
    FUNCTION_NAME: (GET_REQUEST, lambda result: result.get("statusCode") == 405),
    CONSUMER_NAME: ({"Records": []}, lambda result: result == {"batchItemFailures": []}),
}

# Seconds between SIGTERM and SIGKILL.
GRACE_PERIOD = 10


class StackError(Exception):
    """A part of the stack failed to start. The text names the part and the cause."""


@dataclass
class Message:
    """An SQS message as a consumer receives it."""

    body: str
    attributes: dict[str, str]
    types: dict[str, str]
    system: dict[str, str]
    message_id: str


class Sqs:
    """moto's SQS in a thread of this process, on a free port of the loopback interface."""

    def __init__(self) -> None:
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self._server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
        self._server.start()
        host, port = self._server.get_host_and_port()
        self.endpoint = f"http://{host}:{port}"
        self.environment = {
            "AWS_ENDPOINT_URL_SQS": self.endpoint,
            "AWS_REGION": "eu-north-1",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
        }
        self.client = boto3.client(
            "sqs",
            endpoint_url=self.endpoint,
            region_name="eu-north-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
            config=Config(retries={"total_max_attempts": 1}, proxies={}),
        )

    def __enter__(self) -> Sqs:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._server.stop()

    def create_queue(self, name: str) -> str:
        """Creates a queue and returns its URL. A name ending in `.fifo` creates a FIFO queue."""
        attributes = {"FifoQueue": "true"} if name.endswith(".fifo") else {}
        return self.client.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]

    def drain(self, url: str) -> list[Message]:
        """Receives and deletes all messages of a queue."""
        messages = []
        while received := self.client.receive_message(
            QueueUrl=url,
            MaxNumberOfMessages=10,
            WaitTimeSeconds=0,
            MessageAttributeNames=["All"],
            MessageSystemAttributeNames=["All"],
        ).get("Messages"):
            for message in received:
                self.client.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
                attributes = message.get("MessageAttributes", {})
                messages.append(
                    Message(
                        body=message["Body"],
                        attributes={name: value["StringValue"] for name, value in attributes.items()},
                        types={name: value["DataType"] for name, value in attributes.items()},
                        system=message.get("Attributes", {}),
                        message_id=message["MessageId"],
                    )
                )
        return messages


class DevStack:
    """A local SQS with an events queue and a quarantine queue, and the environment of a function that uses them."""

    def __init__(self) -> None:
        self.sqs = Sqs()
        self.queue = self.sqs.create_queue("superoffice-events.fifo")
        self.quarantine = self.sqs.create_queue("superoffice-quarantine.fifo")
        self.environment = {
            **self.sqs.environment,
            "SUPEROFFICE_WEBHOOK_SECRET": SAMPLE_SECRET,
            "QUEUE_URL": self.queue,
            "QUARANTINE_QUEUE_URL": self.quarantine,
        }

    def __enter__(self) -> DevStack:
        return self

    def __exit__(self, *exception: object) -> None:
        self.sqs.__exit__(*exception)


class Child:
    """A process in a new session. Closing it ends every process of the session."""

    _open_sessions: set[int] = set()

    def __init__(self, command: list[str], environment: dict[str, str], output: IO | None = None) -> None:
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT if output else None,
            start_new_session=True,
        )
        Child._open_sessions.add(self._process.pid)

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def poll(self) -> int | None:
        return self._process.poll()

    def wait(self) -> int:
        return self._process.wait()

    def close(self) -> None:
        """Ends the process and its descendants; kills those that still run after the grace period."""
        end_session(self._process.pid)
        self._process.wait()
        Child._open_sessions.discard(self._process.pid)

    @classmethod
    def close_all(cls) -> None:
        """Ends all children. For programs that a signal can interrupt anywhere, even while a child starts."""
        for session in cls._open_sessions | {child.pid for child in psutil.Process().children()}:
            end_session(session)
        cls._open_sessions.clear()


class Server(contextlib.AbstractContextManager):
    """A process that writes into a log file. A context manager: leaving it ends the process."""

    def __init__(self, command: list[str], environment: dict[str, str], log_file: Path) -> None:
        self.log_file = log_file
        self._log = log_file.open("wb")
        self._child = Child(command, environment, self._log)

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def close(self) -> None:
        self._child.close()
        self._log.close()


class WatchedFunction:
    """A function under `cargo lambda watch`, ready for events once the object exists."""

    def __init__(
        self,
        environment: dict[str, str],
        output: IO | None = None,
        reload: bool = False,
        name: str = FUNCTION_NAME,
    ) -> None:
        self._output = output
        self._name = name
        for _ in range(5):
            (self.port,) = free_ports(1)
            self._child = Child(
                [
                    *[str(CARGO_LAMBDA), "lambda", "watch", "--package", name, "--bin", name],
                    *["--invoke-address", "127.0.0.1", "--invoke-port", str(self.port)],
                    *([] if reload else ["--ignore-changes"]),
                ],
                {**base_environment(), **environment},
                output,
            )
            try:
                if self._wait_until_ready():
                    return
            except BaseException:
                self._child.close()
                raise
            # cargo lambda exits if another process has taken the port in the meantime.
            self._child.close()
        raise StackError("cargo lambda watch exited before it accepted an event" + self._log_tail())

    def __enter__(self) -> WatchedFunction:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._child.close()

    @property
    def url(self) -> str:
        """The address for plain HTTP requests, which cargo lambda converts as a function URL does."""
        return f"http://127.0.0.1:{self.port}/lambda-url/{self._name}/"

    def wait(self) -> int:
        """Waits until cargo lambda exits."""
        return self._child.wait()

    def invoke(self, event: object, timeout: float = 30) -> dict:
        """Invokes the function through Lambda's API and returns its result."""
        data = event if isinstance(event, bytes) else json.dumps(event).encode()
        url = f"http://127.0.0.1:{self.port}/2015-03-31/functions/{self._name}/invocations"
        request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
        with opener.open(request, timeout=timeout) as response:
            return json.load(response)

    def _wait_until_ready(self, seconds: float = 300) -> bool:
        """Returns `True` once the function responds, `False` if cargo lambda exits."""
        event, is_ready = READINESS_CHECKS[self._name]
        deadline = time.monotonic() + seconds
        while self._child.poll() is None:
            if "invalid configuration" in self._log():
                raise StackError(f"{self._name} does not start" + self._log_tail())
            if time.monotonic() > deadline:
                raise StackError(f"{self._name} does not respond within {seconds:.0f} s" + self._log_tail())
            # Errors while it is building, not listening yet, or the port belongs to another process.
            with contextlib.suppress(OSError, ValueError, AttributeError):
                if is_ready(self.invoke(event, timeout=2)):
                    return True
            time.sleep(0.05)
        return False

    def _log(self) -> str:
        return Path(self._output.name).read_text(errors="replace") if self._output else ""

    def _log_tail(self) -> str:
        return "".join(f"\n{line}" for line in self._log().splitlines()[-30:])


def invoke_file(port: int, file: Path, name: str = FUNCTION_NAME) -> dict:
    """Sends an event with `cargo lambda invoke` and returns the function's result."""
    result = subprocess.run(
        [
            *[str(CARGO_LAMBDA), "lambda", "invoke", name, "--data-file", str(file)],
            *["--invoke-address", "127.0.0.1", "--invoke-port", str(port)],
        ],
        cwd=ROOT,
        env=base_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    if result.returncode != 0:
        raise StackError(f"cargo lambda invoke {file.name}: {result.stderr.strip() or result.stdout.strip()}")
    return json.loads(result.stdout)


def build(name: str = FUNCTION_NAME, output: IO | None = None) -> Path:
    """Builds the binary of a package and returns its path."""
    # The function is built as `cargo lambda watch` builds it. The other programs share their dependencies.
    selection = ["--package", name] if name == FUNCTION_NAME else ["--workspace"]
    with Child([CARGO, "build", *selection, "--bin", name], base_environment(), output) as cargo:
        if cargo.wait() != 0:
            raise StackError(f"{name} does not build")
    metadata = subprocess.run(
        [CARGO, "metadata", "--format-version", "1", "--no-deps"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return Path(json.loads(metadata.stdout)["target_directory"]) / "debug" / name


def sqs_event(queue_url: str, messages: list[Message]) -> dict:
    """Returns the Lambda event of an SQS event source mapping for a batch of messages."""
    arn = f"arn:aws:sqs:eu-north-1:123456789012:{queue_url.rpartition('/')[2]}"
    return {
        "Records": [
            {
                "messageId": message.message_id,
                "receiptHandle": "a receipt handle",
                "body": message.body,
                "attributes": message.system,
                "messageAttributes": {
                    name: {
                        "stringValue": value,
                        "stringListValues": [],
                        "binaryListValues": [],
                        "dataType": message.types[name],
                    }
                    for name, value in message.attributes.items()
                },
                "md5OfBody": hashlib.md5(message.body.encode(), usedforsecurity=False).hexdigest(),
                "eventSource": "aws:sqs",
                "eventSourceARN": arn,
                "awsRegion": "eu-north-1",
            }
            for message in messages
        ]
    }


def base_environment() -> dict[str, str]:
    """Returns this process's environment without the variables of the function and the AWS SDK."""
    kept = {name: value for name, value in os.environ.items() if name not in FUNCTION_VARIABLES}
    # Cargo may need a proxy to download crates; local servers never do.
    given = kept.get("no_proxy") or kept.get("NO_PROXY")
    direct = ",".join(filter(None, [given, "127.0.0.1", "localhost", ".localhost"]))
    return {**kept, "NO_PROXY": direct, "no_proxy": direct}


def free_ports(count: int) -> list[int]:
    """Returns different ports that are free now."""
    with contextlib.ExitStack() as stack:
        listeners = [stack.enter_context(socket.socket()) for _ in range(count)]
        for listener in listeners:
            listener.bind(("127.0.0.1", 0))
        return [listener.getsockname()[1] for listener in listeners]


# Ignores the proxy settings of the environment.
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def running_in(session: int) -> list[psutil.Process]:
    """Returns the running processes of a session, including those whose parents have exited."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if session in (process.pid, os.getsid(process.pid)) and is_running(process):
                found.append(process)
    return found


def is_running(process: psutil.Process) -> bool:
    """Returns `True` if a process is more than a zombie. In some containers, nobody removes zombies."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def end_session(session: int) -> None:
    """Ends all processes of a session; kills those that still run after the grace period."""
    processes = running_in(session)
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    psutil.wait_procs(processes, timeout=GRACE_PERIOD)
    # A process can start another one before it receives its signal.
    while processes := running_in(session):
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(processes, timeout=1)
