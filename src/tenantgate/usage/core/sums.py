"""Sums of entries, by any of their properties and by spans of the calendar. Addition alone, so any grouping agrees."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final

from tenantgate.usage.core.entries import TOKENS, Certainty, Entry, Kind

__all__ = ["DIMENSIONS", "SPANS", "Totals", "grouped", "span_of", "total"]

SPANS: Final = ("hour", "day", "month")
DIMENSIONS: Final = ("tenant", "key", "model", "provider", "end_user", "node", *SPANS)
"""By what entries are grouped."""


@dataclass(slots=True)
class Totals:
    """A sum of entries.

    Attributes:
        requests: of clients; a request with several tries is one.
        cached: requests that the cache answered.
        tries: at providers.
        tokens: by kind of `TOKENS`.
        costs: in femto-units by currency and certainty.
        uncertain: tries of which nobody knows whether the provider bills them; their cost is in no sum unless it stands
            in `costs` as uncertain.
        unpriced: entries with tokens whose cost isn't known.
        corrections: entries that correct others.
    """

    requests: int = 0
    cached: int = 0
    tries: int = 0
    tokens: dict[str, int] = field(default_factory=lambda: dict.fromkeys(TOKENS, 0))
    costs: dict[tuple[str, Certainty], int] = field(default_factory=dict)
    uncertain: int = 0
    unpriced: int = 0
    corrections: int = 0

    def add(self, entry: Entry) -> None:
        """Add an entry."""
        usage = entry.kind is Kind.USAGE
        self.requests += usage and entry.final
        self.cached += usage and entry.cached
        self.tries += usage and entry.attempt > 0
        self.uncertain += usage and entry.uncertain
        self.unpriced += entry.unpriced
        self.corrections += not usage
        for name, count in entry.tokens.items():
            self.tokens[name] += count
        if entry.cost is not None:
            key = entry.cost.currency, entry.certainty or Certainty.EXACT
            self.costs[key] = self.costs.get(key, 0) + entry.cost.femto

    def merge(self, other: Totals) -> None:
        """Add another sum."""
        for name in ("requests", "cached", "tries", "uncertain", "unpriced", "corrections"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for kind, count in other.tokens.items():
            self.tokens[kind] += count
        for key, femto in other.costs.items():
            self.costs[key] = self.costs.get(key, 0) + femto

    def cost(self, currency: str, *certainties: Certainty) -> int:
        """The cost in a currency, in femto-units, of all certainties or of these."""
        wanted = certainties or tuple(Certainty)
        return sum(
            femto for (c, certainty), femto in self.costs.items() if c == currency and certainty in wanted
        )

    @property
    def currencies(self) -> tuple[str, ...]:
        """Currencies of its costs, in order."""
        return tuple(sorted({currency for currency, _ in self.costs}))


def span_of(time_ms: int, span: str, zone: tzinfo) -> str:
    """The hour, day or month of a time in a time zone: ``2026-10-25T02+02:00``, ``2026-10-25``, ``2026-10``.

    Hours bear their offset from UTC: on the day that summer time ends one of them is there twice.
    """
    local = (datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=time_ms)).astimezone(zone)
    if span == "hour":
        whole = local.isoformat(timespec="seconds")
        return whole[:13] + whole[19:]
    return f"{local:%Y-%m-%d}" if span == "day" else f"{local:%Y-%m}"


def grouped(entries: Iterable[Entry], by: Sequence[str], zone: tzinfo = UTC) -> dict[tuple[str, ...], Totals]:
    """Sums by the dimensions `by`, of `DIMENSIONS`, in the order of their values."""
    takes = [_taker(dimension, zone) for dimension in by]
    out: dict[tuple[str, ...], Totals] = {}
    for entry in entries:
        key = tuple([take(entry) for take in takes])
        found = out.get(key)
        if found is None:
            found = out[key] = Totals()
        found.add(entry)
    return dict(sorted(out.items()))


def total(sums: Mapping[tuple[str, ...], Totals] | Iterable[Totals]) -> Totals:
    """The sum of sums."""
    out = Totals()
    for one in sums.values() if isinstance(sums, Mapping) else sums:
        out.merge(one)
    return out


def _taker(dimension: str, zone: tzinfo) -> Callable[[Entry], str]:
    if dimension in SPANS:
        return lambda entry: span_of(entry.time_ms, dimension, zone)
    return lambda entry: str(getattr(entry, dimension))
