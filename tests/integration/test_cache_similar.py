"""The similar level on a real Redis: which languages it compares, and which answers it learns from."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from cache_rig import Rig, fresh_stores, status, use_small_models
from tenantgate.cache import service as cache_service
from tenantgate.cache import similar_level as cache_levels
from tenantgate.cache.core.partition import Keys
from tenantgate.cache.core.ports import UnavailableError
from tenantgate.cache.redis_store import RedisCache
from tenantgate.devhost.redis_server import RedisServer
from tenantgate.kong.testing import FakeKong
from tenantgate.telemetry import metrics
from tenantgate.tenant import TenantId


@pytest.fixture(autouse=True)
def _knows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    fresh_stores(monkeypatch)


@pytest.fixture
def rig(redis_server: RedisServer, store: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> Rig:
    use_small_models(monkeypatch)
    return Rig(redis_server.port)


def text_of(kong: FakeKong) -> str:
    assert kong.exit is not None
    return str(kong.exit.json["choices"][0]["message"]["content"])


@pytest.mark.parametrize(
    ("stored", "asked", "seen"),
    [
        # Stored in a language that isn't compared: nothing of it is found by similarity.
        (
            "wie setze ich mein Passwort für die Bank zurück",
            "wie setze ich mein Passwort für die Bank zurück?",
            0,
        ),
        ("how do i reset my password for the bank", "how can i reset my password for the bank", 1),
    ],
)
def test_only_texts_in_a_measured_language_are_found_by_similarity(
    rig: Rig, stored: str, asked: str, seen: int
) -> None:
    rig.ask(stored)
    assert status(rig.ask(asked)) == ("Hit" if seen else "Miss")


def test_a_question_in_another_language_is_served_by_no_neighbour(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored, asked = "how do i reset my password for the bank", "how can i reset my password for the bank"
    rig.ask(stored)
    monkeypatch.setattr(cache_levels._LANGUAGES, "language", lambda text: "de" if text == asked else "en")
    assert status(rig.ask(asked)) == "Miss"
    assert status(rig.ask(stored + "?")) == "Hit"


def test_a_repeated_question_is_probed_and_stays_findable(redis_server: RedisServer, rig: Rig) -> None:
    rig = Rig(redis_server.port, {"probe_rate": 0.5}, answer="Brass.")
    question = "tell me what a good sextant is made of"
    rig.ask(question)
    probed(rig)
    rig.answer = "Of brass, mostly."
    before, same = comparisons("repeat"), comparisons("repeat", "same")
    assert status(rig.ask(question)) == "Miss"
    assert comparisons("repeat") == before + 1
    assert comparisons("repeat", "same") == same, "compared with itself"
    learning_of(rig)._repeats.clear()
    assert text_of(rig.ask(question)) == "Of brass, mostly."
    assert text_of(rig.ask(question + " now")) == "Of brass, mostly."


def test_where_redis_fails_while_it_learns_the_answer_is_stored(
    redis_server: RedisServer, rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def failing(_store: RedisCache, _keys: Keys, state: str, _name: str | None) -> Any:
        asked.append(state)
        raise UnavailableError("redis: ConnectionError")

    rig = Rig(redis_server.port, {"probe_rate": 0.5})
    rig.ask("tell me what a good sextant is made of")
    monkeypatch.setattr(RedisCache, "evidence", failing)
    probed(rig)
    rig.answer = "Of brass."
    assert status(rig.ask("tell me what a good sextant is made of")) == "Miss"
    assert len(asked) == 1
    learning_of(rig)._repeats.clear()
    assert text_of(rig.ask("tell me what a good sextant is made of")) == "Of brass."


def learning_of(rig: Rig) -> Any:
    return rig.plugin._service._levels.learning(cache_service.MODELS)


def probed(rig: Rig) -> None:
    """Let all of the tenant's exact hits be probed."""
    learning = learning_of(rig)
    learning._repeats[learning.state(Keys(TenantId("acme")))] = 1.0


def comparisons(kind: str, outcome: str = "") -> float:
    """Answers of this kind that were compared so far."""
    lines = metrics.exposition().splitlines()
    name = f'tenantgate_cache_comparisons_total{{kind="{kind}"'
    counted = [line for line in lines if line.startswith(name) and f'outcome="{outcome}' in line]
    return sum(float(line.rpartition(" ")[2]) for line in counted)
