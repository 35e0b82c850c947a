"""The configurations of the instances that Kong knows, in a file that all processes of a plugin share."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

__all__ = ["Memory", "News"]

_HEADER: Final = 8
"""Bytes: six digits that change whenever the file is written anew, one letter, a line's end."""
_WHOLE, _EMPTIED = "w", "e"


@dataclass(frozen=True, slots=True)
class News:
    """What was written to a `Memory` since this process read it last.

    Attributes:
        started: configurations by id, of instances that are still held.
        closed: ids of instances that are held no more.
        whole: `started` is all that is held.
    """

    started: dict[int, Any]
    closed: frozenset[int]
    whole: bool


class Memory:
    """The configurations of the instances that Kong knows: for the other processes, and for the next one.

    Kong starts an instance in one process and may use it in another, or after that one has ended. If the other did
    not know the id, Kong would start the instance anew, and if that fails, too, because the process is stopped or
    killed again, answer the client with 500 (``get_instance_id``, kong/runloop/plugin_servers/plugin.lua).

    In a file that has no name and never reaches a disk, since configurations hold credentials. One JSON array a
    line: ``[id, config]``, or ``[id]`` once it is closed. Each record begins with a line's end, too, so that one
    that was cut by the end of its writer spoils no other. Writers and `news` hold a record lock (fcntl(2)), which
    ends with its process.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._lock = threading.Lock()  # a record lock is the whole process's
        self._edition = ""
        self._read_to = 0
        if not os.fstat(fd).st_size:
            os.pwrite(fd, _header(0, _WHOLE), 0)

    @classmethod
    def new(cls) -> Memory | None:
        """An empty one; None where the system has no such files."""
        return cls(os.memfd_create("instances")) if hasattr(os, "memfd_create") else None

    def read(self) -> dict[int, Any]:
        """Configurations by id, oldest first. Waits for nobody."""
        text = os.pread(self._fd, os.fstat(self._fd).st_size, _HEADER)
        return {number: config[0] for number, config in _last_records(text).items() if config}

    def behind(self) -> bool:
        """Whether there may be something that `news` has not given yet. Waits for nobody."""
        return os.fstat(self._fd).st_size != self._read_to or self._header() != self._edition

    def news(self) -> News:
        """What was written since the last time, by this process, too; at first all."""
        with self._locked():
            edition = self._header()
            anew = edition != self._edition
            if anew:
                self._edition, self._read_to = edition, _HEADER
            size = os.fstat(self._fd).st_size
            text = os.pread(self._fd, size - self._read_to, self._read_to)
            self._read_to = size
        records = _last_records(text)
        return News(
            {number: config[0] for number, config in records.items() if config},
            frozenset(number for number, config in records.items() if not config),
            anew and edition[6:7] == _WHOLE,
        )

    def add(self, number: int, config: Any) -> None:
        """Hold one more."""
        self._append([number, config])

    def drop(self, number: int) -> None:
        """Hold one less."""
        self._append([number])

    def compact(self) -> None:
        """Leave out what is no longer held; not while another process writes."""
        with contextlib.suppress(BlockingIOError), self._locked(wait=False):
            self._rewrite(_WHOLE, b"".join(_record([*item]) for item in self.read().items()))

    def forget(self) -> None:
        """Hold nothing, for processes that start from now on; not while another process writes.

        Those that run keep what they have.
        """
        with contextlib.suppress(BlockingIOError), self._locked(wait=False):
            self._rewrite(_EMPTIED, b"")

    def _header(self) -> str:
        return os.pread(self._fd, _HEADER, 0).decode()

    def _rewrite(self, kind: str, records: bytes) -> None:
        data = _header((int(self._header()[:6]) + 1) % 1_000_000, kind) + records
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, data, 0)

    def _append(self, record: list[Any]) -> None:
        with self._locked():
            os.pwrite(self._fd, _record(record), os.fstat(self._fd).st_size)

    @contextlib.contextmanager
    def _locked(self, *, wait: bool = True) -> Iterator[None]:
        with self._lock:
            fcntl.lockf(self._fd, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            try:
                yield
            finally:
                fcntl.lockf(self._fd, fcntl.LOCK_UN)


def _header(edition: int, kind: str) -> bytes:
    return f"{edition:06d}{kind}\n".encode()


def _record(record: list[Any]) -> bytes:
    return b"\n" + json.dumps(record, separators=(",", ":")).encode() + b"\n"


def _last_records(text: bytes) -> dict[int, list[Any]]:
    """What the last record of each id says, in the order of these: ``[config]``, or ``[]`` if it is closed."""
    found: dict[int, list[Any]] = {}
    for line in text.splitlines():
        try:
            number, *config = json.loads(line)
        except (ValueError, TypeError):
            continue
        if isinstance(number, int):
            found.pop(number, None)
            found[number] = config
    return found
