"""Validates messages from the queues against the JSON Schemas of schema/."""

from __future__ import annotations

import json

from jsonschema import Draft202012Validator
from processes import ROOT


def _validator(name: str) -> Draft202012Validator:
    schema = json.loads((ROOT / "schema" / f"{name}.schema.json").read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)


_EVENTS = {
    "application/json": _validator("superoffice-message"),
    "application/cloudevents+json": _validator("cloudevents-message"),
}
_ENTITIES = _validator("entities")
_QUARANTINE = _validator("quarantine-message")


def validate_event(message: dict) -> None:
    """Validates a message of the events queue: by the schema of its format, and its event by that of its entity."""
    content_type = message["MessageAttributes"]["ContentType"]["StringValue"]
    body = json.loads(message["Body"])
    _EVENTS[content_type].validate(_instance(message, body))
    _ENTITIES.validate(body if content_type == "application/json" else body["data"])


def validate_quarantined(message: dict) -> None:
    """Validates a message of the quarantine queue."""
    _QUARANTINE.validate(_instance(message, message["Body"]))


def _instance(message: dict, body: object) -> dict:
    attributes = {
        name: {"dataType": value["DataType"], "stringValue": value["StringValue"]}
        for name, value in message["MessageAttributes"].items()
    }
    return {"body": body, "messageAttributes": attributes}
