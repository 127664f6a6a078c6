"""The function under cargo lambda: one smoke test per payload form. tests/it/http.rs tests every response."""

import pytest
from deliveries import FORMS, encode, event, sign


@pytest.mark.parametrize("form", FORMS)
def test_delivery_in_each_payload_form_returns_its_outcome(function, form):
    sent = event()
    forwarded = function.send(sent, form)
    [message] = function.queued()
    assert (forwarded.status, forwarded.headers["content-type"]) == (200, "application/json")
    assert forwarded.json == {"outcome": "forwarded", "eventId": sent["EventId"], "messageId": message.message_id}
    assert message.body == encode(sent).decode()

    malformed = form.encode()  # a different body per form, because the FIFO quarantine queue deduplicates by body
    quarantined = function.send(malformed, form)
    [message] = function.quarantined()
    assert (quarantined.status, quarantined.json["messageId"]) == (200, message.message_id)
    assert message.body == form

    probe = event(Event="test", Entity="test", PrimaryKey=0, Changes=[])
    assert function.send(probe, form).json == {"outcome": "test", "eventId": probe["EventId"]}

    unsigned = function.send(event(), form, signatures=[sign(b"another body")])
    assert (unsigned.status, unsigned.headers["content-type"]) == (401, "application/problem+json")
    assert (unsigned.json["status"], unsigned.json["title"]) == (401, "Unauthorized")

    assert function.send(event(), form, method="GET").status == 405
    assert function.has_no_messages()
