"""The pairs that the verifier learns from: labelled, made from intents, and made by rule.

Three kinds, because each teaches something the others don't:

* *Question pairs* with labels teach what people hold to be the same question. Their labels are noisy.
* *Intents* teach the style of requests to an assistant. "Same intent" is looser than "same answer" ("weather
  in Paris", "weather in Rome"), so a pair counts as the same only if nothing that looks like a name, a number
  or a rare word differs between its texts.
* *Rules* make what is rare in both: a changed number, unit, name, order of roles, "with" for "without", a
  negation; and, so that the model doesn't learn "one word differs: refuse", harmless changes too.

Everything is drawn from a `random.Random`, so a seed gives the same pairs again.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import tomllib
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from collections.abc import Set as AbstractSet

__all__ = [
    "Pair",
    "Request",
    "Words",
    "compatible",
    "components",
    "content_words",
    "implied_pairs",
    "in_part",
    "near_misses",
    "read_pairs",
    "read_requests",
    "reword",
    "spoil",
    "template_pairs",
]


@dataclass(frozen=True, slots=True)
class Pair:
    """Two texts, and whether one answer serves both."""

    a: str
    b: str
    same: bool


@dataclass(frozen=True, slots=True)
class Request:
    """A request to an assistant and what it is about."""

    text: str
    intent: str


def read_pairs(path: Path) -> list[Pair]:
    """Read JSON lines with `a`, `b` and `same` (1 or 0)."""
    rows = (json.loads(line) for line in path.read_text("utf-8").splitlines() if line.strip())
    return [Pair(row["a"], row["b"], bool(row["same"])) for row in rows]


def read_requests(path: Path) -> list[Request]:
    """Read JSON lines with `text` and `intent`."""
    rows = (json.loads(line) for line in path.read_text("utf-8").splitlines() if line.strip())
    return [Request(row["text"], row["intent"]) for row in rows]


def components(pairs: Iterable[Pair]) -> dict[str, str]:
    """Map each text to a representative of its connected component over shared texts."""
    parent: dict[str, str] = {}

    def find(text: str) -> str:
        parent.setdefault(text, text)
        while parent[text] != text:
            parent[text] = parent[parent[text]]
            text = parent[text]
        return text

    for pair in pairs:
        parent[find(pair.a)] = find(pair.b)
    return {text: find(text) for text in list(parent)}


def implied_pairs(pairs: Sequence[Pair], largest: int = 24) -> list[Pair]:
    """Pairs that follow from labels: what two texts are both the same as, or one the same as and one not.

    Components of more texts than `largest` are left out: over many steps the same becomes something else.
    """
    component = components(pair for pair in pairs if pair.same)
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for text, key in component.items():
        groups[key].append(text)
    kept = {key: sorted(texts) for key, texts in groups.items() if len(texts) <= largest}
    known = {frozenset((pair.a, pair.b)) for pair in pairs}
    implied = [Pair(a, b, same=True) for texts in kept.values() for a, b in itertools.combinations(texts, 2)]
    for pair in pairs:
        if not pair.same:
            left, right = (kept.get(component.get(text, ""), [text]) for text in (pair.a, pair.b))
            implied += [Pair(a, b, same=False) for a in left for b in right if a != b]
    return [pair for pair in dict.fromkeys(implied) if frozenset((pair.a, pair.b)) not in known]


def in_part(key: str, seed: int) -> float:
    """A stable number in 0..1 for a key: the part of a split that it falls into."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{key}".encode()).digest()[:6], "big") / 2**48


# --- words ---

_APOSTROPHE = "\N{RIGHT SINGLE QUOTATION MARK}"
_WORD = re.compile(rf"[A-Za-z]+(?:['{_APOSTROPHE}][A-Za-z]+)?|\d+(?:[.,:/]\d+)*")
_LISTS = tomllib.loads(Path(__file__).with_name("verifier_lists.toml").read_text("utf-8"))
_STOP = frozenset(_LISTS["stop"].split())
_CLOSED_CLASSES = [line.split() for line in _LISTS["closed_classes"].strip().splitlines()]
_OPPOSITES = [line.split() for line in _LISTS["opposites"].strip().splitlines()]
_GROUPS = (*_CLOSED_CLASSES, *_OPPOSITES)
_SWAPS: Mapping[str, tuple[str, ...]] = {
    word: tuple(other for group in _GROUPS if word in group for other in group if other != word)
    for word in {word for group in _GROUPS for word in group}
}
_CLOSED = frozenset(word for group in _CLOSED_CLASSES for word in group)
_POLAR = frozenset(word for group in _OPPOSITES for word in group)
_NEGATIONS = frozenset({"not", "no", "never", "without", "cannot", "none", "nor", "neither"})


def _tokens(text: str) -> list[str]:
    return _WORD.findall(text.replace(_APOSTROPHE, "'"))


class Words:
    """What a corpus says about words: how frequent they are, and whether they are written as names."""

    def __init__(self, texts: Iterable[str]) -> None:
        texts = list(texts)
        self.frequency: Counter[str] = Counter()
        self._capitalised: Counter[str] = Counter()
        self._inside: Counter[str] = Counter()
        self.names_after: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for text in texts:
            tokens = _tokens(text)
            self.frequency.update({token.lower() for token in tokens})
            for token in tokens[1:]:
                if token[0].isdigit():
                    continue
                self._inside[token.lower()] += 1
                if token[0].isupper():
                    self._capitalised[token.lower()] += 1
        for text in texts:
            tokens = _tokens(text)
            for before, token in itertools.pairwise(tokens):
                if token[0].isupper() and self.name_like(token.lower()):
                    self.names_after[before.lower()][token] += 1
        names = (name for table in self.names_after.values() for name, n in table.items() if n >= 2)
        self.name_list = sorted({name for name in names if len(name) > 1})

    def name_like(self, word: str) -> bool:
        """Whether the corpus writes this lower-case word with a capital at least half the time."""
        return (
            len(word) > 1
            and word not in _STOP
            and self._capitalised[word] >= max(1, 0.5 * self._inside[word])
        )

    def rare(self, word: str, fewer_than: int = 40) -> bool:
        """Whether fewer texts than this hold the word."""
        return self.frequency[word] < fewer_than

    def other_name(self, before: str, name: str, rng: random.Random) -> str | None:
        """Another name that the corpus uses after the same word, so that it is likely of the same kind."""
        pool = [other for other in self.names_after.get(before.lower(), ()) if other.lower() != name.lower()]
        pool = pool if len(pool) >= 5 else self.name_list
        return rng.choice(sorted(pool)) if pool else None


def content_words(text: str) -> set[str]:
    """The text's words in lower case, without those that nearly every request has."""
    return {
        word.removesuffix("'s") for word in (token.lower() for token in _tokens(text)) if word not in _STOP
    }


def _stem(word: str) -> str:
    for suffix in ("ing", "ies", "es", "ed", "s", "y", "e"):
        if len(word) > len(suffix) + 3 and word.endswith(suffix):
            return word.removesuffix(suffix)
    return word


def compatible(a: str, b: str, words: Words, usual: AbstractSet[str]) -> bool | None:
    """Whether two texts of one intent may share an answer: True, False (a detail differs), None (can't tell).

    A detail is a word in which the texts differ and that is a number, of a closed class (weekdays, units,
    colours, languages …), a negation, an opposite, written as a name, or rare in the corpus and unusual for
    the intent.
    """
    left, right = ({_stem(word): word for word in content_words(text)} for text in (a, b))
    only_left = [word for stem, word in left.items() if stem not in right]
    only_right = [word for stem, word in right.items() if stem not in left]

    def detail(word: str) -> bool:
        if (
            word[0].isdigit()
            or word in _CLOSED
            or word in _NEGATIONS
            or word in _POLAR
            or word.endswith("n't")
        ):
            return True
        return words.name_like(word) or (words.rare(word) and word not in usual)

    details_left, details_right = any(map(detail, only_left)), any(map(detail, only_right))
    if not details_left and not details_right:
        return True
    shared = len(left) - len(only_left)
    if details_left and details_right and shared >= max(1, 0.4 * max(len(left), len(right))):
        return False
    return None


# --- changes that change the answer ---

_NUMBER = re.compile(r"(?<![A-Za-z\d])\d+(?:\.\d+)?(?![A-Za-z\d])")
_TURN = re.compile(
    r"\b((?:from|convert|converting|translate|change|changing|transfer|switch|switching|turn|moving|"
    r"migrate|exchange|replace|compare|prefer|going|travel|fly|flying)\s+(?:the\s+|my\s+|an?\s+)?)([\w.]+)"
    r"(\s+(?:in)?to\s+|\s+with\s+|\s+over\s+)((?:the\s+|my\s+|an?\s+)?)([\w.]+)",
    re.IGNORECASE,
)
_THAN = re.compile(
    r"\b(\w+)(\s+(?:\w+er|more \w+|less \w+)\s+than\s+|\s+instead of\s+|\s+before\s+|\s+after\s+)(\w+)\b",
    re.IGNORECASE,
)
_NAME = re.compile(r"\b[A-Z][A-Za-z]+(?: [A-Z][A-Za-z]+)*")
_SYMMETRIC = re.compile(
    r"\b(and|or|vs|versus|between|compare|compared|differ|difference|same)\b|,", re.IGNORECASE
)
_QUESTIONS = ("when", "where", "why", "how")
_QUESTION = re.compile(
    r"(when|where|why|how)(?= (?:is|are|was|were|do|does|did|can|should|will)\b)", re.IGNORECASE
)
_AUXILIARY = re.compile(
    r"\b(is|are|was|were|can|could|should|would|will|does|do|did|has|have|must)\b", re.IGNORECASE
)
_UNNEGATE = re.compile(r"\b(not |never )|(?<=\w)n't\b", re.IGNORECASE)


def _swap_number(text: str, _words: Words, rng: random.Random) -> str | None:
    found = list(_NUMBER.finditer(text))
    if not found:
        return None
    match = rng.choice(found)
    old = match.group()
    if "." in old:
        new = f"{float(old) * rng.choice((0.5, 2, 3, 10)):g}"
    else:
        value = int(old[:15])
        steps = (
            (-3, -2, -1, 1, 2, 3, 5)
            if 1900 <= value <= 2100
            else (1, 2, 3, 7, 10, value or 4, 9 * value or 6)
        )
        new = str(max(0, value + rng.choice(steps)))
    return None if new == old else text[: match.start()] + new + text[match.end() :]


def _swap_word(text: str, _words: Words, rng: random.Random) -> str | None:
    found = [match for match in _WORD.finditer(text) if match.group().lower() in _SWAPS]
    if not found:
        return None
    match = rng.choice(found)
    new = rng.choice(_SWAPS[match.group().lower()])
    new = new.capitalize() if match.group()[0].isupper() else new
    return text[: match.start()] + new + text[match.end() :]


def _swap_name(text: str, words: Words, rng: random.Random) -> str | None:
    found = list(_WORD.finditer(text))
    places = [
        (found[i - 1].group(), match)
        for i, match in enumerate(found)
        if i and not match.group()[0].isdigit() and words.name_like(match.group().lower().removesuffix("'s"))
    ]
    if not places:
        return None
    before, match = rng.choice(places)
    new = words.other_name(before, match.group(), rng)
    return None if new is None else text[: match.start()] + new + text[match.end() :]


def _swap_roles(text: str, _words: Words, _rng: random.Random) -> str | None:
    if (match := _TURN.search(text)) and match[2].lower() != match[5].lower():
        turned = f"{match[1]}{match[5]}{match[3]}{match[4]}{match[2]}"
        return text[: match.start()] + turned + text[match.end() :]
    if match := _THAN.search(text):
        return text[: match.start()] + f"{match[3]}{match[2]}{match[1]}" + text[match.end() :]
    return None


def _swap_two_names(text: str, words: Words, _rng: random.Random) -> str | None:
    if _SYMMETRIC.search(text):
        return None
    found = [
        match
        for match in _NAME.finditer(text)
        if match.start() and all(words.name_like(part.lower()) for part in match.group().split())
    ]
    if len(found) < 2 or found[0].group().lower() == found[1].group().lower():
        return None
    one, two = found[:2]
    return text[: one.start()] + two.group() + text[one.end() : two.start()] + one.group() + text[two.end() :]


def _swap_question(text: str, _words: Words, rng: random.Random) -> str | None:
    match = _QUESTION.match(text)
    if not match:
        return None
    old = match[1].lower()
    new = rng.choice([word for word in _QUESTIONS if word != old])
    return (new.capitalize() if match[1][0].isupper() else new) + text[match.end(1) :]


def _negate(text: str, _words: Words, _rng: random.Random) -> str | None:
    if match := _UNNEGATE.search(text):
        return text[: match.start()] + text[match.end() :]
    found = list(_AUXILIARY.finditer(text))
    if not found:
        return None
    match = found[0]
    following = re.match(
        r"\s+(I|you|we|they|he|she|it|one|people|the \w+|my \w+)\b", text[match.end() :], re.IGNORECASE
    )
    at = match.end() + (following.end() if following else 0)
    return f"{text[:at]} not{text[at:]}"


def _add_condition(text: str, words: Words, rng: random.Random) -> str | None:
    name = rng.choice(words.name_list) if words.name_list else "Java"
    tail = rng.choice(
        (
            f"in {name}",
            f"for {name}",
            f"with {name}",
            "without internet",
            "without paying",
            "for children",
            "in winter",
            "after 30 days",
            "before the deadline",
            "on a Mac",
            "at night",
            "in 1990",
            "for a company of 20",
        )
    )
    end = text[-1:] if text[-1:] in "?.!" else ""
    return f"{text.removesuffix(end)} {tail}{end}"


_SPOILERS: Mapping[Callable[[str, Words, random.Random], str | None], float] = {
    _swap_number: 5,
    _swap_roles: 9,
    _swap_two_names: 9,
    _swap_name: 3,
    _swap_word: 5,
    _swap_question: 1,
    _negate: 1,
    _add_condition: 1,
}


def spoil(text: str, words: Words, rng: random.Random) -> str | None:
    """The text with one change that changes the answer, or None if no rule fits."""
    for rule in rng.choices(list(_SPOILERS), list(_SPOILERS.values()), k=6):
        spoilt = rule(text, words, rng)
        if spoilt is not None and spoilt.lower() != text.lower():
            return spoilt
    return None


# --- changes that don't ---

_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def _surround(text: str, rng: random.Random) -> str:
    body = text if text[:2].isupper() else text[:1].lower() + text[1:]
    return str(rng.choice(_LISTS["openings"]).format(body.rstrip("?. ") if rng.random() < 0.5 else body))


def _punctuate(text: str, rng: random.Random) -> str:
    return text.rstrip("?.! ") + rng.choice(("", "", "??", ".", "!"))


def _replace_one(table: list[list[str]], text: str, rng: random.Random) -> str:
    for old, new in rng.sample(table, len(table)):
        changed = re.sub(rf"\b{re.escape(old)}\b", new, text, count=1, flags=re.IGNORECASE)
        if changed != text:
            return changed
    return text


def _contract(text: str, rng: random.Random) -> str:
    return _replace_one(_LISTS["contractions"], text, rng)


def _rephrase(text: str, rng: random.Random) -> str:
    return _replace_one(_LISTS["phrases"], text, rng)


def _spell_digit(text: str, _rng: random.Random) -> str:
    return re.sub(r"(?<![\w.])(10|\d)(?![\w.])", lambda match: _DIGITS[int(match[1])], text, count=1)


def _mistype(text: str, rng: random.Random) -> str:
    words = list(re.finditer(r"[a-z]{6,}", text))
    if not words:
        return text
    match = rng.choice(words)
    at = match.start() + rng.randrange(1, len(match.group()) - 2)
    if rng.random() < 0.5:
        return text[:at] + text[at + 1] + text[at] + text[at + 2 :]
    return text[:at] + text[at + 1 :]


_REWORDERS: Mapping[Callable[[str, random.Random], str], float] = {
    _surround: 0.35,
    _punctuate: 0.15,
    _contract: 0.15,
    _rephrase: 0.15,
    _spell_digit: 0.05,
    _mistype: 0.15,
}


def reword(text: str, rng: random.Random) -> str:
    """The text with one or two changes that leave the answer as it is; it may come back unchanged."""
    for rule in rng.choices(list(_REWORDERS), list(_REWORDERS.values()), k=rng.choice((1, 1, 2))):
        text = rule(text, rng)
    return text


# --- requests from templates ---

_SLOT = re.compile(r"\{([a-z]+)(2?)\}")


def template_pairs(count: int, rng: random.Random) -> list[Pair]:
    """Requests with filled slots: the same in other words, or with one slot changed or two exchanged."""
    pairs: list[Pair] = []
    while len(pairs) < count:
        group = rng.choice(_LISTS["templates"])
        slots = sorted({match.group()[1:-1] for text in group for match in _SLOT.finditer(text)})
        filled: dict[str, str] = {}
        for slot in slots:
            pool = _LISTS["slots"][slot.removesuffix("2")]
            filled[slot] = rng.choice([value for value in pool if value not in filled.values()])
        a, b = rng.choice(group), rng.choice(group)
        other = dict(filled)
        same = rng.random() < 0.45
        doubled = [slot for slot in slots if slot.endswith("2")]
        # Exchanging the two sides of a distance or a sum leaves the answer as it is.
        symmetric = group[0].startswith(("how far", "what is {number} plus", "difference between"))
        if not same:
            if doubled and not symmetric and rng.random() < 0.6:
                slot = doubled[0]
                other[slot], other[slot[:-1]] = filled[slot[:-1]], filled[slot]
            else:
                slot = rng.choice(slots)
                pool = _LISTS["slots"][slot.removesuffix("2")]
                other[slot] = rng.choice([value for value in pool if value not in filled.values()])
        left, right = a.format(**filled), b.format(**other)
        if same and left == right:
            continue
        pairs.append(Pair(left, right, same))
    return pairs


def near_misses(pairs: Sequence[Pair], count: int, words: Words, rng: random.Random) -> list[Pair]:
    """Pairs made by rule from labelled ones: about two thirds near-misses, one third harmless rewordings."""
    same = [pair for pair in pairs if pair.same]
    made: list[Pair] = []
    for _ in range(50 * count):
        if len(made) >= count:
            break
        pair = rng.choice(same if rng.random() < 0.6 else pairs)
        text = rng.choice((pair.a, pair.b))
        if not text.strip():
            continue
        # Half of them set a paraphrase, not the same wording, beside the changed text.
        beside = text if not pair.same or rng.random() < 0.5 else (pair.a if text == pair.b else pair.b)
        if rng.random() < 0.35:
            changed = reword(text, rng)
            if changed != beside:
                made.append(Pair(beside, changed, same=True))
            continue
        spoilt = spoil(text, words, rng)
        if spoilt is not None:
            made.append(Pair(beside, reword(spoilt, rng) if rng.random() < 0.2 else spoilt, same=False))
    rng.shuffle(made)
    return made
