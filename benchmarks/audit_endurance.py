"""Whether every request has its record: ``audit_endurance.py [--requests 10000] [--kong-bin KONG]``.

Mixed requests (answered, cached, streamed, blocked, refused, unreadable, failed by the provider) go through a whole
gateway. The sink is down half of the time, and the audit log's processes are killed in turn: the worker, the plugin
server, both. At the end the records that came to the sink are compared with the requests' ids as Kong gave them back.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tenantgate.audit.core.chain import verify
from tenantgate.audit.segments import stored
from tenantgate.devhost.client import Client
from tenantgate.devhost.stack import Stack

PLUGIN = "tenant-audit-log"
TENANTS = """
version: 1
gateway:
  redis: {{plugin_timeout_ms: 500}}
  audit:
    node: endurance
    sinks: [{{name: platform, type: http, url: '{url}', gzip: false, batch_size: 200, flush_ms: 50}}]
defaults:
  audit: {{deadline_ms: 1000}}
tenants:
  - id: one
    api_keys: ['${{{{ env "DECK_ONE_API_KEY" }}}}']
    models: [{{provider: mock, model: m}}]
    cache: {{}}
  - id: two
    api_keys: ['${{{{ env "DECK_TWO_API_KEY" }}}}']
    models: [{{provider: mock, model: m}}]
    audit: {{redaction: hash}}
    guardrails:
      rules: [{{name: secrets, detector: secrets, mode: block}}]
"""


class Platform:
    """The receiver: refuses while it is down, else keeps the records by id."""

    def __init__(self) -> None:
        self.up = threading.Event()
        self.records: dict[str, bytes] = {}
        self.doubles = 0
        self._lock = threading.Lock()

    def take(self, body: bytes) -> None:
        """A batch."""
        with self._lock:
            for record in json.loads(body)["records"]:
                raw = json.dumps(record).encode()
                self.doubles += record["id"] in self.records
                self.records[record["id"]] = raw

    @contextmanager
    def serving(self) -> Iterator[str]:
        """Serve, and give the address."""
        platform = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if platform.up.is_set():
                    platform.take(body)
                self.send_response(200 if platform.up.is_set() else 503)
                self.end_headers()

            def log_message(self, *_args: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/records"
        server.shutdown()


def workers(stack: Stack) -> list[int]:
    """The audit worker of this gateway, whichever plugin server has started it."""
    found = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = process.read_bytes()
        except OSError:
            continue
        if b"tenantgate.audit.worker" in line and os.fsencode(stack.audit_dir) in line:
            found.append(int(process.parent.name))
    return found


def ask(stack: Stack, n: int) -> str | None:
    """One request of the mix; Kong's id of it."""
    one = stack.client("one", provider="mock", model="m")
    two = stack.client("two", provider="mock", model="m")
    kind = n % 10
    if kind < 3:
        reply = one.chat(f"What is the square of {n}?")
    elif kind < 5:
        reply = one.chat(f"What is the capital of country {n % 50}?")
    elif kind == 5:
        reply = two.chat(f"Tell me story {n} of jo{n}@example.com", stream=True)
    elif kind == 6:
        reply = two.chat("my key is AKIA" + "Z7QWERTY1ASDFG2H")
    elif kind == 7:
        reply = Client(url=one.url, key="nobody", model="m").chat("hello")
    elif kind == 8:
        reply = two.send(b"this is not JSON")
    else:
        reply = two.chat(f"Is {n} a lucky number?")
    return reply.headers.get("x-kong-request-id")


def main() -> int:
    """Run it; status 1 if a request has no record, or the chains aren't sound."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--kong-bin")
    args = parser.parse_args()
    platform, choose = Platform(), random.Random(1)
    ids: list[str | None] = []
    with platform.serving() as url, tempfile.TemporaryDirectory(prefix="tg-endurance-") as folder:
        tenants = Path(folder) / "tenants.yaml"
        tenants.write_text(TENANTS.format(url=url))
        with Stack(tenants=tenants, state_dir=Path(folder) / "state", kong_bin=args.kong_bin) as stack:
            print(f"{stack.description}: {args.requests} requests, {args.kills} kills", flush=True)
            started = time.monotonic()
            with ThreadPoolExecutor(4) as pool:
                step = max(1, args.requests // (2 * args.kills))
                for part in range(0, args.requests, step):
                    round_ = part // step
                    (platform.up.clear if round_ % 2 else platform.up.set)()
                    if round_ % 2:
                        servers = stack.pids(PLUGIN)
                        whom = (workers(stack), servers, [*servers, *workers(stack)])[round_ // 2 % 3]
                        killer = threading.Timer(choose.uniform(0.1, 1.0), kill, [whom])
                        killer.start()
                    ids += pool.map(lambda n: ask(stack, n), range(part, min(part + step, args.requests)))
            took = time.monotonic() - started
            platform.up.set()
            until = time.monotonic() + 120
            missing = {i for i in ids if i}
            while missing and time.monotonic() < until:
                ids.append(ask(stack, len(ids)))  # a worker starts with a request
                time.sleep(1.0)
                seen = {json.loads(r).get("request", {}).get("id") for r in list(platform.records.values())}
                missing = {i for i in ids[: args.requests] if i} - seen
            records = [json.loads(r) for r in platform.records.values()]
            in_spool = verify(e.record for e in stored(stack.audit_dir / "spool"))
    records = [r for r in records if "gap" not in r]  # those tell of records, not of a request
    by_request = Counter(r.get("request", {}).get("id") for r in records)
    at_sink = verify(platform.records.values())
    print(
        f"{args.requests} requests in {took:.0f} s, {len(records)} records, {len(missing)} requests without one"
    )
    print(f"requests with two records: {sum(n > 1 for n in by_request.values())}")
    print(f"records that the sink got again, under the same id: {platform.doubles}")
    print(f"outcomes: {dict(Counter(r['outcome'] for r in records).most_common())}")
    print(f"content: {dict(Counter(r['content'].get('state') for r in records).most_common())}")
    for name, report in (("spool", in_spool), ("sink", at_sink)):
        print(f"{name}: {report.records} records in {report.chains} chains, {len(report.faults)} faults")
    return 1 if missing or not in_spool.sound or any(n > 1 for n in by_request.values()) else 0


def kill(pids: list[int]) -> None:
    """As the kernel would when memory runs out."""
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


if __name__ == "__main__":
    sys.exit(main())
