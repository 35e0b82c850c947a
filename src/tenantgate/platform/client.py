"""Asks the platform over HTTP: bounded answers, one time-out for a whole exchange, no redirects."""

from __future__ import annotations

import contextlib
import http.client
import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote, urlencode, urlsplit

from tenantgate import __version__
from tenantgate.errors import ConfigError, EdgeError
from tenantgate.http_limits import within
from tenantgate.platform.core.listing import TENANTS_MAX, Page, read_page

__all__ = ["Client", "Listing", "PlatformError", "Unchanged"]

_PAGE: Final = 500
_PAGE_BYTES: Final = 8 << 20
_LIST_BYTES: Final = 64 << 20
_BEGINNINGS: Final = 3  # of a list that changes while it is read
_ETAG_MAX: Final = 200
_CHANGED: Final = 409
_LONGEST_S: Final = 3600.0


class PlatformError(EdgeError):
    """The platform can't be asked, or its answer can't be used; `after_s` is how long it wants to be left alone."""

    def __init__(self, message: str, *, after_s: float = 0.0) -> None:
        super().__init__(message)
        self.after_s = after_s


@dataclass(frozen=True, slots=True)
class Unchanged:
    """The list is the one with the given ETag."""


@dataclass(frozen=True, slots=True)
class Listing:
    """The whole list of tenants."""

    etag: str
    """As the header has it; empty where there is none."""
    version: int
    entries: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes


class Client:
    """A platform's API.

    Args:
        url: without ``/v1``.
        token: the bearer token.
        timeout_s: for one request, to the answer's last byte.
        ssl_verify: whether the certificate must be the host's.
    """

    def __init__(self, url: str, token: str, *, timeout_s: float, ssl_verify: bool = True) -> None:
        if not token or any(not "!" <= c <= "~" for c in token):
            raise ConfigError("gateway.platform.token: must be printable ASCII without spaces")
        self._url, self._timeout_s, self._ssl_verify = urlsplit(url), timeout_s, ssl_verify
        self._headers = {
            "Authorization": f"Bearer {token}",
            "Accept": "application/json",
            "User-Agent": f"tenantgate/{__version__}",
        }

    def tenants(self, etag: str = "") -> Listing | Unchanged:
        """The list of all tenants, or `Unchanged` where it is the one with this ETag.

        Raises:
            PlatformError: it can't be had as a whole.
        """
        for _ in range(_BEGINNINGS):
            found = self._list(etag)
            if found is not None:
                return found
        raise PlatformError("platform: the list changed while it was read, time and again")

    def sources(self) -> list[dict[str, Any]]:
        """What the platform has of each node's usage: ``GET /v1/usage/sources``.

        Raises:
            PlatformError: it can't be had.
        """
        found: list[dict[str, Any]] = []
        cursor = ""
        for _ in range(TENANTS_MAX // _PAGE):
            answer = self._get(
                "/v1/usage/sources", {"limit": _PAGE, **({"cursor": cursor} if cursor else {})}
            )
            try:
                tree = json.loads(answer.body)
                found += [row for row in tree["data"] if isinstance(row, dict)]
                cursor = tree.get("next_cursor") or ""
            except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
                raise PlatformError("platform: /v1/usage/sources: the answer can't be read") from None
            if not cursor:
                break
        return found

    def _list(self, etag: str) -> Listing | Unchanged | None:
        """None where the list has changed since its first page."""
        answer = self._page("", {"If-None-Match": etag} if etag else {})
        if answer is None or answer.status == 304:
            return None if answer is None else Unchanged()
        page, found = _page(answer.body), _etag(answer)
        version, entries, size = page.version, dict(page.entries), len(answer.body)
        while page.next_cursor is not None:
            if not page.entries:
                raise PlatformError("platform: a page without tenants names a next one")
            answer = self._page(page.next_cursor, {})
            if answer is None:
                return None
            page = _page(answer.body)
            if page.version != version:
                return None
            if twice := entries.keys() & page.entries.keys():
                raise PlatformError(f"platform: tenant {min(twice)} is on two pages")
            entries |= page.entries
            size += len(answer.body)
            if size > _LIST_BYTES or len(entries) > TENANTS_MAX:
                raise PlatformError(
                    f"platform: the list is over {_LIST_BYTES >> 20} MiB or {TENANTS_MAX} tenants"
                )
        return Listing(found, version, entries)

    def _page(self, cursor: str, headers: Mapping[str, str]) -> _Answer | None:
        """A page of the list; None where its cursor is another list's by now."""
        query = {"limit": _PAGE, **({"cursor": cursor} if cursor else {})}
        answer = self._get("/v1/tenants", query, headers, also=(304, _CHANGED))
        if answer.status == 304 and not headers:
            raise PlatformError("platform: answers 304 to a request without If-None-Match")
        return None if answer.status == _CHANGED else answer

    def _get(
        self,
        path: str,
        query: Mapping[str, Any],
        headers: Mapping[str, str] | None = None,
        *,
        also: tuple[int, ...] = (),
    ) -> _Answer:
        target = f"{quote(self._url.path.rstrip('/'), safe='/%')}{path}?{urlencode(query)}"
        try:
            answer = self._exchange(target, {**self._headers, **(headers or {})})
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise PlatformError(f"platform: {type(error).__name__}") from None
        if answer.status == 200 or answer.status in also:
            return answer
        after = answer.headers.get("retry-after", "").strip()
        wait_s = min(float(after), _LONGEST_S) if after.isascii() and after.isdecimal() else 0.0
        raise PlatformError(f"platform: HTTP {answer.status}", after_s=wait_s)

    def _exchange(self, target: str, headers: Mapping[str, str]) -> _Answer:
        connection = self._connection()
        with contextlib.closing(connection), within(connection, self._timeout_s):
            connection.request("GET", target, headers=dict(headers))
            response = connection.getresponse()
            body = response.read(_PAGE_BYTES + 1)
        if len(body) > _PAGE_BYTES:
            raise PlatformError(f"platform: an answer of over {_PAGE_BYTES >> 20} MiB")
        length = response.headers.get("Content-Length", "")
        if length.isdecimal() and response.status == 200 and len(body) < int(length):
            raise http.client.IncompleteRead(b"")
        return _Answer(response.status, {k.lower(): v for k, v in response.headers.items()}, body)

    def _connection(self) -> http.client.HTTPConnection:
        host, port = self._url.hostname or "", self._url.port
        if self._url.scheme != "https":
            return http.client.HTTPConnection(host, port, timeout=self._timeout_s)
        context = ssl.create_default_context()
        if not self._ssl_verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return http.client.HTTPSConnection(host, port, timeout=self._timeout_s, context=context)


def _page(body: bytes) -> Page:
    try:
        return read_page(body)
    except ConfigError as error:
        raise PlatformError(f"platform: /v1/tenants: {error}") from None


def _etag(answer: _Answer) -> str:
    found = answer.headers.get("etag", "")
    return found if len(found) <= _ETAG_MAX and found.isascii() and found.isprintable() else ""
