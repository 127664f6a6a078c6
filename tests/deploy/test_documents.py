"""What the documents tell an operator to type, typed."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from deployment import REGION, ROOT, source_template

sam = pytest.importorskip("samcli.cli.types", reason="SAM needs Python 3.10")

DOCUMENTS = sorted((ROOT / "docs").glob("*.md"))


def blocks(document: Path, language: str) -> list[str]:
    """The document's code blocks in a language, without their indentation."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```", document.read_text(), re.S | re.M)
    return [re.sub(rf"^{indentation}", "", code, flags=re.M) for indentation, code in found]


PARAMETER_FILES = [
    code
    for document in DOCUMENTS
    for code in blocks(document, "yaml")
    if re.match(r"WebhookSecret|TenantSecrets", code)
]


@pytest.mark.parametrize("code", PARAMETER_FILES)
def test_sam_reads_a_documented_file_of_parameters_as_it_is_meant(tmp_path, code):
    (tmp_path / "change.yaml").write_text(code)

    values = sam.CfnParameterOverridesType().convert((f"file://{tmp_path}/change.yaml",), None, None)

    assert values.keys() <= source_template()["Parameters"].keys()
    assert values == dict(re.match(r"(\w+): '(.*)'$", line).groups() for line in code.splitlines())
    if "TenantSecrets" in values:
        assert json.loads(values["TenantSecrets"])


def test_the_documented_deployment_by_cargo_lambda(aws, tmp_path):
    lambda_ = aws.client("lambda")
    trust = {"Version": "2012-10-17", "Statement": []}
    aws.client("iam").create_role(RoleName="superoffice-webhook", AssumeRolePolicyDocument=json.dumps(trust))
    (environment,) = blocks(ROOT / "docs/deploy.md", "ini")
    (tmp_path / "webhook.env").write_text(environment)
    first, change = [code for code in blocks(ROOT / "docs/deploy.md", "sh") if "cargo lambda deploy" in code]

    def run(commands: str) -> dict:
        """Runs them but for the build, which another executable stands for; what is then configured."""
        for command in commands.replace("\\\n", " ").splitlines():
            if command.startswith("cargo lambda build"):
                continue
            if command.startswith("cargo lambda deploy"):
                command += f" --binary-path {shutil.which('true')} --manifest-path {ROOT / 'Cargo.toml'}"
            subprocess.run(
                command,
                shell=True,
                check=True,
                cwd=tmp_path,
                env={
                    **os.environ,
                    "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
                    "AWS_ENDPOINT_URL": aws.url,
                    "AWS_REGION": REGION,
                    "AWS_ACCESS_KEY_ID": "test",
                    "AWS_SECRET_ACCESS_KEY": "test",
                },
            )
        return lambda_.get_function_configuration(FunctionName="superoffice-webhook")

    configuration = run(first)
    variables = dict(line.split("=", 1) for line in environment.splitlines())
    assert configuration["Environment"]["Variables"] == variables
    assert (configuration["MemorySize"], configuration["Timeout"]) == (128, 15)
    assert configuration["TracingConfig"] == {"Mode": "Active"}
    assert configuration["Runtime"] == "provided.al2023"

    change_only = {"FORWARD_EVENTS": "contact.*,person.*"}
    assert run(change)["Environment"]["Variables"] == {**variables, **change_only}

    (rotation,) = blocks(ROOT / "docs/rotate-secret.md", "ini")
    (tmp_path / "rotation.env").write_text(rotation)
    (rotate,) = [code for code in blocks(ROOT / "docs/rotate-secret.md", "sh") if code.startswith("cargo lambda")]
    assert run(rotate)["Environment"]["Variables"] == {
        **variables,
        **change_only,
        "SUPEROFFICE_WEBHOOK_SECRET": shlex.split(rotation.splitlines()[0])[0].split("=", 1)[1],
        "SUPEROFFICE_WEBHOOK_SECRET_PREVIOUS": shlex.split(rotation.splitlines()[1])[0].split("=", 1)[1],
    }

    (tmp_path / "change.env").write_text("SUPEROFFICE_WEBHOOK_SECRET_PREVIOUS=\n")
    assert run(change.splitlines()[1])["Environment"]["Variables"]["SUPEROFFICE_WEBHOOK_SECRET_PREVIOUS"] == ""

    # What the warning says.
    assert run(change.replace("--merge-env", ""))["Environment"]["Variables"] == change_only


def test_the_links_between_the_documents_lead_somewhere():
    for document in DOCUMENTS:
        for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)", document.read_text()):
            linked = document if not target else (document.parent / target).resolve()
            assert linked.exists(), f"{document.name}: {target}"
            if anchor:
                headings = re.findall(r"^#+ (.*)", linked.read_text(), re.M)
                anchors = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
                assert anchor in anchors, f"{document.name}: {target}#{anchor}"
