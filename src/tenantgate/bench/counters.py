"""What the parts counted themselves: the plugin servers' metrics and Redis's."""

from __future__ import annotations

import contextlib
import http.client
import re
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import redis

__all__ = ["Series", "difference", "metrics_of", "parse", "redis_counts", "total"]

Series = Mapping[tuple[str, tuple[tuple[str, str], ...]], float]
"""(metric, its labels in order of name) → value."""

_LINE: Final = re.compile(r"^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)$")
_LABEL: Final = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=5.0)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(5.0)
        self.sock.connect(str(self._path))


def metrics_of(path: Path) -> Series:
    """The metrics at a plugin server's metrics socket; empty where nobody answers."""
    with contextlib.suppress(OSError, http.client.HTTPException):
        connection = _UnixConnection(path)
        try:
            connection.request("GET", "/metrics")
            return parse(connection.getresponse().read().decode())
        finally:
            connection.close()
    return {}


def parse(text: str) -> Series:
    """Series of Prometheus' text format."""
    out = {}
    for line in text.splitlines():
        if found := _LINE.match(line):
            out[found[1], tuple(sorted(_LABEL.findall(found[2] or "")))] = float(found[3])
    return out


def difference(before: Series, after: Series) -> Series:
    """What was counted between two readings."""
    return {
        key: value - before.get(key, 0.0) for key, value in after.items() if value != before.get(key, 0.0)
    }


def total(series: Series, name: str, **labels: str) -> float:
    """The sum of a metric's series with these labels."""
    wanted = labels.items()
    return sum(v for (n, found), v in series.items() if n == name and wanted <= dict(found).items())


def redis_counts(url: str) -> dict[str, float]:
    """What a Redis counted.

    ``trips`` are reads from clients' sockets, one for each request or pipeline; ``commands``, ``keys`` and
    ``megabytes`` are what they say.
    """
    client: Any = redis.Redis.from_url(url, socket_timeout=5.0)
    try:
        info = client.info("stats") | client.info("memory")
        return {
            "trips": float(info["total_reads_processed"]),
            "commands": float(info["total_commands_processed"]),
            "keys": float(client.dbsize()),
            "megabytes": float(info["used_memory"]) / 2**20,
        }
    finally:
        client.close()
