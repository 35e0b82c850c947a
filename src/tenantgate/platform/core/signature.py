"""Signatures of webhooks as Standard Webhooks has them: ``v1,`` and the HMAC-SHA256 of id, time and body.

Source: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from typing import Final

from tenantgate.errors import ConfigError

__all__ = ["TOLERANCE_S", "secret_bytes", "sign", "verified"]

TOLERANCE_S: Final = 300
"""Most seconds between a message's time and ours, as the specification's libraries have it."""
_PREFIX: Final = "whsec_"
_SECRET: Final = range(24, 65)
_SIGNATURES: Final = 10
"""Of one message, at most: each secret that is being rotated has one."""


def secret_bytes(text: str, *, where: str) -> bytes:
    """The key in a ``whsec_`` secret.

    Raises:
        ConfigError: it is none of 24 to 64 bytes in Base64; names `where`, and never quotes it.
    """
    try:
        found = base64.b64decode(text.removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        found = b""
    if not text.startswith(_PREFIX) or len(found) not in _SECRET:
        raise ConfigError(f"{where}: must be whsec_ and 24 to 64 bytes in Base64")
    return found


def sign(secret: bytes, *, identifier: str, timestamp: int, body: bytes) -> str:
    """The value of ``webhook-signature``; `timestamp` in Unix seconds."""
    signed = f"{identifier}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(secret, signed, hashlib.sha256).digest()).decode()


def verified(
    secret: bytes, *, identifier: str, timestamp: str, signatures: str, body: bytes, now: float
) -> bool:
    """Whether one of the ``signatures``, with spaces between, is right and the message isn't old or of the future."""
    if not identifier or not timestamp.isascii() or not timestamp.isdecimal() or len(timestamp) > 12:
        return False
    if abs(now - int(timestamp)) > TOLERANCE_S:
        return False
    right = sign(secret, identifier=identifier, timestamp=int(timestamp), body=body).encode()
    # All of them are compared, so that the time says nothing.
    found = [
        hmac.compare_digest(right, each.encode("utf-8", "replace"))
        for each in signatures.split(" ")[:_SIGNATURES]
    ]
    return any(found)
