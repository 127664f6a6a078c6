"""The deployed alarms, evaluated on log lines of the function that are replayed with delays."""

import json
import re

import emf
import pytest
from cloudwatch import Evaluator, Metrics, state, state_of
from deliveries import delivery, event
from intrinsics import Template
from jsonschema import ValidationError
from sam_stack import TEMPLATE
from samtranslator.yaml_helper import yaml_parse
from signing import SAMPLE_SECRET

MINUTE, HOUR, DAY = 60, 3600, 86400
DELAYS = [0, 90, 5 * MINUTE, 10 * MINUTE]


@pytest.fixture(scope="module")
def alarms(webhook):
    """The alarms of a stack that has all of them, by name without the stack's."""
    aws, host = webhook.stack.aws, "webhooks.example.com"
    certificate = aws.client("acm").request_certificate(DomainName=host)["CertificateArn"]
    webhook.update(SilenceHours="72", DomainName=host, CertificateArn=certificate)
    pages = aws.client("cloudwatch").get_paginator("describe_alarms")
    found = [alarm for page in pages.paginate(AlarmNamePrefix="webhook-") for alarm in page["MetricAlarms"]]
    webhook.update(SilenceHours="0", DomainName="", CertificateArn="")
    return {alarm["AlarmName"].removeprefix("webhook-"): alarm for alarm in found}


@pytest.fixture(scope="module")
def lines(webhook, aws, binary):
    """A log line of the function for each kind of request."""
    environment = {
        "SUPEROFFICE_WEBHOOK_SECRET": SAMPLE_SECRET,
        "QUEUE_URL": webhook.outputs["QueueUrl"],
        "QUARANTINE_QUEUE_URL": webhook.outputs["QuarantineQueueUrl"],
    }
    missing = webhook.outputs["QueueUrl"].replace("EventQueue", "Missing")
    fallback = {"QUEUE_URL": missing, "FALLBACK_QUEUE_URL": webhook.outputs["QueueUrl"]}
    state_event = {"Event": "webhook.errors", "Entity": None, "PrimaryKey": None}
    requests = {
        "forwarded": delivery(event()),
        "tested": delivery(event(Event="test")),
        "ignored": delivery(event(Event="sale.changed")),
        "quarantined": delivery(b"{not json"),
        "unsigned": delivery(event(), secret=None),
        "rejected": delivery(event(), secret="another"),
        "retried": delivery(event(), headers={"X-SuperOffice-Retry": "1"}),
        "disabled": delivery(event(**state_event)),
        "stopped": delivery(event(**{**state_event, "Event": "webhook.stopped"})),
    }
    found = {}

    def collect(name: str, requests: dict, **variables: str) -> None:
        function = aws.create_function(f"lines-{name}", binary, {**environment, **variables})
        for request in requests.values():
            function.invoke(request)
        for kind, line in zip(requests, function.log_lines(), strict=True):
            found[kind] = {**line, "FunctionName": webhook.outputs["FunctionName"]}

    collect("requests", requests)
    collect("failed", {"failed": delivery(event())}, QUEUE_URL=missing)
    collect("fallback", {"fallback": delivery(event())}, **fallback)
    webhook.queue().drain()
    webhook.queue("QuarantineQueueUrl").drain()
    for line in found.values():
        # The measured latency would depend on this machine.
        if "EnqueueLatency" in line:
            line["EnqueueLatency"] = 20
    return {**found, "slow": {**found["forwarded"], "EnqueueLatency": 1500}}


@pytest.fixture(scope="module")
def of(webhook):
    """The dimensions of AWS's own metrics."""

    def queue(output: str) -> dict[str, str]:
        return {"QueueName": webhook.outputs[output].rsplit("/", 1)[1]}

    return {
        "function": {"FunctionName": webhook.outputs["FunctionName"]},
        "api": {"ApiId": webhook.stack.resources["WebhookApi"]},
        "account": {},
        "events": queue("QueueUrl"),
        "dead letters": queue("DeadLetterQueueUrl"),
        "quarantine": queue("QuarantineQueueUrl"),
    }


def usual_day(lines: dict, of: dict, hours: float = 2, start: float = 0) -> Metrics:
    """A delivery every minute, some of them probes or unselected events, and what AWS reports meanwhile."""
    metrics = Metrics()
    for minute in range(int(start // MINUTE), int((start + hours * HOUR) // MINUTE)):
        at = minute * MINUTE + 7.0
        kind = {0: "tested", 20: "ignored", 40: "ignored"}.get(minute % 60, "forwarded")
        metrics.put_line(lines[kind], at, delay=30)
        for namespace, name, resource, value in USUAL:
            metrics.put(namespace, name, of[resource], value, at, 60)
    return metrics


VISIBLE, AGE = "ApproximateNumberOfMessagesVisible", "ApproximateAgeOfOldestMessage"
USUAL = [
    ("AWS/ApiGateway", "4xx", "api", 0),
    ("AWS/ApiGateway", "5xx", "api", 0),
    ("AWS/Lambda", "Errors", "function", 0),
    ("AWS/Lambda", "Throttles", "function", 0),
    ("AWS/Lambda", "ClaimedAccountConcurrency", "account", 12),
    ("AWS/SQS", VISIBLE, "dead letters", 0),
    ("AWS/SQS", VISIBLE, "quarantine", 0),
    ("AWS/SQS", AGE, "dead letters", 0),
    ("AWS/SQS", AGE, "quarantine", 0),
    ("AWS/SQS", AGE, "events", 14),
]

# The alarm that a problem raises: a log line and its count, or a metric of AWS with its value.
LINES = [
    ("failed", "failed", 1),
    ("fallback-used", "fallback", 1),
    ("webhook-disabled", "disabled", 1),
    ("webhook-disabled", "stopped", 1),
    ("sender-retries", "retried", 1),
    ("rejected-requests", "rejected", 3),
]
AWS_METRICS = [
    ("endpoint-errors", "AWS/ApiGateway", "5xx", "api", 1),
    ("endpoint-rejections", "AWS/ApiGateway", "4xx", "api", 100),
    ("endpoint-throttled", "SuperOfficeWebhook", "Throttled", "api", 1),
    ("function-errors", "AWS/Lambda", "Errors", "function", 1),
    ("function-throttles", "AWS/Lambda", "Throttles", "function", 1),
    ("account-concurrency", "AWS/Lambda", "ClaimedAccountConcurrency", "account", 700),
    ("quarantine", "AWS/SQS", VISIBLE, "quarantine", 1),
    ("dead-letters", "AWS/SQS", VISIBLE, "dead letters", 1),
    ("quarantine-expires", "AWS/SQS", AGE, "quarantine", 10 * DAY + 1),
    ("dead-letters-expire", "AWS/SQS", AGE, "dead letters", 3 * DAY + 1),
    ("event-age", "AWS/SQS", AGE, "events", 901),
    ("events-expire", "AWS/SQS", AGE, "events", 7 * DAY + 1),
]
# An old message is more than one problem.
ALSO = {"events-expire": {"event-age"}}
# The parts of `silence` and `certificate-expires`, which need hours or days: see test_pages.py.
CONDITIONAL = {
    "silence-hours": "breaching",
    "has-forwarded": "ignore",
    "certificate-days": "breaching",
    "certificate-reported": "ignore",
}
# The parts of the alarm `rejected`, which notify nobody.
PARTS = ("rejected-requests", "nothing-forwarded")
INCIDENT = HOUR


def raised(alarms: dict, metrics: Metrics, start: float, end: float, extra_periods: int = 2) -> dict[str, list[float]]:
    """The times at which each alarm is raised, checked every minute."""
    times: dict[str, list[float]] = {}
    for now in range(int(start), int(end), MINUTE):
        for name, alarm in alarms.items():
            if state(alarm, metrics, now, extra_periods) == "ALARM":
                times.setdefault(name, []).append(now)
    return times


@pytest.fixture(scope="module")
def loss_alarms(alarms):
    """The alarms that react within minutes."""
    return {name: alarm for name, alarm in alarms.items() if name not in {*CONDITIONAL, "nothing-forwarded"}}


@pytest.mark.parametrize("extra_periods", [0, 2])
@pytest.mark.parametrize("delay", DELAYS)
@pytest.mark.parametrize(("name", "kind", "count"), LINES, ids=str)
def test_late_loss_in_the_log_raises_its_alarm(lines, of, loss_alarms, name, kind, count, delay, extra_periods):
    metrics = usual_day(lines, of)
    for number in range(count):
        metrics.put_line(lines[kind], INCIDENT + 5 * number, delay)
    times = raised(loss_alarms, metrics, INCIDENT - HOUR / 2, INCIDENT + HOUR / 2, extra_periods)
    assert times.keys() == {name}
    assert times[name][0] <= INCIDENT + delay + loss_alarms[name]["Period"]


@pytest.mark.parametrize("delay", DELAYS)
@pytest.mark.parametrize(("name", "namespace", "metric", "resource", "value"), AWS_METRICS, ids=str)
def test_late_loss_in_a_metric_of_aws_raises_its_alarm(
    lines, of, loss_alarms, name, namespace, metric, resource, value, delay
):
    metrics = usual_day(lines, of)
    metrics.put(namespace, metric, of[resource], value, INCIDENT, delay)
    # Metrics of a queue that was idle can be late by 15 minutes; a message stays there until someone acts.
    if namespace == "AWS/SQS":
        for minute in range(1, 30):
            metrics.put(namespace, metric, of[resource], value, INCIDENT + minute * MINUTE, 15 * MINUTE)
    times = raised(loss_alarms, metrics, INCIDENT - HOUR / 2, INCIDENT + HOUR / 2)
    assert times.keys() == {name} | ALSO.get(name, set())


def test_slow_queue_raises_an_alarm(lines, of, loss_alarms):
    metrics = usual_day(lines, of)
    for minute in range(10):
        metrics.put_line(lines["slow"], INCIDENT + minute * MINUTE, 60)
    times = raised(loss_alarms, metrics, INCIDENT - HOUR / 2, INCIDENT + HOUR / 2)
    assert times.keys() == {"enqueue-latency"}


@pytest.mark.parametrize("delay", DELAYS)
def test_rejected_deliveries_notify_only_while_nothing_is_forwarded(lines, of, alarms, delay):
    (composite,) = (alarm for _, alarm in Template(TEMPLATE).resources("AWS::CloudWatch::CompositeAlarm"))
    rule = composite["AlarmRule"].replace("stack-", "")
    evaluated = {**{name: alarms[name] for name in PARTS}, "rejected": {**composite, "AlarmRule": rule}}

    def is_raised(metrics: Metrics) -> bool:
        return Evaluator(evaluated).raised(metrics, INCIDENT, INCIDENT + HOUR).keys() == {"rejected"}

    def rejections(metrics: Metrics) -> Metrics:
        for number in range(3):
            metrics.put_line(lines["rejected"], INCIDENT + 5 * number, delay)
        return metrics

    assert is_raised(rejections(Metrics()))
    assert not is_raised(rejections(usual_day(lines, of)))
    # Quiet nights without rejections.
    assert not is_raised(Metrics())


def test_disabled_webhook_stays_in_alarm_for_an_hour(lines, of, loss_alarms):
    metrics = usual_day(lines, of, hours=4)
    metrics.put_line(lines["disabled"], INCIDENT)
    times = raised(loss_alarms, metrics, INCIDENT, INCIDENT + 3 * HOUR)["webhook-disabled"]
    assert times[-1] - times[0] >= HOUR - 2 * MINUTE


def test_noise_of_the_internet_raises_no_alarm(lines, of, loss_alarms):
    metrics = usual_day(lines, of)
    for number in range(90):
        metrics.put_line(lines["unsigned"], INCIDENT + number)
        metrics.put("AWS/ApiGateway", "4xx", of["api"], 1, INCIDENT + number, 60)
    assert raised(loss_alarms, metrics, INCIDENT - HOUR / 2, INCIDENT + HOUR / 2) == {}


def test_quiet_day_raises_no_alarm(lines, of, alarms):
    # No delivery from evening to morning, and then a few.
    metrics = usual_day(lines, of, hours=10, start=4 * DAY + 8 * HOUR)
    notifying = {name: alarm for name, alarm in alarms.items() if alarm["AlarmActions"]}
    assert raised(notifying, metrics, 4 * DAY, 5 * DAY) == {}


def test_every_alarm_is_covered_and_has_a_description(alarms):
    covered = {case[0] for case in LINES + AWS_METRICS} | {"enqueue-latency"} | CONDITIONAL.keys() | set(PARTS)
    assert alarms.keys() == covered
    missing = {**CONDITIONAL, "nothing-forwarded": "breaching"}
    for name, alarm in alarms.items():
        assert alarm["TreatMissingData"] == missing.get(name, "notBreaching")
        assert alarm["AlarmDescription"], name


# --- Dashboard and saved queries --------------------------------------------------------------------------------------

# The metrics that AWS publishes for the template's resources, by namespace and dimension.
PUBLISHED = {
    ("AWS/ApiGateway", "ApiId"): {"Count", "4xx", "5xx", "Latency"},
    ("AWS/Lambda", "FunctionName"): {"Invocations", "Errors", "Throttles", "Duration", "ConcurrentExecutions"},
    ("AWS/SQS", "QueueName"): {VISIBLE, AGE, "NumberOfMessagesSent", "NumberOfMessagesDeleted"},
    ("SuperOfficeWebhook", "ApiId"): {"Throttled"},
}


def emitted(lines: dict) -> set[str]:
    return {
        metric["Name"]
        for line in lines.values()
        for directive in line["_aws"]["CloudWatchMetrics"]
        for metric in directive["Metrics"]
    }


@pytest.mark.parametrize(
    "change",
    [
        lambda line: line.pop("Forwarded"),
        lambda line: line.update(Forwarded="1"),
        lambda line: line.update(FunctionName=None),
        lambda line: line["_aws"].pop("Timestamp"),
        lambda line: line["_aws"]["CloudWatchMetrics"][0].update(Dimensions=["FunctionName"]),
        lambda line: line["_aws"]["CloudWatchMetrics"][0]["Metrics"][0].update(Unit="count"),
    ],
)
def test_invalid_line_with_metrics_is_found(lines, change):
    # Every line that a test reads from a log is validated.
    line = json.loads(json.dumps(lines["forwarded"]))
    emf.validate(line)
    change(line)
    with pytest.raises(ValidationError):
        emf.validate(line)


def test_function_emits_exactly_one_outcome_and_no_zeros(lines):
    outcomes = {"Forwarded", "Tested", "Ignored", "Quarantined", "Unsigned", "Rejected", "Failed"}
    for kind, line in lines.items():
        names = emitted({kind: line})
        assert len(names & outcomes) == 1, kind
        assert all(line[name] > 0 for name in names), kind
    others = {"FallbackUsed", "WebhookDisabled", "EnqueueLatency", "SenderRetries", "DeliveryDelay"}
    assert emitted(lines) == outcomes | others


def test_dashboard_shows_existing_metrics_and_every_unconditional_alarm(webhook, aws, lines, alarms):
    known = {**PUBLISHED, ("SuperOfficeWebhook", "FunctionName"): emitted(lines)}
    body = aws.client("cloudwatch").get_dashboard(DashboardName=webhook.outputs["DashboardName"])["DashboardBody"]
    widgets = json.loads(body)["widgets"]
    shown = set()
    for widget in widgets:
        for namespace, metric, dimension, *_ in widget["properties"].get("metrics", []):
            assert metric in known[namespace, dimension], widget["properties"]["title"]
            shown.add((namespace, dimension, metric))
    assert {metric for namespace, _, metric in shown if namespace == "SuperOfficeWebhook"} == emitted(lines) | {
        "Throttled"
    }
    (arns,) = [widget["properties"]["alarms"] for widget in widgets if widget["type"] == "alarm"]
    unconditional = {name: alarm for name, alarm in alarms.items() if name not in {*CONDITIONAL, *PARTS}}
    assert sorted(arns) == sorted([*(alarm["AlarmArn"] for alarm in unconditional.values()), "webhook-rejected"])


def test_saved_queries_use_fields_of_the_log(lines):
    resources = yaml_parse(TEMPLATE.read_text())["Resources"]
    access_log = json.loads(
        resources["WebhookApiStage"]["Properties"]["AccessLogSettings"]["Format"].replace("$context.status", "200")
    )
    fields = {
        "WebhookFunctionLogGroup": {name for line in lines.values() for name in line},
        "WebhookApiLogGroup": set(access_log),
    }
    queries = [item for item in resources.values() if item["Type"] == "AWS::Logs::QueryDefinition"]
    assert len(queries) >= 5
    for query in queries:
        text = query["Properties"]["QueryString"]
        (group,) = query["Properties"]["LogGroupNames"]
        own_names = set(re.findall(r" as (\w+)", text))
        words = set(re.findall(r"(?<!@)\b[a-zA-Z]\w*\b", re.sub(r"'[^']*'", "", text)))
        assert words - own_names - KEYWORDS <= fields[group["Ref"]], text


# Commands, functions and operators of the query language.
KEYWORDS = {"and", "as", "asc", "bin", "by", "count", "desc", "fields", "filter", "in", "ispresent", "limit", "max"}
KEYWORDS |= {"not", "or", "pct", "sort", "stats"}


# --- The evaluator ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("datapoints", "periods", "breaching", "not_breaching"),
    [
        (3, "0-X-X", "OK", "OK"),
        (3, "0----", "OK", "OK"),
        (3, "-----", "ALARM", "OK"),
        (3, "0XX-X", "ALARM", "ALARM"),
        (3, "--X--", "ALARM", "OK"),
        (2, "0-X-X", "ALARM", "ALARM"),
        (2, "00X0X", "ALARM", "ALARM"),
        (2, "0-X--", "ALARM", "OK"),
        (2, "----0", "ALARM", "OK"),
        (2, "---X-", "ALARM", "OK"),
    ],
)
def test_evaluator_agrees_with_the_documented_examples(datapoints, periods, breaching, not_breaching):
    alarm = {
        "EvaluationPeriods": 3,
        "DatapointsToAlarm": datapoints,
        "Threshold": 1,
        "ComparisonOperator": "GreaterThanOrEqualToThreshold",
    }
    values = [{"0": 0.0, "X": 1.0, "-": None}[period] for period in periods]
    assert state_of({**alarm, "TreatMissingData": "breaching"}, values) == breaching
    assert state_of({**alarm, "TreatMissingData": "notBreaching"}, values) == not_breaching


def test_evaluator_shows_that_one_period_misses_late_data(of, loss_alarms):
    alarm = {**loss_alarms["function-errors"], "EvaluationPeriods": 1}
    metrics = Metrics()
    for minute in range(60):
        metrics.put("AWS/Lambda", "Errors", of["function"], 0, minute * MINUTE, 0)
    metrics.put("AWS/Lambda", "Errors", of["function"], 1, 30 * MINUTE, 5 * MINUTE)
    assert raised({"function-errors": alarm}, metrics, 0, HOUR, extra_periods=0) == {}
