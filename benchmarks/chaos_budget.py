"""Whether a budget holds while parts are killed: ``chaos_budget.py [--clients N] [--requests K] [--seconds S]``.

So many clients share a budget of K requests and ask until the time is over; a quarter streams, and half of these are
cut off. Meanwhile the engine's processes, Kong's workers (with --kong-bin) and Redis, which writes an append-only
file, are killed with SIGKILL in turn. The mock provider counts what it bills; each question costs the same.

Gates: what is billed is within the budget; all of it is used or held; used and held together are within the budget.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Final

from tenantgate.devhost.client import Client
from tenantgate.devhost.processes import command_pids
from tenantgate.devhost.redis_server import RedisServer
from tenantgate.devhost.stack import Stack
from tenantgate.limits.core.keys import counter_name
from tenantgate.limits.core.ledger import NotCountedError, Room, Used
from tenantgate.limits.core.rules import Counted, Rule, Window
from tenantgate.limits.redis_ledger import RedisLedger
from tenantgate.store.config import RedisConfig
from tenantgate.store.redis_nodes import connect
from tenantgate.tenant import TenantId

TENANTS: Final = """
version: 1
gateway:
  redis: {{host: 127.0.0.1, port: {port}, plugin_timeout_ms: 100}}
tenants:
  - id: spending
    api_keys: ['${{{{ env "DECK_SPENDING_API_KEY" }}}}']
    models:
      - {{provider: mock, model: m, input_cost: 1000, output_cost: 1000}}
      - {{provider: mock, model: tried, input_cost: 1000, output_cost: 1000}}
    budgets:
      - {{name: b, max_budget: {dollars}, on_tight: refuse, on_store_down: {down}, match: {{models: [m]}}}}
"""
TOKEN: Final = 10**6
"""Nano-dollars of one token."""
_SETTLE_S: Final = 30.0


class Clients:
    """What they got, by status."""

    def __init__(self, client: Client, number: int, tokens: int) -> None:
        self._client, self._tokens = client, tokens
        self._stop, self._lock = threading.Event(), threading.Lock()
        self.seen: Counter[str] = Counter()
        self.threads = [threading.Thread(target=self._run, args=(i,), daemon=True) for i in range(number)]

    def _run(self, number: int) -> None:
        rng = random.Random(number)
        while not self._stop.is_set():
            try:
                status = self._ask(rng, f"{rng.randrange(10**8):08}")
            except (OSError, EOFError, http.client.HTTPException, ValueError) as error:
                status = type(error).__name__
            with self._lock:
                self.seen[status] += 1
            self._stop.wait(0.2 + rng.random())

    def _ask(self, rng: random.Random, question: str) -> str:
        stream = rng.random() < 0.25
        body = {
            "messages": [{"role": "user", "content": question}],
            "model": "m",
            "max_tokens": self._tokens,
            "stream": stream,
        }
        with self._client.opened(json.dumps(body).encode()) as response:
            if stream and rng.random() < 0.5:
                response.read1(20)
                return f"{response.status} cut"
            answer = response.read()
        if response.status == http.HTTPStatus.TOO_MANY_REQUESTS:
            return f"429 {json.loads(answer)['error']['code']}"
        return str(response.status)

    def stop(self) -> None:
        """Wait for what is under way."""
        self._stop.set()
        for thread in self.threads:
            thread.join()


def strike(stack: Stack, server: RedisServer, rng: random.Random) -> str:
    """Kill one part, and start it again where nobody else does; what it was."""
    part = rng.choice(("engine", "redis", "kong"))
    if part == "redis":
        server.kill()
        time.sleep(rng.random())
        server.start()
        return "redis"
    mark = "tenantgate.py" if part == "engine" else "nginx: worker"
    pids = command_pids(stack.gateway_pid, mark)
    for pid in pids[: rng.randint(1, max(1, len(pids)))]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return f"{part}: {len(pids)}"


def room(ledger: RedisLedger) -> Room:
    """What the budget's counter says."""
    rule = Rule(name="b", counted=Counted.COST, most=0, window=Window(unit="month"))
    counter = Used(counter_name(rule, ""), rule.window, 0, rule.counted)
    while True:
        try:
            return ledger.rooms(TenantId("spending"), [counter])[0]
        except NotCountedError:
            time.sleep(0.2)


def main() -> int:
    """Print the counts; exit status 1 if a gate doesn't hold."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--requests", type=int, default=50, help="that the budget is for")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--down", choices=("lease", "closed"), default="lease", help="on_store_down")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kong-bin", type=Path)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    with tempfile.TemporaryDirectory(prefix="tg-budget-") as name, contextlib.ExitStack() as exits:
        server = RedisServer(Path(name, "redis"), appendonly=True)
        exits.callback(server.stop)
        server.start()
        ledger = RedisLedger(connect(RedisConfig(port=server.port, timeout_ms=1000)))
        tenants = Path(name, "tenants.yaml")

        def stack(dollars: float) -> Stack:
            tenants.write_text(TENANTS.format(port=server.port, dollars=dollars, down=args.down))
            return Stack(
                tenants=tenants,
                state_dir=Path(name, "state"),
                kong_bin=args.kong_bin,
                mock_latency_ms=200,
                own_redis=False,
            )

        with stack(1.0) as trial:
            usage = trial.client("spending", provider="mock", model="tried").chat("00000000").json["usage"]
        cost = usage["total_tokens"] * TOKEN
        print(f"a question: {usage['prompt_tokens']} + {usage['completion_tokens']} tokens, ${cost / 1e9}")
        budget = args.requests * cost
        with stack(budget / 1e9) as running:
            clients = Clients(
                running.client("spending", provider="mock", model="m"),
                args.clients,
                usage["completion_tokens"],
            )
            until = time.monotonic() + args.seconds
            for thread in clients.threads:
                thread.start()
            while time.monotonic() < until:
                time.sleep(2 * rng.random())
                print("killed", strike(running, server, rng), flush=True)
            clients.stop()
            billed = int(running.mock_billing()["billed"]) * cost
            ends = time.monotonic() + _SETTLE_S
            while (found := room(ledger)).held and time.monotonic() < ends:
                time.sleep(0.5)
    for status, n in sorted(clients.seen.items()):
        print(f"{status:30}{n:7,}")
    for what, amount in (("budget", budget), ("billed", billed), ("used", found.used), ("held", found.held)):
        print(f"{what:10} ${amount / 1e9:8.3f}  {amount / cost:6.1f} requests")
    gates = {
        "what is billed is within the budget": billed <= budget,
        "all that is billed is counted": billed <= found.used + found.held,
        "the counter is within the budget": found.used + found.held <= budget,
    }
    for gate, holds in gates.items():
        print(f"{'holds ' if holds else 'FAILED'} {gate}")
    return 0 if all(gates.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
