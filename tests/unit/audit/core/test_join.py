"""Joining: lines in the journal's order, content by id, both bounded."""

from __future__ import annotations

from audit_rig import journal_line, request_id
from tenantgate.audit.core.content import RawContent
from tenantgate.audit.core.join import Arrived, Joined, Joiner
from tenantgate.audit.core.journal import JournalLine, parse_line
from tenantgate.audit.core.redaction import ContentState


def late(_line: JournalLine) -> ContentState:
    return ContentState.LATE


def joiner(*, max_bytes: int = 1 << 20) -> Joiner:
    return Joiner(wait_s=2, max_bytes=max_bytes, age_s=60)


def add(made: Joiner, number: int, now: float = 0.0, *, wait: bool = True) -> None:
    made.add_line(number * 10, number * 10 + 9, parse_line(journal_line(number)), now, wait=wait)


def bring(made: Joiner, number: int, now: float = 0.0, size: int = 10) -> None:
    made.add_content(request_id(number), Arrived("p", RawContent(b"x" * size, size)), now)


def told(found: list[Joined]) -> list[tuple[int, str]]:
    def state(one: Joined) -> str:
        if one.content is None:
            return one.missing.value
        return "content" if one.content.raw else "shed"

    return [(one.start // 10, state(one)) for one in found]


def test_order_is_the_journal_s() -> None:
    made = joiner()
    for n in (1, 2, 3):
        add(made, n)
    bring(made, 2)
    assert told(made.take(0, late)) == []
    bring(made, 1)
    assert told(made.take(0, late)) == [(1, "content"), (2, "content")]
    assert told(made.take(2, late)) == [(3, "late")]
    assert len(made) == 0


def test_who_expects_nothing_waits_for_nothing() -> None:
    made = joiner()
    add(made, 1, wait=False)
    made.add_line(20, 29, None, 0)
    assert told(made.take(0, late)) == [(1, "late"), (2, "late")]


def test_content_that_comes_too_late_or_twice_is_dropped() -> None:
    made = joiner()
    add(made, 1)
    made.take(3, late)
    bring(made, 1, 3)
    bring(made, 2, 3)
    bring(made, 2, 3, size=500)
    assert (made.late, made.bytes) == (1, 510)


def test_over_the_bound_the_oldest_is_left_out_and_its_line_learns_why() -> None:
    made = joiner(max_bytes=3300)
    for n in (1, 2, 3):
        bring(made, n, size=1000)
    assert made.shed == 1
    assert made.bytes <= 3300
    for n in (1, 2, 3):
        add(made, n)
    assert told(made.take(0, late)) == [(1, "shed"), (2, "content"), (3, "content")]
    assert made.bytes == 0


def test_the_bound_holds_whatever_comes() -> None:
    made = joiner(max_bytes=10_000)
    for n in range(10_000):
        bring(made, n)
    assert made.bytes <= 10_000


def test_content_without_a_line_is_dropped_with_age() -> None:
    made = joiner()
    bring(made, 1, now=0)
    made.take(61, late)
    assert (made.orphaned, made.bytes) == (1, 0)


def test_at_the_end_nothing_waits() -> None:
    made = joiner()
    add(made, 1)
    assert told(made.take(0, late, flush=True)) == [(1, "late")]


def test_what_was_not_given_out_yet_can_be_taken_over() -> None:
    made = joiner()
    for n in (1, 2, 3):
        add(made, n)
    bring(made, 2)
    bring(made, 4)
    assert [identifier for identifier, _ in made.contents()] == [request_id(2), request_id(4)]
    bring(made, 1)
    made.take(0.0, late)
    assert [identifier for identifier, _ in made.contents()] == [request_id(4)]
