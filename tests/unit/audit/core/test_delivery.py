"""Pauses, and a batch's key."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from tenantgate.audit.core.delivery import LONGEST_PAUSE_S, batch_key, pause_s
from tenantgate.audit.core.ports import Queued
from tenantgate.tenant import TenantId

ACME = TenantId("acme")


def queued(*ids: str, record: bytes = b"{}") -> list[Queued]:
    return [Queued(str(n), ACME, identifier, record) for n, identifier in enumerate(ids)]


@given(failures=st.integers(1, 10_000), draw=st.floats(0, 1), asked_s=st.none() | st.floats(0, 1e12))
def test_a_pause_has_a_bound_and_is_no_shorter_than_asked(
    failures: int, draw: float, asked_s: float | None
) -> None:
    pause = pause_s(failures, draw, asked_s=asked_s)
    assert 0 <= pause <= max(LONGEST_PAUSE_S, 3600)
    assert pause >= min(asked_s or 0, 3600)


def test_the_jitter_is_full_and_the_bound_doubles() -> None:
    assert [pause_s(n, 0.0) for n in (1, 5, 50)] == [0, 0, 0]
    bounds = [pause_s(n, 1.0) for n in range(1, 6)]
    assert [b / a for a, b in pairwise(bounds)] == [2, 2, 2, 2]


def test_a_key_is_that_of_the_records_and_their_order() -> None:
    assert batch_key(queued("a", "b")) == batch_key(queued("a", "b"))
    others = [queued("b", "a"), queued("a"), queued("ab"), queued("a", "b", "c"), queued("a\nb")[:0]]
    assert len({batch_key(batch) for batch in ([*others, queued("a", "b")])}) == len(others) + 1
    assert batch_key(queued("\udcff"))
