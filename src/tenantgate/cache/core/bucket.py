"""Which stored questions can be near enough to be read at all, told from their words.

Two questions are compared by a model only if the rules find no difference (`tenantgate.cache.core.alignment`). So
whatever else they differ in, they have the same content words, or forms or listed synonyms of them. A text's *bucket*
is what is left of it when all that the rules let differ is taken out: two texts between which `compare` finds nothing
have the same bucket. That makes finding neighbours one look under a key, in place of a model's run and a search.

The converse doesn't hold, and needn't: what is found is compared.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Final

from tenantgate.cache.core.lexicon import ENDINGS, GENERIC, SYNONYMS
from tenantgate.cache.core.stems import stem
from tenantgate.cache.core.text_parts import PERSONS, Wording

__all__ = ["bucket"]

# A name's forms differ in one of `ENDINGS` after four letters at least. Without all at its end that such endings, and
# their beginnings, can be made of, both forms are the same.
_ROOT: Final = re.compile(r"(.{4}.*?)(?:[aeins]|ic)*", re.DOTALL)
assert all(re.fullmatch(r"(?:[aeins]|ic)+", ending) for ending in ENDINGS)  # noqa: S101 - of two constants


def _root(word: str) -> str:
    found = _ROOT.fullmatch(word)
    return word if found is None else found[1]


def _classes(groups: Iterable[Iterable[str]]) -> dict[str, str]:
    """For the roots of the groups' words one of all those that are joined by groups, directly or by others."""
    found: dict[str, str] = {}
    for group in groups:
        roots = {_root(stem(word)) for word in group}
        joined = roots | {root for root, one in found.items() if one in {found.get(each) for each in roots}}
        found |= dict.fromkeys(joined, min(joined))
    return found


_CLASS: Final = _classes(SYNONYMS)


def _class(key: str) -> str:
    if key[0] in '#="':
        return key
    root = _root(key)
    return _CLASS.get(root, root)


_LEFT_OUT: Final = frozenset(_class(stem(word)) for word in GENERIC)
"""What one of two texts may have and the other not, and what may stand for such a word."""


def bucket(wording: Wording) -> bytes:
    """What a text has in common with every text from which `alignment.compare` doesn't tell it apart."""
    classes = sorted(_class(term.key) for term in wording.terms if term.key not in PERSONS)
    content = [each for each in classes if each not in _LEFT_OUT]
    about = [content, wording.negations % 2, wording.sentences, sorted(wording.quantities)]
    return json.dumps(about, separators=(",", ":")).encode("ascii")
