"""A mapping in memory with bounds of number, bytes and age: the oldest entries make room."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from typing import Generic, TypeVar

__all__ = ["Bounded"]

K = TypeVar("K")
V = TypeVar("V")


class Bounded(Generic[K, V]):
    """A mapping that drops its oldest entries beyond a bound; thread-safe.

    Args:
        most: entries, at least 0.
        most_bytes: sum of the sizes that `put` is given, in bytes.
        age_s: seconds that an entry is kept, by the clock of `put`. Older ones go when another is put.
    """

    def __init__(self, most: int, *, most_bytes: float = math.inf, age_s: float = math.inf) -> None:
        self._most, self._most_bytes, self._age_s = most, most_bytes, age_s
        self._entries: OrderedDict[K, tuple[float, int, V]] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def put(self, key: K, value: V, *, size: int = 0, now: float = 0.0) -> None:
        """Set an entry of `size` bytes, as the newest one; `now` in seconds, of one clock."""
        with self._lock:
            self._put(key, value, size, now)

    def get(self, key: K) -> V | None:
        """The value of `key`; None if there is none."""
        found = self._entries.get(key)
        return None if found is None else found[2]

    def setdefault(self, key: K, value: V) -> V:
        """The value of `key`, `value` if there is none; the entry is the newest then. Not for entries with an age."""
        with self._lock:
            found = self._entries.get(key)
            if found is None:
                self._put(key, value, 0, 0.0)
                return value
            self._entries.move_to_end(key)
            return found[2]

    def take(self, key: K) -> V | None:
        """Remove an entry and give its value; None if there is none."""
        with self._lock:
            return self._pop(key)

    def clear(self) -> None:
        """Remove all entries."""
        with self._lock:
            self._entries.clear()
            self._bytes = 0

    @property
    def bytes(self) -> int:
        """Sum of the entries' sizes."""
        return self._bytes

    def items(self) -> list[tuple[K, V]]:
        """The entries, the oldest first."""
        with self._lock:
            return [(key, value) for key, (_, _, value) in self._entries.items()]

    def __contains__(self, key: K) -> bool:
        return key in self._entries

    def __len__(self) -> int:
        return len(self._entries)

    def _put(self, key: K, value: V, size: int, now: float) -> None:
        self._pop(key)
        self._entries[key] = now, size, value
        self._bytes += size
        while self._entries:
            oldest, (since, _, _) = next(iter(self._entries.items()))
            if (
                len(self._entries) <= self._most
                and self._bytes <= self._most_bytes
                and now - since <= self._age_s
            ):
                break
            self._pop(oldest)

    def _pop(self, key: K) -> V | None:
        found = self._entries.pop(key, None)
        if found is None:
            return None
        self._bytes -= found[1]
        return found[2]
