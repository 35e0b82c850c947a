"""The rules in a tenant's policy record."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from tenantgate.errors import ConfigError
from tenantgate.fields import parse
from tenantgate.limit_config import Budget, BudgetStep, TokenLimit
from tenantgate.limits.core.rules import (
    CachedCost,
    Counted,
    Degrade,
    Do,
    Mode,
    OnStoreDown,
    OnTight,
    Per,
    Reserve,
    Rule,
    Step,
    Window,
)
from tenantgate.policy.core.records import TenantPolicy
from tenantgate.prices.config import nano

__all__ = ["rules_of"]

_WINDOW: Final = re.compile(r"([0-9]+)(s|m|h|d|w|mo)")
_UNITS: Final = {"s": "second", "m": "minute", "h": "hour", "d": "day", "w": "week", "mo": "month"}
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_END: Final = Step(at_permille=1000, do=Do.BLOCK)


def rules_of(policy: TenantPolicy) -> tuple[Rule, ...]:
    """The tenant's token limits and budgets, in the order of the file.

    Raises:
        ConfigError: the record holds no such limits; names the field and its problem.
    """
    limits = (_limit(v, f"token_limits[{i}]") for i, v in enumerate(policy.token_limits))
    budgets = (_budget(v, f"budgets[{i}]") for i, v in enumerate(policy.budgets))
    return (*limits, *budgets)


def _limit(values: Mapping[str, Any], where: str) -> Rule:
    given = parse(TokenLimit, values, where=where, strict=True)
    counted = Counted(given.count)
    return Rule(
        name=given.name,
        counted=counted,
        most=nano(given.limit) if counted is Counted.COST else int(given.limit),
        window=_window(
            given.window, given.timezone, given.anchor_day, sliding=given.window_type == "sliding"
        ),
        reserve=Reserve.EXPECTED,
        **_common(given),
    )


def _budget(values: Mapping[str, Any], where: str) -> Rule:
    given = parse(Budget, values, where=where, strict=True)
    return Rule(
        name=given.name,
        counted=Counted.COST,
        most=nano(given.max_budget),
        window=_window(given.budget_duration, given.timezone, given.anchor_day, sliding=False),
        reserve=Reserve(given.reserve),
        on_tight=OnTight(given.on_tight),
        min_tokens=given.min_tokens,
        steps=_steps(given.steps),
        budget=True,
        **_common(given),
    )


def _common(given: TokenLimit | Budget) -> dict[str, Any]:
    return {
        "per": Per(given.per),
        "models": given.match.models,
        "providers": given.match.providers,
        "tools": given.match.tools,
        "mode": Mode(given.mode),
        "cached": CachedCost(given.cached),
        "cached_factor": given.cached_factor,
        "on_store_down": OnStoreDown(given.on_store_down),
    }


def _window(text: str, timezone: str, anchor_day: int, *, sliding: bool) -> Window:
    found = _WINDOW.fullmatch(text)
    if found is None:  # the class has checked it
        raise ConfigError(f"window: {text[:20]!r} is none")
    number, unit = int(found[1]), found[2]
    if sliding:
        return Window(sliding_s=number * _SECONDS[unit])
    return Window(unit=_UNITS[unit], timezone=timezone, anchor_day=anchor_day)


def _steps(given: tuple[BudgetStep, ...]) -> tuple[Step, ...]:
    """The steps, and a block at 100 % where the file lets none spend no more at that point."""
    steps = tuple(
        Step(
            at_permille=step.permille,
            do=Do(step.do),
            to=step.to or "",
            degrade=Degrade(model=step.with_.model, compress=step.with_.compress),
        )
        for step in given
    )
    ends = any(
        s.do is Do.BLOCK or (s.do is Do.CACHE_ONLY and s.at_permille >= _END.at_permille) for s in steps
    )
    return steps if ends else tuple(sorted((*steps, _END), key=lambda s: s.at_permille))
