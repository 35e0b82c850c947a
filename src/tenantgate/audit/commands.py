"""``tenantgate audit``: look at records, check their chains, send them again, compare with Kong's own count."""

from __future__ import annotations

import argparse
import gzip
import json
import os
import re
import socket
import sys
import time
import urllib.error
import urllib.request
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from tenantgate.arguments import NO_SPOOL
from tenantgate.audit.core.chain import verify
from tenantgate.audit.segments import Stored, stored
from tenantgate.audit.streams import StreamSpool
from tenantgate.errors import ConfigError, EdgeError
from tenantgate.store.url import redis_config

__all__ = ["audit"]

_DIR: Final = Path("/var/lib/tenantgate/audit")
_REDIS_VARIABLE: Final = "TENANTGATE_REDIS_URL"
_POLL_S: Final = 0.5


def audit(parser: argparse.ArgumentParser) -> None:
    """Add ``audit tail | find | verify | export | replay | reconcile``."""
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    tail = actions.add_parser("tail", help="the latest records, and with -f those that come")
    _where(tail)
    _chosen(tail)
    tail.add_argument("-n", type=int, default=10, metavar="N", help="how many (default: %(default)s)")
    tail.add_argument("-f", "--follow", action="store_true", help="go on until interrupted")
    tail.add_argument("--json", action="store_true", help="whole records, a line each")
    tail.set_defaults(func=_tail)
    find = actions.add_parser(
        "find", help="the record of a request, and what was decided; status 1 if there is none"
    )
    _where(find)
    _chosen(find)
    find.add_argument(
        "id",
        metavar="ID",
        help="the client's X-Request-ID, in errors and log lines request_id; X-Kong-Request-Id; the trace's id",
    )
    find.add_argument(
        "files", nargs="*", type=Path, metavar="FILE", help="JSON lines, also .gz; default: the spool"
    )
    find.add_argument("--json", action="store_true", help="whole records, a line each")
    find.set_defaults(func=_find)
    checking = actions.add_parser(
        "verify", help="find removed, altered and doubled records; status 1 if there are any"
    )
    _where(checking)
    checking.add_argument(
        "files", nargs="*", type=Path, metavar="FILE", help="JSON lines, also .gz; default: the spool"
    )
    checking.set_defaults(func=_verify)
    export = actions.add_parser("export", help="records as JSON lines")
    _where(export)
    _chosen(export)
    export.add_argument(
        "-o", "--out", type=Path, metavar="FILE", help="default: standard output; .gz is compressed"
    )
    export.set_defaults(func=_export)
    replay = actions.add_parser("replay", help="let a sink have records again, as far back as the spool goes")
    _where(replay)
    replay.add_argument("--sink", required=True, metavar="NAME")
    replay.add_argument(
        "--since", required=True, metavar="TIME", help="2026-01-31T18:00Z, or back from now: 2h, 1d"
    )
    replay.set_defaults(func=_replay)
    reconcile = actions.add_parser("reconcile", help="which share of Kong's requests has a record")
    _where(reconcile)
    reconcile.add_argument("files", nargs="*", type=Path, metavar="FILE", help="records; default: the spool")
    reconcile.add_argument("--requests", type=int, metavar="N", help="how many requests Kong has counted")
    reconcile.add_argument(
        "--metrics-url",
        metavar="URL",
        help="Kong's Prometheus metrics, whose kong_http_requests_total of our routes is taken",
    )
    reconcile.add_argument("--since", metavar="TIME", help="only records since then")
    reconcile.set_defaults(func=_reconcile)


def _where(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--dir", type=Path, default=_DIR, metavar="DIR", help="gateway.audit.dir (default: %(default)s)"
    )
    parser.add_argument(
        "--redis-url",
        metavar="URL",
        help=f"where the spool is in Redis; default: the environment's {_REDIS_VARIABLE}, unless --dir has a spool",
    )
    parser.add_argument(
        "--node", metavar="NAME", help="gateway.audit.node, for a spool in Redis; default: this host"
    )


def _chosen(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--tenant", metavar="ID", help="only this tenant's")
    parser.add_argument("--since", metavar="TIME", help="only since then: 2026-01-31T18:00Z, or 2h, 1d")


def moment(text: str, now: float) -> float:
    """Unix seconds of a time, or of a span back from `now`.

    Raises:
        ConfigError: it is neither.
    """
    if match := re.fullmatch(r"([1-9][0-9]{0,4})([smhd])", text):
        return now - int(match[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86_400}[match[2]]
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"--since: {text[:40]!r} is no time and no span such as 2h or 1d") from None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


# -- records from files, the spool's folder, or Redis ---------------------------------------------------------


def _records(args: argparse.Namespace) -> Iterator[bytes]:
    files: list[Path] = getattr(args, "files", [])
    if files:
        for path in files:
            yield from _lines(path)
    elif _redis_url(args):
        yield from (queued.record for queued in _streams(args).all())
    else:
        yield from (entry.record for entry in _entries(args))


def _redis_url(args: argparse.Namespace) -> str:
    """The URL of the Redis that holds the spool; empty if a folder holds it."""
    if args.redis_url:
        return str(args.redis_url)
    return "" if (args.dir / "spool").is_dir() else os.environ.get(_REDIS_VARIABLE, "")


def _entries(args: argparse.Namespace, *, after: int = -1) -> Iterator[Stored]:
    folder = args.dir / "spool"
    if not folder.is_dir():
        raise ConfigError(f"--dir: {args.dir} has no spool; {NO_SPOOL}")
    yield from stored(folder, after=after)


def _lines(path: Path) -> Iterator[bytes]:
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            for line in file:
                if line.strip():
                    yield line.rstrip(b"\r\n")
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or type(error).__name__}") from None


def _streams(args: argparse.Namespace) -> Any:
    return StreamSpool(
        redis_config(_redis_url(args)), args.node or socket.gethostname(), (), max_records=1, max_bytes=1
    )


def _selected(args: argparse.Namespace, records: Iterable[bytes]) -> Iterator[tuple[bytes, dict[str, Any]]]:
    since = datetime.fromtimestamp(moment(args.since, time.time()), UTC).isoformat() if args.since else ""
    tenant = getattr(args, "tenant", None)
    for raw in records:
        try:
            record = json.loads(raw)
        except ValueError:
            continue
        if (tenant is None or record.get("tenant") == tenant) and str(record.get("time", "")) >= since[:19]:
            yield raw, record


# -- commands -------------------------------------------------------------------------------------------------


def _tail(args: argparse.Namespace) -> int:
    fresh = _Fresh(args)
    found: Iterable[tuple[bytes, dict[str, Any]]] = deque(
        _selected(args, fresh.records()), maxlen=max(0, args.n)
    )
    while True:
        for raw, record in found:
            print(raw.decode("utf-8", "replace") if args.json else _short(record), flush=True)
        if not args.follow:
            return 0
        time.sleep(_POLL_S)
        found = _selected(args, fresh.records())


def _find(args: argparse.Namespace) -> int:
    found = 0
    for raw, record in _selected(args, _records(args)):
        request, trace = record.get("request") or {}, record.get("trace") or {}
        ids = {
            "request_id": request.get("correlation_id"),
            "kong": request.get("id") or record.get("id"),
            "trace": trace.get("trace_id"),
        }
        if args.id not in ids.values():
            continue
        found += 1
        if args.json:
            print(raw.decode("utf-8", "replace"))
            continue
        print(_short(record))
        print(_printable(word for name, value in ids.items() if value for word in (f"  {name}", value)))
        for name, verdict in (record.get("verdicts") or {}).items():
            print(_printable((f"  {name}", json.dumps(verdict))))
    if not found:
        print(
            "no record has this id; name the files of a sink for what the spool doesn't have any more. An X-Request-ID "
            "of the client's is recorded if it is a UUID only: else take the answer's X-Kong-Request-Id",
            file=sys.stderr,
        )
    return int(not found)


class _Fresh:
    """What has come into the spool since it was asked before."""

    def __init__(self, args: argparse.Namespace) -> None:
        self._args = args
        self._last = -1
        self._seen: set[bytes] = set()

    def records(self) -> Iterator[bytes]:
        if _redis_url(self._args):
            there = list(_records(self._args))
            yield from (raw for raw in there if raw not in self._seen)
            self._seen = set(there)
            return
        for entry in _entries(self._args, after=self._last):
            self._last = entry.number
            yield entry.record


def _short(record: dict[str, Any]) -> str:
    ai = record.get("gen_ai") or {}
    usage = ai.get("usage") or {}
    model = (ai.get("request") or {}).get("model", "-")
    if "gap" in record:
        dropped = f"{record['gap'].get('records', '-')} records dropped"
        return _printable(
            (record.get("time", "-"), record.get("tenant", "-"), "gap", dropped, record.get("id", "-"))
        )
    if (event := record.get("event")) is not None:
        told = (event.get("type", "-"), event.get("message", "-"))
        return _printable((record.get("time", "-"), record.get("tenant", "-"), *told, record.get("id", "-")))
    status = (record.get("response") or {}).get("status", "-")
    took = (record.get("latencies") or {}).get("request", "-")
    state = (record.get("content") or {}).get("state", "-")
    tokens = f"{usage.get('input_tokens', '-')}+{usage.get('output_tokens', '-')}"
    words = (
        record.get("time", "-"),
        record.get("tenant", "-"),
        record.get("outcome", "-"),
        status,
        model,
        f"{tokens} tokens",
        f"{took} ms",
        f"content {state}",
        record.get("id", "-"),
    )
    return _printable(words)


def _printable(words: Iterable[object]) -> str:
    return "  ".join("".join(c if c.isprintable() else "?" for c in str(word)) for word in words)


def _verify(args: argparse.Namespace) -> int:
    report = verify(_records(args), None)
    chains = "1 chain" if report.chains == 1 else f"{report.chains} chains"
    print(f"{report.records} records in {chains}, {report.shed} without their content for want of room")
    for (tenant, node), first in sorted(report.beginnings.items()):
        print(f"note: tenant {tenant}, node {node}: begins with number {first}; earlier ones aren't here")
    for (tenant, node), times in sorted(report.restarts.items()):
        print(f"note: tenant {tenant}, node {node}: began anew {times} times, as after a lost state folder")
    for (tenant, node), spans in sorted(report.dropped.items()):
        print(
            f"note: tenant {tenant}, node {node}: {_numbers(spans)} aren't here; "
            "a later record says that they were dropped because the spool was full"
        )
    for gap in _dropped(args):
        print(f"note: {gap}")
    for fault in report.faults:
        print(f"fault: {fault}")
    print("sound" if report.sound else f"{len(report.faults)} faults")
    return 0 if report.sound else 1


def _dropped(args: argparse.Namespace) -> Iterator[str]:
    """What the spool itself had to drop, and has noted."""
    try:
        lines = (args.dir / "spool" / "dropped").read_bytes().splitlines()
    except OSError:
        return
    for line in lines:
        found = json.loads(line)
        when = datetime.fromtimestamp(found["time"], UTC).isoformat()
        numbers = ", ".join(
            f"{tenant} {_numbers(spans)}" for tenant, spans in sorted(found["numbers"].items())
        )
        yield f"{when}: {found['records']} records dropped, the spool was full: {numbers}"


def _numbers(spans: Iterable[Any]) -> str:
    return " and ".join(f"{first}-{last}" for first, last in spans)


def _export(args: argparse.Namespace) -> int:
    lines = (raw + b"\n" for raw, _ in _selected(args, _records(args)))
    if args.out is None:
        sys.stdout.buffer.writelines(lines)
        return 0
    count = 0
    try:
        with gzip.open(args.out, "wb") if args.out.suffix == ".gz" else args.out.open("wb") as out:
            for line in lines:
                out.write(line)
                count += 1
    except OSError as error:
        raise EdgeError(f"{args.out}: {error.strerror}") from None
    print(f"{count} records in {args.out}")
    return 0


def _replay(args: argparse.Namespace) -> int:
    since = moment(args.since, time.time())
    if _redis_url(args):
        _streams(args).replay(args.sink, int(since * 1000))
        print(f"{args.sink} gets the records since {args.since} again, once the worker looks")
        return 0
    folder = args.dir / "spool"
    if not (folder / f"cursor.{args.sink}").exists():
        raise ConfigError(f"--sink: nothing was ever delivered to {args.sink!r} from {folder}")
    after = datetime.fromtimestamp(since, UTC).isoformat()[:19]
    number = next((e.number for e in stored(folder) if json.loads(e.record).get("time", "") >= after), None)
    if number is None:
        print("no records since then are here")
        return 1
    wish = folder / f"replay.{args.sink}"
    wish.with_suffix(".wish").write_text(str(number), "ascii")
    wish.with_suffix(".wish").replace(wish)
    print(f"{args.sink} gets the records since {args.since} again, once the worker looks")
    return 0


def _reconcile(args: argparse.Namespace) -> int:
    # By id: a sink may have got a record twice.
    by_id = {
        str(r.get("id")): str(r.get("outcome"))
        for _, r in _selected(args, _records(args))
        if "gap" not in r and "event" not in r  # of no request
    }
    outcomes = Counter(by_id.values())
    total = outcomes.total()
    requests = args.requests if args.requests is not None else _counted(args.metrics_url)
    for outcome, n in outcomes.most_common():
        print(f"  {outcome:16} {n:>10}")
    share = f" ({total / requests:.4%})" if requests else ""
    print(f"{total} records for {requests} requests{share}")
    return 0 if total >= requests else 1


def _counted(url: str | None) -> int:
    if not url:
        raise ConfigError("--requests, --metrics-url: one of both is needed")
    if not url.startswith(("http://", "https://")):
        raise ConfigError("--metrics-url: must be an address that begins with http:// or https://")
    try:
        with urllib.request.urlopen(url, timeout=10) as response:  # noqa: S310 - checked above
            text = response.read().decode("utf-8", "replace")
    except (urllib.error.URLError, OSError) as error:
        raise EdgeError(f"--metrics-url: {type(error).__name__}") from None
    found = re.findall(
        r'^kong_http_requests_total\{[^}\n]*service="llm"[^}\n]*\} ([0-9.e+]+)$', text, re.MULTILINE
    )
    if not found:
        raise EdgeError(
            "--metrics-url: no kong_http_requests_total of the service llm there (is prometheus on?)"
        )
    return round(sum(float(value) for value in found))
