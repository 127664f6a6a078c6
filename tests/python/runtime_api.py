"""A Lambda Runtime API on the loopback interface, and a function's binary that uses it.

`cargo lambda watch` starts a function with one environment and mixes its output with its own. A test that needs another
environment, the exit status or the log lines starts the binary directly:

    with Function(binary, {"QUEUE_URL": ...}) as function:
        reply = function.invoke(event)
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import tempfile
import threading
import time
import uuid
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

FUNCTION_NAME = "superoffice-webhook"
FUNCTION_ARN = f"arn:aws:lambda:eu-north-1:123456789012:function:{FUNCTION_NAME}"
TRACE_ID = "Root=1-66f2a1b0-3f2a9c1d4e5b6a7980c1d2e3;Parent=53995c3f42cd8ad8;Sampled=1"
PREFIX = "/2018-06-01/runtime/"


@dataclass
class Reply:
    """The function's reply to an event, posted to `response` or `error`."""

    kind: str
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Invocation:
    """An event and the queue for its reply."""

    request_id: str
    event: bytes
    deadline_ms: int
    reply: queue.Queue[Reply]


class RuntimeApi:
    """Serves events at `invocation/next`; accepts replies at `invocation/<id>/response` and `/error`."""

    def __init__(self) -> None:
        self._waiting: queue.Queue[Invocation | None] = queue.Queue()
        self._handed_out: dict[str, Invocation] = {}
        self._lock = threading.Lock()
        # Set when the function requests its first event, which completes its start.
        self.polled = threading.Event()
        self.init_error: bytes | None = None
        api = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # send a response in one packet; a second packet would wait for a delayed acknowledgment

            def do_GET(self) -> None:
                if self.path != PREFIX + "invocation/next":
                    return self._reply(404)
                api.polled.set()
                invocation = api._waiting.get()
                if invocation is None:  # the server is closing
                    self.close_connection = True
                    return None
                with api._lock:
                    api._handed_out[invocation.request_id] = invocation
                return self._reply(
                    200,
                    invocation.event,
                    {
                        "Lambda-Runtime-Aws-Request-Id": invocation.request_id,
                        "Lambda-Runtime-Deadline-Ms": str(invocation.deadline_ms),
                        "Lambda-Runtime-Invoked-Function-Arn": FUNCTION_ARN,
                        "Lambda-Runtime-Trace-Id": TRACE_ID,
                    },
                )

            def do_POST(self) -> None:
                body = self._body()
                path = self.path[len(PREFIX) :].split("/") if self.path.startswith(PREFIX) else []
                if path == ["init", "error"]:
                    api.init_error = body
                    return self._reply(202)
                if len(path) != 3 or path[0] != "invocation" or path[2] not in ("response", "error"):
                    return self._reply(404)
                with api._lock:
                    invocation = api._handed_out.pop(path[1], None)
                if invocation is None:
                    return self._reply(400)
                invocation.reply.put(Reply(path[2], body))
                return self._reply(202)

            def _body(self) -> bytes:
                if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
                    return self.rfile.read(int(self.headers.get("Content-Length", 0)))
                body = b""
                while size := int(self.rfile.readline().split(b";")[0], 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                while self.rfile.readline().strip():
                    pass
                return body

            def _reply(self, status: int, body: bytes = b"", headers: dict | None = None) -> None:
                self.send_response(status)
                for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        """The value of AWS_LAMBDA_RUNTIME_API."""
        return f"127.0.0.1:{self._server.server_address[1]}"

    def submit(self, event: Any, timeout: float = 30) -> Invocation:
        """Queues an event: bytes unchanged, anything else as JSON. The deadline is in `timeout` seconds."""
        data = event if isinstance(event, bytes) else json.dumps(event, ensure_ascii=False).encode()
        invocation = Invocation(str(uuid.uuid4()), data, int((time.time() + timeout) * 1000), queue.Queue())
        self._waiting.put(invocation)
        return invocation

    def close(self) -> None:
        self._waiting.put(None)
        self._server.shutdown()
        self._server.server_close()


class Function:
    """A function's binary with its own RuntimeApi, terminated at the end of the `with` block.

    Its environment contains the variables that Lambda sets and `environment`, and nothing of the caller's environment.
    """

    def __init__(self, binary: Path, environment: dict[str, str]) -> None:
        self.api = RuntimeApi()
        # Files, because the function would block on a full pipe.
        self._stdout = tempfile.TemporaryFile()  # noqa: SIM115
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115
        self.process = subprocess.Popen(
            [str(binary)],
            env={
                "AWS_LAMBDA_RUNTIME_API": self.api.address,
                "AWS_LAMBDA_FUNCTION_NAME": FUNCTION_NAME,
                "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
                "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128",
                "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{FUNCTION_NAME}",
                "AWS_LAMBDA_LOG_STREAM_NAME": "2026/01/01/[$LATEST]0123456789abcdef0123456789abcdef",
                "AWS_REGION": "eu-north-1",
                "AWS_ACCESS_KEY_ID": "test",
                "AWS_SECRET_ACCESS_KEY": "test",
                "PATH": os.defpath,
                **environment,
            },
            stdin=subprocess.DEVNULL,
            stdout=self._stdout,
            stderr=self._stderr,
        )

    def __enter__(self) -> Function:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def invoke(self, event: Any, timeout: float = 30) -> Reply:
        """Sends an event and waits for the reply."""
        invocation = self.api.submit(event, timeout)
        deadline = time.monotonic() + timeout
        while True:
            try:
                return invocation.reply.get(timeout=0.2)
            except queue.Empty:
                if self.process.poll() is not None:
                    raise RuntimeError(f"the function exited with {self.process.returncode}:\n{self.stderr}") from None
                if time.monotonic() > deadline:
                    raise TimeoutError(f"no reply within {timeout} s:\n{self.stdout}\n{self.stderr}") from None

    def wait(self, timeout: float = 30) -> int:
        """Waits until the function exits and returns its exit status."""
        return self.process.wait(timeout)

    @property
    def stdout(self) -> str:
        """The standard output so far."""
        return _all_of(self._stdout)

    @property
    def stderr(self) -> str:
        """The standard error output so far."""
        return _all_of(self._stderr)

    @property
    def lines(self) -> list[dict]:
        """The JSON log lines so far: one for each request."""
        return [json.loads(line) for line in self.stdout.splitlines() if line.startswith("{")]

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.api.close()
        self._stdout.close()
        self._stderr.close()


def _all_of(file) -> str:
    # pread does not move the file offset, which the child process shares.
    size = os.fstat(file.fileno()).st_size
    return os.pread(file.fileno(), size, 0).decode(errors="replace")
