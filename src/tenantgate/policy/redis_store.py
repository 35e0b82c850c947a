"""The policy directory in Redis or a Redis Cluster, authenticated: who writes to Redis can't switch a rule off.

A version's description has a MAC by a key that is derived from the gateway's `encryption_key` (HKDF-SHA256, RFC 5869;
HMAC-SHA256). It holds the digest of the version's index, and the index the hashes of the records, so nothing of it can
be changed, added or left out. An older version can be put in place of the newest one; who has seen that one refuses it
(`tenantgate.policy.follower`). Acknowledgements are not authenticated: they change no rule.

Redis has to keep what it is given (`maxmemory-policy noeviction`), and on disk.
"""

from __future__ import annotations

import hmac
import json
import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from importlib import resources
from typing import TYPE_CHECKING, Any, Final, TypeVar

import redis
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from tenantgate.policy.core.ports import (
    Acknowledgement,
    ConflictError,
    DamagedError,
    PolicyStore,
    PublishNote,
    UnavailableError,
    VersionInfo,
    content_hash,
    digest_of,
    pages,
    successor,
    tenant_bytes,
    tenant_text,
)
from tenantgate.store.redis_nodes import connect
from tenantgate.store.redis_rights import doubts

if TYPE_CHECKING:
    from tenantgate.store.config import RedisConfig

__all__ = ["RedisPolicyStore"]

T = TypeVar("T")

_TIMEOUT_MS: Final = 2000
_BASE: Final = "tg:policy:1:{policy}:"  # one hash tag: a script needs all keys on one node of a cluster
_HEAD, _VERSIONS, _INDEX, _CONTENTS, _PROCESSES = (
    _BASE + name for name in ("head", "versions", "index", "contents", "processes")
)
_STAGED_S: Final = 3600
_SCAN: Final = 1000  # fields in one answer
_TRIES: Final = 5  # while others publish
_FORGET_S: Final = 86_400.0


def _undo(number: int) -> str:
    return f"{_BASE}undo:{number}"


class _Seal:
    """Descriptions of versions as they are stored: JSON with a MAC of everything else in it."""

    def __init__(self, encryption_key: str) -> None:
        self._key = HKDF(SHA256(), 32, salt=b"tenantgate policy", info=b"version").derive(
            encryption_key.encode("utf-8", "surrogatepass")
        )

    def _mac(self, fields: list[object]) -> str:
        return hmac.digest(self._key, json.dumps(fields).encode(), "sha256").hex()

    def write(self, info: VersionInfo) -> bytes:
        fields = [info.number, info.at, info.author, info.message, info.changed, info.digest.hex()]
        return json.dumps([*fields, self._mac(fields)]).encode()

    def read(self, stored: bytes) -> VersionInfo:
        """The description.

        Raises:
            DamagedError: it wasn't written with this key.
        """
        try:
            *fields, mac = json.loads(stored)
            if not hmac.compare_digest(mac.encode(), self._mac(fields).encode()):
                raise DamagedError("a version in Redis isn't authentic: its MAC isn't by this encryption_key")
            number, at, author, message, changed, digest = fields
            return VersionInfo(number, at, author, message, changed, bytes.fromhex(digest))
        except (ValueError, TypeError, AttributeError, RecursionError):
            raise DamagedError("a version in Redis can't be read") from None


class RedisPolicyStore(PolicyStore):
    """The store in Redis; `encryption_key` is the gateway's, the same on all nodes."""

    def __init__(self, config: RedisConfig, encryption_key: str) -> None:
        self._nodes = connect(config, timeout_ms=max(_TIMEOUT_MS, config.timeout_ms))
        self._seal = _Seal(encryption_key)
        maker = redis.Redis()  # never connects: a script only needs an encoding
        self._publish_script = maker.register_script(_script("publish"))
        self._prune_script = maker.register_script(_script("prune"))
        self._names_script = maker.register_script(_script("names"))

    def latest(self) -> VersionInfo | None:
        """The newest version; None if there is none."""
        return self._read_head()[1]

    def version(self, number: int) -> VersionInfo | None:
        """A version that is kept, or None."""
        stored = self._do("hget", _VERSIONS, str(number))
        return None if stored is None else self._numbered(number, stored)

    def history(self, limit: int = 20) -> list[VersionInfo]:
        """The newest versions, the newest first."""
        newest = sorted(self._numbers(), reverse=True)[:limit]
        stored = self._do("hmget", _VERSIONS, newest) if newest else []
        return [
            self._numbered(number, text)
            for number, text in zip(newest, stored, strict=True)
            if text is not None
        ]

    def contents(self, hashes: Collection[bytes]) -> dict[bytes, bytes]:
        """Records by SHA-256: those that are there and whole."""
        out: dict[bytes, bytes] = {}
        for page in pages(hashes):
            found = self._do("hmget", _CONTENTS, [hashed.hex() for hashed in page])
            both = zip(page, found, strict=True)
            out.update(
                {hashed: body for hashed, body in both if body is not None and content_hash(body) == hashed}
            )
        return out

    def _publish(
        self,
        changes: Mapping[str, bytes | None],
        bodies: Mapping[bytes, bytes],
        *,
        expected: int,
        note: PublishNote,
        least: int,
    ) -> int:
        text, head = self._read_head()
        number = head.number if head else 0
        if number != expected:
            raise ConflictError(expected, number)
        info, delta = successor(self._index_of(head), changes, head=number, note=note, least=least)
        for _ in range(_TRIES):
            keys = [_HEAD, _VERSIONS, _INDEX, _CONTENTS, self._stage(delta, bodies), _undo(info.number)]
            said = self._run(
                self._publish_script, keys, [text, info.number, self._seal.write(info), len(delta)]
            )
            if said == b"published":
                return info.number
            if said == b"conflict":
                raise ConflictError(expected, self.head())
        raise UnavailableError("policy store: Redis doesn't keep what is written")

    def _stage(self, delta: Mapping[str, bytes | None], bodies: Mapping[bytes, bytes]) -> str:
        """Write records, which nothing points to yet, and the changes under a key of their own."""
        key = f"{_BASE}staged:{secrets.token_hex(8)}"
        for page in pages(bodies.items()):
            self._do("hset", _CONTENTS, mapping={hashed.hex(): body for hashed, body in page})
        for some in pages(delta.items(), _SCAN):
            fields = {tenant_bytes(tenant): hashed.hex() if hashed else "" for tenant, hashed in some}
            self._do("hset", key, mapping=fields)
            self._do("expire", key, _STAGED_S)
        return key

    def prune(self, keep: int) -> int:
        """Forget all versions but the newest `keep` (at least 1), and records of no version; how many went."""
        for _ in range(_TRIES):
            text, head = self._read_head()
            if head is None:
                return 0
            numbers = sorted(self._numbers())
            gone, kept = numbers[: -max(keep, 1)], numbers[-max(keep, 1) :]
            if not gone:
                return 0
            needed = {hashed.hex().encode() for hashed in self._index_of(head).values()}
            for number in kept[1:]:  # what undoes the oldest one leads to one that goes
                needed |= set(self._fields(_undo(number)).values())
            loose = [field for field in self._names(_CONTENTS) if field not in needed]
            keys = [_HEAD, _VERSIONS, _CONTENTS, *map(_undo, [*gone, kept[0]])]
            args: list[bytes | int] = [text, len(gone), *gone, *loose]
            if self._run(self._prune_script, keys, args) == b"pruned":
                return len(gone)
        raise UnavailableError("policy store: others publish all the time")

    def acknowledge(
        self, node: str, process: str, version: int, at: float, unreadable: Sequence[str] = ()
    ) -> None:
        """Note that a process of a node goes by `version` at the Unix time `at`, in seconds, but for these tenants."""
        # With two members, as long as two will do, an earlier Tenantgate reads it, too.
        said = [version, at, list(unreadable)] if unreadable else [version, at]
        field, value = json.dumps([node, process]), json.dumps(said)
        self._do("hset", _PROCESSES, field, value)

    def acknowledgements(self) -> list[Acknowledgement]:
        """The last one of each process of each node; who was last heard a day before the latest is forgotten."""
        found = {field: _acknowledgement(field, value) for field, value in self._fields(_PROCESSES).items()}
        latest = max((one.at for one in found.values() if one), default=0.0)
        old = [field for field, one in found.items() if one is None or one.at < latest - _FORGET_S]
        if old:
            self._do("hdel", _PROCESSES, *old)
        kept = [one for field, one in found.items() if one is not None and field not in old]
        return sorted(kept, key=lambda one: (one.node, one.process))

    def doubts(self) -> list[str]:
        """Why Redis may lose what is published."""

        def ask(client: Any) -> list[str]:
            return doubts(client.info("memory"), client.info("persistence"))

        try:
            return self._ask(ask)
        except UnavailableError:
            return ["whether Redis keeps the policies can't be seen: its user may not ask INFO"]

    def close(self) -> None:
        """Close the connections; the next use opens them again."""
        self._nodes.close()

    def _read_head(self) -> tuple[bytes, VersionInfo | None]:
        text = self._do("get", _HEAD)
        return (b"", None) if text is None else (text, self._seal.read(text))

    def _numbered(self, number: int, stored: bytes) -> VersionInfo:
        info = self._seal.read(stored)
        if info.number != number:
            raise DamagedError(f"version {number}: another one lies in its place")
        return info

    def _numbers(self) -> list[int]:
        fields = self._names(_VERSIONS)
        if not all(field.isdigit() and len(field) < 19 for field in fields):
            raise DamagedError("a version in Redis has no number")
        return [int(field) for field in fields]

    def _hashes(self, info: VersionInfo) -> dict[str, bytes]:
        """The newest index, with all versions after `info` undone; read anew if somebody publishes meanwhile."""
        index: dict[str, bytes] = {}
        for _ in range(_TRIES):
            head = self.latest()
            if head is None:
                break
            index = _index(self._fields(_INDEX))
            if digest_of(index) == head.digest:
                break
        for number in sorted((n for n in self._numbers() if n > info.number), reverse=True):
            for tenant, hashed in self._fields(_undo(number)).items():
                index.pop(tenant_text(tenant), None)
                index |= _index({tenant: hashed} if hashed else {})
        return index

    def _fields(self, key: str) -> dict[bytes, bytes]:
        """A whole hash, in pages."""
        out: dict[bytes, bytes] = {}
        cursor: int = 0
        while True:
            cursor, page = self._do("hscan", key, cursor, count=_SCAN)
            out.update(page)
            if not cursor:
                return out

    def _names(self, key: str) -> set[bytes]:
        """The fields of a hash without their values, in pages."""
        out: set[bytes] = set()
        cursor: bytes | int = 0
        while True:
            cursor, page = self._run(self._names_script, [key], [int(cursor), _SCAN])
            out.update(page)
            if not int(cursor):
                return out

    def _do(self, command: str, *args: object, **options: object) -> Any:
        return self._ask(lambda client: getattr(client, command)(*args, **options))

    def _run(self, script: Any, keys: Sequence[str], args: Sequence[bytes | int]) -> Any:
        return self._ask(lambda client: script(keys=keys, args=args, client=client))

    def _ask(self, call: Callable[[Any], T]) -> T:
        try:
            return self._nodes.ask(_HEAD, call)
        except (redis.RedisError, OSError) as error:
            raise UnavailableError(f"policy store: Redis {_reason(error)}") from None


_REASONS: Final[Mapping[type[Exception], str]] = {
    redis.exceptions.AuthenticationError: "refuses the user name or the password",
    redis.exceptions.NoPermissionError: "gives its user too few rights; `tenantgate redis check` says which",
    redis.exceptions.OutOfMemoryError: "is full",
    redis.exceptions.TimeoutError: "gives no answer in time",
    redis.exceptions.ConnectionError: "can't be reached",
}


def _reason(error: Exception) -> str:
    """By kind alone: Redis's messages may hold what the command was given."""
    found = (text for kind, text in _REASONS.items() if isinstance(error, kind))
    return next(found, f"refuses a command ({type(error).__name__})")


def _index(fields: Mapping[bytes, bytes]) -> dict[str, bytes]:
    try:
        return {tenant_text(tenant): bytes.fromhex(hashed.decode()) for tenant, hashed in fields.items()}
    except ValueError:
        raise DamagedError("the index in Redis can't be read") from None


def _acknowledgement(field: bytes, value: bytes) -> Acknowledgement | None:
    with suppress(ValueError, TypeError, RecursionError):
        (node, process), (version, at, *more) = json.loads(field), json.loads(value)
        if isinstance(node, str) and isinstance(process, str):
            unreadable = tuple(str(tenant) for tenant in more[0]) if more else ()
            return Acknowledgement(node, process, int(version), float(at), unreadable)
    return None


def _script(name: str) -> str:
    return resources.files("tenantgate.policy").joinpath("redis_scripts", f"{name}.lua").read_text("utf-8")
