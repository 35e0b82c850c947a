"""Which process an event is for, and how its calls get there."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest

from tenantgate.kong import peers as module
from tenantgate.kong.peers import EventIds, Peer, Peers, rejects
from tenantgate.kong.wire import Call


@pytest.mark.parametrize("index", range(module.MOST))
@pytest.mark.parametrize("reject", [False, True])
def test_a_number_tells_whose_an_event_is_and_how_it_ends(index: int, reject: bool) -> None:
    ids, others = EventIds(index), EventIds((index + 1) % module.MOST)
    numbers = [ids.new(reject=reject) for _ in range(3)]
    assert len(set(numbers)) == 3
    for number in numbers:
        assert (ids.owner(number), rejects(number)) == (index, reject)
        assert not ids.before(number)
        assert others.owner(number) == index


def test_a_number_from_before_is_known_by_its_successor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "first_id", lambda: 100)
    old = EventIds(1).new(reject=True)
    monkeypatch.setattr(module, "first_id", lambda: 500)
    ids = EventIds(1)
    assert ids.before(old)
    assert not ids.before(ids.new(reject=False))
    assert not EventIds(2).before(old)


@pytest.mark.parametrize(
    ("own_s", "other_s", "given"),
    [
        (0.0, 0.0, False),
        (0.003, 0.0, True),
        (0.003, 0.003, False),
        (0.006, 0.003, True),
        (0.009, 0.006, False),  # both have enough to do
        (0.0005, 0.0, False),  # to pass it would cost more
        (0.003, None, False),  # the other is not warm
    ],
)
def test_an_event_goes_where_there_is_half_as_much_to_do(
    own_s: float, other_s: float | None, given: bool
) -> None:
    peers = Peers(2)
    peers.tick(1, time.monotonic() + 3600, warm=other_s is not None)
    peers.set_load(1, other_s or 0.0)
    assert Peer(peers, 0).idler(own_s) == (1 if given else None)


def test_a_process_that_does_not_tick_gets_no_events_but_its_steps() -> None:
    peers = Peers(2)
    peers.tick(1, time.monotonic() - 3600, warm=True)
    peer = Peer(peers, 0)
    assert (peer.idler(1.0), peer.another_is_warm(), peer.lives(1)) == (None, False, True)
    peers.ended(1)
    assert not peer.lives(1)
    assert not peer.lives(2)
    assert not peer.lives(0)


@pytest.mark.parametrize("data", ["x", b"\xff\x00", "x" * 1_000_000, "\udcff", {"a": [1, None]}])
def test_a_call_arrives_with_its_connection(data: object) -> None:
    peers = Peers(2)
    kong, server = socket.socketpair()
    call = Call(7, "plugin.Step", {"EventId": 5, "Data": data})
    with kong, server:
        assert Peer(peers, 0).give(1, server, call)
    passed = Peer(peers, 1).take()
    assert passed is not None
    assert passed[1] == call
    assert Peer(peers, 1).take() is None


def test_the_connection_that_arrives_is_the_one_that_was_given() -> None:
    peers = Peers(2)
    kong, server = socket.socketpair()
    with kong:
        with server:
            peers.give(1, server, Call(1, "plugin.HandleEvent", {}))
        ((sock, _),) = peers.ended(1)
        with sock:
            sock.sendall(b"answer")
        assert kong.recv(100) == b"answer"


def test_an_inbox_that_is_full_takes_no_more_and_keeps_no_descriptor() -> None:
    peers = Peers(2)
    kong, server = socket.socketpair()
    call = Call(1, "plugin.Step", {"Data": "x" * 20_000})
    with kong, server:
        before = len(list(Path("/proc/self/fd").iterdir()))
        for _ in range(10_000):
            if not peers.give(1, server, call):
                break
        else:
            raise AssertionError("it took all")
        assert len(list(Path("/proc/self/fd").iterdir())) == before
