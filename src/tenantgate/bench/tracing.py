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

from tenantgate.bench import counters, workload
from tenantgate.bench.configurations import Configuration
from tenantgate.bench.counters import Series
from tenantgate.bench.sites import MODEL, Site
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
_WHOLE: Final = frozenset({"tenantgate_phase_seconds_sum", "tenantgate_event_seconds_sum"})
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
        stages = {
            plugin: _stages(
                counters.difference(before.metrics.get(plugin, {}), after.metrics.get(plugin, {})), n
            )
            for plugin in configuration.plugins
        }
        parts = _parts(configuration, stages, total_s * 1000 / n, lines, n)
        out.append({"kind": kind, "outcomes": outcomes, "total_ms": total_s * 1000 / n, **parts})
    return out


def _send(site: Site, configuration: Configuration, asks: Sequence[Ask]) -> tuple[float, dict[str, int]]:
    client = site.stack.client(configuration.tenant(0), provider="mock", model=MODEL)
    total, outcomes = 0.0, Counter[str]()
    for ask in asks:
        reply = client.send(ask.body().encode())
        total += reply.total_s
        outcomes[f"{reply.status} {reply.cache or ''}".strip()] += 1
    return total, dict(outcomes)


def _stages(change: Series, n: int) -> dict[str, float]:
    """What a plugin server's histograms say of parts of its phases before the answer, ms per request."""
    out: dict[str, float] = {}
    for (name, labels), value in change.items():
        # What lags behind runs beside the requests.
        if name.endswith("_seconds_sum") and name not in _WHOLE and "_lag_" not in name:
            what = name.removesuffix("_seconds_sum").removeprefix("tenantgate_")
            named = [v for n, v in labels if n in ("stage", "detector")]
            label = ", ".join(named) or what
            out[label] = out.get(label, 0.0) + value * 1000 / n
    before_answer = sum(
        counters.total(change, "tenantgate_phase_seconds_sum", phase=p) for p in ("access", "response")
    )
    out["phases"] = before_answer * 1000 / n
    out["log phase"] = counters.total(change, "tenantgate_phase_seconds_sum", phase="log") * 1000 / n
    return out


def _parts(
    configuration: Configuration,
    stages: Mapping[str, dict[str, float]],
    total_ms: float,
    lines: Path | None,
    n: int,
) -> Json:
    seen = _read(lines, n)
    parts: list[Json] = []
    left = total_ms
    for plugin in configuration.plugins:
        of_plugin = dict(stages[plugin])
        phases_ms, log_ms = of_plugin.pop("phases"), of_plugin.pop("log phase")
        store = of_plugin.pop("store", 0.0)  # the cache's, in the log phase
        spent = 0.0
        for stage, value in sorted(of_plugin.items(), key=lambda item: -item[1]):
            parts.append({"plugin": plugin, "part": stage, "ms": value})
            spent += value
        whole = seen["plugins"].get(plugin, {}).get("ms", phases_ms)
        answered = seen["plugins"].get(plugin, {}).get("pdk_ms", 0.0)
        if answered:
            parts.append({"plugin": plugin, "part": "PDK calls, answered by the gateway", "ms": answered})
        own = "its own code, and the way to it and back" if answered else "its own code, and PDK calls"
        if whole:
            parts.append({"plugin": plugin, "part": own, "ms": max(0.0, whole - spent - answered)})
        left -= max(whole, spent)
        del log_ms, store
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
        parts.append({"plugin": "", "part": "gateway, provider and HTTP", "ms": max(0.0, left)})
    return {
        "parts": parts,
        "after_ms": {p: stages[p]["log phase"] for p in configuration.plugins if stages[p]["log phase"]},
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
