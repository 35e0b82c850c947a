"""When the similar level is there, with which models and which threshold."""

from __future__ import annotations

import logging
import math
import threading
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from cache_rig import KEY, small_models
from tenantgate.cache import similar_level as cache_levels
from tenantgate.cache.config import CacheConfig
from tenantgate.cache.core.calibration import Calibration, Point, Traffic
from tenantgate.cache.models import CacheModels, Models
from tenantgate.cache.service import SemanticCache
from tenantgate.cache.similar_level import Levels
from tenantgate.models.ports import BUILT_IN, LARGE
from tenantgate.store.config import RedisConfig
from tenantgate.telemetry import metrics

GOOD = (Point(0.7, 10_000, 10, 10_000),)
BAD = (Point(0.7, 10_000, 9000, 10_000),)


def levels(**config: Any) -> Levels:
    return Levels(CacheConfig(encryption_key=KEY, **config), None)  # type: ignore[arg-type]


def loaded(models: CacheModels | None, verifier: str = BUILT_IN) -> Models:
    found = Models()
    found.builds.built.put((BUILT_IN, verifier), models)
    return found


def with_table(points: tuple[Point, ...], *, domains: bool = False) -> CacheModels:
    table = Calibration("v", "e", "tests", *(((), (Traffic("t", points),)) if domains else (points,)))
    return replace(small_models(), calibration=table)


@pytest.mark.parametrize(
    ("points", "domains", "config", "threshold", "learns"),
    [
        (GOOD, False, {}, 0.7, False),
        (GOOD, False, {"probe_rate": 0.02}, 0.7, True),
        (GOOD, False, {"max_wrong_rate": 0}, None, False),
        (BAD, False, {}, None, False),
        (BAD, False, {"probe_rate": 0.02}, None, False),  # the operator's own table: nothing to learn
        (BAD, True, {"probe_rate": 0.02}, math.inf, True),  # the tenant's traffic may prove better
    ],
)
def test_the_level_needs_a_score_that_keeps_the_bound_or_learns_one(
    points: tuple[Point, ...], domains: bool, config: dict[str, Any], threshold: float | None, learns: bool
) -> None:
    models, made = loaded(with_table(points, domains=domains)), levels(**config)
    level = made.similar(models)
    assert (None if level is None else level.threshold) == threshold
    assert (level is not None and level.learner is not None) is learns
    if config.get("max_wrong_rate") != 0:
        assert (made.learning(models) is not None) is learns


def test_a_bound_that_no_score_keeps_is_logged_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(cache_levels, "_warned", set())
    models = loaded(with_table(BAD))
    with caplog.at_level(logging.ERROR, "tenantgate.cache"):
        for _ in range(3):
            assert levels().similar(models) is None
    assert [record.message for record in caplog.records] == [
        "no score keeps the bound: the similar level is off"
    ]


def test_a_level_is_made_once_for_each_set_of_models() -> None:
    models, made = loaded(small_models()), levels(candidates=7)
    level = made.similar(models)
    assert level is not None
    assert level.candidates == 7
    assert made.similar(models) is level
    models.builds.built.put((BUILT_IN, BUILT_IN), small_models())
    assert made.similar(models) is not level


def test_configurations_that_differ_elsewhere_share_the_level() -> None:
    config = CacheConfig(encryption_key=KEY)
    names = ("max_wrong_rate", "probe_rate", "embedder", "verifier", "candidates")
    assert Levels.settings(config) == tuple(getattr(config, name) for name in names)
    # These are all that it reads: another member would be an AttributeError here.
    read = SimpleNamespace(**{name: getattr(config, name) for name in names})
    for probe_rate in (0.0, 0.02):
        read.probe_rate = probe_rate
        made = Levels(read, None)  # type: ignore[arg-type]
        assert made.similar(loaded(small_models())) is not None
    caches = [
        SemanticCache(CacheConfig(encryption_key=KEY, **values))
        for values in (
            {},
            {"cache_ttl": 60, "max_entries": 7},
            {"candidates": 5},
            {"redis": RedisConfig(port=7000)},
        )
    ]
    level = [cache._levels for cache in caches]
    assert level[0] is level[1]
    assert len(set(level)) == 3


def test_while_a_verifier_loads_there_is_an_embedder_without_one() -> None:
    models = loaded(small_models())
    models.builds.building[BUILT_IN, LARGE] = threading.current_thread()
    level = levels(verifier=LARGE).similar(models)
    assert level is not None
    assert level.verifier is None
    models.builds.built.put((BUILT_IN, LARGE), None)
    assert levels(verifier=LARGE).similar(models) is None


def test_what_the_models_take_is_measured() -> None:
    def counts() -> dict[str, int]:
        found = dict.fromkeys(("embedding", "verification"), 0)
        for line in metrics.exposition().splitlines():
            for stage in found:
                if line.startswith(f'tenantgate_cache_stage_seconds_count{{stage="{stage}"}}'):
                    found[stage] = int(float(line.rpartition(" ")[2]))
        return found

    level, before = levels().similar(loaded(small_models())), counts()
    assert level is not None
    assert level.verifier is not None
    level.reading("a text that nobody else here reads")
    level.reading("a text that nobody else here reads")  # which is remembered
    level.verifier.score("a", "b", 0.9)
    level.verifier.score("a", "b", 0.9)
    assert counts() == {"embedding": before["embedding"] + 1, "verification": before["verification"] + 2}
