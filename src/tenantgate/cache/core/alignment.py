"""Two texts side by side: whether anything that means something is in one of them only.

An answer may serve another text only where all that differs is on the closed lists of `tenantgate.cache.core.lexicon`:
idle words, forms of one word, synonyms word for word. Whatever is left over on one side is a difference, be it a word,
a clause, a sentence, a bracket, a sign or a character. So nobody's addition to a question ("answer in one word", "and
recommend …") reaches whoever asks without, and the model that reads both texts is asked only about what no list can
tell: whether the same words mean the same in their places.
"""

from __future__ import annotations

import enum
import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from typing import Final

from tenantgate.cache.core.asking import Question
from tenantgate.cache.core.lexicon import COMPOUNDING, ENDINGS, GENERIC, LISTED, OPPOSITES, SYNONYMS, UNITS
from tenantgate.cache.core.stems import stem
from tenantgate.cache.core.text_parts import PERSONS, Term, Wording

__all__ = ["Difference", "compare", "plainly_apart"]


class Difference(enum.StrEnum):
    """What keeps two questions apart."""

    NUMBERS = "numbers"
    UNITS = "units"
    NEGATION = "negation"
    OPPOSITES = "opposites"
    NAMES = "names"
    LITERALS = "literals"
    SIGNS = "signs"
    ADDITION = "addition"
    WORDS = "words"
    SENTENCES = "sentences"
    QUESTION = "question"
    MODALITY = "modality"
    PERSONS = "persons"
    TENSE = "tense"
    ORDER = "order"


_MOST_EXCHANGED: Final = 24  # words; the search is cubic

_GROUPS: Final[dict[str, frozenset[int]]] = {}
for _number, _group in enumerate(SYNONYMS):
    for _word in _group:
        _GROUPS[stem(_word)] = _GROUPS.get(stem(_word), frozenset()) | {_number}

_SIDES: Final[dict[str, list[tuple[int, bool]]]] = {}
"""By word: in which pairs of opposites it stands, and whether on the left."""
for _pair, _sets in enumerate(OPPOSITES):
    for _left, _words in zip((True, False), _sets, strict=True):
        for _word in _words:
            _SIDES.setdefault(_word, []).append((_pair, _left))

_GENERIC: Final = frozenset(map(stem, GENERIC))
_COMPOUNDING: Final = frozenset(map(stem, COMPOUNDING))
_UNIT_STEMS: Final = frozenset(UNITS.values())

# Kinds of questions that one answer may serve. What one wants done, "reset my password", is asked with "how", too.
_ALIKE: Final = frozenset(
    frozenset(pair)
    for pair in (
        (Question.HOW, Question.OTHER),
        (Question.WHAT, Question.OTHER),
        (Question.AMOUNT, Question.OTHER),
        (Question.WHEN, Question.OTHER),
        (Question.WHERE, Question.OTHER),
        (Question.MODAL, Question.OTHER),
    )
)


_ALIKE_FROM: Final = 4  # letters that two forms of a name have in common, at least


def plainly_apart(a: str, b: str) -> bool:
    """Whether `compare` will surely find a difference, told without taking the texts apart.

    That is a word of no list that only one of them has, in no form of it. For long texts, where that is most of the
    work.
    """
    left, right = _bag(a), _bag(b)
    only_a, only_b = left - right, right - left
    if not only_a and not only_b:
        return False
    begun = {word[:_ALIKE_FROM] for word in (left & right)}
    return _has_own(only_a, begun.union(word[:_ALIKE_FROM] for word in only_b)) or _has_own(
        only_b, begun.union(word[:_ALIKE_FROM] for word in only_a)
    )


def _bag(text: str) -> set[str]:
    return {chunk.strip(".,;:?!") for chunk in text.lower().split()}


def _has_own(words: set[str], begun: set[str]) -> bool:
    return any(
        len(word) >= _ALIKE_FROM and word.isalpha() and word not in LISTED and word[:_ALIKE_FROM] not in begun
        for word in words
    )


def compare(a: Wording, b: Wording) -> Difference | None:
    """What keeps the two apart, or None. Symmetric."""
    mine, theirs = _counted(a.terms), _counted(b.terms)
    if not mine & theirs and a.words != b.words:
        return _named(a, b, list(mine), list(theirs))  # nothing that both of them are about
    only_a, only_b = list((mine - theirs).elements()), list((theirs - mine).elements())
    if _negations(a) != _negations(b):
        return Difference.NEGATION
    substituted: dict[str, str] = {}
    if only_a or only_b:
        substituted = _synonyms(only_a, only_b, a.proper | b.proper)
        only_a, only_b = _without(only_a, substituted.values()), _without(only_b, substituted)
        if (only_a and only_b) or not _generic(only_a, a) or not _generic(only_b, b):
            return _named(a, b, only_a, only_b)
    return _asked_otherwise(a, b) or (Difference.ORDER if _reordered(a.terms, b.terms, substituted) else None)


def _asked_otherwise(a: Wording, b: Wording) -> Difference | None:
    """What keeps apart two texts of the same content: another question, other persons, another form of a verb."""
    if a.sentences != b.sentences:
        return Difference.SENTENCES
    if _other_question(a, b) or _asked_or_said(a, b):
        return Difference.QUESTION
    if _asks_otherwise(a, b) or _asks_otherwise(b, a):
        return Difference.MODALITY
    if _other_persons(a.persons, b.persons) or _own(a, b) or _own(b, a):
        return Difference.PERSONS
    if a.quantities != b.quantities:
        return Difference.WORDS
    if _inflected_otherwise(a, b):
        return Difference.TENSE
    return None


_OBLIGED: Final = frozenset("must should shall".split())
_FUTURE: Final = frozenset(("will", "would"))
_POSSIBLE: Final = frozenset("can could may might".split())


def _asks_otherwise(a: Wording, b: Wording) -> bool:
    """Whether a asks what must be, and b what can be; or one what is, and the other what will be."""
    if Question.YES_NO in (a.question, b.question) and bool(a.modals & _FUTURE) != bool(b.modals & _FUTURE):
        return True
    obliged, possible = a.modals & _OBLIGED, b.modals & _POSSIBLE
    if obliged and not b.modals & _OBLIGED:
        return bool(possible) or Question.HOW in (a.question, b.question)
    return bool(obliged and possible and obliged != b.modals & _OBLIGED)


_MEASURES: Final = frozenset(
    map(
        stem,
        "cost price fee charge worth balance distance weight size population temperature rate debt".split(),
    )
)
"""Of these "what is" asks how much."""


def _other_question(a: Wording, b: Wording) -> bool:
    if any("~" + word in b.acts for word in a.acts) or any("~" + word in a.acts for word in b.acts):
        return True
    kinds = frozenset((a.question, b.question))
    if len(kinds) == 1 or kinds in _ALIKE:
        return False
    if kinds == {Question.WHAT, Question.AMOUNT}:
        return _MEASURES.isdisjoint(term.key for term in a.terms)
    return True


def _asked_or_said(a: Wording, b: Wording) -> bool:
    """Whether only its mark makes one a question: "you approved it?" asks what "you approved it!" says."""
    return a.marked != b.marked and a.question is Question.OTHER and b.question is Question.OTHER


def _own(a: Wording, b: Wording) -> bool:
    """Whether a asks about something of one's own, and b about such things in general: my limit, a limit."""
    if {a.question, b.question} - {Question.WHAT, Question.WHO, Question.AMOUNT}:
        return False
    return "1" in a.persons and not b.persons and b.words.isdisjoint(_DEFINITE)


_DEFINITE: Final = frozenset("the this that these those your".split())


def _inflected_otherwise(a: Wording, b: Wording) -> bool:
    """Whether a verb of both has another form in one of them: is it closing, closed; I pay, I am paid."""
    shared = {term.key for term in a.terms} & {term.key for term in b.terms}
    either = {key for key, form in a.forms | b.forms if form == "either"}
    return any(key in shared and key not in either for key, _ in a.forms ^ b.forms)


def _other_persons(a: Sequence[str], b: Sequence[str]) -> bool:
    """Whether "I" and "you" are exchanged: one is more often in each, or both are in both, the other way round."""
    more_first, more_second = a.count("1") - b.count("1"), a.count("2") - b.count("2")
    if more_first * more_second < 0:
        return True
    return not more_first and not more_second and a != b


def _negations(wording: Wording) -> int:
    return wording.negations % 2


def _counted(terms: Sequence[Term]) -> Counter[str]:
    return Counter(term.key for term in terms if term.key not in PERSONS)


def _synonyms(a: Iterable[str], b: Iterable[str], proper: AbstractSet[str]) -> dict[str, str]:
    """Words left over in b, each with the synonym left over in a that stands for it; a name has none."""
    found: dict[str, str] = {}
    free = list(b)
    for word in a:
        other = next((other for other in free if _same_word(word, other, proper)), None)
        if other is not None:
            found[other] = word
            free.remove(other)
    return found


def _without(words: list[str], taken: Iterable[str]) -> list[str]:
    return list((Counter(words) - Counter(list(taken))).elements())


def _generic(only: Iterable[str], wording: Wording) -> bool:
    """Whether what is left over in this text is of the kind that a model can weigh: general words, standing alone."""
    words = set(only)
    return words <= _GENERIC and words.isdisjoint(_compounds(wording.terms))


def _compounds(terms: Sequence[Term]) -> Iterable[str]:
    """General words that belong to the word beside them: "account" is one thing, "account type" another."""
    for before, after in itertools.pairwise(terms):
        if after.tight:
            yield from _COMPOUNDING.intersection((before.key, after.key))


def _same_word(a: str, b: str, proper: AbstractSet[str]) -> bool:
    if a[0] in '#="' or b[0] in '#="':
        return False
    synonyms = (
        a not in proper and b not in proper and _GROUPS.get(a, frozenset()) & _GROUPS.get(b, frozenset())
    )
    return bool(synonyms) or _one_name(a, b)


def _one_name(a: str, b: str) -> bool:
    """Whether two words are one name in two forms: Pakistan, Pakistani."""
    short, long = sorted((a, b), key=len)
    return len(short) >= 4 and long.startswith(short) and long[len(short) :] in ENDINGS


def _named(a: Wording, b: Wording, only_a: list[str], only_b: list[str]) -> Difference:
    """The kind of a difference that was found."""
    kinds = {key[0] for key in (*only_a, *only_b)}
    if '"' in kinds:
        return Difference.LITERALS
    if "#" in kinds:
        return Difference.NUMBERS
    if "=" in kinds:
        named = all(stem(key[1:]) in a.names | b.names for key in (*only_a, *only_b) if key[0] == "=")
        return Difference.NAMES if named else Difference.SIGNS
    if bool(only_a) != bool(only_b):
        return Difference.ADDITION
    if any((p, not left) in _sides(b) for p, left in _sides(a)):
        return Difference.OPPOSITES
    if not _UNIT_STEMS.isdisjoint(only_a) and not _UNIT_STEMS.isdisjoint(only_b):
        return Difference.UNITS
    if not a.names.isdisjoint(only_a) and not b.names.isdisjoint(only_b):
        return Difference.NAMES
    return Difference.WORDS


def _sides(wording: Wording) -> set[tuple[int, bool]]:
    # A side counts where the other of its pair isn't there too: "with or without" is neither.
    sides = {side for word in wording.words & _SIDES.keys() for side in _SIDES[word]}
    return sides - {(pair, not left) for pair, left in sides}


def _reordered(a: Sequence[Term], b: Sequence[Term], substituted: dict[str, str]) -> bool:
    """Whether the same words have other parts to play: miles to kilometres, cats chase dogs."""
    b = [Term(substituted.get(term.key, term.key), term.before, term.tight) for term in b]
    shared = Counter(term.key for term in a) & Counter(term.key for term in b)
    if _persons(a) != _persons(b):
        for person in PERSONS:
            del shared[person]
    if _added_direction(a, b) or _added_direction(b, a):
        return True
    for word in _MOVABLE & shared.keys():
        del shared[word]
    a, b = _only(shared, a), _only(shared, b)
    left, right = [term.key for term in a], [term.key for term in b]
    if left == right:
        return _governed_otherwise(a, b, _DIRECTED)
    return _governed_otherwise(a, b, _DIRECTED.union(*_WEAK)) or _exchanged(a, b)


def _only(keys: Counter[str], terms: Sequence[Term]) -> list[Term]:
    """The terms with these keys, each key as often as it is counted."""
    left = Counter(keys)
    found: list[Term] = []
    for term in terms:
        if left[term.key] > 0:
            left[term.key] -= 1
            found.append(term)
    return found


def _persons(terms: Sequence[Term]) -> int:
    return sum(term.key in PERSONS for term in terms)


# Whether things are in, at or on a place, hardly ever tells two questions apart; whether one goes there does.
_WEAK: Final = tuple(
    frozenset(words.split()) for words in ("of in at on", "of for", "of about on", "to into onto")
)
_DIRECTED: Final = frozenset(
    "to from into onto than by with against over per before after for until since".split()
)


_ADDED: Final = frozenset("to into onto by".split())


def _added_direction(a: Sequence[Term], b: Sequence[Term]) -> bool:
    """Whether a says "to", "by", "in" at the beginning, or "about" later, of a thing that b has without a preposition.

    So "owned by Google" isn't "owns Google", "get to Paris" not "get Paris", "books about Poe" not "Poe's books", nor
    what is in the calendar the calendar.
    """
    bare = {term.key for term in b if not term.before} - {term.key for term in b if term.before}
    return any(
        term.key in bare
        and (
            term.before in _ADDED or (i and term.before == "about") or (not i and term.before in ("in", "on"))
        )
        for i, term in enumerate(a)
    )


def _governed_otherwise(a: Sequence[Term], b: Sequence[Term], prepositions: AbstractSet[str]) -> bool:
    """Whether a preposition stands before another word than in the other text, or another one before the same."""
    mine, theirs = _governed(a), _governed(b)
    for preposition in mine.keys() & theirs.keys() & prepositions:
        if mine[preposition].isdisjoint(theirs[preposition]):
            return True
    by_a = {word: preposition for preposition, words in mine.items() for word in words}
    by_b = {word: preposition for preposition, words in theirs.items() for word in words}
    return any(
        by_a[word] != by_b[word] and not any({by_a[word], by_b[word]} <= weak for weak in _WEAK)
        for word in by_a.keys() & by_b.keys()
    )


def _governed(terms: Sequence[Term]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for term in terms:
        if term.before and term.key not in PERSONS:
            found.setdefault(term.before, set()).add(term.key)
    return found


_MOVABLE: Final = frozenset(
    "on in off out down back over away again today tomorrow yesterday tonight not no".split()
)
"""Words that may stand anywhere: turn the light off, turn off the light."""
_SYMMETRIC: Final = frozenset(("or", "vs", "versus"))


def _exchanged(a: Sequence[Term], b: Sequence[Term]) -> bool:
    """Whether b is more than a with one part moved, between words that don't belong together."""
    start = 0
    while start < len(a) and a[start].key == b[start].key:
        start += 1
    end = len(a)
    while end > start and a[end - 1].key == b[end - 1].key:
        end -= 1
    a, b = a[start:end], b[start:end]
    size = len(a)
    if size > _MOST_EXCHANGED:
        return True
    left, right = [term.key for term in a], [term.key for term in b]
    for i in range(1, size):
        if left[i:] + left[:i] == right:
            # Moved, as in "in the world to live", "to live in the world"; not "tell my wife", "my wife tells me".
            return not (a[i].before or b[size - i].before or a[0].before or b[0].before)
    return not (left[::-1] == right and set(left[1:-1]) <= _SYMMETRIC and size == 3)
