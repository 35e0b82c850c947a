"""The plugin while its Redis is gone, silent, full, old or tampered with: the client gets what Kong alone gives."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from cache_rig import Rig, fresh_stores, status, use_small_models
from tenantgate.cache.core.partition import Keys
from tenantgate.cache.core.ports import UnavailableError
from tenantgate.devhost.redis_server import RedisServer, free_port
from tenantgate.telemetry import metrics
from tenantgate.tenant import TenantId

from support import until

ASKED, ALIKE = "please tell me what a sextant is made of", "please tell me what a sextant is made of now"


@pytest.fixture(autouse=True)
def _models(monkeypatch: pytest.MonkeyPatch) -> None:
    use_small_models(monkeypatch)


@pytest.fixture(autouse=True, params=["own", "others'"])
def _stored_by(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether this process knows what it has stored; if not, it is to it as what other nodes store.

    Each test has a breaker of its own.
    """
    fresh_stores(monkeypatch, recent=100 if request.param == "own" else 0)


@pytest.fixture
def rig(redis_server: RedisServer, store: redis.Redis) -> Rig:
    return Rig(redis_server.port)


def passes(rig: Rig) -> bool:
    """Whether a request goes to the provider as if there were no cache, and its log phase is quiet, too."""
    kong = rig.ask(ASKED)
    return status(kong) == "Bypass" and kong.exit is None and "kong.response.exit" not in kong.methods()


def recovers(rig: Rig) -> None:
    until(lambda: status(rig.ask(ASKED)), lambda s: s == "Hit", what="cache status")


# -- gone ------------------------------------------------------------------------------------------------


def test_a_redis_that_never_was(rig: Rig) -> None:
    assert all(passes(Rig(free_port())) for _ in range(5))


def test_a_redis_that_is_killed_and_comes_back(tmp_path: Path) -> None:
    server = RedisServer(tmp_path)
    server.start()
    try:
        rig = Rig(server.port)
        rig.ask(ASKED)
        server.kill()
        assert all(passes(rig) for _ in range(5))
        server.start()
        recovers(rig)
    finally:
        server.stop()


def test_a_redis_that_stands_still(redis_server: RedisServer, store: redis.Redis) -> None:
    rig = Rig(redis_server.port, {"redis": {"port": redis_server.port, "timeout_ms": 15}})
    pid = int(store.info("server")["process_id"])
    os.kill(pid, signal.SIGSTOP)
    try:
        asked = 0
        while not rig.plugin._service._store.open:
            assert passes(rig)
            asked += 1
            assert asked <= 3
        # Now the breaker is open: no request waits for the socket any more.
        (breaker,) = rig.plugin._service._store._breakers.values()
        usual, breaker.pause_s = breaker.pause_s, 1000.0  # or one tries meanwhile, if the machine is slow
        breaker.failed(time.monotonic())
        calls: list[str] = []
        original = redis.Redis.get
        try:
            redis.Redis.get = lambda *a, **k: calls.append("get") or original(*a, **k)  # type: ignore[method-assign]
            for _ in range(20):
                assert passes(rig)
        finally:
            redis.Redis.get = original  # type: ignore[method-assign]
        assert calls == []
        breaker.pause_s = usual
        breaker.failed(time.monotonic())
    finally:
        os.kill(pid, signal.SIGCONT)
    recovers(rig)


class Mute:
    """A server that accepts and says nothing, or answers everything with the same bytes."""

    def __init__(self, reply: bytes = b"") -> None:
        self._reply = reply
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                line, _ = self._listener.accept()
            except OSError:
                return
            self._open.append(line)
            threading.Thread(target=self._serve, args=(line,), daemon=True).start()

    def _serve(self, line: socket.socket) -> None:
        try:
            while line.recv(65536):
                if self._reply:
                    line.sendall(self._reply)
        except OSError:
            return

    def close(self) -> None:
        self._listener.close()
        for line in self._open:
            with contextlib.suppress(OSError):  # gone already
                line.shutdown(socket.SHUT_RDWR)  # wakes its thread, which a mere close doesn't
            line.close()


@pytest.fixture
def mute() -> Iterator[Callable[[bytes], Mute]]:
    made: list[Mute] = []

    def make(reply: bytes = b"") -> Mute:
        made.append(Mute(reply))
        return made[-1]

    yield make
    for server in made:
        server.close()


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"-LOADING Redis is loading the dataset in memory\r\n",
        b"-NOAUTH Authentication required.\r\n",
        b"-MASTERDOWN Link with MASTER is down\r\n",
        b"-CLUSTERDOWN The cluster is down\r\n",
        b"-MOVED 1 127.0.0.1:1\r\n",
        b"-ERR no idea\r\n",
        b"$5\r\nhe",
    ],
)
def test_a_redis_that_talks_nonsense(mute: Callable[[bytes], Mute], reply: bytes) -> None:
    rig = Rig(0, {"redis": {"port": mute(reply).port, "timeout_ms": 15}})
    assert all(passes(rig) for _ in range(5))


@pytest.mark.parametrize("reply", [b":1\r\n", b"*0\r\n", b"+OK\r\n"])
def test_a_redis_that_answers_with_other_types(mute: Callable[[bytes], Mute], reply: bytes) -> None:
    rig = Rig(0, {"redis": {"port": mute(reply).port, "timeout_ms": 100}})
    for _ in range(3):
        kong = rig.ask(ASKED)
        assert kong.exit is None
        assert status(kong) in {"Miss", "Bypass"}
    with pytest.raises(UnavailableError):
        rig.plugin._service._store.sweep(Keys(TenantId("acme")), most=1, every_ms=1)


def test_on_error_reject_answers_503(rig: Rig) -> None:
    strict = Rig(free_port(), {"on_error": "reject"})
    kong = strict.access(ASKED)
    assert kong.exit is not None
    assert kong.exit.status == 503
    assert kong.exit.json["error"]["type"] == "server_error"


def test_only_if_cached_is_answered_also_without_redis(rig: Rig) -> None:
    kong = Rig(free_port()).access(ASKED, headers={"Cache-Control": "only-if-cached"})
    assert kong.exit is not None
    assert kong.exit.status == 504


# -- full, old, foreign ----------------------------------------------------------------------------------


def test_a_full_redis_still_answers_and_stores_again_later(rig: Rig, store: redis.Redis) -> None:
    rig.ask(ASKED)
    policy = store.config_get("maxmemory-policy")["maxmemory-policy"]
    store.config_set("maxmemory-policy", "noeviction")
    store.config_set("maxmemory", "1")
    try:
        assert status(rig.ask(ASKED)) == "Hit"
        for _ in range(5):
            assert (
                status(rig.ask("another question altogether")) == "Miss"
            )  # not stored, and the breaker closed
    finally:
        store.config_set("maxmemory", "0")
        store.config_set("maxmemory-policy", policy)
    rig.ask("another question altogether")
    assert status(rig.ask("another question altogether")) == "Hit"


def test_a_foreign_type_under_the_entry_passes_and_is_left_alone(rig: Rig, store: redis.Redis) -> None:
    rig.ask(ASKED)
    (key,) = store.scan_iter("*:e:*")
    store.delete(key)
    store.rpush(key, "foreign")
    for _ in range(5):
        assert passes(rig)
    assert store.lrange(key, 0, -1) == [b"foreign"]
    assert status(rig.ask("another question altogether")) == "Miss"  # the others don't suffer


def test_a_foreign_type_under_the_bucket_leaves_the_exact_level(rig: Rig, store: redis.Redis) -> None:
    rig.ask(ASKED)
    (key,) = store.scan_iter("*:n:*")
    store.delete(key)
    store.set(key, "foreign")
    assert status(rig.ask(ALIKE)) == "Miss"
    assert status(rig.ask(ALIKE)) == "Hit"
    assert status(rig.ask(ASKED)) == "Hit"
    assert store.get(key) == b"foreign"


@pytest.mark.parametrize("book", ["index", "sizes"])
def test_a_foreign_type_under_a_book_means_nothing_is_stored(rig: Rig, store: redis.Redis, book: str) -> None:
    store.set(f"tg:cache:2:{{acme}}:{book}", "foreign")
    for _ in range(3):
        assert status(rig.ask(ASKED)) == "Miss"
    assert status(rig.ask(ASKED, tenant="globex")) == "Miss"
    assert status(rig.ask(ASKED, tenant="globex")) == "Hit"


# -- tampered --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [b"", b"x", b"\x01" + b"0" * 60, b"\x02" + b"0" * 60])
def test_a_value_that_was_not_sealed_here_is_a_miss_and_goes(
    rig: Rig, store: redis.Redis, value: bytes
) -> None:
    rig.ask(ASKED)
    (key,) = store.scan_iter("*:e:*")
    store.set(key, value)
    before = metrics.counter("tenantgate_cache_damaged_total", "").value()
    assert status(rig.ask(ALIKE)) == "Miss"  # met as a neighbour
    assert metrics.counter("tenantgate_cache_damaged_total", "").value() == before + 1
    assert store.get(key) is None
    assert status(rig.ask(ASKED)) == "Hit"  # by similarity, from what ALIKE stored


def test_values_can_not_be_swapped_between_keys_or_tenants(rig: Rig, store: redis.Redis) -> None:
    rig.ask("what is the first thing", tenant="acme")
    rig.answer = "Secret of globex."
    rig.ask("what is the other matter", tenant="globex")
    (mine,) = store.scan_iter("*[{]acme}:e:*")
    (yours,) = store.scan_iter("*[{]globex}:e:*")
    store.copy(yours, mine, replace=True)
    got = rig.access("what is the first thing", tenant="acme")
    assert (status(got), got.exit) == ("Miss", None)


def test_another_key_of_the_operator_finds_nothing(redis_server: RedisServer, rig: Rig) -> None:
    rig.ask(ASKED)
    rotated = Rig(redis_server.port, {"encryption_key": "the-next-key-the-next-key"})
    assert status(rotated.ask(ASKED)) == "Miss"
    assert status(rotated.ask(ASKED)) == "Hit"


# -- much at once ----------------------------------------------------------------------------------------


def test_many_at_once_are_all_answered(rig: Rig) -> None:
    outcomes: list[str | None] = []

    def work(number: int) -> None:
        outcomes.extend(status(rig.ask(f"question {number} about thing {i % 3}")) for i in range(15))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outcomes) == 8 * 15
    assert outcomes.count("Miss") == 8 * 3
    assert outcomes.count("Hit") == 8 * 12
