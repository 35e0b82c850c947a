"""Test doubles for the cache's ports: a store of dictionaries, and models without weights, deterministic and instant.

Part of the product, so that whoever writes an embedder or a plugin beside the cache can test without 90 MB.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np

from tenantgate.cache.core.ports import NO_STATES, Found, Neighbour, UnavailableError
from tenantgate.models.ports import Reading

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tenantgate.cache.core.partition import Keys
    from tenantgate.cache.core.ports import LeaseWish, Vector

__all__ = ["HashingEmbedder", "MemoryStore", "WordVerifier"]

_WORD: Final = re.compile(r"\w+")


class HashingEmbedder:
    """A bag of words: each word adds a direction of its own, so the cosine grows with the words in common."""

    def __init__(self, dimensions: int = 64, most_characters: int = 2000) -> None:
        self.dimensions = dimensions
        self.fingerprint = f"hashing{dimensions}"
        self._most = most_characters

    def embed(self, text: str) -> Vector:
        """The text's vector."""
        total = np.full(self.dimensions, 1e-3, np.float32)
        for word in _WORD.findall(text[: self._most].lower()):
            seed = int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "big")
            total += (
                np.random.Generator(np.random.PCG64(seed)).normal(size=self.dimensions).astype(np.float32)
            )
        unit: Vector = total / np.float32(np.linalg.norm(total))
        return unit

    def read(self, text: str) -> Reading:
        """The text's vector."""
        return Reading(self.embed(text))

    def truncates(self, text: str) -> bool:
        """Whether the text is too long."""
        return len(text) > self._most


class WordVerifier:
    """The share of words that two texts have in common (Jaccard)."""

    fingerprint = "words"

    def score(
        self,
        a: str,
        b: str,
        similarity: float,  # noqa: ARG002
        states: Mapping[str, bytes] = NO_STATES,  # noqa: ARG002
    ) -> float:
        """From 0 to 1."""
        first, second = (set(_WORD.findall(text.lower())) for text in (a, b))
        return len(first & second) / max(1, len(first | second))

    def truncates(self, a: str, b: str) -> bool:
        """Whether the two are too long together."""
        return len(a) + len(b) > 4000


@dataclass
class MemoryStore:
    """An `AnswerStore` of dictionaries.

    Attributes:
        values: entries and plans, sealed, by their keys.
        buckets: names of entries by their buckets' keys, the latest to expire last.
        expected: names of entries that are asked for alone.
        failures: what the operations ``get`` and ``neighbours`` raise.
        round_trips: the operations so far.
    """

    values: dict[str, bytes] = field(default_factory=dict)
    buckets: dict[str, list[str]] = field(default_factory=dict)
    expected: set[str] = field(default_factory=set)
    failures: dict[str, UnavailableError] = field(default_factory=dict)
    round_trips: list[str] = field(default_factory=list)

    def expects(self, name: str) -> bool:
        """Whether it was said to."""
        return name in self.expected

    def get(self, keys: Keys, name: str) -> bytes | None:
        """The value of the entry's key."""
        self._note("get")
        return self.values.get(keys.entry(name))

    def neighbours(
        self,
        keys: Keys,
        bucket: str,
        count: int,
        *,
        exact: str | None = None,
        plan: str | None = None,
        wish: LeaseWish | None = None,  # noqa: ARG002
    ) -> Found:
        """As `AnswerStore.neighbours`; no wish for a lease is answered."""
        self._note("neighbours")
        if exact is not None and (entry := self.values.get(keys.entry(exact))) is not None:
            return Found(entry)
        names = [name for name in reversed(self.buckets.get(bucket, [])) if keys.entry(name) in self.values]
        near = tuple(Neighbour(name, self.values[keys.entry(name)]) for name in names[:count])
        return Found(None, near, self.values.get(plan or ""))

    def _note(self, operation: str) -> None:
        self.round_trips.append(operation)
        if operation in self.failures:
            raise self.failures[operation]
