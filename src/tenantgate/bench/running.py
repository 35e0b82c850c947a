"""One run: every configuration beside the bare route, request by request."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import os
import platform
import random
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np

from tenantgate import __version__
from tenantgate.bench import counters, load, procs, stats, tracing, workload
from tenantgate.bench.configurations import BARE, Configuration
from tenantgate.bench.judging import OUTCOMES, Judged, judge
from tenantgate.bench.load import Due, Plan, Shot
from tenantgate.bench.report import CONTROL
from tenantgate.bench.sites import ENGINE, Counts, Site
from tenantgate.bench.workload import Ask
from tenantgate.compress.token_counts import token_counter

__all__ = ["Elsewhere", "Settings", "about", "run", "run_elsewhere"]

_WARM_SEED: Final = 1_000_003
_BURST_SEED: Final = 2_000_003
_BURST_KINDS: Final = ("fresh", "hundred")
_BURST_MOST: Final = 3000  # requests a second; a gateway that could do more would seem to do no more
_LANES: Final = 16
_TURNS: Final = 4
_TRACED_LATENCY_MS: Final = 5.0
Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a run is made.

    Attributes:
        rate: requests a second to each of the two targets of a comparison.
        seconds: length of each comparison.
        warm_up_s: length of the traffic before it, which isn't counted.
        tenants: how many ask.
        latency_ms: the mock provider's, before its first byte.
        chunk_ms: the mock provider's, before each chunk of a stream.
        seed: of the workload.
        burst_s: length of each of the bursts that show how much goes through; 0 for none.
        traced: requests of each kind whose time is told by part; 0 for none.
        kong_bin: a real Kong instead of the embedded host.
    """

    rate: float = 20.0
    seconds: float = 35.0
    warm_up_s: float = 3.0
    tenants: int = 4
    latency_ms: float = 50.0
    chunk_ms: float = 2.0
    seed: int = 1
    burst_s: float = 1.5
    traced: int = 12
    kong_bin: Path | None = None


class Target(Protocol):
    """Where requests can be sent."""

    @property
    def extra(self) -> Mapping[str, Any]:
        """Fields of each request's body."""

    def target(self, configuration: Configuration, tenant: int) -> tuple[str, dict[str, str]]:
        """Address and headers for a tenant's requests."""


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """A gateway that runs already: all tenants' requests go to one address, with the same headers."""

    url: str
    headers: Mapping[str, str]
    extra: Mapping[str, Any] = field(default_factory=dict)

    def target(self, configuration: Configuration, tenant: int) -> tuple[str, dict[str, str]]:  # noqa: ARG002
        """The one address."""
        return self.url, {"Content-Type": "application/json", **self.headers}


def about(settings: Settings) -> Json:
    """Where and how it was measured."""
    return {
        "date": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "version": __version__,
        "commit": _commit(),
        "machine": f"{_cpu()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load_before": round(os.getloadavg()[0], 2),
        "settings": {
            k: str(v) if isinstance(v, Path) else v for k, v in dataclasses.asdict(settings).items()
        },
    }


def _cpu() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def _commit() -> str:
    here = Path(__file__).parent
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        said = subprocess.run(
            ["git", "-C", str(here), "describe", "--always", "--dirty"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
        return said.stdout.strip()
    return ""


def run(
    configurations: Sequence[Configuration],
    settings: Settings,
    folder: Path,
    *,
    say: Callable[[str], None] = lambda _: None,
) -> Json:
    """Measure `configurations`, each beside the bare route; the result as JSON.

    Configurations that need the same `gateway` settings share one gateway; the bare route always has the one whose
    settings are the usual ones.

    Raises:
        TenantgateError: a gateway can't be started, or the load process failed.
    """
    result: Json = {"about": about(settings), "configurations": {}}
    groups: dict[str, list[Configuration]] = {BARE.needs(): [BARE]}
    for configuration in configurations:
        groups.setdefault(configuration.needs(), []).append(configuration)
    with contextlib.ExitStack() as stacks:
        base: Site | None = None
        for number, group in enumerate(groups.values()):
            say(f"starting a gateway for {', '.join(c.name for c in group)} …")
            with contextlib.ExitStack() as own:
                site = (stacks if base is None else own).enter_context(
                    _site(group, settings, folder / f"site-{number}")
                )
                base = base or site
                result["about"].setdefault("gateway", site.stack.description)
                for configuration in group:
                    name = CONTROL if configuration == BARE else configuration.name
                    say(f"{name}: {settings.rate:g} requests/s for {settings.seconds:g} s to each of the two")
                    found = _compare(base, site, configuration, settings)
                    if site is base:
                        _without_bare(found["cost"], result["configurations"].get(CONTROL, {}).get("cost"))
                    result["configurations"][name] = found
    if settings.traced:
        say(f"where the time goes: {settings.traced} requests of each kind to each configuration, one by one")
        result["traces"] = _traces(configurations, settings, folder / "traced")
    return result


def _without_bare(cost: Json, control: Json | None) -> None:
    """Take out of what a gateway spent what the bare route's requests made it spend, which came in equal number."""
    per_request = cost["cpu_ms_per_request"]
    for role in ("gateway", "mock provider"):
        per_request[role] = (
            per_request[role] / 2
            if control is None
            else max(0.0, per_request[role] - control["cpu_ms_per_request"][role])
        )
    cost["provider_asked"] -= cost["requests"]


def _traces(configurations: Sequence[Configuration], settings: Settings, folder: Path) -> Json:
    gateway: Json = {}
    for configuration in configurations:
        gateway |= configuration.gateway
    together = [dataclasses.replace(c, gateway=gateway) for c in (BARE, *configurations)]
    quick = dataclasses.replace(settings, tenants=1, latency_ms=_TRACED_LATENCY_MS, chunk_ms=0.0)
    with _site(together, quick, folder, traced=True) as site:
        return {
            c.name: tracing.trace(site, c, count=settings.traced, seed=settings.seed, lines=site.trace)
            for c in together
        }


def _site(group: Sequence[Configuration], settings: Settings, folder: Path, *, traced: bool = False) -> Site:
    return Site(
        group,
        folder,
        tenants=settings.tenants,
        latency_ms=settings.latency_ms,
        chunk_ms=settings.chunk_ms,
        kong_bin=settings.kong_bin,
        traced=traced,
    )


def run_elsewhere(ours: Elsewhere, bare: Elsewhere, settings: Settings) -> Json:
    """Measure a gateway by its address beside another one, which is without the plugins.

    Both must lead to a provider that answers as the mock provider does, or every answer counts as wrong. What their
    processes cost isn't known here.

    Raises:
        TenantgateError: the load process failed.
    """
    configuration = Configuration(name="it", title=ours.url)
    targets: dict[str, tuple[Target, Configuration]] = {"bare": (bare, BARE), "ours": (ours, configuration)}
    settings = dataclasses.replace(settings, tenants=1)
    asks = _warmed(targets, settings)
    shots = load.run(Plan(list(_dues(asks, targets, settings))))
    nothing = Counts({}, {}, dict.fromkeys(("trips", "commands", "megabytes"), 0.0), 0)
    found = _result(asks, shots, configuration, settings, (nothing, nothing))
    found["cost"]["provider_asked"] = None
    return {
        "about": {**about(settings), "gateway": f"{ours.url} beside {bare.url}"},
        "configurations": {configuration.name: found},
    }


# -- one comparison ---------------------------------------------------------------------------------------


def _compare(base: Site, site: Site, configuration: Configuration, settings: Settings) -> Json:
    targets = {"bare": (base, BARE), "ours": (site, configuration)}
    asks = _warmed(targets, settings)
    site.wait_for_log_phases()
    before = site.counts()
    shots = load.run(Plan(list(_dues(asks, targets, settings))))
    site.wait_for_log_phases()
    after = site.counts()
    result = _result(asks, shots, configuration, settings, (before, after))
    if settings.burst_s:
        result["throughput"] = _throughput(targets, settings)
    return result


def _warmed(targets: Mapping[str, tuple[Target, Configuration]], settings: Settings) -> tuple[Ask, ...]:
    """The requests to count, after others have made connections, instances and models ready."""
    warm = workload.make(
        max(1, int(settings.rate * settings.warm_up_s)), seed=_WARM_SEED, tenants=settings.tenants
    )
    load.run(Plan(list(_dues(warm, targets, settings))))
    return workload.make(
        max(1, int(settings.rate * settings.seconds)),
        seed=settings.seed,
        tenants=settings.tenants,
        gap=int(2 * settings.rate),
        after=warm,
    )


def _throughput(targets: Mapping[str, tuple[Site, Configuration]], settings: Settings) -> Json:
    """Requests a second as fast as they go, in turns, with a provider that answers at once."""
    size = max(1, int(_BURST_MOST * settings.burst_s))
    asks = workload.make(
        _TURNS * size, seed=_BURST_SEED, tenants=settings.tenants, kinds=_BURST_KINDS
    )  # each new to the cache
    done: Counter[str] = Counter()
    with contextlib.ExitStack() as quick:
        for site in {id(site): site for site, _ in targets.values()}.values():
            quick.enter_context(site.stack.mock_behaviour(latency_ms=0.0, chunk_ms=0.0))
        for turn in range(_TURNS):
            for name, (site, configuration) in targets.items():
                now = asks[turn * size : (turn + 1) * size]
                dues = [_due(name, site, configuration, ask, 0.0) for ask in now]
                shots = load.run(Plan(dues, lanes=_LANES, seconds=settings.burst_s))
                done[name] += sum(s.status == 200 for s in shots)
    spent_s = _TURNS * settings.burst_s
    return {"lanes": _LANES, **{name: done[name] / spent_s for name in targets}}


def _dues(
    asks: Sequence[Ask], targets: Mapping[str, tuple[Target, Configuration]], settings: Settings
) -> Iterator[Due]:
    """Each ask to both targets within its slot, in an order and at moments drawn by lot.

    The halves of a slot keep the two apart, so that one's work isn't the other's wait; the lot keeps whatever beats
    in the machine from always hitting the same one.
    """
    rng = random.Random(settings.seed)
    slot = 1 / settings.rate
    for place, ask in enumerate(asks):
        names = list(targets)
        rng.shuffle(names)
        for half, name in enumerate(names):
            at_s = (place + half / 2 + rng.random() * 0.4) * slot
            yield _due(name, *targets[name], ask, at_s)


def _due(name: str, to: Target, configuration: Configuration, ask: Ask, at_s: float) -> Due:
    url, headers = to.target(configuration, ask.tenant)
    return Due(at_s, name, ask.number, url, headers, ask.body(**to.extra), ask.secret)


def _result(
    asks: Sequence[Ask],
    shots: Sequence[Shot],
    configuration: Configuration,
    settings: Settings,
    counts: tuple[Counts, Counts],
) -> Json:
    bare = judge(asks, [s for s in shots if s.target == "bare"])
    ours = judge(asks, [s for s in shots if s.target == "ours"])
    pairs = [(a, b) for a, b in zip(bare, ours, strict=True) if "error" not in (a.outcome, b.outcome)]
    # What the clients saw goes by the time of sending; our own phases that follow an answer aren't in it.
    span_s = max(s.at_s + s.total_s for s in shots if s.target == "ours")
    return {
        "title": configuration.title,
        "sections": dict(configuration.sections),
        "plugins": list(configuration.plugins),
        "requests": len(ours),
        "per_second": len(ours) / span_s,
        "outcomes": {o: sum(j.outcome == o for j in ours) for o in OUTCOMES},
        "errors": dict(Counter(j.error for j in ours if j.error)),
        "bare_errors": dict(Counter(j.error for j in bare if j.error)),
        "curve": {
            "bare": _curve([j.shot.total_s for j in bare if j.outcome != "error" and not j.ask.stream]),
            "ours": _curve([j.shot.total_s for j in ours if j.outcome != "error" and not j.ask.stream]),
        },
        "late_ms": stats.quantiles([1000 * s.late_s for s in shots]),
        "latency": {
            what: stats.compare(*_times(pairs, choose), seed=settings.seed).plain()
            for what, choose in _CHOICES.items()
        },
        "first_token": stats.compare(*_tokens(pairs), seed=settings.seed).plain(),
        "quality": _quality(ours, configuration),
        "cost": _cost(ours, configuration.plugins, *counts),
    }


def _curve(seconds: Sequence[float]) -> list[float]:
    """Milliseconds below which 0, 1, … 100 % of the requests stayed."""
    return [round(float(v) * 1000, 3) for v in np.percentile(seconds, range(101))] if seconds else []


_CHOICES: Final[Mapping[str, Callable[[Judged], bool]]] = {
    # Long prompts apart: they are about a twentieth, and would make the p95 of all a matter of one more or less.
    "pass": lambda j: j.outcome == "pass" and not j.ask.stream and j.ask.kind != "long",
    "pass, 100 tokens": lambda j: j.outcome == "pass" and j.ask.kind == "hundred",
    "pass, long": lambda j: j.outcome == "pass" and j.ask.kind == "long",
    "hit": lambda j: j.outcome == "hit" and not j.ask.stream,
    "blocked": lambda j: j.outcome == "blocked",
    "all": lambda j: not j.ask.stream,
}


def _times(
    pairs: Sequence[tuple[Judged, Judged]], choose: Callable[[Judged], bool]
) -> tuple[list[float], list[float]]:
    chosen = [(a.shot.total_s * 1000, b.shot.total_s * 1000) for a, b in pairs if choose(b)]
    return [a for a, _ in chosen], [b for _, b in chosen]


def _tokens(pairs: Sequence[tuple[Judged, Judged]]) -> tuple[list[float], list[float]]:
    chosen = [
        (a.shot.token_s * 1000, b.shot.token_s * 1000)
        for a, b in pairs
        if b.ask.stream and b.outcome == "pass" and a.shot.token_s is not None and b.shot.token_s is not None
    ]
    return [a for a, _ in chosen], [b for _, b in chosen]


def _quality(ours: Sequence[Judged], configuration: Configuration) -> Json:
    asked_again = [j for j in ours if j.ask.kind == "repeat"]
    reworded = [j for j in ours if j.ask.kind == "paraphrase"]
    attacks = [j for j in ours if j.ask.kind == "attack"]
    personal = [j for j in ours if j.ask.kind == "personal" and j.outcome in ("pass", "hit")]
    hits = [j for j in ours if j.outcome == "hit"]
    return {
        "repeats": [sum(j.outcome == "hit" for j in asked_again), len(asked_again)],
        "paraphrases": [sum(j.outcome == "hit" for j in reworded), len(reworded)],
        "hits": [len(hits), len(ours)],
        "wrong_hits": [sum(j.wrong for j in hits), len(hits)],
        "wrong_passes": sum(j.wrong for j in ours if j.outcome == "pass"),
        "foreign": sum(j.foreign for j in ours),
        "attacks_blocked": [sum(j.outcome == "blocked" for j in attacks), len(attacks)],
        "honest_blocked": [
            sum(j.outcome == "blocked" for j in ours if j.ask.kind != "attack"),
            len(ours) - len(attacks),
        ],
        "personal_in_clear": [sum(j.shot.clear for j in personal), len(personal)],
        "hides_personal": configuration.hides_personal,
    }


def _cost(ours: Sequence[Judged], plugins: Sequence[str], before: Counts, after: Counts) -> Json:
    n = len(ours)
    counter = token_counter("o200k_base")
    tokens = [sum(counter.count(text) for _, text in j.ask.messages) for j in ours]
    change = counters.difference(before.metrics.get(ENGINE, {}), after.metrics.get(ENGINE, {}))
    compressed = counters.total(change, "tenantgate_compress_saved_tokens_total")
    cpu = {r: 1000 * s / n for r, s in procs.spent(before.usage, after.usage).items()}
    return {
        "requests": n,
        "cpu_ms_per_request": cpu,
        **{
            what: {role: getattr(u, what) for role, u in after.usage.items()}
            for what in ("rss_mb", "threads", "files")
        },
        "pdk_calls_per_request": {
            phase: calls / n
            for phase in ("access", "response", "log")
            if (calls := counters.total(change, "tenantgate_pdk_calls_total", plugin=ENGINE, phase=phase))
        },
        "phases": {
            plugin: {
                outcome: round(
                    counters.total(change, "tenantgate_phases_total", plugin=plugin, outcome=outcome)
                )
                for outcome in ("done", "answered", "failed", "late")
            }
            for plugin in (ENGINE, *plugins)
        },
        "redis_per_request": {
            what: (after.redis[what] - before.redis[what]) / n for what in ("trips", "commands")
        },
        "redis_megabytes": after.redis["megabytes"] - before.redis["megabytes"],
        "provider_asked": after.asked - before.asked,
        "tokens": {
            "asked": sum(tokens),
            "saved_by_hits": sum(t for t, j in zip(tokens, ours, strict=True) if j.outcome == "hit"),
            "saved_by_compression": round(compressed),
        },
    }
