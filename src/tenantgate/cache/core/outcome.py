"""What a lookup comes to: a hit, a miss or a bypass."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tenantgate.cache.core.cache_control import BypassReason, MissReason, Status
from tenantgate.cache.core.ports import Leased, UnavailableError
from tenantgate.cache.core.similar import NOWHERE, Place

if TYPE_CHECKING:
    from tenantgate.cache.core.entry import Entry
    from tenantgate.cache.core.fitness import Unfit
    from tenantgate.cache.core.pending import Doubt

__all__ = ["Bypass", "Hit", "Level", "Lookup", "Miss"]


class Level(enum.StrEnum):
    """How an answer was found."""

    EXACT = "exact"
    SIMILAR = "similar"
    COALESCED = "coalesced"
    """By an equal request that was in flight at the same time (`coalescing`)."""
    STALE = "stale"
    """The same request's, expired, while no provider can be asked."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A stored answer is served; `similarity` is the cosine of the two questions, None for the same request.

    `status` is what the client is told.
    """

    name: str
    entry: Entry
    level: Level
    similarity: float | None = None
    status: Status = Status.HIT


@dataclass(frozen=True, slots=True)
class Miss:
    """The provider is asked, and its answer may be stored at `place`.

    `refresh` says that the client wanted none of the answers that are stored. `comparison` names the stored answer with
    which the provider's is to be compared. `spare` would do where no provider can
    be asked: the hit that isn't served for the sake of that comparison, or the same request's entry, which has expired.
    """

    reason: MissReason | Unfit = MissReason.NOT_FOUND
    refresh: bool = False
    place: Place = NOWHERE
    comparison: Doubt | None = None
    spare: Hit | None = None


@dataclass(frozen=True, slots=True)
class Bypass:
    """The request goes past the cache, and nothing is stored; `failure` is the store's, if that is why."""

    reason: BypassReason
    failure: UnavailableError | None = None


@dataclass(frozen=True, slots=True)
class Lookup:
    """What was decided.

    `damaged` names entries that were met and could not be opened, `misplaced` counts those met in another's
    bucket. `leased` is the answer to the wish for a lease, where it was asked for.
    """

    decision: Hit | Miss | Bypass
    damaged: tuple[str, ...] = ()
    misplaced: int = 0
    leased: Leased | None = None
