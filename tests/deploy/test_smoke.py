"""`make smoke` against the deployed stack, and its explanations of unexpected responses."""

import json
import socket

import pytest
import smoke
from smoke import Response, explain, explain_event, explain_probe, explain_unsigned

PROBLEM = "application/problem+json"


@pytest.fixture
def run(capsys):
    """Runs the command and returns its exit status and both outputs."""

    def run(*arguments: str) -> tuple[int, str]:
        status = smoke.main(list(arguments))
        output = capsys.readouterr()
        return status, output.out + output.err

    return run


def test_working_deployment_passes(run, webhook):
    status, output = run(webhook.outputs["WebhookUrl"])

    assert status == 0
    assert [line.split(",")[0] for line in output.splitlines()] == [
        "unsigned probe  401  The request signature is missing or invalid.",
        "signed probe    200  test",
        "signed event    200  forwarded",
    ]
    (message,) = webhook.queue().drain()
    assert json.loads(message["Body"])["WebhookName"] == "make smoke"
    assert run(webhook.outputs["WebhookUrl"], "--probe-only")[0] == 0
    assert webhook.queue().drain() == []


def test_wrong_secret_is_explained(run, webhook, monkeypatch):
    monkeypatch.setenv("SUPEROFFICE_WEBHOOK_SECRET", "not the deployed secret")
    status, output = run(webhook.outputs["WebhookUrl"])
    assert status == 1
    assert "Is SUPEROFFICE_WEBHOOK_SECRET here the deployed secret" in output


def test_wrong_path_is_explained(run, webhook):
    status, output = run(webhook.outputs["WebhookUrl"] + "s")
    assert status == 1
    assert "Does the URL end in /webhook" in output


def test_unselected_event_is_mentioned(run, webhook):
    webhook.update(ForwardEvents="contact.created")
    status, output = run(webhook.outputs["WebhookUrl"])
    webhook.update(ForwardEvents="contact.*")
    assert status == 0
    assert "Not checked: the events queue" in output


def test_untrusted_certificate_is_explained(run, webhook, monkeypatch):
    monkeypatch.delenv("SSL_CERT_FILE")
    monkeypatch.setattr(smoke, "LOCAL_CA", smoke.LOCAL_CA.with_name("missing.pem"))
    status, output = run(webhook.outputs["WebhookUrl"])
    assert status == 1
    assert "SuperOffice requires a valid certificate" in output


@pytest.mark.parametrize(
    ("url", "explanation"),
    [
        ("http://webhooks.example.com/webhook", "SuperOffice posts to https:// URLs only"),
        ("webhooks.example.com/webhook", "Not a URL"),
        ("", "Use the output WebhookUrl"),
        ("https://webhooks.example.com/webhook", "Set SUPEROFFICE_WEBHOOK_SECRET"),
    ],
)
def test_url_without_a_deployment_is_explained(run, url, explanation):
    status, output = run(url)
    assert status == 1
    assert explanation in output


def test_closed_port_is_explained(run):
    # Bound without listening, so that nobody else listens there.
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        status, output = run(f"https://localhost:{closed.getsockname()[1]}/webhook")
    assert status == 1
    assert "refuses connections" in output


def test_unknown_host_is_explained(run, monkeypatch):
    monkeypatch.setenv("SUPEROFFICE_WEBHOOK_SECRET", "secret")
    status, output = run("https://webhooks.example.invalid/webhook")
    assert status == 1
    assert "DNS: webhooks.example.invalid does not exist" in output


def gateway(status: int, message: str = "") -> Response:
    return Response(status, "application/json", json.dumps({"message": message}).encode(), 1)


def function(status: int) -> Response:
    return Response(status, PROBLEM, json.dumps({"title": "", "status": status}).encode(), 1)


@pytest.mark.parametrize(
    ("response", "explanation"),
    [
        (gateway(401), "remove the authorizer"),
        (gateway(403), "does it have an API mapping"),
        (gateway(404), "No route matches"),
        (gateway(429), "ThrottlingRateLimit"),
        (gateway(500), "`cannot start`"),
        (gateway(500), "WebhookApiPermission"),
        (gateway(502), "built for another processor"),
        (gateway(503), "ReservedConcurrency"),
        (gateway(504), "did not respond in time"),
        (gateway(418), "does not come from the function"),
        (Response(301, "text/html", b"", 1), "SuperOffice does not follow redirects"),
        (function(401), "did not accept the signature"),
        (function(405), "another method than POST"),
        (function(413), "too large"),
        (function(500), "has a bug"),
        (function(503), "No queue accepted the event"),
        (function(400), "Its log contains the reason"),
    ],
)
def test_response_is_explained(response, explanation):
    assert explanation in explain(response)


def test_success_of_another_program_is_not_accepted():
    welcome = Response(200, "text/html", b"<html>Welcome</html>", 1)
    assert explain_unsigned(welcome).startswith("DANGER")
    assert "not the function's" in explain_probe(welcome)
    assert "quarantined as malformed" in explain_event(
        Response(200, "application/json", b'{"outcome":"quarantined"}', 1)
    )
    assert explain_unsigned(gateway(401)) != ""
