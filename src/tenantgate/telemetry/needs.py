"""What a process needs to serve as it is meant to, and hasn't: ``/readyz`` says no while something is missing.

A process may take events without its policies or models, and does: each request is then answered as its policy says.
But nobody should send it any.
"""

from __future__ import annotations

import threading
from collections.abc import Hashable
from typing import Final

from tenantgate.telemetry import metrics

__all__ = ["forget", "missing", "tell"]

_missing: Final = metrics.gauge(
    "tenantgate_missing",
    "1 while a process lacks this, and isn't ready: configuration, models, policies.",
    ("what",),
)
_lock: Final = threading.Lock()
_told: Final[dict[tuple[str, Hashable], bool]] = {}


def tell(what: str, *, there: bool, owner: Hashable = None) -> None:
    """Say whether `what` is there; it is missing while one of its owners misses it. Thread-safe."""
    with _lock:
        _told[what, owner] = there
        _show(what)


def forget(what: str, *, owner: Hashable = None) -> None:
    """`owner` needs it no longer."""
    with _lock:
        if _told.pop((what, owner), None) is not None:
            _show(what)


def missing() -> list[str]:
    """What is missing, sorted; empty before anybody has told."""
    with _lock:
        return sorted({what for (what, _), there in _told.items() if not there})


def _show(what: str) -> None:
    lacks = any(name == what and not there for (name, _), there in _told.items())
    _missing.set(float(lacks), what=what)
