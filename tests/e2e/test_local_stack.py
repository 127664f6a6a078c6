"""`make run`, `make watch` and `make send`: their output, their failures, and the end of their processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import local
import make_vectors
import psutil
import pytest
from processes import ROOT, base_environment, is_running

LOCAL = [sys.executable, "scripts/local.py"]

# Generous, because other processes may use the machine.
SECONDS = 300


class Started:
    """scripts/local.py as make starts it, and all processes it has started so far."""

    def __init__(self, *arguments: str, environment: dict[str, str] | None = None) -> None:
        self.descendants: set[psutil.Process] = set()
        self.process = psutil.Popen(
            [*LOCAL, *arguments],
            cwd=ROOT,
            env={**base_environment(), "PYTHONUNBUFFERED": "1", **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        os.set_blocking(self.process.stdout.fileno(), False)
        self.output = ""

    def wait_for(self, text: str) -> None:
        deadline = time.monotonic() + SECONDS
        while text not in self._read():
            assert self.process.poll() is None or text in self._read(), self.output
            assert time.monotonic() < deadline, f"no {text!r} within {SECONDS} s: {self.output}"
            time.sleep(0.02)

    def wait(self) -> int:
        """Waits for the exit and returns its status."""
        deadline = time.monotonic() + SECONDS
        while self.process.poll() is None:
            assert time.monotonic() < deadline, f"no exit within {SECONDS} s: {self.output}"
            self._read()
            time.sleep(0.02)
        self._read()
        return self.process.returncode

    def still_running(self) -> list[psutil.Process]:
        return [process for process in self.descendants if is_running(process)]

    def _read(self) -> str:
        if self.process.poll() is None:
            self.descendants |= set(self.process.children(recursive=True))
        self.output += (self.process.stdout.read() or b"").decode()
        return self.output

    def __enter__(self) -> Started:
        return self

    def __exit__(self, *_exception: object) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(SECONDS)
        self.process.stdout.close()


def test_run_sends_all_events_whatever_the_environment_and_leaves_no_process():
    environment = {
        **dict.fromkeys(["SUPEROFFICE_WEBHOOK_SECRET", "QUEUE_URL", "FORWARD_EVENTS", "MESSAGE_FORMAT"], "nonsense"),
        **dict.fromkeys(["AWS_PROFILE", "AWS_REGION", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_SQS"], "nonsense"),
        **dict.fromkeys(["HTTP_PROXY", "http_proxy"], "http://127.0.0.1:9"),
    }
    with Started("run", environment=environment) as run:
        assert run.wait() == 0, run.output
        assert len(run.descendants) > 2  # MiniStack, the function, …
        assert not run.still_running()
    lines = run.output.splitlines()
    for name, (status, outcome) in local.EXPECTED.items():
        assert [f"{name}.json", str(status), outcome] in [line.split() for line in lines]
    assert "      PrimaryKey            994863  (Number)" in lines
    assert lines[-1].startswith(f"All {len(local.EXPECTED)} responses")


def test_every_sample_event_has_an_expected_response():
    assert sorted(local.EXPECTED) == sorted(file.stem for file in local.EVENTS.glob("*.json"))


def test_run_fails_on_unexpected_responses_and_messages(monkeypatch, capsys):
    monkeypatch.setitem(local.EXPECTED, "test", (200, "forwarded"))
    monkeypatch.setattr(local, "body_of", lambda envelope: "another body")
    assert local.run() == 1
    output = capsys.readouterr().out
    assert "UNEXPECTED: test.json returned 200 test" in output
    assert "UNEXPECTED: superoffice-events.fifo does not contain exactly the forwarded bodies" in output


def test_interrupted_run_leaves_no_process():
    with Started("run") as run:
        run.wait_for("contact-created.json")
        run.process.send_signal(signal.SIGINT)
        assert run.wait() == 128 + signal.SIGINT, run.output
        assert run.descendants
        assert not run.still_running()


def local_py(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [*LOCAL, *arguments], cwd=ROOT, env=base_environment(), capture_output=True, text=True, timeout=SECONDS
    )


@pytest.mark.skipif(local.STATE.exists(), reason="a `make watch` is running")
def test_watch_serves_send_until_it_is_interrupted():
    without_watch = local_py("send", "contact-created")
    assert (without_watch.returncode, without_watch.stdout) == (1, "")
    assert "start one with `make watch`" in without_watch.stderr

    with Started("watch") as watch:
        watch.wait_for("Ctrl-C stops everything")
        sent = local_py("send", "contact-created")
        assert sent.returncode == 0, sent.stderr
        status, _, body = sent.stdout.partition(" ")
        assert (status, json.loads(body)["outcome"]) == ("200", "forwarded")

        unknown = local_py("send", "no-such-event")
        assert unknown.returncode == 1
        assert "contact-created" in unknown.stderr

        second = local_py("watch")
        assert second.returncode == 1
        assert "already running" in second.stderr

        watch.process.send_signal(signal.SIGINT)
        assert watch.wait() == 128 + signal.SIGINT, watch.output
        assert watch.descendants
        assert not watch.still_running()
    assert not local.STATE.exists()


def test_signature_vectors_are_up_to_date():
    for path, text in make_vectors.documents().items():
        assert path.read_text(encoding="utf-8") == text
