"""Schemas in fewer words: `allOf` as one schema wherever that says the same, since many clients read no `allOf`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

__all__ = ["simplified"]

Schema = dict[str, Any]

_NOTES: Final = frozenset("title description default examples deprecated".split())
_INNER: Final = ("not", "if", "then", "else", "contains", "propertyNames", "additionalProperties", "items")


def simplified(schema: Schema) -> Schema:
    """`schema`, which is used up, with its `allOf` merged where it can be, at all levels."""
    for key in _INNER:
        if isinstance(schema.get(key), dict):
            schema[key] = simplified(schema[key])
    for key in ("anyOf", "oneOf", "prefixItems"):
        if key in schema:
            schema[key] = [simplified(part) for part in schema[key]]
    for key in ("properties", "patternProperties", "dependentSchemas"):
        if key in schema:
            schema[key] = {name: simplified(part) for name, part in schema[key].items()}
    return _without_single(_without_all_of(schema) if "allOf" in schema else schema)


def _without_single(schema: Schema) -> Schema:
    """A choice of one is none."""
    for key in ("anyOf", "oneOf"):
        if len(schema.get(key, ())) == 1:
            rest = {k: v for k, v in schema.items() if k != key}
            if (one := _merged(schema[key][0], rest)) is not None:
                schema = one
    return schema


def _without_all_of(schema: Schema) -> Schema:
    parts = [simplified(part) for part in schema.pop("allOf")]
    made: Schema | None = {}
    for part in parts:
        made = None if made is None else _merged(made, part)
    if made is not None:
        made = _merged(made, schema)
    return {**schema, "allOf": parts} if made is None else made


def _merged(first: Schema, second: Schema) -> Schema | None:
    """One schema that both are; None where it takes two. Of notes, the second's are taken."""
    made = dict(first)
    # Closed parts of one whole would let nothing pass; their authors mean the whole.
    if (
        "properties" in first
        and "properties" in second
        and False in (first.get("additionalProperties"), second.get("additionalProperties"))
    ):
        made.pop("additionalProperties", None)
        second = {k: v for k, v in second.items() if k != "additionalProperties"}
    for key, value in second.items():
        if key not in made or key in _NOTES:
            made[key] = value
        elif key in _BOTH:
            made[key] = _BOTH[key](made[key], value)
            if key == "type" and not made[key]:
                return None
        elif made[key] != value:
            return None
    return made


def _properties(first: dict[str, Schema], second: dict[str, Schema]) -> dict[str, Schema]:
    made = dict(first)
    for name, schema in second.items():
        if name not in made:
            made[name] = schema
            continue
        both = _merged(made[name], schema)
        made[name] = {"allOf": [made[name], schema]} if both is None else both
    return made


def _types(first: Any, second: Any) -> str | list[str]:
    ours = first if isinstance(first, list) else [first]
    theirs = second if isinstance(second, list) else [second]
    kinds = [k for k in ours if k in theirs]
    for a, b in ((ours, theirs), (theirs, ours)):
        if "integer" in a and "number" in b and "integer" not in kinds:
            kinds.append("integer")
    return kinds[0] if len(kinds) == 1 else kinds


def _required(first: list[str], second: list[str]) -> list[str]:
    return list(dict.fromkeys([*first, *second]))


_BOTH: Final[Mapping[str, Callable[[Any, Any], Any]]] = {
    "properties": _properties,
    "required": _required,
    "type": _types,
    **dict.fromkeys("minimum exclusiveMinimum minLength minItems minProperties minContains".split(), max),
    **dict.fromkeys("maximum exclusiveMaximum maxLength maxItems maxProperties maxContains".split(), min),
}
"""Keywords whose values together say one thing."""
