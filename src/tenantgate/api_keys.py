"""Keys that Tenantgate issues to clients: ``tg_``, 40 random characters, and 6 of a checksum.

The form is that of GitHub's tokens: a prefix by which scanners know whose it is, and a checksum by which a typing error
and a made-up key are told from a real one without asking anybody. 40 characters of 62 are 238 bits, so the plain
SHA-256 of a key can't be turned back, and needs no salt.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Callable
from typing import Final

__all__ = ["DIGEST", "PREFIX", "digest", "is_issued", "made", "stored"]

PREFIX: Final = "tg_"
DIGEST: Final = r"^[0-9a-f]{64}$"
"""The form of a `digest`, a regular expression."""
_STORED: Final = "sha256:"
_ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_RANDOM: Final = 40
_CHECKSUM: Final = 6  # 62⁶ is more than 2³²
_FORM: Final = re.compile(rf"{PREFIX}([0-9A-Za-z]{{{_RANDOM}}})([0-9A-Za-z]{{{_CHECKSUM}}})")


def made(below: Callable[[int], int]) -> str:
    """A new key.

    Args:
        below: gives a random number from 0 to below its argument, such as `secrets.randbelow`.
    """
    body = "".join(_ALPHABET[below(len(_ALPHABET))] for _ in range(_RANDOM))
    return f"{PREFIX}{body}{_checksum(body)}"


def is_issued(text: str) -> bool:
    """Whether `text` has the form of a key of ours, its checksum included."""
    found = _FORM.fullmatch(text)
    return found is not None and _checksum(found[1]) == found[2]


def digest(key: str) -> str:
    """The SHA-256 of a key, in hexadecimal digits."""
    return hashlib.sha256(key.encode()).hexdigest()


def stored(hexadecimal: str) -> str:
    """What Kong's key-auth has in the place of a key, by its `digest` (plugin tenantgate-keys)."""
    return f"{_STORED}{hexadecimal}"


def _checksum(body: str) -> str:
    rest, out = zlib.crc32(body.encode()), ""
    for _ in range(_CHECKSUM):
        rest, digit = divmod(rest, len(_ALPHABET))
        out = _ALPHABET[digit] + out
    return out
