"""Operations as tools."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from tenantgate.mcp.core.openapi.document import Document, DocumentError, child
from tenantgate.mcp.core.openapi.names import argument_names
from tenantgate.mcp.core.openapi.operations import Listed, operation_acl
from tenantgate.mcp.core.openapi.schemas import SchemaReader
from tenantgate.mcp.core.openapi.texts import clipped
from tenantgate.mcp.core.tool import (
    BODY,
    Acl,
    Annotations,
    Body,
    Encoding,
    Operation,
    Parameter,
    Tool,
    fingerprint,
)
from tenantgate.mcp.core.validation import unusable_pattern, usable

__all__ = ["Made", "Overrides", "ToolMaker"]

Json = dict[str, Any]

_INPUT: Final = 600
_OUTPUT: Final = 200
"""Schemas in one schema; beyond that they stay open."""
_SCHEMA_BYTES: Final = 262_144

_STYLES: Final[Mapping[str, tuple[str, ...]]] = {
    "path": ("simple", "label", "matrix"),
    "query": ("form", "spaceDelimited", "pipeDelimited", "deepObject"),
    "header": ("simple",),
    "cookie": ("form",),
}
_EXTRA_STYLES: Final = ("spaceDelimited", "pipeDelimited", "deepObject", "form")

_NEVER: Final = frozenset(
    "accept accept-encoding authorization connection content-encoding content-length content-type cookie expect "
    "forwarded host keep-alive proxy-authenticate proxy-authorization proxy-connection te trailer transfer-encoding "
    "upgrade via x-forwarded-for x-forwarded-host x-forwarded-port x-forwarded-proto x-real-ip".split()
)
"""Header parameters that no client sets: some OpenAPI ignores itself, the others the gateway owns."""
_HEADER: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VARIABLE: Final = re.compile(r"\{([^{}/]*)\}")
_JSON_TYPE: Final = re.compile(r"application/(json|[a-z0-9.+-]*\+json)\b", re.IGNORECASE)
_FORM: Final = "application/x-www-form-urlencoded"
_MULTIPART: Final = "multipart/form-data"


@dataclass(frozen=True, slots=True, kw_only=True)
class Overrides:
    """What the operator says of a tool, in place of the document; None: as the document has it."""

    name: str | None = None
    title: str | None = None
    description: str | None = None
    acl: Acl | None = None
    read_only: bool | None = None
    destructive: bool | None = None
    idempotent: bool | None = None
    open_world: bool | None = None


@dataclass(slots=True)
class Made:
    """A tool, and what is left out of it."""

    tool: Tool
    notes: list[tuple[str, str]] = field(default_factory=list)
    """Places and what was left out there."""
    cut: int = 0
    """Parts of its schemas that stay open, for their number or since they are circles."""


class ToolMaker:
    """Makes tools of one document's operations.

    Args:
        fixed: (place, name) of headers and parameters of the query that the gateway sets: no tool has them.
    """

    def __init__(self, document: Document, *, fixed: frozenset[tuple[str, str]] = frozenset()) -> None:
        self._document = document
        self._input = SchemaReader(document, replies=False, most=_INPUT)
        self._output = SchemaReader(document, replies=True, most=_OUTPUT)
        self._fixed = {(p, n.lower() if p == "header" else n) for p, n in fixed} | set(self._credentials())

    def tool(self, op: Listed, overrides: Overrides | None = None) -> Made:
        """The tool that an operation is.

        Raises:
            DocumentError: it can't be one; with the place of what is in the way.
        """
        if op.problem is not None:
            raise op.problem
        given = overrides or Overrides()
        notes: list[tuple[str, str]] = []
        found = list(self._parameters(op, notes))
        body = self._body(op, notes)
        wanted = [(str(node["name"]), str(node["in"])) for node, _ in found]
        names = argument_names([*wanted, *([(BODY, "body")] if body else [])])
        cut = 0
        properties: Json = {}
        required: list[str] = []
        parameters: list[Parameter] = []
        for (node, at), argument in zip(found, names, strict=False):
            parameter, schema, left = self._parameter(node, at, argument, notes)
            cut += left
            parameters.append(parameter)
            properties[argument] = schema
            if parameter.required:
                required.append(argument)
        operation_body = None
        if body is not None:
            operation_body, schema, left = self._body_argument(*body, names[-1], notes)
            cut += left
            properties[names[-1]] = schema
            if operation_body.required:
                required.append(names[-1])
        self._check_path(op, parameters)
        input_schema: Json = {"type": "object", "properties": properties}
        if required:
            input_schema["required"] = required
        input_schema["additionalProperties"] = False
        output_schema, wraps, accept, left = self._reply(op, notes)
        operation = Operation(
            method=op.method, path=op.path, parameters=tuple(parameters), body=operation_body, accept=accept
        )
        tool = Tool(
            name=given.name or op.name,
            title=op.title if given.title is None else given.title,
            description=op.description if given.description is None else given.description,
            input_schema=input_schema,
            output_schema=output_schema,
            annotations=_annotations(op.annotations, given),
            operation=operation,
            acl=given.acl if given.acl is not None else operation_acl(self._document, op),
            wraps_output=wraps,
        )
        return Made(replace(tool, fingerprint=fingerprint_of(tool)), notes, cut + left)

    def _credentials(self) -> Iterator[tuple[str, str]]:
        """Parameters that are credentials by the document: the gateway has these, and clients don't."""
        components = self._document.mapping(self._document.tree.get("components"), "#/components")
        schemes = components.get("securitySchemes")
        for name, raw in schemes.items() if isinstance(schemes, Mapping) else ():
            try:
                scheme, _ = self._document.follow(raw, child("#/components/securitySchemes", name))
            except DocumentError:
                continue  # nobody's parameter
            if isinstance(scheme, Mapping) and scheme.get("type") == "apiKey":
                place, key = str(scheme.get("in")), str(scheme.get("name"))
                yield place, key.lower() if place == "header" else key

    def _parameters(
        self, op: Listed, notes: list[tuple[str, str]]
    ) -> Iterator[tuple[Mapping[str, Any], str]]:
        """The parameters of the path and the operation, which has its own in place of the path's."""
        found: dict[tuple[str, str], tuple[Mapping[str, Any], str]] = {}
        shared_at = op.place.rpartition("/")[0]
        for holder, at in ((op.shared, shared_at), (op.node, op.place)):
            at = child(at, "parameters")  # noqa: PLW2901 - one step further
            given = holder.get("parameters")
            if given is None:
                continue
            if not isinstance(given, list):
                raise DocumentError(at, "must be a list")
            for i, raw in enumerate(given):
                node, place = self._document.follow(raw, child(at, i))
                _check_parameter(node, place)
                found[node["in"], node["name"]] = node, place
        for (where, name), (node, place) in found.items():
            key = name.lower() if where == "header" else name
            if (where, key) in self._fixed or (where == "header" and key in _NEVER):
                notes.append((place, "is set by the gateway, and no argument"))
            else:
                yield node, place

    def _parameter(
        self, node: Mapping[str, Any], at: str, argument: str, notes: list[tuple[str, str]]
    ) -> tuple[Parameter, Json, int]:
        where = node["in"]
        if (content := node.get("content")) is not None:
            media = self._document.mapping(content, child(at, "content"))
            kind = next((k for k in media if _JSON_TYPE.match(k)), None)
            if kind is None and any(k.startswith("text/") for k in media):
                kind = next(k for k in media if k.startswith("text/"))
            if kind is None:
                raise DocumentError(child(at, "content"), "only JSON and text can be written here")
            encoding = Encoding(style="", content_type=kind)
            media_at = child(at, "content", kind)
            inner, schema_at = (
                self._document.mapping(media[kind], media_at).get("schema", {}),
                child(media_at, "schema"),
            )
        else:
            encoding = _encoding(node, at, _STYLES[where], default=_STYLES[where][0])
            inner, schema_at = node.get("schema", {}), child(at, "schema")
        schema, left = self._schema(inner, schema_at, notes)
        if text := clipped(node.get("description"), 1_024):
            schema = {**schema, "description": text}
        schema = _with_examples(schema, node)
        if where == "path":
            schema = {"minLength": 1, **schema} if schema.get("type") == "string" else schema
        required = node.get("required") is True or where == "path"
        parameter = Parameter(
            argument=argument, name=node["name"], location=where, required=required, encoding=encoding
        )
        return parameter, schema, left

    def _schema(self, source: Any, at: str, notes: list[tuple[str, str]]) -> tuple[Json, int]:
        reading = self._input.read({} if source is None else source, at)
        notes.extend(reading.notes)
        schema = _without_bad_patterns(reading.schema, at, notes)
        _check_schema(schema, at)
        return schema, reading.cut

    def _body(self, op: Listed, notes: list[tuple[str, str]]) -> tuple[Mapping[str, Any], str, str] | None:
        """The Request Body Object, its place and the media type that is sent."""
        if op.node.get("requestBody") is None or op.method == "GET":
            return None
        node, at = self._document.follow(op.node["requestBody"], child(op.place, "requestBody"))
        node = self._document.mapping(node, at)
        content = self._document.mapping(node.get("content"), child(at, "content"))
        if not content:
            return None
        for fits in (
            lambda t: t == "application/json",
            lambda t: _JSON_TYPE.match(t) is not None,
            lambda t: t in ("*/*", "application/*"),
            lambda t: t.startswith(_FORM),
            lambda t: t.startswith(_MULTIPART),
            lambda t: t.startswith("text/"),
        ):
            for kind in content:
                if fits(kind.lower()):
                    return node, at, kind
        if node.get("required") is True:
            raise DocumentError(
                child(at, "content"), f"a body of {', '.join(sorted(content)[:3])} isn't sent"
            )
        notes.append((child(at, "content"), "no body is sent: none of its media types can be"))
        return None

    def _body_argument(
        self, node: Mapping[str, Any], at: str, kind: str, argument: str, notes: list[tuple[str, str]]
    ) -> tuple[Body, Json, int]:
        media_at = child(at, "content", kind)
        media = self._document.mapping(node["content"][kind], media_at)
        schema, left = self._schema(media.get("schema", {}), child(media_at, "schema"), notes)
        sent = "application/json" if "*" in kind else kind
        encodings: dict[str, Encoding] = {}
        is_form = sent.lower().startswith((_FORM, _MULTIPART))
        if is_form:
            if schema.get("type", "object") != "object":
                raise DocumentError(child(media_at, "schema"), "the body of a form must be an object")
            schema = {"type": "object", **schema}
            encodings = self._encodings(
                media, media_at, schema, multipart=sent.lower().startswith(_MULTIPART)
            )
        elif sent.lower().startswith("text/") and "type" not in schema:
            schema = {**schema, "type": "string"}
        if (text := clipped(node.get("description"), 1_024)) and "description" not in schema:
            schema = {**schema, "description": text}
        schema = _with_examples(schema, media)
        required = node.get("required") is True
        return Body(argument=argument, media_type=sent, required=required, encodings=encodings), schema, left

    def _encodings(
        self, media: Mapping[str, Any], at: str, schema: Json, *, multipart: bool
    ) -> dict[str, Encoding]:
        """Of a form's members, where they aren't what the media type has anyway."""
        given = self._document.mapping(media.get("encoding"), child(at, "encoding"))
        found: dict[str, Encoding] = {}
        for name, inner in schema.get("properties", {}).items():
            own_at = child(at, "encoding", name)
            own = self._document.mapping(given.get(name), own_at)
            content_type = own.get("contentType")
            if not multipart and own.keys() & {"style", "explode", "allowReserved"}:
                found[name] = _encoding(own, own_at, _EXTRA_STYLES, default="form")
            elif isinstance(content_type, str):
                found[name] = Encoding(style="", content_type=content_type.split(",")[0].strip())
            elif multipart and _is_file(inner):
                found[name] = Encoding(style="", content_type="application/octet-stream")
        return found

    def _check_path(self, op: Listed, parameters: list[Parameter]) -> None:
        names = _VARIABLE.findall(op.path)
        known = {p.name for p in parameters if p.location == "path"}
        at = op.place.rpartition("/")[0]
        for name in names:
            if name not in known:
                raise DocumentError(at, "the path has a variable that is no parameter of the path")
        if known.difference(names):
            raise DocumentError(child(op.place, "parameters"), "a parameter of the path isn't in the path")

    def _reply(self, op: Listed, notes: list[tuple[str, str]]) -> tuple[Json | None, bool, str, int]:
        """Schema of what a success says, whether it is wrapped, what to ask for, and how much stays open."""
        kinds: list[str] = []
        schema: tuple[Any, str] | None = None
        for kind, media, place in self._successes(op, notes):
            kinds.append(kind)
            given = media.get("schema") if isinstance(media, Mapping) else None
            if schema is None and (_JSON_TYPE.match(kind) or kind == "*/*") and isinstance(given, Mapping):
                schema = given, child(place, "schema")
        accept = _accept(kinds)
        if schema is None:
            return None, False, accept, 0
        try:
            reading = self._output.read(*schema)
        except DocumentError as error:
            notes.append((error.place, f"{error.what}; replies have no schema"))
            return None, False, accept, 0
        made, wraps = reading.schema, False
        if made.get("type") != "object":
            made = {"type": "object", "properties": {"result": made}}
            wraps = True
        if len(json.dumps(made, default=str)) > _SCHEMA_BYTES or not usable(made):
            notes.append((schema[1], "can't be used; replies have no schema"))
            return None, False, accept, 0
        return made, wraps, accept, reading.cut

    def _successes(self, op: Listed, notes: list[tuple[str, str]]) -> Iterator[tuple[str, Any, str]]:
        """Media types of successes, with their objects and places, the first status first."""
        at = child(op.place, "responses")
        given = op.node.get("responses")
        responses = given if isinstance(given, Mapping) else {}
        for status in sorted(filter(_is_success, responses), key=_rank):
            try:
                node, place = self._document.follow(responses[status], child(at, status))
            except DocumentError as error:
                notes.append((error.place, error.what))  # the call works without
                continue
            content = node.get("content") if isinstance(node, Mapping) else None
            for kind, media in content.items() if isinstance(content, Mapping) else ():
                yield kind, media, child(place, "content", kind)


def _check_parameter(node: Any, place: str) -> None:
    if not isinstance(node, Mapping) or not isinstance(node.get("name"), str) or not node["name"]:
        raise DocumentError(place, "a parameter must be an object with a name")
    if node.get("in") not in _STYLES:
        raise DocumentError(child(place, "in"), "must be path, query, header or cookie")
    if node["in"] in ("header", "cookie") and not _HEADER.fullmatch(node["name"]):
        raise DocumentError(child(place, "name"), f"is no name of a {node['in']}")


def fingerprint_of(tool: Tool) -> str:
    """The `fingerprint` of a tool that is made of an operation."""
    hints = tool.annotations
    return fingerprint(
        name=tool.name,
        title=tool.title,
        description=tool.description,
        input_schema=tool.input_schema,
        output_schema=tool.output_schema,
        annotations=[hints.read_only, hints.destructive, hints.idempotent, hints.open_world],
        target=f"{tool.operation.method} {tool.operation.path}",
    )


def _annotations(found: Annotations, given: Overrides) -> Annotations:
    names = ("read_only", "destructive", "idempotent", "open_world")
    return replace(found, **{n: v for n in names if (v := getattr(given, n)) is not None})


def _encoding(node: Mapping[str, Any], at: str, styles: tuple[str, ...], *, default: str) -> Encoding:
    style = node.get("style", default)
    if style not in styles:
        raise DocumentError(child(at, "style"), f"must be {', '.join(styles)}")
    explode = node.get("explode", style == "form")
    # deepObject is one way to write an object, whatever `explode` says.
    return Encoding(
        style=style,
        explode=explode is True or style == "deepObject",
        allow_reserved=node.get("allowReserved") is True,
    )


def _with_examples(schema: Json, node: Mapping[str, Any]) -> Json:
    """The examples of a Parameter or Media Type Object, where the schema has none."""
    if "examples" in schema:
        return schema
    found = [node["example"]] if "example" in node else []
    named = node.get("examples")
    examples = named.values() if isinstance(named, Mapping) else ()
    found += [e["value"] for e in examples if isinstance(e, Mapping) and "value" in e]
    few = [e for e in found if len(json.dumps(e, default=str)) <= 300][:2]
    return {**schema, "examples": few} if few else schema


def _is_file(schema: Json) -> bool:
    inner = schema.get("items") if schema.get("type") == "array" else schema
    return isinstance(inner, dict) and (inner.get("format") == "binary" or "contentMediaType" in inner)


def _without_bad_patterns(schema: Json, at: str, notes: list[tuple[str, str]]) -> Json:
    """`schema` without patterns that can't be tried in a time that is linear in the text."""
    pending: list[Any] = [schema]
    while pending:
        node = pending.pop()
        if isinstance(node, list):
            pending.extend(node)
            continue
        if not isinstance(node, dict):
            continue
        pattern = node.get("pattern")
        if isinstance(pattern, str) and unusable_pattern(pattern):
            del node["pattern"]
            notes.append((at, "has a pattern that isn't checked: it looks around, or isn't a pattern"))
        named = node.get("patternProperties", {})
        for bad in [name for name in named if unusable_pattern(name)]:
            del named[bad]
            notes.append((at, "has a pattern of names that isn't checked"))
        for key, value in node.items():
            if key in ("properties", "patternProperties", "dependentSchemas"):
                pending.extend(value.values())
            elif key not in ("enum", "const", "default", "examples", "dependentRequired"):
                pending.append(value)
    return schema


def _check_schema(schema: Json, at: str) -> None:
    try:
        size = len(json.dumps(schema, allow_nan=False))
    except (TypeError, ValueError):
        raise DocumentError(at, "holds values that JSON hasn't") from None
    if size > _SCHEMA_BYTES:
        raise DocumentError(at, f"is {size} bytes as one schema; {_SCHEMA_BYTES} at most")
    if not usable(schema):
        raise DocumentError(at, "is no schema that JSON Schema 2020-12 knows")


def _is_success(status: Any) -> bool:
    return isinstance(status, str) and (status.startswith("2") or status == "default")


def _rank(status: Any) -> tuple[bool, str]:
    return status == "default", str(status)


def _accept(kinds: list[str]) -> str:
    known = [k for k in dict.fromkeys(kinds) if re.fullmatch(r"[\w!#$&^.+-]+/[\w!#$&^.+*-]+", k)]
    # Where the API can speak JSON, it shall.
    known = [k for k in known if _JSON_TYPE.match(k)] or known
    return ", ".join(known[:4]) or "application/json"
