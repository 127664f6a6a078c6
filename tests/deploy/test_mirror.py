"""The mirror's own stack: deployed by `sam deploy`, fed by the events queue, audited by its schedule."""

import json

import pytest
from cloud import Webhook, changed_role_policy, wait_for
from fake_superoffice import FakeSuperOffice
from local_aws import policy
from mirror_stack import Mirror
from sam_stack import ARCHITECTURE, MIRROR_TEMPLATE, SamStack, dev_build
from signing import SAMPLE_SECRET

ROLE, POLICY = "MirrorFunctionRole", "Mirror"


@pytest.fixture(scope="module")
def source(aws, template) -> Webhook:
    """A webhook whose events are received again soon after a failure."""
    stack = SamStack(aws, "mirrored", template)
    # No shorter than the mirror's timeout: Lambda would reject the event source mapping.
    stack.deploy(WebhookSecret=SAMPLE_SECRET, Architecture=ARCHITECTURE, MaxReceiveCount="1000", VisibilityTimeout="30")
    return Webhook(stack)


@pytest.fixture(scope="module")
def superoffice(aws, source, tmp_path_factory):
    with FakeSuperOffice(tmp_path_factory.mktemp("superoffice"), aws.ca_file, contacts=12) as superoffice:
        superoffice.register(source.outputs["WebhookUrl"])
        yield superoffice


@pytest.fixture(scope="module")
def mirror(aws, source, superoffice, tmp_path_factory) -> Mirror:
    """The stack after its first audit. Further audits are by hand only."""
    stack = SamStack(aws, "mirror", dev_build(MIRROR_TEMPLATE, tmp_path_factory.mktemp("mirror")))
    mirror = Mirror(stack, superoffice).deploy(source.outputs["QueueArn"])
    wait_for(lambda: any("AuditCompleted" in line for line in stack.log_lines()))
    aws.client("events").disable_rule(Name=stack.resources["AuditSchedule"])
    return mirror


def test_first_audit_fills_the_table(mirror, superoffice):
    assert mirror.differences() == []
    rows = mirror.rows()
    assert len(rows) == 12
    assert {frozenset(row) for row in rows.values()} == {
        frozenset({"entity", "id", "data", "version", "changed", "readAt", "stamp"})
    }
    (line,) = [line for line in mirror.stack.log_lines() if "AuditCompleted" in line]
    assert (line["FunctionName"], "AuditDifferences" in line) == (mirror.stack.outputs["FunctionName"], False)


def test_events_reach_the_table(mirror, superoffice):
    changed, deleted, restored, removed, source, destination, *_ = superoffice.documents()
    created = superoffice.create()
    superoffice.change(changed)
    superoffice.soft_delete(deleted)
    superoffice.soft_delete(restored)
    superoffice.delete(removed)
    superoffice.merge(source, destination)
    superoffice.restore(restored)
    wait_for(lambda: mirror.differences() == [])
    rows = mirror.rows()
    assert "stamp" not in rows[created]
    for tombstone in (deleted, removed, source):
        assert rows[tombstone].keys() == {"entity", "id", "version", "changed", "readAt", "deleted", "expires"}


def test_audit_mends_lost_events(mirror, superoffice):
    wait_for(lambda: mirror.differences() == [])
    changed, removed, *_ = superoffice.documents()
    superoffice.change_and_lose_event(changed)
    superoffice.delete_and_lose_event(removed)
    assert len(mirror.differences()) == 2
    sums = mirror.audit()
    assert mirror.differences() == []
    # The change is younger than 15 minutes: its event could still be on its way.
    assert (sums["AuditCompleted"], sums["AuditDifferences"], sums["AuditFailed"]) == (1, 1, 0)


def test_unknown_tenant_is_an_error(mirror, aws):
    function = mirror.stack.outputs["FunctionName"]
    response = aws.client("lambda").invoke(FunctionName=function, Payload=b'{"audit":"Cust999"}')
    assert response["FunctionError"] == "Unhandled"
    assert b"the tenant is not in the list of tenants" in response["Payload"].read()


@pytest.mark.parametrize(("action", "reason"), [("dynamodb:PutItem", "the table denies access")])
def test_event_waits_until_the_role_may_write(mirror, superoffice, aws, action, reason):
    def without_action(document: dict) -> None:
        (statement,) = [statement for statement in document["Statement"] if statement["Sid"] == "Table"]
        statement["Action"].remove(action)

    def reasons() -> set[str]:
        return {reason["reason"] for line in mirror.stack.log_lines() for reason in line.get("reasons", [])}

    with changed_role_policy(aws.client("iam"), mirror.stack.resources[ROLE], POLICY, without_action):
        superoffice.create()
        wait_for(lambda: reason in reasons())
        assert len(mirror.differences()) == 1
    wait_for(lambda: mirror.differences() == [])


def test_alarm_notifies_its_recipients(mirror, aws):
    name = f"{mirror.stack.name}-audit-differences"
    (alarm,) = aws.client("cloudwatch").describe_alarms(AlarmNames=[name])["MetricAlarms"]
    (topic,) = alarm["AlarmActions"]
    pages = aws.create_queue("mirror-pages")
    arn = pages.attributes["QueueArn"]
    sns = {"Effect": "Allow", "Principal": {"Service": "sns.amazonaws.com"}, "Action": "sqs:SendMessage"}
    pages.client.set_queue_attributes(QueueUrl=pages.url, Attributes={"Policy": policy({**sns, "Resource": arn})})
    aws.client("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
    dimensions = [{"Name": "FunctionName", "Value": mirror.stack.outputs["FunctionName"]}]
    datum = {"MetricName": "AuditDifferences", "Dimensions": dimensions, "Value": 1}
    aws.client("cloudwatch").put_metric_data(Namespace="SuperOfficeWebhook", MetricData=[datum])
    # Other alarms have the same topic, and what other tests did can raise them.
    wait_for(lambda: name in [json.loads(json.loads(page["Body"])["Message"])["AlarmName"] for page in pages.drain()])


def test_mapping_is_limited_and_fits_the_queue(mirror, source, aws):
    lambda_ = aws.client("lambda")
    (mapping,) = lambda_.list_event_source_mappings(EventSourceArn=source.outputs["QueueArn"])["EventSourceMappings"]
    assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert mapping["ScalingConfig"] == {"MaximumConcurrency": 5}
    function = lambda_.get_function_configuration(FunctionName=mirror.stack.outputs["FunctionName"])
    default_visibility_timeout = 180
    assert function["Timeout"] * 6 <= default_visibility_timeout


def test_table_remains_when_the_stack_is_deleted(mirror, aws):
    dynamodb, outputs = aws.client("dynamodb"), mirror.stack.outputs
    assert dynamodb.describe_table(TableName=outputs["TableName"])["Table"]["TableArn"] == outputs["TableArn"]
    mirror.stack.delete()
    assert dynamodb.describe_table(TableName=outputs["TableName"])["Table"]["TableStatus"] == "ACTIVE"
