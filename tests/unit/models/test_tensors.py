"""Weights of encoders: their file, their names, what was trained on top."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from models_rig import RANK, WIDTH, Tensors, tiny_adapter, tiny_mpnet, tiny_tensors, write_safetensors
from tenantgate.errors import EdgeError
from tenantgate.models import files as model_files
from tenantgate.models import tensors as model_tensors


def test_an_adapter_adds_low_rank_updates_and_leaves_the_base_alone() -> None:
    base, adapter = tiny_tensors(), tiny_adapter()
    query = "encoder.layer.1.attention.self.query"

    merged, _head = model_tensors.merge_adapter(base, adapter)

    update = adapter[f"{query}.lora_B"].astype(np.float32) @ adapter[f"{query}.lora_A"].astype(np.float32)
    np.testing.assert_allclose(merged[f"{query}.weight"], base[f"{query}.weight"] + update, rtol=1e-5)
    np.testing.assert_array_equal(merged[f"{query}.bias"], adapter[f"{query}.bias"])
    np.testing.assert_array_equal(base[f"{query}.weight"], tiny_tensors()[f"{query}.weight"])


@pytest.mark.parametrize(
    "change",
    [
        {"encoder.layer.7.output.dense.bias": np.zeros(WIDTH, np.float16)},
        {"encoder.layer.0.output.dense.bias": np.zeros(WIDTH + 1, np.float16)},
        {"encoder.layer.1.attention.self.query.lora_A": np.zeros((RANK, WIDTH + 1), np.float16)},
    ],
    ids=["unknown tensor", "wrong length", "wrong width"],
)
def test_an_adapter_that_does_not_fit_is_refused(change: Tensors) -> None:
    with pytest.raises(EdgeError, match="adapter"):
        model_tensors.merge_adapter(tiny_tensors(), tiny_adapter() | change)


def test_safetensors_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    write_safetensors(path, tiny_adapter())

    for name, value in model_tensors.read_safetensors(path).items():
        np.testing.assert_array_equal(value, tiny_adapter()[name])


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not a tensor file", struct.pack("<Q", 9) + b"{}"])
def test_a_file_that_is_not_safetensors_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(EdgeError, match=r"x\.safetensors"):
        model_tensors.read_safetensors(path)


@pytest.mark.parametrize(
    ("reader", "tensor", "width", "largest"),
    [
        ("late", "encoder.layer.5.attention.self.key.weight", 384, 3_500_000),
        ("mpnet", "encoder.layer.11.output.dense.lora_A", 3072, 5_500_000),
    ],
)
def test_what_ships_has_the_shapes_of_its_encoder(reader: str, tensor: str, width: int, largest: int) -> None:
    path = model_files.ADAPTERS[reader]
    tensors = model_tensors.read_safetensors(path)
    assert {value.dtype.str for value in tensors.values()} == {"<f2"}
    assert tensors[tensor].shape[1] == width
    assert tensors["head.out.weight"].shape[0] == 1
    assert all(np.isfinite(value).all() for value in tensors.values())
    assert path.stat().st_size < largest


def test_mpnet_under_berts_names_is_the_same_encoder() -> None:
    found = model_tensors.mpnet_as_bert(tiny_mpnet())
    for name, value in tiny_tensors().items():
        if name != "embeddings.token_type_embeddings.weight":
            np.testing.assert_array_equal(found[name], value)
    assert not found["embeddings.token_type_embeddings.weight"].any()
    with pytest.raises(EdgeError, match="position_embeddings"):
        model_tensors.mpnet_as_bert({})
