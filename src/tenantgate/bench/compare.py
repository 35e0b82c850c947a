"""``tenantgate bench --compare A B``: whether two results agree, ratio by ratio."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from tenantgate.bench.report import plain_table
from tenantgate.errors import ConfigError

__all__ = ["Row", "rows", "side_by_side"]

_AGREE: Final = 0.15
Json = dict[str, Any]
Row = tuple[str, str, float, float]
"""Configuration, what, in A, in B."""
_MS: Final = " ms"
"""How names of plain times end. They depend on the machine, so they are shown, but no agreement is asked of them."""


def rows(a: Json, b: Json) -> Iterator[Row]:
    """What both results have, configuration by configuration."""
    for name, ours in a["configurations"].items():
        theirs = b["configurations"].get(name)
        if theirs is None:
            continue
        for what in ("pass", "pass, 100 tokens", "pass, long", "hit"):
            for quantile in ("p50", "p95"):
                found = [c["latency"][what]["ratio"].get(quantile) for c in (ours, theirs)]
                if all(found):
                    yield name, f"{what} {quantile} / bare", found[0]["value"], found[1]["value"]
        if ours[
            "plugins"
        ]:  # what the bare route adds to itself is near zero, and no ratio of it means anything
            for quantile in ("p50", "p95"):
                added = [c["latency"]["pass"]["added"].get(quantile) for c in (ours, theirs)]
                if all(added):
                    yield name, f"added {quantile} ms", added[0]["value"], added[1]["value"]
        if "throughput" in ours and "throughput" in theirs:
            at_most = [c["throughput"]["ours"] / max(1.0, c["throughput"]["bare"]) for c in (ours, theirs)]
            yield name, "throughput / bare", at_most[0], at_most[1]
        yield name, "Redis trips", *(c["cost"]["redis_per_request"]["trips"] for c in (ours, theirs))
        yield name, "PDK calls", *(sum(c["cost"]["pdk_calls_per_request"].values()) for c in (ours, theirs))
        yield (
            name,
            "hits / requests",
            *(c["quality"]["hits"][0] / c["quality"]["hits"][1] for c in (ours, theirs)),
        )
        yield name, "CPU ms", *(sum(c["cost"]["cpu_ms_per_request"].values()) for c in (ours, theirs))


def side_by_side(first: Path, second: Path) -> str:
    """Both results in columns; ratios and counts that differ by more than 15 % are marked, times aren't.

    Raises:
        ConfigError: a file isn't a result.
    """
    a, b = _read(first), _read(second)
    lines, apart, ratios = [], 0, 0
    for name, what, x, y in rows(a, b):
        change = y / x - 1 if x else 0.0
        mark = ""
        if not what.endswith(_MS):
            ratios += 1
            apart += abs(change) > _AGREE
            mark = " *" if abs(change) > _AGREE else ""
        lines.append((name, what, f"{x:.2f}", f"{y:.2f}", f"{change:+.0%}{mark}"))
    heads = [
        f"{letter}: {path}: {r['about']['date']}, commit {r['about']['commit']}, {r['about']['machine']}"
        for letter, path, r in (("A", first, a), ("B", second, b))
    ]
    table = plain_table(("configuration", "what", "A", "B", "change"), lines)
    verdict = f"{apart} of {ratios} ratios and counts differ by more than {_AGREE:.0%} (*)"
    return "\n".join((*heads, "", table, "", verdict))


def _read(path: Path) -> Json:
    try:
        found: Json = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: isn't a result of tenantgate bench") from error
    if "configurations" not in found:
        raise ConfigError(f"{path}: isn't a result of tenantgate bench")
    return found
