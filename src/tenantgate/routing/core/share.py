"""Shares: what a deployment still allows is divided among the tenants that ask, by their weights.

While a deployment has plenty, everybody takes what they need. Below half, nobody takes more than their share of the
minute as long as others ask. Use is counted by whole minutes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

__all__ = ["WINDOW_S", "Use", "Uses", "added", "over_share"]

WINDOW_S: Final = 60
_PLENTY: Final = 0.5  # of what the minute has in all
_MOST: Final = 256  # tenants of a deployment that are told apart
_OTHERS: Final = "~"


@dataclass(frozen=True, slots=True)
class Use:
    """One tenant's use of a deployment."""

    weight: int = 100
    requests: float = 0.0
    tokens: float = 0.0


@dataclass(frozen=True, slots=True)
class Uses:
    """Use by tenant in a minute, and who asked in the one before.

    Attributes:
        minute: number of the minute since 1970.
        by_tenant: by a tenant's tag.
        before: weights of the tenants of the minute before.
        total: use by all of them.
    """

    minute: int = 0
    by_tenant: Mapping[str, Use] = field(default_factory=dict)
    before: Mapping[str, int] = field(default_factory=dict)
    total: Use = field(default_factory=Use)


def added(uses: Uses, more: Mapping[str, Use], now: float) -> Uses:
    """The uses with more in the current minute; a clock that is behind changes nothing of a later minute's."""
    minute = max(int(now // WINDOW_S), uses.minute)
    by_tenant, before, total = dict(uses.by_tenant), uses.before, uses.total
    if minute != uses.minute:
        before = {tag: use.weight for tag, use in by_tenant.items()} if minute == uses.minute + 1 else {}
        by_tenant, total = {}, Use()
    for tag, use in more.items():
        known = tag if tag in by_tenant or len(by_tenant) < _MOST else _OTHERS
        old = by_tenant.get(known, Use())
        by_tenant[known] = Use(use.weight, old.requests + use.requests, old.tokens + use.tokens)
        total = Use(0, total.requests + use.requests, total.tokens + use.tokens)
    return Uses(minute, by_tenant, before, total)


def over_share(
    uses: Uses, tag: str, *, weight: int, requests_left: float | None, tokens_left: float | None
) -> bool:
    """Whether a tenant has had its share while others ask.

    Args:
        uses: of the current minute.
        tag: the tenant's.
        weight: the tenant's.
        requests_left: what the provider still allows; None: not known, so there is nothing to share.
        tokens_left: the same of tokens.
    """
    taken = uses.total
    scarce = [
        (left, name, of_all)
        for left, name, of_all in (
            (requests_left, "requests", taken.requests),
            (tokens_left, "tokens", taken.tokens),
        )
        if left is not None and left < _PLENTY * (left + of_all)
    ]
    if not scarce:
        return False
    weights = {**uses.before, **{name: use.weight for name, use in uses.by_tenant.items()}, tag: weight}
    if len(weights) < 2:
        return False
    part = max(weight, 1) / sum(max(w, 1) for w in weights.values())
    mine = uses.by_tenant.get(tag, Use())
    return any(getattr(mine, name) >= part * (left + of_all) for left, name, of_all in scarce)
