"""The models of the similar level, loaded once for the whole process, never in a request.

Without them (not built, extra not installed, bound that no score keeps) the exact level works on and the log
says why, once.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tenantgate.cache.core.calibration import Calibration
from tenantgate.cache.core.ports import NO_STATES
from tenantgate.cache.verifier import calibration_file, load_verifier
from tenantgate.errors import TenantgateError
from tenantgate.models.files import find_models
from tenantgate.models.ports import BUILT_IN
from tenantgate.models.sentence_transformers import SentenceTransformerEmbedder
from tenantgate.models.shipped import check
from tenantgate.store.threads import BackgroundBuilds
from tenantgate.telemetry import logs, metrics, needs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tenantgate.cache.core.ports import Embedder, PairVerifier

__all__ = ["CacheModels", "Models", "OwnCosine"]

_log: Final = logging.getLogger("tenantgate.cache")

_off: Final = metrics.gauge(
    "tenantgate_cache_level_off",
    "1 while this level can't be had: its models aren't there. Then only exact repeats hit.",
    ("level", "verifier"),
)
_SETS: Final = 64  # of models in a process
_EMBEDDED: Final = 8  # texts whose vectors are remembered: those of the requests at work


@dataclass(frozen=True, slots=True)
class CacheModels:
    """What finds a neighbour, what reads it, and what its score means."""

    embedder: Embedder
    verifier: PairVerifier
    calibration: Calibration


class OwnCosine:
    """A verifier for neighbours that another embedder found: it weighs the default one's cosine all the same."""

    def __init__(self, verifier: PairVerifier, embedder: Embedder) -> None:
        self._verifier, self._read = verifier, lru_cache(_EMBEDDED)(embedder.read)
        self.fingerprint, self.truncates = verifier.fingerprint, verifier.truncates

    def score(self, a: str, b: str, similarity: float, states: Mapping[str, bytes] = NO_STATES) -> float:
        """The verifier's score of the two, whatever `similarity` and `states` the other embedder sees in them."""
        del similarity, states
        readings = {text: self._read(text) for text in (a, b)}
        known = {text: reading.states for text, reading in readings.items() if reading.states is not None}
        return self._verifier.score(a, b, float(readings[a].vector @ readings[b].vector), known)


class Models:
    """Models by the names of their embedder and verifier; thread-safe."""

    def __init__(self) -> None:
        self.builds: BackgroundBuilds[tuple[str, str], CacheModels | None] = BackgroundBuilds(
            "load-models", lambda names: _load(*names), failed=_failed, most=_SETS
        )

    def get(self, embedder: str, verifier: str) -> CacheModels | None:
        """The models if they are loaded; else None, and a thread begins to load them."""
        return self.builds.get((embedder, verifier))

    def embedder_meanwhile(self, embedder: str, verifier: str) -> Embedder | None:
        """The embedder if it was loaded beside another verifier, while these models aren't loaded yet.

        What it finds nobody can read yet, but what is stored meanwhile shall be found later.
        """
        if (embedder, verifier) in self.builds.built:
            return None
        others = [models for (name, _), models in self.builds.built.items() if name == embedder]
        return next((models.embedder for models in others if models), None)

    def load(self, embedder: str, verifier: str) -> CacheModels | None:
        """Load the models and give them; None if they can't be had, which is logged."""
        return self.builds.wait((embedder, verifier))


def _failed(names: tuple[str, str], error: Exception) -> None:
    _off.set(1.0, level="similar", verifier=names[1])
    if names == (BUILT_IN, BUILT_IN):
        needs.tell("models", there=False)
    logs.event(_log, logging.ERROR, "the similar level is off", verifier=names[1], **logs.describe(error))


def _load(embedder_name: str, verifier_name: str) -> CacheModels:
    files = find_models()
    if files is None:
        raise TenantgateError("the models aren't built: run `tenantgate models build`")
    verifier: PairVerifier = load_verifier(verifier_name, files)
    calibration = _calibration(verifier_name, verifier.fingerprint, calibration_file(verifier_name))
    embedder: Embedder = files.embedder()
    if embedder_name != BUILT_IN:
        verifier = OwnCosine(verifier, embedder)
        embedder = SentenceTransformerEmbedder(embedder_name)
    # The first runs allocate; a request should not wait for that.
    embedder.embed("warm-up")
    verifier.score("warm up", "warm up", 0.7)  # no reader rules that out or is left out: all read
    _off.set(0.0, level="similar", verifier=verifier_name)
    return CacheModels(embedder, verifier, calibration)


def _calibration(verifier: str, fingerprint: str, shipped: Path) -> Calibration:
    """The operator's table for this verifier, or the one that ships where the operator names none."""
    tables = [Path(name) for name in os.environ.get("TENANTGATE_CALIBRATION", "").split(os.pathsep) if name]
    for table in tables or [shipped]:
        check(table)
        try:
            found = Calibration.from_json(table.read_text("utf-8"), where=str(table))
        except OSError as error:
            raise TenantgateError(f"{table}: {error.strerror}") from None
        if found.verifier == fingerprint:
            return found
    raise TenantgateError(
        f"the calibration was made for another verifier: run `tenantgate cache calibrate --verifier {verifier}`"
    )
