"""SuperOffice and API Gateway in Python: events, their signatures, and the events that Lambda receives.

Shares no code with the function, so that the tests compare it with an independent implementation.
"""

from __future__ import annotations

import base64
import json
import uuid
from dataclasses import dataclass

from signing import SAMPLE_SECRET, sign


def event(**fields: object) -> dict:
    """Returns a contact event with a new id. `fields` replaces fields; `None` removes one."""
    document = {
        "EventId": str(uuid.uuid4()),
        "Timestamp": "2026-03-16T08:14:22.5170413Z",
        "Changes": ["name"],
        "Event": "contact.changed",
        "PrimaryKey": 994863,
        "Entity": "contact",
        "FieldValues": {"associate_id": 103, "DeletedDate": "0001-01-01T00:00:00"},
        "ContextIdentifier": "Cust12345",
        "ChangedByAssociateId": 103,
        "WebhookName": "Contacts to the data platform",
        **fields,
    }
    return {name: value for name, value in document.items() if value is not None}


def encode(document: object) -> bytes:
    return json.dumps(document, ensure_ascii=False).encode()


def delivery(
    body: bytes | dict,
    secret: str | None = SAMPLE_SECRET,
    headers: dict[str, str] | None = None,
) -> dict:
    """Returns the Lambda event of an HTTP API for a delivery, signed unless `secret` is `None`."""
    raw = body if isinstance(body, bytes) else encode(body)
    fields = {
        "content-type": "application/json; charset=utf-8",
        "user-agent": "NetServer-Webhook/10.5",
        **{name.lower(): value for name, value in (headers or {}).items()},
        **({"x-superoffice-signature": sign(raw, secret)} if secret else {}),
    }
    return {
        "version": "2.0",
        "rawPath": "/webhook",
        "headers": fields,
        "requestContext": {"http": {"method": "POST", "path": "/webhook"}, "stage": "$default"},
        "body": base64.b64encode(raw).decode(),
        "isBase64Encoded": True,
    }


@dataclass
class Response:
    """The HTTP response that API Gateway creates from the function's result."""

    status: int
    headers: dict[str, str]
    text: str

    @property
    def json(self) -> dict:
        return json.loads(self.text)


def response(result: dict) -> Response:
    assert result["isBase64Encoded"] is False
    return Response(result["statusCode"], result["headers"], result["body"])
