"""Prose that a client marked for compression: the only prose that words are taken out of.

In prose little goes but `the`, so unmarked prose isn't worth the risk.
"""

from __future__ import annotations

import re
from typing import Final

from tenantgate.compress.core.time_budget import Work
from tenantgate.compress.core.transcript import English, Transcript, english_parts

__all__ = ["marked_prose"]

_FEWEST_WORDS: Final = 25
_FEWEST_SENTENCES: Final = 2
_LONGEST: Final = 8000
_SENTENCE: Final = re.compile(r"[^.?!]+[.?!]+[\"'”’)]*\s*")
# Beginnings of sentences that tell something. Whatever begins otherwise may ask for something, and stays.
_TELLING: Final = frozenset(
    "the this that these those there it its he she they we i his her their our my a an in on at by for from with after "
    "before during since as although though while because both many most some several all each every another one two "
    "three however but and so also yet still today yesterday earlier later meanwhile instead according".split()
)
_ASKING: Final = re.compile(
    r"\b(?:you|your|yours|please|must|should|shall|answer|reply|respond|response|output|task|translate|summari[sz]e|write|"
    r"rewrite|ignore|following|above|below|let|let's)\b|[\"“”„«»`{}<>|=*_#\[\]]|['‘’]\s|\s['‘]|:\s*$",
    re.IGNORECASE,
)


def marked_prose(text: str, english: English, work: Work) -> tuple[Transcript, ...]:
    """Paragraphs of one line, of two sentences or more, whose telling English sentences are free."""
    found: list[Transcript] = []
    place = 0
    for line in text.split("\n"):
        work.step(1 + len(line) // 64)
        start, place = place, place + len(line) + 1
        if len(line) > _LONGEST or len(line.split()) < _FEWEST_WORDS or not line[0].isalpha():
            continue
        sentences = [m.span() for m in _SENTENCE.finditer(line)]
        if len(sentences) < _FEWEST_SENTENCES:
            continue
        free = [
            (start + s, start + e)
            for s, e in sentences
            if _tells(line[s:e]) and english_parts(line, s, e, english, work) == [(s, e)]
        ]
        if free:
            found.append(Transcript(start, start + len(line), tuple(free)))
    return tuple(found)


def _tells(sentence: str) -> bool:
    first = sentence.split(maxsplit=1)[0].strip(",").lower() if sentence.strip() else ""
    return first in _TELLING and not _ASKING.search(sentence)
