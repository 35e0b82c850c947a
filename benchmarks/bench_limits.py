"""What limits and budgets cost, and how exact sliding windows are, beside two other algorithms.

    python benchmarks/bench_limits.py [--requests N] [--counters N]

cost: one request counted for so many limits, by the product's ledger with the Redis client, in a Redis of the
benchmark's own on this machine. redis: Redis' own time for the script (`INFO commandstats`). python: processor time of
the calling thread, the client included; the least mean of twenty blocks, since other work on the machine only adds. p50
and p95: time by the clock from call to answer. "4 limits, 1 budget" are requests a minute and a day, tokens a minute
and a day, and a month's budget that shrinks max_tokens; "and 200 in flight" holds so many other requests' reservations;
"of N counters" has counters of other subjects beside, so that there are N in all; the first row of these is one limit.

worst: the most requests that passed within a minute, of a client with a limit of 60 a minute that was quiet and then
tries a hundred times a second, from just before the clock's minute turns; by a clock of the benchmark's own. `fixed`
are counters for each minute of the clock, as Kong's rate-limiting has them; `gcra` is the generic cell rate algorithm.
"""

from __future__ import annotations

import argparse
import itertools
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import redis

from tenantgate.devhost.redis_server import RedisServer
from tenantgate.limits.core import counters
from tenantgate.limits.core.ledger import Certainty, Claim, Ledger, Reservation, Reserved, Settlement, Used
from tenantgate.limits.core.rules import Counted, OnTight, Reserve, Window
from tenantgate.limits.local_ledger import LocalLedger
from tenantgate.limits.redis_ledger import RedisLedger
from tenantgate.store.config import RedisConfig
from tenantgate.store.redis_nodes import connect
from tenantgate.tenant import TenantId

ACME: Final = TenantId("acme")
MICROSECONDS: Final = 1_000_000
MINUTE: Final = 60 * MICROSECONDS
MUCH: Final = 10**12
SUBJECTS: Final = (1, 20, 200, 2_000)
COPIES: Final = 1_000
Passes = Callable[[int], bool]
Call = Callable[[], object]


# -- exactness ---------------------------------------------------------------------------------------------


def sliding(most: int) -> Passes:
    """The product's windows."""
    counter, numbers = counters.Counter(MINUTE), itertools.count()
    claim = request_claim("r", most, Window(sliding_s=60))

    def passes(now_us: int) -> bool:
        asked = reservation(f"q{next(numbers)}", (claim,))
        return counters.reserve([counter], asked, [0], now_us).refused is None

    return passes


def fixed(most: int) -> Passes:
    """A counter for each minute of the clock."""
    counts: dict[int, int] = {}

    def passes(now_us: int) -> bool:
        minute = now_us // MINUTE
        counts[minute] = counts.get(minute, 0) + 1
        return counts[minute] <= most

    return passes


def gcra(most: int) -> Passes:
    """The time at which the next request would be due."""
    due = 0

    def passes(now_us: int) -> bool:
        nonlocal due
        new = max(now_us, due) + MINUTE // most
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


def request_claim(name: str, most: int, window: Window) -> Claim:
    """One request."""
    return Claim(counter=name, counted=Counted.REQUESTS, most=most, window=window, fixed=1)


def claims(subject: str) -> tuple[Claim, ...]:
    """Four limits and a budget of one subject."""
    minute = Claim(
        counter=f"tpm:total_tokens:key:{subject}",
        counted=Counted.TOTAL_TOKENS,
        most=MUCH,
        window=Window(sliding_s=60),
        fixed=900,
        per_million=10**6,
        reserve=Reserve.EXPECTED,
    )
    return (
        request_claim(f"rpm:requests:key:{subject}", MUCH, Window(sliding_s=60)),
        request_claim(f"rpd:requests:key:{subject}", MUCH, Window(sliding_s=86_400)),
        minute,
        replace(minute, counter=f"tpd:total_tokens:key:{subject}", window=Window(unit="day")),
        Claim(
            counter=f"monthly:cost:key:{subject}",
            counted=Counted.COST,
            most=10**15,
            window=Window(unit="month", timezone="Europe/Berlin"),
            fixed=2_250_000,
            per_million=10 * 10**9,
            on_tight=OnTight.SHRINK,
            min_tokens=256,
        ),
    )


def reservation(id_: str, asked: tuple[Claim, ...]) -> Reservation:
    """A request with a reply of up to 1000 tokens."""
    return Reservation(
        tenant=ACME, id=id_, claims=asked, worst_tokens=1000, expected_tokens=300, lifetime_ms=600_000
    )


def settlement(asked: Reservation, answer: Reserved) -> Settlement:
    """Its end, with 300 tokens."""
    used = [
        Used(c.counter, c.window, c.fixed + 300 * c.per_million // MICROSECONDS, c.counted, c.most)
        for c in asked.claims
    ]
    return Settlement(
        tenant=ACME, id=asked.id, certainty=Certainty.EXACT, used=tuple(used), started_ms=answer.now_ms
    )


class Cost(NamedTuple):
    """In µs; `in_redis` is 0 where there is none."""

    in_redis: float
    python: float
    p50: float
    p95: float


def measured(client: Any, calls: Callable[[], Iterator[Call]], number: int) -> Cost:
    """What calls cost; each is made outside of what is measured, and so is what they leave behind."""
    in_redis, in_python, walls, block = [], [], [], max(1, number // 20)
    made = calls()
    next(made)()  # Redis learns the script
    for _ in range(20):
        client.config_resetstat()
        spent = 0
        for _ in range(block):
            call = next(made)
            began, at = time.thread_time_ns(), time.perf_counter_ns()
            call()
            walls.append(time.perf_counter_ns() - at)
            spent += time.thread_time_ns() - began
        in_python.append(spent / block / 1000)
        stats = client.info("commandstats").get("cmdstat_evalsha")
        in_redis.append(float(stats["usec_per_call"]) if stats else 0.0)
    parts = statistics.quantiles(walls, n=20)
    return Cost(min(in_redis), min(in_python), statistics.median(walls) / 1000, parts[18] / 1000)


def reserving(ledger: Ledger, asked: tuple[Claim, ...]) -> Iterator[Call]:
    """Reservations, each of which is settled before the next one."""
    for i in itertools.count():
        one, answers = reservation(f"3f0b2c1e-8b7d-4c35-9d1e-{i:012}", asked), list[Reserved]()

        def call(one: Reservation = one, answers: list[Reserved] = answers) -> None:
            answers.append(ledger.reserve(one))

        yield call
        ledger.settle(settlement(one, answers[0]))


def settling(ledger: Ledger, asked: tuple[Claim, ...]) -> Iterator[Call]:
    """The settlements of reservations."""
    for i in itertools.count():
        one = reservation(f"7c1d2c1e-8b7d-4c35-9d1e-{i:012}", asked)
        yield partial(ledger.settle, settlement(one, ledger.reserve(one)))


def fill(client: Any, ledger: RedisLedger, subjects: range) -> None:
    """Counters of other subjects, of each of the five: copies of one subject's, which a request made."""
    one = reservation(f"fill-{subjects.stop}", claims("other"))
    ledger.settle(settlement(one, ledger.reserve(one)))
    made = [key for key in client.scan_iter(count=10_000) if b":key:other:" in key]
    for begin in range(subjects.start, subjects.stop, COPIES):
        with client.pipeline(transaction=False) as pipe:
            for i in range(begin, min(begin + COPIES, subjects.stop)):
                for key in made:
                    pipe.copy(key, key.replace(b":key:other:", b":key:subject-%d:" % i))
            pipe.execute()
    client.delete(*made)


def rows(client: Any, port: int, requests: int, most_counters: int) -> Iterator[tuple[str, Cost]]:
    """Name, and cost."""
    ledger = RedisLedger(connect(RedisConfig(port=port, timeout_ms=1000)))
    two = (*claims("a")[:1], request_claim("tenant", MUCH, Window(sliding_s=60)))
    yield "2 limits on requests", measured(client, partial(reserving, ledger, two), requests)
    five = claims("a")
    yield "4 limits, 1 budget", measured(client, partial(reserving, ledger, five), requests)
    yield "  settled, off the client's path", measured(client, partial(settling, ledger, five), requests)
    for i in range(200):
        ledger.reserve(reservation(f"in-flight-{i}", five))
    yield "  and 200 in flight", measured(client, partial(reserving, ledger, five), requests)
    full = (*five[:4], replace(five[4], most=1))
    yield "  refused", measured(client, partial(refused, ledger, full), requests)
    client.flushall()
    yield "  of 1 counter", measured(client, partial(reserving, ledger, five[:1]), requests)
    have, steps = 1, (size for size in SUBJECTS if 5 * size < most_counters)
    for wanted in (*steps, most_counters // 5):
        fill(client, ledger, range(have, wanted))
        have = wanted
        yield f"  of {5 * have:,} counters", measured(client, partial(reserving, ledger, five), requests)
    yield "  local", measured(client, partial(reserving, LocalLedger(), five), requests)


def refused(ledger: Ledger, asked: tuple[Claim, ...]) -> Iterator[Call]:
    """Requests for which there is no room."""
    for i in itertools.count():
        one = reservation(f"9a1d2c1e-8b7d-4c35-9d1e-{i:012}", asked)
        yield partial(ledger.reserve, one)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--counters", type=int, default=100_000, help="the most, five of each subject")
    args = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    print(f"load {os.getloadavg()[0]:.1f}")
    print(f"{'cost, µs':36}{'redis':>8}{'python':>8}{'p50':>8}{'p95':>8}")
    with tempfile.TemporaryDirectory() as folder:
        server = RedisServer(Path(folder))
        server.start()
        try:
            with redis.Redis(port=server.port) as client:
                client.config_set("maxmemory", "2gb")
                for name, cost in rows(client, server.port, args.requests, args.counters):
                    print(f"{name:36}" + "".join(f"{n:8.0f}" for n in cost), flush=True)
                print(
                    f"memory of Redis {client.info('memory')['used_memory'] / 1e6:.0f} MB, {client.dbsize():,} keys"
                )
        finally:
            server.stop()
    for name, passes in (("fixed", fixed(60)), ("gcra", gcra(60)), ("sliding", sliding(60))):
        print(f"worst minute of 60, {name:10}{worst(passes):6}")


if __name__ == "__main__":
    main()
