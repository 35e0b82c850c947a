"""What of a JSON value that is no chat is read: arguments of tools and their results.

Two texts, since detectors of forms need what detectors of wording mustn't have: a member's name tells what its value
is (``password``), and nobody says it. Most values have no findings, so where the texts stand is worked out only for
those that have some.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, overload

from tenantgate.guard.core.binary import is_noise
from tenantgate.guard.core.passages import NAME, Passage, Path, Piece, Run, UnreadableError, without_files
from tenantgate.pii.core import without_surrogates

__all__ = ["is_empty", "of_value", "said_in"]

_DEPTH: Final = 128
_SMALL: Final = 10**5  # numbers below are nobody's
_MEMBER: Final = re.compile(r"[A-Za-z0-9_.:/-]{1,40}")  # a name that says nothing
_OPAQUE: Final = 200  # characters from which on a text may be a sealed value
_LONG: Final = 1000  # characters of a text in which a file may stand
_WORDS: Final = 3  # and fewer say nothing to a model
_WORD: Final = re.compile(r"[^\W\d_]{2,}+")
_UNSPACED: Final = re.compile(
    "[\u0e00-\u0eff\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]"
)  # of scripts without spaces
_SENTENCE: Final = 40  # characters: what is longer may be words in some code
_EMPTY: Final = 12  # letters and digits, with which nobody tells a model to do something

_BREAK: Final = "\n"

Take = Callable[[str, str, Path], None]
"""Takes what stands before a text, the text, and its path."""


def of_value(value: Any) -> Passage:
    """All texts and long numbers of a JSON value, each after its member's name; paths begin there.

    Raises:
        UnreadableError: the value is nested too deeply.
    """
    made = _Texts()
    _walk(value, (), _BREAK, made.add, named=True)
    return made.passage(made.at)


def said_in(value: Any) -> Passage:
    """What somebody may have said in a JSON value: no plain names of members, as columns of a table have, no numbers.

    Sentences come first, then what is too short to be one (`Passage.sentences`); paths begin at the value.

    Raises:
        UnreadableError: the value is nested too deeply.
    """
    made = _Texts()
    rest: list[tuple[str, Path]] = []

    def take(_before: str, text: str, path: Path) -> None:
        if len(text) > _SENTENCE or _says(text):
            made.add(_BREAK, text, path)
        else:
            rest.append((text, path))

    _walk(value, (), _BREAK, take, named=False)
    sentences = made.at
    for text, path in rest:
        made.add(_BREAK, text, path)
    return made.passage(sentences)


def is_empty(text: str) -> bool:
    """Whether a text is so short that nothing can be said in it."""
    if len(text) > _EMPTY * 12:
        return False
    return sum(1 if c.isascii() else 3 for c in text if c.isalnum()) < _EMPTY


def _says(text: str) -> bool:
    """Whether a text has as many words as it takes to say something."""
    left = _WORDS
    for word in _WORD.findall(text):
        left -= 1 if word.isascii() or not _UNSPACED.search(word) else max(1, len(word) // 2)
        if left <= 0:
            return True
    return False


def _walk(value: Any, path: Path, before: str, take: Take, *, named: bool) -> None:
    """Give `take` the texts in `value`; `named`: with all names of members, and long numbers."""
    if isinstance(value, Mapping):
        _check(path)
        for name, inner in value.items():
            if named or _MEMBER.fullmatch(name) is None:
                _walk(name, (*path, NAME, name), _BREAK, take, named=named)
            after = ": " if name and not isinstance(inner, Mapping | list) else _BREAK
            _walk(inner, (*path, name), after, take, named=named)
    elif isinstance(value, list):
        _check(path)
        for i, item in enumerate(value):
            _walk(item, (*path, i), _BREAK, take, named=named)
    elif text := _read(value, named=named):
        take(before, text, path)


def _read(value: Any, *, named: bool) -> str:
    """What of a value that holds no others is read; nothing where it says nothing."""
    if isinstance(value, str):
        return value if named or len(value) <= _OPAQUE or not is_noise(value) else ""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return json.dumps(value) if named and is_number and abs(value) >= _SMALL else ""


def _check(path: Path) -> None:
    if len(path) > _DEPTH:
        raise UnreadableError("value: nested too deeply")


class _Texts:
    """Texts of a passage, one after the other."""

    def __init__(self) -> None:
        self.at = 0
        self._parts: list[str] = []
        self._places: list[tuple[int, str, Path]] = []

    def add(self, before: str, text: str, path: Path) -> None:
        """Add a text; without the bytes of files in it."""
        text = without_surrogates(text)
        kept = "".join(piece for _, piece in without_files(text)) if len(text) >= _LONG else text
        if self._parts:
            self._parts.append(before)
            self.at += len(before)
        self._places.append((self.at, text, path))
        self._parts.append(kept)
        self.at += len(kept)

    def passage(self, sentences: int) -> Passage:
        """All of them. `sentences`: where they end."""
        text = "".join(self._parts)
        return Passage(text, _Runs(self._places), len(text), len(text), sentences)


class _Runs(Sequence[Run]):
    """The runs of texts at these places, made when somebody asks for them."""

    def __init__(self, places: Sequence[tuple[int, str, Path]]) -> None:
        self._places = places
        self._made: tuple[Run, ...] | None = None

    def _all(self) -> tuple[Run, ...]:
        if self._made is None:
            self._made = tuple(map(_run, self._places))
        return self._made

    @overload
    def __getitem__(self, index: int) -> Run: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Run]: ...
    def __getitem__(self, index: int | slice) -> Run | Sequence[Run]:
        return self._all()[index]

    def __iter__(self) -> Iterator[Run]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._places)


def _run(place: tuple[int, str, Path]) -> Run:
    start, text, path = place
    at, pieces = start, []
    for offset, piece in without_files(text):
        pieces.append(Piece(at, at + len(piece), path, offset))
        at += len(piece)
    return Run(start, at, tuple(pieces))
