"""Models and vocabularies that the engine loads before its first request."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tenantgate import fields
from tenantgate.cache.service import MODELS
from tenantgate.compress.config import CompressConfig
from tenantgate.compress.pruners import pruner
from tenantgate.compress.token_counts import token_counter
from tenantgate.errors import ConfigError
from tenantgate.guard.config import RuleConfig
from tenantgate.guard.models import PARTS
from tenantgate.models.language import load_identifier
from tenantgate.models.ports import BUILT_IN

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["load_for", "load_models", "load_shared"]


def load_shared() -> None:
    """The token counts, the languages, the model of prompt injection: half a second of Python's lock each.

    What ONNX runs isn't among it: its threads are of the process that loads it.
    """
    token_counter(CompressConfig().encoding)
    load_identifier()
    PARTS.load("injection")


def load_models() -> None:
    """The models of the cache and the compression."""
    MODELS.load(BUILT_IN, BUILT_IN)
    pruner(CompressConfig().pruner)


def load_for(record: bytes) -> None:
    """Load what the guard's rules in a tenant's record need: a rule that blocks refuses what it can't read."""
    if b'"detector"' not in record:
        return
    try:
        tree = json.loads(record)
    except (ValueError, RecursionError):
        return  # the record is refused where it is parsed
    for values in _rules(tree):
        try:
            rule = fields.parse(RuleConfig, values, where="rules", strict=False)
        except ConfigError:
            continue
        PARTS.load_for(rule)


def _rules(tree: Any) -> Iterator[dict[str, Any]]:
    """The guard's rules, wherever a record has them: of models, of tools, of replies."""
    if isinstance(tree, dict):
        if isinstance(tree.get("detector"), str):
            yield tree
        for value in tree.values():
            yield from _rules(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from _rules(value)
