"""Several readers of a pair: the quick ones end what is clear."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tenantgate.cache.core.verifier_cascade import Cascade, Stage
from tenantgate.errors import ConfigError


class Scripted:
    """A reader that says the same of every pair, and counts."""

    def __init__(self, score: float, most: int = 100) -> None:
        self._odds = math.log(score / (1 - score))
        self._most = most
        self.fingerprint = f"{score}"
        self.asked = 0
        self.told: Mapping[str, bytes] = {}

    def log_odds(self, a: str, b: str, states: Mapping[str, bytes]) -> float:
        self.asked += 1
        self.told = states
        return self._odds

    def truncates(self, a: str, b: str) -> bool:
        return len(a) + len(b) > self._most


STAGES = (
    Stage((1.0,), no=0.1, cosine=10.0, at=0.9, yes=math.log(0.95 / 0.05)),
    Stage((0.0, 1.0), no=0.2),
    Stage((0.0, 0.5, 0.5)),
)


def read(scores: tuple[float, float, float], similarity: float = 0.9) -> tuple[float, list[int]]:
    readers = [Scripted(score) for score in scores]
    score = Cascade(readers, STAGES).score("a", "b", similarity)
    return score, [reader.asked for reader in readers]


@pytest.mark.parametrize(
    ("scores", "score", "asked"),
    [
        ((0.05, 0.9, 0.9), 0.05, [1, 0, 0]),  # surely not
        ((0.5, 0.15, 0.9), 0.15, [1, 1, 0]),  # the second is sure of it
        ((0.5, 0.5, 0.5), 0.5, [1, 1, 1]),  # nobody is: the last decides
        ((0.94, 0.99, 0.4), 0.89, [1, 1, 1]),  # the first is almost, the second may not say yes
        ((0.96, 0.1, 0.1), 0.96, [1, 0, 0]),  # the first is sure of a yes
    ],
)
def test_reading_ends_where_a_stage_is_sure(
    scores: tuple[float, float, float], score: float, asked: list[int]
) -> None:
    found, read_by = read(scores)
    assert found == pytest.approx(score, abs=0.01)
    assert read_by == asked


@pytest.mark.parametrize(
    ("first", "similarity", "asked"),
    [
        (0.5, 0.67, [1, 0, 0]),  # log-odds of -2.3 from the cosine alone: below a score of .1
        (0.5, 0.69, [1, 1, 1]),
        (0.05, 0.99, [1, 1, 1]),
        (0.05, 0.96, [1, 0, 0]),
    ],
)
def test_a_stage_weighs_the_cosine(first: float, similarity: float, asked: list[int]) -> None:
    assert read((first, 0.5, 0.5), similarity)[1] == asked


def test_the_cosine_makes_no_reader_sure_of_a_yes_but_counts_in_its_score() -> None:
    assert read((0.9, 0.5, 0.5), 1.0)[1] == [1, 1, 1]
    score, read_by = read((0.96, 0.9, 0.9), 0.7)
    assert score == pytest.approx(1 / (1 + math.exp(-(math.log(0.96 / 0.04) - 2))))
    assert read_by == [1, 0, 0]


def test_the_last_stage_weighs_what_the_others_found_and_the_cosine() -> None:
    found, _ = read((0.5, 0.6, 0.9))
    assert found == pytest.approx(1 / (1 + math.exp(-(math.log(0.6 / 0.4) + math.log(9)) / 2)))
    cascade = Cascade([Scripted(0.8)], [Stage((1.0,), cosine=5.0, at=0.7)])
    assert cascade.score("a", "b", 0.7) == pytest.approx(0.8)
    assert cascade.score("a", "b", 0.9) == pytest.approx(1 / (1 + math.exp(-math.log(4) - 1)))


def test_every_reader_is_told_what_is_known_of_the_texts() -> None:
    readers = [Scripted(score) for score in (0.5, 0.5, 0.5)]
    Cascade(readers, STAGES).score("a", "b", 0.9, {"a": b"states"})
    assert [reader.told for reader in readers] == [{"a": b"states"}] * 3


SCORE = st.floats(0.001, 0.999)


@given(st.tuples(SCORE, SCORE, SCORE), st.floats(-1, 1))
@example((0.05, 0.9, 0.9), 0.9)
@example((0.97, 0.1, 0.1), 0.5)
def test_whatever_ends_a_reading_a_score_is_a_stages_own(
    scores: tuple[float, float, float], similarity: float
) -> None:
    found, read_by = read(scores, similarity)
    odds = [math.log(score / (1 - score)) for score in scores]
    last = sum(read_by) - 1
    assert found == STAGES[last].score(odds[: last + 1], similarity)
    assert last == 2 or found <= STAGES[last].no or odds[last] >= STAGES[last].yes


def test_no_finite_log_odds_are_too_many() -> None:
    for odds in (-1e9, 1e9):
        assert 0 <= Stage((odds,)).score([1.0], 0.0) <= 1


def test_a_text_that_one_reader_would_cut_is_cut() -> None:
    cascade = Cascade([Scripted(0.5), Scripted(0.5, most=3)], (*STAGES[:1], Stage((0.0, 1.0))))
    assert not cascade.truncates("a", "bc")
    assert cascade.truncates("ab", "cd")


def test_the_fingerprint_tells_readers_and_stages_apart() -> None:
    one, two = Scripted(0.5), Scripted(0.6)
    found = {
        Cascade([one], [Stage((1.0,))]).fingerprint,
        Cascade([two], [Stage((1.0,))]).fingerprint,
        Cascade([one], [Stage((2.0,))]).fingerprint,
        Cascade([one, two], [Stage((1.0,)), Stage((0.0, 1.0))]).fingerprint,
        Cascade([one, two], [Stage((1.0,), no=0.1), Stage((0.0, 1.0))]).fingerprint,
        Cascade([one, two], [Stage((1.0,), cosine=0.1), Stage((0.0, 1.0))]).fingerprint,
        Cascade([one, two], [Stage((1.0,), yes=2.0), Stage((0.0, 1.0))]).fingerprint,
    }
    assert len(found) == 7
    assert all(len(each) == 16 for each in found)


@pytest.mark.parametrize("stages", [(), STAGES[:2], (Stage((1.0, 1.0)),)])
def test_stages_that_do_not_fit_are_refused(stages: tuple[Stage, ...]) -> None:
    with pytest.raises(ConfigError, match="stages"):
        Cascade([Scripted(0.5)], stages)
