"""SuperOffice's own client, `@superoffice/webapi`, against the fake SuperOffice and the function.

It is the witness for the fake: it was not written here, and it expects what SuperOffice's servers send.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from deliveries import delivery
from fake_superoffice import PASSWORD, USER, FakeSuperOffice
from processes import ROOT
from signing import SAMPLE_SECRET

SCRIPT = Path(__file__).with_name("official_client.cjs")
MODULES = ROOT / ".tools" / "node" / "node_modules"
RECORDED = ROOT / "tests" / "superoffice" / "tests" / "recorded" / "save-webhook.json"


@pytest.fixture
def function(start):
    return start()


@pytest.fixture
def url(function) -> Iterator[str]:
    """The function at an HTTP address, as API Gateway would call it."""

    class Gateway(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            event = delivery(body)
            event["headers"] = {name.lower(): value for name, value in self.headers.items()}
            response = function.function.invoke(event)
            content = response["body"].encode()
            self.send_response(response["statusCode"])
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_arguments: object) -> None:
            """Keeps requests out of the output."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Gateway) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/webhook"
        server.shutdown()


def test_official_client_manages_a_webhook(function, url, tmp_path):
    node = shutil.which("node")
    if node is None or not (MODULES / "@superoffice").is_dir():
        pytest.skip("Node and npm are not installed: see `make test`")
    with FakeSuperOffice(tmp_path) as superoffice:
        contact = superoffice.create()
        variables = {"SUPEROFFICE_USER": USER, "SUPEROFFICE_PASSWORD": PASSWORD}
        ran = subprocess.run(
            [node, str(SCRIPT), superoffice.url, url, SAMPLE_SECRET, str(contact)],
            env={**os.environ, **variables, "NODE_PATH": str(MODULES)},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert ran.returncode == 0, ran.stderr
        requests = superoffice.requests
    result = json.loads(ran.stdout)

    assert (result["draft"]["webhookId"], result["draft"]["state"], result["draft"]["type"]) == (0, "Active", "webhook")
    created = result["created"]
    assert created["webhookId"] > 0
    assert (created["name"], created["events"], created["secret"]) == ("witness", ["contact.resync"], SAMPLE_SECRET)
    assert [webhook["webhookId"] for webhook in result["listed"]] == [created["webhookId"]]
    assert result["stopped"] == []
    # 2 is the flag InApp.
    assert (result["changed"]["description"], result["changed"]["notifyVia"]) == ("changed", 2)
    assert result["read"] == result["changed"]
    assert result["test"]["success"] is True
    assert result["wrong"]["success"] is False
    assert "401" in result["wrong"]["message"]
    assert (result["insecure"]["status"], result["insecure"]["ErrorType"]) == (400, "ArgumentException")
    assert result["lastError"] == ""
    assert result["deleted"] is None

    assert (result["contact"]["contactId"], result["contact"]["name"]) == (contact, f"Company {contact}")
    assert (result["contact"]["deleted"], len(result["contact"]["persons"])) == (0, 1)
    created_at = datetime.fromisoformat(result["contact"]["createdDate"].replace("Z", "+00:00"))
    assert abs(datetime.now(timezone.utc) - created_at) < timedelta(minutes=5)
    assert (result["unmodified"], result["unknown"]) == (None, 404)

    (message,) = function.queued()
    body = json.loads(message["Body"])
    assert (body["Event"], body["PrimaryKey"]) == ("contact.resync", contact)
    assert body["FieldValues"] == {"reason": "witness"}

    # The body in the Rust tests is the one that this client sends.
    saved = next(request["body"] for request in requests if request["path"] == "Agents/Webhook/SaveWebhook")
    assert {**saved, "targetUrl": "https://hooks.example.com/webhook"} == json.loads(RECORDED.read_text())
