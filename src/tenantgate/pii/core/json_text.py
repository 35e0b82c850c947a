"""JSON inside a text: where its words lie, how deep, and what may be put in their place so that it stays JSON.

A text is cut into cells. Prose is a cell of depth 0; what stands between two quotes of JSON has depth 1, or, where it
holds JSON itself, cells of depth 2, and so on. JSON that breaks off, as in a stream or in a log that was cut, is read
as far as it goes. One pass over the tokens of each depth, so linear in the text.
"""

from __future__ import annotations

import enum
import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from tenantgate.pii.core.escapes import json_escapes
from tenantgate.pii.core.text_view import Unit, View

__all__ = ["Cell", "CellKind", "Cells", "cells", "quoted"]

_DEPTH: Final = 8
_HINT: Final = re.compile(r'[{\["]')
_OPENING: Final = re.compile(r"[{\[]")
_TOKEN: Final = re.compile(
    r'[ \t\r\n]*+(?P<lexeme>"(?:[^"\\\x00-\x1f]++|\\[^\x00-\x1f])*+(?P<quote>"|)|[{}\[\],:]|[^\s"{}\[\],:]++)'
)
_SCALAR: Final = re.compile(r"-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][+-]?[0-9]++)?|true|false|null")
_WHOLE: Final = re.compile(r'[ \t\r\n]*+"((?:[^"\\\x00-\x1f]++|\\[^\x00-\x1f])*+)"[ \t\r\n]*+')
_ESCAPED: Final = {
    '"': '\\"',
    "\\": "\\\\",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\b": "\\b",
    "\f": "\\f",
    **{chr(i): f"\\u{i:04x}" for i in range(32) if chr(i) not in "\n\r\t\b\f"},
}
_TO_ESCAPE: Final = re.compile(r'["\\\x00-\x1f]')


class CellKind(enum.Enum):
    """What a cell is."""

    TEXT = "text"  # prose, or what stands between two quotes
    SCALAR = "scalar"  # a number, or true, false, null
    STRUCTURE = "structure"  # brackets, commas, colons, quotes


@dataclass(frozen=True, slots=True)
class Cell:
    """A piece of a text.

    Attributes:
        start, end: where it lies in the text.
        kind: what it is.
        depth: in how many levels of quotes it stands.
        view: the text without the escapes of these levels; of which this is a piece.
    """

    start: int
    end: int
    kind: CellKind
    depth: int
    view: View = field(repr=False)


@dataclass(frozen=True, slots=True)
class Cells:
    """The cells of a text, in order; together they are all of it."""

    all: tuple[Cell, ...]
    ends: Sequence[int]

    def within(self, start: int, end: int) -> Iterator[Cell]:
        """The cells that ``start:end`` touches."""
        for i in range(bisect_right(self.ends, start), len(self.all)):
            cell = self.all[i]
            if cell.start >= end:
                return
            yield cell


def cells(text: str) -> Cells:
    """The cells of the text."""
    found = tuple(_cells(View(text), 0, 0, len(text)))
    return Cells(found, [cell.end for cell in found])


def quoted(text: str, depth: int) -> str:
    """The text as it is written between quotes of JSON, `depth` levels of them."""
    for _ in range(depth):
        text = _TO_ESCAPE.sub(lambda m: _ESCAPED[m.group()], text)
    return text


def _cells(view: View, depth: int, start: int, end: int) -> Iterator[Cell]:
    """The cells of a view, which stands for ``start:end`` of the original."""
    text = view.text

    def place(at: int) -> int:
        return start if at == 0 else end if at == len(text) else view.span(at, at + 1)[0]

    for a, b, kind in _pieces(text):
        low, high = place(a), place(b)
        if kind is not _Piece.QUOTED:
            yield Cell(low, high, _KINDS[kind], depth, view)
            continue
        inner = View.of(view, _between(text, a, b))
        if depth + 1 < _DEPTH and _HINT.search(inner.text):
            yield from _cells(inner, depth + 1, low, high)
        elif b > a:
            yield Cell(low, high, CellKind.TEXT, depth + 1, inner)


def _between(text: str, start: int, end: int) -> Iterator[Unit]:
    """``start:end`` of the text without JSON's escapes, and nothing else of it."""
    if start:
        yield 0, start, ""
    for a, b, plain in json_escapes(text[start:end]):
        yield start + a, start + b, plain
    if end < len(text):
        yield end, len(text), ""


class _Piece(enum.Enum):
    PROSE = "prose"
    STRUCTURE = "structure"
    SCALAR = "scalar"
    QUOTED = "quoted"  # without the quotes


_KINDS: Final = {
    _Piece.PROSE: CellKind.TEXT,
    _Piece.STRUCTURE: CellKind.STRUCTURE,
    _Piece.SCALAR: CellKind.SCALAR,
}


def _pieces(text: str) -> Iterator[tuple[int, int, _Piece]]:
    """The text cut into prose and the tokens of the JSON in it."""
    if (whole := _WHOLE.fullmatch(text)) is not None:
        marks = [(*whole.span(1), _Piece.QUOTED)]
        structure = [(0, len(text))]
    else:
        marks, structure = _scan(text)
    at, inside = 0, iter(structure)
    low, high = next(inside, (len(text), len(text)))

    def filler(start: int, end: int) -> Iterator[tuple[int, int, _Piece]]:
        nonlocal low, high
        while start < end:
            if high <= start:
                low, high = next(inside, (len(text), len(text)))
                continue
            kind, stop = (_Piece.PROSE, low) if start < low else (_Piece.STRUCTURE, high)
            yield start, min(stop, end), kind
            start = min(stop, end)

    for start, end, kind in marks:
        yield from filler(at, start)
        yield start, end, kind
        at = end
    yield from filler(at, len(text))


class _Want(enum.Enum):
    """What may come next inside JSON."""

    VALUE = "value"
    FIRST = "first"  # a value, or the end of a list
    KEY = "key"
    FIRST_KEY = "first key"
    COLON = "colon"
    COMMA = "comma"


_VALUES: Final = (_Want.VALUE, _Want.FIRST)
_NAMES: Final = (_Want.KEY, _Want.FIRST_KEY)
_QUOTABLE: Final = (*_VALUES, *_NAMES)
_ENDS: Final = (
    (["["], "]", _Want.FIRST),
    (["["], "]", _Want.COMMA),
    (["{"], "}", _Want.FIRST_KEY),
    (["{"], "}", _Want.COMMA),
)


def _scan(text: str) -> tuple[list[tuple[int, int, _Piece]], list[tuple[int, int]]]:
    """The quoted texts and scalars of all JSON in the text, and where whole values of JSON lie.

    Scalars count only in a value that is whole: "[1 of 2]" has none.
    """
    marks: list[tuple[int, int, _Piece]] = []
    structure: list[tuple[int, int]] = []
    at = 0
    while (opening := _OPENING.search(text, at)) is not None:
        first = len(marks)
        at, whole = _value(text, opening.start(), marks)
        if whole:
            structure.append((opening.start(), at))
        else:
            marks[first:] = [m for m in marks[first:] if m[2] is _Piece.QUOTED]
    return marks, structure


def _value(text: str, start: int, marks: list[tuple[int, int, _Piece]]) -> tuple[int, bool]:
    """The list or object that begins at `start`: where it ends, or where it stops being one, and which of the two."""
    stack: list[str] = []
    want, at = _Want.VALUE, start
    while (match := _TOKEN.match(text, at)) is not None:
        lexeme, begin = match["lexeme"], match.start("lexeme")
        at = match.end()
        if lexeme[0] in "{[" and want in _VALUES:
            stack.append(lexeme)
            want = _Want.FIRST if lexeme == "[" else _Want.FIRST_KEY
            continue
        if lexeme[0] == '"' and not match["quote"] and at == len(text) and want in _QUOTABLE:
            marks.append((begin + 1, at, _Piece.QUOTED))  # cut off within
            return at, False
        if match["quote"] and want in _QUOTABLE:
            marks.append((begin + 1, at - 1, _Piece.QUOTED))
            want = _Want.COLON if want in _NAMES else _Want.COMMA
        elif (stack[-1:], lexeme, want) in _ENDS:
            stack.pop()
            want = _Want.COMMA
        elif lexeme == ":" and want is _Want.COLON:
            want = _Want.VALUE
        elif lexeme == "," and want is _Want.COMMA:
            want = _Want.VALUE if stack[-1] == "[" else _Want.KEY
        elif want in _VALUES and _SCALAR.fullmatch(lexeme):
            marks.append((begin, at, _Piece.SCALAR))
            want = _Want.COMMA
        else:
            # A bracket may begin another value.
            return (begin if lexeme[0] in "{[" else at), False
        if not stack:
            return at, True
    return len(text), False
