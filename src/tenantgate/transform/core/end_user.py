"""Whom a request names as its end user, to the provider."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

__all__ = ["named"]

_USER: Final = "user"
_SAFETY: Final = "safety_identifier"
"""OpenAI's newer word for it, which a client may use beside the older one."""


def named(body: Mapping[str, Any], name: str | None) -> Mapping[str, Any]:
    """The body with `name` as the end user; None: with none. The same object where nothing changes.

    Formats of other providers take it from ``user``: Anthropic's is ``metadata.user_id``.
    """
    made = {key: value for key, value in body.items() if key not in (_USER, _SAFETY)}
    if name is not None:
        made[_USER] = name
        if body.get(_SAFETY) is not None:
            made[_SAFETY] = name
    return body if made == body else made
