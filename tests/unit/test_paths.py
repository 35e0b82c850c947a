from __future__ import annotations

from pathlib import Path

import pytest

from tenantgate import paths
from tenantgate.errors import ConfigError


def test_the_checkout_has_the_plugins() -> None:
    assert paths.plugin_file("tenant-semantic-cache").name == "tenant-semantic-cache.py"


def test_the_environment_names_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENANTGATE_PLUGINS", str(tmp_path))
    with pytest.raises(ConfigError, match="tenant-semantic-cache: no file"):
        paths.plugin_file("tenant-semantic-cache")


def test_models_lie_in_the_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TENANTGATE_MODELS", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert paths.models_dir() == tmp_path / "tenantgate" / "models"
    monkeypatch.setenv("TENANTGATE_MODELS", str(tmp_path / "m"))
    assert paths.models_dir() == tmp_path / "m"
