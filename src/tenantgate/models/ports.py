"""Names of the models that ship, and an embedder's result. Pure: features' cores may import this module."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vector = NDArray[np.float32]

__all__ = ["BUILT_IN", "LARGE", "Reading"]

BUILT_IN: Final = "built-in"
"""The default embedder, and the verifier that reads on from its states."""

LARGE: Final = "large"
"""The verifier that asks a larger model where the default one can't tell."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What an embedder makes of a text."""

    vector: Vector
    """As `Embedder.embed` gives it."""

    states: bytes | None = None
    """What it made of each token, for a verifier that reads on from there; None if it has none to give. Only for the
    embedder's own version: `Embedder.fingerprint` names it."""
