"""What a Redis may take of its caller: a fake one drips, claims and nests."""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
from collections.abc import Callable, Iterator

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st
from redis.exceptions import InvalidResponse

from tenantgate.store.config import RedisConfig
from tenantgate.store.redis_limits import BACKGROUND, REQUEST, ReplyLimits, ReplyScan
from tenantgate.store.redis_nodes import connect

LIMITS = ReplyLimits(size=1000, elements=20, depth=3)


def packed(value: object) -> bytes:
    """A value in RESP2."""
    match value:
        case None:
            return b"$-1\r\n"
        case bytes():
            return b"$%d\r\n%s\r\n" % (len(value), value)
        case int():
            return b":%d\r\n" % value
        case str():
            return b"+" + value.encode() + b"\r\n"
        case list():
            return b"*%d\r\n" % len(value) + b"".join(map(packed, value))
    raise AssertionError(value)


VALUES = st.recursive(
    st.none() | st.integers() | st.binary(max_size=30) | st.sampled_from(["OK", ""]),
    lambda inner: st.lists(inner, max_size=5),
    max_leaves=30,
)


def depth(value: object) -> int:
    return 1 + max(map(depth, value), default=0) if isinstance(value, list) and value else 0


def elements(value: object) -> int:
    return len(value) + sum(map(elements, value)) if isinstance(value, list) else 0


@given(st.lists(VALUES, min_size=1, max_size=3), st.data())
def test_law_answers_are_refused_exactly_when_they_break_a_bound(
    values: list[object], data: st.DataObject
) -> None:
    raw = b"".join(map(packed, values))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=5)))
    scan = ReplyScan(LIMITS)
    allowed = len(raw) <= 1000 and sum(map(elements, values)) <= 20 and max(map(depth, values)) <= 3

    def feed() -> None:
        for start, end in itertools.pairwise([0, *cuts, len(raw)]):
            scan.feed(raw[start:end])

    if allowed:
        feed()
        assert scan.between
    else:
        with pytest.raises(InvalidResponse):
            feed()


@pytest.mark.parametrize(
    "raw",
    [
        b"$1001\r\n",
        b"*21\r\n",
        b"*2000000000\r\n",
        b"$99999999999999999999\r\n",
        b"$-2\r\n",
        b"*x\r\n",
        b"%1\r\n",
        b"*1\r\n*1\r\n*1\r\n*1\r\n",
        b"+" + b"x" * 70_000,
        b"\r\n",
        b"$" + b"1" * 10_000 + b"\r\n",
        b"$\xb2\r\n",
    ],
    ids=lambda raw: repr(raw[:20]),
)
def test_a_claim_is_refused_before_what_it_claims_comes(raw: bytes) -> None:
    with pytest.raises(InvalidResponse):
        ReplyScan(ReplyLimits(size=1000 if len(raw) < 1000 else 10**6, elements=20, depth=3)).feed(raw)


def test_the_bounds_count_for_a_call_and_not_for_a_connection() -> None:
    scan = ReplyScan(LIMITS)
    for _ in range(10):
        scan.begin()
        scan.feed(packed([b"x" * 900]))


Serve = Callable[[socket.socket], None]


@contextlib.contextmanager
def fake(serve: Serve) -> Iterator[int]:
    """A Redis whose connections are given to `serve`, one after the other; its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def run() -> None:
            while True:
                try:
                    sock, _ = listener.accept()
                except OSError:
                    return
                with sock, contextlib.suppress(OSError):
                    serve(sock)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def ask(port: int, limits: ReplyLimits = REQUEST, timeout_ms: int = 150) -> object:
    nodes = connect(RedisConfig(port=port), timeout_ms=timeout_ms, limits=limits)
    try:
        return nodes.ask("k", lambda client: client.get("k"))
    finally:
        nodes.close()


def until_closed(sock: socket.socket) -> None:
    """Read until the other side closes: it did not take the rest."""
    with contextlib.suppress(ConnectionError):
        while sock.recv(65536):
            pass


def dripping(sock: socket.socket) -> None:
    sock.recv(65536)
    pause = threading.Event()  # never set
    sock.sendall(b"$100000\r\n")
    for _ in range(100_002):
        sock.sendall(b"x")
        if pause.wait(0.02):
            return


def test_a_byte_now_and_then_does_not_prolong_a_call() -> None:
    with fake(dripping) as port, pytest.raises(redis.TimeoutError):
        ask(port)


def test_commands_of_one_call_share_its_time() -> None:
    pause = threading.Event()

    def serve(sock: socket.socket) -> None:
        while sock.recv(65536):
            pause.wait(0.05)
            sock.sendall(b"$-1\r\n")

    def many(client: redis.Redis) -> None:
        for _ in range(1000):
            client.get("k")

    with fake(serve) as port:
        nodes = connect(RedisConfig(port=port), timeout_ms=150, limits=REQUEST)
        with pytest.raises(redis.TimeoutError):
            nodes.ask("k", many)
        nodes.close()


@pytest.mark.parametrize(
    "answer", [b"*2000000000\r\n", b"$300000000\r\n", b"*1\r\n" * 9, b"%1\r\n", b"*10001\r\n"]
)
def test_a_claim_closes_the_connection_at_once(answer: bytes) -> None:
    closed = threading.Event()

    def serve(sock: socket.socket) -> None:
        sock.recv(65536)
        sock.sendall(answer)
        until_closed(sock)
        closed.set()

    with fake(serve) as port:
        with pytest.raises(InvalidResponse):
            ask(port, timeout_ms=30_000)
        assert closed.wait(10)


def test_a_flood_is_stopped_at_the_bound() -> None:
    small = ReplyLimits(size=100_000, elements=1000)
    sent = []

    def serve(sock: socket.socket) -> None:
        sock.recv(65536)
        with contextlib.suppress(OSError):
            for _ in range(100_000):
                sock.sendall(b"*1000\r\n" + b"$60\r\n" + b"x" * 60 + b"\r\n")
                sent.append(1)

    with fake(serve) as port, pytest.raises(InvalidResponse):
        ask(port, small, timeout_ms=30_000)
    assert len(sent) < 100_000


def test_what_is_allowed_in_the_background_is_not_while_a_client_waits() -> None:
    def serve(sock: socket.socket) -> None:
        sock.recv(65536)
        sock.sendall(packed([1] * 20_000))
        until_closed(sock)

    with fake(serve) as port:
        answer = ask(port, BACKGROUND, timeout_ms=30_000)
        assert answer == [1] * 20_000
        with pytest.raises(InvalidResponse):
            ask(port, REQUEST, timeout_ms=30_000)


def test_a_redis_that_takes_nothing_does_not_hold_who_sends() -> None:
    release = threading.Event()

    def serve(sock: socket.socket) -> None:
        release.wait(20)

    with fake(serve) as port:
        nodes = connect(RedisConfig(port=port), timeout_ms=150, limits=REQUEST)
        with pytest.raises(redis.TimeoutError):
            nodes.ask("k", lambda client: client.set("k", b"x" * 50_000_000))
        release.set()
        nodes.close()
