"""Properties of the template that a deployment does not show."""

import json
import re

import pytest
from cloudwatch import fill, state_of
from processes import ROOT
from sam_stack import CONSUMER_TEMPLATE, MIRROR_TEMPLATE, TEMPLATE, WATCHDOG_TEMPLATE
from samtranslator.yaml_helper import yaml_parse

TEMPLATE_YAML = yaml_parse(TEMPLATE.read_text())
CONSUMER_YAML = yaml_parse(CONSUMER_TEMPLATE.read_text())
FALLBACK_YAML = yaml_parse((ROOT / "fallback/template.yaml").read_text())
WATCHDOG_YAML = yaml_parse(WATCHDOG_TEMPLATE.read_text())
MIRROR_YAML = yaml_parse(MIRROR_TEMPLATE.read_text())
RESOURCES = TEMPLATE_YAML["Resources"]


def of_type(resource_type: str) -> dict[str, dict]:
    return {name: resource["Properties"] for name, resource in RESOURCES.items() if resource["Type"] == resource_type}


def test_custom_domain_keeps_the_default_endpoint_until_it_is_disabled():
    # SuperOffice posts to the default endpoint until its webhook has the new URL.
    assert TEMPLATE_YAML["Parameters"]["DefaultEndpoint"]["Default"] == "enabled"
    assert RESOURCES["WebhookApi"]["Properties"]["DisableExecuteApiEndpoint"] == {
        "Fn::If": ["IsDefaultEndpointDisabled", True, False]
    }
    assert TEMPLATE_YAML["Conditions"]["IsDefaultEndpointDisabled"] == {
        "Fn::Equals": [{"Ref": "DefaultEndpoint"}, "disabled"]
    }


def test_function_outlives_its_own_time_limits():
    assert RESOURCES["WebhookFunction"]["Properties"]["Timeout"] > 8


@pytest.mark.parametrize("template", [TEMPLATE_YAML, CONSUMER_YAML], ids=["function", "consumer"])
def test_defaults_are_those_that_were_run(template):
    assert template["Parameters"]["Architecture"]["Default"] == "x86_64"
    assert template["Parameters"]["Tracing"]["Default"] == "PassThrough"
    assert template["Parameters"]["LogRetentionDays"]["Default"] == 90
    for resource in template["Resources"].values():
        if resource["Type"] == "AWS::Serverless::Function":
            logging = resource["Properties"]["LoggingConfig"]
            # Lambda drops lines below the level, and the line of a delivery has none, which counts as INFO.
            assert logging.get("ApplicationLogLevel", "INFO") == "INFO"
            assert logging["SystemLogLevel"] == "WARN"


def test_endpoint_is_throttled():
    (stage,) = of_type("AWS::ApiGatewayV2::Stage").values()
    assert stage["DefaultRouteSettings"]["ThrottlingRateLimit"] == {"Ref": "ThrottlingRateLimit"}
    assert stage["DefaultRouteSettings"]["ThrottlingBurstLimit"] == {"Ref": "ThrottlingBurstLimit"}


def test_access_log_is_json_that_the_metric_filter_finds():
    (stage,) = of_type("AWS::ApiGatewayV2::Stage").values()
    form = stage["AccessLogSettings"]["Format"]
    line = json.loads(form.replace("$context.status", "429"))
    assert line["status"] == 429
    (throttled,) = of_type("AWS::Logs::MetricFilter").values()
    assert throttled["FilterPattern"] == "{ $.status = 429 }"
    assert throttled["MetricTransformations"][0]["Dimensions"] == [{"Key": "ApiId", "Value": "$.apiId"}]
    assert line["apiId"] == "$context.apiId"
    # The path and the tenant in it are the caller's.
    assert not re.search(r"context\.(path|protocol|httpMethod|identity\.userAgent)", form)


@pytest.mark.parametrize(
    "template",
    [TEMPLATE_YAML, WATCHDOG_YAML, MIRROR_YAML, FALLBACK_YAML],
    ids=["function", "watchdog", "mirror", "fallback"],
)
def test_alarms_notify_both_kinds_of_recipients(template):
    kinds = ("AWS::CloudWatch::Alarm", "AWS::CloudWatch::CompositeAlarm")
    alarms = {name: item for name, item in template["Resources"].items() if item["Type"] in kinds}
    assert len(alarms) >= 3
    rules = " ".join(item["Properties"].get("AlarmRule", {}).get("Fn::Sub", "") for item in alarms.values())
    for name, alarm in alarms.items():
        # The parts of a composite alarm.
        if f"${{{name}}}" in rules:
            assert "AlarmActions" not in alarm["Properties"], name
            continue
        assert alarm["Properties"]["AlarmActions"] == [
            {"Ref": "AlarmTopic"},
            {"Fn::If": ["HasAlarmTopicArn", {"Ref": "AlarmTopicArn"}, {"Ref": "AWS::NoValue"}]},
        ], alarm


@pytest.mark.parametrize(
    "template",
    [TEMPLATE_YAML, WATCHDOG_YAML, MIRROR_YAML, FALLBACK_YAML],
    ids=["function", "watchdog", "mirror", "fallback"],
)
def test_alarm_topic_can_be_encrypted_and_is_named_for_the_check(template):
    # The local AWS ignores the key.
    (topic,) = [item for item in template["Resources"].values() if item["Type"] == "AWS::SNS::Topic"]
    key = {"Fn::If": ["HasAlarmKmsKey", {"Ref": "AlarmKmsKeyArn"}, {"Ref": "AWS::NoValue"}]}
    assert topic["Properties"]["KmsMasterKeyId"] == key
    both = {"Fn::Sub": "${AlarmTopic},${AlarmTopicArn}"}
    assert template["Outputs"]["AlarmTopics"]["Value"] == {"Fn::If": ["HasAlarmTopicArn", both, {"Ref": "AlarmTopic"}]}


@pytest.mark.parametrize(
    "template",
    [TEMPLATE_YAML, WATCHDOG_YAML, MIRROR_YAML, FALLBACK_YAML],
    ids=["function", "watchdog", "mirror", "fallback"],
)
def test_every_alarm_that_notifies_names_a_runbook_that_names_the_alarm(template):
    for resource in template["Resources"].values():
        alarm = resource.get("Properties", {})
        if "AlarmActions" in alarm:
            name = alarm["AlarmName"]["Fn::Sub"].removeprefix("${AWS::StackName}-")
            document = re.fullmatch(r".* See (docs/runbooks/\S+\.md)\.", alarm["AlarmDescription"])
            assert document, name
            assert f"`{name}`" in (ROOT / document[1]).read_text(), name


@pytest.mark.parametrize("extra_periods", [0, 2])
def test_watchdog_that_stops_is_noticed_and_a_new_stack_raises_no_alarm(extra_periods):
    resources = {name: item.get("Properties") for name, item in WATCHDOG_YAML["Resources"].items()}
    rule = resources["NotRunningAlarm"]["AlarmRule"]["Fn::Sub"]
    assert rule == 'ALARM("${NothingCompletedAlarm}") AND ALARM("${HasCompletedAlarm}")'
    nothing, has = resources["NothingCompletedAlarm"], resources["HasCompletedAlarm"]
    assert nothing["Metrics"][0]["Expression"] == "FILL(ok, 0)"
    length = nothing["EvaluationPeriods"] + extra_periods
    # Nothing at first, then four hours of runs, one lost run, runs, a standstill of two hours, and runs.
    runs = 48 + 1 + 6
    history = [1] * 48 + [None] + [1] * 6 + [None] * 24 + [1] * 6
    raised = []
    for end in range(len(history) + 1):
        periods = [None] * (has["EvaluationPeriods"] * 12) + history[:end]
        hours = [periods[start : start + 12] for start in range(end % 12, len(periods), 12)]
        sums = [sum(filter(None, hour)) or None for hour in hours]
        parts = [state_of(nothing, fill(periods[-length:], 0)), state_of(has, sums)]
        raised.append(parts == ["ALARM", "ALARM"])
    # Three periods after the last run, for as long as the standstill lasts, and for a period after it.
    expected = range(runs + 3, runs + 24 + 2)
    assert [end for end, is_raised in enumerate(raised) if is_raised] == list(expected)


def test_every_log_group_expires_and_every_queue_and_log_remains():
    for name, group in of_type("AWS::Logs::LogGroup").items():
        assert group["RetentionInDays"] == {"Ref": "LogRetentionDays"}, name
    for name, resource in {**RESOURCES, **FALLBACK_YAML["Resources"]}.items():
        if resource["Type"] in ("AWS::SQS::Queue", "AWS::SQS::QueuePolicy", "AWS::Logs::LogGroup"):
            assert resource["DeletionPolicy"] == "RetainExceptOnCreate", name
            assert resource["UpdateReplacePolicy"] == "Retain", name


@pytest.mark.parametrize(
    "template",
    [TEMPLATE_YAML, WATCHDOG_YAML, CONSUMER_YAML, MIRROR_YAML],
    ids=["function", "watchdog", "consumer", "mirror"],
)
def test_every_role_can_have_a_permissions_boundary(template):
    roles = [item["Properties"] for item in template["Resources"].values() if item["Type"] == "AWS::IAM::Role"]
    boundary = {"Fn::If": ["HasPermissionsBoundary", {"Ref": "PermissionsBoundary"}, {"Ref": "AWS::NoValue"}]}
    assert [role["PermissionsBoundary"] for role in roles] == [boundary]


@pytest.mark.parametrize("template", [TEMPLATE_YAML, MIRROR_YAML], ids=["function", "mirror"])
def test_parameters_are_grouped_for_the_console(template):
    groups = template["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
    grouped = [name for group in groups for name in group["Parameters"]]
    assert sorted(grouped) == sorted(template["Parameters"])


def test_alarm_on_the_age_of_an_audit_is_at_twice_the_hours():
    hours = MIRROR_YAML["Parameters"]["AuditHours"]["AllowedValues"]
    assert MIRROR_YAML["Mappings"]["AuditAge"]["Alarm"] == {str(number): 2 * number for number in hours}
    alarm = MIRROR_YAML["Resources"]["AuditAgeAlarm"]
    # With 0 hours there is no scheduled audit, and no alarm.
    assert (alarm["Condition"], alarm["Properties"]["TreatMissingData"]) == ("HasAudit", "breaching")
    assert MIRROR_YAML["Conditions"]["HasAudit"] == {"Fn::Not": [{"Fn::Equals": [{"Ref": "AuditHours"}, 0]}]}


def test_table_is_encrypted_backed_up_and_retained():
    # The local AWS ignores these settings.
    table = MIRROR_YAML["Resources"]["ContactTable"]
    assert (table["DeletionPolicy"], table["UpdateReplacePolicy"]) == ("RetainExceptOnCreate", "Retain")
    properties = table["Properties"]
    assert properties["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
    assert properties["TimeToLiveSpecification"] == {"AttributeName": "expires", "Enabled": True}
    assert all(choice["SSEEnabled"] for choice in properties["SSESpecification"]["Fn::If"][1:])
