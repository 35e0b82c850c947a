"""The pruner that asks a model: which words it chooses, whatever the model says."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantgate.compress.core.pipeline import joined
from tenantgate.compress.core.protected_words import protected
from tenantgate.compress.core.ranked import RankedPruner
from tenantgate.compress.core.spans import merged
from tenantgate.compress.core.word_features import FEATURES, features

FOREVER = time.monotonic() + 1e6
TEXT = "we went to the red house on the hill with a large garden and it was cold"


class Lengths:
    """A longer word is worth more."""

    fingerprint = "lengths"

    def __init__(self, answer: Sequence[float] | None = None) -> None:
        self.answer = answer
        self.asked: list[list[str]] = []

    def scores(self, text: str, words: Sequence[tuple[int, int]], deadline: float) -> Sequence[float] | None:
        self.asked.append([text[s:e] for s, e in words])
        return [float(e - s) for s, e in words] if self.answer is None else self.answer


def pruned(text: str, rate: float, keep: str = "", **more: bool) -> str:
    spans = [(text.index(keep), text.index(keep) + len(keep))] if keep else []
    kept = RankedPruner(Lengths(), **more).keep(text, spans, rate, FOREVER)
    return text if kept is None else joined(text, kept) or ""


def test_the_share_with_the_highest_scores_stays_and_of_equals_the_first() -> None:
    assert pruned(TEXT, 0.5) == "went the red house hill with large garden cold"
    assert len(pruned(TEXT, 0.8).split()) == 14
    assert pruned(TEXT, 1.0) == TEXT


def test_what_is_protected_stays_and_is_not_counted() -> None:
    assert pruned(TEXT, 0.5, keep="on the hill") == "went the house on the hill with large garden cold"


def test_a_speaker_goes_only_with_all_that_was_said() -> None:
    talk = "Ann: we a to\nBob: the garden behind our house was not very large then\n"
    assert pruned(talk, 0.4) == "Bob: garden behind house very large then\n"


def test_fillers_go_first_and_hesitations_at_any_rate() -> None:
    text = "uh we wanted um to go at ten to it as they do in it , you know , in the centre"
    assert "know" in pruned(text, 0.6)
    assert pruned(text, 0.99, fillers_first=True) == (
        "we wanted to go at ten to it as they do in it , you know , in the centre"
    )
    assert "know" not in pruned(text, 0.7, fillers_first=True)


@pytest.mark.parametrize("text", ["", "x", "会議を始めます", "... ,"])
def test_what_has_few_words_is_left_alone(text: str) -> None:
    assert RankedPruner(Lengths()).keep(text, (), 0.5, FOREVER) is None


def test_out_of_time_before_and_after_the_model() -> None:
    scorer = Lengths()
    late = time.monotonic() - 1
    assert RankedPruner(scorer).keep(TEXT, (), 0.5, late) is None
    assert not scorer.asked
    times = iter([0.0, 2.0])
    pruner = RankedPruner(scorer, clock=lambda: next(times))
    assert pruner.keep(TEXT, (), 0.5, 1.0) is None
    assert scorer.asked


@pytest.mark.parametrize("answer", [[], [1.0], [math.nan] * 99])
def test_a_model_that_gives_another_number_of_scores_is_not_believed(answer: list[float]) -> None:
    assert RankedPruner(Lengths(answer)).keep(TEXT, (), 0.5, FOREVER) is None


def test_words_without_a_score_stay_as_long_as_others_may_go() -> None:
    words = TEXT.split()
    answer = [math.nan if w == "a" else float(len(w)) for w in words]
    kept = RankedPruner(Lengths(answer)).keep(TEXT, (), 0.5, FOREVER)
    assert kept is not None
    assert " a " in (joined(TEXT, kept) or "")


PIECES = st.sampled_from(
    [
        "uh ",
        "the ",
        "we ",
        "you know ",
        ", ",
        ". ",
        "\n",
        "Ann: ",
        "{noise} ",
        "not ",
        "25 ",
        "Maria ",
        "é ",
        "ſ ",
        "İ ",
    ]
)


@given(
    st.lists(PIECES, max_size=80).map("".join) | st.text(max_size=200),
    st.floats(0, 1),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
def test_spans_are_in_order_and_hold_what_is_protected(
    text: str, rate: float, fillers: bool, seed: int
) -> None:
    class Any:
        fingerprint = "any"

        def scores(self, text: str, words: Sequence[tuple[int, int]], deadline: float) -> Sequence[float]:
            return list(
                np.random.default_rng(seed).choice([0.1, 0.5, math.nan, math.inf, -math.inf], len(words))
            )

    guarded = merged(protected(text))
    kept = RankedPruner(Any(), fillers_first=fillers).keep(text, guarded, rate, FOREVER)
    if kept is None:
        return
    assert all(0 <= s < e <= len(text) for s, e in kept)
    assert all(a[1] <= b[0] for a, b in pairwise(kept))
    assert all(any(s <= a and b <= e for s, e in kept) for a, b in guarded)
    assert joined(text, kept) is not None


@given(st.text(max_size=100))
def test_features_are_numbers_for_any_text(text: str) -> None:
    spans = [(i, i + 1) for i in range(0, len(text), 2)]
    found = features(text, spans)
    assert found.shape == (len(spans), len(FEATURES))
    assert np.isfinite(found).all()
