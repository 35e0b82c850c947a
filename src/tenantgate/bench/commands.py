"""``tenantgate bench``: what the plugins cost and give, beside the same gateway without them."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from tenantgate.bench import compare, configurations, page, report, running
from tenantgate.bench.configurations import Configuration
from tenantgate.bench.running import Settings
from tenantgate.errors import ConfigError

__all__ = ["bench"]

_FOLDER: Final = Path(__file__).resolve().parents[3] / "benchmarks" / "configurations"


def bench(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``bench``."""
    parser.add_argument("names", nargs="*", metavar="CONFIGURATION", help="which to measure (default: all)")
    parser.add_argument("--url", help="of a gateway that runs: its chat operation; needs --bare-url")
    parser.add_argument("--bare-url", metavar="URL", help="the same without the plugins")
    parser.add_argument("--header", action="append", default=[], metavar="NAME: VALUE", help="for --url")
    parser.add_argument(
        "--bare-header", action="append", default=[], metavar="NAME: VALUE", help="for --bare-url"
    )
    parser.add_argument("--model", help="to name in requests to --url and --bare-url")
    parser.add_argument("--compare", nargs=2, type=Path, metavar=("A", "B"), help="two results, as JSON")
    parser.add_argument(
        "--configurations", type=Path, metavar="DIR", help="of *.yaml (default: the project's)"
    )
    parser.add_argument("--kong", type=Path, metavar="BIN", help="a real Kong instead of the embedded host")
    parser.add_argument("--rate", type=float, default=20.0, help="requests a second (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=35.0, help="for each (default: %(default)s)")
    parser.add_argument("--tenants", type=int, default=4, help="default: %(default)s")
    parser.add_argument(
        "--latency-ms", type=float, default=50.0, help="of the mock provider (default: %(default)s)"
    )
    parser.add_argument(
        "--burst",
        type=float,
        default=1.5,
        metavar="S",
        help="seconds of each burst for throughput; 0 for none (default: %(default)s)",
    )
    parser.add_argument(
        "--traced",
        type=int,
        default=12,
        metavar="N",
        help="requests of each kind that are traced; 0: none (default: %(default)s)",
    )
    parser.add_argument("--seed", type=int, default=1, help="of the requests (default: %(default)s)")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("reports/bench"),
        metavar="DIR",
        help="for bench.json and bench.html (default: %(default)s)",
    )
    parser.set_defaults(func=_bench)


def _bench(args: argparse.Namespace) -> int:
    if args.compare:
        print(compare.side_by_side(*args.compare))
        return 0
    settings = running.Settings(
        rate=args.rate,
        seconds=args.seconds,
        tenants=args.tenants,
        latency_ms=args.latency_ms,
        seed=args.seed,
        burst_s=args.burst,
        traced=args.traced,
        kong_bin=args.kong,
    )
    result = _elsewhere(args, settings) if args.url or args.bare_url else _here(args, settings)
    print()
    print(report.table(result))
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "bench.json").write_text(json.dumps(result, indent=1), encoding="utf-8")
    (args.out / "bench.html").write_text(page.page(result), encoding="utf-8")
    print(f"\n{args.out / 'bench.json'} and {args.out / 'bench.html'} written")
    failed = report.gates(result)
    for line in failed:
        print(f"FAILED: {line}", file=sys.stderr)
    return 1 if failed else 0


def _here(args: argparse.Namespace, settings: Settings) -> dict[str, Any]:
    chosen, left = _chosen(args)
    for line in left:
        print(f"left out: {line}")
    with tempfile.TemporaryDirectory(prefix="tg-bench-") as folder:
        return running.run(chosen, settings, Path(folder), say=lambda line: print(line, flush=True))


def _elsewhere(args: argparse.Namespace, settings: Settings) -> dict[str, Any]:
    if not (args.url and args.bare_url):
        raise ConfigError("--url and --bare-url belong together")
    extra = {"model": args.model} if args.model else {}
    ours = running.Elsewhere(args.url, _headers(args.header), extra)
    return running.run_elsewhere(
        ours, running.Elsewhere(args.bare_url, _headers(args.bare_header), extra), settings
    )


def _headers(lines: Sequence[str]) -> dict[str, str]:
    found = [line.partition(":") for line in lines]
    if not all(colon for _, colon, _ in found):
        raise ConfigError("a header is written NAME: VALUE")
    return {name.strip(): value.strip() for name, _, value in found}


def _chosen(args: argparse.Namespace) -> tuple[tuple[Configuration, ...], tuple[str, ...]]:
    folder = args.configurations or (_FOLDER if _FOLDER.is_dir() else None)
    found, left = configurations.read(folder)
    known = {c.name: c for c in found}
    if unknown := [n for n in args.names if n not in known and n != "bare"]:
        raise ConfigError(f"{unknown[0]}: no such configuration; known are {', '.join(known)}")
    return tuple(c for c in found if not args.names or c.name in args.names), left
