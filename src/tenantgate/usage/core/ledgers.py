"""Others' ledgers: rows of a platform's export, of a provider's usage export or invoice, or of usage events.

Exports differ in their columns. Those of OpenAI (usage, costs) and of Anthropic (usage, costs) are known by their
header; others are told by a mapping. What a ledger doesn't tell is None, never zero.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, tzinfo
from typing import Any, Final

from tenantgate.errors import ConfigError
from tenantgate.usage.core.amounts import amount_of
from tenantgate.usage.core.entries import Entry, Kind
from tenantgate.usage.core.sums import span_of

__all__ = [
    "COLUMNS",
    "Figures",
    "Key",
    "Reading",
    "Rows",
    "columns_of",
    "csv_rows",
    "json_rows",
    "of_entries",
    "pairs",
    "plain_model",
]

COLUMNS: Final = ("tenant", "model", "day", "requests", "input_tokens", "output_tokens", "cost", "currency")
"""What a mapping may name; `model`, `day`, and one of the amounts must be there."""

_BEFORE: Final = "1970-01-01"
_DATED: Final = re.compile(r"[-@](20\d{6}|20\d\d-\d\d-\d\d)(-v\d(:\d)?)?$")

_OPENAI_USAGE: Final = {
    "day": ("start_time_iso", "start_time"),
    "model": ("model",),
    "requests": ("num_model_requests",),
    "input_tokens": ("input_tokens",),
    "output_tokens": ("output_tokens",),
}
_OPENAI_COSTS: Final = {
    "day": ("start_time_iso", "start_time"),
    "model": ("line_item",),
    "cost": ("amount_value",),
    "currency": ("amount_currency",),
}
_ANTHROPIC_INPUTS: Final = ("no_cache", "cache_write_5m", "cache_write_1h", "cache_read")
_ANTHROPIC_USAGE: Final = {
    "day": ("usage_date_utc",),
    "model": ("model_version", "model"),
    # Its three kinds of input are apart, and together what others call input.
    "input_tokens": ("+".join(f"usage_input_tokens_{kind}" for kind in _ANTHROPIC_INPUTS),),
    "output_tokens": ("usage_output_tokens",),
}
_ANTHROPIC_COSTS: Final = {
    "day": ("usage_date_utc",),
    "model": ("model_version", "model"),
    "cost": ("cost_usd",),
}
_OWN: Final[Mapping[str, tuple[str, ...]]] = {
    **{name: (name,) for name in COLUMNS},
    "cost": ("cost", "cost_USD", "cost_usd"),
}
_KNOWN: Final[tuple[tuple[str, Mapping[str, tuple[str, ...]]], ...]] = (
    ("amount_value", _OPENAI_COSTS),
    ("num_model_requests", _OPENAI_USAGE),
    ("usage_input_tokens_no_cache", _ANTHROPIC_USAGE),
    ("usage_date_utc", _ANTHROPIC_COSTS),
    ("day", _OWN),
)
"""By a column that only such an export has."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How a ledger is read.

    Attributes:
        zone: of the days.
        currency: ISO 4217; rows in another one are left out.
        tenants: tenants by what the ledger calls them, such as an API key's name; what isn't here is the tenant's id.
    """

    zone: tzinfo = UTC
    currency: str = "USD"
    tenants: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """What figures are of. `tenant` is empty in a ledger that knows no tenants, as a provider's."""

    tenant: str
    model: str
    day: str


@dataclass(slots=True)
class Figures:
    """A ledger's figures; None is not told.

    Attributes:
        cost: in femto-units of the currency.
        uncertain: tries that may have been billed unseen; 0 in others' ledgers.
        uncertain_cost: the part of `cost` that is uncertain.
    """

    requests: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost: int | None = None
    uncertain: int = 0
    uncertain_cost: int = 0

    def add(self, other: Figures) -> None:
        """Add what is known."""
        for name in ("requests", "input_tokens", "output_tokens", "cost"):
            more = getattr(other, name)
            if more is not None:
                setattr(self, name, (getattr(self, name) or 0) + more)
        self.uncertain += other.uncertain
        self.uncertain_cost += other.uncertain_cost


@dataclass(slots=True)
class Rows:
    """The rows of a ledger.

    Attributes:
        skipped: rows in another currency.
    """

    figures: dict[Key, Figures] = field(default_factory=dict)
    skipped: int = 0

    def add(self, key: Key, figures: Figures) -> None:
        """Add to what is there of the same key."""
        self.figures.setdefault(key, Figures()).add(figures)


def plain_model(name: str) -> str:
    """A model without a provider before it and a date behind it: exports tell dated names, clients ask plain ones."""
    return _DATED.sub("", name.rpartition("/")[2].strip())


def of_entries(entries: Iterable[Entry], reading: Reading, *, tenants: bool) -> Rows:
    """Our own rows.

    With `tenants` by tenant and with all requests, as a platform has them; else of all tenants together and of what
    came to a provider, as that one sees it.
    """
    out = Rows()
    for entry in entries:
        if not tenants and entry.cached:
            continue
        if entry.cost is not None and entry.cost.currency != reading.currency:
            out.skipped += 1
            continue
        cost = None if entry.cost is None else entry.cost.femto
        counts = entry.kind is Kind.USAGE and entry.final and (tenants or entry.attempt > 0)
        figures = Figures(
            requests=1 if counts else None,
            input_tokens=entry.tokens.get("input_tokens"),
            output_tokens=entry.tokens.get("output_tokens"),
            cost=cost,
            uncertain=int(entry.kind is Kind.USAGE and entry.uncertain),
            uncertain_cost=(cost or 0) if entry.uncertain else 0,
        )
        if figures != Figures():
            model, day = plain_model(entry.model), span_of(entry.time_ms, "day", reading.zone)
            out.add(Key(str(entry.tenant) if tenants else "", model, day), figures)
    return out


def columns_of(header: Sequence[str], mapping: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """The columns to read by name of `COLUMNS`: those of a known export, changed by `mapping`.

    Raises:
        ConfigError: the header is none that is known, and `mapping` doesn't name what is needed.
    """
    known: Mapping[str, tuple[str, ...]] = next((c for mark, c in _KNOWN if mark in header), {})
    columns = {**known, **{name: (column,) for name, column in mapping.items()}}
    found = {
        name: taken
        for name, ways in columns.items()
        if (
            taken := next((tuple(way.split("+")) for way in ways if set(way.split("+")) <= set(header)), None)
        )
    }
    for name, column in mapping.items():
        if name not in COLUMNS:
            raise ConfigError(f"--columns: {name[:40]!r} is none of {', '.join(COLUMNS)}")
        if name not in found:
            raise ConfigError(f"--columns: the file has no column {column[:60]!r}")
    missing = [name for name in ("model", "day") if name not in found]
    amounts = [name for name in ("requests", "input_tokens", "output_tokens", "cost") if name in found]
    if missing or not amounts:
        needs = ", ".join(missing) or "an amount"
        raise ConfigError(
            f"no known export: name the columns of {needs} with --columns, such as day=DATE,model=SKU"
        )
    return found


def csv_rows(lines: Iterable[str], mapping: Mapping[str, str], reading: Reading) -> Rows:
    """The rows of an export.

    Args:
        lines: of the file, with the header.
        mapping: columns by name of `COLUMNS`.
        reading: how they are read.

    Raises:
        ConfigError: the file is none that can be read; the message names the row and the column.
    """
    reader = csv.reader(lines)
    out = Rows()
    try:
        header = [name.strip().lstrip("\ufeff") for name in next(reader, [])]
        columns = columns_of(header, mapping)
        for column in (column for taken in columns.values() for column in taken):
            if header.count(column) > 1:
                raise ConfigError(f"the file has the column {column[:60]!r} twice")
        at = {name: [header.index(column) for column in taken] for name, taken in columns.items()}
        for number, row in enumerate(reader, 2):
            if any(cell.strip() for cell in row):
                cells = {
                    name: [row[i].strip() if i < len(row) else "" for i in places]
                    for name, places in at.items()
                }
                _add(out, cells, f"row {number}", reading)
    except csv.Error as error:
        raise ConfigError(f"line {reader.line_num}: {error}") from None
    return out


def json_rows(value: Any, reading: Reading) -> Rows:
    """The rows of a JSON ledger: a list of objects with the names of `COLUMNS`, or such a list as ``rows`` or ``data``.

    `cost` may be a text, a number, or ``{"exact": …, "currency": …}``. Rows of the Platform API have ``usage`` and
    ``costs``.

    Raises:
        ConfigError: it is none.
    """
    if isinstance(value, Mapping):
        value = next((value[name] for name in ("rows", "data", "items") if name in value), None)
    if not isinstance(value, list) or not all(isinstance(row, Mapping) for row in value):
        raise ConfigError("must be a list of objects, or have one as rows or data")
    out = Rows()
    for number, row in enumerate(value, 1):
        used = row["usage"] if isinstance(row.get("usage"), Mapping) else {}
        flat = {name: found for name in COLUMNS if (found := row.get(name, used.get(name))) is not None}
        if isinstance(costs := row.get("costs"), list):
            money = [one for one in costs if isinstance(one, Mapping)]
            flat["cost"] = next((one for one in money if one.get("currency") == reading.currency), None)
            out.skipped += sum(one.get("currency") != reading.currency for one in money)
        if isinstance(cost := flat.get("cost"), Mapping):
            flat |= {"cost": cost.get("exact"), "currency": cost.get("currency") or flat.get("currency", "")}
        cells = {
            name: [text if isinstance(text, str) else json.dumps(text)]
            for name, text in flat.items()
            if text is not None
        }
        _add(out, cells, f"row {number}", reading)
    return out


def _add(out: Rows, cells: Mapping[str, list[str]], where: str, reading: Reading) -> None:
    told = (cells.get("currency") or [""])[0].upper()
    if told and told != reading.currency:
        out.skipped += 1
        return
    tenant = (cells.get("tenant") or [""])[0]
    # A line item of OpenAI's costs is a model and a kind of its tokens.
    model = plain_model((cells.get("model") or [""])[0].partition(",")[0])
    key = Key(
        reading.tenants.get(tenant, tenant), model, _day((cells.get("day") or [""])[0], where, reading.zone)
    )
    out.add(
        key,
        Figures(
            requests=_sum(cells.get("requests"), _count, f"{where}: requests"),
            input_tokens=_sum(cells.get("input_tokens"), _count, f"{where}: input_tokens"),
            output_tokens=_sum(cells.get("output_tokens"), _count, f"{where}: output_tokens"),
            cost=_sum(cells.get("cost"), amount_of, f"{where}: cost"),
        ),
    )


def _sum(texts: Sequence[str] | None, read: Callable[[str], int], where: str) -> int | None:
    found = []
    for text in texts or ():
        if text:
            try:
                found.append(read(text))
            except (ConfigError, ValueError):
                raise ConfigError(f"{where}: {text[:40]!r} is no number") from None
    return sum(found) if found else None


def _count(text: str) -> int:
    if not re.fullmatch(r"\d{1,18}(\.0)?", text, re.ASCII):
        raise ValueError
    return int(text.removesuffix(".0"))


def _day(text: str, where: str, zone: tzinfo) -> str:
    """The day of a date, of a time, or of Unix seconds. A time of day counts in the zone, a date is what it says."""
    try:
        if re.fullmatch(r"\d{4}-\d\d-\d\d", text, re.ASCII):
            found = date.fromisoformat(text).isoformat()
        elif re.fullmatch(r"\d{9,11}(\.\d+)?", text, re.ASCII):
            found = span_of(int(text.partition(".")[0]) * 1000, "day", zone)
        else:
            moment = datetime.fromisoformat(text)
            aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
            found = span_of(int(aware.timestamp()) * 1000, "day", zone)
    except (ValueError, OverflowError):
        found = ""
    if found <= _BEFORE:
        raise ConfigError(f"{where}: day: {text[:40]!r} is no date since 1970")
    return found


def pairs(text: str, where: str) -> Iterator[tuple[str, str]]:
    """``a=b,c=d`` as pairs.

    Raises:
        ConfigError: it is none.
    """
    for part in filter(None, text.split(",")):
        name, mark, value = part.partition("=")
        if not mark or not name.strip() or not value.strip():
            raise ConfigError(f"{where}: {part[:40]!r} is no pair NAME=VALUE")
        yield name.strip(), value.strip()
