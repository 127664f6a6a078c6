"""Writes tests/vectors/signatures.json: bodies and their signatures, computed with Python's hmac.

The Rust verifier is tested against these vectors, so none of them is computed by the code under test. Run the script
after a change, with any Python 3.10 or newer: python3 scripts/make_vectors.py
"""

import base64
import json
from pathlib import Path

from signing import SAMPLE_SECRET, sign

ROOT = Path(__file__).resolve().parent.parent
PATH = ROOT / "tests" / "vectors" / "signatures.json"


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


def document() -> str:
    """Returns the content of the file."""
    vectors = [(name, secret, body, 1) for name, secret, body in CASES] + REPEATED
    entries = [
        {
            "name": name,
            "secret": secret,
            "body_base64": base64.b64encode(unit).decode(),
            "body_repeated": times,
            "signature": sign(unit * times, secret),
        }
        for name, secret, unit, times in vectors
    ]
    return json.dumps(entries, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    PATH.write_text(document(), encoding="utf-8")
    print(PATH)
