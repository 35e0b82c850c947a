"""Problems of a guard's configuration that RE2 finds: expressions that it can't compile."""

from __future__ import annotations

from collections.abc import Iterator

from tenantgate.errors import ConfigError
from tenantgate.guard.config import GuardConfig, ReplyGuardConfig
from tenantgate.guard.patterns import Re2Patterns

__all__ = ["problems"]


def problems(config: GuardConfig | ReplyGuardConfig) -> Iterator[tuple[str, str]]:
    """Rules with expressions that aren't RE2's."""
    for rule in config.rules:
        if rule.patterns:
            try:
                Re2Patterns(rule.patterns)
            except ConfigError as error:
                at, _, what = str(error).partition(": ")
                yield f"rules.{rule.name}.{at}", what
