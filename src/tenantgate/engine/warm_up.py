"""Models and vocabularies that the engine loads before its first request."""

from __future__ import annotations

from tenantgate.cache.service import MODELS
from tenantgate.compress.config import CompressConfig
from tenantgate.compress.pruners import pruner
from tenantgate.compress.token_counts import token_counter
from tenantgate.guard.models import PARTS
from tenantgate.models.language import load_identifier
from tenantgate.models.ports import BUILT_IN

__all__ = ["load_models", "load_vocabularies"]


def load_vocabularies() -> None:
    """The token counts and the languages: half a second of Python's lock each."""
    token_counter(CompressConfig().encoding)
    load_identifier()


def load_models() -> None:
    """The models of the guard, the cache and the compression."""
    PARTS.load("injection")
    MODELS.load(BUILT_IN, BUILT_IN)
    pruner(CompressConfig().pruner)
