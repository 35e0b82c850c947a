"""An operator's own embedder, by the package sentence-transformers."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from tenantgate.errors import ConfigError, EdgeError
from tenantgate.models.inference import CHARACTERS_PER_TOKEN
from tenantgate.models.ports import Reading

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Vector = NDArray[np.float32]

__all__ = ["SentenceTransformerEmbedder"]


class SentenceTransformerEmbedder:
    """Any sentence-transformers model, by name or folder; needs ``tenantgate[sentence-transformers]``.

    Several times slower than `OnnxEmbedder` and 400 MB larger: for languages and domains unknown to MiniLM.
    """

    def __init__(self, name_or_dir: str) -> None:
        try:
            from sentence_transformers import SentenceTransformer
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
        import torch

        for name, tensor in sorted(self._model.state_dict().items()):
            yield name.encode()
            yield tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()

    def truncates(self, text: str) -> bool:
        """Whether the model would see only a part of the text."""
        if len(text) > self.max_tokens * CHARACTERS_PER_TOKEN:
            return True
        tokens = self._model.tokenizer(text, truncation=False, verbose=False)["input_ids"]
        return len(tokens) > self.max_tokens

    def read(self, text: str) -> Reading:
        """The text's vector, and no states: a late reader makes its own."""
        return Reading(self.embed(text))

    def embed(self, text: str) -> Vector:
        """The text's vector: float32 [dimensions], of length 1."""
        text = text[: self.max_tokens * CHARACTERS_PER_TOKEN] if hasattr(self, "max_tokens") else text
        vector: Vector = self._model.encode(
            text, normalize_embeddings=True, convert_to_numpy=True, show_progress_bar=False
        )
        return vector.astype(np.float32, copy=False)
