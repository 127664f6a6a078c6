"""Deploys the template into a local AWS, prints how to use it, and runs until Ctrl-C: `make deploy-local`."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path

from local_aws import TOOLS, LocalAws
from sam_stack import ARCHITECTURE, CONSUMER_TEMPLATE, TEMPLATE, DeployFailed, SamStack, dev_build, sam_build
from signing import SAMPLE_SECRET
from stack import ROOT, Child, StackError

FOLDER = TOOLS / "local-aws"
BUILD = ROOT / ".aws-sam"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dev", action="store_true", help="build without optimization, which is faster")
    parser.add_argument("--consumer", action="store_true", help="deploy examples/consumer as well")
    options = parser.parse_args()
    # Both signals end the program in the same way, and with it the local AWS.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        deploy(options.dev, options.consumer)
    except KeyboardInterrupt:
        print("\nStopped. Nothing of the deployment remains.")
    except (StackError, DeployFailed) as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        Child.close_all()
    return 0


def deploy(dev: bool, with_consumer: bool) -> None:
    started = time.monotonic()
    say(f"Building {'without optimization' if dev else 'as for AWS (a few minutes the first time)'}")
    template = (
        dev_build(TEMPLATE, "superoffice-webhook", BUILD / "dev") if dev else sam_build(TEMPLATE, BUILD / "build")
    )
    consumer = None
    if with_consumer:
        folder = BUILD / ("dev-consumer" if dev else "build-consumer")
        consumer = dev_build(CONSUMER_TEMPLATE, "consumer", folder) if dev else sam_build(CONSUMER_TEMPLATE, folder)
    built = time.monotonic()

    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    with LocalAws(FOLDER) as aws:
        say(f"Deploying with `sam deploy` into MiniStack at {aws.url}")
        stack = SamStack(aws, "superoffice-webhook", template)
        stack.deploy(WebhookSecret=SAMPLE_SECRET, Architecture=ARCHITECTURE)
        stacks = [stack]
        if consumer:
            stacks.append(SamStack(aws, "superoffice-consumer", consumer))
            stacks[1].deploy(QueueArn=stack.outputs["QueueArn"], Architecture=ARCHITECTURE)
        deployed = time.monotonic()
        say(f"Ready: built in {built - started:.0f} s, deployed in {deployed - built:.0f} s\n")
        print_instructions(aws, stack)
        follow(stacks)


def print_instructions(aws: LocalAws, stack: SamStack) -> None:
    outputs = stack.outputs
    variables = FOLDER / "env.sh"
    exports = "".join(f"export {name}='{value}'\n" for name, value in aws.client_environment.items())
    variables.write_text(exports, encoding="utf-8")
    url = outputs["WebhookUrl"]
    event = Path("events/payloads/contact-changed.json")
    print(
        f"""\
Webhook URL        {url}
Secret             {SAMPLE_SECRET}
Events queue       {outputs["QueueUrl"]}
Dead-letter queue  {outputs["DeadLetterQueueUrl"]}
Quarantine queue   {outputs["QuarantineQueueUrl"]}
Function's log     {outputs["LogGroupName"]}
Alarms             {outputs["AlarmsNotify"]}

Check the deployment, from another terminal:

    make smoke URL={url}

Sign an event and post it:

    signature=$(openssl dgst -sha256 -hmac {SAMPLE_SECRET} -binary {event} | base64)
    curl --cacert {FOLDER.relative_to(ROOT)}/ca.pem --data-binary @{event} \\
      -H "X-SuperOffice-Signature: $signature" {url}

Use AWS's tools (aws, sam, boto3) with this AWS:

    . {variables.relative_to(ROOT)}
    aws sqs receive-message --message-attribute-names All --queue-url {outputs["QueueUrl"]}

Ctrl-C ends it. The functions' log:
""",
        flush=True,
    )


def follow(stacks: list[SamStack]) -> None:
    """Prints the log lines of the stacks' functions as they arrive."""
    printed = [0] * len(stacks)
    while True:
        for index, stack in enumerate(stacks):
            lines = stack.log_lines()
            for line in lines[printed[index] :]:
                print(json.dumps({name: value for name, value in line.items() if name != "_aws"}), flush=True)
            printed[index] = len(lines)
        time.sleep(0.5)


def say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    os.chdir(ROOT)
    sys.exit(main())
