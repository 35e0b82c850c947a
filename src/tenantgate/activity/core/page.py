"""The page of ``tenantgate report``: one HTML file with its pictures in it, which loads nothing and runs no script."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from tenantgate.activity.core.sums import Activity, merged, quantile
from tenantgate.activity.core.table import HEAD, cells
from tenantgate.usage.core.amounts import FEMTO
from tenantgate.usage.core.report import COLOURS, columns_svg

__all__ = ["STEPS_S", "page", "step_of"]

STEPS_S: Final = (60, 300, 900, 3600, 10_800, 21_600, 86_400, 604_800)
"""Widths of a column, in seconds."""
_MOST_COLUMNS: Final = 60
_MOST_PARTS: Final = 8
_OTHERS: Final = "others"
_OUTCOMES: Final = (
    "upstream_error",
    "gateway_error",
    "client_gone",
    "rate_limited",
    "refused",
    "unauthorized",
)

Bins = Mapping[int, Mapping[str, Activity]]
"""By the start of a column (Unix seconds) and tenant what happened."""
Stacks = Mapping[str, Mapping[str, float]]


def step_of(span_s: float) -> int:
    """The width of a column for so many seconds: at most sixty columns, or weeks."""
    return next((step for step in STEPS_S if span_s / step <= _MOST_COLUMNS), STEPS_S[-1])


def page(bins: Bins, *, since_s: float, until_s: float, step_s: int, title: str = "Tenantgate") -> str:
    """The page of a span of time; columns without requests have their places."""
    starts = list(range(int(since_s // step_s) * step_s, int(-(-until_s // step_s)) * step_s, step_s))
    tenants: dict[str, Activity] = {}
    for name in sorted({name for some in bins.values() for name in some}):
        tenants[name] = merged(bins[start][name] for start in bins if name in bins[start])
    whole = merged(tenants.values())
    sums = {start: merged(bins.get(start, {}).values()) for start in starts}
    title = "".join(c if c.isprintable() else "?" for c in title)
    currency = max(whole.femto, key=lambda c: whole.femto[c], default="USD")

    def label(start: int) -> str:
        return datetime.fromtimestamp(start, UTC).strftime("%m-%d" if step_s >= 86_400 else "%m-%d %H:%M")

    def by_tenant(measure: Callable[[Activity], float]) -> tuple[Stacks, Sequence[str]]:
        ranked = sorted(tenants, key=lambda t: (-measure(tenants[t]), t))
        first = ranked if len(ranked) <= _MOST_PARTS else ranked[:_MOST_PARTS]
        parts = [*first, *([_OTHERS] if len(first) < len(ranked) else [])]
        stacks = {
            label(start): {
                **{t: measure(some[t]) for t in first if t in some},
                **(
                    {_OTHERS: sum(measure(a) for t, a in some.items() if t not in first)}
                    if len(parts) > len(first)
                    else {}
                ),
            }
            for start in starts
            for some in (bins.get(start, {}),)
        }
        return stacks, parts

    def by_part(
        parts: Sequence[str], measure: Callable[[Activity, str], float]
    ) -> tuple[Stacks, Sequence[str]]:
        used = [part for part in parts if measure(whole, part)]
        return {label(s): {part: measure(sums[s], part) for part in used} for s in starts}, used

    def latency(share: float) -> dict[str, float]:
        return {label(s): quantile(one.latencies_ms, share) or 0.0 for s, one in sums.items()}

    median, slow = latency(0.5), latency(0.95)
    rules = [name for name, _ in whole.findings.most_common(len(COLOURS))]
    hits = {label(s): {"hit rate": 100 * (one.hit_rate or 0.0)} for s, one in sums.items()}
    charts = (
        ("Requests by tenant", "requests", *by_tenant(lambda a: float(a.requests))),
        ("Cache: share of lookups that hit", "%", hits, ["hit rate"]),
        (
            "Latency: the whole column is the 95th percentile, its lower part the median",
            "ms",
            {
                name: {"p50": median[name], "up to p95": max(0.0, slow[name] - median[name])}
                for name in median
            },
            ["p50", "up to p95"],
        ),
        ("Errors and refusals", "requests", *by_part(_OUTCOMES, lambda a, part: float(a.outcomes[part]))),
        (
            "Findings of the guard by rule",
            "requests",
            *by_part(rules, lambda a, part: float(a.findings[part])),
        ),
        ("Cost by tenant", currency, *by_tenant(lambda a: a.femto[currency] / FEMTO)),
    )
    tenant_colours = _colours(charts[0][3], {})
    pictures = "".join(
        _chart(name, unit, stacks, parts, tenant_colours if "by tenant" in name else {})
        for name, unit, stacks, parts in charts
    )
    span = f"{_moment(since_s)} to {_moment(until_s)}, UTC"
    rate = whole.hit_rate
    tiles = (
        ("requests", f"{whole.requests:,}"),
        ("tenants", f"{len(tenants):,}"),
        ("cache hits", "-" if rate is None else f"{rate:.0%}"),
        ("p95", _ms(quantile(whole.latencies_ms, 0.95))),
        ("errors", f"{whole.errors:,}"),
        ("blocked", f"{whole.outcomes['blocked']:,}"),
        ("cost", cells("", whole, 1.0)[4]),
    )
    shown = "".join(f"<div><b>{html.escape(value)}</b>{html.escape(name)}</div>" for name, value in tiles)
    head = "".join(f"<th>{html.escape(name)}</th>" for name in HEAD)
    ranked = sorted(tenants, key=lambda t: (-tenants[t].requests, t))
    rows = "".join(
        "<tr>"
        + "".join(f"<td>{html.escape(c)}</td>" for c in cells(t, tenants[t], until_s - since_s))
        + "</tr>\n"
        for t in ranked
    )
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        '<meta name="viewport" content="width=device-width">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<style>{_STYLE}</style></head>\n<body><h1>{html.escape(title)}</h1><p>{html.escape(span)}</p>"
        f'<section class="tiles">{shown}</section>{pictures}'
        f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>\n{rows}</tbody></table></div></body></html>\n'
    )


def _colours(parts: Sequence[str], before: Mapping[str, str]) -> Mapping[str, str]:
    """A colour for each part: that of the chart before, where it had one; the others are grey."""
    kept = {part: before[part] for part in parts if part in before}
    free = iter([colour for colour in COLOURS[:-1] if colour not in kept.values()])
    return {
        part: COLOURS[-1] if part == _OTHERS else kept.get(part) or next(free, COLOURS[-1]) for part in parts
    }


def _chart(name: str, unit: str, stacks: Stacks, parts: Sequence[str], before: Mapping[str, str]) -> str:
    if not any(value for stack in stacks.values() for value in stack.values()):
        return f"<figure><figcaption>{html.escape(name)}: none</figcaption></figure>"
    return f"<figure>{columns_svg(stacks, _colours(parts, before), unit=unit, title=name)}</figure>"


def _moment(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%d %H:%M")


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f} ms"


_STYLE: Final = (
    "body{font:14px system-ui,sans-serif;margin:2em auto;max-width:1040px;padding:0 1em;color:#222}"
    "h1{font-size:22px;margin-bottom:0}figure{margin:1.5em 0}figcaption{color:#777}svg{max-width:100%;height:auto}"
    ".tiles{display:flex;flex-wrap:wrap;gap:1em}.tiles div{border:1px solid #ddd;border-radius:6px;padding:.6em 1em}"
    ".tiles b{display:block;font-size:18px}.wide{overflow-x:auto}table{border-collapse:collapse;width:100%}"
    "th,td{padding:.3em .4em;border-bottom:1px solid #ddd;text-align:right;white-space:nowrap}"
    "th:first-child,td:first-child{text-align:left}"
)
