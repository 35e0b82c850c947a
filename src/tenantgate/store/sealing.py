"""A tenant's keys: what is stored can be found, compared and read with them only.

From the operator's `encryption_key` and the tenant's id, HKDF-SHA256 (RFC 5869) derives a key for names
(BLAKE2b, keyed), one for values (AES-256-GCM, the Redis key as associated data) and one for vectors.

The vectors' dimensions are permuted and their signs flipped, by the tenant's key. Cosines stay as they are, and
vectors of two tenants can't be compared. That is hardening and no encryption: who can guess many plain texts of
a tenant could undo it.
"""

from __future__ import annotations

import hashlib
import os
from functools import cached_property
from typing import TYPE_CHECKING, Final

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tenantgate.tenant import TenantId

__all__ = ["TenantSealer"]

_FORMAT: Final = b"\x01"
_NONCE: Final = 12  # bytes, NIST SP 800-38D
_SALT: Final = b"tenantgate cache"


class TenantSealer:
    """The `tenantgate.cache.core.ports.Sealer` of one tenant; thread-safe."""

    def __init__(self, encryption_key: str, tenant: TenantId) -> None:
        about = b"tenant:" + str(tenant).encode("utf-8", "surrogatepass")
        material = HKDF(algorithm=SHA256(), length=96, salt=_SALT, info=about).derive(
            encryption_key.encode("utf-8", "surrogatepass")
        )
        self._name_key, value_key, self._vector_key = material[:32], material[32:64], material[64:]
        self._cipher = AESGCM(value_key)

    def name(self, data: bytes) -> str:
        """A keyed digest, 32 hexadecimal digits."""
        return hashlib.blake2b(data, key=self._name_key, digest_size=16).hexdigest()

    def seal(self, plain: bytes, *, key: bytes) -> bytes:
        """Encrypt for the Redis key `key`; the result opens under no other."""
        nonce = os.urandom(_NONCE)
        return _FORMAT + nonce + self._cipher.encrypt(nonce, plain, key)

    def open(self, sealed: bytes, *, key: bytes) -> bytes | None:
        """Decrypt; None for anything that wasn't sealed for this tenant and `key`."""
        nonce, text = sealed[1 : 1 + _NONCE], sealed[1 + _NONCE :]
        if sealed[:1] != _FORMAT or len(nonce) != _NONCE:
            return None
        try:
            return self._cipher.decrypt(nonce, text, key)
        except InvalidTag:
            return None

    def scramble(self, vector: NDArray[np.float32]) -> bytes:
        """The vector as little-endian float32, its cosines kept and its directions the tenant's own."""
        order, signs = self._scrambling(len(vector))
        return (vector[order] * signs).astype("<f4").tobytes()

    def _scrambling(self, dimensions: int) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
        found = self._scramblings.get(dimensions)
        if found is None:
            seed = int.from_bytes(hashlib.blake2b(self._vector_key, digest_size=32).digest(), "big")
            random = np.random.Generator(np.random.PCG64(seed + dimensions))
            order = np.asarray(random.permutation(dimensions), dtype=np.intp)
            signs = random.integers(0, 2, dimensions).astype(np.float32) * 2 - 1
            found = self._scramblings.setdefault(dimensions, (order, signs))
        return found

    @cached_property
    def _scramblings(self) -> dict[int, tuple[NDArray[np.intp], NDArray[np.float32]]]:
        return {}
