"""What a tenant did in a span of time, summed from audit records: requests, tokens, money, hits, latency, errors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from tenantgate.tenant import TenantId
from tenantgate.usage.core.entries import Entry, entries_of

__all__ = ["FAILED", "Activity", "Seen", "merged", "quantile", "seen_of"]

FAILED: Final = frozenset({"upstream_error", "gateway_error"})
"""Outcomes that are an error of the gateway or of a provider, not of the client."""
_LOOKED_UP: Final = frozenset({"hit", "miss", "coalesced", "stale"})
_HIT: Final = frozenset({"hit", "coalesced", "stale"})


@dataclass(frozen=True, slots=True)
class Seen:
    """One request.

    Attributes:
        tenant: whose it is.
        time_ms: when it came, Unix milliseconds.
        outcome: what became of it.
        entries: its tries with tokens and costs.
        cache: Hit, Miss and so on, in lower case; empty where the cache wasn't asked.
        latency_ms: from the first byte to the last; None where unknown.
        findings: of the guard, by rule and mode.
    """

    tenant: TenantId
    time_ms: int
    outcome: str
    entries: tuple[Entry, ...]
    cache: str = ""
    latency_ms: float | None = None
    findings: Mapping[str, int] = field(default_factory=dict)


def seen_of(record: Mapping[str, Any]) -> Seen | None:
    """What an audit record says; None for corrections, events and notes of dropped records.

    Raises:
        ConfigError: it is no record; names the field.
    """
    entries = entries_of(record)
    if not entries or entries[0].reason or record.get("kind"):
        return None
    last = entries[-1]
    took = _part(record, "latencies").get("request")
    cache = _part(record, "response").get("cache_status")
    return Seen(
        tenant=last.tenant,
        time_ms=last.time_ms,
        outcome=last.outcome,
        entries=entries,
        cache=cache.lower() if isinstance(cache, str) else "",
        latency_ms=float(took) if isinstance(took, int | float) and took >= 0 else None,
        findings=_findings(record),
    )


def _findings(record: Mapping[str, Any]) -> Mapping[str, int]:
    """Rules that found something, each counted once for a request and guard."""
    found: Counter[str] = Counter()
    for name, verdict in _part(record, "verdicts").items():
        rules = verdict.get("rules") if isinstance(verdict, dict) and "guardrails" in name else None
        for rule, told in rules.items() if isinstance(rules, dict) else ():
            mode = told.get("mode") if isinstance(told, dict) else None
            found[f"{rule} ({mode})" if isinstance(mode, str) else str(rule)] += 1
    return found


def _part(value: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = value.get(name)
    return found if isinstance(found, dict) else {}


@dataclass(slots=True)
class Activity:
    """A sum.

    Attributes:
        requests: of clients.
        outcomes: how many had which.
        looked_up: requests for which the cache was asked, and `hits` those that it answered.
        tokens: in and out, as providers count them; parts of these aren't added again.
        femto: costs in 10⁻¹⁵ of a currency's unit, by currency; what isn't known is in no sum.
        latencies_ms: of all requests, unsorted.
        findings: requests by rule and mode.
    """

    requests: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    looked_up: int = 0
    hits: int = 0
    tokens: int = 0
    femto: Counter[str] = field(default_factory=Counter)
    latencies_ms: list[float] = field(default_factory=list)
    findings: Counter[str] = field(default_factory=Counter)

    def add(self, seen: Seen) -> None:
        """Count a request."""
        self.requests += 1
        self.outcomes[seen.outcome] += 1
        self.looked_up += seen.cache in _LOOKED_UP
        self.hits += seen.cache in _HIT
        for entry in seen.entries:
            self.tokens += entry.tokens.get("input_tokens", 0) + entry.tokens.get("output_tokens", 0)
            if entry.cost is not None:
                self.femto[entry.cost.currency] += entry.cost.femto
        if seen.latency_ms is not None:
            self.latencies_ms.append(seen.latency_ms)
        self.findings.update(seen.findings)

    @property
    def errors(self) -> int:
        """Requests that failed by the gateway or a provider."""
        return sum(self.outcomes[name] for name in FAILED)

    @property
    def hit_rate(self) -> float | None:
        """The share of lookups that hit, 0 to 1; None without any."""
        return self.hits / self.looked_up if self.looked_up else None


def merged(parts: Iterable[Activity]) -> Activity:
    """The sum of sums."""
    out = Activity()
    for one in parts:
        out.requests += one.requests
        out.outcomes.update(one.outcomes)
        out.looked_up += one.looked_up
        out.hits += one.hits
        out.tokens += one.tokens
        out.femto.update(one.femto)
        out.latencies_ms += one.latencies_ms
        out.findings.update(one.findings)
    return out


def quantile(values: Iterable[float], share: float) -> float | None:
    """The nearest-rank quantile, `share` 0 to 1; None of nothing."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -int(-share * len(ordered) // 1) - 1))] if ordered else None
