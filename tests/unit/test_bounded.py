"""Bounds of memory: by number, bytes and age."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantgate.bounded import Bounded

Put = tuple[str, int, float]  # key, bytes, time


@pytest.mark.parametrize(
    ("bounds", "puts", "left"),
    [
        ({"most": 2}, [("a", 1, 0), ("b", 1, 0), ("c", 1, 0)], "bc"),
        ({"most": 2}, [("a", 1, 0), ("b", 1, 0), ("a", 1, 0), ("c", 1, 0)], "ac"),
        ({"most": 0}, [("a", 1, 0)], ""),
        ({"most": 9, "most_bytes": 10}, [("a", 6, 0), ("b", 6, 0)], "b"),
        ({"most": 9, "most_bytes": 10}, [("a", 6, 0), ("a", 5, 0), ("b", 5, 0)], "ab"),
        ({"most": 9, "most_bytes": 10}, [("a", 11, 0)], ""),
        ({"most": 9, "age_s": 5}, [("a", 1, 0), ("b", 1, 5)], "ab"),
        ({"most": 9, "age_s": 5}, [("a", 1, 0), ("b", 1, 5.1)], "b"),
    ],
)
def test_the_oldest_make_room(bounds: dict[str, Any], puts: list[Put], left: str) -> None:
    held: Bounded[str, str] = Bounded(**bounds)
    for key, size, now in puts:
        held.put(key, key.upper(), size=size, now=now)
    assert held.items() == [(key, key.upper()) for key in left]
    assert [key in held for key in "abc"] == [key in left for key in "abc"]
    assert [held.get(key) for key in "abc"] == [key.upper() if key in left else None for key in "abc"]


def test_an_entry_is_taken_once() -> None:
    held: Bounded[str, int] = Bounded(2)
    held.put("a", 1, size=7)
    assert (held.take("a"), held.take("a"), held.bytes, len(held)) == (1, None, 0, 0)


def test_a_default_is_set_once_and_its_entry_renewed() -> None:
    held: Bounded[str, int] = Bounded(2)
    assert [held.setdefault(key, n) for n, key in enumerate("abac")] == [0, 1, 0, 3]
    assert held.items() == [("a", 0), ("c", 3)]


@given(
    st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 9), st.floats(0, 9), st.booleans())),
    st.integers(0, 4),
    st.integers(0, 20),
)
def test_no_bound_is_ever_exceeded(
    steps: list[tuple[str, int, float, bool]], most: int, most_bytes: int
) -> None:
    held: Bounded[str, tuple[int, float]] = Bounded(most, most_bytes=most_bytes, age_s=10)
    now = 0.0
    for key, size, later, take in steps:
        now += later
        if take:
            held.take(key)
            continue
        held.put(key, (size, now), size=size, now=now)
        kept = [value for _, value in held.items()]
        assert len(held) == len(kept) <= most
        assert held.bytes == sum(size for size, _ in kept) <= most_bytes
        assert all(now - since <= 10 for _, since in kept)
    held.clear()
    assert (len(held), held.bytes) == (0, 0)
