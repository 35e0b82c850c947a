"""Text on a terminal: control sequences in names, reasons and answers steer nothing there.

Files and pipes get the text as it is.
"""

from __future__ import annotations

import re
import sys
from typing import Any, Final, TextIO

__all__ = ["Terminal", "draw", "guard", "plain"]

_ODD: Final = re.compile(r"[^\n\t\x20-\x7e]")
_COLOURS: Final = re.compile("(\x1b\\[[0-9;]{0,8}m)")  # of the commands' own


def plain(text: str) -> str:
    """`text` with a question mark for each character that isn't to be seen, but for line ends, tabs and colours."""
    if not _ODD.search(text):
        return text
    parts = _COLOURS.split(text)
    parts[::2] = ["".join(c if c in "\n\t" or c.isprintable() else "?" for c in part) for part in parts[::2]]
    return "".join(parts)


class Terminal:
    """A text stream whose `write` is plain, and whose `draw` isn't; all else is the stream's own."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def write(self, text: str) -> int:
        """Write `plain` text."""
        self._out.write(plain(text))
        return len(text)

    def draw(self, text: str) -> None:
        """Write control sequences of a command."""
        self._out.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._out, name)


def draw(text: str) -> None:
    """Write control sequences to standard output."""
    out = sys.stdout
    out.draw(text) if isinstance(out, Terminal) else out.write(text)


def guard() -> None:
    """Have standard output and standard error be a `Terminal`, where they are one."""
    for name in ("stdout", "stderr"):
        out = getattr(sys, name)
        if not isinstance(out, Terminal) and out is not None and out.isatty():
            setattr(sys, name, Terminal(out))
