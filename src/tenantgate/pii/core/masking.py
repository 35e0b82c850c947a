"""Masking: placeholders in the place of findings, and the way back.

A placeholder such as ``[EMAIL_ADDRESS_1]`` is the same for the same text throughout a request, so that a model
can still tell one person's address from another's.

JSON in a text stays JSON: only what stands between quotes is changed, a number becomes a text, and what comes back is
written as its place needs it (`tenantgate.pii.core.json_text`).
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from tenantgate.pii.core.finding import NAME_KINDS, Finding, outermost
from tenantgate.pii.core.json_text import Cell, CellKind, cells, quoted
from tenantgate.pii.core.personal import PERSONAL_KINDS
from tenantgate.pii.core.secrets import SECRET_KINDS
from tenantgate.pii.core.text_view import Unit

__all__ = ["Masked", "Placeholders", "changed", "mask", "masking", "recover", "recovering", "unmasked"]

_PLACEHOLDER: Final = re.compile(r"\[([A-Z][A-Z0-9_]{0,40})_[0-9]{1,6}\]")
_KINDS: Final = frozenset((*PERSONAL_KINDS, *SECRET_KINDS, *NAME_KINDS))

Spellings = Mapping[int, str]
"""How a text was written, by the levels of quotes around it; of a number without quotes by their negative."""


@dataclass
class Placeholders:
    """The placeholders of one request, and what they stand for. Holds matched text: never log it.

    Attributes:
        originals: what each stands for, as it reads.
        spellings: how that was written, where it stood in JSON.
    """

    originals: dict[str, str] = field(default_factory=dict, repr=False)
    spellings: dict[str, dict[int, str]] = field(default_factory=dict, repr=False)
    _names: dict[tuple[str, str], list[str]] = field(default_factory=dict, repr=False)
    _counts: dict[str, int] = field(default_factory=dict, repr=False)
    _taken: set[str] = field(default_factory=set, repr=False)

    def avoid(self, text: str) -> None:
        """Never give out a placeholder that `text` holds already: it would be "recovered" to another's data."""
        if "[" in text:
            self._taken.update(m.group() for m in _PLACEHOLDER.finditer(text))

    def name(self, kind: str, original: str, depth: int = 0, spelling: str | None = None) -> str:
        """The placeholder for `original`, which stands as `spelling` in `depth` levels of quotes.

        Two spellings at the same depth get two placeholders, so that each comes back as it was.
        """
        spelling = original if spelling is None else spelling
        known = self._names.setdefault((kind, original), [])
        for found in known:
            spellings = self.spellings[found]
            free = not depth or -depth not in spellings
            if free and spellings.setdefault(depth, spelling) == spelling:
                return found
        while True:
            number = self._counts[kind] = self._counts.get(kind, 0) + 1
            found = f"[{kind}_{number}]"
            if found not in self._taken:
                break
        known.append(found)
        self.originals[found] = original
        self.spellings[found] = {depth: spelling}
        return found

    def dumps(self) -> str:
        """All that `recover` needs, as JSON."""
        odd = {
            name: told
            for name, spellings in self.spellings.items()
            if (told := {d: s for d, s in spellings.items() if d < 0 or s != quoted(self.originals[name], d)})
        }
        return json.dumps({"originals": self.originals, "spellings": odd})

    @classmethod
    def loads(cls, text: str | bytes) -> Placeholders:
        """What `dumps` wrote."""
        told = json.loads(text)
        spellings = {name: {int(d): s for d, s in found.items()} for name, found in told["spellings"].items()}
        return cls(told["originals"], spellings)


@dataclass(frozen=True, slots=True)
class Masked:
    """A masked text, and how many placeholders it has."""

    text: str
    count: int


def mask(text: str, findings: Iterable[Finding], placeholders: Placeholders | None = None) -> Masked:
    """`text` with a placeholder for each finding.

    A finding inside a placeholder of an earlier masking is left alone, so masking twice changes nothing.
    """
    units = list(masking(text, findings, placeholders or Placeholders()))
    return Masked(changed(text, units), len(units))


def changed(text: str, units: Sequence[Unit]) -> str:
    """The text with other text in the place of each unit."""
    out: list[str] = []
    at = 0
    for start, end, new in units:
        out += text[at:start], new
        at = end
    return "".join((*out, text[at:]))


def masking(text: str, findings: Iterable[Finding], placeholders: Placeholders) -> Iterator[Unit]:
    """What is to be replaced in the text, and by what; in order, without overlaps."""
    chosen = outermost(findings)
    if not chosen:
        return
    kept = _kept(text, chosen, placeholders)
    places = cells(text)
    at = 0
    for finding in chosen:
        if kept and not _beside(text, finding, kept):
            continue
        for cell in places.within(finding.start, finding.end):
            unit = _unit(text, finding, cell, placeholders) if cell.end > at else None
            if unit is not None and unit[0] >= at:
                yield unit
                at = unit[1]


def unmasked(text: str, findings: Iterable[Finding], placeholders: Placeholders) -> tuple[Finding, ...]:
    """The findings that have more than placeholders, and what stands between these."""
    chosen = outermost(findings)
    kept = _kept(text, chosen, placeholders)
    return tuple(f for f in chosen if _beside(text, f, kept))


def _kept(text: str, findings: Iterable[Finding], placeholders: Placeholders) -> list[tuple[int, int]]:
    """Where placeholders stand. Only what names a kind is one: a key that somebody puts in such brackets is a key."""
    if "[" not in text:
        return []
    kinds = _KINDS.union(f.kind for f in findings)
    return [
        m.span() for m in _PLACEHOLDER.finditer(text) if m[1] in kinds or m.group() in placeholders.originals
    ]


def _beside(text: str, finding: Finding, kept: Sequence[tuple[int, int]]) -> bool:
    """Whether the finding has a letter or a digit that isn't of a placeholder."""
    at = finding.start
    first = max(0, bisect_right(kept, (finding.start, finding.start)) - 1)
    for start, end in kept[first:]:
        if start >= finding.end:
            break
        if any(map(str.isalnum, text[at:start])):
            return True
        at = max(at, end)
    return any(map(str.isalnum, text[at : finding.end]))


def _unit(text: str, finding: Finding, cell: Cell, placeholders: Placeholders) -> Unit | None:
    """The finding's part in a cell, masked."""
    if cell.kind is CellKind.STRUCTURE:
        return None
    if cell.kind is CellKind.SCALAR:
        spelling = text[cell.start : cell.end]
        quote = quoted('"', cell.depth)
        name = placeholders.name(finding.kind, spelling, -1 - cell.depth, spelling)
        return cell.start, cell.end, quote + name + quote
    start, end = max(finding.start, cell.start), min(finding.end, cell.end)
    if not cell.depth:
        return start, end, placeholders.name(finding.kind, text[start:end])
    low, high = cell.view.inside(start, end)
    if low == high:  # less than one escape: all of it
        low, high = cell.view.around(start, end)
    start, end = cell.view.span(low, high)
    name = placeholders.name(finding.kind, cell.view.text[low:high], cell.depth, text[start:end])
    return start, end, name


def recover(
    text: str, originals: Mapping[str, str], spellings: Mapping[str, Spellings] | None = None
) -> tuple[str, int]:
    """`text` with the originals in place of their placeholders, and how many were put back."""
    units = list(recovering(text, originals, spellings or {}))
    return changed(text, units), len(units)


def recovering(text: str, originals: Mapping[str, str], spellings: Mapping[str, Spellings]) -> Iterator[Unit]:
    """Where the placeholders stand in the text, and what is to stand there."""
    found = [m for m in _PLACEHOLDER.finditer(text) if m.group() in originals] if "[" in text else []
    if not found:
        return
    places = cells(text)
    for match in found:
        name, (start, end) = match.group(), match.span()
        cell = next(places.within(start, end))
        told = spellings.get(name, {})
        quote = quoted('"', cell.depth - 1) if cell.depth else ""
        if cell.depth and (cell.start, cell.end) == (start, end) and -cell.depth in told:
            yield start - len(quote), end + len(quote), told[-cell.depth]
        else:
            yield start, end, told.get(cell.depth) or quoted(originals[name], cell.depth)
