"""The grammar of a request body, and the one way to write what was read.

RFC 8259 to the letter, in UTF-8, narrowed to what every parser on the way understands alike:

- no member twice in an object, of which parsers take the first, the last, or both;
- no half of a surrogate pair, which is no text (lua-cjson refuses it, too);
- numbers are doubles with 16 significant digits, since Kong writes them so (``CJSON_MAX_PRECISION`` in
  ``kong/constants.lua``, ``%.16g`` in lua-cjson); what is finer is rounded here, where the guards read it, and
  ``4111111111111111e0`` is the whole number that it means;
- bounds on bytes, depth, nodes and names, asked before the work that they bound.

Time and memory are linear in the bytes.
"""

from __future__ import annotations

import functools
import json
import math
import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from tenantgate.llm.refusal import Reason, Refusal

__all__ = ["LIMITS", "Limits", "parse", "shallow", "write"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What is too large to be read.

    Attributes:
        size: bytes of the body. The gateway's own limit (`gateway.limits.max_request_body_mb`) lies below.
        depth: lists and objects within each other. Tool schemas are the deepest thing that applications send.
        nodes: values in lists and objects, members counted as one.
        messages: of a chat.
        name: characters of a member's name.
        digits: of one number.
    """

    size: int = 64 * 1024 * 1024
    depth: int = 64
    nodes: int = 50_000
    messages: int = 2_000
    name: int = 1_024
    digits: int = 400


LIMITS: Final = Limits()

# A text with its quotes, or its beginning where no quote ends it: nothing is looked at twice.
_TEXT: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_SURROGATE: Final = re.compile(r"[\ud800-\udfff]")
_MAYBE_SURROGATE: Final = re.compile(r"\\u[dD][89a-fA-F]")

_EXACT: Final = 2**53  # whole numbers up to here are doubles
_SURELY_EXACT: Final = 16  # characters of a whole number, its sign included
_SPELT_OUT: Final = 1e21  # whole numbers from here are written with an exponent, as JavaScript does
_SMALL: Final = 1_000  # 1.0 may stay 1.0: nobody's number is that short


_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)


class _Refused(ValueError):  # noqa: N818 - control flow within this module
    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(reason.value)
        self.refusal = Refusal(reason, message)


def parse(raw: bytes, limits: Limits = LIMITS) -> Any:
    """The JSON value in `raw`, or a `Refusal`."""
    if len(raw) > limits.size:
        return Refusal(Reason.TOO_LARGE, f"The body has more than {limits.size} bytes.")
    if refusal := _too_much(raw, limits):
        return refusal
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        return Refusal(Reason.NOT_UTF8, f"The body isn't UTF-8: byte {error.start + 1} is wrong.")
    if text.startswith("\ufeff"):
        return Refusal(Reason.NOT_JSON, "The body begins with a byte order mark, which JSON doesn't allow.")
    try:
        value = _decoder(limits).decode(text)
    except _Refused as refused:
        return refused.refusal
    except RecursionError:
        return _too_deep(limits)
    except json.JSONDecodeError as error:
        problem = error.msg.partition(":")[0].removesuffix(" at").lower()
        return Refusal(
            Reason.NOT_JSON, f"The body isn't valid JSON: {problem}, at character {error.pos + 1}."
        )
    if raw.count(b"[") + raw.count(b"{") > limits.depth and not shallow(value, limits.depth):
        return _too_deep(limits)
    if _MAYBE_SURROGATE.search(text) and _has_surrogate(value):
        return Refusal(Reason.NOT_JSON, "The body has an escape that is half of a surrogate pair.")
    return value


def write(value: Any) -> bytes:
    """The bytes of a value that `parse` gave: compact, letters as they are, members in their order.

    What the OpenAI SDKs and JavaScript's ``JSON.stringify`` write comes out of both functions unchanged.

    Raises:
        ValueError: NaN, infinity or half of a surrogate pair, none of which `parse` gives.
    """
    return _ENCODER.encode(value).encode("utf-8")


def _too_much(raw: bytes, limits: Limits) -> Refusal | None:
    """Counts what can only be structure; where texts could account for it, without them."""
    if _structure(raw) <= limits.nodes or _structure(_TEXT.sub(b"", raw)) <= limits.nodes:
        return None
    return Refusal(Reason.TOO_LARGE, f"The body has more than {limits.nodes} values in lists and objects.")


def _structure(raw: bytes) -> int:
    return raw.count(b",") + raw.count(b"[") + raw.count(b"{")


def _too_deep(limits: Limits) -> Refusal:
    return Refusal(Reason.TOO_DEEP, f"The body's lists and objects are nested more than {limits.depth} deep.")


@functools.lru_cache(maxsize=8)
def _decoder(limits: Limits) -> json.JSONDecoder:
    """The standard library's decoder with stricter objects and Kong's numbers."""

    def members(found: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(found)
        if len(made) != len(found):
            raise _Refused(Reason.NOT_JSON, "An object of the body has two members of the same name.")
        if made and max(map(len, made)) > limits.name:
            raise _Refused(Reason.TOO_LARGE, f"A member's name has more than {limits.name} characters.")
        return made

    def constant(_name: str) -> Any:
        raise _Refused(Reason.NOT_JSON, "The body isn't valid JSON: NaN and Infinity are no numbers there.")

    def number(text: str) -> int | float:
        if len(text) > limits.digits:
            raise _Refused(Reason.NOT_JSON, f"A number has more than {limits.digits} characters.")
        value = float(text)
        if math.isinf(value):
            raise _Refused(Reason.NOT_JSON, "A number is larger than a double can hold.")
        return _as_kong_writes(value)

    def whole(text: str) -> int | float:
        return int(text) if len(text) < _SURELY_EXACT else number(text)

    return json.JSONDecoder(
        object_pairs_hook=members, parse_float=number, parse_int=whole, parse_constant=constant
    )


def _as_kong_writes(value: float) -> int | float:
    """A finite double after its way through lua-cjson: 16 significant digits, and whole numbers whole."""
    size = abs(value)
    if _SMALL <= size < _SPELT_OUT and value.is_integer():
        return int(value) if size < _EXACT else int(Decimal(f"{value:.16g}"))
    return float(f"{value:.16g}")


def shallow(value: Any, depth: int) -> bool:
    """Whether lists and objects of a JSON value are nested at most `depth` deep; without recursion."""
    level = [value]
    for _ in range(depth):
        level = [
            child
            for parent in level
            if isinstance(parent, dict | list)
            for child in (parent.values() if isinstance(parent, dict) else parent)
        ]
        if not level:
            return True
    return False


def _has_surrogate(value: Any) -> bool:
    # Depth is bounded by now. Whoever writes what was read would fail on one, in a name or in a text.
    if isinstance(value, str):
        return _SURROGATE.search(value) is not None
    if isinstance(value, dict):
        return any(map(_has_surrogate, value)) or any(map(_has_surrogate, value.values()))
    return isinstance(value, list) and any(map(_has_surrogate, value))
