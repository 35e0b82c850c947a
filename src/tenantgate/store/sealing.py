"""Keys of a tenant, and of the gateway: what is stored can be found and read with them only.

From the operator's `encryption_key` and the tenant's id (or a purpose), HKDF-SHA256 (RFC 5869) derives a key for names
(BLAKE2b, keyed) and one for values (AES-256-GCM, the Redis key as associated data).
"""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

if TYPE_CHECKING:
    from tenantgate.tenant import TenantId

__all__ = ["GatewaySealer", "Sealer", "TenantSealer"]

_FORMAT: Final = b"\x01"
_NONCE: Final = 12  # bytes, NIST SP 800-38D
_SALT: Final = b"tenantgate cache"


class Sealer:
    """Encryption and keyed digests with keys of one purpose; thread-safe."""

    def __init__(self, encryption_key: str, about: bytes) -> None:
        material = HKDF(algorithm=SHA256(), length=64, salt=_SALT, info=about).derive(
            encryption_key.encode("utf-8", "surrogatepass")
        )
        self._name_key, value_key = material[:32], material[32:]
        self._cipher = AESGCM(value_key)

    def name(self, data: bytes) -> str:
        """A keyed digest, 32 hexadecimal digits."""
        return hashlib.blake2b(data, key=self._name_key, digest_size=16).hexdigest()

    def seal(self, plain: bytes, *, key: bytes) -> bytes:
        """Encrypt for the Redis key `key`; the result opens under no other."""
        nonce = os.urandom(_NONCE)
        return _FORMAT + nonce + self._cipher.encrypt(nonce, plain, key)

    def open(self, sealed: bytes, *, key: bytes) -> bytes | None:
        """Decrypt; None for anything that wasn't sealed with these keys for `key`."""
        nonce, text = sealed[1 : 1 + _NONCE], sealed[1 + _NONCE :]
        if sealed[:1] != _FORMAT or len(nonce) != _NONCE:
            return None
        try:
            return self._cipher.decrypt(nonce, text, key)
        except InvalidTag:
            return None


class TenantSealer(Sealer):
    """The `tenantgate.cache.core.ports.Sealer` of one tenant."""

    def __init__(self, encryption_key: str, tenant: TenantId) -> None:
        super().__init__(encryption_key, b"tenant:" + str(tenant).encode("utf-8", "surrogatepass"))


class GatewaySealer(Sealer):
    """Sealer of what belongs to the gateway as a whole and to no tenant; `purpose` parts its uses."""

    def __init__(self, encryption_key: str, purpose: str) -> None:
        super().__init__(encryption_key, b"gateway:" + purpose.encode())
