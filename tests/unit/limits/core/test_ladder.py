"""Steps of budgets: what is reached, and what it does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantgate.limits.core.ladder import Level, ceiling, level, permille
from tenantgate.limits.core.ledger import Room
from tenantgate.limits.core.rules import Counted, Degrade, Do, Mode, Rule, Step, Window

STEPS = (
    Step(at_permille=500, do=Do.NOTIFY),
    Step(at_permille=800, do=Do.DEGRADE, degrade=Degrade(compress="more")),
    Step(at_permille=900, do=Do.DEGRADE, degrade=Degrade(model="cheap")),
    Step(at_permille=980, do=Do.CACHE_ONLY),
    Step(at_permille=1000, do=Do.BLOCK),
)


def rule(steps: tuple[Step, ...] = STEPS, mode: Mode = Mode.ENFORCE) -> Rule:
    window = Window(unit="month")
    return Rule(
        name="month", counted=Counted.COST, most=1000, window=window, steps=steps, mode=mode, budget=True
    )


def at(used: int, most: int = 1000, held: int = 0) -> Room:
    return Room(used, held, most, 1)


@pytest.mark.parametrize(
    ("used", "level_there"),
    [
        (0, Level()),
        (499, Level(499)),
        (500, Level(500, STEPS[:1])),
        (800, Level(800, STEPS[:2], Degrade(compress="more"))),
        (900, Level(900, STEPS[:3], Degrade(compress="more", model="cheap"))),
        (980, Level(980, STEPS[:4], Degrade(compress="more", model="cheap"), cache_only=True)),
        (1000, Level(1000, STEPS, Degrade(compress="more", model="cheap"), cache_only=True, block=True)),
        (1500, Level(1500, STEPS, Degrade(compress="more", model="cheap"), cache_only=True, block=True)),
    ],
)
def test_each_step_adds_what_it_does(used: int, level_there: Level) -> None:
    assert level(rule(), at(used)) == level_there


def test_what_is_held_reaches_no_step() -> None:
    assert level(rule(), at(100, held=900)) == Level(100)


def test_a_limit_of_nothing_is_used_up() -> None:
    assert level(rule(), at(0, most=0)).block


def test_in_shadow_mode_steps_are_reached_without_effect() -> None:
    assert level(rule(mode=Mode.SHADOW), at(1000)) == Level(1000, STEPS)


@given(used=st.integers(0, 10**16), more=st.integers(0, 10**16), most=st.integers(0, 10**16))
def test_who_has_used_more_has_reached_no_less(used: int, more: int, most: int) -> None:
    less, much = level(rule(), at(used, most)), level(rule(), at(used + more, most))
    assert much.reached[: len(less.reached)] == less.reached
    assert (much.block, much.cache_only) >= (less.block, less.cache_only)


@given(used=st.integers(0, 10**16), most=st.integers(1, 10**16))
def test_a_part_is_rounded_down(used: int, most: int) -> None:
    part = permille(used, most)
    assert part * most <= used * 1000 < (part + 1) * most


@pytest.mark.parametrize(
    ("steps", "most"),
    [((), 1000), (STEPS, 1000), (STEPS[:3], None), ((Step(at_permille=1200, do=Do.BLOCK),), 1200)],
)
def test_the_ledger_lets_through_what_comes_before_the_block(
    steps: tuple[Step, ...], most: int | None
) -> None:
    assert ceiling(rule(steps), 1000) == most
