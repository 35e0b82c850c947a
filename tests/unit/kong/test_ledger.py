"""What the watchdog answers when a server has ended; server and watchdog are this process."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from tenantgate.kong.ledger import Ledger, Note
from tenantgate.kong.wire import Decoder, Reply, pack_as_kong


class Pair:
    """A connection of Kong's and its record."""

    def __init__(self, ledger: Ledger) -> None:
        self.kong, server = socket.socketpair()
        note = ledger.note(server)
        assert isinstance(note, Note)
        self.note = note
        ledger.keep_up()
        server.close()

    def answers(self) -> list[tuple[int, Any]]:
        decoder, out = Decoder(), []
        while data := self.kong.recv(65536):
            decoder.feed(data)
            while isinstance(found := decoder.next(), Reply):
                end = found.result["Data"]
                out.append((found.msgid, end if end == "ret" else end["Args"][0]))
        return out


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


@pytest.fixture
def pair(ledger: Ledger) -> Iterator[Pair]:
    made = Pair(ledger)
    yield made
    made.kong.close()


def call(msgid: int, method: str, argument: Any) -> bytes:
    return pack_as_kong([0, msgid, f"plugin.{method}", [argument]])


def event(msgid: int, instance: int = 1) -> bytes:
    return call(msgid, "HandleEvent", {"InstanceId": instance, "EventName": "access"})


STEP = call(8, "Step", {"EventId": 3, "Data": "x" * 100_000})


def never(_: Any) -> bool:
    raise AssertionError("no event came unread")


@pytest.mark.parametrize(("reject", "end"), [(False, "ret"), (True, 503)])
def test_a_call_in_progress_is_answered(ledger: Ledger, pair: Pair, reject: bool, end: object) -> None:
    pair.note.busy(7, reject=reject)
    assert ledger.settle(never) == 1
    assert pair.answers() == [(7, end)]


def test_a_call_that_was_answered_is_not_answered_again(ledger: Ledger, pair: Pair) -> None:
    pair.note.busy(7, reject=True)
    pair.note.idle()
    assert ledger.settle(never) == 0
    assert pair.answers() == []


@pytest.mark.parametrize(("reject", "end"), [(False, "ret"), (True, 503)])
def test_an_unread_step_ends_as_its_event_would(
    ledger: Ledger, pair: Pair, reject: bool, end: object
) -> None:
    pair.note.busy(7, reject=reject)
    pair.note.idle()
    pair.kong.sendall(STEP)
    assert ledger.settle(never) == 1
    assert pair.answers() == [(8, end)]


def test_an_unread_event_ends_as_its_instance_says(ledger: Ledger, pair: Pair) -> None:
    pair.note.busy(7, reject=False)
    pair.kong.sendall(event(8, 5))  # Kong has given the one before up
    assert ledger.settle(lambda argument: argument["InstanceId"] == 5) == 1
    assert pair.answers() == [(8, 503)]


@pytest.mark.parametrize("unread", [b"", STEP])
def test_what_kong_has_given_up_is_not_answered(
    ledger: Ledger, pair: Pair, unread: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair.note.busy(7, reject=True)
    pair.kong.sendall(unread)
    monkeypatch.setattr("time.monotonic", lambda: 1e9)
    assert ledger.settle(never, silent_s=2.0) == 0
    assert pair.answers() == []


@pytest.mark.parametrize("unread", [event(8)[:-3], b"\xc1", b"\x93\x01\x02\x03"])
def test_what_is_no_whole_call_is_not_answered(ledger: Ledger, pair: Pair, unread: bytes) -> None:
    pair.note.busy(7, reject=True)
    pair.kong.sendall(unread)
    assert ledger.settle(never) == 0
    assert pair.answers() == []


def test_connections_that_closed_are_given_back(ledger: Ledger) -> None:
    for _ in range(2000):  # more than there are records
        pair = Pair(ledger)
        pair.note.busy(1, reject=True)
        pair.note.close()
        ledger.keep_up()
        pair.kong.settimeout(10)
        assert pair.kong.recv(1) == b""
        pair.kong.close()
    assert ledger.settle(never) == 0


def test_connections_beyond_the_records_are_served_without(ledger: Ledger) -> None:
    pairs = [socket.socketpair() for _ in range(2)]
    ledger._free.clear()
    assert ledger.note(pairs[0][1]) is None
    for one in pairs:
        for end in one:
            end.close()
