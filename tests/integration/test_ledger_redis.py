"""Reservations in a real Redis: decided as in memory, once, in one call, by Redis' own time; and what isn't ours."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

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
    HOUR,
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
from tenantgate.limits.core.keys import raises_key, window_key
from tenantgate.limits.core.ledger import AMOUNT_MAX, Certainty, Claim, NotCountedError, Refused, Used
from tenantgate.limits.core.rules import OnTight, Window
from tenantgate.limits.core.windows import window_at
from tenantgate.limits.local_ledger import LocalLedger
from tenantgate.limits.redis_ledger import RedisLedger
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

        @rule(target=running, asks=claims(), tokens=TOKENS)
        def reserve(self, asks: tuple[Claim, ...], tokens: int) -> Any:
            self.number += 1
            asked = reservation(f"q{self.number}", *asks, worst=tokens)
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
