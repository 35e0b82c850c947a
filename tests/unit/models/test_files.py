"""Models are built once, and loaded once while anybody has them."""

from __future__ import annotations

import math
import threading
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models_rig import WIDTH, Adapters, tiny_late, write_safetensors
from tenantgate.cache import verifier
from tenantgate.errors import EdgeError
from tenantgate.models import files as model_files
from tenantgate.models.ports import BUILT_IN, LARGE


def test_a_second_build_only_looks(tmp_path: Path, files: model_files.ModelFiles, adapters: Adapters) -> None:
    steps: list[str] = []

    again = model_files.build_models(
        BUILT_IN, tmp_path / "cache", source=tmp_path / "nowhere", adapters=adapters, progress=steps.append
    )

    assert again == files
    assert steps == []


def test_an_incomplete_build_is_made_again(
    tmp_path: Path, files: model_files.ModelFiles, weights: Path, adapters: Adapters
) -> None:
    (files.directory / "late.onnx").write_bytes(b"half")
    assert model_files.find_models(BUILT_IN, tmp_path / "cache", adapters=adapters) is None

    again = model_files.build_models(BUILT_IN, tmp_path / "cache", source=weights, adapters=adapters)

    assert math.isfinite(again.reader("late").log_odds("how", "do", {}))
    assert [path.name for path in (tmp_path / "cache").iterdir() if path.name != ".lock"] == [
        files.directory.name
    ]


def test_two_builds_at_once_build_once(tmp_path: Path, weights: Path, adapters: Adapters) -> None:
    steps: list[str] = []
    built: list[model_files.ModelFiles] = []

    def build() -> None:
        built.append(
            model_files.build_models(
                BUILT_IN, tmp_path / "c", source=weights, adapters=adapters, progress=steps.append
            )
        )

    threads = [threading.Thread(target=build) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(built) == 3
    assert built[0] == built[1] == built[2]
    assert len([step for step in steps if step.startswith("building")]) == 1


def test_another_late_reader_is_another_embedder(
    tmp_path: Path, files: model_files.ModelFiles, weights: Path, adapters: Adapters
) -> None:
    other = tmp_path / "other.safetensors"
    write_safetensors(other, tiny_late() | {"late.states.bias": np.ones(WIDTH, np.float16)})
    rebuilt = model_files.build_models(
        BUILT_IN, tmp_path / "cache", source=weights, adapters={**adapters, "late": other}
    )
    assert rebuilt.embedder().fingerprint != files.embedder().fingerprint


def test_models_of_one_set_share_their_tokens(files: model_files.ModelFiles) -> None:
    reader, embedder = files.reader("late"), files.embedder()
    reader.log_odds("how do i", "pay my bill", {})
    embedder.embed("how do i")
    assert reader.tokens is embedder.tokens
    assert reader.tokens.encode.cache_info().misses == 2  # each text once


def test_a_model_is_loaded_once_while_anybody_has_it(files: model_files.ModelFiles) -> None:
    again = replace(files)
    one = files.reader("late")
    assert again.reader("late") is one
    assert again.reader("late", 64) is not one
    gone = weakref.ref(one)
    del one
    assert gone() is None


def test_the_large_verifier_reads_with_both(
    tmp_path: Path, files: model_files.ModelFiles, mpnet_weights: Path, adapters: Adapters
) -> None:
    with pytest.raises(EdgeError, match="models build --large"):
        verifier.load_readers(LARGE, files, cache_dir=tmp_path / "cache", adapters=adapters)
    model_files.build_models(LARGE, tmp_path / "cache", source=mpnet_weights, adapters=adapters)

    readers = verifier.load_readers(LARGE, files, cache_dir=tmp_path / "cache", adapters=adapters)

    assert len({reader.fingerprint for reader in readers}) == 2
    assert len({reader.log_odds("how do i", "pay my bill", {}) for reader in readers}) == 2
