"""The JSON Schema (2020-12) of tenants.yaml, for editors: the same fields, from the same classes.

An editor can't check what holds between fields; `tenantgate validate` does.
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from typing import Any, Final

from tenantgate import fields
from tenantgate.config import catalog, model

__all__ = ["json_schema"]

_TYPES: Final = {str: "string", int: "integer", float: "number", bool: "boolean"}
_PLACEHOLDER: Final = r'\$\{\{\s*env\s+"DECK_[A-Za-z0-9_]+"\s*\}\}'
_REFERENCE: Final = r"\{vault://[A-Za-z0-9_-]+/[^{}\s]+\}"

Json = dict[str, Any]


def json_schema() -> str:
    """The schema's text."""
    definitions: Json = {}
    root = _object(model.TenantsFile, definitions)
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "tenants.yaml of Tenantgate",
        **root,
        "$defs": dict(sorted(definitions.items())),
    }
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def _object(cls: type, definitions: Json) -> Json:
    properties: Json = {}
    required = []
    for name, (spec, hint, default) in fields.specs(cls).items():
        if name == model.SECTIONS:
            for plugin in catalog.CATALOG:
                definitions.setdefault(plugin.section, _section(plugin, definitions))
                properties[plugin.section] = {"$ref": f"#/$defs/{plugin.section}"}
            continue
        properties[name] = _value(spec, hint, definitions, vault=typing.get_origin(hint) is not tuple)
        properties[name] |= {"description": spec.description} | _default(default)
        if default is dataclasses.MISSING:
            required.append(name)
    out: Json = {"type": "object", "additionalProperties": False, "properties": properties}
    return out | ({"required": required} if required else {})


def _section(plugin: catalog.CataloguedPlugin, definitions: Json) -> Json:
    filled = set(plugin.filled(model.Gateway(), ""))
    properties: Json = {
        "enabled": {
            "type": "boolean",
            "default": True,
            "description": "Whether the plugin is on these routes.",
        }
    }
    for name, (spec, hint, default) in fields.specs(plugin.config_class).items():
        if name not in filled:
            properties[name] = _value(spec, hint, definitions, vault=True)
            properties[name] |= {"description": spec.description} | _default(default)
    return {
        "type": "object", "description": plugin.description, "additionalProperties": False,
        "properties": properties,
    }  # fmt: skip


def _value(spec: fields.FieldSpec, hint: Any, definitions: Json, *, vault: bool) -> Json:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return _value(spec, next(a for a in args if a is not type(None)), definitions, vault=vault)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        definitions.setdefault(hint.__name__, _object(hint, definitions))
        return {"$ref": f"#/$defs/{hint.__name__}"}
    if origin in (tuple, frozenset):
        element = dataclasses.replace(spec, len_min=None, len_max=None)
        lengths = {"minItems": spec.len_min, "maxItems": spec.len_max}
        out = {"type": "array", "items": _value(element, args[0], definitions, vault=vault)}
        return out | {k: v for k, v in lengths.items() if v is not None}
    if origin is dict:
        return {"type": "object", "additionalProperties": _value(spec, args[1], definitions, vault=vault)}
    return {"type": _TYPES[hint]} | _checks(spec, vault=vault)


def _checks(spec: fields.FieldSpec, *, vault: bool) -> Json:
    between = spec.between or (None, None)
    pattern = spec.match
    if spec.referenceable:
        pattern = f"^({_REFERENCE}|{_PLACEHOLDER})$" if vault else f"^{_PLACEHOLDER}$"
    checks = {
        "enum": list(spec.one_of) or None, "pattern": pattern,
        "minLength": spec.len_min, "maxLength": spec.len_max,
        "minimum": between[0], "maximum": between[1], "exclusiveMinimum": spec.gt,
    }  # fmt: skip
    return {k: v for k, v in checks.items() if v is not None}


def _default(default: Any) -> Json:
    if default is dataclasses.MISSING or default is None or isinstance(default, tuple):
        return {}
    return {} if dataclasses.is_dataclass(default) else {"default": default}
