"""SuperOffice's signature, computed independently of the Rust code. Needs only the standard library."""

import base64
import hashlib
import hmac

SAMPLE_SECRET = "sample-secret-do-not-use-in-production"


def sign(body: bytes, secret: str = SAMPLE_SECRET) -> str:
    """Returns the value of `X-SuperOffice-Signature` for a body."""
    return base64.b64encode(hmac.new(secret.encode(), body, hashlib.sha256).digest()).decode()
