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

__all__ = ["class_schema", "json_schema"]

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


def class_schema(cls: type, definitions: Json) -> Json:
    """The schema of a configuration class alone; those of the classes in it are put into `definitions`."""
    return _object(catalog.entries(cls), definitions)


def _object(entries: Mapping[str, catalog.Entry], definitions: Json) -> Json:
    properties: Json = {}
    required = []
    for name, entry in entries.items():
        if isinstance(entry, catalog.Section):
            definitions.setdefault(name, _section(entry, definitions))
            properties[name] = {"$ref": f"#/$defs/{name}"}
            continue
        properties[name] = _property(entry, definitions)
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
    properties |= {name: _property(f, definitions) for name, f in section.fields.items()}
    return {
        "type": "object",
        "description": section.plugin.description,
        "additionalProperties": False,
        "properties": properties,
    }


def _property(f: Field, definitions: Json) -> Json:
    return _value(f.shape, definitions) | {"description": f.spec.description} | _default(f)


def _value(shape: Shape, definitions: Json) -> Json:
    match shape:
        case Record(cls):
            definitions.setdefault(cls.__name__, _object(catalog.entries(cls), definitions))
            return {"$ref": f"#/$defs/{cls.__name__}"}
        case Many(element, spec):
            lengths = {"minItems": spec.len_min, "maxItems": spec.len_max}
            out = {"type": "array", "items": _value(element, definitions)}
            return out | {k: v for k, v in lengths.items() if v is not None}
        case Table(values):
            return {"type": "object", "additionalProperties": _value(values, definitions)}
        case Scalar(kind, spec):
            return {"type": _TYPES[kind]} | _checks(spec)


def _checks(spec: FieldSpec) -> Json:
    between = spec.between or (None, None)
    pattern = spec.match
    if spec.referenceable:
        pattern = f"^({_REFERENCE}|{_PLACEHOLDER})$" if spec.vault else f"^{_PLACEHOLDER}$"
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
