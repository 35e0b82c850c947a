"""Requests in flight by deployment, counted by all engine processes of a node in one small file in memory.

A request's two phases may run in different processes, so it holds a slot of the file from one to the other. Who dies
leaves slots behind, which are free again at their deadline. Two processes may take the same slot at the same moment;
then one request isn't counted.
"""

from __future__ import annotations

import contextlib
import logging
import mmap
import os
import random
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from tenantgate.telemetry import logs

__all__ = ["InFlight"]

_log: Final = logging.getLogger("tenantgate.routing")
_SLOTS: Final = 4096
_TRIED: Final = 8  # slots, before one that is taken is taken over
_SLOT: Final = np.dtype([("tag", "<u8"), ("until", "<f8")])


class InFlight:
    """The slots in the file at `path`, or of this process alone where it can't be had; thread-safe."""

    def __init__(self, path: Path | None) -> None:
        memory = mmap.mmap(-1, _SLOTS * _SLOT.itemsize) if path is None else _shared(path)
        self._slots = np.frombuffer(memory, dtype=_SLOT)
        self._lock = threading.Lock()
        self._random = random.Random()

    def begin(self, tag: int, until: float, now: float) -> int:
        """Take a slot for a request to the deployment with this tag (64 bits); gives its number."""
        with self._lock:
            for _ in range(_TRIED):
                slot = self._random.randrange(_SLOTS)
                if self._slots[slot]["until"] <= now:
                    break
            self._slots[slot] = tag, until
            return slot

    def end(self, slot: int, tag: int) -> None:
        """Free a slot, if the request still holds it."""
        if 0 <= slot < _SLOTS:
            with self._lock:
                if int(self._slots[slot]["tag"]) == tag:
                    self._slots[slot] = 0, 0.0

    def counts(self, tags: Sequence[int], now: float) -> list[int]:
        """Requests in flight by tag."""
        live = self._slots["tag"][self._slots["until"] > now]
        return [int(np.count_nonzero(live == np.uint64(tag))) for tag in tags]


def _shared(path: Path) -> mmap.mmap:
    size = _SLOTS * _SLOT.itemsize
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with contextlib.closing(os.fdopen(descriptor, "r+b", buffering=0)) as file:
            if os.fstat(descriptor).st_size != size:
                file.truncate(size)
            return mmap.mmap(file.fileno(), size)
    except OSError as error:
        logs.event(
            _log, logging.WARNING, "requests in flight are counted by each process", **logs.describe(error)
        )
        return mmap.mmap(-1, size)
