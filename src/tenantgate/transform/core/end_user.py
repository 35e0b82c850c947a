"""Whom a request names as its end user, to the provider."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

__all__ = ["cache_key", "named"]

_USER: Final = "user"
_SAFETY: Final = "safety_identifier"
"""OpenAI's newer word for it, which a client may use beside the older one."""
_CACHE_KEY: Final = "prompt_cache_key"
"""What else takes the place of ``user`` there: https://platform.openai.com/docs/api-reference/chat/create"""


def cache_key(body: Mapping[str, Any]) -> str | None:
    """The text that routes a request to a provider's cache, for which clients take their users' names."""
    found = body.get(_CACHE_KEY)
    return found if isinstance(found, str) else None


def named(body: Mapping[str, Any], name: str | None, key: str | None = None) -> Mapping[str, Any]:
    """The body with `name` as the end user and `key` as `cache_key`; None: with none.

    The same object where nothing changes. Formats of other providers take it from ``user``: Anthropic's is
    ``metadata.user_id``.
    """
    made = {k: value for k, value in body.items() if k not in (_USER, _SAFETY, _CACHE_KEY)}
    if key is not None:
        made[_CACHE_KEY] = key
    if name is not None:
        made[_USER] = name
        if body.get(_SAFETY) is not None:
            made[_SAFETY] = name
    return body if made == body else made
