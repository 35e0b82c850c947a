"""JSON values against JSON Schema 2020-12: in bounded time, without a network, and with messages that hold no value."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

import jsonschema_rs

from tenantgate.mcp.core.tool import ArgumentError, Json

__all__ = ["DEPTH", "NODES", "Validator", "bounds", "unusable_pattern", "usable"]

DEPTH: Final = 64
"""Lists and objects within each other, at most."""
NODES: Final = 50_000
"""Values in lists and objects, at most."""

_REGEX: Final = jsonschema_rs.RegexOptions(size_limit=1_000_000, dfa_size_limit=4_000_000)
"""The engine that takes linear time for every text; it can't look around."""
_MASK: Final = "the value"
_PATTERN_CHARACTERS: Final = 2_000
_SURROGATE: Final = re.compile(r"[\ud800-\udfff]")


class Validator:
    """A schema, ready to check values; about 0.1 ms to make.

    Raises:
        ValueError: it is no schema of 2020-12, or has a reference that leads out of it.
    """

    def __init__(self, schema: Json) -> None:
        self._inner = _compiled(schema)

    def is_valid(self, value: Any) -> bool:
        """Whether `value`, which keeps the `bounds`, fits."""
        return bool(self._inner.is_valid(value))

    def error(self, value: Any) -> ArgumentError | None:
        """The first thing that is wrong with `value`, which keeps the `bounds`."""
        if self._inner.is_valid(value):
            return None
        found = next(iter(self._inner.iter_errors(value)))
        return _error(found)

    def misfits(self, value: Any) -> list[tuple[str | int, ...]]:
        """The paths of what is wrong within `value`."""
        return [tuple(error.instance_path) for error in self._inner.iter_errors(value)]


def _compiled(schema: Json) -> Any:
    try:
        return jsonschema_rs.Draft202012Validator(
            dict(schema), mask=_MASK, pattern_options=_REGEX, offline=True
        )
    except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError, ValueError, TypeError) as error:
        raise ValueError("no schema of 2020-12") from error


def usable(schema: Json) -> bool:
    """Whether values can be checked against `schema`."""
    try:
        _compiled(schema)
    except ValueError:
        return False
    return True


@lru_cache(maxsize=4_096)
def unusable_pattern(pattern: str) -> bool:
    """Whether a pattern can't be tried in linear time, or is none."""
    return len(pattern) > _PATTERN_CHARACTERS or not usable({"pattern": pattern})


def bounds(value: Any, *, nodes: int = NODES) -> ArgumentError | None:
    """What keeps a JSON value from being checked and written: depth, number, or half of a surrogate pair."""
    level: list[Any] = [value]
    most, count = nodes, 0
    for _ in range(DEPTH + 1):
        following: list[Any] = []
        for node in level:
            if isinstance(node, str):
                if not node.isascii() and _SURROGATE.search(node):
                    return ArgumentError("", "Half of a surrogate pair is no text.")
            elif isinstance(node, dict):
                following.extend(node)
                following.extend(node.values())
            elif isinstance(node, list):
                following.extend(node)
        count += len(following)
        if count > most:
            return ArgumentError("", f"More than {most} values in lists and objects.")
        if not following:
            return None
        level = following
    return ArgumentError("", f"Lists and objects are nested more than {DEPTH} deep.")


def _error(found: Any) -> ArgumentError:
    path = list(found.instance_path)
    kind = found.kind
    if isinstance(kind, jsonschema_rs.ValidationErrorKind.Required):
        return ArgumentError(dotted([*path, kind.property]), "Required, and not there.")
    if isinstance(kind, jsonschema_rs.ValidationErrorKind.AdditionalProperties):
        return ArgumentError(dotted([*path, *list(kind.unexpected)[:1]]), "There is no such argument.")
    return ArgumentError(dotted(path), f"{found.message[:1].upper()}{found.message[1:400]}.")


def dotted(path: Sequence[str | int]) -> str:
    """A path in the words of a message: ``body.tags[2]``. Members that are no plain names are clipped."""
    out = ""
    for step in path:
        if isinstance(step, int):
            out += f"[{step}]"
        else:
            out += f"{'.' if out else ''}{step[:80]}"
    return out
