"""The process and its environment: failed starts, and the absence of secrets in the output."""

from deliveries import sign
from runtime_api import Function


def test_invalid_environment_is_reported_at_once_without_secrets(binary):
    environment = {
        "SUPEROFFICE_WEBHOOK_SECRET": "hunter2-current",
        "SUPEROFFICE_TENANT_SECRETS": '{"Cust1": "hunter2-tenant", "Cust2": 7}',
        "QUEUE_URL": "events.fifo",
        "QUARANTINE_QUEUE_URL": "ftp://sqs.eu-north-1.amazonaws.com/123456789012/quarantine",
        "FALLBACK_QUEUE_URL": "https://sqs.eu-north-1.amazonaws.com/",
        "FORWARD_EVENTS": " , ",
        "MESSAGE_FORMAT": "xml",
    }
    with Function(binary, environment) as function:
        assert function.wait() not in (0, None)
        assert not function.api.polled.is_set(), "requested an event"
        error, output = function.stderr, function.stdout + function.stderr
    for variable in environment.keys() - {"SUPEROFFICE_WEBHOOK_SECRET"}:
        assert f"\n  {variable}: " in error
    assert "hunter2" not in output


def test_secrets_bodies_and_signatures_are_never_logged_at_trace_level(start):
    secret = "hunter2-the-shared-secret"
    deployment, function = start(
        quarantine="quarantine.fifo", SUPEROFFICE_WEBHOOK_SECRET=secret, AWS_LAMBDA_LOG_LEVEL="TRACE"
    )
    body = b'{"Event":"contact.created","EventId":"e","PrimaryKey":1,"Note":"hunter2-in-the-body"}'
    assert deployment.send(body, secret=secret).json["outcome"] == "forwarded"
    assert deployment.send(body).status == 401
    assert deployment.send(body[:-1], secret=secret).json["outcome"] == "quarantined"
    output = function.stdout + function.stderr
    assert [line["status"] for line in function.lines] == [200, 401, 200]
    for confidential in ("hunter2", sign(body, secret), sign(body), sign(body[:-1], secret)):
        assert confidential not in output
