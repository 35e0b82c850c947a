"""The similar level: which questions it takes, and where it looks for their neighbours."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from tenantgate.cache.core.fitness import Unfit, other_language, unreadable
from tenantgate.cache.core.recent_names import RecentNames

if TYPE_CHECKING:
    from tenantgate.cache.core.partition import Keys
    from tenantgate.cache.core.ports import BoundLearner, Embedder, LanguageIdentifier, PairVerifier, Sealer
    from tenantgate.cache.core.question import Question

__all__ = ["NOWHERE", "Embedding", "Place", "SimilarLevel"]

_SHORTER: Final = 0.6  # of a question's length: what is shorter hardly asks the same in other words


@dataclass(frozen=True, slots=True)
class Embedding:
    """A question's text, its vector, scrambled, and what else the embedder knows of it (`models.ports.Reading`)."""

    text: str
    vector: bytes
    states: bytes | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """Where a question's neighbours lie, and its own answer will.

    `vectors` is the key of the vector set, None where the question isn't compared: then `unfit` may say why. Without
    `embedding` nothing is searched, and the vector is made when the answer is stored.
    """

    vectors: str | None = None
    embedding: Embedding | None = None
    unfit: Unfit | None = None


NOWHERE: Final = Place()


@dataclass(frozen=True, slots=True)
class SimilarLevel:
    """Models and settings by which similar questions are found and judged.

    Without `verifier`, while that is loading, nothing is searched, but what is stored can be found later. `threshold`
    is the verifier's score that is needed, 0 to 1; where there is a `learner` its plan says that instead. `candidates`
    is how many neighbours are asked for. `foreign` has the tenants whose last text was in a language that isn't
    compared.
    """

    embedder: Embedder
    verifier: PairVerifier | None
    languages: LanguageIdentifier
    threshold: float = math.inf
    learner: BoundLearner | None = None
    candidates: int = 4
    foreign: RecentNames = field(default_factory=lambda: RecentNames(10_000))

    def place(self, question: Question, sealer: Sealer) -> Place:
        """The question's place; it is embedded here, if its neighbours are to be searched."""
        text = question.text
        reason = self._unfit(question.keys, text)
        if reason is not None or text is None:
            return Place(unfit=reason)
        vectors = question.keys.vectors(question.partition, self.embedder.fingerprint)
        if self.verifier is None or question.control.no_cache:
            return Place(vectors)
        return Place(vectors, self.embed(text, sealer))

    def embed(self, text: str, sealer: Sealer) -> Embedding:
        """The embedding of a question."""
        reading = self.embedder.read(text)
        return Embedding(text, sealer.scramble(reading.vector), reading.states)

    def other_language(self, keys: Keys, text: str) -> Unfit | None:
        """The reason not to compare the text, if it is in another language than were measured."""
        reason, tenant = other_language(text, self.languages), keys.tenant.slug
        if reason is None:
            self.foreign.discard(tenant)
        else:
            self.foreign.add(tenant)
        return reason

    def _unfit(self, keys: Keys, text: str | None) -> Unfit | None:
        """Why the question isn't compared: the models can't read it, or not to its end beside one of its like.

        Then looking for neighbours costs an embedding and can't end in a hit. Of the language that is told only where
        the tenant's last text makes another one likely.
        """
        reason = unreadable(text)
        if reason is not None or text is None:
            return reason
        if self.embedder.truncates(text):
            return Unfit.TOO_LONG
        shorter = text[: int(len(text) * _SHORTER)]
        too_long = self.verifier is not None and self.verifier.truncates(text, shorter)
        if too_long:
            return Unfit.TOO_LONG
        return self.other_language(keys, text) if keys.tenant.slug in self.foreign else None
