"""Reader of the journal that Kong writes, line by line, over restarts and over its own rotation.

A position is a number of bytes since the journal's beginning and only ever grows, also where the file is begun anew.
Kong opens the file for each line (file-log's ``reopen``), so a renamed file gets at most a line that was just being
written; it is read until it has been quiet for `QUIET_S`, and only then the new one.

What must outlive a restart lies in ``journal.json``: the position where the current file begins, and a fingerprint of
its first line, by which a file that was put in its place is recognised.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["QUIET_S", "JournalTail", "Line", "private", "write_whole"]

QUIET_S: Final = 2.0
_PRIVATE: Final = 0o600
_STATE: Final = "journal.json"
_CHUNK: Final = 1 << 20
_HEAD: Final = 4096  # bytes of the first line by which a file is recognised
_LONGEST: Final = 8 << 20  # bytes of a line; a longer one is read as several, none of which can be parsed


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the journal, from `start` to `end`, without its line end."""

    start: int
    end: int
    raw: bytes


class JournalTail:
    """The one reader of a journal; for one thread.

    Attributes:
        processed: up to where the lines are in the spool, as the owner says; no file goes before all of it is.
        restarts: how often the file was found replaced or cut off.
    """

    def __init__(
        self,
        journal: Path,
        state_dir: Path,
        *,
        known_end: int,
        clock: Callable[[], float],
        furthest: int = -1,
        others: bool = False,
    ) -> None:
        """`known_end`: up to where all is processed. `furthest`: the largest position that is in the spool.

        `others`: these are positions in somebody else's journal.
        """
        self._path, self._state, self._clock = journal, state_dir / _STATE, clock
        self._known_end, self._furthest, self._others = known_end, furthest, others
        self.processed = known_end
        self._base, self._first = self._load()
        self._fd: int | None = None
        self._at = 0  # bytes of the current file that were read
        self._rest = b""  # read, but not yet a whole line
        self._renamed: Path | None = None
        self._grown = 0.0  # when a renamed file last had something new
        self.restarts = 0
        self._placed = False
        self._open()

    def close(self) -> None:
        """Give the file back."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    @property
    def position(self) -> int:
        """Up to where whole lines were given out."""
        return self._base + self._at - len(self._rest)

    def unread(self) -> int:
        """Number of bytes that are there to be read."""
        if self._fd is None:
            return 0
        return max(0, os.fstat(self._fd).st_size - self._at)

    def read(self, most: int) -> list[Line]:
        """Up to `most` bytes of further lines, empty if there are none (yet).

        Raises:
            OSError: the file system refused, as with a full disk; nothing is skipped, and it may be tried again.
        """
        if self._fd is None and not self._open():
            return []
        if not self._first:
            head = os.pread(self._fd or 0, _HEAD, 0)
            if len(head) == _HEAD or b"\n" in head:
                self._save(self._base, _fingerprint(head))
        lines: list[Line] = []
        taken = 0
        while taken < most:
            data = os.pread(self._fd or 0, min(_CHUNK, most - taken), self._at)
            if not data:
                break
            self._grown = self._clock()
            taken += len(data)
            lines += self._split(data)
        if not taken:
            lines += self._at_end()
        return lines

    def sync(self) -> None:
        """Bring to disk what was read, before anybody notes a position in it.

        Else a journal whose end was lost with the machine would give new lines the positions of old ones.

        Raises:
            OSError: the file system refused.
        """
        if self._fd is not None:
            os.fsync(self._fd)

    def rotate(self, size: int) -> bool:
        """Begin the journal anew if the file has `size` bytes or more."""
        if self._fd is None or self._renamed or os.fstat(self._fd).st_size < size or not self._current():
            return False
        renamed = self._path.with_name(f"{self._path.name}.{self._base:020d}")
        with contextlib.suppress(OSError):
            self._path.rename(renamed)
            self._renamed, self._grown = renamed, self._clock()
        if self._renamed is not None and os.fstat(self._fd).st_uid == os.geteuid():
            # Kong, who is the same user then, would let everybody read the file that it makes.
            with contextlib.suppress(OSError):
                os.close(os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _PRIVATE))
        return self._renamed is not None

    # -- reading ------------------------------------------------------------------------------------------

    def _split(self, data: bytes) -> list[Line]:
        start = self.position
        self._at += len(data)
        *whole, self._rest = (self._rest + data).split(b"\n")
        lines = []
        for raw in whole:
            lines.append(Line(start, start + len(raw) + 1, raw))
            start += len(raw) + 1
        if len(self._rest) > _LONGEST:
            lines.append(self._last_line())
        return lines

    def _last_line(self) -> Line:
        line = Line(self.position, self._base + self._at, self._rest)
        self._rest = b""
        return line

    def _at_end(self) -> list[Line]:
        """At the end of the file: is it still the journal?"""
        if not self._renamed and self._current():
            if self._fd is not None and os.fstat(self._fd).st_size < self._at:
                self._begin_anew()  # cut off under our hands
            return []
        if not self._grown:
            self._grown = self._clock()
        if self._clock() - self._grown < QUIET_S or self.processed < self.position:
            return []
        start, rest = self.position, self._rest
        self._save(self._base + self._at, "")
        lines = [Line(start, self._base, rest)] if rest else []
        self._rest = b""
        if self._renamed:
            with contextlib.suppress(OSError):
                self._renamed.unlink()
        self._renamed, self._at = None, 0
        self.close()
        self._open()
        return lines

    def _begin_anew(self) -> None:
        self._save(max(self._base + self._at, self._known_end, self._furthest) + 1, "")
        self.restarts += 1
        self._at, self._rest = 0, b""

    def _current(self) -> bool:
        """Whether the open file is the one that Kong writes to."""
        if self._fd is None:
            return False
        try:
            there, mine = self._path.stat(), os.fstat(self._fd)
        except FileNotFoundError:
            return False
        return (there.st_ino, there.st_dev) == (mine.st_ino, mine.st_dev)

    # -- opening ------------------------------------------------------------------------------------------

    def _open(self) -> bool:
        renamed = None if self._placed else self._pending_rename()
        try:
            self._fd = os.open(renamed or self._path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        if os.fstat(self._fd).st_uid == os.geteuid():
            os.fchmod(self._fd, _PRIVATE)
        self._renamed = renamed
        self._grown = self._clock() if renamed else 0.0
        if not self._placed:
            try:
                self._find_place()
            except OSError:
                self.close()
                raise
            self._placed = True
        return True

    def _pending_rename(self) -> Path | None:
        """A renamed file that was not read to its end; those that were are removed."""
        pattern = re.compile(re.escape(self._path.name) + r"\.(\d{20})")
        for found in sorted(self._path.parent.glob(self._path.name + ".*")):
            match = pattern.fullmatch(found.name)
            if match is None:
                continue
            if int(match[1]) == self._base:
                return found
            if int(match[1]) < self._base:
                with contextlib.suppress(OSError):
                    found.unlink()
        return None

    def _find_place(self) -> None:
        """Find where to go on in the file that is there at the start."""
        fd = self._fd or 0
        size = os.fstat(fd).st_size
        head = os.pread(fd, _HEAD, 0)
        other = bool(self._first) and _fingerprint(head) != self._first
        # Without a state of our own the spool may still know positions, of a file that is gone.
        unknown = not self._first and self._base == 0 and max(self._known_end, self._furthest) > 0
        if other or unknown or self._others:
            self._begin_anew()
            return
        if self._base + size < self._known_end:
            # The same file, but shorter: the machine has lost what wasn't on its disk yet. The spool has it.
            self._save(self._known_end - size, self._first)
            self.restarts += 1
        self._at = max(0, self._known_end - self._base)

    def _load(self) -> tuple[int, str]:
        try:
            found = json.loads(self._state.read_bytes())
            return int(found["base"]), str(found["first"])
        except (OSError, ValueError, KeyError, TypeError):
            return 0, ""

    def _save(self, base: int, first: str) -> None:
        """Note where the file begins; on disk before anything follows from it."""
        write_whole(self._state, json.dumps({"base": base, "first": first}).encode())
        self._base, self._first = base, first


def write_whole(path: Path, data: bytes) -> None:
    """Replace a file so that a crash leaves the old one or the new one."""
    draft = path.with_name(path.name + ".new")
    with os.fdopen(private(draft), "wb") as out:
        out.write(data)
        out.flush()
        os.fsync(out.fileno())
    draft.replace(path)


def private(path: Path, *, append: bool = False) -> int:
    """Open a file of our own folder to be written: nobody else's to read, and never what somebody linked there."""
    more = os.O_APPEND if append else os.O_TRUNC
    return os.open(path, os.O_WRONLY | os.O_CREAT | more | os.O_NOFOLLOW | os.O_CLOEXEC, _PRIVATE)


def _fingerprint(data: bytes) -> str:
    return hashlib.sha256(data[:_HEAD].split(b"\n", 1)[0]).hexdigest()[:32]
