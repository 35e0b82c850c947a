"""What one lookup reads from the store, in as few round trips as can be.

Of a question that nobody asked lately there is hardly ever an exact entry. So that entry and the neighbours are asked
for together: one round trip for a miss and for a hit by similarity. Where the exact entry is expected it is asked for
alone, for which the question's words need not be read.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Final

from tenantgate.cache.core.entry import Entry, opened
from tenantgate.cache.core.ports import RefusedError
from tenantgate.cache.core.similar import NOWHERE, Place

if TYPE_CHECKING:
    from tenantgate.cache.core.ports import AnswerStore, Found, Leased, LeaseWish, Neighbour, Sealer
    from tenantgate.cache.core.question import Question
    from tenantgate.cache.core.similar import SimilarLevel

__all__ = ["StoreReader"]


_MOST: Final = 4
"""How many neighbours are fetched for each that may be embedded; the rules exclude the others."""


class StoreReader:
    """The reads of one lookup. The similar level is left out where the store refuses it.

    `wish` is for the entry's lease, which is asked for where that costs no round trip; then `leased` is the answer.
    `damaged` collects the names of entries that could not be opened; `misplaced` counts those of other buckets.

    Raises:
        UnavailableError: from `exact` and `neighbours`, if the store fails.
    """

    def __init__(
        self,
        question: Question,
        store: AnswerStore,
        sealer: Sealer,
        level: SimilarLevel | None,
        wish: LeaseWish | None = None,
    ) -> None:
        self._question, self._store, self._sealer = question, store, sealer
        self._level, self._wish = level, wish
        self.leased: Leased | None = None
        self._found: Found | None = None
        self.damaged: list[str] = []
        self.misplaced = 0

    @cached_property
    def place(self) -> Place:
        """Where the question's neighbours lie; nowhere once the store has refused them."""
        return NOWHERE if self._level is None else self._level.place(self._question, self._sealer)

    def exact(self) -> Entry | None:
        """The entry of the very same request, if there is one and it can be opened."""
        name = self._question.name
        if not self._store.expects(name) and self.place.searched:
            self._found = self._search(
                exact=name
            )  # None where it was refused, for the bucket's sake or the entry's
            self.leased = None if self._found is None else self._found.leased
        if self._found is None:
            return self.opened(name, self._store.get(self._question.keys, name))
        return self.opened(name, self._found.entry)

    def neighbours(self) -> Found | None:
        """The nearest entries, sealed, with the plan that is stored for them; None where none are searched."""
        if self._found is None or self._found.entry is not None:
            self._found = self._search()
        return self._found

    def opened(self, name: str, sealed: bytes | None) -> Entry | None:
        """The entry of this name, if there is one and it can be opened."""
        if sealed is None:
            return None
        entry = opened(self._sealer, self._question.keys.entry(name), sealed)
        if entry is None:
            self.damaged.append(name)
        return entry

    def neighbour(self, near: Neighbour) -> Entry | None:
        """A neighbour that can be opened and was stored for this bucket."""
        entry = self.opened(near.name, near.value)
        if entry is None or entry.bucket == self.place.bucket:
            return entry
        # An entry of an older version names no bucket; with one, somebody without the key has written the name here.
        self.misplaced += entry.bucket is not None
        return None

    def _search(self, exact: str | None = None) -> Found | None:
        """One round trip; None where there is none to make."""
        level, place, keys = self._level, self.place, self._question.keys
        if level is None or place.bucket is None or not place.searched:
            return None
        try:
            return self._store.neighbours(
                keys,
                place.bucket,
                _MOST * level.candidates,
                exact=exact,
                plan=None if level.learner is None else level.learner.state(keys),
                wish=None if exact is None else self._wish,
            )
        except RefusedError:  # counted and logged where it happened; the exact level may still work
            self.place = NOWHERE
            return None
