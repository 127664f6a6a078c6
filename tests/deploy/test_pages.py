"""Every alarm of every template pages someone because of its cause, even if the data is late, and never without one.

The alarms are those of the templates. `test_alarms.py` replays the function's log lines through its deployed alarms.
"""

from __future__ import annotations

import itertools
import json

import pytest
from cloudwatch import Evaluator, Metrics
from intrinsics import Template
from local_aws import ACCOUNT, REGION
from processes import ROOT
from sam_stack import MIRROR_TEMPLATE, TEMPLATE, WATCHDOG_TEMPLATE
from test_alarms import AGE, AWS_METRICS, DAY, DELAYS, HOUR, LINES, MINUTE, VISIBLE

FUNCTION, WATCHDOG = (
    Template(TEMPLATE, {"SilenceHours": "72", "DomainName": "w.example.com"}),
    Template(WATCHDOG_TEMPLATE),
)
MIRRORED_QUEUE = f"arn:aws:sqs:{REGION}:{ACCOUNT}:events.fifo"
MIRROR = Template(MIRROR_TEMPLATE, {"QueueArn": MIRRORED_QUEUE})
FALLBACK = Template(ROOT / "fallback/template.yaml")
TEMPLATES = {"function": FUNCTION, "watchdog": WATCHDOG, "mirror": MIRROR, "fallback": FALLBACK}
OWN = "SuperOfficeWebhook"
# The dimension of the metrics of each template's function.
OF = {
    name: {"FunctionName": template.name(function)}
    for name, template in TEMPLATES.items()
    for function, _ in template.resources("AWS::Serverless::Function")
}
QUEUES = {
    "mirror": {"QueueName": "events.fifo"},
    "fallback": {"QueueName": FALLBACK.name("FallbackQueue")},
    "dead letters": {"QueueName": FALLBACK.name("DeadLetterQueue")},
}
CERTIFICATE = {"CertificateArn": ""}


def alarms(template: Template) -> dict[str, dict]:
    """Returns the alarms of a template by name, the composite ones last."""
    kinds = ("AWS::CloudWatch::Alarm", "AWS::CloudWatch::CompositeAlarm")
    found = [alarm for kind in kinds for _, alarm in template.resources(kind)]
    for alarm in found:
        if "AlarmRule" in alarm:
            alarm["AlarmRule"] = alarm["AlarmRule"].replace("stack-", "")
    return {alarm["AlarmName"].removeprefix("stack-"): alarm for alarm in found}


def notifying(template: Template) -> set[str]:
    return {name for name, alarm in alarms(template).items() if alarm.get("AlarmActions")}


def usual(name: str, end: float, delay: float = 30, begin: float = 0) -> Metrics:
    """What a stack reports from its creation, or from `begin` on."""
    metrics = Metrics()
    if name == "function":
        # On working days, from eight o'clock on.
        for day, hour in itertools.product(range(int(end // DAY) + 1), range(8, 18)):
            at = day * DAY + hour * HOUR + 7 * MINUTE
            if day % 7 < 5 and begin <= at < end:
                metrics.put(OWN, "Forwarded", OF[name], 3, at, delay)
        for half_day in range(int(end // DAY * 2) + 1):
            metrics.put(
                "AWS/CertificateManager", "DaysToExpiry", CERTIFICATE, 300 - half_day // 2, half_day * DAY / 2, 0
            )
    if name == "watchdog":
        for at in range(int(begin) + 2 * MINUTE, int(end), 5 * MINUTE):
            metrics.put(OWN, "WatchdogOk", OF[name], 1, at, delay)
    if name == "mirror":
        for at in range(int(begin) + 2 * MINUTE, int(end), MINUTE):
            metrics.put(OWN, "AuditAge", OF[name], 5, at, delay)
    return metrics


# For each alarm: its template and name, the namespace, name and dimension of the metric, the metric's value, and the
# number of periods of five minutes with this value.
CAUSES = [
    ("watchdog", "runs-fail", "AWS/Lambda", "Errors", OF["watchdog"], 1, 3),
    ("watchdog", "tenants-failed", OWN, "TenantsFailed", OF["watchdog"], 1, 1),
    ("watchdog", "webhooks-inactive", OWN, "WebhooksInactive", OF["watchdog"], 1, 1),
    ("watchdog", "consecutive-errors", OWN, "ConsecutiveErrors", OF["watchdog"], 3, 1),
    ("watchdog", "reactivated", OWN, "Reactivated", OF["watchdog"], 1, 1),
    ("watchdog", "missed", OWN, "Missed", OF["watchdog"], 1, 1),
    ("mirror", "failed", OWN, "MirrorFailed", OF["mirror"], 1, 3),
    ("mirror", "function-errors", "AWS/Lambda", "Errors", OF["mirror"], 1, 2),
    ("mirror", "throttled", OWN, "MirrorThrottled", OF["mirror"], 1, 3),
    ("mirror", "event-age", "AWS/SQS", AGE, QUEUES["mirror"], 901, 1),
    ("mirror", "audit-differences", OWN, "AuditDifferences", OF["mirror"], 1, 1),
    ("mirror", "audit-failed", OWN, "AuditFailed", OF["mirror"], 1, 1),
    ("mirror", "audit-age", OWN, "AuditAge", OF["mirror"], 49, 24),
    ("fallback", "event-age", "AWS/SQS", AGE, QUEUES["fallback"], 901, 1),
    ("fallback", "events-expire", "AWS/SQS", AGE, QUEUES["fallback"], 7 * DAY + 1, 1),
    ("fallback", "dead-letters", "AWS/SQS", VISIBLE, QUEUES["dead letters"], 1, 1),
]
# An old message is more than one problem.
ALSO = {"events-expire": {"event-age"}}
INCIDENT = 6 * HOUR


@pytest.mark.parametrize("extra_periods", [0, 2])
@pytest.mark.parametrize("delay", DELAYS)
@pytest.mark.parametrize(("name", "alarm", "namespace", "metric", "dimensions", "value", "periods"), CAUSES, ids=str)
def test_cause_raises_its_alarm(name, alarm, namespace, metric, dimensions, value, periods, delay, extra_periods):
    # The cause of `audit-age` is another value of a metric that is always reported.
    metrics = usual(name, INCIDENT if alarm == "audit-age" else INCIDENT + 2 * HOUR)
    for period in range(periods):
        metrics.put(namespace, metric, dimensions, value, INCIDENT + (5 * period + 1) * MINUTE, delay)
    evaluator = Evaluator(alarms(TEMPLATES[name]), extra_periods)
    assert evaluator.raised(metrics, 0, INCIDENT, 5 * MINUTE) == {}
    times = evaluator.raised(metrics, INCIDENT, INCIDENT + 2 * HOUR)
    assert times.keys() == {alarm} | ALSO.get(alarm, set())
    assert times[alarm][0] <= INCIDENT + 5 * min(periods, 3) * MINUTE + delay + MINUTE


@pytest.mark.parametrize("delay", DELAYS)
@pytest.mark.parametrize(("name", "alarm", "minutes"), [("watchdog", "not-running", 25), ("mirror", "audit-age", 25)])
def test_function_that_stops_raises_its_alarm_while_it_stands(name, alarm, minutes, delay):
    metrics = usual(name, INCIDENT, delay)
    times = Evaluator(alarms(TEMPLATES[name])).raised(metrics, 0, 5 * DAY, 5 * MINUTE)
    assert times.keys() == {alarm}
    assert INCIDENT < times[alarm][0] <= INCIDENT + minutes * MINUTE + delay
    assert len(times[alarm]) == (times[alarm][-1] - times[alarm][0]) / (5 * MINUTE) + 1


@pytest.mark.parametrize("hours", ["24", "0"])
def test_dashboard_of_the_mirror_shows_every_alarm_that_notifies(hours):
    template = Template(MIRROR_TEMPLATE, {"QueueArn": MIRRORED_QUEUE, "AuditHours": hours})
    ((_, dashboard),) = template.resources("AWS::CloudWatch::Dashboard")
    widgets = json.loads(dashboard["DashboardBody"])["widgets"]
    (arns,) = [widget["properties"]["alarms"] for widget in widgets if widget["type"] == "alarm"]
    assert sorted(arn.rsplit(":", 1)[1].removeprefix("stack-") for arn in arns) == sorted(notifying(template))


def test_silence_raises_its_alarm_after_the_configured_hours():
    last = 11 * DAY + 17 * HOUR + 7 * MINUTE
    metrics = usual("function", last + MINUTE)
    for hour in range(200):
        metrics.put(OWN, "Unsigned", OF["function"], 1, last + hour * HOUR, 0)
        metrics.put(OWN, "Rejected", OF["function"], 1, last + hour * HOUR, 0)
    times = Evaluator(alarms(FUNCTION), 0).raised(metrics, 0, last + 20 * DAY, 10 * MINUTE)
    assert "silence" in times
    assert 72 * HOUR <= times["silence"][0] - last <= 74 * HOUR
    # It remains longer than the week that CloudWatch looks back.
    assert times["silence"][-1] >= last + 20 * DAY - HOUR


def test_certificate_alarm_remains_after_the_certificate_has_expired():
    metrics = Metrics()
    for half_day in range(2 * 60):
        metrics.put("AWS/CertificateManager", "DaysToExpiry", CERTIFICATE, 60 - half_day // 2, half_day * DAY / 2, 0)
    # After day 40, the certificate has 20 days left. After day 60, there is no data.
    times = Evaluator(alarms(FUNCTION)).raised(metrics, 0, 100 * DAY, HOUR)
    assert times["certificate-expires"] == list(range(41 * DAY, 100 * DAY, HOUR))


@pytest.mark.parametrize("delay", DELAYS)
@pytest.mark.parametrize("name", TEMPLATES)
def test_new_stack_raises_no_alarm(name, delay):
    end = 15 * DAY if name == "function" else 2 * DAY
    # The function runs from the beginning, or after some hours: before, nobody registered the webhook.
    for begin in (0, 7 * HOUR):
        metrics = usual(name, end, delay, begin)
        assert Evaluator(alarms(TEMPLATES[name])).raised(metrics, 0, end, 10 * MINUTE) == {}
    assert Evaluator(alarms(TEMPLATES[name])).raised(Metrics(), 0, end, HOUR) == {}


# With data that is ten minutes late, a lost run cannot be distinguished from three.
@pytest.mark.parametrize("delay", DELAYS[:-1])
@pytest.mark.parametrize("name", OF)
def test_update_of_a_stack_raises_no_alarm(name, delay):
    metrics, complete = Metrics(), usual(name, DAY, delay)
    # Nothing runs for five minutes.
    for key, values in complete._values.items():
        metrics._values[key] = [value for value in values if not INCIDENT <= value[0] < INCIDENT + 5 * MINUTE]
    assert Evaluator(alarms(TEMPLATES[name])).raised(metrics, 0, DAY, MINUTE) == {}


def test_every_alarm_of_every_template_has_a_case():
    function = {case[0] for case in LINES + AWS_METRICS} - {"rejected-requests"}
    function |= {"enqueue-latency", "rejected", "silence", "certificate-expires"}
    cases = {name: {case[1] for case in CAUSES if case[0] == name} for name in TEMPLATES}
    cases["watchdog"].add("not-running")
    assert {name: notifying(template) for name, template in TEMPLATES.items()} == {**cases, "function": function}
