"""Processes of the development tools: builds, and children that never outlive their parent."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import psutil

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ROOT / ".tools"
CARGO = os.environ.get("CARGO", "cargo")

# The AWS variables of the caller name its account. Neither boto3 nor any child may use them.
for _name in [name for name in os.environ if name.startswith("AWS_")]:
    del os.environ[_name]

# Seconds between SIGTERM and SIGKILL.
GRACE_PERIOD = 10

# Ignores the proxy settings of the environment.
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class StackError(Exception):
    """A part of the local stack failed. The text names the part and the cause."""


class Child(contextlib.AbstractContextManager):
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

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def poll(self) -> int | None:
        return self._process.poll()

    def wait(self) -> int:
        return self._process.wait()

    def wait_until(self, ready: Callable[[], Any], seconds: float) -> Any:
        """Waits until a condition is true and returns its value. Fails if the process exits or the time is over."""
        deadline = time.monotonic() + seconds
        try:
            while self.poll() is None and time.monotonic() < deadline:
                # Errors while the server is not listening yet.
                with contextlib.suppress(OSError, ValueError):
                    if value := ready():
                        return value
                time.sleep(0.05)
            raise StackError(self.failure())
        except BaseException:
            self.close()
            raise

    def failure(self) -> str:
        return f"{self._process.args[0]} does not start"

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


class Server(Child):
    """A child that writes into a log file."""

    def __init__(self, command: list[str], environment: dict[str, str], log_file: Path) -> None:
        self.log_file = log_file
        with log_file.open("wb") as log:
            super().__init__(command, environment, log)

    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

    def failure(self) -> str:
        return "\n".join([f"{self.log_file.stem} does not start:", *self.log().splitlines()[-30:]])


# The profile and the features of `cargo nextest run --workspace`, so that the programs use the dependencies that it
# built. Only with a target for development, here the examples, does Cargo add the features that tests need.
AS_FOR_TESTS = ("--workspace", "--profile", "test", "--examples")


def build(*names: str, selection: tuple[str, ...] = AS_FOR_TESTS, output: IO | None = None) -> list[Path]:
    """Builds programs of the workspace for development, once in each process, and returns their paths.

    The selected packages decide on the features of their dependencies.
    """
    new = [name for name in names if (name, selection) not in _built]
    if new:
        command = [CARGO, "build", "--locked", *selection, *(part for name in new for part in ("--bin", name))]
        with Child(command, base_environment(), output) as cargo:
            if status := cargo.wait():
                raise StackError(f"{', '.join(new)}: cargo build ended with status {status}")
        _built.update((name, selection) for name in new)
    return [target_directory() / "debug" / name for name in names]


_built: set[tuple[str, tuple[str, ...]]] = set()


@functools.cache
def target_directory() -> Path:
    """Returns Cargo's target directory."""
    command = [CARGO, "metadata", "--format-version", "1", "--no-deps"]
    metadata = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return Path(json.loads(metadata.stdout)["target_directory"])


def base_environment() -> dict[str, str]:
    """Returns this process's environment without the variables of the function and the AWS SDK."""
    own = (
        "SUPEROFFICE_",
        "QUEUE_URL",
        "QUARANTINE_QUEUE_URL",
        "FALLBACK_QUEUE_URL",
        "FORWARD_EVENTS",
        "MESSAGE_FORMAT",
    )
    kept = {name: value for name, value in os.environ.items() if not name.startswith(own)}
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


def is_running(process: psutil.Process) -> bool:
    """Returns `True` if a process is more than a zombie. In some containers, nobody removes zombies."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def running_in(session: int) -> list[psutil.Process]:
    """Returns the running processes of a session, including those whose parents have exited."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if session in (process.pid, os.getsid(process.pid)) and is_running(process):
                found.append(process)
    return found


def end_session(session: int) -> None:
    """Ends all processes of a session; kills those that still run after the grace period."""
    signal_all(running_in(session), signal.SIGTERM, GRACE_PERIOD)
    # A process can start another one before it receives its signal.
    while processes := running_in(session):
        signal_all(processes, signal.SIGKILL, 1)


def signal_all(processes: list[psutil.Process], number: signal.Signals, seconds: float) -> None:
    """Signals processes and waits for their end."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)
    psutil.wait_procs(processes, timeout=seconds)
