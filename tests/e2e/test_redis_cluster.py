"""A whole gateway on a Redis Cluster: every level, the guards and the audit log, and the death of a node under load."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from redis.crc import key_slot

from tenantgate.audit.core.chain import verify
from tenantgate.cache.core.partition import Keys
from tenantgate.devhost.client import Reply
from tenantgate.devhost.redis_server import RedisCluster
from tenantgate.devhost.stack import Stack
from tenantgate.tenant import TenantId

from gateway import MODEL, Gateway
from support import Load, until, whole_lines

pytestmark = pytest.mark.e2e

NODES = 3
SECRET = "AKIA" + "Z7QWERTY1ASDFG2H"
QUESTION, ALIKE = "How do I reset my online banking password?", "How can I reset my online banking password?"
FILE = """
version: 1
gateway:
  redis: {{plugin_timeout_ms: 500, timeout_ms: 500, cluster_nodes: [{nodes}]}}
  audit:
    node: {node}
    spool: redis
    sinks: [{{name: file, type: file, path: audit.jsonl, flush_ms: 10}}]
defaults:
  audit: {{deadline_ms: 1400}}
  cache: {{deadline_ms: 1400}}
  guardrails: {{deadline_ms: 1400, rules: [{{name: secrets, detector: secrets, mode: block}}]}}
tenants:
{tenants}
"""
TENANT = """
  - id: {id}
    api_keys: ['${{{{ env "DECK_{upper}_API_KEY" }}}}']
    models: [{{provider: mock, model: {model}}}]
"""


def place(key: str) -> int:
    """Which of the nodes a key is on, by number."""
    return key_slot(key.encode()) * NODES // 16384


def on_node(number: int, prefix: str, key: Callable[[str], str]) -> str:
    """A name that begins so, and whose key lies on that node."""
    names = (f"{prefix}{i}" for i in range(1000))
    return next(name for name in names if place(key(name)) == number)


TENANTS = [on_node(number, "t", lambda name: Keys(TenantId(name)).index) for number in range(NODES)]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    made = RedisCluster(tmp_path_factory.mktemp("cluster"), nodes=NODES)
    made.start()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def gateway(
    cluster: RedisCluster, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    if request.config.getoption("--gateway-url"):
        pytest.skip("only where the tests start the gateway themselves")
    folder = tmp_path_factory.mktemp("on-cluster")
    tenants = folder / "tenants.yaml"
    tenants.write_text(
        FILE.format(
            nodes=", ".join(f"{{port: {port}}}" for port in cluster.ports),
            node=on_node(2, "gateway-", "tg:audit:1:{}".format),
            tenants="".join(TENANT.format(id=t, upper=t.upper(), model=MODEL) for t in TENANTS),
        )
    )
    kong = request.config.getoption("--kong-bin")
    with Stack(tenants=tenants, state_dir=folder, kong_bin=kong, own_redis=False, processes="1") as stack:
        yield Gateway(stack, itertools.count(7000, 13))


def ids(path: Path) -> list[str]:
    return [json.loads(line)["request"]["id"] for line in whole_lines(path)]


@pytest.mark.slow
def test_tenants_on_all_nodes_have_every_level_and_a_dead_node_is_noticed_by_no_client(
    gateway: Gateway, cluster: RedisCluster
) -> None:
    sink, clients = gateway.stack.audit_dir / "audit.jsonl", {t: gateway.client(t) for t in TENANTS}
    for client in clients.values():
        until(lambda c=client: c.chat("a first one").status, lambda s: s == 200, what="status")
        asked = client.chat(QUESTION)
        assert (asked.status, asked.cache) == (200, "Miss")
        hit = until(lambda c=client: c.chat(QUESTION), lambda r: r.cache == "Hit", what="cache status")
        alike = client.chat(ALIKE)
        assert (alike.cache, hit.text, alike.text) == ("Hit", asked.text, asked.text)
        assert client.chat(f"my key is {SECRET}").status == 400
    for port, tenant in zip(cluster.ports, TENANTS, strict=True):
        keys = b" ".join(cluster.client(port).keys())
        assert all((f"{{{t}}}".encode() in keys) == (t == tenant) for t in TENANTS)

    replica = cluster.replicate(cluster.ports[0])

    def ask(number: int) -> Reply:
        prompt = QUESTION if number % 2 else gateway.fresh()
        return clients[TENANTS[number % NODES]].chat(prompt)

    with Load(ask) as load:
        load.after(30)
        cluster.kill(cluster.ports[0])
        load.after(30)
        cluster.client(replica).execute_command("CLUSTER", "FAILOVER", "TAKEOVER")
        until(lambda: clients[TENANTS[0]].chat(QUESTION).cache, lambda s: s == "Hit", what="cache status")
        load.after(30)
    assert not load.errors
    assert {reply.status for reply in load.replies} == {200}
    wanted = {reply.headers["x-kong-request-id"] for reply in load.replies}
    until(lambda: wanted - set(ids(sink)), lambda missing: not missing, what="requests without a record")
    report = verify(whole_lines(sink))
    assert not [fault for fault in report.faults if fault.kind != "doubled"], report.faults
