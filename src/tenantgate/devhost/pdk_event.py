"""What every function of the PDK works on: one event of one plugin, and what Kong saved for its log phase."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from multidict import CIMultiDict

from tenantgate.devhost import lua
from tenantgate.devhost.exchange import Exchange, Phase
from tenantgate.devhost.logs import KongLog
from tenantgate.devhost.record import headers_table, response_headers, serialize

__all__ = [
    "BEFORE_CONTENT",
    "CHANGING_EVERY_TRY",
    "CHANGING_REPLY",
    "CHANGING_REQUEST",
    "READING_REPLY",
    "Event",
    "Function",
    "NoSuchMethodError",
    "PdkError",
    "Saved",
]

# Phases of groups of functions (`phase_checker.new` in kong/pdk/*.lua).
CHANGING_REQUEST: Final = (Phase.REWRITE, Phase.ACCESS)
CHANGING_EVERY_TRY: Final = (*CHANGING_REQUEST, Phase.BALANCER)
BEFORE_CONTENT: Final = (*CHANGING_REQUEST, Phase.RESPONSE)
CHANGING_REPLY: Final = (*BEFORE_CONTENT, Phase.HEADER_FILTER)
READING_REPLY: Final = (Phase.RESPONSE, Phase.HEADER_FILTER, Phase.BODY_FILTER, Phase.LOG)

Function = Callable[..., Any]
"""(event, argument, …) → Kong's first return value, or MISSING for nil."""


class PdkError(Exception):
    """The function raised: in access the request gets 500, in log the event is never answered."""


class NoSuchMethodError(PdkError):
    """Kong logs "could not find pdk method" and answers nil."""


@dataclass(frozen=True, slots=True)
class Saved:
    """What Kong keeps for the log timer (`build_phases` in plugin_servers/plugin.lua)."""

    record: Mapping[str, Any]
    ctx: dict[str, Any]
    request_headers: Mapping[str, Any]
    response_headers: Mapping[str, Any]
    status: int
    source: str

    @classmethod
    def of(cls, x: Exchange) -> Saved:
        """Take it now, for one plugin: its `ctx` is a copy of its own."""
        return cls(
            record=serialize(x),
            ctx=dict(x.ctx),
            request_headers=headers_table(x.headers.items()),
            response_headers=response_headers(x),
            status=x.status,
            source=x.source,
        )


@dataclass(frozen=True, slots=True)
class Event:
    """One phase of one plugin; `saved` is given in the log phase only."""

    x: Exchange
    log: KongLog = field(repr=False)
    plugin: str
    saved: Saved | None = None

    def live(self, *phases: Phase) -> Exchange:
        """The request itself, for functions that need nginx.

        Raises:
            PdkError: they aren't there in a timer, or not in this phase.
        """
        if self.saved is not None:
            raise PdkError("API disabled in the context of ngx.timer")
        self.only(*phases)
        return self.x

    def only(self, *phases: Phase) -> None:
        """Refuse other phases, as `check_phase` does."""
        if phases and self.x.phase not in phases:
            names = ", ".join(p.value for p in phases)
            raise PdkError(f"function cannot be called in {self.x.phase.value} phase (only in: {names})")

    @property
    def ctx(self) -> dict[str, Any]:
        """``ngx.ctx``: in the log phase a copy."""
        return self.x.ctx if self.saved is None else self.saved.ctx


LIMIT: Final = 100


def text(value: Any, what: str = "value") -> str:
    """A Lua string."""
    if isinstance(value, bytes):
        return lua.from_bytes(value)
    if not isinstance(value, str):
        raise PdkError(f"{what} must be a string")
    return value


def header_values(name: Any, value: Any) -> list[str]:
    """A header's values; an empty one becomes a space (`kong/pdk/private/checks.lua`)."""
    if isinstance(value, bool):
        return ["true" if value else "false"]
    if isinstance(value, (int, float)):
        return [lua.encode(value).decode()]
    values = value if isinstance(value, list) else [value]
    if not all(isinstance(v, (str, bytes)) for v in values):
        raise PdkError(f"invalid header value for {name!r}")
    return [text(v) or " " for v in values]


def header_table(headers: Any) -> dict[str, list[str]]:
    """A table of headers to set; an empty one may have come as a list."""
    if headers == []:
        return {}
    if not isinstance(headers, Mapping):
        raise PdkError("headers must be a table")
    return {text(n, "header name"): header_values(n, v) for n, v in headers.items()}


def put_header(headers: CIMultiDict[str], name: Any, value: Any) -> None:
    """Replace a header, as ``ngx.header[name] = value`` does; Transfer-Encoding is left alone."""
    name, values = text(name, "header name"), header_values(name, value)
    if name.lower().replace("_", "-") == "transfer-encoding":
        return
    headers.popall(name, None)
    for v in values:
        headers.add(name, v)


def first(table: Mapping[str, Any], name: Any) -> Any:
    """One header or argument of a table."""
    value = table.get(text(name, "name").lower().replace("_", "-"), lua.MISSING)
    return value[0] if isinstance(value, list) else value


def limit(value: Any) -> int:
    """How many headers or arguments to give."""
    if value is None:
        return LIMIT
    if not isinstance(value, int) or not 1 <= value <= 1000:
        raise PdkError("max must be a number between 1 and 1000")
    return value


def status(value: Any, lowest: int = 100) -> int:
    """An HTTP status."""
    if not isinstance(value, int) or not lowest <= value <= 599:
        raise PdkError(f"code must be a number between {lowest} and 599")
    return value


def absent(value: Any) -> Any:
    """None as nil."""
    return lua.MISSING if value is None else value
