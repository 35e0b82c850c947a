"""The rate limits in a real Redis: counted once, in one call, by Redis' own time; and what happens without it."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from limits_rig import Stage
from tenantgate.devhost.redis_server import RedisServer, free_port
from tenantgate.limits import redis_counters, service
from tenantgate.limits.core.keys import counter_key
from tenantgate.limits.core.limit import Limit, Period, Subject
from tenantgate.limits.core.window import MICROSECONDS, count
from tenantgate.limits.redis_counters import RedisCounters
from tenantgate.store.config import RedisConfig
from tenantgate.store.redis_nodes import connect
from tenantgate.store.shared import Shared
from tenantgate.tenant import TenantId

from support import until

DAY = Limit(Subject.TENANT, Period.DAY, 5)
KEY = counter_key(TenantId("acme"), DAY, model="", credential=None)


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Breakers and connections of each test's own."""
    monkeypatch.setattr(service, "_by_redis", Shared(4, weak=True))


@pytest.fixture
def counters(redis_server: RedisServer, store: redis.Redis) -> RedisCounters:
    return RedisCounters(connect(RedisConfig(port=redis_server.port, timeout_ms=1000)))


def stage(port: int, *, timeout_ms: int = 1000, **config: Any) -> Stage:
    where = {"port": port, "timeout_ms": timeout_ms}
    made = Stage({"tenant": {"per_day": 5}, "redis": where, "deadline_ms": 1500, **config})
    assert made.config_error is None
    return made


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The commands that this thread sends from now on."""
    out: list[str] = []
    original: Any = redis.Redis.execute_command
    own = threading.get_ident()

    def sending(client: Any, *args: Any, **options: Any) -> Any:
        if threading.get_ident() == own:
            out.append(args[0])
        return original(client, *args, **options)

    monkeypatch.setattr(redis.Redis, "execute_command", sending)
    return out


# -- the script --------------------------------------------------------------------------------------------


class TimedScript:
    """The script with a clock of the test's."""

    def __init__(self, store: redis.Redis) -> None:
        counters = RedisCounters(connect(RedisConfig()))
        clock = "call('TIME')"
        text = counters._count.script
        assert text.count(clock) == 1
        self._store = store
        self._run = store.register_script(text.replace(clock, "{ARGV[#ARGV - 1], ARGV[#ARGV]}"))

    def count(self, keys: list[str], limits: list[Limit], now_us: int) -> Any:
        args = [*redis_counters._arguments(limits), *divmod(now_us, MICROSECONDS)]
        return redis_counters._decision(self._run(keys=keys, args=args), limits)


LIMITS = st.lists(
    st.builds(
        Limit,
        st.sampled_from(Subject),
        st.sampled_from([Period.MINUTE, Period.HOUR, Period.DAY]),
        st.one_of(st.integers(1, 8), st.integers(59, 70)),
    ),
    min_size=1,
    max_size=4,
    unique_by=lambda limit: (limit.subject, limit.period),
)
GAPS = st.tuples(
    st.sampled_from([0, 1, 999_999, 1_000_000, 20_000_000, 61_000_000, 3_600_000_000, -1, -90_000_000]),
    st.integers(1, 30),
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(LIMITS, st.lists(GAPS, max_size=12), st.integers(1, 8))
def test_the_script_decides_and_writes_as_the_core(
    store: redis.Redis, limits: list[Limit], bursts: list[tuple[int, int]], lowered: int
) -> None:
    store.flushall()
    script, now_us = TimedScript(store), 1_700_000_000_123_456
    keys = [counter_key(TenantId("acme"), limit, model="m", credential="c") for limit in limits]
    windows: list[bytes | None] = [None] * len(limits)
    for i, (gap, requests) in enumerate(bursts):
        if i == 9:
            limits = [Limit(x.subject, x.period, min(x.most, lowered)) for x in limits]
        for j in range(requests):
            now_us += 0 if j else gap
            decision, new = count(windows, limits, now_us)
            windows = [*new]
            assert script.count(keys, limits, now_us) == decision
            if decision.counted:
                assert store.mget(keys) == new


@pytest.mark.parametrize(
    "window", [b"", b"foreign", b"\0" * 4, b"x" * 16, b"\xff" * 28, b"\0" * 15 + b"\xff"]
)
def test_what_is_no_window_stops_the_counting_for_a_period_at_most(store: redis.Redis, window: bytes) -> None:
    store.set(KEY, window)
    script, now_us = TimedScript(store), 1_700_000_000_000_000
    script.count([KEY], [DAY], now_us)
    later = now_us + Period.DAY * MICROSECONDS
    assert script.count([KEY], [DAY], later).rooms[0].remaining == 4


# -- counting ----------------------------------------------------------------------------------------------


def test_a_request_is_one_command_whatever_counts_it(
    redis_server: RedisServer, store: redis.Redis, sent: list[str]
) -> None:
    every = {"per_second": 99, "per_minute": 99, "per_hour": 99, "per_day": 99}
    made = stage(redis_server.port, tenant=every, key=every)
    assert made.passes()  # Redis learns the script
    store.config_resetstat()
    sent.clear()
    assert made.passes()
    assert sent == ["EVALSHA"]
    ran = {
        name.removeprefix("cmdstat_"): value["calls"] for name, value in store.info("commandstats").items()
    }
    assert {name: ran.get(name) for name in ("evalsha", "time", "get", "set")} == {
        "evalsha": 1,
        "time": 1,
        "get": 8,
        "set": 8,
    }


def test_a_refused_request_writes_nothing(redis_server: RedisServer, store: redis.Redis) -> None:
    made = stage(redis_server.port, tenant={"per_day": 2}, key={"per_day": 1})
    assert made.passes()
    before = {key: store.get(key) for key in store.keys("tg:limits:*")}
    assert len(before) == 2
    assert not made.passes()
    assert {key: store.get(key) for key in store.keys("tg:limits:*")} == before
    assert made.passes("acme", "c-2")


def test_time_is_redis_own(
    counters: RedisCounters, store: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time", lambda: 5.0)
    monkeypatch.setattr(time, "monotonic", lambda: 5.0)
    monkeypatch.setattr(time, "monotonic_ns", lambda: 5)
    before = store.time()
    assert counters.count([KEY], [DAY]).counted
    after = store.time()
    window = store.get(KEY)
    assert isinstance(window, bytes)
    (s0, us0), (s1, us1) = before, after
    assert s0 * MICROSECONDS + us0 <= int.from_bytes(window[4:12]) <= s1 * MICROSECONDS + us1


@pytest.mark.parametrize("period", Period)
def test_a_window_expires_with_its_period(
    counters: RedisCounters, store: redis.Redis, period: Period
) -> None:
    limit = Limit(Subject.TENANT, period, 5)
    counters.count([KEY], [limit])
    left_ms = store.pttl(KEY)
    assert left_ms == -2 or 0 <= left_ms <= period * 1000  # -2: it has expired; -1: it never will


def test_a_second_later_there_is_room_again(counters: RedisCounters) -> None:
    second = Limit(Subject.TENANT, Period.SECOND, 1)
    assert counters.count([KEY], [second]).counted
    until(lambda: counters.count([KEY], [second]).counted, bool, what="counted")


COUNTING = """
import sys
from tenantgate.limits.core.limit import Limit, Period, Subject
from tenantgate.limits.redis_counters import RedisCounters
from tenantgate.store.config import RedisConfig
from tenantgate.store.redis_nodes import connect

counters = RedisCounters(connect(RedisConfig(port=int(sys.argv[1]), timeout_ms=1000)))
limits = [Limit(Subject.TENANT, Period.DAY, 150), Limit(Subject.KEY, Period.DAY, 100)]
print("ready", flush=True)
sys.stdin.readline()
keys = ["tg:limits:1:{acme}:tenant::day", f"tg:limits:1:{{acme}}:key:{sys.argv[2]}:day"]
print(sum(counters.count(keys, limits).counted for _ in range(200)))
"""


def test_two_processes_at_once_share_one_limit(redis_server: RedisServer, store: redis.Redis) -> None:
    started = [
        subprocess.Popen(
            [sys.executable, "-c", COUNTING, str(redis_server.port), key],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for key in ("a", "b")
    ]
    for process in started:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
    for process in started:
        assert process.stdin
        process.stdin.write("\n")
        process.stdin.flush()
    counted = [int(process.communicate()[0]) for process in started]
    assert sum(counted) == 150
    assert max(counted) <= 100


def test_threads_share_one_limit(counters: RedisCounters) -> None:
    limit = Limit(Subject.TENANT, Period.DAY, 90)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: counters.count([KEY], [limit]).counted, range(200)))
    assert sum(found) == 90


def test_configurations_of_one_redis_share_connections_and_breakers(redis_server: RedisServer) -> None:
    one, two = stage(redis_server.port), stage(redis_server.port, key={"per_day": 1})
    assert one._service._counters is two._service._counters
    assert stage(free_port())._service._counters is not one._service._counters


# -- without Redis -----------------------------------------------------------------------------------------


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[list[str]]:
    caplog.set_level(logging.INFO, "tenantgate.limits")
    out: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            out.append(record.getMessage())

    handler = Keep()
    logging.getLogger("tenantgate.limits").addHandler(handler)
    yield out
    logging.getLogger("tenantgate.limits").removeHandler(handler)


def test_a_redis_that_is_killed_and_comes_back(tmp_path: Path, lines: list[str]) -> None:
    server = RedisServer(tmp_path)
    server.start()
    try:
        made, strict = stage(server.port), stage(server.port, on_error="reject")
        assert made.passed(9) == 5
        server.kill()
        before = service._requests.value(outcome="uncounted")
        assert made.passed(20) == 20
        assert service._requests.value(outcome="uncounted") - before == 20
        kong = strict.ask()
        assert kong.exit is not None
        assert (kong.exit.status, kong.exit.json["error"]["code"]) == (503, "tenantgate_unavailable")
        assert lines == ["rate limits can't be counted"]
        server.start()
        until(lambda: bool(made.ask().reply_headers), bool, what="counted")
        assert made.passed(9) == 4
        assert lines == ["rate limits can't be counted", "rate limits are counted again"]
    finally:
        server.stop()


def test_a_redis_that_stands_still_costs_a_few_time_outs(
    redis_server: RedisServer, store: redis.Redis, sent: list[str]
) -> None:
    made = stage(redis_server.port, timeout_ms=15)
    pid = int(store.info("server")["process_id"])
    until(lambda: bool(made.ask().reply_headers), bool, what="counted")
    os.kill(pid, signal.SIGSTOP)
    try:
        sent.clear()
        counters = made._service._counters
        while not any(breaker.open for breaker in counters._breakers.values()):
            assert made.passes()
            assert len(sent) <= 3
        (breaker,) = counters._breakers.values()
        breaker.pause_s = 1000.0  # or one tries meanwhile, if the machine is slow
        breaker.failed(time.monotonic())
        sent.clear()
        assert made.passed(50) == 50
        assert sent == []
        breaker.pause_s = 0.0
        breaker.failed(time.monotonic())
    finally:
        os.kill(pid, signal.SIGCONT)
    until(lambda: bool(made.ask("other").reply_headers), bool, what="counted")


def test_a_script_that_redis_forgot_is_sent_again(redis_server: RedisServer, store: redis.Redis) -> None:
    made = stage(redis_server.port)
    assert made.passed(2) == 2
    store.script_flush()
    assert made.passed(9) == 3


def test_a_key_of_another_type_concerns_its_tenant_alone(
    redis_server: RedisServer, store: redis.Redis
) -> None:
    store.lpush(KEY, "foreign")
    made = stage(redis_server.port)
    assert made.passed(9) == 9
    assert made.passed(9, "globex") == 5
    assert store.lrange(KEY, 0, -1) == [b"foreign"]


def test_a_full_redis_counts_nothing(redis_server: RedisServer, store: redis.Redis) -> None:
    made = stage(redis_server.port, key={"per_day": 5})
    store.config_set("maxmemory-policy", "noeviction")
    store.config_set("maxmemory", "1")
    try:
        assert made.passed(9) == 9
        assert store.keys("tg:limits:*") == []
    finally:
        store.config_set("maxmemory", "256mb")
        store.config_set("maxmemory-policy", "allkeys-lru")
    assert made.passed(9) == 5


@pytest.mark.parametrize(
    "answer", [None, b"x", [], [1], [1, 2], [1, b"2", 3], [1, -1, 0], [0, 3, 1], [1, 2, 3, 4]]
)
def test_an_answer_that_is_none_is_no_decision(answer: Any) -> None:
    assert redis_counters._decision(answer, [DAY]) is None
    assert redis_counters._decision([1, 2, 3], [DAY]) is not None
