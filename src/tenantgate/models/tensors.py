"""Weights of a trained encoder: their file, their names, and what was trained on top of them."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tenantgate.errors import EdgeError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    Array = NDArray[Any]
    Tensors = Mapping[str, Array]

__all__ = [
    "DISTANCES",
    "PairHead",
    "is_mpnet",
    "layers_of",
    "merge_adapter",
    "mpnet_as_bert",
    "read_safetensors",
    "tensor_of",
]

_MPNET_NAMES: Mapping[str, str] = {"q": "query", "k": "key", "v": "value"}
DISTANCES = "encoder.relative_attention_bias.weight"
"""MPNet's name for what each head adds to its attention by distance: [32, heads]."""

_DTYPES: Mapping[str, str] = {"F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I8": "i1", "U8": "u1"}


def read_safetensors(path: Path) -> dict[str, Array]:
    """Read a safetensors file into memory-mapped arrays.

    The format (https://github.com/huggingface/safetensors#format): eight bytes with the header's length, a
    JSON header with dtype, shape and offsets of each tensor, then the tensors' bytes.

    Raises:
        EdgeError: the file isn't safetensors, or holds a dtype that isn't known here.
    """
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > 100_000_000:
                raise EdgeError(f"{path.name}: not a safetensors file")
            header = json.loads(file.read(length))
        data = np.memmap(path, dtype=np.uint8, mode="r", offset=8 + length)
        return {
            name: data[slice(*entry["data_offsets"])].view(_DTYPES[entry["dtype"]]).reshape(entry["shape"])
            for name, entry in header.items()
            if name != "__metadata__"
        }
    except (OSError, ValueError, KeyError, struct.error) as error:
        raise EdgeError(f"{path.name}: can't be read as safetensors ({type(error).__name__})") from error


def layers_of(tensors: Iterable[str]) -> list[int]:
    """The layers that have any of these tensors, the lowest first."""
    return sorted({int(name.split(".")[2]) for name in tensors if name.startswith("encoder.layer.")})


@dataclass(frozen=True, slots=True)
class PairHead:
    """A hidden layer (GELU) on [first vector, 4·|u-v|, 4·u·v]; u, v: both means. A late reader has two first ones."""

    hidden_weight: Array
    """[hidden, 3 · width], or 4 · width"""

    hidden_bias: Array
    """[hidden]"""

    out_weight: Array
    """[1, hidden]"""

    out_bias: Array
    """[1]"""

    @classmethod
    def of(cls, tensors: Tensors) -> PairHead:
        """The head among a reader's trained tensors (``head.hidden.*``, ``head.out.*``)."""
        hidden, out = (
            [tensor_of(tensors, f"head.{layer}.{kind}") for kind in ("weight", "bias")]
            for layer in ("hidden", "out")
        )
        return cls(*hidden, *out)


def merge_adapter(base: Tensors, adapter: Tensors) -> tuple[dict[str, Array], PairHead]:
    """Add low-rank updates to an encoder's weights and take out the head.

    The adapter names tensors as the encoder does. ``X.lora_A`` [rank, in] and ``X.lora_B`` [out, rank] mean
    ``X.weight + lora_B @ lora_A``; ``head.hidden.*`` and ``head.out.*`` are the head; any other tensor replaces the
    encoder's of the same name.

    Raises:
        EdgeError: the adapter doesn't fit the encoder.
    """
    merged = dict(base)
    try:
        for name, stored in adapter.items():
            value = np.asarray(stored, np.float32)
            if name.endswith(".lora_A"):
                target = name.removesuffix("lora_A") + "weight"
                update = np.asarray(adapter[name.removesuffix("A") + "B"], np.float32) @ value
                merged[target] = np.asarray(base[target], np.float32) + update
            elif not name.startswith("head.") and not name.endswith(".lora_B"):
                if base[name].shape != value.shape:
                    raise EdgeError(f"adapter: {name} has shape {value.shape}, not {base[name].shape}")
                merged[name] = value
    except (KeyError, ValueError) as error:
        raise EdgeError(f"adapter: doesn't fit the encoder ({error})") from error
    return merged, PairHead.of(adapter)


def is_mpnet(tensors: Tensors) -> bool:
    """Whether these are MPNet's weights, under its own names."""
    return f"mpnet.{DISTANCES}" in tensors or DISTANCES in tensors


def mpnet_as_bert(tensors: Tensors) -> dict[str, Array]:
    """MPNet's weights under BERT's names: the same encoder, but for distances in its attention.

    MPNet counts places from 2 and has no token types, so these are 0. Source: transformers' modeling_mpnet.py.
    """
    names = {f"attention.attn.{short}.": f"attention.self.{long}." for short, long in _MPNET_NAMES.items()}
    names |= {
        "attention.attn.o.": "attention.output.dense.",
        "attention.LayerNorm.": "attention.output.LayerNorm.",
    }
    found: dict[str, Array] = {}
    for name, value in tensors.items():
        new = name.removeprefix("mpnet.")
        for old, usual in names.items():
            new = new.replace(old, usual)
        found[new] = value
    try:
        found["embeddings.position_embeddings.weight"] = found["embeddings.position_embeddings.weight"][2:]
        width = found["embeddings.LayerNorm.weight"].shape[0]
    except KeyError as error:
        raise EdgeError(f"the encoder's weights lack {error}") from None
    found["embeddings.token_type_embeddings.weight"] = np.zeros((2, width), np.float32)
    return found


def tensor_of(tensors: Tensors, name: str) -> Array:
    """A tensor as float32."""
    try:
        return np.asarray(tensors[name], np.float32)
    except KeyError as error:
        raise EdgeError(f"the encoder's weights lack {name}") from error
