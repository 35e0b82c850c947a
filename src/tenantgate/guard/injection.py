"""Prompt injection and jailbreaks: all of a text read cheaply, and its most suspicious window by an embedding.

1. The text is read as it reads (`tenantgate.pii.normalise`), and once more for each disguise in it (`disguises`).
2. A linear model over hashed words, concepts in many languages and concepts close together scores every window of about
   forty words; another one longer segments, for jailbreaks that no single sentence gives away. All of that is a few
   passes of NumPy, about a millisecond for a thousand words.
3. Only where that is undecided, the worst window is embedded, and a head on the embedding joins in.

The weights are made by ``benchmarks/train_injection.py``; `tenantgate/models/injection.npz` holds no text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from tenantgate.errors import ConfigError
from tenantgate.guard import lexical
from tenantgate.guard.concepts import CONCEPTS, PATTERNS
from tenantgate.guard.disguises import disguises
from tenantgate.guard.lexical import BUCKETS, PAIRS, Reading, read
from tenantgate.guard.time_left import check_time
from tenantgate.pii import Finding, normalise

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from tenantgate.guard.ports import Embedder

    Floats = NDArray[np.float32]
    Ints = NDArray[np.int64]

__all__ = ["FEATURES", "InjectionModel", "Segment", "Stage", "Weights", "meaning", "segments", "windows"]

KIND: Final = "PROMPT_INJECTION"
FEATURES: Final = BUCKETS + len(CONCEPTS) + PAIRS + len(PATTERNS)
"""Of a window or a segment: hashed words, concepts, pairs of concepts, patterns."""
FEW: Final = 24  # words and pairs of words below which a text says too little for them to count in full
_WINDOW: Final = 40  # words and signs
_STEP: Final = 10
_SEGMENT: Final = 360  # words and signs: about 250 words, the length of the usual jailbreak
_SEGMENT_STEP: Final = 240
_AGAIN: Final = 20  # words and signs within which the same concept, pair or pattern counts once
_BLOCK: Final = 16_000  # characters that are read at a time
_BLOCK_STEP: Final = 14_400
_EMBEDDED: Final = 150  # characters, of scripts without spaces a third of it
_SPACE: Final = re.compile(r"\s+")


@dataclass(frozen=True, slots=True)
class Stage:
    """A linear model over `FEATURES`, and a bias."""

    weights: Floats
    bias: float


@dataclass(frozen=True, slots=True)
class Weights:
    """The trained numbers.

    Attributes:
        window: scores a window of words.
        segment: scores a longer piece of the text.
        first: weights of the worst window's score, the segment's score and the logarithm of the segment's length; a bias.
        second: the same, beside the embedding.
        head: a weight for each dimension of the window's embedding.
        clear: first scores below need no embedding: no attack.
        certain: first scores above need none either: an attack.
    """

    window: Stage
    segment: Stage
    first: Floats
    second: Floats
    head: Floats
    clear: float
    certain: float

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any]) -> Weights:
        """From the arrays of an ``.npz`` file.

        Raises:
            ConfigError: they don't fit this version.
        """
        try:
            window, segment = (
                Stage(
                    arrays[name].astype(np.float32) * np.repeat(arrays[f"{name}_scale"], _GROUPS).astype(np.float32),
                    float(arrays[f"{name}_bias"]),
                )
                for name in ("window", "segment")
            )
            first, second, head = (arrays[name].astype(np.float32) for name in ("first", "second", "head"))
            weights = cls(window, segment, first, second, head, float(arrays["clear"]), float(arrays["certain"]))
            fits = int(arrays["version"]) == VERSION and len(first) == len(second) == 4
        except (KeyError, AttributeError, ValueError, TypeError) as error:
            raise ConfigError(f"injection weights: can't be read ({type(error).__name__})") from None
        if not fits:
            raise ConfigError("injection weights: made for another version; run benchmarks/train_injection.py")
        return weights


_GROUPS: Final = (BUCKETS, len(CONCEPTS), PAIRS, len(PATTERNS))
VERSION: Final = 2


@dataclass(frozen=True, slots=True)
class Segment:
    """What the first stage says of a piece of a text.

    Attributes:
        window: the worst window, as a span of the text.
        scores: the window's score, the segment's, the logarithm of its length in words, and 1 for the bias.
    """

    window: tuple[int, int]
    scores: Floats


@dataclass(frozen=True, slots=True)
class _Features:
    """Numbers of features, each with the word at which it begins; each kind apart."""

    numbers: Ints
    at: Ints
    words: int  # so many of them are hashed words


def _features(reading: Reading) -> _Features:
    n = len(reading.starts)
    tokens = np.arange(n)
    numbers, at = [], []
    low = BUCKETS
    for found, where, size in (
        (reading.found, reading.at, len(CONCEPTS)),
        (reading.pairs, reading.pairs_at, PAIRS),
        (reading.patterns, reading.patterns_at, len(PATTERNS)),
    ):
        numbers.append(found + low)
        at.append(np.maximum(np.searchsorted(reading.starts, where, "right") - 1, 0))
        low += size
    number, place = np.concatenate(numbers), np.concatenate(at)
    order = np.lexsort((place, number))
    number, place = number[order], place[order]
    again = np.zeros(len(number), bool)
    again[1:] = (number[1:] == number[:-1]) & (place[1:] - place[:-1] < _AGAIN)
    number, place = number[~again], place[~again]
    words = np.concatenate((tokens, tokens[: max(0, n - 1)], tokens[: max(0, n - 2)]))
    return _Features(np.concatenate((reading.words, number)), np.concatenate((words, place)), len(words))


def windows(words: int) -> tuple[Ints, Ints]:
    """First and after last word of the overlapping windows of a text of so many words."""
    first = np.arange(0, max(1, words - _WINDOW + _STEP), _STEP)
    return first, np.minimum(first + _WINDOW, words)


def _window_scores(features: _Features, words: int, stage: Stage) -> Floats:
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


def segment_features(features: _Features, first: int, last: int) -> tuple[Ints, Ints]:
    """The different hashed words of a piece, and its other features."""
    inside = (features.at >= first) & (features.at < last)
    k = features.words
    return np.unique(features.numbers[:k][inside[:k]]), np.unique(features.numbers[k:][inside[k:]])


def _spans(words: int) -> Iterator[tuple[int, int]]:
    first = 0
    while True:
        last = min(words, first + _SEGMENT)
        yield first, last
        if last == words:
            return
        first += _SEGMENT_STEP


def segments(text: str, weights: Weights) -> list[Segment]:
    """What the first stage says of the pieces of `text`, as it reads; none for a text without words."""
    reading = read(text)
    words = len(reading.starts)
    if not words:
        return []
    features = _features(reading)
    scores = _window_scores(features, words, weights.window)
    starts, ends = windows(words)
    out = []
    for first, last in _spans(words):
        low = first // _STEP
        high = max(low + 1, min(len(scores), -(-(last - _WINDOW) // _STEP) + 1))
        worst = low + int(np.argmax(scores[low:high]))
        bag, rest = segment_features(features, first, last)
        of_words = float(weights.segment.weights[bag].sum()) / math.sqrt(max(FEW, len(bag)))
        whole = of_words + float(weights.segment.weights[rest].sum()) + weights.segment.bias
        a, b = reading.starts[starts[worst]], reading.ends[ends[worst] - 1] - 1
        out.append(
            Segment(
                (int(reading.where[a]), int(reading.where[b]) + 1),
                np.array([scores[worst], whole, math.log(last - first + 1), 1.0], np.float32),
            )
        )
    return out


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
    """Scores texts; thread-safe, if its embedder is. Without an embedder the first stage decides alone."""

    def __init__(self, weights: Weights, embedder: Embedder | None = None) -> None:
        self._weights, self._embedder = weights, embedder
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
            for segment in segments(block, self._weights):
                a, b = segment.window
                found.append(Finding(*view.span(start + a, start + b), KIND, self.score(block, segment)))
            for a, b, plain in disguises(block):
                check_time()
                score = max((self.score(plain, s) for s in segments(plain, self._weights)), default=0.0)
                if score >= 0.5:
                    found.append(Finding(*view.span(start + a, start + b), KIND, score))
        return tuple(found)

    def score(self, text: str, segment: Segment) -> float:
        """How surely the segment of `text` is an attack, 0 to 1."""
        weights = self._weights
        logit = float(segment.scores @ weights.first)
        if self._embedder is not None and weights.clear <= logit <= weights.certain:
            logit = float(segment.scores @ weights.second) + float(
                meaning(text, segment.window, self._embedder) @ weights.head
            )
        return 1 / (1 + math.exp(-max(-30.0, min(30.0, logit))))


def meaning(text: str, window: tuple[int, int], embedder: Embedder) -> Floats:
    """The embedding of a window, or of its middle if that is longer than the embedder is asked for."""
    start, end = window
    most = _EMBEDDED if text[start:end].isascii() or ord(max(text[start:end])) < 0x0500 else _EMBEDDED // 3
    spare = max(0, end - start - most)
    piece = text[start + spare // 2 : end - (spare + 1) // 2]
    return embedder.embed(_SPACE.sub(" ", piece))
