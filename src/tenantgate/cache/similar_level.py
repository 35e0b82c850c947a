"""The similar level of one configuration: its models, and the score that keeps the operator's bound."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tenantgate.cache.core.similar import SimilarLevel
from tenantgate.cache.learning import Learning
from tenantgate.cache.stage_metrics import MeasuredVerifier, Readings
from tenantgate.models.language import Languages
from tenantgate.telemetry import logs

if TYPE_CHECKING:
    from collections.abc import Hashable

    from tenantgate.cache.config import CacheConfig
    from tenantgate.cache.models import CacheModels, Models
    from tenantgate.cache.redis_store import RedisCache

__all__ = ["Levels"]

_log: Final = logging.getLogger("tenantgate.cache")
_LANGUAGES: Final = Languages()
_warned: Final[set[float]] = set()


@dataclass(frozen=True, slots=True)
class _Made:
    """What follows from one set of models."""

    models: CacheModels
    level: SimilarLevel | None
    learning: Learning | None


class Levels:
    """The similar level of one configuration, as far as its models are loaded."""

    @staticmethod
    def settings(config: CacheConfig) -> tuple[Hashable, ...]:
        """What counts of a configuration: where this is equal, one level will do."""
        return config.max_wrong_rate, config.probe_rate, config.embedder, config.verifier, config.candidates

    def __init__(self, config: CacheConfig, store: RedisCache) -> None:
        self._config, self._store = config, store
        self._made: _Made | None = None

    def similar(self, models: Models) -> SimilarLevel | None:
        """The level; None where it is switched off, has no models, or no score keeps the bound."""
        config = self._config
        if config.max_wrong_rate <= 0:
            return None
        made = self._current(models)
        if made is not None:
            return made.level
        embedder = models.embedder_meanwhile(config.embedder, config.verifier)
        if embedder is None:
            return None
        return SimilarLevel(Readings(embedder), embedder.truncates, None, _LANGUAGES)

    def learning(self, models: Models) -> Learning | None:
        """What keeps the bound on each tenant's own traffic, unless nothing is to be compared."""
        made = self._current(models)
        return None if made is None else made.learning

    def _current(self, models: Models) -> _Made | None:
        loaded = models.get(self._config.embedder, self._config.verifier)
        if loaded is None:
            return None
        if self._made is None or self._made.models is not loaded:
            self._made = self._make(loaded)
        return self._made

    def _make(self, models: CacheModels) -> _Made:
        config = self._config
        threshold = models.calibration.threshold_for(config.max_wrong_rate)
        learning = None
        # Where the operator's own table says that no score will do, there is nothing to learn, either.
        if config.probe_rate > 0 and (models.calibration.domains or threshold is not None):
            learning = Learning(self._store, models, config.max_wrong_rate, config.probe_rate)
        if learning is None and threshold is None:
            _warn_unreachable(config.max_wrong_rate)
            return _Made(models, None, None)
        level = SimilarLevel(
            Readings(models.embedder),
            models.embedder.truncates,
            MeasuredVerifier(models.verifier),
            _LANGUAGES,
            threshold=math.inf if threshold is None else threshold,
            learner=learning,
            candidates=config.candidates,
        )
        return _Made(models, level, learning)


def _warn_unreachable(bound: float) -> None:
    if bound not in _warned:
        _warned.add(bound)
        logs.event(
            _log, logging.ERROR, "no score keeps the bound: the similar level is off", max_wrong_rate=bound
        )
