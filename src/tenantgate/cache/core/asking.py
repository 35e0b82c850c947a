"""What a sentence asks, as far as its words in their order tell: the kind of question, and the forms of its verbs.

Sentences are lists of words in lower case, with keys of `tenantgate.cache.core.text_parts.Term` for what is no word.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from tenantgate.cache.core.lexicon import IDLE, IRREGULAR, NEGATIONS
from tenantgate.cache.core.stems import regular_past, stem

__all__ = ["ASKS", "FIRST", "MODAL", "MODALS", "Question", "acting", "asked", "forms", "meant", "quantities"]


class Question(enum.StrEnum):
    """What kind of sentence a text is, as far as its beginning tells."""

    HOW = "how"
    WHAT = "what"
    WHEN = "when"
    WHERE = "where"
    WHY = "why"
    WHO = "who"
    AMOUNT = "amount"
    YES_NO = "yes_no"
    MODAL = "modal"
    OTHER = "other"


ASKS: Final = {
    "how": Question.HOW,
    "what": Question.WHAT,
    "which": Question.WHAT,
    "when": Question.WHEN,
    "where": Question.WHERE,
    "why": Question.WHY,
    "who": Question.WHO,
}
_YES_NO: Final = frozenset("is are am was were do does did has have had if whether will would".split())
MODAL: Final = frozenset("can could should must may might shall".split())
MODALS: Final = MODAL | {"will", "would"}
FIRST: Final = frozenset("i me my mine myself we us our ours".split())
_SUBJECTS: Final = frozenset(
    "i you we they he she it one people any some all the my your our this that these".split()
)
_BE: Final = frozenset("is are was were am be long far old often big tall will would".split())
_AMOUNTS: Final = frozenset(("much", "many"))
_PARTS: Final = frozenset(("some", "any"))
_QUANTITIES: Final = frozenset("many much ever yet".split())
_FORMS_OF_BE: Final = frozenset("is are am be been being was were get got".split())

_LABELLED: Final = frozenset(
    "type vitamin hepatitis series class grade group team section part option schedule appendix exhibit phase step "
    "influenza factor formula apartment unit building terminal gate row zone category tier visa war".split()
)
"""Words after which "a" and "i" are letters or numerals."""
_TOLD: Final = frozenset(
    "tell telling show showing give giving let help helping get find bring send call join ask remind teach make both "
    "of between with for allow allows contact".split()
)
"""Words after which "us" is a pronoun, and not a country."""
_OWNER: Final = frozenset("a an my your his her their our the trash garbage tin soda living".split())
_SPEAKERS: Final = frozenset("i you we they he she it one that what".split())
_IT_NOUNS: Final = frozenset(
    "job jobs salary salaries support security manager department career degree company companies specialist "
    "technician admin course courses certification certifications service services consultant".split()
)


_AMBIGUOUS: Final = frozenset("a i us it can will".split())


def meant(words: list[str]) -> list[str]:
    """The words of a sentence, those that are written like an idle one but aren't as what they mean.

    A vitamin A, World War I, US visas, an IT manager, a can opener, a will.
    """
    if _AMBIGUOUS.isdisjoint(words):
        return words
    found = list(words)
    last = len(words) - 1
    for i, word in enumerate(words):
        if word not in _AMBIGUOUS:
            continue
        before, after = words[i - 1] if i else "", words[i + 1] if i < last else ""
        if word == "a" and (before in _LABELLED or (i and i == last) or after in ("level", "levels")):
            found[i] = "=A"
        elif word == "i" and (
            before in _LABELLED or (i == last and before and before not in IDLE and before not in MODALS)
        ):
            found[i] = "=I"
        elif word == "us" and before not in _TOLD:
            found[i] = "usa"
        elif word == "it" and (before in ("a", "an") or after in _IT_NOUNS):
            found[i] = "=IT"
        elif word in ("can", "will") and (before in _OWNER or (i and i == last and before not in _SPEAKERS)):
            found[i] = "=" + word
    return found


_WEAKEST: Final = frozenset("get got has have do".split())


def acting(words: list[str]) -> list[str]:
    """The sentence, with those of the weakest verbs kept that are all it asks about.

    Where one gets something isn't where it is, what has something or what it does isn't what it is, nor does one
    get all that one has.
    """
    if _WEAKEST.isdisjoint(words):
        return words
    found = list(words)
    for i, word in enumerate(words):
        if word in _WEAKEST and (
            (word == "get" and i == 1 and words[0] == "where")
            or (word == "get" and i == 2 and words[0] in ("do", "did", "will") and words[1] in FIRST)
            or (word in ("has", "have", "got") and i == 1 and words[0] in ("what", "who", "which"))
            or (word == "do" and i > 1 and (i == len(words) - 1 or words[i - 1] in _DOERS))
        ):
            found[i] = "=" + word
    return found


_DOERS: Final = frozenset("i you we one to".split())


def asked(words: list[str], sentence: list[str]) -> Question:
    """The kind of a sentence's question, of its words with and without what opens it."""
    question = _question(sentence)
    opening = words[: len(words) - len(sentence)]
    if question is not Question.OTHER:
        return question
    if "explain" in opening or sentence[0] == "about":
        return Question.WHAT  # not where it is, nor when
    if len(opening) == 2 and opening[1] == "you" and opening[0] in MODALS and FIRST.isdisjoint(words):
        return Question.MODAL  # can you freeze milk: not how
    return question


_ADJECTIVAL: Final = frozenset(("lost", "left", "been", "gone", "done"))


def forms(words: list[str]) -> Iterable[tuple[str, str]]:
    """Stems of words with the form that they have: "past", where that or a passive is meant for sure; "either"; "ing".

    The last only where yes or no is asked: whether it is raining now isn't whether it rains there.
    """
    be, running = False, bool(words) and words[0] in _FORMS_OF_BE
    for i, word in enumerate(words):
        form = _form(word)
        if form == "irregular":
            asked_for = i == 1 and words[0] in ("who", "what", "which")
            yield stem(word), "past" if be or word.endswith("en") or asked_for else "either"
        elif form == "past" or (form == "ing" and running):
            yield stem(word), form
        be = be or form == "be"


@lru_cache(maxsize=8192)
def _form(word: str) -> str:
    """The form of a word by itself: "be", "past", "irregular", "ing", or nothing."""
    if word in _FORMS_OF_BE:
        return "be"
    if word[0] in '#="' or word in _ADJECTIVAL:
        return ""
    if regular_past(word):
        return "past"
    if _irregular(word):
        return "irregular"
    return "ing" if word.endswith("ing") and stem(word) != word else ""


def quantities(words: list[str], kind: Question) -> Iterable[str]:
    """What says of how many, how often or since when, in a sentence to be answered with yes or no."""
    if kind in (Question.YES_NO, Question.MODAL):
        yield from _QUANTITIES.intersection(words)
        yield from _PARTS.intersection(words[1:2])
        if words[0] in ("has", "have"):
            yield from _BEEN.intersection(words)


_BEEN: Final = frozenset(("been",))


def _irregular(word: str) -> bool:
    return IRREGULAR.get(word, word) != word and word not in _FORMS_OF_BE


def _participle(word: str) -> bool:
    return regular_past(word) or _irregular(word)


def _question(words: list[str]) -> Question:
    first = words[0]
    after = words[1] if len(words) > 1 else ""
    if first in _YES_NO and after not in NEGATIONS and (first not in ("have", "do") or after in _SUBJECTS):
        return Question.YES_NO
    if first in MODAL and after not in NEGATIONS:
        return Question.MODAL
    if first == "any":
        return Question.WHAT
    if ASKS.keys().isdisjoint(words):
        return Question.OTHER
    for word, after in zip(words, (*words[1:], ""), strict=True):
        asks = ASKS.get(word)
        if asks is Question.HOW and after in _AMOUNTS:
            return Question.AMOUNT
        if asks is Question.HOW and after in _BE and not any(map(_participle, words)):
            return Question.WHAT
        if asks is not None:
            return asks
    return Question.OTHER
