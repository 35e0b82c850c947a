"""``tenantgate cost prices | rerate``: what models cost, and past usage by today's prices."""

from __future__ import annotations

import argparse
import gzip
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from tenantgate.config import money
from tenantgate.config.load import load
from tenantgate.config.model import TenantsFile
from tenantgate.config.names import route_parts
from tenantgate.errors import ConfigError, EdgeError
from tenantgate.policy.core.records import price_tree
from tenantgate.prices.core.cost import dollars
from tenantgate.prices.core.price_list import NANO_PER_DOLLAR, PriceList, Prices
from tenantgate.prices.core.rerate import corrected, correction, usage_of
from tenantgate.prices.pricing import Asked, PriceBook, Unpriced

__all__ = ["cost"]

_ROUTED: Final = "tenantgate"
_COLUMNS: Final = ("input", "output", "cache_read", "cache_write")


def cost(parser: argparse.ArgumentParser) -> None:
    """Add ``cost prices | rerate``."""
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    prices = actions.add_parser("prices", help="what the models of tenants.yaml cost, and by which book")
    _file(prices)
    prices.add_argument("--json", action="store_true", help="whole price lists, in nano-dollars, as JSON")
    prices.set_defaults(func=_prices)
    rerate = actions.add_parser(
        "rerate",
        help="corrections of audit records by the prices of tenants.yaml and the book that is installed",
    )
    _file(rerate)
    rerate.add_argument(
        "--records",
        action="append",
        required=True,
        type=Path,
        metavar="FILE",
        help="audit records as JSON lines, also .gz, and corrections; may be given several times",
    )
    rerate.add_argument("--tenant", metavar="ID", help="only this tenant's")
    rerate.add_argument(
        "-o",
        "--out",
        type=Path,
        metavar="FILE",
        help="append new corrections there, to those that it has; default: standard output",
    )
    rerate.set_defaults(func=_rerate)


def _file(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-f",
        "--file",
        type=Path,
        default=Path("tenants.yaml"),
        metavar="FILE",
        help="tenants.yaml, or a folder (default: %(default)s)",
    )


# -- prices ------------------------------------------------------------------------------------------------


def _prices(args: argparse.Namespace) -> int:
    file = load(args.file)
    book = PriceBook(file.gateway.prices)
    rows = list(dict.fromkeys(_asked(file)))
    if args.json:
        print(json.dumps([_tree(book, asked, counted=counted) for asked, counted in rows], indent=2))
        return 0
    lines: list[tuple[str, ...]] = [("MODEL", "INPUT", "OUTPUT", "CACHE READ", "CACHE WRITE", "", "BOOK")]
    for asked, counted in rows:
        try:
            lines += _lines(asked, _found(book, asked, counted=counted), book)
        except Unpriced as reason:
            lines.append((_name(asked), "-", "-", "-", "-", "", f"not known: {reason}"))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    print("Dollars for a million tokens")
    for line in lines:
        print("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())
    return 0


def _asked(file: TenantsFile) -> Iterator[tuple[Asked, bool]]:
    """Each place of a model, and whether something counts what it costs."""
    for tenant in file.tenants:
        rules = money.rules_of(file, tenant)
        for m in tenant.models:
            for endpoint in m.endpoints:
                yield money.asked(endpoint), rules.cost_counted(m, endpoint) is not None


def _found(book: PriceBook, asked: Asked, *, counted: bool) -> PriceList:
    return book.counted(asked) if counted else book.find(asked)


def _lines(asked: Asked, prices: PriceList, book: PriceBook) -> Iterator[tuple[str, ...]]:
    entry = book.book_entry(asked)
    named = "" if entry is None or entry.model == asked.model else f" ({entry.provider}/{entry.model})"
    several = len(prices.periods) > 1
    for i, period in enumerate(prices.periods):
        head = ("" if i else _name(asked), *_amounts(period.prices), _when(period) if several else "")
        yield (*head, "" if i else prices.book + named)
        for tier in period.tiers:
            yield ("", *_amounts(tier.prices), f"above {tier.above} tokens", "")


def _amounts(prices: Mapping[str, int]) -> tuple[str, ...]:
    return tuple(f"{prices[kind] / NANO_PER_DOLLAR:.12g}" if kind in prices else "-" for kind in _COLUMNS)


def _when(period: Prices) -> str:
    if period.daily_s is not None:
        start, end = (f"{second // 3600:02}:{second // 60 % 60:02}" for second in period.daily_s)
        return f"from {start} to {end} UTC"
    if not period.valid_from_ms:
        return "else"
    return f"from {datetime.fromtimestamp(period.valid_from_ms / 1000, UTC):%Y-%m-%d}"


def _tree(book: PriceBook, asked: Asked, *, counted: bool) -> dict[str, Any]:
    head = {"provider": asked.provider, "model": asked.model}
    try:
        return {**head, **price_tree(_found(book, asked, counted=counted))}
    except Unpriced as reason:
        return {**head, "unknown": str(reason)}


def _name(asked: Asked) -> str:
    return f"{asked.provider}/{asked.model}"


# -- rerate ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Line:
    where: str
    values: Mapping[str, Any]


def _rerate(args: argparse.Namespace) -> int:
    file = load(args.file)
    endpoints, book = _endpoints(file), PriceBook(file.gateway.prices)
    paths: list[Path] = list(args.records)
    if args.out is not None and args.out.exists() and args.out not in paths:
        paths.append(args.out)
    records, before = _read(paths)
    found: list[dict[str, Any]] = []
    counts: Counter[str] = Counter()
    for line in records.values():
        record = line.values
        if usage_of(record) is None or args.tenant not in (None, record["tenant"]):
            continue
        counts["records"] += 1
        asked = _target(record, endpoints)
        try:
            prices = None if asked is None else book.find(asked)
        except Unpriced:
            prices = None
        if asked is None or prices is None:
            counts["unpriced"] += 1
            continue
        one = correction(
            record, prices, provider=asked.provider, model=asked.model, before=before[record["id"]]
        )
        if one is not None:
            found.append(one)
    _written(found, args.out)
    _summary(found, counts)
    return 0


def _read(paths: Sequence[Path]) -> tuple[dict[str, _Line], Mapping[str, int]]:
    """Records by id, each once, and what earlier corrections say of them, each once, too."""
    records: dict[str, _Line] = {}
    done: dict[str, tuple[str, int]] = {}
    for line in _all_lines(paths):
        if (earlier := corrected(line.values)) is not None:
            done[str(line.values["id"])] = earlier
        elif isinstance(line.values.get("id"), str) and isinstance(line.values.get("tenant"), str):
            records.setdefault(line.values["id"], line)
        else:
            raise ConfigError(f"{line.where}: isn't an audit record")
    before: dict[str, int] = defaultdict(int)
    for identifier, amount in done.values():
        before[identifier] += amount
    return records, before


def _all_lines(paths: Iterable[Path]) -> Iterator[_Line]:
    for path in paths:
        try:
            with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
                for number, raw in enumerate(file, 1):
                    if raw.strip():
                        yield _Line(f"{path}:{number}", _object(raw, f"{path}:{number}"))
        except (OSError, EOFError) as error:
            raise EdgeError(f"{path}: can't be read ({type(error).__name__})") from error


def _object(raw: bytes, where: str) -> Mapping[str, Any]:
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ConfigError(f"{where}: isn't an audit record")
    return found


def _endpoints(file: TenantsFile) -> dict[tuple[str, str], Asked]:
    """By tenant and ``provider/model`` the places that the file has."""
    found: dict[tuple[str, str], Asked] = {}
    for tenant in file.tenants:
        for m in tenant.models:
            for endpoint in m.endpoints:
                found.setdefault((tenant.id, f"{endpoint.provider}/{endpoint.model}"), money.asked(endpoint))
    return found


def _target(record: Mapping[str, Any], endpoints: Mapping[tuple[str, str], Asked]) -> Asked | None:
    """What answered: the target of the record, or the one that its route names."""
    response, route = record.get("response") or {}, record.get("route") or {}
    name = str(response.get("target") or "")
    head, mark, number = name.rpartition("#")
    name = head if mark and number.isdecimal() else name
    if not name:
        provider, model, _ = route_parts(str(route.get("name") or ""))
        name = f"{provider}/{model}"
    provider, _, model = name.partition("/")
    if not model or provider == _ROUTED:
        return None
    return endpoints.get((record["tenant"], name)) or Asked(provider, model)


def _written(found: Sequence[Mapping[str, Any]], out: Path | None) -> None:
    lines = [json.dumps(one, separators=(",", ":")) + "\n" for one in found]
    if out is None:
        sys.stdout.writelines(lines)
        return
    try:
        with out.open("a", encoding="utf-8") as file:
            file.writelines(lines)
    except OSError as error:
        raise EdgeError(f"{out}: {error.strerror}") from None


def _summary(found: Sequence[Mapping[str, Any]], counts: Mapping[str, int]) -> None:
    sums: dict[str, int] = defaultdict(int)
    for one in found:
        _, amount = corrected(one) or ("", 0)
        sums[str(one["tenant"])] += amount
    for tenant, amount in sorted(sums.items()):
        print(f"{tenant}: {'+' if amount >= 0 else ''}{dollars(amount)} dollars", file=sys.stderr)
    unpriced = f", {counts['unpriced']} without a known price" if counts["unpriced"] else ""
    print(f"{counts['records']} records with usage, {len(found)} corrections{unpriced}", file=sys.stderr)
