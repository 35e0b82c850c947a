"""Kong's Admin API over one connection. No body is ever shown: keys are in them, and in Kong's error messages."""

from __future__ import annotations

import http.client
import json
import ssl
import urllib.parse
from collections.abc import Iterator, Mapping
from typing import Any, Final

from tenantgate.errors import ConfigError, EdgeError

__all__ = ["AdminApi"]

_TIMEOUT_S: Final = 60.0
_PAGE: Final = 1000
_BUSY: Final = 429
"""Kong loads an earlier configuration (kong/api/routes/config.lua)."""
_TRIES: Final = 60

Json = dict[str, Any]


class AdminApi:
    """Requests to an Admin API.

    Raises:
        ConfigError: the URL isn't one.
    """

    def __init__(self, url: str) -> None:
        parts = urllib.parse.urlsplit(url if "://" in url else f"http://{url}")
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.username:
            raise ConfigError(
                f"--admin-url {parts.hostname or ''}: must be http://HOST:PORT or https://HOST:PORT"
            )
        self.url = f"{parts.scheme}://{parts.netloc}"
        self._path = parts.path.rstrip("/")
        port = parts.port or (443 if parts.scheme == "https" else 80)
        self._connection = (
            http.client.HTTPSConnection(
                parts.hostname, port, timeout=_TIMEOUT_S, context=ssl.create_default_context()
            )
            if parts.scheme == "https"
            else http.client.HTTPConnection(parts.hostname, port, timeout=_TIMEOUT_S)
        )

    def another(self) -> AdminApi:
        """The same by a connection of its own, for another thread."""
        return AdminApi(self.url + self._path)

    def close(self) -> None:
        """End the connection; the next request makes another."""
        self._connection.close()

    def get(self, path: str) -> Json:
        """The answer to a GET."""
        return self.send("GET", path, what=path.partition("?")[0])

    def find(self, path: str) -> Json | None:
        """The answer to a GET; None if Kong hasn't got such a thing, or fails to tell."""
        status, answer = self._exchange("GET", self._path + path, None, {"Accept": "application/json"})
        return None if status >= 400 else answer

    def listed(self, kind: str) -> Iterator[Json]:
        """All entities of a kind."""
        path: str | None = f"/{kind}?size={_PAGE}"
        while path:
            page = self.get(path)
            yield from page.get("data") or ()
            path = page.get("next")

    def send(self, method: str, path: str, body: Mapping[str, Any] | None = None, *, what: str) -> Json:
        """One request; the answer's JSON, {} if there is none.

        Args:
            method: the HTTP method.
            path: below the Admin API's own path.
            body: sent as JSON.
            what: of what the request is, for messages.

        Raises:
            EdgeError: Kong can't be reached, or refuses; names `what`, the status and the fields.
        """
        raw = None if body is None else json.dumps(body).encode()
        headers = {"Accept": "application/json"} | ({"Content-Type": "application/json"} if raw else {})
        status, answer = self._exchange(method, self._path + path, raw, headers)
        if status >= 400:
            raise EdgeError(f"Kong {self.url}: {method} {what}: {status}{_reason(answer)}")
        return answer

    def _exchange(
        self, method: str, path: str, raw: bytes | None, headers: Mapping[str, str]
    ) -> tuple[int, Json]:
        retried = False
        for _ in range(_TRIES):
            try:
                self._connection.request(method, path, raw, dict(headers))
                response = self._connection.getresponse()
                text = response.read()
            except (http.client.HTTPException, OSError) as error:
                self._connection.close()
                # A connection that was kept open may have ended. All our requests can be sent twice.
                if not retried and isinstance(error, http.client.HTTPException | ConnectionError):
                    retried = True
                    continue
                said = getattr(error, "strerror", None) or type(error).__name__
                raise EdgeError(f"Kong {self.url}: {said}") from None
            if response.status != _BUSY:
                return response.status, _json(text)
        raise EdgeError(f"Kong {self.url}: is still loading an earlier configuration")


def _json(text: bytes) -> Json:
    try:
        found = json.loads(text) if text else {}
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _reason(answer: Json) -> str:
    """The error's name and the fields that Kong names; its message may quote their values."""
    fields = answer.get("fields")
    named = ", ".join(sorted(map(str, fields))) if isinstance(fields, dict) else ""
    return "".join(f": {part}" for part in (str(answer.get("name") or ""), named) if part)
