"""How a server reads requests by an OpenAPI document: written from the specification, independent of what writes them.

RFC 6570's styles backwards: split at the delimiters as they stand in the URL, then decode. The reader is told the type
that the schema gives (`kind`), as servers are: a text is never taken for a number.
"""

from __future__ import annotations

import json
from email.parser import BytesParser
from email.policy import HTTP
from typing import Any
from urllib.parse import unquote

__all__ = ["body_of", "cookie_of", "header_of", "path_of", "query_of"]


def scalar(text: str, kind: str) -> Any:
    if kind == "string":
        return text
    return json.loads(text)


def values(parts: list[str], kind: str, decode: Any = unquote) -> list[Any]:
    return [scalar(decode(part), kind) for part in parts]


def members(parts: list[str], kind: str, *, pairs: bool, decode: Any = unquote) -> dict[str, Any]:
    two = [parts[i : i + 2] for i in range(0, len(parts), 2)]
    split = [part.split("=", 1) for part in parts] if pairs else two
    return {decode(k): scalar(decode(v), kind) for k, v in split}


def path_of(segment: str, name: str, style: str, explode: bool, shape: str, kind: str) -> Any:
    """The value of a segment that is one variable."""
    if style == "simple":
        return listed(segment, ",", shape, kind, pairs=explode)
    if style == "label":
        assert segment[0] == "."
        return listed(segment[1:], "." if explode else ",", shape, kind, pairs=explode)
    assert segment[0] == ";"
    parts = segment[1:].split(";")
    if shape == "object" and explode:
        return members(parts, kind, pairs=True)
    taken = [part.split("=", 1) for part in parts]
    assert {unquote(key) for key, _ in taken} == {name}
    if shape == "array" and explode:
        return values([v for _, v in taken], kind)
    ((_, text),) = taken
    return listed(text, ",", shape, kind, pairs=False)


def listed(text: str, delimiter: str, shape: str, kind: str, *, pairs: bool, decode: Any = unquote) -> Any:
    if shape == "array":
        return values(text.split(delimiter), kind, decode)
    if shape == "object":
        return members(text.split(delimiter), kind, pairs=pairs, decode=decode)
    return scalar(decode(text), kind)


def query_of(query: str, name: str, style: str, explode: bool, shape: str, kind: str, known: set[str]) -> Any:
    """The value of a parameter in a query or form; None where it isn't there. `known`: names of other parameters."""
    raw = [pair.split("=", 1) for pair in query.split("&")] if query else []
    pairs = [(unquote(key), text) for key, text in raw]
    if style == "deepObject":
        return deep([(key, text) for key, text in pairs if key.startswith(f"{name}[")], name, kind)
    if shape == "object" and explode:
        found = {key: scalar(unquote(text), kind) for key, text in pairs if key not in known}
        return found or None
    mine = [text for key, text in pairs if key == name]
    if not mine:
        return None
    if shape == "array" and explode:
        return values(mine, kind)
    (text,) = mine
    delimiter = {"spaceDelimited": "%20", "pipeDelimited": "%7C", "form": ","}[style]
    return listed(text, delimiter, shape, kind, pairs=False)


def deep(pairs: list[tuple[str, str]], name: str, kind: str) -> Any:
    """``name[a][b]``: objects, and lists where all steps are numbers from 0 on."""
    if not pairs:
        return None
    tree: dict[str, Any] = {}
    for key, text in pairs:
        steps = key[len(name) + 1 : -1].split("][")
        node = tree
        for step in steps[:-1]:
            node = node.setdefault(step, {})
        assert steps[-1] not in node
        node[steps[-1]] = scalar(unquote(text), kind)
    return tree


def header_of(text: str, explode: bool, shape: str, kind: str) -> Any:
    return listed(text, ",", shape, kind, pairs=explode, decode=lambda part: part)


def cookie_of(header: str, name: str, explode: bool, shape: str, kind: str) -> Any:
    pairs = [pair.split("=", 1) for pair in header.split("; ")]
    if explode and shape == "object":
        return {unquote(key): scalar(unquote(text), kind) for key, text in pairs}
    mine = [text for key, text in pairs if unquote(key) == name]
    if explode and shape == "array":
        return values(mine, kind)
    (text,) = mine
    return listed(text, ",", shape, kind, pairs=False)


def body_of(content_type: str, body: bytes) -> list[tuple[str, str | None, str, bytes]]:
    """The parts of a multipart body: name, file name, media type and content."""
    head = f"Content-Type: {content_type}\r\n\r\n".encode()
    message = BytesParser(policy=HTTP).parsebytes(head + body)
    out = []
    for part in message.iter_parts():
        name = part.get_param("name", header="content-disposition")
        content = part.get_payload(decode=True)
        assert isinstance(content, bytes)
        out.append((str(name), part.get_filename(), part.get_content_type(), content))
    return out
