"""Shows the recovery of missed events in a local AWS: `make outage`.

Deploys the function and the watchdog with `sam deploy`, and lets a fake SuperOffice post to them. During each kind of
outage, contacts are created, changed, deleted and merged, until SuperOffice disables the webhook. After the outage, the
watchdog runs twice. A table shows what was missed and what has arrived. Exits with an error if a change did not arrive,
or if anything else was signaled.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass

from fake_superoffice import PASSWORD, USER, FakeSuperOffice
from local import local_aws, say
from local_aws import LocalAws, Queue
from processes import ROOT, StackError
from sam_stack import ARCHITECTURE, TEMPLATE, WATCHDOG_TEMPLATE, SamStack, dev_build
from signing import SAMPLE_SECRET

from watchdog import run

BUILD = ROOT / ".aws-sam"
# The watchdog leaves the changes of the last two minutes to its next run. Instead of waiting, the clock of SuperOffice
# is behind by five minutes, so that every change is old enough.
SLOW_CLOCK = 300


class Lost(StackError):
    """A change did not arrive, or something else was sent."""


@dataclass
class Scene:
    """The stacks, and SuperOffice."""

    aws: LocalAws
    webhook: SamStack
    watchdog: SamStack
    superoffice: FakeSuperOffice

    # --- Outages ----------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def queue_removed(self) -> Iterator[None]:
        """The events queue does not exist: the function responds with 503."""
        sqs, url = self.aws.client("sqs"), self.webhook.outputs["QueueUrl"]
        attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
        read_only = ("QueueArn", "CreatedTimestamp", "LastModifiedTimestamp")
        settings = {
            name: value
            for name, value in attributes.items()
            if name not in read_only and not name.startswith("ApproximateNumberOf")
        }
        sqs.delete_queue(QueueUrl=url)
        yield
        sqs.create_queue(QueueName=url.rpartition("/")[2], Attributes=settings)

    @contextlib.contextmanager
    def permission_lost(self) -> Iterator[None]:
        """The function may not send to the queue: it responds with 503."""
        iam, role = self.aws.client("iam"), self.webhook.resources["WebhookFunctionRole"]
        policies = {
            name: iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"]
            for name in iam.list_role_policies(RoleName=role)["PolicyNames"]
        }
        ((policy, document),) = [
            (name, document)
            for name, document in policies.items()
            if any(statement.get("Sid") == "Send" for statement in document["Statement"])
        ]
        reduced = {**document, "Statement": [part for part in document["Statement"] if part.get("Sid") != "Send"]}
        iam.put_role_policy(RoleName=role, PolicyName=policy, PolicyDocument=json.dumps(reduced))
        yield
        iam.put_role_policy(RoleName=role, PolicyName=policy, PolicyDocument=json.dumps(document))

    @contextlib.contextmanager
    def endpoint_unreachable(self) -> Iterator[None]:
        """SuperOffice reaches no host."""
        self.superoffice.set_network(up=False)
        yield
        self.superoffice.set_network(up=True)

    # --- Runs -------------------------------------------------------------------------------------------------------

    def deploy_watchdog(self) -> None:
        self.watchdog.deploy(
            Architecture=ARCHITECTURE,
            SuperOfficeUrl=self.superoffice.url,
            User=USER,
            Password=PASSWORD,
            WebhookUrl=self.webhook.outputs["WebhookUrl"],
            LogGroupName=self.webhook.outputs["LogGroupName"],
            Mode="act",
        )

    def run_watchdog(self) -> dict:
        completed, report = run(self.watchdog)
        if not completed or report["tenantsFailed"]:
            raise Lost(f"the watchdog failed: {report}")
        self.superoffice.wait_until_idle()
        return report

    def events(self) -> list[tuple[str, int]]:
        """Receives and deletes the events in the queue."""
        messages = Queue(self.aws.client("sqs"), self.webhook.outputs["QueueUrl"]).drain()
        bodies = [json.loads(message["Body"]) for message in messages]
        return [(body["Event"], body["PrimaryKey"]) for body in bodies]


def main() -> None:
    say("Building function, watchdog, so-webhook and fake SuperOffice, without optimization")
    template = dev_build(TEMPLATE, BUILD / "dev")
    watchdog_template = dev_build(WATCHDOG_TEMPLATE, BUILD / "dev-watchdog")
    with local_aws("outage") as aws, FakeSuperOffice(aws.folder, aws.ca_file, SLOW_CLOCK) as superoffice:
        say("Deploying the function and the watchdog, and registering the webhook")
        webhook = SamStack(aws, "superoffice-webhook", template)
        webhook.deploy(WebhookSecret=SAMPLE_SECRET, Architecture=ARCHITECTURE)
        superoffice.register(webhook.outputs["WebhookUrl"])
        scene = Scene(aws, webhook, SamStack(aws, "superoffice-watchdog", watchdog_template), superoffice)
        scene.deploy_watchdog()
        disabling_outage(scene, scene.queue_removed)
        single_losses(scene)
        for outage in (scene.permission_lost, scene.endpoint_unreachable):
            # The watchdog reactivates a webhook once an hour. A new one does not know of the last time.
            scene.watchdog.delete()
            scene.deploy_watchdog()
            disabling_outage(scene, outage)
        say("\nEvery change has arrived, and nothing else was signaled.")


def disabling_outage(scene: Scene, outage) -> None:
    superoffice = scene.superoffice
    changed, deleted, source, destination, unchanged = (superoffice.create() for _ in range(5))
    superoffice.wait_until_idle()
    # Changes have whole seconds: the following ones are in another.
    time.sleep(1.1)
    scene.events()
    signals = superoffice.state["signals"]
    expected = {changed: "changed", deleted: "soft-deleted", source: "merged away", destination: "merged into"}
    with outage():
        expected[superoffice.create()] = "created"
        superoffice.change(changed)
        superoffice.soft_delete(deleted)
        superoffice.merge(source, destination)
        superoffice.wait_until_idle()
        while superoffice.webhook_state == "Active":
            expected[superoffice.create()] = "created"
            superoffice.wait_until_idle()
        during = scene.events() if outage != scene.queue_removed else []
    title = f"{outage.__name__.replace('_', ' ')}: {outage.__doc__}"
    finish(scene, title, expected, unchanged, during, signals)


def single_losses(scene: Scene) -> None:
    """Loses single events while the webhook stays active."""
    superoffice = scene.superoffice
    contacts = [superoffice.create() for _ in range(4)]
    superoffice.wait_until_idle()
    time.sleep(1.1)
    scene.events()
    signals = superoffice.state["signals"]
    for contact in contacts[:3]:
        superoffice.change_and_lose_event(contact)
    title = "single events lost: SuperOffice sends them nowhere, and the webhook stays active"
    finish(scene, title, dict.fromkeys(contacts[:3], "changed"), contacts[3], [], signals)


def finish(scene: Scene, title: str, expected: dict[int, str], unchanged: int, during: list, signals: int) -> None:
    """Runs the watchdog twice, prints the table and checks it."""
    state = scene.superoffice.webhook_state
    reports = [scene.run_watchdog(), scene.run_watchdog()]
    arrived = scene.events()
    say(f"\n{title}")
    say(f"  webhook before: {state}, after: {scene.superoffice.webhook_state}")
    for number, report in enumerate(reports, 1):
        counts = ", ".join(f"{name} {report[name]}" for name in ("reactivated", "changed", "missed", "resynced"))
        say(f"  run {number} of the watchdog: {counts}")
    row = "  {:>8}  {:<13}  {:<16}  {}".format
    say(row("contact", "change", "during outage", "after two runs"))
    problems = []
    for contact, change in [*expected.items(), (unchanged, "unchanged")]:
        before = [event for event, key in during if key == contact]
        after = [event for event, key in arrived if key == contact]
        say(row(contact, change, ", ".join(before) or "-", ", ".join(after) or "-"))
        if after != ([] if contact == unchanged else ["contact.resync"]):
            problems.append(f"contact {contact} ({change}): {after}")
    if scene.superoffice.webhook_state != "Active":
        problems.append(f"the webhook is {scene.superoffice.webhook_state}")
    sent = scene.superoffice.state["signals"] - signals
    if sent != len(expected):
        problems.append(f"{sent} signals for {len(expected)} contacts")
    if reports[1]["missed"]:
        problems.append(f"{reports[1]['missed']} contacts are still missed")
    if problems:
        raise Lost("\n".join(["", *problems]))
