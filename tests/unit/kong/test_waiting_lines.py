"""Who is next, and whom a full line refuses."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from tenantgate.kong.waiting_lines import Lines


def event(key: str, arrived: float) -> Any:
    return SimpleNamespace(turn=SimpleNamespace(key=key), arrived=arrived)


def test_who_used_least_is_next_and_then_who_came_first() -> None:
    lines = Lines(10, {"a": 1.0, "b": 0.0, "c": 0.0}.__getitem__)
    events = [event("a", 1), event("a", 2), event("c", 3), event("b", 4), event("b", 5)]
    for each in events:
        assert lines.put(each) is None
    assert [lines.take() for _ in range(5)] == [events[2], events[3], events[4], events[0], events[1]]
    assert not lines


def test_the_longest_line_loses_its_latest() -> None:
    lines = Lines(3, lambda _: 0.0)
    many = [event("hostile", i) for i in range(3)]
    for each in many:
        lines.put(each)
    assert lines.full
    assert lines.put(event("victim", 9)) is many[2]
    again = event("hostile", 10)
    assert lines.put(again) is again


def test_of_equal_lines_the_newcomer_is_refused() -> None:
    lines = Lines(1, lambda _: 0.0)
    lines.put(event("a", 1))
    late = event("b", 2)
    assert lines.put(late) is late
