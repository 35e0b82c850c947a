"""Calls of tools as HTTP requests to the API: the arguments checked, each in its place, exactly encoded."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import quote

from tenantgate.mcp.core.tool import ArgumentError, Body, Encoding, Parameter, Tool, UpstreamRequest
from tenantgate.mcp.core.validation import Validator, bounds, dotted
from tenantgate.mcp.core.writing import (
    UnwritableError,
    cookie_pairs,
    header_value,
    json_text,
    path_value,
    plain,
    query_pairs,
)

__all__ = ["Caller", "call"]

_URL_BYTES: Final = 8_000
"""Of path and query: what servers and proxies take in one line."""
_HEADER_BYTES: Final = 8_000
_BODY_BYTES: Final = 8 * 1024 * 1024
_VARIABLE: Final = re.compile(r"\{([^{}/]*)\}")
_FORM: Final = "application/x-www-form-urlencoded"
_MULTIPART: Final = "multipart/form-data"
_FORM_DEFAULT: Final = Encoding(style="form", explode=True)
_SAFE_IN_PATH: Final = "/-._~!$&'()*+,;=:@"


class Caller:
    """A tool whose schema is ready to check arguments; make one for each tool, and keep it.

    Args:
        reserved: names of parameters of the query that the gateway sets. Members of objects that become parameters
            mustn't be called so.

    Raises:
        ValueError: the tool's input schema is none.
    """

    def __init__(self, tool: Tool, *, reserved: frozenset[str] = frozenset()) -> None:
        self.tool = tool
        self._validator = Validator(tool.input_schema)
        self._optional = {
            name
            for name in tool.input_schema.get("properties", {})
            if name not in tool.input_schema.get("required", ())
        }
        self._reserved = reserved | {
            p.name for p in tool.operation.parameters if p.location == "query" and _is_one_name(p.encoding)
        }

    def request(self, arguments: Any) -> UpstreamRequest | ArgumentError:
        """The request of a call, or what is wrong with the arguments.

        `arguments` are JSON's values, whole numbers exact. An optional argument that is null counts as not given, as
        models write it.
        """
        if not isinstance(arguments, dict):
            return ArgumentError("", "The arguments must be an object.")
        if (error := bounds(arguments)) is not None:
            return error
        given = self._given(arguments)
        if (error := self._validator.error(given)) is not None:
            return error
        return _Writing(self.tool, given, self._reserved).request()

    def masked_request(self, arguments: Mapping[str, Any]) -> UpstreamRequest | ArgumentError:
        """The request of a call whose arguments did fit until a rule masked some: placeholders fit no schema."""
        return _Writing(self.tool, self._given(arguments), self._reserved).request()

    def _given(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        return {k: v for k, v in arguments.items() if v is not None or k not in self._optional}


def call(
    tool: Tool, arguments: Any, *, reserved: frozenset[str] = frozenset()
) -> UpstreamRequest | ArgumentError:
    """As `Caller`, for one call."""
    return Caller(tool, reserved=reserved).request(arguments)


def _is_one_name(encoding: Encoding) -> bool:
    return encoding.style != "deepObject"


class _Wrong(Exception):  # noqa: N818 - control flow within this module
    def __init__(self, error: ArgumentError) -> None:
        super().__init__(error.field)
        self.error = error


class _Writing:
    """One request as it is put together."""

    def __init__(self, tool: Tool, given: Mapping[str, Any], reserved: frozenset[str]) -> None:
        self._tool = tool
        self._given = given
        self._reserved = reserved
        self._query: list[str] = []
        self._headers: list[tuple[str, str]] = []
        self._cookies: list[str] = []
        self._in_path: dict[str, str] = {}
        self._spread: dict[str, str] = {}
        """Names in the query that are members of an object, and the argument that has them."""

    def request(self) -> UpstreamRequest | ArgumentError:
        operation = self._tool.operation
        self._headers.append(("Accept", operation.accept))
        try:
            for parameter in operation.parameters:
                self._place(parameter)
            url = self._url()
            body = self._body(operation.body)
        except _Wrong as wrong:
            return wrong.error
        if self._cookies:
            self._headers.append(("Cookie", "; ".join(self._cookies)))
        if sum(len(k) + len(v) for k, v in self._headers) > _HEADER_BYTES:
            return ArgumentError("", f"The arguments make headers of more than {_HEADER_BYTES} bytes.")
        if len(body) > _BODY_BYTES:
            return ArgumentError(operation.body.argument if operation.body else "", "The body is too large.")
        return UpstreamRequest(method=operation.method, url=url, headers=tuple(self._headers), body=body)

    def _place(self, parameter: Parameter) -> None:
        argument, value = parameter.argument, self._given.get(parameter.argument)
        if argument not in self._given:
            if parameter.location == "path":
                raise _Wrong(ArgumentError(argument, "Required, and not there."))
            return
        try:
            self._write(parameter, value)
        except UnwritableError as error:
            raise _Wrong(ArgumentError(dotted([argument, *error.path]), str(error))) from None

    def _write(self, parameter: Parameter, value: Any) -> None:
        if parameter.location == "path":
            self._in_path[parameter.name] = path_value(parameter.name, value, parameter.encoding)
        elif value in ([], {}) and not parameter.encoding.content_type:
            # No style tells an empty list or object from none.
            if parameter.required:
                raise UnwritableError("Must not be empty.")
        elif parameter.location == "query":
            self._to_query(parameter, value)
        elif parameter.location == "header":
            self._headers.append((parameter.name, header_value(value, parameter.encoding)))
        else:
            self._cookies += cookie_pairs(parameter.name, value, parameter.encoding)

    def _to_query(self, parameter: Parameter, value: Any) -> None:
        encoding = parameter.encoding
        if (
            isinstance(value, dict)
            and encoding.style == "form"
            and encoding.explode
            and not encoding.content_type
        ):
            for key in value:
                if (key in self._reserved and key != parameter.name) or key in self._spread:
                    raise UnwritableError("The member is called as another parameter is.", key)
                self._spread[key] = parameter.argument
        self._query += [f"{name}={text}" for name, text in query_pairs(parameter.name, value, encoding)]

    def _url(self) -> str:
        pieces: list[str] = []
        end = 0
        path = self._tool.operation.path
        for match in _VARIABLE.finditer(path):
            pieces += [quote(path[end : match.start()], safe=_SAFE_IN_PATH), self._in_path[match[1]]]
            end = match.end()
        pieces.append(quote(path[end:], safe=_SAFE_IN_PATH))
        whole = "".join(pieces)
        for segment in whole.split("/"):
            if segment.partition(";")[0] in (".", ".."):
                raise _Wrong(ArgumentError(self._path_argument(), "Makes a segment . or .. of the path."))
        if self._query:
            whole += "?" + "&".join(self._query)
        if len(whole) > _URL_BYTES:
            raise _Wrong(ArgumentError("", f"The arguments make a URL of more than {_URL_BYTES} bytes."))
        return whole

    def _path_argument(self) -> str:
        return next((p.argument for p in self._tool.operation.parameters if p.location == "path"), "")

    def _body(self, body: Body | None) -> bytes:
        if body is None or body.argument not in self._given:
            return b""
        value = self._given[body.argument]
        kind = body.media_type.lower()
        try:
            if kind.startswith(_FORM):
                written = _form(body, value)
            elif kind.startswith(_MULTIPART):
                boundary, written = _multipart(body, value)
                self._headers.append(("Content-Type", f"{_MULTIPART}; boundary={boundary}"))
                return written
            elif kind.startswith("text/"):
                written = plain(value).encode("utf-8")
            else:
                written = json_text(value).encode("utf-8")
        except UnwritableError as error:
            raise _Wrong(ArgumentError(dotted([body.argument, *error.path]), str(error))) from None
        self._headers.append(("Content-Type", body.media_type))
        return written


def _form(body: Body, value: Any) -> bytes:
    pairs: list[str] = []
    for name, member in _members(value):
        encoding = body.encodings.get(name) or _form_encoding(member)
        try:
            pairs += [f"{key}={text}" for key, text in query_pairs(name, member, encoding)]
        except UnwritableError as error:
            raise UnwritableError(str(error), name, *error.path) from None
    return "&".join(pairs).encode("ascii")


def _members(value: Any) -> Iterator[tuple[str, Any]]:
    """What a form has: a null is a member that isn't there, as in RFC 6570."""
    if not isinstance(value, dict):
        raise UnwritableError("Must be an object.")
    yield from ((k, v) for k, v in value.items() if v is not None)


def _form_encoding(member: Any) -> Encoding:
    """OpenAPI 3.1's defaults: texts and lists of them as they are, everything else as JSON."""
    if isinstance(member, dict):
        return Encoding(style="", content_type="application/json")
    return _FORM_DEFAULT


def _multipart(body: Body, value: Any) -> tuple[str, bytes]:
    parts: list[tuple[str, bytes]] = []
    for name, member in _members(value):
        given = body.encodings.get(name)
        for i, one in enumerate(member if isinstance(member, list) else [member]):
            if one is None:
                raise UnwritableError("A null can't be written here.", name, i)
            parts.append(_part(name, one, given))
    seed = hashlib.sha256(b"\0".join(content for _, content in parts)).hexdigest()
    boundary = f"part-{seed[:40]}"
    while any(boundary.encode() in content for _, content in parts):
        boundary = f"part-{hashlib.sha256(boundary.encode()).hexdigest()[:40]}"
    chunks = [f"--{boundary}\r\n{head}\r\n\r\n".encode() + content + b"\r\n" for head, content in parts]
    return boundary, b"".join(chunks) + f"--{boundary}--\r\n".encode()


def _part(name: str, value: Any, given: Encoding | None) -> tuple[str, bytes]:
    """The head and the content of a part; names as the URL standard's forms write them."""
    shown = name.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
    head = f'Content-Disposition: form-data; name="{shown}"'
    kind = given.content_type if given else ""
    if kind and not kind.startswith(("application/json", "text/plain")):
        head += f'; filename="{shown}"'  # a file, as servers tell it
    if isinstance(value, dict | list) or (kind.startswith("application/json")):
        return f"{head}\r\nContent-Type: {kind or 'application/json'}", json_text(value).encode("utf-8")
    content = plain(value).encode("utf-8")
    return f"{head}\r\nContent-Type: {kind or 'text/plain; charset=utf-8'}", content
