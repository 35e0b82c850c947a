"""What processes cost: processor time, memory, threads and open files, from ``/proc`` (Linux)."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["Usage", "sample", "spent"]

_TICK_S: Final = 1 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Usage:
    """Of one process, or of several together.

    Attributes:
        cpu_s: processor time so far, of all threads.
        rss_mb: resident memory now, MiB.
        threads: how many.
        files: open file descriptors.
    """

    cpu_s: float = 0.0
    rss_mb: float = 0.0
    threads: int = 0
    files: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.cpu_s + other.cpu_s,
            self.rss_mb + other.rss_mb,
            self.threads + other.threads,
            self.files + other.files,
        )


def sample(roles: Mapping[str, Iterable[int]]) -> dict[str, Usage]:
    """The usage by role now; processes that ended meanwhile count as nothing."""
    return {role: sum(map(_one, pids), Usage()) for role, pids in roles.items()}


def spent(before: Mapping[str, Usage], after: Mapping[str, Usage]) -> dict[str, float]:
    """Seconds of processor time between two samples, by role."""
    return {role: max(0.0, u.cpu_s - before.get(role, Usage()).cpu_s) for role, u in after.items()}


def _one(pid: int) -> Usage:
    with contextlib.suppress(OSError, ValueError, IndexError):
        root = Path(f"/proc/{pid}")
        # proc(5): after the name in brackets come state and parent; utime and stime are fields 14 and 15.
        stat = (root / "stat").read_text(errors="replace").rpartition(")")[2].split()
        status = dict(
            line.split(":", 1)
            for line in (root / "status").read_text(errors="replace").splitlines()
            if ":" in line
        )
        return Usage(
            (int(stat[11]) + int(stat[12])) * _TICK_S,
            int(status.get("VmRSS", "0 kB").split()[0]) / 1024,
            int(status.get("Threads", "0")),
            sum(1 for _ in (root / "fd").iterdir()),
        )
    return Usage()
