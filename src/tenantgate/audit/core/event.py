"""Events: what happened to a tenant beside its requests, such as a budget that was used up. A record for each.

An event is a line of Kong's journal like a request is, appended by the gateway's own processes: its place there numbers
it, so that it is in the tenant's chain once whatever is killed. Nothing that a client sends can make such a line: Kong
writes only whole objects of its own, and a line that has to be taken apart holds no events.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from tenantgate.errors import ConfigError
from tenantgate.tenant import TenantId

__all__ = ["EVENT_TYPES", "Event", "event_line", "event_schema", "parse_event"]

_MEMBER: Final = "tenantgate_event"
_ID_MAX: Final = 128
_TEXT_MAX: Final = 500
_TYPE: Final = "type"

EVENT_TYPES: Final = {
    "threshold_crossed": "A step of a budget below its limit was reached.",
    "budget_crossed": "A budget is used up, or a step beyond its limit was reached.",
    "projected_limit_exceeded": "A budget will be used up before its window ends, if spending goes on as it does.",
    "budget_recovered": "A budget about which was told is below the step again: raised, or in a new window.",
    "budget_raised": "A budget was raised for a time.",
    "budget_raise_ended": "A raise was ended before its time.",
}
"""The first three are LiteLLM's names (docs.litellm.ai, Alerting / Webhooks)."""

_TEXTS: Final = {
    _TYPE: "What happened.",
    "message": "The same as a sentence.",
    "budget": "Name of the budget.",
    "per": "Whose it is: tenant, key, model, provider, end_user.",
    "subject": "Which one of these; of end users sha256: and the beginning of their digest. Missing: the tenant.",
    "mode": "enforce or shadow.",
    "unit": "USD, tokens or requests.",
    "max_budget": "The limit with its raise, as an exact decimal.",
    "spend": "What was used, as an exact decimal.",
    "at": "The step, such as 80%.",
    "do": "What the step does: notify, degrade, cache_only, block.",
    "to": "Name of the receiver; missing: all.",
    "window_start": "When the window began.",
    "window_end": "When it ends.",
    "timezone": "Time zone of the window.",
    "projected_spend": "What will be used when the window ends, if spending goes on.",
    "projected_exceeded_date": "When the budget is used up, if spending goes on.",
    "by": "What a raise adds, as an exact decimal.",
    "until": "When the raise ends.",
    "reason": "Why it was raised, as the operator says.",
    "who": "Who raised it, as they say.",
}
"""All that an event may hold, each a text."""


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a tenant.

    Attributes:
        tenant: whose it is.
        id: unique; the same event that is written again has the same one.
        time_ms: Unix time.
        values: texts by their names, `_TEXTS`.
    """

    tenant: TenantId
    id: str
    time_ms: int
    values: Mapping[str, str]


def event_line(event: Event) -> bytes:
    """The event as a line of the journal, line end included."""
    found = {
        "tenant": str(event.tenant),
        "id": event.id,
        "time_ms": event.time_ms,
        "values": dict(event.values),
    }
    return json.dumps({_MEMBER: found}, separators=(",", ":")).encode("ascii") + b"\n"


def parse_event(raw: bytes) -> Event | None:
    """The event of a line; None for one that holds none. Of its values those that are known are taken."""
    if not raw.startswith(b'{"' + _MEMBER.encode()):
        return None
    try:
        found = json.loads(raw)[_MEMBER]
        tenant, identifier, time_ms = TenantId(found["tenant"]), found["id"], found["time_ms"]
        values = {name: text for name, text in found["values"].items() if name in _TEXTS and _plain(text)}
    except (ValueError, TypeError, KeyError, AttributeError, ConfigError):
        return None
    known = isinstance(identifier, str) and 0 < len(identifier) <= _ID_MAX and identifier.isascii()
    if not known or type(time_ms) is not int or values.get(_TYPE) not in EVENT_TYPES:
        return None
    return Event(tenant, identifier, time_ms, values)


def _plain(text: object) -> bool:
    return isinstance(text, str) and len(text) <= _TEXT_MAX and text.isprintable()


def event_schema() -> dict[str, Any]:
    """The JSON schema of a record's `event`."""
    texts: dict[str, Any] = {name: {"type": "string", "description": text} for name, text in _TEXTS.items()}
    texts[_TYPE]["enum"] = [*EVENT_TYPES]
    return {
        "type": "object",
        "description": "What happened to the tenant beside its requests.",
        "properties": texts,
        "required": [_TYPE, "message"],
        "additionalProperties": False,
    }
