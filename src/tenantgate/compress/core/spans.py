"""Spans of characters, and the kinds of those that are never taken out of a text."""

from __future__ import annotations

import enum
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

__all__ = ["Kind", "Span", "inside", "merged", "spans_of", "touches"]


class Kind(enum.Enum):
    """Why a span stays."""

    CODE = "code"
    JSON = "json"
    MARKUP = "markup"
    FORMULA = "formula"
    ADDRESS = "address"
    NUMBER = "number"
    DATE = "date"
    QUOTE = "quote"
    NEGATION = "negation"
    LIMIT = "limit"
    CONDITION = "condition"
    NAME = "name"
    MARKED = "marked"


@dataclass(frozen=True, slots=True)
class Span:
    """Characters from `start` up to `end` of a text."""

    start: int
    end: int
    kind: Kind = Kind.MARKED


def merged(spans: Iterable[Span]) -> tuple[tuple[int, int], ...]:
    """The spans sorted, those that touch or overlap joined."""
    out: list[tuple[int, int]] = []
    for start, end in sorted((s.start, s.end) for s in spans if s.end > s.start):
        if out and start <= out[-1][1]:
            out[-1] = (out[-1][0], max(out[-1][1], end))
        else:
            out.append((start, end))
    return tuple(out)


def spans_of(pairs: Iterable[tuple[int, int]]) -> list[Span]:
    """Pairs of start and end as spans."""
    return [Span(start, end) for start, end in pairs]


def touches(start: int, end: int, spans: Sequence[tuple[int, int]]) -> bool:
    """Whether some of the `merged` spans shares a character with `start` to `end`."""
    i = bisect_right(spans, (start, 1 << 62)) - 1
    return (i >= 0 and spans[i][1] > start) or (i + 1 < len(spans) and spans[i + 1][0] < end)


def inside(place: int, spans: Sequence[tuple[int, int]]) -> bool:
    """Whether the character at `place` is in one of the `merged` spans."""
    i = bisect_right(spans, (place, 1 << 62)) - 1
    return i >= 0 and spans[i][0] <= place < spans[i][1]
