"""Whether a text may be served the answer to a similar one: only if the models read all of it, in a measured language.

Embedder and verifier were trained on English. What their tokenizer drops or doesn't know (emoji, tags, private
characters, other scripts) they can't tell apart, and in other languages they tell apart little. Such texts are found
by the exact level only.
"""

from __future__ import annotations

import enum
import re
from typing import Final

from tenantgate.cache.core.ports import LanguageIdentifier

__all__ = ["LANGUAGES", "Unfit", "other_language", "unfit", "unreadable"]


class Unfit(enum.StrEnum):
    """Why only the exact level serves a text."""

    EMPTY = "no_text"
    TOO_LONG = "too_long"
    CHARACTERS = "characters"
    LANGUAGE = "language"


LANGUAGES: Final = frozenset(("en",))
"""Languages (ISO 639-1) in which the error of the decision was measured: `benchmarks/bench_cache.py` has the tables. A
language joins when its near misses are told apart there, and when the closed lists of `lexicon` have its words."""

# Letters of English, its loan words and names, and the signs that one writes among them: all of it is known to the
# built-in tokenizer, and none of it is dropped.
_READ: Final = re.compile(
    r"[\t\n\r -~ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÑÒÓÔÕÖØÙÚÛÜÝßàáâãäåæçèéêëìíîïñòóôõöøùúûüýÿŒœ"
    r"‘’“”–—…£€¥°±×÷²³½¼§]*"
)
_LONGEST_WORD: Final = 80
"""Characters. Of a longer one the tokenizer makes one unknown token, whatever it is (its own limit is 100)."""
_LONG_WORD: Final = re.compile(rf"\S{{{_LONGEST_WORD + 1}}}")


def unfit(text: str | None, languages: LanguageIdentifier) -> Unfit | None:
    """Why the text must not be compared by meaning, or None if it may; linear in its length."""
    reason = unreadable(text)
    return reason if reason is not None or text is None else other_language(text, languages)


def unreadable(text: str | None) -> Unfit | None:
    """The part of `unfit` that costs next to nothing: whether the models can read the text."""
    if text is None or not text.strip():
        return Unfit.EMPTY
    if _READ.fullmatch(text) is None or _LONG_WORD.search(text) is not None:
        return Unfit.CHARACTERS
    return None


def other_language(text: str, languages: LanguageIdentifier) -> Unfit | None:
    """The other part: whether its language was measured."""
    return None if languages.language(text) in LANGUAGES else Unfit.LANGUAGE
