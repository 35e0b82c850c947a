"""Ports of the semantic cache: the store, models and encryption, which adapters provide."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, Final, Protocol

from tenantgate.cache.core.cache_control import BypassReason
from tenantgate.errors import EdgeError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tenantgate.cache.core.evidence import Plan
    from tenantgate.cache.core.partition import Keys
    from tenantgate.cache.core.pending import Doubt
    from tenantgate.models.ports import Reading

    Vector = NDArray[np.float32]

__all__ = [
    "NO_STATES",
    "AnswerStore",
    "BoundLearner",
    "Embedder",
    "Found",
    "Held",
    "HeldBackError",
    "LanguageIdentifier",
    "LeaseWish",
    "Leased",
    "Neighbour",
    "PairReader",
    "PairVerifier",
    "RefusedError",
    "Sealer",
    "UnavailableError",
]

NO_STATES: Final[Mapping[str, bytes]] = MappingProxyType({})


# -- the store -------------------------------------------------------------------------------------------


class UnavailableError(EdgeError):
    """The store doesn't answer."""

    reason: ClassVar[BypassReason] = BypassReason.REDIS


class HeldBackError(UnavailableError):
    """The store wasn't asked: it failed several times in a row, and the pause isn't over."""

    reason = BypassReason.BREAKER


class RefusedError(UnavailableError):
    """The store lives, and answered with an error: another type under the key, no memory, a command it lacks."""

    reason = BypassReason.REFUSED


@dataclass(frozen=True, slots=True)
class Neighbour:
    """An entry of a question with the same bucket; `value` is still sealed."""

    name: str
    value: bytes


@dataclass(frozen=True, slots=True)
class LeaseWish:
    """The lease of the exact entry, which a request wants if it has to ask the provider (`coalescing`).

    `value` is what it shall hold, `token` a part of that; it ends after `life_ms`. An entry isn't fresh any
    more `stale_s` before it goes.
    """

    token: str
    value: str
    life_ms: int
    stale_s: int = 0


@dataclass(frozen=True, slots=True)
class Held:
    """Why a lease wasn't given: a fresh `entry`, still sealed; or another's lease, for `left_ms` more milliseconds."""

    entry: bytes | None = None
    value: bytes = b""
    left_ms: int = 0


@dataclass(frozen=True, slots=True)
class Leased:
    """The answer to a `LeaseWish`: it was given, or is `held`."""

    held: Held | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """The answer to one search: the exact entry, still sealed, or the neighbours and the plan as they are stored.

    `leased` is None where no lease was wished, or there is a fresh entry.
    """

    entry: bytes | None = None
    neighbours: tuple[Neighbour, ...] = ()
    plan: bytes | None = None
    leased: Leased | None = None


class AnswerStore(Protocol):
    """What a lookup needs of the store; `get` and `neighbours` are one round trip each."""

    def expects(self, name: str) -> bool:
        """Whether the entry of this name should be asked for alone, before its question's words are read.

        So it is where the entry was stored or found lately, and while the store fails.
        """

    def get(self, keys: Keys, name: str) -> bytes | None:
        """The entry of this name as it was sealed, or None.

        Raises:
            UnavailableError: the store failed, refused or wasn't asked.
        """

    def neighbours(
        self,
        keys: Keys,
        bucket: str,
        count: int,
        *,
        exact: str | None = None,
        plan: str | None = None,
        wish: LeaseWish | None = None,
    ) -> Found:
        """The entry with the name `exact`; where there is none, the bucket's entries, the latest to expire first.

        Args:
            keys: the tenant's.
            bucket: the key of the names of the bucket's entries.
            count: how many neighbours at most.
            exact: an entry's name, if that is asked for, too.
            plan: the key under which a plan may lie, which comes with the neighbours.
            wish: for the lease of the exact entry, if that isn't there.

        Raises:
            UnavailableError: the store failed, refused or wasn't asked.
        """


# -- the bound -------------------------------------------------------------------------------------------


class BoundLearner(Protocol):
    """What moves the score that a neighbour needs, by a tenant's own traffic."""

    def state(self, keys: Keys) -> str:
        """The key under which a tenant's plan lies."""

    def plan(self, keys: Keys, sealer: Sealer, stored: bytes | None) -> Plan:
        """The plan that was stored, if the tenant's `Sealer` signed it, or the first one."""

    def doubt(self, plan: Plan, name: str, score: float, *, served: bool) -> Doubt | None:
        """A sample of the neighbours with which the provider's answer is to be compared."""

    def repeat(self, keys: Keys, name: str) -> Doubt | None:
        """A sample of the exact hits: the provider is asked again, to learn how it repeats itself."""

    def saw(self, keys: Keys, score: float | None, *, hit: bool) -> None:
        """Count a lookup: the score of its best neighbour, and whether that was served."""


# -- models and encryption -------------------------------------------------------------------------------


class Embedder(Protocol):
    """Turns a text into a direction; similar texts, similar directions."""

    @property
    def dimensions(self) -> int:
        """Length of the vectors."""

    @property
    def fingerprint(self) -> str:
        """Names the model and its settings: vectors of different fingerprints can't be compared."""

    def embed(self, text: str) -> Vector:
        """A vector of length 1, of `dimensions` float32."""

    def read(self, text: str) -> Reading:
        """The same vector, and what else the embedder knows of the text."""

    def truncates(self, text: str) -> bool:
        """Whether only the beginning of `text` would be read."""


class LanguageIdentifier(Protocol):
    """Tells languages apart."""

    def language(self, text: str) -> str | None:
        """The language of a text (ISO 639-1), or None where none is sure."""


class PairReader(Protocol):
    """One model that reads two questions together."""

    @property
    def fingerprint(self) -> str:
        """Names the model and its settings."""

    def log_odds(self, a: str, b: str, states: Mapping[str, bytes]) -> float:
        """How likely both ask the same, as the logarithm of the odds; finite.

        `states` by text, as far as they are known: the embedder's (`Reading.states`), which save a reader's time.
        """

    def truncates(self, a: str, b: str) -> bool:
        """Whether the two together would not be read to their end."""


class PairVerifier(Protocol):
    """Decides whether two questions ask the same: one reader, or several."""

    @property
    def fingerprint(self) -> str:
        """Names the model: a calibration holds for one only."""

    def score(self, a: str, b: str, similarity: float, states: Mapping[str, bytes] = NO_STATES) -> float:
        """From 0 to 1, the higher the surer that both ask the same.

        `similarity` is their cosine under the embedder that found them, -1..1; `states` as for `PairReader`.
        """

    def truncates(self, a: str, b: str) -> bool:
        """Whether the two together would not be read to their end."""


class Sealer(Protocol):
    """A tenant's own keys: names and seals so that only this tenant's can be found or read."""

    def name(self, data: bytes) -> str:
        """A keyed digest, 32 hexadecimal digits."""

    def seal(self, plain: bytes, *, key: bytes) -> bytes:
        """Encrypt for the Redis key `key`; the result opens under no other."""

    def open(self, sealed: bytes, *, key: bytes) -> bytes | None:
        """Decrypt; None for anything that wasn't sealed for this tenant and `key`."""
