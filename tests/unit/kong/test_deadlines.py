"""Deadlines in their order."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantgate.kong.deadlines import Deadlines


@dataclass
class Event:
    over: bool = False
    again: float | None = None
    expired: list[float] = field(default_factory=list)

    def expire(self, now: float) -> float | None:
        if not self.over:
            self.expired.append(now)
        following, self.again = self.again, None
        return following


def watched(*events: tuple[str, float, Any]) -> tuple[Deadlines, list[float]]:
    woken: list[float] = []
    made = Deadlines(woken.append)
    for kind, deadline, event in events:
        made.watch((kind, 1.0), deadline, event)
    return made, woken


@pytest.mark.parametrize(
    ("events", "first"),
    [
        ([], 10.0),
        ([("a", 5.0, Event())], 5.0),
        ([("a", 12.0, Event())], 10.0),
        ([("a", 5.0, Event()), ("b", 4.0, Event())], 4.0),
        ([("a", 5.0, Event(over=True)), ("a", 6.0, Event())], 6.0),
        ([("a", 5.0, Event(over=True))], 10.0),
    ],
)
def test_the_first_deadline_is_of_an_event_that_is_not_over(
    events: list[tuple[str, float, Any]], first: float
) -> None:
    made, woken = watched(*events)
    assert made.first(10.0) == first
    assert woken == [deadline for _, deadline, _ in events]


@given(st.lists(st.tuples(st.sampled_from("ab"), st.booleans()), max_size=20), st.integers(-1, 20))
def test_all_events_whose_deadline_has_passed_expire_once(kinds: list[tuple[str, bool]], now: int) -> None:
    events = [Event(over=over) for _, over in kinds]
    made, _ = watched(
        *((kind, float(i), event) for i, ((kind, _), event) in enumerate(zip(kinds, events, strict=True)))
    )
    made.expire(now, ("again", 1.0))
    made.expire(now, ("again", 1.0))
    assert [len(event.expired) for event in events] == [
        int(i <= now and not e.over) for i, e in enumerate(events)
    ]


def test_an_event_may_have_a_further_deadline() -> None:
    event: Any = Event(again=7.0)
    made, woken = watched(("a", 5.0, event))
    made.expire(5.0, ("again", 1.0))
    assert (made.first(10.0), woken) == (7.0, [5.0, 7.0])
    made.expire(7.0, ("again", 1.0))
    assert (event.expired, made.first(10.0)) == ([5.0, 7.0], 10.0)
