"""The function's environment: what it changes, and what is said of mistakes in it."""

import pytest
from deliveries import FORMS, delivery, event, sign
from runtime_api import Function
from stack import SAMPLE_SECRET, free_port

FIFO = "https://sqs.eu-north-1.amazonaws.com/123456789012/events.fifo"


def refuses_to_start(binary, environment):
    """What the function says when it ends before it has asked for an event."""
    with Function(binary, environment) as function:
        assert function.wait() not in (0, None)
        assert not function.api.polled.is_set()
        return function.stderr


def test_everything_that_is_missing_is_named_at_once(binary):
    said = refuses_to_start(binary, {})
    assert "SUPEROFFICE_WEBHOOK_SECRET is not set" in said
    assert "QUEUE_URL is not set" in said
    assert said.count("_URL") == 1


def test_an_empty_value_counts_as_unset(binary):
    empty = dict.fromkeys(["SUPEROFFICE_WEBHOOK_SECRET", "QUEUE_URL", "QUARANTINE_QUEUE_URL", "FORWARD_EVENTS"], "")
    assert refuses_to_start(binary, empty) == refuses_to_start(binary, {})


def test_every_mistake_is_named_at_once_and_no_secret_is_shown(binary):
    said = refuses_to_start(
        binary,
        {
            "SUPEROFFICE_TENANT_SECRETS": '{"Cust1": "hunter2-secret", "Cust2": 7}',
            "QUEUE_URL": "events.fifo",
            "QUARANTINE_QUEUE_URL": "ftp://sqs.eu-north-1.amazonaws.com/123456789012/quarantine",
            "FALLBACK_QUEUE_URL": "https://sqs.eu-north-1.amazonaws.com/",
            "FORWARD_EVENTS": " , ",
            "MESSAGE_FORMAT": "xml",
        },
    )
    for variable in (
        "SUPEROFFICE_TENANT_SECRETS",
        "QUEUE_URL",
        "QUARANTINE_QUEUE_URL",
        "FALLBACK_QUEUE_URL",
        "FORWARD_EVENTS",
        "MESSAGE_FORMAT",
    ):
        assert f"\n  {variable} " in said, said
    assert "hunter2" not in said


def test_a_mistake_does_not_show_the_shared_secrets(binary):
    said = refuses_to_start(
        binary,
        {
            "SUPEROFFICE_WEBHOOK_SECRET": "hunter2-current",
            "SUPEROFFICE_WEBHOOK_SECRET_PREVIOUS": "hunter2-previous",
            "QUEUE_URL": "hunter2 is no URL",
        },
    )
    assert "\n  QUEUE_URL " in said
    assert "hunter2-" not in said


def test_a_fifo_queue_without_a_region_anywhere_is_a_mistake(binary):
    environment = {"SUPEROFFICE_WEBHOOK_SECRET": "s", "QUEUE_URL": "http://127.0.0.1:1/1/q.fifo", "AWS_REGION": ""}
    assert "\n  QUEUE_URL " in refuses_to_start(binary, environment)


@pytest.mark.parametrize("form", FORMS)
def test_without_a_quarantine_queue_a_body_that_is_not_understood_is_a_bad_request(start, form):
    stack, _ = start()
    answer = stack.send(b'{"Event": "contact.changed",}', form)
    assert answer.status == 400
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json["title"] == "Bad Request"
    assert stack.nothing_is_queued()


def test_the_previous_secret_is_accepted_while_it_is_rotated(start):
    stack, function = start(SUPEROFFICE_WEBHOOK_SECRET_PREVIOUS="the previous one")
    assert stack.send(event()).status == 200
    assert stack.send(event(), secret="the previous one").status == 200
    assert stack.send(event(), secret="the one before").status == 401
    assert len(stack.queued()) == 2
    assert [line.get("secret") for line in function.lines] == ["current", "previous", None]


def test_a_tenant_with_secrets_of_its_own_is_bound_to_them(start):
    stack, _ = start(SUPEROFFICE_TENANT_SECRETS='{"Cust1": ["one", "two"], "Cust2": "three"}')
    answers = {
        (tenant, secret): stack.send(event(ContextIdentifier=tenant), secret=secret).status
        for tenant in ("Cust1", "Cust2", "Cust3")
        for secret in ("one", "two", "three", SAMPLE_SECRET)
    }
    accepted = {key for key, status in answers.items() if status == 200}
    assert accepted == {("Cust1", "one"), ("Cust1", "two"), ("Cust2", "three"), ("Cust3", SAMPLE_SECRET)}
    assert set(answers.values()) == {200, 401}
    assert len(stack.queued()) == len(accepted)


def test_forward_events_chooses_by_name_and_prefix_in_any_case(start):
    stack, _ = start(FORWARD_EVENTS="Person.*, sale.created,list.110.*")
    names = [
        "person.created",
        "PERSON.changed",
        "sale.created",
        "list.110.created",
        "sale.changed",
        "contact.created",
        "person",
    ]
    outcomes = [stack.send(event(Event=name, Entity=None)).json["outcome"] for name in names]
    assert outcomes == ["forwarded"] * 4 + ["ignored"] * 3
    assert [m.attributes["Entity"] for m in stack.queued()] == ["person", "PERSON", "sale", "list.110"]


@pytest.mark.parametrize("form", FORMS)
def test_an_event_that_no_queue_takes_is_to_be_sent_again(start, form):
    stack, _ = start(AWS_ENDPOINT_URL_SQS=f"http://127.0.0.1:{free_port()}")
    answer = stack.send(event(), form)
    assert answer.status == 503
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["retry-after"].isdigit()
    assert answer.json["title"] == "Service Unavailable"


def test_a_queue_that_does_not_exist_is_a_503_too(start, sqs):
    stack, function = start(QUEUE_URL=f"{sqs.endpoint}/123456789012/nobody-made-this.fifo")
    assert stack.send(event()).status == 503
    assert function.lines[-1]["outcome"] == "failed"


def test_a_secret_and_a_signature_are_never_logged(start):
    secret = "hunter2-the-shared-secret"
    stack, function = start(
        quarantine="quarantine.fifo", SUPEROFFICE_WEBHOOK_SECRET=secret, AWS_LAMBDA_LOG_LEVEL="TRACE"
    )
    body = b'{"Event":"contact.created","EventId":"e","PrimaryKey":1,"Note":"hunter2-in-the-body"}'
    stack.send(body, secret=secret)
    stack.send(body)
    stack.send(body[:-1], secret=secret)
    logged = function.stdout + function.stderr
    assert [line["status"] for line in function.lines] == [200, 401, 200]
    assert "hunter2" not in logged
    assert sign(body, secret) not in logged
    assert sign(body) not in logged


def test_a_panic_over_a_broken_envelope_does_not_end_the_process(start):
    stack, function = start()
    broken = {**delivery(event(), "2.0 base64"), "body": "***"}
    for _ in range(3):
        assert stack.invoke(broken)["statusCode"] == 500
    assert stack.send(event()).status == 200
    assert function.process.poll() is None
    assert [line["status"] for line in function.lines] == [500, 500, 500, 200]
