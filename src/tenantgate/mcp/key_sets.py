"""Keys of authorization servers (JWKS, RFC 7517): fetched in the background, the last good ones kept for a while."""

from __future__ import annotations

import contextlib
import http.client
import json
import logging
import ssl
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import jwt

from tenantgate.errors import ConfigError, EdgeError
from tenantgate.http_limits import within
from tenantgate.mcp.config import OauthIssuer
from tenantgate.store.threads import BackgroundThread

__all__ = ["KeySet", "VerificationKey", "keys_in"]

_log: Final = logging.getLogger("tenantgate.mcp")
_AGAIN_S: Final = 600.0
_AFTER_FAILURE_S: Final = 30.0
_APART_S: Final = 30.0
"""Least time between two fetches: whoever invents names of keys makes no load."""
_TIMEOUT_S: Final = 5.0
_BYTES: Final = 256 * 1024
_MOST: Final = 100  # keys
_RSA_BITS: Final = 2048  # RFC 7518, section 3.3
_KINDS: Final[Mapping[str, tuple[str, str | None]]] = {
    **{f"{family}{bits}": ("RSA", None) for family in ("RS", "PS") for bits in (256, 384, 512)},
    "ES256": ("EC", "P-256"),
    "ES384": ("EC", "P-384"),
    "ES512": ("EC", "P-521"),
    "EdDSA": ("OKP", "Ed25519"),
}
"""By algorithm the kind of key and its curve: a key is for no other algorithm, whatever a token says."""


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """A public key."""

    id: str
    algorithms: frozenset[str]
    """That it may be used with."""
    key: Any = field(repr=False)


class KeySet:
    """The keys of one issuer; thread-safe.

    Args:
        issuer: whose they are.
        keep_s: how long they are good for, where they can't be had again.
    """

    def __init__(self, issuer: OauthIssuer, keep_s: float) -> None:
        self._issuer, self._keep_s = issuer, keep_s
        self._keys: Sequence[VerificationKey] = ()
        self._had = -float("inf")
        self._asked = -float("inf")
        self._thread = BackgroundThread(
            "mcp-jwks",
            self._step,
            log=_log,
            failed="keys of an issuer can't be had",
            again_s=_AFTER_FAILURE_S,
        )
        self._thread.start()

    @property
    def ready(self) -> bool:
        """Whether there are keys that are good."""
        return time.monotonic() - self._had < self._keep_s

    def find(self, key_id: str | None, algorithm: str) -> VerificationKey | None:
        """The key of a token; None where there is none, or no single one. Never waits."""
        self._thread.start()
        if not self.ready:
            return None
        fitting = [k for k in self._keys if algorithm in k.algorithms and key_id in (None, k.id)]
        if not fitting and time.monotonic() - self._asked > _APART_S:
            self._thread.wake()  # it may be a new one
        return fitting[0] if len(fitting) == 1 else None

    def close(self) -> None:
        """End the thread."""
        self._thread.stop()

    def _step(self) -> float:
        self._asked = time.monotonic()
        self._keys = keys_in(self._read())
        self._had = time.monotonic()
        return _AGAIN_S

    def _read(self) -> bytes:
        if self._issuer.jwks_file is not None:
            with Path(self._issuer.jwks_file).open("rb") as file:
                return _bounded(file.read(_BYTES + 1))
        return _fetched(self._issuer.jwks_url or "")


def keys_in(raw: bytes) -> Sequence[VerificationKey]:
    """The keys of a JWKS that can check a signature: public ones, each for the algorithms of its kind.

    Raises:
        ConfigError: it is none, or has no such key.
    """
    try:
        tree = json.loads(raw)
        items = tree["keys"][:_MOST]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ConfigError("isn't a JSON Web Key Set") from None
    found = [key for item in items if isinstance(item, dict) and (key := _key(item)) is not None]
    if not found:
        raise ConfigError("has no key that can be used")
    return found


def _key(item: Mapping[str, Any]) -> VerificationKey | None:
    if item.get("use", "sig") != "sig" or "d" in item or "k" in item:
        return None
    algorithms = frozenset(
        name
        for name, (kind, curve) in _KINDS.items()
        if item.get("kty") == kind
        and (curve is None or item.get("crv") == curve)
        and item.get("alg") in (None, name)
    )
    if not algorithms:
        return None
    try:
        made = jwt.PyJWK(dict(item), algorithm=min(algorithms)).key
    except (jwt.PyJWTError, ValueError, TypeError, KeyError):
        return None
    if item["kty"] == "RSA" and made.key_size < _RSA_BITS:
        return None
    key_id = item.get("kid")
    return VerificationKey(key_id if isinstance(key_id, str) else "", algorithms, made)


def _fetched(url: str) -> bytes:
    """What is at a URL. Redirects aren't followed: the egress list knows this address alone."""
    parts = urlsplit(url)
    if parts.scheme == "https":
        made: http.client.HTTPConnection = http.client.HTTPSConnection(
            parts.netloc, timeout=_TIMEOUT_S, context=ssl.create_default_context()
        )
    else:
        made = http.client.HTTPConnection(parts.netloc, timeout=_TIMEOUT_S)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    with contextlib.closing(made), within(made, _TIMEOUT_S):
        made.request("GET", path, headers={"Accept": "application/json", "User-Agent": "Tenantgate"})
        reply = made.getresponse()
        if reply.status != 200:
            raise EdgeError(f"{url}: answered {reply.status}")
        return _bounded(reply.read(_BYTES + 1))


def _bounded(raw: bytes) -> bytes:
    if len(raw) > _BYTES:
        raise ConfigError(f"is longer than {_BYTES} bytes")
    return raw
