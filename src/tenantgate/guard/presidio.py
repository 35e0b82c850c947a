"""Recognisers of Microsoft Presidio that operators bring: the extra ``presidio``.

The engine runs without a model of a language (names are the detector `names`' part): a blank spaCy pipeline whose
words are their own lemmas, so that the context words of recognisers count. Presidio's expressions may backtrack; one
that takes longer than any deadline is given up by Presidio, and the text then counts as not read.
"""

from __future__ import annotations

import logging
import os
import re
import threading
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

from tenantgate.errors import ConfigError, EdgeError
from tenantgate.pii.core import Finding, outermost, without_surrogates
from tenantgate.time_left import check_time

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["PresidioFinder"]

_PIECE: Final = 20_000  # characters at once, between two looks at the clock
_OVERLAP: Final = 200
_TIMEOUT_S: Final = (
    "2"  # of one expression: above the longest deadline, so that a text that was cut short never passes
)
_BLANK: Final = "tenantgate_lemmas"
_NOT_NAME: Final = re.compile("[^A-Z0-9]++")
_lock: Final = threading.Lock()


class PresidioFinder:
    """Presidio's analyzer with one configuration of recognisers; thread-safe."""

    def __init__(self, recognizers: str | None, language: str, entities: Sequence[str]) -> None:
        """Load them, which takes one to two seconds.

        Args:
            recognizers: path of a YAML file as `RecognizerRegistryProvider` takes it; left out, those that come with
                Presidio for the language and need no model.
            language: such as ``en``.
            entities: what is looked for; all that the recognisers know when empty.

        Raises:
            ConfigError: the extra isn't installed, or the file or an entity is wrong.
        """
        self._language = language
        with _lock:
            try:
                self._engine = _engine(recognizers, language)
            except ImportError:
                raise ConfigError("the detector presidio needs the extra tenantgate[presidio]") from None
            except EdgeError:
                raise
            except Exception as error:  # noqa: BLE001 - whatever its configuration classes raise; it may quote the file
                raise ConfigError(f"presidio: recognizers can't be loaded ({type(error).__name__})") from None
        known = set(self._engine.get_supported_entities(language))
        for entity in entities:
            if entity not in known:
                raise ConfigError(
                    f"presidio: no recognizer for {language} finds {entity}; known: {', '.join(sorted(known))}"
                )
        self._entities = list(entities) or sorted(known)

    def find(self, text: str) -> tuple[Finding, ...]:
        """What the recognisers find, under their entities' names.

        Raises:
            OutOfTimeError: the text is longer than there is time for (`time_left.limited`).
        """
        readable = without_surrogates(text)
        found: list[Finding] = []
        for start in range(0, max(1, len(readable)), _PIECE - _OVERLAP):
            check_time()
            results = self._engine.analyze(
                readable[start : start + _PIECE], language=self._language, entities=self._entities
            )
            found += (
                Finding(start + r.start, start + r.end, _kind(r.entity_type), float(r.score))
                for r in results
                if r.end > r.start
            )
            if start + _PIECE >= len(readable):
                break
        check_time()
        return outermost(found)


def _kind(entity: str) -> str:
    """The entity's name as placeholders take it: capitals, digits and underscores."""
    name = _NOT_NAME.sub("_", entity.upper()).strip("_")[:40]
    return name if name[:1].isalpha() else f"ENTITY_{name}"[:40]


def _engine(recognizers: str | None, language: str) -> Any:
    os.environ.setdefault("REGEX_TIMEOUT_SECONDS", _TIMEOUT_S)
    import tldextract

    # The recogniser of e-mail addresses would fetch the list of public suffixes from the web.
    suffixes: Any = tldextract
    suffixes.extract = tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None)
    from presidio_analyzer import AnalyzerEngine
    from presidio_analyzer.recognizer_registry import RecognizerRegistryProvider

    logging.getLogger("presidio-analyzer").setLevel(logging.ERROR)  # it may log what it reads
    nlp = _nlp(language)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a recogniser by spaCy is added, which is taken out below
        provider = RecognizerRegistryProvider(
            registry_configuration=_configuration(recognizers, language), nlp_engine=nlp
        )
        registry = provider.create_recognizer_registry()
    registry.recognizers = [r for r in registry.recognizers if type(r).__name__ != "SpacyRecognizer"]
    engine = AnalyzerEngine(registry=registry, nlp_engine=nlp, supported_languages=[language])
    engine.analyze("warm up", language=language)
    return engine


def _configuration(recognizers: str | None, language: str) -> dict[str, Any] | None:
    """The file, as Presidio's registry or its whole analyzer takes it, or with recognisers alone."""
    if recognizers is None:
        return {"supported_languages": [language], "recognizers": _predefined()}
    try:
        read = yaml.safe_load(Path(recognizers).read_text("utf-8"))
    except OSError as error:
        raise EdgeError(f"presidio: the file of recognizers can't be read ({type(error).__name__})") from None
    read = read.get("recognizer_registry", read)
    return {"supported_languages": [language], **read}


def _predefined() -> list[Any]:
    import presidio_analyzer

    path = Path(presidio_analyzer.__file__).parent / "conf" / "default_recognizers.yaml"
    found: list[Any] = yaml.safe_load(path.read_text("utf-8"))["recognizers"]
    return found


def _lemmas(doc: Any) -> Any:
    for token in doc:
        token.lemma_ = token.lower_
    return doc


def _nlp(language: str) -> Any:
    import spacy
    from presidio_analyzer.nlp_engine import SpacyNlpEngine
    from spacy.language import Language

    if not Language.has_factory(_BLANK):
        Language.component(_BLANK, func=_lemmas)
    blank = spacy.blank(language)
    blank.add_pipe(_BLANK)

    class BlankEngine(SpacyNlpEngine):  # type: ignore[misc, unused-ignore]
        """Presidio's engine over the blank pipeline."""

        def load(self) -> None:
            self.nlp: Any = {language: blank}

    engine = BlankEngine(models=[{"lang_code": language, "model_name": "blank"}])
    engine.load()
    return engine
