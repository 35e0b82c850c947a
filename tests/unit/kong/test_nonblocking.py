from __future__ import annotations

import itertools
import socket
from collections.abc import Iterator

import pytest

from tenantgate.kong import nonblocking as at_once

Sockets = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Sockets]:
    a, b = socket.socketpair()
    with a, b:
        yield a, b


def test_what_is_sent_is_received(pair: Sockets) -> None:
    a, b = pair
    assert at_once.send(a, b"one\0two") == 7
    assert at_once.receive(b, at_once.buffer()) == b"one\0two"


def test_a_long_message_comes_in_parts(pair: Sockets) -> None:
    a, b = pair
    data = bytes(range(256)) * 100
    assert at_once.send(a, data) == len(data)
    into = at_once.buffer()
    assert at_once.receive(b, into) + at_once.receive(b, into) == data


def test_nothing_there_and_no_room_dont_wait(pair: Sockets) -> None:
    a, b = pair  # both would block
    with pytest.raises(BlockingIOError):
        at_once.receive(b, at_once.buffer())
    with pytest.raises(BlockingIOError):
        sum(at_once.send(a, bytes(1000)) for _ in itertools.count())


def test_the_other_side_is_gone(pair: Sockets) -> None:
    a, b = pair
    b.close()
    assert at_once.receive(a, at_once.buffer()) == b""
    with pytest.raises(BrokenPipeError):
        at_once.send(a, b"x")


def test_a_closed_socket(pair: Sockets) -> None:
    a, _ = pair
    a.close()
    with pytest.raises(OSError, match="descriptor"):
        at_once.receive(a, at_once.buffer())


def test_the_other_side_finds_it_closed_after_what_was_sent(pair: Sockets) -> None:
    a, b = pair
    at_once.send(a, b"last")
    at_once.shut(a)
    assert (at_once.receive(b, at_once.buffer()), at_once.receive(b, at_once.buffer())) == (b"last", b"")


def test_a_connection_on_which_something_came_stays_open(pair: Sockets) -> None:
    a, b = pair
    at_once.send(b, b"call")
    assert not at_once.shut_if_silent(a)
    assert at_once.receive(a, at_once.buffer()) == b"call"
    assert at_once.shut_if_silent(a)
    assert at_once.receive(b, at_once.buffer()) == b""
    assert not at_once.shut_if_silent(b)
