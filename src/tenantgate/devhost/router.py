"""Which route a request takes (Kong's `traditional_compatible` router)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from tenantgate.devhost.entities import Route

__all__ = ["Match", "Router"]


@dataclass(frozen=True, slots=True)
class Match:
    """The route, and the part of the path that led to it."""

    route: Route
    prefix: str
    captures: Mapping[str, str] = field(default_factory=dict)

    def upstream_path(self, path: str) -> str:
        """The path for the service (`path_handling` v0): its own path, then what `strip_path` leaves."""
        base = self.route.service.path or "/"
        if self.route.strip_path:
            path = path[len(self.prefix) :]
        rest = path.lstrip("/") if base.endswith("/") else path
        if not rest:
            return base
        return base + (rest if base.endswith("/") or rest.startswith("/") else "/" + rest)


class Router:
    """Routes in the order in which Kong tries them."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._entries = sorted(
            ((route, path) for route in routes for path in (route.paths or (None,))),
            key=lambda entry: _priority(*entry),
            reverse=True,
        )

    def match(self, *, method: str, host: str, path: str, headers: Mapping[str, str]) -> Match | None:
        """The first route that takes the request, or None."""
        for route, want in self._entries:
            if route.methods and method not in route.methods:
                continue
            if route.hosts and not any(_host(pattern, host) for pattern in route.hosts):
                continue
            if not all(_header(headers.get(name), values) for name, values in route.headers.items()):
                continue
            if want is None:
                return Match(route, "")
            if regex := route.regexes.get(want):
                if found := regex.match(path):
                    return Match(route, found[0], found.groupdict())
            elif path.startswith(want):
                return Match(route, want)
        return None


def _priority(route: Route, path: str | None) -> tuple[int, int, int, int, int]:
    # kong/router/transform.lua: the number of kinds of conditions first, then plain hosts, headers, regexes
    # by their priority, then the longest path.
    kinds = sum(map(bool, (route.methods, route.hosts, route.headers, path)))
    plain = int(bool(route.hosts) and not any("*" in h for h in route.hosts))
    regex = path is not None and path.startswith("~")
    return (
        kinds,
        plain,
        len(route.headers),
        (1 << 20) + route.regex_priority if regex else 0,
        len(path or ""),
    )


def _header(value: str | None, wanted: Iterable[str]) -> bool:
    """Compared in lower case; what begins with ``~*`` is a regular expression (`kong/router/transform.lua`)."""
    return value is not None and any(
        re.search(want[2:].lower(), value.lower()) is not None
        if want.startswith("~*")
        else want.lower() == value.lower()
        for want in wanted
    )


def _host(pattern: str, host: str) -> bool:
    name = host.partition(":")[0].lower() if ":" not in pattern else host.lower()
    if pattern.startswith("*."):
        return name.endswith(pattern[1:].lower())
    if pattern.endswith(".*"):
        return name.startswith(pattern[:-1].lower())
    return name == pattern.lower()
