"""Pruners by the names that configurations use: one of each for a process, models never loaded in a request."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tenantgate.compress.core.fillers import FillerPruner
from tenantgate.compress.llmlingua import load
from tenantgate.compress.models import built_in, onnx_lingua
from tenantgate.errors import ConfigError
from tenantgate.store.shared import Shared
from tenantgate.store.threads import BackgroundBuilds
from tenantgate.telemetry import logs

if TYPE_CHECKING:
    from tenantgate.compress.config import CompressConfig
    from tenantgate.compress.core.ports import Pruner

__all__ = ["LoadedLater", "check_model", "pruner", "pruner_in_background"]

_log: Final = logging.getLogger("tenantgate.compress")
_MOST: Final = 64  # pruners of a process


def pruner(name: str, model: str | None = None) -> Pruner:
    """The pruner `name`, with the `model` that `pruner_model` names; loads it, which may take seconds.

    Raises:
        ConfigError: there is none of that name, or its model can't be loaded; names the field.
    """
    return _pruners.get((name, model), lambda: _pruner(name, model))


def _pruner(name: str, model: str | None) -> Pruner:
    if name == "rules":
        return FillerPruner()
    if name == "model":
        return built_in()
    if name == "llmlingua":
        return _lingua(model or "")
    raise ConfigError(f"pruner: there is no {name!r}")


def _lingua(model: str) -> Pruner:
    check_model(model)
    if found := _onnx_file(model):
        return onnx_lingua(Path(model), found)
    return load(model)


def check_model(model: str) -> None:
    """Whether `model` may be one for ``llmlingua``, by the files that are there; loads nothing.

    Raises:
        ConfigError: it isn't; names the field.
    """
    directory = Path(model)
    if not model:
        raise ConfigError("pruner_model: required for llmlingua")
    if not directory.is_dir():
        if directory.is_absolute() or model.startswith("."):
            raise ConfigError(f"pruner_model: there is no directory {model}")
    elif not (directory / "config.json").is_file() or not (directory / "tokenizer.json").is_file():
        raise ConfigError(f"pruner_model: {model} lacks config.json or tokenizer.json")
    if not _onnx_file(model) and importlib.util.find_spec("llmlingua") is None:
        raise ConfigError(
            "pruner: llmlingua needs pip install 'tenantgate[llmlingua]', or a pruner_model that holds ONNX"
        )


def _onnx_file(model: str) -> Path | None:
    """The ONNX model in the directory, the quantised one first."""
    found = (Path(model) / name for name in ("model_quantized.onnx", "model.onnx"))
    return next((path for path in found if path.is_file()), None)


class LoadedLater:
    """`Pruner` whose model is loaded by a thread of its own; until then, and if it can't be, it prunes nothing."""

    def __init__(self, name: str, model: str | None) -> None:
        self._key = name, model
        _builds.get(self._key)

    @property
    def _loaded(self) -> Pruner | None:
        return _builds.get(self._key)

    def wait(self) -> None:
        """Wait for the model to be loaded."""
        _builds.wait(self._key)

    @property
    def fingerprint(self) -> str:
        """The model's; empty until it is loaded."""
        loaded = self._loaded
        return loaded.fingerprint if loaded else ""

    def keep(
        self, text: str, protected: Sequence[tuple[int, int]], rate: float, deadline: float
    ) -> Sequence[tuple[int, int]] | None:
        """As the model's, once it is loaded."""
        loaded = self._loaded
        return loaded.keep(text, protected, rate, deadline) if loaded else None


def _failed(_key: tuple[str, str | None], error: Exception) -> None:
    logs.event(_log, logging.ERROR, "nothing is pruned: the model can't be loaded", **logs.describe(error))


def pruner_in_background(config: CompressConfig) -> Pruner:
    """The pruner of a configuration; its model, if it has one, begins to load."""
    if config.pruner == "rules":
        return pruner("rules")
    return LoadedLater(config.pruner, config.pruner_model)


_pruners: Final[Shared[Pruner]] = Shared(_MOST)
_builds: Final[BackgroundBuilds[tuple[str, str | None], Pruner | None]] = BackgroundBuilds(
    "load-pruner", lambda key: pruner(*key), failed=_failed, most=_MOST
)
