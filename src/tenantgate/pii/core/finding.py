"""What a detector found: its kind, where it lies, how sure it is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from tenantgate.checkpoints import checkpoint

__all__ = ["NAME_KINDS", "Finding", "Reach", "lower_in_place", "outermost", "within"]

_MANY: Final = 128  # findings between two checkpoints
NAME_KINDS: Final = ("PERSON", "LOCATION", "ORGANIZATION", "NRP")
"""What has no form, and is found by an entity recogniser alone."""


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """A finding never holds the text: it may be logged.

    Attributes:
        start: index of the first character.
        end: index after the last one.
        kind: what it is, such as ``EMAIL_ADDRESS``; names as Presidio has them, where it has one.
        score: 0 to 1, the higher the surer.
    """

    start: int
    end: int
    kind: str
    score: float = 1.0


@dataclass(frozen=True, slots=True)
class Reach:
    """How much of a text a detector needs to find something.

    Attributes:
        value: characters of a value of several words, with the words before it that belong to it, at most.
        context: characters before or after a value in which something tells what it is, at most.
    """

    value: int
    context: int


def outermost(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The findings without overlaps, in order: of two that overlap the surer stays, then the longer.

    The one that stays grows over the other, so no part of what was found is left out.
    """
    out: list[Finding] = []
    for n, finding in enumerate(sorted(findings)):
        if n % _MANY == 0:
            checkpoint()
        if not out or finding.start >= out[-1].end:
            out.append(finding)
            continue
        last = out[-1]
        best = max(last, finding, key=lambda f: (f.score, f.end - f.start))
        out[-1] = Finding(last.start, max(last.end, finding.end), best.kind, best.score)
    return tuple(out)


def within(findings: Iterable[Finding], start: int, end: int) -> tuple[Finding, ...]:
    """What of the findings lies in ``start:end``, counted from `start`."""
    return tuple(
        Finding(max(f.start, start) - start, min(f.end, end) - start, f.kind, f.score)
        for f in findings
        if f.start < end and f.end > start
    )


def lower_in_place(text: str) -> str:
    """The text in lower case, each character where it was ("İ" has a longer lower case)."""
    lower = text.lower()
    if len(lower) != len(text):
        lower = "".join(c.lower() if len(c.lower()) == 1 else c for c in text)
    return lower
