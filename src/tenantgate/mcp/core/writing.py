"""How values are written into paths, queries, headers, cookies and forms: RFC 3986, RFC 6570 and OpenAPI's styles.

What can't be read back as what it was is refused rather than sent: the delimiter of a style within a value, a null in a
list, a list in a list. Nothing here leaves its place: no value becomes a second segment, parameter or header.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import quote

from tenantgate.mcp.core.tool import Encoding

__all__ = [
    "UnwritableError",
    "Written",
    "cookie_pairs",
    "header_value",
    "json_text",
    "path_value",
    "query_pairs",
]

Written = tuple[str, str]
"""A name and a value, both percent-encoded."""

_RESERVED: Final = ":/?@!$'()*,="
"""What `allowReserved` lets through in a query. ``& # + ; [ ] %`` would be read as something else."""
_TRIPLET: Final = re.compile(r"%[0-9A-Fa-f]{2}")
_EXACT: Final = 2**53
_DELIMITERS: Final = {"form": ",", "simple": ",", "spaceDelimited": "%20", "pipeDelimited": "%7C"}
_PLAIN_DELIMITERS: Final = {"spaceDelimited": " ", "pipeDelimited": "|"}
_NESTED: Final = 16


class UnwritableError(Exception):
    """A value that its place doesn't take; the message doesn't hold it.

    Attributes:
        path: where in the value.
    """

    def __init__(self, message: str, *path: str | int) -> None:
        super().__init__(message)
        self.path = path


def json_text(value: Any) -> str:
    """A JSON value without spaces, letters as they are."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def plain(value: Any, *path: str | int) -> str:
    """A text, number or boolean as it is written where everything is text.

    Raises:
        UnwritableError: it is null, a list or an object.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        # 3.0 is 3 in JSON, and an API that wants a whole number reads only the latter.
        return str(int(value)) if value.is_integer() and abs(value) < _EXACT else json.dumps(value)
    if value is None:
        raise UnwritableError("A null can't be written here.", *path)
    raise UnwritableError("A list or an object can't be written here.", *path)


def _quoted(text: str, *, reserved: bool = False, delimiter: str = "") -> str:
    safe = _RESERVED.replace(delimiter, "") if reserved and delimiter else _RESERVED if reserved else ""
    return quote(text, safe=safe + "-._~")


# Query, and forms that are written like one


def query_pairs(name: str, value: Any, encoding: Encoding) -> Iterator[Written]:
    """A parameter of a query or a member of a form, as pairs; none where there is nothing to say (empty lists).

    Raises:
        UnwritableError: the style has no way to write the value.
    """
    reserved = encoding.allow_reserved
    if encoding.content_type:
        is_text = encoding.content_type.startswith("text/") and isinstance(value, str)
        yield _quoted(name), _quoted(value if is_text else json_text(value), reserved=reserved)
    elif encoding.style == "deepObject" and isinstance(value, dict | list):
        yield from _deep(name, value, reserved)
    elif isinstance(value, list):
        yield from _list_pairs(name, value, encoding)
    elif isinstance(value, dict):
        yield from _object_pairs(name, value, encoding)
    else:
        yield _quoted(name), _quoted(plain(value), reserved=reserved)


def _list_pairs(name: str, value: list[Any], encoding: Encoding) -> Iterator[Written]:
    if encoding.explode:
        for i, item in enumerate(value):
            yield _quoted(name), _quoted(plain(item, i), reserved=encoding.allow_reserved)
    elif value:
        yield _quoted(name), _joined([((i,), plain(item, i)) for i, item in enumerate(value)], encoding)


def _object_pairs(name: str, value: Mapping[str, Any], encoding: Encoding) -> Iterator[Written]:
    if encoding.explode:
        if encoding.style != "form":
            raise UnwritableError("Objects can't be written in this style.")
        for key, item in value.items():
            yield _quoted(key), _quoted(plain(item, key), reserved=encoding.allow_reserved)
    elif value:
        flat: list[tuple[tuple[str | int, ...], str]] = [
            ((k,), text) for k, v in value.items() for text in (k, plain(v, k))
        ]
        yield _quoted(name), _joined(flat, encoding)


def _joined(items: list[tuple[tuple[str | int, ...], str]], encoding: Encoding) -> str:
    delimiter = _DELIMITERS[encoding.style]
    if clash := _PLAIN_DELIMITERS.get(encoding.style):
        for path, text in items:
            if clash in text:
                # It would be encoded as the delimiter is.
                raise UnwritableError("Holds the character that separates values in this style.", *path)
    return delimiter.join(_quoted(t, reserved=encoding.allow_reserved, delimiter=",") for _, t in items)


def _deep(name: str, value: Any, reserved: bool) -> Iterator[Written]:
    """``name[a][b]=…``; lists by index, as far as one value stands for one place."""
    pending: list[tuple[tuple[str | int, ...], Any]] = [((), value)]
    while pending:
        path, node = pending.pop()
        if len(path) > _NESTED:
            raise UnwritableError(f"Nested more than {_NESTED} deep.", *path[:3])
        if isinstance(node, dict):
            for key in node:
                if not key or "[" in key or "]" in key:
                    raise UnwritableError("The name of a member is empty, or holds a bracket.", *path)
            pending.extend(((*path, k), v) for k, v in reversed(node.items()))
        elif isinstance(node, list):
            pending.extend(((*path, i), v) for i, v in reversed(list(enumerate(node))))
        else:
            brackets = "".join(f"%5B{_quoted(str(step))}%5D" for step in path)
            yield f"{_quoted(name)}{brackets}", _quoted(plain(node, *path), reserved=reserved)


# Paths


def path_value(name: str, value: Any, encoding: Encoding) -> str:
    """What stands in a path for ``{name}``.

    Raises:
        UnwritableError: the style has no way to write the value, or it could be read as more than one segment.
    """
    if encoding.content_type:
        is_text = encoding.content_type.startswith("text/") and isinstance(value, str)
        return _segment_text(value if is_text else json_text(value))
    items: list[tuple[str, str]] | None = None
    if isinstance(value, list):
        items = [("", _segment_text(plain(v, i), i)) for i, v in enumerate(value)]
    elif isinstance(value, dict):
        items = [(_segment_text(k), _segment_text(plain(v, k), k, empty=True)) for k, v in value.items()]
    if items is not None and not items:
        raise UnwritableError("Must not be empty: it is a part of the path.")
    if items is None:
        text = _segment_text(plain(value))
        return {"simple": text, "label": f".{text}", "matrix": f";{_quoted(name)}={text}"}[encoding.style]
    if encoding.style == "matrix":
        return _matrix(name, items, encoding.explode)
    if encoding.style == "label":
        if encoding.explode and any("." in part for item in items for part in item):
            raise UnwritableError("Holds a dot, which separates values in this style.")
        return "." + ("." if encoding.explode else ",").join(_flat(items, encoding.explode))
    return ",".join(_flat(items, encoding.explode))


def _matrix(name: str, items: list[tuple[str, str]], explode: bool) -> str:
    if explode:
        return "".join(f";{key or _quoted(name)}={value}" for key, value in items)
    return f";{_quoted(name)}=" + ",".join(_flat(items, False))


def _flat(items: list[tuple[str, str]], explode: bool) -> Iterator[str]:
    for key, value in items:
        if not key:
            yield value
        elif explode:
            yield f"{key}={value}"
        else:
            yield key
            yield value


def _segment_text(text: str, *path: str | int, empty: bool = False) -> str:
    """A text that stays within its segment, however often it is decoded and normalised on the way."""
    if not text and not empty:
        raise UnwritableError("Must not be empty: it is a part of the path.", *path)
    seen = text if text.isascii() else unicodedata.normalize("NFKC", text)
    if "/" in seen or "\\" in seen:
        raise UnwritableError("A slash can't be part of it: it stands in the path.", *path)
    if _TRIPLET.search(seen):
        raise UnwritableError("An escape such as %2F can't be part of it: it stands in the path.", *path)
    if any(unicodedata.category(c) in ("Cc", "Zl", "Zp") for c in seen):
        raise UnwritableError("A control character can't be part of it: it stands in the path.", *path)
    if seen.partition(";")[0].strip(" ") in (".", ".."):
        raise UnwritableError("Must not be . or ..: it stands in the path.", *path)
    return _quoted(text)


# Headers and cookies


def header_value(value: Any, encoding: Encoding) -> str:
    """The value of a header: as it is, since nobody decodes headers.

    Raises:
        UnwritableError: a header can't hold it, or could be read as something else.
    """
    if encoding.content_type:
        is_text = encoding.content_type.startswith("text/") and isinstance(value, str)
        return _header_text(value if is_text else json.dumps(value, separators=(",", ":"), allow_nan=False))
    if isinstance(value, list):
        return ",".join(_header_text(plain(v, i), i, delimiters=",") for i, v in enumerate(value))
    if isinstance(value, dict):
        between, delimiters = ("=", ",=") if encoding.explode else (",", ",")
        return ",".join(
            _header_text(k, delimiters=delimiters)
            + between
            + _header_text(plain(v, k), k, delimiters=",", empty=True)
            for k, v in value.items()
        )
    return _header_text(plain(value), empty=True)


def _header_text(text: str, *path: str | int, delimiters: str = "", empty: bool = False) -> str:
    if not text.isascii() or any(not " " <= c <= "~" for c in text):
        raise UnwritableError("Must be printable ASCII: it is a header.", *path)
    if text != text.strip(" ") or (not text and not empty):
        raise UnwritableError("Must not begin or end with a space, or be empty: it is a header.", *path)
    if any(c in text for c in delimiters):
        raise UnwritableError("Holds a character that separates values in a header.", *path)
    return text


def cookie_pairs(name: str, value: Any, encoding: Encoding) -> list[str]:
    """A cookie, or those that a list or object is, as ``name=value``.

    Raises:
        UnwritableError: there is no way to write the value.
    """
    if isinstance(value, dict) and encoding.explode and not encoding.content_type:
        for key in value:
            if not re.fullmatch(r"[A-Za-z0-9!#$&'*+.^_`|~-]+", key):
                raise UnwritableError("The name of a member is no name of a cookie.")
    pairs = list(query_pairs(name, value, encoding if not encoding.allow_reserved else _strict(encoding)))
    return [f"{key}={text}" for key, text in pairs]


def _strict(encoding: Encoding) -> Encoding:
    return Encoding(style=encoding.style, explode=encoding.explode, content_type=encoding.content_type)
