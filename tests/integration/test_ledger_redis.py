"""Reservations in a real Redis: decided as in memory, once, in one call, by Redis' own time; and what isn't ours."""

from __future__ import annotations

import logging
import os
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import hiredis
import pytest
import redis
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, rule, run_state_machine_as_test

from ledger_rig import (
    ACME,
    AMOUNTS,
    CERTAINTIES,
    DAY,
    GAPS_US,
    LIFE_MS,
    MINUTE,
    START_MS,
    TOKENS,
    Clock,
    claim,
    claims,
    requests,
    reservation,
    settlement,
    timed,
)
from tenantgate.devhost.redis_server import RedisServer
from tenantgate.limits import local_ledger, redis_ledger
from tenantgate.limits.core.claims import Held
from tenantgate.limits.core.keys import raises_key, window_key
from tenantgate.limits.core.ledger import AMOUNT_MAX, Certainty, Claim, NotCountedError, Refused, Used
from tenantgate.limits.core.rules import OnStoreDown, OnTight, Rule, Window
from tenantgate.limits.core.windows import window_at
from tenantgate.limits.lease_notes import LeaseNotes
from tenantgate.limits.leases import Leases
from tenantgate.limits.local_ledger import LocalLedger
from tenantgate.limits.redis_ledger import RedisLedger
from tenantgate.limits.service import Limits
from tenantgate.store.config import RedisConfig
from tenantgate.store.redis_nodes import connect
from tenantgate.tenant import TenantId

from support import until


@pytest.fixture
def ledger(redis_server: RedisServer, store: redis.Redis) -> RedisLedger:
    return RedisLedger(connect(RedisConfig(port=redis_server.port, timeout_ms=1000)))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(redis_ledger, "time", made)
    monkeypatch.setattr(local_ledger, "time", made)
    return made


@pytest.fixture
def at(store: redis.Redis, clock: Clock) -> RedisLedger:
    """A ledger that goes by `clock`."""
    return timed(store, clock)


# -- as in memory ------------------------------------------------------------------------------------------


def test_the_scripts_answer_as_the_core_does(store: redis.Redis, clock: Clock) -> None:
    class Both(RuleBasedStateMachine):
        running, ended = Bundle("running"), Bundle("ended")

        def __init__(self) -> None:
            super().__init__()
            store.flushall()
            clock.us = START_MS * 1000
            self.ledgers, self.number = (timed(store, clock), LocalLedger()), 0

        def both(self, what: str, given: Any) -> Any:
            theirs, ours = (getattr(ledger, what)(given) for ledger in self.ledgers)
            assert theirs == ours if what == "reserve" else list(theirs) == list(ours)
            return ours

        @rule(gap_us=st.one_of(GAPS_US, st.sampled_from([-1, -5_000_000, -7_200_000_000, 90_000_000_000])))
        def time_passes(self, gap_us: int) -> None:
            clock.us += gap_us

        @rule(target=running, asks=claims(), tokens=TOKENS, final=st.sampled_from([False, False, True]))
        def reserve(self, asks: tuple[Claim, ...], tokens: int, final: bool) -> Any:
            self.number += 1
            asked = reservation(f"q{self.number}", *asks, worst=tokens, final=final)
            return asked, self.both("reserve", asked)

        @rule(request=running)
        def reserve_again(self, request: Any) -> None:
            self.both("reserve", request[0])

        @rule(target=running, request=consumes(running), asks=claims(), tokens=TOKENS)
        def reserve_in_place(self, request: Any, asks: tuple[Claim, ...], tokens: int) -> Any:
            asked, answer = request
            replaces = () if answer.refused else asked.claims
            new = reservation(
                asked.id, *asks, worst=tokens, replaces=replaces, replaces_ms=answer.now_ms if replaces else 0
            )
            found = self.both("reserve", new)
            return request if found.refused else (new, found)

        @rule(
            target=ended,
            request=consumes(running),
            amounts=st.lists(AMOUNTS, min_size=4, max_size=4),
            how=CERTAINTIES,
        )
        def settle(self, request: Any, amounts: list[int], how: Certainty) -> Any:
            asked, answer = request
            self.both("settle", settlement(asked, answer, amounts[: len(asked.claims)], how))
            return request

        @rule(request=ended, amount=AMOUNTS)
        def settle_or_reserve_again(self, request: Any, amount: int) -> None:
            self.both("settle", settlement(*request, amount))
            self.both("reserve", request[0])

    run_state_machine_as_test(
        Both,
        settings=settings(
            max_examples=40,
            stateful_step_count=25,
            suppress_health_check=list(HealthCheck),
            deadline=None,
            phases=[Phase.generate],
        ),
    )


def key(of: Claim, now_ms: int, tenant: TenantId = ACME) -> str:
    start = 0 if of.window.sliding_s else window_at(of.window, now_ms)[0]
    return window_key(tenant, of.counter, of.window, start)


def dump(store: redis.Redis) -> dict[Any, Any]:
    return {k: store.hgetall(k) for k in store.keys("tg:*") if store.type(k) == b"hash"}


# -- one call ----------------------------------------------------------------------------------------------

EVERY = (
    requests(99, MINUTE, "a"),
    requests(99, Window(sliding_s=3600), "b"),
    claim("tpm", most=10**6, window=MINUTE),
    claim("day"),
    claim("month", window=Window(unit="month")),
)


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The commands that are sent from now on."""
    out: list[str] = []
    original: Any = hiredis.pack_command

    def packing(args: tuple[Any, ...]) -> bytes:
        out.append(args[0] if isinstance(args[0], str) else args[0].decode())
        return bytes(original(args))

    monkeypatch.setattr(hiredis, "pack_command", packing)
    return out


def test_a_request_is_one_command_whatever_counts_it(
    ledger: RedisLedger, store: redis.Redis, sent: list[str]
) -> None:
    first = reservation("q0", *EVERY)
    ledger.settle(settlement(first, ledger.reserve(first), 1))  # Redis learns the scripts
    store.config_resetstat()
    sent.clear()
    asked = reservation("q1", *EVERY)
    answer = ledger.reserve(asked)
    assert sent == ["EVALSHA"]
    ran = {n.removeprefix("cmdstat_"): v["calls"] for n, v in store.info("commandstats").items()}
    assert {n: ran.get(n) for n in ("hmget", "hset", "pexpire", "hgetall", "time", "exists")} == {
        "hmget": 6, "hset": 5, "pexpire": 5, "hgetall": None, "time": 1, "exists": 1,
    }  # fmt: skip
    sent.clear()
    ledger.settle(settlement(asked, answer, 1))
    assert sent == ["EVALSHA"]


def test_a_refused_request_writes_nothing(ledger: RedisLedger, store: redis.Redis) -> None:
    ledger.reserve(reservation("q1", claim(most=150), requests(9)))
    before = dump(store)
    answer = ledger.reserve(reservation("q2", claim(most=150), requests(9), claim("other", shadow=True)))
    assert (answer.refused, answer.by) == (Refused.HELD, (0,))
    assert dump(store) == before


def test_time_is_redis_own(ledger: RedisLedger, store: redis.Redis, clock: Clock, sent: list[str]) -> None:
    clock.us = 5_000_000  # of ours, far off
    asked = reservation("q1", claim(), requests(3))
    before, answer, after = store.time(), ledger.reserve(asked), store.time()
    assert before[0] * 1000 <= answer.now_ms <= after[0] * 1000 + 1000
    assert answer.rooms[0].reset_ms == window_at(DAY, answer.now_ms)[1]
    sent.clear()
    ledger.reserve(reservation("q2", claim(), requests(3)))
    assert sent == ["EVALSHA"]  # how far off is known now


def test_all_keys_are_of_one_slot_and_expire(ledger: RedisLedger, store: redis.Redis) -> None:
    asked = reservation("q1", *EVERY, claim("minute", window=Window(unit="minute")))
    answer = ledger.reserve(asked)
    ledger.settle(settlement(asked, answer, 3))
    keys = [k.decode() for k in store.scan_iter()]
    assert len(keys) == 7
    assert all(k.startswith("tg:money:1:{acme}:") and store.pttl(k) != -1 for k in keys)
    assert store.pttl(key(EVERY[0], answer.now_ms)) <= 60_000
    assert store.pttl(key(EVERY[3], answer.now_ms)) <= answer.rooms[3].reset_ms - answer.now_ms + 86_400_000


COUNTING = """
import sys
from ledger_rig import claim, requests, reservation
from tenantgate.limits.redis_ledger import RedisLedger
from tenantgate.store.config import RedisConfig
from tenantgate.store.redis_nodes import connect

ledger = RedisLedger(connect(RedisConfig(port=int(sys.argv[1]), timeout_ms=1000)))
claims = [claim("all", most=1500), requests(100, counter=sys.argv[2])]
print("ready", flush=True)
sys.stdin.readline()
asked = [reservation(f"{sys.argv[2]}{i}", *claims, worst=10) for i in range(200)]
print(sum(ledger.reserve(one).refused is None for one in asked))
"""


def test_two_processes_at_once_share_one_budget(redis_server: RedisServer, store: redis.Redis) -> None:
    path = os.pathsep.join(sys.path)
    started = [
        subprocess.Popen(
            [sys.executable, "-c", COUNTING, str(redis_server.port), name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": path},
        )
        for name in ("a", "b")
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


def test_threads_share_one_budget(ledger: RedisLedger) -> None:
    with ThreadPoolExecutor(8) as pool:
        asked = [reservation(f"q{i}", claim(most=900), worst=10) for i in range(200)]
        found = list(pool.map(ledger.reserve, asked))
    assert sum(answer.refused is None for answer in found) == 90


# -- what becomes of a reservation ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "used", "charged"),
    [
        (Certainty.EXACT, 30, 30),
        (Certainty.EXACT, 300, 300),
        (Certainty.LOWER_BOUND, 30, 100),
        (Certainty.LOWER_BOUND, 300, 300),
        (Certainty.UNCERTAIN, 0, 100),
        (Certainty.NONE, 30, 0),
    ],
)
@pytest.mark.parametrize("late_ms", [0, 2 * LIFE_MS])
def test_a_settlement_replaces_what_was_held_or_charged(
    at: RedisLedger, clock: Clock, how: Certainty, used: int, charged: int, late_ms: int
) -> None:
    asked = reservation("q1", claim())
    answer = at.reserve(asked)
    assert (answer.rooms[0].used, answer.rooms[0].held) == (0, 100)
    clock.us += late_ms * 1000
    other = at.reserve(reservation("other", claim(), worst=1)).rooms[0]
    assert (other.used, other.held) == ((100, 1) if late_ms else (0, 101))
    for amount in (used, 77, 0):  # the second time nothing happens
        room = at.settle(settlement(asked, answer, amount, how))[0]
        assert (room.used, room.held, room.most) == (charged, 1, 1000)


@pytest.mark.parametrize(
    ("id_", "end", "later", "uncertain"),
    [
        ("q", None, None, (100, 0, 0, 0)),
        ("lease-a", None, None, (0, 100, 0, 0)),
        ("q", (Certainty.LOWER_BOUND, 40, 30), None, (0, 0, 70, 0)),
        ("q", (Certainty.UNCERTAIN, 100, 0), None, (0, 0, 0, 100)),
        ("q", (Certainty.EXACT, 140, 40), None, (0, 0, 0, 100)),  # a try before the last one
        ("q", (Certainty.EXACT, 40, 40), None, (0, 0, 0, 0)),
        ("q", None, (Certainty.EXACT, 40, 40), (0, 0, 0, 0)),  # late
        ("q", None, (Certainty.LOWER_BOUND, 40, 40), (0, 0, 60, 0)),
        ("lease-a", None, (Certainty.NONE, 0, 0), (0, 0, 0, 0)),
    ],
)
def test_what_nobody_knows_is_counted_by_its_cause(
    at: RedisLedger, clock: Clock, id_: str, end: Any, later: Any, uncertain: tuple[int, ...]
) -> None:
    asked = reservation(id_, claim(fixed=100, per_million=0))
    answer = at.reserve(asked)

    def settle(how: Certainty, amount: int, known: int) -> None:
        ended = settlement(asked, answer, amount, how)
        at.settle(replace(ended, used=(replace(ended.used[0], known=known),)))

    if end is not None:
        settle(*end)
    clock.us += (LIFE_MS + 1) * 1000
    for _ in range(2):
        (room,) = at.rooms(ACME, [Used("c", DAY, 0, most=1000)])
    if later is not None:
        at.reserve(reservation("other", claim(fixed=0, per_million=0)))  # finds it expired
        settle(*later)
        (room,) = at.rooms(ACME, [Used("c", DAY, 0, most=1000)])
    assert room.uncertain == uncertain
    known = (later or end or (None, 0, 0))[2]
    assert room.used - sum(room.uncertain) == known


def test_a_settled_request_holds_nothing_again(at: RedisLedger) -> None:
    asked = reservation("q1", claim())
    first = at.reserve(asked)
    assert at.reserve(asked) == first
    at.settle(settlement(asked, first, 40))
    late = at.reserve(asked)  # as one that Redis gets only now
    assert (late.refused, late.rooms[0].used, late.rooms[0].held) == (None, 40, 0)


def test_what_was_never_reserved_is_charged_all_the_same(at: RedisLedger, clock: Clock) -> None:
    asked = reservation("q1", claim(), claim("tpm", window=MINUTE), requests(3))
    answer = LocalLedger().reserve(asked)
    rooms = at.settle(settlement(asked, answer, [40, 50, 1]))
    assert [room.used for room in rooms] == [40, 50, 0]  # requests are counted when they come, or never


def test_a_long_reply_counts_from_its_end_on(at: RedisLedger, clock: Clock) -> None:
    asked = reservation("q1", tokens := claim("tpm", window=MINUTE, most=200))
    answer = at.reserve(asked)
    clock.us += 80_000_000
    at.settle(settlement(asked, answer, 1000))
    refused = at.reserve(reservation("q2", tokens, worst=10))
    assert (refused.refused, refused.rooms[0].used) == (Refused.EXHAUSTED, 900)
    assert refused.rooms[0].reset_ms == clock.us // 1000 + 60_000
    clock.us += 60_000_000
    assert at.reserve(reservation("q3", tokens, worst=10)).refused is None


def test_what_counts_no_longer_is_taken_from_nobody(at: RedisLedger, clock: Clock) -> None:
    early = reservation("q1", tokens := claim("tpm", window=MINUTE))
    answer = at.reserve(early)
    clock.us += 61_000_000
    assert at.reserve(reservation("q2", tokens, worst=30)).rooms[0].used == 30
    assert at.settle(settlement(early, answer, 1))[0].used == 30


def test_a_sum_that_is_lost_is_at_least_what_is_held(
    at: RedisLedger, clock: Clock, store: redis.Redis
) -> None:
    at.reserve(reservation("q1", claim()))
    store.hset(key(claim(), clock.us // 1000), "u", "garbage")
    assert at.reserve(reservation("q2", claim(), worst=1)).rooms[0].held == 101


def test_held_and_exhausted_are_told_apart(at: RedisLedger) -> None:
    asked = reservation("q1", claim(most=100))
    answer = at.reserve(asked)
    assert at.reserve(reservation("q2", claim(most=100), worst=1)).refused is Refused.HELD
    at.settle(settlement(asked, answer, 100))
    assert at.reserve(reservation("q2", claim(most=100), worst=1)).refused is Refused.EXHAUSTED


def test_max_tokens_shrinks_to_what_fits_all_claims(at: RedisLedger) -> None:
    shrinking = {"on_tight": OnTight.SHRINK, "min_tokens": 5, "fixed": 10}
    one = claim("one", most=70, **shrinking)
    two = claim("two", most=100, per_million=2_500_000, **shrinking)
    whole = claim("whole", most=36)  # refuses, but fits what the others leave
    answer = at.reserve(reservation("q1", one, two, whole, worst=4000))
    assert (answer.refused, answer.max_tokens) == (None, 36)
    assert [room.held for room in answer.rooms] == [46, 100, 36]
    assert at.reserve(reservation("q2", one, worst=4000)).max_tokens == 14
    assert at.reserve(reservation("q3", one, worst=4000)).refused is Refused.HELD


@pytest.mark.parametrize("most", [0, 1, 10**15, AMOUNT_MAX])
@pytest.mark.parametrize("per_million", [1, 999_999, 75 * 10**9, 10**15])
def test_large_amounts_are_exact_or_refused(at: RedisLedger, most: int, per_million: int) -> None:
    asked = reservation("q1", claim(most=most, per_million=per_million), worst=1_000_003)
    ours = LocalLedger().reserve(asked)
    assert at.reserve(asked) == ours
    assert ours.rooms[0].used + ours.rooms[0].held <= most


def test_a_raise_counts_until_it_ends(at: RedisLedger, clock: Clock, store: redis.Redis) -> None:
    store.hset(raises_key(ACME), "c", f"50 {clock.us // 1000 + 1000}")
    store.hset(raises_key(ACME), "other", "garbage")
    assert at.reserve(reservation("q1", claim(most=60))).rooms[0].most == 110
    assert at.reserve(reservation("q2", claim("other", most=60))).rooms[0].most == 60
    clock.us += 1_000_000
    assert at.reserve(reservation("q3", claim(most=60), worst=1)).refused is Refused.HELD
    assert at.rooms(ACME, [Used("c", DAY, 0, most=60)])[0].most == 60


def test_what_a_raise_let_through_is_held_and_spent_beyond_its_end(
    at: RedisLedger, clock: Clock, store: redis.Redis
) -> None:
    store.hset(raises_key(ACME), "c", f"50 {clock.us // 1000 + 1000}")
    one = claim(most=60, fixed=100, per_million=0)
    asked = reservation("q1", one)
    answer = at.reserve(asked)
    assert answer.refused is None
    clock.us += 1_000_000
    small = claim(most=60, fixed=1, per_million=0)
    (room,) = at.rooms(ACME, [Used("c", DAY, 0, most=60)])
    assert (room.used, room.held, room.most) == (0, 100, 60)
    assert at.reserve(reservation("q2", small)).refused is Refused.HELD
    assert (
        at.settle(settlement(asked, answer, 90))[0].used,
        at.reserve(reservation("q3", small)).refused,
    ) == (90, Refused.EXHAUSTED)
    # Of one that asks for less than was left there is room again when it is given back.
    again = reservation("q4", claim("d", most=60, fixed=60, per_million=0))
    given = at.reserve(again)
    at.settle(settlement(again, given, 10))
    assert at.reserve(reservation("q5", claim("d", most=60, fixed=50, per_million=0))).refused is None


def test_rooms_are_read_without_being_changed(at: RedisLedger, clock: Clock, store: redis.Redis) -> None:
    asked = reservation("q1", claim(), claim("tpm", window=MINUTE))
    answer = at.reserve(asked)
    counters = [Used(c.counter, c.window, 0, c.counted, c.most) for c in asked.claims]
    assert at.rooms(ACME, counters) == answer.rooms
    clock.us += 2 * LIFE_MS * 1000
    before = dump(store)
    assert [(room.used, room.held) for room in at.rooms(ACME, counters)] == [(100, 0), (0, 0)]
    assert dump(store) == before


def test_a_clock_that_is_set_back_holds_nothing_for_longer(at: RedisLedger, clock: Clock) -> None:
    asked = reservation("q1", claim(), lifetime_ms=3_600_000)
    at.reserve(asked)
    clock.us -= 7_200_000_000
    assert at.reserve(reservation("q2", claim(), worst=1)).rooms[0].held == 101
    clock.us += 3_600_000_000
    assert at.reserve(reservation("q3", claim(), worst=1)).rooms[0].held == 1


# -- what isn't ours ---------------------------------------------------------------------------------------

GARBAGE = [b"", b"x", b"-1", b"1e400", b"nan", b"inf", b"0x10", b"9" * 400, b"\xff" * 28, b"1 2 3"]


@pytest.mark.parametrize("garbage", GARBAGE)
@pytest.mark.parametrize("field", ["l", "u", "h", "d", "rq1", "rq9", "zzz"])
def test_what_cannot_be_read_counts_as_none(
    at: RedisLedger, clock: Clock, store: redis.Redis, field: str, garbage: bytes
) -> None:
    both = claim(), claim("tpm", window=MINUTE)
    for one in both:
        store.hset(key(one, clock.us // 1000), field, garbage)
    asked = reservation("q1", *both)
    answer = at.reserve(asked)
    assert (answer.refused, answer.rooms[0].used + answer.rooms[0].held) == (None, 100)
    at.settle(settlement(asked, answer, 50))
    clock.us += 60_000_000
    last = at.reserve(reservation("q2", *both, worst=10))
    assert [room.used + room.held for room in last.rooms] == [60, 10]


def test_a_key_of_another_type_concerns_its_tenant_alone(ledger: RedisLedger, store: redis.Redis) -> None:
    now_ms = ledger.reserve(reservation("q0", claim())).now_ms
    store.flushall()
    store.lpush(key(claim(), now_ms), "foreign")
    with pytest.raises(NotCountedError, match="WRONGTYPE"):
        ledger.reserve(reservation("q1", claim(), requests(3)))
    assert store.keys() == [key(claim(), now_ms).encode()]
    assert ledger.reserve(reservation("q1", claim(), tenant=TenantId("globex"))).refused is None


def test_a_full_redis_counts_nothing(ledger: RedisLedger, store: redis.Redis) -> None:
    store.config_set("maxmemory-policy", "noeviction")
    store.config_set("maxmemory", "1")
    try:
        with pytest.raises(NotCountedError):
            ledger.reserve(reservation("q1", *EVERY))
        assert store.keys() == []
    finally:
        store.config_set("maxmemory", "256mb")
        store.config_set("maxmemory-policy", "allkeys-lru")


def test_a_script_that_redis_forgot_is_sent_again(ledger: RedisLedger, store: redis.Redis) -> None:
    ledger.reserve(reservation("q1", claim()))
    store.script_flush()
    assert ledger.reserve(reservation("q2", claim())).rooms[0].held == 200


def packed(*numbers: int) -> bytes:
    return b"".join(n.to_bytes(8, signed=True) for n in numbers)


@pytest.mark.parametrize(
    "answer",
    [
        None,
        b"x",
        [],
        1,
        [0, 5, 1, 0, 0, 1, 1, 1, 1],
        packed(),
        packed(0, 5, 1, 0),
        packed(0, 5, 1, 0, 0, 1, 1, 1),
        packed(7, 5, 1, 0, 0, 1, 1, 1, 1),
        packed(1, 5, 1, 0, 0, 1, 1, 1, 1),  # refused by none
        packed(0, 5, 1, 0, 0, -1, 1, 1, 1),
    ],
)
def test_an_answer_that_is_none_is_no_decision(answer: Any) -> None:
    assert redis_ledger._reserved(answer, 1) is None
    assert redis_ledger._reserved(packed(1, 5, 1, 0, 1, 1, 1, 1, 1), 1) is not None
    assert redis_ledger._settled(answer, 3) is None
    assert redis_ledger._read(answer, 3) is None


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


def counts(ledger: RedisLedger, number: int = 0) -> bool:
    try:
        return ledger.reserve(reservation(f"n{number}", claim())).refused is None
    except NotCountedError:
        return False


def test_a_redis_that_is_killed_and_comes_back(tmp_path: Path, lines: list[str]) -> None:
    server = RedisServer(tmp_path)
    server.start()
    try:
        made = RedisLedger(connect(RedisConfig(port=server.port, timeout_ms=1000)))
        assert counts(made)
        server.kill()
        assert not any(counts(made) for _ in range(20))
        assert lines == ["rate limits can't be counted"]
        server.start()
        until(lambda: counts(made), bool, what="counted")
        assert lines == ["rate limits can't be counted", "rate limits are counted again"]
    finally:
        server.stop()


def test_a_redis_that_stands_still_costs_a_few_time_outs(
    redis_server: RedisServer, store: redis.Redis, sent: list[str]
) -> None:
    made = RedisLedger(connect(RedisConfig(port=redis_server.port, timeout_ms=15)))
    pid = int(store.info("server")["process_id"])
    until(lambda: counts(made), bool, what="counted")
    os.kill(pid, signal.SIGSTOP)
    try:
        sent.clear()
        while not any(breaker.open for breaker in made._breakers.values()):
            assert not counts(made)
            assert len(sent) <= 3
        (breaker,) = made._breakers.values()
        breaker.pause_s = 1000.0  # or one tries meanwhile, if the machine is slow
        breaker.failed(time.monotonic())
        sent.clear()
        assert not any(counts(made) for _ in range(50))
        assert sent == []
        breaker.pause_s = 0.0
        breaker.failed(time.monotonic())
    finally:
        os.kill(pid, signal.SIGCONT)
    until(lambda: counts(made), bool, what="counted")


class Late(socketserver.ThreadingTCPServer):
    """Redis behind a network that, while `slow`, gives no answer to a script that it has brought there."""

    daemon_threads = True

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", 0), _Line)
        self.redis_port, self.slow, self.unheard = port, False, 0
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def __exit__(self, *args: object) -> None:
        self.shutdown()
        super().__exit__(*args)


class _Line(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        late: Any = self.server
        with socket.create_connection(("127.0.0.1", late.redis_port)) as line:
            while asked := self.request.recv(1 << 16):
                line.sendall(asked)
                answer = line.recv(1 << 16)
                if late.slow and b"EVALSHA" in asked:
                    late.unheard += 1
                else:
                    self.request.sendall(answer)


def test_what_a_slow_redis_has_done_and_nobody_heard_of_is_given_back(
    redis_server: RedisServer, store: redis.Redis, sent: list[str]
) -> None:
    one = claim(most=1000, fixed=10, per_million=0)
    rule_ = Rule(
        name="c", counted=one.counted, most=1000, window=DAY, on_store_down=OnStoreDown.CLOSED, budget=True
    )
    with Late(redis_server.port) as late:
        made = RedisLedger(connect(RedisConfig(port=late.server_address[1], timeout_ms=200)))
        leases = Leases(made)
        limits = Limits(made, leases=leases)

        def ask(number: int) -> bool:
            try:
                limits.reserve(reservation(f"n{number}", one), [Held("c", "", one, hold=10, source=rule_)])
            except NotCountedError:
                return False
            return True

        until(lambda: ask(0), bool, what="counted")
        late.slow = True
        sent.clear()
        number = 0
        while not any(breaker.open for breaker in made._breakers.values()):
            assert not ask(number := number + 1)
        (breaker,) = made._breakers.values()
        breaker.pause_s = 1000.0
        breaker.failed(time.monotonic())
        assert late.unheard
        assert limits.flush(5)
        sent.clear()
        assert not any(ask(number := number + 1) for _ in range(20))
        assert sent == []
        late.slow, breaker.pause_s = False, 0.0
        breaker.failed(time.monotonic())
        until(leases.step, lambda _: not leases._pending, what="all given back")
        (room,) = made.rooms(ACME, [Used("c", DAY, 0, most=1000)])
        assert (room.used, room.held) == (0, 10)
        leases.close()


def test_what_is_final_leaves_nothing_by_its_id(ledger: RedisLedger, store: redis.Redis) -> None:
    asks = [reservation(f"q{i}", requests(3), final=True) for i in range(4)]
    assert [ledger.reserve(asked).refused for asked in asks] == [None, None, None, Refused.EXHAUSTED]
    (key,) = store.keys("*")
    assert not [name for name in store.hkeys(key) if name.startswith(b"r")]
    assert 0 < store.pttl(key) <= 120_000


def test_what_a_killed_process_held_without_redis_is_held_for_its_requests(
    ledger: RedisLedger, tmp_path: Path
) -> None:
    notes = LeaseNotes(tmp_path)
    dead = Leases(ledger, notes)
    one = claim(most=10_000, fixed=10, per_million=0)
    asked = reservation("counted", one, lifetime_ms=60_000)
    dead.note(asked, ledger.reserve(asked), [0])
    dead.step()
    passing = [reservation(f"q{i}", one, lifetime_ms=60_000) for i in range(3)]
    answers = [dead.reserve(each) for each in passing]  # as without Redis
    dead._thread.stop()
    os.close(notes._fd)  # as its death does
    ledger.settle(settlement(passing[0], answers[0], 7))  # its end came before
    for _ in range(2):
        living = Leases(ledger, LeaseNotes(tmp_path))
        living.step()
        (room,) = ledger.rooms(ACME, [Used("c", DAY, 0, most=1000)])
        assert (room.used, room.held, sum(room.uncertain)) == (7, 10 + 2 * 10, 0)
    for each, answer in zip(passing, answers, strict=True):
        ledger.settle(settlement(each, answer, 7))
    (room,) = ledger.rooms(ACME, [Used("c", DAY, 0, most=1000)])
    assert (room.used, room.held) == (21, 10)
