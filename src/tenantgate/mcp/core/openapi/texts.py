"""Texts of a document that models will read: clipped, and without characters that nobody sees."""

from __future__ import annotations

import re
import unicodedata
from typing import Any, Final

__all__ = ["clipped", "visible"]

# Joiners that scripts need; all other format characters can hide text from the people who approve a tool.
_NEEDED: Final = frozenset("\u200c\u200d")
_SUSPECT: Final = re.compile(r"[^\n\t\x20-\x7e\xa1-\xac\xae-\u02ff]")
_MANY_LINES: Final = re.compile(r"\n\s*\n\s*\n+")


def visible(text: str) -> str:
    """`text` without control and format characters, private ones and halves of surrogate pairs."""
    if not _SUSPECT.search(text):
        return text
    return "".join(c for c in text if c in "\n\t" or c in _NEEDED or unicodedata.category(c)[0] != "C")


def clipped(value: Any, most: int) -> str:
    """A description of at most `most` characters; empty where `value` is no text."""
    if not isinstance(value, str):
        return ""
    text = _MANY_LINES.sub("\n\n", visible(value[: most * 4]).replace("\r\n", "\n").strip())
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"
