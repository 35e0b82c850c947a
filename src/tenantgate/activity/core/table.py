"""The table of ``tenantgate top``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tenantgate.activity.core.sums import Activity, merged, quantile
from tenantgate.usage.core.amounts import FEMTO

__all__ = ["ORDERS", "cells", "table"]

HEAD: Final = (
    "tenant",
    "requests",
    "/s",
    "tokens",
    "cost",
    "hits",
    "p50 ms",
    "p95 ms",
    "blocked",
    "limited",
    "errors",
)
ORDERS: Final = ("requests", "tokens", "errors", "tenant")
_MOST: Final = 40


def table(
    sums: Mapping[str, Activity], *, span_s: float, order: str = "requests", rows: int = 0, width: int = 0
) -> str:
    """A line for each tenant, the first by `order`, and one for all. `rows` and `width` are the terminal's; 0: any."""
    keys = {
        "requests": lambda t: (-sums[t].requests, t),
        "tokens": lambda t: (-sums[t].tokens, t),
        "errors": lambda t: (-sums[t].errors, t),
        "tenant": lambda t: (0, t),
    }
    names = sorted(sums, key=keys[order])
    shown = names[: max(1, rows - 3)] if rows else names
    lines = [HEAD, *(cells(name, sums[name], span_s) for name in shown)]
    if left := len(names) - len(shown):
        lines.append((f"… {left} more", *[""] * (len(HEAD) - 1)))
    lines.append(cells("all", merged(sums.values()), span_s))
    widths = [max(len(line[i]) for line in lines) for i in range(len(HEAD))]
    out = [
        "  ".join(
            c.rjust(w) if i else c.ljust(w) for i, (c, w) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    return "\n".join(line[:width] if width else line for line in out) + "\n"


def cells(name: str, one: Activity, span_s: float) -> tuple[str, ...]:
    """The cells of one line."""
    rate = one.hit_rate
    return (
        _name(name),
        f"{one.requests:,}",
        f"{one.requests / span_s:.2f}" if span_s > 0 else "-",
        f"{one.tokens:,}",
        money(one),
        "-" if rate is None else f"{rate:.0%}",
        _ms(quantile(one.latencies_ms, 0.5)),
        _ms(quantile(one.latencies_ms, 0.95)),
        f"{one.outcomes['blocked']:,}",
        f"{one.outcomes['rate_limited']:,}",
        f"{one.errors:,}",
    )


def money(one: Activity) -> str:
    """What it cost, by currency; - where nothing is known."""
    return (
        " + ".join(f"{femto / FEMTO:.4f} {currency}" for currency, femto in sorted(one.femto.items())) or "-"
    )


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def _name(text: str) -> str:
    plain = "".join(c if c.isprintable() else "?" for c in text)
    return plain if len(plain) <= _MOST else plain[: _MOST - 1] + "…"
