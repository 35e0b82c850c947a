"""Which language a text is in, by CLD2's tables of letters' sequences: microseconds a text, 4 MB."""

from __future__ import annotations

from typing import Final

import pycld2

__all__ = ["Cld2"]

_MOST: Final = 1000
"""Characters that are looked at: a language shows in fewer."""
_UNSURE: Final = "un"
_LEAST: Final = 80
"""Percent of the text that must be in the language."""


class Cld2:
    """A `LanguageIdentifier`; safe to share between threads, since the library holds constants only."""

    def language(self, text: str) -> str | None:
        """The language of a text as a code (ISO 639-1, in a few cases 639-3), or None where none is sure.

        A short text is often too little for the library to be sure of. Then its best guess counts, unless it would
        rather be sure of another.
        """
        guess = _detected(text[:_MOST], guess=True)
        if guess is None:
            return None
        return guess if _detected(text[:_MOST], guess=False) in (guess, None) else None


def _detected(text: str, *, guess: bool) -> str | None:
    try:
        _, _, found = pycld2.detect(text, isPlainText=True, bestEffort=guess)
    except (pycld2.error, UnicodeEncodeError):
        return None
    (_, code, percent, _) = found[0]
    return None if code == _UNSURE or percent < _LEAST else str(code)
