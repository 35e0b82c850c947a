"""Objects that all users in the process share, by key: each is built once, by whoever asks first."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from tenantgate.bounded import Bounded

__all__ = ["Shared"]

V = TypeVar("V")


class _Slot(Generic[V]):
    """The place of one object. Its lock is held while the object is built; a build may ask for other keys."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.value: Callable[[], V | None] = lambda: None  # a weak reference is such a function, too


class Shared(Generic[V]):
    """Objects by key, at most `most` of them, the least recently used dropped first; thread-safe.

    With `weak` an object is kept only while somebody else has it.
    """

    def __init__(self, most: int, *, weak: bool = False) -> None:
        self._slots: Bounded[Hashable, _Slot[V]] = Bounded(most)
        self._weak = weak

    def get(self, key: Hashable, build: Callable[[], V]) -> V:
        """The object of `key`; `build` makes it unless it is there, while others who ask for it wait.

        What `build` raises passes, and who asks next tries again.
        """
        slot = self._slots.setdefault(key, _Slot())
        if (found := slot.value()) is not None:
            return found
        with slot.lock:
            found = slot.value()
            if found is None:
                made = found = build()
                slot.value = weakref.ref(made) if self._weak else lambda: made
            return found

    def values(self) -> list[V]:
        """The objects that are built."""
        return [found for _, slot in self._slots.items() if (found := slot.value()) is not None]

    def clear(self) -> None:
        """Drop all objects."""
        self._slots.clear()
