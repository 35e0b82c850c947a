"""Misses in memory: never more than the bounds, whatever comes in whichever order."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantgate.cache.core.cache_control import CacheControl
from tenantgate.cache.core.outcome import Miss
from tenantgate.cache.core.partition import Keys, Partition
from tenantgate.cache.core.pending import Doubt, Pending, PendingMisses, pending_of
from tenantgate.cache.core.question import Question
from tenantgate.cache.core.similar import NOWHERE, Embedding, Place
from tenantgate.llm.chat import ChatRequest
from tenantgate.tenant import TenantId

KEYS = Keys(TenantId("acme"))


def miss(size: int = 0) -> Pending:
    return Pending(KEYS, "n", "q" * size, stream=False)


STEPS = st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 3000), st.booleans()), max_size=40)


@given(STEPS)
def test_the_bounds_hold_after_each_step(steps: list[tuple[str, int, bool]]) -> None:
    held = PendingMisses(most=4, most_bytes=8000, age_s=10.0)
    model: dict[str, Pending] = {}
    for now, (token, size, taken) in enumerate(steps):
        if taken:
            found = held.take(token)
            assert found is None or found == model[token]
            model.pop(token, None)
        else:
            held.put(token, miss(size), float(now))
            model[token] = miss(size)
        assert len(held) <= 4
    kept = [found for token in "abcdef" if (found := held.take(token))]
    assert sum(pending.size for pending in kept) <= 8000
    assert len(held) == 0


def test_a_token_put_again_counts_once() -> None:
    held = PendingMisses(most_bytes=5 * miss().size)
    for _ in range(20):
        held.put("same", miss(), 0.0)
    assert held.take("same") == miss()


def test_bytes_given_back_make_room() -> None:
    held = PendingMisses(most_bytes=3 * miss().size)
    for i in range(50):
        held.put(str(i), miss(), 0.0)
        assert held.take(str(i)) == miss()
    for token in "abc":
        held.put(token, miss(), 0.0)
    assert len(held) == 3


def test_vector_and_states_count_towards_the_bytes() -> None:
    place = Place("v", Embedding("q", b"x" * 1536, b"y" * 400))
    assert Pending(KEYS, "n", None, stream=False, place=place).size >= miss().size + 1936


def test_two_threads_never_get_the_same_miss() -> None:
    held = PendingMisses()
    for i in range(500):
        held.put(str(i), miss(), 0.0)
    got: list[Pending | None] = []
    start = threading.Barrier(4)

    def take() -> None:
        start.wait()
        got.extend(held.take(str(i)) for i in range(500))

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(found is not None for found in got) == 500
    assert len(held) == 0


def test_a_miss_is_given_back_once() -> None:
    held = PendingMisses()
    held.put("t", miss(), 0.0)
    assert held.take("t") == miss()
    assert held.take("t") is None
    assert held.take("other") is None


def test_the_oldest_goes_first() -> None:
    few = PendingMisses(most=2)
    for token in "abc":
        few.put(token, miss(), 0.0)
    assert (few.take("a"), len(few)) == (None, 2)


def test_what_is_larger_than_all_may_be_is_not_kept() -> None:
    held = PendingMisses(most_bytes=5000)
    held.put("huge", miss(9000), 0.0)
    assert len(held) == 0


def test_what_nobody_asked_for_goes_after_a_while() -> None:
    held = PendingMisses(age_s=10)
    held.put("a", miss(), 0.0)
    held.put("b", miss(), 11.0)
    assert held.take("a") is None
    assert held.take("b") is not None


@pytest.mark.parametrize(("place", "text"), [(Place("v"), "q"), (NOWHERE, None)])
def test_a_miss_leaves_what_its_answer_needs(place: Place, text: str | None) -> None:
    partition = Partition(KEYS.tenant, "f", b"")
    request = ChatRequest({"stream": True}, ({"role": "user", "content": "q"},))
    question = Question(partition, KEYS, "n", request, CacheControl())
    doubt = Doubt("other", 3, probe=True)
    pending = pending_of(question, Miss(place=place, comparison=doubt), ("d",))
    assert pending == Pending(KEYS, "n", text, stream=True, place=place, damaged=("d",), comparison=doubt)
