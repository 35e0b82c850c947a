"""Processor time of each stage of the engine for a request, by its length: ``bench_stages.py [--rounds N]``.

A request with everything on goes through the engine in one process, with a scripted Kong in place of Kong's socket and
a Redis of the benchmark's own. Times are milliseconds of processor time of the calling thread: the median of so many
requests, each with a text that no request had before, so that the cache misses. `rest` is what the engine does around
its stages. Nothing is a gate.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from tenantgate import features
from tenantgate.devhost.redis_server import RedisServer
from tenantgate.engine import service
from tenantgate.engine.config import EngineConfig
from tenantgate.engine.core.tables import DECISION, REQUEST
from tenantgate.engine.service import Engine
from tenantgate.engine.warm_up import load_models, load_shared
from tenantgate.errors import TenantgateError
from tenantgate.kong.phase import phase
from tenantgate.kong.policy import PhasePolicy
from tenantgate.kong.testing import FakeKong
from tenantgate.policy.core.records import (
    CATALOG,
    Catalog,
    ModelPolicy,
    Target,
    TenantPolicy,
    write_catalog,
    write_record,
)
from tenantgate.store.config import RedisConfig
from tenantgate.tenant import TenantId

TOKENS: Final = (15, 100, 400, 1100, 4000)
CHARACTERS: Final = 4.9  # of a token of TEXT
TEXT: Final = (
    "I run a small bakery near the station and would like to write to my regular customers about new opening "
    "hours. We will open an hour earlier on weekdays and stay closed on Sunday afternoons. Please draft a friendly "
    "letter that explains the change, thanks people for their loyalty and mentions that the apple cake is back for "
    "the autumn. Keep it under two hundred words, avoid exclamation marks, and end with an invitation to visit us "
    "in the first week, when coffee is free for everybody. "
)
STAGES: Final[Mapping[str, Mapping[str, Any]]] = {
    "limits": {"tenant": {"per_minute": 1_000_000}, "key": {"per_minute": 1_000_000}},
    "compression": {},
    "guardrails": {
        "rules": [
            {"name": "injection", "detector": "injection", "mode": "block"},
            {"name": "secrets", "detector": "secrets", "mode": "block"},
            {"name": "personal", "detector": "personal_data", "mode": "mask"},
        ]
    },
    "cache": {},
}


class Memory:
    """A policy directory of one tenant, in memory."""

    ready = True

    def __init__(self, tenants: Mapping[str, Any]) -> None:
        self._tenants = tenants

    def get(self, tenant: TenantId) -> Any:
        """The tenant's record."""
        return self._tenants.get(str(tenant))


class Plugin:
    """The engine as a plugin."""

    policy = PhasePolicy()

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @phase
    def access(self, host: Any) -> None:
        """The phase that decides."""
        self._engine.access(host)


def plugin(redis: RedisConfig, stages: Mapping[str, Mapping[str, Any]]) -> Plugin:
    """An engine with one tenant and one model."""
    config = EngineConfig(policy_path="/nowhere/policy.sqlite", encryption_key="k" * 32, redis=redis)
    target = Target(
        provider="openai",
        name="gpt-4o-mini",
        header_name="Authorization",
        credential="{vault://env/KEY}",
        bearer=True,
    )
    model = ModelPolicy(
        provider="openai",
        model="gpt-4o-mini",
        route_name="llm.openai.gpt-4o-mini.acme",
        targets=(target,),
        stages=stages,
    )
    tenants: dict[str, Any] = {}
    engine = Engine(config, directory=Memory(tenants))  # type: ignore[arg-type]
    policy = TenantPolicy(tenant=TenantId("acme"), models=(model,))
    names = Catalog(models=frozenset((model.model, model.qualified)))
    for name, raw in {"acme": write_record(policy), CATALOG: write_catalog(names)}.items():
        tenants[name] = engine._parse(name, raw)  # noqa: SLF001
    return Plugin(engine)


def texts(tokens: int, count: int) -> list[str]:
    """Different texts of about so many tokens: the sentences of `TEXT` in other orders, each with its number."""
    sentences = re.findall(r"\S[^.]+\.", TEXT)
    size = int(tokens * CHARACTERS)
    enough = size // min(map(len, sentences)) + 1
    chosen = [random.Random(f"{tokens} {n}").choices(sentences, k=enough) for n in range(count)]
    return [f"Letter {n}. {' '.join(each)}"[:size] for n, each in enumerate(chosen)]


def measured(times: dict[str, list[float]]) -> Callable[..., Callable[[], None]]:
    """In place of the engine's `_phase`: each stage's processor time is noted."""
    make = service._phase  # noqa: SLF001

    def timed(stage: Any, exchange: Any) -> Callable[[], None]:
        run = make(stage, exchange)

        def both() -> None:
            started = time.thread_time()
            try:
                run()
            finally:
                times[stage.manifest.section].append((time.thread_time() - started) * 1000)

        return both

    return timed


def requests(what: Plugin, said: list[str], times: dict[str, list[float]]) -> None:
    """Send the texts one after the other."""
    for n, text in enumerate(said):
        body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": text}]}
        request = {
            "tenant": "acme",
            "credential": "c-1",
            "id": f"{n:032x}",
            "method": "POST",
            "path": "/v1/chat/completions",
            "captures": [],
            "headers": {"content-type": "application/json"},
            "body": json.dumps(body).encode(),
        }
        kong = FakeKong(shared={REQUEST: request})
        started = time.thread_time()
        kong.run(what, "access")
        times["all"].append((time.thread_time() - started) * 1000)
        if DECISION not in kong.shared or kong.exit is not None:
            raise SystemExit("error: a request got no decision, or an answer in place of one")


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=60, help="requests of each length")
    args = parser.parse_args()
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    print(
        f"commit {commit.stdout.strip() or '?'}, {platform.machine()}, {os.cpu_count()} cores, "
        f"Python {platform.python_version()}"
    )
    try:
        load_shared()
        load_models()
    except TenantgateError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    table: dict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        server = RedisServer(Path(folder))
        server.start()
        try:
            # Time to answer also on a busy machine: what is waited is no processor time.
            what = plugin(RedisConfig(port=server.port, timeout_ms=1000), STAGES)
            times: dict[str, list[float]] = defaultdict(list)
            service._phase = measured(times)  # noqa: SLF001
            requests(what, texts(TOKENS[1], 20), times)  # what is made when it is first needed
            # Limits are no stage of their own: they are in the rest.
            order = [stage.section for stage in features.stages() if stage.section in times]
            for tokens in TOKENS:
                times.clear()
                requests(what, texts(tokens, args.rounds), times)
                medians = {name: statistics.median(times[name]) for name in (*order, "all")}
                medians["rest"] = medians["all"] - sum(medians[name] for name in order)
                for name, median in medians.items():
                    table[name].append(median)
        finally:
            server.stop()
    print(f"{'milliseconds of processor time':32}" + "".join(f"{n:>7} tokens" for n in TOKENS))
    for name in (*order, "rest", "all"):
        print(f"{name:32}" + "".join(f"{median:>14.2f}" for median in table[name]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
