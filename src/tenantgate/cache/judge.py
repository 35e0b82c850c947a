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
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, TypeVar

from tenantgate.cache.ports import PairVerifier

__all__ = ["NEAR", "RULES", "Difference", "Features", "choose", "difference", "features"]

T = TypeVar("T")

NEAR: Final = 0.6
"""Below this cosine two questions are never the same (of 40,000 labelled pairs 1 % of the right ones lie there), so the
verifier need not be asked."""

# The verifier reads the nearest, and where that isn't the same the next: on a replay of 6,000 requests that answered
# 9 to 12 % more of them. Long texts take it several times as long, so there it reads one.
_MOST_READ: Final = 3
_SHORT: Final = 240  # characters


class Difference(enum.StrEnum):
    """What keeps two questions apart."""

    NUMBERS = "numbers"
    UNITS = "units"
    NEGATION = "negation"
    OPPOSITES = "opposites"
    NAMES = "names"
    LITERALS = "literals"
    ORDER = "order"


_LITERAL: Final = re.compile(
    r"```.*?(?:```|\Z)|`[^`\n]+`|\"[^\"\n]{1,200}\"|“[^”\n]{1,200}”|https?://\S+|[^\s@]{1,64}@[^\s@]{1,255}",
    re.DOTALL,
)
_LITERAL_MARKS: Final = ("`", '"', "“", "://", "@")
# With its sign, unless that is a dash between words, and with the letters that are written to it: GPT-4o, 4k.
_NUMBER: Final = re.compile(r"((?<![^\s(=*/+])-)?(\d+(?:[.,:/-]\d+)*)([a-z]{0,3}(?![a-z]))?", re.IGNORECASE)
_SUFFIXES: Final = frozenset(("st", "nd", "rd", "th", "s"))  # 1st, 1990s: no other number than without
_WORD: Final = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
_SENTENCE_START: Final = re.compile(r"(?:^|[.!?:;\n]\s*|[\"“(]\s*)$")
# A "not" that turns nothing round.
_IDLE_NOT: Final = re.compile(
    r"\b(?:why|or|if) (?:why )?(?:not|no)\b|\bnot (?:only|just|to mention)\b|\bno (?:matter|longer than)\b",
    re.IGNORECASE,
)

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
     "twice": "2", "january": "m1", "february": "m2", "april": "m4", "june": "m6", "july": "m7", "august": "m8",
     "september": "m9", "october": "m10", "november": "m11", "december": "m12", "monday": "d1", "tuesday": "d2",
     "wednesday": "d3", "thursday": "d4", "friday": "d5", "saturday": "d6", "sunday": "d7", "today": "t0",
     "tonight": "t0", "tomorrow": "t1", "yesterday": "t-1"}  # fmt: skip

_UNITS: Final = {
    word: group[0]
    for group in (
        line.split()
        for line in (
            "mm millimeter millimetre", "cm centimeter centimetre", "m meter metre", "km kilometer kilometre",
            "inch inches", "ft foot feet", "yd yard", "mi mile", "g gram gramme", "mg milligram", "kg kilogram kilo",
            "lb pound lbs", "oz ounce", "ton tonne", "ml milliliter millilitre", "l liter litre", "gallon",
            "pint", "quart", "cup", "teaspoon tsp", "tablespoon tbsp", "celsius centigrade", "fahrenheit", "kelvin",
            "second", "minute", "hour hourly", "day daily", "week weekly", "month monthly", "quarter quarterly",
            "year yearly annual annually", "decade", "century centuries", "kb kilobyte", "mb megabyte",
            "gb gigabyte", "tb terabyte", "usd dollar", "eur euro", "gbp sterling", "inr rupee", "jpy yen",
            "cny yuan", "krw won", "peso", "franc", "acre", "hectare", "watt", "kilowatt", "kwh", "volt", "ampere",
        )
    )
    for word in (*group, *(w + "s" for w in group))
}  # fmt: skip
# Words that name a unit less often than something else.
for _other in ("m", "l", "g", "won", "second", "seconds", "quarter", "quarters", "ms", "ls", "gs"):
    _UNITS.pop(_other, None)

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
        ("subscribe subscribing", "unsubscribe unsubscribing"),
        ("longest tallest", "shortest"),
        ("large big", "small"),
        ("arrive arriving arrival", "depart departing departure leave leaving"),
        ("deposit depositing", "withdraw withdrawing"),
        ("cause causes", "cure cures treat treats"),
        ("rent renting", "buy buying"),
        ("send sending", "receive receiving"),
        ("lend", "borrow"),
        ("push", "pull"),
        ("login", "logout"),
        ("left", "right"),
        ("north northern", "south southern"),
        ("east eastern", "west western"),
        ("sunrise dawn", "sunset dusk"),
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

_SIDES: Final[dict[str, list[tuple[int, bool]]]] = {}
"""By word: in which pairs of opposites it stands, and whether on the left."""
for _pair, _sets in enumerate(_OPPOSITES):
    for _left, _words in zip((True, False), _sets, strict=True):
        for _word in _words:
            _SIDES.setdefault(_word, []).append((_pair, _left))

# Words that carry no subject: two questions may differ in them and have the same words otherwise.
_FILLER: Final = frozenset(
    "a an the is are was were be been do does did i me my we our you your it its this that there here what which who "
    "how when where why can could would should will shall may might must please tell show give find get have has had "
    "of for in at by as and or if so just now also then than to from into with some any all s t m re ve ll d".split()
)
# Words that give what follows them another part than what stands before them.
_DIRECTIONS: Final = frozenset(
    "to from into onto than over per minus divided by against before after".split()
)
_ENDINGS: Final = (
    "s",
    "es",
    "n",
    "an",
    "ans",
    "ian",
    "ians",
    "i",
    "is",
    "ic",
    "a",
    "ed",
    "d",
    "ing",
    "r",
    "er",
    "ers",
)
_MOST_EXCHANGED: Final = 16  # words; the search is cubic
_TYPO_FROM: Final = 7  # letters from which a name with one other letter is taken for a slip


@dataclass(frozen=True, slots=True)
class Features:
    """What the rules compare of one text."""

    text: str
    numbers: tuple[str, ...]
    figures: frozenset[str]
    units: frozenset[str]
    negations: int
    words: frozenset[str]
    sides: frozenset[tuple[int, bool]]
    content: tuple[str, ...]
    directed: frozenset[tuple[str, str]]
    names: frozenset[str]
    literals: frozenset[str]


@lru_cache(maxsize=512)
def features(text: str) -> Features:
    """The features of a text; linear in its length."""
    literals, prose = _apart(text)
    found = [(m.start(), _digits(m)) for m in _NUMBER.finditer(prose)]
    figures = frozenset(number for _, number in found)
    content: list[str] = []
    directed: set[tuple[str, str]] = set()
    words: set[str] = set()
    names: set[str] = set()
    negations = 0
    direction = ""
    shouting = prose.isupper()
    for match in _WORD.finditer(prose):
        word = match.group().replace("’", "'")
        low = word.lower()
        if low.endswith("n't") or low in _NEGATIONS or low.replace("'", "") in _NEGATIONS:
            negations += 1
        capital = word[0].isupper() and (
            (len(word) > 1 and word.isupper())
            or not _SENTENCE_START.search(prose, max(0, match.start() - 4), match.start())
        )
        low = low.removesuffix("'s")
        if low in _NUMBER_WORDS:
            found.append((match.start(), _NUMBER_WORDS[low]))
        elif capital and not shouting and low not in _FILLER:
            names.add(low)
        words.add(low)
        if low in _DIRECTIONS or low == "in":
            direction = low
        elif low not in _FILLER:
            low = low[:-1] if len(low) > 3 and low.endswith("s") and not low.endswith("ss") else low
            content.append(low)
            if direction == "in" and low not in _UNITS:
                direction = ""  # a place or a time may stand anywhere; a unit is what is converted to
            if direction:
                directed.add((direction, low))
                direction = ""
    return Features(
        text=text.lower(),
        numbers=tuple(number for _, number in sorted(found)),
        figures=figures,
        units=frozenset(_UNITS[w] for w in words if w in _UNITS),
        negations=negations,
        words=frozenset(words),
        sides=frozenset(side for word in words & _SIDES.keys() for side in _SIDES[word]),
        content=tuple(content),
        directed=frozenset(directed),
        names=frozenset(names),
        literals=literals,
    )


def _apart(text: str) -> tuple[frozenset[str], str]:
    """The literals, and the text without them and without a "not" that turns nothing round."""
    # Most texts have neither, and to look for the patterns takes longer than for what each of them needs.
    literals: frozenset[str] = frozenset()
    if any(mark in text for mark in _LITERAL_MARKS):
        literals = frozenset(m.group().strip('`"“” \n').lower() for m in _LITERAL.finditer(text))
        text = _LITERAL.sub(" ", text)
    return literals, _IDLE_NOT.sub(" ", text) if "no" in text.lower() else text


def _digits(match: re.Match[str]) -> str:
    number = (match.group(1) or "") + match.group(2).replace(",", "")
    letters = (match.group(3) or "").lower()
    if letters == "k":
        return number + "000"
    return number if letters in _SUFFIXES or letters in _UNITS else number + letters


def _numbers(a: Features, b: Features) -> bool:
    if a.numbers == b.numbers:
        return False
    mine, theirs = Counter(a.numbers), Counter(b.numbers)
    only_a, only_b = mine - theirs, theirs - mine
    if bool(only_a) == bool(only_b):
        return True  # others, or the same in another order: 3 of A and 5 of B
    # On one side only: a figure narrows the question; "one", "first" or "today" may be a manner of speaking.
    return any(n in a.figures for n in only_a) or any(n in b.figures for n in only_b)


def _units(a: Features, b: Features) -> bool:
    return bool(a.units - b.units) and bool(b.units - a.units)


def _negation(a: Features, b: Features) -> bool:
    return (a.negations % 2) != (b.negations % 2)


def _opposites(a: Features, b: Features) -> bool:
    # A side counts where the other of its pair isn't there too: "with or without" is neither.
    mine = a.sides - {(pair, not left) for pair, left in a.sides}
    theirs = b.sides - {(pair, not left) for pair, left in b.sides}
    return any((pair, not left) in theirs for pair, left in mine)


def _names(a: Features, b: Features) -> bool:
    # A name on one side only may be left out or spelt small; one on each side was exchanged.
    only_a = [n for n in a.names - b.words if not any(_one_name(n, w) for w in b.words)]
    only_b = [n for n in b.names - a.words if not any(_one_name(n, w) for w in a.words)]
    return bool(only_a) and bool(only_b)


def _one_name(a: str, b: str) -> bool:
    """Whether two words are one name in two forms (Pakistan, Pakistani), or one of them has a slip."""
    short, long = sorted((a, b), key=len)
    if len(short) >= 4 and long.startswith(short) and long[len(short) :] in _ENDINGS:
        return True
    if len(short) < _TYPO_FROM or len(long) - len(short) > 1:
        return False
    i = next((i for i, (x, y) in enumerate(zip(short, long, strict=False)) if x != y), len(short))
    return short[i:] == long[i + 1 :] or short[i + 1 :] == long[i + 1 :]


def _literals(a: Features, b: Features) -> bool:
    return any(x not in b.text for x in a.literals) or any(x not in a.text for x in b.literals)


def _order(a: Features, b: Features) -> bool:
    """The same words with their parts exchanged: miles to kilometres, cats chase dogs."""
    if a.content == b.content or sorted(a.content) != sorted(b.content):
        return False
    mine, theirs = dict(a.directed), dict(b.directed)
    if any(mine[d] != theirs[d] for d in mine.keys() & theirs.keys()):
        return True
    return _exchanged(a.content, b.content)


def _exchanged(a: tuple[str, ...], b: tuple[str, ...]) -> bool:
    """Whether b is a with two parts exchanged around what stays between them: X M Y, Y M X."""
    start = 0
    while a[start] == b[start]:
        start += 1
    end = len(a)
    while a[end - 1] == b[end - 1]:
        end -= 1
    a, b = a[start:end], b[start:end]
    size = len(a)
    if size > _MOST_EXCHANGED or any(a[i:] + a[:i] == b for i in range(size)):
        return False  # a part was moved, as in "in the world to live", "to live in the world"
    return any(
        a[size - y :] + a[x : size - y] + a[:x] == b for x in range(1, size - 1) for y in range(1, size - x)
    )


RULES: Final[dict[Difference, Callable[[Features, Features], bool]]] = {
    Difference.NUMBERS: _numbers,
    Difference.UNITS: _units,
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


def choose(
    question: str, near: Iterable[tuple[float, str, T]], verifier: PairVerifier, threshold: float
) -> T | None:
    """The stored answer that may serve `question`, or None.

    Args:
        question: what is asked.
        near: (cosine, stored question, whatever stands for its answer), the nearest first; read as far as needed.
        verifier: what reads two questions together.
        threshold: the verifier's score that is needed, from the calibration.
    """
    most = _MOST_READ if len(question) <= _SHORT else 1
    for similarity, stored, answer in near:
        if similarity < NEAR:
            break
        if difference(question, stored) is not None or verifier.truncates(question, stored):
            continue
        # The first that will do. To read on for a higher score found no better answers (ten replays, 1.86 % wrong
        # beside 1.87 %) and took half as many readings again.
        if verifier.score(question, stored, similarity) >= threshold:
            return answer
        most -= 1
        if most == 0:
            break
    return None
