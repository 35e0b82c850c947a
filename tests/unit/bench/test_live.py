from __future__ import annotations

import threading

import pytest

from tenantgate.bench.live import Clients, holds


def test_what_holds_now_and_then_doesnt_hold() -> None:
    said = iter([False, True, True, False, True, True, True, False])
    holds(lambda: next(said), times=3, within_s=60, pause_s=0)
    assert list(said) == [False]


def test_what_never_holds_ends_with_a_message() -> None:
    with pytest.raises(SystemExit, match="the rule didn't hold 5 times in a row within 0 s"):
        holds(lambda: False, within_s=0, pause_s=0, what="the rule")


def test_clients_work_while_the_block_runs() -> None:
    begun, ended = threading.Barrier(4), list[int]()

    def work(number: int, stop: threading.Event) -> None:
        begun.wait(60)
        stop.wait(60)
        ended.append(number)

    with Clients(3, work).running():
        begun.wait(60)
        assert ended == []
    assert sorted(ended) == [0, 1, 2]
