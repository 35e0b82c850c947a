"""Shares of a limit among tenants."""

from __future__ import annotations

import pytest

from tenantgate.routing.core.share import Use, Uses, added, over_share

NOW = 1_800_000_000.0 - 1_800_000_000.0 % 60


def used(**requests: float) -> Uses:
    return added(Uses(), {tag: Use(requests=n) for tag, n in requests.items()}, NOW)


def over(uses: Uses, tag: str, left: float | None, weight: int = 100) -> bool:
    return over_share(uses, tag, weight=weight, requests_left=left, tokens_left=None)


@pytest.mark.parametrize(
    ("uses", "tag", "left", "is_over"),
    [
        (used(a=50), "a", 5, False),  # nobody else asks
        (used(a=45, b=1), "a", 54, False),  # plenty
        (used(a=49, b=1), "a", 49, False),  # half of 99 isn't reached
        (used(a=60, b=1), "a", 39, True),
        (used(a=60, b=1), "b", 39, False),
        (used(a=60, b=1), "c", 39, False),  # a third one has its share, too
        (used(a=40, b=40, c=1), "a", 19, True),
        (used(a=90, b=10), "a", None, False),  # nothing known
    ],
)
def test_over_share(uses: Uses, tag: str, left: float | None, is_over: bool) -> None:
    assert over(uses, tag, left) is is_over


def test_weights() -> None:
    uses = added(Uses(), {"a": Use(300, 60), "b": Use(100, 10)}, NOW)
    assert not over(uses, "a", 30, weight=300)
    assert over(uses, "a", 30, weight=100)


def test_tokens_count_as_requests_do() -> None:
    uses = added(Uses(), {"a": Use(tokens=900), "b": Use(tokens=10)}, NOW)
    assert over_share(uses, "a", weight=100, requests_left=None, tokens_left=90)


def test_a_new_minute_begins_at_nothing_and_knows_who_asked() -> None:
    uses = added(used(a=60, b=1), {"a": Use(requests=1)}, NOW + 60)
    assert uses.by_tenant == {"a": Use(requests=1)}
    assert over(added(uses, {"a": Use(requests=60)}, NOW + 60), "a", 10)  # b asked a minute ago
    assert not over(added(used(a=60, b=1), {"a": Use(requests=60)}, NOW + 120), "a", 10)


def test_a_clock_behind_takes_nothing_back() -> None:
    assert added(used(a=60), {"a": Use(requests=1)}, NOW - 300).by_tenant == {"a": Use(requests=61)}


def test_so_many_tenants_are_told_apart() -> None:
    uses = used(**{f"t{n}": 1 for n in range(400)})
    assert len(uses.by_tenant) == 257
    assert sum(use.requests for use in uses.by_tenant.values()) == 400


def test_a_greedy_tenant_leaves_the_other_its_half() -> None:
    """One limit of 100 a minute: one tenant asks 20 times as often as the other, which gets all of its 30."""
    uses, left, taken = Uses(), 100.0, {"greedy": 0, "modest": 0}
    for n in range(620):
        tag = "modest" if n % 20 == 0 and taken["modest"] < 30 else "greedy"
        if left >= 1 and not over(uses, tag, left):
            uses = added(uses, {tag: Use(requests=1)}, NOW)
            left -= 1
            taken[tag] += 1
    assert taken == {"greedy": 50, "modest": 30}
