"""Lossless folding: the same content in fewer characters.

Blanks that nobody sees go, JSON over several lines and wide Markdown tables lose their padding; where the content is
what is asked for, passages that come again are named instead of written again. Code, mark-up, formulas and all lines
that aren't plainly prose (verse, lists, YAML, drawings) are closed to it. Each function is a step with a switch of its
own; `fold` runs them until nothing changes, so that folding twice is folding once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Final

from tenantgate.compress.core.blocks import blocks
from tenantgate.compress.core.spans import Kind, Span, inside, merged, touches
from tenantgate.compress.core.time_budget import Work

__all__ = ["HARMLESS", "STEPS", "fold", "minify_json"]

HARMLESS: Final = ("whitespace", "structure")
"""The steps that lose no word, whatever is asked."""

_ROUNDS: Final = 4
_SHORTEST_PASSAGE: Final = (
    160  # characters without blanks' runs: about 40 tokens, several times the note's own
)
_SHORTEST_LINE: Final = 30  # of a log: below, "again" saves nothing
_HEAD_WORDS: Final = 5
_FEWEST_JSON_LINES: Final = 4  # below that it is as likely an example as data
_LONGEST_PROSE_LINE: Final = 20_000

_STRING_OR_BLANKS: Final = re.compile(r"(\"(?:[^\"\\]|\\.)*\")|[ \t\r\n]+")
_PROSE: Final = re.compile(r"[\"'“‘(]?[^\W\d_][\w'’-]*(?:[,;:]?[ ][\w'’(\"“-][\w'’)\"”-]*){7}")
_TWO_AFTER_SENTENCE: Final = re.compile(r"(?<=[^\W\d_]{3}[.!?])  (?=[^\W\d_])")
_RULER: Final = re.compile(r"([-=_*#~+.])\1{9,}")
_QUOTE_MARKS: Final = re.compile(r"(?:> ?){2,20}(?=[^> \t\n])")
_QUOTE_PREFIX: Final = re.compile(r"^[ \t]{0,20}(?:>[ \t]?)+", re.MULTILINE)

Step = Callable[[str, Sequence[Span], Work], str]


def minify_json(text: str) -> str:
    """`text`, which must be valid JSON, without blanks between its parts; all else is left byte for byte."""
    return _STRING_OR_BLANKS.sub(lambda m: m.group(1) or "", text)


def fold(text: str, steps: Sequence[str] = (), work: Work | None = None) -> str:
    """`text` after the named `STEPS`, all if none is named. Idempotent: a text that doesn't settle is left as it is.

    Raises:
        OutOfTimeError: the deadline of `work` has passed.
    """
    work = work or Work()
    current, fixed = text, blocks(text, work)
    for _ in range(_ROUNDS):
        before = current
        for name in steps or STEPS:
            work.check()
            folded = STEPS[name](current, fixed, work)
            if folded != current:
                current, fixed = folded, blocks(folded, work)
        if current == before:
            return current
    return text


def _lines(text: str, fixed: Sequence[Span], work: Work) -> Iterator[tuple[str, bool]]:
    """Each line, and whether it touches a block."""
    closed, place = merged(fixed), 0
    for line in text.split("\n"):
        work.step(1 + len(line) // 64)
        yield line, touches(place, place + len(line), closed) or inside(place, closed)
        place += len(line) + 1


def _is_prose(line: str) -> bool:
    """Whether a line is a sentence, and no verse, item, row or drawing: eight words, one blank between each."""
    bare = line.rstrip()
    return len(bare) <= _LONGEST_PROSE_LINE and bool(_PROSE.match(bare)) and bare[-1:] in '.!?…"”’):;'


def _whitespace(text: str, fixed: Sequence[Span], work: Work) -> str:
    """No blanks at the ends of prose, one empty line at most between its paragraphs, one blank between sentences."""
    lines = list(_lines(text, fixed, work))
    prose = [not closed and _is_prose(line) for line, closed in lines]
    out: list[str] = []
    empty: list[str] = []
    was_prose = False
    for i, ((line, closed), is_prose) in enumerate(zip(lines, prose, strict=True)):
        work.step()
        if not line.strip() and not closed and i + 1 < len(lines):
            empty.append(line)
            continue
        # Where more than one line is empty between paragraphs of prose one is left.
        out += [""] if len(empty) > 1 and was_prose and is_prose else empty
        empty = []
        out.append(_trimmed(line, lines[i + 1][0] if i + 1 < len(lines) else None) if is_prose else line)
        was_prose = is_prose
    return "\n".join([*out, *empty])


def _trimmed(line: str, following: str | None) -> str:
    line = _TWO_AFTER_SENTENCE.sub(" ", line)
    bare = line.rstrip(" \t")
    # Two blanks before another line break it in Markdown, and a text's last blank may be meant to be gone on from.
    breaks = following is not None and following.strip() and line.endswith("  ")
    return line if breaks or following is None else bare


def _structure(text: str, fixed: Sequence[Span], work: Work) -> str:
    """JSON over several lines without white space, Markdown tables without padding."""
    out, place = [], 0
    for span in fixed:
        work.step()
        out.append(_tables(text[place : span.start], work))
        piece = text[span.start : span.end]
        if span.kind is Kind.JSON and piece.count("\n") >= _FEWEST_JSON_LINES:
            piece = minify_json(piece)
        out.append(piece)
        place = span.end
    out.append(_tables(text[place:], work))
    return "".join(out)


def _tables(piece: str, work: Work) -> str:
    if "|" not in piece:
        return piece
    lines = piece.split("\n")
    for rule in range(1, len(lines)):
        work.step()
        if not _is_rule(lines[rule]) or not _is_row(lines[rule - 1]):
            continue
        cells = [cell.strip() for cell in lines[rule].strip().split("|")[1:-1]]
        lines[rule] = "|".join(["", *(_short_rule(cell) for cell in cells), ""])
        lines[rule - 1] = _narrow(lines[rule - 1])
        for i in range(rule + 1, len(lines)):
            if not _is_row(lines[i]) or _is_rule(lines[i]):
                break
            work.step()
            lines[i] = _narrow(lines[i])
    return "\n".join(lines)


def _is_row(line: str) -> bool:
    bare = line.strip()
    return len(bare) > 2 and bare[0] == bare[-1] == "|" and "`" not in bare and "\\|" not in bare


def _is_rule(line: str) -> bool:
    return _is_row(line) and set(line.strip()) <= set("|-: \t") and "-" in line


def _short_rule(cell: str) -> str:
    return f"{':' if cell[:1] == ':' else ''}---{':' if cell[-1:] == ':' else ''}"


def _narrow(row: str) -> str:
    return "|".join(
        ["", *(f" {cell.strip()} " if cell.strip() else " " for cell in row.strip().split("|")[1:-1]), ""]
    )


def _boilerplate(text: str, fixed: Sequence[Span], work: Work) -> str:
    """Rulers of three signs, and one mark for quotes within quotes."""
    out = []
    for line, closed in _lines(text, fixed, work):
        bare = line.strip()
        if not closed and _RULER.fullmatch(bare):
            out.append(bare[:3])
        elif not closed and (marks := _QUOTE_MARKS.match(line)):
            out.append(">" * marks.group().count(">") + " " + line[marks.end() :])
        else:
            out.append(line)
    return "\n".join(out)


def _repeats(text: str, fixed: Sequence[Span], work: Work) -> str:
    """Lines that follow themselves are counted; long paragraphs that come again are named by their first words."""
    out: list[str] = []
    seen = set[str]()
    paragraphs = list(_paragraphs(text, fixed, work))
    written = [i for i, (lines, _) in enumerate(paragraphs) if any(map(str.strip, lines))]
    last = written[-1] if written else -1
    for i, (lines, closed) in enumerate(paragraphs):
        work.step(len(lines))
        if closed:
            out += lines
            continue
        key = " ".join(_QUOTE_PREFIX.sub("", "\n".join(lines)).split())
        # What stands last is what the prompt asks for: it stays, however often it was said.
        if len(key) >= _SHORTEST_PASSAGE and key in seen and i != last:
            out.append(f"[as above: {' '.join(key.split(' ', _HEAD_WORDS)[:_HEAD_WORDS])}…]")
        else:
            seen.add(key)
            out += _counted(lines)
    return "\n".join(out)


def _paragraphs(text: str, fixed: Sequence[Span], work: Work) -> Iterator[tuple[list[str], bool]]:
    """Stretches of lines that are all empty or all not, and whether they are closed."""
    for key, group in groupby(
        _lines(text, fixed, work), key=lambda pair: (bool(pair[0].strip()) and not pair[1], pair[1])
    ):
        yield [line for line, _ in group], not key[0]


def _counted(lines: list[str]) -> list[str]:
    out: list[str] = []
    for line, group in groupby(lines):
        more = sum(1 for _ in group) - 1
        if more and len(line.strip()) >= _SHORTEST_LINE:
            out += [line, f"[same line {more} more time{'s' if more > 1 else ''}]"]
        else:
            out += [line] * (more + 1)
    return out


STEPS: Final[dict[str, Step]] = {
    "whitespace": _whitespace,
    "structure": _structure,
    "repeats": _repeats,
    "boilerplate": _boilerplate,
}
"""The steps by the names of their switches."""
