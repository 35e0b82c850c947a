"""The tables of fields in docs/configuration.md, from the same classes that the loader checks by."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from tenantgate import alert_config, features, limit_config
from tenantgate.config import catalog, model, redis_model, targets
from tenantgate.config.json_schema import json_schema
from tenantgate.errors import ConfigError
from tenantgate.fields import Field, Many, Record, Scalar, Shape, Table, fields_of
from tenantgate.manifest import PluginManifest, resolve
from tenantgate.prices import config as prices

__all__ = ["field_table", "generated", "insert", "read", "tables"]

_WHERE: Final[tuple[tuple[str, type], ...]] = (
    ("The file", model.FilePart),
    ("`gateway`", model.Gateway),
    ("`gateway.redis`", redis_model.Redis),
    ("`gateway.redis.cluster_nodes[]`", redis_model.ClusterNode),
    ("`gateway.rate_limiting`", redis_model.RateLimiting),
    ("`gateway.rate_limiting.redis`", redis_model.RateLimitRedis),
    ("`gateway.prices`", prices.Pricing),
    ("`gateway.prices.overrides[]`", prices.PriceOverride),
    ("`gateway.prices.overrides[].tiers[]`", prices.PriceTier),
    ("`gateway.policy`", model.Policy),
    ("`gateway.limits`", model.Limits),
    ("`gateway.timeouts`", model.Timeouts),
    ("`gateway.alerts`", alert_config.Alerts),
    ("`gateway.alerts.receivers[]`", alert_config.Receiver),
    ("`egress`, of `gateway`, `defaults` and a tenant", targets.Egress),
    ("`defaults`", model.Defaults),
    ("`tenants[]`", model.Tenant),
    ("`tenants[].models[]`", model.Model),
    ("`tenants[].models[].targets[]`", model.ModelTarget),
    ("`tenants[].models[].failover`", targets.Failover),
    ("`tenants[].models[].timeouts`", targets.ModelTimeouts),
    ("`tenants[].models[].timeouts.streaming`", targets.StreamingTimeouts),
    ("`tenants[].models[].timeouts.non_streaming`", targets.NonStreamingTimeouts),
    ("`rate_limit`", model.RateLimit),
    ("`token_limits[]`, of `defaults` and a tenant", limit_config.TokenLimit),
    ("`budgets[]`, of `defaults` and a tenant", limit_config.Budget),
    ("`budgets[].steps[]`", limit_config.BudgetStep),
    ("`budgets[].steps[].with`", limit_config.Degradation),
    ("`match`, of `token_limits[]` and `budgets[]`", limit_config.Match),
)
_TYPES: Final = {str: "text", int: "whole number", float: "number", bool: "true or false"}


def tables() -> str:
    """A heading and a table for each mapping of tenants.yaml, and one for each plugin's section."""
    parts = [f"### {title}\n\n{field_table(catalog.entries(cls))}" for title, cls in _WHERE]
    for section in catalog.gateway_sections():
        own = {section.name: section}
        parts += [f"### `{title}`\n\n{field_table(inner)}" for title, inner in _inner(own, "gateway.")]
    for name, entry in catalog.entries(model.Defaults).items():
        if isinstance(entry, catalog.Section):
            parts.append(
                f"### `{name}`\n\n{entry.plugin.description} Allowed in `defaults`, a tenant and a model; "
                "the most specific value of a field counts. `enabled: false` switches the plugin off. "
                f"[Its page]({_page(entry.plugin)}) has the fields of inner mappings.\n\n"
                + field_table(entry.fields)
            )
    return "\n".join(parts)


def field_table(entries: Mapping[str, catalog.Entry]) -> str:
    """A Markdown table of fields and sections."""
    lines = ["| Field | Takes | Default | Meaning |", "|---|---|---|---|"]
    for name, entry in entries.items():
        if isinstance(entry, catalog.Section):
            lines.append(f"| `{name}` | mapping | | {entry.plugin.description} |")
        else:
            lines.append(
                f"| `{name}` | {_takes(entry.shape)} | {_default(entry)} | {entry.spec.description} |"
            )
    return "\n".join(lines) + "\n"


def _page(plugin: PluginManifest[Any]) -> str:
    return f"plugins/{plugin.name}.md#fields" if plugin.attachable else f"{plugin.section}.md"


def generated(folder: Path) -> dict[Path, str]:
    """Each file of the documentation's `folder` with a generated part, and what it should hold.

    Raises:
        ConfigError: a page is missing, or has no place for its table.
    """
    page = folder / "configuration.md"
    out = {page: insert(read(page), "fields", tables()), folder / "tenants.schema.json": json_schema()}
    for feature in features.features():
        for name, reference in feature.documents.items():
            out[folder / name] = json.dumps(resolve(reference)(), indent=2) + "\n"
    for plugin in features.plugins():
        page = folder / "plugins" / f"{plugin.name}.md"
        out[page] = insert(read(page), "fields", _plugin_tables(plugin.config_class))
    for stage in features.sections():
        if not stage.attachable:
            page = folder / f"{stage.section}.md"
            out[page] = insert(read(page), "fields", _plugin_tables(stage.config_class, stage.hidden))
    return out


def _plugin_tables(cls: type, hidden: Collection[str] = ()) -> str:
    """The table of a plugin's fields but the hidden ones, and one for each mapping within, at any depth."""
    known = {name: f for name, f in fields_of(cls).items() if name not in hidden}
    return "\n".join(
        [field_table(known), *(f"`{title}`:\n\n{field_table(inner)}" for title, inner in _inner(known))]
    )


def _inner(known: Mapping[str, Field], prefix: str = "") -> Iterator[tuple[str, Mapping[str, Field]]]:
    """Path and fields of each mapping within these fields, ``[]`` after the name of a list, at any depth."""
    for name, f in known.items():
        shape, title = f.shape, f"{prefix}{name}"
        if isinstance(shape, Many):
            shape, title = shape.element, f"{title}[]"
        if isinstance(shape, Record):
            inner = fields_of(shape.cls)
            yield title, inner
            yield from _inner(inner, f"{title}.")


def read(path: Path) -> str:
    """The text of a page."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: can't be read ({type(error).__name__})") from None


def insert(text: str, name: str, block: str) -> str:
    """`text` with `block` between the lines ``<!-- name -->`` and ``<!-- /name -->``."""
    begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    head, found, rest = text.partition(begin)
    _, also, tail = rest.partition(end)
    if not found or not also:
        raise ConfigError(f"no place for {name} in the text")
    return f"{head}{begin}\n{block}\n{end}{tail}"


def _takes(shape: Shape) -> str:
    match shape:
        case Many(element):
            return f"list of {_takes(element)}"
        case Table() | Record():
            return "mapping"
        case Scalar():
            return _takes_scalar(shape)


def _takes_scalar(shape: Scalar) -> str:
    spec = shape.spec
    if spec.referenceable:
        return "secret"
    if spec.one_of:
        return ", ".join(f"`{value}`" for value in spec.one_of)
    kind = _TYPES[shape.type]
    unit = f" ({spec.unit})" if spec.unit else ""
    if spec.between and spec.between[0] == spec.between[1]:
        return f"`{_number(spec.between[0])}`"
    if spec.between:
        return f"{kind}, {_number(spec.between[0])} to {_number(spec.between[1])}{unit}"
    return f"{kind} above {_number(spec.gt)}{unit}" if spec.gt is not None else f"{kind}{unit}"


def _default(f: Field) -> str:
    if f.required:
        return "required"
    if f.default is None or dataclasses.is_dataclass(f.default) or isinstance(f.default, tuple | dict):
        return ""
    if isinstance(f.default, bool):
        return f"`{str(f.default).lower()}`"
    return f"`{f.default}`" if f.default != "" else ""


def _number(value: float) -> str:
    return f"{int(value):,}" if value == int(value) else f"{value:g}"
