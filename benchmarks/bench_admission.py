"""What limits cost on the client's path: the engine's part of a request, from its facts to the headers.

    python benchmarks/bench_admission.py [--requests N]

The engine's own `Admission`, with a Redis of the benchmark's own, for a chat of 1,600 characters. Each row has other
limits; the last has four (requests, tokens of the tenant, of the key, of a thousand end users each) and a budget with
steps. wall: from begin to end; cpu: processor time of the calling thread, the Redis client included, the least mean of
twenty blocks, since other work on the machine only adds; redis: calls to Redis for each request, its settlement not
included. That one is made before the next request begins.
"""

from __future__ import annotations

import argparse
import itertools
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import redis

from tenantgate.compress.token_counts import token_counter
from tenantgate.devhost.redis_server import RedisServer
from tenantgate.engine.admission import Admission
from tenantgate.engine.config import EngineConfig
from tenantgate.engine.core.tables import Decision, PackedRequest
from tenantgate.engine.exchange import Exchange
from tenantgate.engine.stages import StageBuilder
from tenantgate.engine.tenants import Tenant
from tenantgate.kong import Host
from tenantgate.limits.core.ends import Billed, End, settlement
from tenantgate.limits.redis_ledger import RedisLedger
from tenantgate.limits.service import Limits
from tenantgate.llm import write
from tenantgate.llm.chat import ChatRequest
from tenantgate.policy.core.records import ModelPolicy, Target, TenantPolicy
from tenantgate.prices.core.price_list import PriceList, Prices
from tenantgate.store.config import RedisConfig
from tenantgate.store.redis_nodes import connect
from tenantgate.tenant import TenantId

CONFIG: Final = EngineConfig(policy_path="/nowhere/policy.sqlite", encryption_key="k" * 32)
PRICES: Final = PriceList(
    book="bench", periods=(Prices(prices={"input": 150_000_000, "output": 600_000_000}),)
)
MODEL: Final = ModelPolicy(
    provider="openai",
    model="gpt-4o-mini",
    route_name="llm.openai.gpt-4o-mini.acme",
    targets=(Target(provider="openai", name="gpt-4o-mini", id="openai/gpt-4o-mini", prices=PRICES),),
)
LIMITS: Final = (
    {"name": "requests", "count": "requests", "limit": 10**6, "window": "1m"},
    {"name": "tokens", "limit": 10**9, "window": "1m"},
    {"name": "of-key", "limit": 10**9, "window": "1m", "per": "key"},
    {"name": "of-user", "limit": 10**9, "window": "1d", "window_type": "calendar", "per": "end_user"},
)
BUDGET: Final = {
    "name": "month",
    "max_budget": 1_000_000,
    "on_store_down": "open",
    "steps": [
        {"at": "50%", "do": "notify"},
        {"at": "98%", "do": "cache_only"},
        {"at": "100%", "do": "block"},
    ],
}
TEXT: Final = "Please summarize what we have said about the quarterly report and its numbers. " * 20
USERS: Final = 1000
BLOCKS: Final = 20


def measured(limits: Limits, tenant: Tenant, requests: int) -> tuple[list[float], float]:
    """Milliseconds of each request on the wall, sorted, and of the processor; the first block left out."""
    admission, wall, cpu = Admission(limits), [], []
    for number in range(requests):
        body: dict[str, Any] = {
            "model": MODEL.model,
            "messages": [{"role": "user", "content": f"{TEXT}{number}"}],
            "max_tokens": 500,
            "user": f"user-{number % USERS}",
        }
        packed = PackedRequest(
            tenant=TenantId("acme"),
            credential="key-1",
            id=f"{next(_numbers):032x}",
            method="POST",
            path="/v1/chat/completions",
            captures={},
            headers={},
            body=write(body),
        )
        exchange = Exchange(Host(None, "access", deadline_ms=60_000), packed)
        exchange.use_chat(ChatRequest(body, tuple(body["messages"])))
        begin, used = time.perf_counter(), time.thread_time()
        admitted = admission.admit(exchange, tenant, packed, MODEL, Decision())
        cpu.append((time.thread_time() - used) * 1000)
        wall.append((time.perf_counter() - begin) * 1000)
        if admitted.state:
            end = End(billed=(Billed("openai", 350, 120, 125_000),))
            held = admission.held(admitted.state, tenant, MODEL)
            limits.settle(settlement(packed.tenant, packed.id, admitted.state["at"], held, end), held)
            limits.flush(60)
    size = requests // BLOCKS
    blocks = [cpu[at : at + size] for at in range(size, size * BLOCKS, size)]
    return sorted(wall[size:]), min(map(statistics.mean, blocks))


_numbers: Final = itertools.count(1)


def rows(port: int, requests: int) -> Iterator[tuple[str, list[float], float, float]]:
    """Name, times, and calls to Redis for each request."""
    limits = Limits(RedisLedger(connect(RedisConfig(port=port, timeout_ms=2000))))
    token_counter("o200k_base")
    with redis.Redis(port=port) as client:
        for name, few, budgets in (
            ("no limit", (), ()),
            ("requests", LIMITS[:1], ()),
            ("a budget", (), (BUDGET,)),
            ("four limits and a budget", LIMITS, (BUDGET,)),
        ):
            policy = TenantPolicy(tenant=TenantId("acme"), models=(MODEL,), token_limits=few, budgets=budgets)
            tenant = Tenant(policy, StageBuilder(CONFIG))
            client.config_resetstat()
            wall, cpu = measured(limits, tenant, requests)
            calls = sum(
                stat["calls"] for key, stat in client.info("commandstats").items() if "evalsha" in key
            )
            settled = requests if few or budgets else 0
            yield name, wall, cpu, (calls - settled) / requests


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=5000)
    args = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}; ms")
    print(f"{'':26}{'wall p50':>9}{'p95':>7}{'cpu':>7}{'redis':>7}")
    with tempfile.TemporaryDirectory() as folder:
        server = RedisServer(Path(folder))
        server.start()
        try:
            for name, wall, cpu, calls in rows(server.port, args.requests):
                p50, p95 = (wall[int(len(wall) * part)] for part in (0.5, 0.95))
                print(f"{name:26}{p50:9.3f}{p95:7.3f}{cpu:7.3f}{calls:7.2f}")
        finally:
            server.stop()


if __name__ == "__main__":
    main()
