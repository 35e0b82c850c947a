"""Ports of the semantic cache: models and encryption, which adapters provide."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tenantgate.models.ports import Reading

    Vector = NDArray[np.float32]

__all__ = ["NO_STATES", "Embedder", "LanguageIdentifier", "PairReader", "PairVerifier", "Sealer"]

NO_STATES: Final[Mapping[str, bytes]] = MappingProxyType({})


class Embedder(Protocol):
    """Turns a text into a direction; similar texts, similar directions."""

    @property
    def dimensions(self) -> int:
        """Length of the vectors."""

    @property
    def fingerprint(self) -> str:
        """Names the model and its settings: vectors of different fingerprints can't be compared."""

    def embed(self, text: str) -> Vector:
        """A vector of length 1, of `dimensions` float32."""

    def read(self, text: str) -> Reading:
        """The same vector, and what else the embedder knows of the text."""

    def truncates(self, text: str) -> bool:
        """Whether only the beginning of `text` would be read."""


class LanguageIdentifier(Protocol):
    """Tells languages apart."""

    def language(self, text: str) -> str | None:
        """The language of a text (ISO 639-1), or None where none is sure."""


class PairReader(Protocol):
    """One model that reads two questions together."""

    @property
    def fingerprint(self) -> str:
        """Names the model and its settings."""

    def log_odds(self, a: str, b: str, states: Mapping[str, bytes]) -> float:
        """How likely both ask the same, as the logarithm of the odds; finite.

        `states` by text, as far as they are known: the embedder's (`Reading.states`), which save a reader's time.
        """

    def truncates(self, a: str, b: str) -> bool:
        """Whether the two together would not be read to their end."""


class PairVerifier(Protocol):
    """Decides whether two questions ask the same: one reader, or several."""

    @property
    def fingerprint(self) -> str:
        """Names the model: a calibration holds for one only."""

    def score(self, a: str, b: str, similarity: float, states: Mapping[str, bytes] = NO_STATES) -> float:
        """From 0 to 1, the higher the surer that both ask the same.

        `similarity` is their cosine under the embedder that found them, -1..1; `states` as for `PairReader`.
        """

    def truncates(self, a: str, b: str) -> bool:
        """Whether the two together would not be read to their end."""


class Sealer(Protocol):
    """A tenant's own keys: names, seals and scrambles so that only this tenant's can be found or read."""

    def name(self, data: bytes) -> str:
        """A keyed digest, 32 hexadecimal digits."""

    def seal(self, plain: bytes, *, key: bytes) -> bytes:
        """Encrypt for the Redis key `key`; the result opens under no other."""

    def open(self, sealed: bytes, *, key: bytes) -> bytes | None:
        """Decrypt; None for anything that wasn't sealed for this tenant and `key`."""

    def scramble(self, vector: Vector) -> bytes:
        """The vector as little-endian float32, its cosines kept and its directions the tenant's own."""
