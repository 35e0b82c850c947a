"""Our ledger against another's: by tenant, model and day what both say, and what sets them apart."""

from __future__ import annotations

import enum
import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from fractions import Fraction
from typing import Any

from tenantgate.tenant import TenantId
from tenantgate.usage.core.amounts import FEMTO, decimal
from tenantgate.usage.core.entries import Certainty, Cost, Entry, Kind
from tenantgate.usage.core.ledgers import Figures, Key, Rows

__all__ = ["Difference", "Status", "compare", "corrections", "metrics_text", "report_text", "report_values"]


class Status(enum.StrEnum):
    """How two ledgers stand to each other on one line."""

    AGREES = "agrees"  # within the tolerance
    UNCERTAIN = "uncertain"  # they differ, and there are tries that the other side may have billed unseen
    DRIFT = "drift"  # they differ, and nothing that we know of explains it
    ONLY_OURS = "only_ours"
    ONLY_THEIRS = "only_theirs"


@dataclass(frozen=True, slots=True)
class Difference:
    """One line of a reconciliation."""

    key: Key
    ours: Figures | None
    theirs: Figures | None
    status: Status

    @property
    def cost(self) -> int:
        """Theirs less ours, in femto-units; what a side doesn't tell counts as nothing."""
        ours, theirs = (0 if f is None or f.cost is None else f.cost for f in (self.ours, self.theirs))
        return theirs - ours


def compare(ours: Rows, theirs: Rows, tolerance: Fraction) -> list[Difference]:
    """All lines, in order. `tolerance`: of the larger amount, such as 1/1000."""
    out = []
    for key in sorted(ours.figures.keys() | theirs.figures.keys()):
        a, b = ours.figures.get(key), theirs.figures.get(key)
        out.append(Difference(key, a, b, _status(a, b, tolerance)))
    return out


def _status(ours: Figures | None, theirs: Figures | None, tolerance: Fraction) -> Status:
    if theirs is None:
        return (
            Status.UNCERTAIN
            if ours is not None and ours.requests is None and ours.uncertain
            else Status.ONLY_OURS
        )
    if ours is None:
        return Status.ONLY_THEIRS
    # What both tell: costs if they can, else counts.
    names = (
        ("cost",) if ours.cost is not None and theirs.cost is not None else ("input_tokens", "output_tokens")
    )
    told = [
        (a, b) for n in names if (a := getattr(ours, n)) is not None and (b := getattr(theirs, n)) is not None
    ]
    if not told and ours.requests is not None and theirs.requests is not None:
        told = [(ours.requests, theirs.requests)]
    if told and all(abs(a - b) <= tolerance * max(abs(a), abs(b)) for a, b in told):
        return Status.AGREES
    more = any(b > a for a, b in told)
    return Status.UNCERTAIN if ours.uncertain and (more or not told) else Status.DRIFT


def corrections(
    differences: Iterable[Difference], *, source: str, currency: str, zone: tzinfo
) -> Iterator[Entry]:
    """Entries that bring our ledger to what the other says, one for each line that differs in cost.

    Lines without a tenant give none: nobody could be charged. The same differences give the same entries, so that one
    that is written twice counts once.
    """
    for one in differences:
        if one.status is Status.AGREES or not one.key.tenant or one.theirs is None or one.theirs.cost is None:
            continue
        if one.cost == 0:
            continue
        told = f"{source}\n{one.key.tenant}\n{one.key.model}\n{one.key.day}\n{decimal(one.theirs.cost)}\n{one.cost}"
        yield Entry(
            id=f"correction:{hashlib.sha256(told.encode('utf-8', 'surrogatepass')).hexdigest()[:32]}",
            kind=Kind.CORRECTION,
            tenant=TenantId(one.key.tenant),
            time_ms=_noon_ms(one.key.day, zone),
            model=one.key.model,
            outcome="correction",
            cost=Cost(one.cost, currency, source),
            certainty=Certainty.EXACT,
            reason=f"reconciled with {source}: {one.status}",
        )


def _noon_ms(day: str, zone: tzinfo) -> int:
    """A time that is on this day whatever summer time does."""
    noon = datetime.fromisoformat(day).replace(hour=12, tzinfo=zone)
    return (noon - datetime.fromtimestamp(0, UTC)) // timedelta(milliseconds=1)


def report_values(differences: Sequence[Difference], *, source: str, currency: str) -> dict[str, Any]:
    """The reconciliation as JSON."""
    return {
        "source": source,
        "currency": currency,
        "rows": [
            {
                "tenant": one.key.tenant or None,
                "model": one.key.model,
                "day": one.key.day,
                "status": one.status.value,
                "ours": _figures(one.ours),
                "theirs": _figures(one.theirs),
                "difference": decimal(one.cost),
                "uncertain": one.ours.uncertain if one.ours is not None else 0,
            }
            for one in differences
        ],
        "total": _total(differences),
    }


def _figures(figures: Figures | None) -> dict[str, Any] | None:
    if figures is None:
        return None
    counts = {n: getattr(figures, n) for n in ("requests", "input_tokens", "output_tokens")}
    out: dict[str, Any] = {name: count for name, count in counts.items() if count is not None}
    if figures.cost is not None:
        out["cost"] = decimal(figures.cost)
    if figures.uncertain_cost:
        out["uncertain_cost"] = decimal(figures.uncertain_cost)
    return out


def _total(differences: Sequence[Difference]) -> dict[str, Any]:
    ours = sum(one.ours.cost or 0 for one in differences if one.ours is not None)
    theirs = sum(one.theirs.cost or 0 for one in differences if one.theirs is not None)
    return {
        "ours": decimal(ours),
        "theirs": decimal(theirs),
        "difference": decimal(theirs - ours),
        "apart": decimal(sum(abs(one.cost) for one in differences if one.status is not Status.AGREES)),
        "uncertain": sum(one.ours.uncertain for one in differences if one.ours is not None),
        "rows": {
            status.value: count for status, count in sorted(Counter(d.status for d in differences).items())
        },
    }


def report_text(
    differences: Sequence[Difference], *, source: str, currency: str, everything: bool = False
) -> str:
    """The reconciliation as a table: the lines that don't agree, or all of them."""
    shown = [one for one in differences if everything or one.status is not Status.AGREES]
    rows = [("tenant", "model", "day", "ours", source, "difference", "uncertain", "status")]
    rows += [
        (
            _plain(one.key.tenant) or "(all)",
            _plain(one.key.model) or "-",
            one.key.day,
            _cell(one.ours),
            _cell(one.theirs),
            decimal(one.cost),
            str(one.ours.uncertain if one.ours is not None else 0),
            one.status.value,
        )
        for one in shown
    ]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join(
            text.rjust(w) if 3 <= i < 7 else text.ljust(w)
            for i, (text, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    whole = _total(differences)
    sums = f"ours {whole['ours']} {currency}, {source} {whole['theirs']} {currency}, difference {whole['difference']}"
    counts = ", ".join(f"{count} {status}" for status, count in whole["rows"].items())
    return "\n".join(
        [
            *(lines if shown else []),
            f"{len(differences)} lines: {counts or 'none'}",
            f"{sums}; {whole['uncertain']} uncertain tries",
            "",
        ]
    )


def _plain(name: str) -> str:
    """A name out of somebody's file, for a terminal."""
    return "".join(c if c.isprintable() else "?" for c in name)[:100]


def _cell(figures: Figures | None) -> str:
    if figures is None:
        return "-"
    if figures.cost is not None:
        return decimal(figures.cost)
    tokens = (figures.input_tokens, figures.output_tokens)
    return f"{'+'.join('?' if t is None else str(t) for t in tokens)} tokens" if any(tokens) else "no cost"


def metrics_text(differences: Sequence[Difference], *, source: str, currency: str, now_s: int) -> str:
    """Metrics for node_exporter's textfile collector; ratios and sums only, so that labels stay few."""
    ours = sum(one.ours.cost or 0 for one in differences if one.ours is not None)
    theirs = sum(one.theirs.cost or 0 for one in differences if one.theirs is not None)
    apart = sum(abs(one.cost) for one in differences if one.status is Status.DRIFT or "only" in one.status)
    whole = max(abs(ours), abs(theirs))
    uncertain = sum(one.ours.uncertain for one in differences if one.ours is not None)
    counts = Counter(one.status for one in differences)
    label = f'source="{source}"'
    money = f'{label},currency="{currency}"'
    return "\n".join(
        [
            "# HELP tenantgate_reconcile_cost Sums of both ledgers, in the currency.",
            "# TYPE tenantgate_reconcile_cost gauge",
            f'tenantgate_reconcile_cost{{{money},side="ours"}} {ours / FEMTO!r}',
            f'tenantgate_reconcile_cost{{{money},side="theirs"}} {theirs / FEMTO!r}',
            "# HELP tenantgate_reconcile_drift_ratio Part of the larger sum by which lines differ unexplained.",
            "# TYPE tenantgate_reconcile_drift_ratio gauge",
            f"tenantgate_reconcile_drift_ratio{{{money}}} {(apart / whole if whole else 0.0)!r}",
            "# HELP tenantgate_reconcile_lines Lines by how the ledgers stand to each other.",
            "# TYPE tenantgate_reconcile_lines gauge",
            *(
                f'tenantgate_reconcile_lines{{{label},status="{status}"}} {counts.get(status, 0)}'
                for status in Status
            ),
            "# HELP tenantgate_reconcile_uncertain_tries Tries that a provider may have billed unseen.",
            "# TYPE tenantgate_reconcile_uncertain_tries gauge",
            f"tenantgate_reconcile_uncertain_tries{{{label}}} {uncertain}",
            "# HELP tenantgate_reconcile_time_seconds When the ledgers were compared.",
            "# TYPE tenantgate_reconcile_time_seconds gauge",
            f"tenantgate_reconcile_time_seconds{{{label}}} {now_s}",
            "",
        ]
    )
