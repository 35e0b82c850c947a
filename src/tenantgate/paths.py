"""Where the parts lie: plugin files and models, in a checkout as in an installed package."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Final

from tenantgate.errors import ConfigError

__all__ = ["ca_bundle", "models_dir", "plugin_file", "plugins_dir", "pluginserver"]

_PACKAGE = Path(__file__).resolve().parent
_CA_BUNDLES: Final = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
)


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


def pluginserver() -> Path:
    """The plugin server of this installation.

    Raises:
        ConfigError: there is none.
    """
    beside = Path(sys.executable).with_name("tenantgate-pluginserver")
    found = beside if beside.is_file() else shutil.which("tenantgate-pluginserver")
    if found is None:
        raise ConfigError("tenantgate-pluginserver isn't installed beside this Python")
    return Path(found)


def ca_bundle() -> Path | None:
    """The system's certificates of authorities, where the usual distributions have them."""
    return next((Path(b) for b in _CA_BUNDLES if Path(b).is_file()), None)
