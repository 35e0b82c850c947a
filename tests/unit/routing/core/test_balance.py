"""The six algorithms."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantgate.routing.core.affinity import affinity_key
from tenantgate.routing.core.balance import ALGORITHMS, Load, Option, Rotation, ranked
from tenantgate.tenant import TenantId

A, B, C = (Option(index, name) for index, name in enumerate("abc"))


def key(n: int) -> bytes:
    return affinity_key(TenantId("acme"), "smart", str(n).encode())


def first(
    balance: str, *options: Option, n: int = 0, load: Load | None = None, rotation: Rotation | None = None
) -> str:
    found = ranked(balance, options, key=key(n), load=load or Load(), rotation=rotation or Rotation())
    return found[0].name


def spread(balance: str, *options: Option, requests: int = 2000) -> Counter[str]:
    rotation = Rotation()
    return Counter(first(balance, *options, n=n, rotation=rotation) for n in range(requests))


def test_priority_is_the_order_of_the_list() -> None:
    heavy = replace(B, weight=10_000)
    for n in range(50):
        found = ranked("priority", [A, heavy, C], key=key(n), load=Load(), rotation=Rotation())
        assert [o.name for o in found] == ["a", "b", "c"]


def test_round_robin_takes_turns_by_weight() -> None:
    rotation = Rotation()
    turns = [first("round-robin", replace(A, weight=200), B, rotation=rotation) for _ in range(6)]
    assert turns == ["a", "b", "a", "a", "b", "a"]


def test_round_robin_shares_out_what_a_missing_target_had() -> None:
    rotation = Rotation()
    assert {first("round-robin", A, B, C, rotation=rotation) for _ in range(3)} == {"a", "b", "c"}
    assert Counter(first("round-robin", A, C, rotation=rotation) for _ in range(10)) == {"a": 5, "c": 5}


def test_least_busy_by_weight() -> None:
    assert first("least-busy", replace(A, in_flight=3), replace(B, in_flight=2)) == "b"
    assert first("least-busy", replace(A, in_flight=3, weight=300), replace(B, in_flight=2)) == "a"


def test_lowest_latency_takes_one_that_was_not_measured_and_the_fastest() -> None:
    assert first("lowest-latency", replace(A, latency_s=0.3), B) == "b"
    assert first("lowest-latency", replace(A, latency_s=0.3), replace(B, latency_s=0.2)) == "b"


def test_lowest_latency_keeps_conversations_among_about_equal_ones() -> None:
    counts = spread(
        "lowest-latency", replace(A, latency_s=0.23), replace(B, latency_s=0.2), replace(C, latency_s=1)
    )
    assert counts["c"] == 0
    assert min(counts["a"], counts["b"]) > 800


@pytest.mark.parametrize(("prompt", "reply", "cheapest"), [(10_000, 100, "b"), (100, 10_000, "a")])
def test_lowest_cost_depends_on_what_is_expected(prompt: float, reply: float, cheapest: str) -> None:
    options = replace(A, input_cost=3.0, output_cost=1.0), replace(B, input_cost=1.0, output_cost=5.0), C
    assert first("lowest-cost", *options, load=Load(prompt, reply)) == cheapest


def test_a_target_without_prices_comes_last() -> None:
    dear = replace(B, input_cost=1e6, output_cost=1e6)
    assert first("lowest-cost", A, dear, replace(C, input_cost=0.0), load=Load(1, 1)) == "b"


def test_consistent_hashing_stays_and_follows_weights() -> None:
    options = replace(A, weight=300), B
    counts = spread("consistent-hashing", *options)
    assert 1400 < counts["a"] < 1600
    assert all(
        first("consistent-hashing", *options, n=n) == first("consistent-hashing", *reversed(options), n=n)
        for n in range(50)
    )


@given(
    st.sampled_from([*ALGORITHMS, "unknown"]),
    st.lists(
        st.tuples(
            st.integers(0, 300), st.integers(0, 9), st.floats(0, 10), st.none() | st.floats(0, 100)
        ),
        max_size=6,
    ),
    st.integers(),
)  # fmt: skip
def test_each_option_has_one_place_and_weight_0_is_behind(
    balance: str, drawn: list[tuple[int, int, float, float | None]], n: int
) -> None:
    options = [
        Option(i, str(i), weight=w, in_flight=f, latency_s=s, input_cost=c, output_cost=c)
        for i, (w, f, s, c) in enumerate(drawn)
    ]
    found = ranked(balance, options, key=key(n), load=Load(10, 10), rotation=Rotation())
    assert sorted(o.index for o in found) == list(range(len(options)))
    assert [o.weight <= 0 for o in found] == sorted(o.weight <= 0 for o in found)
