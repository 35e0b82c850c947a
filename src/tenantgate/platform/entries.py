"""What an entry of the platform's list means for a tenant's policy: checked as strictly as tenants.yaml is."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar

from tenantgate.config.money import plain
from tenantgate.config.providers import PROVIDERS
from tenantgate.errors import ConfigError
from tenantgate.fields import parse
from tenantgate.limit_config import Budget, BudgetStep, TokenLimit
from tenantgate.policy.core.names import find_model
from tenantgate.policy.core.overlay import Overlay
from tenantgate.policy.core.records import ModelPolicy, Target, TenantPolicy

__all__ = ["EntryError", "overlay_for"]

R = TypeVar("R", TokenLimit, Budget)

_LIMITS_MAX: Final = 100  # of a tenant, each list
_COST: Final = "cost"


class EntryError(ConfigError):
    """An entry that can't be brought into force as it stands.

    Attributes:
        enabled: what it says of the tenant all the same; None where that can't be read either.
    """

    def __init__(self, message: str, *, enabled: bool | None) -> None:
        super().__init__(message)
        self.enabled = enabled


def overlay_for(entry: Mapping[str, Any], policy: TenantPolicy, *, receivers: Collection[str]) -> Overlay:
    """What an entry lays over a tenant's policy.

    Args:
        entry: as the list has it.
        policy: the tenant's, whose models the entry may name.
        receivers: names of gateway.alerts, which steps of budgets may name.

    Raises:
        EntryError: it can't be used for this tenant; names the field and its problem.
    """
    enabled = entry.get("enabled", True)
    if not isinstance(enabled, bool):
        raise EntryError("enabled: must be true or false", enabled=None)
    try:
        limits = _rules(entry, "token_limits", TokenLimit, policy)
        budgets = _rules(entry, "budgets", Budget, policy)
        _check_names(limits or (), budgets or ())
        _check_receivers(budgets or (), receivers)
    except ConfigError as error:
        raise EntryError(str(error), enabled=enabled) from None
    return Overlay(
        enabled=enabled,
        token_limits=None if limits is None else tuple(map(plain, limits)),
        budgets=None if budgets is None else tuple(map(plain, budgets)),
    )


def _rules(entry: Mapping[str, Any], name: str, cls: type[R], policy: TenantPolicy) -> tuple[R, ...] | None:
    """The limits of one list, models by their ``provider/model``; None where the entry has no such list."""
    values = entry.get(name)
    if values is None:
        return None
    if not isinstance(values, list) or len(values) > _LIMITS_MAX:
        raise ConfigError(f"{name}: must be a list of at most {_LIMITS_MAX} entries")
    return tuple(_rule(value, f"{name}[{i}]", cls, policy) for i, value in enumerate(values))


def _rule(value: Any, where: str, cls: type[R], policy: TenantPolicy) -> R:
    given = parse(cls, value, where=where, strict=True)
    for k, provider in enumerate(given.match.providers):
        if provider not in PROVIDERS:
            raise ConfigError(f"{where}.match.providers[{k}]: {provider[:80]!r} is no provider")
    models = [
        _model(policy, name, f"{where}.match.models[{k}]").qualified
        for k, name in enumerate(given.match.models)
    ]
    match = dataclasses.replace(given.match, models=tuple(dict.fromkeys(models)))
    changes: dict[str, Any] = {"match": match}
    if isinstance(given, Budget):
        changes["steps"] = tuple(
            _step(step, policy, f"{where}.steps[{i}]") for i, step in enumerate(given.steps)
        )
    made = dataclasses.replace(given, **changes)
    if isinstance(made, Budget) or made.count == _COST:
        _check_prices(made, policy, where)
    return made


def _step(step: BudgetStep, policy: TenantPolicy, where: str) -> BudgetStep:
    if step.with_.model is None:
        return step
    model = _model(policy, step.with_.model, f"{where}.with.model").qualified
    return dataclasses.replace(step, with_=dataclasses.replace(step.with_, model=model))


def _model(policy: TenantPolicy, name: str, where: str) -> ModelPolicy:
    found = find_model(policy, name)
    if found is None:
        raise ConfigError(f"{where}: the tenant has no model {name[:80]!r}")
    return found


def _check_prices(rule: TokenLimit | Budget, policy: TenantPolicy, where: str) -> None:
    for model in policy.models:
        if rule.match.models and model.qualified not in rule.match.models:
            continue
        for target in model.targets:
            asked = not rule.match.providers or _provider(target) in rule.match.providers
            if asked and target.prices is None:
                raise ConfigError(
                    f"{where}: counts what {target.id or target.name} costs, which isn't known; give its price in "
                    "tenants.yaml"
                )


def _provider(target: Target) -> str:
    """The provider's name in tenants.yaml."""
    return target.id.partition("/")[0] or target.provider


def _check_names(limits: Sequence[TokenLimit], budgets: Sequence[Budget]) -> None:
    seen: dict[str, str] = {}
    for at, name in _names(limits, budgets):
        if (first := seen.setdefault(name, at)) != at:
            raise ConfigError(f"{at}.name: {name!r} is the name of {first} already")


def _names(limits: Sequence[TokenLimit], budgets: Sequence[Budget]) -> Iterator[tuple[str, str]]:
    yield from ((f"token_limits[{i}]", rule.name) for i, rule in enumerate(limits))
    yield from ((f"budgets[{i}]", rule.name) for i, rule in enumerate(budgets))


def _check_receivers(budgets: Sequence[Budget], receivers: Collection[str]) -> None:
    for i, rule in enumerate(budgets):
        for k, step in enumerate(rule.steps):
            if step.to is not None and step.to not in receivers:
                raise ConfigError(
                    f"budgets[{i}].steps[{k}].to: gateway.alerts has no receiver {step.to[:80]!r}"
                )
