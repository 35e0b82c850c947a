"""The worker's end of its connections."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tenantgate.audit.channel import Channel
from tenantgate.audit.meeting import connect, listen
from tenantgate.audit.messages import LeftOut, Pipeline, encode, unpacker


@pytest.fixture
def channel(tmp_path: Path) -> Iterator[Channel]:
    made = Channel(listener=listen(tmp_path))
    yield made
    made.refuse()


def joined(folder: Path) -> socket.socket:
    line = connect(folder)
    assert line is not None
    return line


def received(channel: Channel, times: int = 3) -> list[Any]:
    return [message for _ in range(times) for message in channel.receive(0.0)]


def shown(line: socket.socket) -> list[Any]:
    reader = unpacker()
    reader.feed(line.recv(1 << 16, socket.MSG_DONTWAIT))
    return list(reader)


def test_messages_of_all_servers_arrive_each_in_its_order(channel: Channel, tmp_path: Path) -> None:
    with joined(tmp_path) as one, joined(tmp_path) as two:
        hello, other = Pipeline({"a": 1}, 1.5), LeftOut("p", "two")
        packed = encode(hello) + encode(LeftOut("p", "one"))
        one.sendall(packed[:10])
        assert received(channel) == []
        two.sendall(encode(other))
        one.sendall(packed[10:])
        found = received(channel)
        assert [m for m in found if m != other] == [hello, LeftOut("p", "one")]
        assert other in found
        assert not channel.closed


def test_it_is_closed_with_the_last_connection_and_what_was_sent_before_arrives(
    channel: Channel, tmp_path: Path
) -> None:
    assert [channel.closed] == [True]
    one, two = joined(tmp_path), joined(tmp_path)
    received(channel)
    began = channel.changed_at
    one.sendall(encode(LeftOut("p", "last word")))
    one.close()
    assert received(channel) == [LeftOut("p", "last word")]
    assert [channel.closed] == [False]
    assert channel.changed_at > began
    two.close()
    received(channel)
    assert [channel.closed] == [True]
    with joined(tmp_path):
        received(channel)
        assert [channel.closed] == [False]


@pytest.mark.parametrize("bad", [b"\xc1", b"\xc7\xff", encode(LeftOut("p", "id")) + b"\xc1"])
def test_what_cannot_be_unpacked_ends_its_connection_alone(
    channel: Channel, tmp_path: Path, bad: bytes
) -> None:
    with joined(tmp_path) as one, joined(tmp_path) as two:
        one.sendall(bad + b"\xc1" * 300)
        two.sendall(encode(LeftOut("p", "two")))
        assert LeftOut("p", "two") in received(channel, 5)
        with pytest.raises((BlockingIOError, ConnectionError)):
            shown(two)
        assert one.recv(1) == b""


def test_what_is_no_message_stops_none_behind_it(channel: Channel, tmp_path: Path) -> None:
    with joined(tmp_path) as one:
        one.sendall(b"\x07\xc0\x80" + encode(LeftOut("p", "id")))
        assert received(channel) == [LeftOut("p", "id")]


def test_another_user_is_not_let_in(
    channel: Channel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uid = os.geteuid()
    with joined(tmp_path) as one:
        one.sendall(encode(LeftOut("p", "id")))
        monkeypatch.setattr(os, "geteuid", lambda: uid + 1)
        assert received(channel) == []
        assert channel.closed


def test_metrics_are_counted_by_one_server_and_the_next_goes_on(channel: Channel, tmp_path: Path) -> None:
    one, two = joined(tmp_path), joined(tmp_path)
    received(channel)
    channel.show("first")
    assert (shown(one), shown(two)) == (["first"], [""])
    channel.show("second")
    assert (shown(one), shown(two)) == (["second"], [""])
    one.close()
    received(channel)
    channel.show("third")
    assert shown(two) == [{"counted": "second"}, "third"]
    channel.show("fourth")
    assert shown(two) == ["fourth"]
    two.close()


def test_after_refusing_nobody_connects(channel: Channel, tmp_path: Path) -> None:
    channel.refuse()
    assert connect(tmp_path) is None
    assert received(channel) == []


@pytest.mark.parametrize(
    ("end", "abandoned"), [("dies", True), ("waits for us", False), ("is sent away", False)]
)
def test_it_is_abandoned_when_the_last_server_is_dead(
    channel: Channel, tmp_path: Path, end: str, abandoned: bool
) -> None:
    one, two = joined(tmp_path), joined(tmp_path)
    received(channel)
    one.close()
    received(channel)
    assert not channel.abandoned
    if end == "dies":
        two.close()
    elif end == "waits for us":
        two.shutdown(socket.SHUT_WR)
    else:
        two.sendall(b"\xc1" * 300)
    received(channel)
    assert (channel.closed, channel.abandoned) == (True, abandoned)
    two.close()
    with joined(tmp_path):
        received(channel)
        assert not channel.abandoned
