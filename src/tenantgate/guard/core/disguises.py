"""Other readings of a text that only instructions in disguise need: spelled out, turned round, shifted, in figures, Morse.

Escapes and encodings that hide anything are undone for all detectors elsewhere. A disguise is read only where it
shows the beginnings of words that an attack needs (`tenantgate.guard.core.concepts.TRIGGERS`), so honest texts cost one look.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np

from tenantgate.guard.core.concepts import TRIGGERS
from tenantgate.guard.core.lexical import SIGN, Folded, Lexicon, entries_of

__all__ = ["Disguise", "disguises"]


@dataclass(frozen=True, slots=True)
class Disguise:
    """A disguised part of a text.

    Attributes:
        start, end: where it is.
        plain: what it says.
    """

    start: int
    end: int
    plain: str


_ALPHABET: Final = "abcdefghijklmnopqrstuvwxyz"
_STEMS: Final = (
    "ignor",
    "disregard",
    "forget",
    "previous",
    "prior",
    "above",
    "instruct",
    "prompt",
    "system",
    "reveal",
    "password",
    "secret",
    "developer",
    "restrict",
    "unrestrict",
    "pretend",
    "overrid",
    "bypass",
    "guideline",
    "jailbreak",
    "rules",
    "filter",
    "output",
    "print",
    "conversation",
    "everything",
    "message",
)
_LEAST: Final = 5  # letters of words that give a disguise away
_AROUND: Final = 600  # characters on either side of what gave a disguise away that are read with it
_MOST: Final = 4000  # characters of one disguise
_SPELLED: Final = re.compile(r"(?<![^\W_])(?:[^\W_][\W_]{1,4}+(?=[^\W_](?![^\W_]))){4,2000}+[^\W_]")
_GAP: Final = re.compile(r"[\W_]{1,4}+")
_GLUED: Final = re.compile(r"(?<![A-Za-z])[A-Za-z]{18,400}+")
_GLUED_LEAST: Final = 18  # letters, as above
_STEM_IN: Final = re.compile("|".join(sorted(_STEMS, key=len, reverse=True)), re.IGNORECASE)
_SMALL: Final = re.compile(r"(?<=[a-z]{3})(?:all|and|the|your|from|without)(?=[a-z]{3})", re.IGNORECASE)
_MORSE: Final = re.compile(r"[.\-/ _|\n]{20,20000}+")
_MORSE_CODE: Final = dict(
    zip(
        ".- -... -.-. -.. . ..-. --. .... .. .--- -.- .-.. -- -. --- .--. --.- .-. ... - ..- ...- .-- -..- -.-- --..".split(),
        _ALPHABET,
        strict=True,
    )
)
# What figures and signs stand for among letters; "1", "!" and "|" are an i or an l.
_FIGURES: Final = {
    "0": "o",
    "3": "e",
    "4": "a",
    "@": "a",
    "5": "s",
    "$": "s",
    "7": "t",
    "+": "t",
    "8": "b",
    "9": "g",
    "6": "g",
    "2": "z",
}
_LEET: Final = tuple(str.maketrans(_FIGURES | dict.fromkeys("1!|", letter)) for letter in "il")
_LEET_WORD: Final = re.compile(r"(?<![A-Za-z0-9@$!|+])[A-Za-z]{0,20}+[0-9@$!|+][A-Za-z0-9@$!|+]{1,30}+")
_FIGURE: Final = re.compile(r"[0-9@$!|+](?:(?<=[a-z].)|(?=[a-z]))")
_APOSTROPHE: Final = re.compile("'")
_UPSIDE_DOWN: Final = dict(zip("ɐqɔpǝɟƃɓɥᴉıɾʞןɯuodbɹsʇnʌʍxʎz", "abcdefgghiijklmnopqrstuvwxyz", strict=True))
_UPRIGHT: Final = str.maketrans(dict[str, str | int | None](_UPSIDE_DOWN))
_ODD: Final = frozenset(c for c in _UPSIDE_DOWN if not c.isascii())


def disguises(text: str, folded: Folded) -> Iterator[Disguise]:
    """Each disguised part of `text`, which is `folded`. A part has at most a few thousand characters."""
    if _letters_alone(folded):
        yield from _spelled(text)
    if (folded.ends - folded.begins >= _GLUED_LEAST).any():
        yield from _glued(text)
    yield from _turned(text, folded)
    if _figures_in_words(folded):
        yield from _in_figures(text)
    if text.count(".") + text.count("-") > 20:
        yield from _morse(text)


_LETTERS: Final = bytes(kind not in (0, SIGN) for kind in range(256))
_ALONE: Final = re.compile(rb"(?<!\x01)\x01(?:\x00++\x01(?!\x01)){3}")


def _letters_alone(folded: Folded) -> bool:
    """Whether so many letters in a row stand alone that `_SPELLED` may match."""
    letters = folded.kinds.tobytes().translate(_LETTERS)
    if "'" in folded.text:
        parts = bytearray(letters)
        for at in [m.start() for m in _APOSTROPHE.finditer(folded.text)]:
            parts[at] = 0
        letters = bytes(parts)
    return _ALONE.search(letters) is not None


def _figures_in_words(folded: Folded) -> bool:
    """Whether a figure or sign that may stand for a letter stands beside one, so that `_LEET_WORD` may match."""
    return _FIGURE.search(folded.text) is not None


def _around(text: str, first: int, last: int) -> tuple[int, int]:
    start = max(0, first - _AROUND)
    return start, min(len(text), last + _AROUND, start + _MOST)


def _spelled(text: str) -> Iterator[Disguise]:
    """Letters one by one: with wider gaps between words, or words told apart by the beginnings that are known."""
    found = [m for m in _SPELLED.finditer(text) if sum(map(str.isalpha, m.group())) > _LEAST]
    if found:
        plain = "\n".join(_joined(m.group()) for m in found)
        yield Disguise(found[0].start(), found[-1].end(), plain[:_MOST])


def _joined(piece: str) -> str:
    gaps = _GAP.findall(piece)
    usual = max(set(gaps), key=gaps.count)
    if all(g == usual for g in gaps):
        return _unglued(_GAP.sub("", piece))
    return _GAP.sub(lambda g: "" if g.group() == usual else " ", piece)


def _glued(text: str) -> Iterator[Disguise]:
    """Words without spaces between them."""
    found = [m for m in _GLUED.finditer(text) if len(set(_STEM_IN.findall(m.group()))) > 1]
    if found:
        start, end = _around(text, found[0].start(), found[-1].end())
        yield Disguise(start, end, _GLUED.sub(lambda m: _unglued(m.group()), text[start:end]))


def _unglued(word: str) -> str:
    return _SMALL.sub(lambda m: f" {m.group()} ", _STEM_IN.sub(lambda m: f" {m.group()}", word)).strip()


@lru_cache(maxsize=1)
def _shifted() -> Lexicon:
    """The stems moved by 1 to 25 places in the alphabet, each a kind of its own; 0 is the alphabet turned round."""
    return Lexicon([[s.translate(_shift(n)) for s in _STEMS] for n in range(26)])


@lru_cache(maxsize=1)
def _backwards() -> Lexicon:
    """Beginnings of words that an attack needs, in all alphabets, turned round."""
    entries = (e.rstrip("_") for name in TRIGGERS for e in entries_of(name))
    turned = [e[::-1] for e in (*_STEMS, *(e for e in entries if len(e) > _LEAST)) if e.isalpha()]
    return Lexicon([turned], backwards=True)


@lru_cache(maxsize=26)
def _shift(by: int) -> dict[int, int]:
    turned = _ALPHABET[::-1] if by == 0 else _ALPHABET[by:] + _ALPHABET[:by]
    return str.maketrans(_ALPHABET + _ALPHABET.upper(), turned + turned.upper())


def _turned(text: str, folded: Folded) -> Iterator[Disguise]:
    """Letters or words from right to left, upside down, or shifted in the alphabet."""
    long = folded.ends - folded.begins >= _LEAST
    starts, ends = folded.begins[long], folded.ends[long]
    where, _ = _backwards().find(folded, ends)
    if len(where) > 1:
        start, end = _around(text, int(folded.where[where[0]]), int(folded.where[where[-1]]))
        yield Disguise(start, end, text[start:end][::-1])
        yield Disguise(start, end, re.sub(r"\w+", lambda m: m.group()[::-1], text[start:end]))
    where, kinds = _shifted().find(folded, starts)
    for by in np.flatnonzero(np.bincount(kinds, minlength=1) > 1).tolist():
        mine = where[kinds == by]
        start, end = _around(text, int(folded.where[mine[0]]), int(folded.where[mine[-1]]))
        yield Disguise(start, end, text[start:end].translate(_shift(-by % 26)))
    if not text.isascii() and sum(map(text.count, _ODD)) > 2:
        upright = text[:_MOST].lower().translate(_UPRIGHT)
        yield Disguise(0, min(len(text), _MOST), upright[::-1])


def _in_figures(text: str) -> Iterator[Disguise]:
    """Figures and signs in place of letters."""
    words = [m for m in _LEET_WORD.finditer(text) if any(c.isalpha() for c in m.group())]
    if not words:
        return
    for table in _LEET:
        telling = [m for m in words if _STEM_IN.search(m.group().translate(table))]
        if telling:
            start, end = _around(text, telling[0].start(), telling[-1].end())
            yield Disguise(
                start,
                end,
                _LEET_WORD.sub(lambda m: m.group().translate(table), text[start:end]),  # noqa: B023
            )


def _morse(text: str) -> Iterator[Disguise]:
    found = list(_MORSE.finditer(text))
    plain = []
    for match in found:
        codes = re.sub(r"[/|]", " / ", match.group()[:_MOST].replace("_", "-")).split()
        plain.append("".join(_MORSE_CODE.get(code, " ") for code in codes))
    words = " ".join(" ".join(plain).split())
    if len(words) > _LEAST:
        yield Disguise(found[0].start(), found[-1].end(), words[:_MOST])
