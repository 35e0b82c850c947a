"""Prompt injection and jailbreaks: the whole text read by three linear models, in a few passes of NumPy.

1. The text is read as it reads (`tenantgate.pii.core.normalise`), and once more for each disguise in it (`disguises`).
2. Every window of about forty words is scored by its hashed words, its concepts in many languages and those that stand
   close together: that finds a sentence, wherever it is hidden.
3. Each longer segment is scored twice: by its words, for jailbreaks in role-play that no single sentence gives away;
   and by all features, for short attacks.
4. A linear model joins the three scores with the segment's length; a window that is sure enough counts alone.
5. Where that doesn't rule an attack out, families of phrases are looked for, and the segment is scored once more with
   them.

The weights are made by ``training/train_injection.py``; `tenantgate/models/data/injection.npz` holds no text.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from tenantgate.errors import ConfigError
from tenantgate.guard.core import lexical
from tenantgate.guard.core.concepts import CONCEPTS, PATTERNS
from tenantgate.guard.core.disguises import disguises
from tenantgate.guard.core.lexical import BUCKETS, PAIRS, Folded, Reading, fold, read
from tenantgate.guard.core.phrases import PHRASES
from tenantgate.guard.core.phrases import phrases as plain_phrases
from tenantgate.pii.core import Finding, normalise
from tenantgate.time_left import check_time

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    Phrases = Callable[[str], Sequence[int]]
    Floats = NDArray[np.float32]
    Ints = NDArray[np.int64]

__all__ = [
    "FEATURES",
    "GROUPS",
    "InjectionModel",
    "Segment",
    "Stage",
    "Weights",
    "joined",
    "segments",
    "spans",
    "windows",
]

KIND: Final = "PROMPT_INJECTION"
GROUPS: Final = (BUCKETS, len(CONCEPTS), PAIRS, len(PATTERNS), len(PHRASES))
"""Features of a window or a segment: hashed words, concepts, pairs of concepts, patterns, families of phrases."""
FEATURES: Final = sum(GROUPS)
_PATTERNS: Final = len(CONCEPTS) + PAIRS
VERSION: Final = 3
JOINED: Final = 8
FEW: Final = 24  # words and pairs of words below which a text says too little for them to count in full
_WINDOW: Final = 40  # words and signs
_STEP: Final = 10
_SEGMENT: Final = 900  # words and signs, which takes in most jailbreaks whole
_SEGMENT_STEP: Final = 600
_AGAIN: Final = 20  # words and signs within which the same concept, pair or pattern counts once
_PLACE_BITS: Final = 32
_PLACE: Final = (1 << _PLACE_BITS) - 1
_BLOCK: Final = 16_000  # characters that are read at a time
_BLOCK_STEP: Final = 14_400


@dataclass(frozen=True, slots=True)
class Stage:
    """A linear model over `FEATURES`, and a bias."""

    weights: Floats
    bias: float

    def score(self, bag: Ints, rest: Ints) -> float:
        """Of a segment: its different hashed words, and its other features."""
        of_words = float(self.weights[bag].sum()) / math.sqrt(max(FEW, len(bag)))
        return of_words + float(self.weights[rest].sum()) + self.bias


@dataclass(frozen=True, slots=True)
class Weights:
    """The trained numbers.

    Attributes:
        window: scores a window of words.
        segment: scores a longer piece by all features.
        wording: scores a longer piece by words, families of phrases and length.
        join: a weight for each of `joined`.
        alone: the score of a window that is an attack whatever the rest says.
        doubt: what a segment scores at least before families of phrases are looked for in it.
    """

    window: Stage
    segment: Stage
    wording: Stage
    join: Floats
    alone: float
    doubt: float

    def logit(self, window: float, bag: Ints, rest: Ints, words: int) -> float:
        """Of a segment: above 0 it is an attack. Its worst window's score, its features and its number of words."""
        scored = joined(window, self.segment.score(bag, rest), self.wording.score(bag, rest), words)
        return max(float(scored @ self.join), window - self.alone)

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any]) -> Weights:
        """From the arrays of an ``.npz`` file.

        Raises:
            ConfigError: they don't fit this version.
        """
        try:
            window, segment, wording = (
                Stage(
                    arrays[name].astype(np.float32)
                    * np.repeat(arrays[f"{name}_scale"], GROUPS).astype(np.float32),
                    float(arrays[f"{name}_bias"]),
                )
                for name in ("window", "segment", "wording")
            )
            join = arrays["join"].astype(np.float32)
            weights = cls(window, segment, wording, join, float(arrays["alone"]), float(arrays["doubt"]))
            fits = int(arrays["version"]) == VERSION and len(weights.join) == JOINED
        except (KeyError, AttributeError, ValueError, TypeError) as error:
            raise ConfigError(f"injection weights: can't be read ({type(error).__name__})") from None
        if not fits:
            raise ConfigError("injection weights: made for another version; run training/train_injection.py")
        return weights


@dataclass(frozen=True, slots=True)
class Segment:
    """What is made of a piece of a text.

    Attributes:
        window: the worst window, as a span of the text.
        logit: above 0 it is an attack.
    """

    window: tuple[int, int]
    logit: float


def joined(window: float, segment: float, wording: float, words: int) -> Floats:
    """What the scores of a segment's worst window and of the segment are joined from; 1 comes last, for the bias."""
    length = min(1.0, math.log(words + 1) / 6)
    return np.array(
        [window, segment, wording, length, window * length, segment * length, wording * length, 1.0],
        np.float32,
    )


@dataclass(frozen=True, slots=True)
class Features:
    """The features of a text.

    Attributes:
        numbers: the features; hashed words first.
        at: the word at which each begins.
        words: how many are hashed words.
        tokens: how many words the text has.
    """

    numbers: Ints
    at: Ints
    words: int
    tokens: int


def features_of(reading: Reading) -> Features:
    """The features of a text, with the words at which they begin."""
    n = len(reading.starts)
    tokens = np.arange(n)
    number = np.concatenate((reading.found, reading.pairs + len(CONCEPTS), reading.patterns + _PATTERNS))
    where = np.concatenate((reading.at, reading.pairs_at, reading.patterns_at))
    place = np.maximum(np.searchsorted(reading.starts, where, "right") - 1, 0)
    each = ((number + BUCKETS) << _PLACE_BITS) + place
    each.sort()
    first = np.ones(len(each), bool)
    np.greater_equal(each[1:] - each[:-1], _AGAIN, out=first[1:])
    each = each[first]
    words = (tokens, tokens[: max(0, n - 1)], tokens[: max(0, n - 2)])
    return Features(
        np.concatenate((reading.words, each >> _PLACE_BITS)),
        np.concatenate((*words, each & _PLACE)),
        len(reading.words),
        n,
    )


def windows(words: int) -> tuple[Ints, Ints]:
    """First and after last word of the overlapping windows of a text of so many words."""
    first = np.arange(0, max(1, words - _WINDOW + _STEP), _STEP)
    return first, np.minimum(first + _WINDOW, words)


def _window_scores(features: Features, words: int, stage: Stage) -> Floats:
    values = stage.weights[features.numbers]
    k = features.words
    by_words = np.bincount(features.at[:k], values[:k], words)
    by_concepts = np.bincount(features.at[k:], values[k:], words)
    sums = np.zeros((2, words + 1))
    np.cumsum((by_words, by_concepts), axis=1, out=sums[:, 1:])
    first, last = windows(words)
    in_words, in_concepts = sums[:, last] - sums[:, first]
    scores: Floats = in_words / np.sqrt(np.maximum(FEW, 3.0 * (last - first))) + in_concepts + stage.bias
    return scores


def segment_features(features: Features, first: int, last: int) -> tuple[Ints, Ints]:
    """The different hashed words of a piece, and its other features."""
    numbers = features.numbers
    if (first, last) != (0, features.tokens):
        numbers = numbers[(features.at >= first) & (features.at < last)]
    seen = np.zeros(FEATURES, bool)
    seen[numbers] = True
    return np.flatnonzero(seen[:BUCKETS]), np.flatnonzero(seen[BUCKETS:]) + BUCKETS


def spans(words: int) -> Iterator[tuple[int, int]]:
    """Spans of words that overlap and together cover ``0:words``, one at least."""
    first = 0
    while True:
        last = min(words, first + _SEGMENT)
        yield first, last
        if last == words:
            return
        first += _SEGMENT_STEP


def segments(text: str, folded: Folded, weights: Weights, phrases: Phrases) -> list[Segment]:
    """The pieces of `text`, which is `folded`; none for a text without words."""
    reading = read(folded)
    words = len(reading.starts)
    if not words:
        return []
    features = features_of(reading)
    scores = _window_scores(features, words, weights.window)
    starts, ends = windows(words)
    out = []
    for first, last in spans(words):
        check_time()
        mine = windows_of(first, last, len(scores))
        worst = mine.start + int(np.argmax(scores[mine]))
        bag, rest = segment_features(features, first, last)
        logit = weights.logit(float(scores[worst]), bag, rest, last - first)
        if logit >= weights.doubt:
            rest = np.concatenate((rest, families_of(text, reading, first, last, phrases)))
            logit = weights.logit(float(scores[worst]), bag, rest, last - first)
        out.append(Segment(extent(reading, int(starts[worst]), int(ends[worst])), logit))
    return out


def windows_of(first: int, last: int, count: int) -> slice:
    """Which of the `count` windows of a text lie in the words `first` to `last`."""
    low = first // _STEP
    return slice(low, max(low + 1, min(count, -(-(last - _WINDOW) // _STEP) + 1)))


def extent(reading: Reading, first: int, last: int) -> tuple[int, int]:
    """Where the words from `first` to before `last` are in the text."""
    return int(reading.where[reading.starts[first]]), int(reading.where[reading.ends[last - 1] - 1]) + 1


def families_of(text: str, reading: Reading, first: int, last: int, phrases: Phrases) -> Ints:
    """The features of the families of phrases in the words from `first` to before `last`."""
    a, b = extent(reading, first, last)
    return np.array(phrases(text[max(0, a - 8) : b + 8]), np.int64) + (FEATURES - len(PHRASES))


def blocks(length: int) -> Iterator[tuple[int, int]]:
    """The overlapping pieces of a text of so many characters that are read at a time."""
    start = 0
    while True:
        end = min(length, start + _BLOCK)
        yield start, end
        if end == length:
            return
        start += _BLOCK_STEP


class InjectionModel:
    """Scores texts; thread-safe, if `phrases` is.

    Args:
        weights: the trained numbers.
        phrases: gives the numbers of the families of phrases in a text; left out, by Python's own expressions, which
            are slower.
    """

    def __init__(self, weights: Weights, phrases: Phrases | None = None) -> None:
        self._weights, self._phrases = weights, phrases or plain_phrases
        lexical.concepts()

    def find(self, text: str) -> tuple[Finding, ...]:
        """The worst window of each piece of the text, scored from 0 to 1; 0.5 and more is an attack.

        At least one finding for a text with words: of a harmless text it has a low score.

        Raises:
            OutOfTimeError: the text is longer than there is time for (`time_left.limited`).
        """
        view = normalise(text)
        found = []
        for start, end in blocks(len(view.text)):
            check_time()
            block = view.text[start:end]
            folded = fold(block)
            for segment in segments(block, folded, self._weights, self._phrases):
                a, b = segment.window
                found.append(Finding(*view.span(start + a, start + b), KIND, _share(segment.logit)))
            for disguise in disguises(block, folded):
                check_time()
                plain = segments(disguise.plain, fold(disguise.plain), self._weights, self._phrases)
                score = _share(max((s.logit for s in plain), default=-30.0))
                if score >= 0.5:
                    a, b = disguise.start, disguise.end
                    found.append(Finding(*view.span(start + a, start + b), KIND, score))
        return tuple(found)


def _share(logit: float) -> float:
    return 1 / (1 + math.exp(-max(-30.0, min(30.0, logit))))
