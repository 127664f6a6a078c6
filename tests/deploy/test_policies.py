"""The IAM policies of every template and document, evaluated by a policy simulator.

Each call of a program is allowed, each permission is needed for one of these calls, and calls of others are denied.
"""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from intrinsics import Template
from local_aws import ACCOUNT, REGION
from processes import ROOT
from sam_stack import CONSUMER_TEMPLATE, MIRROR_TEMPLATE, TEMPLATE, WATCHDOG_TEMPLATE

MODULES = ROOT / ".tools" / "node" / "node_modules"
pytestmark = pytest.mark.skipif(
    shutil.which("node") is None or not (MODULES / "@cloud-copilot").is_dir(),
    reason="Node and npm are not installed: see `make test`",
)
PLACE, OTHER = f"{REGION}:{ACCOUNT}", "210987654321"
KEY, OTHER_KEY = f"arn:aws:kms:{PLACE}:key/of-the-stack", f"arn:aws:kms:{PLACE}:key/another"
EVENTS = f"arn:aws:sqs:{PLACE}:events.fifo"
FALLBACK = f"arn:aws:sqs:eu-west-1:{ACCOUNT}:fallback.fifo"
REMOTE_TABLE = f"arn:aws:dynamodb:eu-west-1:{ACCOUNT}:table/contacts"
LIST = f"arn:aws:ssm:{PLACE}:parameter/superoffice/my-app"
STREAM = "log-stream:2026/11/28/[$LATEST]1"

# An action, its resource, and the context of the request.
Call = tuple[str, str] | tuple[str, str, dict]
OVER_TLS, WITHOUT_TLS = {"aws:SecureTransport": "true"}, {"aws:SecureTransport": "false"}


def decrypted_for(service: str, **context: str) -> dict:
    return {"kms:ViaService": f"{service}.amazonaws.com", **context}


def of_entry(name: str) -> dict:
    """The context of a request of Parameter Store to decrypt an entry."""
    return decrypted_for(
        f"ssm.{REGION}", **{"kms:EncryptionContext:PARAMETER_ARN": f"arn:aws:ssm:{PLACE}:parameter{name}"}
    )


def log(group: str) -> str:
    return f"arn:aws:logs:{PLACE}:log-group:{group}"


def writes(group: str) -> list[Call]:
    return [("logs:CreateLogStream", f"{log(group)}:{STREAM}"), ("logs:PutLogEvents", f"{log(group)}:{STREAM}")]


def reads(group: str) -> list[Call]:
    """The call is authorized for the group, or for all of its streams."""
    return [("logs:FilterLogEvents", log(group)), ("logs:FilterLogEvents", f"{log(group)}:log-stream:")]


def receives(queue: str) -> list[Call]:
    return [(f"sqs:{action}", queue) for action in ("ReceiveMessage", "DeleteMessage", "GetQueueAttributes")]


READS_LIST: list[Call] = [
    ("ssm:GetParametersByPath", LIST),
    ("ssm:GetParameter", f"{LIST}/Cust1"),
    ("kms:Decrypt", OTHER_KEY, of_entry("/superoffice/my-app/Cust1")),
]
NOT_THE_LIST: list[Call] = [
    ("ssm:GetParameter", f"{LIST}2/Cust1"),
    ("ssm:GetParametersByPath", f"arn:aws:ssm:{PLACE}:parameter/superoffice"),
    ("ssm:PutParameter", f"{LIST}/Cust1"),
    ("kms:Decrypt", OTHER_KEY),
    ("kms:Decrypt", OTHER_KEY, of_entry("/superoffice/another-app/Cust1")),
    ("kms:Decrypt", OTHER_KEY, decrypted_for(f"secretsmanager.{REGION}")),
    ("kms:Encrypt", KEY),
]


@dataclass
class Role:
    """The role of a template's function, with the calls of the function."""

    template: Template
    allowed: list[Call]
    denied: list[Call]
    name: str = field(init=False)
    policies: list[dict] = field(init=False)

    def __post_init__(self) -> None:
        ((self.name, role),) = self.template.resources("AWS::IAM::Role")
        self.trust = role["AssumeRolePolicyDocument"]
        self.policies = [policy["PolicyDocument"] for policy in role["Policies"]]
        # CloudFormation writes numbers and dates as they are; the simulator expects texts.
        self.policies = json.loads(json.dumps(self.policies))


def function_role() -> Role:
    parameters = {"FallbackQueueArn": FALLBACK, "KmsKeyArn": KEY, "Tracing": "Active"}
    template = Template(TEMPLATE, parameters)
    events, dead, quarantine = map(template.arn, ("EventQueue", "DeadLetterQueue", "QuarantineQueue"))
    return Role(
        template,
        allowed=[
            ("sqs:SendMessage", events),
            ("sqs:SendMessage", quarantine),
            ("sqs:SendMessage", FALLBACK),
            ("sqs:GetQueueAttributes", events),
            ("kms:GenerateDataKey", KEY),
            ("kms:Decrypt", KEY),
            ("xray:PutTraceSegments", "*"),
            ("xray:PutTelemetryRecords", "*"),
            *writes(template.name("WebhookFunctionLogGroup")),
        ],
        denied=[
            ("sqs:ReceiveMessage", events),
            ("sqs:DeleteMessage", events),
            ("sqs:PurgeQueue", events),
            ("sqs:SendMessage", dead),
            ("sqs:SendMessage", EVENTS),
            ("kms:Decrypt", OTHER_KEY),
            ("lambda:GetFunctionConfiguration", template.arn("WebhookFunction")),
            *writes("another"),
            *reads(template.name("WebhookFunctionLogGroup")),
        ],
    )


def watchdog_role() -> Role:
    parameters = {"TenantsParameter": "/superoffice/my-app", "LogGroupName": "of-the-function", "KmsKeyArn": KEY}
    template = Template(WATCHDOG_TEMPLATE, parameters)
    own = template.name("WatchdogLogGroup")
    return Role(
        template,
        allowed=[*reads("of-the-function"), *reads(own), *writes(own), *READS_LIST, ("kms:Decrypt", KEY)],
        denied=[
            *reads("another"),
            *reads("of-the-function-2"),
            *writes("of-the-function"),
            ("logs:DeleteLogGroup", log(own)),
            ("sqs:SendMessage", EVENTS),
            *NOT_THE_LIST,
        ],
    )


def mirror_role(table: str) -> Role:
    is_own = not table
    parameters = {"QueueArn": EVENTS, "TableArn": table, "TenantsParameter": "/superoffice/my-app", "KmsKeyArn": KEY}
    template = Template(MIRROR_TEMPLATE, parameters)
    own = template.name("MirrorLogGroup")
    table = table or template.arn("ContactTable")
    with_its_key = ("kms:Decrypt", f"arn:aws:kms:eu-west-1:{ACCOUNT}:key/1", decrypted_for("dynamodb.eu-west-1"))
    return Role(
        template,
        allowed=[
            *receives(EVENTS),
            *((f"dynamodb:{action}", table) for action in ("GetItem", "PutItem", "Query")),
            *writes(own),
            *READS_LIST,
            ("kms:Decrypt", KEY),
            *([] if is_own else [with_its_key]),
        ],
        denied=[
            ("sqs:SendMessage", EVENTS),
            *receives(FALLBACK),
            *((f"dynamodb:{action}", table) for action in ("DeleteItem", "BatchWriteItem", "DeleteTable", "Scan")),
            ("dynamodb:PutItem", table + "2"),
            *writes("another"),
            *NOT_THE_LIST,
            *([with_its_key] if is_own else []),
        ],
    )


def consumer_role(table: str) -> Role:
    is_own = not table
    template = Template(
        CONSUMER_TEMPLATE, {"QueueArn": EVENTS, "TableArn": table, "KmsKeyArn": KEY, "Tracing": "Active"}
    )
    table = table or template.arn("HandledEvents")
    with_its_key = ("kms:Decrypt", f"arn:aws:kms:eu-west-1:{ACCOUNT}:key/1", decrypted_for("dynamodb.eu-west-1"))
    return Role(
        template,
        allowed=[
            *receives(EVENTS),
            ("dynamodb:PutItem", table),
            ("dynamodb:DeleteItem", table),
            *writes(template.name("ConsumerFunctionLogGroup")),
            ("kms:Decrypt", KEY),
            ("xray:PutTraceSegments", "*"),
            ("xray:PutTelemetryRecords", "*"),
            *([] if is_own else [with_its_key]),
        ],
        denied=[
            ("sqs:SendMessage", EVENTS),
            *receives(FALLBACK),
            ("dynamodb:DeleteTable", table),
            ("dynamodb:PutItem", table + "2"),
            ("kms:Decrypt", OTHER_KEY),
            *([with_its_key] if is_own else []),
        ],
    )


ROLES = {
    "function": function_role(),
    "watchdog": watchdog_role(),
    "mirror": mirror_role(""),
    "mirror of a fallback queue": mirror_role(REMOTE_TABLE),
    "consumer": consumer_role(""),
    "consumer of a fallback queue": consumer_role(REMOTE_TABLE),
}


# The key's account decides, with its own policies.
DEFAULT_KEY_POLICY = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:root"}, "Action": "kms:*", "Resource": "*"}
    ],
}


def simulation(
    principal: str,
    call: Call,
    identity: list[dict] | None = None,
    resource_policy: dict | None = None,
    account: str = ACCOUNT,
) -> dict:
    action, resource, *context = call
    request = {
        "principal": principal,
        "action": action,
        "resource": {"resource": resource, "accountId": account},
        "contextVariables": {**OVER_TLS, **(context[0] if context else {})},
    }
    if action.startswith("kms:"):
        resource_policy = resource_policy or DEFAULT_KEY_POLICY
    policies = [{"name": f"policy-{number}", "policy": policy} for number, policy in enumerate(identity or [])]
    policy = {"resourcePolicy": resource_policy} if resource_policy else {}
    return {"request": request, "identityPolicies": policies, **policy}


def results(simulations: list[dict]) -> list[str]:
    """Returns `Allowed`, `ImplicitlyDenied` or `ExplicitlyDenied` for each simulation."""
    # The simulator ignores these keys, and compares those of a tag in the same way.
    keys = r"kms:EncryptionContext:|token\.actions\.githubusercontent\.com:"
    text = re.sub(keys, "aws:PrincipalTag/", json.dumps(simulations))
    ran = subprocess.run(
        ["node", str(Path(__file__).with_name("simulate.cjs"))],
        env={**os.environ, "NODE_PATH": str(MODULES)},
        input=text,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


def listed(value: str | list) -> list:
    return value if isinstance(value, list) else [value]


def without_one_permission(policies: list[dict]) -> Iterator[tuple[str, list[dict]]]:
    """Returns the policies once for each action of a statement, and once for each of its resources, without it."""
    for policy, document in enumerate(policies):
        for number, statement in enumerate(document["Statement"]):
            for key in ("Action", "Resource"):
                for value in listed(statement[key]):
                    changed = copy.deepcopy(policies)
                    statements = changed[policy]["Statement"]
                    statements[number][key] = [other for other in listed(statement[key]) if other != value]
                    if not statements[number][key]:
                        del statements[number]
                    yield f"{statement['Sid']}: {value}", [part for part in changed if part["Statement"]]


@pytest.mark.parametrize("name", ROLES)
def test_role_allows_the_calls_of_its_function_and_no_others(name):
    role = ROLES[name]
    principal = role.template.arn(role.name)
    calls = [*role.allowed, *role.denied]
    found = results([simulation(principal, call, role.policies) for call in calls])
    assert dict(zip(map(str, calls), found, strict=True)) == {
        **{str(call): "Allowed" for call in role.allowed},
        **{str(call): "ImplicitlyDenied" for call in role.denied},
    }


@pytest.mark.parametrize("name", ROLES)
def test_every_permission_of_a_role_is_needed(name):
    role = ROLES[name]
    principal = role.template.arn(role.name)
    variants = dict(without_one_permission(role.policies))
    calls = [simulation(principal, call, policies) for policies in variants.values() for call in role.allowed]
    found = results(calls)
    count = len(role.allowed)
    useless = {
        variant
        for number, variant in enumerate(variants)
        if set(found[number * count : (number + 1) * count]) == {"Allowed"}
    }
    assert useless == set()


@pytest.mark.parametrize("name", ROLES)
def test_only_lambda_assumes_a_role(name):
    role = ROLES[name]
    call = ("sts:AssumeRole", role.template.arn(role.name))
    services = ["lambda.amazonaws.com", "ec2.amazonaws.com", "events.amazonaws.com"]
    found = results([simulation(service, call, resource_policy=role.trust) for service in services])
    assert found == ["Allowed", "ImplicitlyDenied", "ImplicitlyDenied"]


# --- Queues -----------------------------------------------------------------------------------------------------------


def queue_policies(template: Template) -> dict[str, dict]:
    """Returns the policy of each queue by its resource in the template."""
    names = {template.name(name): name for name, _ in template.resources("AWS::SQS::Queue")}
    policies = [policy for _, policy in template.resources("AWS::SQS::QueuePolicy")]
    return {names[queue]: policy["PolicyDocument"] for policy in policies for queue in policy["Queues"]}


FALLBACK_TEMPLATE = ROOT / "fallback/template.yaml"
ANY_QUEUE = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "sqs:*", "Resource": "*"}]}
ADMINISTRATOR = f"arn:aws:iam::{ACCOUNT}:role/administrator"


@pytest.mark.parametrize("path", [TEMPLATE, FALLBACK_TEMPLATE], ids=["function", "fallback"])
def test_every_queue_has_a_policy_that_demands_tls(path):
    template = Template(path)
    policies = queue_policies(template)
    assert policies.keys() == {name for name, _ in template.resources("AWS::SQS::Queue")}
    for queue, policy in policies.items():
        calls = [
            (f"sqs:{action}", template.arn(queue), tls)
            for action in ("SendMessage", "ReceiveMessage", "PurgeQueue")
            for tls in (OVER_TLS, WITHOUT_TLS)
        ]
        found = results([simulation(ADMINISTRATOR, call, [ANY_QUEUE], policy) for call in calls])
        assert found == ["Allowed", "ExplicitlyDenied"] * 3, queue


def foreign(policy: dict, queue: str, action: str, role: str = "consumer", account: str = OTHER) -> dict:
    """A call of a role in another account, whose own policy allows every call."""
    principal = f"arn:aws:iam::{account}:role/{role}"
    return simulation(principal, (f"sqs:{action}", queue), [ANY_QUEUE], policy)


CONSUMES = ("ReceiveMessage", "DeleteMessage", "ChangeMessageVisibility", "GetQueueAttributes")


@pytest.mark.parametrize(
    ("principals", "role", "other_role"),
    [
        ("", False, False),
        (OTHER, True, True),
        (f"arn:aws:iam::{OTHER}:root", True, True),
        (f"arn:aws:iam::{OTHER}:role/consumer", True, False),
        (f"111111111111,arn:aws:iam::{OTHER}:role/another", False, True),
    ],
)
def test_other_account_consumes_as_a_named_principal_only(principals, role, other_role):
    template = Template(TEMPLATE, {"ConsumerPrincipals": principals})
    queue, policies = template.arn("EventQueue"), queue_policies(template)
    policy = policies["EventQueue"]
    simulations, expected = [], []
    for action in CONSUMES:
        for name, is_allowed in (("consumer", role), ("another", other_role)):
            simulations.append(foreign(policy, queue, action, name))
            expected.append(is_allowed)
    for action in ("SendMessage", "PurgeQueue", "SetQueueAttributes"):
        simulations.append(foreign(policy, queue, action))
        expected.append(False)
    # A third account, and the other queues.
    simulations.append(foreign(policy, queue, "ReceiveMessage", account="333333333333"))
    simulations += [
        foreign(policies[name], template.arn(name), "ReceiveMessage") for name in ("DeadLetterQueue", "QuarantineQueue")
    ]
    expected += [False] * 3
    assert [result == "Allowed" for result in results(simulations)] == expected


def test_function_of_another_account_only_sends_to_the_fallback_queue():
    parameters = {"SenderRoleArn": f"arn:aws:iam::{OTHER}:role/webhook"}
    template = Template(FALLBACK_TEMPLATE, parameters)
    queue, policy = template.arn("FallbackQueue"), queue_policies(template)["FallbackQueue"]
    closed = queue_policies(Template(FALLBACK_TEMPLATE))["FallbackQueue"]
    found = results(
        [
            foreign(policy, queue, "SendMessage", "webhook"),
            foreign(policy, queue, "ReceiveMessage", "webhook"),
            foreign(policy, queue, "SendMessage", "another"),
            foreign(closed, queue, "SendMessage", "webhook"),
        ]
    )
    assert [result == "Allowed" for result in found] == [True, False, False, False]


# --- Functions --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "service", "sources"),
    [
        (
            TEMPLATE,
            "apigateway.amazonaws.com",
            {
                f"arn:aws:execute-api:{PLACE}:stack-WebhookApi/$default/POST/webhook": True,
                f"arn:aws:execute-api:{PLACE}:stack-WebhookApi/$default/POST/webhook/{{tenant}}": True,
                f"arn:aws:execute-api:{PLACE}:stack-WebhookApi/$default/GET/webhook": False,
                f"arn:aws:execute-api:{PLACE}:another/$default/POST/webhook": False,
                f"arn:aws:execute-api:{REGION}:{OTHER}:stack-WebhookApi/$default/POST/webhook": False,
            },
        ),
        (
            WATCHDOG_TEMPLATE,
            "events.amazonaws.com",
            {
                f"arn:aws:events:{PLACE}:rule/stack-WatchdogSchedule": True,
                f"arn:aws:events:{PLACE}:rule/another": False,
            },
        ),
        (
            MIRROR_TEMPLATE,
            "events.amazonaws.com",
            {f"arn:aws:events:{PLACE}:rule/stack-AuditSchedule": True, f"arn:aws:events:{PLACE}:rule/another": False},
        ),
    ],
    ids=["function", "watchdog", "mirror"],
)
def test_function_is_invoked_by_its_own_source_only(path, service, sources):
    template = Template(path, {"QueueArn": EVENTS} if path == MIRROR_TEMPLATE else {})
    ((_, permission),) = template.resources("AWS::Lambda::Permission")
    ((name, _),) = template.resources("AWS::Serverless::Function")
    function = template.arn(name)
    # Lambda's own form of the permission.
    policy = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"Service": permission["Principal"]},
                "Action": permission["Action"],
                "Resource": function,
                "Condition": {"ArnLike": {"AWS:SourceArn": permission["SourceArn"]}},
            }
        ],
    }
    simulations = [
        simulation(service, ("lambda:InvokeFunction", function, {"aws:SourceArn": source}), resource_policy=policy)
        for source in sources
    ]
    found = dict(zip(sources, results(simulations), strict=True))
    assert {source: result == "Allowed" for source, result in found.items()} == sources
    another = simulation("s3.amazonaws.com", ("lambda:InvokeFunction", function), resource_policy=policy)
    assert results([another]) == ["ImplicitlyDenied"]


# --- Documents --------------------------------------------------------------------------------------------------------


def documented(name: str) -> list[dict]:
    return [json.loads(code) for code in re.findall(r"^```json\n(.*?)^```", (ROOT / name).read_text(), re.M | re.S)]


def test_documented_role_allows_the_calls_of_the_function():
    _key_policy, policy = documented("docs/deployment.md")
    events, quarantine, fallback = policy["Statement"][0]["Resource"]
    allowed = [("sqs:SendMessage", queue) for queue in (events, quarantine, fallback)]
    allowed.append(("sqs:GetQueueAttributes", events))
    denied = [("sqs:ReceiveMessage", events), ("sqs:SendMessage", EVENTS)]
    principal = f"arn:aws:iam::{ACCOUNT}:role/superoffice-webhook"
    found = results([simulation(principal, call, [policy]) for call in [*allowed, *denied]])
    assert found == ["Allowed"] * 4 + ["ImplicitlyDenied"] * 2


def test_documented_key_policy_lets_services_and_the_account_use_the_key():
    key_policy, _policy = documented("docs/deployment.md")
    logs, cloudwatch = f"logs.{REGION}.amazonaws.com", "cloudwatch.amazonaws.com"
    of_group = {"kms:EncryptionContext:aws:logs:arn": log("superoffice-webhook-1")}
    of_another = {"kms:EncryptionContext:aws:logs:arn": log("1").replace(ACCOUNT, OTHER)}
    role = ROLES["function"]
    own, other = {"aws:SourceAccount": ACCOUNT}, {"aws:SourceAccount": OTHER}
    cases = [
        (logs, "GenerateDataKey", of_group, True),
        (logs, "Decrypt", of_group, True),
        (logs, "Decrypt", of_another, False),
        (logs, "Decrypt", {}, False),
        (cloudwatch, "GenerateDataKey", own, True),
        (cloudwatch, "Decrypt", own, True),
        (cloudwatch, "Decrypt", other, False),
        (cloudwatch, "ScheduleKeyDeletion", own, False),
        ("s3.amazonaws.com", "Decrypt", own, False),
        (role.template.arn(role.name), "Decrypt", {}, True),
    ]
    simulations = [
        simulation(
            principal, (f"kms:{action}", KEY, context), role.policies if "role/" in principal else [], key_policy
        )
        for principal, action, context, _ in cases
    ]
    assert [result == "Allowed" for result in results(simulations)] == [is_allowed for *_, is_allowed in cases]


def test_documented_pipeline_signs_in_for_its_repository_and_environment_only():
    (trust,) = documented("docs/automation.md")
    issuer = "token.actions.githubusercontent.com"
    provider = trust["Statement"][0]["Principal"]["Federated"]
    subject = trust["Statement"][0]["Condition"]["StringEquals"][f"{issuer}:sub"]
    assert subject == "repo:my-organization/my-repository:environment:production"
    call = "sts:AssumeRoleWithWebIdentity", f"arn:aws:iam::{ACCOUNT}:role/deploy"
    subjects = [subject, subject.replace("production", "test"), subject.replace("my-organization", "another")]
    simulations = [
        simulation(
            provider, (*call, {f"{issuer}:aud": "sts.amazonaws.com", f"{issuer}:sub": sub}), resource_policy=trust
        )
        for sub in subjects
    ]
    assert [result == "Allowed" for result in results(simulations)] == [True, False, False]
