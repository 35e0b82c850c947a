"""Mirrors the platform's limits into the policies.

Two steps, which don't need each other. A pull asks the platform, and keeps a list that it has read whole; whatever goes
wrong leaves the last good one. Laying over takes the copy that there is, with its age, and publishes the records that
come out otherwise. So a tenant that an apply has just added gets its limits, and an old copy is tightened, also while
the platform is down.
"""

from __future__ import annotations

import dataclasses
import enum
import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from tenantgate.errors import ConfigError, EdgeError
from tenantgate.platform.client import Client, Listing, PlatformError, Unchanged
from tenantgate.platform.entries import EntryError, overlay_for
from tenantgate.platform.last_good import Copy, CopyFile
from tenantgate.policy.core.overlay import Overlay, overlaid, overlay_of
from tenantgate.policy.core.ports import (
    ConflictError,
    PolicyStore,
    PublishNote,
    VersionInfo,
    content_hash,
    least_number,
    pages,
)
from tenantgate.policy.core.records import CATALOG, read_record, write_record
from tenantgate.telemetry import logs, metrics
from tenantgate.tenant import TenantId

if TYPE_CHECKING:
    from tenantgate.platform.config import Platform

__all__ = ["Laid", "Mirror", "Pulled"]

_log: Final = logging.getLogger("tenantgate.platform")
_AUTHOR: Final = "tenantgate platform"
_TRIES: Final = 3  # where somebody else publishes meanwhile
_NAMED: Final = 20  # tenants in one log line

_up: Final = metrics.gauge(
    "tenantgate_platform_up", "1 while the platform answers with a list that can be used."
)
_age: Final = metrics.gauge(
    "tenantgate_platform_age_seconds", "Seconds since the platform last confirmed the copy of its limits."
)
_version: Final = metrics.gauge(
    "tenantgate_platform_version", "Version of the copy of the platform's limits."
)
_stale: Final = metrics.gauge("tenantgate_platform_stale", "1 while the copy is older than max_age_s.")
_refused: Final = metrics.gauge(
    "tenantgate_platform_refused_tenants", "Tenants whose entry can't be used; their last good one holds."
)
_unknown: Final = metrics.gauge(
    "tenantgate_platform_unknown_tenants", "Tenants of the platform that tenants.yaml hasn't."
)
_pulls: Final = metrics.counter("tenantgate_platform_pulls_total", "Looks at the platform.", ("outcome",))


class Pulled(enum.StrEnum):
    """What came of a look at the platform."""

    CHANGED = "changed"
    UNCHANGED = "unchanged"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Laid:
    """What laying over has come to.

    Attributes:
        changes: the records that come out otherwise, by tenant id.
        version: of the policies that has them; None where nothing had to be published.
        refused: problems of entries, by tenant id.
        unknown: tenants of the platform that the policies don't have.
        unlisted: how many tenants the platform hasn't; tenants.yaml's limits hold for them.
    """

    changes: Mapping[str, bytes] = field(default_factory=dict)
    version: int | None = None
    refused: Mapping[str, str] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()
    unlisted: int = 0


class Mirror:
    """The mirror of one platform; used by one thread.

    Args:
        settings: the section ``platform`` of ``gateway``.
        client: asks the platform.
        file: the last good copy.
        store: of the policies.
        receivers: names of the receivers of alerts that budgets may name.
        now: Unix time in seconds.

    A copy that can't be read is none: what is in force stays so until the platform answers.
    """

    def __init__(
        self,
        settings: Platform,
        client: Client,
        file: CopyFile,
        store: PolicyStore,
        *,
        receivers: Collection[str] = (),
        now: Callable[[], float] = time.time,
    ) -> None:
        self._settings, self._client, self._file, self._store = settings, client, file, store
        self._receivers = receivers
        self._now = now
        self.copy: Copy | None = None
        try:
            self.copy = file.read()
        except EdgeError as error:
            logs.event(
                _log,
                logging.ERROR,
                "the last good copy can't be read: what is in force stays so",
                **logs.describe(error),
            )
        self._failing = ""
        self._told: tuple[object, ...] = ()
        self._laid: tuple[tuple[object, ...], Laid] | None = None
        # By tenant a record's hash, the entry and whether it was old: such a record is as the entry has it.
        self._right: dict[str, tuple[bytes, Mapping[str, Any] | None, bool]] = {}

    @property
    def stale(self) -> bool:
        """Whether the copy is older than ``max_age_s``."""
        return self.copy is not None and self.copy.age_s(self._now()) > self._settings.max_age_s

    def update_gauges(self) -> None:
        """Set what changes with time."""
        if self.copy is not None:
            _age.set(round(self.copy.age_s(self._now()), 3))
            _version.set(self.copy.version)
        _stale.set(int(self.stale))

    # -- from the platform --------------------------------------------------------------------------------

    def step(self) -> float:
        """Pull and lay over; seconds until the next time. A pull that fails is logged, once until it works again.

        Raises:
            EdgeError, DamagedError: the store fails.
        """
        wait_s = float(self._settings.poll_s)
        try:
            self.pull()
        except (
            EdgeError
        ) as error:  # the platform's, or the disk's: what is in memory is laid over all the same
            wait_s = max(wait_s, error.after_s if isinstance(error, PlatformError) else 0.0)
            self._fails(error)
        self.lay_over()
        self.update_gauges()
        return wait_s

    def pull(self, *, accept_older: bool = False) -> Pulled:
        """Ask the platform, and keep what it says.

        Args:
            accept_older: whether a list with a lower version than the copy's is taken, as after a restore.

        Raises:
            PlatformError: it can't be asked, or its list can't be used: the copy stays.
            EdgeError: the copy can't be written.
        """
        copy = self.copy if self.copy is not None and self.copy.url == self._settings.url else None
        try:
            found = self._asked(None if accept_older else copy)
        except PlatformError:
            _up.set(0)
            _pulls.inc(outcome=Pulled.FAILED.value)
            raise
        now = self._now()
        if found is None:
            if copy is None:
                raise PlatformError("platform: answers 304 to a request without If-None-Match")
            return self._confirmed(copy, now)
        if copy is not None and dict(found.entries) == dict(copy.entries) and found.version == copy.version:
            return self._confirmed(dataclasses.replace(copy, etag=found.etag), now)
        self.copy = Copy(
            url=self._settings.url or "",
            etag=found.etag,
            version=found.version,
            fetched_at=now,
            confirmed_at=now,
            entries=found.entries,
        )
        self._file.write(self.copy)
        self._works(Pulled.CHANGED)
        logs.event(
            _log,
            logging.INFO,
            "the platform's limits were pulled",
            version=found.version,
            tenants=len(found.entries),
        )
        return Pulled.CHANGED

    def _asked(self, copy: Copy | None) -> Listing | None:
        """The platform's list; None where it is the copy's."""
        found = self._client.tenants("" if copy is None else copy.etag)
        if isinstance(found, Unchanged):
            return None
        if copy is not None and found.version < copy.version:
            raise PlatformError(
                f"platform: its list has version {found.version}, after {copy.version}; if it was restored, "
                "`tenantgate platform pull --accept-older` takes it"
            )
        return found

    def _confirmed(self, copy: Copy, now: float) -> Pulled:
        self.copy = dataclasses.replace(copy, confirmed_at=now)
        self._file.confirm(self.copy)
        self._works(Pulled.UNCHANGED)
        return Pulled.UNCHANGED

    def _works(self, pulled: Pulled) -> None:
        _up.set(1)
        _pulls.inc(outcome=pulled.value)
        if self._failing:
            self._failing = ""
            logs.event(_log, logging.INFO, "the platform answers again")

    def _fails(self, error: EdgeError) -> None:
        if str(error) != self._failing:
            self._failing = str(error)
            logs.event(
                _log,
                logging.WARNING,
                "pulling the platform's limits fails: the last good copy holds",
                **logs.describe(error),
            )

    # -- into the policies --------------------------------------------------------------------------------

    def lay_over(self, *, publish: bool = True) -> Laid:
        """Bring the copy into the policies.

        Args:
            publish: whether to; else only say what would change.

        Raises:
            EdgeError, DamagedError: the store fails.
        """
        if self.copy is None:
            return Laid()
        for _ in range(_TRIES):
            head = self._store.latest()
            if head is None:
                return Laid()  # nothing was applied yet
            state = self._state(head, self.copy)
            if self._laid is not None and self._laid[0] == state:
                return self._laid[1]
            laid = self._changes(head, self.copy)
            if not publish:
                return laid
            try:
                laid = self._publish(head, laid, self.copy)
            except ConflictError:
                continue
            self._tell(laid)
            after = head if laid.version is None else self._store.latest()
            if after is not None and after.number == (laid.version or head.number):
                done = dataclasses.replace(laid, changes={}, version=None)
                self._laid = self._state(after, self.copy), done
            return laid
        raise EdgeError("platform: somebody else publishes policies time and again; they are laid over later")

    def _state(self, head: VersionInfo, copy: Copy) -> tuple[object, ...]:
        """All that laying over depends on."""
        return head.number, head.digest, copy.version, copy.fetched_at, self.stale

    def _changes(self, head: VersionInfo, copy: Copy) -> Laid:
        index = self._store.index(head.number)
        changes: dict[str, bytes] = {}
        refused: dict[str, str] = {}
        stale = self.stale
        tenants = sorted(index.keys() - {CATALOG})
        looked = [t for t in tenants if self._right.get(t) != (index[t], copy.entries.get(t), stale)]
        for page in pages(looked):
            contents = self._store.contents({index[tenant] for tenant in page})
            for tenant in page:
                raw, entry = contents.get(index[tenant]), copy.entries.get(tenant)
                if raw is None:
                    continue  # lost; an apply publishes it again
                made = self._record(tenant, raw, entry, refused)
                if made is not None and made != raw:
                    changes[tenant] = made
                if made is not None and tenant not in refused:
                    self._right[tenant] = content_hash(made), entry, stale
        for gone in self._right.keys() - index.keys():
            del self._right[gone]
        return Laid(
            changes=changes,
            refused=refused,
            unknown=tuple(sorted(copy.entries.keys() - index.keys())),
            unlisted=len(set(tenants) - copy.entries.keys()),
        )

    def _record(
        self, tenant: str, raw: bytes, entry: Mapping[str, Any] | None, refused: dict[str, str]
    ) -> bytes | None:
        """The tenant's record with its entry; None where it can't be read."""
        try:
            policy = read_record(tenant, raw)
        except ConfigError:
            return None  # of another version of the product
        if entry is None:
            return write_record(overlaid(policy, None))
        try:
            overlay = overlay_for(entry, policy, receivers=self._receivers)
        except EntryError as error:
            refused[tenant] = str(error)
            before = overlay_of(policy) or Overlay()
            enabled = before.enabled if error.enabled is None else error.enabled
            overlay = dataclasses.replace(before, enabled=enabled)
        return write_record(overlaid(policy, self._aged(overlay)))

    def _aged(self, overlay: Overlay) -> Overlay:
        tighten = self.stale and self._settings.on_stale == "tighten"
        return dataclasses.replace(
            overlay,
            part=float(self._settings.tighten_to) if tighten else 1.0,
            closed=self.stale and self._settings.on_stale == "closed",
        )

    def _publish(self, head: VersionInfo, laid: Laid, copy: Copy) -> Laid:
        if not laid.changes:
            return laid
        message = f"the platform's version {copy.version}"
        if self.stale and self._settings.on_stale != "keep":
            message += f", too old: {self._settings.on_stale}"
        note = PublishNote(author=_AUTHOR, message=message, at=self._now())
        version = self._store.publish(
            laid.changes, expected=head.number, note=note, least=least_number(self._store)
        )
        logs.event(
            _log, logging.INFO, "policies published", version=version, records=len(laid.changes), why=message
        )
        return dataclasses.replace(laid, version=version)

    def _tell(self, laid: Laid) -> None:
        """Log what can't be brought into force, when it is something else than the last time."""
        _refused.set(len(laid.refused))
        _unknown.set(len(laid.unknown))
        now = (tuple(sorted(laid.refused.items())), laid.unknown)
        if now == self._told:
            return
        self._told = now
        for tenant, problem in list(laid.refused.items())[:_NAMED]:
            logs.event(
                _log,
                logging.ERROR,
                "the platform's entry can't be used: the tenant's last good one holds",
                tenant=TenantId(tenant).slug,
                problem=problem,
            )
        if laid.unknown:
            named = _slugs(laid.unknown[:_NAMED])
            logs.event(
                _log,
                logging.WARNING,
                "the platform has tenants that tenants.yaml hasn't",
                tenants=named,
                count=len(laid.unknown),
            )


def _slugs(tenants: Iterable[str]) -> list[str]:
    return [TenantId(tenant).slug for tenant in tenants]
