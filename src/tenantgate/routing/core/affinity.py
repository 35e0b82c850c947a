"""Affinity: the same conversation goes to the same target, so that the provider's own prompt cache hits.

The target is the first by weighted rendezvous hashing: when one is gone, only its own conversations move.
Sources: Thaler and Ravishankar, "Using name-based mappings to increase hit rates", 1998; Schindelhauer and Schomaker,
"Weighted distributed hash tables", 2005 (the logarithm that makes shares follow weights)
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from tenantgate.tenant import TenantId

__all__ = ["affinity_key", "beginning", "score"]

_LEADING: Final = frozenset({"system", "developer"})
_MOST: Final = 16_384  # characters of a message: beyond, its length has to tell it from others
_FULL: Final = float(2**64)


def beginning(messages: Sequence[Mapping[str, Any]]) -> bytes:
    """The part of a conversation that all of its requests have: instructions, and the first message after them."""
    made = hashlib.blake2b(digest_size=16)
    for message in messages:
        role = message.get("role")
        made.update(_piece(role))
        made.update(_piece(message.get("content")))
        if not isinstance(role, str) or role not in _LEADING:
            break
    return made.digest()


def affinity_key(tenant: TenantId, model: str, prefix: bytes) -> bytes:
    """Key of requests that belong together; no two tenants share one."""
    made = hashlib.blake2b(digest_size=16)
    for part in (tenant.slug.encode(), model.encode("utf-8", "surrogatepass"), prefix):
        made.update(len(part).to_bytes(8, "big"))
        made.update(part)
    return made.digest()


def score(key: bytes, target: str, weight: int) -> float:
    """How far up a target is for a key; with weight 0 it is below all others."""
    digest = hashlib.blake2b(target.encode("utf-8", "surrogatepass"), key=key, digest_size=8).digest()
    if weight <= 0:
        return -1.0
    drawn = (int.from_bytes(digest, "big") + 0.5) / _FULL
    return weight / -math.log(drawn) if drawn < 1.0 else math.inf


def _piece(value: Any) -> bytes:
    """A value's text with its length; parts of a list one after another, without what isn't text."""
    if isinstance(value, list):
        parts = (part.get("text") for part in value if isinstance(part, Mapping))
        return b"".join([b"[", *(_piece(part) for part in parts), b"]"])
    text = value if isinstance(value, str) else ""
    return b"%d:%b" % (len(text), text[:_MOST].encode("utf-8", "surrogatepass"))
