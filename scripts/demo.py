"""Shows in a local AWS that the mirror's table equals SuperOffice, whatever was lost: `make demo`.

Deploys function, mirror and watchdog with `sam deploy`, beside a fake SuperOffice. An audit fills the empty table.
During each outage, contacts are created, changed, merged and deleted. Then the watchdog recovers events, and an audit
mends the rows whose events cannot be recovered. At each step, the table is compared with SuperOffice, field by field.
Exits with an error if a field differs after an audit.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from fake_superoffice import PASSWORD, USER, FakeSuperOffice
from local import local_aws, say
from local_aws import LocalAws, Queue
from mirror_stack import Mirror
from processes import StackError, build
from sam_stack import ARCHITECTURE, MIRROR_TEMPLATE, TEMPLATE, WATCHDOG_TEMPLATE, SamStack, dev_build
from signing import SAMPLE_SECRET

import watchdog

PROGRAMS = ("superoffice-webhook", "mirror", "watchdog", "so-webhook", "fake-superoffice")
# The number of contacts, and of persons if they are shown.
COUNT = 300
ENTITIES = ("contact", "person")
# The watchdog leaves the changes of the last two minutes to its next run. Instead of waiting, the clock of SuperOffice
# is behind by five minutes, so that every change is old enough.
SLOW_CLOCK = 300
# The width of a column of the output.
WIDTH = 22
# Seconds. A busy machine may compile at the same time.
TIMEOUT = 120


class Different(StackError):
    """The table differs from SuperOffice after an audit."""


@dataclass(frozen=True)
class Templates:
    """The templates of the three stacks, with their functions."""

    webhook: Path
    mirror: Path
    watchdog: Path

    @classmethod
    def build(cls, folder: Path) -> Templates:
        names = {"webhook": TEMPLATE, "mirror": MIRROR_TEMPLATE, "watchdog": WATCHDOG_TEMPLATE}
        return cls(**{name: dev_build(path, folder / name) for name, path in names.items()})


@dataclass
class Scene:
    """The stacks, and SuperOffice."""

    aws: LocalAws
    webhook: SamStack
    mirror: Mirror
    watchdog: SamStack
    superoffice: FakeSuperOffice

    # --- Outages ----------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def without_queue(self) -> Iterator[None]:
        """Removes the events queue for the duration of the block."""
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
    def without_permission(self) -> Iterator[None]:
        """Removes the function's permission to send for the duration of the block."""
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
    def without_network(self) -> Iterator[None]:
        """Lets no delivery reach its host for the duration of the block."""
        self.superoffice.set_network(up=False)
        yield
        self.superoffice.set_network(up=True)

    # --- Changes in SuperOffice -------------------------------------------------------------------------------------

    def change_everything(self, times: int) -> None:
        """Creates, changes, soft-deletes, deletes and merges contacts. Every delivery fails."""
        superoffice = self.superoffice
        for entity in self.mirror.entities:
            keys = iter(superoffice.documents(entity))
            for _ in range(times):
                superoffice.create(entity)
                superoffice.change(next(keys), entity)
                superoffice.soft_delete(next(keys), entity)
                superoffice.delete(next(keys), entity)
                superoffice.merge(next(keys), next(keys), entity)
        superoffice.wait_until_idle()
        if superoffice.webhook_state != "TooManyErrors":
            raise StackError(f"the webhook is {superoffice.webhook_state} during an outage")

    def lose_events(self, times: int) -> None:
        """Changes and deletes contacts whose events SuperOffice does not send."""
        for entity in self.mirror.entities:
            keys = iter(self.superoffice.documents(entity))
            for _ in range(times):
                self.superoffice.change_and_lose_event(next(keys), entity)
                self.superoffice.delete_and_lose_event(next(keys), entity)

    # --- Recovery ---------------------------------------------------------------------------------------------------

    def recover_events(self) -> None:
        """Runs the watchdog, and waits until the mirror has handled the events."""
        # Nobody waits for an hour, which separates two reactivations.
        watchdog.forget(self.watchdog)
        completed, report = watchdog.run(self.watchdog)
        if not completed or report["tenantsFailed"]:
            raise StackError(f"the watchdog failed: {report}")
        self.superoffice.wait_until_idle()
        queue = Queue(self.aws.client("sqs"), self.webhook.outputs["QueueUrl"])
        wait_for(lambda: queue.count == 0, "the queue does not become empty")

    # --- The result -------------------------------------------------------------------------------------------------

    def compare(self) -> list[str]:
        """Compares the table with SuperOffice, and prints a cell. Returns a line for each contact that differs."""
        differences = self.mirror.differences()
        counts = [f"{len(self.superoffice.documents(entity))} {entity}s" for entity in self.mirror.entities]
        cell(f"{len(differences)} differ" if differences else f"table = SuperOffice: {', '.join(counts)}")
        return differences

    def audit_and_compare(self, is_due: bool = False) -> None:
        """Runs an audit, and ends the line. No difference may remain."""
        self.mirror.audit(is_due)
        differences = self.compare()
        say("")
        if differences:
            raise Different("\n".join(["", *differences]))


def cell(*texts: str) -> None:
    """Prints cells of a line."""
    print("".join(text.ljust(WIDTH) for text in texts), end="", flush=True)


def wait_for(condition: Callable[[], bool], problem: str) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        if time.monotonic() > deadline:
            raise StackError(problem)
        time.sleep(0.1)


def main(persons: bool) -> None:
    say("Building function, mirror, watchdog, so-webhook and fake SuperOffice (some minutes the first time)")
    build(*PROGRAMS)
    with local_aws("demo") as aws:
        demonstrate(aws, Templates.build(aws.folder), COUNT, ENTITIES if persons else ENTITIES[:1])


def demonstrate(aws: LocalAws, templates: Templates, count: int, entities: tuple[str, ...]) -> None:
    """Fills the table, and compares it during and after outages. Each outage concerns a tenth of each entity."""
    started, times = time.monotonic(), count // 60
    counts = {f"{entity}s": count for entity in entities}
    with FakeSuperOffice(aws.folder, aws.ca_file, SLOW_CLOCK, **counts) as superoffice:
        say("Deploying function, mirror and watchdog with `sam deploy`")
        # A message that fails is received again after 30 s.
        webhook = SamStack(aws, "demo-webhook", templates.webhook).deploy(
            WebhookSecret=SAMPLE_SECRET,
            Architecture=ARCHITECTURE,
            ForwardEvents=",".join(f"{entity}.*" for entity in entities),
            MaxReceiveCount="1000",
            VisibilityTimeout="30",
        )
        superoffice.register(webhook.outputs["WebhookUrl"], "--events", ",".join(entities))
        mirror = Mirror(SamStack(aws, "demo-mirror", templates.mirror), superoffice, entities)
        mirror.deploy(webhook.outputs["QueueArn"])
        watching = SamStack(aws, "demo-watchdog", templates.watchdog).deploy(
            Architecture=ARCHITECTURE,
            SuperOfficeUrl=superoffice.url,
            User=USER,
            Password=PASSWORD,
            WebhookUrl=webhook.outputs["WebhookUrl"],
            LogGroupName=webhook.outputs["LogGroupName"],
            SyncEntities=",".join(entities),
            Mode="act",
        )
        # Scheduled runs would take part at any time.
        for stack, schedule in ((mirror.stack, "AuditSchedule"), (watching, "WatchdogSchedule")):
            aws.client("events").disable_rule(Name=stack.resources[schedule])
        scene = Scene(aws, webhook, mirror, watching, superoffice)

        say("")
        cell("", "during the outage", "after the watchdog")
        say("after an audit")
        cell("empty table")
        scene.compare()
        cell("")
        scene.audit_and_compare(is_due=True)
        for title, outage, change in (
            ("queue removed", scene.without_queue, scene.change_everything),
            ("permission lost", scene.without_permission, scene.change_everything),
            ("endpoint unreachable", scene.without_network, scene.change_everything),
            ("single events lost", nullcontext, scene.lose_events),
        ):
            cell(title)
            with outage():
                change(times)
                scene.compare()
            scene.recover_events()
            scene.compare()
            scene.audit_and_compare()
        say(f"\nEvery field is equal. The demonstration took {time.monotonic() - started:.0f} s.")
