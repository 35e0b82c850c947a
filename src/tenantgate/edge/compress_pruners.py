"""Pruners by the names that configurations use: one of each for a process."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from tenantgate.compress.fillers import FillerPruner
from tenantgate.errors import ConfigError

if TYPE_CHECKING:
    from tenantgate.compress.ports import Pruner

__all__ = ["pruner"]


@lru_cache(maxsize=8)
def pruner(name: str) -> Pruner:
    """The pruner `name`.

    Raises:
        ConfigError: there is none of that name.
    """
    if name == "rules":
        return FillerPruner()
    raise ConfigError(f"pruner: there is no {name!r}")
