"""The end of a request: what it takes of its rules' counters, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Final

from tenantgate.limits.core.claims import Held
from tenantgate.limits.core.ledger import Certainty, Settlement, Used
from tenantgate.limits.core.rules import CachedCost, Counted
from tenantgate.tenant import TenantId

__all__ = ["MAYBE_BILLED", "Billed", "End", "settlement"]

MAYBE_BILLED: Final = frozenset({"timeout", "reset", "http_502", "http_504", "aborted", "unknown"})
"""Outcomes of tries after which the provider may have done the work."""


@dataclass(frozen=True, slots=True)
class Billed:
    """What a provider has done, as far as it is known.

    Attributes:
        provider: as tenants.yaml names it.
        prompt, completion: tokens.
        nano: nano-dollars.
        size: bytes of a tool's arguments and result.
        guessed_prompt, guessed_nano: what of these nobody has counted, as the prompt of a stream that broke off.
    """

    provider: str
    prompt: int
    completion: int
    nano: int
    size: int = 0
    _: KW_ONLY
    guessed_prompt: int = 0
    guessed_nano: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """What became of a request; nothing at all: no provider has it."""

    billed: tuple[Billed, ...] = ()
    uncertain: tuple[str, ...] = ()
    """Providers that were sent it, and of which nobody knows what they did, one for each try."""
    cut: bool = False
    """Whether what is billed is the least: a stream broke off."""
    cached: Billed | None = None
    """What the answer from the cache would have cost."""
    refused: bool = False
    """Whether a limit refused it, so that it counts for none."""
    asked: frozenset[str] | None = None
    """Providers that were asked, by whose limits it is a request; None: any that may have been."""


def settlement(tenant: TenantId, request: str, started_ms: int, held: Sequence[Held], end: End) -> Settlement:
    """The end of a request for the ledger.

    Args:
        tenant: whose it is.
        request: its id.
        started_ms: `Reserved.now_ms`.
        held: what its reservation holds.
        end: what became of it.
    """
    return Settlement(
        tenant=tenant,
        id=request,
        certainty=_certainty(held, end),
        used=tuple(
            Used(h.claim.counter, h.claim.window, amount, h.claim.counted, h.claim.most, known)
            for h in held
            for amount, known in (_amount(h, end),)
        ),
        started_ms=started_ms,
    )


def _certainty(held: Sequence[Held], end: End) -> Certainty:
    if end.refused:
        return Certainty.NONE
    if any(h.provider or h.tries > 1 for h in held):
        # The ledger knows what is held of a counter, not which part of it was sent.
        return Certainty.EXACT
    if end.billed:
        return Certainty.LOWER_BOUND if end.cut else Certainty.EXACT
    return Certainty.UNCERTAIN if end.uncertain else Certainty.EXACT


def _amount(held: Held, end: End) -> tuple[int, int]:
    """What is charged, and how much of it is known."""
    counted = held.claim.counted
    amount, known = 0, None
    if end.refused:
        pass
    elif end.cached is not None:
        amount = _cached_amount(held, end.cached)
    elif counted is Counted.REQUESTS:
        amount = int(end.asked is None or not held.provider or any(_counts(held, name) for name in end.asked))
    else:
        billed = [each for each in end.billed if _counts(held, each.provider)]
        amount = sum(_COUNTS[counted](each) for each in billed)
        known = amount - sum(_GUESSED[counted](each) for each in billed)
        if end.cut and end.billed and _counts(held, end.billed[-1].provider):
            amount = max(amount, held.hold)
        amount += held.hold * sum(_counts(held, provider) for provider in end.uncertain)
    return amount, amount if known is None else known


def _cached_amount(held: Held, answer: Billed) -> int:
    counted = held.claim.counted
    amount = 1 if counted is Counted.REQUESTS else _COUNTS[counted](answer)
    match held.cached:
        case CachedCost.FREE:
            return 0
        case CachedCost.TOKENS:
            return 0 if counted is Counted.COST else amount
    return math.ceil(amount * held.cached_factor)


def _counts(held: Held, provider: str) -> bool:
    return not held.provider or provider in held.provider.split(",")


_COUNTS: Final[Mapping[Counted, Callable[[Billed], int]]] = {
    Counted.PROMPT_TOKENS: lambda billed: billed.prompt,
    Counted.COMPLETION_TOKENS: lambda billed: billed.completion,
    Counted.TOTAL_TOKENS: lambda billed: billed.prompt + billed.completion,
    Counted.COST: lambda billed: billed.nano,
    Counted.BYTES: lambda billed: billed.size,
}
_GUESSED: Final[Mapping[Counted, Callable[[Billed], int]]] = {
    Counted.PROMPT_TOKENS: lambda billed: billed.guessed_prompt,
    Counted.COMPLETION_TOKENS: lambda _: 0,
    Counted.TOTAL_TOKENS: lambda billed: billed.guessed_prompt,
    Counted.COST: lambda billed: billed.guessed_nano,
    Counted.BYTES: lambda _: 0,
}
