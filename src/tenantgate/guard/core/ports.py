"""Ports of the guards: models and expressions, which adapters provide."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tenantgate.pii.core import Finding

    Vector = NDArray[np.float32]

__all__ = ["Embedder", "Patterns"]


class Embedder(Protocol):
    """Turns a text into a direction; similar texts, similar directions."""

    @property
    def dimensions(self) -> int:
        """Length of the vectors."""

    def embed(self, text: str) -> Vector:
        """A vector of length 1, of `dimensions` float32; only the beginning of a long text counts."""


class Patterns(Protocol):
    """An operator's expressions, compiled for an engine that takes linear time."""

    def find(self, text: str) -> tuple[Finding, ...]:
        """The findings of all expressions."""
