"""Kong's schema of a plugin, from its configuration class.

Only what an external plugin may use (kong/db/schema/metaschema.lua): no functions, no entity checks.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Final

from tenantgate.fields import Field, FieldSpec, Many, Record, Scalar, Shape, Table, fields_of

__all__ = ["kong_fields"]

_SCALARS: Final = {str: "string", int: "integer", float: "number", bool: "boolean"}


def kong_fields(cls: type) -> list[dict[str, Any]]:
    """The ``fields`` of a Kong record for a class made by `tenantgate.fields.config_class`.

    A field without a default is required. ``tuple[T, ...]`` is an array, ``frozenset[T]`` a set,
    ``dict[str, T]`` a map, another configuration class a record, ``T | None`` a field that may be left out.
    """
    return [{name: _field(f)} for name, f in fields_of(cls).items()]


def _field(f: Field) -> dict[str, Any]:
    out = _typed(f.shape)
    out["description"] = f.spec.description
    if f.required:
        out["required"] = True
    elif f.optional and isinstance(f.shape, Record):
        # Kong takes a record for required that doesn't say otherwise, and makes it of its fields' defaults.
        out["required"] = False
    elif f.default is not None:
        default = _plain(f.default)
        # An empty Lua table encodes as {} and says nothing that a missing default doesn't; so such a field may be
        # left out.
        empty = default in ([], {})
        if not f.optional and not empty:
            out["required"] = True  # Kong fills the default in; "required" keeps an explicit null out
        if not empty and not dataclasses.is_dataclass(default):
            out["default"] = default
    return out


def _typed(shape: Shape) -> dict[str, Any]:
    match shape:
        case Record(cls):
            return {"type": "record", "fields": kong_fields(cls)}
        case Many(element, spec, unordered):
            return {"type": "set" if unordered else "array", "elements": _typed(element)} | _lengths(spec)
        case Table(values):
            return {"type": "map", "keys": {"type": "string"}, "values": _typed(values)}
        case Scalar(kind, spec):
            return {"type": _SCALARS[kind]} | _checks(spec, kind)


def _checks(spec: FieldSpec, hint: Any) -> dict[str, Any]:
    out: dict[str, Any] = {}
    if hint is str:
        out |= _lengths(spec)
        if spec.one_of:
            out["one_of"] = list(spec.one_of)
        if spec.lua_match:
            out["match"] = spec.lua_match
        if spec.referenceable:
            out["referenceable"] = True
    elif hint is not bool:
        if spec.between:
            out["between"] = list(spec.between)
        if spec.gt is not None:
            out["gt"] = spec.gt
    return out


def _lengths(spec: FieldSpec) -> dict[str, Any]:
    both = {"len_min": spec.len_min, "len_max": spec.len_max}
    return {name: value for name, value in both.items() if value is not None}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple | frozenset | list):
        return [_plain(v) for v in value]
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return value
