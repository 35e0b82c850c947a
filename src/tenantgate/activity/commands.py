"""``tenantgate top`` and ``tenantgate report``: what happens, live in a terminal, or of a span of time as a page."""

from __future__ import annotations

import argparse
import json
import select
import shutil
import sys
import time
from collections.abc import Iterator
from datetime import UTC
from pathlib import Path
from typing import Final

from tenantgate import terminal
from tenantgate.activity.core.page import page, step_of
from tenantgate.activity.core.sums import Activity, Seen, seen_of
from tenantgate.activity.core.table import ORDERS, table
from tenantgate.errors import ConfigError
from tenantgate.tenant import TenantId
from tenantgate.usage.sources import add_source, moment_ms, raw_records

__all__ = ["report", "top"]

_CLEAR: Final = "\x1b[H\x1b[J"
_HIDE, _SHOW = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"


def top(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``top``."""
    add_source(parser)
    parser.add_argument(
        "--span", type=_positive, default=300.0, metavar="SECONDS", help="of the past (default: %(default)g)"
    )
    parser.add_argument(
        "--every",
        type=_positive,
        default=5.0,
        metavar="SECONDS",
        help="between two looks (default: %(default)g)",
    )
    parser.add_argument("--sort", choices=ORDERS, default="requests", help="default: %(default)s")
    parser.add_argument("--once", action="store_true", help="print the table once, and end")
    parser.set_defaults(func=_top)


def report(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``report``."""
    add_source(parser)
    parser.add_argument("--since", metavar="TIME", help="default: 24 hours before --until")
    parser.add_argument("--until", metavar="TIME", help="default: now; times without a zone are UTC")
    parser.add_argument("--tenant", metavar="ID", help="of this tenant alone")
    parser.add_argument("--title", default="Tenantgate", metavar="TEXT", help="default: %(default)s")
    parser.add_argument(
        "-o", "--out", type=Path, required=True, metavar="FILE.html", help="where to write the page"
    )
    parser.set_defaults(func=_report)


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError("must be a number of seconds above 0")
    return value


def _seen(args: argparse.Namespace, since_ms: float, until_ms: float) -> Iterator[Seen]:
    """The requests of a span of time; what is no record isn't counted."""
    for raw in raw_records(args.records, args.dir, args.redis_url, args.node):
        try:
            found = json.loads(raw)
            one = seen_of(found) if isinstance(found, dict) else None
        except (ValueError, ConfigError):
            continue
        if one is not None and since_ms <= one.time_ms < until_ms:
            yield one


def _top(args: argparse.Namespace) -> int:
    if args.once:
        print(_shown(args), end="")
        return 0
    if not sys.stdout.isatty():
        raise ConfigError("top: standard output is no terminal; give --once")
    terminal.draw(_HIDE)
    try:
        while True:
            size = shutil.get_terminal_size()
            shown = _shown(args, size.lines - 2, size.columns)
            terminal.draw(_CLEAR)
            print(f"{shown}\nq and Enter, or Ctrl-C, to end")
            sys.stdout.flush()
            if select.select([sys.stdin], [], [], args.every)[0] and sys.stdin.readline().strip() in (
                "q",
                "",
            ):
                return 0
    finally:
        terminal.draw(_SHOW)
        sys.stdout.flush()


def _shown(args: argparse.Namespace, rows: int = 0, width: int = 0) -> str:
    now = time.time()
    sums: dict[str, Activity] = {}
    for one in _seen(args, (now - args.span) * 1000, float("inf")):
        sums.setdefault(str(one.tenant), Activity()).add(one)
    moment = time.strftime("%H:%M:%S", time.gmtime(now))
    head = f"tenantgate top  {moment} UTC  the last {args.span:g} s\n\n"
    return head + table(sums, span_s=args.span, order=args.sort, rows=max(0, rows - 2), width=width)


def _report(args: argparse.Namespace) -> int:
    until_s = moment_ms(args.until, UTC, "--until") / 1000 if args.until else time.time()
    since_s = moment_ms(args.since, UTC, "--since") / 1000 if args.since else until_s - 86_400
    if since_s >= until_s:
        raise ConfigError("--since: must be before --until")
    step = step_of(until_s - since_s)
    bins: dict[int, dict[str, Activity]] = {}
    for one in _seen(args, since_s * 1000, until_s * 1000):
        if args.tenant is None or one.tenant == TenantId(args.tenant):
            start = one.time_ms // 1000 // step * step
            bins.setdefault(start, {}).setdefault(str(one.tenant), Activity()).add(one)
    text = page(bins, since_s=since_s, until_s=until_s, step_s=step, title=args.title)
    try:
        args.out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"--out: {args.out}: {error.strerror}") from None
    return 0
