"""Where the time of one request goes, by kind of request: requests one by one, and what each part says of itself.

The embedded host is run with a stopwatch (`traced_gateway`); the plugin servers' histograms tell what their models,
their Redis and their detectors took. On a real Kong only the latter are there, and the rest is one part.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from tenantgate import features
from tenantgate.bench import counters, workload
from tenantgate.bench.configurations import Configuration
from tenantgate.bench.counters import Series
from tenantgate.bench.sites import ENGINE, Site
from tenantgate.bench.workload import Ask

__all__ = ["KINDS", "trace"]

KINDS: Final = (
    "fresh",
    "hundred",
    "long",
    "repeat",
    "paraphrase",
    "conversation",
    "stream",
    "attack",
    "personal",
)
_STORE: Final = "store"  # the cache's, in the log phase
Json = dict[str, Any]


def trace(
    site: Site, configuration: Configuration, *, count: int, seed: int, lines: Path | None
) -> list[Json]:
    """One trace for each kind of request: means of `count` requests, in milliseconds.

    Args:
        site: the gateway, alone with these requests.
        configuration: one that it serves.
        count: requests of each kind.
        seed: of the requests.
        lines: where the traced gateway writes; None for a gateway that doesn't.
    """
    out = []
    for kind in KINDS:
        asks = list(workload.of_kind(kind, count, seed=seed))
        first, rest = asks[:-count], asks[-count:]
        _send(site, configuration, first)
        site.wait_for_log_phases()
        _send(site, configuration, rest[:1])  # what a first request of its kind makes once
        site.wait_for_log_phases()
        if lines is not None:
            lines.unlink(missing_ok=True)
        before = site.counts()
        total_s, outcomes = _send(site, configuration, rest[1:])
        site.wait_for_log_phases()
        after = site.counts()
        n = len(rest) - 1
        change = counters.difference(before.metrics.get(ENGINE, {}), after.metrics.get(ENGINE, {}))
        calls = {
            phase: counters.total(change, "tenantgate_pdk_calls_total", plugin=ENGINE, phase=phase) / n
            for phase in ("access", "response", "log")
        }
        parts = _parts(_stages(change, n), change, total_s * 1000 / n, lines, n)
        out.append(
            {"kind": kind, "outcomes": outcomes, "total_ms": total_s * 1000 / n, "calls": calls, **parts}
        )
    return out


def _send(site: Site, configuration: Configuration, asks: Sequence[Ask]) -> tuple[float, dict[str, int]]:
    client = site.client(configuration, 0)
    total, outcomes = 0.0, Counter[str]()
    for ask in asks:
        reply = client.send(ask.body(**site.extra).encode())
        total += reply.total_s
        outcomes[f"{reply.status} {reply.cache or ''}".strip()] += 1
    return total, dict(outcomes)


def _stages(change: Series, n: int) -> dict[str, dict[str, float]]:
    """By stage of the engine the parts of its phases before the answer, as its histograms tell, ms per request.

    The part ``""`` is the whole.
    """
    out: dict[str, dict[str, float]] = {}
    for plugin in features.stages():
        whole = _phase_ms(change, plugin.name, ("access", "response"), n)
        if whole:
            out[plugin.name] = {"": whole}
    by_package = {p.service.split(".")[1]: p.name for p in reversed(features.stages()) if p.name in out}
    for (name, labels), value in change.items():
        owner = by_package.get(name.split("_")[1])
        # What lags behind runs beside the requests.
        if owner is None or not name.endswith("_seconds_sum") or "_lag_" in name:
            continue
        named = [v for n, v in labels if n in ("stage", "detector")]
        if named != [_STORE]:
            part = ", ".join(named) or name.removesuffix("_seconds_sum").removeprefix("tenantgate_")
            out[owner][part] = out[owner].get(part, 0.0) + value * 1000 / n
    return out


def _phase_ms(change: Series, plugin: str, phases: Sequence[str], n: int) -> float:
    name = "tenantgate_phase_seconds_sum"
    return sum(counters.total(change, name, plugin=plugin, phase=p) for p in phases) * 1000 / n


def _parts(
    stages: Mapping[str, dict[str, float]], change: Series, total_ms: float, lines: Path | None, n: int
) -> Json:
    seen = _read(lines, n)
    parts: list[Json] = []
    for plugin, found in stages.items():
        inner = {part: value for part, value in found.items() if part}
        for part, value in sorted(inner.items(), key=lambda item: -item[1]):
            parts.append({"plugin": plugin, "part": part, "ms": value})
        left = max(0.0, found[""] - sum(inner.values()))
        parts.append({"plugin": plugin, "part": "its own code", "ms": left})
    event = seen["plugins"].get(ENGINE, {})
    phases_ms = _phase_ms(change, ENGINE, ("access", "response"), n)
    whole, answered = event.get("ms", phases_ms), event.get("pdk_ms", 0.0)
    if answered:
        parts.append({"plugin": ENGINE, "part": "PDK calls, answered by the gateway", "ms": answered})
    own = "its own code, and the way to it and back" if answered else "its own code, and PDK calls"
    if whole:
        inside = sum(p["ms"] for p in parts)
        parts.append({"plugin": ENGINE, "part": own, "ms": max(0.0, whole - inside)})
    if seen["gateway_ms"]:
        own_ms = seen["gateway_ms"] - seen["provider_ms"] - sum(p["ms"] for p in parts)
        parts.append({"plugin": "", "part": "gateway and stock plugins", "ms": max(0.0, own_ms)})
        parts.append({"plugin": "", "part": "provider", "ms": seen["provider_ms"]})
        parts.append(
            {
                "plugin": "",
                "part": "HTTP to and from the gateway",
                "ms": max(0.0, total_ms - seen["gateway_ms"]),
            }
        )
    else:
        left = total_ms - sum(p["ms"] for p in parts)
        parts.append({"plugin": "", "part": "gateway, provider and HTTP", "ms": max(0.0, left)})
    names = (ENGINE, *stages)
    return {
        "parts": parts,
        "after_ms": {p: ms for p in names if (ms := _phase_ms(change, p, ("log",), n))},
        "methods": {p: e["methods"] for p, e in seen["plugins"].items()},
    }


def _read(lines: Path | None, n: int) -> Json:
    """Means of what the traced gateway wrote, in milliseconds."""
    plugins: dict[str, Json] = defaultdict(lambda: {"ms": 0.0, "pdk_ms": 0.0, "methods": []})
    gateway = provider = 0.0
    text = lines.read_text(encoding="utf-8") if lines is not None and lines.exists() else ""
    for line in map(json.loads, text.splitlines()):
        if "log" in line:
            continue
        gateway += line["gateway"] * 1000 / n
        provider += line["provider"] * 1000 / n
        for event in line["plugins"]:
            entry = plugins[event["name"]]
            entry["ms"] += event["plugin"] * 1000 / n
            entry["pdk_ms"] += event["pdk"] * 1000 / n
            entry["methods"] = event["methods"]
    return {"gateway_ms": gateway, "provider_ms": provider, "plugins": dict(plugins)}
