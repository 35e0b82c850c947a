"""The host's error log, in nginx's form: what happened and where, never what a request held."""

from __future__ import annotations

import sys
import threading
from datetime import datetime
from pathlib import Path
from typing import Final, TextIO

__all__ = ["KongLog"]

LEVELS: Final = ("debug", "info", "notice", "warn", "err", "crit", "alert", "emerg")


class KongLog:
    """Lines at or above `level`; to a file that is flushed after each line, or to standard error."""

    def __init__(self, path: Path | None = None, level: str = "notice") -> None:
        self._out: TextIO = (
            path.open("a", encoding="utf-8", errors="backslashreplace") if path else sys.stderr
        )
        self._level = LEVELS.index({"error": "err"}.get(level, level))
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close the file."""
        if self._out is not sys.stderr:
            self._out.close()

    def write(self, level: str, text: str) -> None:
        """One line."""
        if LEVELS.index(level) < self._level:
            return
        now = datetime.now().astimezone().strftime("%Y/%m/%d %H:%M:%S")
        shown = {"err": "error"}.get(level, level)
        with self._lock:
            self._out.write(f"{now} [{shown}] {text.rstrip()}\n".replace("\r", " "))
            self._out.flush()
