"""Creation, updates, rotation and deletion of a stack with `sam deploy`, under deliveries."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import threading
from pathlib import Path

import https
import pytest
from cloud import Webhook
from deliveries import encode, event
from local_aws import ACCOUNT, REGION, LocalAws
from processes import ROOT
from sam_stack import ARCHITECTURE, DeployFailed, SamStack
from signing import SAMPLE_SECRET, sign

NEW_SECRET = "a new secret, made with openssl"
PREVIOUS_SECRET = "the previous secret"
TENANT_SECRET = "another 'secret', with spaces"
MASTER_SECRET = "master-secret-of-at-least-32-bytes"


@pytest.fixture(scope="module")
def changed(aws: LocalAws, template: Path) -> Webhook:
    """A second stack, with a value for every parameter that can have one here. The last test deletes it."""
    stack = SamStack(aws, "changed", template)
    stack.deploy(
        WebhookSecret=SAMPLE_SECRET,
        WebhookSecretPrevious=PREVIOUS_SECRET,
        TenantSecrets=json.dumps({"Cust77": ["a secret of Cust77", TENANT_SECRET]}),
        MasterSecret=MASTER_SECRET,
        ForwardEvents="contact.*, person.created",
        MessageFormat="cloudevents",
        Architecture=ARCHITECTURE,
        AlarmEmail="operations@example.com",
        AlarmTopicArn=f"arn:aws:sns:{REGION}:{ACCOUNT}:pages",
        SilenceHours="72",
        Tracing="Active",
        VisibilityTimeout="360",
        MaxReceiveCount="7",
        ConsumerPrincipals="210987654321",
        LogRetentionDays="365",
    )
    return Webhook(stack)


def test_every_parameter_has_its_effect(changed):
    assert changed.outcome(event(PrimaryKey=1), secret=PREVIOUS_SECRET) == (200, "forwarded")
    of_tenant = event(PrimaryKey=2, ContextIdentifier="Cust77")
    assert changed.outcome(of_tenant)[0] == 401
    assert changed.outcome(of_tenant, secret=TENANT_SECRET) == (200, "forwarded")
    assert changed.outcome(event(PrimaryKey=3, Event="person.created")) == (200, "forwarded")
    assert changed.outcome(event(PrimaryKey=4, Event="person.changed")) == (200, "ignored")
    derived = derived_secret(MASTER_SECRET, "Cust99")
    of_derived = event(PrimaryKey=5, ContextIdentifier="Cust99")
    assert changed.outcome(of_derived, secret=derived, path="/Cust99") == (200, "forwarded")
    assert changed.outcome(of_derived, secret=SAMPLE_SECRET, path="/Cust99")[0] == 401
    assert changed.outcome(of_derived, secret=derived, path="/Cust98")[0] == 401
    assert changed.outcome(of_derived, secret=derived)[0] == 401

    messages = [json.loads(message["Body"]) for message in changed.queue().drain()]
    assert [message["subject"] for message in messages] == ["contact/1", "contact/2", "contact/3", "contact/5"]
    attributes = changed.queue().attributes
    assert attributes["VisibilityTimeout"] == "360"
    assert int(json.loads(attributes["RedrivePolicy"])["maxReceiveCount"]) == 7
    assert changed.outputs["AlarmsNotify"] == f"arn:aws:sns:{REGION}:{ACCOUNT}:pages and operations@example.com"
    logs = changed.stack.aws.client("logs")
    (group,) = logs.describe_log_groups(logGroupNamePrefix=changed.outputs["LogGroupName"])["logGroups"]
    assert group["retentionInDays"] == 365
    own_topic = changed.outputs["AlarmTopics"].split(",")[0]
    subscriptions = changed.stack.aws.client("sns").list_subscriptions_by_topic(TopicArn=own_topic)["Subscriptions"]
    assert [(subscription["Protocol"], subscription["Endpoint"]) for subscription in subscriptions] == [
        ("email", "operations@example.com")
    ]


def derived_secret(master: str, tenant: str) -> str:
    """The secret of a tenant that a master secret derives."""
    message = f"superoffice-webhook/tenant/v1/{tenant.lower()}"
    return base64.b64encode(hmac.new(master.encode(), message.encode(), hashlib.sha256).digest()).decode()


def test_two_tenants_reject_each_others_signatures(changed):
    secrets = {tenant: derived_secret(MASTER_SECRET, tenant) for tenant in ("Cust101", "Cust102")}
    for tenant, secret in secrets.items():
        # SuperOffice posts this probe when the tenant's webhook is registered.
        probe = event(Event="test", Entity="test", PrimaryKey=0, ContextIdentifier="Default")
        assert changed.outcome(probe, secret=secret, path=f"/{tenant}") == (200, "test")
        assert changed.outcome(event(ContextIdentifier=tenant), secret=secret, path=f"/{tenant}") == (200, "forwarded")
    for own, other in [("Cust101", "Cust102"), ("Cust102", "Cust101")]:
        for path, named, signed_by in [(own, own, other), (own, other, other), (own, other, own)]:
            response = changed.post(event(ContextIdentifier=named), secret=secrets[signed_by], path=f"/{path}")
            assert response.status == 401, (path, named, signed_by)

    sources = {json.loads(message["Body"])["source"] for message in changed.queue().drain()}
    assert sources == {"urn:superoffice:Cust101", "urn:superoffice:Cust102"}


def test_new_queue_type_keeps_the_old_queues_with_their_messages(changed):
    assert changed.outcome(event()) == (200, "forwarded")
    fifo = changed.queue()

    changed.update(QueueType="standard")

    assert changed.outcome(event()) == (200, "forwarded")
    (message,) = changed.queue().drain()
    assert message["Attributes"]["MessageGroupId"] == "Cust12345"
    assert "FifoQueue" not in changed.queue("DeadLetterQueueUrl").attributes
    assert fifo.url.endswith(".fifo")
    assert len(fifo.drain()) == 1


def test_deleted_stack_leaves_its_queues_and_messages(changed, aws):
    body = encode(event())
    assert changed.outcome(body) == (200, "forwarded")
    assert changed.outcome(b"{not json") == (200, "quarantined")
    queues = [changed.queue(output) for output in ("QueueUrl", "QuarantineQueueUrl", "DeadLetterQueueUrl")]
    outputs = changed.outputs

    changed.stack.delete()

    lambda_ = aws.client("lambda")
    with pytest.raises(lambda_.exceptions.ResourceNotFoundException):
        lambda_.get_function(FunctionName=outputs["FunctionName"])
    assert https.post(outputs["WebhookUrl"], body, sign(body)).status == 404
    assert [queue.count for queue in queues] == [1, 1, 0]
    assert json.loads(queues[0].drain()[0]["Body"])["data"] == json.loads(body)
    # The queues that remain are still closed to requests without TLS.
    assert all("aws:SecureTransport" in queue.attributes["Policy"] for queue in queues)


IMPOSSIBLE_RESOURCE = """
  Handle:
    Type: AWS::CloudFormation::WaitConditionHandle
  NobodySignals:
    Type: AWS::CloudFormation::WaitCondition
    DependsOn: [EventQueue, DeadLetterQueue, QuarantineQueue, WebhookFunction]
    Properties: {Handle: !Ref Handle, Timeout: '1'}

Outputs:
"""


def test_stack_that_cannot_be_created_leaves_no_queue(aws, template, tmp_path):
    def queues() -> set[str]:
        return set(aws.client("sqs").list_queues().get("QueueUrls", []))

    # A resource that fails after the queues were created.
    (tmp_path / "template.yaml").write_text(template.read_text().replace("\nOutputs:\n", IMPOSSIBLE_RESOURCE))
    (tmp_path / "superoffice-webhook").symlink_to(template.parent / "superoffice-webhook")
    before = queues()
    with pytest.raises(DeployFailed):
        SamStack(aws, "impossible", tmp_path / "template.yaml").deploy(WebhookSecret=SAMPLE_SECRET)
    assert aws.client("cloudformation").describe_stacks(StackName="impossible")["Stacks"][0]["StackStatus"] in (
        "ROLLBACK_COMPLETE",
        "ROLLBACK_FAILED",
    )
    assert queues() == before


def test_update_with_an_invalid_value_changes_nothing(webhook):
    before = webhook.stack.description.get("LastUpdatedTime")

    with pytest.raises(DeployFailed) as failure:
        webhook.stack.deploy(ForwardEvents="*.created")

    assert "Parameter 'ForwardEvents' must be event names separated by commas" in str(failure.value)
    assert webhook.stack.description.get("LastUpdatedTime") == before
    assert webhook.outcome(event()) == (200, "forwarded")
    webhook.queue().drain()


def test_secret_comes_from_secrets_manager(webhook, aws):
    document = json.dumps({"current": NEW_SECRET})
    aws.client("secretsmanager").create_secret(Name="superoffice-webhook", SecretString=document)
    automation = (ROOT / "docs/automation.md").read_text()
    (reference,) = re.findall(r"^WebhookSecret: '(.*)'$", automation, re.M)
    webhook.update(WebhookSecret=reference)
    try:
        assert webhook.outcome(event(), secret=NEW_SECRET) == (200, "forwarded")
        assert webhook.outcome(event(), secret=SAMPLE_SECRET)[0] == 401
    finally:
        webhook.update(WebhookSecret=SAMPLE_SECRET)
        webhook.queue().drain()


class Sender(threading.Thread):
    """Posts signed events, one after the other, until it is stopped. Collects the statuses."""

    def __init__(self, webhook: Webhook, secret: str) -> None:
        super().__init__(daemon=True)
        self.secret = secret
        self.statuses: list[int] = []
        self._url = webhook.outputs["WebhookUrl"]
        self._stopped = threading.Event()

    def run(self) -> None:
        while not self._stopped.wait(0.05):
            body = encode(event())
            self.statuses.append(https.post(self._url, body, sign(body, self.secret)).status)

    def __enter__(self) -> Sender:
        self.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stopped.set()
        self.join()


def test_secret_is_rotated_by_parameters_alone_without_a_rejected_delivery(webhook):
    webhook.queue().drain()
    lines = len(webhook.stack.log_lines())

    with Sender(webhook, SAMPLE_SECRET) as sender:
        webhook.stack.deploy(WebhookSecret=NEW_SECRET, WebhookSecretPrevious=SAMPLE_SECRET)
        # Now SuperOffice gets the new secret.
        assert webhook.outcome(event(), secret=NEW_SECRET) == (200, "forwarded")
        sender.secret = NEW_SECRET
        webhook.stack.deploy(WebhookSecretPrevious="")

    try:
        assert set(sender.statuses) == {200}
        assert len(sender.statuses) > 20
        assert webhook.outcome(event(), secret=NEW_SECRET) == (200, "forwarded")
        assert webhook.outcome(event(), secret=SAMPLE_SECRET)[0] == 401
        secrets = [line["secret"] for line in webhook.stack.log_lines()[lines:] if "secret" in line]
        assert set(secrets) == {"current", "previous"}
        assert len(webhook.queue().drain()) == len(secrets) == len(sender.statuses) + 2
    finally:
        webhook.update(WebhookSecret=SAMPLE_SECRET)
        webhook.queue().drain()
