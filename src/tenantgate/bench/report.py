"""A result as a table for the terminal, and its gates."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

__all__ = ["CONTROL", "gates", "of", "plain_table", "table"]

CONTROL: Final = "bare again"
"""The entry that compares the bare route with itself."""

Json = dict[str, Any]
_WRONG_BOUND: Final = 0.03  # the configurations' own max_wrong_rate
_SURE: Final = 1.645  # 95 %, one-sided


def table(result: Json) -> str:
    """What stands in the terminal."""
    head = (
        "configuration",
        "added p50 ms",
        "p95",
        "p99",
        "100 tokens p50",
        "p95",
        "long p50",
        "p95",
        "ratio p50",
        "hit ratio",
        "hit p50",
        "first token p50",
        "hits",
        "wrong",
        "blocked",
        "errors",
        "CPU ms",
        "CPU ratio",
        "throughput",
        "PDK",
        "Redis",
    )
    rows = []
    control = result["configurations"].get(CONTROL)
    # Kong's alone: a bare gateway has no engine that waits for work.
    bare_cpu = control["cost"]["cpu_ms_per_request"]["gateway"] if control else 0.0
    for name, c in result["configurations"].items():
        passed, hit, cost, quality = c["latency"]["pass"], c["latency"]["hit"], c["cost"], c["quality"]
        rows.append(
            (
                name,
                *(_added(passed, p) for p in ("p50", "p95", "p99")),
                *(
                    _added(c["latency"][f"pass, {kind}"], p)
                    for kind in ("100 tokens", "long")
                    for p in ("p50", "p95")
                ),
                _ratio(passed),
                _ratio(hit),
                f"{hit['with_us']['p50']:.1f}" if hit["with_us"] else "–",
                _added(c["first_token"], "p50"),
                of(quality["hits"]),
                of(quality["wrong_hits"]),
                of(quality["attacks_blocked"]),
                str(sum(c["errors"].values())),
                f"{_cpu(c):.1f}",
                f"{_cpu(c) / bare_cpu:.1f}" if bare_cpu else "–",
                _share(c),
                f"{sum(cost['pdk_calls_per_request'].values()):.1f}",
                f"{cost['redis_per_request']['trips']:.1f}",
            )
        )
    return plain_table(head, rows)


def _cpu(c: Json) -> float:
    """Milliseconds of all processes but the provider's, for each request."""
    return float(sum(v for r, v in c["cost"]["cpu_ms_per_request"].items() if r != "mock provider"))


def _share(c: Json) -> str:
    """Of the bare route's throughput."""
    found = c.get("throughput")
    return f"{found['ours'] / found['bare']:.2f}" if found and found["bare"] else "–"


def plain_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Columns of text, the first one to the left."""
    lines = [head, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    return "\n".join(
        "  ".join(
            cell.ljust(w) if i == 0 else cell.rjust(w)
            for i, (cell, w) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def _added(comparison: Json, quantile: str) -> str:
    found = comparison["added"].get(quantile)
    return f"{found['value']:+.1f}" if found else "–"


def _ratio(comparison: Json) -> str:
    found = comparison["ratio"].get("p50")
    return f"{found['value']:.2f}" if found else "–"


def of(pair: Sequence[int]) -> str:
    """``n/m``, or a dash where there was nothing to count."""
    return f"{pair[0]}/{pair[1]}" if pair[1] else "–"


def gates(result: Json) -> list[str]:
    """What must not be: counts only, never times. Empty where all is well."""
    return [
        f"{name}: {what}"
        for name, c in result["configurations"].items()
        for what in (*_broken(c), *_wrong(c["quality"]), *_idle(c))
    ]


def _broken(c: Json) -> Iterator[str]:
    if c["errors"]:
        yield f"{sum(c['errors'].values())} errors ({_listed(c['errors'])})"
    if c["bare_errors"]:
        yield f"errors on the bare route ({_listed(c['bare_errors'])})"
    for plugin in c["plugins"]:
        phases = c["cost"]["phases"].get(plugin, {})
        if bad := phases.get("failed", 0) + phases.get("late", 0):
            yield f"{bad} phases of {plugin} failed or were late"


def _wrong(quality: Json) -> Iterator[str]:
    wrong, hits = quality["wrong_hits"]
    if wrong > _most_wrong(hits):
        yield f"{wrong} of {hits} hits are answers to another question"
    if quality["wrong_passes"]:
        yield f"{quality['wrong_passes']} answers of the provider were another request's"
    if quality["foreign"]:
        yield f"{quality['foreign']} answers belong to another tenant"
    if quality["hides_personal"] and quality["personal_in_clear"][0]:
        yield f"personal data reached the provider {quality['personal_in_clear'][0]} times"


def _idle(c: Json) -> Iterator[str]:
    """A plugin that did nothing makes fine times."""
    for plugin in c["plugins"]:
        phases = c["cost"]["phases"].get(plugin, {})
        if not phases.get("done", 0) + phases.get("answered", 0):
            yield f"{plugin} never ran"
    if "cache" in c["sections"] and c["quality"]["repeats"][1] and not c["quality"]["repeats"][0]:
        yield "no repeat was answered from the cache"


def _most_wrong(hits: int) -> int:
    """How many wrong hits may be chance, where the bound holds."""
    expected = _WRONG_BOUND * hits
    return math.ceil(expected + _SURE * math.sqrt(expected * (1 - _WRONG_BOUND)))


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{n} {what}" for what, n in counts.items())
