"""Kong's schema of a plugin, from its configuration class.

Only what an external plugin may use (kong/db/schema/metaschema.lua): no functions, no entity checks.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from typing import Any, Final

from tenantgate.fields import FieldSpec, specs

__all__ = ["kong_fields"]

_SCALARS: Final = {str: "string", int: "integer", float: "number", bool: "boolean"}


def kong_fields(cls: type) -> list[dict[str, Any]]:
    """The ``fields`` of a Kong record for a class made by `tenantgate.fields.config_class`.

    A field without a default is required. ``tuple[T, ...]`` is an array, ``frozenset[T]`` a set,
    ``dict[str, T]`` a map, another configuration class a record, ``T | None`` a field that may be left out.
    """
    return [{name: _field(spec, hint, default)} for name, (spec, hint, default) in specs(cls).items()]


def _field(spec: FieldSpec, hint: Any, default: Any) -> dict[str, Any]:
    optional, hint = _unwrap(hint)
    out = _typed(spec, hint)
    out["description"] = spec.description
    if default is dataclasses.MISSING:
        out["required"] = True
    elif default is not None:
        plain = _plain(default)
        # An empty Lua table encodes as {} and says nothing that a missing default doesn't; so such a field may be
        # left out.
        empty = plain in ([], {})
        if not optional and not empty:
            out["required"] = True  # Kong fills the default in; "required" keeps an explicit null out
        if not empty and not dataclasses.is_dataclass(default):
            out["default"] = plain
    return out


def _typed(spec: FieldSpec, hint: Any) -> dict[str, Any]:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return {"type": "record", "fields": kong_fields(hint)}
    if origin in (tuple, frozenset):
        element = dataclasses.replace(spec, len_min=None, len_max=None)
        out: dict[str, Any] = {
            "type": "array" if origin is tuple else "set",
            "elements": _typed(element, args[0]),
        }
        return out | _lengths(spec)
    if origin is dict:
        return {"type": "map", "keys": {"type": "string"}, "values": _typed(spec, args[1])}
    return {"type": _SCALARS[hint]} | _checks(spec, hint)


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


def _unwrap(hint: Any) -> tuple[bool, Any]:
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        inner = [a for a in typing.get_args(hint) if a is not type(None)]
        return True, inner[0]
    return False, hint


def _plain(value: Any) -> Any:
    if isinstance(value, tuple | frozenset | list):
        return [_plain(v) for v in value]
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return value
