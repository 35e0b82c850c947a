from __future__ import annotations

import importlib.util
import json
import random
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tenantgate.cache import models as cache_models
from tenantgate.cache import service as cache_service
from tenantgate.cache.core.calibration import Calibration, Point
from tenantgate.errors import ConfigError
from tenantgate.models.ports import Reading

from support import ROOT

FILE = ROOT / "benchmarks" / "bench_cache.py"


@pytest.fixture(scope="module")
def bench() -> Any:
    spec = importlib.util.spec_from_file_location("bench_cache", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


class Models:
    """Embeds words, and says that texts with the same last word ask the same."""

    fingerprint = "0" * 16
    dimensions = 1024

    def embed(self, text: str) -> Any:
        vector = np.zeros(self.dimensions, np.float32)
        for word in text.split():
            vector[random.Random(word).randrange(self.dimensions)] += 1
        return vector / np.linalg.norm(vector)

    def read(self, text: str) -> Reading:
        return Reading(self.embed(text))

    def score(self, a: str, b: str, similarity: float, states: Any = None) -> float:
        return 0.9 if a.rsplit(maxsplit=1)[-1] == b.rsplit(maxsplit=1)[-1] else 0.1

    def truncates(self, *texts: str) -> bool:
        return False


def test_recall_at_a_precision(bench: Any) -> None:
    rows = [(0.9, True), (0.8, True), (0.7, False), (0.6, True), (0.5, True), (-1.0, True)]
    assert bench.recall_at(0.9, rows) == (2 / 5, 1.0, 0.8)
    assert bench.recall_at(0.8, rows) == (4 / 5, 0.8, 0.5)
    assert bench.recall_at(0.9, [(0.5, False), (0.5, True)]) is None  # one score, served together


def test_how_far_a_recall_is_chance(bench: Any) -> None:
    sure = [(i / 100, i >= 50) for i in range(100)]
    assert bench.spread(0.9, sure)[0] > 0.99
    few = [(i / 10, i % 2 == 1) for i in range(10)]
    low, high = bench.spread(0.9, few)
    assert (low, high) == bench.spread(0.9, few)
    assert high - low > 0.2


def test_zipf_repeats_are_seeded_and_skewed(bench: Any) -> None:
    order = bench.zipf_order(50, 2000, random.Random(3))
    assert order == bench.zipf_order(50, 2000, random.Random(3))
    most = [count for _, count in Counter(order).most_common(4)]
    assert most[0] > 1.5 * most[1] > most[3]
    assert set(order) <= set(range(50))


def test_traffic_is_read_once_each_and_a_bad_line_is_named(bench: Any, tmp_path: Path) -> None:
    path = tmp_path / "traffic.jsonl"
    path.write_text('{"text": "a", "intent": "x"}\n\n{"text": "a", "intent": "y"}\n', "utf-8")
    assert bench.read_requests(path) == [bench.Request("a", "x")]
    path.write_text('{"text": "a", "intent": "x"}\n{"text": "b"}\n', "utf-8")
    with pytest.raises(ConfigError, match=r"traffic\.jsonl:2: "):
        bench.read_requests(path)


def test_a_whole_run(
    bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = Models()
    table = Calibration("0" * 16, "0" * 16, "made up", (Point(0.5, 1000, 1, 1000),))
    monkeypatch.setattr(cache_service, "MODELS", cache_models.Models())
    monkeypatch.setattr(cache_models, "_load", lambda *_names: cache_models.CacheModels(made, made, table))
    pairs, traffic, out = (tmp_path / name for name in ("pairs.jsonl", "traffic.jsonl", "out.json"))
    labelled = [
        {"a": "the price of tea", "b": "what price has tea", "same": 1},
        {"a": "the price of tea", "b": "the price of coffee", "same": 0},
        {"a": "tea in 2023", "b": "tea in 2024", "same": 0},
    ]
    pairs.write_text("\n".join(json.dumps(row) for row in labelled), "utf-8")
    # Sixteen words, each asked in two ways; of the last, the second way is of another intent.
    words = (
        "teapot lantern bucket ladder pillow hammer candle basket blanket curtain mirror kettle carpet drawer "
        "bottle cushion"
    ).split()
    rows = [
        {
            "text": f"{how} the {word} and the {word} of the {word}",
            "intent": how if word == "cushion" else word,
        }
        for word in words
        for how in ("what is", "please what is")
    ]
    traffic.write_text("\n".join(json.dumps(row) for row in rows), "utf-8")
    assert bench.main(["--pairs", str(pairs), "--traffic", str(traffic), "--json", str(out)]) == 0

    found = json.loads(out.read_text("utf-8"))
    assert found["pairs"]["sweep"]["rules and verifier at 0.9"][:2] == [1.0, 1.0]
    assert found["pairs"]["rules"]["numbers"] == {"right": 0, "wrong": 1, "right_lost": 0, "wrong_stopped": 0}
    once = found["replay_once"]
    assert once["levels"].get("exact", 0) == once["levels"].get("bypass", 0) == 0
    assert once["levels"]["similar"] > 8
    assert once["other_intent"] == {"similar": 1}
    assert found["replay_zipf"]["levels"]["exact"] > 0
    assert found["latency"]["floor"]["ratio"] == 1.0
    assert {"exact", "similar, verified"} <= found["latency"].keys()
    assert "teapot" not in capsys.readouterr().out
