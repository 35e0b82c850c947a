"""Switches: by hand a target, a model or a whole provider is drained, for all tenants or one, and restored again.

Of all switches that concern a target the last word holds.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Final

from tenantgate.errors import ConfigError

__all__ = ["ALL", "Switch", "concerns", "drained_by", "read_switch", "within"]

ALL: Final = "all"
"""The scope of a switch for all providers: what the gateway serves then comes from its cache."""

_MOST: Final = 500  # characters of a reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Switch:
    """One word of an operator.

    Attributes:
        scope: ``provider``, ``provider/model``, or a target's id, such as ``provider/model#2``; or `ALL`.
        tenant: the only tenant that it holds for; None: all.
        drained: whether no new request goes there; else it is restored.
        reason: why, in the operator's words.
        by: who said so.
        created: Unix seconds.
        until: Unix seconds at which it ends; None: by another word only.
    """

    scope: str
    drained: bool
    by: str
    created: float
    reason: str = ""
    tenant: str | None = None
    until: float | None = None

    def __post_init__(self) -> None:
        if not self.scope.strip() or any(not c.isprintable() for c in self.scope) or len(self.scope) > 300:
            raise ConfigError("target: must be a provider, provider/model, a target's id, or all")
        if not self.by.strip():
            raise ConfigError("--by: must say who does this")
        if self.drained and not self.reason.strip():
            raise ConfigError("--reason: must say why")
        if len(self.reason) > _MOST or len(self.by) > _MOST:
            raise ConfigError(f"--reason and --by: {_MOST} characters at most")
        if self.until is not None and not self.created < self.until:
            raise ConfigError("--until: must be after now")

    def to_json(self) -> str:
        """As it is stored."""
        return json.dumps(asdict(self), separators=(",", ":"), sort_keys=True)

    def holds(self, now: float) -> bool:
        """Whether it hasn't ended."""
        return self.until is None or now < self.until


def read_switch(text: str | bytes) -> Switch | None:
    """A stored switch; None for what isn't one."""
    try:
        made = Switch(**json.loads(text))
        return (
            made
            if math.isfinite(made.created) and (made.until is None or math.isfinite(made.until))
            else None
        )
    except (ValueError, TypeError, AttributeError, ConfigError):
        return None


def within(scope: str, wider: str) -> bool:
    """Whether all targets of `scope` are among those of `wider`."""
    return wider in (scope, ALL) or scope.startswith((f"{wider}/", f"{wider}#"))


def concerns(switch: Switch, tenant: str, target: str) -> bool:
    """Whether a switch is about a tenant's target with this id."""
    return switch.tenant in (None, tenant) and within(target, switch.scope)


def drained_by(switches: Iterable[Switch], tenant: str, target: str, now: float) -> Switch | None:
    """The switch that keeps a tenant's requests from a target; None where none does."""
    mine = [s for s in switches if s.holds(now) and concerns(s, tenant, target)]
    last = max(mine, key=lambda s: (s.created, s.drained), default=None)
    return last if last is not None and last.drained else None
