"""The parts of the local stack: a local SQS, and the function under `cargo lambda watch`.

local.py puts them together for `make run` and `make watch`, tests/e2e for the end-to-end tests. Every part is a context
manager that leaves nothing running behind it. Ports are the operating system's choice, so none has to be free.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import boto3
from botocore.config import Config
from moto.server import ThreadedMotoServer

ROOT = Path(__file__).resolve().parent.parent
FUNCTION_NAME = "superoffice-webhook"
CONSUMER_NAME = "consumer"
SAMPLE_SECRET = "sample-secret-do-not-use-in-production"
CARGO = os.environ.get("CARGO", "cargo")
CARGO_LAMBDA = Path(sys.executable).parent / "cargo-lambda"

# What the function reads. Nothing of it comes from the environment of whoever starts the stack.
FUNCTION_VARIABLES = [
    "SUPEROFFICE_WEBHOOK_SECRET",
    "SUPEROFFICE_WEBHOOK_SECRET_PREVIOUS",
    "SUPEROFFICE_TENANT_SECRETS",
    "QUEUE_URL",
    "QUARANTINE_QUEUE_URL",
    "FALLBACK_QUEUE_URL",
    "FORWARD_EVENTS",
    "MESSAGE_FORMAT",
]

# Nor does boto3 in this process take a profile or an endpoint from there.
for _name in [name for name in os.environ if name.startswith("AWS_")]:
    del os.environ[_name]

# An answer from the function needs no signature: it refuses a GET as the first thing.
PROBE = {
    "version": "2.0",
    "routeKey": "$default",
    "rawPath": "/",
    "rawQueryString": "",
    "headers": {"host": "localhost"},
    "requestContext": {"http": {"method": "GET", "path": "/"}, "stage": "$default"},
    "isBase64Encoded": False,
}

# What a function is asked to see whether it is ready, and what it then answers.
PROBES = {
    FUNCTION_NAME: (PROBE, lambda answer: answer.get("statusCode") == 405),
    CONSUMER_NAME: ({"Records": []}, lambda answer: answer == {"batchItemFailures": []}),
}


class StackError(Exception):
    """A part of the stack does not start; the text says which, and what to do."""


@dataclass
class Message:
    """A message as a consumer of the queue gets it."""

    body: str
    attributes: dict[str, str]
    types: dict[str, str]
    system: dict[str, str]
    message_id: str


class Sqs:
    """moto's server, in a thread of this process, on a free port of the loopback interface."""

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
        """Creates a queue, a FIFO one if its name says so, and gives its URL."""
        attributes = {"FifoQueue": "true"} if name.endswith(".fifo") else {}
        return self.client.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]

    def drain(self, url: str) -> list[Message]:
        """Takes all messages out of a queue, in its order."""
        taken = []
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
                taken.append(
                    Message(
                        body=message["Body"],
                        attributes={name: value["StringValue"] for name, value in attributes.items()},
                        types={name: value["DataType"] for name, value in attributes.items()},
                        system=message.get("Attributes", {}),
                        message_id=message["MessageId"],
                    )
                )
        return taken


class Child:
    """A process in a group of its own, ended with all that it has started, by process id."""

    running: set[Child] = set()

    def __init__(self, command: list[str], environment: dict[str, str], output: IO | None = None) -> None:
        with _signals_put_off():
            self._process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT if output else None,
                start_new_session=True,
            )
            Child.running.add(self)

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def poll(self) -> int | None:
        return self._process.poll()

    def wait(self) -> int:
        return self._process.wait()

    def close(self) -> None:
        """Asks the process to end, and ends it and what is left of its offspring when it does not."""
        pid = self._process.pid
        offspring: set[tuple[int, str]] = set()
        if self._process.poll() is None:
            offspring |= offspring_of(pid)
            _signal_group(pid, signal.SIGTERM)
            deadline = time.monotonic() + 10
            while self._process.poll() is None:
                # Once it has ended, nothing tells any more which processes it has started.
                offspring |= offspring_of(pid)
                if time.monotonic() > deadline:
                    _signal_group(pid, signal.SIGKILL)
                    self._process.wait()
                time.sleep(0.01)
        for process in offspring & processes_now().keys():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process[0], signal.SIGKILL)
        Child.running.discard(self)

    @classmethod
    def close_all(cls) -> None:
        """Ends every process that is left, for the end of a program that a signal can interrupt anywhere."""
        for child in list(cls.running):
            child.close()


class WatchedFunction:
    """A function under `cargo lambda watch`, which plays Lambda; ready for events once it is made."""

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
            self.port = free_port()
            self._child = Child(
                [
                    *[str(CARGO_LAMBDA), "lambda", "watch", "--package", name, "--bin", name],
                    *["--invoke-address", "127.0.0.1", "--invoke-port", str(self.port)],
                    *([] if reload else ["--ignore-changes"]),
                ],
                {**outer_environment(), **environment},
                output,
            )
            try:
                if self._wait_until_ready():
                    return
            except BaseException:
                self._child.close()
                raise
            # cargo lambda ends when somebody else has taken the port in the meantime.
            self._child.close()
        raise StackError("cargo lambda watch ends before it takes an event" + self._tail())

    def __enter__(self) -> WatchedFunction:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._child.close()

    @property
    def url(self) -> str:
        """Where the function answers to plain HTTP, as behind a function URL."""
        return f"http://127.0.0.1:{self.port}/lambda-url/{self._name}/"

    def wait(self) -> int:
        """Waits for cargo lambda to end by itself."""
        return self._child.wait()

    def invoke(self, event: object, timeout: float = 30) -> dict:
        """Invokes the function as Lambda's own API does, and gives what it returned."""
        data = event if isinstance(event, bytes) else json.dumps(event).encode()
        url = f"http://127.0.0.1:{self.port}/2015-03-31/functions/{self._name}/invocations"
        request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
        with _opener.open(request, timeout=timeout) as response:
            return json.load(response)

    def _wait_until_ready(self, seconds: float = 120) -> bool:
        """Whether the function answers; False if cargo lambda has ended."""
        probe, is_ready = PROBES[self._name]
        deadline = time.monotonic() + seconds
        while self._child.poll() is None:
            if f"{FUNCTION_NAME} does not start" in self._log():
                raise StackError("the function does not start" + self._tail())
            if time.monotonic() > deadline:
                raise StackError(f"the function does not answer within {seconds:.0f} s" + self._tail())
            # An error: not listening yet, still building, or somebody else's port.
            with contextlib.suppress(OSError, ValueError, AttributeError):
                if is_ready(self.invoke(probe, timeout=2)):
                    return True
            time.sleep(0.05)
        return False

    def _log(self) -> str:
        return Path(self._output.name).read_text(errors="replace") if self._output else ""

    def _tail(self) -> str:
        return "".join(f"\n{line}" for line in self._log().splitlines()[-30:])


def invoke_file(port: int, file: Path, name: str = FUNCTION_NAME) -> dict:
    """Sends an event with `cargo lambda invoke`, and gives what the function returned."""
    result = subprocess.run(
        [
            *[str(CARGO_LAMBDA), "lambda", "invoke", name, "--data-file", str(file)],
            *["--invoke-address", "127.0.0.1", "--invoke-port", str(port)],
        ],
        cwd=ROOT,
        env=outer_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    if result.returncode != 0:
        raise StackError(f"cargo lambda invoke {file.name}: {result.stderr.strip() or result.stdout.strip()}")
    return json.loads(result.stdout)


def build(output: IO | None = None, name: str = FUNCTION_NAME) -> Path:
    """Builds a function as `cargo lambda watch` does, and gives the path of its binary."""
    with Child([CARGO, "build", "--package", name, "--bin", name], outer_environment(), output) as cargo:
        if cargo.wait() != 0:
            raise StackError(f"{name} does not build")
    metadata = subprocess.run(
        [CARGO, "metadata", "--format-version", "1", "--no-deps"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return Path(json.loads(metadata.stdout)["target_directory"]) / "debug" / name


def sqs_event(queue_url: str, messages: list[Message]) -> dict:
    """A batch of a queue's messages as an event source mapping hands it to a function."""
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


def outer_environment() -> dict[str, str]:
    """This process's environment without what means something to the function or to the AWS SDK."""
    kept = {name: value for name, value in os.environ.items() if name not in FUNCTION_VARIABLES}
    # A proxy is for the crates; what is on this machine is never behind one.
    return {**kept, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


# Without the proxy that the environment may name.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def offspring_of(ancestor: int) -> set[tuple[int, str]]:
    """The processes that a process has started, and those that they have."""
    processes = processes_now()
    found, todo = set(), [ancestor]
    while todo:
        parent = todo.pop()
        children = {process for process, its_parent in processes.items() if its_parent == parent}
        found |= children
        todo += [pid for pid, _ in children]
    return found


def processes_now() -> dict[tuple[int, str], int]:
    """Every running process, by its id and its start, which tells it from a later one with that id; and its parent."""
    found = {}
    if Path("/proc/self/stat").exists():
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                # The name, in brackets, can hold anything; after it come the state, the parent, ...
                fields = stat.read_text(errors="replace").rpartition(")")[2].split()
            except OSError:
                continue  # it has just ended
            if fields[0] not in "ZX":
                found[int(stat.parent.name), fields[19]] = int(fields[1])
    else:
        listing = subprocess.run(["ps", "-A", "-o", "pid=,ppid=,state=,lstart="], capture_output=True, text=True)
        for line in listing.stdout.splitlines():
            pid, parent, state, started = line.split(maxsplit=3)
            if not state.startswith("Z"):
                found[int(pid), started] = int(parent)
    return found


@contextlib.contextmanager
def _signals_put_off():
    """Lets no signal come between the start of a process and the knowledge of it."""
    came = []
    handlers = {
        number: signal.signal(number, lambda *signal_: came.append(signal_))
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        if callable(signal.getsignal(number))
    }
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    for number, frame in came:
        handlers[number](number, frame)


def _signal_group(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, number)
