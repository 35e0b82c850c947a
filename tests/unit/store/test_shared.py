"""Objects of the process: one for a key, whoever asks."""

from __future__ import annotations

import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest

from tenantgate.store.shared import Shared


class Thing:
    pass


@pytest.mark.parametrize(
    ("keys", "built"),
    [("aab", "ab"), ("abcab", "abcab"), ("abacab", "abcb")],
    ids=["once", "the oldest is dropped", "what was used lately stays"],
)
def test_an_object_is_built_once_while_there_is_room(keys: str, built: str) -> None:
    things: Shared[Thing] = Shared(2)
    made = []
    for key in keys:
        things.get(key, lambda key=key: made.append(key) or Thing())  # type: ignore[misc]
    assert "".join(made) == built
    assert len(things.values()) == 2
    things.clear()
    assert things.values() == []


def test_with_weak_references_an_object_lives_as_long_as_its_users() -> None:
    things: Shared[Thing] = Shared(2, weak=True)
    one = things.get("a", Thing)
    assert things.get("a", Thing) is one
    gone = weakref.ref(one)
    del one
    assert gone() is None
    assert things.values() == []
    assert isinstance(things.get("a", Thing), Thing)


def test_a_build_that_fails_is_tried_again() -> None:
    things: Shared[Thing] = Shared(2)
    with pytest.raises(ZeroDivisionError):
        things.get("a", lambda: 1 / 0)  # type: ignore[arg-type,return-value]
    assert things.values() == []
    assert isinstance(things.get("a", Thing), Thing)


def test_a_build_may_ask_for_another_object() -> None:
    things: Shared[Thing] = Shared(2)
    outer = things.get("a", lambda: things.get("b", Thing))
    assert things.get("b", Thing) is outer


def test_threads_that_ask_at_once_get_the_same_object() -> None:
    things: Shared[tuple[int, Thing]] = Shared(8)
    at_once, built = threading.Barrier(8), []

    def ask(number: int) -> list[tuple[int, Thing]]:
        at_once.wait()
        found = []
        for n in range(200):
            key = (n + number) % 8
            found.append(things.get(key, lambda key=key: built.append(key) or (key, Thing())))  # type: ignore[misc]
        return found

    with ThreadPoolExecutor(8) as pool:
        found = {thing for each in pool.map(ask, range(8)) for thing in each}
    assert sorted(built) == list(range(8))
    assert len(found) == 8


def test_a_slow_build_holds_up_its_own_key_only() -> None:
    things: Shared[Thing] = Shared(8)
    begun, may_end = threading.Event(), threading.Event()

    def slow() -> Thing:
        begun.set()
        may_end.wait(10)
        return Thing()

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(things.get, "slow", slow)
        assert begun.wait(10)
        assert isinstance(things.get("quick", Thing), Thing)
        may_end.set()
        assert waiting.result() is things.get("slow", Thing)
