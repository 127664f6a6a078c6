"""The template, deployed: deliveries through the function with its deployed environment into the deployed queues."""

import json
import time

import pytest
from deployment import ACCOUNT, SECRET, DeployedQueue, delivery, deploy, event_body

FOURTEEN_DAYS = str(14 * 24 * 60 * 60)


@pytest.fixture(params=["fifo", "standard"])
def queue_type(request):
    return request.param


def outcome(answer) -> tuple:
    """Status and outcome of what the function answered through the HTTP API."""
    assert answer.kind == "response", answer
    return answer.json["statusCode"], json.loads(answer.json["body"]).get("outcome")


def test_a_delivery_arrives_in_the_queue_byte_for_byte(aws, template, binary, queue_type):
    stack = deploy(aws, template, QueueType=queue_type)
    body = event_body("contact.changed", 994863)

    with stack.function(binary) as function:
        assert outcome(function.invoke(delivery(body))) == (200, "forwarded")

    (message,) = stack.queue("QueueUrl").receive()
    assert message["Body"].encode() == body
    assert message["MessageAttributes"]["EventId"]["StringValue"] == json.loads(body)["EventId"]
    group = message["Attributes"].get("MessageGroupId")
    assert group == ("Cust1234/contact/994863" if queue_type == "fifo" else None)


def test_a_retried_delivery_is_queued_once_in_a_fifo_queue(aws, template, binary, queue_type):
    stack = deploy(aws, template, QueueType=queue_type)
    request = delivery(event_body())

    with stack.function(binary) as function:
        assert [outcome(function.invoke(request)) for _ in range(2)] == [(200, "forwarded")] * 2

    assert stack.queue("QueueUrl").attributes["ApproximateNumberOfMessages"] == ("1" if queue_type == "fifo" else "2")


def test_what_is_not_to_be_forwarded_is_answered_and_not_queued(aws, template, binary, queue_type):
    stack = deploy(aws, template, QueueType=queue_type)

    with stack.function(binary) as function:
        assert outcome(function.invoke(delivery(event_body("test", 0)))) == (200, "test")
        assert outcome(function.invoke(delivery(event_body("sale.changed", 7)))) == (200, "ignored")
        assert outcome(function.invoke(delivery(event_body(), secret="of-somebody-else")))[0] == 401

    assert stack.queue("QueueUrl").receive() == []
    assert stack.queue("QuarantineQueueUrl").receive() == []


def test_a_signed_body_that_is_not_understood_waits_in_the_quarantine_queue(aws, template, binary, queue_type):
    stack = deploy(aws, template, QueueType=queue_type)

    with stack.function(binary) as function:
        assert outcome(function.invoke(delivery(b"{not json"))) == (200, "quarantined")

    (message,) = stack.queue("QuarantineQueueUrl").receive()
    assert message["Body"] == "{not json"
    assert stack.queue("QueueUrl").receive() == []


def test_every_parameter_reaches_the_function(aws, template, binary, queue_type):
    stack = deploy(
        aws,
        template,
        QueueType=queue_type,
        WebhookSecretPrevious="the secret before this one",
        TenantSecrets='{"Cust77":["a secret of Cust77"]}',
        ForwardEvents="contact.*,person.created",
        MessageFormat="cloudevents",
    )

    with stack.function(binary) as function:
        body = event_body("person.created", 21)
        assert outcome(function.invoke(delivery(body, secret="the secret before this one"))) == (200, "forwarded")
        body = event_body("contact.created", 22, ContextIdentifier="Cust77")
        assert outcome(function.invoke(delivery(body)))[0] == 401
        assert outcome(function.invoke(delivery(body, secret="a secret of Cust77"))) == (200, "forwarded")

    events = [json.loads(message["Body"]) for message in stack.queue("QueueUrl").receive()]
    assert sorted((event["type"], event["subject"]) for event in events) == [
        ("com.superoffice.contact.created", "contact/22"),
        ("com.superoffice.person.created", "person/21"),
    ]


def test_a_secret_is_rotated_without_a_refused_delivery(aws, template, binary):
    def answers(*secrets):
        with stack.function(binary) as function:
            return [outcome(function.invoke(delivery(event_body(), secret=secret)))[0] for secret in secrets]

    new = "the secret that comes after it"
    stack = deploy(aws, template)
    assert answers(SECRET, new) == [200, 401]
    stack.update(WebhookSecret=new, WebhookSecretPrevious=SECRET)
    assert answers(SECRET, new) == [200, 200]
    stack.update(WebhookSecret=new, WebhookSecretPrevious="")
    assert answers(SECRET, new) == [401, 200]


def test_the_fallback_queue_in_another_region_takes_what_the_queue_does_not(aws, template, binary, queue_type):
    region = "eu-west-1"
    name, attributes = ("fallback.fifo", {"FifoQueue": "true"}) if queue_type == "fifo" else ("fallback", {})
    aws.client("sqs", region).create_queue(QueueName=name, Attributes=attributes)
    url = f"https://sqs.{region}.amazonaws.com/{ACCOUNT}/{name}"
    stack = deploy(
        aws,
        template,
        QueueType=queue_type,
        FallbackQueueUrl=url,
        FallbackQueueArn=f"arn:aws:sqs:{region}:{ACCOUNT}:{name}",
    )
    body = event_body()

    with stack.function(binary) as function:
        aws.client("sqs").delete_queue(QueueUrl=stack.outputs["QueueUrl"])
        assert outcome(function.invoke(delivery(body))) == (200, "forwarded")
        assert function.lines[-1]["FallbackUsed"] == 1

    (message,) = DeployedQueue(aws, url, region).receive()
    assert message["Body"].encode() == body


def test_what_a_consumer_fails_on_five_times_is_moved_to_the_dead_letter_queue(aws, template, binary, queue_type):
    stack = deploy(aws, template, QueueType=queue_type)
    body = event_body()
    with stack.function(binary) as function:
        assert outcome(function.invoke(delivery(body))) == (200, "forwarded")

    received = []
    deadline = time.monotonic() + 30
    while not (dead := stack.queue("DeadLetterQueueUrl").receive()):
        assert time.monotonic() < deadline, "nothing in the dead-letter queue"
        # A consumer that takes the message and never deletes it.
        received += stack.queue("QueueUrl").receive(visibility_timeout=0)

    assert [message["Body"].encode() for message in dead] == [body]
    assert len(received) == 5
    assert stack.queue("QueueUrl").receive() == []


def test_the_queues_are_encrypted_and_keep_what_waits_for_a_person_for_14_days(aws, template, queue_type):
    stack = deploy(aws, template, QueueType=queue_type)

    for output in ("QueueUrl", "DeadLetterQueueUrl", "QuarantineQueueUrl"):
        attributes = stack.queue(output).attributes
        assert attributes["SqsManagedSseEnabled"] == "true", output
        assert attributes["MessageRetentionPeriod"] == FOURTEEN_DAYS, output
    events = stack.queue("QueueUrl").attributes
    dead_letters = stack.queue("DeadLetterQueueUrl").attributes
    assert json.loads(events["RedrivePolicy"])["deadLetterTargetArn"] == dead_letters["QueueArn"]
    assert stack.outputs["QueueArn"] == events["QueueArn"]
    fifo = ("true", "messageGroup", "perMessageGroupId") if queue_type == "fifo" else (None, None, None)
    assert (events.get("FifoQueue"), events.get("DeduplicationScope"), events.get("FifoThroughputLimit")) == fifo
    assert dead_letters.get("FifoQueue") == events.get("FifoQueue")


def test_a_custom_domain_is_the_url_to_register(aws, template):
    # moto has no custom domains, so nothing can point to one.
    outputs = {name: output for name, output in template["Outputs"].items() if name != "CustomDomainTarget"}
    stack = deploy(
        aws,
        {**template, "Outputs": outputs},
        DomainName="webhooks.example.com",
        CertificateArn=f"arn:aws:acm:eu-north-1:{ACCOUNT}:certificate/7d1a9f2e-2c3b-4c4d-8e5f-6a7b8c9d0e1f",
    )
    assert stack.outputs["WebhookUrl"] == "https://webhooks.example.com/webhook"


def test_the_secret_is_needed_and_never_shown(template):
    parameters = template["Parameters"]
    assert "Default" not in parameters["WebhookSecret"]
    assert parameters["WebhookSecret"]["MinLength"] == 16 <= len(SECRET)
    for name in ("WebhookSecret", "WebhookSecretPrevious", "TenantSecrets"):
        assert parameters[name]["NoEcho"] is True, name
