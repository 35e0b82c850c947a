"""Limits on tokens and money, and budgets, as operators write them in tenants.yaml; policies hold the same values."""

from __future__ import annotations

import functools
import itertools
import zoneinfo
from collections.abc import Iterator
from decimal import Decimal
from typing import Final

from tenantgate.fields import COUNT_MAX, config_class, field

__all__ = ["Budget", "BudgetStep", "Degradation", "Match", "TokenLimit"]

_NAME: Final = r"^[a-z0-9][a-z0-9_-]*$"
_TOOL: Final = r"^[a-z0-9][a-z0-9_-]*(/[A-Za-z0-9_-]{1,64})?$"
_OF_TOOLS: Final = ("requests", "cost", "bytes")
_WINDOW: Final = r"^[1-9][0-9]{0,5}(s|m|h|d|w|mo)$"
_PER: Final = ("tenant", "key", "model", "provider", "end_user")
_MODES: Final = ("enforce", "shadow")
_CACHED: Final = ("free", "tokens", "factor")
_STORE_DOWN: Final = ("lease", "open", "closed")
_DOLLARS_MAX: Final = 9_000_000
"""What Redis' Lua counts exactly in nano-dollars."""
_AMOUNT_MAX: Final = 1_000_000_000_000_000
"""What it counts exactly of anything else."""
_NANO: Final = 1_000_000_000
_CALENDAR: Final = ("1s", "1m", "1h", "1d", "1w", "1mo")
_BUDGETS: Final = ("1h", "1d", "1w", "1mo")


@config_class
class Match:
    """Requests that a limit counts."""

    models: tuple[str, ...] = field(
        "Names or aliases of the tenant's models. Default: all.", default=(), len_max=100
    )
    providers: tuple[str, ...] = field("Providers that are asked. Default: all.", default=(), len_max=32)
    tools: tuple[str, ...] = field(
        "MCP servers, or tools as `server/tool`: their calls count, and no requests to models.",
        default=(),
        match=_TOOL,
        len_max=100,
    )

    def problems(self) -> Iterator[tuple[str, str]]:
        """Calls of tools have neither a model nor a provider."""
        if self.tools and (self.models or self.providers):
            yield "tools", "isn't used beside models or providers; give a limit of its own"


@config_class
class TokenLimit:
    """So much in a window: requests, tokens, money, or bytes of tools."""

    name: str = field("Name of the limit in headers, metrics and logs.", match=_NAME, len_max=40)
    limit: float = field("Most of it in a window; dollars for cost.", between=(0, _AMOUNT_MAX))
    count: str = field(
        "Kind of amount that is counted; bytes are those of tools' arguments and results.",
        default="total_tokens",
        one_of=("requests", "prompt_tokens", "completion_tokens", "total_tokens", "cost", "bytes"),
    )
    window: str = field("Length of the window: 1s, 5m, 1h, 1d, 1w or 1mo.", default="1m", match=_WINDOW)
    window_type: str = field(
        "sliding: any span of this length; calendar: from the clock's full minute, hour, day, week or month on.",
        default="sliding",
        one_of=("sliding", "calendar"),
    )
    timezone: str = field("Time zone of calendar windows, by its IANA name.", default="UTC", len_max=64)
    anchor_day: int = field(
        "First day of a month (1 to 31) or a week (1, Monday, to 7).", default=1, between=(1, 31)
    )
    per: str = field("Subject that has a counter of its own.", default="tenant", one_of=_PER)
    match: Match = field("Requests that count. Default: all of the tenant.", default=Match())
    mode: str = field("enforce; or shadow, counted without effect.", default="enforce", one_of=_MODES)
    cached: str = field(
        "Charge of answers from the cache: free; tokens, without money; or factor.",
        default="free",
        one_of=_CACHED,
    )
    cached_factor: float = field(
        "With factor, the part of tokens and price that is charged.", default=0.0, between=(0, 1)
    )
    on_store_down: str = field(
        "Requests while Redis can't be asked: open, uncounted; closed, refused with 503; or lease, as long as a slice "
        "of the limit lasts that was taken beforehand.",
        default="open",
        one_of=_STORE_DOWN,
    )

    def problems(self) -> Iterator[tuple[str, str]]:
        """What its amount, its window and its charge of cached answers ask of one another."""
        if self.count == "cost":
            yield from _dollar_problems("limit", self.limit)
        elif self.limit != int(self.limit):
            yield "limit", f"must be a whole number of {self.count.replace('_', ' ')}, not {self.limit}"
        if self.match.tools and self.count not in _OF_TOOLS:
            yield "count", f"of tools it is {', '.join(_OF_TOOLS[:-1])} or {_OF_TOOLS[-1]}, not {self.count}"
        if self.count == "bytes" and not self.match.tools:
            yield "match.tools", "required with count bytes, which are those of tools"
        if self.window_type == "calendar":
            yield from _calendar_problems("window", self.window, _CALENDAR, self.timezone, self.anchor_day)
        else:
            if self.window.endswith("mo"):
                yield "window", "months have several lengths: with window_type sliding give days, such as 30d"
            for name, given in (("timezone", self.timezone != "UTC"), ("anchor_day", self.anchor_day != 1)):
                if given:
                    yield name, "isn't used with window_type sliding; it belongs to calendar"
        yield from _factor_problems(self.cached, self.cached_factor)


@config_class
class Degradation:
    """What a step changes in requests."""

    model: str | None = field(
        "Name or alias of the tenant's model that answers in place of the one asked for.", default=None
    )
    compress: str | None = field(
        "more: compress as much as the section compression can.", default=None, one_of=("more",)
    )


@config_class
class BudgetStep:
    """What happens when a part of a budget is used."""

    at: str = field("Part of the budget, such as 80%.", match=r"^[0-9]{1,3}(\.[0-9])?%$")
    do: str = field(
        "notify; degrade, as `with` says; cache_only, answers from the cache alone; or block.",
        one_of=("notify", "degrade", "cache_only", "block"),
    )
    to: str | None = field("Receiver of the alert, of gateway.alerts. Default: all.", default=None)
    with_: Degradation = field("What degrade changes.", default=Degradation())

    @property
    def permille(self) -> int:
        """`at` in thousandths of the budget."""
        return int(Decimal(self.at.removesuffix("%")) * 10)

    def problems(self) -> Iterator[tuple[str, str]]:
        """A part is more than nothing; degrade changes something, and nothing else does."""
        if not self.permille:
            yield "at", f"{self.at} is reached before the first request"
        changes = self.with_ != Degradation()
        if self.do == "degrade" and not changes:
            yield "with", "required with degrade: model, compress or both"
        if self.do != "degrade" and changes:
            yield "with", f"isn't used with {self.do}; it belongs to degrade"


@config_class
class Budget:
    """Money for a span of time, and what happens as it is used up."""

    name: str = field("Name of the budget in headers, alerts and metrics.", match=_NAME, len_max=40)
    max_budget: float = field("Most that is spent, in dollars.", between=(0, _DOLLARS_MAX))
    budget_duration: str = field(
        "Span of the budget: 1h, 1d, 1w or 1mo, as the calendar has them.", default="1mo", match=_WINDOW
    )
    timezone: str = field("Time zone of the calendar, by its IANA name.", default="UTC", len_max=64)
    anchor_day: int = field(
        "First day of a month (1 to 31) or a week (1, Monday, to 7).", default=1, between=(1, 31)
    )
    per: str = field("Subject that has a budget of its own.", default="tenant", one_of=_PER)
    match: Match = field("Requests that are paid from it. Default: all of the tenant.", default=Match())
    mode: str = field("enforce; or shadow, counted without effect.", default="enforce", one_of=_MODES)
    reserve: str = field(
        "What is held for a request until its cost is known: worst, the most it can cost; or expected, what nine of "
        "ten cost.",
        default="worst",
        one_of=("worst", "expected"),
    )
    on_tight: str = field(
        "A request whose most doesn't fit: shrink, lower its max_tokens to what fits; refuse; or admit.",
        default="shrink",
        one_of=("shrink", "refuse", "admit"),
    )
    min_tokens: int = field(
        "With shrink, the fewest tokens of a reply that are worth a request.",
        default=256,
        between=(1, COUNT_MAX),
    )
    cached: str = field("Charge of answers from the cache.", default="free", one_of=_CACHED)
    cached_factor: float = field(
        "With factor, the part of the price that is charged.", default=0.0, between=(0, 1)
    )
    on_store_down: str = field(
        "Requests while Redis can't be asked: lease, as long as a slice of the budget lasts that was taken beforehand; "
        "open; or closed, refused with 503.",
        default="lease",
        one_of=_STORE_DOWN,
    )
    steps: tuple[BudgetStep, ...] = field(
        "What happens on the way, by rising parts. Default: block at 100%.", default=(), len_max=20
    )

    def problems(self) -> Iterator[tuple[str, str]]:
        """What its amount, its span, its steps and its charge of cached answers ask of one another."""
        yield from _dollar_problems("max_budget", self.max_budget)
        yield from _calendar_problems(
            "budget_duration", self.budget_duration, _BUDGETS, self.timezone, self.anchor_day
        )
        yield from _factor_problems(self.cached, self.cached_factor)
        for i, (before, after) in enumerate(itertools.pairwise(self.steps), 1):
            if after.permille < before.permille:
                yield f"steps[{i}].at", f"{after.at} stands after {before.at}; steps rise"
            elif before.do == "block" and after.permille > before.permille:
                yield f"steps[{i}].at", f"{after.at} is never reached: {before.at} blocks"


def _dollar_problems(name: str, dollars: float) -> Iterator[tuple[str, str]]:
    if dollars > _DOLLARS_MAX:
        yield name, f"{dollars} is more than {_DOLLARS_MAX} dollars, which is as far as is counted exactly"
    elif Decimal(repr(dollars)) * _NANO % 1:
        yield name, f"{dollars} has more than nine digits behind the point"


def _calendar_problems(
    name: str, span: str, known: tuple[str, ...], timezone: str, anchor_day: int
) -> Iterator[tuple[str, str]]:
    if span not in known:
        yield name, f"{span!r} is none of the calendar's: {', '.join(known)}"
    if not _is_zone(timezone):
        yield "timezone", f"{timezone!r} is no IANA time zone, such as Europe/Berlin"
    if anchor_day != 1:
        if not span.endswith(("w", "mo")):
            yield "anchor_day", f"isn't used with {span}; it belongs to 1w and 1mo"
        elif span.endswith("w") and anchor_day > 7:
            yield "anchor_day", f"a week has days 1 (Monday) to 7, not {anchor_day}"


@functools.cache
def _is_zone(name: str) -> bool:
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True


def _factor_problems(cached: str, factor: float) -> Iterator[tuple[str, str]]:
    if cached == "factor" and not factor:
        yield "cached_factor", "required with cached factor: more than 0, up to 1"
    if cached != "factor" and factor:
        yield "cached_factor", f"isn't used with cached {cached}; it belongs to factor"
