"""Until when a detector may look: one that goes through a long text in steps asks before each.

Each question is a checkpoint, too (`tenantgate.checkpoints`).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from tenantgate.checkpoints import checkpoint
from tenantgate.errors import TenantgateError

__all__ = ["OutOfTimeError", "check_time", "limited"]

_until: ContextVar[float | None] = ContextVar("until", default=None)


class OutOfTimeError(TenantgateError):
    """The text is too long for the time that there is."""


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Whatever asks within the block has this long."""
    token = _until.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        _until.reset(token)


def check_time() -> None:
    """Raise OutOfTimeError if time is over."""
    checkpoint()
    until = _until.get()
    if until is not None and time.monotonic() > until:
        raise OutOfTimeError("the text is too long for the deadline")
