"""What is known of one tenant's traffic, and what its lookups go by: small counts by the bin of a score, no text."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from tenantgate.cache.core.answers import Verdict

__all__ = [
    "BINS",
    "FIRST",
    "STEP",
    "ZEROS",
    "Change",
    "Comparison",
    "Evidence",
    "Plan",
    "Seen",
    "bin_of",
    "edge",
]

BINS: Final = 21
"""Bins of the verifier's score, by its log-odds: from -1 (a score of .27) in steps of .5 to 9 (.9999) and above."""
FIRST: Final = -1.0
STEP: Final = 0.5
_NEAR: Final = (
    4  # the first bin that counts as a neighbour where traffic is watched for a change: a score of .73
)


def bin_of(score: float) -> int | None:
    """The bin of a verifier's score, 0 to 1; None where it is too low ever to be served."""
    if not score > 0.0:
        return None
    odds = math.inf if score >= 1 else math.log(score / (1 - score))
    return None if odds < FIRST else int(min(BINS - 1, (odds - FIRST) / STEP))


def edge(number: int) -> float:
    """The lowest score of a bin; for `BINS` and above one that no score reaches."""
    return math.inf if number >= BINS else 1 / (1 + math.exp(-(FIRST + STEP * number)))


@dataclass(frozen=True, slots=True)
class Comparison:
    """A fresh answer beside the stored one, and the bin of the questions' score; None where they are one question.

    `probe` says whether it was a hit that went to the provider all the same.
    """

    bin: int | None
    verdict: Verdict
    probe: bool


@dataclass(frozen=True, slots=True)
class Seen:
    """Lookups not told yet: how many, how many found a neighbour, and these by the bin of their score."""

    lookups: int = 0
    near: int = 0
    hits: int = 0
    """Answers that were served by similarity."""
    bins: Mapping[int, int] = field(default_factory=dict)

    def with_lookup(self, number: int | None, *, hit: bool = False) -> Seen:
        """One lookup more, whose best neighbour has a score of this bin."""
        if number is None:
            return replace(self, lookups=self.lookups + 1)
        bins = {**self.bins, number: self.bins.get(number, 0) + 1}
        return Seen(self.lookups + 1, self.near + (number >= _NEAR), self.hits + hit, bins)


@dataclass(frozen=True, slots=True)
class Change:
    """A threshold that held from `at` on (Unix seconds), and why."""

    at: int
    threshold: float
    why: str


ZEROS: Final = (0.0,) * BINS
_ROWS: Final = (*Verdict, "seen", *(f"recent_{verdict}" for verdict in Verdict))
_NUMBERS: Final = (
    "alarm",
    "lookups",
    "near_fast",
    "near_slow",
    "probed",
    "repeats_same",
    "repeats_alike",
    "repeats_other",
)
_COUNTS: Final = ("hits", "compared", "probes", "probes_other", "restarts")


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that is known of one tenant's traffic: small counts, no text. Old ones count less and less."""

    same: tuple[float, ...] = ZEROS
    """Comparisons of neighbours' answers with this verdict, by the bin of the questions' score; so the next two."""
    alike: tuple[float, ...] = ZEROS
    other: tuple[float, ...] = ZEROS
    seen: tuple[float, ...] = ZEROS
    """Lookups by the bin of their best neighbour."""
    recent_same: tuple[float, ...] = ZEROS
    recent_alike: tuple[float, ...] = ZEROS
    recent_other: tuple[float, ...] = ZEROS
    alarm: float = 0.0
    lookups: float = 0.0
    """Since it started anew."""
    near_fast: float = 0.0
    near_slow: float = 0.0
    probed: float = 0.0
    """Probes since it started anew."""
    repeats_same: float = 0.0
    """Comparisons of two answers to the same question with this verdict; so the next two."""
    repeats_alike: float = 0.0
    repeats_other: float = 0.0
    hits: int = 0
    """All answers ever that were served by similarity."""
    compared: int = 0
    """All comparisons of neighbours' answers ever; `probes` are those of hits."""
    probes: int = 0
    probes_other: int = 0
    restarts: int = 0
    history: tuple[Change, ...] = ()

    def to_json(self) -> str:
        """As it is stored; `from_json` gives it back."""
        rows = [[round(x, 3) for x in getattr(self, name)] for name in _ROWS]
        numbers = [round(getattr(self, name), 5) for name in _NUMBERS]
        counts = [getattr(self, name) for name in _COUNTS]
        past = [[c.at, c.threshold, c.why] for c in self.history]
        return json.dumps([rows, numbers, counts, past], separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str | bytes | None) -> Evidence:
        """What was stored; nothing known for anything that can't be read."""
        try:
            rows, numbers, counts, past = json.loads(text or "")
            if len(rows) != len(_ROWS) or any(len(row) != BINS for row in rows):
                return cls()
            given: dict[str, Any] = {
                **{name: tuple(map(_positive, row)) for name, row in zip(_ROWS, rows, strict=True)},
                **{name: _positive(value) for name, value in zip(_NUMBERS, numbers, strict=True)},
                **{name: int(value) for name, value in zip(_COUNTS, counts, strict=True)},
            }
            history = tuple(Change(int(at), float(threshold), str(why)) for at, threshold, why in past)
            return cls(**given, history=history)
        except (ValueError, TypeError, OverflowError, RecursionError):
            return cls()


def _positive(value: Any) -> float:
    number = float(value)
    if not 0 <= number < 1e12:
        raise ValueError
    return number


@dataclass(frozen=True, slots=True)
class Plan:
    """What lookups go by: the score that is needed, and by bin the share of would-be hits that is probed.

    `compare` is the share of the misses with a neighbour whose answers are compared, `repeat` that of the exact hits
    that are probed; 0 to 1.
    """

    threshold: float
    probe: tuple[float, ...] = ZEROS
    compare: float = 1.0
    repeat: float = 0.0

    def to_json(self) -> str:
        """As it is stored; `from_json` gives it back."""
        threshold = None if math.isinf(self.threshold) else self.threshold
        whole = [threshold, [round(x, 4) for x in self.probe], self.compare, self.repeat]
        return json.dumps(whole, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: bytes) -> Plan | None:
        """What was stored; None for anything else."""
        try:
            threshold, probe, *rest = json.loads(text)
            compare, repeat = map(_positive, rest)
            shares = tuple(map(_positive, probe))
            found = math.inf if threshold is None else float(threshold)
            return cls(found, shares, compare, repeat) if len(shares) == BINS and found > 0 else None
        except (ValueError, TypeError, OverflowError, RecursionError):
            return None
