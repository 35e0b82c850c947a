"""The JSON Schema (2020-12) of tenants.yaml, for editors: the same fields, from the same classes.

An editor can't check what holds between fields; `tenantgate validate` does.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any, Final

from tenantgate.config import catalog, model
from tenantgate.fields import Field, FieldSpec, Many, Record, Scalar, Shape, Table

__all__ = ["json_schema"]

_TYPES: Final = {str: "string", int: "integer", float: "number", bool: "boolean"}
_PLACEHOLDER: Final = r'\$\{\{\s*env\s+"DECK_[A-Za-z0-9_]+"\s*\}\}'
_REFERENCE: Final = r"\{vault://[A-Za-z0-9_-]+/[^{}\s]+\}"

Json = dict[str, Any]


def json_schema() -> str:
    """The schema's text."""
    definitions: Json = {}
    root = _object(catalog.entries(model.FilePart), definitions)
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "tenants.yaml of Tenantgate",
        **root,
        "$defs": dict(sorted(definitions.items())),
    }
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def _object(entries: Mapping[str, catalog.Entry], definitions: Json) -> Json:
    properties: Json = {}
    required = []
    for name, entry in entries.items():
        if isinstance(entry, catalog.Section):
            definitions.setdefault(name, _section(entry, definitions))
            properties[name] = {"$ref": f"#/$defs/{name}"}
            continue
        # The one list of secrets is that of client keys, for which Kong reads no vault.
        properties[name] = _property(entry, definitions, vault=not isinstance(entry.shape, Many))
        if entry.required:
            required.append(name)
    out: Json = {"type": "object", "additionalProperties": False, "properties": properties}
    return out | ({"required": required} if required else {})


def _section(section: catalog.Section, definitions: Json) -> Json:
    properties: Json = {
        "enabled": {
            "type": "boolean",
            "default": True,
            "description": "Whether the plugin is on these routes.",
        }
    }
    properties |= {name: _property(f, definitions, vault=True) for name, f in section.fields.items()}
    return {
        "type": "object",
        "description": section.plugin.description,
        "additionalProperties": False,
        "properties": properties,
    }


def _property(f: Field, definitions: Json, *, vault: bool) -> Json:
    return _value(f.shape, definitions, vault=vault) | {"description": f.spec.description} | _default(f)


def _value(shape: Shape, definitions: Json, *, vault: bool) -> Json:
    match shape:
        case Record(cls):
            definitions.setdefault(cls.__name__, _object(catalog.entries(cls), definitions))
            return {"$ref": f"#/$defs/{cls.__name__}"}
        case Many(element, spec):
            lengths = {"minItems": spec.len_min, "maxItems": spec.len_max}
            out = {"type": "array", "items": _value(element, definitions, vault=vault)}
            return out | {k: v for k, v in lengths.items() if v is not None}
        case Table(values):
            return {"type": "object", "additionalProperties": _value(values, definitions, vault=vault)}
        case Scalar(kind, spec):
            return {"type": _TYPES[kind]} | _checks(spec, vault=vault)


def _checks(spec: FieldSpec, *, vault: bool) -> Json:
    between = spec.between or (None, None)
    pattern = spec.match
    if spec.referenceable:
        pattern = f"^({_REFERENCE}|{_PLACEHOLDER})$" if vault else f"^{_PLACEHOLDER}$"
    checks = {
        "enum": list(spec.one_of) or None,
        "pattern": pattern,
        "minLength": spec.len_min,
        "maxLength": spec.len_max,
        "minimum": between[0],
        "maximum": between[1],
        "exclusiveMinimum": spec.gt,
    }
    return {k: v for k, v in checks.items() if v is not None}


def _default(f: Field) -> Json:
    if f.required or f.default is None or isinstance(f.default, tuple):
        return {}
    return {} if dataclasses.is_dataclass(f.default) else {"default": f.default}
