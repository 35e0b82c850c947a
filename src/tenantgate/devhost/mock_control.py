"""What can be asked of, and told to, a mock provider that runs."""

from __future__ import annotations

import base64
import contextlib
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

from tenantgate.errors import EdgeError

__all__ = ["MockControl"]


class MockControl:
    """For whoever has a mock provider at `mock_url`. Every method raises EdgeError where it refuses."""

    @property
    def mock_url(self) -> str:
        """The mock provider's address, without a path."""
        raise NotImplementedError

    @contextlib.contextmanager
    def mock_behaviour(self, **behaviour: Any) -> Iterator[None]:
        """The mock provider behaves like this (`mock_provider.Behaviour`) while the block runs."""
        self._mock_call("PUT", "/_mock/behaviour", behaviour)
        try:
            yield
        finally:
            self._mock_call("DELETE", "/_mock/behaviour")

    @contextlib.contextmanager
    def mock_rules(self, *rules: dict[str, Any]) -> Iterator[None]:
        """Single requests are answered otherwise (`mock_faults.Rule`) while the block runs."""
        self._mock_call("PUT", "/_mock/rules", rules)
        try:
            yield
        finally:
            self._mock_call("DELETE", "/_mock/rules")

    def mock_port(self, port: int = 0, *, tls: str = "") -> int:
        """One more port of the mock provider, any with 0, as if it were another one; with TLS under this name."""
        return int(self._mock_call("POST", "/_mock/ports", {"port": port, "tls": tls})["port"])

    @contextlib.contextmanager
    def mock_refuses(self, port: int) -> Iterator[None]:
        """A port refuses connections while the block runs."""
        self._mock_call("PUT", f"/_mock/ports/{port}", {"refuses": True})
        try:
            yield
        finally:
            self._mock_call("PUT", f"/_mock/ports/{port}", {"refuses": False})

    def mock_billing(self) -> dict[str, Any]:
        """What it bills: `mock_ledger.Ledger.billing`."""
        counts: dict[str, Any] = self._mock_call("GET", "/_mock/billing")
        return counts

    def mock_requests(self) -> list[dict[str, Any]]:
        """What the mock provider was asked, oldest first, on all ports; credentials as SHA-256, bodies if told so."""
        records: list[dict[str, Any]] = self._mock_call("GET", "/_mock/requests")["records"]
        return records

    def mock_bodies(self) -> list[bytes]:
        """The bodies of requests that it was told to keep (`keep_bodies`), oldest first."""
        return [base64.b64decode(r["body"]) for r in self.mock_requests() if "body" in r]

    def mock_forget(self) -> None:
        """Forget what it was asked, counts included."""
        self._mock_call("DELETE", "/_mock/requests")

    def mock_count(self) -> int:
        """How often the mock provider was asked."""
        return int(self._mock_call("GET", "/_mock/requests")["total"])

    def mock_headers_seen(self) -> str:
        """All headers that it was sent, but credentials, which appear as their SHA-256."""
        return json.dumps(self.mock_requests())

    def _mock_call(self, method: str, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.mock_url + path, data, method=method)  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310
                return json.loads(response.read())
        except urllib.error.HTTPError as error:
            raise EdgeError(f"mock provider: {json.loads(error.read()).get('error', error.code)}") from error
