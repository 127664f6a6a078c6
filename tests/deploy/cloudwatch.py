"""CloudWatch's evaluation of alarms, from its documentation, on replayed data that arrives late.

An alarm looks at a range of recent periods that is a little longer than `EvaluationPeriods`. If the range has that many
periods with data, the most recent of them count. Otherwise all of them count, and `TreatMissingData` supplies the rest.
https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarms-and-missing-data.html
"""

from __future__ import annotations

import math
import operator
import re
from collections import defaultdict
from dataclasses import dataclass, field

COMPARISONS = {
    "GreaterThanOrEqualToThreshold": operator.ge,
    "GreaterThanThreshold": operator.gt,
    "LessThanThreshold": operator.lt,
    "LessThanOrEqualToThreshold": operator.le,
}


@dataclass
class Metrics:
    """Values of metrics, each with its time and the time of its arrival in CloudWatch, in seconds."""

    _values: dict[tuple, list[tuple[float, float, float]]] = field(default_factory=lambda: defaultdict(list))

    def put(self, namespace: str, name: str, dimensions: dict[str, str], value: float, at: float, delay: float) -> None:
        self._values[_key(namespace, name, dimensions)].append((at, at + delay, value))

    def put_line(self, line: dict, at: float, delay: float = 0) -> None:
        """Extracts the metrics of a log line in Embedded Metric Format."""
        for directive in line["_aws"]["CloudWatchMetrics"]:
            for names in directive["Dimensions"]:
                dimensions = {name: line[name] for name in names}
                for metric in directive["Metrics"]:
                    name = metric["Name"]
                    self.put(directive["Namespace"], name, dimensions, line[name], at, delay)

    def periods(self, alarm: dict, now: float, count: int) -> list[float | None]:
        """The statistic of the last `count` complete periods, oldest first; `None` for one without data."""
        period = alarm["Period"]
        dimensions = {dimension["Name"]: dimension["Value"] for dimension in alarm.get("Dimensions", [])}
        values = self._values[_key(alarm["Namespace"], alarm["MetricName"], dimensions)]
        end = now // period
        found: dict[int, list[float]] = defaultdict(list)
        for at, arrival, value in values:
            if arrival <= now and end - count <= at // period < end:
                found[int(at // period - end)].append(value)
        return [_statistic(alarm, found[index]) if index in found else None for index in range(-count, 0)]


def state(alarm: dict, metrics: Metrics, now: float, extra_periods: int = 2, previous: str = "OK") -> str:
    """Returns the alarm's state, `OK` or `ALARM`, from what has arrived until `now`."""
    count = int(alarm["EvaluationPeriods"]) + extra_periods
    if "Metrics" not in alarm:
        return state_of(alarm, metrics.periods(alarm, now, count), previous)
    # The only expression is FILL(metric, 0).
    expression, query = alarm["Metrics"]
    assert expression["Expression"] == f"FILL({query['Id']}, 0)"
    stat = query["MetricStat"]
    metric = {**stat["Metric"], "Statistic": stat["Stat"], "Period": stat["Period"]}
    return state_of(alarm, fill(metrics.periods(metric, now, count), 0), previous)


@dataclass
class Evaluator:
    """The alarms of a stack, with their states. Composite alarms have a rule."""

    alarms: dict[str, dict]
    extra_periods: int = 2
    states: dict[str, str] = field(default_factory=dict)

    def raised(self, metrics: Metrics, start: float, end: float, step: float = 60) -> dict[str, list[float]]:
        """Returns the times at which each alarm that notifies someone is raised."""
        times: dict[str, list[float]] = {}
        for now in range(int(start), int(end), int(step)):
            for name, alarm in self.alarms.items():
                if "AlarmRule" not in alarm:
                    previous = self.states.get(name, "INSUFFICIENT_DATA")
                    self.states[name] = state(alarm, metrics, now, self.extra_periods, previous)
            for name, alarm in self.alarms.items():
                if "AlarmRule" in alarm:
                    self.states[name] = composite_state(alarm["AlarmRule"], self.states)
                if self.states[name] == "ALARM" and alarm.get("AlarmActions"):
                    times.setdefault(name, []).append(now)
        return times


def composite_state(rule: str, states: dict[str, str]) -> str:
    """Returns the state of a composite alarm whose rule is a conjunction, from the states of its alarms by name."""
    parts = [re.fullmatch(r'ALARM\("([\w-]+)"\)', part) for part in rule.split(" AND ")]
    assert all(parts), rule
    return "ALARM" if all(states[part[1]] == "ALARM" for part in parts) else "OK"


def fill(periods: list[float | None], value: float) -> list[float | None]:
    """The function FILL of metric math: without any data, there is nothing to fill."""
    has_data = any(period is not None for period in periods)
    return [value if period is None and has_data else period for period in periods]


def state_of(alarm: dict, periods: list[float | None], previous: str = "OK") -> str:
    """Returns the alarm's state for the statistics of its evaluation range. `previous` remains without enough data."""
    compare = COMPARISONS[alarm["ComparisonOperator"]]
    wanted, datapoints = (
        int(alarm["EvaluationPeriods"]),
        int(alarm.get("DatapointsToAlarm", alarm["EvaluationPeriods"])),
    )
    breaching = [compare(value, alarm["Threshold"]) for value in periods if value is not None][-wanted:]
    if alarm["TreatMissingData"] == "ignore" and all(breaching) and sum(breaching) < datapoints:
        return previous
    filled = {"breaching": True, "notBreaching": False, "ignore": False}[alarm["TreatMissingData"]]
    breaching += [filled] * (wanted - len(breaching))
    return "ALARM" if sum(breaching) >= datapoints else "OK"


def _statistic(alarm: dict, values: list[float]) -> float:
    if percentile := alarm.get("ExtendedStatistic"):
        return sorted(values)[math.ceil(float(percentile[1:]) / 100 * len(values)) - 1]
    return {"Sum": sum, "Maximum": max, "Minimum": min}[alarm["Statistic"]](values)


def _key(namespace: str, name: str, dimensions: dict[str, str]) -> tuple:
    return namespace, name, frozenset(dimensions.items())
