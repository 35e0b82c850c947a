"""Test doubles for the cache's models: deterministic, instant, without weights.

Part of the product, so that whoever writes an embedder or a plugin beside the cache can test without 90 MB.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Final

import numpy as np

from tenantgate.cache.core.ports import NO_STATES
from tenantgate.models.ports import Reading

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tenantgate.cache.core.ports import Vector

__all__ = ["HashingEmbedder", "WordVerifier"]

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
