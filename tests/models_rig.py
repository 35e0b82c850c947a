"""A tiny random BERT and MPNet, their adapters and tokenizers: what the tests of models share."""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import tokenizers

from tenantgate.models import files as model_files
from tenantgate.models import onnx_bert
from tenantgate.models import tensors as model_tensors

WIDTH, WIDE, LAYERS, HEADS, RANK, HIDDEN = 32, 64, 2, 4, 3, 5
LATE_FROM = 1  # the encoder's layer whose output a late reader reads on from
SHAPE = onnx_bert.BertShape(heads=HEADS)
TINY_SHAPES = {"late": SHAPE, "mpnet": SHAPE}
WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    *"abcdefghijklmnopqrstuvwxyz",
    "how",
    "do",
    "i",
    "pay",
    "my",
    "bill",
    "?",
]
Tensors = dict[str, Any]
Adapters = dict[str, Path]


def tiny_tensors() -> Tensors:
    rng = np.random.default_rng(0)

    def draw(*shape: int) -> Any:
        return (rng.standard_normal(shape) * 0.3).astype(np.float32)

    tensors = {
        "embeddings.word_embeddings.weight": draw(len(WORDS), WIDTH),
        "embeddings.position_embeddings.weight": draw(512, WIDTH),
        "embeddings.token_type_embeddings.weight": draw(2, WIDTH),
        "embeddings.LayerNorm.weight": 1 + draw(WIDTH),
        "embeddings.LayerNorm.bias": draw(WIDTH),
    }
    sizes = {
        "attention.self.query": (WIDTH, WIDTH),
        "attention.self.key": (WIDTH, WIDTH),
        "attention.self.value": (WIDTH, WIDTH),
        "attention.output.dense": (WIDTH, WIDTH),
        "intermediate.dense": (WIDE, WIDTH),
        "output.dense": (WIDTH, WIDE),
    }
    for i in range(LAYERS):
        for name, (outputs, inputs) in sizes.items():
            tensors[f"encoder.layer.{i}.{name}.weight"] = draw(outputs, inputs)
            tensors[f"encoder.layer.{i}.{name}.bias"] = draw(outputs)
        for name in ("attention.output.LayerNorm", "output.LayerNorm"):
            tensors[f"encoder.layer.{i}.{name}.weight"] = 1 + draw(WIDTH)
            tensors[f"encoder.layer.{i}.{name}.bias"] = draw(WIDTH)
    return tensors


def tiny_adapter() -> Tensors:
    rng = np.random.default_rng(1)
    query = "encoder.layer.1.attention.self.query"
    shapes = {
        f"{query}.lora_A": (RANK, WIDTH),
        f"{query}.lora_B": (WIDTH, RANK),
        f"{query}.bias": (WIDTH,),
        "head.hidden.weight": (HIDDEN, 3 * WIDTH),
        "head.hidden.bias": (HIDDEN,),
        "head.out.weight": (1, HIDDEN),
        "head.out.bias": (1,),
    }
    return {name: rng.standard_normal(shape).astype(np.float16) for name, shape in shapes.items()}


def tiny_late() -> Tensors:
    """A late reader's tensors: a layer with fewer heads and a narrower feed-forward part, and one without that."""
    rng, size = np.random.default_rng(4), WIDTH // HEADS
    shapes: dict[str, tuple[int, ...]] = {
        "late.states.weight": (WIDTH, 2 * WIDTH),
        "late.states.bias": (WIDTH,),
        "late.norm.weight": (WIDTH,),
        "late.norm.bias": (WIDTH,),
        "late.sides": (2, WIDTH),
        "head.hidden.weight": (HIDDEN, 4 * WIDTH),
        "head.hidden.bias": (HIDDEN,),
        "head.out.weight": (1, HIDDEN),
        "head.out.bias": (1,),
    }
    for i, heads, wide in ((LATE_FROM, 3, 7), (LATE_FROM + 1, 2, 0)):
        layer = f"encoder.layer.{i}"
        for part in ("query", "key", "value"):
            shapes[f"{layer}.attention.self.{part}.weight"] = heads * size, WIDTH
            shapes[f"{layer}.attention.self.{part}.bias"] = (heads * size,)
        shapes[f"{layer}.attention.output.dense.weight"] = WIDTH, heads * size
        shapes[f"{layer}.attention.output.dense.bias"] = (WIDTH,)
        norms = ["attention.output.LayerNorm"]
        if wide:
            norms.append("output.LayerNorm")
            shapes[f"{layer}.intermediate.dense.weight"] = wide, WIDTH
            shapes[f"{layer}.intermediate.dense.bias"] = (wide,)
            shapes[f"{layer}.output.dense.weight"] = WIDTH, wide
            shapes[f"{layer}.output.dense.bias"] = (WIDTH,)
        shapes |= {f"{layer}.{norm}.{kind}": (WIDTH,) for norm in norms for kind in ("weight", "bias")}
    return {name: (rng.standard_normal(s) * 0.3).astype(np.float16) for name, s in shapes.items()}


def write_safetensors(path: Path, tensors: Tensors) -> None:
    header, blobs, at = {}, [], 0
    for name, value in tensors.items():
        blob = value.tobytes()
        dtype = {"float32": "F32", "float16": "F16"}[str(value.dtype)]
        header[name] = {"dtype": dtype, "shape": value.shape, "data_offsets": [at, at + len(blob)]}
        at += len(blob)
        blobs.append(blob)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(blobs))


def tiny_mpnet() -> Tensors:
    """The same encoder under MPNet's names, with two unused places in front and a bias by distance."""
    names = {
        "attention.self.query": "attention.attn.q",
        "attention.self.key": "attention.attn.k",
        "attention.self.value": "attention.attn.v",
        "attention.output.dense": "attention.attn.o",
        "attention.output.LayerNorm": "attention.LayerNorm",
    }
    found = {}
    for name, value in tiny_tensors().items():
        for usual, own in names.items():
            name = name.replace(usual, own)  # noqa: PLW2901
        found[f"mpnet.{name}"] = value
    del found["mpnet.embeddings.token_type_embeddings.weight"]
    places = "mpnet.embeddings.position_embeddings.weight"
    found[places] = np.concatenate([np.full((2, WIDTH), 9, np.float32), found[places]])
    bias = np.random.default_rng(2).standard_normal((32, HEADS)).astype(np.float32)
    return found | {f"mpnet.{model_tensors.DISTANCES}": bias}


def run(model: bytes, **inputs: Any) -> Any:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return session.run(None, inputs)[0]


def take_for_official(monkeypatch: pytest.MonkeyPatch, name: str, folder: Path) -> None:
    kit = model_files._KITS[name]
    hashes = {file: hashlib.sha256((folder / file).read_bytes()).hexdigest() for file in kit.weights.sha256}
    changed = replace(kit, weights=replace(kit.weights, sha256=hashes))
    monkeypatch.setattr(model_files, "_KITS", {**model_files._KITS, name: changed})


def write_tokenizer(folder: Path, processor: Any, marks: tuple[str, str]) -> None:
    """A tokenizer of words, with the padding and the length that published ones bake in."""
    words = [*WORDS[:2], *marks, *WORDS[4:]]
    tokenizer = tokenizers.Tokenizer(
        tokenizers.models.WordLevel(
            {word: i for i, word in enumerate(dict.fromkeys(words))}, unk_token="[UNK]"
        )
    )
    tokenizer.add_special_tokens(words[:4])
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.post_processor = processor
    tokenizer.enable_padding(length=128)
    tokenizer.enable_truncation(4)
    tokenizer.save(str(folder / "tokenizer.json"))
