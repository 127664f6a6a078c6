"""SuperOffice's requests over HTTPS, with the certificate authority in `SSL_CERT_FILE`."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from dataclasses import dataclass
from urllib.parse import urlsplit

TIMEOUT = 30


@dataclass
class Response:
    status: int
    content_type: str
    body: bytes

    @property
    def json(self) -> dict:
        return json.loads(self.body)

    @property
    def is_from_function(self) -> bool:
        """Returns `True` for a body in one of the function's formats. API Gateway's errors have only `message`."""
        return self.content_type.startswith("application/problem+json") or "outcome" in self.json


class Connection(http.client.HTTPSConnection):
    """Connects to 127.0.0.1. Not every resolver maps the names in localhost to it, although RFC 6761 demands it."""

    def connect(self) -> None:
        self.sock = socket.create_connection(("127.0.0.1", self.port), self.timeout)
        self.sock = self._context.wrap_socket(self.sock, server_hostname=self.host)


def post(url: str, body: bytes, signature: str | None) -> Response:
    """Posts a body to the local AWS as SuperOffice does."""
    parts = urlsplit(url)
    headers = {"Content-Type": "application/json; charset=utf-8", "User-Agent": "NetServer-Webhook/10.5"}
    if signature:
        headers["X-SuperOffice-Signature"] = signature
    connection = Connection(parts.hostname, parts.port, timeout=TIMEOUT, context=ssl.create_default_context())
    try:
        connection.request("POST", parts.path, body, headers)
        answer = connection.getresponse()
        return Response(answer.status, answer.headers.get("Content-Type", ""), answer.read())
    finally:
        connection.close()
