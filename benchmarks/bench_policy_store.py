"""Publishing, copying and looking up the policies of 1 and of 10,000 tenants.

    python benchmarks/bench_policy_store.py [--tenants 10000] [--bytes 2000] [--postgres CONNINFO]

In a file, in a Redis that it starts, and in a PostgreSQL that is there.
Times are wall-clock seconds of one run on one machine; nothing is gated.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tenantgate.devhost.redis_server import RedisServer
from tenantgate.policy.core.ports import PolicyStore, PublishNote
from tenantgate.policy.directory import Directory
from tenantgate.policy.follower import Follower
from tenantgate.policy.postgres_store import PostgresPolicyStore
from tenantgate.policy.redis_store import RedisPolicyStore
from tenantgate.policy.sqlite_store import SqlitePolicyStore
from tenantgate.store.url import redis_config
from tenantgate.tenant import TenantId

NOTE = PublishNote("bench", "", 0.0)
LOOKUPS = 20_000


def seconds(call: Callable[[], object]) -> float:
    """Wall-clock seconds of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def publishing(name: str, store: PolicyStore, records: dict[str, bytes], copy: Path) -> None:
    """Publish all, then one; read all; copy all, then one."""
    first = store.head()
    all_s = seconds(lambda: store.publish(dict(records), expected=first, note=NOTE))
    one = next(iter(records))
    one_s = seconds(lambda: store.publish({one: b"new"}, expected=first + 1, note=NOTE))
    read_s = seconds(lambda: sum(1 for _ in store.records()))
    line = f"{name:12} publish all {all_s:6.2f} s, one {one_s * 1000:6.1f} ms; read all {read_s:5.2f} s"
    if not isinstance(store, SqlitePolicyStore):
        follower = Follower(store, copy, name=name)
        copied_s = seconds(follower.follow)
        look_s = seconds(follower.follow)
        store.publish({one: b"newer"}, expected=first + 2, note=NOTE)
        copied_one_s = seconds(follower.follow)
        line += (
            f"; copy all {copied_s:5.2f} s, one {copied_one_s * 1000:6.1f} ms, look {look_s * 1000:.2f} ms"
        )
        follower.stop()
    print(line)


def lookups(path: Path, tenants: list[str]) -> None:
    """Look tenants up in memory, in the file, and in the file with a record that has to be parsed."""
    directory = Directory(path, lambda _tenant, record: record, background=False, most=2000)
    asked = [TenantId(random.choice(tenants)) for _ in range(LOOKUPS)]
    few = asked[:1]
    directory.get(few[0])
    memory = seconds(lambda: [directory.get(few[0]) for _ in range(LOOKUPS)])
    mixed = seconds(lambda: [directory.get(tenant) for tenant in asked])
    start = time.perf_counter()
    for _ in range(1000):
        directory.look()
    look = time.perf_counter() - start
    print(
        f"{len(tenants):6} tenants: get {memory / LOOKUPS * 1e6:5.2f} µs from memory, "
        f"{mixed / LOOKUPS * 1e6:6.1f} µs of any tenant (2,000 in memory), look {look * 1000:5.1f} µs"
    )
    directory.close()


def main() -> int:
    """Print the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tenants", type=int, default=10_000)
    parser.add_argument("--bytes", type=int, default=2000)
    parser.add_argument("--postgres", help="connection string; its tables tenantgate_policy_… are written")
    args = parser.parse_args()
    draw = random.Random(1)
    records = {f"tenant-{i}": draw.randbytes(args.bytes // 2).hex().encode() for i in range(args.tenants)}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = SqlitePolicyStore(folder / "file.db")
        publishing("file", file, records, folder)
        size = (folder / "file.db").stat().st_size + (folder / "file.db-wal").stat().st_size
        print(
            f"{'':12} {size / 2**20:.1f} MiB on disk for {args.tenants * args.bytes / 2**20:.1f} MiB of records"
        )
        single = SqlitePolicyStore(folder / "one.db")
        single.publish({"tenant-0": records["tenant-0"]}, expected=0, note=NOTE)
        lookups(folder / "one.db", ["tenant-0"])
        lookups(folder / "file.db", list(records))
        server = RedisServer(folder / "redis")
        server.start()
        publishing(
            "Redis", RedisPolicyStore(redis_config(server.url), "k" * 32), records, folder / "redis.db"
        )
        server.stop()
        if args.postgres:
            publishing("PostgreSQL", PostgresPolicyStore(args.postgres), records, folder / "postgres.db")
    return 0


if __name__ == "__main__":
    sys.exit(main())
