"""Which models a route gets, and what happens where they can't be had."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tenantgate.cache import models as cache_models
from tenantgate.cache import verifier as verifiers
from tenantgate.cache.config import VERIFIERS
from tenantgate.cache.core.calibration import Calibration, Point
from tenantgate.cache.core.ports import NO_STATES
from tenantgate.cache.core.verifier_cascade import Cascade
from tenantgate.errors import TenantgateError
from tenantgate.models import files as model_files
from tenantgate.models.ports import BUILT_IN, LARGE, Reading

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tenantgate.cache.core.ports import Vector


def write_table(path: Path, verifier: str) -> Path:
    path.write_text(Calibration(verifier, "e", "tests", (Point(0.5, 100, 1, 100),)).to_json(), "utf-8")
    return path


def test_a_large_verifier_that_is_not_built_is_logged_and_leaves_the_exact_level(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Files:
        def tokens(self) -> None: ...

        def reader(self, _name: str, _tokens: None) -> None: ...

    monkeypatch.setattr(
        model_files, "find_models", lambda name=BUILT_IN, *_a, **_k: Files() if name == BUILT_IN else None
    )
    with caplog.at_level(logging.ERROR, "tenantgate.cache"):
        assert cache_models.Models().load(BUILT_IN, LARGE) is None
    assert "the similar level is off" in caplog.text


def test_the_two_verifiers_are_loaded_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[tuple[str, str]] = []

    def load(embedder: str, verifier: str) -> cache_models.CacheModels:
        loaded.append((embedder, verifier))
        return cache_models.CacheModels(None, None, Calibration(verifier, "e", "s", ()))  # type: ignore[arg-type]

    monkeypatch.setattr(cache_models, "_load", load)
    found = cache_models.Models()
    for verifier in (BUILT_IN, LARGE, LARGE):
        given = found.load(BUILT_IN, verifier)
        assert given is not None
        assert found.get(BUILT_IN, verifier) is not None
    assert found.get(BUILT_IN, LARGE) is not found.get(BUILT_IN, BUILT_IN)


def test_of_several_tables_the_verifiers_own_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = (write_table(tmp_path / f"{name}.json", name) for name in ("one", "two"))
    shipped = write_table(tmp_path / "shipped.json", "three")
    monkeypatch.delenv("TENANTGATE_CALIBRATION", raising=False)
    assert cache_models._calibration(BUILT_IN, "three", shipped).verifier == "three"
    monkeypatch.setenv("TENANTGATE_CALIBRATION", f"{one}{os.pathsep}{two}")
    assert cache_models._calibration(BUILT_IN, "two", shipped).verifier == "two"
    # Where the operator names tables, the one that ships doesn't stand in for one that is missing.
    with pytest.raises(TenantgateError, match="calibrate --verifier large"):
        cache_models._calibration(LARGE, "three", shipped)


@pytest.mark.parametrize("name", VERIFIERS)
def test_a_table_ships_for_each_verifier_and_keeps_some_bound(name: str) -> None:
    path = verifiers.calibration_file(name)
    table = Calibration.from_json(path.read_text("utf-8"), where=str(path))
    assert table.threshold_for(0.04) is not None
    assert json.loads(path.read_text("utf-8"))["verifier"] == table.verifier


@dataclass(frozen=True)
class Named:
    """A reader that is only known by what it is built from."""

    fingerprint: str

    def log_odds(self, a: str, b: str, states: Mapping[str, bytes]) -> float:
        raise NotImplementedError

    def truncates(self, a: str, b: str) -> bool:
        raise NotImplementedError


@pytest.mark.parametrize("name", VERIFIERS)
def test_the_shipped_tables_are_of_the_shipped_readers(name: str) -> None:
    identities = {
        reader: identity
        for kit in model_files._KITS.values()
        for reader, identity in kit.identities(model_files.ADAPTERS).items()
    }
    prints = {
        reader: hashlib.sha256(f"{identity}:128".encode()).hexdigest()[:16]
        for reader, identity in identities.items()
    }
    readers = [Named(prints[reader]) for reader in verifiers.READERS[name]]
    table = Calibration.from_json(verifiers.calibration_file(name).read_text("utf-8"))
    assert table.verifier == Cascade(readers, verifiers.STAGES[name]).fingerprint
    assert table.embedder == prints["embedder"]


def test_where_another_embedder_found_the_neighbours_the_default_one_tells_their_cosine() -> None:
    class Lengths:
        dimensions, fingerprint = 2, "lengths"
        asked = 0

        def embed(self, text: str) -> Vector:
            self.asked += 1
            return np.array([1, 0] if len(text) > 3 else [0.6, 0.8], np.float32)

        def read(self, text: str) -> Reading:
            return Reading(self.embed(text), b"own " + text.encode())

        def truncates(self, _text: str) -> bool:
            return False

    class Telling:
        fingerprint = "telling"

        def score(
            self, _a: str, _b: str, similarity: float, states: Mapping[str, bytes] = NO_STATES
        ) -> float:
            assert states == {text: b"own " + text.encode() for text in (_a, _b)}
            return similarity

        def truncates(self, a: str, b: str) -> bool:
            return len(a) + len(b) > 20

    embedder = Lengths()
    verifier = cache_models.OwnCosine(Telling(), embedder)
    assert verifier.score("long text", "a", 0.1, {"a": b"of the other embedder"}) == pytest.approx(0.6)
    assert verifier.score("long text", "b", 0.2) == pytest.approx(0.6)
    assert embedder.asked == 3  # the question's vector is made once
    assert verifier.fingerprint == "telling"
    assert verifier.truncates("a" * 20, "b")
