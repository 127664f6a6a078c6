"""Deployments with `sam deploy` into a local AWS."""

from __future__ import annotations

import os
import platform
import sys
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from local_aws import LocalAws, run_sam, stripped
from make_dist import binary_of, use_code
from processes import ROOT, StackError, build

TEMPLATE = ROOT / "template.yaml"
CONSUMER_TEMPLATE = ROOT / "examples/consumer/template.yaml"
WATCHDOG_TEMPLATE = ROOT / "watchdog/template.yaml"
MIRROR_TEMPLATE = ROOT / "mirror/template.yaml"
ARCHITECTURE = {"x86_64": "x86_64", "AMD64": "x86_64", "aarch64": "arm64", "arm64": "arm64"}.get(
    platform.machine(), "x86_64"
)


def sam_build(template: Path, folder: Path) -> Path:
    """Builds a template's functions as a user does, optimized, and returns the template that refers to the result."""
    environment = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    arguments = ["build", "--template-file", str(template), "--build-dir", str(folder)]
    if run_sam([*arguments, "--parameter-overrides", f"Architecture={ARCHITECTURE}"], environment).returncode != 0:
        raise StackError(f"sam build failed for {template}")
    return folder / "template.yaml"


def dev_build(template: Path, folder: Path) -> Path:
    """Builds a template's function without optimization, and returns a copy of the template that refers to it."""
    text = template.read_text(encoding="utf-8")
    name = binary_of(text)
    (folder / name).mkdir(parents=True, exist_ok=True)
    stripped(build(name)[0], folder / name / "bootstrap")
    copy = folder / template.name
    copy.write_text(use_code(text, name), encoding="utf-8")
    return copy


class DeployFailed(StackError):
    """`sam deploy` failed. The text is its output."""


@dataclass
class SamStack:
    """A CloudFormation stack that `sam` deploys and deletes."""

    aws: LocalAws
    name: str
    template: Path

    # Additional variables for `sam deploy`.
    environment: dict[str, str] = field(default_factory=dict)

    def deploy(self, **parameters: str) -> SamStack:
        """Creates or updates the stack. Other parameters keep their previous values, or have their defaults."""
        # On the command line, SAM truncates a value at a quotation mark or a space.
        file = self.aws.folder / f"{self.name}.parameters.yaml"
        file.touch(mode=0o600)
        file.write_text(yaml.safe_dump(parameters), encoding="utf-8")
        arguments = ["deploy", "--template-file", str(self.template), "--stack-name", self.name, "--resolve-s3"]
        arguments += ["--capabilities", "CAPABILITY_IAM", "--no-confirm-changeset", "--no-progressbar"]
        arguments += ["--no-fail-on-empty-changeset"]
        if parameters:
            arguments += ["--parameter-overrides", f"file://{file}"]
        result = run_sam(arguments, {**self.aws.client_environment, **self.environment}, capture_output=True)
        if result.returncode != 0:
            raise DeployFailed(result.stdout + result.stderr)
        return self

    def delete(self) -> str:
        """Deletes the stack and returns SAM's output."""
        arguments = ["delete", "--stack-name", self.name, "--no-prompts"]
        result = run_sam(arguments, self.aws.client_environment, capture_output=True)
        if result.returncode != 0:
            raise DeployFailed(result.stdout + result.stderr)
        return result.stdout

    @property
    def description(self) -> dict:
        (stack,) = self.aws.client("cloudformation").describe_stacks(StackName=self.name)["Stacks"]
        return stack

    @property
    def outputs(self) -> dict[str, str]:
        return {output["OutputKey"]: output["OutputValue"] for output in self.description["Outputs"]}

    @property
    def resources(self) -> dict[str, str]:
        """The physical id of each resource, by its name in the template."""
        pages = self.aws.client("cloudformation").get_paginator("list_stack_resources").paginate(StackName=self.name)
        summaries = [summary for page in pages for summary in page["StackResourceSummaries"]]
        return {summary["LogicalResourceId"]: summary["PhysicalResourceId"] for summary in summaries}

    def log_lines(self, output: str = "LogGroupName") -> list[dict]:
        """Returns the JSON lines in the log group that an output names, in order."""
        return self.aws.log_lines(self.outputs[output])
