"""A release from its first deployment to its deletion, without a build tool: only its files, SAM, and AWS's API.

With `RELEASE`, the name of a folder, the files of this folder are deployed. Otherwise a release is made, whose binaries
are not optimized.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
import time
import zipfile
from pathlib import Path

import make_dist
import pytest
from cloud import Webhook
from deliveries import encode, event
from fake_superoffice import PASSWORD, USER, FakeSuperOffice
from processes import ROOT, base_environment
from sam_stack import ARCHITECTURE, SamStack
from signing import SAMPLE_SECRET

NEW_SECRET = "a new secret, made with openssl"


@pytest.fixture(scope="module")
def release(request, tmp_path_factory) -> Path:
    if folder := os.environ.get("RELEASE"):
        return (ROOT / folder).resolve()
    programs = request.getfixturevalue("programs")
    folder = tmp_path_factory.mktemp("release")

    def build(binary: make_dist.Binary, _architecture: make_dist.Architecture) -> bytes:
        return programs[binary.name].read_bytes()

    # Without the watchdog and the mirror, which take minutes to compile.
    excluded = ("watchdog", "mirror")
    templates = {name: source for name, source in make_dist.TEMPLATES.items() if name not in excluded}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(make_dist, "TEMPLATES", templates)
        make_dist.release(folder, make_dist.workspace(), [make_dist.ARCHITECTURES[ARCHITECTURE]], build)
    return folder


@pytest.fixture(scope="module")
def previous_release(release, tmp_path_factory) -> Path:
    """The same files with another version, and another code."""
    folder = tmp_path_factory.mktemp("previous") / "dist"
    shutil.copytree(release, folder)
    template = folder / template_of("template")
    text, count = re.subn(r"(?<=    Value: )\d+\.\d+\.\d+$", "0.0.9", template.read_text(), flags=re.M)
    assert count == 1
    template.write_text(text)
    with zipfile.ZipFile(folder / f"superoffice-webhook-{ARCHITECTURE}.zip", "a") as archive:
        archive.writestr("previous", "")
    return folder


def template_of(name: str) -> str:
    return make_dist.template_name(name, make_dist.ARCHITECTURES[ARCHITECTURE])


class Operator:
    """Someone with the files of a release, at a shell."""

    def __init__(self, aws, release: Path, home: Path, superoffice: FakeSuperOffice) -> None:
        self.program = home / "so-webhook"
        shutil.copy(release / f"so-webhook-{ARCHITECTURE}", self.program)
        self.program.chmod(0o755)
        self.variables = {
            **{name: value for name, value in base_environment().items() if name != "PATH"},
            **aws.client_environment,
            "PATH": f"{home}:/usr/bin:/bin",
            "SSL_CERT_FILE": str(aws.ca_file),
            "SUPEROFFICE_URL": superoffice.url,
            "SUPEROFFICE_USER": USER,
            "SUPEROFFICE_PASSWORD": PASSWORD,
            "SUPEROFFICE_WEBHOOK_SECRET": SAMPLE_SECRET,
        }

    def run(self, command: str, status: int = 0) -> str:
        """Runs a command of the documents, after the one that sets the variables. Returns its output."""
        script = f'eval "$(so-webhook env --stack superoffice-webhook)"\n{command}'
        result = subprocess.run(
            ["sh", "-c", script],
            env=self.variables,
            capture_output=True,
            text=True,
            timeout=300,
            stdin=subprocess.DEVNULL,
        )
        assert result.returncode == status, result.stdout + result.stderr
        return result.stdout

    def check(self) -> dict[str, tuple[bool, str]]:
        result = subprocess.run(
            [self.program, "check", "--stack", "superoffice-webhook", "--json"],
            env=self.variables,
            capture_output=True,
            text=True,
            timeout=300,
        )
        lines = [json.loads(line) for line in result.stdout.splitlines()]
        found = {line["check"]: (line["ok"], line["message"]) for line in lines}
        assert result.returncode == (0 if all(ok for ok, _ in found.values()) else 1), result.stdout + result.stderr
        return found


def wrong(found: dict[str, tuple[bool, str]]) -> set[str]:
    print(found)  # shown if the test fails
    return {name for name, (ok, _) in found.items() if not ok}


def test_life_of_a_deployment(aws, release, previous_release, tmp_path):
    stack = SamStack(aws, "superoffice-webhook", previous_release / template_of("template"), environment={"PATH": ""})
    webhook = Webhook(stack.deploy(WebhookSecret=SAMPLE_SECRET))
    outputs = webhook.outputs
    assert outputs["Version"] == "0.0.9"
    with FakeSuperOffice(tmp_path, aws.ca_file, slow_clock=300) as superoffice:
        operator = Operator(aws, release, tmp_path, superoffice)
        assert wrong(operator.check()) == {"consumer", "alarms", "webhook"}

        # Register.
        operator.run("so-webhook register")
        consumer = SamStack(aws, "superoffice-consumer", release / template_of("consumer"), environment={"PATH": ""})
        consumer.deploy(QueueArn=outputs["QueueArn"])
        pages = aws.create_queue("release-pages").attributes["QueueArn"]
        aws.client("sns").subscribe(TopicArn=outputs["AlarmTopics"], Protocol="sqs", Endpoint=pages)
        assert wrong(operator.check()) == set()

        # Upgrade without parameters.
        stack.template = release / template_of("template")
        stack.deploy()
        assert webhook.outputs["Version"] != "0.0.9"
        assert code_hash(aws, stack) == file_hash(release / f"superoffice-webhook-{ARCHITECTURE}.zip")
        assert code_hash(aws, consumer) == file_hash(release / f"consumer-{ARCHITECTURE}.zip")
        assert wrong(operator.check()) == set()

        # Rotate.
        stack.deploy(WebhookSecret=NEW_SECRET, WebhookSecretPrevious=SAMPLE_SECRET)
        operator.variables["SUPEROFFICE_WEBHOOK_SECRET"] = NEW_SECRET
        operator.run("so-webhook register")
        stack.deploy(WebhookSecretPrevious="")
        assert wrong(operator.check()) == set()

        # Recover.
        consumer.delete()
        contact = superoffice.create()
        superoffice.wait_until_idle()
        time.sleep(1.1)
        superoffice.change_and_lose_event(contact)
        missed = 'so-webhook missed --since 36h --until "$(date -u +%Y-%m-%dT%H:%M:%SZ)"'
        assert operator.run(missed, status=1).split()[:2] == [str(contact), "changed"]
        operator.run(f"{missed} --resync")
        superoffice.wait_until_idle()
        assert operator.run(missed) == ""
        names = [json.loads(message["Body"])["Event"] for message in webhook.queue().drain()]
        assert names[-1] == "contact.resync"

        # Redrive.
        assert webhook.outcome(b"{not json", secret=NEW_SECRET) == (200, "quarantined")
        assert "quarantine" in wrong(operator.check())
        assert "kept: not JSON" in operator.run("so-webhook redrive")
        webhook.queue("QuarantineQueueUrl").drain()
        webhook.queue().drain()

        # Roll back.
        stack.template = previous_release / template_of("template")
        stack.deploy()
        assert webhook.outputs["Version"] == "0.0.9"
        assert wrong(operator.check()) == {"consumer"}
        body = encode(event())
        assert webhook.outcome(body, secret=NEW_SECRET) == (200, "forwarded")
        assert [message["Body"].encode() for message in webhook.queue().drain()][-1] == body

        # Delete.
        operator.run("so-webhook unregister --yes")
        assert superoffice.state["webhooks"] == []
    stack.delete()
    assert subprocess.run(
        [operator.program, "env", "--stack", "superoffice-webhook"], env=operator.variables
    ).returncode


def test_fallback_queue_of_a_release_is_deployed_in_a_second_region(aws, release):
    regional = {"AWS_REGION": "eu-west-1", "AWS_DEFAULT_REGION": "eu-west-1"}
    SamStack(aws, "superoffice-fallback", release / "fallback.yaml", environment={"PATH": "", **regional}).deploy()
    client = aws.client("cloudformation", region_name="eu-west-1")
    (stack,) = client.describe_stacks(StackName="superoffice-fallback")["Stacks"]
    assert stack["StackStatus"] == "CREATE_COMPLETE"
    outputs = {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}
    assert outputs["QueueArn"].startswith("arn:aws:sqs:eu-west-1:")


def code_hash(aws, stack: SamStack) -> str:
    function = stack.outputs["FunctionName"]
    return aws.client("lambda").get_function_configuration(FunctionName=function)["CodeSha256"]


def file_hash(path: Path) -> str:
    return base64.b64encode(hashlib.sha256(path.read_bytes()).digest()).decode()
