"""Prompt injection and jailbreaks: a cascade of wording, words and meaning, with trained weights.

1. The text is read as it reads (`tenantgate.pii.normalise`), with what is hidden in encodings decoded.
2. It is cut into overlapping segments, so that an attack in the middle of a document counts as one alone would.
3. Families of phrases and a linear model over hashed words give a first score, in well under a millisecond.
4. Only where that is undecided, the most suspicious window of the segment is embedded, and a linear head on the
   embedding joins in. The window is short, because its length is what the whole check takes: two longer ones
   took nearly three times as long and found no more.

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
from tenantgate.guard.lexical import BUCKETS, FAMILIES, families, hidden_texts, word_spans
from tenantgate.guard.time_left import check_time
from tenantgate.pii import Finding, normalise

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from tenantgate.guard.ports import Embedder

    Floats = NDArray[np.float32]

__all__ = ["FEW", "InjectionModel", "Signals", "Stage", "Weights", "meaning", "segments", "signals"]

KIND: Final = "PROMPT_INJECTION"
_SEGMENT: Final = 1600  # characters: about 250 words, the length of the usual jailbreak
_STEP: Final = 1200
_WINDOW: Final = 30  # words and signs: about 40 of the embedder's tokens
_WINDOW_STEP: Final = 15
_WINDOW_CHARACTERS: Final = 205
_ENCODED: Final = FAMILIES.index("encoded")
FEW: Final = 8  # different words below which a text says too little for its words to count in full
_DECODED: Final = 4


@dataclass(frozen=True, slots=True)
class Stage:
    """A linear model: a weight for each hashed word or pair of words and for each family, and a bias."""

    words: Floats
    families: Floats
    bias: float

    def logit(self, signal: Signals) -> float:
        """What the segment's wording says; decoded texts count where they say more."""
        return float(signal.families @ self.families) + max(self.of_words(b) for b in signal.bags) + self.bias

    def of_words(self, bag: NDArray[np.intp]) -> float:
        """What the words alone say, without regard to their number."""
        return float(self.words[bag].sum()) / math.sqrt(max(FEW, len(bag)))


@dataclass(frozen=True, slots=True)
class Weights:
    """The trained numbers.

    Attributes:
        first: the stage without an embedding.
        second: the stage beside the embedding.
        head: a weight for each dimension of the window's embedding.
        clear: first scores below need no embedding: no attack.
        certain: first scores above need none either: an attack.
    """

    first: Stage
    second: Stage
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
            first, second = (
                Stage(
                    arrays[f"{name}_words"].astype(np.float32) * np.float32(arrays[f"{name}_scale"]),
                    arrays[f"{name}_families"].astype(np.float32),
                    float(arrays[f"{name}_bias"]),
                )
                for name in ("first", "second")
            )
            weights = cls(
                first,
                second,
                arrays["head"].astype(np.float32),
                float(arrays["clear"]),
                float(arrays["certain"]),
            )
        except (KeyError, AttributeError, ValueError, TypeError) as error:
            raise ConfigError(f"injection weights: can't be read ({type(error).__name__})") from None
        if any(len(s.words) != BUCKETS or len(s.families) != len(FAMILIES) for s in (first, second)):
            raise ConfigError(
                "injection weights: made for another version; run benchmarks/train_injection.py"
            )
        return weights


@dataclass(frozen=True, slots=True)
class Signals:
    """What the wording of one segment says.

    Attributes:
        start, end: the segment.
        families: a number for each of `FAMILIES`.
        bags: the different hashed words of the segment, and of each text hidden in it.
        window: the most suspicious window; None for a segment without words.
        decoded: what was hidden in the segment, decoded.
    """

    start: int
    end: int
    families: Floats
    bags: tuple[NDArray[np.intp], ...]
    window: tuple[int, int] | None
    decoded: str = ""


def segments(length: int) -> Iterator[tuple[int, int]]:
    """The overlapping pieces of a text of so many characters."""
    start = 0
    while True:
        end = min(length, start + _SEGMENT)
        yield start, end
        if end == length:
            return
        start += _STEP


def signals(text: str, start: int, end: int, words: Floats) -> Signals:
    """What ``text[start:end]`` says by its wording; `text` as it reads. `words` rank its windows."""
    segment = text[start:end]
    hashes, spans = word_spans(segment)
    found = np.array(families(segment), np.float32)
    bags, decoded = [np.unique(np.array(hashes, np.intp))], []
    for hidden in dict.fromkeys(hidden_texts(segment)):
        piece = hidden[:_SEGMENT]
        found = np.maximum(found, np.array(families(piece), np.float32))
        found[_ENCODED] = 1.0
        bags.append(np.unique(np.array(word_spans(piece)[0], np.intp)))
        decoded.append(piece[:_WINDOW_CHARACTERS])
    window = _worst_window(hashes, spans, words)
    if window is not None:
        window = start + window[0], start + window[1]
    return Signals(start, end, found, tuple(bags), window, "\n".join(decoded[:_DECODED]))


def _worst_window(hashes: list[int], spans: list[tuple[int, int]], words: Floats) -> tuple[int, int] | None:
    n = len(spans)
    if not n:
        return None
    values = words[hashes]
    each = values[:n].copy()
    each[: n - 1] += values[n:]  # a pair belongs to its first word
    sums = np.concatenate((np.zeros(1, np.float32), np.cumsum(each)))
    scored = []
    for a in range(0, max(1, n - _WINDOW_STEP), _WINDOW_STEP):
        b = min(n, a + _WINDOW)
        scored.append(
            (float(sums[b] - sums[a]) / math.sqrt(max(FEW, 2 * (b - a))), spans[a][0], spans[b - 1][1])
        )
    _, a, b = max(scored)
    return a, min(b, a + _WINDOW_CHARACTERS)


class InjectionModel:
    """Scores texts; thread-safe, if its embedder is. Without an embedder the first stage decides alone."""

    def __init__(self, weights: Weights, embedder: Embedder | None = None) -> None:
        self._weights, self._embedder = weights, embedder

    def find(self, text: str) -> tuple[Finding, ...]:
        """The most suspicious window of each suspicious segment, scored from 0 to 1; 0.5 and more is an attack.

        At least one finding for a text with words: of a harmless text it has a low score.

        Raises:
            OutOfTimeError: the text is longer than there is time for (`time_left.limited`).
        """
        view = normalise(text)
        found = []
        for start, end in segments(len(view.text)):
            check_time()
            signal = signals(view.text, start, end, self._weights.first.words)
            if signal.window:
                found.append(Finding(*view.span(*signal.window), KIND, self.score(view.text, signal)))
        return tuple(found)

    def score(self, text: str, signal: Signals) -> float:
        """How surely the segment is an attack, 0 to 1."""
        weights = self._weights
        logit = weights.first.logit(signal)
        if self._embedder is not None and weights.clear <= logit <= weights.certain:
            second = weights.second.logit(signal) + float(
                meaning(text, signal, self._embedder) @ weights.head
            )
            logit = (logit + second) / 2
        return 1 / (1 + math.exp(-max(-30.0, min(30.0, logit))))


_SPACE: Final = re.compile(r"\s+")


def meaning(text: str, signal: Signals, embedder: Embedder) -> Floats:
    """The embedding of the segment's worst window; its mean with that of what was hidden in the segment."""
    pieces = [text[slice(*signal.window)]] if signal.window else []
    if signal.decoded:
        pieces.append(signal.decoded)
    mean: Floats = np.mean([embedder.embed(_SPACE.sub(" ", p)) for p in pieces], axis=0)
    return mean
