"""Replies of the API as results of a call: content, structured content, and whether it was an error."""

from __future__ import annotations

import base64
import copy
import json
import re
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, Final, NoReturn

from tenantgate.mcp.core.tool import Json, Tool
from tenantgate.mcp.core.validation import Validator, bounds

__all__ = ["ReplyReader", "Result"]

_ERROR_CHARACTERS: Final = 4_000
_ROUNDS: Final = 20
_MISFITS: Final = 1_000
_REPAIRED_NODES: Final = 5_000
# Others are read as UTF-8: some of Python's take minutes for a megabyte.
_CHARSET: Final = re.compile(
    r"""charset="?((?:us-)?ascii|latin-?1|cp125\d|utf-?(?:8|16|32)(?:-?[bl]e)?|iso-8859-\d{1,2}|windows-125\d|koi8-[ru]|shift_jis|euc-(?:jp|kr)"""
    r"""|gb(?:k|2312|18030)|big5)\b""",
    re.IGNORECASE,
)
_TEXT: Final = re.compile(
    r"(text/|application/(json|xml|yaml|x-yaml|x-www-form-urlencoded|javascript|graphql)|[^;]*\+(json|xml|yaml))",
    re.IGNORECASE,
)
_JSON: Final = re.compile(r"(application|text)/([^;]*\+)?json", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a client gets of a call (`CallToolResult`)."""

    content: tuple[Json, ...]
    structured: Json | None = field(default=None)
    """``structuredContent``; an object that fits the tool's output schema whenever it has one and this is no error."""
    is_error: bool = False


class ReplyReader:
    """Reads the replies to one tool's calls; make one for each tool, and keep it.

    Args:
        most: characters of text that a client gets.
    """

    def __init__(self, tool: Tool, *, most: int = 100_000) -> None:
        self._tool = tool
        self._most = most
        self._validator = None if tool.output_schema is None else Validator(tool.output_schema)

    def result(self, status: int, content_type: str, body: bytes) -> Result:
        """The result that a reply is. `content_type` is empty where the reply has none."""
        if status >= 400:
            text = _decoded(content_type, body) if _is_text(content_type, body) else ""
            shown = f"HTTP {status}\n{_clipped(text, _ERROR_CHARACTERS)}".rstrip()
            return Result(content=(_text(shown),), is_error=True)
        if not 200 <= status < 300:
            return Result(
                content=(_text(f"HTTP {status}: the API asks for another address."),), is_error=True
            )
        if not body:
            return self._answer((_text(f"HTTP {status}, without content"),), None)
        if not _is_text(content_type, body):
            return self._answer((_binary(content_type, body, self._most),), None)
        text = _decoded(content_type, body)
        value = _parsed(text) if _JSON.match(content_type) or not content_type else None
        return self._answer((_text(_clipped(text, self._most)),), value if len(text) <= self._most else None)

    def _answer(self, content: tuple[Json, ...], value: Any) -> Result:
        return Result(content=content, structured=self._structured(value))

    def refitted(self, structured: Json) -> Json:
        """Structured content of which a rule masked something, without what doesn't fit the output schema any more."""
        if self._validator is None:
            return structured
        return self._fitted(copy.deepcopy(structured))

    def _structured(self, value: Any) -> Json | None:
        """The part of a reply that fits the output schema; what doesn't fit is in the content alone."""
        if self._validator is None:
            return value if isinstance(value, dict) and bounds(value) is None else None
        if self._tool.wraps_output:
            value = {} if value is None else {"result": value}
        return self._fitted(value)

    def _fitted(self, value: Any) -> Json:
        """What of the value fits the output schema; the value itself is changed."""
        assert self._validator is not None  # noqa: S101 - asked by whoever has one
        if not isinstance(value, dict) or bounds(value) is not None:
            return {}
        left = _MISFITS
        for _ in range(_ROUNDS):
            if self._validator.is_valid(value):
                return value
            # To find what is wrong takes time for all of it, some 0.1 ms each.
            if bounds(value, nodes=_REPAIRED_NODES) is not None:
                return {}
            misfits = self._validator.misfits(value)
            left -= len(misfits)
            if left < 0 or any(not path for path in misfits):
                return {}
            # The last ones first, so that the places before them stay.
            for path in sorted(misfits, key=_order, reverse=True):
                _remove(value, path)
        return {}


def _order(path: tuple[str | int, ...]) -> tuple[tuple[int, str], ...]:
    return tuple((step, "") if isinstance(step, int) else (-1, step) for step in path)


def _remove(value: Any, path: tuple[str | int, ...]) -> None:
    node = value
    try:
        for step in path[:-1]:
            node = node[step]
        del node[path[-1]]
    except (KeyError, IndexError, TypeError):
        pass  # what held it has gone already


def _text(text: str) -> Json:
    return {"type": "text", "text": text}


def _binary(content_type: str, body: bytes, most: int) -> Json:
    kind = content_type.partition(";")[0].strip().lower()
    family = kind.partition("/")[0]
    if family in ("image", "audio") and len(body) * 4 // 3 <= most * 10:
        return {"type": family, "data": base64.b64encode(body).decode("ascii"), "mimeType": kind}
    return _text(f"{len(body)} bytes of {kind or 'an unknown type'}, which can't be shown as text.")


def _is_text(content_type: str, body: bytes) -> bool:
    if content_type:
        return _TEXT.match(content_type.strip()) is not None
    return b"\0" not in body[:1_000]


def _decoded(content_type: str, body: bytes) -> str:
    found = _CHARSET.search(content_type)
    try:
        return body.decode(found[1] if found else "utf-8-sig", "replace")
    except (LookupError, UnicodeError):
        return body.decode("utf-8", "replace")


def _parsed(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_no_number, parse_float=_finite)
    except (ValueError, RecursionError):
        return None


def _finite(text: str) -> float:
    value = float(text)
    return value if isfinite(value) else _no_number(text)


def _no_number(name: str) -> NoReturn:
    raise ValueError(name)


def _clipped(text: str, most: int) -> str:
    if len(text) <= most:
        return text
    return f"{text[:most]}\n… clipped: {len(text)} characters in all"
