"""All that speaks to Redis, on a cluster of three nodes: as it is, with a slot that moves, with a node that dies."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hiredis
import pytest
import redis
from redis.crc import key_slot

from audit_rig import Chain
from cache_rig import Rig, status, use_small_models
from ledger_rig import claim, requests, reservation, settlement
from tenantgate.audit.core.chain import verify
from tenantgate.audit.streams import StreamSpool
from tenantgate.cache import service as cache_service
from tenantgate.cache.admin import Admin
from tenantgate.cache.core.partition import Keys
from tenantgate.cli import main
from tenantgate.devhost.redis_server import RedisCluster, free_port
from tenantgate.errors import EdgeError
from tenantgate.guard.core.exemptions import Exemption
from tenantgate.guard.records import GuardRecords, new_id
from tenantgate.guard.registry import Registry
from tenantgate.limits.redis_ledger import RedisLedger
from tenantgate.store import redis_nodes
from tenantgate.store.config import ClusterNode, RedisConfig
from tenantgate.store.redis_nodes import connect
from tenantgate.store.sealing import TenantSealer
from tenantgate.store.url import redis_config
from tenantgate.tenant import TenantId

from support import until

KEY = "key-of-the-tests-key-of-the-tests"
ASKED, ALIKE = "please tell me what a sextant is made of", "please tell me what a sextant is made of now"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    made = RedisCluster(tmp_path_factory.mktemp("cluster"))
    made.start()
    yield made
    made.stop()


@pytest.fixture(autouse=True)
def _fresh(cluster: RedisCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    use_small_models(monkeypatch)
    monkeypatch.setattr(cache_service, "_stores_by_redis", {})
    redis_nodes._maps.clear()
    monkeypatch.setattr(redis_nodes, "_PAUSE_S", 0.02)
    monkeypatch.setenv("TENANTGATE_REDIS_URL", cluster.url)
    monkeypatch.setenv("TENANTGATE_CACHE_KEY", KEY)
    for port in cluster.ports:
        cluster.client(port).flushall()


def config(cluster: RedisCluster, timeout_ms: int = 1000) -> RedisConfig:
    nodes = tuple(ClusterNode(port=port) for port in cluster.ports)
    return RedisConfig(cluster_nodes=nodes, timeout_ms=timeout_ms)


def rig(*ports: int, timeout_ms: int = 1000) -> Rig:
    nodes = [{"ip": "127.0.0.1", "port": port} for port in ports]
    return Rig(0, {"redis": {"cluster_nodes": nodes, "timeout_ms": timeout_ms}})


class Limits:
    """Three requests a day and a budget of each tenant."""

    def __init__(self, cluster: RedisCluster) -> None:
        self.ledger, self._number = RedisLedger(connect(config(cluster, timeout_ms=1000))), 0

    def passed(self, number: int, tenant: TenantId) -> int:
        """How many of so many requests pass; all are settled."""
        return sum(self._passes(tenant) for _ in range(number))

    def _passes(self, tenant: TenantId) -> bool:
        self._number += 1
        asked = reservation(f"q{self._number}", requests(3), claim(), tenant=tenant)
        answer = self.ledger.reserve(asked)
        if answer.refused is None:
            self.ledger.settle(settlement(asked, answer, 1))
        return answer.refused is None


def homes(cluster: RedisCluster) -> list[TenantId]:
    """One tenant for each node, in the order of the nodes' ports."""
    nodes = connect(config(cluster))
    found: dict[str, TenantId] = {}
    for i in range(100):
        found.setdefault(nodes.node(Keys(TenantId(f"t{i}")).index).name, TenantId(f"t{i}"))
    return [found[f"127.0.0.1:{port}/0"] for port in cluster.ports]


def exemption() -> Exemption:
    now = time.time()
    return Exemption(id=new_id(), rule="r", reason="why", by="ann", created=now, until=now + 3600)


def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The commands that this thread sends from now on."""
    sent: list[str] = []
    original: Any = hiredis.pack_command
    own = threading.get_ident()

    def packing(args: tuple[Any, ...]) -> bytes:
        if threading.get_ident() == own:
            sent.append(args[0] if isinstance(args[0], str) else args[0].decode())
        return bytes(original(args))

    monkeypatch.setattr(hiredis, "pack_command", packing)
    return sent


# -- as it is ----------------------------------------------------------------------------------------------


def test_each_tenant_is_served_from_its_own_node_at_both_levels(cluster: RedisCluster) -> None:
    made = rig(free_port(), *cluster.ports)  # the first one named may be gone
    for tenant in homes(cluster):
        assert status(made.ask(ASKED, tenant=tenant.slug)) == "Miss"
        assert status(made.ask(ASKED, tenant=tenant.slug)) == "Hit"
        assert status(made.ask(ALIKE, tenant=tenant.slug)) == "Hit"
    for tenant, port in zip(homes(cluster), cluster.ports, strict=True):
        keys = cluster.client(port).keys()
        assert keys
        assert all(f"{{{tenant.slug}}}".encode() in key for key in keys)


def test_stats_inspect_and_purge_find_the_tenants_node(
    cluster: RedisCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    made = rig(*cluster.ports)
    tenants = homes(cluster)
    for tenant in tenants:
        made.ask(ASKED, tenant=tenant.slug)
    for tenant in tenants:
        assert Admin(redis_config(cluster.url), tenant).stats().entries == 1
    assert main(["cache", "inspect", "--tenant", tenants[1].slug, "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 1
    assert main(["cache", "purge", "--tenant", tenants[1].slug, "--yes"]) == 0
    left = [Admin(redis_config(cluster.url), tenant).stats().entries for tenant in tenants]
    assert left == [1, 0, 1]


def test_exemptions_counts_and_events_of_tenants_on_all_nodes(
    cluster: RedisCluster, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)  # without a tenants.yaml
    tenants, registry = homes(cluster), Registry(config(cluster), background=False)
    for tenant in tenants:
        argv = ["guard", "exempt", "--tenant", tenant.slug, "--rule", "r", "--reason", "x", "--until", "1h"]
        assert main(argv) == 0
        registry.exemptions(tenant, TenantSealer(KEY, tenant), approval=False)
        registry.count(tenant, ["r|alert|hits"])
        registry.event(tenant, {"event": "blocked"})
        registry.example(tenant, "r", b"sealed", most=3)
    capsys.readouterr()
    registry.synchronise()
    for tenant in tenants:
        (found,) = registry.exemptions(tenant, TenantSealer(KEY, tenant), approval=False)
        book = GuardRecords(connect(config(cluster)), tenant, TenantSealer(KEY, tenant))
        assert book.counts(1) == {("r", "alert", "hits"): 1}
        assert [e["event"] for e in book.events()] == ["blocked", "granted"]
        assert book.examples("r") == [b"sealed"]
        assert main(["guard", "revoke", "--tenant", tenant.slug, found.id]) == 0
        assert book.exemptions() == []


def test_the_audit_spool_spreads_over_the_nodes(
    cluster: RedisCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    tenants, chain = homes(cluster), Chain()
    spool = StreamSpool(config(cluster), "n", ["a"], max_records=1000, max_bytes=30_000)
    for _ in range(4):
        for tenant in tenants:
            spool.append(chain.entries(3, tenant, content="x" * 1000))
    spool.set_checkpoint(7)
    assert spool.backlog("a") == 36
    assert spool.trim() > 0
    again = StreamSpool(config(cluster), "n", ["a"], max_records=1000, max_bytes=30_000)
    assert again.heads() == chain.heads
    assert again.checkpoint() == 7
    found = []
    while batch := again.read("a", 5):
        found += [q.record for q in batch]
        again.ack("a", batch)
    report = verify(found)
    assert report.sound
    assert (report.records, report.chains) == (36, 3)
    # The oldest of all tenants, not all of one.
    assert 0 < report.shed < 36
    assert main(["audit", "verify", "--redis-url", cluster.url, "--node", "n"]) == 0
    assert "36 records in 3 chains" in capsys.readouterr().out


def test_what_the_spool_drops_is_noted_on_each_tenants_node(cluster: RedisCluster) -> None:
    tenants, chain = homes(cluster), Chain()
    spool = StreamSpool(config(cluster), "n", ["a"], max_records=1000, max_bytes=12_000, owner="one")
    for _ in range(10):
        for tenant in tenants:
            spool.append(chain.entries(3, tenant))
    got = spool.read("a", 2)
    spool.ack("a", got)
    assert spool.trim() > 30
    left = Counter(q.tenant for q in spool.all())
    gaps = {gap.tenant: gap.numbers for gap in spool.gaps()}
    first = {tenant: 3 if tenant == got[0].tenant else 1 for tenant in tenants}
    assert gaps == {tenant: ((first[tenant], 30 - left[tenant]),) for tenant in tenants}
    spool.reported(spool.gaps()[:1])
    assert len(spool.gaps()) == 2


def test_each_tenants_requests_are_counted_on_its_own_node_in_one_call(
    cluster: RedisCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = Limits(cluster)
    for tenant, port in zip(homes(cluster), cluster.ports, strict=True):
        assert limits.passed(2, tenant) == 2
        counted = calls(monkeypatch)
        assert limits.passed(2, tenant) == 1
        assert counted == ["EVALSHA"] * 3
        assert len(cluster.client(port).keys(f"tg:money:1:{{{tenant.slug}}}:counter:*")) == 2


# -- what changes ------------------------------------------------------------------------------------------


def test_a_slot_that_has_moved_costs_one_more_trip_and_no_map(
    cluster: RedisCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, tenant = rig(*cluster.ports), homes(cluster)[0]
    made.ask(ASKED, tenant=tenant.slug)
    nodes = made.plugin._service._store._nodes
    slot = key_slot(Keys(tenant).index.encode())
    monkeypatch.setattr(nodes._map, "doubt", lambda: None)  # nobody asks for a map
    nodes._map.move(slot, ("127.0.0.1", cluster.ports[2]))
    counted = calls(monkeypatch)
    assert status(made.ask(ASKED, tenant=tenant.slug)) == "Hit"
    assert counted == ["GET", "GET"]
    assert status(made.ask(ASKED, tenant=tenant.slug)) == "Hit"
    assert counted == ["GET"] * 3


def test_the_rate_limits_follow_a_slot_that_has_moved(
    cluster: RedisCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits, tenant = Limits(cluster), homes(cluster)[0]
    assert limits.passed(1, tenant) == 1
    nodes: Any = limits.ledger._nodes
    monkeypatch.setattr(nodes._map, "doubt", lambda: None)
    nodes._map.move(key_slot(Keys(tenant).index.encode()), ("127.0.0.1", cluster.ports[2]))
    assert limits.passed(9, tenant) == 2


def test_guard_and_audit_follow_a_slot_that_has_moved(
    cluster: RedisCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant, chain = homes(cluster)[0], Chain()
    book, registry = (
        GuardRecords(connect(config(cluster)), tenant, TenantSealer(KEY, tenant)),
        Registry(config(cluster), background=False),
    )
    spool = StreamSpool(config(cluster), "n", ["a"], max_records=1000, max_bytes=1 << 30)
    (cache_map,) = redis_nodes._maps.values()
    monkeypatch.setattr(cache_map, "doubt", lambda: None)

    def misled() -> None:
        cache_map.move(key_slot(Keys(tenant).index.encode()), ("127.0.0.1", cluster.ports[2]))

    misled()
    granted = exemption()
    book.grant(granted)
    misled()
    assert book.exemptions() == [granted]
    misled()
    registry.exemptions(tenant, TenantSealer(KEY, tenant), approval=False)
    registry.count(tenant, ["r|alert|hits"])
    with pytest.raises(redis.RedisError):
        registry.synchronise()
    registry.synchronise()  # the next second's
    assert registry.exemptions(tenant, TenantSealer(KEY, tenant), approval=False) == (granted,)
    assert book.counts(1) == {("r", "alert", "hits"): 1}
    misled()
    spool.append(chain.entries(3, tenant))
    misled()
    assert spool.heads() == chain.heads
    misled()
    assert len(spool.read("a", 10)) == 3
    misled()
    assert spool.trim() == 0


def test_a_slot_that_moves_for_good_is_followed(cluster: RedisCluster) -> None:
    tenant = TenantId("mover")
    nodes = connect(config(cluster))
    home = nodes.node(Keys(tenant).index)
    other = next(port for port in cluster.ports if f":{port}/" not in home.name)
    slot = key_slot(Keys(tenant).index.encode())
    identifier = cluster.client(other).execute_command("CLUSTER", "MYID")
    for port in (other, *cluster.ports):
        cluster.client(port).execute_command("CLUSTER", "SETSLOT", slot, "NODE", identifier)
    made = rig(*cluster.ports)
    assert status(made.ask(ASKED, tenant="mover")) == "Miss"
    assert status(made.ask(ASKED, tenant="mover")) == "Hit"
    assert nodes.ask(Keys(tenant).index, lambda client: client.exists(Keys(tenant).index))
    assert cluster.client(other).exists(Keys(tenant).index)


def test_no_node_at_all_is_a_bypass_that_waits_for_a_map_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made = rig(free_port(), free_port(), timeout_ms=15)
    assert status(made.ask(ASKED)) == "Bypass"
    cache_map = made.plugin._service._store._nodes._map
    assert cache_map._tried.wait(10)
    monkeypatch.setattr(cache_map, "_tried", None)  # who would wait now fails
    monkeypatch.setattr(cache_map, "_waits_until", 0.0)
    for _ in range(5):
        kong = made.ask(ASKED)
        assert status(kong) == "Bypass"
        assert kong.exit is None


def test_a_node_that_stands_still_is_asked_three_times_and_then_once_a_pause(
    cluster: RedisCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = rig(*cluster.ports, timeout_ms=15)
    still, living, _ = homes(cluster)
    made.ask(ASKED, tenant=still.slug)
    until(lambda: status(made.ask(ASKED, tenant=living.slug)), lambda s: s == "Hit", what="cache status")
    pid = int(cluster.client(cluster.ports[0]).info("server")["process_id"])
    os.kill(pid, signal.SIGSTOP)
    try:
        for _ in range(3):
            assert status(made.ask(ASKED, tenant=still.slug)) == "Bypass"
        store = made.plugin._service._store
        assert store.open
        store._breakers[f"127.0.0.1:{cluster.ports[0]}/0"].pause_s = 1000.0
        store._breakers[f"127.0.0.1:{cluster.ports[0]}/0"].failed(time.monotonic())
        counted = calls(monkeypatch)
        for _ in range(20):
            assert status(made.ask(ASKED, tenant=still.slug)) == "Bypass"
        assert counted == []
    finally:
        os.kill(pid, signal.SIGCONT)


def test_a_dead_node_is_its_own_tenants_trouble_alone(cluster: RedisCluster) -> None:
    tenants, made = homes(cluster), rig(*cluster.ports)
    dead, *living = tenants
    registry, chain = Registry(config(cluster), background=False), Chain()
    node = next(f"n{i}" for i in range(100) if on(cluster, f"tg:audit:1:n{i}") != cluster.ports[0])
    spool = StreamSpool(config(cluster), node, ["a"], max_records=1000, max_bytes=1 << 30)
    for tenant in tenants:
        made.ask(ASKED, tenant=tenant.slug)
        GuardRecords(connect(config(cluster)), tenant, TenantSealer(KEY, tenant)).grant(exemption())
        registry.exemptions(tenant, TenantSealer(KEY, tenant), approval=False)
        spool.append(chain.entries(2, tenant))
    registry.synchronise()
    cluster.kill(cluster.ports[0])
    try:
        for _ in range(6):
            kong = made.ask(ASKED, tenant=dead.slug)
            assert status(kong) == "Bypass"
            assert kong.exit is None
            for tenant in living:
                assert status(made.ask(ASKED, tenant=tenant.slug)) == "Hit"
        breakers = made.plugin._service._store._breakers
        assert {name for name, breaker in breakers.items() if breaker.open} == {
            f"127.0.0.1:{cluster.ports[0]}/0"
        }

        for tenant in tenants:
            registry.count(tenant, ["r|alert|hits"])
        with pytest.raises((redis.RedisError, OSError)):
            registry.synchronise()
        assert len(registry.exemptions(dead, TenantSealer(KEY, dead), approval=False)) == 1, (
            "what was known holds"
        )
        assert dict(registry._counts) == {(dead, "r|alert|hits"): 1}, "and what was counted waits"
        assert GuardRecords(connect(config(cluster)), living[0]).counts(1) == {("r", "alert", "hits"): 1}

        entries = [e for tenant in tenants for e in chain.entries(1, tenant)]
        with pytest.raises(EdgeError):
            spool.append(entries)
        delivered = []
        for _ in range(6):
            batch = spool.read("a", 100) if len(delivered) < 6 else ()
            delivered += [q.tenant for q in batch]
            spool.ack("a", batch)
        assert Counter(delivered) == dict.fromkeys(living, 3)
        assert spool.trim() == 0
    finally:
        cluster.restart(cluster.ports[0])
    # It comes back empty, and all goes on.
    spool.append(entries)
    assert [q.id for q in spool.read("a", 100)] == [entries[0].id]
    registry.synchronise()
    assert not registry._counts
    until(lambda: status(made.ask(ASKED, tenant=dead.slug)), lambda s: s == "Hit", what="cache status")


def on(cluster: RedisCluster, key: str) -> int:
    """The port of the node that holds a key."""
    return int(connect(config(cluster)).node(key).name.partition(":")[2].partition("/")[0])


def test_a_record_that_was_taken_outlives_its_node(tmp_path: Path) -> None:
    lone, chain = RedisCluster(tmp_path, nodes=1), Chain()
    lone.start()
    try:
        (port,), replica = lone.ports, lone.replicate(lone.ports[0])
        both = RedisConfig(cluster_nodes=(ClusterNode(port=port), ClusterNode(port=replica)))
        spool, again = (
            StreamSpool(both, "n", ["a"], max_records=1000, max_bytes=1 << 30, owner="one") for _ in range(2)
        )
        for _ in range(20):
            spool.append(chain.entries(5))
        entries = chain.entries(2)
        pid = int(lone.client(replica).info("server")["process_id"])
        os.kill(pid, signal.SIGSTOP)
        try:
            for one in (spool, again):
                with pytest.raises(EdgeError, match="Unreplicated"):
                    one.append(entries)
            lone.client(port).execute_command("ACL", "SETUSER", "default", "-wait")
            spool.append(entries)  # who may not ask doesn't wait
            lone.client(port).execute_command("ACL", "SETUSER", "default", "+wait")
        finally:
            os.kill(pid, signal.SIGCONT)
        spool.append(entries)
        lone.kill(port)
        lone.client(replica).execute_command("CLUSTER", "FAILOVER", "TAKEOVER")

        def after() -> list[bytes]:
            try:
                return [q.record for q in spool.all()]
            except EdgeError:
                return []

        found = verify(until(after, bool, what="records"))
        assert (found.sound, found.records) == (True, 102)
        assert spool.heads() == chain.heads
        spool.append(chain.entries(1))  # where there is no replica, there is none to wait for
        assert spool.backlog("a") == 103
    finally:
        lone.stop()


def test_a_replica_that_takes_over_is_found(tmp_path: Path) -> None:
    cluster = RedisCluster(tmp_path)  # one of its own: the node that is killed stays away
    cluster.start()
    try:
        tenant, made = homes(cluster)[1], rig(*cluster.ports)
        replica = cluster.replicate(cluster.ports[1])
        made.ask(ASKED, tenant=tenant.slug)
        cluster.await_replica(cluster.ports[1], replica)
        cluster.kill(cluster.ports[1])
        assert status(made.ask(ASKED, tenant=tenant.slug)) == "Bypass"
        cluster.client(replica).execute_command("CLUSTER", "FAILOVER", "TAKEOVER")
        # Its breaker is its own, so the first request after the map was learnt is served.
        kong = until(
            lambda: made.ask(ASKED, tenant=tenant.slug), lambda k: status(k) != "Bypass", what="cache status"
        )
        assert status(kong) == "Hit"
    finally:
        cluster.stop()
