"""A calibration of one's own: read labelled pairs, score them as the plugin would, draw what came out."""

from __future__ import annotations

import html
import json
import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from tenantgate.cache.core.calibration import Calibration, Point, upper_wrong_rate
from tenantgate.cache.core.judge import difference
from tenantgate.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from tenantgate.cache.core.ports import Embedder, PairVerifier

__all__ = ["BOUNDS", "EXCLUDED", "Pair", "read_pairs", "report", "score_pair", "score_pairs"]

BOUNDS: Final = (0.01, 0.02, 0.03, 0.04, 0.1, 0.2)
"""The bounds that tables and reports show."""

EXCLUDED: Final = -1.0
"""The score of a pair that is never served, whatever the verifier says."""

_STEP: Final = 500  # pairs between two lines of progress


@dataclass(frozen=True, slots=True)
class Pair:
    """Two questions, and whether they ask the same."""

    a: str
    b: str
    same: bool


def read_pairs(path: Path) -> list[Pair]:
    """The pairs in a file of JSON lines; empty lines are skipped.

    Raises:
        ConfigError: names the line, and never quotes it.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: can't be read ({type(error).__name__})") from None
    pairs = [_pair(line, f"{path}:{number}") for number, line in enumerate(lines, 1) if line.strip()]
    if not any(pair.same for pair in pairs):
        raise ConfigError(f"{path}: holds no pair that is the same")
    return pairs


def _pair(line: str, where: str) -> Pair:
    try:
        row: Any = json.loads(line)
    except (ValueError, RecursionError):
        raise ConfigError(f"{where}: isn't JSON") from None
    if not isinstance(row, dict):
        raise ConfigError(f'{where}: must be {{"a": text, "b": text, "same": 0 or 1}}')
    for name in ("a", "b"):
        text = row.get(name)
        if not isinstance(text, str) or not text.strip() or any("\ud800" <= c <= "\udfff" for c in text):
            raise ConfigError(f"{where}: {name} must be a text")
    if row.get("same") not in (0, 1):  # True and False are 1 and 0
        raise ConfigError(f"{where}: same must be 0 or 1")
    return Pair(row["a"], row["b"], bool(row["same"]))


def score_pair(pair: Pair, embedder: Embedder, verifier: PairVerifier) -> float:
    """The verifier's score, 0 to 1, or `EXCLUDED` where a rule or the length keeps the pair from being served."""
    if difference(pair.a, pair.b) is not None or verifier.truncates(pair.a, pair.b):
        return EXCLUDED
    return verifier.score(pair.a, pair.b, float(embedder.embed(pair.a) @ embedder.embed(pair.b)))


def score_pairs(
    pairs: Sequence[Pair],
    embedder: Embedder,
    verifier: PairVerifier,
    progress: Callable[[int], None] = lambda _done: None,
) -> list[float]:
    """`score_pair` for all, on all processors; `progress` gets how many are done."""
    scores: list[float] = []
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for score in pool.map(lambda pair: score_pair(pair, embedder, verifier), pairs):
            scores.append(score)
            if len(scores) % _STEP == 0:
                progress(len(scores))
    return scores


# -- the report -----------------------------------------------------------------------------------------------

_WIDTH: Final = 860
_HEIGHT: Final = 380
_LEFT: Final = 60
_BOTTOM: Final = 50
_TOP: Final = 20
_RIGHT: Final = 20

_PAGE: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Calibration of the semantic cache</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 900px; margin: 2rem auto; padding: 0 1rem; color: #222;
  background: #fff }}
table {{ border-collapse: collapse; margin: 1rem 0 }}
th, td {{ padding: .3rem .8rem; text-align: right; border-bottom: 1px solid #ddd }}
svg {{ width: 100%; height: auto }} svg text {{ font: 12px system-ui, sans-serif; fill: #444 }}
.axis {{ stroke: #888 }} .grid {{ stroke: #eee }} .mark {{ stroke: #888; stroke-dasharray: 4 3 }}
.wrong {{ stroke: #c0392b; stroke-width: 2; fill: none }} .band {{ fill: #c0392b; opacity: .15 }}
.recall {{ stroke: #2471a3; stroke-width: 2; fill: none }}
svg text.red {{ fill: #c0392b }} svg text.blue {{ fill: #2471a3 }}
</style></head><body>
<h1>Calibration of the semantic cache</h1>
<p>Measured on {source}. Verifier {verifier}, embedder {embedder}.</p>
<p><b>Wrong</b> is the share of the pairs served at a score or above it that don't ask the same. The shaded band
ends at the upper end of its one-sided 95 % interval, which is what a bound is compared with. <b>Recall</b> is the
share of the pairs that do ask the same which are served.</p>
{chart}
<table><tr><th>max_wrong_rate</th><th>score</th><th>recall</th><th>wrong</th><th>at most</th><th>pairs served</th></tr>
{rows}
</table></body></html>
"""


def report(table: Calibration) -> str:
    """One HTML page with a curve and a table; it loads nothing from elsewhere."""
    return _PAGE.format(
        source=html.escape(table.source),
        verifier=html.escape(table.verifier),
        embedder=html.escape(table.embedder),
        chart=_chart(table),
        rows="\n".join(_row(table, bound) for bound in BOUNDS),
    )


def _row(table: Calibration, bound: float) -> str:
    score = table.threshold_for(bound)
    point = None if score is None else table.at(score)
    if point is None:
        return f"<tr><td>{bound:g}</td><td colspan=5>no score keeps it: similarity would be off</td></tr>"
    cells = (
        f"{bound:g}",
        f"{point.score:.4g}",
        f"{point.recall:.3f}",
        f"{point.wrong_rate:.4f}",
        f"{upper_wrong_rate(point.wrong, point.served):.4f}",
        f"{point.served:,}",
    )
    return f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def _x(score: float) -> float:
    return _LEFT + score * (_WIDTH - _LEFT - _RIGHT)


def _y(rate: float) -> float:
    return _HEIGHT - _BOTTOM - rate * (_HEIGHT - _BOTTOM - _TOP)


def _chart(table: Calibration) -> str:
    points = [point for point in table.points if point.served]
    # Red has its own scale, since what matters of it lies near 0.
    most = max((upper_wrong_rate(p.wrong, p.served) for p in points), default=1.0)
    scale = max(0.1, math.ceil(most * 10) / 10)
    parts = [
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="Wrong answers and recall by score">'
    ]
    for tenth in range(0, 11, 2):
        x, y, share = _x(tenth / 10), _y(tenth / 10), tenth / 10
        parts.append(f'<line class="grid" x1="{_LEFT}" y1="{y:.1f}" x2="{_WIDTH - _RIGHT}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{x:.1f}" y="{_HEIGHT - _BOTTOM + 18}" text-anchor="middle">{share:g}</text>')
        parts.append(
            f'<text class="red" x="{_LEFT - 6}" y="{y - 2:.1f}" text-anchor="end">{share * scale:.2g}</text>'
            f'<text class="blue" x="{_LEFT - 6}" y="{y + 11:.1f}" text-anchor="end">{share:g}</text>'
        )
    parts.append(_axes())
    parts.append(_marks(table))
    parts.append(_curves(points, scale))
    return "\n".join([*parts, "</svg>"])


def _axes() -> str:
    floor, end = _y(0), _WIDTH - _RIGHT
    return (
        f'<line class="axis" x1="{_LEFT}" y1="{floor}" x2="{end}" y2="{floor}"/>'
        f'<line class="axis" x1="{_LEFT}" y1="{_TOP}" x2="{_LEFT}" y2="{floor}"/>'
        f'<text x="{end}" y="{_HEIGHT - 10}" text-anchor="end">score of the verifier</text>'
        f'<text class="red" x="{_LEFT}" y="{_HEIGHT - 10}">wrong, with its upper bound</text>'
        f'<text class="blue" x="{_LEFT + 190}" y="{_HEIGHT - 10}">recall</text>'
    )


def _marks(table: Calibration) -> str:
    """A dashed line at the threshold of each bound; labels step down, since thresholds lie close together."""
    parts = []
    for i, bound in enumerate(BOUNDS):
        score = table.threshold_for(bound)
        if score is None:
            continue
        x = _x(score)
        parts.append(
            f'<line class="mark" x1="{x:.1f}" y1="{_TOP}" x2="{x:.1f}" y2="{_y(0)}"/>'
            f'<text x="{x - 4:.1f}" y="{_TOP + 12 + 14 * i}" text-anchor="end">{bound:g}</text>'
        )
    return "".join(parts)


def _curves(points: Sequence[Point], scale: float) -> str:
    def path(rates: Sequence[float]) -> str:
        return " ".join(f"{_x(p.score):.1f},{_y(r):.1f}" for p, r in zip(points, rates, strict=True))

    wrong = [p.wrong_rate / scale for p in points]
    upper = [upper_wrong_rate(p.wrong, p.served) / scale for p in points]
    there = path(upper)
    back = " ".join(reversed(path(wrong).split(" ")))
    return (
        f'<polygon class="band" points="{there} {back}"/>'
        f'<polyline class="wrong" points="{path(wrong)}"/>'
        f'<polyline class="recall" points="{path([p.recall for p in points])}"/>'
    )
