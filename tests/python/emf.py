"""CloudWatch's Embedded Metric Format: the rules of its specification, as a JSON Schema and for the metrics themselves.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
"""

from __future__ import annotations

import json

from jsonschema import Draft202012Validator, ValidationError

NAME = {"type": "string", "minLength": 1, "maxLength": 255}
# The units that the functions use, of those that CloudWatch knows.
UNIT = {"enum": ["Count", "Milliseconds"]}
METRIC = {
    "type": "object",
    "required": ["Name"],
    "properties": {"Name": NAME, "Unit": UNIT, "StorageResolution": {"enum": [1, 60]}},
    "additionalProperties": False,
}
DIRECTIVE = {
    "type": "object",
    "required": ["Namespace", "Dimensions", "Metrics"],
    "properties": {
        "Namespace": {**NAME, "not": {"pattern": "^AWS/"}},
        "Dimensions": {"type": "array", "minItems": 1, "items": {"type": "array", "maxItems": 9, "items": NAME}},
        "Metrics": {"type": "array", "minItems": 1, "maxItems": 100, "items": METRIC},
    },
    "additionalProperties": False,
}
SCHEMA = {
    "type": "object",
    "required": ["_aws"],
    "properties": {
        "_aws": {
            "type": "object",
            "required": ["Timestamp", "CloudWatchMetrics"],
            "properties": {
                "Timestamp": {"type": "integer", "minimum": 1},
                "CloudWatchMetrics": {"type": "array", "minItems": 1, "items": DIRECTIVE},
            },
            "additionalProperties": False,
        }
    },
}
VALIDATOR = Draft202012Validator(SCHEMA)
# Bytes of an event in CloudWatch Logs.
MAX_BYTES = 256 * 1024


def validate(line: dict) -> None:
    """Validates a line with metrics, and that each metric and dimension that it declares is a member of it."""
    VALIDATOR.validate(line)
    if len(json.dumps(line).encode()) > MAX_BYTES:
        raise ValidationError("the line is too long")
    for directive in line["_aws"]["CloudWatchMetrics"]:
        names = [metric["Name"] for metric in directive["Metrics"]]
        if len(set(names)) < len(names):
            raise ValidationError("a metric is declared twice")
        for name in names:
            # A value that is `true` would be a number for Python.
            if type(line.get(name)) not in (int, float):
                raise ValidationError(f"the metric {name} is {line.get(name)!r}")
        for name in (name for dimensions in directive["Dimensions"] for name in dimensions):
            if not isinstance(line.get(name), str) or not line[name]:
                raise ValidationError(f"the dimension {name} is {line.get(name)!r}")
