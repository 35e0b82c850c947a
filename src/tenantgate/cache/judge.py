"""Whether the answer to one question may answer another that means nearly the same.

Two parts. Rules refuse pairs whose difference is of a kind that a similarity can't weigh: another number, a
negation, an opposite, another name, the same words in another order. Then the verifier's score must clear the
calibrated threshold. The rules are cheap and run first; each must pay for the right pairs it costs
(`benchmarks/bench_cache.py` prints both).
"""

from __future__ import annotations

import enum
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

__all__ = ["RULES", "Difference", "Features", "difference", "features"]


class Difference(enum.StrEnum):
    """What keeps two questions apart."""

    NUMBERS = "numbers"
    NEGATION = "negation"
    OPPOSITES = "opposites"
    NAMES = "names"
    LITERALS = "literals"
    ORDER = "order"


_LITERAL: Final = re.compile(
    r"```.*?(?:```|\Z)|`[^`\n]+`|\"[^\"\n]{1,200}\"|“[^”\n]{1,200}”|https?://\S+|\S+@\S+\.\S+", re.DOTALL
)
_NUMBER: Final = re.compile(r"\d+(?:[.,:/-]\d+)*")
_WORD: Final = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
_SENTENCE_START: Final = re.compile(r"(?:^|[.!?:;\n]\s*|[\"“(]\s*)$")

_NUMBER_WORDS: Final = {
    w: str(i)
    for i, w in enumerate(
        ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
    )
} | {
    w: str(i)
    for i, w in enumerate(
        ["first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth"], start=1
    )
} | {"hundred": "100", "thousand": "1000", "million": "1000000", "billion": "1000000000", "half": "0.5", "double": "2",
     "twice": "2", "january": "m1", "february": "m2", "march": "m3", "april": "m4", "june": "m6", "july": "m7",
     "august": "m8", "september": "m9", "october": "m10", "november": "m11", "december": "m12", "monday": "d1",
     "tuesday": "d2", "wednesday": "d3", "thursday": "d4", "friday": "d5", "saturday": "d6", "sunday": "d7",
     "today": "t0", "tomorrow": "t1", "yesterday": "t-1"}  # fmt: skip
# "one" and "second" are words more often than numbers ("which one", "a second").
for _vague in ("one", "second", "march"):
    del _NUMBER_WORDS[_vague]

_NEGATIONS: Final = frozenset(
    "not no never none nobody nothing neither nor cannot without except unless n't isnt arent dont doesnt didnt wont "
    "cant couldnt shouldnt wouldnt hasnt havent wasnt werent aint".split()
)

# Words of which a question has one or the other; a set on the left stands against the set on the right.
_OPPOSITES: Final[tuple[tuple[frozenset[str], frozenset[str]], ...]] = tuple(
    (frozenset(left.split()), frozenset(right.split()))
    for left, right in (
        ("with including include includes", "without excluding exclude excludes"),
        ("before", "after"),
        ("above over", "below under"),
        ("more greater higher larger bigger", "less fewer lower smaller"),
        ("most maximum max highest largest biggest", "least minimum min lowest smallest"),
        ("best", "worst"),
        ("cheap cheapest cheaper", "expensive costly dearest"),
        (
            "increase increasing raise raising grow gain",
            "decrease decreasing reduce reducing lower shrink lose",
        ),
        ("buy buying purchase purchasing", "sell selling"),
        (
            "enable enabling activate activating allow",
            "disable disabling deactivate deactivating forbid block",
        ),
        ("on", "off"),
        ("open opening", "close closing"),
        ("start starting begin beginning", "stop stopping end ending finish finishing"),
        ("add adding insert", "remove removing delete deleting drop"),
        ("import importing", "export exporting"),
        ("upload uploading", "download downloading"),
        ("install installing", "uninstall uninstalling"),
        ("encrypt encode", "decrypt decode"),
        ("send sending", "receive receiving"),
        ("lend", "borrow"),
        ("push", "pull"),
        ("login", "logout"),
        ("left", "right"),
        ("up", "down"),
        ("inside indoor indoors", "outside outdoor outdoors"),
        ("hot", "cold"),
        ("legal", "illegal"),
        ("safe", "unsafe dangerous"),
        ("advantages advantage pros benefits", "disadvantages disadvantage cons drawbacks"),
        ("first earliest oldest", "last latest newest"),
        ("male man men boy boys husband", "female woman women girl girls wife"),
        ("win winning", "lose losing"),
        ("accept accepting approve", "reject rejecting decline refuse"),
        ("asc ascending", "desc descending"),
    )
)

# Words that carry no subject: two questions may differ in them and have the same words otherwise.
_FILLER: Final = frozenset(
    "a an the is are was were be been do does did i me my we our you your it its this that there here what which who "
    "how when where why can could would should will shall may might must please tell show give find get have has had "
    "of for in at by as and or if so just now also then than to from into with some any all s t m re ve ll d".split()
)
_RELATIONS: Final = frozenset(
    "to from into than over before after versus vs per between against by minus divided".split()
)


@dataclass(frozen=True, slots=True)
class Features:
    """What the rules compare of one text."""

    numbers: Counter[str]
    negations: int
    words: frozenset[str]
    sequence: tuple[str, ...]
    names: frozenset[str]
    literals: Counter[str]


@lru_cache(maxsize=512)
def features(text: str) -> Features:
    """The features of a text; linear in its length."""
    literals = Counter(m.group().strip('`"“” \n').lower() for m in _LITERAL.finditer(text))
    prose = _LITERAL.sub(" ", text)
    numbers = Counter(m.group().replace(",", "") for m in _NUMBER.finditer(prose))
    sequence: list[str] = []
    names: set[str] = set()
    negations = 0
    shouting = prose.isupper()
    for match in _WORD.finditer(prose):
        word = match.group().replace("’", "'")
        low = word.lower()
        if low.endswith("n't") or low in _NEGATIONS or low.replace("'", "") in _NEGATIONS:
            negations += 1
        if low in _NUMBER_WORDS:
            numbers[_NUMBER_WORDS[low]] += 1
        begins = _SENTENCE_START.search(prose, max(0, match.start() - 4), match.start()) is not None
        capital = word[0].isupper() and (not begins or (len(word) > 1 and word.isupper()))
        if capital and not shouting and low not in _FILLER:
            names.add(low.removesuffix("'s"))
        sequence.append(low.removesuffix("'s"))
    return Features(numbers, negations, frozenset(sequence), tuple(sequence), frozenset(names), literals)


def _numbers(a: Features, b: Features) -> bool:
    return a.numbers != b.numbers


def _negation(a: Features, b: Features) -> bool:
    return (a.negations % 2) != (b.negations % 2)


def _opposites(a: Features, b: Features) -> bool:
    for left, right in _OPPOSITES:
        a_left, a_right = bool(a.words & left), bool(a.words & right)
        b_left, b_right = bool(b.words & left), bool(b.words & right)
        if (a_left and not a_right and b_right and not b_left) or (
            b_left and not b_right and a_right and not a_left
        ):
            return True
    return False


def _names(a: Features, b: Features) -> bool:
    # A name on one side only may be left out or spelt small; one on each side was exchanged.
    return bool(a.names - b.words) and bool(b.names - a.words)


def _literals(a: Features, b: Features) -> bool:
    return a.literals != b.literals


def _order(a: Features, b: Features) -> bool:
    """The same words about a relation, in another order: miles to kilometres, kilometres to miles."""
    first = [w for w in a.sequence if w not in _FILLER]
    second = [w for w in b.sequence if w not in _FILLER]
    if first == second or sorted(first) != sorted(second):
        return False
    return bool(a.words & b.words & _RELATIONS)


RULES: Final[dict[Difference, Callable[[Features, Features], bool]]] = {
    Difference.NUMBERS: _numbers,
    Difference.NEGATION: _negation,
    Difference.OPPOSITES: _opposites,
    Difference.LITERALS: _literals,
    Difference.NAMES: _names,
    Difference.ORDER: _order,
}
"""The rules in the order in which they are tried; each says whether two texts differ in its way."""


def difference(a: str, b: str) -> Difference | None:
    """The first rule that keeps the two questions apart, or None if none does. Symmetric."""
    left, right = features(a), features(b)
    for name, differs in RULES.items():
        if differs(left, right):
            return name
    return None
