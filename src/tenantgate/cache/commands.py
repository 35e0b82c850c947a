"""``tenantgate cache``: look at, empty and calibrate the semantic cache.

Nothing here prints a prompt or a reply, except `inspect --show-text`, which needs the key that sealed them.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import time
from pathlib import Path
from typing import Final

from tenantgate.arguments import add_json, add_redis_url, redis_url
from tenantgate.cache.admin import Admin, BoundStats, Row
from tenantgate.cache.calibrating import BOUNDS, read_pairs, report, score_pairs
from tenantgate.cache.config import VERIFIERS, CacheConfig
from tenantgate.cache.core.calibration import calibrate, upper_wrong_rate
from tenantgate.cache.verifier import load_verifier
from tenantgate.errors import ConfigError, EdgeError
from tenantgate.models.files import find_models
from tenantgate.models.ports import BUILT_IN
from tenantgate.store.sealing import TenantSealer
from tenantgate.store.url import redis_config
from tenantgate.tenant import TenantId

__all__ = ["cache"]

_SHOWN: Final = 5  # of the thresholds that held before


def cache(parser: argparse.ArgumentParser) -> None:
    """Add ``cache stats | purge | inspect | calibrate``."""
    actions = parser.add_subparsers(metavar="ACTION", required=True)

    stats = actions.add_parser("stats", help="how much one tenant has stored, and when it expires")
    _tenant(stats)
    add_json(stats)
    stats.set_defaults(func=_stats)

    purge = actions.add_parser("purge", help="remove all that one tenant has stored")
    _tenant(purge)
    purge.add_argument("--yes", action="store_true", help="don't ask")
    purge.set_defaults(func=_purge)

    inspect = actions.add_parser("inspect", help="one tenant's entries, without their texts")
    _tenant(inspect)
    add_json(inspect)
    inspect.add_argument(
        "--limit", type=_positive, default=50, metavar="N", help="the first to expire (default: %(default)s)"
    )
    inspect.add_argument("--show-text", action="store_true", help="print questions and replies, too")
    inspect.add_argument(
        "--key-env", metavar="NAME", help="--show-text: the environment variable with the encryption_key"
    )
    inspect.set_defaults(func=_inspect)

    calibrating = actions.add_parser(
        "calibrate", help="measure on labelled pairs which score keeps which share of wrong answers"
    )
    calibrating.add_argument(
        "pairs", type=Path, metavar="PAIRS.jsonl", help='lines of {"a": text, "b": text, "same": 0 or 1}'
    )
    calibrating.add_argument(
        "--out",
        type=Path,
        default=Path("calibration.json"),
        metavar="FILE",
        help="the table; TENANTGATE_CALIBRATION=FILE makes the plugin use it (default: %(default)s)",
    )
    calibrating.add_argument(
        "--verifier", choices=VERIFIERS, default=BUILT_IN, help="as the plugin's field (default: %(default)s)"
    )
    calibrating.add_argument("--report", type=Path, metavar="FILE", help="an HTML page with the curves")
    calibrating.set_defaults(func=_calibrate)


def _tenant(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--tenant", required=True, metavar="ID", help="the tenant's id, as in tenants.yaml")
    add_redis_url(parser)


def _positive(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 1_000_000:
        raise argparse.ArgumentTypeError("must be a whole number from 1 to 1000000")
    return int(text)


def _admin(args: argparse.Namespace) -> Admin:
    url = redis_url(args.redis_url)
    return Admin(redis_config(url), TenantId(args.tenant))


def _stats(args: argparse.Namespace) -> int:
    admin = _admin(args)
    try:
        found = admin.stats()
    finally:
        admin.close()
    if args.json:
        print(json.dumps({"tenant": args.tenant, **dataclasses.asdict(found)}, indent=2))
        return 0
    usual = CacheConfig(encryption_key="-" * 16)  # for its defaults; a route may have others
    limit = _size(found.redis_limit) if found.redis_limit else "any size"
    rows = [
        ("tenant", _printable(args.tenant)),
        ("entries", f"{found.entries:,} (limit unless configured: {usual.max_entries:,})"),
        ("bytes", f"{_size(found.bytes)} (limit unless configured: {usual.max_megabytes} MiB)"),
        ("to be swept", f"{found.expired:,} expired"),
        ("buckets", f"{found.buckets:,} of questions that may be alike"),
        ("next expiry", _time(found.next_expiry_s)),
        ("last expiry", _time(found.last_expiry_s)),
        ("Redis", f"{_size(found.redis_memory)} of {limit}, {found.redis_policy}, all tenants together"),
    ]
    for bound in found.bounds:
        rows += _bound_rows(bound)
    for name, value in rows:
        print(f"{name:<12} {value}")
    return 0


def _bound_rows(bound: BoundStats) -> list[tuple[str, str]]:
    needed = "no score will do" if bound.threshold is None else f"score {bound.threshold:.4f}"
    wrong = "nothing is served"
    if bound.wrong is not None and bound.low is not None and bound.high is not None:
        wrong = f"{bound.wrong:.1%} (90 % interval {bound.low:.1%} to {bound.high:.1%})"
    rows = [
        ("bound", f"max_wrong_rate {bound.max_wrong_rate:g}: {needed} is needed"),
        ("  wrong", f"estimated share of the similar hits: {wrong}"),
        ("  hits", f"{bound.hits:,} by similarity"),
        (
            "  compared",
            f"{bound.compared:,} answers, {bound.probes:,} of them probes ({bound.probes_other:,} looked other)",
        ),
        (
            "  repeats",
            f"{bound.repeats:,} answers to the same question again ({bound.repeats_other:,} looked other)",
        ),
        ("  restarts", f"{bound.restarts:,}, where the traffic changed"),
    ]
    for at, threshold, why in bound.history[-_SHOWN:]:
        when = time.strftime("%Y-%m-%d %H:%M", time.gmtime(at))
        rows.append((f"  {why}", f"{when} UTC to {'none served' if threshold >= 1 else f'{threshold:.4f}'}"))
    return rows


def _purge(args: argparse.Namespace) -> int:
    if not args.yes:
        if not sys.stdin.isatty():
            raise ConfigError("cache purge: nobody to ask; say --yes")
        if input(f"Remove all entries of tenant {_printable(args.tenant)}? [y/N] ").strip().lower() != "y":
            print("nothing removed")
            return 1
    admin = _admin(args)
    try:
        removed = admin.purge()
    finally:
        admin.close()
    kinds = ", ".join(f"{removed[kind]:,} {kind}" for kind in ("entries", "buckets", "books"))
    print(f"removed {removed.total():,} keys: {kinds}")
    return 0


def _inspect(args: argparse.Namespace) -> int:
    sealer = None
    if args.show_text:
        key = os.environ.get(args.key_env or "")
        if not key:
            raise ConfigError("--show-text: --key-env must name an environment variable that holds the key")
        sealer = TenantSealer(key, TenantId(args.tenant))
    admin = _admin(args)
    try:
        rows = admin.inspect(most=args.limit, sealer=sealer)
    finally:
        admin.close()
    if args.json:
        hidden = () if args.show_text else ("question", "reply")
        fields = [{k: v for k, v in dataclasses.asdict(row).items() if k not in hidden} for row in rows]
        print(json.dumps(fields, indent=2))
        return 0
    print(f"{'entry':<32} {'bytes':>8} {'ttl':>8} {'alike':>9}  bucket")
    for row in rows:
        near = "-" if row.neighbours is None else f"{row.neighbours}"
        print(f"{row.name:<32} {row.bytes:>8} {_time(row.ttl_s):>8} {near:>9}  {row.bucket or '-'}")
        if args.show_text:
            _print_text(row)
    print(f"{len(rows)} entries" + (", and maybe more: see --limit" if len(rows) == args.limit else ""))
    return 0


def _print_text(row: Row) -> None:
    if row.reply is None:
        print("    can't be opened: another key, or damaged")
        return
    print(f"    asked:    {'(more than text)' if row.question is None else _printable(row.question)}")
    print(f"    answered: {_printable(row.reply)}")


def _calibrate(args: argparse.Namespace) -> int:
    pairs = read_pairs(args.pairs)
    files = find_models()
    if files is None:
        raise EdgeError("the models aren't built: run `tenantgate models build`")
    embedder, verifier = files.embedder(), load_verifier(args.verifier, files)
    started = time.monotonic()

    def progress(done: int) -> None:
        left = (time.monotonic() - started) / done * (len(pairs) - done)
        print(f"      {done:,} of {len(pairs):,} pairs, {left:.0f} s left", file=sys.stderr, flush=True)

    scored = score_pairs(pairs, embedder, verifier, progress)
    same = sum(pair.same for pair in pairs)
    table = calibrate(
        [(score, pair.same) for pair, score in zip(pairs, scored, strict=True)],
        verifier=verifier.fingerprint,
        embedder=embedder.fingerprint,
        source=f"{len(pairs)} pairs of the operator's, {same / len(pairs):.0%} the same",
    )
    print(f"{len(pairs):,} pairs, {same:,} the same; {sum(s < 0 for s in scored):,} excluded by a rule")
    print(f"{'max_wrong_rate':>14} {'score':>7} {'recall':>7} {'wrong':>7} {'at most':>8}")
    for bound in BOUNDS:
        score = table.threshold_for(bound)
        point = None if score is None else table.at(score)
        if point is None:
            print(f"{bound:>14g} no score keeps it: similarity would be off")
            continue
        most = upper_wrong_rate(point.wrong, point.served)
        print(f"{bound:>14g} {point.score:>7.4g} {point.recall:>7.3f} {point.wrong_rate:>7.4f} {most:>8.4f}")
    _write(args.out, table.to_json())
    print(f"table: {args.out} (used where TENANTGATE_CALIBRATION names it)")
    if args.report:
        _write(args.report, report(table))
        print(f"report: {args.report}")
    return 0


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise EdgeError(f"{path}: {error.strerror}") from None


def _printable(text: str) -> str:
    """`text` on one line, without what a terminal would take for a command."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def _size(count: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    whole = max(0, int(seconds))
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02}s" if whole >= 60 else f"{whole}s"
    return f"{whole // 3600}h {whole % 3600 // 60:02}m"
