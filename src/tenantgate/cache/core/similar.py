"""The similar level: which questions it takes, and where it looks for their neighbours."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tenantgate.cache.core.bucket import bucket
from tenantgate.cache.core.fitness import Unfit, other_language, unreadable
from tenantgate.cache.core.text_parts import read as read_wording

if TYPE_CHECKING:
    from tenantgate.cache.core.ports import BoundLearner, LanguageIdentifier, PairVerifier, Sealer
    from tenantgate.cache.core.question import Question
    from tenantgate.models.ports import Reading

__all__ = ["NOWHERE", "Place", "SimilarLevel"]

_SHORTER: Final = 0.6  # of a question's length: what is shorter hardly asks the same in other words


@dataclass(frozen=True, slots=True)
class Place:
    """Where a question's neighbours lie, and its own answer will.

    `bucket` is the key of the names of all entries with the question's bucket, None where the question isn't compared:
    then `unfit` may say why. `searched` says whether its neighbours are asked for.
    """

    bucket: str | None = None
    unfit: Unfit | None = None
    searched: bool = False


NOWHERE: Final = Place()


@dataclass(frozen=True, slots=True)
class SimilarLevel:
    """Models and settings by which similar questions are found and judged.

    `reading` gives what the embedder makes of a text, and `truncates` whether it would read its beginning only. Without
    `verifier`, while that is loading, nothing is searched, but what is stored can be found later. `threshold` is the
    verifier's score that is needed, 0 to 1; where there is a `learner` its plan says that instead. `candidates` is how
    many neighbours are embedded.
    """

    reading: Callable[[str], Reading]
    truncates: Callable[[str], bool]
    verifier: PairVerifier | None
    languages: LanguageIdentifier
    threshold: float = math.inf
    learner: BoundLearner | None = None
    candidates: int = 4

    def place(self, question: Question, sealer: Sealer) -> Place:
        """The question's place."""
        text = question.text
        reason = self._unfit(text)
        if reason is not None or text is None:
            return Place(unfit=reason)
        # By the tenant's key: the bucket is made of the question's words.
        about = question.partition.fingerprint.encode() + bucket(read_wording(text))
        where = question.keys.bucket(sealer.name(b"bucket" + about))
        return Place(where, searched=self.verifier is not None and not question.control.no_cache)

    def other_language(self, text: str) -> Unfit | None:
        """The reason not to compare the text, if it is in another language than were measured."""
        return other_language(text, self.languages)

    def _unfit(self, text: str | None) -> Unfit | None:
        """Why the question isn't compared: the models can't read it, or not to its end beside one of its like.

        Of the language that is told only where there is something to compare it with: that takes longest.
        """
        reason = unreadable(text)
        if reason is not None or text is None:
            return reason
        if self.truncates(text):
            return Unfit.TOO_LONG
        shorter = text[: int(len(text) * _SHORTER)]
        too_long = self.verifier is not None and self.verifier.truncates(text, shorter)
        return Unfit.TOO_LONG if too_long else None
