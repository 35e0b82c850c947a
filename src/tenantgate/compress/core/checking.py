"""Whether a shorter text may be sent in place of the original. What isn't shown to be right isn't sent."""

from __future__ import annotations

import enum
import json
from collections.abc import Callable, Sequence
from typing import Final

from tenantgate.compress.core.folding import minify_json
from tenantgate.compress.core.spans import Kind, Span, merged

__all__ = ["Problem", "check_folded", "check_pruned"]

# Inside an instruction or a table cell padding may go; these kinds are compared sign by sign.
_EXACT: Final = frozenset({Kind.CODE, Kind.MARKUP, Kind.FORMULA, Kind.ADDRESS, Kind.MARKED})


class Problem(enum.Enum):
    """Why a result is thrown away."""

    EMPTY = "empty"
    LOST = "lost_protected"
    LONGER = "not_shorter"
    BROKEN_JSON = "broken_json"


def check_folded(
    original: str, folded: str, spans: Sequence[Span], *, before: int, after: int
) -> Problem | None:
    """Checks the result of the lossless step.

    `spans` are the original's blocks, `before` and `after` tokens. A passage that came twice may be there once, so each
    block must be there at least once, in the order of their first appearances.
    """
    if folded == original:
        return None
    if not folded.strip() and original.strip():
        return Problem.EMPTY
    if after >= before:
        return Problem.LONGER
    if not _same_json(original, folded):
        return Problem.BROKEN_JSON
    exact = _texts(original, [s for s in spans if s.kind in _EXACT])
    loose = _texts(original, [s for s in spans if s.kind not in _EXACT])
    squeezed = "".join(folded.split())
    if _in_order(_distinct(exact), folded) and _in_order(
        _distinct(["".join(t.split()) for t in loose]), squeezed
    ):
        return None
    return Problem.LOST


def check_pruned(
    original: str, pruned: str, spans: Sequence[tuple[int, int]], *, count: Callable[[str], int], before: int
) -> Problem | None:
    """Checks what is left after pruning.

    `spans` are the `merged` protected spans of `original`, `before` its tokens, `count` counts those of a text.
    """
    if pruned == original:
        return None
    if not pruned.strip():
        return Problem.EMPTY
    if not _in_order([original[s:e] for s, e in spans], pruned):
        return Problem.LOST
    if not _same_json(original, pruned):
        return Problem.BROKEN_JSON
    return Problem.LONGER if count(pruned) >= before else None


def _texts(text: str, spans: Sequence[Span]) -> list[str]:
    return [text[s:e] for s, e in merged(spans)]


def _in_order(texts: Sequence[str], within: str) -> bool:
    place = 0
    for text in texts:
        found = within.find(text, place)
        if found < 0:
            return False
        place = found + len(text)
    return True


def _distinct(texts: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(texts))


def _same_json(original: str, other: str) -> bool:
    """A text that is JSON as a whole must stay the same JSON; any other text passes."""
    start = original.lstrip()[:1]
    if start not in ("{", "["):
        return True
    try:
        json.loads(original)
    except (ValueError, RecursionError):
        return True
    return minify_json(original) == minify_json(other)
