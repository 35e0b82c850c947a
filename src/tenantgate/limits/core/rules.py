"""Limits and budgets as the engine applies them: what is counted, of whom, in which window, and what a full one does.

All amounts are whole numbers: requests, tokens, or nano-dollars (`tenantgate.prices.core.price_list`).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

__all__ = [
    "CachedCost",
    "Counted",
    "Degrade",
    "Do",
    "Mode",
    "OnStoreDown",
    "OnTight",
    "Per",
    "Reserve",
    "Rule",
    "Step",
    "Window",
]


class Counted(enum.StrEnum):
    """What a rule counts."""

    REQUESTS = "requests"
    PROMPT_TOKENS = "prompt_tokens"
    COMPLETION_TOKENS = "completion_tokens"
    TOTAL_TOKENS = "total_tokens"
    COST = "cost"
    BYTES = "bytes"  # of arguments and results of tools


class Per(enum.StrEnum):
    """Whose counter it is; within one tenant always."""

    TENANT = "tenant"
    KEY = "key"
    MODEL = "model"
    PROVIDER = "provider"
    END_USER = "end_user"


class Mode(enum.StrEnum):
    """Whether a full rule refuses, or is only counted and told."""

    ENFORCE = "enforce"
    SHADOW = "shadow"


class Reserve(enum.StrEnum):
    """What is held for a request until its usage is known."""

    WORST = "worst"  # estimated prompt, and the most tokens that the reply may have
    EXPECTED = "expected"  # the 90th percentile of this tenant and model


class OnTight(enum.StrEnum):
    """What happens to a request whose worst case doesn't fit, while something is left."""

    SHRINK = "shrink"  # its max_tokens is lowered to what fits, down to `min_tokens`
    REFUSE = "refuse"
    ADMIT = "admit"  # what is left is held, so that the limit may be exceeded by the rest


class OnStoreDown(enum.StrEnum):
    """What happens while Redis can't be asked."""

    LEASE = "lease"  # a slice taken beforehand is spent, then as closed
    OPEN = "open"
    CLOSED = "closed"


class CachedCost(enum.StrEnum):
    """What an answer from the cache counts."""

    FREE = "free"
    TOKENS = "tokens"  # its tokens, and no money
    FACTOR = "factor"  # tokens and money times `cached_factor`


class Do(enum.StrEnum):
    """What a step of a budget does, beside telling."""

    NOTIFY = "notify"
    DEGRADE = "degrade"
    CACHE_ONLY = "cache_only"
    BLOCK = "block"


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A span of time in which a rule counts. Either `sliding_s`, or a calendar's `unit`."""

    sliding_s: int = 0
    """Any such span, whenever it begins; 0: a calendar's window."""
    unit: str = ""
    """second, minute, hour, day, week or month, as a calendar has them in `timezone`."""
    timezone: str = "UTC"
    """IANA name."""
    anchor_day: int = 1
    """With month the day on which it begins, 1 to 31, or the month's last where it has no such day; with week the
    weekday, 1 (Monday) to 7."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Degrade:
    """What a step changes in requests."""

    model: str | None = None
    """Name or alias of the tenant's model that answers in the place of the one asked for."""
    compress: str | None = None
    """more: as much compression as the section `compression` can."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A step of a budget's ladder."""

    at_permille: int
    """Of the limit, 1 to 1000 or beyond."""
    do: Do
    to: str = ""
    """Name of the receiver of the alert; empty: the budget's own."""
    degrade: Degrade = Degrade()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One limit or budget of a tenant."""

    name: str
    counted: Counted
    most: int
    """In `counted`'s unit; 0 lets nothing pass."""
    window: Window
    per: Per = Per.TENANT
    models: tuple[str, ...] = ()
    """``provider/model`` of those that count; empty: all."""
    providers: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()
    """``server`` or ``server/tool`` of MCP tools, whose calls count and nothing else; empty: requests to models."""
    mode: Mode = Mode.ENFORCE
    reserve: Reserve = Reserve.EXPECTED
    on_tight: OnTight = OnTight.REFUSE
    min_tokens: int = 256
    """With shrink, the fewest tokens of a reply that are worth a request."""
    cached: CachedCost = CachedCost.FREE
    cached_factor: float = 0.0
    on_store_down: OnStoreDown = OnStoreDown.OPEN
    steps: tuple[Step, ...] = ()
    """By rising `at_permille`. Budgets have steps, and the last one is 100 % block unless the file says otherwise."""
    budget: bool = False
    """Whether the file calls it a budget: its refusals are budget_exhausted or budget_held, not rate_limited."""
