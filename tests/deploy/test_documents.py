"""The commands and files in the documentation, as an operator types them."""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import botocore.session
import pytest
from botocore import xform_name
from deliveries import delivery, encode, event
from documents import DOCUMENTS, NOT_RUN, block, blocks, blocks_of, shell_blocks
from local_aws import ACCOUNT, Queue
from processes import ROOT, base_environment
from sam_stack import CONSUMER_TEMPLATE, MIRROR_TEMPLATE, TEMPLATE, WATCHDOG_TEMPLATE
from samcli.cli.types import CfnParameterOverridesType
from samtranslator.yaml_helper import yaml_parse

DEPLOYMENT = ROOT / "docs/deployment.md"
ROTATION = ROOT / "docs/runbooks/rotate-secret.md"

PATHS = (TEMPLATE, WATCHDOG_TEMPLATE, CONSUMER_TEMPLATE, MIRROR_TEMPLATE)
TEMPLATES = [yaml_parse(path.read_text())["Parameters"] for path in PATHS]
PARAMETERS = TEMPLATES[0]


def template_of(names: list[str]) -> dict | None:
    """Returns the parameters of the template that has all of these names."""
    return next((template for template in TEMPLATES if set(names) <= template.keys()), None) if names else None


def parameter_files() -> list[tuple[Path, str]]:
    """Returns the parameter files in the documents: in blocks, in a line of the text, and written by a command."""
    found = []
    for document in DOCUMENTS:
        text = document.read_text()
        codes = [*blocks(document, "yaml"), *re.findall(r"`(\w+: [^`\n]+)`", text)]
        found += [(document, code) for code in codes if template_of(re.findall(r"^(\w+):", code, re.M))]
        found += [(document, command) for command in re.findall(r"^ *(echo .* > \S+\.yaml)$", text, re.M)]
    return found


@pytest.mark.parametrize(("document", "code"), parameter_files(), ids=lambda value: getattr(value, "stem", None))
def test_documented_parameter_file_is_quoted_and_read_as_written(tmp_path, document, code):
    # The one exception shows what happens without quotes.
    if code == WITHOUT_QUOTES:
        assert read_parameters(tmp_path, code) == {"WebhookSecret": "1234567890123456"}
        return
    if code.startswith("echo "):
        command, file = code.rsplit(" > ", 1)
        subprocess.run(code, shell=True, check=True, cwd=tmp_path)
        code = (tmp_path / file).read_text()

    values = read_parameters(tmp_path, code)

    lines = [re.fullmatch(r"(\w+): '([^']*)'", line) for line in code.splitlines()]
    assert all(lines), "every value has single quotes"
    assert values == dict(line.groups() for line in lines)
    parameters = template_of(list(values))
    for name, value in values.items():
        # A placeholder begins with "the " or contains an ellipsis.
        if "AllowedPattern" in parameters[name] and not value.startswith("the ") and "…" not in value:
            assert re.fullmatch(parameters[name]["AllowedPattern"], value), name
    assert re.search(r"quote\s+every\s+value", document.read_text(), re.I)


WITHOUT_QUOTES = "WebhookSecret: 00001234567890123456"


def read_parameters(folder: Path, code: str) -> dict[str, str]:
    """Returns the parameters that `sam deploy --parameter-overrides file://…` reads."""
    (folder / "change.yaml").write_text(code)
    return CfnParameterOverridesType().convert((f"file://{folder}/change.yaml",), None, None)


def test_every_kind_of_parameter_file_is_found():
    found = [document.name for document, _ in parameter_files()]
    documents = {
        "README.md",
        "automation.md",
        "deployment.md",
        "mirror.md",
        "rotate-secret.md",
        "tenants.md",
        "watchdog.md",
    }
    assert documents == set(found)
    assert (DEPLOYMENT, WITHOUT_QUOTES) in parameter_files()
    assert len(found) >= 14


def test_documented_downloads_need_no_tag_and_replace_existing_files():
    downloads = [line for document in DOCUMENTS for line in re.findall(r"gh release download .*", document.read_text())]
    assert len(downloads) >= 4
    # Without a tag, gh requires a pattern.
    assert all(" --pattern " in line and " --clobber --dir dist" in line for line in downloads)


def test_documented_invocations_are_not_repeated_by_the_cli():
    """The AWS CLI gives up after 60 s and invokes again, unless it does not wait."""
    texts = [document.read_text().replace("\\\n", " ") for document in DOCUMENTS]
    invocations = [line for text in texts for line in re.findall(r"aws lambda invoke .*", text)]
    assert invocations
    for line in invocations:
        waits = "--cli-read-timeout 0" in line and "AWS_MAX_ATTEMPTS=1" in line
        assert "--invocation-type Event" in line or waits, line


GLOBAL_OPTIONS = {"query", "output", "region", "cli-read-timeout", "cli-binary-format"}


def aws_commands() -> list[tuple[str, str, list[str]]]:
    """Returns the service, the operation and the options of every command of the AWS CLI in the documents."""
    found = []
    for document in DOCUMENTS:
        text = re.sub(r" *\\\n *", " ", document.read_text())
        # A command in the text can continue in its next line.
        code = [*blocks_of(text, "sh"), *(span.replace("\n", " ") for span in re.findall(r"(?<!`)`(aws [^`]+)`", text))]
        for service, operation, rest in re.findall(r"\baws ([a-z0-9]+) ([a-z][a-z-]+)(.*)", "\n".join(code)):
            options = set(re.findall(r" --([a-z][a-z-]+)", re.split(r"\)\"?$| \|", rest)[0]))
            found.append((service, operation, sorted(options - GLOBAL_OPTIONS)))
    return found


@pytest.mark.parametrize(("service", "operation", "options"), aws_commands(), ids=str)
def test_documented_command_of_the_aws_cli_exists_with_its_options(service, operation, options):
    model = botocore.session.get_session().get_service_model(service)
    names = {xform_name(name, "-"): name for name in model.operation_names}
    members = model.operation_model(names[operation]).input_shape.members
    known = {xform_name(member, "-") for member in members}
    assert set(options) <= known | {f"no-{name}" for name in known}


def commands_that_tests_run() -> set[str]:
    """Returns the blocks that a test names, with a document and the first words."""
    found = set()
    for path in (ROOT / "tests/deploy").glob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in (
                "run",
                "block",
            ):
                document, beginning, *_ = [getattr(argument, "value", None) for argument in [*node.args, None, None]]
                if isinstance(document, str) and document.endswith(".md"):
                    found.add(block(document, beginning))
    return found


def test_every_documented_command_is_run_by_a_test_or_listed_with_a_reason():
    commands = commands_that_tests_run()
    assert len(commands) >= 40
    unlisted, listed = [], set()
    for document in DOCUMENTS:
        name = document.relative_to(ROOT).as_posix()
        for code in shell_blocks(document):
            beginnings = {beginning for beginning in NOT_RUN.get(name, {}) if code.startswith(beginning)}
            listed |= {(name, beginning) for beginning in beginnings}
            if code not in commands and not beginnings:
                unlisted.append(f"{name}: {code.splitlines()[0]}")
            assert not (code in commands and beginnings), f"{name}: {beginnings}: a test runs it"
    assert unlisted == []
    assert listed == {(name, beginning) for name, entries in NOT_RUN.items() for beginning in entries}


def test_every_runbook_begins_with_the_check():
    for runbook in sorted((ROOT / "docs/runbooks").glob("*.md")):
        (first, *_) = [code for code in blocks(runbook, "sh") if "check" in code] or [""]
        assert "so-webhook check --stack superoffice-webhook" in first, runbook.name


def test_no_document_sends_an_operator_to_cargo():
    for document in ROOT.glob("docs/**/*.md"):
        commands = [code for code in blocks(document, "sh") if "cargo install" in code or "cargo run" in code]
        assert commands == [], document.name


def test_documents_list_every_parameter():
    names = re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`\w+`(?:, `\w+`)*) \|", DEPLOYMENT.read_text(), re.M)))
    assert set(names) >= PARAMETERS.keys()


def test_documented_deployment_with_cargo_lambda(aws, binary, tmp_path):
    """Creates the role with the documented policy and runs the documented commands, without the build."""
    (environment,) = blocks(DEPLOYMENT, "ini")
    _key_policy, policy = blocks(DEPLOYMENT, "json")
    (tmp_path / "webhook.env").write_text(environment)
    first = block("docs/deployment.md", "cargo lambda build")
    change = block("docs/deployment.md", 'echo "FORWARD_EVENTS')
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
    rotate = block("docs/runbooks/rotate-secret.md", "cargo lambda")
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


def test_files_that_an_operator_writes_are_ignored_by_git():
    """Some of these files contain secrets, and operators may write them in a clone."""
    beginning = r"(?:_FILE=|file://|--env-file |--output-template-file | > |\$\(cat )"
    names = {name for document in DOCUMENTS for name in re.findall(rf"{beginning}([\w.-]+\.\w+)", document.read_text())}
    assert names >= {"secret.txt", "token.txt", "entry.json", "key.pem", "rotation.env", "rotation.yaml"}
    command = ["git", "check-ignore", *sorted(names)]
    ignored = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    assert set(ignored) == names


def test_architecture_shows_every_folder():
    shown, parent = set(), Path()
    for line in blocks(ROOT / "docs/architecture.md", "text")[0].splitlines():
        branch, name = re.match(r"([├└]── )?(\S+)", line).groups()
        path = parent / name if branch else Path(name)
        parent = parent if branch else path
        assert (ROOT / path).exists(), line
        shown.add(path)

    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
    folders = {folder for file in tracked.splitlines() for folder in Path(file).parents if folder.name}
    expected = {folder for folder in folders if len(folder.parts) == 1 and not folder.name.startswith(".")}
    opened = {path.parent for path in shown if path.parent.name}
    assert opened == {Path(name) for name in ("src", "crates", "examples", "tests")}
    expected |= {folder for folder in folders if folder.parent in opened}
    assert {path for path in shown if (ROOT / path).is_dir()} == expected
