"""What rate limits cost, and how exact they are, beside two other algorithms.

    python benchmarks/bench_limits.py [--requests N]

`fixed` are counters for each minute of the clock, as Kong's rate-limiting has them; `gcra` is the generic cell rate
algorithm. Both are scripts of a few lines, called by the same client; `sliding` is the product's. Each counts a request
for two limits a minute, a tenant's and a key's, in a Redis of the benchmark's own.

redis: Redis' own time for the script (`INFO commandstats`). python: processor time of the calling thread, the Redis
client included. Both are the least mean of twenty blocks, since other work on the machine only adds. worst: the most
requests that passed within a minute, of a client with a limit of 60 a minute that was quiet and then tries a hundred
times a second, from just before the clock's minute turns; by a clock of the benchmark's own.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final, NoReturn

import redis

from tenantgate.devhost.redis_server import RedisServer
from tenantgate.kong.host import Answered
from tenantgate.limits.config import LimitsConfig
from tenantgate.limits.core.keys import counter_key
from tenantgate.limits.core.limit import Limit, Period, Subject, limits_of
from tenantgate.limits.core.window import MICROSECONDS, RUNS, count
from tenantgate.limits.service import RateLimits
from tenantgate.rate_limit import RateLimit
from tenantgate.store.config import RedisConfig
from tenantgate.tenant import TenantId

MINUTE: Final = Period.MINUTE * MICROSECONDS
Passes = Callable[[int], bool]

FIXED: Final = """
local minute, keys = math.floor(redis.call('TIME')[1] / 60), {}
for i, key in ipairs(KEYS) do
  keys[i] = key .. minute
  if tonumber(redis.call('GET', keys[i]) or 0) >= tonumber(ARGV[i]) then return 0 end
end
for _, key in ipairs(keys) do
  if redis.call('INCR', key) == 1 then redis.call('EXPIRE', key, 60) end
end
return 1
"""
GCRA: Final = """
local clock, new = redis.call('TIME'), {}
local now = clock[1] * 1000000 + clock[2]
for i, key in ipairs(KEYS) do
  new[i] = math.max(now, tonumber(redis.call('GET', key) or 0)) + 60000000 / ARGV[i]
  if new[i] - now > 60000000 then return 0 end
end
for i, key in ipairs(KEYS) do redis.call('SET', key, string.format('%.0f', new[i]), 'PX', 60000) end
return 1
"""


# -- exactness ---------------------------------------------------------------------------------------------


def sliding(limit: Limit) -> Passes:
    """The product's windows."""
    windows: list[bytes | None] = [None]

    def passes(now_us: int) -> bool:
        decision, windows[:] = count(windows, [limit], now_us)
        return decision.counted

    return passes


def fixed(limit: Limit) -> Passes:
    """A counter for each minute of the clock."""
    counts: dict[int, int] = {}

    def passes(now_us: int) -> bool:
        minute = now_us // MINUTE
        counts[minute] = counts.get(minute, 0) + 1
        return counts[minute] <= limit.most

    return passes


def gcra(limit: Limit) -> Passes:
    """The time at which the next request would be due."""
    due = 0

    def passes(now_us: int) -> bool:
        nonlocal due
        new = max(now_us, due) + MINUTE // limit.most
        if new - now_us > MINUTE:
            return False
        due = new
        return True

    return passes


def worst(passes: Passes) -> int:
    """The most requests that pass within a minute."""
    passed = [t for t in range(1000 * MINUTE - MICROSECONDS, 1003 * MINUTE, MICROSECONDS // 100) if passes(t)]
    return max(sum(t <= u < t + MINUTE for u in passed) for t in passed)


# -- cost --------------------------------------------------------------------------------------------------


class StageHost:
    """What the stage asks of a request, at no cost."""

    def tenant(self) -> TenantId:
        """The tenant."""
        return TenantId("acme")

    def credential(self) -> str:
        """The credential's id."""
        return "6f1d5b0e-3c1f-4f3a-9d43-0a6a1f0d2c11"

    def set_headers(self, headers: object) -> None:
        """The reply's headers."""

    def put_verdict(self, plugin: str, verdict: object) -> None:
        """The verdict on a refused request."""

    def answer(self, *_: object) -> NoReturn:
        """The refusal, which ends the phase."""
        raise Answered


def measured(client: Any, requests: int, ask: Callable[[], object]) -> tuple[float, float]:
    """Redis' time and this thread's processor time for a request, in µs: each the least mean of twenty blocks."""
    ask()  # Redis learns the script
    in_redis, in_python, block = [], [], max(1, requests // 20)
    for _ in range(20):
        client.config_resetstat()
        began = time.thread_time_ns()
        for _ in range(block):
            ask()
        in_python.append((time.thread_time_ns() - began) / block / 1000)
        stats = client.info("commandstats").get("cmdstat_evalsha")
        in_redis.append(float(stats["usec_per_call"]) if stats else 0.0)
    return min(in_redis), min(in_python)


def fill(client: Any, most: int) -> None:
    """Windows of both limits with sixty runs or so, and `most` requests but one in the last minute."""
    seconds, microseconds = client.time()
    now = seconds * MICROSECONDS + microseconds
    for limit in limits_of(RateLimit(per_minute=most), None, RateLimit(per_minute=most)):
        windows: list[bytes | None] = [None]
        for i in range(most - 1):
            _, windows[:] = count(windows, [limit], now - MINUTE * 9 // 10 + i * MINUTE * 9 // 10 // most)
        key = counter_key(TenantId("acme"), limit, model="", credential=StageHost().credential())
        client.set(key, windows[0], px=120_000)


def stage(port: int, most: int, policy: str = "redis") -> RateLimits:
    """The stage with two limits of so many requests a minute."""
    limit, where = RateLimit(per_minute=most), RedisConfig(port=port, timeout_ms=1000)
    return RateLimits(LimitsConfig(tenant=limit, key=limit, policy=policy, redis=where))


def access(limits: RateLimits, host: Any) -> None:
    """One request."""
    with contextlib.suppress(Answered):
        limits.access(host)


def rows(client: Any, port: int, requests: int) -> Iterator[tuple[str, float, float, int | None]]:
    """Name, Redis' time, processor time, and the worst minute."""
    keys, example, host = ["{a}:t", "{a}:k"], Limit(Subject.TENANT, Period.MINUTE, 60), StageHost()
    for name, text, passes in (("fixed", FIXED, fixed(example)), ("gcra", GCRA, gcra(example))):
        script = client.register_script(text)
        cost = measured(client, requests, partial(script, keys=keys, args=[10**6, 10**6]))
        yield f"{name}: script and client", *cost, worst(passes)
    for name, most, before in (("new", 10**6, 0), (f"{RUNS} runs", 10**6, 1000), ("refused", 1000, 1001)):
        client.flushall()
        if before:
            fill(client, before)
        ask = partial(access, stage(port, most), host)
        yield f"sliding: whole stage, {name}", *measured(client, requests, ask), worst(sliding(example))
    ask = partial(access, stage(port, 10**6, "local"), host)
    yield "sliding: whole stage, local", *measured(client, requests, ask), None


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=20_000)
    args = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    print(f"{'':32}{'redis µs':>10}{'python µs':>11}{'worst':>7}")
    with tempfile.TemporaryDirectory() as folder:
        server = RedisServer(Path(folder))
        server.start()
        try:
            with redis.Redis(port=server.port) as client:
                for name, in_redis, python, most in rows(client, server.port, args.requests):
                    print(f"{name:32}{in_redis:10.1f}{python:11.1f}{'' if most is None else most:>7}")
        finally:
            server.stop()


if __name__ == "__main__":
    main()
