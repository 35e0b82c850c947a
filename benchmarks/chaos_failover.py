"""Requests while providers fail in turn: ``chaos_failover.py [--kong-bin KONG] [--seconds 60] [--rate 50]``.

One model with four targets, which take turns (round-robin) and are four ports of a mock provider in two formats. Every
five seconds another one fails in another way: refused connections, 429 with Retry-After, 500, 503, 529. Half of the
requests are streams. Gates: 99.9 % answered whole, none of them billed by two providers; times have none.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import statistics
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from tenantgate.devhost.redis_server import free_port
from tenantgate.devhost.stack import Stack

TURN_S = 5.0
SUCCESS = 0.999
FAULTS: dict[str, dict[str, Any] | None] = {
    "refuses connections": None,
    "429, Retry-After: 2": {"status": 429, "headers": {"Retry-After": "2"}},
    "500": {"status": 500},
    "503": {"status": 503},
    "529": {"status": 529},
}
TENANTS = """\
version: 1
gateway: {audit: {sinks: [{name: file, type: file, path: audit.jsonl, flush_ms: 50}]}}
tenants:
  - id: acme
    api_keys: ['${{ env "DECK_ACME_API_KEY" }}']
    cache: {enabled: false}
    models:
      - name: smart
        balance: round-robin
        failover: {retries: 3}
        targets:
"""
TARGET = """\
          - provider: %s
            model: model-%s
            credential: "{vault://env/CHAOS_KEY_%s}"
            upstream_url: http://127.0.0.1:%d%s
            %s
"""


def tenants(ports: dict[str, int]) -> str:
    """The file for these ports."""
    text = TENANTS
    for name, port in ports.items():
        anthropic = name in "BD"
        provider = "anthropic" if anthropic else "openai-compatible"
        path = "/v1/messages" if anthropic else "/v1/chat/completions"
        text += TARGET % (provider, name, name, port, path, "max_tokens: 100" if anthropic else "weight: 100")
    return text


@dataclass(slots=True)
class Turn:
    """What happened to the requests that were sent while one provider failed."""

    provider: str
    fault: str
    ends: Counter[str] = field(default_factory=Counter)
    tries: Counter[str] = field(default_factory=Counter)


async def ask(session: aiohttp.ClientSession, url: str, key: str, number: int, turn: Turn) -> float:
    """Send one request, note how it ended; its time in milliseconds."""
    stream = number % 2 == 0
    body = {
        "model": "smart",
        "stream": stream,
        "messages": [{"role": "user", "content": f"Question {number}"}],
    }
    start = time.perf_counter()
    try:
        async with session.post(url, json=body, headers={"apikey": key}) as response:
            raw = await response.read()
            whole = raw.rstrip().endswith(b"data: [DONE]") if stream else b"mock answer" in raw
            end = "ok" if response.status == 200 and whole else f"{response.status}"
            turn.tries[response.headers.get("X-Tenantgate-Tries", "none")] += 1
    except (aiohttp.ClientError, TimeoutError) as error:
        end = type(error).__name__
    turn.ends[end] += 1
    return (time.perf_counter() - start) * 1000


async def load(
    stack: Stack, ports: dict[str, int], *, seconds: float, rate: float
) -> tuple[list[Turn], list[float]]:
    """Requests at a steady rate, whatever becomes of them; the turns, and the times."""
    url, key = f"{stack.proxy_url}/v1/chat/completions", stack.key("acme")
    turns: list[Turn] = []
    tasks: list[asyncio.Task[float]] = []
    timeout = aiohttp.ClientTimeout(total=30)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout) as session:
        start = time.perf_counter()
        number = 0
        choices = zip(itertools.cycle(ports), itertools.cycle(FAULTS), strict=False)
        while (now := time.perf_counter() - start) < seconds:
            name, fault = next(choices)
            turn = Turn(name, fault)
            turns.append(turn)
            with _failing(stack, ports[name], FAULTS[fault]):
                while (now := time.perf_counter() - start) < min(seconds, len(turns) * TURN_S):
                    while number < now * rate:
                        number += 1
                        tasks.append(asyncio.create_task(ask(session, url, key, number, turn)))
                    await asyncio.sleep(max(0.0, number / rate - now))
        return turns, [await task for task in tasks]


def _failing(stack: Stack, port: int, rule: dict[str, Any] | None) -> Any:
    return stack.mock_refuses(port) if rule is None else stack.mock_rules({"port": port, **rule})


def report(turns: list[Turn], times: list[float], billing: dict[str, Any]) -> bool:
    """Print the tables; whether the gates hold."""
    print(f"{'fails':10}{'how':22}{'requests':>9}{'failed':>8}  tries (1, 2, 3, 4)   other ends")
    for turn in turns:
        failed = turn.ends.total() - turn.ends["ok"]
        tries = ", ".join(str(turn.tries[str(n)]) for n in range(1, 5))
        others = ", ".join(f"{end}: {n}" for end, n in turn.ends.items() if end != "ok")
        print(f"{turn.provider:10}{turn.fault:22}{turn.ends.total():9,}{failed:8}  {tries:21}{others}")
    total = sum(turn.ends.total() for turn in turns)
    answered = sum(turn.ends["ok"] for turn in turns)
    gaps = billing["next_try_ms"]
    print(f"\nrequests {total:,}; answered {answered:,} ({answered / total:.3%})")
    print(f"billed {billing['billed']:,} questions, twice {billing['billed_twice']}")
    print(f"refusal to the next request: {_times(gaps)} ms (p50, p95, max of {len(gaps):,})")
    print(f"whole request: {_times(sorted(times))} ms (p50, p95, max)")
    return answered / total >= SUCCESS and billing["billed_twice"] == 0


def _times(values: list[float]) -> str:
    if not values:
        return "none"
    return f"{statistics.median(values):.1f}, {values[int(len(values) * 0.95)]:.1f}, {values[-1]:.1f}"


def main() -> int:
    """Print the tables; exit status 1 if a gate doesn't hold."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--rate", type=float, default=50.0, help="requests a second (default: %(default)s)")
    parser.add_argument("--kong-bin", type=Path)
    args = parser.parse_args()
    ports = {name: free_port() for name in "ABCD"}
    os.environ |= {f"CHAOS_KEY_{name}": f"key-of-{name}" for name in ports}
    with tempfile.TemporaryDirectory(prefix="tg-chaos-") as folder:
        file = Path(folder, "tenants.yaml")
        file.write_text(tenants(ports))
        state = Path(folder, "state")
        with Stack(tenants=file, state_dir=state, kong_bin=args.kong_bin, mock_latency_ms=50) as stack:
            for port in ports.values():
                stack.mock_port(port)
            turns, times = asyncio.run(load(stack, ports, seconds=args.seconds, rate=args.rate))
            billing = stack.mock_billing()
            print(f"{stack.description}, {args.rate:g} requests/s for {args.seconds:g} s\n")
    return 0 if report(turns, times, billing) else 1


if __name__ == "__main__":
    sys.exit(main())
