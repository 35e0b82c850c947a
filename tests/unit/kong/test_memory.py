"""What processes of one plugin know of each other's instances."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantgate.kong.memory import Memory

NUMBERS = st.integers(0, 5)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), NUMBERS),
        st.tuples(st.just("drop"), NUMBERS),
        st.tuples(st.just("cut"), NUMBERS),
        st.tuples(st.just("compact"), st.none()),
        st.tuples(st.just("look"), st.integers(0, 1)),
    ),
    max_size=40,
)


@pytest.fixture
def memory() -> Memory:
    return new()


def new() -> Memory:
    found = Memory.new()
    if found is None:
        pytest.skip("no memfd here")
    return found


class Reader:
    """Another process's view: its own position in the same file."""

    def __init__(self, memory: Memory) -> None:
        self.memory = Memory(memory._fd)
        self.held: dict[int, Any] = {}

    def look(self) -> None:
        news = self.memory.news()
        if news.whole:
            self.held.clear()
        for number in news.closed:
            self.held.pop(number, None)
        self.held.update(news.started)


def cut(memory: Memory, number: int) -> None:
    """What a writer leaves that is killed in the middle of a record."""
    os.pwrite(memory._fd, b"\n[%d,{" % number, os.fstat(memory._fd).st_size)


@given(STEPS)
def test_every_reader_comes_to_know_what_is_held(steps: list[tuple[str, Any]]) -> None:
    memory, held = new(), {}
    readers = [Reader(memory), Reader(memory)]
    for count, (kind, number) in enumerate(steps):
        match kind:
            case "add":
                memory.add(number, {"n": count})
                held[number] = {"n": count}
            case "drop":
                memory.drop(number)
                held.pop(number, None)
            case "cut":
                cut(memory, number)
            case "compact":
                memory.compact()
            case _:
                readers[number].look()
    for reader in readers:
        reader.look()
        assert reader.held == held
        assert not reader.memory.behind()
    assert memory.read() == held
    os.close(memory._fd)


def test_those_that_run_keep_what_the_next_one_must_do_without(memory: Memory) -> None:
    memory.add(1, {})
    reader = Reader(memory)
    reader.look()
    memory.forget()
    memory.add(2, {})
    reader.look()
    assert set(reader.held) == {1, 2}
    assert set(memory.read()) == {2}


def forked(memory: Memory, first: int, count: int) -> int:
    """A process that adds `count` instances and closes every second of them."""
    pid = os.fork()
    if not pid:
        for number in range(first, first + count):
            memory.add(number, {"text": "x" * (number % 97)})
            if number % 2:
                memory.drop(number)
        os._exit(0)
    return pid


def test_processes_that_write_at_once_lose_nothing(memory: Memory) -> None:
    pids = [forked(memory, first, 300) for first in (0, 1000, 2000)]
    reader = Reader(memory)
    for pid in pids:
        reader.look()
        assert os.waitpid(pid, 0)[1] == 0
    reader.look()
    expected = {
        n: {"text": "x" * (n % 97)} for first in (0, 1000, 2000) for n in range(first, first + 300, 2)
    }
    assert memory.read() == reader.held == expected


def test_a_writer_that_is_killed_holds_nobody_up(memory: Memory) -> None:
    for turn in range(5):
        pid = forked(memory, turn * 1_000_000, 1_000_000)
        size = os.fstat(memory._fd).st_size
        while os.fstat(memory._fd).st_size < size + 5000:
            pass
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        memory.add(-1 - turn, {"turn": turn})
        assert memory.read()[-1 - turn] == {"turn": turn}
        memory.compact()
    assert [n for n in memory.read() if n < 0] == [-1, -2, -3, -4, -5]
