"""All that a text may be read as: as it is, without tricks of characters, and with its escapes undone, level by level.

Escapes nest: JSON in the JSON of a tool's result, a URL in it, base64 in that. Each level undoes one of all kinds
at once, so the depth is bounded and the cost is the depth times the text's length at most; each level is shorter than
the one before. A text without any mark of an escape costs one look for these marks.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from tenantgate.errors import TenantgateError
from tenantgate.pii.core.escapes import doubtful, doubts, usual
from tenantgate.pii.core.finding import Finding, outermost
from tenantgate.pii.core.json_text import cells
from tenantgate.pii.core.normalise import normalised, original_spans
from tenantgate.pii.core.runs import runs
from tenantgate.pii.core.view import View

__all__ = ["DEPTH", "Reading", "Readings", "TooDeepError", "find_at_last", "find_in_views", "readings"]

DEPTH: Final = 6
"""Levels of escapes that are undone."""


_BACKSLASHES: Final = re.compile(r"\\{2,}+")
_REACH: Final = 6  # characters of an escape, at most, before its last one


class TooDeepError(TenantgateError):
    """A text is escaped more often than is undone."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One view of a text.

    Attributes:
        view: the text and where it comes from.
        level: how many levels of escapes were undone.
        doubtful: whether what may be plain text was undone, too (`tenantgate.pii.core.escapes`).
    """

    view: View
    level: int
    doubtful: bool = False


class Readings:
    """The text itself, then every other text that it may be read as; made when first asked for, and kept.

    `between` is asked before each level of escapes is undone, and may raise.

    Raises (while iterating):
        TooDeepError: there are escapes below `DEPTH` levels.
    """

    def __init__(self, text: str, between: Callable[[], None] = lambda: None) -> None:
        self.text = text
        self._made: list[Reading] = []
        self._rest = _readings(text, between)
        self._error: Exception | None = None

    def __iter__(self) -> Iterator[Reading]:
        at = 0
        while True:
            while at < len(self._made):
                yield self._made[at]
                at += 1
            if self._error is not None:  # for whoever asks next, too: what is there isn't all
                raise self._error
            try:
                found = next(self._rest, None)
            except Exception as error:
                self._error = error
                raise
            if found is None:
                return
            self._made.append(found)


def readings(text: str) -> Iterator[Reading]:
    """The text itself, then every other text that it may be read as.

    Raises:
        TooDeepError: there are escapes below `DEPTH` levels.
    """
    return _readings(text, lambda: None)


def _readings(text: str, between: Callable[[], None]) -> Iterator[Reading]:
    first = View(text)
    yield Reading(first, 0)
    plain = normalised(first)
    if plain is not first:
        yield Reading(plain, 0)
    yield from _levels(plain, between, doubted=False)
    if doubts(plain.text):
        yield from _levels(plain, between, doubted=True)


def _levels(view: View, between: Callable[[], None], *, doubted: bool) -> Iterator[Reading]:
    escapes = doubtful if doubted else usual
    for level in range(1, DEPTH + 2):
        before = view
        between()
        if level == DEPTH:  # whatever the depth of JSON in JSON: each level doubles the backslashes
            view = View.of(view, ((*m.span(), "\\") for m in _BACKSLASHES.finditer(view.text)))
        for undo in (escapes, runs):
            changed = View.of(view, undo(view.text))
            if changed is not view:
                if level > DEPTH:
                    raise TooDeepError("text: escaped too often")
                yield Reading(changed, level, doubted)
                view = normalised(changed)
                if view is not changed:
                    yield Reading(view, level, doubted)
        if view is before:
            return


def find_in_views(
    text: str | Readings,
    find: Callable[[str], tuple[Finding, ...]],
    between: Callable[[], None] = lambda: None,
) -> tuple[Finding, ...]:
    """What `find` finds in any reading of the text, where it lies in the text; in order, without overlaps.

    `between` is asked before each reading, and may raise.

    Raises:
        TooDeepError: see `Readings`.
    """
    made = text if isinstance(text, Readings) else Readings(text, between)
    found: list[tuple[int, Finding]] = []
    several = False
    for reading in made:
        between()
        several = several or not reading.view.original
        spans = original_spans(reading.view, find(reading.view.text))
        found += ((reading.level, f) for f in spans)
    if several and "\\" in made.text:
        return outermost(_without_halves(made.text, found))
    return outermost(f for _, f in found)


def find_at_last(
    text: str | Readings,
    find: Callable[[str], tuple[Finding, ...]],
    between: Callable[[], None] = lambda: None,
    *,
    around: int | None = None,
) -> tuple[Finding, ...]:
    """What `find`, which is costly, finds in the text and in what it reads as when all escapes are undone.

    Of the latter only what lies within so many characters `around` an escape is looked at; with None, all of it. The
    findings are given as they are.

    Raises:
        TooDeepError: see `Readings`.
    """
    made = text if isinstance(text, Readings) else Readings(text, between)
    last: dict[bool, Reading] = {}
    found: list[Finding] = []
    for reading in made:
        if reading.view.original:
            found += find(reading.view.text)
        elif reading.level:
            last[reading.doubtful] = reading
    for reading in last.values():
        whole = reading.view.text
        for start, end in [(0, len(whole))] if around is None else _near(reading.view, around):
            between()
            moved = (Finding(f.start + start, f.end + start, f.kind, f.score) for f in find(whole[start:end]))
            found += original_spans(reading.view, moved)
    return tuple(found)


def _near(view: View, around: int) -> Iterator[tuple[int, int]]:
    """The pieces of a view that lie near what it reads differently."""
    low = high = 0
    for start, end in view.altered():
        if start - around > high:
            if high:
                yield low, high
            low = max(0, start - around)
        high = min(len(view.text), end + around)
    if high:
        yield low, high


def _without_halves(text: str, found: list[tuple[int, Finding]]) -> Iterator[Finding]:
    r"""The findings without those that took the letter of an escape for a part of what was found.

    In JSON ``"Regards\nnina@example.com"`` is a line end before "nina"; the bare text shows an address of "nnina".
    """
    doubted = [i for i, (_, f) in enumerate(found) if "\\" in text[max(0, f.start - _REACH) : f.end]]
    halves = set(doubted)
    yield from (f for i, (_, f) in enumerate(found) if i not in halves)
    if not doubted:
        return
    places = cells(text)
    deeper = _Deeper(found)
    for i in doubted:
        level, finding = found[i]
        better = deeper.over(level, finding)
        if better is None:
            yield finding
        elif not any(c.depth > level for c in places.within(finding.start, finding.end)):
            letter = better == finding.start + 1 and text[finding.start - 1 : finding.start] == "\\"
            yield Finding(better, finding.end, finding.kind, finding.score) if letter else finding


class _Deeper:
    """Findings of the levels below a level, by kind."""

    def __init__(self, found: list[tuple[int, Finding]]) -> None:
        self._found = found
        self._made: dict[tuple[int, str], tuple[list[int], list[int]]] = {}

    def over(self, level: int, finding: Finding) -> int | None:
        """Where the first one begins that overlaps `finding` and was found below `level`."""
        what = level, finding.kind
        if what not in self._made:
            below = outermost(f for k, f in self._found if k > level and f.kind == finding.kind)
            self._made[what] = [f.start for f in below], [f.end for f in below]
        starts, ends = self._made[what]
        i = bisect_right(ends, finding.start)
        return starts[i] if i < len(starts) and starts[i] < finding.end else None
