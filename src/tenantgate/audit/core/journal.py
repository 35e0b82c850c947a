"""Kong's own log lines, as the stock ``file-log`` writes them: one JSON object a request, without content.

Kong writes a line for every request of the service, whatever its outcome and whichever of our processes live. By the
rendered configuration file-log leaves out what could hold content and adds the decisions of our plugins. Still nothing
here is trusted: of each field only a short, plain value is taken.
Source: https://github.com/Kong/kong/blob/3.9.3/kong/pdk/log.lua (``kong.log.serialize``).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from tenantgate.llm.log_record import LogRecord
from tenantgate.llm.token_usage import TokenUsage, token_usage
from tenantgate.tenant import TenantId

__all__ = [
    "UNKNOWN_TENANT",
    "JournalLine",
    "Try",
    "parse_line",
    "plain_verdict",
    "route_parts",
    "split_records",
]

UNKNOWN_TENANT: Final = TenantId("~unknown")
"""The tenant of a request with neither a consumer nor a route of ours; no rendered tenant can have this id."""

_USAGE: Final = "usage"
_END_USER: Final = "end_user"
_TENANT: Final = "tenant"
_KEY: Final = "key"
_OWN: Final = frozenset({_USAGE, _END_USER, _TENANT, _KEY})  # read by themselves
_END_USER_MAX: Final = 256
_PLAIN: Final = re.compile(r"[\w .:/+@~*#()-]{1,200}", re.ASCII)
_ID: Final = re.compile(r"[0-9A-Za-z_.:-]{1,128}", re.ASCII)
_ESCAPED: Final = re.compile(r"(?:~[0-9A-F]{2})+")
_DECODER: Final = json.JSONDecoder()
_MOST_STARTS: Final = 256  # brackets at which a record is looked for: a record has about twenty
_DEPTH: Final = 4
_MOST: Final = 64  # entries of a verdict
_TRIES: Final = "tries"
_MOST_TRIES: Final = 32
_ADDRESS: Final = re.compile(r"[0-9A-Za-z.:\[\]-]{1,80}")
_OUTCOME: Final = re.compile(r"[a-z0-9_]{1,32}")
_UNCERTAIN: Final = frozenset({"timeout", "reset", "http_502", "http_504", "unknown", "aborted"})
_NOT_KEPT: Final = frozenset({"token", "originals"})  # of the plugins' own, for their log phases


@dataclass(frozen=True, slots=True)
class Try:
    """One try of a request at a target, as the loopback proxy saw it.

    Attributes:
        target: its id.
        outcome: ``ok``, a class of failure, ``refused`` by the egress policy, or ``http_NNN``.
        status: the provider's; 0 if there was none.
        ms: until the reply's head, or the failure.
        address: ``ip:port`` that was asked; empty if it came to none.
        host: that was asked for.
    """

    target: str
    outcome: str
    status: int = 0
    ms: int = 0
    address: str = ""
    host: str = ""

    @property
    def uncertain(self) -> bool:
        """Whether the provider may have done the work, and bill it."""
        return self.outcome in _UNCERTAIN


@dataclass(frozen=True, slots=True)
class JournalLine:
    """One request as Kong logged it.

    Attributes:
        request_id: Kong's id of the request, 32 hexadecimal digits; empty if Kong gave none.
        correlation_id: the gateway's or the client's, if it is a UUID: clients may put anything there.
        tenant: the consumer's, else that of an access token, else the route's.
        started_ms: arrival of the request, in Unix milliseconds.
        latencies: in milliseconds; ``proxy`` is -1 where no provider was asked.
        source: origin of the answer: ``upstream`` or ``kong``.
        route_id: Kong's id of the route.
        route_name: the engine's name for provider, model and tenant, ``llm.{provider}.{model}.{tenant}``, else Kong's.
        policy: name of the settings that hold for the request, as the engine says; empty where no engine saw it.
        tokens: (prompt, completion, total) as Kong counted them.
        usage: tokens as the provider counted them; None for requests that the engine didn't send.
        cost: as Kong computed it.
        notes: texts that the rendered Lua added, by name, such as ``cache_status`` and ``traceparent``.
        verdicts: decisions of our plugins, by plugin, without any text of the request.
        credential_id: Kong's id of the client's key, or the engine's of an access token's subject; empty without one.
        end_user: who asked among the tenant's users, as the request says; empty where it says nothing.
        tries: in their order, the last one is whose reply the client got; empty where the provider was asked directly.
    """

    request_id: str
    correlation_id: str | None
    tenant: TenantId
    started_ms: int
    method: str
    request_size: int
    status: int
    response_size: int
    latencies: Mapping[str, float]
    source: str
    route_id: str
    route_name: str
    provider: str
    model: str
    response_model: str
    consumer_id: str | None
    consumer_name: str | None
    client_ip: str
    upstream_status: str
    attempts: int
    kong_trace_id: str | None
    tokens: tuple[int, int, int] | None
    cost: float | None
    time_to_first_token_ms: float | None
    usage: TokenUsage | None = None
    policy: str = ""
    credential_id: str = ""
    end_user: str = field(default="", repr=False)
    notes: Mapping[str, str] = field(default_factory=dict)
    verdicts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    tries: tuple[Try, ...] = ()


def parse_line(raw: bytes) -> JournalLine | None:
    """The request of a line, or None for one that is no log record, such as a line that was cut off."""
    try:
        found = json.loads(raw.decode("utf-8", "surrogateescape"))
    except (ValueError, RecursionError):
        return None
    record = LogRecord.of(found)
    if record is None:
        return None
    notes, verdicts = _notes({k: v for k, v in record.notes.items() if k not in _OWN})
    usage, end_user = record.notes.get(_USAGE), record.notes.get(_END_USER)
    policy, route_name = notes.pop("policy", ""), notes.pop("route", "") or record.route_name
    provider, model, route_tenant = route_parts(route_name)
    tenant = record.consumer_custom_id or _text(record.notes.get(_TENANT)) or route_tenant
    # Of an error Kong has only guessed the prompt's tokens, which nobody bills.
    tokens = record.tokens if (record.status or 0) < 400 else None
    return JournalLine(
        request_id=_identifier(record.request_id),
        correlation_id=_uuid(record.correlation_id),
        tenant=TenantId(_encodable(tenant)) if tenant else UNKNOWN_TENANT,
        started_ms=record.started_ms or 0,
        method=_short(record.method, 16),
        request_size=record.request_size or 0,
        status=record.status or 0,
        response_size=record.response_size or 0,
        latencies={name: round(value, 3) for name, value in record.latencies_ms.items()},
        source=_short(record.source, 16),
        route_id=_identifier(record.route_id),
        route_name=_short(route_name, 200),
        provider=_short(_provider(usage) or record.provider or provider, 64),
        model=_short(record.request_model or model, 128),
        response_model=_short(record.response_model, 128),
        consumer_id=_identifier(record.consumer_id) or None,
        consumer_name=_encodable(record.consumer_name)[:200] or None,
        client_ip=_identifier(record.client_ip),
        upstream_status=_short(record.upstream_status, 32),
        attempts=record.attempts,
        kong_trace_id=_trace_id(record.trace_id),
        tokens=tokens,
        cost=record.cost,
        time_to_first_token_ms=record.time_to_first_token_ms,
        usage=token_usage(usage, tokens),
        policy=policy,
        credential_id=_identifier(record.credential_id) or _identifier(_text(record.notes.get(_KEY))),
        end_user=_encodable(end_user) if isinstance(end_user, str) and len(end_user) <= _END_USER_MAX else "",
        notes=notes,
        verdicts=verdicts,
        tries=_tries(record.notes.get(_TRIES)),
    )


def split_records(raw: bytes) -> list[bytes]:
    """The pieces of a line, which together are the line: each a whole record or what lies beside one.

    A full disk cuts a record off, its line end included, and Kong appends the next one to the half.
    """
    text = raw.decode("utf-8", "surrogateescape")
    pieces: list[str] = []
    unread, at = 0, 0
    for _ in range(_MOST_STARTS):
        at = text.find("{", at)
        if at < 0:
            break
        end = _record_end(text, at)
        if end is None:
            at += 1
            continue
        pieces += [text[unread:at], text[at:end]]
        unread = at = end
    pieces.append(text[unread:])
    return [piece.encode("utf-8", "surrogateescape") for piece in pieces if piece]


def _record_end(text: str, at: int) -> int | None:
    """The end of the log record that begins at `at`, or None if none begins there."""
    try:
        found, end = _DECODER.raw_decode(text, at)
    except (ValueError, RecursionError):
        return None
    return end if LogRecord.of(found) is not None else None


def route_parts(name: str) -> tuple[str, str, str]:
    """(provider, model, tenant) of a route's name ``llm.{provider}.{model}.{tenant}``, else empty texts."""
    parts = name.split(".")
    if len(parts) < 4 or parts[0] != "llm":
        return "", "", ""
    return _unescape(parts[1]), _unescape(".".join(parts[2:-1])), _unescape(parts[-1])


def plain_verdict(text: Any) -> Mapping[str, Any] | None:
    """The verdict in a JSON text, reduced to numbers, flags and short plain names; None if it is none."""
    if not isinstance(text, str) or len(text) > 20_000 or "{" not in text:
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return _reduced(found, _DEPTH) if isinstance(found, dict) else None


def _reduced(value: Any, depth: int) -> Any:
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int | float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return value if _PLAIN.fullmatch(value) else None
    if depth == 0:
        return None
    if isinstance(value, list):
        return [_reduced(v, depth - 1) for v in value[:_MOST]]
    if not isinstance(value, dict):
        return None
    return {
        k: _reduced(v, depth - 1)
        for k, v in list(value.items())[:_MOST]
        if k not in _NOT_KEPT and _PLAIN.fullmatch(k)
    }


def _notes(values: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, Mapping[str, Any]]]:
    notes: dict[str, str] = {}
    verdicts: dict[str, Mapping[str, Any]] = {}
    for name, value in values.items():
        if not _ID.fullmatch(name):
            continue
        verdict = plain_verdict(value)
        if verdict is not None:
            verdicts[name] = verdict
        elif isinstance(value, bool):
            notes[name] = "true" if value else "false"
        elif isinstance(value, str) and _PLAIN.fullmatch(value):
            notes[name] = value
    return notes, verdicts


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _provider(usage: Any) -> str:
    """The provider's name in tenants.yaml, where Kong's log has that of another one's format."""
    found = usage.get("provider") if isinstance(usage, Mapping) else None
    return found if isinstance(found, str) else ""


def _tries(values: Any) -> tuple[Try, ...]:
    found = (v for v in values[:_MOST_TRIES] if isinstance(v, dict)) if isinstance(values, list) else ()
    return tuple(
        Try(
            _plain(v, "target"),
            _plain(v, "outcome") if _OUTCOME.fullmatch(_plain(v, "outcome")) else "unknown",
            _count(v, "status"),
            _count(v, "ms"),
            address if _ADDRESS.fullmatch(address := str(v.get("address", ""))) else "",
            _plain(v, "host"),
        )
        for v in found
    )


def _plain(values: Mapping[str, Any], name: str) -> str:
    found = values.get(name)
    return _short(found, 200) if isinstance(found, str) else ""


def _count(values: Mapping[str, Any], name: str) -> int:
    found = values.get(name)
    if not isinstance(found, int | float) or isinstance(found, bool) or not 0 <= found < 1e9:
        return 0
    return int(found)


def _short(text: str, most: int) -> str:
    return text if len(text) <= most and _PLAIN.fullmatch(text) else ""


def _identifier(text: str) -> str:
    return text if _ID.fullmatch(text) else ""


def _uuid(text: str) -> str | None:
    """A UUID, also with the counter that the correlation-id plugin may add."""
    return (
        text
        if re.fullmatch(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}(?:#[0-9]{1,20})?", text)
        else None
    )


def _encodable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def _unescape(text: str) -> str:
    return _ESCAPED.sub(lambda m: bytes.fromhex(m.group().replace("~", "")).decode("utf-8", "replace"), text)


def _trace_id(text: str) -> str | None:
    return text if re.fullmatch(r"[0-9a-f]{32}", text) else None
