"""The features, and what they say of themselves: one package a line, each with a module `manifest`."""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any, Final

from tenantgate.manifest import Feature, PluginManifest

__all__ = ["FEATURES", "by_section", "features", "plugins", "sections", "stages"]

FEATURES: Final = (
    "tenantgate.audit",
    "tenantgate.cache",
    "tenantgate.compress",
    "tenantgate.guard",
    "tenantgate.limits",
    "tenantgate.mcp",
    "tenantgate.platform",
    "tenantgate.routing",
    "tenantgate.transform",
)


def features() -> tuple[Feature, ...]:
    """The features' manifests, in the order of `FEATURES`."""
    return tuple(_feature(package) for package in FEATURES)


@cache
def _feature(package: str) -> Feature:
    found = importlib.import_module(f"{package}.manifest").FEATURE
    if not isinstance(found, Feature):
        raise TypeError(f"{package}.manifest: FEATURE is no Feature")
    return found


def stages() -> tuple[PluginManifest[Any], ...]:
    """All stages of the engine, in the order in which they run: the plugins, and those that are stages only."""
    return tuple(sorted((p for f in features() for p in f.plugins), key=lambda p: -p.priority))


def plugins() -> tuple[PluginManifest[Any], ...]:
    """The plugins that can be attached in Kong, in the order in which Kong runs them."""
    return tuple(p for p in stages() if p.attachable)


def sections() -> tuple[PluginManifest[Any], ...]:
    """The stages that tenants.yaml has sections for, in the order in which they run."""
    return tuple(p for p in stages() if p.in_file)


def by_section() -> dict[str, PluginManifest[Any]]:
    """The same by their section."""
    return {plugin.section: plugin for plugin in sections()}
