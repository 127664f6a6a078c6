"""The fake SuperOffice of tests/superoffice as a process."""

from __future__ import annotations

import base64
import json
import subprocess
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from processes import Server, StackError, base_environment, build, opener
from signing import SAMPLE_SECRET

USER, PASSWORD = "admin", "a password"
START_TIMEOUT = 60


class FakeSuperOffice(Server):
    """A running SuperOffice tenant. A context manager: leaving it ends the process."""

    def __init__(
        self,
        folder: Path,
        ca_file: Path | None = None,
        slow_clock: int = 0,
        pace: float = 0.02,
        tenant: str = "Cust12345",
        contacts: int = 0,
        persons: int = 0,
    ) -> None:
        """Starts it with its log in `folder`, and with old contacts and persons.

        Its clock is behind by `slow_clock` seconds: changes look older.
        """
        (binary,) = build("fake-superoffice")
        command = [str(binary), "--user", f"{USER}:{PASSWORD}"]
        command += ["--certificates", str(ca_file)] if ca_file else []
        command += ["--slow-clock", str(slow_clock), "--pace", str(pace), "--tenant", tenant]
        command += ["--contacts", str(contacts), "--persons", str(persons)]
        super().__init__(command, base_environment(), folder / "superoffice.log")
        self.url = self.wait_until(lambda: self.log().splitlines(), START_TIMEOUT)[0]

    def register(self, webhook_url: str, *arguments: str) -> None:
        """Registers the webhook with so-webhook, and with further arguments of its command."""
        variables = {
            "SUPEROFFICE_URL": self.url,
            "SUPEROFFICE_USER": USER,
            "SUPEROFFICE_PASSWORD": PASSWORD,
            "WEBHOOK_URL": webhook_url,
            "SUPEROFFICE_WEBHOOK_SECRET": SAMPLE_SECRET,
        }
        command = [str(build("so-webhook")[0]), "register", *arguments]
        registered = subprocess.run(
            command, env={**base_environment(), **variables}, capture_output=True, text=True, stdin=subprocess.DEVNULL
        )
        if registered.returncode != 0:
            raise StackError(f"register failed: {registered.stderr}")

    def create(self, entity: str = "contact") -> int:
        return self._control("POST", f"{entity}s")["id"]

    def change(self, key: int, entity: str = "contact") -> None:
        self._control("POST", f"{entity}s/{key}/change")

    def soft_delete(self, key: int, entity: str = "contact") -> None:
        self._control("POST", f"{entity}s/{key}/softdelete")

    def restore(self, key: int, entity: str = "contact") -> None:
        self._control("POST", f"{entity}s/{key}/restore")

    def delete(self, key: int, entity: str = "contact") -> None:
        """Deletes a contact or a person for ever."""
        self._control("POST", f"{entity}s/{key}/delete")

    def delete_and_lose_event(self, key: int, entity: str = "contact") -> None:
        self._control("POST", f"{entity}s/{key}/vanish")

    def change_and_lose_event(self, key: int, entity: str = "contact") -> None:
        self._control("POST", f"{entity}s/{key}/lose")

    def merge(self, source: int, destination: int, entity: str = "contact") -> None:
        self._control("POST", f"{entity}s/{source}/merge/{destination}")

    def set_network(self, up: bool) -> None:
        """Decides whether deliveries reach any host."""
        self._control("POST", f"network/{'up' if up else 'down'}")

    def wait_until_idle(self) -> None:
        """Waits until every event was delivered or given up."""
        self._control("GET", "idle", timeout=300)

    @property
    def state(self) -> dict[str, Any]:
        return self._control("GET", "state")

    def documents(self, entity: str = "contact") -> dict[int, dict[str, Any]]:
        """The contacts or persons that exist, as the API returns them."""
        credentials = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        headers = {"Accept": "application/json", "Authorization": f"Basic {credentials}"}
        headers["SO-TimeZone"] = "UTC, includeTZOffset"
        documents = {}
        for key in self.state[f"{entity}s"]:
            request = urllib.request.Request(f"{self.url}/api/v1/{entity.capitalize()}/{key}", headers=headers)
            try:
                with opener.open(request, timeout=30) as response:
                    document = json.load(response)
            except urllib.error.HTTPError as error:
                # A deleted person.
                if error.code != 404:
                    raise
                continue
            # A deleted contact.
            if not document.get("Deleted"):
                documents[key] = document
        return documents

    @property
    def requests(self) -> list[dict[str, Any]]:
        """The method, path and body of every request to the API so far."""
        return self._control("GET", "requests")

    @property
    def webhook_state(self) -> str:
        """The state of the webhook for contacts, which was registered first."""
        return self.state["webhooks"][0]["state"]

    def _control(self, method: str, path: str, timeout: float = 30) -> Any:
        base = self.url.rpartition("/")[0]
        with opener.open(urllib.request.Request(f"{base}/_control/{path}", method=method), timeout=timeout) as response:
            body = response.read()
        return json.loads(body) if body else None
