"""Rules as they are read from policies."""

from __future__ import annotations

from typing import Any

import pytest

from tenantgate.errors import ConfigError
from tenantgate.limits.core.reading import rules_of
from tenantgate.limits.core.rules import (
    Counted,
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
from tenantgate.tenant import TenantId

BLOCK = Step(at_permille=1000, do=Do.BLOCK)


def limit(**values: Any) -> Rule:
    (found,) = rules_of(
        TenantPolicy(tenant=TenantId("a"), token_limits=({"name": "x", "limit": 5, **values},))
    )
    return found


def budget(**values: Any) -> Rule:
    found = {"name": "x", "max_budget": 5, **values}
    (rule,) = rules_of(TenantPolicy(tenant=TenantId("a"), budgets=(found,)))
    return rule


def test_a_limit_has_the_defaults_of_the_file() -> None:
    assert limit() == Rule(
        name="x",
        counted=Counted.TOTAL_TOKENS,
        most=5,
        window=Window(sliding_s=60),
        reserve=Reserve.EXPECTED,
        on_store_down=OnStoreDown.OPEN,
    )


def test_a_budget_has_the_defaults_of_the_file() -> None:
    assert budget() == Rule(
        name="x",
        counted=Counted.COST,
        most=5 * 10**9,
        window=Window(unit="month"),
        reserve=Reserve.WORST,
        on_tight=OnTight.SHRINK,
        on_store_down=OnStoreDown.LEASE,
        steps=(BLOCK,),
        budget=True,
    )


@pytest.mark.parametrize(
    ("values", "window"),
    [
        ({"window": "90s"}, Window(sliding_s=90)),
        ({"window": "2d"}, Window(sliding_s=172_800)),
        ({"window": "1w"}, Window(sliding_s=604_800)),
        ({"window": "1h", "window_type": "calendar"}, Window(unit="hour")),
        (
            {"window": "1w", "window_type": "calendar", "timezone": "Asia/Tokyo", "anchor_day": 7},
            Window(unit="week", timezone="Asia/Tokyo", anchor_day=7),
        ),
        ({"window": "1mo", "window_type": "calendar", "anchor_day": 31}, Window(unit="month", anchor_day=31)),
    ],
)
def test_windows_are_read(values: dict[str, Any], window: Window) -> None:
    assert limit(**values).window == window


@pytest.mark.parametrize(
    ("amount", "nano"), [(0.1, 100_000_000), (500.1, 500_100_000_000), (1e-9, 1), (9_000_000, 9 * 10**15)]
)
def test_dollars_are_the_decimal_number_that_was_written(amount: float, nano: int) -> None:
    assert budget(max_budget=amount).most == limit(limit=amount, count="cost").most == nano


@pytest.mark.parametrize(
    ("steps", "ends"),
    [
        ([{"at": "50%", "do": "notify"}], True),
        ([{"at": "98%", "do": "cache_only"}], True),
        ([{"at": "100%", "do": "notify"}], True),
        ([{"at": "100%", "do": "cache_only"}], False),
        ([{"at": "95%", "do": "block"}], False),
        ([{"at": "120%", "do": "block"}], False),
    ],
)
def test_a_budget_ends_with_a_block_unless_it_ends_otherwise(steps: list[dict[str, str]], ends: bool) -> None:
    found = budget(steps=steps).steps
    assert (BLOCK in found, len(found)) == (ends, 1 + ends)
    assert sorted(s.at_permille for s in found) == [s.at_permille for s in found]


def test_the_rest_is_read_as_it_stands() -> None:
    found = limit(per="key", mode="shadow", match={"models": ["p/m"], "providers": ["p"]}, count="requests")
    assert (found.per, found.mode, found.models, found.providers, found.counted) == (
        Per.KEY,
        Mode.SHADOW,
        ("p/m",),
        ("p",),
        Counted.REQUESTS,
    )


@pytest.mark.parametrize("values", [{"name": "X"}, {"limit": "5"}, {"window": "5y"}, {"unknown": 1}])
def test_what_is_no_limit_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"^token_limits\[0\]\."):
        limit(**values)
