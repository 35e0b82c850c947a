"""Several readers of a pair: the quick ones end what is clear, and never change on which side of a bound it is."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tenantgate.cache.cascade import Cascade, Stage
from tenantgate.errors import ConfigError


class Scripted:
    """A reader that says the same of every pair, and counts."""

    def __init__(self, score: float, most: int = 100) -> None:
        self._odds = math.log(score / (1 - score))
        self._most = most
        self.fingerprint = f"{score}"
        self.asked = 0

    def log_odds(self, a: str, b: str) -> float:
        self.asked += 1
        return self._odds

    def truncates(self, a: str, b: str) -> bool:
        return len(a) + len(b) > self._most


STAGES = (
    Stage((1.0,), no=0.1, yes=0.9, nearest=0.8),
    Stage((0.0, 1.0), no=0.2, yes=0.8),
    Stage((0.0, 0.5, 0.5)),
)


def read(
    scores: tuple[float, float, float], enough: float, similarity: float | None = 0.9
) -> tuple[float, list[int]]:
    readers = [Scripted(score) for score in scores]
    score = Cascade(readers, STAGES).score("a", "b", similarity, enough)
    return score, [reader.asked for reader in readers]


@pytest.mark.parametrize(
    ("scores", "enough", "score", "asked"),
    [
        ((0.95, 0.5, 0.5), 0.7, 0.95, [1, 0, 0]),  # sure enough
        ((0.05, 0.5, 0.5), 0.7, 0.05, [1, 0, 0]),  # surely not
        ((0.5, 0.85, 0.5), 0.7, 0.85, [1, 1, 0]),  # the second is sure
        ((0.5, 0.15, 0.9), 0.7, 0.15, [1, 1, 0]),
        ((0.5, 0.5, 0.5), 0.7, 0.5, [1, 1, 1]),  # nobody is: the last decides
        ((0.95, 0.5, 0.99), 0.97, 0.95, [1, 1, 1]),  # sure, but not as sure as is asked for
        ((0.95, 0.01, 0.01), 0.97, 0.95, [1, 1, 1]),  # what one was sure of isn't taken back
    ],
)
def test_reading_ends_where_a_stage_is_sure(
    scores: tuple[float, float, float], enough: float, score: float, asked: list[int]
) -> None:
    found, read_by = read(scores, enough)
    assert found == pytest.approx(score)
    assert read_by == asked


@pytest.mark.parametrize(("similarity", "asked"), [(0.8, 1), (0.79, 3), (None, 3)])
def test_a_quick_yes_counts_only_for_what_is_near(similarity: float | None, asked: int) -> None:
    score, read_by = read((0.95, 0.5, 0.5), 0.7, similarity)
    assert sum(read_by) == asked
    assert score == pytest.approx(0.95 if asked == 1 else 0.5)


def test_a_quick_no_counts_whatever_the_cosine() -> None:
    assert read((0.05, 0.9, 0.9), 0.7, 0.99)[1] == read((0.05, 0.9, 0.9), 0.7, None)[1] == [1, 0, 0]


def test_the_last_stage_weighs_what_the_others_found() -> None:
    found, _ = read((0.5, 0.6, 0.9), 0.7)
    assert found == pytest.approx(1 / (1 + math.exp(-(math.log(0.6 / 0.4) + math.log(9)) / 2)))


SCORE = st.floats(0.001, 0.999)


@given(st.tuples(SCORE, SCORE, SCORE), st.floats(0, 1), st.none() | st.floats(-1, 1))
@example((0.91, 0.5, 0.95), 0.93, 0.9)
@example((0.05, 0.9, 0.9), 0.01, 0.9)
def test_stopping_early_never_changes_the_decision(
    scores: tuple[float, float, float], enough: float, similarity: float | None
) -> None:
    early, _ = read(scores, enough, similarity)
    whole, _ = read(scores, 1.0, similarity)
    assert (early >= enough) == (whole >= enough)
    assert 0 <= early <= whole <= 1


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
        Cascade([one, two], [Stage((1.0,), yes=0.9), Stage((0.0, 1.0))]).fingerprint,
    }
    assert len(found) == 5
    assert all(len(each) == 16 for each in found)


@pytest.mark.parametrize("stages", [(), STAGES[:2], (Stage((1.0, 1.0)),)])
def test_stages_that_do_not_fit_are_refused(stages: tuple[Stage, ...]) -> None:
    with pytest.raises(ConfigError, match="stages"):
        Cascade([Scripted(0.5)], stages)
