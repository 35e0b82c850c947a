"""Inference with the built models: tokens, embeddings, and pairs of texts read together.

Nothing here imports torch.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from tenantgate.errors import ConfigError, EdgeError
from tenantgate.models.ports import Reading
from tenantgate.models.runtime import onnx_runtime

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Vector = NDArray[np.float32]

__all__ = ["CHARACTERS_PER_TOKEN", "OnnxEmbedder", "OnnxLateReader", "OnnxPairReader", "Tokens", "sides"]

# Few tokens are as long as this. A text longer than this per token counts as truncated without being read,
# so that a text of megabytes costs no more than a long one.
CHARACTERS_PER_TOKEN: Final = 32
_PLAIN: Final = re.compile(r"[\t\n\r -~]*+")
_BERT_WORD: Final = re.compile(r"[A-Za-z0-9]++|[!-/:-@\[-`{-~]")
_WORDS: Final = 8192  # words, apart from any text, of which the number of tokens is remembered
_LONGEST_WORD: Final = 32  # characters of such a word
_SPECIAL: Final = 2  # tokens of a text beside its words'
_ENCODED: Final = 32  # texts and pairs whose tokens are remembered: those of the requests at work


class Tokens:
    """A tokenizer with a length. Safe to share between threads.

    Args:
        tokenizer: a ``tokenizer.json``.
        max_tokens: texts are cut to so many tokens, 8..512. 128 tokens cost the embedder about 14 ms.

    Raises:
        ConfigError: the length is out of range.
        EdgeError: the file can't be read.
    """

    def __init__(self, tokenizer: Path, max_tokens: int = 128) -> None:
        import tokenizers

        if not 8 <= max_tokens <= 512:
            raise ConfigError(f"max_tokens: must be in 8..512, not {max_tokens}")
        self.max_tokens = max_tokens
        try:
            self._tokenizer: Any = tokenizers.Tokenizer.from_file(str(tokenizer))
        except Exception as error:  # tokenizers raises bare Exceptions
            raise EdgeError(
                f"models: can't load {tokenizer.name} from {tokenizer.parent} ({type(error).__name__})"
            ) from error
        # The file bakes in padding and a length of its own; and "[SEP]" in a prompt is text, not a separator.
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(max_tokens, strategy="longest_first")
        self._tokenizer.encode_special_tokens = True
        # A request asks whether a text is truncated and then reads it, and several models read the same: that
        # should take one encoding.
        self.encode = lru_cache(_ENCODED)(self._encode)
        # BERT's cuts texts at blanks and signs first, then each word alone: the numbers of their tokens add up.
        parts = (self._tokenizer.normalizer, self._tokenizer.pre_tokenizer)
        self._by_words = [type(part).__name__ for part in parts] == ["BertNormalizer", "BertPreTokenizer"]
        self._longest = min(_LONGEST_WORD, max_tokens - _SPECIAL)  # whose tokens are surely not cut off
        self._of_word = lru_cache(_WORDS)(lambda word: len(self._encode(word)) - _SPECIAL)
        # What stands between two texts beyond the first's separator: nothing, or as in MPNet's another one.
        self._between: list[int] = self._encode("", "").ids[2:-1]

    def _encode(self, *texts: str) -> Any:
        """A `tokenizers.Encoding` of a text, or of two side by side."""
        limit = self.max_tokens * CHARACTERS_PER_TOKEN
        return self._tokenizer.encode(*(text[:limit] for text in texts))

    def pair(self, a: str, b: str) -> tuple[list[int], list[int]]:
        """The tokens of two texts side by side, and to which of them each belongs, as `sides` has it."""
        first, second = self.encode(a).ids, self.encode(b).ids
        ids = [*first, *self._between, *second[1:]]
        if len(ids) > self.max_tokens:
            encoded = self._encode(a, b)
            return encoded.ids, sides(encoded)
        return ids, [0] * len(first) + [1] * (len(ids) - len(first))

    def truncates(self, *texts: str) -> bool:
        """Whether only a part of the text, or of two side by side, would be seen.

        Two long texts with the same beginning have the same vector; so a truncated text must never count as
        similar.
        """
        # A token has a letter at least, and there are at most two special ones for each text.
        if all(text.isascii() for text in texts) and sum(len(text) + 2 for text in texts) <= self.max_tokens:
            return False
        limit = self.max_tokens * CHARACTERS_PER_TOKEN
        if any(len(text) > limit for text in texts):
            return True
        most = self.max_tokens - (len(self._between) - 1) * (len(texts) - 1)
        counts = [self._count(text, most) for text in texts]
        if None not in counts:
            return sum(count + _SPECIAL for count in counts if count is not None) > most
        encoded = [self.encode(text) for text in texts]
        return any(each.overflowing for each in encoded) or sum(len(each) for each in encoded) > most

    def _count(self, text: str, most: int) -> int | None:
        """How many tokens the text has, or more than `most` where it has more; None where only an encoding tells."""
        if not self._by_words or _PLAIN.fullmatch(text) is None:
            return None
        words = _BERT_WORD.findall(text)
        if len(words) > most:  # each is a token at least
            return len(words)
        if max(map(len, words), default=0) > self._longest:
            return None
        return sum(map(self._of_word, words))


def sides(encoding: Any) -> list[int]:
    """To which of two texts each token of a `tokenizers.Encoding` belongs: 0 or 1.

    The first separator is the first text's; MPNet's tokenizer, which knows no token types, sets another in front of
    the second text.
    """
    first = encoding.sequence_ids.count(0) + 2
    return [0] * first + [1] * (len(encoding.ids) - first)


class _Onnx:
    """What all models share. `run` may be called from several threads at once."""

    def __init__(self, model: Path, tokens: Tokens, *, threads: int, identity: str | None) -> None:
        onnxruntime = onnx_runtime()
        self.tokens = tokens
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # Spinning threads would take the processor from the gateway's workers beside us.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        try:
            data = model.read_bytes()
            # The fused form of adding and normalising is a scalar loop (ONNX Runtime 1.32): it takes several times as
            # long as the two, half of a late reader's time.
            self._session: Any = onnxruntime.InferenceSession(
                data, options, providers=["CPUExecutionProvider"], disabled_optimizers=["SkipLayerNormFusion"]
            )
        except Exception as error:  # onnxruntime raises bare Exceptions
            raise EdgeError(
                f"models: can't load {model.name} from {model.parent} ({type(error).__name__})"
            ) from error
        self.fingerprint = _digest(f"{identity or _digest(data)}:{tokens.max_tokens}".encode())[:16]

    def truncates(self, *texts: str) -> bool:
        """Whether the model would see only a part of the texts; see `Tokens.truncates`."""
        return self.tokens.truncates(*texts)

    def _run(self, **inputs: list[int]) -> list[Any]:
        arrays = {name: np.array([values], np.int32) for name, values in inputs.items()}
        found: list[Any] = self._session.run(None, arrays)
        return found


class OnnxEmbedder(_Onnx):
    """Texts as vectors of length 1, with an ONNX model that maps ``input_ids`` [1, n] to [1, dimensions].

    One text at a time: the scales of dynamic int8 depend on all that runs together, and a text's vector must
    not. Safe to share between threads.

    Args:
        model: the ONNX file.
        tokens: what cuts the texts for it.
        threads: of one call. 1 is right where several requests run at once.
        identity: what tells this model from others in `fingerprint`; the file's hash when left out.
    """

    def __init__(self, model: Path, tokens: Tokens, *, threads: int = 1, identity: str | None = None) -> None:
        super().__init__(model, tokens, threads=threads, identity=identity)
        self.dimensions: int = self._session.get_outputs()[0].shape[-1]

    def embed(self, text: str) -> Vector:
        """The text's vector: float32 [dimensions], of length 1."""
        vector: Vector = self._run(input_ids=self.tokens.encode(text).ids)[0][0]
        return vector

    def read(self, text: str) -> Reading:
        """The text's vector, and its tokens' states for `OnnxLateReader`."""
        vector, *states = self._run(input_ids=self.tokens.encode(text).ids)
        return Reading(vector[0], _packed(*states) if states else None)


class OnnxPairReader(_Onnx):
    """Whether one answer serves both of two texts, with a cross-encoder that reads them side by side.

    Safe to share between threads. Arguments as for `OnnxEmbedder`; the tokens' length counts both texts together.
    """

    def __init__(self, model: Path, tokens: Tokens, *, threads: int = 1, identity: str | None = None) -> None:
        super().__init__(model, tokens, threads=threads, identity=identity)

    def log_odds(self, a: str, b: str, states: Mapping[str, bytes]) -> float:
        """How likely one answer serves both; what that is worth on some traffic, calibration tells."""
        del states  # it reads the texts
        ids, sides_of = self.tokens.pair(a, b)
        return float(self._run(input_ids=ids, token_type_ids=sides_of)[0][0, 0])


class OnnxLateReader(_Onnx):
    """As `OnnxPairReader`, but each text has been through the lower layers alone: it reads the embedder's states.

    Args:
        model: the ONNX file.
        embedder: makes the states of texts that come without.
        threads: as for `OnnxEmbedder`.
        identity: likewise.
    """

    def __init__(
        self, model: Path, embedder: OnnxEmbedder, *, threads: int = 1, identity: str | None = None
    ) -> None:
        super().__init__(model, embedder.tokens, threads=threads, identity=identity)
        self._states: Callable[[str], bytes | None] = lru_cache(_ENCODED)(
            lambda text: embedder.read(text).states
        )
        self._width: int = embedder.dimensions

    def log_odds(self, a: str, b: str, states: Mapping[str, bytes]) -> float:
        """As `OnnxPairReader.log_odds`. `states` by text; a text that isn't there is run through the embedder.

        Raises:
            EdgeError: something in `states` isn't what the embedder gives.
        """
        a_count, a_scales, a_states = self._of(a, states)
        b_count, b_scales, b_states = self._of(b, states)
        sides, looks = _layout(a_count, b_count)
        inputs = {
            "states": np.frombuffer(a_states + b_states, np.int8).reshape(1, -1, self._width),
            "scales": np.frombuffer(a_scales + b_scales, np.float32).reshape(1, -1, 1),
            "sides": sides,
            "looks": looks,
        }
        return float(self._session.run(None, inputs)[0][0, 0])

    def _of(self, text: str, states: Mapping[str, bytes]) -> tuple[int, bytes, bytes]:
        """How many tokens, their scales and their states: `_packed`'s, taken apart."""
        packed = states.get(text) or self._states(text) or b""
        count, rest = divmod(len(packed), self._width + 4)
        if rest or not count:
            raise EdgeError(f"models: states of {len(packed)} bytes, not a multiple of {self._width + 4}")
        return count, packed[: 4 * count], packed[4 * count :]


def _packed(states: NDArray[np.int8], scales: Vector) -> bytes:
    """A text's states as bytes: n float32, then n · width int8."""
    return scales.tobytes() + states.tobytes()


@lru_cache(1024)
def _layout(a: int, b: int) -> tuple[NDArray[np.int32], Vector]:
    """Of two texts of so many tokens, the inputs ``sides`` and ``looks`` of `onnx_bert.build_late_reader`."""
    sides = np.repeat(np.arange(2, dtype=np.int32), (a, b))[None]
    looks = np.zeros((1, 4, a + b), np.float32)
    looks[0, 0, 0] = looks[0, 1, a] = 1
    looks[0, 2, :a], looks[0, 3, a:] = 1 / a, 1 / b
    return sides, looks


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
