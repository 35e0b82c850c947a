"""Other gateways on the same machine, with the same mock provider and the same requests.

    python benchmarks/bench_peers.py --install DIR          # puts them into a folder of their own, once
    python benchmarks/bench_peers.py --peers DIR [--kong BIN] [--seconds 20] [--out reports/peers]

LiteLLM's proxy and Portkey's gateway, each as it comes; LiteLLM with its Redis caches, exact and semantic (with our
embedder), and with its Presidio guardrail; and Tenantgate: bare, with the cache, the guardrails, all plugins. Every
request goes to a gateway and, moments apart, straight to the mock provider, so that
what is shown is what each gateway adds. What a peer can't do here is a blank with its reason, not a zero. Versions and
configurations are in the report. Nothing is gated.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import statistics
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from peer_gateways import (
    TENANTS,
    Gateway,
    answers,
    install,
    litellm,
    litellm_exact,
    litellm_presidio,
    litellm_semantic,
    portkey,
    say,
)

from tenantgate import __version__
from tenantgate.bench import configurations, load, page, plots, procs, running, stats, workload
from tenantgate.bench.configurations import BARE, Configuration
from tenantgate.bench.judging import Judged, judge
from tenantgate.bench.load import Due, Plan, Shot
from tenantgate.bench.report import plain_table
from tenantgate.bench.sites import Site
from tenantgate.bench.workload import Ask
from tenantgate.errors import EdgeError

_FOLDER: Final = Path(__file__).parent / "configurations"
_LANES: Final = 8
_WARM: Final = 1_000_000
"""Taken from the numbers of the warm-up's asks, so that they come before all others."""
_UNTOUCHED: Final = ("fresh", "repeat", "paraphrase", "near", "conversation", "stream")
"""Kinds with nothing in them that a mask or a pruner has to change."""

_INSTALL: Final = "not installed; see --install"
_PEERS: Final = {
    "Portkey": (portkey, _INSTALL),
    "LiteLLM": (litellm, _INSTALL),
    "LiteLLM, Redis cache (exact)": (litellm_exact, _INSTALL),
    "LiteLLM, Redis cache (semantic)": (
        litellm_semantic,
        "needs a Redis with the search module, which isn't installed or not made for this machine",
    ),
    "LiteLLM, Presidio": (
        litellm_presidio,
        "needs Presidio's packages, which aren't installed; see --install",
    ),
}
_BLANKS: Final = {
    "Portkey, cache": "the open gateway keeps its simple cache in memory only, and has no semantic one",
    "Portkey, guardrails": "its checks for personal data call services elsewhere",
}


def tenantgate(site: Site, configuration: Configuration) -> Gateway:
    """One of ours."""
    targets = [site.target(configuration, t) for t in range(TENANTS)]
    host = "Kong" if "Kong (" in site.stack.description else "embedded host"
    return Gateway(
        name=f"{host}, {configuration.title}",
        version=__version__,
        about=json.dumps(dict(configuration.sections)),
        urls=tuple(u for u, _ in targets),
        headers=tuple(h for _, h in targets),
        pids=lambda: [p for role in ("gateway", "engine", "audit worker") for p in site.roles()[role]],
    )


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
    # Judged with the others, as a cache may answer from it.
    warm = tuple(
        replace(a, number=a.number - _WARM)
        for a in workload.make(int(2 * args.rate), seed=99, tenants=TENANTS, kinds=kinds)
    )
    warmed = load.run(Plan(list(dues(warm, gateway, mock_url, args.rate, 99))))
    asks = workload.make(
        int(args.rate * args.seconds),
        seed=1,
        tenants=TENANTS,
        gap=int(2 * args.rate),
        kinds=kinds,
        after=warm,
    )
    roles = {"it": gateway.pids()}
    before, asked = procs.sample(roles), mock.stack.mock_count()
    shots = load.run(Plan(list(dues(asks, gateway, mock_url, args.rate, 1))))
    after, asked = procs.sample(roles), mock.stack.mock_count() - asked - len(asks)
    bare, ours = (
        [j for j in judge([*warm, *asks], _hits([*warmed, *shots], t)) if j.ask.number >= 0]
        for t in ("bare", "ours")
    )
    pairs = [(a, b) for a, b in zip(bare, ours, strict=True) if "error" not in (a.outcome, b.outcome)]
    passed = [(a, b) for a, b in pairs if b.outcome == "pass" and not b.ask.stream]
    tokens = [
        (a.shot.token_s, b.shot.token_s)
        for a, b in pairs
        if b.ask.stream and b.outcome == "pass" and a.shot.token_s and b.shot.token_s
    ]
    hits = [j for j in ours if j.outcome == "hit"]
    plain = [j for j in ours if j.outcome == "pass" and j.ask.kind in _UNTOUCHED]
    n = len(asks)
    return {
        "streams": bool(streams),
        "name": gateway.name,
        "version": gateway.version,
        "about": gateway.about,
        "requests": n,
        "latency": _compared([(a.shot.total_s, b.shot.total_s) for a, b in passed]),
        "first_token": _compared(tokens),
        "provider_asked": asked,
        "errors": sum(j.outcome == "error" for j in ours),
        "hits": len(hits),
        "hit_ms": 1000 * statistics.median([j.shot.total_s for j in hits] or [0.0]),
        "wrong": sum(j.wrong for j in hits),
        "foreign": sum(j.foreign for j in hits),
        "near_wrong": [
            sum(j.wrong for j in hits if j.ask.kind == "near"),
            sum(j.ask.kind == "near" for j in ours),
        ],
        "rewritten": [sum(j.wrong for j in plain), len(plain)],
        "repeats": _share(ours, "repeat", "hit"),
        "paraphrases": _share(ours, "paraphrase", "hit"),
        "attacks_blocked": _share(ours, "attack", "blocked"),
        "personal_in_clear": [sum(j.shot.clear for j in ours), sum(j.ask.kind == "personal" for j in ours)],
        "cpu_ms": 1000 * procs.spent(before, after)["it"] / n,
        "rss_mb": after["it"].rss_mb,
        "throughput": _throughput(gateway, mock, args),
    }


def _hits(shots: list[Shot], target: str) -> list[Shot]:
    """LiteLLM says ``x-litellm-cache-key`` with a hit, and only then; here all gateways' hits read alike."""
    hit = {"x-cache-status": "Hit"}
    return [
        replace(s, headers=hit) if "x-litellm-cache-key" in s.headers else s
        for s in shots
        if s.target == target
    ]


def _compared(pairs: list[tuple[float, float]]) -> dict[str, Any]:
    return stats.compare([a * 1000 for a, _ in pairs], [b * 1000 for _, b in pairs]).plain()


def _share(ours: list[Judged], kind: str, outcome: str) -> list[int]:
    of_kind = [j for j in ours if j.ask.kind == kind]
    return [sum(j.outcome == outcome for j in of_kind), len(of_kind)]


def _throughput(gateway: Gateway, mock: Site, args: argparse.Namespace) -> float:
    asks = workload.make(6000, seed=77, tenants=TENANTS, kinds=("fresh",))
    plan = Plan(
        [
            Due(
                0.0,
                "ours",
                a.number,
                gateway.urls[a.tenant],
                dict(gateway.headers[a.tenant]),
                a.body(**gateway.extra),
            )
            for a in asks
        ],
        lanes=_LANES,
        seconds=args.burst,
    )
    with mock.stack.mock_behaviour(latency_ms=0.0, chunk_ms=0.0):
        done = load.run(plan)
    return sum(s.status == 200 for s in done) / float(args.burst)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """All gateways, one after the other."""
    found, left = configurations.read(_FOLDER)
    ours = [BARE, *(c for c in found if c.name in ("cache", "guardrails", "all"))]
    ours = [c for c in ours if args.only.lower() in c.title.lower()]
    result: dict[str, Any] = {
        "about": running.about(running.Settings(rate=args.rate, seconds=args.seconds)),
        "gateways": [],
        "blanks": dict(_BLANKS),
    }
    with tempfile.TemporaryDirectory(prefix="tg-peers-") as name:
        folder = Path(name)
        for number, configuration in enumerate(ours):
            with Site(
                [configuration],
                folder / f"site-{number}",
                tenants=TENANTS,
                latency_ms=args.latency_ms,
                chunk_ms=2.0,
                kong_bin=args.kong,
            ) as site:
                say(f"{configuration.title} …")
                gateway = tenantgate(site, configuration)
                result["gateways"].append(measure(gateway, site.stack.mock_url, site, args))
        with Site([BARE], folder / "mock", tenants=1, latency_ms=args.latency_ms, chunk_ms=2.0) as site:
            for title, (manager, missing) in _PEERS.items():
                if args.only.lower() not in title.lower():
                    continue
                with contextlib.ExitStack() as stack:
                    try:
                        peer = stack.enter_context(manager(args.peers, folder, site.stack.mock_url))
                    except EdgeError as error:
                        result["blanks"][title] = f"doesn't start here: {error}"
                        continue
                    if peer is None:
                        result["blanks"][title] = missing
                        continue
                    say(f"{peer.name} {peer.version} …")
                    result["gateways"].append(measure(peer, site.stack.mock_url, site, args))
    for g in result["gateways"]:
        if not g["streams"]:
            result["blanks"][f"{g['name']}, streams"] = "it answers them with an error here; its log says why"
    for line in left:
        say(f"left out: {line}")
    return result


_HEAD: Final = (
    "",
    "version",
    "added p50 ms",
    "p95",
    "p99",
    "first token p50",
    "at most, requests/s",
    "CPU ms",
    "RSS MiB",
    "a hit takes p50",
    "repeats",
    "paraphrases",
    "hits wrong",
    "near misses wrong",
    "hits of others",
    "attacks blocked",
    "personal in clear",
    "others rewritten",
    "errors",
)


def rows(result: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """The table; what there is none of is a blank."""
    out: list[tuple[str, ...]] = []
    for g in result["gateways"]:
        added, token = g["latency"]["added"], g["first_token"]["added"]
        out.append(
            (
                g["name"],
                g["version"],
                *(_value(added, q) for q in ("p50", "p95", "p99")),
                _value(token, "p50"),
                f"{g['throughput']:.0f}",
                f"{g['cpu_ms']:.1f}",
                f"{g['rss_mb']:.0f}",
                f"{g['hit_ms']:.1f}" if g["hits"] else "",
                *(_of(g[what]) for what in ("repeats", "paraphrases")),
                *(f"{n}/{of}" if g["hits"] else "" for n, of in ((g["wrong"], g["hits"]), g["near_wrong"])),
                str(g["foreign"]) if g["hits"] else "",
                _of(g["attacks_blocked"]),
                f"{g['personal_in_clear'][0]}/{g['personal_in_clear'][1]}",
                _of(g["rewritten"]),
                str(g["errors"]),
            )
        )
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
        "gateway adds for requests that reach the provider, p50 in ms. CPU and memory are the gateway's and those of "
        "services that only it asks. Presidio's two services are ours around its packages, with a small English model; "
        "LiteLLM's semantic cache has our embedder, and our Redis with Redis Stack's search module.</p>"
        f"{plots.intervals(points, unit='ms') if points else ''}{page.html_table(_HEAD, rows(result))}"
        f"<h2>Blanks</h2>{notes}<h2>Configurations</h2>{setups}",
    )


def main() -> int:
    """Install, or measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--install", type=Path, metavar="DIR", help="put the peers there, and end")
    parser.add_argument(
        "--peers",
        type=Path,
        default=Path("reports/peers-installed"),
        metavar="DIR",
        help="where they were put",
    )
    parser.add_argument("--kong", type=Path, metavar="BIN", help="a real Kong for ours")
    parser.add_argument("--rate", type=float, default=20.0)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument(
        "--burst", type=float, default=4.0, help="seconds of full load (default: %(default)s)"
    )
    parser.add_argument("--latency-ms", type=float, default=50.0)
    parser.add_argument("--only", default="", metavar="TEXT", help="only gateways with this in their name")
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
