"""A text as it reads, whatever tricks hide it: full-width and styled letters, look-alikes, what shows as nothing.

Each character of the result knows which characters of the original it stands for, so that what is found in the
one can be masked in the other. One pass, no search.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Final

from tenantgate.checkpoints import checkpoint
from tenantgate.pii.core.finding import Finding
from tenantgate.pii.core.text_view import Unit, View

__all__ = ["View", "normalise", "normalised", "original_spans", "without_surrogates"]

# Letters of other alphabets that look like Latin ones: the part of Unicode's confusables (UTS #39) that forges
# use in practice. Applied only in words that also have Latin letters, so that Russian stays Russian.
_LOOKALIKES: Final = dict(
    zip(
        "аеорсухіјѕԁһӏԛԝкмтвнґАВЕЅКМНОРСТХІЈУΑΒΕΖΗΙΚΜΝΟΡΤΥΧαονρτυικγεηωɡıⅼ",
        "aeopcyxijsdhlqwkmtbhrABESKMHOPCTXIJYABEZHIKMNOPTYXaovptuikyenwgil",
        strict=True,
    )
)
_LOOKALIKE: Final = re.compile(f"[{''.join(_LOOKALIKES)}]")
_DASHES: Final = dict.fromkeys("‐‑‒–—−﹘﹣－", "-")
_QUOTES: Final = {"‘": "'", "’": "'", "‚": "'", "“": '"', "”": '"', "„": '"', "«": '"', "»": '"', "`": "`"}
# Shown as nothing: format characters, variation selectors, fillers, and the "tag" copies of ASCII.
_FILLERS: Final = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180e\u3164\uffa0\u2800")
_TAGS: Final = range(0xE0020, 0xE007F)
# Alphabets of signs that NFKC leaves as they are, or writes with brackets: in brackets, on black, of flags.
_ALPHABETS: Final = {
    chr(first + i): chr(ord("A") + i) for first in (0x1F110, 0x1F150, 0x1F170, 0x1F1E6) for i in range(26)
}


_FINDINGS: Final = 128  # findings between two checkpoints
_STRIDE: Final = 256  # characters between two checkpoints
_CONTROL: Final = re.compile("[\x00-\x08\x0b-\x0c\x0e-\x1f\x7f]")
_ODD: Final = re.compile("[^\t\n\r -~]")
# A terminal's colours (ECMA-48, 5.4), whose last letter would else belong to the word behind it.
_COLOURED: Final = re.compile(f"(?:\x1b\\[|\x9b)[0-?]{{0,32}}+[ -/]{{0,4}}+[@-~]|{_ODD.pattern}")
_SURROGATES: Final = re.compile("[\ud800-\udfff]")


def without_surrogates(text: str) -> str:
    """The text with U+FFFD for each lone surrogate, which JSON's escapes allow and no engine or model takes."""
    return text if text.isascii() else _SURROGATES.sub("\ufffd", text)


def normalise(text: str) -> View:
    """The text as it reads. ASCII stays as it is, but for control characters, which show as nothing."""
    return normalised(View(text))


def normalised(view: View) -> View:
    """What `view` reads as; itself where nothing reads otherwise."""
    text = view.text
    if text.isascii() and _CONTROL.search(text) is None:
        return view
    return View.of(view, _units(text))


def original_spans(view: View, findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The findings in `view`, where they lie in the original."""
    if view.original:
        return tuple(findings)
    out = []
    for n, f in enumerate(findings):
        if not n % _FINDINGS:
            checkpoint()
        out.append(Finding(*view.span(f.start, f.end), f.kind, f.score))
    return tuple(out)


def _units(text: str) -> Iterator[Unit]:
    latin = _mixed(text)
    form = _COLOURED if "\x1b" in text or "\x9b" in text else _ODD
    for n, match in enumerate(form.finditer(text)):
        if not n % _STRIDE:
            checkpoint()
        char, at = match.group(), match.start()
        if len(char) > 1 or (ord(char) in _TAGS and not _among_tags(text, at)):
            yield at, match.end(), ""
            continue
        plain = _LOOKALIKES.get(char, "") if at in latin else _plain(char)
        if plain != char:
            yield at, at + 1, plain


def _among_tags(text: str, at: int) -> bool:
    """Whether the copy of ASCII at this place is part of a text of such: one alone is a filler between letters."""
    return any(ord(other) in _TAGS for other in (*text[max(0, at - 1) : at], *text[at + 1 : at + 2]))


@lru_cache(maxsize=4096)
def _plain(char: str) -> str:
    if ord(char) in _TAGS:
        return chr(ord(char) - 0xE0000)
    category = unicodedata.category(char)
    if category in ("Cf", "Cc", "Co", "Cs") or char in _FILLERS or "\ufe00" <= char <= "\ufe0f":
        return ""
    if category in ("Zs", "Zl", "Zp"):
        return " "
    found = _DASHES.get(char) or _QUOTES.get(char) or _ALPHABETS.get(char)
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
        if not i % _STRIDE:
            checkpoint()
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
