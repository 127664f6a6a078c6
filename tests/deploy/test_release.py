"""A release from its first deployment to its deletion, by the commands of the documents.

There is no build tool, only the release's files, SAM and the AWS CLI.

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
import sys
import time
import zipfile
from pathlib import Path

import make_dist
import pytest
import yaml
from cloud import Webhook, wait_for
from deliveries import encode, event
from documents import block
from fake_superoffice import PASSWORD, USER, FakeSuperOffice
from local_aws import stripped
from processes import ROOT, base_environment
from processes import build as build_programs
from sam_stack import ARCHITECTURE, SamStack

NEW_SECRET = "a new secret, made with openssl"


@pytest.fixture(scope="module")
def release(request, tmp_path_factory) -> Path:
    if folder := os.environ.get("RELEASE"):
        return (ROOT / folder).resolve()
    programs = request.getfixturevalue("programs")
    for name in ("watchdog", "mirror"):
        programs[name] = stripped(build_programs(name)[0], tmp_path_factory.mktemp("programs") / name)
    folder = tmp_path_factory.mktemp("release")

    def build(binary: make_dist.Binary, _architecture: make_dist.Architecture) -> bytes:
        return programs[binary.name].read_bytes()

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
    sums = folder / make_dist.SUMS
    names = [line.split()[1] for line in sums.read_text().splitlines()]
    sums.write_text("".join(f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in names))
    return folder


def template_of(name: str) -> str:
    return make_dist.template_name(name, make_dist.ARCHITECTURES[ARCHITECTURE])


GH = """#!/bin/sh
tag=latest
while [ $# -gt 0 ]; do
  case "$1" in v*) tag=$1 ;; --dir) folder=$2; shift ;; esac
  shift
done
mkdir -p "$folder" && cp "$RELEASES/$tag"/* "$folder"
"""
# Version 1 of the AWS CLI, which is on PyPI, ignores AWS_ENDPOINT_URL for SQS, and has no --cli-binary-format.
AWS = f"""#!/bin/sh
for argument do
  shift
  case "$argument" in --cli-binary-format | raw-in-base64-out) ;; *) set -- "$@" "$argument" ;; esac
done
exec {Path(sys.executable).with_name("aws")} --endpoint-url "$AWS_ENDPOINT_URL" "$@"
"""
SAM = f"""#!/bin/sh
exec {Path(sys.executable).with_name("sam")} "$@"
"""
PROGRAMS = {"gh": GH, "sam": SAM, "aws": AWS}


class Operator:
    """Someone at a shell with SAM, the AWS CLI and gh, who has neither Rust nor a clone."""

    def __init__(self, aws, home: Path, superoffice: FakeSuperOffice, releases: dict[str, Path]) -> None:
        self.folder = home / "work"
        programs, self.releases = home / "bin", home / "releases"
        for folder in (self.folder, programs, self.releases):
            folder.mkdir()
        for name, script in PROGRAMS.items():
            (programs / name).write_text(script)
            (programs / name).chmod(0o755)
        for tag, folder in releases.items():
            (self.releases / tag).symlink_to(folder)
        self.variables = {
            **{name: value for name, value in base_environment().items() if name != "PATH"},
            **aws.client_environment,
            "HOME": str(home),
            "PATH": f"{home}/.local/bin:{programs}:/usr/bin:/bin",
            "RELEASES": str(self.releases),
            "SAM_CLI_TELEMETRY": "0",
            "SSL_CERT_FILE": str(aws.ca_file),
            "SUPEROFFICE_URL": superoffice.url,
            "SUPEROFFICE_USER": USER,
            "SUPEROFFICE_PASSWORD": PASSWORD,
            "SUPEROFFICE_WEBHOOK_SECRET_FILE": "secret.txt",
        }

    def run(self, document: str, beginning: str, status: int = 0, **values: str) -> str:
        """Runs a block of commands of a document. `values` replace placeholders. Returns the output."""
        return self.shell(filled(block(document, beginning), values), status)

    def shell(self, commands: str, status: int = 0) -> str:
        """Runs commands with the variables of the stack, once there is one. Returns the output."""
        before = 'eval "$(so-webhook env --stack superoffice-webhook)"\n' if self.is_deployed else ""
        result = subprocess.run(
            ["sh", "-ec", before + commands],
            cwd=self.folder,
            env=self.variables,
            capture_output=True,
            text=True,
            timeout=600,
            stdin=subprocess.DEVNULL,
        )
        assert result.returncode == status, commands + result.stdout + result.stderr
        return result.stdout

    is_deployed = False

    def write(self, file: str, document: str, beginning: str, **values: str) -> None:
        """Writes the parameter file of a document."""
        (self.folder / file).write_text(filled(block(document, beginning, "yaml"), values))

    def keep_secret(self, secret: str) -> None:
        (self.folder / "secret.txt").write_text(secret + "\n")

    def wrong(self) -> set[str]:
        """Returns the checks that are wrong."""
        command = [
            f"{self.variables['HOME']}/.local/bin/so-webhook",
            "check",
            "--stack",
            "superoffice-webhook",
            "--json",
        ]
        result = subprocess.run(
            command, cwd=self.folder, env=self.variables, capture_output=True, text=True, timeout=300
        )
        lines = [json.loads(line) for line in result.stdout.splitlines()]
        print(result.stdout, result.stderr)  # shown if the test fails
        assert lines and result.returncode == (0 if all(line["ok"] for line in lines) else 1)
        return {line["check"] for line in lines if not line["ok"]}


def filled(code: str, values: dict[str, str]) -> str:
    """Replaces placeholders in a block. Each must occur."""
    if ARCHITECTURE != "x86_64":
        code = re.sub(r"(dist\S*/(?:template|watchdog|mirror|consumer))\.yaml", rf"\1-{ARCHITECTURE}.yaml", code)
        code = code.replace("so-webhook-x86_64", f"so-webhook-{ARCHITECTURE}")
    for placeholder, value in values.items():
        assert placeholder in code, (placeholder, code)
        code = code.replace(placeholder, value)
    return code


def test_life_of_a_deployment(aws, release, previous_release, tmp_path):
    releases = {"latest": previous_release, "v0.1.0": previous_release, "v0.2.0": release}
    stack = Webhook(SamStack(aws, "superoffice-webhook", previous_release))
    with FakeSuperOffice(tmp_path, aws.ca_file, slow_clock=300) as superoffice:
        operator = Operator(aws, tmp_path, superoffice, releases)
        onsite = {"https://server/SuperOffice": superoffice.url, "'webhooks'": f"'{USER}'", "the password": PASSWORD}

        # Deploy, as the README says, and then with alarms.
        operator.run("README.md", "gh release download")
        operator.run("docs/deployment.md", "gh release download")
        operator.is_deployed = True
        secret = yaml.safe_load((operator.folder / "webhook.parameters.yaml").read_text())["WebhookSecret"]
        operator.keep_secret(secret)
        assert stack.outputs["Version"] == "0.0.9"
        url, queue = stack.outputs["WebhookUrl"], stack.queue()
        operator.run("docs/deployment.md", "aws cloudformation update-termination-protection")
        operator.run("docs/deployment.md", "aws cloudwatch set-alarm-state")
        operator.run("docs/administration.md", "gh release download")
        assert operator.wrong() == {"consumer", "webhook"}

        # Register.
        operator.run(
            "docs/administration.md",
            "export SUPEROFFICE_URL=",
            **{
                "https://online3.superoffice.com/Cust12345 SUPEROFFICE_ACCESS_TOKEN=…": superoffice.url,
                "https://….execute-api.eu-north-1.amazonaws.com/webhook": url,
            },
        )
        operator.run("docs/consumers.md", "QUEUE_ARN=")
        operator.write("change.yaml", "docs/deployment.md", "TenantSecrets")
        operator.run("docs/deployment.md", "sam deploy --stack-name superoffice-webhook", **{"dist/": "dist/"})
        arn = aws.create_queue("release-pages").attributes["QueueArn"]
        aws.client("sns").subscribe(TopicArn=stack.outputs["AlarmTopics"], Protocol="sqs", Endpoint=arn)
        place = {
            "https://….execute-api.eu-north-1.amazonaws.com/webhook": url,
            "/aws/lambda/…": stack.outputs["LogGroupName"],
        }
        operator.write("watchdog.parameters.yaml", "docs/watchdog.md", "SuperOfficeUrl", **onsite, **place)
        operator.run("docs/watchdog.md", "sam deploy --stack-name superoffice-watchdog")
        watchdog = SamStack(aws, "superoffice-watchdog", previous_release)
        invocation = {"<FunctionName>": watchdog.outputs["FunctionName"]}
        operator.run("docs/watchdog.md", "aws lambda invoke", **invocation)
        wait_for(lambda: any("WatchdogOk" in line for line in watchdog.log_lines()))
        operator.run("README.md", "so-webhook check")
        operator.run("docs/tenants.md", "so-webhook check")
        # Every runbook begins with this block.
        operator.run("docs/runbooks/consumer.md", "eval ")
        operator.run("docs/administration.md", "eval ")

        # Upgrade without parameters.
        operator.run("docs/upgrade.md", "gh release download v0.2.0")
        operator.run("docs/upgrade.md", "sam deploy --stack-name superoffice-webhook --template-file dist-v0.2.0")
        assert stack.outputs["Version"] != "0.0.9"
        assert code_hash(aws, stack.stack) == file_hash(release / f"superoffice-webhook-{ARCHITECTURE}.zip")
        assert operator.wrong() == set()

        # Rotate, with the release that is deployed.
        values = {"the new secret": NEW_SECRET, "the old secret": secret}
        operator.write("rotation.yaml", "docs/runbooks/rotate-secret.md", "WebhookSecret", **values)
        current = {"dist/": "dist-v0.2.0/"}
        operator.run("docs/runbooks/rotate-secret.md", "sam deploy", **current)
        operator.keep_secret(NEW_SECRET)
        operator.run("docs/runbooks/rotate-secret.md", "SUPEROFFICE_WEBHOOK_SECRET_FILE=secret.txt so-webhook register")
        (operator.folder / "change.yaml").write_text("WebhookSecretPrevious: ''\n")
        operator.run("docs/deployment.md", "sam deploy --stack-name superoffice-webhook", **current)
        assert operator.wrong() == set()

        # Recover.
        contact = superoffice.create()
        superoffice.wait_until_idle()
        time.sleep(1.1)
        superoffice.change_and_lose_event(contact)
        operator.run("docs/runbooks/missed-events.md", "so-webhook status")
        # Without --until, the changes of the last two minutes would not be judged.
        window = {"36h": '36h --until "$(date -u +%Y-%m-%dT%H:%M:%SZ)"'}
        lost = operator.run("docs/runbooks/missed-events.md", "so-webhook missed --since 36h\n", status=1, **window)
        assert lost.split()[:2] == [str(contact), "changed"]
        operator.run("docs/runbooks/missed-events.md", "so-webhook missed --since 36h --resync", **window)
        superoffice.wait_until_idle()
        assert operator.run("docs/runbooks/missed-events.md", "so-webhook missed --since 36h\n", **window) == ""
        operator.run("docs/runbooks/reactivate-webhook.md", "so-webhook activate")

        # Redrive.
        assert stack.outcome(b"{not json", secret=NEW_SECRET) == (200, "quarantined")
        assert operator.wrong() == {"quarantine"}
        assert "kept: not JSON" in operator.run("docs/runbooks/quarantine.md", "so-webhook redrive --dry-run")
        stack.queue("QuarantineQueueUrl").drain()
        dead = stack.queue("DeadLetterQueueUrl")
        dead.client.send_message(
            QueueUrl=dead.url, MessageBody=encode(event()).decode(), MessageGroupId="g", MessageDeduplicationId="d"
        )
        assert operator.wrong() == {"dead-letters"}
        dead.drain()
        operator.run("docs/runbooks/endpoint.md", "ACCESS_LOG=")
        operator.run("docs/runbooks/function.md", "aws logs filter-log-events")
        assert "VisibilityTimeout" in operator.run("docs/runbooks/consumer.md", "aws sqs get-queue-attributes")
        operator.run("docs/runbooks/consumer.md", "aws sqs purge-queue")
        wait_for(lambda: queue.count == 0)

        # A fallback queue, and its drill.
        operator.run("docs/runbooks/fallback-queue.md", "sam deploy --stack-name superoffice-fallback", **current)
        consumer = filled(block("docs/runbooks/fallback-queue.md", "FALLBACK_ARN="), current)
        function = filled(
            block("docs/runbooks/fallback-queue.md", "sam deploy --stack-name superoffice-webhook"), current
        )
        operator.shell(consumer + function)
        operator.run(
            "docs/runbooks/fallback-queue.md",
            'eval "$(so-webhook env --stack superoffice-webhook)"\naws',
            **{"sleep 60": "true"},
        )
        assert any(line.get("FallbackUsed") for line in stack.stack.log_lines())

        # Roll back.
        shutil.copytree(previous_release, operator.folder / "dist-v0.1.0")
        operator.run("docs/upgrade.md", "sam deploy --stack-name superoffice-webhook --template-file dist-v0.1.0")
        assert stack.outputs["Version"] == "0.0.9"
        assert operator.wrong() == set()
        operator.run("docs/automation.md", "sam package")

        # The mirror instead of the consumer.
        SamStack(aws, "superoffice-consumer", previous_release).delete()
        arn = "arn:aws:sqs:eu-north-1:123456789012:superoffice-webhook-EventQueue-….fifo"
        operator.write(
            "mirror.parameters.yaml", "docs/mirror.md", "QueueArn", **onsite, **{arn: stack.outputs["QueueArn"]}
        )
        operator.run("docs/mirror.md", "sam deploy --stack-name superoffice-mirror")
        mirror = SamStack(aws, "superoffice-mirror", previous_release)
        tenant = {"Cust1234": "Cust12345"}
        operator.run("docs/runbooks/mirror.md", "MIRROR=", **tenant)
        function = {"<FunctionName>": mirror.outputs["FunctionName"]}
        operator.run("docs/mirror.md", "aws lambda invoke", **tenant, **function)
        wait_for(lambda: any("AuditAge" in line for line in mirror.log_lines()))
        operator.run("docs/runbooks/mirror.md", "MIRROR_LOG=")
        assert operator.wrong() == set()

        # Delete.
        operator.shell("so-webhook unregister --yes")
        assert superoffice.state["webhooks"] == []
        outputs, table = stack.outputs, mirror.outputs["TableName"]
        assert outputs["QueueUrl"] in operator.run("docs/upgrade.md", "aws cloudformation describe-stacks")
        logs = watchdog.outputs["LogGroupName"]
        operator.is_deployed = False
        watchdog.delete()
        mirror.delete()
        operator.shell(
            "aws cloudformation update-termination-protection --no-enable-termination-protection"
            " --stack-name superoffice-webhook"
        )
        operator.run("docs/upgrade.md", "sam delete")
        # The local AWS generates another name for the function's log group than AWS.
        names = operator.run("docs/upgrade.md", "aws sqs list-queues")
        assert outputs["QueueUrl"] in names
        assert outputs["AccessLogGroupName"] in names
        rest = {f"<{name}>": outputs[name] for name in ("QueueUrl", "DeadLetterQueueUrl", "QuarantineQueueUrl")}
        rest |= {f"<{name}>": outputs[name] for name in ("LogGroupName", "AccessLogGroupName")}
        rest |= {"<LogGroupName of the watchdog>": logs, "<TableName of the mirror>": table}
        operator.run("docs/upgrade.md", "aws sqs delete-queue", **rest)
        assert outputs["QueueUrl"] not in operator.run("docs/upgrade.md", "aws sqs list-queues")


def test_derived_secret_is_that_of_the_documented_computation(aws, release, tmp_path):
    with FakeSuperOffice(tmp_path) as superoffice:
        operator = Operator(aws, tmp_path, superoffice, {"latest": release})
    operator.run("docs/administration.md", "gh release download")
    master = {
        "SUPEROFFICE_TENANT_MASTER_SECRET=…": "SUPEROFFICE_TENANT_MASTER_SECRET=a-master-secret-of-at-least-32-bytes"
    }
    by_program, by_python = operator.run("docs/tenants.md", "export SUPEROFFICE_TENANT_MASTER_SECRET", **master).split()
    assert by_program == by_python
    (operator.folder / "token.txt").write_text("the token\n")
    operator.run("docs/tenants.md", "umask 077")
    value = aws.client("ssm").get_parameter(Name="/superoffice/my-app/Cust1234", WithDecryption=True)["Parameter"][
        "Value"
    ]
    assert json.loads(value) == {"systemToken": "the token"}


def code_hash(aws, stack: SamStack) -> str:
    function = stack.outputs["FunctionName"]
    return aws.client("lambda").get_function_configuration(FunctionName=function)["CodeSha256"]


def file_hash(path: Path) -> str:
    return base64.b64encode(hashlib.sha256(path.read_bytes()).digest()).decode()
