"""Which language a text is in, by py3langid: naive Bayes over byte n-grams (Lui and Baldwin, ACL 2012).

https://github.com/adbar/py3langid, BSD-3-Clause; https://aclanthology.org/P12-3005/. Pure Python and NumPy, so
nothing compiled reads clients' texts. Its confidence grows with a text's length: a word or two get little of it in
whatever language, which is what a caller wants that does nothing where it isn't sure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from tenantgate.store.shared import Shared

__all__ = ["MOST_CHARACTERS", "Guess", "Languages", "english", "identify", "load_identifier"]

MOST_CHARACTERS: Final = 400
"""Characters that are read, from the start: about 1.5 µs each; more changes no answer."""


@dataclass(frozen=True, slots=True)
class Guess:
    """The likeliest language: its ISO 639 code, and how likely it is, 0 to 1, among all that the model knows."""

    language: str
    confidence: float


def identify(text: str) -> Guess:
    """The language of `text` (of its first `MOST_CHARACTERS`). Safe for threads; never raises for a text."""
    language, confidence = load_identifier().classify(text[:MOST_CHARACTERS])
    return Guess(language, confidence)


def english(text: str) -> float:
    """How likely `text` is English, 0 to 1; 0 where another language is likelier. As `identify`."""
    guess = identify(text)
    return guess.confidence if guess.language == "en" else 0.0


_NOT_EXCLUDED: Final = 0.1
"""How likely a short text must be English to be taken for it. A question of a few words is often likelier something
else: of 4,500 short English requests 96 to 99 % are above, of 60 short ones in twenty other languages none."""


class Languages:
    """A `tenantgate.cache.core.ports.LanguageIdentifier` for texts of a few words; safe for threads."""

    def language(self, text: str) -> str | None:
        """``en`` where English can't be excluded, else the likeliest language; None for no text."""
        ranked = load_identifier().rank(text[:MOST_CHARACTERS])
        if not text.strip():
            return None
        if any(language == "en" and likely >= _NOT_EXCLUDED for language, likely in ranked):
            return "en"
        best = str(ranked[0][0])
        return None if best == "en" else best


_identifiers: Final[Shared[Any]] = Shared(1)


def load_identifier() -> Any:
    """The model, one for a process: takes 0.6 s and 75 MB, so load it before there is anybody to answer."""
    return _identifiers.get("", _load)


def _load() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
