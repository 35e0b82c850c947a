"""Usage as a platform takes it: one event checked, added to a ledger, and the numbers of a node's chain that are there.

Amounts are decimal texts with all their digits, and sums of them are exact. What an event leaves out isn't known, and
isn't counted as zero.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Context, Decimal
from typing import Any, Final

from tenantgate.errors import ConfigError

__all__ = [
    "CERTAINTIES",
    "CORRECTION",
    "TOKENS",
    "USAGE",
    "WATERMARK",
    "Event",
    "Row",
    "Run",
    "add",
    "merged",
    "read",
]

USAGE: Final = "tenantgate.usage.v1"
CORRECTION: Final = "tenantgate.correction.v1"
WATERMARK: Final = "tenantgate.watermark.v1"
TOKENS: Final = (
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
)
CERTAINTIES: Final = ("exact", "estimated", "lower_bound", "uncertain")

_TEXT_MAX: Final = 512
_COUNT_MAX: Final = 2**53 - 1
_AMOUNT: Final = re.compile(r"-?[0-9]{1,24}(\.[0-9]{1,24})?")
_CURRENCY: Final = re.compile(r"[A-Z]{3}")
_TIME: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}(\.[0-9]{1,9})?(Z|[+-][0-9]{2}:[0-9]{2})")
_SUM: Final = Context(prec=100)  # more digits than a sum of amounts has


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Numbers of a chain, `first` to `last`, whose events were all sent."""

    first: int
    last: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A CloudEvent of usage, `run` in a watermark; ``source`` and `id` together are unique."""

    source: str
    id: str
    type: str
    tenant: str = ""
    day: str = ""
    """``2026-11-29``, in UTC."""
    provider: str = ""
    model: str = ""
    request: bool = False
    """Whether it stands for a request, not for a try before its last one."""
    cached: bool = False
    tried: bool = False
    """Whether a provider was asked."""
    certainty: str = ""
    tokens: Mapping[str, int] = field(default_factory=dict)
    cost: Decimal | None = None
    currency: str = ""
    run: Run | None = None

    @property
    def known(self) -> bool:
        """Whether this version knows such events; others are taken and mean nothing."""
        return self.type in (USAGE, CORRECTION, WATERMARK)


@dataclass(slots=True, kw_only=True)
class Row:
    """The sum of a tenant's events of one model and one day."""

    requests: int = 0
    cached: int = 0
    tries: int = 0
    uncertain: int = 0
    """Tries that a provider may bill, and nobody knows."""
    unpriced: int = 0
    """Events with tokens and without a cost that is known."""
    corrections: int = 0
    tokens: dict[str, int] = field(default_factory=dict)
    """By kind; a kind of which nothing was told is missing."""
    costs: dict[tuple[str, str], Decimal] = field(default_factory=dict)
    """By currency and certainty."""


def read(value: Any) -> Event:
    """The event in a JSON object.

    Raises:
        ConfigError: it is none; names the member and its problem.
    """
    if not isinstance(value, Mapping):
        raise ConfigError("must be an object")
    if value.get("specversion") != "1.0":
        raise ConfigError("specversion: must be 1.0")
    kind = _text(value, "type", required=True)
    base: dict[str, Any] = {
        "source": _text(value, "source", required=True),
        "id": _text(value, "id", required=True),
        "type": kind,
    }
    if kind not in (USAGE, CORRECTION, WATERMARK):
        return Event(**base)
    data = value.get("data")
    if not isinstance(data, Mapping):
        raise ConfigError("data: must be an object")
    tenant = _text(value, "subject", required=True)
    if kind == WATERMARK:
        first, last = _count(data, "from", "data.from", least=1), _count(data, "to", "data.to", least=1)
        if first is None or last is None or first > last:
            raise ConfigError("data: needs from and to, in this order")
        return Event(**base, tenant=tenant, run=Run(first=first, last=last))
    corrects = kind == CORRECTION
    cost, currency = _cost(data.get("cost"), negative=corrects)
    attempt = _count(data, "attempt", "data.attempt") or 0
    return Event(
        **base,
        tenant=tenant,
        day=_day(value.get("time")),
        provider=_text(data, "provider", "data."),
        model=_text(data, "model", "data."),
        request=not corrects and _flag(data, "final", default=True),
        cached=not corrects and _flag(data, "cached", default=False),
        tried=not corrects and attempt > 0,
        certainty=_certainty(data),
        tokens=_tokens(data.get("usage"), negative=corrects),
        cost=cost,
        currency=currency,
    )


def add(row: Row, event: Event) -> None:
    """Add a usage event or a correction."""
    corrects = event.type == CORRECTION
    row.requests += event.request
    row.cached += event.cached
    row.tries += event.tried
    row.uncertain += not corrects and event.certainty == "uncertain"
    row.unpriced += event.cost is None and any(event.tokens.values()) and not event.cached
    row.corrections += corrects
    for name, count in event.tokens.items():
        row.tokens[name] = row.tokens.get(name, 0) + count
    if event.cost is not None:
        key = event.currency, event.certainty or "exact"
        row.costs[key] = _SUM.add(row.costs.get(key, Decimal(0)), event.cost)


def merged(runs: Sequence[Run], new: Run) -> list[Run]:
    """The runs with another one, in order and apart from each other."""
    at = bisect_left(runs, new.first, key=lambda run: run.last + 1)
    end = at
    first, last = new.first, new.last
    while end < len(runs) and runs[end].first <= last + 1:
        first, last = min(first, runs[end].first), max(last, runs[end].last)
        end += 1
    return [*runs[:at], Run(first=first, last=last), *runs[end:]]


def _text(value: Mapping[str, Any], name: str, at: str = "", *, required: bool = False) -> str:
    found = value.get(name)
    if found is None and not required:
        return ""
    if not isinstance(found, str) or not int(required) <= len(found) <= _TEXT_MAX or not _plain(found):
        raise ConfigError(f"{at}{name}: must be a text of {int(required)} to {_TEXT_MAX} characters")
    return found


def _plain(text: str) -> bool:
    return not any(c < " " or "\ud800" <= c <= "\udfff" for c in text)


def _flag(data: Mapping[str, Any], name: str, *, default: bool) -> bool:
    found = data.get(name, default)
    if not isinstance(found, bool):
        raise ConfigError(f"data.{name}: must be true or false")
    return found


def _count(data: Mapping[str, Any], name: str, at: str, *, least: int = 0) -> int | None:
    found = data.get(name)
    if found is None:
        return None
    if type(found) is not int or not least <= found <= _COUNT_MAX:
        raise ConfigError(f"{at}: must be a whole number from {least}")
    return found


def _tokens(value: Any, *, negative: bool) -> Mapping[str, int]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ConfigError("data.usage: must be an object")
    least = -_COUNT_MAX if negative else 0
    found = {name: _count(value, name, f"data.usage.{name}", least=least) for name in TOKENS}
    return {name: count for name, count in found.items() if count is not None}


def _cost(value: Any, *, negative: bool) -> tuple[Decimal | None, str]:
    if value is None:
        return None, ""
    if not isinstance(value, Mapping):
        raise ConfigError("data.cost: must be an object")
    exact, currency = value.get("exact"), value.get("currency")
    if not isinstance(exact, str) or not _AMOUNT.fullmatch(exact):
        raise ConfigError("data.cost.exact: must be a decimal number, as a text")
    if not isinstance(currency, str) or not _CURRENCY.fullmatch(currency):
        raise ConfigError("data.cost.currency: must be a code of ISO 4217")
    amount = Decimal(exact)
    if amount < 0 and not negative:
        raise ConfigError("data.cost.exact: is negative, which only a correction may be")
    return amount, currency


def _certainty(data: Mapping[str, Any]) -> str:
    found = data.get("certainty")
    if found is not None and found not in CERTAINTIES:
        raise ConfigError(f"data.certainty: must be one of {', '.join(CERTAINTIES)}")
    return found or ""


def _day(value: Any) -> str:
    if not isinstance(value, str) or not _TIME.fullmatch(value):
        raise ConfigError("time: must be a time as RFC 3339 has it")
    try:
        return datetime.fromisoformat(value).astimezone(UTC).strftime("%Y-%m-%d")
    except (ValueError, OverflowError):
        raise ConfigError("time: there is no such time") from None
