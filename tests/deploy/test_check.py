"""`so-webhook check` and `so-webhook env` against deployed stacks, as an operator runs them."""

from __future__ import annotations

import json
import subprocess

import pytest
from local_aws import ACCOUNT, REGION
from processes import base_environment
from sam_stack import ARCHITECTURE, SamStack
from signing import SAMPLE_SECRET


@pytest.fixture
def run(aws, programs):
    """Runs the program and returns its exit status and both outputs."""

    def run(*arguments: str, **variables: str) -> tuple[int, str, str]:
        environment = {
            **base_environment(),
            **aws.client_environment,
            "SSL_CERT_FILE": str(aws.ca_file),
            "SUPEROFFICE_WEBHOOK_SECRET": SAMPLE_SECRET,
            **variables,
        }
        command = [str(programs["so-webhook"]), *arguments]
        result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
        assert SAMPLE_SECRET not in result.stdout + result.stderr
        return result.returncode, result.stdout, result.stderr

    return run


def test_endpoint_and_log_are_checked(run, webhook):
    url = webhook.outputs["WebhookUrl"]
    status, output, _ = run("check", url, LOG_GROUP_NAME=webhook.outputs["LogGroupName"])
    lines = output.splitlines()
    assert (status, lines[:3]) == (
        0,
        [
            "ok     unsigned: an unsigned request is rejected",
            "ok     probe: a signed probe is accepted",
            "ok     event: a signed event is forwarded to the queue",
        ],
    )
    assert lines[3].startswith(f"ok     log: the line of this event is in {webhook.outputs['LogGroupName']}")
    (message,) = webhook.queue().drain()
    body = json.loads(message["Body"])
    assert (body["PrimaryKey"], body["WebhookName"]) == (0, "so-webhook check")


@pytest.mark.parametrize(
    ("suffix", "secret", "wrong"),
    [
        ("", "not the deployed secret", "status 401 from the function. Compare SUPEROFFICE_WEBHOOK_SECRET"),
        ("s", SAMPLE_SECRET, "status 404 from not the function. No route matches"),
    ],
)
def test_wrong_configuration_is_explained(run, webhook, suffix, secret, wrong):
    url = webhook.outputs["WebhookUrl"] + suffix
    status, output, _ = run("check", url, SUPEROFFICE_WEBHOOK_SECRET=secret, LOG_GROUP_NAME="no-such-group")
    assert status == 1
    assert f"WRONG  event: {wrong}" in output
    assert "WRONG  log: no event was accepted" in output


def test_log_group_that_recovery_cannot_read_is_found(run, webhook):
    status, output, _ = run("check", webhook.outputs["WebhookUrl"], LOG_GROUP_NAME="no-such-group")
    assert status == 1
    assert "WRONG  log: the log group no-such-group cannot be read: ResourceNotFoundException" in output
    webhook.queue().drain()


def test_untrusted_certificate_is_wrong(run, webhook):
    status, output, _ = run("check", webhook.outputs["WebhookUrl"], SSL_CERT_FILE="/etc/ssl/certs/ca-certificates.crt")
    assert status == 1
    assert "its DNS record and its certificate" in output


def checks(output: str) -> dict[str, tuple[bool, str, str | None]]:
    lines = [json.loads(line) for line in output.splitlines()]
    assert all(line.keys() == {"check", "ok", "message", "action"} for line in lines)
    assert all((line["action"] is None) == line["ok"] for line in lines)
    return {line["check"]: (line["ok"], line["message"]) for line in lines}


def test_stack_is_joined_with_its_consumer_and_recipients(run, webhook, aws, consumer_template):
    webhook.queue().drain()
    stack = webhook.stack
    status, output, _ = run("check", "--stack", stack.name, "--json")
    found = checks(output)
    assert status == 1
    region = f"account {ACCOUNT}, region {REGION}"
    assert found["stack"] in [(True, f"{state}_COMPLETE, in {region}") for state in ("CREATE", "UPDATE")]
    assert found["log"][0]
    assert found["consumer"] == (False, "no function in this account and region reads the queue")
    assert found["alarms"] == (False, "nobody is notified")
    assert found["webhook"][0] is False
    assert "SUPEROFFICE_URL: not set, nor is SUPEROFFICE_TENANT" in found["webhook"][1]
    wrong = {name for name, (ok, _) in found.items() if not ok}
    assert wrong == {"consumer", "alarms", "webhook"}, found

    consumer = SamStack(aws, "check-consumer", consumer_template)
    consumer.deploy(QueueArn=webhook.outputs["QueueArn"], Architecture=ARCHITECTURE)
    sns, (topic,) = aws.client("sns"), webhook.outputs["AlarmTopics"].split(",")
    pages = aws.create_queue("pages")
    arn = pages.attributes["QueueArn"]
    subscription = sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn, ReturnSubscriptionArn=True)
    try:
        status, output, _ = run("check", "--stack", stack.name, "--json")
        found = checks(output)
        assert found["consumer"] == (True, f"{consumer.outputs['FunctionName']} reads the queue")
        assert found["alarms"] == (True, f"notified: {arn}")
        assert {name for name, (ok, _) in found.items() if not ok} == {"webhook"}
    finally:
        sns.unsubscribe(SubscriptionArn=subscription["SubscriptionArn"])
        consumer.delete()
        webhook.queue().drain()


def test_all_tenants_of_a_list_are_checked(run, webhook, aws):
    ssm, master = aws.client("ssm"), "a master secret of 32 bytes, yes"
    entry = {"url": "https://localhost/SuperOffice", "accessToken": "token"}
    for name, kind, value in [
        ("Cust101", "SecureString", entry),
        ("Cust102", "SecureString", {**entry, "paused": True}),
        ("Cust103", "String", entry),
    ]:
        ssm.put_parameter(Name=f"/check/tenants/{name}", Type=kind, Value=json.dumps(value))
    webhook.update(MasterSecret=master)
    try:
        url = webhook.outputs["TenantWebhookUrl"]
        assert url == webhook.outputs["WebhookUrl"] + "/{tenant}"
        status, output, _ = run(
            *("check", url, "--json"),
            SUPEROFFICE_TENANTS_PARAMETER="/check/tenants",
            SUPEROFFICE_WEBHOOK_SECRET="",
            SUPEROFFICE_TENANT_MASTER_SECRET=master,
            LOG_GROUP_NAME=webhook.outputs["LogGroupName"],
        )
    finally:
        webhook.update(MasterSecret="")
        webhook.queue().drain()
    lines = [json.loads(line) for line in output.splitlines()]
    found = {tenant: {} for tenant in ("Cust101", "Cust102", "Cust103")}
    for line in lines:
        found[line["tenant"]][line["check"]] = line["ok"]
    accepted = dict.fromkeys(("unsigned", "probe", "event", "log"), True)
    assert (status, found) == (
        1,
        {"Cust101": accepted, "Cust102": {**accepted, "tenant": True}, "Cust103": {"tenant": False}},
    )


VARIABLES = ["WEBHOOK_URL", "LOG_GROUP_NAME", "QUEUE_URL", "QUARANTINE_QUEUE_URL", "FALLBACK_QUEUE_URL"]
VARIABLES += ["FORWARD_EVENTS", "MESSAGE_FORMAT"]


def test_env_replaces_the_variables_of_another_stack(run, webhook):
    status, assignments, message = run("env", "--stack", webhook.stack.name)
    assert (status, message) == (0, f"stack {webhook.stack.name}, account {ACCOUNT}, region {REGION}\n")
    script = f'eval "$1" && printf "%s\\n" {" ".join(f"${{{name}-unset}}" for name in [*VARIABLES, "AWS_REGION"])}'
    others = dict.fromkeys(VARIABLES, "of-another-stack")
    shell = subprocess.run(
        ["sh", "-c", script, "sh", assignments], env={**base_environment(), **others}, capture_output=True, text=True
    )
    outputs = webhook.outputs
    expected = [outputs[name] for name in ("WebhookUrl", "LogGroupName", "QueueUrl", "QuarantineQueueUrl")]
    assert shell.stdout.splitlines() == [*expected, "unset", "contact.*", "superoffice", REGION]


@pytest.mark.parametrize("arguments", [["--stack", "no-such-stack"], ["--stak", "webhook"], []])
def test_env_prints_only_false_after_an_error(run, webhook, arguments):
    status, output, message = run("env", *arguments)
    assert (status, output) == (2, "false\n")
    assert message
    assert subprocess.run(["sh", "-c", f'eval "{output}"']).returncode == 1
