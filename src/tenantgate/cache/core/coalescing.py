"""Coalescing: of equal requests in flight at once, one asks the provider, and the others wait for its answer.

Equal are requests with the same entry's name: of one tenant, in one partition, with the same last message. The first of
them that misses takes the entry's *lease* and leads. Those that find the lease wait until the leader lets go of it, or
the lease ends, and then look for the entry. So what a follower gets is what any later request would get, by the same
checks: an answer of the provider that was admitted to the cache. Where there is none (the leader failed, its reply was
refused or isn't for the cache, or it takes too long) each follower asks the provider by itself.

A lease only says when to look. It holds a random token and a keyed digest of that, so that nobody without the tenant's
key can have requests wait.
"""

from __future__ import annotations

import enum
import re
import threading
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from tenantgate.cache.core.cache_control import Status
from tenantgate.cache.core.entry import opened
from tenantgate.cache.core.outcome import Hit, Level
from tenantgate.cache.core.partition import encode
from tenantgate.cache.core.ports import LeaseWish, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from tenantgate.cache.core.lookup import Resources
    from tenantgate.cache.core.outcome import Miss
    from tenantgate.cache.core.partition import Keys
    from tenantgate.cache.core.ports import Leased, Sealer
    from tenantgate.cache.core.question import Question

__all__ = ["Flight", "Leases", "Role", "Seats", "joins", "lease_value", "token_of", "wish_of"]

_TOKEN: Final = re.compile(r"[0-9a-f]{32}")


class Role(enum.StrEnum):
    """What coalescing came to for a request that missed."""

    LED = "led"
    """It asks the provider, and others may wait for it."""
    SERVED = "served"
    """It got the answer of a request that led."""
    IN_VAIN = "in_vain"
    """It waited, and there was no answer for it."""
    CROWDED = "crowded"
    """It didn't wait: as many as may wait already did, or there was no time."""
    APART = "apart"
    """It neither waits nor is waited for: Redis failed, the guard says no, or somebody else wrote the lease."""


class Leases(Protocol):
    """The leases of entries: one for each, of one request at a time, that end by themselves."""

    def lease(self, keys: Keys, name: str, wish: LeaseWish) -> Leased:
        """Take the lease of the entry `name`, or say why not; one round trip.

        Raises:
            UnavailableError: the store failed, refused or wasn't asked.
        """

    def wait(self, keys: Keys, token: str, wait_ms: int) -> None:
        """Return when the lease with this token was let go of, or after that many milliseconds.

        Raises:
            UnavailableError: the store failed.
        """


@dataclass(frozen=True, slots=True)
class Flight:
    """A request's part: the answer where it is `SERVED`, the token of its lease where it `LED`."""

    role: Role
    hit: Hit | None = None
    token: str | None = None


class Seats:
    """How many may wait at once: `each` of one tenant, `most` of all; thread-safe.

    A request that waits occupies a thread, so neither may be many.
    """

    def __init__(self, each: int, most: int) -> None:
        self._each, self._most = each, most
        self._taken: Counter[str] = Counter()
        self._lock = threading.Lock()

    def take(self, tenant: str) -> bool:
        """Take a seat; False: there is none."""
        with self._lock:
            if self._taken[tenant] >= self._each or self._taken.total() >= self._most:
                return False
            self._taken[tenant] += 1
            return True

    def leave(self, tenant: str) -> None:
        """Give it back."""
        with self._lock:
            self._taken[tenant] -= 1
            if self._taken[tenant] <= 0:
                del self._taken[tenant]


def lease_value(sealer: Sealer, name: str, token: str) -> str:
    """What the lease of an entry holds: the token, and a digest that only the tenant's key makes."""
    return token + sealer.name(b"lease" + encode([name.encode(), token.encode()]))


def token_of(sealer: Sealer, name: str, value: bytes) -> str | None:
    """The token in a lease; None where the tenant's key didn't make it for this entry."""
    text = value.decode("ascii", "replace")
    token = text[:32]
    return token if _TOKEN.fullmatch(token) and text == lease_value(sealer, name, token) else None


def wish_of(
    question: Question, sealer: Sealer, token: str, *, life_ms: int, stale_s: int
) -> LeaseWish | None:
    """The lease that a request wants, if the client would take an equal request's answer.

    Args:
        question: what is asked.
        sealer: its tenant's.
        token: a new random one, 32 hexadecimal digits.
        life_ms: of the lease, which is also the longest wait.
        stale_s: as in `LeaseWish`.
    """
    if question.control.no_cache or question.control.only_if_cached:
        return None
    return LeaseWish(token, lease_value(sealer, question.name, token), life_ms, stale_s)


def joins(
    question: Question,
    miss: Miss,
    using: Resources,
    leases: Leases,
    leased: Leased | None,
    *,
    seats: Seats,
    waiting: Callable[[], AbstractContextManager[float]],
) -> Flight:
    """The part of a request that missed: it leads, waits for one that does, or goes apart.

    Args:
        question: what is asked.
        miss: the lookup's decision.
        using: as for the lookup.
        leases: where leases are.
        leased: what the lookup has found of the lease that is wished, if it asked.
        seats: those of the process.
        waiting: makes the block in which the request waits; that gives how many milliseconds it may.
    """
    keys, name, wish = question.keys, question.name, using.wish
    if wish is None or not using.guard_passed():
        return Flight(Role.APART)
    try:
        held = (leased or leases.lease(keys, name, wish)).held
        if held is None:
            return Flight(Role.LED, token=wish.token)
        if miss.refresh or miss.comparison is not None:  # another's answer won't do
            return Flight(Role.APART)
        if held.entry is not None:
            return _served(question, using, held.entry)
        leader = token_of(using.sealer, name, held.value)
        if leader is None:
            return Flight(Role.APART)
        tenant = keys.tenant.slug
        if not seats.take(tenant):
            return Flight(Role.CROWDED)
        try:
            with waiting() as most_ms:
                wait_ms = int(min(held.left_ms, wish.life_ms, most_ms))
                if wait_ms <= 0:
                    return Flight(Role.CROWDED)
                leases.wait(keys, leader, wait_ms)
        finally:
            seats.leave(tenant)
        return _served(question, using, using.store.get(keys, name))
    except UnavailableError:
        return Flight(Role.APART)


def _served(question: Question, using: Resources, sealed: bytes | None) -> Flight:
    entry = opened(using.sealer, question.keys.entry(question.name), sealed)
    if entry is None or not question.accepts(entry, using.now):
        return Flight(Role.IN_VAIN)
    return Flight(Role.SERVED, Hit(question.name, entry, Level.COALESCED, status=Status.COALESCED))
