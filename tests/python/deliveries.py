"""SuperOffice and API Gateway in Python: events, their signatures, and the events that Lambda receives.

Shares no code with the function, so that the tests compare it with an independent implementation.
"""

from __future__ import annotations

import base64
import json
import uuid
from dataclasses import dataclass

from signing import SAMPLE_SECRET, sign

SIGNATURE = "X-SuperOffice-Signature"

# Payload format version of API Gateway, and encoding of the body.
FORMS = ["2.0 text", "2.0 base64", "1.0 text", "1.0 base64"]


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


def envelope(
    form: str,
    body: bytes,
    headers: list[tuple[str, str]],
    method: str = "POST",
    path: str = "/webhook",
) -> dict:
    """Returns the Lambda event that API Gateway creates for a request. Headers may be repeated."""
    version, _, encoding = form.partition(" ")
    text = base64.b64encode(body).decode() if encoding == "base64" else body.decode()
    body_fields = {"body": text or None, "isBase64Encoded": encoding == "base64"}
    headers = [("Host", "a1b2c3d4e5.execute-api.eu-north-1.amazonaws.com"), *headers]
    repeated: dict[str, list[str]] = {}
    for name, value in headers:
        repeated.setdefault(name, []).append(value)
    if version == "2.0":
        return {
            "version": "2.0",
            "routeKey": "$default",
            "rawPath": path,
            "rawQueryString": "",
            # An HTTP API joins the values of a repeated header with commas.
            "headers": {name.lower(): ",".join(values) for name, values in repeated.items()},
            "requestContext": {
                "accountId": "123456789012",
                "apiId": "a1b2c3d4e5",
                "domainName": "a1b2c3d4e5.execute-api.eu-north-1.amazonaws.com",
                "domainPrefix": "a1b2c3d4e5",
                "http": {
                    "method": method,
                    "path": path,
                    "protocol": "HTTP/1.1",
                    "sourceIp": "203.0.113.17",
                    "userAgent": "NetServer-Webhook/10.5",
                },
                "requestId": "JKJaXmPLvHcESHA=",
                "routeKey": "$default",
                "stage": "$default",
                "time": "16/Mar/2026:08:14:23 +0000",
                "timeEpoch": 1773648863204,
            },
            **body_fields,
        }
    return {
        "resource": "/{proxy+}",
        "path": path,
        "httpMethod": method,
        # A REST API has the last value of a repeated header here, and all values in `multiValueHeaders`.
        "headers": {name: values[-1] for name, values in repeated.items()},
        "multiValueHeaders": repeated,
        "queryStringParameters": None,
        "multiValueQueryStringParameters": None,
        "pathParameters": {"proxy": path.lstrip("/")},
        "stageVariables": None,
        "requestContext": {
            "accountId": "123456789012",
            "apiId": "a1b2c3d4e5",
            "domainName": "a1b2c3d4e5.execute-api.eu-north-1.amazonaws.com",
            "domainPrefix": "a1b2c3d4e5",
            "httpMethod": method,
            "identity": {"sourceIp": "203.0.113.17", "userAgent": "NetServer-Webhook/10.5"},
            "path": f"/Prod{path}",
            "protocol": "HTTP/1.1",
            "requestId": "5f0c7d3e-2f54-4f0a-8f3c-7f1f1d0b6a99",
            "requestTime": "16/Mar/2026:08:14:23 +0000",
            "requestTimeEpoch": 1773648863204,
            "resourceId": "9q3hx2",
            "resourcePath": "/{proxy+}",
            "stage": "Prod",
        },
        **body_fields,
    }


def delivery(
    body: bytes | dict,
    form: str = "2.0 text",
    signatures: list[str] | None = None,
    secret: str = SAMPLE_SECRET,
    headers: list[tuple[str, str]] | None = None,
    **request: str,
) -> dict:
    """Returns the Lambda event of a delivery, signed with `secret` or with the given signatures."""
    raw = body if isinstance(body, bytes) else encode(body)
    if signatures is None:
        signatures = [sign(raw, secret)]
    return envelope(
        form,
        raw,
        [
            ("Content-Type", "application/json; charset=utf-8"),
            ("User-Agent", "NetServer-Webhook/10.5"),
            *(headers or []),
            *((SIGNATURE, signature) for signature in signatures),
        ],
        **request,
    )


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
