"""Order: the targets that a request tries, one after another, or why there are none."""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tenantgate.routing.core.balance import Load, Option, Rotation, ranked
from tenantgate.routing.core.circuit import State
from tenantgate.routing.core.share import WINDOW_S

__all__ = ["Candidate", "Order", "Why", "arranged"]

_SOON_S: Final = 30.0  # for a client to wait where nobody knows when a target comes back
_MOST_S: Final = 300.0


class Why(enum.StrEnum):
    """Why a request has the order that it has."""

    HEALTHY = "healthy"
    LAST_RESORT = "last_resort"
    """All targets are left out: the least bad is tried, once."""
    ALL_OUT = "all_out"
    DRAINED = "drained"
    OVER_SHARE = "over_share"
    """The tenant has had its share of each target's limit, and other tenants ask."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A target as it stands for one request.

    Attributes:
        option: for the balance.
        state: of its circuit.
        back_at: time from which it isn't left out, Unix seconds.
        failures: in a row.
        credential_refused: whether it refused its credential last.
        waits: whether its provider asked not to be tried now.
        probe: whether this request may try it although its circuit is half open.
        near_limit: whether the request would come close to the provider's limit.
        over_share: whether the tenant has had its share of that limit.
        drained_until: time until which it is drained by hand; infinite for no end; None: it isn't.
    """

    option: Option
    state: State = State.CLOSED
    back_at: float = 0.0
    failures: int = 0
    credential_refused: bool = False
    waits: bool = False
    probe: bool = False
    near_limit: bool = False
    over_share: bool = False
    drained_until: float | None = None


@dataclass(frozen=True, slots=True)
class Order:
    """Targets by their index in the model, the first choice first; empty where the request is refused.

    Attributes:
        why: the reason.
        probe: the target that is tried although its circuit is half open; None: no such.
        wait_s: for ``Retry-After``, where all targets are left out.
    """

    indexes: tuple[int, ...]
    why: Why
    probe: int | None = None
    wait_s: float = 0.0


def arranged(
    candidates: Sequence[Candidate], *, balance: str, key: bytes, load: Load, rotation: Rotation, now: float
) -> Order:
    """The order for one request; `key` is of its affinity.

    A target near its provider's limit comes after all others. Of those whose circuit is open the least bad comes last,
    so that it is tried if all others fail, and alone if there are no others; but none whose provider has asked to wait.
    """
    present = [c for c in candidates if c.drained_until is None]
    if not present:
        ends = min((c.drained_until for c in candidates if c.drained_until is not None), default=math.inf)
        return Order((), Why.DRAINED, wait_s=_wait_s(ends - now))
    mine = [c for c in present if not c.over_share]
    usable = [c for c in mine if c.state is not State.CLOSED and not c.probe and not c.waits]
    best = min(
        usable, key=lambda c: (c.credential_refused, c.back_at, c.failures, c.option.index), default=None
    )
    spare = () if best is None else (best.option.index,)
    tried = [c for c in mine if c.state is State.CLOSED or (c.state is State.HALF_OPEN and c.probe)]
    if tried:
        found: list[Option] = []
        for near in (False, True):
            options = [c.option for c in tried if c.near_limit is near]
            found += ranked(balance, options, key=key, load=load, rotation=rotation)
        first = next(c for c in tried if c.option is found[0])
        probe = first.option.index if first.state is State.HALF_OPEN else None
        return Order((*(o.index for o in found), *spare), Why.HEALTHY, probe=probe)
    if not mine:
        return Order((), Why.OVER_SHARE, wait_s=_wait_s(WINDOW_S - now % WINDOW_S))
    wait_s = _wait_s(min(c.back_at for c in mine) - now)
    return Order(spare, Why.LAST_RESORT if spare else Why.ALL_OUT, wait_s=wait_s)


def _wait_s(seconds: float) -> float:
    if not math.isfinite(seconds):
        return _SOON_S
    return float(math.ceil(min(max(seconds, 1.0), _MOST_S)))
