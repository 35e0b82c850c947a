"""What the platform sets of a tenant's policy, laid over what tenants.yaml says.

tenants.yaml decides which tenants there are, their keys, models and stages. The platform decides whether a tenant is
enabled, and where it has `token_limits` or `budgets` for it, that whole list stands in place of the file's. A record
holds both: what is in force in its usual members, and in `platform` what was laid over and what it covers. So an apply
changes the file's part, the mirror changes the platform's, and neither undoes the other.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_FLOOR, Decimal
from typing import Any, Final

from tenantgate.errors import ConfigError
from tenantgate.fields import fields_of
from tenantgate.limit_config import Budget, TokenLimit
from tenantgate.policy.core.records import (
    CATALOG,
    Blocked,
    ModelPolicy,
    TenantPolicy,
    read_record,
    write_record,
)

__all__ = ["Overlay", "carried", "overlaid", "overlay_of", "own"]

Values = tuple[Mapping[str, Any], ...]

_LISTS: Final = ("token_limits", "budgets")
_AMOUNTS: Final = {"token_limits": "limit", "budgets": "max_budget"}
_COST: Final = "cost"
_NANO: Final = Decimal("1E-9")  # dollars; as far as amounts of money are counted
_DEFAULTS: Final = {"token_limits": fields_of(TokenLimit), "budgets": fields_of(Budget)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlay:
    """The platform's part of one tenant."""

    enabled: bool = True
    token_limits: Values | None = None
    """As `TenantPolicy.token_limits`; None: the file's own hold."""
    budgets: Values | None = None
    part: float = 1.0
    """Of each amount of these lists that is left, 0 to 1: below 1 because the copy is old."""
    closed: bool = False
    """Whether requests are refused because the copy is old."""


def overlaid(policy: TenantPolicy, overlay: Overlay | None) -> TenantPolicy:
    """The policy with the platform's part in force; None: with the file's alone. What lay over it before is gone."""
    base = own(policy)
    if overlay is None or overlay == Overlay():
        return base
    given: dict[str, Values] = {
        name: value for name in _LISTS if (value := getattr(overlay, name)) is not None
    }
    platform: dict[str, Any] = {name: list(values) for name, values in given.items()}
    if covered := {name: list(getattr(base, name)) for name in given if getattr(base, name)}:
        platform["own"] = covered
    if not overlay.enabled:
        platform["enabled"] = False
    if overlay.part != 1.0:
        platform["part"] = float(overlay.part)
    if overlay.closed:
        platform["closed"] = True
    in_force: dict[str, Any] = {name: _scaled(values, name, overlay.part) for name, values in given.items()}
    closing = [m.qualified for m in base.models if not m.fail_closed and _closes(m.qualified, given)]
    if closing:
        platform["fail_closed"] = closing
        in_force["models"] = _with_fail_closed(base.models, closing, fail_closed=True)
    return dataclasses.replace(base, **in_force, blocked=_blocked(overlay), platform=platform)


def own(policy: TenantPolicy) -> TenantPolicy:
    """The policy as tenants.yaml has it."""
    platform = policy.platform
    if platform is None:
        return policy
    covered = platform.get("own", {})
    restored: dict[str, Any] = {name: tuple(covered.get(name, ())) for name in _LISTS if name in platform}
    if closed := platform.get("fail_closed"):
        restored["models"] = _with_fail_closed(policy.models, closed, fail_closed=False)
    return dataclasses.replace(policy, **restored, blocked=None, platform=None)


def overlay_of(policy: TenantPolicy) -> Overlay | None:
    """What the platform has laid over the policy; None: nothing."""
    platform = policy.platform
    if platform is None:
        return None
    lists: dict[str, Any] = {name: tuple(platform[name]) for name in _LISTS if name in platform}
    return Overlay(
        enabled=platform.get("enabled", True),
        part=platform.get("part", 1.0),
        closed=platform.get("closed", False),
        **lists,
    )


def carried(compiled: Mapping[str, bytes], stored: Mapping[str, bytes]) -> dict[str, bytes]:
    """New records of a file with what the platform had laid over the stored ones; both by tenant id."""
    made = dict(compiled)
    for tenant in compiled.keys() & stored.keys() - {CATALOG}:
        try:
            overlay = overlay_of(read_record(tenant, stored[tenant]))
        except ConfigError:
            continue  # damaged, or another version's: the mirror lays it over anew
        if overlay is not None:
            made[tenant] = write_record(overlaid(read_record(tenant, compiled[tenant]), overlay))
    return made


def _closes(model: str, lists: Mapping[str, Values]) -> bool:
    """Whether requests to a model may not pass uncounted, as when there is no engine."""
    return any(
        value.get("mode", _DEFAULTS[name]["mode"].default) == "enforce"
        and value.get("on_store_down", _DEFAULTS[name]["on_store_down"].default) != "open"
        and (not (models := value.get("match", {}).get("models")) or model in models)
        for name, values in lists.items()
        for value in values
    )


def _with_fail_closed(
    models: Sequence[ModelPolicy], named: Collection[str], *, fail_closed: bool
) -> tuple[ModelPolicy, ...]:
    return tuple(
        dataclasses.replace(m, fail_closed=fail_closed) if m.qualified in named else m for m in models
    )


def _blocked(overlay: Overlay) -> Blocked | None:
    if not overlay.enabled:
        return Blocked.DISABLED
    return Blocked.STALE if overlay.closed else None


def _scaled(values: Sequence[Mapping[str, Any]], name: str, part: float) -> Values:
    """Amounts times `part`, rounded down; of a count one is left at least, unless `part` is 0."""
    if part == 1.0:
        return tuple(values)
    made = []
    for value in values:
        amount = Decimal(str(value[_AMOUNTS[name]])) * Decimal(str(part))
        if name == "token_limits" and value.get("count") != _COST:
            least = 1 if part and value[_AMOUNTS[name]] else 0
            left: float = max(int(amount.to_integral_value(ROUND_FLOOR)), least)
        else:
            left = float(amount.quantize(_NANO, ROUND_FLOOR))
        made.append({**value, _AMOUNTS[name]: left})
    return tuple(made)
