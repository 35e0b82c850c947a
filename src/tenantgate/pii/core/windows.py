"""A detector over a long text in windows: the deadline is asked between them, and no engine holds a thread for long.

Python's `re` can't be stopped, and keeps the interpreter's lock during a call. So a window has `PIECE` characters to be
searched, some before them for what tells by its neighbourhood, and some after them for what begins there. What goes on
behind a window's end is looked at once more, in a window that is longer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from tenantgate.checkpoints import PIECE
from tenantgate.pii.core import Finding, outermost
from tenantgate.time_left import check_time

__all__ = ["in_windows"]

_BEFORE: Final = 256  # farther than any detector looks back
_AFTER: Final = 4096  # the longest head of a finding, of which the rest is only taken along (a JWT's)
_LONGEST: Final = 24_576  # a private key with all that it may enclose

Detector = Callable[[str], tuple[Finding, ...]]


def in_windows(find: Detector) -> Detector:
    """`find`, window by window; short texts at once."""

    def found(text: str) -> tuple[Finding, ...]:
        check_time()
        if len(text) <= PIECE + _AFTER:
            return find(text)
        return outermost(f for start in range(0, len(text), PIECE) for f in _window(find, text, start))

    return found


def _window(find: Detector, text: str, start: int) -> Iterator[Finding]:
    check_time()
    first, core = max(0, start - _BEFORE), start + PIECE
    last = min(len(text), core + _AFTER)
    findings = find(text[first:last])
    if last < len(text) and any(first + f.end == last and first + f.start < core for f in findings):
        check_time()
        last = min(len(text), core + _LONGEST)
        findings = find(text[first:last])
    for finding in findings:
        at = first + finding.start
        if (
            start <= at < core
        ):  # what begins before is the window's before it, or looks like a beginning and is none
            yield Finding(at, first + finding.end, finding.kind, finding.score)
