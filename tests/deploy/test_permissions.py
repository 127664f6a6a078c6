"""Permissions of the deployed stack, enforced: each one is needed, and nothing else is allowed.

A test removes one permission and shows what an operator sees then.
"""

import json

import pytest
from botocore.exceptions import ClientError
from cloud import changed_role_policy
from deliveries import event
from local_aws import ACCOUNT, REGION


@pytest.fixture
def role(webhook, aws):
    """The function's role."""
    return webhook.stack.resources["WebhookFunctionRole"]


def without(sid: str):
    """Returns a change that removes a statement of a policy."""

    def change(document: dict) -> None:
        document["Statement"] = [statement for statement in document["Statement"] if statement.get("Sid") != sid]

    return change


def without_queue(arn: str):
    """Returns a change that removes a queue from the permission to send."""

    def change(document: dict) -> None:
        (send,) = [statement for statement in document["Statement"] if statement["Sid"] == "Send"]
        send["Resource"] = [resource for resource in send["Resource"] if resource != arn]

    return change


def allowed_calls(iam, role: str) -> set[tuple[str, str]]:
    """Returns the actions that a role allows, each with a resource."""
    assert iam.list_attached_role_policies(RoleName=role)["AttachedPolicies"] == []
    allowed = set()
    for name in iam.list_role_policies(RoleName=role)["PolicyNames"]:
        for statement in iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"]["Statement"]:
            assert statement["Effect"] == "Allow"
            assert not statement.keys() & {"Condition", "NotAction", "NotResource"}
            allowed |= {
                (action, arn) for action in listed(statement["Action"]) for arn in listed(statement["Resource"])
            }
    return allowed


def test_role_allows_exactly_the_calls_of_the_function(webhook, aws, role):
    events = webhook.outputs["QueueArn"]
    quarantine = webhook.queue("QuarantineQueueUrl").attributes["QueueArn"]
    log = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{webhook.outputs['LogGroupName']}:*"
    assert allowed_calls(aws.client("iam"), role) == {
        ("sqs:SendMessage", events),
        ("sqs:SendMessage", quarantine),
        ("sqs:GetQueueAttributes", events),
        ("logs:CreateLogStream", log),
        ("logs:PutLogEvents", log),
    }


def test_fallback_queue_kms_key_and_tracing_add_exactly_their_calls(webhook, aws, role):
    iam = aws.client("iam")
    fallback = f"arn:aws:sqs:eu-west-1:{ACCOUNT}:fallback.fifo"
    key = aws.client("kms").create_key()["KeyMetadata"]["Arn"]
    before = allowed_calls(iam, role)
    parameters = {
        "FallbackQueueArn": fallback,
        "KmsKeyArn": key,
        "Tracing": "Active",
    }
    try:
        webhook.update(**parameters)
        after = allowed_calls(iam, role)
    finally:
        webhook.update(**{**dict.fromkeys(parameters, ""), "Tracing": "PassThrough"})
    assert after - before == {
        ("sqs:SendMessage", fallback),
        ("kms:GenerateDataKey", key),
        ("kms:Decrypt", key),
        ("xray:PutTraceSegments", "*"),
        ("xray:PutTelemetryRecords", "*"),
    }
    assert before - after == set()
    assert allowed_calls(iam, role) == before


def listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def test_without_permission_to_send_events_return_503(webhook, aws, role):
    document = event()
    with changed_role_policy(aws.client("iam"), role, "Queues", without_queue(webhook.outputs["QueueArn"])):
        response = webhook.post(document)

    assert response.status == 503
    line = webhook.line(document["EventId"])
    assert line["reason"] == "queue: AccessDenied"
    assert line["Failed"] == 1
    assert webhook.outcome(document) == (200, "forwarded")
    assert len(webhook.queue().drain()) == 1


def test_without_permission_to_quarantine_malformed_bodies_return_503(webhook, aws, role):
    arn = webhook.queue("QuarantineQueueUrl").attributes["QueueArn"]
    lines = len(webhook.stack.log_lines())
    with changed_role_policy(aws.client("iam"), role, "Queues", without_queue(arn)):
        assert webhook.post(b"{not json").status == 503
        assert webhook.outcome(event()) == (200, "forwarded")

    (failed,) = [line for line in webhook.stack.log_lines()[lines:] if line["outcome"] == "failed"]
    assert failed["reason"] == "queue: AccessDenied"
    webhook.queue().drain()


def test_without_permission_to_check_the_queue_the_function_still_works(webhook, aws, role):
    with changed_role_policy(aws.client("iam"), role, "Queues", without("CheckAtStart")):
        webhook.update(MessageFormat="cloudevents")  # a new process
        assert webhook.outcome(event()) == (200, "forwarded")
    webhook.update(MessageFormat="superoffice")
    webhook.queue().drain()


def test_invoke_permission_is_for_this_api_and_its_routes(webhook, aws):
    policy = json.loads(aws.client("lambda").get_policy(FunctionName=webhook.outputs["FunctionName"])["Policy"])
    (statement,) = policy["Statement"]
    api = webhook.stack.resources["WebhookApi"]
    assert statement["Principal"] == {"Service": "apigateway.amazonaws.com"}
    assert statement["Action"] == "lambda:InvokeFunction"
    assert statement["Condition"] == {
        "ArnLike": {"AWS:SourceArn": f"arn:aws:execute-api:{REGION}:{ACCOUNT}:{api}/*/POST/webhook*"}
    }


def test_denying_queue_policy_returns_503(webhook, aws):
    sqs = aws.client("sqs")
    url = webhook.outputs["QueueUrl"]
    original = webhook.queue().attributes["Policy"]
    document = json.loads(original)
    deny = {"Sid": "Deny", "Effect": "Deny", "Principal": "*", "Action": "sqs:SendMessage", "Resource": "*"}
    document["Statement"].append(deny)
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": json.dumps(document)})
    try:
        assert webhook.post(event()).status == 503
    finally:
        sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": original})
    assert webhook.outcome(event()) == (200, "forwarded")
    webhook.queue().drain()


@pytest.mark.parametrize("output", ["QueueUrl", "DeadLetterQueueUrl", "QuarantineQueueUrl"])
def test_queue_denies_requests_without_tls(webhook, aws, output):
    url = webhook.outputs[output]
    over_tls = aws.client("sqs")
    without_tls = aws.client("sqs", endpoint_url=aws.insecure_url, verify=None)
    over_tls.get_queue_attributes(QueueUrl=url)
    insecure = url.replace(aws.url, aws.insecure_url)
    for call in (
        lambda: without_tls.receive_message(QueueUrl=insecure),
        lambda: without_tls.send_message(QueueUrl=insecure, MessageBody="x", **fifo_fields(url)),
    ):
        with pytest.raises(ClientError) as denied:
            call()
        assert "AccessDenied" in denied.value.response["Error"]["Code"]


def fifo_fields(url: str) -> dict[str, str]:
    return {"MessageGroupId": "g", "MessageDeduplicationId": "d"} if url.endswith(".fifo") else {}


def test_other_account_consumes_only_as_a_named_principal(webhook, aws):
    other = "210987654321"
    foreign = aws.client("sqs", aws_access_key_id=other)
    url = webhook.outputs["QueueUrl"]
    assert webhook.outcome(event()) == (200, "forwarded")
    with pytest.raises(ClientError):
        foreign.receive_message(QueueUrl=url)

    webhook.update(ConsumerPrincipals=other)
    try:
        (message,) = foreign.receive_message(QueueUrl=url)["Messages"]
        foreign.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        with pytest.raises(ClientError):
            foreign.send_message(QueueUrl=url, MessageBody="forged", **fifo_fields(url))
    finally:
        webhook.update(ConsumerPrincipals="")
    assert webhook.queue().count == 0
