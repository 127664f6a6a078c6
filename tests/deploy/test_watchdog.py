"""The watchdog's own stack: deployed by `sam deploy`, run by its schedule, with the permissions of its role."""

import json
import time

import pytest
from cloud import Webhook, changed_role_policy, wait_for
from fake_superoffice import PASSWORD, USER, FakeSuperOffice
from sam_stack import ARCHITECTURE, WATCHDOG_TEMPLATE, DeployFailed, SamStack, dev_build

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
    watchdog = SamStack(aws, "watchdog", watchdog_template).deploy(**parameters, Schedule="rate(1 minute)")
    wait_for(lambda: completed_runs(watchdog), timeout=180)
    aws.client("events").disable_rule(Name=watchdog.resources["WatchdogSchedule"])
    return watchdog


def completed_runs(watchdog: SamStack) -> list[dict]:
    """Returns the log lines of runs that were completed."""
    return [line for line in watchdog.log_lines() if "WatchdogOk" in line]


def run(watchdog: SamStack) -> tuple[bool, dict]:
    """Runs the watchdog by hand, and returns whether the run was completed, and its report or error."""
    response = watchdog.aws.client("lambda").invoke(FunctionName=watchdog.outputs["FunctionName"])
    return "FunctionError" not in response, json.load(response["Payload"])


def test_schedule_runs_the_watchdog(watchdog):
    line = completed_runs(watchdog)[0]
    assert (line["WatchdogOk"], line["WebhookActive"], line["mode"]) == (1, 1, "act")
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


def test_alarms_cover_absence_missed_and_reactivated(aws, watchdog):
    alarms = aws.client("cloudwatch").describe_alarms(AlarmNamePrefix="watchdog-")["MetricAlarms"]
    conditions = {
        alarm["AlarmName"].removeprefix("watchdog-"): (
            alarm["MetricName"],
            alarm["ComparisonOperator"],
            alarm["Threshold"],
            alarm["TreatMissingData"],
        )
        for alarm in alarms
    }
    assert conditions == {
        "not-running": ("WatchdogOk", "LessThanThreshold", 1.0, "breaching"),
        "webhook-inactive": ("WebhookActive", "LessThanThreshold", 1.0, "notBreaching"),
        "reactivated": ("Reactivated", "GreaterThanOrEqualToThreshold", 1.0, "notBreaching"),
        "missed": ("Missed", "GreaterThanOrEqualToThreshold", 1.0, "notBreaching"),
    }
    dimensions = {"Name": "FunctionName", "Value": watchdog.outputs["FunctionName"]}
    assert all(alarm["Dimensions"] == [dimensions] for alarm in alarms)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"SuperOfficeUrl": "http://server/SuperOffice"}, "must begin with https://"),
        ({"SuperOfficeUrl": ""}, "Tenant (Online) or SuperOfficeUrl (on-site) is required"),
        ({"User": ""}, "SystemToken with ClientSecret and PrivateKey (Online), or User with Password"),
        ({"Password": ""}, "User needs Password"),
        ({"SystemToken": "token"}, "SystemToken needs ClientSecret, PrivateKey and Tenant"),
        ({"PrivateKey": "<RSAKeyValue>"}, "must be a PEM text"),
        ({"Mode": "attack"}, "'attack' is not in AllowedValues"),
    ],
)
def test_rejected_parameters_do_not_change_the_stack(aws, watchdog_template, parameters, changed, message):
    with pytest.raises(DeployFailed) as failure:
        SamStack(aws, "rejected-watchdog", watchdog_template).deploy(**{**parameters, **changed})
    assert message in " ".join(str(failure.value).split())
