"""Plugin files: loading one, and describing it to Kong."""

from __future__ import annotations

import importlib.util
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from tenantgate.errors import ConfigError
from tenantgate.manifest import PluginManifest

__all__ = ["PHASES", "PluginFile", "load"]

PHASES: Final = ("certificate", "rewrite", "access", "response", "log", "preread")
_VERSION: Final = re.compile(r"\d+\.\d+\.\d+([-+.].*)?")
_NAMESPACE: Final = "tenantgate_plugin."


@dataclass(frozen=True, slots=True)
class PluginFile:
    """A loaded plugin. `warm_up` of its module, if there is one, runs before its first event."""

    name: str
    plugin: Any
    priority: int
    version: str
    schema: list[dict[str, Any]]
    module: ModuleType

    @property
    def phases(self) -> list[str]:
        """The phases it has, as Kong knows them."""
        return [phase for phase in PHASES if callable(getattr(self.plugin, phase, None))]

    def description(self) -> dict[str, Any]:
        """What Kong's query command expects of one plugin (kong/runloop/plugin_servers/process.lua)."""
        config = {"type": "record", "fields": self.schema, "required": True}
        return {
            "Name": self.name,
            "Phases": self.phases,
            "Priority": self.priority,
            "Version": self.version,
            "Schema": {"name": self.name, "fields": [{"config": config}]},
        }


def load(path: Path) -> PluginFile:
    """Load the plugin at `path`; its name is the file's.

    The module gets a name of its own, so that a file called like a real module (``redis.py``) shadows none,
    and is known to Python while it runs, as dataclasses with deferred annotations need.

    Raises:
        ConfigError: there is no usable plugin; says what is missing. What the file itself raises passes.
    """
    if not path.is_file():
        raise ConfigError(f"plugin: no file {path}")
    name = path.stem
    spec = importlib.util.spec_from_file_location(_NAMESPACE + name, path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"plugin: {path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[spec.name]
        raise
    plugin = getattr(module, "Plugin", None)
    priority, version = getattr(module, "priority", None), getattr(module, "version", None)
    if not isinstance(plugin, type):
        raise ConfigError(f"plugin {name}: no class Plugin")
    manifest = getattr(plugin, "manifest", None)
    if isinstance(manifest, PluginManifest) and manifest.name != name:
        raise ConfigError(f"plugin {name}: its manifest is that of {manifest.name}")
    if isinstance(priority, bool) or not isinstance(priority, int):
        raise ConfigError(f"plugin {name}: priority must be a whole number")
    if not isinstance(version, str) or not _VERSION.fullmatch(version):
        raise ConfigError(f'plugin {name}: version must be a text like "1.0.0"')
    found = PluginFile(name, plugin, priority, version, list(getattr(module, "Schema", [])), module)
    if not found.phases:
        raise ConfigError(f"plugin {name}: class Plugin has no phase ({', '.join(PHASES)})")
    return found
