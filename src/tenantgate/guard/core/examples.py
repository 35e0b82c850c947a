"""Examples for the promotion report: a few words around a finding, with nothing in them that a rule could find."""

from __future__ import annotations

from typing import Final

from tenantgate.pii.core import (
    PERSONAL_KINDS,
    SECRETS_REACH,
    Finding,
    find_in_views,
    find_personal,
    find_secrets,
    mask,
)

__all__ = ["example"]

_AROUND: Final = 120  # characters on either side
_LONGEST: Final = 400
_MARKS: Final = frozenset(
    {"PROMPT_INJECTION", "DENIED_TOPIC", "OFF_TOPIC"}
)  # whole passages, which stay readable


def example(text: str, finding: Finding) -> str | None:
    """The words around `finding`, masked; None if there is nothing that may be shown.

    Masking looks at the whole neighbourhood, not at the shown piece alone: a number that is cut in half would not
    be found any more. The finding itself is always masked, unless it is a passage that was judged as a whole.
    """
    low = max(0, finding.start - 2 * _AROUND)
    end = min(finding.end, finding.start + _LONGEST)
    near = text[low : end + 2 * _AROUND]
    found = list(find_in_views(near, _forms, reach=SECRETS_REACH))
    if finding.kind not in _MARKS:
        found.append(Finding(finding.start - low, finding.end - low, finding.kind, 2.0))
    before = _word_start(near, max(0, finding.start - low - _AROUND))
    after = min(len(near), end - low + _AROUND)
    for f in found:  # whole findings only
        if f.start < before < f.end:
            before = f.end
        if f.start < after < f.end:
            after = f.start
    shown = near[before:after]
    inside = [Finding(f.start - before, f.end - before, f.kind, f.score) for f in found]
    inside = [f for f in inside if f.start >= 0 and f.end <= len(shown)]
    return " ".join(mask(shown, inside).text.split()) or None


def _forms(text: str) -> tuple[Finding, ...]:
    return (*find_personal(text, frozenset(PERSONAL_KINDS)), *find_secrets(text))


def _word_start(text: str, at: int) -> int:
    if at == 0:
        return 0
    space = text.find(" ", at)
    return at if space < 0 else space + 1
