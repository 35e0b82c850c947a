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
from tenantgate.pii.escapes import doubtful, doubts, usual
from tenantgate.pii.finding import Finding, outermost
from tenantgate.pii.json_text import cells
from tenantgate.pii.normalise import normalised, original_spans
from tenantgate.pii.runs import runs
from tenantgate.pii.view import View

__all__ = ["DEPTH", "Reading", "TooDeepError", "find_in_views", "readings"]

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
        doubtful: whether what may be plain text was undone, too (`tenantgate.pii.escapes`).
    """

    view: View
    level: int
    doubtful: bool = False


def readings(text: str) -> Iterator[Reading]:
    """The text itself, then every other text that it may be read as.

    Raises:
        TooDeepError: there are escapes below `DEPTH` levels.
    """
    first = View(text)
    yield Reading(first, 0)
    plain = normalised(first)
    if plain is not first:
        yield Reading(plain, 0)
    yield from _levels(plain, doubted=False)
    if doubts(plain.text):
        yield from _levels(plain, doubted=True)


def _levels(view: View, *, doubted: bool) -> Iterator[Reading]:
    escapes = doubtful if doubted else usual
    for level in range(1, DEPTH + 2):
        before = view
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
    text: str,
    find: Callable[[str], tuple[Finding, ...]],
    between: Callable[[], None] = lambda: None,
    *,
    ends: bool = False,
) -> tuple[Finding, ...]:
    """What `find` finds in any reading of the text, where it lies in the text; in order, without overlaps.

    `between` is asked before each reading but the first, and may raise. With `ends`, only the text itself and the last
    reading of each kind are looked at, and what is found there is given as it is.

    Raises:
        TooDeepError: see `readings`.
    """
    first, *others = _ends(text) if ends else readings(text)
    found = [(0, f) for f in find(first.view.text)]
    for reading in others:
        between()
        spans = original_spans(reading.view, find(reading.view.text))
        found += ((reading.level, f) for f in spans)
    if ends:
        return tuple(f for _, f in found)
    if others and "\\" in text:
        return outermost(_without_halves(text, found))
    return outermost(f for _, f in found)


def _ends(text: str) -> Iterator[Reading]:
    """The text itself, and what is left when all escapes are undone, in the usual and in the doubtful reading."""
    last: dict[bool, Reading] = {}
    for reading in readings(text):
        if reading.view.original:
            yield reading
        elif reading.level:
            last[reading.doubtful] = reading
    yield from last.values()


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
