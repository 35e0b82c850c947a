"""``tenantgate usage`` and ``tenantgate reconcile``: what was used, for whom, and whether others say the same."""

from __future__ import annotations

import argparse
import http.client
import io
import json
import os
import re
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, tzinfo
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

from tenantgate.audit.core.chain import verify
from tenantgate.errors import ConfigError, EdgeError
from tenantgate.tenant import TenantId
from tenantgate.usage.core import ledgers, reconciliation, report, statement
from tenantgate.usage.core.entries import Entry, Ledger, correction_values
from tenantgate.usage.core.events import FORMATS, Billing, posts
from tenantgate.usage.core.sums import DIMENSIONS, grouped
from tenantgate.usage.keys import is_signed_by, key_id, private_key, public_key
from tenantgate.usage.sources import add_source, lines_of, moment_ms, raw_records, zone_of

__all__ = ["reconcile", "usage"]

_FORMATS: Final = ("table", "csv", "json", "svg", "html")
_ANSWER_MOST: Final = 64 << 20  # bytes of a page of a platform's ledger
_PAGE: Final = 100
_FAULTS_SHOWN: Final = 20
_AT_ONCE: Final = 100  # records in one request of `usage events`


def usage(parser: argparse.ArgumentParser) -> None:
    """Add ``usage``, ``usage statement``, ``usage verify`` and ``usage events``."""
    _report_arguments(parser)
    actions = parser.add_subparsers(metavar="ACTION")
    stating = actions.add_parser("statement", help="a tenant's month as a signed statement")
    stating.add_argument("tenant", metavar="TENANT", help="the tenant's id")
    add_source(stating)
    stating.add_argument("--month", required=True, metavar="YYYY-MM")
    _timezone(stating)
    stating.add_argument(
        "--key",
        required=True,
        metavar="FILE",
        help="private Ed25519 key in PEM, or {vault://env/NAME} for one in the environment",
    )
    stating.add_argument(
        "-o",
        "--out",
        type=Path,
        metavar="FILE.json",
        help="also writes FILE.txt, for people; default: JSON to stdout",
    )
    stating.set_defaults(func=_statement)
    checking = actions.add_parser("verify", help="check a statement by the public key and one's own records")
    checking.add_argument("statement", type=Path, metavar="STATEMENT")
    add_source(checking)
    checking.add_argument("--public-key", required=True, metavar="FILE", help="public Ed25519 key in PEM")
    checking.set_defaults(func=_verify)
    events = actions.add_parser(
        "events", help="records or corrections as billing systems take them, a request a line"
    )
    add_source(events)
    events.add_argument("--format", required=True, choices=tuple(FORMATS))
    events.add_argument("--meter", default=Billing().meter, metavar="NAME", help="default: %(default)s")
    events.set_defaults(func=_events)


def _report_arguments(parser: argparse.ArgumentParser) -> None:
    add_source(parser)
    parser.add_argument(
        "--by",
        default="tenant,model",
        metavar="LIST",
        help=f"of {', '.join(DIMENSIONS)}; default: %(default)s",
    )
    for name in ("tenant", "key", "model", "provider", "end-user"):
        parser.add_argument(f"--{name}", metavar="ID", help=f"only of this {name.replace('-', ' ')}")
    parser.add_argument("--month", metavar="YYYY-MM", help="only this month")
    parser.add_argument("--since", metavar="TIME", help="from this date or time on")
    parser.add_argument("--until", metavar="TIME", help="before this date or time")
    _timezone(parser)
    parser.add_argument("--format", choices=_FORMATS, default="table", help="default: %(default)s")
    parser.add_argument("--of", choices=report.CHART_OF, default="cost", help="what a chart shows")
    parser.add_argument("--currency", default="USD", help="of a chart's costs (default: %(default)s)")
    parser.add_argument("-o", "--out", type=Path, metavar="FILE", help="default: standard output")
    parser.set_defaults(func=_usage)


def _timezone(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--timezone",
        default="UTC",
        metavar="NAME",
        help="of days and months, by its IANA name (default: UTC)",
    )


def reconcile(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``reconcile``."""
    add_source(parser)
    theirs = parser.add_mutually_exclusive_group(required=True)
    theirs.add_argument(
        "--ledger",
        type=Path,
        metavar="FILE",
        help="the other's ledger: CSV or JSON; a provider's export, too",
    )
    theirs.add_argument(
        "--platform-url", metavar="URL", help="a platform's ledger, by the Platform API; without /v1"
    )
    parser.add_argument(
        "--token-env",
        default="PLATFORM_TOKEN",
        metavar="NAME",
        help="variable of the environment with the platform's bearer token (default: %(default)s)",
    )
    parser.add_argument(
        "--source", default="platform", metavar="NAME", help="name of the other in the report"
    )
    parser.add_argument(
        "--columns",
        default="",
        metavar="LIST",
        help="columns of a CSV, such as day=DATE,model=SKU,cost=AMOUNT",
    )
    parser.add_argument(
        "--tenants",
        default="",
        metavar="LIST",
        help="tenants by what the other calls them, such as KEYNAME=acme; with --columns tenant=COLUMN",
    )
    parser.add_argument("--currency", default="USD", metavar="CODE", help="default: %(default)s")
    parser.add_argument("--tolerance", default="0.1%", metavar="PART", help="default: %(default)s")
    parser.add_argument("--month", metavar="YYYY-MM", help="only this month, of both ledgers")
    _timezone(parser)
    parser.add_argument("--all", action="store_true", help="also the lines that agree")
    parser.add_argument("--json", action="store_true", help="the report as JSON, with all lines")
    parser.add_argument(
        "--metrics",
        type=Path,
        metavar="FILE.prom",
        help="write metrics for node_exporter's textfile collector",
    )
    parser.add_argument(
        "--corrections",
        type=Path,
        metavar="FILE",
        help="append entries that bring ours to the other's amounts; those that are there aren't written again",
    )
    parser.set_defaults(func=_reconcile)


# -- report --------------------------------------------------------------------------------------------------


def _usage(args: argparse.Namespace) -> int:
    by, zone = tuple(filter(None, args.by.split(","))), zone_of(args.timezone)
    for name in by:
        if name not in DIMENSIONS:
            raise ConfigError(f"--by: {name[:40]!r} is none of {', '.join(DIMENSIONS)}")
    ledger = _ledger(args)
    chosen = [entry for entry in ledger.entries() if _wanted(args, zone)(entry)]
    sums = grouped(chosen, by, zone)
    title = f"{args.of.capitalize()} by {', '.join(by) or 'nothing'}"
    if args.format == "table":
        text = report.table(sums, by)
    elif args.format == "csv":
        text = report.csv_text(sums, by)
    elif args.format == "json":
        text = report.json_text(sums, by, timezone=args.timezone)
    else:
        text = report.svg(sums, by, of=args.of, currency=args.currency, title=title)
        if args.format == "html":
            text = report.html_page(text, sums, by, title)
    _write(args.out, text)
    return _tell(ledger)


def _wanted(args: argparse.Namespace, zone: tzinfo) -> Callable[[Entry], bool]:
    start, end = statement.month_of(args.month, zone) if args.month else (0, sys.maxsize)
    if args.since:
        start = max(start, moment_ms(args.since, zone, "--since"))
    if args.until:
        end = min(end, moment_ms(args.until, zone, "--until"))
    texts = {
        name: value
        for name in ("tenant", "key", "model", "provider", "end_user")
        if (value := getattr(args, name, None)) is not None
    }
    return lambda entry: (
        start <= entry.time_ms < end
        and all(str(getattr(entry, name)) == value for name, value in texts.items())
    )


def _raw(args: argparse.Namespace) -> Iterator[bytes]:
    return raw_records(args.records, args.dir, args.redis_url, args.node)


def _ledger(args: argparse.Namespace) -> Ledger:
    ledger = Ledger()
    for raw in _raw(args):
        ledger.add_record(raw)
    return ledger


def _tell(ledger: Ledger) -> int:
    """Say on standard error what couldn't be counted; the command's status."""
    if ledger.unreadable:
        print(f"note: {ledger.unreadable} lines are no audit records", file=sys.stderr)
    for identifier in sorted(ledger.conflicts)[:10]:
        print(f"fault: different entries under the id {identifier[:100]!r}", file=sys.stderr)
    return 1 if ledger.conflicts else 0


def _write(path: Path | None, text: str) -> None:
    if path is None:
        sys.stdout.write(text)
        return
    try:
        path.write_text(text, "utf-8", newline="")
    except OSError as error:
        raise EdgeError(f"{path}: {error.strerror}") from None


# -- statements ----------------------------------------------------------------------------------------------


def _objects(lines: Iterator[bytes]) -> Iterator[dict[str, Any]]:
    for raw in lines:
        try:
            found = json.loads(raw)
        except (ValueError, RecursionError):
            continue
        if isinstance(found, dict):
            yield found


def _statement(args: argparse.Namespace) -> int:
    key, zone, tenant = private_key(args.key), zone_of(args.timezone), TenantId(args.tenant)
    lines = [raw for raw in _raw(args) if _is_of(raw, tenant)]
    faults = verify(raw for raw in lines if b'"chain":' in raw).faults
    if faults:
        raise ConfigError(f"the tenant's records aren't sound: {faults[0]} ({len(faults)} faults in all)")
    ledger = Ledger()
    for raw in lines:
        ledger.add_record(raw)
    if ledger.conflicts:
        raise ConfigError(f"different entries under the id {min(ledger.conflicts)[:100]!r}")
    values = statement.statement(
        tenant,
        ledger,
        statement.links_of(_objects(iter(lines))),
        month=args.month,
        zone=zone,
        zone_name=args.timezone,
        issued=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
    )
    identifier = key_id(key.public_key())
    signed = json.dumps(statement.signed(values, key.sign, identifier), indent=2) + "\n"
    _write(args.out, signed)
    if args.out is not None:
        _write(args.out.with_suffix(".txt"), statement.text_of(values, identifier))
        print(f"{args.out} and {args.out.with_suffix('.txt')}: {len(values['lines'])} lines")
    return 0


def _is_of(raw: bytes, tenant: TenantId) -> bool:
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and found.get("tenant") == str(tenant)


def _verify(args: argparse.Namespace) -> int:
    key = public_key(args.public_key)
    try:
        raw = args.statement.read_bytes()
    except OSError as error:
        raise ConfigError(f"{args.statement}: {error.strerror}") from None
    try:
        values, text, signature = statement.parts(raw)
    except ConfigError as error:
        raise ConfigError(f"{args.statement}: {error}") from None
    if not is_signed_by(key, signature, text):
        print("fault: the signature isn't that of this key, or the statement was changed")
        return 1
    tenant, zone = TenantId(str(values["tenant"])), zone_of(str(values["timezone"]))
    lines = [line for line in _raw(args) if _is_of(line, tenant)]
    found = verify(line for line in lines if b'"chain":' in line)
    problems = [f"your records: {fault}" for fault in found.faults]
    problems += statement.check(values, _objects(iter(lines)), zone)
    for problem in problems[:_FAULTS_SHOWN]:
        print(f"fault: {problem}")
    print(
        f"{len(problems)} faults"
        if problems
        else f"sound: {values['tenant']}, {values['month']}, issued {values['issued']}, signed by {key_id(key)}, "
        f"{found.records} records"
    )
    return 1 if problems else 0


def _events(args: argparse.Namespace) -> int:
    batch: list[dict[str, Any]] = []
    billing = Billing(args.meter)

    def flush() -> None:
        for post in posts(args.format, batch, billing):
            sys.stdout.buffer.write(post.body + b"\n")
        batch.clear()

    for record in _objects(_raw(args)):
        batch.append(record)
        if len(batch) >= _AT_ONCE:
            flush()
    flush()
    return 0


# -- reconciliation ------------------------------------------------------------------------------------------


def _reconcile(args: argparse.Namespace) -> int:
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,40}", args.source):
        raise ConfigError("--source: must be 1 to 40 letters, digits, _, . and -")
    zone, tolerance = zone_of(args.timezone), _part(args.tolerance)
    reading = ledgers.Reading(zone, args.currency, dict(ledgers.pairs(args.tenants, "--tenants")))
    theirs = _theirs(args, reading)
    if args.month:
        theirs.figures = {key: f for key, f in theirs.figures.items() if key.day.startswith(args.month + "-")}
    ledger = _ledger(args)
    before = _corrections_of(args.corrections)
    for entry in before:
        ledger.add(entry)
    wanted = _wanted(argparse.Namespace(month=args.month, since=None, until=None), zone)
    by_tenant = any(key.tenant for key in theirs.figures)
    ours = ledgers.of_entries(filter(wanted, ledger.entries()), reading, tenants=by_tenant)
    found = reconciliation.compare(ours, theirs, tolerance)
    names = {"source": args.source, "currency": args.currency}
    if args.json:
        print(json.dumps(reconciliation.report_values(found, **names), indent=2))
    else:
        print(reconciliation.report_text(found, everything=args.all, **names), end="")
    if skipped := ours.skipped + theirs.skipped:
        print(f"note: {skipped} rows in other currencies than {args.currency} were left out", file=sys.stderr)
    if args.metrics is not None:
        _write(args.metrics, reconciliation.metrics_text(found, now_s=int(time.time()), **names))
    if args.corrections is not None:
        new = list(reconciliation.corrections(found, zone=zone, **names))
        _append(args.corrections, [entry for entry in new if entry not in before])
        print(f"{len(new)} corrections in {args.corrections}")
    agreed = (reconciliation.Status.AGREES, reconciliation.Status.UNCERTAIN)
    return max(_tell(ledger), int(any(one.status not in agreed for one in found)))


def _part(text: str) -> Fraction:
    try:
        found = Fraction(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except (ValueError, ZeroDivisionError):
        found = Fraction(-1)
    if not 0 <= found < 1:
        raise ConfigError(f"--tolerance: {text[:20]!r} is no part such as 0.1% or 0.001")
    return found


def _theirs(args: argparse.Namespace, reading: ledgers.Reading) -> ledgers.Rows:
    where = "--ledger" if args.ledger is not None else "--platform-url"
    try:
        if args.ledger is None:
            return ledgers.json_rows(list(_platform_rows(args.platform_url, args.token_env)), reading)
        text = b"\n".join(lines_of(args.ledger)).decode("utf-8-sig")
        if text.lstrip().startswith(("[", "{")):
            return ledgers.json_rows(json.loads(text), reading)
        mapping = dict(ledgers.pairs(args.columns, "--columns"))
        return ledgers.csv_rows(io.StringIO(text, newline=""), mapping, reading)
    except (ValueError, RecursionError):
        raise ConfigError(f"{where}: is neither CSV nor JSON in UTF-8") from None
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None


def _platform_rows(url: str, token_env: str) -> Iterator[Any]:
    """The platform's ledger: ``GET /v1/usage/ledger``, all pages."""
    if not url.startswith(("http://", "https://")):
        raise ConfigError("must be an address that begins with http:// or https://")
    token = os.environ.get(token_env)
    if not token:
        raise ConfigError(f"the environment has no {token_env}, as --token-env says")
    cursor, before = "", set[str]()
    while True:
        query = urllib.parse.urlencode({"limit": _PAGE, **({"cursor": cursor} if cursor else {})})
        page = _page(f"{url.rstrip('/')}/v1/usage/ledger?{query}", token)
        yield from page["data"]
        cursor = str(page.get("next_cursor") or "")
        if not cursor:
            return
        if cursor in before:
            raise ConfigError("gives the same page again and again")
        before.add(cursor)


def _page(url: str, token: str) -> dict[str, Any]:
    headers = {"Accept": "application/json", "Authorization": f"Bearer {token}"}
    try:
        request = urllib.request.Request(url, headers=headers)  # noqa: S310 - checked by the caller
        with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310
            found = json.loads(response.read(_ANSWER_MOST))
    except urllib.error.HTTPError as error:
        raise EdgeError(f"--platform-url: HTTP {error.code}") from None
    except (OSError, http.client.HTTPException) as error:
        raise EdgeError(f"--platform-url: {type(error).__name__}") from None
    if not isinstance(found, dict) or not isinstance(found.get("data"), list):
        raise ConfigError("is no page of the Platform API's ledger")
    return found


def _corrections_of(path: Path | None) -> list[Entry]:
    if path is None or not path.exists():
        return []
    ledger = Ledger()
    for raw in lines_of(path):
        ledger.add_record(raw)
    if ledger.unreadable:
        raise ConfigError(f"--corrections: {path} has lines that are no corrections")
    return ledger.entries()


def _append(path: Path, entries: list[Entry]) -> None:
    try:
        with path.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(correction_values(entry)) + "\n" for entry in entries)
    except OSError as error:
        raise EdgeError(f"{path}: {error.strerror}") from None
