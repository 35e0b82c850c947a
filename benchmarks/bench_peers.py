"""Other gateways on the same machine, with the same mock provider and the same requests.

    python benchmarks/bench_peers.py --install DIR          # puts them into a folder of their own, once
    python benchmarks/bench_peers.py --peers DIR [--kong BIN] [--seconds 20] [--out reports/peers]

LiteLLM's proxy and Portkey's gateway, each as it comes (and LiteLLM with its Redis cache), and Tenantgate: bare, with
the cache, with all plugins. Every request goes to a gateway and, moments apart, straight to the mock provider, so that
what is shown is what each gateway adds. What a peer can't do here is a blank with its reason, not a zero. Versions and
configurations are in the report. Nothing is gated.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from tenantgate import __version__
from tenantgate.bench import configurations, load, page, plots, procs, running, stats, workload
from tenantgate.bench.configurations import BARE, Configuration
from tenantgate.bench.judging import Judged, judge
from tenantgate.bench.load import Due, Plan, Shot
from tenantgate.bench.report import plain_table
from tenantgate.bench.sites import MODEL, Site
from tenantgate.bench.workload import Ask
from tenantgate.devhost.processes import Child, descendants, wait_for
from tenantgate.devhost.redis_server import RedisServer, free_port

_FOLDER: Final = Path(__file__).parent / "configurations"
_TENANTS: Final = 4
_START_S: Final = 90.0
_LANES: Final = 8
_LITELLM: Final = "litellm[proxy]"
_PORTKEY: Final = "@portkey-ai/gateway"
# A key of ours for a proxy of ours; LiteLLM refuses short ones.
_MASTER: Final = "sk-" + "bench" * 8

_BLANKS: Final = {
    "LiteLLM, semantic cache": "its Redis semantic cache needs a Redis with the search module, which isn't here",
    "LiteLLM, keys by tenant": "they need a PostgreSQL; here all tenants share one key, and so one cache",
    "LiteLLM, Presidio": "its Presidio guardrail needs Presidio's two HTTP services, which aren't here",
    "Portkey, cache": "the open gateway keeps its simple cache in memory only, and has no semantic one",
    "Portkey, guardrails": "its checks for personal data call services elsewhere",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """A gateway that runs.

    Attributes:
        name: for the table.
        version: as it says.
        about: its configuration, in words.
        urls: one address for each tenant.
        headers: for each tenant.
        extra: fields of each request's body.
        pids: gives its processes.
    """

    name: str
    version: str
    about: str
    urls: tuple[str, ...]
    headers: tuple[Mapping[str, str], ...]
    pids: Callable[[], list[int]]
    extra: Mapping[str, Any] = field(default_factory=dict)


def install(folder: Path) -> None:
    """Both peers, with their own package managers, into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    python = folder / "litellm" / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder / "litellm")], check=True)
    subprocess.run([str(python), "-m", "pip", "install", "--quiet", _LITELLM], check=True)
    (folder / "portkey").mkdir(exist_ok=True)
    subprocess.run(
        ["npm", "install", "--no-audit", "--no-fund", "--prefix", ".", _PORTKEY],
        cwd=folder / "portkey",
        check=True,
    )


# -- the gateways -----------------------------------------------------------------------------------------


@contextlib.contextmanager
def litellm(peers: Path, folder: Path, mock_url: str, *, redis_port: int | None) -> Iterator[Gateway | None]:
    """LiteLLM's proxy; with `redis_port` its exact cache is on."""
    binary = peers / "litellm" / "bin" / "litellm"
    if not binary.exists():
        yield None
        return
    port = free_port()
    model = {"model": f"openai/{MODEL}", "api_base": f"{mock_url}/v1", "api_key": "none"}
    config: dict[str, Any] = {
        "model_list": [{"model_name": MODEL, "litellm_params": model}],
        "general_settings": {"master_key": _MASTER},
        "litellm_settings": {"telemetry": False},
    }
    if redis_port:
        params = {"type": "redis", "host": "127.0.0.1", "port": redis_port, "ttl": 3600}
        config["litellm_settings"] |= {"cache": True, "cache_params": params}
    file = folder / f"litellm-{port}.yaml"
    file.write_text(json.dumps(config))  # JSON is YAML
    child = Child(
        "litellm",
        [
            str(binary),
            "--config",
            str(file),
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
            "--num_workers",
            "1",
        ],
        log=folder / f"litellm-{port}.log",
        environ={**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_TELEMETRY": "False"},
        foreign=True,
    )
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {_MASTER}"}
    try:
        url = f"http://127.0.0.1:{port}/v1/chat/completions"
        wait_for(lambda: answers(url, headers, {"model": MODEL}), child, what="LiteLLM", timeout_s=_START_S)
        yield Gateway(
            name="LiteLLM" + (", Redis cache (exact)" if redis_port else ""), version=pip_version(peers, "litellm"),
            about=json.dumps(config).replace(_MASTER, "…"), urls=(url,) * _TENANTS, headers=(headers,) * _TENANTS,
            pids=lambda: [child.pid, *descendants(child.pid)], extra={"model": MODEL},
        )  # fmt: skip
    finally:
        child.stop()


def pip_version(peers: Path, name: str) -> str:
    """The installed version of a package."""
    code = f"import importlib.metadata as m; print(m.version({name!r}))"
    done = subprocess.run(
        [str(peers / "litellm/bin/python"), "-c", code], capture_output=True, text=True, check=False
    )
    return done.stdout.strip()


@contextlib.contextmanager
def portkey(peers: Path, folder: Path, mock_url: str) -> Iterator[Gateway | None]:
    """Portkey's open gateway; where to go stands in each request's headers."""
    package = peers / "portkey" / "node_modules" / "@portkey-ai" / "gateway"
    start = package / "build" / "start-server.js"
    node = shutil.which("node")
    if not start.exists() or not node:
        yield None
        return
    port = free_port()
    child = Child(
        "portkey", [node, str(start), f"--port={port}", "--headless"], log=folder / f"portkey-{port}.log",
        environ={**os.environ, "NODE_ENV": "production", "TRUSTED_CUSTOM_HOSTS": "localhost,127.0.0.1"}, foreign=True,
    )  # fmt: skip
    headers = {
        "Content-Type": "application/json", "x-portkey-provider": "openai", "Authorization": "Bearer none",
        "x-portkey-custom-host": f"{mock_url}/v1",
    }  # fmt: skip
    try:
        url = f"http://127.0.0.1:{port}/v1/chat/completions"
        wait_for(lambda: answers(url, headers, {"model": MODEL}), child, what="Portkey", timeout_s=_START_S)
        yield Gateway(
            name="Portkey", version=json.loads((package / "package.json").read_text())["version"],
            about=f"Node {_node_version(node)}; x-portkey-provider: openai, x-portkey-custom-host",
            urls=(url,) * _TENANTS,
            headers=(headers,) * _TENANTS, pids=lambda: [child.pid, *descendants(child.pid)],
            extra={"model": MODEL},
        )  # fmt: skip
    finally:
        child.stop()


def _node_version(node: str) -> str:
    return subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout.strip()


def tenantgate(site: Site, configuration: Configuration) -> Gateway:
    """One of ours."""
    targets = [site.target(configuration, t) for t in range(_TENANTS)]
    host = "Kong" if "Kong (" in site.stack.description else "embedded host"
    return Gateway(
        name=f"{host}, {configuration.title}", version=__version__, about=json.dumps(dict(configuration.sections)),
        urls=tuple(u for u, _ in targets), headers=tuple(h for _, h in targets),
        pids=lambda: [p for role in ("gateway", *configuration.plugins) for p in site.roles()[role]],
    )  # fmt: skip


def answers(url: str, headers: Mapping[str, str], extra: Mapping[str, Any]) -> bool | None:
    """True once the gateway answers a chat."""
    asked = [{"role": "user", "content": "Is anybody there?"}]
    body = json.dumps({"messages": asked, **extra}).encode()
    request = urllib.request.Request(url, body, dict(headers), method="POST")  # noqa: S310 - loopback
    with (
        contextlib.suppress(OSError, urllib.error.URLError),
        urllib.request.urlopen(request, timeout=10) as reply,  # noqa: S310 - loopback
    ):
        return True if reply.status == 200 else None
    return None


# -- measuring --------------------------------------------------------------------------------------------


def dues(asks: tuple[Ask, ...], gateway: Gateway, mock_url: str, rate: float, seed: int) -> Iterator[Due]:
    """Each ask to the gateway and straight to the provider, in halves of its slot that are drawn by lot."""
    rng = random.Random(seed)
    plain = {"Content-Type": "application/json"}
    for place, ask in enumerate(asks):
        names = ["bare", "ours"]
        rng.shuffle(names)
        for half, name in enumerate(names):
            at_s = (place + half / 2 + rng.random() * 0.4) / rate
            if name == "bare":
                url, headers = f"{mock_url}/v1/chat/completions", plain
            else:
                url, headers = gateway.urls[ask.tenant], dict(gateway.headers[ask.tenant])
            yield Due(at_s, name, ask.number, url, headers, ask.body(**gateway.extra), ask.secret)


def measure(gateway: Gateway, mock_url: str, mock: Site, args: argparse.Namespace) -> dict[str, Any]:
    """One gateway beside the provider itself."""
    streams = answers(gateway.urls[0], gateway.headers[0], {**gateway.extra, "stream": True})
    kinds = workload.KINDS if streams else tuple(k for k in workload.KINDS if k != "stream")
    warm = workload.make(int(2 * args.rate), seed=99, tenants=_TENANTS, kinds=kinds)
    load.run(Plan(list(dues(warm, gateway, mock_url, args.rate, 99))))
    asks = workload.make(
        int(args.rate * args.seconds), seed=1, tenants=_TENANTS, gap=int(2 * args.rate), kinds=kinds
    )
    roles = {"it": gateway.pids()}
    before, asked = procs.sample(roles), mock.stack.mock_count()
    shots = load.run(Plan(list(dues(asks, gateway, mock_url, args.rate, 1))))
    after, asked = procs.sample(roles), mock.stack.mock_count() - asked - len(asks)
    bare, ours = (judge(asks, _hits([s for s in shots if s.target == t])) for t in ("bare", "ours"))
    pairs = [(a, b) for a, b in zip(bare, ours, strict=True) if "error" not in (a.outcome, b.outcome)]
    passed = [(a, b) for a, b in pairs if b.outcome == "pass" and not b.ask.stream]
    tokens = [
        (a.shot.token_s, b.shot.token_s) for a, b in pairs
        if b.ask.stream and b.outcome == "pass" and a.shot.token_s and b.shot.token_s
    ]  # fmt: skip
    n = len(asks)
    return {
        "streams": bool(streams), "name": gateway.name, "version": gateway.version,
        "about": gateway.about, "requests": n,
        "latency": _compared([(a.shot.total_s, b.shot.total_s) for a, b in passed]),
        "first_token": _compared(tokens),
        "provider_asked": asked,
        "errors": sum(j.outcome == "error" for j in ours),
        "wrong": sum(j.wrong for j in ours), "foreign": sum(j.foreign for j in ours),
        "repeats": _share(ours, "repeat", "hit"), "paraphrases": _share(ours, "paraphrase", "hit"),
        "attacks_blocked": _share(ours, "attack", "blocked"),
        "personal_in_clear": [sum(j.shot.clear for j in ours), sum(j.ask.kind == "personal" for j in ours)],
        "cpu_ms": 1000 * procs.spent(before, after)["it"] / n, "rss_mb": after["it"].rss_mb,
        "throughput": _throughput(gateway, mock, args),
    }  # fmt: skip


def _hits(shots: list[Shot]) -> list[Shot]:
    """LiteLLM says ``x-litellm-cache-key`` with a hit, and only then; here all gateways' hits read alike."""
    hit = {"x-cache-status": "Hit"}
    return [replace(s, headers=hit) if "x-litellm-cache-key" in s.headers else s for s in shots]


def _compared(pairs: list[tuple[float, float]]) -> dict[str, Any]:
    return stats.compare([a * 1000 for a, _ in pairs], [b * 1000 for _, b in pairs]).plain()


def _share(ours: list[Judged], kind: str, outcome: str) -> list[int]:
    of_kind = [j for j in ours if j.ask.kind == kind]
    return [sum(j.outcome == outcome for j in of_kind), len(of_kind)]


def _throughput(gateway: Gateway, mock: Site, args: argparse.Namespace) -> float:
    asks = workload.make(6000, seed=77, tenants=_TENANTS, kinds=("fresh",))
    plan = Plan(
        [Due(0.0, "ours", a.number, gateway.urls[a.tenant], dict(gateway.headers[a.tenant]), a.body(**gateway.extra))
         for a in asks],
        lanes=_LANES, seconds=args.burst,
    )  # fmt: skip
    with mock.stack.mock_behaviour(latency_ms=0.0, chunk_ms=0.0):
        done = load.run(plan)
    return sum(s.status == 200 for s in done) / float(args.burst)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """All gateways, one after the other."""
    found, left = configurations.read(_FOLDER)
    ours = [BARE, *(c for c in found if c.name in ("cache", "all"))]
    result: dict[str, Any] = {"about": running.about(running.Settings(rate=args.rate, seconds=args.seconds)),
                              "gateways": [], "blanks": dict(_BLANKS)}  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="tg-peers-") as name:
        folder = Path(name)
        for number, configuration in enumerate(ours):
            with Site([configuration], folder / f"site-{number}", tenants=_TENANTS, latency_ms=args.latency_ms,
                      chunk_ms=2.0, kong_bin=args.kong) as site:  # fmt: skip
                say(f"{configuration.title} …")
                gateway = tenantgate(site, configuration)
                result["gateways"].append(measure(gateway, site.stack.mock_url, site, args))
        with Site([BARE], folder / "mock", tenants=1, latency_ms=args.latency_ms, chunk_ms=2.0) as site:
            server = RedisServer(folder / "redis-peers")
            server.start()
            try:
                for manager in (
                    portkey(args.peers, folder, site.stack.mock_url),
                    litellm(args.peers, folder, site.stack.mock_url, redis_port=None),
                    litellm(args.peers, folder, site.stack.mock_url, redis_port=server.port),
                ):
                    with manager as peer:
                        if peer is None:
                            continue
                        say(f"{peer.name} {peer.version} …")
                        result["gateways"].append(measure(peer, site.stack.mock_url, site, args))
            finally:
                server.stop()
    for g in result["gateways"]:
        if not g["streams"]:
            result["blanks"][f"{g['name']}, streams"] = "it answers them with an error here; its log says why"
    names = [g["name"] for g in result["gateways"]]
    for peer_name in ("Portkey", "LiteLLM"):
        if not any(n.startswith(peer_name) for n in names):
            result["blanks"][peer_name] = "not installed; see --install"
    for line in left:
        say(f"left out: {line}")
    return result


def say(line: str) -> None:
    """Progress."""
    print(line, flush=True)


_HEAD: Final = ("", "version", "added p50 ms", "p95", "p99", "first token p50", "at most, requests/s", "CPU ms",
                "RSS MiB", "repeats", "paraphrases", "wrong", "of others", "attacks blocked", "personal in clear",
                "errors")  # fmt: skip


def rows(result: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """The table; what there is none of is a blank."""
    out: list[tuple[str, ...]] = []
    for g in result["gateways"]:
        added, token = g["latency"]["added"], g["first_token"]["added"]
        out.append((
            g["name"], g["version"], *(_value(added, q) for q in ("p50", "p95", "p99")), _value(token, "p50"),
            f"{g['throughput']:.0f}", f"{g['cpu_ms']:.1f}", f"{g['rss_mb']:.0f}",
            *(_of(g[what]) for what in ("repeats", "paraphrases")), str(g["wrong"]), str(g["foreign"]),
            _of(g["attacks_blocked"]), f"{g['personal_in_clear'][0]}/{g['personal_in_clear'][1]}", str(g["errors"]),
        ))  # fmt: skip
    out += [(name, *[""] * (len(_HEAD) - 1)) for name in result["blanks"]]
    return out


def _value(estimates: Mapping[str, Any], quantile: str) -> str:
    return f"{estimates[quantile]['value']:+.1f}" if quantile in estimates else ""


def _of(pair: list[int]) -> str:
    return f"{pair[0]}/{pair[1]}" if pair[0] else ""


def html_page(result: Mapping[str, Any]) -> str:
    """The report."""
    about = result["about"]
    points = [
        (g["name"], e["value"], e["low"], e["high"])
        for g in result["gateways"]
        if (e := g["latency"]["added"].get("p50"))
    ]
    notes = page.html_table(("", "why it is blank"), list(result["blanks"].items()))
    setups = page.html_table(("", "configuration"), [(g["name"], g["about"]) for g in result["gateways"]])
    return page.shell(
        "Tenantgate: peers",
        f"<h1>Beside other gateways</h1><p class='soft'>{about['date']} · {about['machine']} · commit {about['commit']}"
        "</p><p>Each request goes to the gateway and, moments apart, straight to the mock provider; shown is what the "
        "gateway adds for requests that reach the provider, p50 in ms.</p>"
        f"{plots.intervals(points, unit='ms') if points else ''}{page.html_table(_HEAD, rows(result))}"
        f"<h2>Blanks</h2>{notes}<h2>Configurations</h2>{setups}",
    )


def main() -> int:
    """Install, or measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--install", type=Path, metavar="DIR", help="put the peers there, and end")
    parser.add_argument("--peers", type=Path, default=Path("reports/peers-installed"), metavar="DIR",
                        help="where they were put")  # fmt: skip
    parser.add_argument("--kong", type=Path, metavar="BIN", help="a real Kong for ours")
    parser.add_argument("--rate", type=float, default=20.0)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument(
        "--burst", type=float, default=4.0, help="seconds of full load (default: %(default)s)"
    )
    parser.add_argument("--latency-ms", type=float, default=50.0)
    parser.add_argument("--out", type=Path, default=Path("reports/peers"))
    args = parser.parse_args()
    if args.install:
        install(args.install.resolve())
        return 0
    args.peers = args.peers.resolve()
    result = run(args)
    print()
    print(plain_table(_HEAD, rows(result)))
    for name, why in result["blanks"].items():
        print(f"{name}: {why}")
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "peers.json").write_text(json.dumps(result, indent=1))
    (args.out / "peers.html").write_text(html_page(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
