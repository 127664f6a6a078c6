"""SuperOffice's own client, `@superoffice/webapi`, against the fake SuperOffice and the function.

It is the witness for the fake: it was not written here, and it expects what SuperOffice's servers send.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from fake_superoffice import FakeSuperOffice
from stack import ROOT, SAMPLE_SECRET

SCRIPT = Path(__file__).with_name("official_client.cjs")
MODULES = ROOT / ".tools" / "node" / "node_modules"
RECORDED = ROOT / "tests" / "superoffice" / "tests" / "recorded" / "save-webhook.json"


def test_official_client_manages_a_webhook(function, watched, tmp_path):
    node = shutil.which("node")
    if node is None or not (MODULES / "@superoffice").is_dir():
        pytest.skip("Node and npm are not installed: see `make test`")
    with FakeSuperOffice(tmp_path) as superoffice:
        contact = superoffice.create()
        ran = subprocess.run(
            [node, str(SCRIPT), superoffice.url, watched.url, SAMPLE_SECRET, str(contact)],
            env={**os.environ, **superoffice.variables, "NODE_PATH": str(MODULES)},
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
    body = json.loads(message.body)
    assert (body["Event"], body["PrimaryKey"]) == ("contact.resync", contact)
    assert body["FieldValues"] == {"reason": "witness"}

    # The body in the Rust tests is the one that this client sends.
    saved = next(request["body"] for request in requests if request["path"] == "Agents/Webhook/SaveWebhook")
    assert {**saved, "targetUrl": "https://hooks.example.com/webhook"} == json.loads(RECORDED.read_text())
