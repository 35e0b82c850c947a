"""Which neighbour's answer is served: the verifier's score decides, rules and reach come before."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantgate.cache.core.judge import NEAR, Candidate, choose, difference
from tenantgate.cache.core.ports import NO_STATES
from tenantgate.cache.core.text_parts import read

ASKED = "what is a sextant made of"


class Scripted:
    """A verifier whose scores are given; notes what it read."""

    fingerprint = "scripted"

    def __init__(self, scores: dict[str, float], most: int = 10_000) -> None:
        self._scores, self._most = scores, most
        self.read: list[str] = []
        self.cosines: list[float] = []
        self.states: list[dict[str, bytes]] = []

    def score(self, a: str, b: str, similarity: float, states: Mapping[str, bytes] = NO_STATES) -> float:
        self.read.append(b)
        self.cosines.append(similarity)
        self.states.append(dict(states))
        return self._scores[b]

    def truncates(self, a: str, b: str) -> bool:
        return len(a) + len(b) > self._most


STORED = [
    "sextant, made of what",
    "made of what is a sextant",
    "a sextant is made of what",
    "of what is a sextant",
]


def near(*similarities: float) -> list[Candidate[str]]:
    rows = enumerate(zip(similarities, STORED, strict=False))
    return [Candidate(cosine, text, f"answer {i}") for i, (cosine, text) in rows]


def served(
    question: str, candidates: Iterable[Candidate[str]], verifier: Scripted, threshold: float
) -> str | None:
    best = choose(question, candidates, verifier, threshold)
    return best.candidate.answer if best is not None and best.score >= threshold else None


def chosen(
    scores: list[float], similarities: tuple[float, ...] = (0.9, 0.9, 0.9, 0.9)
) -> tuple[str | None, int]:
    verifier = Scripted(dict(zip(STORED, scores, strict=False)))
    return served(ASKED, near(*similarities[: len(scores)]), verifier, 0.7), len(verifier.read)


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
    assert served(ASKED, near(NEAR - 0.01), verifier, 0.0) is None
    assert verifier.read == []
    assert served(ASKED, near(NEAR), verifier, 0.7) == "answer 0"


def test_the_verifier_is_told_the_cosine() -> None:
    verifier = Scripted(dict.fromkeys(STORED, 0.1))
    choose(ASKED, near(0.9, 0.8), verifier, 0.7)
    assert verifier.cosines == [0.9, 0.8]


def test_neighbours_are_drawn_as_needed() -> None:
    drawn: list[int] = []

    def lazily() -> Iterator[Candidate[str]]:
        for i, row in enumerate(near(0.9, 0.9, 0.9)):
            drawn.append(i)
            yield row

    assert served(ASKED, lazily(), Scripted(dict.fromkeys(STORED, 0.99)), 0.7) == "answer 0"
    assert drawn == [0]


def test_an_excluded_neighbour_costs_no_reading() -> None:
    rows = [Candidate(0.99, f"what is a sextant of 18{year} made of", "wrong") for year in range(10, 16)]
    verifier = Scripted(dict.fromkeys([row.question for row in rows], 1.0) | {STORED[0]: 0.8})
    assert served(ASKED, [*rows, Candidate(0.8, STORED[0], "right")], verifier, 0.7) == "right"
    assert verifier.read == [STORED[0]]


def test_what_the_verifier_can_not_read_whole_is_never_served() -> None:
    verifier = Scripted(dict.fromkeys(STORED, 1.0), most=len(ASKED))
    assert served(ASKED, near(0.99, 0.99), verifier, 0.0) is None
    assert verifier.read == []


def test_of_long_questions_one_neighbour_is_read() -> None:
    long = "is a sextant made of brass " * 10
    x, y = "please, " + long, long + "please"
    verifier = Scripted({x: 0.1, y: 0.99})
    assert served(long, [Candidate(0.9, x, "x"), Candidate(0.9, y, "y")], verifier, 0.7) is None
    assert verifier.read == [x]


@pytest.mark.parametrize(
    ("scores", "best"),
    [
        ([], None),
        ([0.1, 0.3, 0.2], ("answer 1", 0.3)),
        ([0.3, 0.3], ("answer 0", 0.3)),
        ([0.2, 0.8], ("answer 1", 0.8)),
    ],
)
def test_the_best_that_was_read_is_given_whether_it_will_do_or_not(
    scores: list[float], best: tuple[str, float] | None
) -> None:
    verifier = Scripted(dict(zip(STORED, scores, strict=False)))
    found = choose(ASKED, near(*[0.9] * len(scores)), verifier, 0.7)
    assert (None if found is None else (found.candidate.answer, found.score)) == best


def test_the_verifier_gets_what_is_known_of_the_two() -> None:
    verifier = Scripted(dict.fromkeys(STORED, 0.1))
    rows = [Candidate(0.9, STORED[0], "", b"s0"), Candidate(0.9, STORED[1], "")]
    choose(ASKED, rows, verifier, 0.7, states=b"asked")
    choose(ASKED, rows[1:], verifier, 0.7)
    assert verifier.states == [{ASKED: b"asked", STORED[0]: b"s0"}, {ASKED: b"asked"}, {}]


SCORES = st.lists(st.floats(0, 1), max_size=4)


@given(SCORES, st.floats(0, 1))
def test_nothing_below_the_threshold_is_ever_served(scores: list[float], threshold: float) -> None:
    verifier = Scripted(dict(zip(STORED, scores, strict=False)))
    answer = served(ASKED, near(*[0.9] * len(scores)), verifier, threshold)
    if answer is None:
        assert all(score < threshold for score in scores[:3])
    else:
        assert scores[int(answer[-1])] >= threshold


@pytest.mark.parametrize("piece", ["a ", "x@", "1.", "to a "])
def test_a_large_text_of_anything_is_read(piece: str) -> None:
    text = piece * ((1 << 18) // len(piece))
    read.__wrapped__(text)  # a pattern that backtracks would take hours; uncached, so nothing stays
    assert difference("a", "a" * (1 << 18)) is not None
