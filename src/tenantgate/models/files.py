"""The models of the semantic cache: built once, then loaded from the cache folder.

From the official weights (`tenantgate.models.weights`) and the small adapters in this package
(``tenantgate/models``) int8 ONNX models are written: see `tenantgate.models.onnx_bert`. There are two sets, each with
its folder: the *default models* of MiniLM, and the *large verifier* of MPNet for operators who want it.

Nothing here imports torch, except `SentenceTransformerEmbedder`, for operators who name a model of their own.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from tenantgate.errors import EdgeError
from tenantgate.models import onnx_bert, tensors
from tenantgate.models.inference import OnnxEmbedder, OnnxLateReader, OnnxPairReader, Tokens
from tenantgate.models.ports import BUILT_IN, LARGE
from tenantgate.models.shipped import SHIPPED, check, sha256_of
from tenantgate.models.weights import MINILM, MPNET, Weights
from tenantgate.paths import models_dir
from tenantgate.store.shared import Shared

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Vector = NDArray[np.float32]

__all__ = ["ADAPTERS", "SHAPES", "ModelFiles", "build_models", "find_models"]

ADAPTERS: Final[Mapping[str, Path]] = {name: SHIPPED / f"{name}.safetensors" for name in ("late", "mpnet")}
"""What was trained of the readers: the late one's layers whole, low-rank updates of mpnet's, and their heads."""

SHAPES: Final[Mapping[str, onnx_bert.BertShape]] = {
    "late": onnx_bert.BertShape(),  # and the embedder, which it reads on from
    # With these exact the log-odds differ from float32's by .26 (root of the mean square), without by 1.0; that takes
    # 8 % more time and 35 MB.
    "mpnet": onnx_bert.BertShape(epsilon=1e-5, exact=(6, 7, 8, 9, 10)),
}
"""What is read with: two of MiniLM's layers on the embedder's states, all twelve of MPNet's."""

_MANIFEST = "manifest.json"


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
            check(adapters[reader], trained)
            found[reader] = _sha256(f"{reader}:{base}:{trained}".encode())
        if self.embedder:
            # It makes the late reader's states: what one version stored must never be read by another.
            found["embedder"] = _sha256(f"embedder:{base}:{found['late']}".encode())
        return found

    def directory(self, cache_dir: Path, identities: Mapping[str, str]) -> Path:
        return cache_dir / f"{self.name}-{_sha256(':'.join(identities.values()).encode())[:12]}"

    def write(self, weights: Path, adapters: Mapping[str, Path], out: Path) -> None:
        base: Mapping[str, Any] = tensors.read_safetensors(weights / "model.safetensors")
        if tensors.is_mpnet(base):
            base = tensors.mpnet_as_bert(base)
        if self.embedder:
            late = tensors.read_safetensors(adapters["late"])
            (out / "embedder.onnx").write_bytes(onnx_bert.build_embedder(base, SHAPES["late"], late=late))
        for reader in self.readers:
            trained = tensors.read_safetensors(adapters[reader])
            if reader == "late":
                model = onnx_bert.build_late_reader(trained, SHAPES[reader])
            else:
                model = onnx_bert.build_verifier(*tensors.merge_adapter(base, trained), SHAPES[reader])
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
        return _tokens.get((path, max_tokens), lambda: Tokens(path, max_tokens))

    def embedder(self, max_tokens: int = 128) -> OnnxEmbedder:
        """The embedder, loaded once while anybody has it."""
        path, identity = self.directory / "embedder.onnx", self.identities["embedder"]
        return _embedders.get(
            (path, max_tokens), lambda: OnnxEmbedder(path, self.tokens(max_tokens), identity=identity)
        )

    def reader(self, name: str, max_tokens: int = 128) -> OnnxPairReader | OnnxLateReader:
        """A reader by its name, loaded once while anybody has it."""
        path, identity = self.directory / f"{name}.onnx", self.identities[name]

        def load() -> OnnxPairReader | OnnxLateReader:
            if name == "late":
                return OnnxLateReader(path, self.embedder(max_tokens), identity=identity)
            return OnnxPairReader(path, self.tokens(max_tokens), identity=identity)

        return _readers.get((path, max_tokens), load)


# What was loaded already, by file and length, as long as anybody in this process has it.
_tokens: Final[Shared[Tokens]] = Shared(64, weak=True)
_embedders: Final[Shared[OnnxEmbedder]] = Shared(64, weak=True)
_readers: Final[Shared[OnnxPairReader | OnnxLateReader]] = Shared(64, weak=True)


def find_models(
    name: str = BUILT_IN, cache_dir: Path | None = None, *, adapters: Mapping[str, Path] = ADAPTERS
) -> ModelFiles | None:
    """The default models, or with `LARGE` the large verifier's, if they are built, else None. Takes milliseconds.

    Raises:
        EdgeError: what was trained for them isn't there, or isn't what was released.
    """
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
        "what was trained on top: see tenantgate/models/data/README.md",
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
