"""Who a request belongs to: the tenant, as a type that no key and no record can do without."""

from __future__ import annotations

import hashlib
from typing import Final

from tenantgate.errors import ConfigError

__all__ = ["TenantId", "slug"]

# A key prefix must stay readable in `redis-cli`, and short; longer or odder ids go in by their digest.
_PLAIN_MAX: Final = 40
_PLAIN: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")


def slug(text: str) -> str:
    """Any text in a form that is safe in a key, injectively.

    40 of ``[A-Za-z0-9_.-]`` at most stay as they are; other texts become ``~`` and a SHA-256 in hex.
    """
    if len(text) <= _PLAIN_MAX and _PLAIN.issuperset(text):
        return text
    # "~" isn't a plain character, so a digest can never equal another text's plain form.
    return "~" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


class TenantId:
    """A tenant's id: any non-empty text, compared exactly (no case folding, no trimming).

    Kong's consumer carries it as ``custom_id``, which may be any text, so nothing here trusts its form.
    `slug` is the only form that may be put into a key.
    """

    __slots__ = ("_text", "slug")

    slug: str
    """As the function `slug` gives it."""

    def __init__(self, text: str) -> None:
        if not isinstance(text, str) or not text:
            raise ConfigError("tenant id: must be a non-empty text")
        self._text = text
        self.slug = slug(text)

    def __str__(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return f"TenantId({self.slug!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TenantId) and other._text == self._text

    def __hash__(self) -> int:
        return hash((TenantId, self._text))
