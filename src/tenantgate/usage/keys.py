"""Ed25519 keys that sign statements, as PEM."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from tenantgate.errors import ConfigError

__all__ = ["is_signed_by", "key_id", "private_key", "public_key"]

_REFERENCE: Final = re.compile(r"\{vault://env/([A-Za-z0-9_-]+)\}")
_ADVICE: Final = (
    "is no Ed25519 key in PEM without a passphrase, as `openssl genpkey -algorithm ed25519` makes"
)


def private_key(where: str) -> Ed25519PrivateKey:
    """The key of a file, or of the environment by ``{vault://env/NAME}``.

    Raises:
        ConfigError: there is none.
    """
    try:
        found = load_pem_private_key(_pem(where, "--key"), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ConfigError(f"--key: {_ADVICE}") from None
    if not isinstance(found, Ed25519PrivateKey):
        raise ConfigError(f"--key: {_ADVICE}")
    return found


def public_key(where: str) -> Ed25519PublicKey:
    """The public key of a file, or of the environment.

    Raises:
        ConfigError: there is none.
    """
    try:
        found = load_pem_public_key(_pem(where, "--public-key"))
    except (ValueError, UnsupportedAlgorithm):
        found = None
    if not isinstance(found, Ed25519PublicKey):
        raise ConfigError(
            "--public-key: is no public Ed25519 key in PEM, as `openssl pkey -pubout` writes it"
        )
    return found


def key_id(key: Ed25519PublicKey) -> str:
    """A short name of a public key: 32 hexadecimal digits of its SHA-256."""
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()[:32]


def is_signed_by(key: Ed25519PublicKey, signature: bytes, text: bytes) -> bool:
    """Whether the signature is this key's, of this text."""
    try:
        key.verify(signature, text)
    except InvalidSignature:
        return False
    return True


def _pem(where: str, argument: str) -> bytes:
    if match := _REFERENCE.fullmatch(where):
        name = match[1].upper().replace("-", "_")
        found = os.environ.get(name)
        if not found:
            raise ConfigError(f"{argument}: the environment has no {name}")
        return found.encode("utf-8", "surrogateescape")
    try:
        return Path(where).read_bytes()
    except OSError as error:
        raise ConfigError(f"{argument}: {where[:200]}: {error.strerror}") from None
