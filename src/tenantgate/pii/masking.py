"""Masking: placeholders in the place of findings, and the way back.

A placeholder such as ``[EMAIL_ADDRESS_1]`` is the same for the same text throughout a request, so that a model
can still tell one person's address from another's.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from tenantgate.pii.finding import NAME_KINDS, Finding, outermost
from tenantgate.pii.personal import PERSONAL_KINDS
from tenantgate.pii.secrets import SECRET_KINDS

__all__ = ["Masked", "Placeholders", "mask", "recover"]

_PLACEHOLDER: Final = re.compile(r"\[([A-Z][A-Z0-9_]{0,40})_[0-9]{1,6}\]")
_KINDS: Final = frozenset((*PERSONAL_KINDS, *SECRET_KINDS, *NAME_KINDS))


@dataclass
class Placeholders:
    """The placeholders of one request, and what they stand for. Holds matched text: never log it."""

    originals: dict[str, str] = field(default_factory=dict, repr=False)
    _names: dict[tuple[str, str], str] = field(default_factory=dict, repr=False)
    _counts: dict[str, int] = field(default_factory=dict, repr=False)
    _taken: set[str] = field(default_factory=set, repr=False)

    def avoid(self, text: str) -> None:
        """Never give out a placeholder that `text` holds already: it would be "recovered" to another's data."""
        if "[" in text:
            self._taken.update(m.group() for m in _PLACEHOLDER.finditer(text))

    def name(self, kind: str, original: str) -> str:
        """The placeholder for `original`."""
        found = self._names.get((kind, original))
        if found is None:
            while True:
                number = self._counts[kind] = self._counts.get(kind, 0) + 1
                found = f"[{kind}_{number}]"
                if found not in self._taken:
                    break
            self._names[kind, original] = found
            self.originals[found] = original
        return found


@dataclass(frozen=True, slots=True)
class Masked:
    """A masked text, and how many placeholders it has."""

    text: str
    count: int


def mask(text: str, findings: Iterable[Finding], placeholders: Placeholders | None = None) -> Masked:
    """`text` with a placeholder for each finding.

    A finding inside a placeholder of an earlier masking is left alone, so masking twice changes nothing.
    """
    placeholders = placeholders or Placeholders()
    chosen = outermost(findings)
    # Only what names a kind is a placeholder: a key that somebody puts in such brackets is a key.
    kinds = _KINDS.union(f.kind for f in chosen)
    kept = {m.start(): m.end() for m in _PLACEHOLDER.finditer(text) if m[1] in kinds} if "[" in text else {}
    starts = sorted(kept)
    out: list[str] = []
    at = count = 0
    for finding in chosen:
        before = bisect_right(starts, finding.start) - 1
        if before >= 0 and finding.end <= kept[starts[before]]:
            continue
        out.append(text[at : finding.start])
        out.append(placeholders.name(finding.kind, text[finding.start : finding.end]))
        at = finding.end
        count += 1
    out.append(text[at:])
    return Masked("".join(out), count)


def recover(text: str, originals: Mapping[str, str]) -> tuple[str, int]:
    """`text` with the originals in place of their placeholders, and how many were put back."""
    count = 0

    def original(match: re.Match[str]) -> str:
        nonlocal count
        found = originals.get(match.group())
        count += found is not None
        return match.group() if found is None else found

    return (_PLACEHOLDER.sub(original, text) if "[" in text else text), count
