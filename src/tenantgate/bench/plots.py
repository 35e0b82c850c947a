"""Plots as inline SVG, without a library; text and axes take the page's colours."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from typing import Final

__all__ = ["COLOURS", "bars", "curves", "intervals", "legend"]

COLOURS: Final = (
    "#3b6fb6",
    "#e08a2e",
    "#4d9e6a",
    "#b5527a",
    "#8a6fc4",
    "#b39b2d",
    "#4aa3b8",
    "#c4594d",
    "#7d8590",
    "#6b8e23",
    "#a0522d",
    "#5f6caf",
)
_WIDTH: Final = 860
_LEFT: Final = 210
_RIGHT: Final = 70
_ROW: Final = 24


def bars(
    rows: Sequence[tuple[str, Sequence[tuple[str, float]]]], colours: Mapping[str, str], *, unit: str
) -> str:
    """Stacked horizontal bars: (label, ((part, value), …)) each; parts have their colours by name."""
    top = max((sum(v for _, v in parts) for _, parts in rows), default=0.0) or 1.0
    scale = (_WIDTH - _LEFT - _RIGHT) / top
    out = []
    for i, (label, parts) in enumerate(rows):
        y, x = i * _ROW + 4, float(_LEFT)
        out.append(_text(_LEFT - 8, y + 13, label, "end"))
        for part, value in parts:
            wide = value * scale
            title = f"<title>{html.escape(part)}: {_number(value)} {unit}</title>"
            out.append(
                f'<rect x="{x:.1f}" y="{y}" width="{max(wide, 0.3):.1f}" height="17" '
                f'fill="{colours[part]}">{title}</rect>'
            )
            x += wide
        out.append(_text(x + 6, y + 13, f"{_number(sum(v for _, v in parts))} {unit}"))
    return _svg(len(rows) * _ROW + 8, out)


def legend(colours: Mapping[str, str]) -> str:
    """Which colour is which part."""
    items = "".join(
        f'<span><i style="background:{c}"></i>{html.escape(name)}</span>' for name, c in colours.items()
    )
    return f'<p class="legend">{items}</p>'


def intervals(
    rows: Sequence[tuple[str, float, float, float]], *, unit: str, mark: float | None = None
) -> str:
    """A point with its interval a row: (label, value, low, high); `mark` is a line to hold them against."""
    lows = [low for _, _, low, _ in rows] + [0.0]
    highs = [high for _, _, _, high in rows] + [mark or 0.0]
    ticks = _ticks(min(lows), max(highs))
    low, high = ticks[0], ticks[-1]
    scale = (_WIDTH - _LEFT - _RIGHT) / (high - low)

    def at(value: float) -> float:
        return _LEFT + (value - low) * scale

    bottom = len(rows) * _ROW + 6
    out = [_grid(at(t), bottom, _number(t)) for t in ticks]
    out.append(f'<line class="zero" x1="{at(0):.1f}" x2="{at(0):.1f}" y1="0" y2="{bottom}"/>')
    if mark is not None:
        out.append(f'<line class="mark" x1="{at(mark):.1f}" x2="{at(mark):.1f}" y1="0" y2="{bottom}"/>')
    for i, (label, value, lo, hi) in enumerate(rows):
        y = i * _ROW + 14
        out.append(_text(_LEFT - 8, y + 4, label, "end"))
        out.append(f'<line class="whisker" x1="{at(lo):.1f}" x2="{at(hi):.1f}" y1="{y}" y2="{y}"/>')
        said = f"{_number(value)} {unit} ({_number(lo)} to {_number(hi)})"
        out.append(
            f'<circle cx="{at(value):.1f}" cy="{y}" r="4.5"><title>{html.escape(said)}</title></circle>'
        )
        out.append(_text(_WIDTH - _RIGHT + 10, y + 4, _number(value)))
    return _svg(bottom + 22, out)


def curves(
    lines: Sequence[tuple[str, Sequence[tuple[float, float]]]],
    *,
    x_label: str,
    y_label: str,
    log_x: bool = False,
    width: int = 420,
    height: int = 230,
) -> str:
    """Lines through points; with `log_x` the horizontal axis counts in powers of ten."""
    left, right, top, bottom = 52, 14, 10, 40
    xs = [math.log10(x) if log_x else x for _, points in lines for x, _ in points] or [0.0]
    ys = [y for _, points in lines for _, y in points] or [0.0]
    x_ticks = (
        [float(t) for t in range(math.floor(min(xs)), math.ceil(max(xs)) + 1)]
        if log_x
        else _ticks(min(xs), max(xs))
    )
    y_ticks = _ticks(min(0.0, *ys), max(ys))
    x_low, x_high = (min(xs), max(xs)) if not log_x else (x_ticks[0], x_ticks[-1])
    x_high = x_high if x_high > x_low else x_low + 1
    wide, high = width - left - right, height - top - bottom

    def place(x: float, y: float) -> tuple[float, float]:
        share = ((math.log10(x) if log_x else x) - x_low) / (x_high - x_low)
        return left + share * wide, top + high * (1 - (y - y_ticks[0]) / (y_ticks[-1] - y_ticks[0]))

    out = []
    for tick in y_ticks:
        _, y = place(10**x_low if log_x else x_low, tick)
        out.append(f'<line class="grid" x1="{left}" x2="{width - right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        out.append(_text(left - 6, y + 4, _number(tick), "end"))
    for tick in x_ticks:
        if x_low <= tick <= x_high:
            value = 10**tick if log_x else tick
            x, _ = place(value, y_ticks[0])
            out.append(_text(x, height - bottom + 16, _short(value), "middle"))
    for (name, points), colour in zip(lines, COLOURS * 9, strict=False):
        d = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*p) for p in points))
        title = f"<title>{html.escape(name)}</title>"
        out.append(
            f'<polyline points="{d}" fill="none" stroke="{colour}" stroke-width="2">{title}</polyline>'
        )
    out.append(_text(left + wide / 2, height - 6, x_label, "middle"))
    out.append(
        f'<text class="label" transform="translate(12 {top + high / 2}) rotate(-90)" '
        f'text-anchor="middle">{html.escape(y_label)}</text>'
    )
    return _svg(height, out, width=width)


def _svg(height: float, parts: Sequence[str], *, width: int = _WIDTH) -> str:
    size = f'viewBox="0 0 {width} {height:.0f}" style="max-width:{width}px"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" role="img" {size}>{"".join(parts)}</svg>'


def _text(x: float, y: float, text: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{html.escape(text)}</text>'


def _grid(x: float, bottom: float, text: str) -> str:
    line = f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{bottom}"/>'
    return line + _text(x, bottom + 15, text, "middle")


def _ticks(low: float, high: float) -> list[float]:
    """Five or so round numbers that hold both."""
    if high <= low:
        high = low + 1
    raw = (high - low) / 5
    unit = 10.0 ** math.floor(math.log10(raw))
    step = next(m * unit for m in (1, 2, 2.5, 5, 10) if m * unit >= raw)
    first = math.floor(low / step)
    count = math.ceil(high / step - 1e-9) - first
    return [round((first + i) * step, 10) for i in range(count + 1)]


def _number(value: float) -> str:
    size = abs(value)
    if size >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.1f}" if size >= 10 else f"{value:.2f}".rstrip("0").rstrip(".") or "0"


def _short(value: float) -> str:
    for size, letter in ((1e6, " M"), (1e3, " k")):
        if value >= size:
            return f"{value / size:g}{letter}"
    return _number(value)
