"""The platform's list of tenants: pages as they come, and what an entry means for a tenant's policy.

Members that this version doesn't know are passed over, so that a platform may say more. What it does know is checked as
strictly as tenants.yaml.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tenantgate.errors import ConfigError
from tenantgate.fields import parse
from tenantgate.limit_config import Budget, Match, TokenLimit
from tenantgate.policy.core.names import find_model
from tenantgate.policy.core.overlay import Overlay
from tenantgate.policy.core.records import ModelPolicy, TenantPolicy

__all__ = ["TENANTS_MAX", "EntryError", "Page", "overlay_for", "read_page"]

TENANTS_MAX: Final = 100_000
"""Tenants of one list."""
_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_VERSION_MAX: Final = 2**53 - 1
_CURSOR_MAX: Final = 1000
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


@dataclass(frozen=True, slots=True)
class Page:
    """A page of the list.

    Attributes:
        version: of the whole list; a later one is higher.
        entries: by tenant id, as they came.
        next_cursor: of the next page; None on the last one.
    """

    version: int
    entries: Mapping[str, Mapping[str, Any]]
    next_cursor: str | None


def read_page(raw: bytes) -> Page:
    """The page in an answer's body.

    Raises:
        ConfigError: it is none; names the member and its problem.
    """
    try:
        tree = json.loads(raw)
    except (ValueError, RecursionError):
        raise ConfigError("isn't JSON") from None
    if not isinstance(tree, dict):
        raise ConfigError("must be an object")
    version, cursor, data = tree.get("version"), tree.get("next_cursor"), tree.get("data")
    if type(version) is not int or not 0 < version <= _VERSION_MAX:
        raise ConfigError("version: must be a whole number from 1")
    if cursor is not None and (not isinstance(cursor, str) or not 0 < len(cursor) <= _CURSOR_MAX):
        raise ConfigError(f"next_cursor: must be a text of at most {_CURSOR_MAX} characters, or null")
    if not isinstance(data, list):
        raise ConfigError("data: must be a list")
    entries: dict[str, Mapping[str, Any]] = {}
    for i, entry in enumerate(data):
        tenant = entry.get("id") if isinstance(entry, dict) else None
        if not isinstance(tenant, str) or not _ID.fullmatch(tenant):
            raise ConfigError(f"data[{i}].id: must be a tenant's id")
        if tenant in entries:
            raise ConfigError(f"data[{i}].id: {tenant} is there twice")
        entries[tenant] = entry
    return Page(version, entries, cursor)


def overlay_for(entry: Mapping[str, Any], policy: TenantPolicy) -> Overlay:
    """What an entry lays over a tenant's policy.

    Raises:
        EntryError: it can't be used for this tenant; names the field and its problem.
    """
    enabled = entry.get("enabled", True)
    if not isinstance(enabled, bool):
        raise EntryError("enabled: must be true or false", enabled=None)
    try:
        limits = _list(entry, "token_limits", TokenLimit, policy)
        budgets = _list(entry, "budgets", Budget, policy)
        _check_names(limits or (), budgets or ())
    except ConfigError as error:
        raise EntryError(str(error), enabled=enabled) from None
    return Overlay(enabled=enabled, token_limits=limits, budgets=budgets)


def _list(
    entry: Mapping[str, Any], name: str, cls: type[TokenLimit] | type[Budget], policy: TenantPolicy
) -> tuple[Mapping[str, Any], ...] | None:
    values = entry.get(name)
    if values is None:
        return None
    if not isinstance(values, list) or len(values) > _LIMITS_MAX:
        raise ConfigError(f"{name}: must be a list of at most {_LIMITS_MAX} entries")
    return tuple(_checked(value, f"{name}[{i}]", cls, policy) for i, value in enumerate(values))


def _checked(
    value: Any, where: str, cls: type[TokenLimit] | type[Budget], policy: TenantPolicy
) -> Mapping[str, Any]:
    """The values of a limit as policy records hold them: models by ``provider/model``."""
    given = parse(cls, value, where=where, strict=True)
    models = [_model(policy, name, f"{where}.match.models").qualified for name in given.match.models]
    known = {target.id.partition("/")[0] or target.provider for m in policy.models for target in m.targets}
    known |= {m.provider for m in policy.models}
    for provider in given.match.providers:
        if provider not in known:
            raise ConfigError(f"{where}.match.providers: {provider[:80]!r} answers none of the tenant's models")
    for i, step in enumerate(given.steps if isinstance(given, Budget) else ()):
        if step.with_.model is not None:
            _model(policy, step.with_.model, f"{where}.steps[{i}].with.model")
    if isinstance(given, Budget) or given.count == _COST:
        _check_prices(policy, models, given.match, where)
    made = {name: found for name, found in value.items() if found is not None}
    return made | ({"match": {**made["match"], "models": models}} if models else {})


def _model(policy: TenantPolicy, name: str, where: str) -> ModelPolicy:
    found = find_model(policy, name)
    if found is None:
        raise ConfigError(f"{where}: the tenant has no model {name[:80]!r}")
    return found


def _check_prices(policy: TenantPolicy, models: Sequence[str], match: Match, where: str) -> None:
    for model in policy.models:
        if models and model.qualified not in models:
            continue
        for target in model.targets:
            asked = target.id.partition("/")[0] or target.provider
            if target.prices is None and (not match.providers or asked in match.providers):
                raise ConfigError(f"{where}: counts money, and the price of {target.id or target.name} isn't known")


def _check_names(limits: Sequence[Mapping[str, Any]], budgets: Sequence[Mapping[str, Any]]) -> None:
    seen: dict[str, str] = {}
    for at, name in _names(limits, budgets):
        if (first := seen.setdefault(name, at)) != at:
            raise ConfigError(f"{at}.name: {name!r} is the name of {first} already")


def _names(
    limits: Sequence[Mapping[str, Any]], budgets: Sequence[Mapping[str, Any]]
) -> Iterator[tuple[str, str]]:
    for what, values in (("token_limits", limits), ("budgets", budgets)):
        yield from ((f"{what}[{i}]", str(value["name"])) for i, value in enumerate(values))
