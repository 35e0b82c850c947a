"""Sums as rows, and rows as a table, CSV, JSON and a chart."""

from __future__ import annotations

import csv
import html
import io
import json
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Any, Final

from tenantgate.usage.core.amounts import FEMTO, decimal
from tenantgate.usage.core.entries import Certainty
from tenantgate.usage.core.sums import SPANS, Totals, total

__all__ = ["CHART_OF", "COLOURS", "columns_svg", "csv_text", "html_page", "json_text", "svg", "table"]

Sums = Mapping[tuple[str, ...], Totals]

CHART_OF: Final = ("cost", "tokens", "requests")
"""What a chart can show."""
_MOST_PARTS: Final = 8
_OTHERS: Final = "others"
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
)
_NAMES: Final = ("requests", "cached", "tries")
_AFTER: Final = ("uncertain", "unpriced", "corrections")


def _columns(sums: Sums) -> tuple[str, ...]:
    currencies = total(sums).currencies
    money = [f"cost_{c}" for c in currencies] + [f"uncertain_cost_{c}" for c in currencies]
    return (*_NAMES, *next(iter(sums.values()), Totals()).tokens, *money, *_AFTER)


def _cell(sums: Totals, column: str) -> int | str:
    if column.startswith("cost_"):
        return decimal(sums.cost(column.removeprefix("cost_")))
    if column.startswith("uncertain_cost_"):
        return decimal(sums.cost(column.removeprefix("uncertain_cost_"), Certainty.UNCERTAIN))
    found: int = sums.tokens[column] if column in sums.tokens else getattr(sums, column)
    return found


def table(sums: Sums, by: Sequence[str]) -> str:
    """Rows with a sum below; columns that are zero everywhere are left out, money has six decimals."""
    whole = total(sums)
    columns = [c for c in _columns(sums) if c == "requests" or _cell(whole, c) not in (0, "0")]
    rows = [(*by, *columns)]
    for key, one in [*sums.items(), (("total", *[""] * (len(by) - 1)) if by else (), whole)]:
        names = [_printable(text) or "-" if one is not whole else text for text in key]
        rows.append((*names, *(_short(_cell(one, c)) for c in columns)))
    if not by:
        del rows[1:-1]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join(
            text.ljust(w) if i < len(by) else text.rjust(w)
            for i, (text, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return "\n".join(lines) + "\n"


def _short(value: int | str) -> str:
    """Money to the millionth, marked where there are more digits; CSV and JSON have all of them."""
    if isinstance(value, int):
        return f"{value:,}"
    whole, _, part = value.partition(".")
    return value if len(part) <= 6 else f"{whole}.{part[:6]}…"


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)


_FORMULA: Final = "=+-@\uff1d\uff0b\uff0d\uff20"


def csv_text(sums: Sums, by: Sequence[str]) -> str:
    """RFC 4180, amounts with all digits. A text that a spreadsheet would take for a formula gets a ' before it."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    columns = _columns(sums)
    writer.writerow([*by, *columns])
    for key, one in sums.items():
        writer.writerow([*map(_harmless, key), *(_cell(one, column) for column in columns)])
    return out.getvalue()


def _harmless(text: str) -> str:
    # OWASP, CSV Injection: also behind white space, and in full-width letters.
    first = text.lstrip()[:1]
    return f"'{text}" if (first and first in _FORMULA) or text[:1] in ("\t", "\r", "\n") else text


def json_text(sums: Sums, by: Sequence[str], **more: Any) -> str:
    """One object: ``by``, ``rows`` and ``total``; amounts are exact texts."""

    def values(one: Totals) -> dict[str, Any]:
        out: dict[str, Any] = {name: getattr(one, name) for name in (*_NAMES, *_AFTER)}
        out |= one.tokens
        out["cost"] = {c: decimal(one.cost(c)) for c in one.currencies}
        out["cost_by_certainty"] = {
            c: {k.value: decimal(one.cost(c, k)) for k in Certainty if (c, k) in one.costs}
            for c in one.currencies
        }
        return out

    rows = [{**dict(zip(by, key, strict=True)), **values(one)} for key, one in sums.items()]
    return json.dumps({**more, "by": list(by), "rows": rows, "total": values(total(sums))}, indent=2) + "\n"


# -- chart ---------------------------------------------------------------------------------------------------

_WIDTH: Final = 960
_LEFT: Final = 84
_RIGHT: Final = 16
_TOP: Final = 44
_HIGH: Final = 280
_LABELS: Final = 56
_LEGEND_ROW: Final = 20


def svg(sums: Sums, by: Sequence[str], *, of: str = "cost", currency: str = "USD", title: str = "") -> str:
    """Stacked columns: one for each span of time, or for each value of the first dimension; parts are the others."""
    at = by.index("day") if "day" in by else next((i for i, name in enumerate(by) if name in SPANS), 0)
    stacks: dict[str, dict[str, float]] = {}
    whole: dict[str, float] = {}
    for key, one in sums.items():
        part = " / ".join(text or "-" for i, text in enumerate(key) if i != at) or of
        value = _measure(one, of, currency)
        stack = stacks.setdefault(key[at] or "-" if key else "all", {})
        stack[part] = stack.get(part, 0.0) + value
        whole[part] = whole.get(part, 0.0) + value
    if "day" in by and stacks:  # days without usage have their places, too
        first, last = date.fromisoformat(min(stacks)), date.fromisoformat(max(stacks))
        for day in range((last - first).days):
            stacks.setdefault((first + timedelta(days=day)).isoformat(), {})
    ranked = sorted(whole, key=lambda part: (-whole[part], part))
    shown = ranked if len(ranked) <= _MOST_PARTS + 1 else [*ranked[:_MOST_PARTS], _OTHERS]
    folded = {
        column: {
            part: sum(
                v for name, v in stack.items() if name == part or (part == _OTHERS and name not in shown)
            )
            for part in shown
        }
        for column, stack in sorted(stacks.items())
    }
    unit = {"cost": currency, "tokens": "tokens", "requests": "requests"}[of]
    return columns_svg(folded, dict(zip(shown, COLOURS, strict=False)), unit=unit, title=title)


def _measure(one: Totals, of: str, currency: str) -> float:
    if of == "cost":
        return one.cost(currency) / FEMTO
    return float(
        one.requests if of == "requests" else one.tokens["input_tokens"] + one.tokens["output_tokens"]
    )


def columns_svg(
    stacks: Mapping[str, Mapping[str, float]], colours: Mapping[str, str], *, unit: str, title: str
) -> str:
    """Stacked columns: values of parts by label and part, drawn in each part's colour, the lowest first."""
    top = max((sum(max(v, 0.0) for v in stack.values()) for stack in stacks.values()), default=0.0)
    step = _step(top)
    high = step * max(1, -int(-top // step))
    base = _TOP + _HIGH
    room = (_WIDTH - _LEFT - _RIGHT) / max(1, len(stacks))
    out = [f'<text class="title" x="{_LEFT}" y="22">{html.escape(_printable(title))}</text>'] if title else []
    for i in range(round(high / step) + 1):
        y = base - i * step / high * _HIGH
        out.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        out.append(f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{_number(i * step)}</text>')
    out.append(f'<text x="{_LEFT - 8}" y="{_TOP - 14}" text-anchor="end">{html.escape(unit)}</text>')
    every = max(1, -(-len(stacks) // 24))
    for i, (label, stack) in enumerate(stacks.items()):
        x, y = _LEFT + i * room, float(base)
        for part, value in stack.items():
            tall = max(value, 0.0) / high * _HIGH
            if tall <= 0:
                continue
            y -= tall
            said = html.escape(_printable(f"{label}, {part}: {_number(value)} {unit}"))
            out.append(
                f'<rect x="{x + room * 0.12:.1f}" y="{y:.1f}" width="{room * 0.76:.1f}" height="{tall:.1f}" '
                f'fill="{colours[part]}"><title>{said}</title></rect>'
            )
        if i % every == 0:
            middle = x + room / 2
            out.append(
                f'<text x="{middle:.1f}" y="{base + 14}" text-anchor="end" '
                f'transform="rotate(-35 {middle:.1f} {base + 14})">{html.escape(_shortened(label, 22))}</text>'
            )
    y = base + _LABELS + 24
    x = _LEFT
    for part, colour in colours.items():
        text = _shortened(part, 60)
        wide = 24 + 7 * len(text)
        if x + wide > _WIDTH - _RIGHT and x > _LEFT:
            x, y = _LEFT, y + _LEGEND_ROW
        out.append(f'<rect x="{x}" y="{y - 10}" width="12" height="12" fill="{colour}"/>')
        out.append(f'<text x="{x + 18}" y="{y}">{html.escape(text)}</text>')
        x += wide + 8
    tall_all = y + 14
    style = "text{font:12px system-ui,sans-serif;fill:#333}.title{font-size:15px;font-weight:600}.grid{stroke:#ddd}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {tall_all}" width="{_WIDTH}" '
        f'height="{tall_all}" role="img" aria-label="{html.escape(_printable(title), quote=True)}">'
        f'<style>{style}</style><rect width="100%" height="100%" fill="#fff"/>{"".join(out)}</svg>\n'
    )


def _step(top: float) -> float:
    """A round distance of about five lines."""
    if top <= 0:
        return 1.0
    size = 1.0
    while size * 10 <= top:
        size *= 10
    while size > top:
        size /= 10
    return next(size * k for k in (0.2, 0.5, 1.0, 2.0) if top / (size * k) <= 6)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 or value == int(value) else f"{value:.4g}"


def _shortened(text: str, most: int) -> str:
    text = _printable(text)
    return text if len(text) <= most else text[: most - 1] + "…"


def html_page(picture: str, sums: Sums, by: Sequence[str], title: str) -> str:
    """A page of its own with the chart and the table; it loads nothing."""
    columns = _columns(sums)
    whole = total(sums)
    columns = tuple(c for c in columns if c == "requests" or _cell(whole, c) not in (0, "0"))
    head = "".join(f"<th>{html.escape(c)}</th>" for c in (*by, *columns))
    body = "".join(
        "<tr>"
        + "".join(f"<td>{html.escape(_printable(text) or '-')}</td>" for text in key)
        + "".join(f'<td class="n">{_cell(one, c)}</td>' for c in columns)
        + "</tr>\n"
        for key, one in sums.items()
    )
    style = (
        "body{font:14px system-ui,sans-serif;margin:2em;color:#222}table{border-collapse:collapse}"
        "th,td{padding:.3em .8em;border-bottom:1px solid #ddd;text-align:left}.n{text-align:right}svg{max-width:100%}"
    )
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{style}</style>\n{picture}<table><thead><tr>{head}</tr></thead><tbody>\n{body}</tbody></table></html>\n"
    )
