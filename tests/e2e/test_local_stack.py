"""`make run`, `make watch` and `make send`: what they print, how they end, and that nothing is left running."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time

import local
import make_vectors
import pytest
import stack
from stack import ROOT, SAMPLE_SECRET, WatchedFunction, offspring_of, outer_environment, processes_now

LOCAL = [sys.executable, "scripts/local.py"]

# Generous: other work may have the machine.
SECONDS = 180


def still_running(processes: set[tuple[int, str]]) -> set[tuple[int, str]]:
    return processes & processes_now().keys()


def wait_until(condition, what: str):
    deadline = time.monotonic() + SECONDS
    while not (result := condition()):
        assert time.monotonic() < deadline, f"waited {SECONDS} s for: {what}"
        time.sleep(0.02)
    return result


class Started:
    """scripts/local.py as make starts it, and every process that it has started so far."""

    def __init__(self, *arguments: str, environment: dict[str, str] | None = None) -> None:
        self.seen: set[tuple[int, str]] = set()
        self.process = subprocess.Popen(
            [*LOCAL, *arguments],
            cwd=ROOT,
            env={**outer_environment(), "PYTHONUNBUFFERED": "1", **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        os.set_blocking(self.process.stdout.fileno(), False)
        self.output = ""

    def read(self) -> str:
        self.seen |= offspring_of(self.process.pid)
        self.output += (self.process.stdout.read() or b"").decode()
        return self.output

    def wait_for(self, text: str) -> None:
        def there() -> bool:
            assert self.process.poll() is None or text in self.read(), self.output
            return text in self.read()

        wait_until(there, text)

    def wait(self) -> int:
        wait_until(lambda: self.read() is not None and self.process.poll() is not None, "its end")
        self.read()
        return self.process.returncode

    def __enter__(self) -> Started:
        return self

    def __exit__(self, *_exception: object) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(SECONDS)
        self.process.stdout.close()


def test_a_run_sends_everything_shows_everything_and_leaves_nothing(binary):
    with Started("run") as run:
        assert run.wait() == 0, run.output
        assert not still_running(run.seen)
    assert len(run.seen) > 2  # cargo lambda, the function, ...
    lines = run.output.splitlines()
    for name, (status, outcome) in local.EXPECTED.items():
        assert [f"{name}.json", str(status), outcome] in [line.split() for line in lines]
    assert "superoffice-events.fifo: 6 messages" in lines
    assert "superoffice-quarantine.fifo: 1 message" in lines
    assert "    MessageGroupId          Cust12345/contact/994863" in lines
    assert "      PrimaryKey            994863  (Number)" in lines
    said = [" ".join(line.split()) for line in lines]
    assert "contact.changed Cust12345/contact/994863 again failed: FAIL_EVENT_ID names this event" in said
    assert sum("again not begun: a message before it in its group has failed" in line for line in said) == 2
    assert "contact.changed Cust12345/contact/41 no more would write the contact" in said
    assert lines[-1] == "All 12 answers, all messages, and what the consumer made of them are as expected."


def test_a_run_is_the_same_in_any_environment(binary):
    environment = {
        **dict.fromkeys(stack.FUNCTION_VARIABLES, "nonsense"),
        **dict.fromkeys(["AWS_PROFILE", "AWS_REGION", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_SQS"], "nonsense"),
        **dict.fromkeys(["HTTP_PROXY", "http_proxy"], "http://127.0.0.1:9"),
    }
    with Started("run", environment=environment) as run:
        assert run.wait() == 0, run.output


def test_a_run_expects_an_answer_to_every_file_and_nothing_else():
    assert sorted(local.EXPECTED) == sorted(file.stem for file in local.EVENTS.glob("*.json"))


def test_a_run_with_an_unexpected_answer_fails_and_says_so(binary, monkeypatch, capsys):
    monkeypatch.setitem(local.EXPECTED, "test", (200, "forwarded"))
    assert local.run() == 1
    assert "NOT AS EXPECTED: test.json has the answer 200 test" in capsys.readouterr().out


def test_a_run_that_finds_another_message_than_expected_fails_and_says_so(binary, monkeypatch, capsys):
    monkeypatch.setattr(local, "body_of", lambda envelope: "something else")
    assert local.run() == 1
    assert "NOT AS EXPECTED: superoffice-events.fifo does not hold what was forwarded" in capsys.readouterr().out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize(
    "moment", ["Building", "Starting the function", "contact-created.json", "Starting the consumer"]
)
def test_an_interrupted_run_leaves_nothing(binary, number, moment):
    with Started("run") as run:
        run.wait_for(moment)
        run.process.send_signal(number)
        assert run.wait() == 128 + number, run.output
        assert not still_running(run.seen)


def test_a_build_that_is_interrupted_leaves_no_compiler(binary, tmp_path):
    # A target directory of its own, so that there is something to compile.
    with Started("run", environment={"CARGO_TARGET_DIR": str(tmp_path)}) as run:
        wait_until(lambda: run.read() and len(run.seen) > 3, "cargo and compilers")
        run.process.send_signal(signal.SIGINT)
        assert run.wait() == 130, run.output
        wait_until(lambda: not still_running(run.seen), "the end of the compilers")


def test_a_run_that_fails_half_way_leaves_nothing(binary, monkeypatch):
    children = []

    def fail(port, file):
        children.extend(offspring_of(os.getpid()))
        raise stack.StackError("no")

    monkeypatch.setattr(local, "invoke_file", fail)
    with pytest.raises(stack.StackError):
        local.run()
    assert children
    # The function of the other tests is a child of this process, too.
    assert not {pid for pid, _ in still_running(set(children))} - {pid for pid, _ in offspring_of(os.getpid())}


def test_a_port_that_is_taken_leads_to_another_one(binary, sqs, monkeypatch, tmp_path):
    queue = sqs.create_queue("taken.fifo")
    environment = {**sqs.environment, "SUPEROFFICE_WEBHOOK_SECRET": SAMPLE_SECRET, "QUEUE_URL": queue}
    free_port = stack.free_port
    with socket.create_server(("127.0.0.1", 0)) as stranger, (tmp_path / "log").open("w") as log:
        taken = stranger.getsockname()[1]
        ports = iter([taken, taken])
        monkeypatch.setattr(stack, "free_port", lambda: next(ports, None) or free_port())
        with WatchedFunction(environment, log) as function:
            assert function.port != taken
            assert function.invoke(stack.PROBE)["statusCode"] == 405


def test_no_free_port_at_all_is_said(binary, monkeypatch, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as stranger, (tmp_path / "log").open("w") as log:
        monkeypatch.setattr(stack, "free_port", lambda: stranger.getsockname()[1])
        with pytest.raises(stack.StackError, match="cargo lambda watch ends before it takes an event"):
            WatchedFunction({}, log)


def test_a_function_that_does_not_start_is_said_with_what_it_says(binary, monkeypatch, tmp_path):
    with (tmp_path / "log").open("w") as log, pytest.raises(stack.StackError) as raised:
        WatchedFunction({"SUPEROFFICE_WEBHOOK_SECRET": "s"}, log)
    assert str(raised.value).startswith("the function does not start\n")
    assert "QUEUE_URL is not set" in str(raised.value)


def make(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [*LOCAL, *arguments], cwd=ROOT, env=outer_environment(), capture_output=True, text=True, timeout=SECONDS
    )


@pytest.mark.skipif(local.STATE.exists(), reason="a `make watch` is running")
def test_watch_keeps_the_stack_up_and_send_sends_to_it(binary):
    nobody = make("send", "contact-created")
    assert nobody.returncode == 1
    assert "start one with `make watch`" in nobody.stderr

    with Started("watch") as watch:
        watch.wait_for("Ctrl-C ends everything")
        sent = make("send", "contact-created")
        assert sent.returncode == 0, sent.stderr
        status, _, body = sent.stdout.partition(" ")
        assert (status, json.loads(body)["outcome"]) == ("200", "forwarded")
        assert make("send", "signature-wrong").stdout.startswith("401 ")

        unknown = make("send", "no-such-event")
        assert unknown.returncode == 1
        assert "contact-created" in unknown.stderr

        second = make("watch")
        assert second.returncode == 1
        assert "already running" in second.stderr

        watch.process.send_signal(signal.SIGINT)
        assert watch.wait() == 130, watch.output
        assert not still_running(watch.seen)
    assert not local.STATE.exists()


def test_the_signed_bodies_are_what_the_script_makes():
    assert make_vectors.PATH.read_text(encoding="utf-8") == make_vectors.document()
