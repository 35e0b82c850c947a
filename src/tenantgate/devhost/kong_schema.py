"""Kong's field schemas (`kong/db/schema/init.lua`): fill in defaults, check values, know what is a reference.

Stock plugins' schemas are written in `stock_schemas`; those of Python plugins come from their server, and those of Lua
plugins from their files, with their patterns and functions as ``validators``. The patterns of Python plugins
(`match…`) are left to the plugin.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from tenantgate.errors import ConfigError

__all__ = ["Resolve", "apply", "config_fields"]

Field = Mapping[str, Any]
Resolve = Callable[[str, str], str]
"""(reference, place) → its value."""

_SCALARS: Final[dict[str, tuple[tuple[type, ...], str]]] = {
    "string": ((str,), "a string"),
    "boolean": ((bool,), "a boolean"),
    "integer": ((int,), "an integer"),
    "number": ((int, float), "a number"),
}


def config_fields(schema: Any, where: str) -> list[dict[str, Any]]:
    """The fields of ``config`` in a plugin's schema, in either of the forms that Kong takes."""
    fields = schema.get("fields") if isinstance(schema, Mapping) else schema
    for entry in fields or []:
        if isinstance(entry, Mapping) and "config" in entry:
            found: list[dict[str, Any]] = entry["config"].get("fields") or []
            return found
    raise ConfigError(f"{where}: the plugin's schema has no config field")


def apply(
    fields: list[dict[str, Any]], values: Any, where: str, *, resolve: Resolve, refs: dict[str, str]
) -> dict[str, Any]:
    """`values` with defaults, checked; references are resolved and noted in `refs` by their path."""
    values = {} if values is None else values
    if not isinstance(values, Mapping):
        raise ConfigError(f"{where}: must be a mapping")
    out: dict[str, Any] = {}
    known: dict[str, Field] = {name: spec for entry in fields for name, spec in entry.items()}
    for name in values:
        if name not in known:
            raise ConfigError(f"{where}.{name}: unknown field; known are {', '.join(sorted(known))}")
    for name, spec in known.items():
        place = f"{where}.{name}"
        value = values.get(name)
        if value is None:
            value = spec.get("default")
        if value is None and spec.get("type") == "record" and _has_defaults(spec):
            value = {}
        if value is None:
            if spec.get("required"):
                raise ConfigError(f"{place}: required field missing")
            continue
        if spec.get("refuse"):
            _refuse_unless_default(value, spec, place)
        out[name] = _value(value, spec, place, resolve, refs)
    return out


def _refuse_unless_default(value: Any, spec: Field, place: str) -> None:
    if value != spec.get("default") and value not in spec.get("accept", ()):
        raise ConfigError(f"{place}: the embedded host can't do this ({spec['refuse']}); use a real Kong")


def _has_defaults(spec: Field) -> bool:
    # kong/db/schema/init.lua: a record is made where it is required or one of its fields has a default, unless its
    # schema says that it isn't required.
    if spec.get("required") is False:
        return False
    return bool(spec.get("required")) or any(
        s.get("default") is not None for e in spec.get("fields", []) for s in e.values()
    )


def _value(value: Any, spec: Field, where: str, resolve: Resolve, refs: dict[str, str]) -> Any:
    made = _typed(value, spec, where, resolve, refs)
    for validate in spec.get("validators", ()):
        if problem := validate(made):
            raise ConfigError(f"{where}: {problem}")
    return made


def _typed(value: Any, spec: Field, where: str, resolve: Resolve, refs: dict[str, str]) -> Any:
    kind = spec.get("type", "string")
    if kind == "record":
        return apply(spec.get("fields", []), value, where, resolve=resolve, refs=refs)
    if kind in ("array", "set"):
        if not isinstance(value, (list, tuple)):
            raise ConfigError(f"{where}: expected an {kind}")
        _length(value, spec, where)
        inner = spec.get("elements", {})
        made = [_value(v, inner, f"{where}[{i}]", resolve, refs) for i, v in enumerate(value)]
        return list(dict.fromkeys(made)) if kind == "set" else made
    if kind == "map":
        if not isinstance(value, Mapping):
            raise ConfigError(f"{where}: expected a map")
        _length(value, spec, where)
        keys, inner = spec.get("keys", {}), spec.get("values", {})
        return {
            _value(k, keys, where, resolve, refs): _value(v, inner, f"{where}.{k}", resolve, refs)
            for k, v in value.items()
        }
    return _scalar(value, spec, where, resolve, refs)


def _scalar(value: Any, spec: Field, where: str, resolve: Resolve, refs: dict[str, str]) -> Any:
    kind = spec.get("type", "string")
    if kind not in _SCALARS:
        raise ConfigError(f"{where}: the embedded host doesn't know the field type {kind}")
    if isinstance(value, str) and value.startswith("{vault://"):
        if not spec.get("referenceable"):
            raise ConfigError(f"{where}: a vault reference, but Kong doesn't resolve this field")
        refs[where] = value
        value = resolve(value, where)
    types, noun = _SCALARS[kind]
    if not isinstance(value, types) or (isinstance(value, bool) and kind != "boolean"):
        raise ConfigError(f"{where}: expected {noun}")
    shown = "the value" if spec.get("referenceable") else repr(value)
    if spec.get("one_of") and value not in spec["one_of"]:
        raise ConfigError(f"{where}: expected one of: {', '.join(map(str, spec['one_of']))}")
    if (span := spec.get("between")) and not span[0] <= value <= span[1]:
        raise ConfigError(f"{where}: {shown} should be between {span[0]} and {span[1]}")
    if (bound := spec.get("gt")) is not None and not value > bound:
        raise ConfigError(f"{where}: {shown} must be greater than {bound}")
    if kind == "string":
        if not value and not spec.get("len_min", 1) == 0:
            raise ConfigError(f"{where}: length must be at least 1")
        _length(value, spec, where)
    return value


def _length(value: Any, spec: Field, where: str) -> None:
    size = len(value)
    wrong = {
        "len_min": size < spec.get("len_min", 0),
        "len_max": size > spec.get("len_max", size),
        "len_eq": size != spec.get("len_eq", size),
    }
    for name, broken in wrong.items():
        if broken:
            raise ConfigError(f"{where}: its length {size} breaks {name} {spec[name]}")
