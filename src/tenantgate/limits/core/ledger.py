"""The reservations of requests: what is asked of the store, and what it answers.

One `reserve` a request counts it for all rules or for none, in one round trip; one `settle` puts what was used in the
place of what was held. Both are idempotent by the request's id.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from tenantgate.errors import EdgeError
from tenantgate.limits.core.rules import Counted, OnTight, Reserve, Window
from tenantgate.tenant import TenantId

__all__ = [
    "AMOUNT_MAX",
    "LIFETIME_MAX_MS",
    "TOKENS_MAX",
    "Certainty",
    "Claim",
    "Ledger",
    "NotCountedError",
    "Refused",
    "Reservation",
    "Reserved",
    "Room",
    "Settlement",
    "Uncertain",
    "Used",
]

AMOUNT_MAX: Final = 2**53
"""What Redis' Lua counts exactly; larger amounts count as this much."""
TOKENS_MAX: Final = 10**9
"""Of a reply; more count as this many."""
LIFETIME_MAX_MS: Final = 3_600_000
"""Longest life of a reservation: whatever happens to a clock, nothing is held for longer."""


class NotCountedError(EdgeError):
    """The request could not be counted.

    Attributes:
        maybe: whether the store may have counted it all the same: it was asked, and its answer didn't come.
    """

    def __init__(self, message: str, *, maybe: bool = False) -> None:
        super().__init__(message)
        self.maybe = maybe


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What a request asks of one rule's counter."""

    counter: str
    """Name of the counter within the tenant: rule and subject (`tenantgate.limits.core.keys`)."""
    counted: Counted
    most: int
    window: Window
    fixed: int
    """What the request takes whatever the reply: 1 request, the prompt's tokens, their price."""
    per_million: int = 0
    """What a million tokens of the reply take, so that n take ceil(n × per_million / 10⁶); 10⁶ for tokens."""
    reserve: Reserve = Reserve.WORST
    on_tight: OnTight = OnTight.REFUSE
    min_tokens: int = 0
    shadow: bool = False
    """Counted like others; never refuses, and never shrinks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """What one request asks for."""

    tenant: TenantId
    id: str
    """The request's; the same id again gets the same answer."""
    claims: tuple[Claim, ...]
    worst_tokens: int
    """Most tokens that the reply may have."""
    expected_tokens: int
    """Tokens that it probably has; at most `worst_tokens`."""
    lifetime_ms: int
    """After this the reservation is charged as uncertain; at most `LIFETIME_MAX_MS`."""
    replaces: tuple[Claim, ...] = ()
    """Claims of an earlier reservation with the same id in whose place it stands, as after a change of the model. They
    are given back in the same call; if the answer is a refusal, the earlier one stands."""
    replaces_ms: int = 0
    """`Reserved.now_ms` of that one."""
    final: bool = False
    """Whether nobody settles it: what is asked counts for good, and the store keeps nothing by its id."""


class Uncertain(NamedTuple):
    """What is charged and may not have been spent, by its cause."""

    expired: int = 0
    """Of requests whose end never came."""
    leases: int = 0
    """Of leases that nobody gave back."""
    cut: int = 0
    """Of streams that broke off, beyond what was seen of them."""
    unknown: int = 0
    """Of what a provider may have done, and hasn't said."""


_ALL_KNOWN: Final = Uncertain()


@dataclass(frozen=True, slots=True)
class Room:
    """A counter after an answer, in the order of the claims."""

    used: int
    held: int
    """By reservations that aren't settled, this one included. 0 in sliding windows, where all counts as used."""
    most: int
    """With raises."""
    reset_ms: int
    """Unix time by Redis' clock at which the window ends. Of a sliding one, when the claim passes, if it was refused;
    else when there is more room; 0 where nothing is counted."""
    uncertain: Uncertain = _ALL_KNOWN
    """Of `used`, in a calendar's window; only where it is asked for (`RedisLedger.rooms`)."""


class Refused(enum.StrEnum):
    """Why a reservation was refused."""

    EXHAUSTED = "exhausted"  # used up: nothing before the window ends
    HELD = "held"  # requests in flight hold it: room within seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Reserved:
    """The store's answer."""

    refused: Refused | None
    by: tuple[int, ...]
    """Indexes of the claims that refused, or would have (shadow)."""
    max_tokens: int
    """Most tokens that the reply may have now: `worst_tokens`, or fewer (shrink)."""
    rooms: tuple[Room, ...]
    now_ms: int
    """Redis' time."""


class Certainty(enum.StrEnum):
    """How sure the usage of a settled request is."""

    EXACT = "exact"
    LOWER_BOUND = "lower_bound"  # charged as the larger of seen and held
    UNCERTAIN = "uncertain"  # sent, and nobody knows: charged as held
    NONE = "none"  # no provider was reached: nothing is charged


@dataclass(frozen=True, slots=True)
class Used:
    """What a request used of one counter."""

    counter: str
    window: Window
    amount: int
    counted: Counted = Counted.COST
    """Requests in a sliding window are counted when they are reserved, or never."""
    most: int = 0
    """The limit without raises, for the room in the answer."""
    known: int | None = None
    """How much of `amount` is known, left out all of it. The rest is charged as uncertain."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """The end of a request."""

    tenant: TenantId
    id: str
    certainty: Certainty
    used: tuple[Used, ...]
    """All counters of the reservation; charged also where the reservation is gone."""
    started_ms: int
    """`Reserved.now_ms` of its reservation, which decides the window."""


class Ledger(Protocol):
    """Where counters and reservations are kept."""

    def reserve(self, asked: Reservation) -> Reserved:
        """Hold what a request may take: for all of its claims or for none.

        Raises:
            NotCountedError: it can't be told whether there is room.
        """
        ...

    def settle(self, ended: Settlement) -> Sequence[Room]:
        """Put what was used in the place of what was held; the second time for an id nothing happens.

        Raises:
            NotCountedError: the store can't be asked; what is held is charged when it expires.
        """
        ...
