"""Lossless folding: the same content in fewer characters.

Blank lines and padding go, JSON and tables lose theirs, passages that come again are named instead of written
again. Code, mark-up and formulas are closed to it. Each function is a step with a switch of its own; `fold` runs
them until nothing changes, so that folding twice is folding once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Final

from tenantgate.compress.spans import Kind, Span, blocks, merged, touches

Spans = Sequence[tuple[int, int]]

__all__ = ["STEPS", "fold", "minify_json"]

_ROUNDS: Final = 4
_SHORTEST_PASSAGE: Final = (
    160  # characters without blanks' runs: about 40 tokens, several times the note's own
)
_SHORTEST_LINE: Final = 30  # of a log: below, "again" saves nothing
_HEAD_WORDS: Final = 5

_STRING_OR_BLANKS: Final = re.compile(r"(\"(?:[^\"\\]|\\.)*\")|[ \t\r\n]+")
_LINE_END_BLANKS: Final = re.compile(r"[ \t]+(?=\r?\n|\Z)")
_BLANK_LINES: Final = re.compile(r"(?:\r?\n){3,}")
# Two blanks between words; more draw columns, where an empty cell must stay visible.
_INNER_BLANKS: Final = re.compile(r"(?<=[\w.,;:!?)\"'”’}])[ ]{2}(?=[\w(\"'“‘{])")
_TABLE_ROW: Final = re.compile(r"^[ \t]*\|.*\|[ \t]*$")
_TABLE_RULE: Final = re.compile(r"^[ \t]*\|(?:[ \t]*:?-+:?[ \t]*\|)+[ \t]*$")
_CELL_PADDING: Final = re.compile(r"[ \t]*(?<!\\)\|[ \t]*")
_RULER: Final = re.compile(r"^([ \t>]*)([-=_*#~+.])\2{9,}[ \t]*$", re.MULTILINE)
_QUOTE_MARKS: Final = re.compile(r"^(?:> ?){2,}(?=[^> \t\n])", re.MULTILINE)
_QUOTE_PREFIX: Final = re.compile(r"^[ \t]*(?:>[ \t]?)+", re.MULTILINE)
_PARAGRAPH: Final = re.compile(r"[^\n]*\S[^\n]*(?:\n[^\n]*\S[^\n]*)*")


def minify_json(text: str) -> str:
    """`text`, which must be valid JSON, without blanks between its parts; all else is left byte for byte."""
    return _STRING_OR_BLANKS.sub(lambda m: m.group(1) or "", text)


def fold(
    text: str,
    steps: Sequence[str] = ("whitespace", "structure", "repeats", "boilerplate"),
    tick: Callable[[], None] = lambda: None,
) -> str:
    """`text` after the named `STEPS`. Idempotent: a text that doesn't settle in some rounds is left as it is.

    `tick` is called between steps, and may raise to end the work.
    """
    current = text
    for _ in range(_ROUNDS):
        before = current
        for name in steps:
            fixed = blocks(current)
            tick()
            current = STEPS[name](current, fixed)
            tick()
        if current == before:
            return current
    return text


def _outside(
    pattern: re.Pattern[str], change: str | Callable[[re.Match[str]], str], text: str, closed: Spans
) -> str:
    """Substitutes matches that touch no closed span; the pattern sees what is around them."""
    out, place = [], 0
    for m in pattern.finditer(text):
        if not touches(*m.span(), closed):
            out += [text[place : m.start()], change if isinstance(change, str) else change(m)]
            place = m.end()
    return "".join(out) + text[place:]


def _whitespace(text: str, fixed: tuple[Span, ...]) -> str:
    """No blanks at line ends, one empty line at most, one blank between words."""
    # Each substitution moves what comes after it, so the closed spans are looked for anew.
    for pattern, change in ((_LINE_END_BLANKS, ""), (_BLANK_LINES, "\n\n"), (_INNER_BLANKS, " ")):
        if pattern.search(text):
            text = _outside(pattern, change, text, merged(fixed))
            fixed = blocks(text)
    start, end = len(text) - len(text.lstrip("\r\n")), len(text.rstrip())
    closed = merged(fixed)
    return text[
        0 if touches(0, start, closed) else start : len(text) if touches(end, len(text), closed) else end
    ]


def _structure(text: str, fixed: tuple[Span, ...]) -> str:
    """JSON without white space, Markdown tables without padding."""
    out, place = [], 0
    for span in fixed:
        out.append(_tables(text[place : span.start]))
        piece = text[span.start : span.end]
        out.append(minify_json(piece) if span.kind is Kind.JSON else piece)
        place = span.end
    out.append(_tables(text[place:]))
    return "".join(out)


def _tables(piece: str) -> str:
    if "|" not in piece:
        return piece
    lines = piece.split("\n")
    rules = [i for i, line in enumerate(lines) if _TABLE_RULE.match(line)]
    for rule in rules:
        if rule == 0 or not _TABLE_ROW.match(lines[rule - 1]):
            continue
        lines[rule] = re.sub(r"-+", "-", re.sub(r"[ \t]+", "", lines[rule]))
        lines[rule - 1] = _narrow(lines[rule - 1])
        for i in range(rule + 1, len(lines)):
            if not _TABLE_ROW.match(lines[i]):
                break
            lines[i] = _narrow(lines[i])
    return "\n".join(lines)


def _narrow(row: str) -> str:
    return _CELL_PADDING.sub("|", row.strip(" \t"))


def _boilerplate(text: str, fixed: tuple[Span, ...]) -> str:
    """Rulers of three signs, and one mark for quotes within quotes."""
    out = _outside(_RULER, lambda m: m.group(1) + m.group(2) * 3, text, merged(fixed))
    closed = merged(blocks(out) if out != text else fixed)
    return _outside(_QUOTE_MARKS, lambda m: ">" * m.group().count(">") + " ", out, closed)


def _repeats(text: str, fixed: tuple[Span, ...]) -> str:
    """Lines that follow themselves are counted; long paragraphs that come again are named by their first words."""
    closed = merged(fixed)
    out, place, seen = [], 0, set[str]()
    end = len(text.rstrip())
    for m in _PARAGRAPH.finditer(text):
        if touches(*m.span(), closed):
            continue
        key = " ".join(_QUOTE_PREFIX.sub("", m.group()).split())
        # What stands last is what the prompt asks for: it stays, however often it was said.
        if len(key) >= _SHORTEST_PASSAGE and key in seen and m.end() < end:
            out += [text[place : m.start()], f"[as above: {' '.join(key.split()[:_HEAD_WORDS])}…]"]
        else:
            seen.add(key)
            out += [text[place : m.start()], _lines(m.group())]
        place = m.end()
    return "".join(out) + text[place:]


def _lines(paragraph: str) -> str:
    if "\n" not in paragraph:
        return paragraph
    out: list[str] = []
    for line, group in groupby(paragraph.split("\n")):
        more = sum(1 for _ in group) - 1
        if more and len(line.strip()) >= _SHORTEST_LINE:
            out += [line, f"[same line {more} more time{'s' if more > 1 else ''}]"]
        else:
            out += [line] * (more + 1)
    return "\n".join(out)


STEPS: Final[dict[str, Callable[[str, tuple[Span, ...]], str]]] = {
    "whitespace": _whitespace,
    "structure": _structure,
    "repeats": _repeats,
    "boilerplate": _boilerplate,
}
"""The steps by the names of their switches."""
