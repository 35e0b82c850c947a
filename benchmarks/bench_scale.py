"""How lookups, memory and Redis grow with entries and tenants, on one Redis and on a cluster of three nodes.

    python benchmarks/bench_scale.py [--entries 1000 10000 100000] [--tenants 1 100 10000] [--million]
                                     [--bench reports/bench/bench.json] [--out reports/scale]
    python benchmarks/bench_scale.py --kong-bin /path/to/kong [--tenants 1 100 1000 10000] [--postgres] [--rate 30]

With `--kong-bin` the same of a whole gateway on a real Kong instead: start, memory, lookups, and changes under load
(`scale_gateway.py`). Entries are stored by the product's own script, two to a bucket, and looked up by its own store.
Prints tables, writes scale.json and scale.html. With a result of `tenantgate bench` it also says what 10,000 requests a
second would take, from the processor time that was measured. Gates are counts: what was stored is found, a tenant's
keys lie on one node of the cluster, and no request fails.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Final

import numpy as np
import redis
import scale_gateway

from tenantgate.bench import page, plots, running, stats
from tenantgate.bench.report import plain_table
from tenantgate.cache.core.partition import Keys
from tenantgate.cache.redis_store import RedisCache
from tenantgate.devhost.redis_server import RedisCluster, RedisServer
from tenantgate.store.config import ClusterNode, RedisConfig
from tenantgate.store.redis_nodes import Nodes, connect
from tenantgate.tenant import TenantId

_VALUE: Final = os.urandom(700)  # a sealed answer of a hundred words
_NEIGHBOURS: Final = 4
_BATCH: Final = 200
_TARGET: Final = 10_000
_ALIKE: Final = 2  # questions that have one bucket


@dataclass(frozen=True, slots=True)
class Cell:
    """One size: milliseconds per lookup, microseconds of Redis's processor, bytes."""

    where: str
    tenants: int
    entries: int
    exact_ms: dict[str, float]
    similar_ms: dict[str, float]
    store_ms: dict[str, float]
    exact_cpu_us: float
    similar_cpu_us: float
    similar_per_s: float
    bytes_per_entry: float
    keys: int
    lookups: int
    missed: int


@dataclass(frozen=True, slots=True)
class Site:
    """A Redis or a cluster: as the product sees it, and a client of each node."""

    nodes: Nodes
    clients: list[Any]

    def home(self, keys: Keys) -> Any:
        """A client of the node on which a tenant's keys lie."""
        return self.nodes.node(keys.index).client


def keys_of(tenant: int) -> Keys:
    """The tenant's keys."""
    return Keys(TenantId(f"tenant-{tenant}"))


def bucket(keys: Keys, entry: int) -> str:
    """Where an entry's name lies: a few questions have the same bucket."""
    return keys.bucket(f"{entry // _ALIKE:032x}")


class Filling:
    """Grows the entries of some tenants, evenly."""

    def __init__(self, site: Site, tenants: int) -> None:
        self._site = site
        self._script = (
            resources.files("tenantgate.cache").joinpath("redis_scripts", "store.lua").read_text("utf-8")
        )
        self._tenants = tenants
        self._each = 0

    def to(self, entries: int) -> None:
        """Store until there are so many in all."""
        each = entries // self._tenants
        batch = max(1, min(_BATCH, each - self._each))
        for first in range(self._each, each, batch):
            count = min(batch, each - first)
            for tenant in range(self._tenants):
                self._store(tenant, first, count)
        self._each = each

    def _store(self, tenant: int, first: int, count: int) -> None:
        keys = keys_of(tenant)
        pipe = self._site.home(keys).pipeline(transaction=False)
        for i in range(first, first + count):
            name = f"{i:032x}"
            # As RedisCache.store does, many to a trip: filling isn't what is measured.
            pipe.eval(
                self._script,
                4,
                keys.entry(name),
                keys.index,
                keys.sizes,
                bucket(keys, i),
                _VALUE,
                86_400,
                name,
                keys.entry(""),
                10**9,
                10**12,
            )
        pipe.execute()


def measure(site: Site, where: str, *, tenants: int, entries: int, before: int, lookups: int) -> Cell:
    """Look entries up that are there, store some more and take them out again."""
    store = RedisCache(site.nodes)
    rng = np.random.default_rng(5)
    each = entries // tenants
    chosen = []
    for _ in range(lookups):
        tenant, place = int(rng.integers(tenants)), int(rng.integers(each))
        keys = keys_of(tenant)
        chosen.append((keys, f"{place:032x}", bucket(keys, place)))
    for keys, _, where_alike in chosen[:20]:  # connections and scripts
        store.neighbours(keys, where_alike, _NEIGHBOURS)
    cpu = [cpu_s(site)]
    exact, missed = [], 0
    for keys, name, _ in chosen:
        started = time.perf_counter()
        missed += store.get(keys, name) is None
        exact.append((time.perf_counter() - started) * 1000)
    cpu.append(cpu_s(site))
    similar = []
    for keys, name, where_alike in chosen:
        started = time.perf_counter()
        found = store.neighbours(keys, where_alike, _NEIGHBOURS).neighbours
        similar.append((time.perf_counter() - started) * 1000)
        missed += name not in [n.name for n in found]
    cpu.append(cpu_s(site))
    memory, count = used(site)
    stored = []
    for i, (keys, _, where_alike) in enumerate(chosen):
        name = f"f{i:031x}"
        started = time.perf_counter()
        store.store(keys, name, _VALUE, ttl_s=3600, max_entries=10**9, max_bytes=10**12, bucket=where_alike)
        stored.append((time.perf_counter() - started) * 1000)
    for i, (keys, _, _) in enumerate(chosen):
        store.forget(keys, f"f{i:031x}")
    return Cell(
        where,
        tenants,
        entries,
        stats.quantiles(exact),
        stats.quantiles(similar),
        stats.quantiles(stored),
        (cpu[1] - cpu[0]) / lookups * 1e6,
        (cpu[2] - cpu[1]) / lookups * 1e6,
        together(store, chosen),
        (memory - before) / entries,
        count,
        lookups,
        missed,
    )


def together(store: RedisCache, chosen: Sequence[tuple[Keys, str, str]]) -> float:
    """Similar lookups a second with eight at once, as a plugin server makes them."""
    started = time.perf_counter()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda c: store.neighbours(c[0], c[2], _NEIGHBOURS), chosen))
    return len(chosen) / (time.perf_counter() - started)


def cpu_s(site: Site) -> float:
    """Processor time of all nodes."""
    infos = [node.info("cpu") for node in site.clients]
    return float(sum(i["used_cpu_sys"] + i["used_cpu_user"] for i in infos))


def used(site: Site) -> tuple[int, int]:
    """Bytes and keys of all nodes."""
    return (
        sum(int(node.info("memory")["used_memory"]) for node in site.clients),
        sum(int(node.dbsize()) for node in site.clients),
    )


@contextlib.contextmanager
def one_redis(folder: Path) -> Iterator[Site]:
    """A Redis that evicts nothing."""
    server = RedisServer(folder / "redis", maxmemory="0")
    server.start()
    try:
        with opened(RedisConfig(port=server.port), [server.port]) as site:
            yield site
    finally:
        server.stop()


@contextlib.contextmanager
def cluster(folder: Path) -> Iterator[Site]:
    """A Redis Cluster on this machine."""
    made = RedisCluster(folder / "cluster")
    made.start()
    try:
        nodes = tuple(ClusterNode(port=port) for port in made.ports)
        with opened(RedisConfig(cluster_nodes=nodes), made.ports) as site:
            yield site
    finally:
        made.stop()


@contextlib.contextmanager
def opened(config: RedisConfig, ports: Sequence[int]) -> Iterator[Site]:
    """The product's connections, and others to look at each node."""
    site = Site(
        connect(config, timeout_ms=60_000), [redis.Redis(port=port, socket_timeout=60) for port in ports]
    )
    try:
        yield site
    finally:
        site.nodes.close()
        for client in site.clients:
            client.close()


def scattered(site: Site, tenants: int) -> int:
    """Tenants whose keys lie on more than one node."""
    homes: dict[bytes, set[int]] = {}
    for i, node in enumerate(site.clients):
        for key in node.scan_iter(match="tg:cache:*", count=1000):
            homes.setdefault(key.split(b"{")[1].split(b"}")[0], set()).add(i)
    assert len(homes) == tenants
    return sum(len(found) > 1 for found in homes.values())


def run(args: argparse.Namespace) -> dict[str, Any]:
    """All sizes."""
    cells: list[Cell] = []
    result: dict[str, Any] = {"about": running.about(running.Settings())}
    sizes = sorted({*args.entries, *([1_000_000] if args.million else [])})
    with tempfile.TemporaryDirectory(prefix="tg-scale-") as name:
        for tenants in args.tenants:
            with one_redis(Path(name)) as site:
                before, _ = used(site)
                filling = Filling(site, tenants)
                for entries in (e for e in sizes if e >= tenants and e // tenants <= args.most_each):
                    say(f"one Redis: {entries:,} entries of {tenants:,} tenants …")
                    filling.to(entries)
                    cells.append(
                        measure(
                            site,
                            "one Redis",
                            tenants=tenants,
                            entries=entries,
                            before=before,
                            lookups=args.lookups,
                        )
                    )
        tenants, entries = 100, max((e for e in sizes if e <= 100_000), default=0)
        if entries >= tenants and not args.no_cluster:
            with cluster(Path(name)) as site:
                say(f"a cluster of three: {entries:,} entries of {tenants:,} tenants …")
                before, _ = used(site)
                Filling(site, tenants).to(entries)
                cells.append(
                    measure(
                        site,
                        "cluster of 3",
                        tenants=tenants,
                        entries=entries,
                        before=before,
                        lookups=args.lookups,
                    )
                )
                spread = [int(node.dbsize()) for node in site.clients]
                result["cluster"] = {"keys_by_node": spread, "scattered": scattered(site, tenants)}
    result["cells"] = [asdict(c) for c in cells]
    if args.bench:
        result["paper"] = paper(json.loads(args.bench.read_text()), cells)
    return result


def paper(bench: dict[str, Any], cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """Cores that `_TARGET` requests a second take, by configuration: processor time per request times requests.

    It assumes what holds for processes without a shared state: twice the cores serve twice the requests. At the largest
    size that was measured, the difference of a lookup there is added for Redis.
    """
    largest = max(cells, key=lambda c: c.entries)
    out = []
    for name, c in bench["configurations"].items():
        cpu = dict(c["cost"]["cpu_ms_per_request"])
        cpu.pop("mock provider", None)
        if "cache" in c["sections"]:
            cpu["redis"] = max(cpu.get("redis", 0.0), (largest.exact_cpu_us + largest.similar_cpu_us) / 1000)
        out.append(
            {"configuration": name, "cores": {r: ms * _TARGET / 1000 for r, ms in cpu.items() if ms > 0.02}}
        )
    return out


def say(line: str) -> None:
    """Progress."""
    print(line, flush=True)


def gates(result: dict[str, Any]) -> list[str]:
    """Counts that must be zero."""
    out = [
        f"{c['where']}, {c['entries']} entries: {c['missed']} lookups didn't find what is there"
        for c in result["cells"]
        if c["missed"]
    ]
    if result.get("cluster", {}).get("scattered"):
        out.append(f"{result['cluster']['scattered']} tenants lie on more than one node")
    return out


_HEAD: Final = (
    "",
    "tenants",
    "entries",
    "exact p50 ms",
    "p95",
    "similar p50 ms",
    "p95",
    "p99",
    "store p50 ms",
    "Redis us exact",
    "similar",
    "similar/s",
    "bytes/entry",
    "not found",
)


def rows(result: dict[str, Any]) -> list[tuple[str, ...]]:
    """The table."""
    return [
        (
            c["where"],
            f"{c['tenants']:,}",
            f"{c['entries']:,}",
            f"{c['exact_ms']['p50']:.2f}",
            f"{c['exact_ms']['p95']:.2f}",
            *(f"{c['similar_ms'][q]:.2f}" for q in ("p50", "p95", "p99")),
            f"{c['store_ms']['p50']:.2f}",
            f"{c['exact_cpu_us']:.0f}",
            f"{c['similar_cpu_us']:.0f}",
            f"{c['similar_per_s']:.0f}",
            f"{c['bytes_per_entry']:.0f}",
            str(c["missed"]),
        )
        for c in result["cells"]
    ]


def paper_rows(result: dict[str, Any]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """What the target takes, in cores."""
    roles = list(dict.fromkeys(r for p in result["paper"] for r in p["cores"]))
    lines = [
        (
            p["configuration"],
            *(f"{p['cores'].get(r, 0):.0f}" for r in roles),
            f"{sum(p['cores'].values()):.0f}",
        )
        for p in result["paper"]
    ]
    return ("", *roles, "all"), lines


def html_page(result: dict[str, Any]) -> str:
    """The report."""
    about = result["about"]
    by_tenants: dict[int, list[dict[str, Any]]] = {}
    for c in result["cells"]:
        if c["where"] == "one Redis":
            by_tenants.setdefault(c["tenants"], []).append(c)

    def lines(get: Any) -> list[tuple[str, list[tuple[float, float]]]]:
        return [(f"{t:,} tenants", [(c["entries"], get(c)) for c in cs]) for t, cs in by_tenants.items()]

    shown = (
        ("Similar lookup, p50 ms", lambda c: c["similar_ms"]["p50"]),
        ("p95 ms", lambda c: c["similar_ms"]["p95"]),
        ("Storing, p50 ms", lambda c: c["store_ms"]["p50"]),
        ("Memory, MiB", lambda c: c["bytes_per_entry"] * c["entries"] / 2**20),
    )
    pictures = "".join(
        f"<div><h3>{title}</h3>{plots.curves(lines(get), x_label='entries', y_label='', log_x=True)}</div>"
        for title, get in shown
    )
    names = [f"{t:,} tenants" for t in by_tenants]
    key = plots.legend(dict(zip(names, plots.COLOURS, strict=False)))
    body = (
        f"<h1>The cache as it grows</h1><p class='soft'>{about['date']} · {about['machine']} · commit "
        f"{about['commit']}</p>{key}<div class='pair'>{pictures}</div>{page.html_table(_HEAD, rows(result))}"
    )
    if "cluster" in result:
        spread = ", ".join(f"{n:,}" for n in result["cluster"]["keys_by_node"])
        body += f"<h2>Cluster</h2><p>Keys by node: {spread}. A tenant's keys lie on one node.</p>"
    if "paper" in result:
        head, lines_ = paper_rows(result)
        body += f"<h2>Cores for {_TARGET:,} requests a second, on paper</h2>{page.html_table(head, lines_)}"
    return page.shell("Tenantgate: scale", body)


def gateways(args: argparse.Namespace) -> int:
    """A gateway of each size."""
    sizes = []
    for tenants in args.tenants:
        say(f"a gateway of {tenants:,} tenants …")
        sizes.append(
            scale_gateway.measure(
                tenants, args.kong_bin, workers=args.workers, say=say, rate=args.rate, postgres=args.postgres
            )
        )
        print(plain_table(scale_gateway.HEAD, [scale_gateway.row(size) for size in sizes]), flush=True)
    args.out.mkdir(parents=True, exist_ok=True)
    name = "gateways-postgres.json" if args.postgres else "gateways.json"
    (args.out / name).write_text(json.dumps([asdict(size) for size in sizes], indent=1))
    failed = [line for size in sizes for line in scale_gateway.gates(size)]
    for line in failed:
        print(f"FAILED: {line}", file=sys.stderr)
    return 1 if failed else 0


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--entries", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--tenants", type=int, nargs="+", default=[1, 100, 10_000])
    parser.add_argument("--million", action="store_true", help="and a million entries, which takes a while")
    parser.add_argument(
        "--most-each", type=int, default=100_000, help="entries of one tenant (default: %(default)s)"
    )
    parser.add_argument("--lookups", type=int, default=300)
    parser.add_argument("--no-cluster", action="store_true")
    parser.add_argument("--bench", type=Path, help="a result of `tenantgate bench`, to reckon with")
    parser.add_argument("--out", type=Path, default=Path("reports/scale"))
    parser.add_argument("--kong-bin", type=Path, help="measure a gateway on this Kong instead")
    parser.add_argument("--workers", type=int, default=2, help="of Kong (default: %(default)s)")
    parser.add_argument(
        "--postgres", action="store_true", help="with --kong-bin: Kong and policies in a PostgreSQL"
    )
    parser.add_argument(
        "--rate", type=float, default=30.0, help="requests a second while applies run (default: %(default)s)"
    )
    args = parser.parse_args()
    if args.kong_bin is not None:
        # So that a Kong isn't left behind by whoever ends this.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        return gateways(args)
    result = run(args)
    print()
    print(plain_table(_HEAD, rows(result)))
    if "paper" in result:
        print(f"\ncores for {_TARGET:,} requests a second, on paper")
        print(plain_table(*paper_rows(result)))
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "scale.json").write_text(json.dumps(result, indent=1))
    (args.out / "scale.html").write_text(html_page(result))
    failed = gates(result)
    for line in failed:
        print(f"FAILED: {line}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
