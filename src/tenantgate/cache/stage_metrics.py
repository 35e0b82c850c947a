"""How long the parts of lookups and stores take, as a metric."""

from __future__ import annotations

import enum
import time
from typing import TYPE_CHECKING, Final

from tenantgate.bounded import Bounded
from tenantgate.cache.core.ports import NO_STATES
from tenantgate.telemetry import metrics

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tenantgate.cache.core.ports import Embedder, PairVerifier
    from tenantgate.models.ports import Reading

__all__ = ["Measured", "MeasuredVerifier", "Readings", "Stage"]

_seconds: Final = metrics.histogram("tenantgate_cache_stage_seconds", "Time by part of a lookup.", ("stage",))


_readings: Final[Bounded[tuple[str, str], Reading]] = Bounded(10_000, most_bytes=32 << 20)


class Stage(enum.StrEnum):
    """A part of a lookup or store."""

    EXACT = "exact"
    SIMILAR = "similar"
    EMBEDDING = "embedding"
    VERIFICATION = "verification"
    STORE = "store"


class Measured:
    """Measures what is done inside of it."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    def __enter__(self) -> None:
        self._start = time.perf_counter()

    def __exit__(self, *_exc: object) -> None:
        _seconds.observe(time.perf_counter() - self._start, stage=self._stage)


class Readings:
    """What an embedder makes of texts, measured; the latest are remembered for all of the process; thread-safe."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder

    def __call__(self, text: str) -> Reading:
        """As the embedder gives it. A question that answers others is read once."""
        key = self._embedder.fingerprint, text
        found = _readings.get(key)
        if found is None:
            with Measured(Stage.EMBEDDING):
                found = self._embedder.read(text)
            size = len(text) + found.vector.nbytes + len(found.states or b"")
            _readings.put(key, found, size=size)
        return found


class MeasuredVerifier:
    """A verifier whose scores are measured."""

    def __init__(self, verifier: PairVerifier) -> None:
        self._verifier = verifier
        self.fingerprint, self.truncates = verifier.fingerprint, verifier.truncates

    def score(self, a: str, b: str, similarity: float, states: Mapping[str, bytes] = NO_STATES) -> float:
        """As the verifier gives it."""
        with Measured(Stage.VERIFICATION):
            return self._verifier.score(a, b, similarity, states)
