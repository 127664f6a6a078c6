"""`so-webhook sign` and `post`: the signature, and a delivery over HTTP."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from deliveries import sign
from stack import ROOT, SAMPLE_SECRET, base_environment

PAYLOADS = ROOT / "events" / "payloads"


def run(binary: Path, *arguments: object, secret: str = SAMPLE_SECRET) -> subprocess.CompletedProcess:
    return subprocess.run(
        [str(binary), *map(str, arguments)],
        env={**base_environment(), "SUPEROFFICE_WEBHOOK_SECRET": secret},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_sign_prints_the_signature_that_python_computes(admin_binary):
    path = PAYLOADS / "contact-changed-unicode.json"
    signed = run(admin_binary, "sign", path, secret="nøkkel")
    assert (signed.returncode, signed.stdout) == (0, sign(path.read_bytes(), "nøkkel") + "\n")


@pytest.mark.parametrize("name", ["contact-created.json", "test.json", "sale-created.json", "not-json.txt"])
def test_posted_delivery_is_accepted(admin_binary, watched, function, name):
    posted = run(admin_binary, "post", watched.url, PAYLOADS / name)
    assert posted.returncode == 0, posted.stderr
    assert posted.stdout.startswith("200 OK\n")


def test_post_fails_unless_the_response_is_200(admin_binary, watched, function):
    posted = run(admin_binary, "post", watched.url, PAYLOADS / "contact-created.json", secret="another secret")
    assert posted.returncode == 1
    assert posted.stdout.startswith("401 Unauthorized\n")
    assert function.has_no_messages()
