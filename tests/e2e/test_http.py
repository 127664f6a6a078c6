"""Every answer of the function under cargo lambda: payload 2.0 and 1.0, text and base64 bodies, real signatures."""

import subprocess

import pytest
from deliveries import FORMS, delivery, encode, event, response, sign
from stack import CARGO, ROOT, SAMPLE_SECRET, outer_environment

every_form = pytest.mark.parametrize("form", FORMS)

# SQS takes messages of up to 1 MiB, attributes included.
LARGEST_MESSAGE = 1_048_576

# In a request that is refused; it must not be in the answer.
MARKER = "hunter2-in-the-request"


def is_problem(answer, status, title):
    """Whether an answer is a problem document (RFC 9457) of this kind."""
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json["status"] == status
    assert answer.json["title"] == title
    assert MARKER not in answer.text
    return answer.status == status


@every_form
def test_a_contact_event_is_forwarded(lambda_, form):
    sent = event()
    answer = lambda_.send(sent, form)
    [message] = lambda_.queued()
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json == {"outcome": "forwarded", "eventId": sent["EventId"], "messageId": message.message_id}
    assert message.body == encode(sent).decode()
    assert lambda_.quarantined() == []


@every_form
@pytest.mark.parametrize("name", ["test", "TEST", "Test"])
def test_the_registration_probe_is_answered_and_not_queued(lambda_, form, name):
    probe = event(Event=name, Entity="test", PrimaryKey=0, Changes=[])
    answer = lambda_.send(probe, form, headers=[("X-Hook-Test", "true")])
    assert (answer.status, answer.json) == (200, {"outcome": "test", "eventId": probe["EventId"]})
    assert lambda_.nothing_is_queued()


@every_form
@pytest.mark.parametrize("name", ["sale.created", "person.changed", "contacts.changed", "webhook7.errors"])
def test_another_event_is_ignored(lambda_, form, name):
    sent = event(Event=name, Entity=None, PrimaryKey=None)
    answer = lambda_.send(sent, form)
    assert (answer.status, answer.json) == (200, {"outcome": "ignored", "eventId": sent["EventId"]})
    assert lambda_.nothing_is_queued()


NOT_UNDERSTOOD = {
    "not JSON": b'{"Event": "contact.changed",}',
    "not an object": b'["contact.changed"]',
    "no Event": encode(event(Event=None)),
    "an Event that is null": b'{"Event":null,"EventId":"e","PrimaryKey":1}',
    "an empty Event": encode(event(Event="")),
    "an Event that is a number": encode(event(Event=7)),
    "no EventId": encode(event(EventId=None)),
    "an EventId that is null": b'{"Event":"contact.changed","EventId":null,"PrimaryKey":1}',
    "no PrimaryKey": encode(event(PrimaryKey=None)),
    "a PrimaryKey that is null": b'{"Event":"contact.changed","EventId":"e","PrimaryKey":null}',
    "a PrimaryKey that is a fraction": encode(event(PrimaryKey=1.5)),
    "only white space": b" \r\n",
}


@every_form
@pytest.mark.parametrize("body", NOT_UNDERSTOOD.values(), ids=NOT_UNDERSTOOD.keys())
def test_a_signed_body_that_is_not_understood_is_kept(lambda_, form, body):
    answer = lambda_.send(body, form)
    [message] = lambda_.quarantined()
    assert answer.status == 200
    assert answer.json == {"outcome": "quarantined", "messageId": message.message_id}
    assert message.body == body.decode()
    assert lambda_.queued() == []


@every_form
def test_an_event_that_is_not_forwarded_needs_no_primary_key(lambda_, form):
    assert lambda_.send(b'{"Event":"sale.created","EventId":"e"}', form).json == {"outcome": "ignored", "eventId": "e"}


@every_form
def test_a_signed_empty_body_is_a_bad_request(lambda_, form):
    assert is_problem(lambda_.send(b"", form), 400, "Bad Request")
    assert lambda_.nothing_is_queued()


BODY = encode(event(WebhookName=MARKER))
UNAUTHORIZED = {
    "no signature": [],
    "an empty signature": [""],
    "the signature of another secret": [sign(BODY, "another secret")],
    "the signature of another body": [sign(BODY + b" ")],
    "the same signature twice": [sign(BODY), sign(BODY)],
    "a wrong signature before the right one": [sign(BODY, "another secret"), sign(BODY)],
    "a wrong signature after the right one": [sign(BODY), sign(BODY, "another secret")],
    "not base64": [MARKER],
    "base64 without its padding": [sign(BODY).rstrip("=")],
    "base64 in its URL alphabet": ["-_" * 21 + "A="],
    "base64 of too few bytes": [sign(BODY)[:40]],
    "base64 of too many bytes": ["AAAA" + sign(BODY)],
    "the signature and more": [sign(BODY) + " "],
    "hex": ["0b" * 32],
}


@every_form
@pytest.mark.parametrize("signatures", UNAUTHORIZED.values(), ids=UNAUTHORIZED.keys())
def test_a_request_that_is_not_rightly_signed_is_refused_and_leaves_no_trace(lambda_, form, signatures):
    answer = lambda_.send(BODY, form, signatures=signatures)
    assert is_problem(answer, 401, "Unauthorized")
    assert sign(BODY) not in answer.text
    assert lambda_.nothing_is_queued()


def test_every_refusal_reads_the_same(lambda_):
    answers = {lambda_.send(BODY, form, signatures=wrong).text for form in FORMS for wrong in UNAUTHORIZED.values()}
    assert len(answers) == 1


@every_form
@pytest.mark.parametrize("body", [b"{", b"", b"\x00"], ids=["not JSON", "empty", "a zero"])
def test_an_unsigned_body_is_refused_whatever_it_is(lambda_, form, body):
    assert is_problem(lambda_.send(body, form, signatures=[]), 401, "Unauthorized")
    assert lambda_.nothing_is_queued()


@every_form
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_another_method_than_post_is_refused(lambda_, form, method):
    answer = lambda_.send(BODY, form, method=method)
    assert is_problem(answer, 405, "Method Not Allowed")
    assert answer.headers["allow"] == "POST"
    assert lambda_.nothing_is_queued()


@every_form
@pytest.mark.parametrize("path", ["/", "/webhook", "/a/b%20c/æ", "//"])
def test_any_path_will_do(lambda_, form, path):
    assert lambda_.send(event(), form, path=path).json["outcome"] == "forwarded"


def of_message_size(size):
    """An event whose message, attributes included, has this many bytes."""
    fields = event(Padding="")
    attributes = {
        "Event": fields["Event"],
        "EventId": fields["EventId"],
        "Entity": fields["Entity"],
        "PrimaryKey": str(fields["PrimaryKey"]),
        "ContextIdentifier": fields["ContextIdentifier"],
        "WebhookName": fields["WebhookName"],
        "Timestamp": fields["Timestamp"],
        "Signature": sign(b""),
        "ContentType": "application/json",
    }
    # A name, a type (String or Number, both of six letters) and a value.
    taken = sum(len(name) + 6 + len(value) for name, value in attributes.items())
    fields["Padding"] = "x" * (size - taken - len(encode(fields)))
    return encode(fields)


@pytest.mark.parametrize("form", ["2.0 text", "1.0 base64"])
def test_the_largest_message_that_sqs_takes_is_forwarded(lambda_, form):
    body = of_message_size(LARGEST_MESSAGE)
    assert lambda_.send(body, form).status == 200
    [message] = lambda_.queued()
    assert message.body == body.decode()


@pytest.mark.parametrize("form", ["2.0 text", "1.0 base64"])
def test_one_byte_more_is_too_large(lambda_, form):
    assert is_problem(lambda_.send(of_message_size(LARGEST_MESSAGE + 1), form), 413, "Payload Too Large")
    assert lambda_.nothing_is_queued()


@every_form
def test_a_large_body_that_is_not_signed_is_refused_like_any_other(lambda_, form):
    assert is_problem(lambda_.send(b"x" * 2_000_000, form, signatures=[]), 401, "Unauthorized")


BROKEN = {
    "base64 that is none": {**delivery(event(), "2.0 base64"), "body": f"*** {MARKER}"},
    "base64 that is none, payload 1.0": {**delivery(event(), "1.0 base64"), "body": f"*** {MARKER}"},
    "an event of another service": {"Records": [{"eventSource": "aws:s3", "body": MARKER}]},
    "an empty object": {},
    "null": None,
    "a number": 7,
    "a list": [MARKER],
    "a string": MARKER,
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN.keys())
def test_an_unreadable_envelope_is_answered_and_survived(lambda_, broken):
    assert is_problem(response(lambda_.invoke(broken)), 500, "Internal Server Error")
    assert lambda_.nothing_is_queued()
    assert lambda_.send(event()).json["outcome"] == "forwarded"


@pytest.mark.parametrize("name", ["contact-created.json", "test.json", "sale-created.json", "not-json.txt"])
def test_the_sign_command_posts_what_is_accepted(cargo_lambda, lambda_, name):
    posted = subprocess.run(
        [
            *[CARGO, "run", "--quiet", "--example", "sign", "--", "post", "--secret", SAMPLE_SECRET],
            *[cargo_lambda[0].url, f"events/payloads/{name}"],
        ],
        cwd=ROOT,
        env=outer_environment(),
        capture_output=True,
        text=True,
    )
    assert posted.returncode == 0, posted.stderr
    assert posted.stdout.startswith("200 OK\n")


def test_the_sign_command_fails_when_the_answer_is_not_200(cargo_lambda, lambda_):
    posted = subprocess.run(
        [
            *[CARGO, "run", "--quiet", "--example", "sign", "--", "post", "--secret", "another secret"],
            *[cargo_lambda[0].url, "events/payloads/contact-created.json"],
        ],
        cwd=ROOT,
        env=outer_environment(),
        capture_output=True,
        text=True,
    )
    assert posted.returncode == 1
    assert posted.stdout.startswith("401 Unauthorized\n")
    assert lambda_.nothing_is_queued()


def test_the_sign_command_signs_like_python():
    path = ROOT / "events/payloads/contact-changed-unicode.json"
    printed = subprocess.run(
        [*[CARGO, "run", "--quiet", "--example", "sign", "--", "signature", "--secret", "nøkkel"], str(path)],
        cwd=ROOT,
        env=outer_environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert printed.stdout == sign(path.read_bytes(), "nøkkel") + "\n"
