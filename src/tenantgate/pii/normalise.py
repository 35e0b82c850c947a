"""A text as it reads, whatever tricks hide it: full-width and styled letters, look-alikes, invisible characters.

Each character of the result knows which characters of the original it stands for, so that what is found in the
one can be masked in the other. One pass, no search.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from tenantgate.pii.finding import Finding

__all__ = ["View", "normalise", "original_spans", "without_surrogates"]

# Letters of other alphabets that look like Latin ones: the part of Unicode's confusables (UTS #39) that forges
# use in practice. Applied only in words that also have Latin letters, so that Russian stays Russian.
_LOOKALIKES: Final = dict(
    zip(
        "аеорсухіјѕԁһӏԛԝкмтвнґАВЕЅКМНОРСТХІЈУΑΒΕΖΗΙΚΜΝΟΡΤΥΧαονρτυικγεηωɡıⅼ",
        "aeopcyxijsdhlqwkmtbhrABESKMHOPCTXIJYABEZHIKMNOPTYXaovptuikyenwgil",
        strict=True,
    )
)
_DASHES: Final = dict.fromkeys("‐‑‒–—−﹘﹣－", "-")
_QUOTES: Final = {"‘": "'", "’": "'", "‚": "'", "“": '"', "”": '"', "„": '"', "«": '"', "»": '"', "`": "`"}
# Shown as nothing: format characters, variation selectors, fillers, and the "tag" copies of ASCII.
_FILLERS: Final = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180e\u3164\uffa0\u2800")
_TAGS: Final = range(0xE0020, 0xE007F)


_CONTROL: Final = re.compile("[\x00-\x08\x0b-\x0c\x0e-\x1f\x7f]")
_LOOKALIKE: Final = re.compile(f"[{''.join(_LOOKALIKES)}]")
_SURROGATES: Final = re.compile("[\ud800-\udfff]")


def without_surrogates(text: str) -> str:
    """The text with U+FFFD for each lone surrogate, which JSON's escapes allow and no engine or model takes."""
    return text if text.isascii() else _SURROGATES.sub("\ufffd", text)


@dataclass(frozen=True, slots=True)
class View:
    """A text made from another: character i stands for ``starts[i]:ends[i]`` of the original.

    Without `starts` the two are the same.
    """

    text: str
    starts: Sequence[int] | None = None
    ends: Sequence[int] | None = None

    def span(self, start: int, end: int) -> tuple[int, int]:
        """The original's span for a span of this text, which isn't empty."""
        if self.starts is None or self.ends is None:
            return start, end
        return min(self.starts[start:end]), max(self.ends[start:end])


def normalise(text: str) -> View:
    """The text as it reads. ASCII stays as it is, but for control characters, which show as nothing."""
    if text.isascii() and _CONTROL.search(text) is None:
        return View(text)
    out: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    latin = _mixed(text)
    for i, char in enumerate(text):
        plain = _plain(char)
        if i in latin:
            plain = _LOOKALIKES.get(char, plain)
        for c in plain:
            out.append(c)
            starts.append(i)
            ends.append(i + 1)
    return View("".join(out), starts, ends)


def original_spans(view: View, findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The findings in `view`, where they lie in the original."""
    if view.starts is None:
        return tuple(findings)
    return tuple(Finding(*view.span(f.start, f.end), f.kind, f.score) for f in findings)


@lru_cache(maxsize=4096)
def _plain(char: str) -> str:
    if " " <= char <= "~" or char in "\t\n\r":
        return char
    if ord(char) in _TAGS:
        return chr(ord(char) - 0xE0000)
    category = unicodedata.category(char)
    if category in ("Cf", "Cc", "Co", "Cs") or char in _FILLERS or "\ufe00" <= char <= "\ufe0f":
        return ""
    if category in ("Zs", "Zl", "Zp"):
        return " "
    found = _DASHES.get(char) or _QUOTES.get(char)
    if found:
        return found
    if category == "Nd":
        return str(unicodedata.decimal(char))
    if category == "Mn":
        return ""  # accents that stand alone, as in Zalgo text
    plain = unicodedata.normalize("NFKC", char)
    # A ligature or a circled number may be several characters; a compatibility character with spaces is none.
    return plain if len(plain) <= 4 else char


def _mixed(text: str) -> frozenset[int]:
    """Where look-alikes stand in a word that also has Latin letters (or nothing but look-alikes)."""
    if _LOOKALIKE.search(text) is None:
        return frozenset()
    found: list[int] = []
    word: list[int] = []
    latin = other = False
    for i, char in enumerate(text + " "):
        if char in _LOOKALIKES:
            word.append(i)
        elif char.isascii() and char.isalnum():
            latin = True
        elif char.isalpha():
            other = True
        elif char.isspace() or char.isascii():
            if word and latin and not other:
                found += word
            word, latin, other = [], False, False
    return frozenset(found)
