"""The commands and files in the documentation, as an operator types them."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from cloud import Queue
from deliveries import delivery, encode, event
from local_aws import ACCOUNT
from sam_stack import TEMPLATE
from samcli.cli.types import CfnParameterOverridesType
from samtranslator.yaml_helper import yaml_parse
from stack import ROOT, base_environment

DEPLOYMENT = ROOT / "docs/deployment.md"
ROTATION = ROOT / "docs/runbooks/rotate-secret.md"
DOCUMENTS = sorted(path for pattern in ("*.md", "docs/**/*.md", "tests/*.md") for path in ROOT.glob(pattern))


def blocks(document: Path, language: str) -> list[str]:
    """Returns the document's code blocks in a language, without their indentation."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```", document.read_text(), re.S | re.M)
    return [re.sub(rf"^{indentation}", "", code, flags=re.M) for indentation, code in found]


PARAMETERS = yaml_parse(TEMPLATE.read_text())["Parameters"]
PARAMETER_FILES = [
    code
    for document in DOCUMENTS
    for code in blocks(document, "yaml")
    if re.match(r"(WebhookSecret|TenantSecrets|MasterSecret|DefaultEndpoint|DomainName)\w*:", code)
]


@pytest.mark.parametrize("code", PARAMETER_FILES)
def test_documented_parameter_file_is_read_as_written_and_accepted(tmp_path, code):
    (tmp_path / "change.yaml").write_text(code)

    values = CfnParameterOverridesType().convert((f"file://{tmp_path}/change.yaml",), None, None)

    assert values == dict(re.fullmatch(r"(\w+): '?(.*?)'?", line).groups() for line in code.splitlines())
    for name, value in values.items():
        if "AllowedPattern" in PARAMETERS[name] and not value.startswith("the "):
            assert re.fullmatch(PARAMETERS[name]["AllowedPattern"], value), name


def test_documents_list_every_parameter():
    names = re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`\w+`(?:, `\w+`)*) \|", DEPLOYMENT.read_text(), re.M)))
    assert set(names) >= PARAMETERS.keys()


def test_documented_deployment_with_cargo_lambda(aws, binary, tmp_path):
    """Creates the role with the documented policy and runs the documented commands, without the build."""
    (environment,) = blocks(DEPLOYMENT, "ini")
    (policy,) = blocks(DEPLOYMENT, "json")
    (tmp_path / "webhook.env").write_text(environment)
    first, change = [code for code in blocks(DEPLOYMENT, "sh") if "cargo lambda deploy" in code]
    lambda_, iam = aws.client("lambda"), aws.client("iam")
    trust = {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
    iam.create_role(RoleName="superoffice-webhook", AssumeRolePolicyDocument=document)
    iam.put_role_policy(RoleName="superoffice-webhook", PolicyName="queues", PolicyDocument=policy)
    queues = {}
    for name, url in re.findall(r"^(\w*QUEUE_URL)=(.*)$", environment, re.M):
        queue = url.rsplit("/", 1)[1]
        attributes = {"FifoQueue": "true"} if queue.endswith(".fifo") else {}
        region = url.split(".")[1]
        sqs = aws.client("sqs", region_name=region)
        queues[name] = Queue(sqs, sqs.create_queue(QueueName=queue, Attributes=attributes)["QueueUrl"])

    def run(commands: str) -> dict:
        """Runs all commands but the build. Returns the function's configuration."""
        for command in commands.replace("\\\n", " ").splitlines():
            if command.startswith("cargo lambda build"):
                continue
            if command.startswith("cargo lambda deploy"):
                command += f" --binary-path {binary} --manifest-path {ROOT / 'Cargo.toml'}"
            subprocess.run(
                command,
                shell=True,
                check=True,
                cwd=tmp_path,
                env={
                    **base_environment(),
                    **aws.client_environment,
                    # cargo-lambda trusts no other certificates than public ones.
                    "AWS_ENDPOINT_URL": aws.insecure_url,
                    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
                },
            )
        return lambda_.get_function_configuration(FunctionName="superoffice-webhook")

    def invoke(body: bytes) -> str:
        payload = json.dumps(delivery(body))
        response = json.load(lambda_.invoke(FunctionName="superoffice-webhook", Payload=payload)["Payload"])
        return json.loads(response["body"])["outcome"]

    configuration = run(first)
    variables = dict(line.split("=", 1) for line in environment.splitlines())
    assert configuration["Environment"]["Variables"] == variables
    assert (configuration["MemorySize"], configuration["Timeout"]) == (128, 15)
    assert configuration["Runtime"] == "provided.al2023"

    # The documented policy is sufficient, and every queue in it is needed.
    body = encode(event())
    assert invoke(body) == "forwarded"
    assert [message["Body"].encode() for message in queues["QUEUE_URL"].drain()] == [body]
    assert invoke(b"{not json") == "quarantined"
    assert len(queues["QUARANTINE_QUEUE_URL"].drain()) == 1
    queues["QUEUE_URL"].client.delete_queue(QueueUrl=queues["QUEUE_URL"].url)
    assert invoke(body) == "forwarded"
    assert len(queues["FALLBACK_QUEUE_URL"].drain()) == 1
    (send, check) = json.loads(policy)["Statement"]
    assert send["Resource"] == [arn_of(url) for name, url in variables.items() if name.endswith("QUEUE_URL")]
    assert (check["Action"], check["Resource"]) == ("sqs:GetQueueAttributes", arn_of(variables["QUEUE_URL"]))

    change_only = {"FORWARD_EVENTS": "contact.*,person.*"}
    assert run(change)["Environment"]["Variables"] == {**variables, **change_only}

    (rotation,) = blocks(ROTATION, "ini")
    (tmp_path / "rotation.env").write_text(rotation)
    (rotate,) = [code for code in blocks(ROTATION, "sh") if code.startswith("cargo lambda")]
    assert run(rotate)["Environment"]["Variables"] == {
        **variables,
        **change_only,
        "SUPEROFFICE_WEBHOOK_SECRET": shlex.split(rotation.splitlines()[0])[0].split("=", 1)[1],
        "SUPEROFFICE_WEBHOOK_SECRET_PREVIOUS": shlex.split(rotation.splitlines()[1])[0].split("=", 1)[1],
    }

    (tmp_path / "change.env").write_text("SUPEROFFICE_WEBHOOK_SECRET_PREVIOUS=\n")
    assert run(change.splitlines()[1])["Environment"]["Variables"]["SUPEROFFICE_WEBHOOK_SECRET_PREVIOUS"] == ""

    # The documented warning.
    assert run(change.replace("--merge-env", ""))["Environment"]["Variables"] == change_only


def arn_of(url: str) -> str:
    host, _, queue = url.removeprefix("https://").split("/")
    return f"arn:aws:sqs:{host.split('.')[1]}:{ACCOUNT}:{queue}"


def test_links_between_documents_lead_somewhere():
    for document in DOCUMENTS:
        text = re.sub(r"^```.*?^```", "", document.read_text(), flags=re.S | re.M)
        for target, anchor in re.findall(r"\]\((?!\w+:)([^)#\s]*)(?:#([^)]*))?\)", text):
            linked = document if not target else (document.parent / target).resolve()
            assert linked.exists(), f"{document.name}: {target}"
            if anchor and linked.suffix == ".md":
                headings = re.findall(r"^#+ (.*)", linked.read_text(), re.M)
                anchors = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
                assert anchor in anchors, f"{document.name}: {target}#{anchor}"
