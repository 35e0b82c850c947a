"""The package `llmlingua` as a pruner, with any LLMLingua-2 model by directory or name: the extra ``llmlingua``."""

from __future__ import annotations

import hashlib
import logging
import math
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

from tenantgate.compress.core.fillers import Token, noted, tokens_of, without_orphans
from tenantgate.compress.core.spans import merged, spans_of
from tenantgate.compress.speed import Pace
from tenantgate.compress.token_counts import token_counter
from tenantgate.errors import ConfigError
from tenantgate.telemetry import logs

__all__ = ["LinguaPruner", "aligned", "load"]

_log: Final = logging.getLogger("tenantgate.compress")
_WORD_SEP: Final = "\t\t|\t\t"
_LABEL_SEP: Final = " "
_FARTHEST: Final = 200  # characters that the model may have passed over between two words
_CHUNK: Final = (
    1500  # characters that are likely to fit the 512 tokens to which the package fills everything up
)
_WARM_UP: Final = "This is a sentence that the model reads to be ready. " * (_CHUNK // 53)


class LinguaPruner:
    """`Pruner` by `PromptCompressor.compress_prompt_llmlingua2`; one text at a time, because its tokenizer isn't safe
    for threads.

    Its rate is a share of all words; protected ones stay on top of it. Raises whatever the package raises
    for a first text, so that a model that doesn't work shows when it is loaded.
    """  # noqa: D205

    def __init__(self, compressor: Any, fingerprint: str) -> None:
        self._compressor = compressor
        self._lock = threading.Lock()
        self.fingerprint = fingerprint
        self._label(_WARM_UP, 0.5)
        started = time.perf_counter()
        self._label(_WARM_UP, 0.5)
        self.pace = Pace(time.perf_counter() - started)
        """Seconds a chunk."""

    def keep(
        self, text: str, protected: Sequence[tuple[int, int]], rate: float, deadline: float
    ) -> Sequence[tuple[int, int]] | None:
        """Spans to keep; None: out of time, nothing to drop, or what it says doesn't fit the text."""
        chunks = math.ceil(len(text) / _CHUNK)
        if not text.strip() or self.pace.late(chunks, deadline):
            return None
        spare = deadline - chunks * self.pace.seconds - time.monotonic()
        if not self._lock.acquire(timeout=max(0.0, spare)):
            return None
        try:
            started = time.perf_counter()
            labels = self._label(text, rate)
            self.pace.took(chunks, time.perf_counter() - started)
        except Exception as error:  # noqa: BLE001 - what the package trips over is a text that stays whole
            logs.event(_log, logging.WARNING, "llmlingua gave nothing", **logs.describe(error))
            return None
        finally:
            self._lock.release()
        found = aligned(text, labels)
        if found is None or time.monotonic() >= deadline:
            return None
        tokens = tokens_of(text)
        speakers = noted(tokens, text, protected)
        gone = _gone(tokens, found)
        if not gone:
            return None
        return merged(spans_of([*protected, *without_orphans(tokens, gone, text, speakers)]))

    def _label(self, text: str, rate: float) -> list[tuple[str, bool]]:
        result = self._compressor.compress_prompt_llmlingua2(
            [text], rate=rate, return_word_label=True, word_sep=_WORD_SEP, label_sep=_LABEL_SEP
        )
        pairs = (
            each.rpartition(_LABEL_SEP) for each in result["fn_labeled_original_prompt"].split(_WORD_SEP)
        )
        return [(word, label == "1") for word, _, label in pairs]


def aligned(text: str, labels: Sequence[tuple[str, bool]]) -> list[tuple[int, int, bool]] | None:
    """Where the labelled words stand in `text`, in order: start, end and whether it stays; None if one doesn't."""
    out: list[tuple[int, int, bool]] = []
    place = 0
    for labelled, stays in labels:
        word = labelled.strip("▁ \n\t")
        if not word:
            continue
        start = text.find(word, place, place + len(word) + _FARTHEST)
        if start < 0:
            return None
        place = start + len(word)
        out.append((start, place, stays))
    return out


def _gone(tokens: Sequence[Token], found: Sequence[tuple[int, int, bool]]) -> set[int]:
    """Starts of the words that go: every labelled word that touches it goes, and at least one does."""
    gone: set[int] = set()
    first = 0
    for token in tokens:
        while first < len(found) and found[first][1] <= token.start:
            first += 1
        if not token.is_word or token.protected or token.label >= 0:
            continue
        touching = []
        for start, _, stays in found[first : first + 64]:
            if start >= token.end:
                break
            touching.append(stays)
        if touching and not any(touching):
            gone.add(token.start)
    return gone


class _Counted:
    """Stands in for OpenAI's tokenizer, which the package would fetch only to count."""

    def __init__(self) -> None:
        self._counter = token_counter("cl100k_base")

    def encode(self, text: str) -> range:
        """Something of the right length."""
        return range(self._counter.count(text))


def load(name: str) -> LinguaPruner:
    """The pruner with the model `name`: a directory, or a name on the hub that transformers then fetches.

    Raises:
        ConfigError: the extra isn't installed, or the model can't be loaded.
    """
    try:
        from llmlingua import prompt_compressor as package
    except ImportError:
        raise ConfigError("pruner: llmlingua needs pip install 'tenantgate[llmlingua]'") from None
    local = Path(name).is_dir()
    theirs = package.tiktoken
    try:
        package.tiktoken = SimpleNamespace(encoding_for_model=lambda _model: _Counted())
        compressor = package.PromptCompressor(
            name,
            device_map="cpu",
            use_llmlingua2=True,
            # By default the package runs code that comes with a model.
            model_config={"trust_remote_code": False, "local_files_only": local},
        )
        return LinguaPruner(compressor, f"llmlingua-{_digest(name, compressor)}")
    except NotImplementedError:
        raise ConfigError(
            f"pruner_model: {name}: the package tells how to join words by the name, which must hold "
            "bert-base-multilingual-cased or xlm-roberta-large"
        ) from None
    except Exception as error:  # noqa: BLE001 - whatever torch, transformers or the hub's client raises
        raise ConfigError(f"pruner_model: {name} can't be loaded ({type(error).__name__})") from None
    finally:
        package.tiktoken = theirs


def _digest(name: str, compressor: Any) -> str:
    """Of the weights."""
    digest = hashlib.sha256(Path(name).name.encode())
    for key, tensor in sorted(compressor.model.state_dict().items()):
        digest.update(key.encode())
        digest.update(tensor.detach().float().contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]
