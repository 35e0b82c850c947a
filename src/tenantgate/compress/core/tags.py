"""The marks that a client sets in a text, as in Kong's ai-prompt-compressor: one pass, whatever is nested or left open.

``<LLMLINGUA>…</LLMLINGUA>`` compresses what is inside and nothing outside; ``<llmlingua, compress=False>…</llmlingua>``
keeps what is inside. Source: https://developer.konghq.com/plugins/ai-prompt-compressor/
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final

from tenantgate.compress.core.time_budget import Work

__all__ = ["Section", "sections"]

_TAG: Final = re.compile(
    r"<(?:(?P<close>/llmlingua>)|llmlingua(?P<options>[ \t]*,[^<>\n]{0,160})?>)", re.IGNORECASE
)
_KEEP: Final = re.compile(r"compress\s*=\s*false", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Section:
    """A stretch of a text that is compressed or isn't; `marked` if a tag says so."""

    text: str
    compress: bool
    marked: bool = False


def sections(text: str, work: Work | None = None) -> tuple[Section, ...]:
    """`text` by its marks, the tags themselves taken out; tags that have no counterpart are text.

    A closing tag ends the nearest open one, and of pairs within pairs the innermost decides. Without tags of the
    first kind, all that isn't kept is compressed.
    """
    tags = _paired(text, work or Work())
    only = any(opens and not _keeps(tag) for tag, opens in tags)
    out: list[Section] = []
    around: list[Section] = [Section("", compress=not only)]  # how it goes on outside of each open pair
    place = 0
    for tag, opens in tags:
        out.append(replace(around[-1], text=text[place : tag.start()]))
        if opens:
            around.append(Section("", compress=not _keeps(tag), marked=True))
        else:
            around.pop()
        place = tag.end()
    out.append(replace(around[-1], text=text[place:]))
    return tuple(s for s in out if s.text)


def _paired(text: str, work: Work) -> list[tuple[re.Match[str], bool]]:
    """The tags that have a counterpart, in order, and whether each opens."""
    waiting: list[re.Match[str]] = []
    found: list[tuple[re.Match[str], bool]] = []
    for tag in _TAG.finditer(text):
        work.step()
        if tag["close"] is None:
            waiting.append(tag)
        elif waiting:
            found += [(waiting.pop(), True), (tag, False)]
    return sorted(found, key=lambda pair: pair[0].start())


def _keeps(tag: re.Match[str]) -> bool:
    return bool(_KEEP.search(tag["options"] or ""))
