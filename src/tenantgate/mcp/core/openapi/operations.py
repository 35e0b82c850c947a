"""The operations of a document: what each is called, and what it says of itself before its schemas are read."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from tenantgate.mcp.core.openapi.document import Document, DocumentError, child
from tenantgate.mcp.core.openapi.names import TOOL, plain_name, unique
from tenantgate.mcp.core.openapi.texts import clipped
from tenantgate.mcp.core.tool import Acl, Annotations

__all__ = ["METHODS", "Listed", "default_acl", "listed", "server_urls"]

METHODS: Final = ("get", "put", "post", "delete", "patch")
"""Of operations that can be tools."""
_DESCRIPTION: Final = 4_096
_TITLE: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """An operation of a document."""

    name: str
    """The tool's, unique in the document."""
    method: str
    """In capitals."""
    path: str
    place: str
    """JSON pointer."""
    node: Mapping[str, Any]
    shared: Mapping[str, Any]
    """The Path Item Object."""
    title: str
    description: str
    excluded: bool
    """Whether the document says that it is no tool."""
    deprecated: bool
    annotations: Annotations
    problem: DocumentError | None = None
    """Why it can't be a tool."""
    own_servers: tuple[str, tuple[str, ...]] = ("", ())
    """Place and URLs of its servers, where it has others than the document."""


def listed(document: Document) -> list[Listed]:
    """All operations that can be tools, by path and method in the document's order.

    Raises:
        DocumentError: the document's paths are no object.
    """
    found = list(_operations(document))
    given = {
        i: str(op.node["x-kong-mcp-tool-name"])
        for i, op in enumerate(found)
        if "x-kong-mcp-tool-name" in op.node
    }
    derived = {
        i: (plain_name(_text(op.node.get("operationId")), op.method, op.path), f"{op.method} {op.path}")
        for i, op in enumerate(found)
        if i not in given
    }
    names = unique(derived, frozenset(given.values()))
    out: list[Listed] = []
    for i, op in enumerate(found):
        at = child(op.place, "x-kong-mcp-tool-name")
        if i not in given:
            out.append(replace(op, name=names[i]))
        elif not TOOL.fullmatch(given[i]):
            what = "must be a text of 1 to 64 letters, digits, underscores and hyphens"
            out.append(replace(op, problem=op.problem or DocumentError(at, what)))
        elif list(given.values()).count(given[i]) > 1:
            what = "is the name of another operation, too"
            out.append(replace(op, name=given[i], problem=op.problem or DocumentError(at, what)))
        else:
            out.append(replace(op, name=given[i]))
    return out


def _operations(document: Document) -> Iterator[Listed]:
    paths = document.mapping(document.tree.get("paths"), "#/paths")
    for path, raw in paths.items():
        if path.startswith("x-"):
            continue
        place = child("#/paths", path)
        try:
            item, at = document.follow(raw, place)
            shared = document.mapping(item, at)
        except DocumentError as error:
            yield _broken(path, place, error)
            continue
        for method in METHODS:
            if method not in shared:
                continue
            try:
                # No reference may stand here by the specification, and many do.
                node, own_at = document.follow(shared[method], child(at, method))
                node = document.mapping(node, own_at)
            except DocumentError as error:
                yield _broken(path, child(at, method), error, method)
                continue
            yield Listed(
                name="",
                method=method.upper(),
                path=path,
                place=child(at, method),
                node=node,
                shared=shared,
                title=clipped(node.get("summary"), _TITLE).replace("\n", " "),
                description=_description(node),
                excluded=node.get("x-kong-mcp-exclude") is True,
                deprecated=node.get("deprecated") is True,
                annotations=_hints(method),
                problem=_path_problem(path, place),
                own_servers=_own_servers(node, shared, at, method),
            )


def _broken(path: str, place: str, error: DocumentError, method: str = "get") -> Listed:
    return Listed(
        name="",
        method=method.upper(),
        path=path,
        place=place,
        node={},
        shared={},
        title="",
        description="",
        excluded=False,
        deprecated=False,
        annotations=Annotations(),
        problem=error,
    )


def _description(node: Mapping[str, Any]) -> str:
    for key in ("x-kong-mcp-tool-description", "description", "summary"):
        if text := clipped(node.get(key), _DESCRIPTION):
            return text
    return ""


def _hints(method: str) -> Annotations:
    """What RFC 9110 says of a method; a POST may do anything."""
    return Annotations(
        read_only=method == "get",
        destructive=method != "get",
        idempotent=method in ("get", "put", "delete"),
        open_world=True,
    )


_BRACES: Final = re.compile(r"\{[^{}/]*\}")


def _path_problem(path: str, place: str) -> DocumentError | None:
    outside = _BRACES.sub("", path)
    if not path.startswith("/"):
        return DocumentError(place, "a path must begin with a slash")
    if any(c in outside for c in "?#\\{}%") or any(not c.isprintable() for c in path):
        return DocumentError(place, "a path holds no query, fragment, brace, backslash or percent sign")
    if any(segment in (".", "..") for segment in path.split("/")):
        return DocumentError(place, "a path holds no segment . or ..")
    return None


def _own_servers(
    node: Mapping[str, Any], shared: Mapping[str, Any], at: str, method: str
) -> tuple[str, tuple[str, ...]]:
    """Where an operation says which servers it has, and their URLs; empty where it has the document's."""
    for holder, place in ((node, child(at, method)), (shared, at)):
        if holder.get("servers"):
            return child(place, "servers"), server_urls(holder)
    return "", ()


def server_urls(holder: Mapping[str, Any]) -> tuple[str, ...]:
    """URLs of the servers of a document, a path or an operation, without a slash at their ends."""
    found = holder.get("servers")
    urls = [s.get("url") for s in found if isinstance(s, Mapping)] if isinstance(found, list) else []
    return tuple(url.rstrip("/") for url in urls if isinstance(url, str))


def default_acl(document: Document) -> Acl:
    """What ``x-kong-mcp-default-acl`` says of tools: a list of ``{scope: tools, allow, deny}``, or one of them.

    Raises:
        DocumentError: it has another form.
    """
    place = "#/x-kong-mcp-default-acl"
    given = document.tree.get("x-kong-mcp-default-acl")
    entries = given if isinstance(given, list) else [] if given is None else [given]
    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    for i, entry in enumerate(entries):
        at = child(place, i) if isinstance(given, list) else place
        found = document.mapping(entry, at)
        if found.get("scope", "tools") == "tools":
            one = acl_of(found, at)
            allow, deny = (*allow, *one.allow), (*deny, *one.deny)
    return Acl(allow=allow, deny=deny)


def acl_of(node: Mapping[str, Any], place: str) -> Acl:
    """An object with lists `allow` and `deny`.

    Raises:
        DocumentError: one of them is no list of texts.
    """
    lists: dict[str, tuple[str, ...]] = {}
    for key in ("allow", "deny"):
        value = node.get(key, [])
        value = [value] if isinstance(value, str) else value
        if not isinstance(value, list) or not all(isinstance(v, str) and v for v in value):
            raise DocumentError(child(place, key), "must be a list of names")
        lists[key] = tuple(value)
    return Acl(**lists)


def operation_acl(document: Document, op: Listed) -> Acl | None:
    """Who may call an operation by the document; None: the default.

    ``x-kong-mcp-acl`` of the operation; or, as decK has it, of an OAuth scheme that the operation asks for: then the
    operation's scopes are allowed.

    Raises:
        DocumentError: it says something that can't be kept to.
    """
    own = op.node.get("x-kong-mcp-acl")
    at = child(op.place, "x-kong-mcp-acl")
    if own is not None:
        return acl_of(document.mapping(own, at), at)
    holder, at = (
        (op.node, child(op.place, "security")) if "security" in op.node else (document.tree, "#/security")
    )
    given = holder.get("security")
    needs = [n for n in given if isinstance(n, Mapping)] if isinstance(given, list) else []
    components = document.mapping(document.tree.get("components"), "#/components")
    known = document.mapping(components.get("securitySchemes"), "#/components/securitySchemes")
    marked: set[str] = set()
    for name, raw in known.items():
        scheme, _ = document.follow(raw, child("#/components/securitySchemes", name))
        if isinstance(scheme, Mapping) and "x-kong-mcp-acl" in scheme:
            marked.add(name)
    asked = [name for need in needs for name in need if name in marked]
    if not asked or any(not need for need in needs):
        return None
    if len(needs) > 1 or len(needs[0]) > 1:
        raise DocumentError(at, "with x-kong-mcp-acl an operation has one requirement of one scheme")
    scopes = needs[0][asked[0]]
    found = sorted(s for s in scopes if isinstance(s, str)) if isinstance(scopes, list) else []
    return Acl(allow=tuple(found)) if found else None


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
