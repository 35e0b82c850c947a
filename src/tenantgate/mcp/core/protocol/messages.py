"""A client's message: one JSON-RPC request or notification, strictly read, with the headers that repeat parts of it."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, Final

from tenantgate.llm.body import shallow
from tenantgate.mcp.core.protocol.errors import (
    HEADER_MISMATCH,
    INVALID_PARAMS,
    INVALID_REQUEST,
    PARSE_ERROR,
    UNSUPPORTED_VERSION,
    Failure,
    Id,
)
from tenantgate.mcp.core.protocol.revisions import CAPABILITIES, MODERN, SUPPORTED, VERSION, is_modern

__all__ = ["Notification", "Request", "decoded", "read", "strict_json"]

_DEPTH: Final = 64
_LONGEST_ID: Final = 1_000
_NODES: Final = 50_000
_PREFIX, _SUFFIX = "=?base64?", "?="
_NAMED: Final = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}
"""By method the parameter that ``Mcp-Name`` repeats."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request that wants an answer."""

    id: Id
    method: str
    params: Mapping[str, Any] = field(repr=False)
    modern: bool
    """Whether it is stateless, as since 2026-07-28."""

    @property
    def meta(self) -> Mapping[str, Any]:
        """``_meta`` of the parameters."""
        found = self.params.get("_meta")
        return found if isinstance(found, dict) else {}


@dataclass(frozen=True, slots=True)
class Notification:
    """A message that wants no answer: a notification, or an answer to a question that was never asked."""

    method: str


def strict_json(raw: bytes) -> Any:
    """The JSON value in `raw`, which every reader reads alike: no name twice, no NaN, bounded in depth and number.

    Raises:
        ValueError: it is none; the message says nothing of its content.
    """
    if sum(map(raw.count, (b",", b"[", b"{"))) > _NODES * 4:
        raise ValueError("more values than are accepted")
    try:
        value = json.loads(
            raw.decode("utf-8"), object_pairs_hook=_once, parse_constant=_constant, parse_float=_finite
        )
    except UnicodeDecodeError:
        raise ValueError("not UTF-8") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON, at character {error.pos + 1}") from None
    if raw.count(b"[") + raw.count(b"{") > _DEPTH and not shallow(value, _DEPTH):
        raise ValueError("nested too deeply")
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("two members of one name")
    return made


def _finite(text: str) -> float:
    value = float(text)
    if not isfinite(value):
        raise ValueError("a number is too large")
    return value


def _constant(_name: str) -> Any:
    raise ValueError("NaN and Infinity are no numbers")


def read(raw: bytes, headers: Mapping[str, Sequence[str]]) -> Request | Notification | Failure:
    """The message in a body. `headers`: values by name in lower case."""
    try:
        message = strict_json(raw)
    except ValueError as error:
        return Failure(status=400, code=PARSE_ERROR, message=f"The body can't be read: {error}.")
    if isinstance(message, list):
        text = "Batches aren't part of this protocol: send one message in each request."
        return Failure(status=400, code=INVALID_REQUEST, message=text)
    if not isinstance(message, dict) or message.get("jsonrpc") != "2.0":
        return Failure(status=400, code=INVALID_REQUEST, message="The body is no JSON-RPC 2.0 message.")
    identifier, method = message.get("id"), message.get("method")
    params = message.get("params", {})
    if not _is_id(identifier):
        text = f"id: must be a number, or a text of {_LONGEST_ID} characters at most."
        return Failure(status=400, code=INVALID_REQUEST, message=text)
    if "method" not in message and ("result" in message or "error" in message):
        return Notification("")
    if not isinstance(method, str) or not isinstance(params, dict):
        text = "method: must be a text; params: an object."
        return Failure(status=400, code=INVALID_REQUEST, message=text, id=identifier)
    if "id" not in message:
        return Notification(method)
    meta = params.get("_meta", {})
    version = _single(headers, "mcp-protocol-version")
    if not isinstance(meta, dict):
        return Failure(
            status=400, code=INVALID_PARAMS, message="params._meta: must be an object.", id=identifier
        )
    if not is_modern(version, meta):
        return Request(id=identifier, method=method, params=params, modern=False)
    made = Request(id=identifier, method=method, params=params, modern=True)
    return _problem(made, headers, version) or made


def _is_id(value: Any) -> bool:
    if isinstance(value, str):
        return len(value) <= _LONGEST_ID  # it comes back with the answer
    return isinstance(value, int | float | None) and not isinstance(value, bool)


def _problem(request: Request, headers: Mapping[str, Sequence[str]], version: str | None) -> Failure | None:
    """What is wrong with a stateless request, in the order in which clients can do something about it."""

    def failure(code: int, message: str, **data: Any) -> Failure:
        return Failure(status=400, code=code, message=message, id=request.id, data=data)

    own = request.meta.get(VERSION)
    if own is not None and own != version:
        return failure(HEADER_MISMATCH, f"MCP-Protocol-Version must be the same as params._meta.{VERSION}.")
    if version != MODERN:
        asked = version if version is not None and len(version) <= len(MODERN) else None
        return failure(
            UNSUPPORTED_VERSION,
            "Unsupported protocol version",
            supported=list(SUPPORTED),
            **({} if asked is None else {"requested": asked}),
        )
    if own is None:
        return failure(INVALID_PARAMS, f"params._meta.{VERSION}: required.")
    if not isinstance(request.meta.get(CAPABILITIES), dict):
        return failure(INVALID_PARAMS, f"params._meta.{CAPABILITIES}: required, an object.")
    if _single(headers, "mcp-method") != request.method:
        return failure(HEADER_MISMATCH, "Mcp-Method must be the same as method.")
    if (member := _NAMED.get(request.method)) is not None:
        shown = _single(headers, "mcp-name")
        if shown is None or decoded(shown) != request.params.get(member):
            return failure(HEADER_MISMATCH, f"Mcp-Name must be the same as params.{member}.")
    return None


def _single(headers: Mapping[str, Sequence[str]], name: str) -> str | None:
    """The value of a header; several are none that could be the same as one in the body."""
    found = headers.get(name, ())
    return found[0].strip(" \t") if len(found) == 1 else None


def decoded(value: str) -> str | None:
    """A header's value, which may stand in base64; None where that is broken, or it has characters that none may."""
    if value.startswith(_PREFIX) and value.endswith(_SUFFIX) and len(value) >= len(_PREFIX) + len(_SUFFIX):
        try:
            packed = value[len(_PREFIX) : -len(_SUFFIX)]
            return base64.b64decode(packed, validate=True).decode("utf-8")
        except (ValueError, binascii.Error):
            return None
    return value if all(c == "\t" or " " <= c <= "~" for c in value) else None
