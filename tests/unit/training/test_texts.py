"""Texts that models are trained with: what is held out stays out, and no text counts twice."""

from __future__ import annotations

import importlib
import random
import sys
from collections.abc import Iterator
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantgate.models.shipped import SHIPPED

from support import ROOT

TRAINING = ROOT / "training"
NAMES = st.text("abcd", min_size=1, max_size=2)


@pytest.fixture(scope="module", autouse=True)
def _path() -> Iterator[None]:
    sys.path.append(str(TRAINING))
    yield
    sys.path.remove(str(TRAINING))


def program(name: str) -> ModuleType:
    return importlib.import_module(name)


@given(st.lists(st.tuples(NAMES, NAMES)))
def test_texts_that_pairs_connect_are_on_one_side_of_a_split(names: list[tuple[str, str]]) -> None:
    pairs = program("verifier_pairs")
    found = pairs.components(pairs.Pair(a, b, same=True) for a, b in names)
    assert all(found[a] == found[b] for a, b in names)
    assert set(found) == {text for both in names for text in both}


def test_unconnected_texts_have_components_of_their_own() -> None:
    pairs = program("verifier_pairs")
    found = pairs.components([pairs.Pair("a", "b", same=True), pairs.Pair("c", "d", same=False)])
    assert len(set(found.values())) == 2


@given(st.text(), st.integers(0, 9))
def test_a_part_of_a_split_is_stable_and_in_range(key: str, seed: int) -> None:
    part = program("verifier_pairs").in_part(key.encode("utf-8", "replace").decode(), seed)
    assert 0 <= part < 1
    assert part == program("verifier_pairs").in_part(key.encode("utf-8", "replace").decode(), seed)


@pytest.mark.parametrize("seed", [0, 1])
def test_own_texts_of_the_injection_model_come_once_and_are_seeded(seed: int) -> None:
    texts = program("injection_texts")
    made = list(texts.own(random.Random(seed), []))
    assert made == list(texts.own(random.Random(seed), []))
    assert len({text for text, _, _ in made}) == len(made)
    assert {source: attack for _, attack, source in made} == {"own-attack": 1, "own-honest": 0}


def test_programs_write_where_data_ships() -> None:
    assert program("train_injection").OUT == SHIPPED / "injection.npz"
