"""The ladder of a budget: which steps its spending has reached, and what they do to a request.

Steps go by what is spent, not by what requests in flight hold: a hundred answers on their way aren't a reason to
degrade the next one. The block is the exception, since the ledger refuses what doesn't fit: its counter ends at
`ceiling`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tenantgate.limits.core.ledger import Room
from tenantgate.limits.core.rules import Degrade, Do, Mode, Rule, Step

__all__ = ["Level", "ceiling", "level", "permille"]

_WHOLE: Final = 1000
_NOTHING: Final = Degrade()


@dataclass(frozen=True, slots=True)
class Level:
    """Where a rule stands.

    Attributes:
        permille: part of the limit that is spent, rounded down; may be above 1000.
        reached: steps whose part is spent, by rising part. Also those of a rule in shadow mode.
        degrade: what all reached steps change together, of each field the last one's; nothing in shadow mode.
        cache_only: whether only the cache may answer.
        block: whether no answer is given.
    """

    permille: int = 0
    reached: tuple[Step, ...] = ()
    degrade: Degrade = _NOTHING
    cache_only: bool = False
    block: bool = False


def level(rule: Rule, room: Room) -> Level:
    """Where the rule stands by the state of one of its counters.

    A limit of 0 counts as used up from the beginning.
    """
    part = permille(room.used, room.most)
    if not rule.steps or part < rule.steps[0].at_permille:
        return Level(part)
    reached = tuple(step for step in rule.steps if step.at_permille <= part)
    if rule.mode is Mode.SHADOW:
        return Level(part, reached)
    model = compress = None
    does = set()
    for step in reached:
        does.add(step.do)
        model, compress = step.degrade.model or model, step.degrade.compress or compress
    return Level(
        part, reached, Degrade(model=model, compress=compress), Do.CACHE_ONLY in does, Do.BLOCK in does
    )


def permille(used: int, most: int) -> int:
    """Thousandths of `most` that are used, rounded down; 1000 of nothing."""
    return max(used, 0) * _WHOLE // most if most > 0 else _WHOLE


def ceiling(rule: Rule, most: int) -> int | None:
    """What the ledger lets through of a limit of `most`: up to the first step that blocks. None: nothing blocks.

    A rule without steps blocks at its limit.
    """
    if not rule.steps:
        return most
    first = next((step for step in rule.steps if step.do is Do.BLOCK), None)
    return None if first is None else most * first.at_permille // _WHOLE
