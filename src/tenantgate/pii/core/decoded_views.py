"""All that a text may be read as: as it is, without tricks of characters, and with its escapes undone, level by level.

Escapes nest: JSON in the JSON of a tool's result, a URL in it, base64 in that. Each level undoes one of all kinds
at once, so the depth is bounded and the cost is the depth times the text's length at most; each level is shorter than
the one before. A text without any mark of an escape costs one look for these marks.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from tenantgate.checkpoints import checkpoint
from tenantgate.errors import TenantgateError
from tenantgate.pii.core.encoded_runs import runs
from tenantgate.pii.core.escapes import doubtful, doubts, usual
from tenantgate.pii.core.finding import Finding, Reach, outermost
from tenantgate.pii.core.json_text import cells
from tenantgate.pii.core.normalise import normalised, original_spans
from tenantgate.pii.core.text_view import View

__all__ = ["DEPTH", "Reading", "Readings", "TooDeepError", "find_at_last", "find_in_views", "readings"]

DEPTH: Final = 6
"""Levels of escapes that are undone."""


_BACKSLASHES: Final = re.compile(r"\\{2,}+")
_BLANK: Final = re.compile(r"\s")
_MANY: Final = 256  # changes between two checkpoints
_BLANKS: Final = (" ", "\n")
_BLOCKS: Final = ("-----BEGIN ", "Private-Lines: ")  # values without end, of many lines
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
        base: an earlier reading, None for the text itself.
        changed: where it differs from `base`; in order.
    """

    view: View
    level: int
    doubtful: bool = False
    base: Reading | None = field(default=None, repr=False)
    changed: Sequence[tuple[int, int]] = field(default=(), repr=False)


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
    plain = first = Reading(View(text), 0)
    yield first
    view = normalised(first.view)
    if view is not first.view:
        plain = _after(first, view, 0)
        yield plain
    sibling = None
    refused: set[tuple[object, str]] = set()
    for reading in _levels(plain, between, refused):
        sibling = sibling or reading
        yield reading
    if doubts(view.text):
        yield from _levels(plain, between, refused, doubted=True, sibling=sibling)


def _levels(
    base: Reading,
    between: Callable[[], None],
    refused: set[tuple[object, str]],
    *,
    doubted: bool = False,
    sibling: Reading | None = None,
) -> Iterator[Reading]:
    """The readings of all levels; `refused` are runs that stand for nothing, `sibling` is the other family's first."""
    escapes = doubtful if doubted else usual
    view = base.view
    for level in range(1, DEPTH + 2):
        before = view
        between()
        if level == DEPTH:  # whatever the depth of JSON in JSON: each level doubles the backslashes
            view = View.of(view, ((*m.span(), "\\") for m in _BACKSLASHES.finditer(view.text)))
        for undo in (escapes, partial(runs, refused=refused)):
            changed = View.of(view, undo(view.text))
            if changed is not view:
                if level > DEPTH:
                    raise TooDeepError("text: escaped too often")
                siblings = sibling is not None and changed.before is sibling.view.before
                base = _after(sibling if siblings and sibling else base, changed, level, doubted)
                yield base
                view = normalised(changed)
                if view is not changed:
                    base = _after(base, view, level, doubted)
                    yield base
        if view is before:
            return


def _after(base: Reading, view: View, level: int, doubted: bool = False) -> Reading:
    siblings = view.before is base.view.before
    changed = view.differs(base.view) if siblings else list(view.altered(base.view))
    return Reading(view, level, doubted, base, changed)


def find_in_views(
    text: str | Readings,
    find: Callable[[str], tuple[Finding, ...]],
    between: Callable[[], None] = lambda: None,
    *,
    reach: Reach | None = None,
) -> tuple[Finding, ...]:
    """What `find` finds in any reading of the text, where it lies in the text; in order, without overlaps.

    With the `reach` of `find`, of each reading only what lies so near what it changes is looked at, and the words that
    go on there: that finds the same. `between` is asked before each piece, and may raise.

    Raises:
        TooDeepError: see `Readings`.
    """
    made = text if isinstance(text, Readings) else Readings(text, between)
    found: list[tuple[int, Finding]] = []
    known: dict[str, tuple[Finding, ...]] = {}
    several = False
    for reading in made:
        view = reading.view
        several = several or not view.original
        for piece in _pieces(reading, reach):
            between()
            said = view.text[piece.first : piece.last]
            if said not in known:
                known[said] = find(said)
            spans = original_spans(view, piece.kept(known[said]))
            found += ((reading.level, f) for f in spans)
    if several and "\\" in made.text:
        return outermost(_without_halves(made.text, found))
    return outermost(f for _, f in found)


@dataclass(frozen=True, slots=True)
class _Piece:
    """A piece of a reading that is searched, ``first:last``; what it finds within ``start:end`` counts."""

    first: int
    start: int
    end: int
    last: int

    def kept(self, findings: Iterable[Finding]) -> Iterator[Finding]:
        """The findings that count, where they lie in the reading."""
        for f in findings:
            start, end = f.start + self.first, f.end + self.first
            if start >= self.start and end <= self.end:
                yield Finding(start, end, f.kind, f.score)


def _pieces(reading: Reading, reach: Reach | None) -> Iterator[_Piece]:
    text = reading.view.text
    size = len(text)
    if reach is None or reading.base is None or any(sign in text for sign in _BLOCKS):
        yield _Piece(0, 0, size, size)
        return
    for start, end in _near(text, reading.changed, reach):
        first, last = max(0, start - reach.context), min(size, end + reach.context)
        yield _Piece(first, start if first else 0, end if last < size else size, last)


def _near(text: str, changed: Iterable[tuple[int, int]], reach: Reach) -> Iterator[tuple[int, int]]:
    """The pieces of a text that values which touch its changed places lie in, from one blank to another."""
    size, around, apart = len(text), reach.value, 2 * reach.context
    low = high = -1

    def last(at: int) -> int:
        blank = _BLANK.search(text, at)
        return blank.start() if blank else size

    for n, (start, end) in enumerate(changed):
        if n % _MANY == 0:
            checkpoint()
        first, after = max(0, start - around), min(size, end + around)
        if high >= 0 and first > high + apart:
            closed = last(high)
            if first > closed + apart:
                first = max(text.rfind(blank, closed, first) for blank in _BLANKS) + 1
            if first > closed + apart:
                yield low, closed
                low, high = first, after
                continue
            high = closed
        if high < 0:
            low = max(text.rfind(blank, 0, first) for blank in _BLANKS) + 1
        high = max(high, after)
    if high >= 0:
        yield low, last(high)


def find_at_last(
    text: str | Readings,
    find: Callable[[str], tuple[Finding, ...]],
    between: Callable[[], None] = lambda: None,
    *,
    around: int | None = None,
) -> tuple[Finding, ...]:
    """What `find`, which is costly, finds in the text and in what it reads as when all escapes are undone.

    Of the latter only what lies within so many characters `around` an escape is looked at; with None, all of it. Of
    the reading with doubtful escapes, only what lies so near the places where it isn't the other. The findings are
    given as they are.

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
        view = reading.view
        changed = view.altered()
        if reading.doubtful and False in last:
            changed = iter([_middle(view.text, last[False].view.text)])
        for start, end in [(0, len(view.text))] if around is None else _spans(view.text, changed, around):
            between()
            moved = (
                Finding(f.start + start, f.end + start, f.kind, f.score) for f in find(view.text[start:end])
            )
            found += original_spans(view, moved)
    return tuple(found)


def _spans(text: str, changed: Iterable[tuple[int, int]], around: int) -> Iterator[tuple[int, int]]:
    """The pieces of a text within `around` characters of its changed places."""
    low = high = 0
    for start, end in changed:
        if start - around > high:
            if high:
                yield low, high
            low = max(0, start - around)
        high = min(len(text), end + around)
    if high:
        yield low, high


def _middle(text: str, other: str) -> tuple[int, int]:
    """Where a text differs from another, from the first place to the last."""
    head = _alike(text, other)
    return head, len(text) - _alike(text[head:][::-1], other[head:][::-1])


def _alike(text: str, other: str) -> int:
    """How many characters two texts begin with alike."""
    low, high = 0, min(len(text), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if text[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


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
