"""What became of each request, and whether its answer was the right one. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tenantgate.bench.load import Shot
from tenantgate.bench.workload import Ask
from tenantgate.llm.errors import Code

__all__ = ["OUTCOMES", "Judged", "judge"]

OUTCOMES: Final = ("pass", "hit", "blocked", "error")
_BLOCKED: Final = Code.CONTENT_POLICY_VIOLATION.value
_MAY_CHANGE: Final = frozenset({"personal", "hundred", "long", "attack"})
"""Kinds whose text a plugin may rewrite on its way (masks, compression), so that its digest is another."""


@dataclass(frozen=True, slots=True)
class Judged:
    """One request with its outcome.

    Attributes:
        outcome: ``pass`` (the provider answered), ``hit`` (a cache did), ``blocked``, ``error``.
        error: its kind, for an error: ``timeout``, ``status 502`` ….
        wrong: the answer belongs to another question.
        foreign: it belongs to another tenant's, or can only come from one: this tenant has not asked it before.
    """

    ask: Ask
    shot: Shot
    outcome: str
    error: str = ""
    wrong: bool = False
    foreign: bool = False


def judge(asks: Sequence[Ask], shots: Sequence[Shot]) -> list[Judged]:
    """Judge the shots of one target, in the order of the asks' numbers.

    A hit is right if it is the answer to a question of the same group, as worded by any of its asks, or as the
    provider got it from one of them (a mask may have changed it), and if its tenant has asked that before.
    """
    by_number = {a.number: a for a in asks}
    digests: dict[str, set[str]] = defaultdict(set)
    owners: dict[str, set[int]] = defaultdict(set)
    for ask in asks:
        digests[ask.group].add(ask.digest)
        owners[ask.digest].add(ask.tenant)
    asked: set[str] = set()
    out = []
    for shot in sorted(shots, key=lambda s: s.ask):
        ask = by_number[shot.ask]
        outcome, error = _outcome(shot)
        wrong = foreign = False
        if outcome == "pass" and shot.digest != ask.digest:
            wrong = ask.kind not in _MAY_CHANGE
            digests[ask.group].add(shot.digest)
            owners[shot.digest].add(ask.tenant)
        elif outcome == "hit":
            wrong = shot.digest not in digests[ask.group]
            foreign = ask.tenant not in owners[shot.digest] or (not wrong and ask.group not in asked)
        asked.add(ask.group)
        out.append(Judged(ask, shot, outcome, error, wrong, foreign))
    return out


def _outcome(shot: Shot) -> tuple[str, str]:
    if shot.error:
        return "error", shot.error
    if shot.reason == _BLOCKED:
        return "blocked", ""
    if shot.status != 200:
        return "error", f"status {shot.status}"
    return ("hit" if shot.headers.get("x-cache-status") == "Hit" else "pass"), ""
