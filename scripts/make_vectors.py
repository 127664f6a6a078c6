"""Writes the test vectors in tests/vectors, computed with Python's hmac.

`signatures.json` contains bodies and their signatures, `tenant_secrets.json` tenants and their derived secrets. The
Rust code is tested against them, so none of them is computed by the code under test. Run the script after a change,
with any Python 3.10 or newer: python3 scripts/make_vectors.py
"""

import base64
import json
from pathlib import Path

from signing import SAMPLE_SECRET, sign

ROOT = Path(__file__).resolve().parent.parent
VECTORS = ROOT / "tests" / "vectors"


def payload(name: str) -> bytes:
    return (ROOT / "events" / "payloads" / name).read_bytes()


# name, secret, body
CASES = [
    ("a plain event", SAMPLE_SECRET, payload("contact-created.json")),
    ("an event on one line", SAMPLE_SECRET, payload("contact-deleted.json")),
    ("an event with Norwegian, Chinese and an emoji", SAMPLE_SECRET, payload("contact-changed-unicode.json")),
    ("a body that is not JSON", SAMPLE_SECRET, payload("not-json.txt")),
    ("an empty body", SAMPLE_SECRET, b""),
    ("one byte", SAMPLE_SECRET, b"\x00"),
    ("whitespace and a final CR LF", SAMPLE_SECRET, b' \t{ "Event" :\r\n "test" }\r\n'),
    ("a byte order mark", SAMPLE_SECRET, b"\xef\xbb\xbf{}"),
    ("bytes that are not UTF-8", SAMPLE_SECRET, bytes(range(256))),
    ("unusual number formats", SAMPLE_SECRET, b'{"PrimaryKey":1e3,"x":0.10,"y":12345678901234567890123}'),
    ("a secret of one character", "x", payload("test.json")),
    ("a secret with Unicode", "hemmelig-nøkkel-秘密-🔑", payload("contact-changed.json")),
    ("a secret with inner and outer spaces", "  two words ", payload("contact-changed.json")),
    ("a secret of exactly one block, 64 bytes", "0123456789abcdef" * 4, payload("contact-changed.json")),
    ("a secret of 65 bytes, which HMAC hashes first", "0123456789abcdef" * 4 + "g", payload("contact-changed.json")),
    ("a secret of 200 bytes", "long " * 40, payload("contact-changed.json")),
    ("a secret that looks like base64", "c2VjcmV0LW5vdC1kZWNvZGVk", payload("contact-changed.json")),
]

# Large bodies: a unit and the number of its repetitions.
REPEATED = [
    ("a body of 1 MiB", SAMPLE_SECRET, b"0123456789abcde\n", 65_536),
    ("a body of 6 MB, the largest Lambda event", SAMPLE_SECRET, b"\xc3\xa6", 3_000_000),
]


# master secret, tenant
TENANTS = [
    ("0123456789abcdef0123456789abcdef", "Cust12345"),
    ("0123456789abcdef0123456789abcdef", "cust12345"),
    ("a master secret with spaces, and longer than a block of sixty-four bytes", "Cust1"),
    ("hemmelig-nøkkel-秘密-🔑-hemmelig-nøkkel", "Cust1"),
    ("0123456789abcdef0123456789abcdef", "Blåbær AS"),
    ("0123456789abcdef0123456789abcdef", "BLÅBÆR AS"),
    ("0123456789abcdef0123456789abcdef", ""),
]


def signatures() -> list[dict]:
    vectors = [(name, secret, body, 1) for name, secret, body in CASES] + REPEATED
    return [
        {
            "name": name,
            "secret": secret,
            "body_base64": base64.b64encode(unit).decode(),
            "body_repeated": times,
            "signature": sign(unit * times, secret),
        }
        for name, secret, unit, times in vectors
    ]


def ascii_lowercase(text: str) -> str:
    return "".join(chr(ord(c) + 32) if "A" <= c <= "Z" else c for c in text)


def tenant_secrets() -> list[dict]:
    return [
        {
            "master": master,
            "tenant": tenant,
            "secret": sign(f"superoffice-webhook/tenant/v1/{ascii_lowercase(tenant)}".encode(), master),
        }
        for master, tenant in TENANTS
    ]


def documents() -> dict[Path, str]:
    """Returns the content of each file."""
    vectors = {"signatures.json": signatures(), "tenant_secrets.json": tenant_secrets()}
    return {
        VECTORS / name: json.dumps(entries, indent=2, ensure_ascii=False) + "\n" for name, entries in vectors.items()
    }


if __name__ == "__main__":
    for path, text in documents().items():
        path.write_text(text, encoding="utf-8")
        print(path)
