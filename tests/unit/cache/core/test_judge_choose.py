"""Which neighbour's answer is served: the verifier's score decides, rules and reach come before."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantgate.cache.core.judge import NEAR, choose, difference
from tenantgate.cache.core.wording import read

ASKED = "what is a sextant made of"


class Scripted:
    """A verifier whose scores are given; notes what it read."""

    fingerprint = "scripted"

    def __init__(self, scores: dict[str, float], most: int = 10_000) -> None:
        self._scores, self._most = scores, most
        self.read: list[str] = []
        self.told: list[float] = []

    def score(self, a: str, b: str, similarity: float) -> float:
        self.read.append(b)
        self.told.append(similarity)
        return self._scores[b]

    def truncates(self, a: str, b: str) -> bool:
        return len(a) + len(b) > self._most


STORED = [
    "sextant, made of what",
    "made of what is a sextant",
    "a sextant is made of what",
    "of what is a sextant",
]


def near(*similarities: float) -> list[tuple[float, str, str]]:
    return [(s, text, f"answer {i}") for i, (s, text) in enumerate(zip(similarities, STORED, strict=False))]


def chosen(
    scores: list[float], similarities: tuple[float, ...] = (0.9, 0.9, 0.9, 0.9)
) -> tuple[str | None, int]:
    verifier = Scripted(dict(zip(STORED, scores, strict=False)))
    return choose(ASKED, near(*similarities[: len(scores)]), verifier, 0.7), len(verifier.read)


@pytest.mark.parametrize(
    ("scores", "answer", "read"),
    [
        ([], None, 0),
        ([0.69], None, 1),
        ([0.7], "answer 0", 1),
        ([0.8, 0.9], "answer 0", 1),  # it will do: the next isn't read
        ([0.69, 0.9], "answer 1", 2),
        ([0.1, 0.2, 0.3, 0.99], None, 3),  # three are read and no more
        ([0.1, 0.2, 0.75, 0.99], "answer 2", 3),
    ],
)
def test_the_nearest_that_will_do_is_served(scores: list[float], answer: str | None, read: int) -> None:
    assert chosen(scores) == (answer, read)


def test_what_is_far_is_not_even_read() -> None:
    verifier = Scripted({STORED[0]: 1.0})
    assert choose(ASKED, near(NEAR - 0.01), verifier, 0.0) is None
    assert verifier.read == []
    assert choose(ASKED, near(NEAR), verifier, 0.7) == "answer 0"


def test_the_verifier_is_told_the_cosine() -> None:
    verifier = Scripted(dict.fromkeys(STORED, 0.1))
    choose(ASKED, near(0.9, 0.8), verifier, 0.7)
    assert verifier.told == [0.9, 0.8]


def test_neighbours_are_drawn_as_needed() -> None:
    drawn: list[int] = []

    def lazily() -> Iterator[tuple[float, str, str]]:
        for i, row in enumerate(near(0.9, 0.9, 0.9)):
            drawn.append(i)
            yield row

    assert choose(ASKED, lazily(), Scripted(dict.fromkeys(STORED, 0.99)), 0.7) == "answer 0"
    assert drawn == [0]


def test_an_excluded_neighbour_costs_no_reading() -> None:
    rows = [(0.99, f"what is a sextant of 18{year} made of", "wrong") for year in range(10, 16)]
    verifier = Scripted(dict.fromkeys([text for _, text, _ in rows], 1.0) | {STORED[0]: 0.8})
    assert choose(ASKED, [*rows, (0.8, STORED[0], "right")], verifier, 0.7) == "right"
    assert verifier.read == [STORED[0]]


def test_what_the_verifier_can_not_read_whole_is_never_served() -> None:
    verifier = Scripted(dict.fromkeys(STORED, 1.0), most=len(ASKED))
    assert choose(ASKED, near(0.99, 0.99), verifier, 0.0) is None
    assert verifier.read == []


def test_of_long_questions_one_neighbour_is_read() -> None:
    long = "is a sextant made of brass " * 10
    x, y = "please, " + long, long + "please"
    verifier = Scripted({x: 0.1, y: 0.99})
    assert choose(long, [(0.9, x, "x"), (0.9, y, "y")], verifier, 0.7) is None
    assert verifier.read == [x]


SCORES = st.lists(st.floats(0, 1), max_size=4)


@given(SCORES, st.floats(0, 1))
def test_nothing_below_the_threshold_is_ever_served(scores: list[float], threshold: float) -> None:
    verifier = Scripted(dict(zip(STORED, scores, strict=False)))
    answer = choose(ASKED, near(*[0.9] * len(scores)), verifier, threshold)
    if answer is None:
        assert all(score < threshold for score in scores[:3])
    else:
        assert scores[int(answer[-1])] >= threshold


@pytest.mark.parametrize("piece", ["a ", "x@", "1.", "to a "])
def test_a_megabyte_of_anything_is_read(piece: str) -> None:
    text = piece * ((1 << 20) // len(piece))
    read.__wrapped__(text)  # a pattern that backtracks would take hours; uncached, so nothing stays
    assert difference("a", "a" * (1 << 20)) is not None
