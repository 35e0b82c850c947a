"""Parameters of a request: defaults where the client says nothing, and the most that it gets.

With ``value(body)`` what a provider goes by where a member is absent (`IMPLIED`), the result has
``min(value(body or default), maximum)``: nothing is ever raised, and leaving a member out is no way around a maximum.
Source of what is implied: https://platform.openai.com/docs/api-reference/chat/create
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

__all__ = ["IMPLIED", "MAX_TOKENS", "OUTPUT_NAMES", "changed"]

MAX_TOKENS: Final = "max_tokens"
OUTPUT_NAMES: Final = ("max_completion_tokens", "max_tokens")
"""Members that limit a reply's tokens; `MAX_TOKENS` stands for both."""

IMPLIED: Final[Mapping[str, float]] = {
    "temperature": 1.0,
    "top_p": 1.0,
    MAX_TOKENS: math.inf,
    "n": 1,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
}
"""By parameter what holds where a request has none."""

_ALSO: Final[Mapping[str, tuple[str, ...]]] = {MAX_TOKENS: ("n_predict",), "n": ("best_of",)}
"""Members beside a parameter's own that are lowered with it: llama.cpp goes by ``n_predict`` before ``max_tokens``
(tools/server/README.md), and a completion is made ``best_of`` times."""

_FROM_ONE: Final = (MAX_TOKENS, "n")
"""Parameters of which a number below 1 has no end to some servers: -1 to llama.cpp, 0 to Ollama."""


def changed(
    body: Mapping[str, Any],
    defaults: Mapping[str, float],
    maximum: Mapping[str, float],
    *,
    output_name: str,
    fill: bool = True,
) -> Mapping[str, Any]:
    """The body with its parameters changed; the same object where nothing changes.

    Args:
        body: of a request. Null counts as absent; another value than a number is above every maximum, and so is a
            number of tokens or choices below 1.
        defaults: by parameter of `IMPLIED`.
        maximum: the same.
        output_name: of `OUTPUT_NAMES` the one that a request gets which has neither.
        fill: whether absent members are added: not in operations that may not know them.
    """
    made: dict[str, Any] = {}
    for name in IMPLIED:
        most = maximum.get(name)
        given = [key for key in _keys(name) if body.get(key) is not None]
        also = [key for key in _ALSO.get(name, ()) if body.get(key) is not None]
        for key in (*given, *also):
            if most is not None and not _is_within(name, body[key], most):
                made[key] = most
        if fill and not given:
            value = _absent(name, defaults.get(name), most)
            if value is not None:
                made[output_name if name == MAX_TOKENS else name] = value
    return {**body, **made} if made else body


def _absent(name: str, default: float | None, most: float | None) -> float | None:
    """The value for a request without one; None: it stays so."""
    if default is not None:
        return default if most is None else min(default, most)
    return most if most is not None and most < IMPLIED[name] else None


def _keys(name: str) -> tuple[str, ...]:
    return OUTPUT_NAMES if name == MAX_TOKENS else (name,)


def _is_within(name: str, value: Any, most: float) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return value <= most and (value >= 1 or name not in _FROM_ONE)
