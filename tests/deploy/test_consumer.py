"""The example consumers in their own stacks: in Rust on the queue of the webhook's stack, in Python, and in Node."""

import re
import shutil

import pytest
from cloud import Webhook, wait_for
from deliveries import encode, event
from local_aws import Queue, attributes_of
from processes import ROOT
from sam_stack import ARCHITECTURE, SamStack
from signing import SAMPLE_SECRET


@pytest.fixture(scope="module")
def source(aws, template):
    """A stack whose events move to the dead-letter queue after one failure, soon."""
    stack = SamStack(aws, "source", template)
    # No shorter than the consumer's timeout: Lambda would reject the event source mapping.
    stack.deploy(WebhookSecret=SAMPLE_SECRET, Architecture=ARCHITECTURE, MaxReceiveCount="1", VisibilityTimeout="30")
    return Webhook(stack)


@pytest.fixture(scope="module")
def consumer(aws, source, consumer_template):
    stack = SamStack(aws, "consumer", consumer_template)
    return stack.deploy(QueueArn=source.outputs["QueueArn"], WebhookSecret=SAMPLE_SECRET, Architecture=ARCHITECTURE)


def test_failed_event_moves_to_the_dead_letter_queue_and_others_are_processed(source, consumer, aws):
    # A message that nobody signed: the consumer must not process it.
    forged = encode(event(PrimaryKey=1))
    sqs = aws.client("sqs")
    sqs.send_message(
        QueueUrl=source.outputs["QueueUrl"], MessageBody=forged.decode(), MessageGroupId="1", MessageDeduplicationId="1"
    )
    documents = [event(PrimaryKey=key) for key in range(2, 12)]
    for document in documents:
        assert source.outcome(document) == (200, "forwarded")

    def processed() -> set[str]:
        return {line["eventId"] for line in consumer.log_lines() if "action" in line}

    expected = {document["EventId"] for document in documents}
    wait_for(lambda: processed() >= expected)
    assert processed() == expected
    dead = wait_for(lambda: source.queue("DeadLetterQueueUrl").drain())
    assert [message["Body"].encode() for message in dead] == [forged]
    assert source.queue().count == 0


def test_mapping_is_limited_and_fits_the_queue(source, consumer, aws):
    lambda_ = aws.client("lambda")
    (mapping,) = lambda_.list_event_source_mappings(EventSourceArn=source.outputs["QueueArn"])["EventSourceMappings"]
    assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert mapping["ScalingConfig"] == {"MaximumConcurrency": 10}
    function = lambda_.get_function_configuration(FunctionName=consumer.outputs["FunctionName"])
    assert function["Timeout"] == 30


def test_default_visibility_timeout_is_six_times_the_timeout_of_the_consumer(webhook, aws, consumer):
    function = aws.client("lambda").get_function_configuration(FunctionName=consumer.outputs["FunctionName"])
    assert int(webhook.queue().attributes["VisibilityTimeout"]) >= 6 * function["Timeout"]


def test_role_allows_exactly_the_calls_of_an_event_source_mapping(source, consumer, aws):
    iam = aws.client("iam")
    role = consumer.resources["ConsumerFunctionRole"]
    assert iam.list_attached_role_policies(RoleName=role)["AttachedPolicies"] == []
    (name,) = iam.list_role_policies(RoleName=role)["PolicyNames"]
    receive, table, logs = iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"]["Statement"]
    assert set(receive["Action"]) == {"sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"}
    assert receive["Resource"] == source.outputs["QueueArn"]
    assert set(table["Action"]) == {"dynamodb:PutItem", "dynamodb:DeleteItem"}
    assert table["Resource"].endswith(f":table/{consumer.resources['HandledEvents']}")
    assert set(logs["Action"]) == {"logs:CreateLogStream", "logs:PutLogEvents"}


@pytest.mark.parametrize("language", ["python", "node"])
def test_script_handles_a_repeated_message_once(aws, language, tmp_path):
    """The examples with their templates, without `sam build`, which would install their packages."""
    modules = ROOT / "examples/node/node_modules"
    if language == "node" and not (shutil.which("node") and modules.is_dir()):
        pytest.skip("Node and npm are not installed: see `make test`")
    folder = shutil.copytree(ROOT / "examples" / language, tmp_path / language)
    queue = aws.create_queue(f"for-{language}.fifo")
    # No shorter than the consumer's timeout: Lambda would reject the event source mapping.
    queue.client.set_queue_attributes(QueueUrl=queue.url, Attributes={"VisibilityTimeout": "30"})
    stack = SamStack(aws, f"consumer-{language}", folder / "template.yaml")
    stack.deploy(QueueArn=queue.attributes["QueueArn"])
    first, second = event(PrimaryKey=1), event(PrimaryKey=2)
    for number, document in enumerate([first, first, second, first]):
        queue.client.send_message(
            QueueUrl=queue.url,
            MessageBody=encode(document).decode(),
            MessageGroupId="1",
            MessageDeduplicationId=str(number),
        )
    wait_for(lambda: queue.count == 0)
    handled = [line["eventId"] for line in stack.log_lines() if "eventId" in line]
    assert handled == [first["EventId"], second["EventId"]]
    items = aws.client("dynamodb").scan(TableName=stack.resources["HandledEvents"])["Items"]
    assert [item["status"]["S"] for item in items] == ["COMPLETED", "COMPLETED"]


def test_documented_fan_out_copies_each_message_unchanged(aws, tmp_path):
    text = (ROOT / "docs/consumers.md").read_text()
    (resources,) = re.findall(r"^  ```yaml\n(  FanOut:\n.*?)^  ```", text, re.M | re.S)
    head = "Transform: AWS::Serverless-2016-10-31\nParameters: {QueueArn: {Type: String}}\nResources:\n"
    (tmp_path / "template.yaml").write_text(head + resources)
    queue = aws.create_queue("for-fan-out.fifo")
    stack = SamStack(aws, "fan-out", tmp_path / "template.yaml").deploy(QueueArn=queue.attributes["QueueArn"])
    body = encode(event()).decode()
    attributes = {"Event": ("String", "contact.changed"), "PrimaryKey": ("Number", "994863")}
    queue.client.send_message(
        QueueUrl=queue.url,
        MessageBody=body,
        MessageGroupId="Cust12345/contact/994863",
        MessageDeduplicationId="contact.changed/1",
        MessageAttributes={
            name: {"DataType": kind, "StringValue": value} for name, (kind, value) in attributes.items()
        },
    )
    (copy,) = wait_for(Queue(queue.client, stack.resources["OneQueue"]).drain)
    assert copy["Body"] == body
    assert copy["Attributes"]["MessageGroupId"] == "Cust12345/contact/994863"
    assert attributes_of(copy) == {name: value for name, (_, value) in attributes.items()}
    wait_for(lambda: queue.count == 0)
