"""A text in arrays: folded letters, hashed words and pairs of words, concepts and where they stand close together.

Everything is a fixed number of passes of NumPy over the text, so a hostile text costs no more than any other of its length.

A piece of a text is hashed as ``sum(code[i] * M**i)``; the differences of one running sum give the hash of every piece
(Rabin and Karp's fingerprint, modulo 2**64), so that thousands of entries in many languages are looked up by their length.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import numpy as np

from tenantgate.guard.core.concepts import CONCEPTS, PATTERNS
from tenantgate.pii.core import normalise
from tenantgate.pii.core.finding import lower_in_place

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]
    Codes = NDArray[np.uint32]
    Hashes = NDArray[np.uint64]
    Floats = NDArray[np.float32]

__all__ = [
    "BUCKETS",
    "LONGEST",
    "PAIRS",
    "SIGN",
    "Folded",
    "Lexicon",
    "Reading",
    "concepts",
    "entries_of",
    "fold",
    "read",
]

BUCKETS: Final = 1 << 15
"""How many hashed words and pairs of words are told apart."""
LONGEST: Final = 24_000
"""Characters that `fold` takes at most."""
N: Final = len(CONCEPTS)
PAIRS: Final = N * N
"""Pairs of concepts a, b with a < b have the number a * N + b."""

_SPACE, _LETTER, _WIDE, SIGN, _JOINED = range(5)
_IN_WORDS: Final = bytes(kind in (_LETTER, _JOINED) for kind in range(256))
_TABLE: Final = 0x3100  # characters whose class is in a table
_GAPS: Final = frozenset('-_*"`~“”„«»‐‑‒–—•·\u00ad')
_SIGNS: Final = frozenset("[](){}<>:;!?#|=/\\&%$@")
_ENDING: Final = np.isin(np.arange(0x10000), [ord(c) for c in ".!?。！？؟।"])
_NEAR: Final = 60  # "letters" within which two concepts make a pair
_CLOSE: Final = 90  # … and three a pattern
_AFTER: Final = 8  # concepts that are looked at after each
_SENTENCE: Final = 14  # "letters" that the end of a sentence counts for
_M: Final = 0x9E3779B97F4A7C15
_MIX: Final = np.uint64(0xD6E8FEB86659FD93)
_SHIFT: Final = np.uint64(32)
_SLOTS: Final = 1 << 17
_SLOT: Final = np.uint64(_SLOTS - 1)
_TIERS: Final = (3, 6)
_PLACES: Final = 4096  # that are looked at at a time, at all lengths of entries
_FEW: Final = 500  # places; up to so many, one look after the other takes less time than NumPy's calls


@lru_cache(maxsize=1)
def _tables() -> tuple[Codes, NDArray[np.int8], Hashes, Hashes]:
    """Folded character and class of each character below `_TABLE`; the powers of M and of its inverse."""
    letters = np.arange(_TABLE, dtype=np.uint32)
    kind = np.zeros(_TABLE, np.int8)
    for code in range(_TABLE):
        char = chr(code)
        plain = unicodedata.normalize("NFKD", char)[:1] if code < 0x250 or 0x370 <= code < 0x700 else char
        plain = {
            "ı": "i",
            "ł": "l",
            "ø": "o",
            "đ": "d",
            "ß": "s",
            "æ": "a",
            "ё": "е",
            "й": "й",
            "ة": "ه",
            "ى": "ي",
            "’": "'",
            "‘": "'",
        }.get(char, plain)
        category = unicodedata.category(char)[0]
        if char in _GAPS or category in "ZC":
            plain = " "
        elif category in "LNM" or char == "'":
            kind[code] = _LETTER
        else:
            kind[code] = SIGN
        if category in "LM" and (0x0E00 <= code < 0x1100 or 0x1780 <= code < 0x1800 or code >= 0x3040):
            kind[code] = _WIDE
        elif category in "LM" and 0x0590 <= code < 0x0780:
            kind[code] = _JOINED
        letters[code] = ord(plain)
    powers = np.full(LONGEST + 1, _M, np.uint64)
    powers[0] = 1
    inverse = np.full(LONGEST + 1, pow(_M, -1, 1 << 64), np.uint64)
    inverse[0] = 1
    return letters, kind, np.multiply.accumulate(powers), np.multiply.accumulate(inverse)


def _mixed(hashes: Hashes) -> Hashes:
    out: Hashes = (hashes ^ (hashes >> _SHIFT)) * _MIX
    return out ^ (out >> _SHIFT)


@dataclass(frozen=True, slots=True)
class Reading:
    """A text in arrays.

    Attributes:
        where: for each folded character its place in the text.
        starts, ends: the words, single signs, and single characters of scripts without spaces, in folded characters.
        words: a hash below `BUCKETS` for each word; then one for each pair of neighbours, and of next but one.
        at: for each concept found its place, in folded characters, rising.
        found: the concepts.
        pairs: numbers of pairs of concepts that stand close together.
        pairs_at: the places of their first.
        patterns: numbers of `PATTERNS` that were found.
        patterns_at: their places.
    """

    where: Ints
    starts: Ints
    ends: Ints
    words: Ints
    at: Ints
    found: Ints
    pairs: Ints
    pairs_at: Ints
    patterns: Ints
    patterns_at: Ints


@dataclass(frozen=True, slots=True)
class Folded:
    """A text without case, accents and runs of white space.

    Attributes:
        text: its characters.
        codes: the same as numbers.
        kinds: their classes.
        where: their places in the text.
        letters: how many letters' width there is up to each.
        sums: the running sum of the hash, one longer.
        in_words: for each character whether it is a letter of a word of an alphabet with spaces, 1 or 0.
        begins, ends: where such words begin, and after which character they end.
    """

    text: str
    codes: Codes
    kinds: NDArray[np.int8]
    where: Ints
    letters: Floats
    sums: Hashes
    in_words: bytes
    begins: Ints
    ends: Ints

    @classmethod
    def of(cls, text: str, codes: Codes, kinds: NDArray[np.int8], where: Ints, letters: Floats) -> Folded:
        """With what follows from the characters and their classes."""
        n = len(codes)
        sums = np.zeros(n + 1, np.uint64)
        np.multiply(codes, _tables()[2][:n], out=sums[1:])
        np.cumsum(sums, out=sums)
        in_words = kinds.tobytes().translate(_IN_WORDS)
        word = np.frombuffer(b"".join((b"\0", in_words, b"\0")), np.uint8)
        edges = (word[1:] != word[:-1]).nonzero()[0]  # a word's begin and end in turn
        return cls(text, codes, kinds, where, letters, sums, in_words, edges[::2], edges[1::2])

    def hashes(self, starts: Ints, length: int | Ints) -> Hashes:
        """Of the pieces of this length, or these lengths, that begin at `starts`."""
        out: Hashes = (self.sums[starts + length] - self.sums[starts]) * _tables()[3][starts]
        return _mixed(out)

    def inside(self, places: Ints) -> NDArray[np.bool_]:
        """Whether a word goes on at each place."""
        within = (places > 0) & (places < len(self.kinds))
        after = self.kinds[np.where(within, places, 0)]
        before = self.kinds[np.where(within, places - 1, 0)]
        letters = (after == _LETTER) | (after == _JOINED)
        found: NDArray[np.bool_] = within & letters & ((before == _LETTER) | (before == _JOINED))
        return found


def fold(text: str) -> Folded:
    """`text`, as it reads (`tenantgate.pii.core.normalise`); of one longer than `LONGEST` the beginning."""
    lower = lower_in_place(text[:LONGEST])
    return _fold_ascii(lower) if lower.isascii() else _fold(lower)


def _fold(lower: str) -> Folded:
    letter, kind = _tables()[:2]
    raw = np.frombuffer(lower.encode("utf-32-le", "surrogatepass"), np.uint32)
    low = raw < _TABLE
    index = np.where(low, raw, 0)
    codes = np.where(low, letter[index], raw)
    high = np.where(
        (raw < 0xA4D0) | (raw >= 0x20000), _WIDE, np.where((raw >= 0xAC00) & (raw < 0xD7B0), _JOINED, _LETTER)
    )
    high = np.where((raw >= 0x1F000) & (raw < 0x20000), SIGN, high)
    kinds = np.where(low, kind[index], high).astype(np.int8)
    space = codes == 32
    kinds[space] = _SPACE
    ends = _ENDING[np.minimum(raw, 0xFFFF)]
    lines = raw == 10
    weight = np.where(kinds == _WIDE, 2.2, 1.0) + lines * 3.0
    weight[1:] += (ends[:-1] & space[1:]) * float(_SENTENCE) + (lines[:-1] & lines[1:]) * float(_SENTENCE)
    keep = np.ones(len(codes), bool)
    keep[1:] = ~(space[1:] & space[:-1])
    letters = np.cumsum(weight)[keep].astype(np.float32)
    codes, kinds = codes[keep], kinds[keep]
    plain = codes.tobytes().decode("utf-32-le", "surrogatepass")
    return Folded.of(plain, codes, kinds, np.flatnonzero(keep), letters)


_ASCII_END: Final = re.compile(rb"(?<=[.!?]) ")
_EMPTY_LINE: Final = re.compile(rb"(?<=\n)\n")
_SPACES: Final = re.compile(rb" ++")


@lru_cache(maxsize=1)
def _ascii_tables() -> tuple[bytes, bytes]:
    """Folded character and class of each ASCII character, as `bytes.translate` takes them."""
    letters, kind = (table[:128].tolist() + [0] * 128 for table in _tables()[:2])
    return bytes(letters), bytes(_SPACE if a == 32 else k for a, k in zip(letters, kind, strict=True))


def _fold_ascii(lower: str) -> Folded:
    """As `_fold` does it, in fewer steps: nothing here is wide."""
    raw = lower.encode("ascii")
    of_codes, of_kinds = _ascii_tables()
    plain = raw.translate(of_codes)
    codes = np.frombuffer(plain, np.uint8).astype(np.uint32)
    kinds = np.frombuffer(raw.translate(of_kinds), np.int8)
    weight = np.ones(len(raw))
    weight[[m.start() for m in _ASCII_END.finditer(plain)]] += _SENTENCE
    if b"\n" in raw:
        weight += (np.frombuffer(raw, np.uint8) == 10) * 3.0
        weight[[m.start() for m in _EMPTY_LINE.finditer(raw)]] += _SENTENCE
    letters = np.cumsum(weight).astype(np.float32)
    if b"  " not in plain:
        return Folded.of(plain.decode("ascii"), codes, kinds, np.arange(len(raw)), letters)
    space = codes == 32
    keep = np.ones(len(codes), bool)
    keep[1:] = ~(space[1:] & space[:-1])
    letters = letters[keep]
    text = _SPACES.sub(b" ", plain).decode("ascii")
    return Folded.of(text, codes[keep], kinds[keep], np.flatnonzero(keep), letters)


class Lexicon:
    """Entries of several kinds, looked up at places of a text: one by one where these are few, else all at once.

    Args:
        entries: for each kind, at most 64, its entries as in `tenantgate.guard.core.concepts`.
        backwards: entries are looked for where they end, not where they begin.
    """

    def __init__(self, entries: Iterable[Iterable[str]], *, backwards: bool = False) -> None:
        self._backwards = backwards
        masks: dict[tuple[int, int], list[int]] = defaultdict(lambda: [0, 0])
        stems = []
        kinds: dict[str, tuple[set[int], set[int]]] = {}
        for number, of_kind in enumerate(entries):
            for entry in of_kind:
                stem = fold(normalise(entry.rstrip("_")).text)
                size = len(stem.codes)
                key = int(stem.hashes(np.zeros(1, np.int64), size)[0])
                stems.append(stem)
                of_entry = kinds.setdefault(stem.text[::-1] if backwards else stem.text, (set(), set()))
                of_entry[entry.endswith("_")].add(number)
                masks[key, size][entry.endswith("_")] |= 1 << number
        self._shortest = min(map(len, kinds))
        # How an entry may begin; those that are entries with their kinds, as beginnings of words and as whole words.
        self._known: dict[str, tuple[tuple[int, ...], tuple[int, ...]] | tuple[()]] = {
            stem[:length]: () for stem in kinds for length in range(self._shortest, len(stem))
        }
        self._known |= {stem: (tuple(begun), tuple(whole)) for stem, (begun, whole) in kinds.items()}
        ordered = sorted(masks)
        self._keys = np.array([key for key, _ in ordered], np.uint64)
        self._sizes = np.array([size for _, size in ordered], np.int64)
        self._masks = np.array([masks[k] for k in ordered], np.uint64)  # of its beginnings, of whole words
        self._maybe = _marked(self._keys)
        # Longer entries are looked up only where the beginning (or the end) of one is.
        self._tiers: list[tuple[Ints, NDArray[np.bool_] | None, int]] = []
        lengths, begin = np.unique(self._sizes), 0
        for most in (*_TIERS, int(lengths.max(initial=0))):
            tier = lengths[(lengths > begin) & (lengths <= most)]
            longer = [s for s in stems if begin and len(s.codes) > begin]
            edges = [np.full(1, len(s.codes) - begin if backwards else 0) for s in longer]
            known = np.array([s.hashes(e, begin)[0] for s, e in zip(longer, edges, strict=True)], np.uint64)
            self._tiers.append((tier, _marked(known) if begin else None, begin))
            begin = most

    def find(self, text: Folded, places: Ints) -> tuple[Ints, Ints]:
        """Where entries begin that begin (or, looking backwards, end) at one of `places`, and their kinds; by place."""
        return self._find_few(text, places) if len(places) <= _FEW else self._find_many(text, places)

    def _find_few(self, text: Folded, places: Ints) -> tuple[Ints, Ints]:
        said = text.text[::-1] if self._backwards else text.text
        size, known, shortest = len(said), self._known.get, self._shortest
        found: set[tuple[int, int]] = set()
        for place in (size - places if self._backwards else places).tolist():
            end = place + shortest
            while end <= size and (entry := known(said[place:end])) is not None:
                if entry:
                    begun, whole = entry
                    first, last = (size - end, size - place) if self._backwards else (place, end)
                    found.update([(first, kind) for kind in begun])
                    if whole and not (_inside(text.in_words, first) or _inside(text.in_words, last)):
                        found.update([(first, kind) for kind in whole])
                end += 1
        if not found:
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        where, kind = np.array(sorted(found), np.int64).T
        return where, kind

    def _find_many(self, text: Folded, places: Ints) -> tuple[Ints, Ints]:
        found = [self._at(text, places[i : i + _PLACES]) for i in range(0, len(places), _PLACES)]
        if not found:
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        where, mask = (np.concatenate(part) for part in zip(*found, strict=True))
        bits = np.unpackbits(mask.astype("<u8").view(np.uint8).reshape(-1, 8), axis=1, bitorder="little")
        row, kind = np.nonzero(bits)
        once = np.sort(where[row] * 64 + kind)
        once = once[np.append(True, once[1:] != once[:-1])[: len(once)]]
        return once // 64, once % 64

    def _at(self, text: Folded, places: Ints) -> tuple[Ints, Hashes]:
        all_starts, all_slots = [], []
        for lengths, gate, begin in self._tiers:
            if gate is not None:
                first = places - begin if self._backwards else places
                fits = (first >= 0) & (first + begin <= len(text.codes))
                places, first = places[fits], first[fits]
                places = places[gate[(text.hashes(first, begin) & _SLOT).astype(np.int64)]]
            starts, slots = self._of_lengths(text, places, lengths)
            all_starts.append(starts)
            all_slots.append(slots)
        starts, slots = np.concatenate(all_starts), np.concatenate(all_slots)
        alone = ~text.inside(starts + self._sizes[slots]) & ~text.inside(starts)
        mask = self._masks[slots, 0] | np.where(alone, self._masks[slots, 1], np.uint64(0))
        return starts[mask != 0], mask[mask != 0]

    def _of_lengths(self, text: Folded, places: Ints, lengths: Ints) -> tuple[Ints, Ints]:
        """Where entries of these lengths are, and their numbers."""
        if not len(places) or not len(lengths):
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        n = len(text.codes)
        sums, inverse = text.sums, _tables()[3]
        if self._backwards:
            ends, starts = places[:, None], np.maximum(places[:, None] - lengths, 0)
        else:
            starts, ends = places[:, None], np.minimum(places[:, None] + lengths, n)
        hashes = _mixed((sums[ends] - sums[starts]) * inverse[starts])
        row, column = np.nonzero(self._maybe[(hashes & _SLOT).view(np.int64)])
        hashes, sizes = hashes[row, column], lengths[column]
        starts = places[row] - sizes if self._backwards else places[row]
        slots = np.minimum(np.searchsorted(self._keys, hashes), len(self._keys) - 1)
        same = (
            (self._keys[slots] == hashes)
            & (self._sizes[slots] == sizes)
            & (starts >= 0)
            & (starts + sizes <= n)
        )
        return starts[same], slots[same]


def _inside(letters: bytes, place: int) -> bool:
    """Whether a word goes on at the place; `letters` says of each character whether it is in a word."""
    return 0 < place < len(letters) and letters[place] == letters[place - 1] == 1


def _marked(hashes: Hashes) -> NDArray[np.bool_]:
    out = np.zeros(_SLOTS, bool)
    out[(hashes & _SLOT).astype(np.int64)] = True
    return out


@lru_cache(maxsize=1)
def concepts() -> Lexicon:
    """The lexicon of all concepts."""
    return Lexicon(entries_of(name) for name in CONCEPTS)


def entries_of(concept: str) -> list[str]:
    """The entries of a concept."""
    return [e.strip() for e in CONCEPTS[concept].replace("\n", " ").split(",") if e.strip()]


_NUMBER: Final[Mapping[str, int]] = {name: i for i, name in enumerate(CONCEPTS)}
_PATTERN_MASKS: Final = np.array([sum(1 << _NUMBER[w] for w in p.split()) for p in PATTERNS], np.uint64)


def read(folded: Folded) -> Reading:
    """A text in arrays."""
    kinds = folded.kinds
    single = (kinds == _WIDE) | _telling(folded)
    begins, ends = single, single.copy()
    begins[folded.begins] = True
    ends[folded.ends - 1] = True
    starts = np.flatnonzero(begins)
    places = kinds > _LETTER
    places[folded.begins] = True
    at, found = concepts().find(folded, np.flatnonzero(places))
    after = np.flatnonzero(ends) + 1
    return Reading(
        folded.where, starts, after, _words(folded, starts, after), *_together(at, found, folded.letters)
    )


_TELLING: Final = np.isin(np.arange(0x10000), [ord(c) for c in _SIGNS]) | (np.arange(0x10000) >= 0x2190)


def _telling(folded: Folded) -> NDArray[np.bool_]:
    """Which characters are signs that count as words."""
    sign: NDArray[np.bool_] = folded.kinds == SIGN
    sign[sign] = _TELLING[np.minimum(folded.codes[sign], 0xFFFF)]
    return sign


def _words(folded: Folded, starts: Ints, ends: Ints) -> Ints:
    if not len(starts):
        return np.zeros(0, np.int64)
    one = folded.hashes(starts, ends - starts)
    two = _mixed(one[:-1] * np.uint64(3) + one[1:])
    three = _mixed(one[:-2] * np.uint64(5) + one[2:])
    return (np.concatenate((one, two, three)) % np.uint64(BUCKETS)).astype(np.int64)


def _together(at: Ints, found: Ints, letters: Floats) -> tuple[Ints, Ints, Ints, Ints, Ints, Ints]:
    """The concepts, pairs of them that stand close together, and patterns, each with the places."""
    n = len(at)
    if not n:
        none = np.zeros(0, np.int64)
        return at, found, none, none, none, none
    # A row for each, with it and those after it; behind the last one, nothing is near.
    rows = np.arange(n)[:, None] + np.arange(_AFTER + 1)
    place = np.full(n + _AFTER, np.inf, np.float32)
    place[:n] = letters[at]
    kinds = np.zeros(n + _AFTER, np.int64)
    kinds[:n] = found
    apart, after = place[rows] - place[:n, None], kinds[rows]
    first, later = np.nonzero(apart[:, 1:] <= _NEAR)
    a, b = found[first], after[first, later + 1]
    bits = np.where(apart <= _CLOSE, np.uint64(1) << after.astype(np.uint64), np.uint64(0))
    masks = np.bitwise_or.reduce(bits, axis=1)
    hit, pattern = np.nonzero((masks[:, None] & _PATTERN_MASKS) == _PATTERN_MASKS)
    return at, found, np.minimum(a, b) * N + np.maximum(a, b), at[first], pattern, at[hit]
