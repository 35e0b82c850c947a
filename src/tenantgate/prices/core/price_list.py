"""Prices of one target over time, and what a usage costs by them. Whole numbers only: no rounding until the end.

A price is in nano-dollars for a million tokens: $0.15 for a million is 150,000,000. Tokens times price is then exact in
femto-dollars (10⁻¹⁵ $), the unit of every `cost`; counters in Redis hold nano-dollars (10⁻⁹ $), of which a double, and
so Redis' Lua, holds up to $9,007,199 exactly.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

__all__ = ["FEMTO_PER_NANO", "KINDS", "NANO_PER_DOLLAR", "PriceList", "Prices", "Tier"]

NANO_PER_DOLLAR: Final = 1_000_000_000
FEMTO_PER_NANO: Final = 1_000_000

KINDS: Final = (
    "input",
    "output",
    "cache_read",
    "cache_write",
    "cache_write_1h",
    "audio_input",
    "reasoning",
    "audio_output",
    "request",
)
"""Kinds of prices. ``input`` and ``output`` hold for all tokens of their side that have no price of their own, and
``cache_write`` for those that are kept for an hour, unless ``cache_write_1h`` is given. ``request`` is for one request,
in nano-dollars."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tier:
    """Prices that hold for the whole request where its prompt has more than `above` tokens."""

    above: int
    prices: Mapping[str, int]
    """By kind of `KINDS`; a kind that is missing has the price below."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """Prices from one moment on."""

    valid_from_ms: int = 0
    """Unix time in ms; 0: always."""
    daily_s: tuple[int, int] | None = None
    """Seconds of the day in UTC from which and until which these prices hold, past midnight where the first is the
    larger one; None: all day."""
    prices: Mapping[str, int] = field(default_factory=dict)
    """By kind of `KINDS`; ``input`` and ``output`` are always there."""
    tiers: tuple[Tier, ...] = ()
    """By rising `above`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceList:
    """All prices of one target."""

    book: str
    """Where the prices are from, with its version: ``genai-prices 0.2.3``, ``tenants.yaml``, or both joined by +."""
    periods: tuple[Prices, ...]
    """At least one. The last one that holds at a time counts, and where none does the first."""
