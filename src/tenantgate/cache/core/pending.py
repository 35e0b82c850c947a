"""What a miss leaves for its log phase: the prompt's names and vector, bounded in number, bytes and age.

The request body can't be read in Kong's log phase, so access keeps this in process memory. If the process ends
meanwhile, the answer isn't stored, and nothing else happens.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tenantgate.cache.core.partition import Keys
from tenantgate.cache.core.similar import NOWHERE, Place

if TYPE_CHECKING:
    from tenantgate.cache.core.outcome import Miss
    from tenantgate.cache.core.question import Question

__all__ = ["Doubt", "Pending", "PendingMisses", "pending_of"]


@dataclass(frozen=True, slots=True)
class Doubt:
    """A stored answer that wasn't served: `name` is its entry's, `bin` that of the questions' score.

    `bin` is None where the question is the same, and `probe` says that it would have been served.

    The answer itself isn't kept: the log phase reads it again, if it is still there.
    """

    name: str
    bin: int | None
    probe: bool


@dataclass(frozen=True, slots=True)
class Pending:
    """A miss: what its log phase needs to store the provider's answer.

    `question` is None where it isn't compared. `stream` says whether the client asked for server-sent events. `damaged`
    names entries that could not be opened and should go. `comparison` is what the provider's answer is compared with.
    """

    keys: Keys
    name: str
    question: str | None
    stream: bool
    place: Place = NOWHERE
    damaged: tuple[str, ...] = ()
    comparison: Doubt | None = None

    @property
    def size(self) -> int:
        """About how many bytes of memory it takes."""
        embedding = self.place.embedding
        made = 0 if embedding is None else len(embedding.vector) + len(embedding.states or b"")
        return 600 + 2 * len(self.question or "") + made


class PendingMisses:
    """Misses by their tokens, the oldest dropped first; thread-safe."""

    def __init__(self, *, most: int = 4096, most_bytes: int = 64 << 20, age_s: float = 900.0) -> None:
        self._most, self._most_bytes, self._age_s = most, most_bytes, age_s
        self._held: OrderedDict[str, tuple[float, Pending]] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def put(self, token: str, pending: Pending, now: float) -> None:
        """Keep `pending` under an unguessable token."""
        with self._lock:
            if (before := self._held.pop(token, None)) is not None:
                self._bytes -= before[1].size
            self._held[token] = (now, pending)
            self._bytes += pending.size
            while self._held:
                oldest, (since, held) = next(iter(self._held.items()))
                if (
                    len(self._held) <= self._most
                    and self._bytes <= self._most_bytes
                    and now - since <= self._age_s
                ):
                    break
                del self._held[oldest]
                self._bytes -= held.size

    def take(self, token: str) -> Pending | None:
        """Give it back, once."""
        with self._lock:
            found = self._held.pop(token, None)
            if found is None:
                return None
            self._bytes -= found[1].size
            return found[1]

    def __len__(self) -> int:
        return len(self._held)


def pending_of(question: Question, miss: Miss, damaged: tuple[str, ...] = ()) -> Pending:
    """What a miss leaves."""
    # Only what is compared needs its text: what is too long for that would only make the entry large.
    text = question.text if miss.place.vectors else None
    stream = question.request.stream
    return Pending(question.keys, question.name, text, stream, miss.place, damaged, miss.comparison)
