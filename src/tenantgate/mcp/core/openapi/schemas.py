"""Schemas of OpenAPI 3.0 and 3.1 as JSON Schema 2020-12 that stands by itself, without references.

These are replaced by what they lead to. The nearest levels come first (breadth first), up to a number of schemas; what
is deeper stays open, so that it describes and checks less, and lets everything pass that the API might take. So do
circles, which are cut where they begin again.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from tenantgate.mcp.core.openapi.document import Document, DocumentError, child
from tenantgate.mcp.core.openapi.merging import simplified
from tenantgate.mcp.core.openapi.texts import clipped

__all__ = ["Reading", "Schema", "SchemaReader"]

Json = dict[str, Any]
Schema = dict[str, Any]

_TYPES: Final = frozenset("array boolean integer null number object string".split())
_DESCRIPTION: Final = 1_024
_CUT_DESCRIPTION: Final = 160
_EXAMPLES: Final = 3
_EXAMPLE_BYTES: Final = 300
_DEFAULT_BYTES: Final = 2_000
_DEPTH: Final = 24
"""Levels of a schema; JSON that is deeper than its schema isn't checked there."""

_SCHEMA_BYTES: Final = 65_536
_LEAST: Final = 40
"""Of a schema whose descriptions are too long: its parts are fewer then, but not fewer than these."""

_NUMBERS: Final = frozenset("minimum maximum exclusiveMinimum exclusiveMaximum multipleOf".split())
_COUNTS: Final = frozenset(
    "minLength maxLength minItems maxItems minProperties maxProperties minContains maxContains".split()
)
_TEXTS: Final = frozenset("pattern format contentEncoding contentMediaType".split())
_FLAGS: Final = frozenset("uniqueItems deprecated".split())
_ONE: Final = frozenset("not if then else contains propertyNames additionalProperties items".split())
_ONE_BUT_31: Final = frozenset("unevaluatedItems unevaluatedProperties".split())
_MANY: Final = frozenset("allOf anyOf oneOf prefixItems".split())
_NAMED: Final = frozenset("properties patternProperties dependentSchemas".split())

_DESCRIBING: Final = frozenset(
    "type items properties allOf anyOf oneOf format deprecated prefixItems".split()
)
"""Keywords that are kept of replies: those by which a reply is described and never wrong for what it lacks."""


@dataclass(slots=True)
class Reading:
    """What came of reading one schema."""

    schema: Schema
    notes: list[tuple[str, str]] = field(default_factory=list)
    """Places and what was left out there."""
    cut: int = 0
    """Schemas that were left open."""


@dataclass(frozen=True, slots=True)
class _Job:
    source: Any
    place: str
    into: Schema
    passed: frozenset[str]
    """References on the way here."""
    depth: int
    essential: bool
    """Whether it is the whole, or a part of that by allOf, anyOf or oneOf: read whatever its size."""


class SchemaReader:
    """Reads schemas of one document.

    Args:
        replies: whether schemas are of what the API sends. These describe and demand nothing: a reply that lacks a
            member isn't worth less for it.
        most: schemas within one schema.
    """

    def __init__(self, document: Document, *, replies: bool, most: int) -> None:
        self._document = document
        self._replies = replies
        self._most = most
        # A member of the other direction: clients don't send what only the API says.
        self._other_way = "writeOnly" if replies else "readOnly"

    def read(self, source: Any, place: str) -> Reading:
        """The schema that stands at `place`.

        Raises:
            DocumentError: a reference leads out of the document, nowhere, or in a circle without an end.
        """
        most = self._most
        made = self._read(source, place, most)
        # Long descriptions and lists of values aren't schemas by number.
        while most > _LEAST and _bytes(made.schema) > _SCHEMA_BYTES:
            most //= 2
            made = self._read(source, place, most)
        return made

    def _read(self, source: Any, place: str, most: int) -> Reading:
        made = Reading({})
        jobs = deque([_Job(source, place, made.schema, frozenset(), 0, True)])
        count = 1
        while jobs:
            job = jobs.popleft()
            if not job.essential and (job.depth > _DEPTH or count + self._size(job) > most):
                self._leave_open(job, made)
                continue
            inner = list(self._fill(job, made))
            count += len(inner)
            jobs.extend(inner)
        made.schema = simplified(made.schema)
        return made

    def _size(self, job: _Job) -> int:
        """Schemas that stand directly in one."""
        node, _ = self._document.follow(job.source, job.place)
        if not isinstance(node, Mapping):
            return 0
        return sum(len(node[key]) for key in _NAMED | _MANY if isinstance(node.get(key), Mapping | list))

    def _fill(self, job: _Job, made: Reading) -> Iterator[_Job]:
        source, place, passed = job.source, job.place, job.passed
        beside: Json = {}
        while isinstance(source, Mapping) and isinstance(source.get("$ref"), str):
            pointer = source["$ref"]
            # OpenAPI 3.0 ignores what stands beside a reference, but descriptions are meant.
            beside = {**_siblings(source, describing=self._document.is_30), **beside}
            if pointer in passed:
                if place == pointer:
                    raise DocumentError(job.place, "the reference leads back to itself")
                self._leave_open(_Job(source, place, job.into, passed, job.depth, False), made)
                return
            source, place = self._document.at(pointer, place), pointer
            passed |= {pointer}
        if isinstance(source, bool):
            source = {} if source else {"not": {}}
        if not isinstance(source, Mapping):
            raise DocumentError(place, "a schema must be an object")
        if beside:
            source = _joined(source, beside)
        into = job.into
        if self._is_null_beside(source):
            inner: Schema = {}
            into["anyOf"] = [inner, {"type": "null"}]
            into = inner
        yield from self._keywords(
            source, place, into, _Job(source, place, into, passed, job.depth, job.essential), made
        )

    def _keywords(
        self, source: Mapping[str, Any], place: str, into: Schema, job: _Job, made: Reading
    ) -> Iterator[_Job]:
        self._plain(source, place, into, made)
        for key, value in source.items():
            if self._replies and key not in _DESCRIBING and key != "additionalProperties":
                continue
            at = child(place, key)
            name = "prefixItems" if key == "items" and isinstance(value, list) else key
            if self._replies and name == "oneOf":
                name = "anyOf"  # of which several may fit, as nothing is required
            if name in _ONE or (name in _ONE_BUT_31 and not self._document.is_30):
                yield from self._one(name, value, at, job, made)
            elif name in _MANY:
                yield from self._many(name, value, at, job, made)
            elif name == "properties" or (name in _NAMED and not self._document.is_30):
                yield from self._named(name, value, at, job, made)
        required = source.get("required")
        if isinstance(required, list) and not self._replies:
            known, mine = source.get("properties"), into.get("properties", {})
            dropped = {n for n in known if n not in mine} if isinstance(known, Mapping) else set()
            names = [n for n in required if isinstance(n, str) and n not in dropped]
            if names:
                into["required"] = list(dict.fromkeys(names))
        if "properties" in into and "type" not in into and not {"anyOf", "oneOf"} & into.keys():
            into["type"] = "object"  # what its author means by `properties`

    def _one(self, name: str, value: Any, at: str, job: _Job, made: Reading) -> Iterator[_Job]:
        if isinstance(value, bool) and (self._replies or name == "additionalProperties"):
            if value is False and not self._replies:
                job.into[name] = False
        elif isinstance(value, Mapping | bool):
            job.into[name] = {}
            yield _Job(value, at, job.into[name], job.passed, job.depth + 1, False)
        else:
            made.notes.append((at, "is no schema"))

    def _many(self, name: str, value: Any, at: str, job: _Job, made: Reading) -> Iterator[_Job]:
        if not isinstance(value, list):
            made.notes.append((at, "is no list of schemas"))
            return
        if not value:
            return
        parts: list[Schema] = [{} for _ in value]
        job.into[name] = [*job.into.get(name, ()), *parts]
        essential = job.essential and name != "prefixItems" and job.depth < _DEPTH
        for i, (part, inner) in enumerate(zip(value, parts, strict=True)):
            yield _Job(part, child(at, i), inner, job.passed, job.depth + 1, essential)

    def _named(self, name: str, value: Any, at: str, job: _Job, made: Reading) -> Iterator[_Job]:
        if not isinstance(value, Mapping):
            made.notes.append((at, "is no object of schemas"))
            return
        job.into[name] = {}
        for member, inner in value.items():
            at_member = child(at, member)
            if name == "properties" and self._is_other_way(inner, at_member):
                continue
            job.into[name][member] = {}
            yield _Job(inner, at_member, job.into[name][member], job.passed, job.depth + 1, False)

    def _is_null_beside(self, source: Mapping[str, Any]) -> bool:
        """Whether OpenAPI 3.0's `nullable` stands beside schemas, which know of no null, and not beside a type."""
        applied = any(key in source for key in ("allOf", "anyOf", "oneOf", "not"))
        return self._document.is_30 and source.get("nullable") is True and "type" not in source and applied

    def _is_other_way(self, source: Any, place: str) -> bool:
        if not isinstance(source, Mapping):
            return False
        if source.get(self._other_way) is True:
            return True
        if "$ref" not in source:
            return False
        found, _ = self._document.follow(source, place)
        return isinstance(found, Mapping) and found.get(self._other_way) is True

    def _plain(self, source: Mapping[str, Any], place: str, into: Schema, made: Reading) -> None:
        """Keywords whose values hold no schemas."""
        if kinds := self._types(source, place, made):
            into["type"] = kinds[0] if len(kinds) == 1 else kinds
        for key in ("title", "description"):
            if text := clipped(source.get(key), _DESCRIPTION):
                into[key] = text
        if not self._replies:
            self._values(source, place, into, made)
        for key, value in source.items():
            if self._replies and key not in _DESCRIBING:
                continue
            if _is_right(key, value):
                into[key] = value
            elif key in _NUMBERS | _COUNTS and not isinstance(value, bool):
                made.notes.append((child(place, key), "isn't a number that it may be"))
        _exclude_bounds(source, into)

    def _values(self, source: Mapping[str, Any], place: str, into: Schema, made: Reading) -> None:
        enum = source.get("enum")
        if isinstance(enum, list) and enum:
            values = list(enum)
            if self._document.is_30 and source.get("nullable") is True and None not in values:
                values.append(None)
            into["enum"] = values
        elif enum is not None:
            made.notes.append((child(place, "enum"), "is no list of values"))
        if "const" in source:
            into["const"] = source["const"]
        if "default" in source and _bytes(source["default"]) <= _DEFAULT_BYTES:
            into["default"] = source["default"]
        examples = source.get("examples")
        examples = examples if isinstance(examples, list) else []
        if "example" in source:
            examples = [source["example"], *examples]
        if few := [e for e in examples if _bytes(e) <= _EXAMPLE_BYTES][:_EXAMPLES]:
            into["examples"] = few

    def _types(self, source: Mapping[str, Any], place: str, made: Reading) -> list[str]:
        given = source.get("type")
        if given is None:
            return []
        names = given if isinstance(given, list) else [given]
        kinds = [n for n in dict.fromkeys(n for n in names if isinstance(n, str)) if n in _TYPES]
        if len(kinds) != len(names):
            made.notes.append((child(place, "type"), "is no type of JSON Schema"))
            return []
        if self._document.is_30 and source.get("nullable") is True and "null" not in kinds:
            kinds.append("null")
        return kinds

    def _leave_open(self, job: _Job, made: Reading) -> None:
        """Say of a schema what takes few words, and let all values of its type pass."""
        made.cut += 1
        try:
            source, _ = self._document.follow(job.source, job.place)
        except DocumentError:
            return
        if not isinstance(source, Mapping):
            return
        kinds = self._types(source, job.place, made)
        if not kinds and "properties" in source and source.get("nullable") is not True:
            kinds = ["object"]
        if kinds:
            job.into["type"] = kinds[0] if len(kinds) == 1 else kinds
        if text := clipped(source.get("description") or source.get("title"), _CUT_DESCRIPTION):
            job.into["description"] = text


def _siblings(source: Mapping[str, Any], *, describing: bool) -> Json:
    if describing:
        return {k: source[k] for k in ("title", "description") if k in source}
    return {k: v for k, v in source.items() if k != "$ref"}


def _joined(source: Mapping[str, Any], beside: Json) -> Json:
    """A schema and what stands beside the reference to it."""
    notes = {"title", "description", "default", "examples", "example", "deprecated"}
    if notes.issuperset(beside) or not source.keys() & (beside.keys() - notes):
        return {**source, **beside}
    return {
        **{k: v for k, v in beside.items() if k in notes},
        "allOf": [source, {k: v for k, v in beside.items() if k not in notes}],
    }


def _exclude_bounds(source: Mapping[str, Any], into: Schema) -> None:
    """OpenAPI 3.0: a flag beside the bound, in place of a bound of its own."""
    for exclusive, bound in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if source.get(exclusive) is True and bound in into:
            into[exclusive] = into.pop(bound)


def _is_right(key: str, value: Any) -> bool:
    """Whether it is a keyword that holds no schema, with a value that it may have."""
    if key in _NUMBERS:
        return _number(value) and (key != "multipleOf" or value > 0)
    if key in _COUNTS:
        return isinstance(value, int) and not isinstance(value, bool) and value >= 0
    kinds = {**dict.fromkeys(_TEXTS, str), **dict.fromkeys(_FLAGS, bool), "dependentRequired": Mapping}
    return key in kinds and isinstance(value, kinds[key])


def _number(value: Any) -> bool:
    # Also not NaN, which YAML knows.
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < float("inf")


def _bytes(value: Any) -> int:
    try:
        return len(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError, RecursionError):
        return _DEFAULT_BYTES * 1_000
