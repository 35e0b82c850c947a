"""Where the parts lie: plugin files and models, in a checkout as in an installed package."""

from __future__ import annotations

import os
from pathlib import Path

from tenantgate.errors import ConfigError

__all__ = ["models_dir", "plugin_file", "plugins_dir"]

_PACKAGE = Path(__file__).resolve().parent


def plugins_dir() -> Path:
    """The folder of the plugin files: ``TENANTGATE_PLUGINS``, the installed package's, or the checkout's."""
    if named := os.environ.get("TENANTGATE_PLUGINS"):
        return Path(named)
    packaged = _PACKAGE / "_plugins"
    return packaged if packaged.is_dir() else _PACKAGE.parents[1] / "plugins"


def plugin_file(name: str) -> Path:
    """The file of the plugin called `name`, for example ``tenant-semantic-cache``."""
    path = plugins_dir() / f"{name}.py"
    if not path.is_file():
        raise ConfigError(f"plugin {name}: no file {path}")
    return path


def models_dir() -> Path:
    """Where the built models are kept: ``TENANTGATE_MODELS``, or under ``XDG_CACHE_HOME`` (``~/.cache``)."""
    if named := os.environ.get("TENANTGATE_MODELS"):
        return Path(named)
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "tenantgate" / "models"
