"""Usage of tokens in OpenAI's shape: ``prompt_tokens``, ``completion_tokens``, ``total_tokens`` and their details.

Source: https://platform.openai.com/docs/api-reference/chat/object
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeAlias

__all__ = ["TOKEN_NAMES", "Details", "Tokens", "token_count", "usage_details", "usage_object", "usage_tokens"]

Tokens: TypeAlias = tuple[int, int, int]
"""Tokens of the prompt, of the completion, and of both."""
Details: TypeAlias = Mapping[str, Mapping[str, int]]
"""Tokens by kind under ``prompt_tokens_details`` and ``completion_tokens_details``."""

TOKEN_NAMES: Final = ("prompt_tokens", "completion_tokens", "total_tokens")
_DETAILS: Final = ("prompt_tokens_details", "completion_tokens_details")


def token_count(value: Any) -> int | None:
    """A number of tokens, 0 or more and below 10**12; None for anything else."""
    # 1e999 is JSON, and infinite; no reply has 10**12 tokens.
    usable = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e12
    return int(value) if usable else None


def usage_tokens(usage: Any) -> Tokens | None:
    """The tokens that a reply's usage counts, where it has both counts; their sum is computed."""
    if not isinstance(usage, Mapping):
        return None
    prompt, completion = (token_count(usage.get(name)) for name in TOKEN_NAMES[:2])
    return None if prompt is None or completion is None else (prompt, completion, prompt + completion)


def usage_details(usage: Any) -> dict[str, dict[str, int]]:
    """The tokens by kind in a reply's usage, as far as they are counts."""
    found = {}
    for name in _DETAILS:
        held = usage.get(name) if isinstance(usage, Mapping) else None
        if isinstance(held, Mapping):
            counts = {str(kind): token_count(value) for kind, value in held.items()}
            found[name] = {kind: count for kind, count in counts.items() if count is not None}
    return found


def usage_object(tokens: Tokens, details: Details | None = None) -> dict[str, Any]:
    """The usage of a reply."""
    counts: dict[str, Any] = dict(zip(TOKEN_NAMES, tokens, strict=True))
    return counts | {name: dict(held) for name, held in (details or {}).items()}
