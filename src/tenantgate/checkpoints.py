"""Where long work stops to ask whether it may go on.

Whoever goes through something that a client sent calls `checkpoint` in each turn of the loop, and never hands more
than `PIECE` characters to one call of an engine that can't be stopped (`re`, a tokenizer). What happens there is the
business of whoever runs the work: the plugin server lets requests of other tenants go first, and ends work whose
request has its answer (`tenantgate.kong.fairness`). Elsewhere nothing happens. Never call it while holding a lock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

__all__ = ["PIECE", "also_checked_by", "checked_by", "checkpoint", "pieces"]

PIECE: Final = 16_384
"""Characters of a text for one call that can't be stopped: a few milliseconds of a thorough expression."""

_check: ContextVar[Callable[[], None] | None] = ContextVar("checkpoint", default=None)


def checkpoint() -> None:
    """Ask whether to go on: may wait, or end the work by raising what the one who runs it expects."""
    check = _check.get()
    if check is not None:
        check()


@contextmanager
def checked_by(check: Callable[[], None]) -> Iterator[None]:
    """Within the block, and in this thread, `checkpoint` calls `check`."""
    token = _check.set(check)
    try:
        yield
    finally:
        _check.reset(token)


@contextmanager
def also_checked_by(check: Callable[[], None]) -> Iterator[None]:
    """Within the block, and in this thread, `checkpoint` calls `check` after what it called before."""
    outer = _check.get()

    def both() -> None:
        if outer is not None:
            outer()
        check()

    with checked_by(both):
        yield


def pieces(length: int, overlap: int, size: int = PIECE) -> Iterator[tuple[int, int]]:
    """Spans that cover ``0:length``, each of at most `size` and `overlap` more; a checkpoint before each."""
    start = 0
    while start < length:
        checkpoint()
        yield start, min(length, start + size + overlap)
        start += size
