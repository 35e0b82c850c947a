"""An hour in miniature: a million events through the engine, and whether anything grows that shouldn't.

    python benchmarks/soak.py [--events 1000000] [--lanes 4] [--out reports/soak]

The engine is started as Kong starts it, with tenants that have all its stages, and driven over its socket by a client
that plays Kong: access, response and log phases of requests of twenty tenants, most of them asked before, some new.
While they run, memory, threads, open files and Redis's keys are read. Gates: no event fails, and threads, files and
keys don't grow over the last two thirds; memory not by more than a tenth (from 200,000 events on). The machine is
busy all the time, so some phases end late; they are counted, not gated.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import redis

from tenantgate import paths
from tenantgate.bench import configurations, counters, page, plots, procs, running, workload
from tenantgate.bench.configurations import MODEL, Configuration
from tenantgate.bench.report import plain_table
from tenantgate.bench.sites import ENGINE
from tenantgate.devhost.mock_shapes import Reply, openai
from tenantgate.devhost.processes import Child, descendants, wait_for
from tenantgate.devhost.redis_server import RedisServer
from tenantgate.devhost.rendering import Surroundings, render
from tenantgate.engine.core.tables import DECISION, LOG, REQUEST
from tenantgate.kong.testing import KongClient, KongError

_FOLDER: Final = Path(__file__).parent / "configurations"
_NAME: Final = "soak"
_TENANTS: Final = 20
_ASKED: Final = 4000
"""Different requests; with them the cache is full, so that storing and making room go on."""
_SAMPLES: Final = 60
_MOST_ENTRIES: Final = 100
_GROWN: Final = 1.10
_START_S: Final = 60.0
_TRIES: Final = 3
_ENOUGH: Final = 200_000
_MONEY: Final[dict[str, Any]] = {
    "rate_limit": {"per_hour": 10_000_000},
    "budgets": [
        {"name": "hour", "max_budget": 1_000_000, "budget_duration": "1h"},
        {"name": "month", "max_budget": 1_000_000},
    ],
    "token_limits": [
        {"name": "minute", "limit": 1_000_000_000, "window": "1m"},
        {"name": "key", "limit": 1_000_000, "window": "1m", "per": "key"},
    ],
    "transform": {"maximum": {"max_tokens": 4000}, "end_user": "pseudonym", "system_prefix": "Be kind."},
}
"""Of each tenant beside the sections: limits that hold and are never reached."""


@dataclass
class Server:
    """The engine and what was seen of it."""

    name: str
    config: Mapping[str, Any]
    child: Child
    socket: Path
    done: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    samples: list[dict[str, float]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


class Requests:
    """Requests without end, the same ones again and again in another order; thread-safe."""

    def __init__(self) -> None:
        asks = workload.make(_ASKED, seed=21, tenants=_TENANTS, gap=100)
        self._asks = [
            (f"{_NAME}-{a.tenant}", a.body(model=MODEL).encode(), openai(Reply(a.question, MODEL)))
            for a in asks
        ]
        self._rng = random.Random(22)
        self._numbers = itertools.count()
        self._lock = threading.Lock()

    def next(self) -> tuple[int, str, bytes, dict[str, Any]]:
        """Number, tenant, body, the provider's reply."""
        with self._lock:
            number = next(self._numbers)
            # Some that were asked often and some that come for the first time in a while.
            place = int(len(self._asks) * self._rng.random() ** 3)
        return (number, *self._asks[place])


def record(number: int, tenant: str, reply: Mapping[str, Any]) -> dict[str, Any]:
    """What Kong logs of a request, as far as the plugins read it."""
    meta = {"provider_name": "openai", "request_model": "mock-small", "response_model": "mock-small"}
    usage = {"prompt_tokens": 20, "completion_tokens": 20, "total_tokens": 40, "cost": 0}
    proxy = {"meta": meta, "usage": usage, "payload": {"response": json.dumps(reply)}}
    return {
        "request": {"id": f"{number:032x}", "method": "POST", "size": 300},
        "response": {"status": 200, "size": 900, "headers": {"content-type": "application/json"}},
        "latencies": {"kong": 2, "proxy": 10, "request": 13, "receive": 1},
        "tries": [{"ip": "127.0.0.1", "port": 9}],
        "route": {"id": "route-1", "name": f"llm.mock.mock-small.{tenant}", "paths": ["~/x"]},
        "consumer": {"id": "c-1", "custom_id": tenant, "username": f"tenant_{tenant}"},
        "client_ip": "203.0.113.9",
        "started_at": int(time.time() * 1000),
        "source": "upstream",
        "upstream_status": "200",
        "ai": {"proxy": proxy},
        "tenantgate": {},
    }


class Request:
    """One request, as the Lua plugins around the engine and Kong itself tell of it."""

    def __init__(self, number: int, tenant: str, body: bytes, reply: Mapping[str, Any]) -> None:
        identifier = f"{number:032x}"
        headers = {"host": "localhost", "content-type": "application/json", "x-request-id": identifier}
        self._packed = {
            "tenant": tenant,
            "credential": f"key of {tenant}",
            "id": identifier,
            "method": "POST",
            "path": "/v1/chat/completions",
            "captures": {},
            "headers": headers,
            "body": body,
        }
        self._shared: dict[str, Any] = {REQUEST: self._packed}
        self.answers: dict[str, Any] = {
            "kong.request.get_headers": {name: [value] for name, value in headers.items()},
            "kong.request.get_raw_body": body,
            "kong.client.get_consumer": {"id": "c-1", "custom_id": tenant},
            "kong.response.get_headers": {"content-type": ["application/json"]},
            "kong.response.get_status": 200,
            "kong.response.get_source": "service",
            "kong.service.response.get_raw_body": json.dumps(reply).encode(),
            "kong.service.response.get_status": 200,
            "kong.ctx.shared.get": lambda key, *_: self._shared.get(key),
            "kong.ctx.shared.set": lambda key, value, *_: self._shared.update({key: value}),
            "kong.nginx.get_var": identifier,
            "kong.log.serialize": lambda *_: json.dumps(record(number, tenant, reply)),
        }

    def phases(self) -> Iterator[str]:
        """The phases that Kong runs, each once the one before is over."""
        yield "access"
        decision = self._shared.get(DECISION) or {}
        passed = "target" in decision
        if passed and decision.get("reply_guard"):
            yield "response"
        kept = {k: self._packed[k] for k in ("tenant", "credential", "id")}
        self._shared[LOG] = {
            "request": {**kept, "body": self._packed["body"] if decision.get("keep_body") else None},
            "state": decision.get("state"),
            "shared": decision.get("shared"),
            "finish_reason": "stop",
            "source": "service" if passed else "exit",
            "status": 200,
            "decided": bool(decision),
        }
        yield "log"


def drive(server: Server, requests: Requests, events: int, stop: threading.Event) -> None:
    """Send events until so many are done, as one of the server's lanes."""
    while not stop.is_set() and server.done < events:
        with KongClient(server.socket, timeout_s=30.0) as kong, contextlib.suppress(_ReplacedError, OSError):
            instance = kong.start_instance(server.name, server.config)
            _drive(kong, instance, server, requests, events=events, stop=stop)


class _ReplacedError(Exception):
    """The server is another process now, and doesn't know the instance."""


def _drive(
    kong: KongClient, instance: int, server: Server, requests: Requests, *, events: int, stop: threading.Event
) -> None:
    journal = (server.config.get("audit") or {}).get("journal")
    while not stop.is_set():
        number, tenant, body, reply = requests.next()
        asked = Request(number, tenant, body, reply)
        for phase in asked.phases():
            failure = ""
            try:
                kong.handle_event(instance, phase, asked.answers)
            except (KongError, OSError, AssertionError) as error:
                failure = f"{phase}: {type(error).__name__}"
            with server.lock:
                server.done += 1
                if failure:
                    server.failed[failure] += 1
                if server.done >= events:
                    return
            if failure:
                raise _ReplacedError
        if journal:  # stock file-log writes it, opening it anew for each line
            with open(journal, "a", encoding="utf-8") as out:  # noqa: PTH123
                out.write(json.dumps(record(number, tenant, {})) + "\n")


@contextlib.contextmanager
def engine(configuration: Configuration, folder: Path, port: int) -> Iterator[Server]:
    """The engine, started as Kong does."""
    tenants = folder / "tenants.yaml"
    tenants.write_text(configurations.tenants_yaml([configuration], _TENANTS))
    rendered = render(
        tenants,
        Surroundings(
            folder=folder,
            run=folder,
            secrets=folder / "secrets.json",
            mock_url="http://127.0.0.1:9",
            redis_port=port,
            proxy_port=1,
            status_port=2,
            admin_port=3,
            egress_port=4,
            extra={},
        ),
    )
    tree = json.loads(rendered.kong_config.read_text())
    plugins = {p["name"]: p["config"] for p in tree["services"][0]["plugins"]}
    at = folder / f"{ENGINE}.socket"
    command = ["--plugin", str(paths.plugin_file(ENGINE)), "--socket", str(at), "--log-level", "error"]
    child = Child(
        ENGINE,
        [sys.executable, "-m", "tenantgate.kong.launcher", *command],
        log=folder / f"{ENGINE}.log",
        environ=rendered.environ,
    )
    try:
        metrics = at.with_name(f"{ENGINE}.metrics.socket")
        wait_for(partial(_ready, metrics), child, what=ENGINE, timeout_s=_START_S)
        yield Server(ENGINE, _resolved(plugins[ENGINE], rendered.environ), child, at)
    finally:
        child.stop()


def _resolved(value: Any, environ: Mapping[str, str]) -> Any:
    """With what Kong's vault would put in place of references."""
    if isinstance(value, dict):
        return {k: _resolved(v, environ) for k, v in value.items()}
    if isinstance(value, list):
        return [_resolved(v, environ) for v in value]
    if isinstance(value, str) and value.startswith("{vault://env/"):
        return environ[value.removeprefix("{vault://env/").removesuffix("}").upper().replace("-", "_")]
    return value


def _ready(metrics: Path) -> bool | None:
    return True if counters.total(counters.metrics_of(metrics), "tenantgate_ready") else None


def watch(running_servers: Sequence[Server], client: Any, total: int, stop: threading.Event) -> None:
    """Sample at even steps of the work until it is done."""
    step, due = max(1, total // _SAMPLES), 0
    while not stop.is_set():
        done = sum(s.done for s in running_servers)
        if done >= due:
            due = done + step
            keys, megabytes = float(client.dbsize()), float(client.info("memory")["used_memory"]) / 2**20
            for server in running_servers:
                pids = [server.child.pid, *descendants(server.child.pid)]
                usage = procs.sample({"": pids})[""]
                server.samples.append(
                    {
                        "events": server.done,
                        "rss_mb": usage.rss_mb,
                        "threads": usage.threads,
                        "files": usage.files,
                        "keys": keys,
                        "redis_mb": megabytes,
                    }
                )
        stop.wait(0.1)


def gates(result: Mapping[str, Any]) -> list[str]:
    """What grew, and what failed."""
    out = []
    for name, server in result["servers"].items():
        if server["failed"]:
            out.append(f"{name}: events failed: {server['failed']}; its log: {' | '.join(server['said'])}")
        if server["phases_failed"]:
            out.append(f"{name}: {server['phases_failed']} phases failed")
        if result["events"] < _ENOUGH:
            continue  # caches are still filling
        samples = server["samples"]
        third = len(samples) // 3
        if third < _TRIES:
            continue
        middle, last = samples[third : 2 * third], samples[2 * third :]
        for what in ("threads", "files", "keys"):
            most, now = max(s[what] for s in middle), max(s[what] for s in last)
            # Connections come and go by the lanes; a leak of one in a thousand events is hundreds.
            if now > most * _GROWN + 8:
                out.append(f"{name}: {what} grew from {most:.0f} to {now:.0f}")
        before, after = (sorted(s["rss_mb"] for s in part)[len(part) // 2] for part in (middle, last))
        if after > before * _GROWN:
            out.append(f"{name}: memory grew from {before:.0f} to {after:.0f} MiB")
    return out


def soak(args: argparse.Namespace) -> dict[str, Any]:
    """Run the events."""
    found, _ = configurations.read(_FOLDER)
    sections: dict[str, Any] = {s: v for c in found if len(c.sections) == 1 for s, v in c.sections.items()}
    sections["cache"] = {**sections["cache"], "max_entries": _MOST_ENTRIES, "cache_ttl": 120}
    gateway: dict[str, Any] = {k: v for c in found for k, v in c.gateway.items()}
    sections |= _MONEY
    configuration = Configuration(name=_NAME, title="all", sections=sections, gateway=gateway)
    result: dict[str, Any] = {
        "about": running.about(running.Settings()),
        "events": args.events,
        "servers": {},
    }
    with tempfile.TemporaryDirectory(prefix="tg-soak-") as name, contextlib.ExitStack() as exits:
        folder = Path(name)
        server = RedisServer(folder / "redis")
        server.start()
        exits.callback(server.stop)
        client: Any = redis.Redis(port=server.port)
        started = [exits.enter_context(engine(configuration, folder, server.port))]
        began = time.monotonic()
        _drive_all(started, client, args)
        result["seconds"] = round(time.monotonic() - began, 1)
        for s in started:
            series = counters.metrics_of(s.socket.with_name(f"{s.name}.metrics.socket"))
            failed, late = (
                round(counters.total(series, "tenantgate_phases_total", outcome=o))
                for o in ("failed", "late")
            )
            result["servers"][s.name] = {
                "events": s.done,
                "failed": dict(s.failed),
                "phases_failed": failed,
                "phases_late": late,
                "samples": s.samples,
                "said": _errors(folder / f"{s.name}.log"),
            }
    return result


def _errors(log: Path) -> list[str]:
    """The first errors in a plugin server's log, which holds nothing of a request."""
    return log.read_text(errors="replace").splitlines()[:5]


def _drive_all(started: Sequence[Server], client: Any, args: argparse.Namespace) -> None:
    stop, requests = threading.Event(), Requests()
    each = args.events // len(started)
    threads = []
    for server in started:
        threads += [
            threading.Thread(target=drive, args=(server, requests, each, stop), daemon=True)
            for _ in range(args.lanes)
        ]
    watcher = threading.Thread(target=watch, args=(started, client, args.events, stop), daemon=True)
    for thread in (*threads, watcher):
        thread.start()
    try:
        while any(t.is_alive() for t in threads):
            for server in started:
                server.child.check()
            print(f"\r{sum(s.done for s in started):,} events", end="", flush=True)
            stop.wait(1.0)
    finally:
        stop.set()
        print()
        for thread in (*threads, watcher):
            thread.join()


_HEAD: Final = (
    "",
    "events",
    "failed",
    "late",
    "RSS first",
    "a third",
    "last, MiB",
    "threads",
    "files",
    "Redis keys",
)


def rows(result: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """The table: the value after the first third, and at the end."""
    out = []
    for name, s in result["servers"].items():
        first, third, last = s["samples"][0], s["samples"][len(s["samples"]) // 3], s["samples"][-1]
        out.append(
            (
                name,
                f"{s['events']:,}",
                str(sum(s["failed"].values())),
                str(s["phases_late"]),
                f"{first['rss_mb']:.0f}",
                f"{third['rss_mb']:.0f}",
                f"{last['rss_mb']:.0f}",
                *(f"{third[what]:.0f} → {last[what]:.0f}" for what in ("threads", "files", "keys")),
            )
        )
    return out


def html_page(result: Mapping[str, Any]) -> str:
    """The curves."""
    about = result["about"]
    shown = []
    for what, title in (
        ("rss_mb", "Memory, MiB"),
        ("threads", "Threads"),
        ("files", "Open files"),
        ("keys", "Redis keys"),
    ):
        lines = [
            (name, [(max(1.0, s["events"]), s[what]) for s in server["samples"]])
            for name, server in result["servers"].items()
        ]
        shown.append(
            f"<div><h3>{title}</h3>{plots.curves(lines, x_label='events of each server', y_label='')}</div>"
        )
    key = plots.legend(dict(zip(result["servers"], plots.COLOURS, strict=False)))
    return page.shell(
        "Tenantgate: soak",
        f"<h1>{result['events']:,} events</h1><p class='soft'>{about['date']} · {about['machine']} · commit "
        f"{about['commit']} · {result['seconds']:.0f} s</p>{key}<div class='pair'>{''.join(shown)}</div>"
        + page.html_table(_HEAD, rows(result)),
    )


def main() -> int:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--events", type=int, default=1_000_000, help="in all (default: %(default)s)")
    parser.add_argument("--lanes", type=int, default=4, help="events in flight (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("reports/soak"))
    args = parser.parse_args()
    result = soak(args)
    print(plain_table(_HEAD, rows(result)))
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "soak.json").write_text(json.dumps(result, indent=1))
    (args.out / "soak.html").write_text(html_page(result))
    failed = gates(result)
    for line in failed:
        print(f"FAILED: {line}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
