"""A lookup's questions to the store, in as few round trips as can be.

Of a question that nobody asked lately there is hardly ever an exact entry. So that entry and the neighbours are asked
for together: one round trip for a miss and for a hit by similarity. Where the exact entry is expected it is asked for
alone, which needs no embedding.
"""

from __future__ import annotations

from functools import cached_property, partial
from typing import TYPE_CHECKING

from tenantgate.cache.core.judge import NEAR
from tenantgate.cache.core.ports import RefusedError
from tenantgate.cache.core.similar import NOWHERE, Place
from tenantgate.cache.core.wording import read as read_wording

if TYPE_CHECKING:
    from tenantgate.cache.core.ports import AnswerStore, Found, Sealer
    from tenantgate.cache.core.question import Question
    from tenantgate.cache.core.similar import SimilarLevel

__all__ = ["StoreReader"]


class StoreReader:
    """Reads for one lookup. The similar level is left out where the store refuses it or has no vectors.

    Raises:
        UnavailableError: from both methods, if the store fails.
    """

    def __init__(
        self, question: Question, store: AnswerStore, sealer: Sealer, level: SimilarLevel | None
    ) -> None:
        self._question, self._store, self._sealer = question, store, sealer
        self._level = level if store.has_vectors else None
        self._found: Found | None = None

    @cached_property
    def place(self) -> Place:
        """Where the question's neighbours lie; nowhere once the store has refused them."""
        return NOWHERE if self._level is None else self._level.place(self._question, self._sealer)

    def exact(self) -> bytes | None:
        """The entry of the very same request, sealed, or None."""
        question = self._question
        if self._store.expects(question.name) or self.place.embedding is None:
            return self._store.get(question.keys, question.name)
        self._found = self._search(exact=question.name)
        if self._found is None:  # refused for the vectors' sake or the entry's
            return self._store.get(question.keys, question.name)
        return self._found.entry

    def neighbours(self) -> Found | None:
        """The nearest entries, sealed, with the plan that is stored for them; None where none are searched."""
        if self._found is None or self._found.entry is not None:
            self._found = self._search()
        return self._found

    def _search(self, exact: str | None = None) -> Found | None:
        """One round trip, during which the question is taken apart for the rules; None where there is none to make."""
        level, place, keys = self._level, self.place, self._question.keys
        if level is None or place.vectors is None or place.embedding is None:
            return None
        try:
            return self._store.nearest(
                keys, place.vectors, place.embedding.vector, level.candidates,
                exact=exact,
                plan=None if level.learner is None else level.learner.state(keys),
                least=NEAR,
                meanwhile=partial(read_wording, place.embedding.text),  # which remembers
            )  # fmt: skip
        except RefusedError:  # counted and logged where it happened; the exact level may still work
            self.place = NOWHERE
            return None
