"""What MCP costs: ``bench_mcp.py [--kong-bin KONG] [--seconds N]``.

A tenant with guardrails (the usual rules, and injections blocked) and an audit log asks for a list of a hundred tools
and calls one, whose API answers at once on the same machine: one request after the other, then many at the same time.
The cost of a call is the difference to the API's own time, asked directly by the same client. The processor time of a
request is that of Kong's processes and the engine's, which a busy machine changes less. Nothing is gated.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import aiohttp
import numpy as np

from tenantgate.devhost.mcp_stack import TENANT, mcp_stack

TOOLS: Final = 100
WARM_UP: Final = 50  # requests before each series
OWN: Final = 10  # operations that the API has anyway
RULES: Final = [
    {"name": "personal-data", "detector": "personal_data"},
    {"name": "secrets", "detector": "secrets", "mode": "mask", "target": "concatenate_all_content"},
    {"name": "injection", "detector": "injection", "mode": "block"},
]
SETTINGS: Final[dict[str, Any]] = {"audit": {}, "guardrails": {"rules": RULES}}
SINK: Final = {"audit": {"node": "bench", "sinks": [{"name": "file", "type": "file", "path": "audit.jsonl"}]}}


def message(method: str, **params: Any) -> bytes:
    """A request of revision 2025-11-25."""
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()


async def series(ask: Callable[[], Awaitable[None]], seconds: float) -> list[float]:
    """Milliseconds of requests one after the other."""
    for _ in range(WARM_UP):
        await ask()
    out, end = [], time.perf_counter() + seconds
    while (started := time.perf_counter()) < end:
        await ask()
        out.append((time.perf_counter() - started) * 1000)
    return out


async def together(
    ask: Callable[[], Awaitable[None]], clients: int, seconds: float
) -> tuple[float, list[float]]:
    """Requests a second of so many clients, and milliseconds of each."""
    out: list[float] = []
    started = time.perf_counter()

    async def client() -> None:
        while (begun := time.perf_counter()) < started + seconds:
            await ask()
            out.append((time.perf_counter() - begun) * 1000)

    await asyncio.gather(*(client() for _ in range(clients)))
    return len(out) / (time.perf_counter() - started), out


async def at_rate(ask: Callable[[], Awaitable[None]], rate: float, seconds: float) -> list[float]:
    """Milliseconds of requests that are sent at a rate, whatever becomes of those before (an open loop)."""
    out: list[float] = []
    started = time.perf_counter()

    async def one(due: float) -> None:
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        await ask()
        out.append((time.perf_counter() - due) * 1000)

    await asyncio.gather(*(one(started + i / rate) for i in range(int(rate * seconds))))
    return out


def processor_s(place: Path) -> dict[str, float]:
    """Processor time so far of the gateway's processes, by part, in seconds; of Linux only. `place`: of its files."""
    ticks, out = os.sysconf("SC_CLK_TCK"), {"Kong": 0.0, "engine": 0.0, "others": 0.0}
    children: dict[int, list[int]] = {}
    found: dict[int, tuple[str, float]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        except OSError:
            continue
        found[int(folder.name)] = line, (int(fields[11]) + int(fields[12])) / ticks
        children.setdefault(int(fields[1]), []).append(int(folder.name))
    left, seen = [process for process, (line, _) in found.items() if str(place) in line], set[int]()
    while left:
        if (process := left.pop()) in seen:
            continue
        seen.add(process)
        left += children.get(process, ())
        line, seconds = found[process]
        part = "Kong" if "nginx" in line else "engine" if "plugins/tenantgate.py" in line else "others"
        out[part] += seconds
    return out


def spent(place: Path, before: dict[str, float], requests: int) -> str:
    """Processor time a request since then, in words."""
    parts = ((part, (now - before[part]) * 1000 / requests) for part, now in processor_s(place).items())
    return ", ".join(f"{part} {each:.2f}" for part, each in parts) + " ms of a processor"


def row(name: str, times: list[float], more: str = "") -> None:
    """Print a series."""
    p50, p95, p99 = np.percentile(times, [50, 95, 99])
    print(f"{name:44} {len(times):6} {p50:8.2f} {p95:8.2f} {p99:8.2f}  {more}")


async def measure(place: Path, url: str, api: str, key: str, seconds: float) -> None:
    """All of it."""
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    headers["Accept"] = "application/json, text/event-stream"
    errors: Counter[int] = Counter()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=256)) as session:

        def gateway(body: bytes, wanted: bytes) -> Callable[[], Awaitable[None]]:
            async def ask() -> None:
                async with session.post(f"{url}/v1/mcp/api", data=body, headers=headers) as reply:
                    text = await reply.read()
                    if reply.status != 200 or wanted not in text:
                        errors[reply.status] += 1

            return ask

        async def direct() -> None:
            async with session.get(f"{api}/weather/Bern") as reply:
                await reply.read()

        tools = gateway(message("tools/list"), b"operation_0089")
        call = gateway(
            message("tools/call", name="get_weather", arguments={"city": "Bern"}), b'"celsius":21.5'
        )
        print(f"{'':44} {'n':>6} {'p50 ms':>8} {'p95 ms':>8} {'p99 ms':>8}")
        before = processor_s(place)
        times = await series(tools, seconds)
        row(f"tools/list, {TOOLS} tools", times, spent(place, before, len(times) + WARM_UP))
        alone = await series(direct, seconds)
        before = processor_s(place)
        whole = await series(call, seconds)
        used = spent(place, before, len(whole) + WARM_UP)
        row("the API alone", alone)
        over = [float(np.percentile(whole, q) - np.percentile(alone, q)) for q in (50, 95)]
        row("tools/call", whole, f"over the API's own: p50 {over[0]:.2f}, p95 {over[1]:.2f} ms; {used}")
        for rate in (50, 100, 200):
            row(f"tools/call, {rate} a second", await at_rate(call, rate, seconds))
        per_second, times = await together(call, 32, seconds)
        row("tools/call, 32 clients", times, f"{per_second:.0f} a second")
        per_second, times = await together(tools, 32, seconds)
        row(f"tools/list, {TOOLS} tools, 32 clients", times, f"{per_second:.0f} a second")
        print(f"other answers than the expected one, by status: {dict(errors)}")


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kong-bin", help="a real Kong's `kong` instead of the embedded host")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each series")
    parser.add_argument("--bare", action="store_true", help="without guardrails and audit log")
    args = parser.parse_args()
    settings: dict[str, Any] = {} if args.bare else SETTINGS
    print(
        f"{time.strftime('%Y-%m-%d')}, {platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    )
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        with mcp_stack(place, kong_bin=args.kong_bin, more=TOOLS - OWN, tenant=settings, gateway=SINK) as (
            stack,
            api,
        ):
            print(stack.description)
            asyncio.run(measure(place, stack.proxy_url, api, stack.key(TENANT), args.seconds))


if __name__ == "__main__":
    main()
