"""The watchdog's own stack: deployed by `sam deploy`, run by its schedule, with the permissions of its role."""

import contextlib
import json
import time

import pytest
from cloud import Webhook, changed_role_policy, wait_for
from fake_superoffice import PASSWORD, USER, FakeSuperOffice
from sam_stack import ARCHITECTURE, WATCHDOG_TEMPLATE, DeployFailed, SamStack, dev_build
from signing import SAMPLE_SECRET

from watchdog import run

ROLE, POLICY = "WatchdogFunctionRole", "Watch"


@pytest.fixture(scope="module")
def superoffice(aws, tmp_path_factory):
    # Five minutes behind: the watchdog leaves the changes of the last two minutes to its next run.
    with FakeSuperOffice(tmp_path_factory.mktemp("superoffice"), aws.ca_file, slow_clock=300) as superoffice:
        yield superoffice


@pytest.fixture(scope="module")
def watchdog_template(tmp_path_factory):
    return dev_build(WATCHDOG_TEMPLATE, tmp_path_factory.mktemp("watchdog"))


@pytest.fixture(scope="module")
def parameters(webhook: Webhook, superoffice) -> dict[str, str]:
    superoffice.register(webhook.outputs["WebhookUrl"])
    return {
        "Architecture": ARCHITECTURE,
        "SuperOfficeUrl": superoffice.url,
        "User": USER,
        "Password": PASSWORD,
        "WebhookUrl": webhook.outputs["WebhookUrl"],
        "LogGroupName": webhook.outputs["LogGroupName"],
        "Mode": "act",
    }


@pytest.fixture(scope="module")
def watchdog(aws, watchdog_template, parameters) -> SamStack:
    """The stack after the first run by its schedule. Further runs are by hand only, so that two never overlap."""
    watchdog = SamStack(aws, "watchdog", watchdog_template).deploy(**parameters)
    events, rule = aws.client("events"), watchdog.resources["WatchdogSchedule"]
    assert events.describe_rule(Name=rule)["ScheduleExpression"] == "rate(5 minutes)"
    # Nobody waits for five minutes.
    events.put_rule(Name=rule, ScheduleExpression="rate(1 minute)")
    wait_for(lambda: completed_runs(watchdog))
    events.disable_rule(Name=rule)
    return watchdog


def completed_runs(watchdog: SamStack) -> list[dict]:
    """Returns the log lines of runs that were completed."""
    return [line for line in watchdog.log_lines() if "WatchdogOk" in line]


def test_schedule_runs_the_watchdog(watchdog):
    line = completed_runs(watchdog)[0]
    assert (line["WatchdogOk"], line["Tenants"], line["mode"]) == (1, 1, "act")
    assert not {"TenantsFailed", "WebhooksInactive"} & line.keys()
    assert line["FunctionName"] == watchdog.outputs["FunctionName"]


def test_lost_event_is_signaled_and_arrives(watchdog, webhook, superoffice):
    _unchanged, lost = superoffice.create(), superoffice.create()
    superoffice.wait_until_idle()
    webhook.queue().drain()
    # SuperOffice stores whole seconds. Two changes within one cannot be told apart.
    time.sleep(1.1)
    superoffice.change_and_lose_event(lost)
    completed, report = run(watchdog)
    assert (completed, report["missed"]) == (True, 1), report
    events = wait_for(lambda: [json.loads(message["Body"]) for message in webhook.queue().drain()])
    assert [(event["Event"], event["PrimaryKey"]) for event in events] == [("contact.resync", lost)]
    completed, report = run(watchdog)
    assert (completed, report["missed"]) == (True, 0)


@pytest.mark.parametrize("removed", ["LogGroupName", "WatchdogLogGroup"])
def test_run_fails_without_permission_to_read_a_log(aws, watchdog, webhook, superoffice, removed):
    superoffice.create()
    superoffice.wait_until_idle()
    name = webhook.outputs["LogGroupName"] if removed == "LogGroupName" else watchdog.outputs["LogGroupName"]

    def without_log(document: dict) -> None:
        (statement,) = [statement for statement in document["Statement"] if statement["Sid"] == "ReadLogs"]
        statement["Resource"] = [arn for arn in statement["Resource"] if f":log-group:{name}" not in arn]
        assert len(statement["Resource"]) == 2

    with changed_role_policy(aws.client("iam"), watchdog.resources[ROLE], POLICY, without_log):
        completed, error = run(watchdog)
    assert not completed
    assert f"the log group {name} cannot be read: AccessDenied" in error["errorMessage"]
    line = [line for line in watchdog.log_lines() if "error" in line][-1]
    assert "WatchdogOk" not in line
    assert run(watchdog)[0]


def test_role_allows_exactly_the_calls_of_the_watchdog(aws, watchdog):
    iam, role = aws.client("iam"), watchdog.resources[ROLE]
    assert iam.list_attached_role_policies(RoleName=role)["AttachedPolicies"] == []
    assert iam.list_role_policies(RoleName=role)["PolicyNames"] == [POLICY]
    document = iam.get_role_policy(RoleName=role, PolicyName=POLICY)["PolicyDocument"]
    actions = {
        action
        for statement in document["Statement"]
        for action in ([statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"])
    }
    assert actions == {"logs:FilterLogEvents", "logs:CreateLogStream", "logs:PutLogEvents"}
    resources = {
        resource
        for statement in document["Statement"]
        for resource in ([statement["Resource"]] if isinstance(statement["Resource"], str) else statement["Resource"])
    }
    assert not any("*" in resource.removesuffix(":*") for resource in resources), resources


def test_alarms_count_late_data_and_are_not_raised_by_a_new_stack(aws, watchdog):
    alarms = aws.client("cloudwatch").describe_alarms(AlarmNamePrefix="watchdog-")["MetricAlarms"]
    conditions = {
        alarm["AlarmName"].removeprefix("watchdog-"): (
            alarm["MetricName"],
            alarm["ComparisonOperator"],
            alarm["Threshold"],
            alarm["DatapointsToAlarm"],
            alarm["EvaluationPeriods"],
            alarm["TreatMissingData"],
        )
        for alarm in alarms
    }
    assert conditions == {
        "nothing-completed": ("WatchdogOk", "LessThanThreshold", 1.0, 3, 4, "breaching"),
        "has-completed": ("WatchdogOk", "GreaterThanOrEqualToThreshold", 1.0, 3, 168, "notBreaching"),
        "runs-fail": ("Errors", "GreaterThanOrEqualToThreshold", 1.0, 3, 4, "notBreaching"),
        "tenants-failed": ("TenantsFailed", "GreaterThanOrEqualToThreshold", 1.0, 1, 6, "notBreaching"),
        "webhooks-inactive": ("WebhooksInactive", "GreaterThanOrEqualToThreshold", 1.0, 1, 6, "notBreaching"),
        "consecutive-errors": ("ConsecutiveErrors", "GreaterThanOrEqualToThreshold", 3.0, 1, 6, "notBreaching"),
        "reactivated": ("Reactivated", "GreaterThanOrEqualToThreshold", 1.0, 1, 6, "notBreaching"),
        "missed": ("Missed", "GreaterThanOrEqualToThreshold", 1.0, 1, 6, "notBreaching"),
    }
    assert {alarm["Period"] for alarm in alarms} == {300, 3600}
    dimensions = {"Name": "FunctionName", "Value": watchdog.outputs["FunctionName"]}
    assert all(alarm["Dimensions"] == [dimensions] for alarm in alarms)


def test_list_of_tenants(aws, watchdog_template, webhook, tmp_path_factory):
    """Three tenants, one of them with revoked credentials, and the permissions of the role."""
    path, names = "/superoffice/watched", ["Cust1", "Cust2", "Cust3"]
    ssm = aws.client("ssm")
    with contextlib.ExitStack() as stack:
        tenants = {}
        for name in names:
            tenant = FakeSuperOffice(tmp_path_factory.mktemp(name), aws.ca_file, slow_clock=300, tenant=name)
            tenants[name] = stack.enter_context(tenant)
            tenant.register(webhook.outputs["WebhookUrl"])
            password = "revoked" if name == "Cust3" else PASSWORD
            entry = {"url": tenant.url, "user": USER, "password": password}
            ssm.put_parameter(Name=f"{path}/{name}", Type="SecureString", Value=json.dumps(entry))
        watchdog = SamStack(aws, "watchdog-of-list", watchdog_template).deploy(
            Architecture=ARCHITECTURE,
            TenantsParameter=path,
            WebhookUrl=webhook.outputs["WebhookUrl"],
            LogGroupName=webhook.outputs["LogGroupName"],
            WebhookSecret=SAMPLE_SECRET,
            Mode="act",
        )
        lost = {}
        for name, tenant in tenants.items():
            lost[name] = tenant.create()
            tenant.wait_until_idle()
        webhook.queue().drain()
        time.sleep(1.1)
        for name, tenant in tenants.items():
            tenant.change_and_lose_event(lost[name])
        completed, report = run(watchdog)
        assert (completed, report.get("tenants"), report.get("failed")) == (True, 3, ["Cust3"]), report
        messages = webhook.queue().drain()
        bodies = [json.loads(message["Body"]) for message in messages]
        events = sorted((body["ContextIdentifier"], body["Event"], body["PrimaryKey"]) for body in bodies)
        assert events == [(name, "contact.resync", lost[name]) for name in names[:2]]
        lines = {line["tenant"]: line for line in watchdog.log_lines() if "tenant" in line}
        assert lines["Cust3"]["error"].endswith("the credentials are invalid or expired (401)")
        assert [lines[name].get("error") for name in names[:2]] == [None, None]
        assert not any("password" in json.dumps(line).lower() for line in watchdog.log_lines())

        def without_list(document: dict) -> None:
            document["Statement"] = [part for part in document["Statement"] if part.get("Sid") != "ReadTenants"]

        with changed_role_policy(aws.client("iam"), watchdog.resources[ROLE], POLICY, without_list):
            # A new process has not read the list.
            lambda_, function = aws.client("lambda"), watchdog.outputs["FunctionName"]
            variables = lambda_.get_function_configuration(FunctionName=function)["Environment"]["Variables"]
            environment = {"Variables": {**variables, "MAX_RESYNCS": "400"}}
            lambda_.update_function_configuration(FunctionName=function, Environment=environment)
            completed, error = run(watchdog)
        assert not completed
        assert f"the list of tenants at {path} in" in error["errorMessage"]
        assert "AccessDenied" in error["errorMessage"]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"SuperOfficeUrl": "http://server/SuperOffice"}, "must begin with https://"),
        ({"SuperOfficeUrl": ""}, "Tenant (Online), SuperOfficeUrl (on-site) or TenantsParameter is required"),
        ({"User": ""}, "SystemToken with ClientSecret and PrivateKey (Online), or User with Password"),
        ({"Password": ""}, "User needs Password"),
        ({"SystemToken": "token"}, "SystemToken needs ClientSecret, PrivateKey and Tenant"),
        ({"PrivateKey": "<RSAKeyValue>"}, "must be a PEM text"),
        ({"Mode": "attack"}, "'attack' is not in AllowedValues"),
        ({"ReservedConcurrency": "2"}, "'2' is not in AllowedValues"),
        ({"TenantsParameter": "superoffice/app"}, "must begin with a slash"),
        ({"TenantsParameter": "/superoffice/app"}, "TenantsParameter excludes Tenant, SuperOfficeUrl"),
        ({"SuperOfficeCa": "a certificate"}, "must be a PEM text with BEGIN CERTIFICATE"),
    ],
)
def test_rejected_parameters_do_not_change_the_stack(aws, watchdog_template, parameters, changed, message):
    with pytest.raises(DeployFailed) as failure:
        SamStack(aws, "rejected-watchdog", watchdog_template).deploy(**{**parameters, **changed})
    assert message in " ".join(str(failure.value).split())
