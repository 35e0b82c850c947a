"""Alerts over a real Redis: one for each step, window and fleet, whoever is killed, and recovery without a request."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import redis

from tenantgate.devhost.redis_server import RedisServer
from tenantgate.errors import EdgeError
from tenantgate.limits.alert_store import MINE_MS, OUTBOX, AlertStore, new_event
from tenantgate.limits.alerts import Alerts
from tenantgate.limits.core.alerting import About, Standing, plan
from tenantgate.limits.core.keys import counter_name, window_key
from tenantgate.limits.core.ledger import Room
from tenantgate.limits.core.raises import Raise
from tenantgate.limits.core.rules import Counted, Do, Rule, Step, Window
from tenantgate.limits.core.windows import window_at
from tenantgate.store.config import RedisConfig
from tenantgate.store.redis_nodes import connect
from tenantgate.telemetry import metrics
from tenantgate.tenant import TenantId

from support import until

ACME, BRAVO = TenantId("acme"), TenantId("bravo")
RULE = Rule(
    name="month",
    counted=Counted.COST,
    most=1000,
    window=Window(unit="month", timezone="Europe/Berlin"),
    steps=(
        Step(at_permille=500, do=Do.NOTIFY),
        Step(at_permille=800, do=Do.DEGRADE),
        Step(at_permille=1000, do=Do.BLOCK),
    ),
    budget=True,
)
NAME = counter_name(RULE, "")
LOOKS = "tg:alerts:1:{gateway}:looks"


@dataclass
class Log:
    """An audit log that may fail."""

    told: list[tuple[str, str, Mapping[str, str]]] = field(default_factory=list)
    failing: bool = False

    def write(self, tenant: TenantId, identifier: str, time_ms: int, values: Mapping[str, str]) -> None:
        assert time_ms > 0
        if self.failing:
            raise EdgeError("journal: not there")
        self.told.append((str(tenant), identifier, values))

    def steps(self, tenant: TenantId = ACME) -> list[str]:
        return [
            f"{v['type']} {v.get('at', '')}"
            for t, _, v in self.told
            if t == str(tenant) and "projected" not in v["type"]
        ]


class Node:
    """A process with alerts; its thread does nothing unless a test starts it."""

    def __init__(self, port: int, log: Log) -> None:
        self.log = log
        self.store = AlertStore(connect(RedisConfig(port=port, timeout_ms=2000)))
        self.alerts = Alerts(self.store)
        self.alerts.stop(5)
        self.alerts.use(log)


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def node(redis_server: RedisServer, store: redis.Redis, log: Log) -> Node:
    return Node(redis_server.port, log)


def spend(
    store: redis.Redis, used: int, *, tenant: TenantId = ACME, held: int = 0, rule: Rule = RULE
) -> Room:
    """The counter as the ledger keeps it."""
    start_ms, end_ms = window_at(rule.window, int(time.time() * 1000))
    key = window_key(tenant, counter_name(rule, ""), rule.window, start_ms)
    store.hset(key, mapping={"u": used + held, "h": held})
    return Room(used, held, rule.most, end_ms)


def test_a_step_is_told_once_by_whichever_node_sees_it(
    redis_server: RedisServer, store: redis.Redis, log: Log
) -> None:
    nodes = [Node(redis_server.port, log) for _ in range(4)]
    for used in (100, 500, 700, 810, 1000):
        room = spend(store, used)

        def see(node: Node, room: Room = room) -> None:
            node.alerts.seen(ACME, RULE, "", room, RULE.window)
            node.alerts.look()

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(see, nodes))
    assert log.steps() == ["threshold_crossed 50%", "threshold_crossed 80%", "budget_crossed 100%"]
    assert len({identifier for _, identifier, _ in log.told}) == len(log.told)
    assert store.hlen("tg:alerts:1:{acme}:events") == 0


def test_what_is_held_is_not_spent(node: Node, store: redis.Redis) -> None:
    node.alerts.seen(ACME, RULE, "", spend(store, 400, held=600), RULE.window)
    node.alerts.look()
    assert node.log.steps() == []


def test_another_tenant_s_budget_of_the_same_name_is_its_own(node: Node, store: redis.Redis) -> None:
    for tenant in (ACME, BRAVO):
        node.alerts.seen(tenant, RULE, "", spend(store, 500, tenant=tenant), RULE.window)
    node.alerts.look()
    assert node.log.steps(ACME) == node.log.steps(BRAVO) == ["threshold_crossed 50%"]


def test_a_raise_without_a_request_is_told_as_recovery_and_the_step_again(
    node: Node, store: redis.Redis
) -> None:
    room = spend(store, 1000)
    node.alerts.seen(ACME, RULE, "", room, RULE.window)
    node.alerts.look()
    node.log.told.clear()
    node.store.set_raise(ACME, NAME, Raise(1000, room.reset_ms))
    node.store.look_at(ACME, NAME, 0)
    node.alerts.look_at_due()
    assert node.log.steps() == ["budget_recovered 80%"]
    node.alerts.seen(ACME, RULE, "", replace(spend(store, 1700), most=2000), RULE.window)
    node.alerts.look()
    assert node.log.steps() == ["budget_recovered 80%", "threshold_crossed 80%"]


def test_the_end_of_a_window_is_told_once_though_nobody_sends_anything(
    redis_server: RedisServer, store: redis.Redis, log: Log
) -> None:
    nodes = [Node(redis_server.port, log) for _ in range(3)]
    about, store_ = About(RULE, "", NAME), nodes[0].store
    seen = store_.read(ACME, about)
    before = Standing(
        900, 1000, seen.standing.start_ms - 1000, seen.standing.start_ms, seen.standing.start_ms - 1
    )
    told = plan(about, seen.state, before)
    assert told is not None
    store_.write(ACME, about, seen, replace(told, standing=replace(before, end_ms=seen.standing.end_ms)))
    store.hset("tg:alerts:1:{acme}:state:" + NAME, "end", before.end_ms)
    store.delete("tg:alerts:1:{acme}:events")
    store_.look_at(ACME, NAME, before.end_ms + 1000)
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda node: node.alerts.look_at_due(), nodes))
    assert log.steps() == ["budget_recovered 50%"]
    assert store.zcard(LOOKS) == 0


def test_a_node_that_is_killed_before_it_told_leaves_it_to_another(
    redis_server: RedisServer, store: redis.Redis, log: Log
) -> None:
    dead, other = Node(redis_server.port, Log()), Node(redis_server.port, log)
    about = About(RULE, "", NAME)
    spend(store, 500)
    seen = dead.store.read(ACME, about)
    made = plan(about, seen.state, seen.standing)
    assert made is not None
    dead.store.look_at(ACME, NAME, seen.standing.now_ms + MINE_MS)
    dead.store.look_at(ACME, OUTBOX, seen.standing.now_ms + MINE_MS)
    assert dead.store.write(ACME, about, seen, made)  # and here it is killed
    other.alerts.look_at_due()
    assert other.log.steps() == [], "it may still do it itself"
    # Half a minute later.
    outbox = "tg:alerts:1:{acme}:events"
    for name, value in store.hgetall(outbox).items():
        store.hset(outbox, name, b"0 " + value.partition(b" ")[2])
    store.zadd(LOOKS, dict.fromkeys(store.zrange(LOOKS, 0, -1), 0))
    other.alerts.look_at_due()
    other.alerts.look_at_due()
    assert other.log.steps() == ["threshold_crossed 50%"]


class Killed(BaseException):
    """As of a process that is killed: nobody catches it."""


class Dying:
    """Redis and the audit log of a node that is killed before one of its calls to them."""

    def __init__(self, node: Node, at: int) -> None:
        self.calls, self._at, self._log = 0, at, node.log
        nodes = node.store._nodes
        self._ask = nodes.ask
        nodes.ask = lambda key, call: self._run(lambda: self._ask(key, call))  # type: ignore[method-assign]
        node.alerts.use(self)
        node.alerts.stop(5)

    def write(self, *event: Any) -> None:
        self._run(lambda: self._log.write(*event))

    def _run(self, call: Callable[[], Any]) -> Any:
        self.calls += 1
        if self.calls == self._at:
            raise Killed
        return call()


def half_a_minute_later(store: redis.Redis) -> None:
    """Nothing is anybody's any more; ends of windows aren't nearer."""
    outbox = "tg:alerts:1:{acme}:events"
    for name, value in store.hgetall(outbox).items():
        store.hset(outbox, name, b"0 " + value.partition(b" ")[2])
    soon = (time.time() + 3600) * 1000
    if due := store.zrangebyscore(LOOKS, "-inf", soon):
        store.zadd(LOOKS, dict.fromkeys(due, 0))


@pytest.mark.parametrize("recovers", [False, True])
def test_wherever_a_node_is_killed_a_step_is_told_once(
    redis_server: RedisServer, store: redis.Redis, recovers: bool
) -> None:
    for at in range(1, 100):
        store.flushall()
        log = Log()
        dead, other = Node(redis_server.port, log), Node(redis_server.port, log)
        told = ["threshold_crossed 50%", "threshold_crossed 80%"]
        # The other has seen the budget before.
        room = spend(store, 900 if recovers else 400)
        other.alerts.seen(ACME, RULE, "", room, RULE.window)
        other.alerts.look()
        if recovers:
            other.store.set_raise(ACME, NAME, Raise(2000, room.reset_ms))
            room, told = replace(room, most=3000), [*told, "budget_recovered 50%"]
        else:
            room = spend(store, 900)
        dying, killed = Dying(dead, at), False
        try:
            dead.alerts.seen(ACME, RULE, "", room, RULE.window)
            dead.alerts.look()
        except Killed:
            killed = True
        half_a_minute_later(store)
        for _ in range(2):
            other.alerts.look_again()
            other.alerts.look_at_due()
        # Between the log and the word that it is there the same event may come twice, under its id.
        once = dict.fromkeys((identifier, f"{v['type']} {v['at']}") for _, identifier, v in log.told)
        assert [step for _, step in once] == told, at
        assert store.hlen("tg:alerts:1:{acme}:events") == 0, at
        if not killed:
            assert dying.calls == at - 1
            return
    pytest.fail("more calls than that?")


def test_a_redis_that_has_lost_a_budget_is_told(node: Node, store: redis.Redis) -> None:
    def lost() -> float:
        return metrics.counter("tenantgate_budget_counters_lost_total", "").value()

    before = lost()
    node.alerts.seen(ACME, RULE, "", spend(store, 400), RULE.window)
    node.alerts.look()
    node.alerts.look_again()
    assert lost() == before
    store.flushall()
    for _ in range(2):
        node.alerts.look_again()
        assert lost() == before + 1
    spend(store, 500)
    node.alerts.look_again()
    assert node.log.steps() == ["threshold_crossed 50%"]
    assert lost() == before + 1


def test_what_the_audit_log_does_not_take_is_told_later(node: Node, store: redis.Redis) -> None:
    node.log.failing = True
    node.alerts.seen(ACME, RULE, "", spend(store, 500), RULE.window)
    node.alerts.look()
    assert node.log.steps() == []
    node.log.failing = False
    node.store.look_at(ACME, OUTBOX, 0)
    node.alerts.look_at_due()
    assert node.log.steps() == ["threshold_crossed 50%"]
    assert store.hlen("tg:alerts:1:{acme}:events") == 0


def test_an_event_of_the_command_line_goes_to_a_node_s_log(node: Node, store: redis.Redis) -> None:
    node.store.announce(ACME, new_event(1, {"type": "budget_raised", "message": "More."}))
    node.store.look_at(ACME, NAME, 0)
    node.alerts.look_at_due()
    assert node.log.steps() == ["budget_raised "]
    assert store.zcard(LOOKS) == 0


def test_a_look_that_somebody_wished_meanwhile_is_not_forgotten(node: Node, store: redis.Redis) -> None:
    node.alerts.seen(ACME, RULE, "", spend(store, 500), RULE.window)
    node.store.look_at(ACME, NAME, 5)
    node.alerts.look()
    assert store.zscore(LOOKS, f'["acme","{NAME}"]') == 5
    ((_, _, mine_until_ms),) = [d for d in node.store.due() if d[1] == NAME]
    node.store.look_at(ACME, NAME, 6)
    node.store.next_look(ACME, NAME, None, instead_of_ms=mine_until_ms)
    assert store.zscore(LOOKS, f'["acme","{NAME}"]') == 6
    node.alerts.look_at_due()
    assert store.zscore(LOOKS, f'["acme","{NAME}"]') > mine_until_ms, "until the window ends"


def test_a_redis_that_is_gone_delays_what_was_seen(
    node: Node, store: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    node.alerts.seen(ACME, RULE, "", spend(store, 500), RULE.window)

    def gone(*_: object) -> None:
        raise redis.ConnectionError

    with monkeypatch.context() as patched:
        patched.setattr(AlertStore, "read", gone)
        with pytest.raises(redis.ConnectionError):
            node.alerts.look()
    node.alerts.look()
    assert node.log.steps() == ["threshold_crossed 50%"]


def test_below_the_next_step_redis_is_not_asked_again(
    node: Node, store: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: Counter[str] = Counter()
    original = AlertStore.read

    def counting(own: AlertStore, tenant: TenantId, about: About) -> object:
        reads["n"] += 1
        return original(own, tenant, about)

    monkeypatch.setattr(AlertStore, "read", counting)
    for used in range(0, 500, 10):
        node.alerts.seen(ACME, RULE, "", spend(store, used), RULE.window)
        node.alerts.look()
    assert reads["n"] <= 2, "once, and once more where a new part of the window has begun"


def test_the_thread_tells_what_is_seen(redis_server: RedisServer, store: redis.Redis, log: Log) -> None:
    alerts = Alerts(AlertStore(connect(RedisConfig(port=redis_server.port, timeout_ms=2000))))
    alerts.use(log)
    alerts.seen(ACME, RULE, "", spend(store, 1000), RULE.window)
    until(log.steps, lambda steps: len(steps) == 3, what="three steps")
    alerts.stop(5)
