"""Deploys the template into a local AWS, prints how to use it, and runs until Ctrl-C: `make deploy-local`."""

from __future__ import annotations

import json
import time
from pathlib import Path

from local import local_aws, say
from local_aws import LocalAws
from processes import ROOT
from sam_stack import ARCHITECTURE, CONSUMER_TEMPLATE, TEMPLATE, SamStack, dev_build, sam_build
from signing import SAMPLE_SECRET

BUILD = ROOT / ".aws-sam"


def main(dev: bool, consumer: bool) -> None:
    started = time.monotonic()
    say(f"Building {'without optimization' if dev else 'as for AWS (a few minutes the first time)'}")
    build, prefix = (dev_build, "dev") if dev else (sam_build, "build")
    template = build(TEMPLATE, BUILD / prefix)
    consumer_template = build(CONSUMER_TEMPLATE, BUILD / f"{prefix}-consumer") if consumer else None
    built = time.monotonic()
    with local_aws("deployment") as aws:
        say(f"Deploying with `sam deploy` into {aws.url}")
        stack = SamStack(aws, "superoffice-webhook", template)
        stack.deploy(WebhookSecret=SAMPLE_SECRET, Architecture=ARCHITECTURE)
        stacks = [stack]
        if consumer_template:
            stacks.append(SamStack(aws, "superoffice-consumer", consumer_template))
            stacks[1].deploy(QueueArn=stack.outputs["QueueArn"], Architecture=ARCHITECTURE)
        deployed = time.monotonic()
        say(f"Ready: built in {built - started:.0f} s, deployed in {deployed - built:.0f} s\n")
        print_instructions(aws, stack)
        follow(stacks)


def print_instructions(aws: LocalAws, stack: SamStack) -> None:
    outputs = stack.outputs
    variables = aws.folder / "env.sh"
    environment = {**aws.client_environment, "SSL_CERT_FILE": str(aws.ca_file)}
    exports = "".join(f"export {name}='{value}'\n" for name, value in environment.items())
    variables.write_text(exports, encoding="utf-8")
    url = outputs["WebhookUrl"]
    event = Path("events/payloads/contact-changed.json")
    say(
        f"""\
Webhook URL        {url}
Secret             {SAMPLE_SECRET}
Events queue       {outputs["QueueUrl"]}
Dead-letter queue  {outputs["DeadLetterQueueUrl"]}
Quarantine queue   {outputs["QuarantineQueueUrl"]}
Function's log     {outputs["LogGroupName"]}
Alarms             {outputs["AlarmsNotify"]}

Check the deployment, from another terminal:

    . {variables.relative_to(ROOT)}
    SUPEROFFICE_WEBHOOK_SECRET={SAMPLE_SECRET} cargo run --package so-webhook -- check {url}

Sign an event and post it:

    signature=$(openssl dgst -sha256 -hmac {SAMPLE_SECRET} -binary {event} | base64)
    curl --cacert {aws.ca_file.relative_to(ROOT)} --data-binary @{event} \\
      -H "X-SuperOffice-Signature: $signature" {url}

Use AWS's tools (aws, sam, boto3) with this AWS:

    aws sqs receive-message --message-attribute-names All --queue-url {outputs["QueueUrl"]}

Ctrl-C ends it. The functions' log:
"""
    )


def follow(stacks: list[SamStack]) -> None:
    """Prints the log lines of the stacks' functions as they arrive."""
    printed = [0] * len(stacks)
    while True:
        for index, stack in enumerate(stacks):
            lines = stack.log_lines()
            for line in lines[printed[index] :]:
                say(json.dumps({name: value for name, value in line.items() if name != "_aws"}))
            printed[index] = len(lines)
        time.sleep(0.5)
