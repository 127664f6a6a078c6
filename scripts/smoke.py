"""Checks a deployment over HTTPS, in AWS or local: `make smoke URL=https://…/webhook`.

Posts an unsigned request, which must be rejected, a signed registration probe, and a signed sample event. Explains an
unexpected response. Needs only the standard library.

Run it after every deployment: a stack update can succeed although the function does not start.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import re
import socket
import ssl
import sys
import time
import uuid
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from signing import SAMPLE_SECRET, sign

# The certificate authority of `make deploy-local`.
LOCAL_CA = Path(__file__).resolve().parents[1] / ".tools/local-aws/ca.pem"
TIMEOUT = 30


class SmokeError(Exception):
    """The deployment could not be reached. The text explains why."""


@dataclass
class Response:
    status: int
    content_type: str
    body: bytes
    milliseconds: int

    @property
    def json(self) -> dict:
        try:
            value = json.loads(self.body)
        except ValueError:
            return {}
        return value if isinstance(value, dict) else {}

    @property
    def is_from_function(self) -> bool:
        """Returns `True` for a body in one of the function's own formats. API Gateway's errors have only `message`."""
        return "outcome" in self.json or self.content_type.startswith("application/problem+json")

    @property
    def summary(self) -> str:
        fields = self.json
        text = fields.get("outcome") or fields.get("detail") or fields.get("title") or fields.get("message")
        return str(text) if text else self.body[:60].decode("utf-8", "replace")


def main(arguments: list[str] | None = None) -> int:
    """Returns 0 if all responses are as expected, otherwise 1."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", help="the output WebhookUrl, with /<tenant> if the tenant's secret is derived")
    parser.add_argument("--tenant", default="", help="the event's ContextIdentifier; default: the tenant in the URL")
    parser.add_argument("--probe-only", action="store_true", help="do not post the sample event")
    options = parser.parse_args(arguments)
    try:
        url = parse_url(options.url)
        secret = configured_secret(url)
        tenant = options.tenant or tenant_in(url)
        return check(url, secret, tenant, with_event=not options.probe_only)
    except SmokeError as error:
        print(error, file=sys.stderr)
        return 1


def check(url: SplitResult, secret: str, tenant: str, with_event: bool) -> int:
    """Posts the requests and prints one line for each. Returns the exit status."""
    probe = body_of("test", tenant)
    checks = [
        ("unsigned probe", probe, None, explain_unsigned),
        ("signed probe", probe, sign(probe, secret), explain_probe),
    ]
    if with_event:
        event = body_of("contact.changed", tenant)
        checks.append(("signed event", event, sign(event, secret), explain_event))
    for name, body, signature, explain in checks:
        response = post(url, body, signature)
        problem = explain(response)
        verdict = "unexpected" if problem else "ok"
        print(f"{name:<16}{response.status}  {response.summary}, {response.milliseconds} ms: {verdict}", flush=True)
        if problem:
            print(f"\n{problem}", file=sys.stderr)
            return 1
    return 0


def body_of(event: str, tenant: str) -> bytes:
    """Returns a body as SuperOffice sends it. Its contact id 0 does not exist."""
    is_probe = event == "test"
    fields = {
        "EventId": str(uuid.uuid4()),
        "Timestamp": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "Changes": [] if is_probe else ["name"],
        "Event": event,
        "PrimaryKey": 0,
        "Entity": "test" if is_probe else "contact",
        "ContextIdentifier": tenant or "Default",
        "ChangedByAssociateId": 0,
        "WebhookName": "make smoke",
    }
    return json.dumps(fields).encode()


def explain_unsigned(response: Response) -> str:
    if response.status == 401 and response.is_from_function:
        return ""
    if response.status == 200:
        return "DANGER: an unsigned request was accepted. Another program than the function responds."
    return explain(response)


def explain_probe(response: Response) -> str:
    if response.status == 200 and response.json.get("outcome") == "test":
        return ""
    if response.status == 200:
        return "The response is not the function's. Does another program respond at this URL?"
    return explain(response)


def explain_event(response: Response) -> str:
    outcome = response.json.get("outcome")
    if response.status == 200 and outcome == "forwarded":
        return ""
    if response.status == 200 and outcome == "ignored":
        print("The event was not queued: ForwardEvents does not match contact.changed. Not checked: the events queue.")
        return ""
    if response.status == 200:
        return "The sample event was quarantined as malformed. Is an older version of the function deployed?"
    return explain(response)


def explain(response: Response) -> str:
    """Returns the probable cause of an error response, and the first thing to check."""
    origin = "function" if response.is_from_function else "gateway"
    specific = EXPLANATIONS.get((response.status, origin))
    if specific:
        return specific
    if 300 <= response.status < 400:
        return "The response is a redirect. SuperOffice does not follow redirects: register the URL to which it points."
    if response.is_from_function:
        return "The function rejected the request. Its log contains the reason."
    return (
        "The response does not come from the function. Is the URL the output WebhookUrl? "
        "The endpoint's access log contains the cause."
    )


LOG = "the function's log (output LogGroupName)"
EXPLANATIONS = {
    (401, "function"): (
        "The function runs, but did not accept the signature.\n"
        "- Is SUPEROFFICE_WEBHOOK_SECRET here the deployed secret, without a stray space or line break?\n"
        "- Has the tenant its own secret (TenantSecrets, MasterSecret)? Then use that one, and TENANT=<its id>.\n"
        f"- `reason` in {LOG} distinguishes a mismatch from a wrong tenant."
    ),
    (401, "gateway"): "API Gateway requires authorization. SuperOffice cannot send credentials: remove the authorizer.",
    (403, "gateway"): (
        "API Gateway or a firewall rejected the request before the function.\n"
        "- With a custom domain: does it have an API mapping, and does the host name in the URL match it?\n"
        "- Is there an authorizer, a resource policy or a WAF rule?"
    ),
    (404, "gateway"): (
        "No route matches.\n"
        "- Does the URL end in /webhook, or in /webhook/<tenant>? Is it the output WebhookUrl?\n"
        "- Is API Gateway's own address disabled (DefaultEndpoint)? Then only the custom domain works.\n"
        "- Was the stack deleted?"
    ),
    (405, "function"): "The function received another method than POST. A proxy changed the request.",
    (413, "function"): "The body is too large for a queue message. A proxy changed the request.",
    (429, "gateway"): (
        "API Gateway throttles requests: ThrottlingRateLimit or ThrottlingBurstLimit is too low, or someone floods the "
        "endpoint. SuperOffice's deliveries are lost at the same time."
    ),
    (500, "gateway"): (
        "API Gateway could not get a response from the function.\n"
        f"- The function did not start: see `cannot start` in {LOG}. A parameter has an invalid value, or the binary "
        "was built for another processor (Architecture).\n"
        "- API Gateway may not invoke the function: the stack's WebhookApiPermission is missing.\n"
        "To return to the previous state, deploy the previous parameters and artifacts again."
    ),
    (500, "function"): f"The function has a bug: see `reason` in {LOG}.",
    (502, "gateway"): (
        "The function ended without a response.\n"
        f"- It did not start: see `cannot start` in {LOG}. A parameter has an invalid value, or the binary was built "
        "for another processor (Architecture).\n"
        "To return to the previous state, deploy the previous parameters and artifacts again."
    ),
    (503, "function"): (
        "No queue accepted the event. SuperOffice's deliveries are lost after two retries.\n"
        f"- `reason` in {LOG} names the error of SQS.\n"
        "- `AccessDenied`: the function's role, the queue's policy or its KMS key. `NonExistentQueue`: the queue was "
        "deleted. `timeout` or `unreachable`: the network, if the function is in a VPC."
    ),
    (503, "gateway"): (
        "Lambda did not run the function: its concurrency is used up (ReservedConcurrency, the account's quota), or "
        "the function needs longer than API Gateway waits."
    ),
    (504, "gateway"): "The function did not respond in time. SuperOffice's deliveries time out as well.",
}


def parse_url(text: str) -> SplitResult:
    url = urlsplit(text)
    if url.scheme == "http":
        raise SmokeError("SuperOffice posts to https:// URLs only, with a valid certificate.")
    if url.scheme != "https" or not url.hostname:
        raise SmokeError(f"Not a URL: {text!r}. Use the output WebhookUrl: make smoke URL=https://…/webhook")
    return url


def tenant_in(url: SplitResult) -> str:
    """Returns the tenant in a path that ends in /webhook/<tenant>."""
    found = re.search(r"/webhook/([^/]+)/?$", url.path)
    return unquote(found[1]) if found else ""


def configured_secret(url: SplitResult) -> str:
    secret = os.environ.get("SUPEROFFICE_WEBHOOK_SECRET", "")
    if secret:
        return secret
    if is_local(url.hostname):
        return SAMPLE_SECRET
    raise SmokeError("Set SUPEROFFICE_WEBHOOK_SECRET to the deployed secret.")


def is_local(host: str) -> bool:
    return host == "localhost" or host.endswith(".localhost")


def post(url: SplitResult, body: bytes, signature: str | None) -> Response:
    """Posts a body as SuperOffice does."""
    headers = {"Content-Type": "application/json; charset=utf-8", "User-Agent": "NetServer-Webhook/smoke"}
    if signature:
        headers["X-SuperOffice-Signature"] = signature
    context = ssl.create_default_context()
    if is_local(url.hostname) and LOCAL_CA.exists():
        context.load_verify_locations(LOCAL_CA)
    connection = Connection(url.hostname, url.port, timeout=TIMEOUT, context=context)
    path = url.path + (f"?{url.query}" if url.query else "")
    started = time.monotonic()
    try:
        connection.request("POST", path or "/", body, headers)
        answer = connection.getresponse()
        content = answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise SmokeError(explain_connection(url, error)) from error
    finally:
        connection.close()
    milliseconds = round((time.monotonic() - started) * 1000)
    return Response(answer.status, answer.headers.get("Content-Type", ""), content, milliseconds)


class Connection(http.client.HTTPSConnection):
    """Resolves localhost and every name in it to 127.0.0.1. Not every resolver does, although RFC 6761 demands it."""

    def connect(self) -> None:
        host = "127.0.0.1" if is_local(self.host) else self.host
        self.sock = socket.create_connection((host, self.port), self.timeout)
        self.sock = self._context.wrap_socket(self.sock, server_hostname=self.host)


def explain_connection(url: SplitResult, error: Exception) -> str:
    host = url.hostname
    if isinstance(error, socket.gaierror):
        return (
            f"DNS: {host} does not exist.\n"
            "- API Gateway's address: is it the output of the stack, in this region?\n"
            "- A custom domain: its CNAME or alias record must point to the output CustomDomainTarget."
        )
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"TLS: the certificate of {host} is not valid: {error.verify_message}.\n"
            "SuperOffice requires a valid certificate, so its deliveries fail as well.\n"
            "- A custom domain: does CertificateArn belong to this host name? Has the certificate expired?"
        )
    if isinstance(error, ssl.SSLError):
        return f"TLS: no connection to {host}: {error.reason}. The endpoint requires TLS 1.2 or newer."
    if isinstance(error, TimeoutError):
        return f"{host} did not respond within {TIMEOUT} s. SuperOffice's deliveries time out as well."
    if isinstance(error, ConnectionRefusedError):
        return f"{host} refuses connections on port {url.port or 443}. Does the deployment run?"
    return f"No response from {host}: {error or type(error).__name__}"


if __name__ == "__main__":
    sys.exit(main())
