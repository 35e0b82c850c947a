"""The tables of fields in docs/configuration.md, from the same classes that the loader checks by."""

from __future__ import annotations

import dataclasses
import types
import typing
from typing import Any, Final

from tenantgate import fields
from tenantgate.config import catalog, model
from tenantgate.errors import ConfigError

__all__ = ["field_table", "insert", "tables"]

_WHERE: Final[tuple[tuple[str, type], ...]] = (
    ("The file", model.TenantsFile),
    ("`gateway`", model.Gateway),
    ("`gateway.redis`", model.Redis),
    ("`gateway.redis.cluster_nodes[]`", model.ClusterNode),
    ("`gateway.rate_limiting`", model.RateLimiting),
    ("`gateway.rate_limiting.redis`", model.RateLimitRedis),
    ("`gateway.limits`", model.Limits),
    ("`gateway.timeouts`", model.Timeouts),
    ("`defaults`", model.Defaults),
    ("`tenants[]`", model.Tenant),
    ("`tenants[].models[]`", model.Model),
    ("`rate_limit`", model.RateLimit),
)
_TYPES: Final = {str: "text", int: "whole number", float: "number", bool: "true or false"}


def tables() -> str:
    """A heading and a table for each mapping of tenants.yaml, and one for each plugin's section."""
    parts = [f"### {title}\n\n{field_table(cls)}" for title, cls in _WHERE]
    for plugin in catalog.CATALOG:
        hidden = {*plugin.filled(model.Gateway(), ""), model.SECTIONS}
        cls = plugin.config_class
        parts.append(
            f"### `{plugin.section}`\n\n{plugin.description} At any of the three levels; a level changes "
            "only what it names. `enabled: false` takes the plugin off.\n\n" + field_table(cls, hidden=hidden)
        )
    return "\n".join(parts)


def field_table(cls: type, *, hidden: typing.Collection[str] = ()) -> str:
    """A Markdown table of the class's fields."""
    lines = ["| Field | Takes | Default | Meaning |", "|---|---|---|---|"]
    for name, (spec, hint, default) in fields.specs(cls).items():
        if name == model.SECTIONS and name not in hidden:
            lines += [f"| `{p.section}` | mapping | | {p.description} |" for p in catalog.CATALOG]
        elif name not in hidden:
            lines.append(f"| `{name}` | {_takes(spec, hint)} | {_default(default)} | {spec.description} |")
    return "\n".join(lines) + "\n"


def insert(text: str, name: str, block: str) -> str:
    """`text` with `block` between the lines ``<!-- name -->`` and ``<!-- /name -->``."""
    begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    head, found, rest = text.partition(begin)
    _, also, tail = rest.partition(end)
    if not found or not also:
        raise ConfigError(f"no place for {name} in the text")
    return f"{head}{begin}\n{block}\n{end}{tail}"


def _takes(spec: fields.FieldSpec, hint: Any) -> str:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return _takes(spec, next(a for a in args if a is not type(None)))
    if origin in (tuple, frozenset):
        return f"list of {_takes(dataclasses.replace(spec, len_min=None, len_max=None), args[0])}"
    if origin is dict or (isinstance(hint, type) and dataclasses.is_dataclass(hint)):
        return "mapping"
    if spec.referenceable:
        return "secret"
    if spec.one_of:
        return ", ".join(f"`{value}`" for value in spec.one_of)
    kind = _TYPES[hint]
    unit = f" ({spec.unit})" if spec.unit else ""
    if spec.between and spec.between[0] == spec.between[1]:
        return f"`{_number(spec.between[0])}`"
    if spec.between:
        return f"{kind}, {_number(spec.between[0])} to {_number(spec.between[1])}{unit}"
    return f"{kind} above {_number(spec.gt)}{unit}" if spec.gt is not None else f"{kind}{unit}"


def _default(default: Any) -> str:
    if default is dataclasses.MISSING:
        return "required"
    if default is None or dataclasses.is_dataclass(default) or isinstance(default, tuple | dict):
        return ""
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    return f"`{default}`" if default != "" else ""


def _number(value: float) -> str:
    return f"{int(value):,}" if value == int(value) else f"{value:g}"
