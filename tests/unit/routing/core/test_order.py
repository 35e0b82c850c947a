"""The order of a request's targets, and why there is none."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tenantgate.routing.core.balance import Load, Option, Rotation
from tenantgate.routing.core.circuit import State
from tenantgate.routing.core.order import Candidate, Order, Why, arranged

NOW = 1_800_000_000.0 - 1_800_000_000.0 % 60 + 45


def candidates(*changes: dict[str, Any]) -> list[Candidate]:
    return [replace(Candidate(Option(i, f"t{i}")), **change) for i, change in enumerate(changes)]


def order(*changes: dict[str, Any]) -> Order:
    return arranged(
        candidates(*changes), balance="priority", key=b"k", load=Load(), rotation=Rotation(), now=NOW
    )


OPEN = {"state": State.OPEN, "back_at": NOW + 10, "failures": 3}
HALF = {"state": State.HALF_OPEN, "back_at": NOW - 1, "failures": 3}
PROBE = {**HALF, "probe": True}
WAITS = {"state": State.OPEN, "waits": True, "back_at": NOW + 7, "failures": 1}
DRAINED = {"drained_until": NOW + 100}


@pytest.mark.parametrize(
    ("changes", "indexes", "probe"),
    [
        (({}, {}, {}), (0, 1, 2), None),
        ((OPEN, {}, {}), (1, 2, 0), None),
        ((HALF, {}), (1, 0), None),
        ((PROBE, {}), (0, 1), 0),
        (({}, PROBE), (0, 1), None),
        (({"near_limit": True}, {}), (1, 0), None),
        (({"near_limit": True}, OPEN), (0, 1), None),
        ((OPEN, {}, {**OPEN, "back_at": NOW + 5}, {"near_limit": True}), (1, 3, 2), None),
        ((DRAINED, {}), (1,), None),
        (({"over_share": True}, {}), (1,), None),
        ((WAITS, {}), (1,), None),
    ],
)
def test_healthy(changes: tuple[dict[str, Any], ...], indexes: tuple[int, ...], probe: int | None) -> None:
    assert order(*changes) == Order(indexes, Why.HEALTHY, probe=probe)


@pytest.mark.parametrize(
    ("changes", "index"),
    [
        ((OPEN, {**OPEN, "back_at": NOW + 5}), 1),
        (({**OPEN, "credential_refused": True, "back_at": NOW + 1}, OPEN), 1),
        ((WAITS, {**OPEN, "back_at": NOW + 50}), 1),
        ((DRAINED, OPEN), 1),
        ((HALF, OPEN), 0),
        (({**OPEN, "failures": 9}, OPEN), 1),
    ],
)
def test_the_least_bad_is_tried_where_all_are_left_out(
    changes: tuple[dict[str, Any], ...], index: int
) -> None:
    found = order(*changes)
    assert (found.indexes, found.why, found.probe) == ((index,), Why.LAST_RESORT, None)


@pytest.mark.parametrize(
    ("changes", "why", "wait_s"),
    [
        ((WAITS, {**WAITS, "back_at": NOW + 3.2}), Why.ALL_OUT, 4),
        ((WAITS, DRAINED), Why.ALL_OUT, 7),
        ((DRAINED, {"drained_until": NOW + 20}), Why.DRAINED, 20),
        (({"drained_until": float("inf")},), Why.DRAINED, 30),
        (({"drained_until": NOW + 86_400},), Why.DRAINED, 300),
        (({"over_share": True}, DRAINED), Why.OVER_SHARE, 15),
    ],
)
def test_refused(changes: tuple[dict[str, Any], ...], why: Why, wait_s: float) -> None:
    assert order(*changes) == Order((), why, wait_s=wait_s)


def test_the_wait_is_until_the_earliest_comes_back() -> None:
    assert order(OPEN, {**OPEN, "back_at": NOW + 4}).wait_s == 4


def test_no_target_is_none() -> None:
    assert order().indexes == ()
