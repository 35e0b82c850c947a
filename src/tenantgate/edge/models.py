"""The models of the semantic cache: built once, then loaded from the cache folder.

From the official weights (`tenantgate.edge.model_weights`) and the small adapters in this package
(``tenantgate/models``) int8 ONNX models are written: see `tenantgate.edge.onnx_bert`. There are two sets, each with its
folder: the *default models* of MiniLM, and the *large verifier* of MPNet for operators who want it.

Nothing here imports torch, except `SentenceTransformerEmbedder`, for operators who name a model of their own.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar
from weakref import WeakValueDictionary

import numpy as np

from tenantgate.cache.cascade import Cascade, Stage
from tenantgate.cache.config import BUILT_IN, LARGE
from tenantgate.cache.ports import Reading
from tenantgate.edge import onnx_bert
from tenantgate.edge.model_weights import MINILM, MPNET, Weights, sha256_of
from tenantgate.errors import ConfigError, EdgeError
from tenantgate.paths import models_dir

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Vector = NDArray[np.float32]

T = TypeVar("T")

__all__ = [
    "ADAPTERS",
    "READERS",
    "SHAPES",
    "STAGES",
    "ModelFiles",
    "OnnxEmbedder",
    "OnnxLateReader",
    "OnnxPairReader",
    "SentenceTransformerEmbedder",
    "Tokens",
    "build_models",
    "calibration_file",
    "find_models",
    "load_readers",
    "load_verifier",
    "sides",
]

_SHIPPED: Final = Path(__file__).resolve().parents[1] / "models"

ADAPTERS: Final[Mapping[str, Path]] = {name: _SHIPPED / f"{name}.safetensors" for name in ("late", "mpnet")}
"""What was trained of the readers: the late one's layers whole, low-rank updates of mpnet's, and their heads."""

SHAPES: Final[Mapping[str, onnx_bert.BertShape]] = {
    "late": onnx_bert.BertShape(),  # and the embedder, which it reads on from
    # With these exact the log-odds differ from float32's by .26 (root of the mean square), without by 1.0; that takes
    # 8 % more time and 35 MB.
    "mpnet": onnx_bert.BertShape(epsilon=1e-5, exact=(6, 7, 8, 9, 10)),
}
"""What is read with: two of MiniLM's layers on the embedder's states, all twelve of MPNet's."""

READERS: Final[Mapping[str, tuple[str, ...]]] = {
    BUILT_IN: ("late",),
    LARGE: ("late", "mpnet"),
}
"""The readers of each verifier, in turn."""

# The cosine counts for more than where the reader was trained (10): so fewer hits on traffic are wrong. Beside the
# cross-encoder it counts for little, since there it costs hard pairs, which that one is for. The late reader says yes
# to two thirds of the hits on traffic there, which costs hard pairs .01 of recall; and a no to nine tenths of the rest.
_LATE: Final = Stage((1.0,), cosine=28.0, at=0.78)
STAGES: Final[Mapping[str, tuple[Stage, ...]]] = {
    BUILT_IN: (_LATE,),
    LARGE: (replace(_LATE, no=0.27, yes=2.2), Stage((0.3, 1.0), cosine=3.0, at=0.78)),
}
"""What is made of them."""

_MANIFEST = "manifest.json"
# Few tokens are as long as this. A text longer than this per token counts as truncated without being read,
# so that a text of megabytes costs no more than a long one.
_CHARACTERS_PER_TOKEN = 32
_ENCODED = 32  # texts and pairs whose tokens are remembered: those of the requests at work


def calibration_file(verifier: str) -> Path:
    """How often answers at or above a score of the verifier of this name were wrong, where it wasn't trained."""
    return _SHIPPED / ("calibration.json" if verifier == BUILT_IN else f"calibration-{verifier}.json")


@dataclass(frozen=True, slots=True)
class _Kit:
    """The models that are built from one encoder."""

    name: str
    weights: Weights
    readers: tuple[str, ...]
    embedder: bool
    what: str
    recipe: int
    """Counted up when other models are built from the same weights."""

    def identities(self, adapters: Mapping[str, Path]) -> dict[str, str]:
        base = ":".join((str(self.recipe), *self.weights.sha256.values()))
        found = {}
        for reader in self.readers:
            try:
                trained = sha256_of(adapters[reader])
            except OSError as error:
                raise EdgeError(f"models: no adapter {adapters[reader]}") from error
            found[reader] = _sha256(f"{reader}:{base}:{trained}".encode())
        if self.embedder:
            # It makes the late reader's states: what one version stored must never be read by another.
            found["embedder"] = _sha256(f"embedder:{base}:{found['late']}".encode())
        return found

    def directory(self, cache_dir: Path, identities: Mapping[str, str]) -> Path:
        return cache_dir / f"{self.name}-{_sha256(':'.join(identities.values()).encode())[:12]}"

    def write(self, weights: Path, adapters: Mapping[str, Path], out: Path) -> None:
        base: Mapping[str, Any] = onnx_bert.read_safetensors(weights / "model.safetensors")
        if onnx_bert.is_mpnet(base):
            base = onnx_bert.mpnet_as_bert(base)
        if self.embedder:
            late = onnx_bert.read_safetensors(adapters["late"])
            (out / "embedder.onnx").write_bytes(onnx_bert.build_embedder(base, SHAPES["late"], late=late))
        for reader in self.readers:
            trained = onnx_bert.read_safetensors(adapters[reader])
            if reader == "late":
                model = onnx_bert.build_late_reader(trained, SHAPES[reader])
            else:
                model = onnx_bert.build_verifier(*onnx_bert.merge_adapter(base, trained), SHAPES[reader])
            (out / f"{reader}.onnx").write_bytes(model)
        shutil.copyfile(weights / "tokenizer.json", out / "tokenizer.json")


_KITS: Final[Mapping[str, _Kit]] = {
    BUILT_IN: _Kit("minilm", MINILM, ("late",), embedder=True, what="the default models", recipe=4),
    LARGE: _Kit("mpnet", MPNET, ("mpnet",), embedder=False, what="the large verifier", recipe=4),
}


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """One set of built models, as they lie in their folder."""

    directory: Path
    """``{model}.onnx`` for each, ``tokenizer.json`` and ``manifest.json``."""

    identities: dict[str, str]
    """By model: a hash of all that it was built from. Unlike the file's own hash it is the same on every machine,
    even where matrix products differ in the last bit."""

    def tokens(self, max_tokens: int = 128) -> Tokens:
        """What cuts texts into tokens; models of one set share it, so that each text is cut once."""
        path = self.directory / "tokenizer.json"
        return _once(path, max_tokens, lambda: Tokens(path, max_tokens))

    def embedder(self, max_tokens: int = 128) -> OnnxEmbedder:
        """The embedder, loaded once while anybody has it."""
        path, identity = self.directory / "embedder.onnx", self.identities["embedder"]
        return _once(path, max_tokens, lambda: OnnxEmbedder(path, self.tokens(max_tokens), identity=identity))

    def reader(self, name: str, max_tokens: int = 128) -> OnnxPairReader | OnnxLateReader:
        """A reader by its name, loaded once while anybody has it."""
        path, identity = self.directory / f"{name}.onnx", self.identities[name]

        def load() -> OnnxPairReader | OnnxLateReader:
            if name == "late":
                return OnnxLateReader(path, self.embedder(max_tokens), identity=identity)
            return OnnxPairReader(path, self.tokens(max_tokens), identity=identity)

        return _once(path, max_tokens, load)


_loaded: Final[WeakValueDictionary[tuple[Path, int], Any]] = WeakValueDictionary()
_loading: Final = threading.RLock()


def _once(path: Path, max_tokens: int, load: Callable[[], T]) -> T:
    """What was loaded from `path` already, if anybody in this process still has it, or else what `load` gives."""
    with _loading:
        found: T | None = _loaded.get((path, max_tokens))
        if found is None:
            found = _loaded[path, max_tokens] = load()
        return found


def load_readers(
    name: str,
    files: ModelFiles,
    *,
    cache_dir: Path | None = None,
    adapters: Mapping[str, Path] = ADAPTERS,
) -> list[OnnxPairReader | OnnxLateReader]:
    """The readers of a verifier (`READERS`), of the default models in `files` and what else it needs.

    Raises:
        EdgeError: its models aren't built or can't be loaded.
    """
    readers = [files.reader(each) for each in READERS[name] if each in _KITS[BUILT_IN].readers]
    if name == LARGE:
        large = find_models(LARGE, cache_dir, adapters=adapters)
        if large is None:
            raise EdgeError("models: the large verifier isn't built: run `tenantgate models build --large`")
        readers.append(large.reader("mpnet"))
    return readers


def load_verifier(name: str, files: ModelFiles) -> Cascade:
    """The verifier of this name; as `load_readers`."""
    return Cascade(load_readers(name, files), STAGES[name])


def find_models(
    name: str = BUILT_IN, cache_dir: Path | None = None, *, adapters: Mapping[str, Path] = ADAPTERS
) -> ModelFiles | None:
    """The default models, or with `LARGE` the large verifier's, if they are built, else None. Takes milliseconds."""
    kit = _KITS[name]
    identities = kit.identities(adapters)
    directory = kit.directory(cache_dir or models_dir(), identities)
    try:
        manifest = json.loads((directory / _MANIFEST).read_text("utf-8"))
        whole = all(
            (directory / name).stat().st_size == file["bytes"] for name, file in manifest["files"].items()
        )
    except (OSError, ValueError, KeyError):
        return None
    return ModelFiles(directory, identities) if whole and manifest["identities"] == identities else None


def build_models(
    name: str = BUILT_IN,
    cache_dir: Path | None = None,
    *,
    source: Path | None = None,
    adapters: Mapping[str, Path] = ADAPTERS,
    progress: Callable[[str], None] = lambda _message: None,
) -> ModelFiles:
    """Build a set of models unless it is built; safe to call from several processes at once.

    Args:
        name: `BUILT_IN`: the default models; `LARGE`: the large verifier's.
        cache_dir: where to keep them; `tenantgate.paths.models_dir` when left out. Each build has a folder
            of its own in it, named after what it is built from: a newer version leaves it be.
        source: where the weights are; see `Weights.bring`.
        adapters: the readers' trained tensors, by reader.
        progress: called with one line for each step that takes a while.

    Raises:
        EdgeError: the weights can't be had or aren't the official ones.
    """
    cache_dir = cache_dir or models_dir()
    if found := find_models(name, cache_dir, adapters=adapters):
        return found
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
        with (cache_dir / ".lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            # Another process may have built them while this one waited.
            if found := find_models(name, cache_dir, adapters=adapters):
                return found
            with tempfile.TemporaryDirectory(prefix=".building-", dir=cache_dir) as scratch:
                return _build(
                    _KITS[name], Path(scratch), cache_dir, source=source, adapters=adapters, progress=progress
                )
    except OSError as error:
        raise EdgeError(
            f"models: can't write {cache_dir} ({error.strerror or type(error).__name__})"
        ) from error


def _build(
    kit: _Kit,
    scratch: Path,
    cache_dir: Path,
    *,
    source: Path | None,
    adapters: Mapping[str, Path],
    progress: Callable[[str], None],
) -> ModelFiles:
    fetched, out = scratch / "weights", scratch / "built"
    fetched.mkdir()
    out.mkdir()
    folder = kit.weights.bring(source, fetched, progress)
    progress(f"building {kit.what}")
    identities = kit.identities(adapters)
    kit.write(folder, adapters, out)
    manifest = {
        "version": 1,
        "identities": identities,
        "credits": f"{kit.weights.name} by sentence-transformers, Apache-2.0, "
        f"https://huggingface.co/sentence-transformers/{kit.weights.name}; "
        "what was trained on top: see tenantgate/models/README.md",
        "weights": dict(kit.weights.sha256),
        "adapters": {reader: sha256_of(adapters[reader]) for reader in kit.readers},
        "built_with": {name: metadata.version(name) for name in ("numpy", "onnx")},
        "files": {
            file.name: {"sha256": sha256_of(file), "bytes": file.stat().st_size}
            for file in sorted(out.iterdir())
        },
    }
    (out / _MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", "utf-8")
    target = kit.directory(cache_dir, identities)
    if target.exists():  # an incomplete one, or `find_models` would have taken it
        target.rename(scratch / "broken")
    out.rename(target)
    return ModelFiles(target, identities)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


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
        import tokenizers  # noqa: PLC0415 - some commands never need it

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
        # What stands between two texts beyond the first's separator: nothing, or as in MPNet's another one.
        self._between: list[int] = self._encode("", "").ids[2:-1]

    def _encode(self, *texts: str) -> Any:
        """A `tokenizers.Encoding` of a text, or of two side by side."""
        limit = self.max_tokens * _CHARACTERS_PER_TOKEN
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
        limit = self.max_tokens * _CHARACTERS_PER_TOKEN
        if any(len(text) > limit for text in texts):
            return True
        encoded = [self.encode(text) for text in texts]
        most = self.max_tokens - (len(self._between) - 1) * (len(texts) - 1)
        return any(each.overflowing for each in encoded) or sum(len(each) for each in encoded) > most


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
        import onnxruntime  # noqa: PLC0415 - takes 0.1 s and 40 MB, and some commands never need it

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
                data,
                options,
                providers=["CPUExecutionProvider"],
                disabled_optimizers=["SkipLayerNormFusion"],
            )
        except Exception as error:  # onnxruntime raises bare Exceptions
            raise EdgeError(
                f"models: can't load {model.name} from {model.parent} ({type(error).__name__})"
            ) from error
        self.fingerprint = _sha256(f"{identity or _sha256(data)}:{tokens.max_tokens}".encode())[:16]

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

    def log_odds(self, a: str, b: str, states: Mapping[str, bytes]) -> float:  # noqa: ARG002 - reads the texts
        """How likely one answer serves both; what that is worth on some traffic, calibration tells."""
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


class SentenceTransformerEmbedder:
    """Any sentence-transformers model, by name or folder; needs ``tenantgate[sentence-transformers]``.

    Several times slower than `OnnxEmbedder` and 400 MB larger: for languages and domains unknown to MiniLM.
    """

    def __init__(self, name_or_dir: str) -> None:
        try:
            from sentence_transformers import SentenceTransformer  # noqa: PLC0415 - brings torch
        except ImportError as error:
            raise ConfigError(
                "embedder: this model needs pip install 'tenantgate[sentence-transformers]'"
            ) from error
        try:
            self._model: Any = SentenceTransformer(name_or_dir, device="cpu")
        except Exception as error:  # whatever torch, the hub's client or the model's own code raises
            raise EdgeError(f"models: can't load {name_or_dir} ({type(error).__name__})") from error
        self._model.eval()
        self.max_tokens: int = self._model.max_seq_length or 512
        self.dimensions: int = len(self.embed("a"))
        digest = hashlib.sha256(f"sentence-transformers:{self.max_tokens}".encode())
        for part in self._state():
            digest.update(part)
        self.fingerprint = digest.hexdigest()[:16]

    def _state(self) -> Iterator[bytes]:
        import torch  # noqa: PLC0415

        for name, tensor in sorted(self._model.state_dict().items()):
            yield name.encode()
            yield tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()

    def truncates(self, text: str) -> bool:
        """Whether the model would see only a part of the text."""
        if len(text) > self.max_tokens * _CHARACTERS_PER_TOKEN:
            return True
        tokens = self._model.tokenizer(text, truncation=False, verbose=False)["input_ids"]
        return len(tokens) > self.max_tokens

    def read(self, text: str) -> Reading:
        """The text's vector, and no states: a late reader makes its own."""
        return Reading(self.embed(text))

    def embed(self, text: str) -> Vector:
        """The text's vector: float32 [dimensions], of length 1."""
        text = text[: self.max_tokens * _CHARACTERS_PER_TOKEN] if hasattr(self, "max_tokens") else text
        vector: Vector = self._model.encode(
            text, normalize_embeddings=True, convert_to_numpy=True, show_progress_bar=False
        )
        return vector.astype(np.float32, copy=False)
