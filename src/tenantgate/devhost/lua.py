"""JSON and truth as Kong's Lua sees them (cjson, `kong/tools/cjson.lua`).

Text is held as `str` with surrogateescape, so that bytes which aren't UTF-8 pass through unchanged.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, Final

__all__ = ["MISSING", "decode", "encode", "from_bytes", "get", "is_array", "to_bytes", "truthy", "words"]

MISSING: Final = object()
"""An absent key: Lua's nil. A JSON null is None, which Lua counts as true (`cjson.null`)."""

_MAX_DEPTH: Final = 1000  # lua-cjson's DEFAULT_DECODE_MAX_DEPTH
_EXACT: Final = 10**16  # cjson writes numbers with 16 significant digits
# An escape that is half of a surrogate pair, after an even number of backslashes. The other lone surrogates
# that a decoded text may hold stand for bytes that aren't UTF-8, which cjson lets pass.
_LONE: Final = re.compile(
    rb"(?<!\\)(?:\\\\)*(?:\\u[dD][89abAB]..(?!\\u[dD][c-fC-F])|(?<!\\u[dD][89abAB]..)\\u[dD][c-fC-F])"
)


def from_bytes(raw: bytes) -> str:
    """Bytes as text that `to_bytes` turns back, whatever they are."""
    return raw.decode("utf-8", "surrogateescape")


def to_bytes(text: str | bytes) -> bytes:
    """What Lua would hold for this text."""
    return text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape")


def decode(raw: bytes) -> Any:
    """The value, or MISSING for anything that cjson refuses: bad JSON, too deep, a lone surrogate escape."""
    try:
        value = json.loads(from_bytes(raw), strict=False)
    except (ValueError, RecursionError):
        return MISSING
    return MISSING if _depth_over(value) or _LONE.search(raw) else value


def _depth_over(value: Any) -> bool:
    level: list[Any] = [value]
    for _ in range(_MAX_DEPTH):
        below: list[Any] = []
        for v in level:
            if isinstance(v, dict):
                below.extend(c for c in v.values() if isinstance(c, (dict, list)))
            elif isinstance(v, list):
                below.extend(c for c in v if isinstance(c, (dict, list)))
        if not below:
            return False
        level = below
    return True


def encode(value: Any) -> bytes:
    """JSON as cjson writes it: no spaces, bytes as they are, whole floats without a fraction."""
    return to_bytes(json.dumps(_numbers(value), ensure_ascii=False, separators=(",", ":")))


def _numbers(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _numbers(v) for k, v in value.items() if v is not MISSING}
    if isinstance(value, (list, tuple)):
        return [_numbers(v) for v in value]
    if isinstance(value, bytes):
        return from_bytes(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError("cjson can't encode NaN or Infinity")
        return int(value) if value.is_integer() and abs(value) < _EXACT else float(f"{value:.16g}")
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= _EXACT:
        return float(f"{value:.16g}")
    return value


def get(table: Any, key: str) -> Any:
    """``table.key`` in Lua: MISSING where absent, and on a string; an error on a number, boolean or null.

    Raises:
        TypeError: as Lua raises "attempt to index a … value".
    """
    if isinstance(table, dict):
        return table.get(key, MISSING)
    if isinstance(table, (list, str)):
        return MISSING
    raise TypeError(f"attempt to index a {type(table).__name__} value")


def truthy(value: Any) -> bool:
    """Lua's truth: only nil and false are false; null, 0 and the empty text are true."""
    return value is not MISSING and value is not False


def is_array(value: Any) -> bool:
    """Whether ``type(value) == "table" and #value > 0``."""
    return isinstance(value, list) and len(value) > 0


def words(text: str) -> int:
    """How many runs of non-space bytes: what Kong counts as prompt tokens (`count_words`)."""
    return len(to_bytes(text).split())
