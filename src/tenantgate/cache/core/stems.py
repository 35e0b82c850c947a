"""The stem of an English word: what its forms have in common."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from tenantgate.cache.core.lexicon import IRREGULAR, UNITS

__all__ = ["regular_past", "stem"]


def regular_past(word: str) -> bool:
    """Whether the word, in lower case, is a verb's form in "ed"."""
    return len(word) > _SHORT and word.endswith("ed") and word not in _NOT_INFLECTED


_SHORT: Final = 4  # letters: seed, used


@lru_cache(maxsize=8192)
def stem(word: str) -> str:
    """What the forms of one English word have in common; a unit's common name. Another word where in doubt."""
    if word in UNITS:
        return UNITS[word]
    word = IRREGULAR.get(word, word)
    if not word.isascii() or len(word) < 4:
        return word
    return _base(word)


_NOT_INFLECTED: Final = frozenset(
    "evening during nothing something anything everything ceiling sibling pudding wedding news always does this "
    "series species lens physics economics mathematics politics paris texas kansas hundred sacred naked wicked "
    "bleed breed speed seed need feed indeed exceed proceed succeed embed plane stare scare spine paste suite "
    "state theme quite there where these those clothe breathe prince since sense unite morale locale bus gas "
    "plus thus virus status bonus campus basis crisis analysis diagnosis hypothesis thesis alias canvas atlas "
    "christmas perhaps yes less unless across access address process success business pass class glass".split()
)
_VOWELS: Final = frozenset("aeiouy")


def _base(word: str) -> str:
    if word in _NOT_INFLECTED:
        return word
    if word.endswith(("ies", "ied")):
        return word[:-2] if len(word) > 4 else word[:-1]
    for ending in ("ing", "ed"):
        rest = word.removesuffix(ending)
        if (
            rest != word
            and len(rest) > 1
            and not _VOWELS.isdisjoint(rest)
            and not rest.endswith(("e", "eed"))
        ):
            return _uninflected(rest)
    if word.endswith(("sses", "shes", "ches", "xes", "zes")):
        word = word[:-2]
    elif word.endswith("s") and not word.endswith(("ss", "us", "is")) and not _VOWELS.isdisjoint(word):
        word = word[:-1]
    if word.endswith("y") and len(word) > 2 and word[-2] not in _VOWELS:
        return word[:-1] + "i"
    if word.endswith("e") and len(word) > 4 and word not in _NOT_INFLECTED:
        return word[:-1]
    return word


def _uninflected(rest: str) -> str:
    """What is before "ing" or "ed", as the base of the word without it is written."""
    if len(rest) > 2 and rest[-1] == rest[-2] and rest[-1] not in "lsz":
        return rest[:-1]
    if len(rest) > 4 and rest.endswith("ll"):
        return rest[:-1]  # cancelled, canceled
    if (
        len(rest) <= 3
        and rest[-1] not in "aeiouywx"
        and rest[-2] in _VOWELS
        and rest[:-2].isalpha() | (len(rest) == 2)
    ):
        return rest + "e"
    if rest.endswith("y") and len(rest) > 2 and rest[-2] not in _VOWELS:
        return rest[:-1] + "i"
    return rest
