"""Problems of a compression's configuration that the files of its model tell."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tenantgate.compress.config import CompressConfig
from tenantgate.compress.pruners import check_model
from tenantgate.errors import ConfigError

__all__ = ["problems"]


def problems(config: CompressConfig) -> Iterator[tuple[str, str]]:
    """What is wrong with the directory in `pruner_model`, as far as it is on this machine."""
    # Elsewhere the directory is the gateway's own and can't be looked into.
    if config.pruner_model and Path(config.pruner_model).is_dir():
        try:
            check_model(config.pruner_model)
        except ConfigError as error:
            field, _, what = str(error).partition(": ")
            yield field, what
