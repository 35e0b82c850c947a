"""Health and switches over a real Redis: several processes, forged records, a Redis that goes away; the commands."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from tenantgate.cli import build_parser
from tenantgate.devhost.redis_server import RedisServer
from tenantgate.errors import ConfigError, EdgeError, TenantgateError
from tenantgate.policy.core.records import ModelPolicy, Routing, Target
from tenantgate.routing.core.circuit import State, state_of
from tenantgate.routing.core.health import Health, Result, with_result, write_health
from tenantgate.routing.core.provider_limits import Allowance, Limits
from tenantgate.routing.core.share import Use
from tenantgate.routing.core.switches import Switch
from tenantgate.routing.in_flight import InFlight
from tenantgate.routing.records import RoutingRecords
from tenantgate.routing.registry import Deployment, Registry
from tenantgate.routing.service import Attempt, Route, Router
from tenantgate.routing.stored import SWITCHES, health_key, probe_key, seal_switch, sealer, switch_field
from tenantgate.store.config import RedisConfig
from tenantgate.store.redis_nodes import Nodes, connect
from tenantgate.tenant import TenantId

KEY = "key-of-the-tests-key-of-the-tests"
KEYS, FOREIGN = sealer(KEY), sealer("another-key-another-key-another-key")
ABOUT = {"provider": "openai", "model": "gpt-4o", "host": ""}
NOW = 1_800_000_000.0


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def nodes(redis_server: RedisServer, store: redis.Redis) -> Iterator[Nodes]:
    made = connect(RedisConfig(port=redis_server.port), timeout_ms=5000)
    yield made
    made.close()


class Process:
    """One engine process' registry, with one deployment."""

    def __init__(self, nodes: Nodes | None, clock: Clock, **more: Any) -> None:
        self.registry = Registry(nodes, KEYS, background=False, clock=clock, **more)
        self.clock = clock
        self.deployment: Deployment = self.registry.deployment(b"openai gpt-4o key-a", ABOUT)
        self.registry.seen([self.deployment], clock.now)

    def fails(self, times: int = 1, outcome: str = "http_500", **more: Any) -> None:
        for _ in range(times):
            self.registry.learn(self.deployment, Result(outcome, self.clock.now, **more))

    def sync(self) -> None:
        self.registry.synchronise()

    @property
    def state(self) -> State:
        circuit = self.deployment.health.circuit
        return state_of(circuit, max_fails=3, fail_timeout_s=10.0, now=self.clock.now)


def test_failures_of_several_processes_are_in_one_row(nodes: Nodes, clock: Clock) -> None:
    a, b, c = (Process(nodes, clock) for _ in range(3))
    a.fails(2)
    a.sync()
    b.fails(1)
    assert (a.state, b.state) == (State.CLOSED, State.CLOSED)
    b.sync()
    assert b.state is State.OPEN
    for process in (a, c):
        process.sync()
        assert process.state is State.OPEN


def test_a_success_anywhere_closes_it_everywhere(nodes: Nodes, clock: Clock) -> None:
    a, b = Process(nodes, clock), Process(nodes, clock)
    a.fails(3)
    a.sync()
    b.sync()
    b.registry.learn(b.deployment, Result("ok", clock.now + 1, first_byte_s=0.1))
    b.sync()
    a.sync()
    assert a.deployment.health.circuit.failures == 0


def test_both_writes_count_where_two_processes_write_at_once(
    nodes: Nodes, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = Process(nodes, clock), Process(nodes, clock)
    seal = KEYS.seal
    meanwhile = [b.sync]

    def seal_late(*args: Any, **more: Any) -> bytes:
        sealed = seal(*args, **more)
        if meanwhile:
            meanwhile.pop()()  # between the reading and the writing of the other
        return sealed

    a.fails(2)
    b.fails(1)
    monkeypatch.setattr(KEYS, "seal", seal_late)
    a.sync()
    assert a.deployment.health.circuit.failures == 3
    b.sync()
    assert b.deployment.health.circuit.failures == 3


def test_one_process_at_a_time_may_try_again(nodes: Nodes, clock: Clock) -> None:
    many = [Process(nodes, clock) for _ in range(4)]
    many[0].fails(3)
    for process in many:
        process.sync()
    clock.now += 13

    def allowed() -> list[Process]:
        found = []
        for process in many:
            process.registry.may_probe(process.deployment, clock.now)
            process.sync()
            found += [process] if process.registry.may_probe(process.deployment, clock.now) else []
        return found

    (first,) = allowed()
    assert allowed() == [first]
    first.registry.probe(first.deployment, clock.now, clock.now + 60)
    for _ in range(10):  # the try lasts longer than a lease
        clock.now += 2
        assert allowed() == []
    many.remove(first)  # and its process is gone
    clock.now += 5
    (second,) = allowed()
    second.registry.probe(second.deployment, clock.now, clock.now + 60)
    clock.now += 1
    many[0].registry.learn(many[0].deployment, Result("ok", clock.now))  # its end is heard by another process
    for process in many:
        process.sync()
    for process in many:
        process.sync()
        assert process.state is State.CLOSED
        assert process.deployment.probing == 0


def test_a_process_without_requests_leaves_the_try_to_others(nodes: Nodes, clock: Clock) -> None:
    idle, busy = Process(nodes, clock), Process(nodes, clock)
    idle.fails(3)
    idle.sync()
    busy.sync()
    clock.now += 13
    idle.sync()
    assert not busy.registry.may_probe(busy.deployment, clock.now)
    busy.sync()
    assert busy.registry.may_probe(busy.deployment, clock.now)


def forged_health() -> Health:
    health = Health()
    for _ in range(9):
        health = with_result(health, Result("http_401", NOW, wait_s=300.0))
    return health


@pytest.mark.parametrize("kind", ["noise", "other key", "other place"])
def test_forged_health_counts_for_nothing(nodes: Nodes, clock: Clock, store: redis.Redis, kind: str) -> None:
    a = Process(nodes, clock)
    key = health_key(a.deployment.digest)
    raw = write_health(forged_health(), ABOUT)
    sealed = {
        "noise": b"\0" * 50,
        "other key": FOREIGN.seal(raw, key=key.encode()),
        "other place": KEYS.seal(raw, key=health_key("0" * 32).encode()),
    }[kind]
    store.set(key, sealed)
    a.sync()
    assert a.state is State.CLOSED
    a.fails(3)
    a.sync()
    b = Process(nodes, clock)
    b.sync()
    assert b.state is State.OPEN  # what was forged is written over


def test_a_forged_lease_keeps_nobody_from_trying(nodes: Nodes, clock: Clock, store: redis.Redis) -> None:
    a = Process(nodes, clock)
    a.fails(3)
    a.sync()
    clock.now += 13
    key = probe_key(a.deployment.digest)
    for value in (b"mine", FOREIGN.seal(b'["x",9e9]', key=key.encode())):
        store.set(key, value)
        a.deployment.leased = 0.0
        a.registry.may_probe(a.deployment, clock.now)
        a.sync()
        assert a.registry.may_probe(a.deployment, clock.now)


def test_values_of_another_type_keep_nothing_else_from_being_shared(
    nodes: Nodes, clock: Clock, store: redis.Redis
) -> None:
    a, b = Process(nodes, clock), Process(nodes, clock)
    other = [p.registry.deployment(b"another", ABOUT) for p in (a, b)]
    for process, deployment in zip((a, b), other, strict=True):
        process.registry.seen([deployment], clock.now)
    store.set(SWITCHES, "x")
    store.lpush(health_key(a.deployment.digest), "x")
    a.fails(3)
    for _ in range(3):
        a.registry.learn(other[0], Result("error", clock.now))
    a.sync()
    b.sync()
    assert (a.state, b.state) == (State.OPEN, State.CLOSED)
    assert other[1].health.circuit.failures == 3


def test_events_wait_for_redis(nodes: Nodes, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    a = Process(nodes, clock)
    a.fails(outcome="http_401")
    with monkeypatch.context() as patched:
        patched.setattr(
            redis.client.Pipeline, "execute", lambda *_, **__: (_ for _ in ()).throw(redis.TimeoutError)
        )
        with pytest.raises(redis.TimeoutError):
            a.sync()
    a.sync()
    assert [e["event"] for e in RoutingRecords(nodes, KEYS).events()] == ["credential_refused"]


def test_without_redis_a_process_goes_by_what_it_knows(
    nodes: Nodes, clock: Clock, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = Process(nodes, clock), Process(nodes, clock)
    a.fails(1)
    a.sync()

    def gone(*_: Any, **__: Any) -> Any:
        raise redis.ConnectionError

    with monkeypatch.context() as patched:
        patched.setattr(a.registry._nodes, "ask", gone)
        a.fails(2)
        with pytest.raises(redis.ConnectionError):
            a.registry._step()
        assert a.state is State.OPEN
        clock.now += 13
        assert a.registry.may_probe(a.deployment, clock.now)  # nobody to ask
    a.registry._step()
    b.sync()
    assert b.deployment.health.circuit.failures == 3  # what waited is written


def test_a_redis_that_lost_everything_resets_no_process(
    nodes: Nodes, clock: Clock, store: redis.Redis
) -> None:
    a = Process(nodes, clock)
    a.fails(3)
    a.sync()
    switch(store, "openai")
    a.sync()
    store.flushall()
    a.sync()
    assert a.state is State.OPEN
    assert a.registry.drained_until("acme", "openai/gpt-4o", clock.now) is not None


def test_use_by_tenants_is_shared_once_a_limit_is_known(
    nodes: Nodes, clock: Clock, store: redis.Redis
) -> None:
    a, b = Process(nodes, clock), Process(nodes, clock)
    a.registry.use(a.deployment, "acme", Use(requests=1), clock.now)
    a.sync()
    assert store.get(health_key(a.deployment.digest)) is None
    a.registry.learn(
        a.deployment, Result("ok", clock.now, limits=Limits(Allowance(9, 10, clock.now, clock.now + 60)))
    )
    a.sync()
    clock.now += 2
    b.registry.use(b.deployment, "globex", Use(requests=2), clock.now)
    b.sync()
    b.registry.use(b.deployment, "globex", Use(requests=1), clock.now)
    clock.now += 2
    b.sync()
    a.sync()
    assert {tag: use.requests for tag, use in a.deployment.health.uses.by_tenant.items()} == {
        "acme": 1, "globex": 3,
    }  # fmt: skip
    assert a.deployment.health.limits.requests == b.deployment.health.limits.requests is not None


def test_use_of_a_minute_that_is_over_is_shared_no_more(nodes: Nodes, clock: Clock) -> None:
    a, b = Process(nodes, clock), Process(nodes, clock)
    a.registry.use(a.deployment, "acme", Use(requests=500), clock.now)
    a.sync()
    clock.now += 60
    told = Limits(Allowance(9, 10, clock.now, clock.now + 60))
    a.registry.learn(a.deployment, Result("ok", clock.now, limits=told))
    a.sync()
    b.sync()
    assert "acme" not in b.deployment.health.uses.by_tenant
    a.registry.use(a.deployment, "acme", Use(requests=1), clock.now)
    clock.now += 2
    a.sync()
    b.sync()
    assert b.deployment.health.uses.by_tenant["acme"].requests == 1


# -- switches --------------------------------------------------------------------------------------------


def switch(store: redis.Redis, scope: str, *, drained: bool = True, keys: Any = KEYS, **more: Any) -> None:
    made = Switch(**{"scope": scope, "drained": drained, "reason": "r", "by": "ann", "created": NOW, **more})
    field = switch_field(KEYS, scope, made.tenant)
    store.hset(SWITCHES, field, seal_switch(keys, field, made))


def test_forged_switches_count_for_nothing(nodes: Nodes, clock: Clock, store: redis.Redis) -> None:
    a = Process(nodes, clock)
    switch(store, "openai", keys=FOREIGN)
    store.hset(SWITCHES, "x", b"noise")
    field = switch_field(KEYS, "anthropic", None)
    made = Switch(scope="openai", drained=True, reason="r", by="ann", created=NOW)
    store.hset(SWITCHES, field, seal_switch(KEYS, field, made))  # moved to another's place
    a.sync()
    assert a.registry.switches == ()


def test_an_older_switch_that_is_brought_back_is_none(nodes: Nodes, clock: Clock, store: redis.Redis) -> None:
    a = Process(nodes, clock)
    switch(store, "openai")
    old = store.hgetall(SWITCHES)
    a.sync()
    switch(store, "openai", drained=False, created=NOW + 5)
    a.sync()
    assert a.registry.drained_until("acme", "openai/x", NOW) is None
    store.hset(SWITCHES, mapping=old)
    a.sync()
    assert a.registry.drained_until("acme", "openai/x", NOW) is None


def test_the_last_word_is_the_last_whatever_the_clocks_say(nodes: Nodes, store: redis.Redis) -> None:
    records = RoutingRecords(nodes, KEYS)
    ahead = time.time() + 600
    records.set(Switch(scope="openai", drained=True, reason="r", by="ann", created=ahead))
    records.set(Switch(scope="openai", drained=False, by="bob", created=time.time()))
    assert records.switches() == []
    registry, _, _ = engine(nodes)
    registry.synchronise()
    assert registry.drained_until("acme", "openai/x", ahead) is None


class Cli:
    """The command, with Redis and the key in its environment."""

    def __init__(self, port: int, capsys: pytest.CaptureFixture[str]) -> None:
        self._url, self._capsys = f"redis://127.0.0.1:{port}/0", capsys

    def __call__(self, *args: str) -> str:
        parsed = build_parser().parse_args(["providers", *args, "--redis-url", self._url])
        self._capsys.readouterr()
        assert parsed.func(parsed) == 0
        return self._capsys.readouterr().out


@pytest.fixture
def run(
    redis_server: RedisServer,
    store: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Cli:
    monkeypatch.setenv("TENANTGATE_CACHE_KEY", KEY)
    return Cli(redis_server.port, capsys)


def engine(nodes: Nodes) -> tuple[Registry, Router, Route]:
    registry = Registry(nodes, KEYS, background=False)
    router = Router(registry, InFlight(None))
    targets = tuple(
        Target(provider="openai", name=n.partition("/")[2], id=n)
        for n in ("openai/a", "openai/b", "mistral/c")
    )
    terms = Routing()
    model = ModelPolicy(provider="tenantgate", model="smart", route_name="r", targets=targets, routing=terms)
    return registry, router, router.route(model, terms)


def test_drain_and_restore(nodes: Nodes, run: Cli) -> None:
    registry, router, route = engine(nodes)

    def order(tenant: str = "acme") -> list[str]:
        registry.synchronise()
        choice = router.choose(route, TenantId(tenant), None, headers={}, size=0)
        return [target.id for target in choice.targets]

    assert run("drain", "openai/a", "--reason", "slow", "--by", "ann").startswith("openai/a drained\n")
    assert order() == ["openai/b", "mistral/c"]
    assert " until 20" in run("drain", "openai", "--reason", "outage", "--until", "2h", "--tenant", "globex")
    assert (order(), order("globex")) == (["openai/b", "mistral/c"], ["mistral/c"])
    run("restore", "openai/b", "--tenant", "globex")
    assert order("globex") == ["openai/b", "mistral/c"]
    shown = run("status")
    assert "drained: openai/a until restored, by ann: slow\n" in shown
    assert "drained: openai for tenant globex until 20" in shown
    run("restore", "openai", "--by", "bob")
    assert (order(), order("globex")) == (["openai/a", "openai/b", "mistral/c"],) * 2
    assert run("status").startswith("nothing is drained")
    kinds = [json.loads(line)["event"] for line in run("events", "--json").splitlines()]
    assert kinds == ["restored", "restored", "drained", "drained"]
    assert "reason=''" not in run("events")


def test_a_restoration_of_what_isnt_drained_is_an_error(run: Cli) -> None:
    with pytest.raises(ConfigError, match="isn't drained"):
        run("restore", "openai")


def test_status_shows_health(nodes: Nodes, run: Cli) -> None:
    registry, router, route = engine(nodes)
    router.choose(route, TenantId("acme"), None, headers={}, size=0)
    limits = {"x-ratelimit-remaining-requests": "7", "x-ratelimit-limit-requests": "7"}
    router.ended(route, [Attempt("openai/b", "ok", 120, limits)], {})
    for _ in range(3):
        router.ended(route, [Attempt("openai/a", "timeout", 0, {})], {})
    registry.synchronise()
    targets = {t["target"]: t for t in json.loads(run("status", "--json"))["targets"]}
    assert set(targets) == {"openai/a", "openai/b"}
    assert (targets["openai/b"]["state"], targets["openai/b"]["requests_left"]) == ("closed", 7)
    assert targets["openai/b"]["reply_ms"] == 120
    assert (targets["openai/a"]["state"], targets["openai/a"]["cause"]) == ("open", "timeout")
    assert 0 < targets["openai/a"]["back_in_s"] <= 12.5
    assert "target=openai/a" in run("status")


def test_a_refused_credential_is_an_event(nodes: Nodes, run: Cli) -> None:
    registry, router, route = engine(nodes)
    router.ended(route, [Attempt("openai/a", "http_401", 9, {}), Attempt("openai/b", "ok", 9, {})], {})
    registry.synchronise()
    (event,) = [json.loads(line) for line in run("events", "--json").splitlines()]
    assert (event["event"], event["provider"], event["model"]) == ("credential_refused", "openai", "a")
    assert "vault" not in str(event)


@pytest.mark.parametrize(
    ("args", "problem"),
    [
        (["drain", "openai", "--reason", "r", "--until", "soon"], "--until"),
        (["drain", "openai", "--reason", "r", "--until", "2020-01-01"], "--until"),
        (["drain", " ", "--reason", "r"], "target"),
        (["drain", "openai", "--reason", " "], "--reason"),
        (["drain", "openai", "--reason", "r", "--by", " "], "--by"),
    ],
)
def test_what_the_command_refuses(run: Cli, args: list[str], problem: str) -> None:
    with pytest.raises(TenantgateError, match=problem):
        run(*args)


def test_a_foreign_key_drains_nothing(
    nodes: Nodes, run: Cli, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OTHER", "another-key-another-key-another-key")
    run("drain", "openai", "--reason", "r", "--key-env", "OTHER")
    registry, _, _ = engine(nodes)
    registry.synchronise()
    assert registry.switches == ()
    monkeypatch.delenv("TENANTGATE_CACHE_KEY")
    with pytest.raises(ConfigError, match="TENANTGATE_CACHE_KEY"):
        run("status")


def test_no_redis_is_an_error_that_names_no_address() -> None:
    dead = connect(RedisConfig(port=1), timeout_ms=200)
    with pytest.raises(EdgeError, match=r"^redis: ConnectionError$"):
        RoutingRecords(dead, KEYS).switches()
