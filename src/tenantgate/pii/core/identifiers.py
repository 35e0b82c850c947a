"""Identifiers in a text: groups of digits and letters, read by their form, by a word nearby, and by their check.

Groups that hold digits are found in one scan; a few neighbours are put together where separators allow. Words are
looked for only if there is a group that could be something. So the time is linear in the text.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Final

from tenantgate.pii.core.finding import Finding
from tenantgate.pii.core.identifier_checks import check_of
from tenantgate.pii.core.identifier_table import IDENTIFIERS, Identifier
from tenantgate.time_left import check_time

__all__ = ["IDENTIFIER_KINDS", "digit_groups", "find_identifiers"]

IDENTIFIER_KINDS: Final = tuple(dict.fromkeys(row.kind for row in IDENTIFIERS))
"""All kinds of the table, in its order."""

_BEFORE: Final = 60  # characters before a number in which a word tells what it is
_AFTER: Final = 24
_GROUPS: Final = 8  # groups of one identifier
_LONGEST: Final = 26  # characters of one identifier, with separators
_MANY: Final = 8  # groups between two looks at the clock
_GROUP: Final = re.compile(r"[0-9][A-Za-z0-9]*+")
_GAP: Final = re.compile(r"[ ./\u00a0+-]|\. |- | - | / |[ .-][A-Z]{1,4}[ .-]|(?<=[0-9])\.[A-Z]{1,2}\.")
_HEAD: Final = re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{1,6}[ .-]?$")
_HEAD_WORDS: Final = re.compile(r"(?<![A-Za-z0-9])(?:[A-Z]{3} [A-Z]{3}|[A-Z]{1,3}-[A-Z]{1,2}|[A-Z]{1,4}) ?$")
_TAIL: Final = re.compile(r"[ .-]?[A-Za-z]{1,3}(?![A-Za-z0-9])|\([0-9A]\)")
_BESIDE: Final = (" ", "-", ".")
_BESIDE_AFTER: Final = (" ", "-", ".", "(")
_SEPARATORS: Final = re.compile(r"[^A-Z0-9Ñ&]++")
# Abbreviations that are words, too, in some language: in capitals, or said to be a number.
_ALSO_WORDS: Final = frozenset(
    "ein nie sin pan fin nit run rut cc rc kt ik tin nas uid ide cf rg cie spi nin vat iva ird nic nik taj vin acct "
    "medicare konto routing epic imss oasi moms rif cui rib niss abn acn nip nir bic gst afm inn".split()
)
_SAID: Final = re.compile(
    r"(?:'s|-nr\.?| card| code| id)? ?(?:[:#=(]|is\b|number|no\b|nr\b|num|n[º°]|ist\b|est\b|es\b|è|é\b)"
)
_WORD: Final = re.compile(r"[^\W\d_]++(?:[.'’-][^\W\d_]++)*+")


@dataclass(frozen=True, slots=True)
class _Row:
    row: Identifier
    compact: re.Pattern[str]
    written: re.Pattern[str] | None


_ROWS: Final = tuple(
    _Row(row, re.compile(row.compact), re.compile(row.written) if row.written else None)
    for row in IDENTIFIERS
)


def _lengths(pattern: re.Pattern[str]) -> range:
    """How long what an expression matches may be."""
    import re._parser as parser  # type: ignore[import-not-found]

    low, high = parser.parse(pattern.pattern, pattern.flags).getwidth()
    return range(low, min(high, _LONGEST) + 1)


def _by_length(written: bool) -> dict[int, tuple[_Row, ...]]:
    out: dict[int, list[_Row]] = defaultdict(list)
    for row in _ROWS:
        pattern = row.written if written else row.compact
        if pattern is not None and not (written and row.row.alone == 0):
            for n in _lengths(pattern):
                out[n].append(row)
    return {n: tuple(rows) for n, rows in out.items()}


_WRITTEN: Final = _by_length(written=True)
_COMPACT: Final = _by_length(written=False)
_SHORTEST: Final = min(*_WRITTEN, *_COMPACT)


@dataclass(frozen=True, slots=True)
class _Phrase:
    text: str
    rows: frozenset[int]
    open_end: bool


def _phrases() -> tuple[dict[str, list[_Phrase]], dict[str, list[_Phrase]], dict[str, list[_Phrase]]]:
    """What identifiers are called: by first word, by the beginning of a word, and in scripts without blanks."""
    rows: dict[str, set[int]] = defaultdict(set)
    for i, row in enumerate(_ROWS):
        for word in row.row.words:
            rows[word].add(i)
    whole: dict[str, list[_Phrase]] = defaultdict(list)
    begun: dict[str, list[_Phrase]] = defaultdict(list)
    inside: dict[str, list[_Phrase]] = defaultdict(list)
    for word, of in rows.items():
        text = word.rstrip("*")
        phrase = _Phrase(text, frozenset(of), word.endswith("*"))
        if not any(c.islower() for c in text):
            inside[text].append(phrase)
            continue
        first = _WORD.match(text)
        head = first.group() if first else text
        if phrase.open_end and head == text:
            begun[head[:3]].append(phrase)
        else:
            whole[head].append(phrase)
    return dict(whole), dict(begun), dict(inside)


_WHOLE, _BEGUN, _INSIDE = _phrases()


@dataclass(frozen=True, slots=True)
class _Told:
    start: int
    end: int
    rows: frozenset[int]


def digit_groups(text: str) -> list[tuple[int, int]]:
    """Where groups of ASCII letters and digits lie that hold a digit, in order."""
    out: list[tuple[int, int]] = []
    for n, m in enumerate(_GROUP.finditer(text)):
        if n % _MANY == 0:
            check_time()
        start = m.start()
        least = max(out[-1][1] if out else 0, start - 24)
        while start > least and text[start - 1].isascii() and text[start - 1].isalpha():
            start -= 1
        out.append((start, m.end()))
    return out


def find_identifiers(
    text: str, lower: str, groups: Sequence[tuple[int, int]], kinds: frozenset[str]
) -> Iterator[Finding]:
    """The identifiers among `groups`, by `digit_groups`; kinds that weren't asked for are left out.

    Raises:
        OutOfTimeError: the text is longer than there is time for (`time_left.limited`).
    """
    wanted = _wanted(kinds)
    if not wanted:
        return
    near = _windows(text, groups)
    if not near:
        return
    check_time()
    told = _told(text, lower, near, wanted)
    words = (told, [t.start for t in told])
    i = 0
    while i < len(groups):
        if i % _MANY == 0:
            check_time()
        found, used = _at(text, groups, i, words, wanted)
        if found is not None:
            yield found
        i += used


@lru_cache(maxsize=64)
def _wanted(kinds: frozenset[str]) -> frozenset[int]:
    """The rows of these kinds."""
    return frozenset(i for i, row in enumerate(_ROWS) if row.row.kind in kinds)


def _windows(text: str, groups: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Where words could tell what groups are: around those that are no number of up to three digits by itself."""
    out: list[tuple[int, int]] = []
    last = -9
    for n, (start, end) in enumerate(groups):
        if n % _MANY == 0:
            check_time()
        nxt = groups[n + 1][0] if n + 1 < len(groups) else len(text) + 9
        lonely = (
            end - start <= 3
            and start - last > 3
            and nxt - end > 3
            and text[start - 1 : start] not in "-."
            and text[end : end + 1] != "-"
        )
        last = end
        if lonely:
            continue
        low, high = max(0, start - _BEFORE - 24), min(len(text), end + _AFTER + 24)
        if out and low <= out[-1][1]:
            out[-1] = (out[-1][0], high)
        else:
            out.append((low, high))
    return out


def _told(text: str, lower: str, windows: Sequence[tuple[int, int]], wanted: frozenset[int]) -> list[_Told]:
    """Where words stand that name an identifier, in order."""
    out: list[_Told] = []
    for low, high in windows:
        for m in _WORD.finditer(lower, low, high):
            word = m.group()
            whole, begun = _WHOLE.get(word), _BEGUN.get(word[:3])
            if whole is None and begun is None:  # most words
                continue
            for phrase in (*(whole or ()), *(begun or ())):
                at = m.start()
                end = at + len(phrase.text)
                if (
                    lower.startswith(phrase.text, at)
                    and not lower[at - 1 : at].islower()
                    and (phrase.open_end or not lower[end : end + 1].islower())
                    and (phrase.text not in _ALSO_WORDS or text[at:end].isupper() or _SAID.match(lower, end))
                ):
                    out.append(_Told(at, m.end() if phrase.open_end else end, phrase.rows & wanted))
    if not lower.isascii():
        for word, phrases in _INSIDE.items():
            at = lower.find(word)
            while at >= 0:
                out += (_Told(at, at + len(word), p.rows & wanted) for p in phrases)
                at = lower.find(word, at + len(word))
        out.sort(key=lambda t: t.start)
    return [t for t in out if t.rows]


def _near(told: Sequence[_Told], starts: Sequence[int], start: int, end: int) -> dict[int, int]:
    """Which rows a word near ``start:end`` names, and how far the nearest such word is; one after counts less."""
    out: dict[int, int] = {}
    low = bisect_left(starts, start - _BEFORE - 24)
    for t in told[low : bisect_right(starts, end + _AFTER)]:
        if t.end <= start and start - t.end <= _BEFORE:
            distance = start - t.end
        elif t.start >= end:
            distance = t.start - end + _BEFORE
        else:
            continue
        for row in t.rows:
            out[row] = min(distance, out.get(row, distance))
    return out


def _at(
    text: str,
    groups: Sequence[tuple[int, int]],
    i: int,
    words: tuple[Sequence[_Told], Sequence[int]],
    wanted: frozenset[int],
) -> tuple[Finding | None, int]:
    """The identifier that begins with group `i`, the longest first, and how many groups it takes."""
    start = groups[i][0]
    last = i
    while last + 1 < len(groups) and last - i < _GROUPS - 1:
        nxt = groups[last + 1]
        if nxt[1] - start > _LONGEST or not _GAP.fullmatch(text, groups[last][1], nxt[0]):
            break
        last += 1
    if groups[last][1] - start + 8 < _SHORTEST:
        return None, 1
    near = _near(*words, start, groups[last][1]) if words[0] else {}
    for j in range(last, i - 1, -1):
        for a, b in _spans(text, start, groups[j][1]):
            if b - a < _SHORTEST or text[a - 1 : a] == "_" or text[b : b + 1] == "_":
                continue
            found = (_compact(text, a, b, near) if near else None) or _written(text, a, b, wanted)
            if found is not None:
                return found, j - i + 1
    return None, 1


def _spans(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """The groups as they are, and with letters before and after them; the longest first."""
    head = tail = None
    if text[start - 1 : start] in _BESIDE:
        low = max(0, start - 9)
        head = _HEAD_WORDS.search(text, low, start) or (
            _HEAD.search(text, low, start) if text[start - 1] != " " else None
        )
    if text[end : end + 1] in _BESIDE_AFTER:
        tail = _TAIL.match(text, end)
    if head and tail:
        yield head.start(), tail.end()
    if tail:
        yield start, tail.end()
    if head:
        yield head.start(), end
    yield start, end


def _written(text: str, start: int, end: int, wanted: frozenset[int]) -> Finding | None:
    rows = _WRITTEN.get(end - start)
    if rows is None:
        return None
    said = text[start:end]
    for row in rows:
        if row.written is None or not row.written.fullmatch(said) or _index(row) not in wanted:
            continue
        if (start and text[start - 1] in "-./" and text[start - 2 : start - 1].isalnum()) or (
            text[end : end + 1] in ("-", "/", ".") and text[end + 1 : end + 2].isalnum()
        ):
            continue
        if _passes(row, said):
            return Finding(start, end, row.row.kind, row.row.alone)
    return None


def _compact(text: str, start: int, end: int, near: dict[int, int]) -> Finding | None:
    said = text[start:end]
    compact = _SEPARATORS.sub("", said.upper())
    best: tuple[float, int, _Row] | None = None
    for row in _COMPACT.get(len(compact), ()):
        i = _index(row)
        if i not in near or not row.compact.fullmatch(compact) or not _passes(row, said):
            continue
        rank = (row.row.told, -near[i], row)
        if best is None or rank[:2] > best[:2]:
            best = rank
    return Finding(start, end, best[2].row.kind, best[0]) if best else None


@cache
def _index(row: _Row) -> int:
    return _ROWS.index(row)


def _passes(row: _Row, said: str) -> bool:
    check = check_of(row.row.check)
    compact = _SEPARATORS.sub("", said.upper())
    if row.compact.fullmatch(compact) and check(compact):
        return True
    return "." in row.row.check and check(said.upper())
