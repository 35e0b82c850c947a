"""Audit records for the commands: from files of JSON lines, the spool's folder, or the spool in Redis."""

from __future__ import annotations

import argparse
import gzip
import os
import socket
import zoneinfo
from collections.abc import Iterator, Sequence
from datetime import datetime, tzinfo
from pathlib import Path
from typing import Any, Final

from tenantgate.arguments import NO_SPOOL
from tenantgate.audit.segments import stored
from tenantgate.audit.streams import StreamSpool
from tenantgate.errors import ConfigError
from tenantgate.store.url import redis_config

__all__ = ["add_source", "lines_of", "moment_ms", "raw_records", "zone_of"]

_DIR: Final = Path("/var/lib/tenantgate/audit")
_REDIS_VARIABLE: Final = "TENANTGATE_REDIS_URL"


def add_source(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that say where the records are."""
    parser.add_argument(
        "--records",
        action="append",
        default=[],
        type=Path,
        metavar="FILE",
        help="audit records or corrections as JSON lines, also .gz; may be given several times; default: the spool",
    )
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


def raw_records(
    files: Sequence[Path], folder: Path, redis_url: str | None, node: str | None
) -> Iterator[bytes]:
    """The records, each as JSON text: of the files, else of the spool in Redis or in the audit log's folder.

    Raises:
        ConfigError: there are none.
        EdgeError: Redis failed.
    """
    if files:
        for path in files:
            yield from lines_of(path)
        return
    there = (folder / "spool").is_dir()
    url = redis_url or ("" if there else os.environ.get(_REDIS_VARIABLE, ""))
    if url:
        name = node or socket.gethostname()
        spool: Any = StreamSpool(redis_config(url), name, (), max_records=1, max_bytes=1)
        yield from (queued.record for queued in spool.all())
    elif there:
        yield from (entry.record for entry in stored(folder / "spool"))
    else:
        raise ConfigError(f"--dir: {folder} has no spool; {NO_SPOOL}; or give --records")


def lines_of(path: Path) -> Iterator[bytes]:
    """The lines of a file that aren't empty.

    Raises:
        ConfigError: the file can't be read.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            for line in file:
                if line.strip():
                    yield line.rstrip(b"\r\n")
    except (OSError, EOFError) as error:
        raise ConfigError(f"{path}: {getattr(error, 'strerror', None) or type(error).__name__}") from None


def zone_of(name: str) -> tzinfo:
    """A time zone by its IANA name.

    Raises:
        ConfigError: there is none of this name.
    """
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise ConfigError(f"--timezone: {name[:40]!r} is no IANA time zone such as Europe/Berlin") from None


def moment_ms(text: str, zone: tzinfo, argument: str) -> int:
    """Unix milliseconds of a date or a time; one that names no zone is in `zone`.

    Raises:
        ConfigError: it is neither.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(
            f"{argument}: {text[:40]!r} is no date and no time such as 2026-11-30T18:00Z"
        ) from None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=zone)).timestamp() * 1000)
