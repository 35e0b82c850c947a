"""Port of the policy directory's stores: numbered versions of one record for each tenant.

A record is bytes, addressed by its SHA-256, so a version takes room for what it changes alone. A version's index
says which tenant has which record; its digest stands for the whole version. Version 0 is the empty directory.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final, TypeVar

from tenantgate.errors import ConfigError, EdgeError, TenantgateError
from tenantgate.tenant import TenantId

__all__ = [
    "PAGE",
    "RECORD_BYTES",
    "UNREADABLE",
    "Acknowledgement",
    "ConflictError",
    "DamagedError",
    "PolicyStore",
    "PublishNote",
    "UnavailableError",
    "UnknownVersionError",
    "VersionInfo",
    "content_hash",
    "difference",
    "digest_of",
    "least_number",
    "pages",
    "roll_back",
    "successor",
    "tenant_bytes",
    "tenant_text",
    "tenants_of",
]

T = TypeVar("T")

PAGE: Final = 100
"""Records in one answer or one write, of at most `RECORD_BYTES` each."""
RECORD_BYTES: Final = 1 << 20
UNREADABLE: Final = 100
"""Tenants that one acknowledgement names."""
_TENANT_BYTES: Final = 4096
_TEXT: Final = 2000  # characters of an author or a message


class ConflictError(TenantgateError):
    """Somebody else has published meanwhile: the newest version isn't the expected one."""

    def __init__(self, expected: int, head: int) -> None:
        super().__init__(f"the newest version is {head}, not {expected}: somebody else has published")
        self.head = head


class UnknownVersionError(TenantgateError):
    """The store has no such version, or no longer."""

    def __init__(self, version: int) -> None:
        super().__init__(f"there is no version {version}, or no longer")


class DamagedError(TenantgateError):
    """What is stored isn't what was published; the message names the tenant or the version, never content."""


class UnavailableError(EdgeError):
    """The store can't be reached, read or written."""


@dataclass(frozen=True, slots=True)
class PublishNote:
    """Who publishes, why (2,000 characters at most each), and when (Unix time in seconds).

    Raises:
        ConfigError: a text is too long, or isn't Unicode text without NUL.
    """

    author: str
    message: str
    at: float

    def __post_init__(self) -> None:
        for name, text in (("author", self.author), ("message", self.message)):
            if len(text) > _TEXT or "\0" in text or any("\ud800" <= c <= "\udfff" for c in text):
                raise ConfigError(f"{name}: must be text of at most {_TEXT} characters, without NUL")


@dataclass(frozen=True, slots=True)
class VersionInfo:
    """A version: its number from 1, when it was published (Unix time in seconds), by whom and why.

    Attributes:
        changed: how many tenants' records differ from the version before.
        digest: SHA-256 of the whole version (`digest_of`), 32 bytes.
    """

    number: int
    at: float
    author: str
    message: str
    changed: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """The version that a process of a node goes by, and when it last said so (Unix time in seconds).

    Attributes:
        unreadable: ids of tenants whose newest record this process can't read, `UNREADABLE` at most.
    """

    node: str
    process: str
    version: int
    at: float
    unreadable: tuple[str, ...] = ()


class PolicyStore(ABC):
    """Versions of the policy directory; thread-safe.

    All methods raise `UnavailableError` if the store fails, and those that read `DamagedError` if what is stored isn't
    what was published. Versions' numbers grow, and may leave numbers out.
    """

    # -- versions

    @abstractmethod
    def latest(self) -> VersionInfo | None:
        """The newest version; None if there is none. One round trip."""

    @abstractmethod
    def version(self, number: int) -> VersionInfo | None:
        """A version that is kept, or None."""

    @abstractmethod
    def history(self, limit: int = 20) -> list[VersionInfo]:
        """The newest versions, the newest first."""

    @abstractmethod
    def prune(self, keep: int) -> int:
        """Forget all versions but the newest `keep` (at least 1), and records of no version; how many went."""

    def head(self) -> int:
        """The number of the newest version, 0 if there is none."""
        info = self.latest()
        return info.number if info else 0

    def publish(
        self, changes: Mapping[str, bytes | None], *, expected: int, note: PublishNote, least: int = 1
    ) -> int:
        """Make a new version of the newest one and `changes`: records by tenant id, None to remove one; atomic.

        A record that is as it was is no change, but is stored anew if it was damaged. `expected` is the newest version
        that the caller knows. The number is the next one, or `least` if that is higher: for a store that was emptied,
        whose readers go by a version with a higher number.

        Raises:
            ConflictError: the newest version isn't `expected`.
            ConfigError: a tenant id is empty, or a tenant id (4 KiB) or a record (1 MiB) is too long.
        """
        for tenant, body in changes.items():
            if not tenant or len(tenant_bytes(tenant)) > _TENANT_BYTES:
                raise ConfigError(f"tenant id: must have 1 to {_TENANT_BYTES} bytes")
            if body is not None and len(body) > RECORD_BYTES:
                raise ConfigError(f"tenant {TenantId(tenant).slug}: the record has over {RECORD_BYTES} bytes")
        hashes = {tenant: None if body is None else content_hash(body) for tenant, body in changes.items()}
        bodies = {
            hashed: body
            for tenant, body in changes.items()
            if body is not None and (hashed := hashes[tenant])
        }
        return self._publish(hashes, bodies, expected=expected, note=note, least=least)

    @abstractmethod
    def _publish(
        self,
        changes: Mapping[str, bytes | None],
        bodies: Mapping[bytes, bytes],
        *,
        expected: int,
        note: PublishNote,
        least: int,
    ) -> int:
        """As `publish`, with the records' hashes by tenant, and the records by hash."""

    # -- records

    def index(self, version: int | None = None) -> dict[str, bytes]:
        """The SHA-256 of each tenant's record, of a version (None: the newest), checked against its digest.

        Raises:
            UnknownVersionError: there is no such version.
        """
        return self._index_of(self._info(version))

    def record(self, tenant: str, version: int | None = None) -> bytes | None:
        """A tenant's record of a version (None: the newest); None if the tenant isn't in it.

        Raises:
            UnknownVersionError: there is no such version.
        """
        info = self._info(version)
        hashed = self._hash(tenant, info) if info else None
        if info is None or hashed is None:
            return None
        return self._checked(tenant, hashed, self.contents([hashed]), info)

    def records(
        self, version: int | None = None, *, only: Collection[str] | None = None
    ) -> Iterator[tuple[str, bytes]]:
        """All tenants' records of a version (None: the newest), or of `only` these tenants, by tenant id.

        Raises:
            UnknownVersionError: there is no such version.
        """
        info = self._info(version)
        if info is None:
            return
        index = self._index_of(info)
        wanted = sorted(index if only is None else index.keys() & set(only), key=tenant_bytes)
        for page in pages(wanted):
            found = self.contents({index[tenant] for tenant in page})
            for tenant in page:
                yield tenant, self._checked(tenant, index[tenant], found, info)

    def changes(self, since: int, to: int | None = None) -> set[str]:
        """The tenants whose records differ between two versions (None: the newest).

        Raises:
            UnknownVersionError: there is no such version.
        """
        return set(difference(self.index(since), self.index(to)))

    @abstractmethod
    def contents(self, hashes: Collection[bytes]) -> dict[bytes, bytes]:
        """Records by SHA-256: those that are there and whole."""

    @abstractmethod
    def _hashes(self, info: VersionInfo) -> dict[str, bytes]:
        """The index of a version, unchecked."""

    def _hash(self, tenant: str, info: VersionInfo) -> bytes | None:
        return self._index_of(info).get(tenant)

    def _info(self, version: int | None) -> VersionInfo | None:
        if version is None:
            return self.latest()
        if version == 0:
            return None
        info = self.version(version)
        if info is None:
            raise UnknownVersionError(version)
        return info

    def _index_of(self, info: VersionInfo | None) -> dict[str, bytes]:
        if info is None:
            return {}
        index = self._hashes(info)
        if digest_of(index) != info.digest:
            self._still_there(info)
            raise DamagedError(f"version {info.number}: the index isn't the published one")
        return index

    def _checked(self, tenant: str, hashed: bytes, found: Mapping[bytes, bytes], info: VersionInfo) -> bytes:
        body = found.get(hashed)
        if body is None:
            self._still_there(info)
            raise DamagedError(f"tenant {TenantId(tenant).slug}: the record isn't the published one")
        return body

    def _still_there(self, info: VersionInfo) -> None:
        if self.version(info.number) is None:  # pruned while it was read
            raise UnknownVersionError(info.number)

    # -- nodes

    @abstractmethod
    def acknowledge(
        self, node: str, process: str, version: int, at: float, unreadable: Sequence[str] = ()
    ) -> None:
        """Note that a process of a node goes by `version` at the Unix time `at`, in seconds, but for these tenants."""

    @abstractmethod
    def acknowledgements(self) -> list[Acknowledgement]:
        """The last one of each process of each node, also of dead ones, but for those not heard for a day."""

    def wait(self, seconds: float) -> bool:
        """Wait for a new version, so long at most; False at once if this store doesn't tell."""
        del seconds
        return False

    def doubts(self) -> list[str]:
        """Why this store may lose what is published, and what helps; for the operator."""
        return []

    @abstractmethod
    def close(self) -> None:
        """Close files or connections; the next use opens them again."""


def least_number(store: PolicyStore) -> int:
    """The least number of a new version that each node takes: above all that nodes have (a store may have lost it)."""
    return 1 + max((a.version for a in store.acknowledgements()), default=0)


def roll_back(store: PolicyStore, version: int, *, expected: int, note: PublishNote) -> int:
    """Publish the contents of an earlier version as a new one; its number.

    Raises:
        ConflictError: the newest version isn't `expected`.
        UnknownVersionError: there is no such version.
        DamagedError: a record of it isn't whole any more; nothing was published.
    """
    changed = difference(store.index(expected), store.index(version))
    back: dict[str, bytes | None] = dict.fromkeys(changed)
    back.update(store.records(version, only=changed))
    return store.publish(back, expected=expected, note=note, least=least_number(store))


def content_hash(body: bytes) -> bytes:
    """The SHA-256 that a record is addressed by."""
    return hashlib.sha256(body).digest()


def tenant_bytes(tenant: str) -> bytes:
    """A tenant id as it is stored: any text, also one that is no valid Unicode."""
    return tenant.encode("utf-8", "surrogatepass")


def tenant_text(stored: bytes) -> str:
    """The tenant id that is stored so."""
    return stored.decode("utf-8", "surrogatepass")


def tenants_of(stored: object) -> tuple[str, ...]:
    """The tenant ids in the JSON text of a list; none where it is something else."""
    try:
        found = json.loads(stored) if isinstance(stored, str) else None
    except (ValueError, RecursionError):
        return ()
    return tuple(str(each) for each in found) if isinstance(found, list) else ()


def digest_of(index: Mapping[str, bytes]) -> bytes:
    """SHA-256 of a whole version: of all tenants' ids and records, whatever their order."""
    lines = sorted(hashlib.sha256(tenant_bytes(tenant)).digest() + hashed for tenant, hashed in index.items())
    return hashlib.sha256(b"".join(lines)).digest()


def difference(old: Mapping[str, bytes], new: Mapping[str, bytes]) -> dict[str, bytes | None]:
    """What makes the index `new` of `old`: hashes by tenant, None for one that is gone."""
    out: dict[str, bytes | None] = {
        tenant: hashed for tenant, hashed in new.items() if old.get(tenant) != hashed
    }
    return out | dict.fromkeys(old.keys() - new.keys())


def successor(
    index: Mapping[str, bytes],
    changes: Mapping[str, bytes | None],
    *,
    head: int,
    note: PublishNote,
    least: int,
) -> tuple[VersionInfo, dict[str, bytes | None]]:
    """The version after `head` with its index, and what really changes."""
    new = {**index, **{tenant: hashed for tenant, hashed in changes.items() if hashed is not None}}
    for tenant, hashed in changes.items():
        if hashed is None:
            new.pop(tenant, None)
    delta = difference(index, new)
    number = max(head + 1, least)
    return VersionInfo(number, note.at, note.author, note.message, len(delta), digest_of(new)), delta


def pages(items: Collection[T], size: int = PAGE) -> Iterator[list[T]]:
    """The items in lists of `size`, the last one shorter."""
    rest = iter(items)
    while page := list(islice(rest, size)):
        yield page
