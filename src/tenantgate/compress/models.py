"""Models that say how much each word of a prompt is worth: our own, and any of LLMLingua-2's kind as ONNX.

Both read a text in short chunks, because attention over 512 tokens costs more than over four times 128, and give
each word the mean of its tokens' probabilities (Pan et al., LLMLingua-2, https://arxiv.org/abs/2403.12968).
"""

from __future__ import annotations

import hashlib
import io
import json
import time
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from tenantgate.compress.core.ranked import RankedPruner
from tenantgate.compress.core.word_features import FEATURES, features
from tenantgate.compress.speed import Pace
from tenantgate.errors import ConfigError, EdgeError
from tenantgate.models.files import find_models
from tenantgate.models.onnx_bert import cut_embedder
from tenantgate.models.runtime import onnx_runtime
from tenantgate.models.shipped import SHIPPED, check

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

__all__ = [
    "HEAD",
    "Chunk",
    "Head",
    "HeadScorer",
    "LinguaScorer",
    "TokenModel",
    "built_in",
    "onnx_lingua",
    "word_means",
    "words_of_tokens",
]

CHUNK: Final = 128
"""Tokens that a model sees at once, the two around them included."""

HEAD: Final = SHIPPED / "compressor.npz"
"""The weights of the built-in model; data sheet: README.md beside it."""

_CHARACTERS_PER_TOKEN: Final = 6  # more than English prose has, so that the estimate is a floor
_SHORTEST: Final = 0.5  # of a chunk; below that it isn't cut at a sentence's end


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some tokens of a text: their numbers, and the places [n, 2] of their characters."""

    ids: tuple[int, ...]
    places: Array


class TokenModel:
    """A tokenizer and an ONNX model that gives a vector for each token; safe for threads.

    Args:
        model: a path, or the file's bytes.
        tokenizer: its ``tokenizer.json``.
        chunk: tokens at once, 16 to 512.

    Raises:
        EdgeError: it can't be loaded.
    """

    def __init__(self, model: Path | bytes, tokenizer: Path, *, chunk: int = CHUNK, threads: int = 1) -> None:
        import tokenizers

        onnxruntime = onnx_runtime()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        try:
            data = model if isinstance(model, bytes) else str(model)
            self._session: Any = onnxruntime.InferenceSession(
                data, options, providers=["CPUExecutionProvider"]
            )
            self._tokenizer: Any = tokenizers.Tokenizer.from_file(str(tokenizer))
            self._tokenizer.no_padding()
            self._tokenizer.no_truncation()
            around = self._tokenizer.encode("").ids
            self._inputs = {
                i.name: np.int32 if "int32" in i.type else np.int64 for i in self._session.get_inputs()
            }
        except Exception as error:  # onnxruntime and tokenizers raise bare Exceptions
            raise EdgeError(f"can't load the model beside {tokenizer} ({type(error).__name__})") from error
        if len(around) != 2 or not {"input_ids"} <= set(self._inputs) <= {
            "input_ids",
            "attention_mask",
            "token_type_ids",
        }:
            raise EdgeError(f"the model beside {tokenizer} isn't an encoder of BERT's kind")
        self._tokenizer.encode_special_tokens = True  # "[SEP]" in a prompt is text
        self._first, self._last = around
        self._room = chunk - 2
        full = Chunk((self._first,) * self._room, np.zeros((self._room, 2), np.int64))
        self.run(full)  # allocates
        started = time.perf_counter()
        self.width = int(self.run(full).shape[-1])
        self.pace = Pace((time.perf_counter() - started) / chunk)
        """Seconds a token."""

    def chunks(self, text: str) -> Iterator[Chunk]:
        """The tokens of `text`, cut at ends of sentences or lines, else between words."""
        encoded = self._tokenizer.encode(text, add_special_tokens=False)
        ids, places = encoded.ids, np.array(encoded.offsets, np.int64).reshape(-1, 2)
        start = 0
        while start < len(ids):
            end = len(ids)
            if end - start > self._room:
                end = self._cut(text, places, start)
            yield Chunk(tuple(ids[start:end]), places[start:end])
            start = end

    def _cut(self, text: str, places: Array, start: int) -> int:
        end = start + self._room
        between = end
        for i in range(end, start + int(self._room * _SHORTEST), -1):
            before, after = int(places[i - 1, 1]), int(places[i, 0])
            if "\n" in text[before:after] or (before < after and text[before - 1 : before] in ".!?。！？"):
                return i
            if between == end and before < after:
                between = i
        return between

    def run(self, chunk: Chunk) -> Array:
        """The model's output for each token of `chunk`: float32 [n, width]."""
        ids = (self._first, *chunk.ids, self._last)
        given = {"input_ids": ids, "attention_mask": (1,) * len(ids), "token_type_ids": (0,) * len(ids)}
        arrays = {name: np.array([given[name]], kind) for name, kind in self._inputs.items()}
        result: Array = self._session.run(None, arrays)[0][0, 1:-1]
        return result

    def read(self, text: str, deadline: float) -> list[tuple[Chunk, Array]] | None:
        """Each chunk with its output; None if that isn't, or is unlikely to be, done by `deadline`."""
        # A text that is hopeless isn't even cut into tokens.
        if self.pace.late(len(text) / _CHARACTERS_PER_TOKEN, deadline):
            return None
        chunks = list(self.chunks(text))
        left = sum(len(c.ids) + 2 for c in chunks)
        out = []
        for chunk in chunks:
            if self.pace.late(left, deadline):
                return None
            size, started = len(chunk.ids) + 2, time.perf_counter()
            out.append((chunk, self.run(chunk)))
            self.pace.took(size, time.perf_counter() - started)
            left -= size
        return out


def words_of_tokens(words: Sequence[tuple[int, int]], chunks: Sequence[Chunk]) -> tuple[Array, Array]:
    """For the tokens of `chunks`, one after another: the word that each belongs to, and whether it belongs to one.

    A token belongs to the first of `words` that it touches; where it touches none the first number means nothing.
    """
    if not words or not chunks:
        size = sum(len(chunk.ids) for chunk in chunks)
        return np.zeros(size, np.int64), np.zeros(size, bool)
    places, spans = np.concatenate([chunk.places for chunk in chunks]), np.array(words, np.int64)
    index = np.searchsorted(spans[:, 1], places[:, 0], side="right").clip(max=len(spans) - 1)
    inside = (spans[index, 0] < places[:, 1]) & (places[:, 0] < spans[index, 1])
    return index, inside


def word_means(
    words: Sequence[tuple[int, int]], chunks: Sequence[Chunk], logits: Array, more: Array | None = None
) -> list[float]:
    """For each of `words` the mean probability of its tokens; NaN where it has none.

    `logits` [tokens of all chunks]; `more` [words] is added to those of a word's tokens.
    """
    index, inside = words_of_tokens(words, chunks)
    index, value = index[inside], logits[inside]
    if more is not None:
        value = value + more[index]
    probability = 1 / (1 + np.exp(-np.clip(value, -60, 60)))
    totals = np.bincount(index, probability, minlength=len(words))
    counts = np.bincount(index, minlength=len(words))
    with np.errstate(invalid="ignore"):
        means: list[float] = (totals / counts).tolist()
    return means


@dataclass(frozen=True, slots=True)
class Head:
    """A logistic regression on the encoder's vectors: what `training/train_compressor.py` writes."""

    layers: int
    """Layers of the encoder that it was trained on."""

    states: Array
    """float32 [width], a weight for each number of a token's vector"""

    features: Array
    """float32 [features], for `tenantgate.compress.core.word_features.features`"""

    bias: float
    fingerprint: str

    @classmethod
    def load(cls, path: Path) -> Head:
        """The weights of a file.

        Raises:
            EdgeError: it can't be read, isn't one of this version, or is the package's and not as released.
        """
        try:
            data = path.read_bytes()
            check(path, hashlib.sha256(data).hexdigest())
            with np.load(io.BytesIO(data), allow_pickle=False) as file:
                head = cls(
                    int(file["layers"]),
                    file["states"].astype(np.float32),
                    file["features"].astype(np.float32),
                    float(file["bias"]),
                    hashlib.sha256(data).hexdigest()[:12],
                )
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise EdgeError(f"{path}: can't be read as weights ({type(error).__name__})") from None
        if head.features.shape != (len(FEATURES),) or head.states.ndim != 1:
            raise EdgeError(f"{path}: weights of another version")
        return head


class HeadScorer:
    """`WordScorer` with a `Head` on the first layers of the built-in encoder."""

    def __init__(self, model: TokenModel, head: Head) -> None:
        self._model = model
        self._head = head
        self.fingerprint = f"model-{head.fingerprint}"

    def scores(self, text: str, words: Sequence[tuple[int, int]], deadline: float) -> Sequence[float] | None:
        """How likely each word is worth keeping, 0 to 1."""
        read = self._model.read(text, deadline)
        if read is None:
            return None
        # The features are a word's, so they add the same to each of its tokens.
        more = features(text, words) @ self._head.features + self._head.bias
        chunks, states = zip(*read, strict=True) if read else ((), ())
        return word_means(words, chunks, _joined([each @ self._head.states for each in states]), more)


class LinguaScorer:
    """`WordScorer` with a model of LLMLingua-2's kind as ONNX: two classes for each token, the second one stays."""

    def __init__(self, model: TokenModel, fingerprint: str) -> None:
        self._model = model
        self.fingerprint = fingerprint

    def scores(self, text: str, words: Sequence[tuple[int, int]], deadline: float) -> Sequence[float] | None:
        """The mean probability of each word's tokens, 0 to 1."""
        read = self._model.read(text, deadline)
        if read is None:
            return None
        chunks, outputs = zip(*read, strict=True) if read else ((), ())
        return word_means(words, chunks, _joined([each[:, 1] - each[:, 0] for each in outputs]))


def _joined(parts: Sequence[Array]) -> Array:
    return np.concatenate(parts) if parts else np.zeros(0, np.float32)


def built_in() -> RankedPruner:
    """The small model that ships with the package, on the encoder that `tenantgate models build` builds.

    Raises:
        ConfigError: the encoder isn't built, or the weights can't be read.
    """
    files = find_models()
    if files is None:
        raise ConfigError("pruner: model needs the built models: run `tenantgate models build`")
    try:
        head = Head.load(HEAD)
        data = cut_embedder((files.directory / "embedder.onnx").read_bytes(), head.layers)
        model = TokenModel(data, files.directory / "tokenizer.json")
    except (EdgeError, OSError) as error:
        raise ConfigError(f"pruner: model: {error}") from None
    return RankedPruner(HeadScorer(model, head), fillers_first=True)


def onnx_lingua(directory: Path, model: Path) -> RankedPruner:
    """A model of LLMLingua-2's kind that was exported to ONNX, with its `tokenizer.json` and `config.json`.

    Raises:
        ConfigError: something of it is missing, or it has other classes.
    """
    try:
        config = json.loads((directory / "config.json").read_text("utf-8"))
        labels = config.get("num_labels", len(config.get("id2label", ())) or 2)
        if labels != 2:
            raise ConfigError(f"pruner_model: {directory} has {labels} classes, not 2")
        tokens = TokenModel(model, directory / "tokenizer.json")
        width = tokens.width
    except (EdgeError, OSError, ValueError, AttributeError) as error:
        raise ConfigError(f"pruner_model: {directory} can't be loaded: {_short(error)}") from None
    if width != 2:
        raise ConfigError(f"pruner_model: {model} gives {width} numbers for a token, not 2")
    digest = hashlib.sha256()
    with model.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return RankedPruner(LinguaScorer(tokens, f"llmlingua-2-{digest.hexdigest()[:12]}"))


def _short(error: Exception) -> str:
    if isinstance(error, EdgeError):
        return str(error)
    return f"{type(error).__name__} {Path(str(getattr(error, 'filename', '') or '')).name}".strip()
