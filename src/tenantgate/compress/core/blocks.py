"""Code, JSON, mark-up and formulas in a text: closed to folding and to pruning.

Every search takes time in proportion to the text: a closing sign that was looked for once isn't looked for again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from tenantgate.compress.core.spans import Kind, Span, inside, merged
from tenantgate.compress.core.time_budget import Work

__all__ = ["blocks", "enclosed", "is_natural", "json_spans"]

_RUN: Final = re.compile(r"`+|~{3,}")
_LANGUAGE: Final = re.compile(r"[\w+#.-]{0,40}[ \t]{0,8}\r?\n")  # of a fence
_FENCE_MARGIN: Final = 200  # characters of blanks and quote marks before a fence
_LONGEST_INLINE: Final = 2000
_TAG: Final = re.compile(r"</?[A-Za-z][\w:.-]{0,60}(?:\s[^<>\n]{0,300})?/?>")
_FORMULA: Final = re.compile(
    r"\$(?=[^$\n]{0,300}[\\=^_{}+<>])[^\s$][^$\n]{0,300}(?<!\s)\$(?!\d)|\\[A-Za-z]{2,20}\{[^{}\n]{0,300}\}"
)
_FORMULA_PAIRS: Final = (("$$", "$$"), ("\\[", "\\]"), ("\\(", "\\)"))
_LONGEST_FORMULA: Final = 1000
_ENVIRONMENT: Final = re.compile(r"\\begin(\{\w{1,20}\*?\})")
# Lines come without blanks at their end. No two parts that follow each other take the same characters.
_STRONG_LINE: Final = re.compile(
    r"[ \t>]*(?:"
    r"(?:from\s+[\w.]+\s+import|import\s+[\w.*{]+|#\s*(?:include|define|ifn?def|endif|pragma)\b|using\s+[\w.:]+;|package\s+[\w.]+;?$)"
    r"|(?:async\s+)?(?:def|class|func|fn|function|interface|struct|enum|impl|trait|namespace)\b[^.?!\n]*[({:]\s*\S*$"
    r"|(?:public|private|protected|static|final|const|let|var|export|extern|typedef)\s[\w<>\[\],* ]+[=({;:]"
    r"|(?:if|for|while|switch|elif|else\s+if|except|catch|with|try|else|finally|do)\b.*[{:]$"
    r"|(?:SELECT|INSERT|UPDATE|DELETE|CREATE|ALTER|DROP|FROM|WHERE|JOIN|GROUP\s+BY|ORDER\s+BY)\b.*$(?<![.?!])"
    r"|[$#>%]\s+(?:sudo|cd|ls|git|pip|npm|docker|kubectl|curl|python3?|make|apt|ssh|cat|echo|export)\b"
    r"|@\w+(?:\(.*\))?$|(?:return|print|console\.log|printf|raise|throw)\b\s*[\w(\"'].*$(?<![.?!,])"
    r"|[+-]{3}\s+[ab]/\S+|@@ .* @@|(?:Traceback \(most recent|File \"[^\"]+\", line \d+|at [\w.$<>]+\([^)]*:\d+\))"
    r"|\w[\w.\[\]'\"]*\s*(?:[-+*/|&]?=|:=)\s*[\w\[\](){}\"'.].*$(?<![.?!])"
    r"|[\w.]+\((?:[^()\n]|\([^()\n]*\))*\)\s*[;{]?$"
    r"|\}[\])};,]*$|.*(?:[;{]|;\s*\}|=>|\(\)|&&|\|\|)\s*(?://.*|#.*)?$"
    r"|(?://|/\*|\*/)"
    r")"
)
_WEAK_LINE: Final = re.compile(r"(?:[ \t]{2,}\S|\t\S|[\])}]|\s*$|\s*#|\s*--)")
_SENTENCE: Final = re.compile(r"[ \t]*(?:[-*•\d.)]+\s+)?[^\W\d_][\w'’-]*(?:,?\s[\w'’-]+){4}")
_LONGEST_LINE: Final = 300  # of code that isn't fenced
_MOST_BETWEEN: Final = 8  # lines that don't look like code, between lines that do
_JSON_START: Final = re.compile(r"[{\[](?=\s{0,200}[\"{\[\]}\-\dtfn])")
_DECODER: Final = json.JSONDecoder(strict=True, parse_int=str, parse_float=str)
_SHORTEST_JSON: Final = 8
_MOST_FAILURES: Final = 200  # each counts the lines up to its place
_DEPTH: Final = 900  # signs that open something, at least, before json gives up on a text's depth


def blocks(text: str, work: Work | None = None) -> tuple[Span, ...]:
    """Code (fenced, inline or by the look of its lines), JSON, mark-up and formulas: sorted, none within another."""
    work = work or Work()
    found = [Span(start, end, Kind.CODE) for start, end in _quoted_code(text, work)]
    code = merged(found)
    found += (s for s in _formulas(text, work) if not inside(s.start, code))
    found += (s for s in _markup(text, work) if not inside(s.start, code))
    data = list(json_spans(text, code, work))
    found += data
    found += _code_lines(text, merged([*(Span(s, e) for s, e in code), *data]), work)
    out: list[Span] = []
    for span in sorted(found, key=lambda s: (s.start, -s.end)):
        work.step()
        if not out or span.start >= out[-1].end:
            out.append(span)
        elif span.end > out[-1].end:  # they cross: one block of both
            out[-1] = Span(out[-1].start, span.end, Kind.CODE)
    return tuple(out)


def enclosed(
    text: str, opening: str, closing: str, most: int, work: Work, *, one_line: bool
) -> Iterator[tuple[int, int]]:
    """Where `opening`, at most `most` characters and `closing` stand, in order; with `one_line` on one line."""
    place, close, line_end = 0, -1, -1
    while (start := text.find(opening, place)) >= 0:
        work.step()
        begin = start + len(opening)
        if close < begin:
            close = text.find(closing, begin)
            if close < 0:
                return
        if one_line and line_end < begin:
            line_end = text.find("\n", begin)
            line_end = len(text) if line_end < 0 else line_end
        if 0 < close - begin <= most and not (one_line and line_end < close):
            yield start, close + len(closing)
            place = close + len(closing)
        else:
            place = begin


def _quoted_code(text: str, work: Work) -> Iterator[tuple[int, int]]:
    """Code in fences and in backticks.

    An opened fence that nobody closes runs to the end, as in CommonMark. People open them behind words, too, where
    CommonMark knows none: "the code: ```python", or all in one line.
    """
    runs = [m.span() for m in _RUN.finditer(text)]
    lines = list(_lines_of(text, runs, work))
    same = _next_of_same_length(text, runs)
    i = 0
    while i < len(runs):
        work.step()
        start, end = runs[i]
        line_start, line_end = lines[i]
        if end - start >= 3 and _only_margin(text, line_start, start):
            closing = _closing_fence(text, runs, lines, i, work)
            yield start, len(text) if closing is None else lines[closing][1]
            if closing is None:
                return
            i = closing + 1
            continue
        j = same[i]
        if end - start >= 3 and text[start] == "`" and _LANGUAGE.match(text, end):
            yield start, len(text) if j is None else runs[j][1]
            if j is None:
                return
        elif j is None or text[start] == "~" or runs[j][0] > line_end or runs[j][0] - end > _LONGEST_INLINE:
            j = i
        else:
            yield start, runs[j][1]
        i = j + 1


def _lines_of(text: str, runs: Sequence[tuple[int, int]], work: Work) -> Iterator[tuple[int, int]]:
    """Start and end of the line that each run is in."""
    start, end = 0, text.find("\n")
    for begin, _ in runs:
        work.step()
        while 0 <= end < begin:
            start, end = end + 1, text.find("\n", end + 1)
            work.step()
        yield start, len(text) if end < 0 else end


def _next_of_same_length(text: str, runs: Sequence[tuple[int, int]]) -> list[int | None]:
    following: dict[tuple[str, int], int] = {}
    out: list[int | None] = [None] * len(runs)
    for i in range(len(runs) - 1, -1, -1):
        key = text[runs[i][0]], runs[i][1] - runs[i][0]
        out[i] = following.get(key)
        following[key] = i
    return out


def _only_margin(text: str, start: int, end: int) -> bool:
    return end - start <= _FENCE_MARGIN and not text[start:end].strip(" \t>")


def _closing_fence(
    text: str, runs: Sequence[tuple[int, int]], lines: Sequence[tuple[int, int]], opening: int, work: Work
) -> int | None:
    start, end = runs[opening]
    for j in range(opening + 1, len(runs)):
        work.step()
        begin, stop = runs[j]
        line_start, line_end = lines[j]
        if (
            text[begin] == text[start]
            and stop - begin >= end - start
            and _only_margin(text, line_start, begin)
            and line_end - stop <= _FENCE_MARGIN
            and not text[stop:line_end].strip("`~ \t\r")
        ):
            return j
    return None


def _formulas(text: str, work: Work) -> Iterator[Span]:
    for opening, closing in _FORMULA_PAIRS:
        for start, end in enclosed(text, opening, closing, _LONGEST_FORMULA, work, one_line=False):
            yield Span(start, end, Kind.FORMULA)
    for m in _FORMULA.finditer(text):
        work.step()
        yield Span(*m.span(), Kind.FORMULA)
    for m in _ENVIRONMENT.finditer(text):
        work.step()
        closing = f"\\end{m[1]}"
        found = text.find(closing, m.end(), m.end() + _LONGEST_FORMULA)
        if found >= 0:
            yield Span(m.start(), found + len(closing), Kind.FORMULA)


def _markup(text: str, work: Work) -> Iterator[Span]:
    for start, end in enclosed(text, "<!--", "-->", 500, work, one_line=False):
        yield Span(start, end, Kind.MARKUP)
    for m in _TAG.finditer(text):
        work.step()
        yield Span(*m.span(), Kind.MARKUP)


def json_spans(text: str, skip: Sequence[tuple[int, int]], work: Work) -> Iterator[Span]:
    """Objects and lists of JSON outside of the spans to skip; after many that are broken none is looked for."""
    place = failures = 0
    while failures < _MOST_FAILURES and (m := _JSON_START.search(text, place)):
        work.step()
        start, place = m.start(), m.end()
        if inside(start, skip):
            continue
        try:
            value, end = _DECODER.raw_decode(text, start)
        except json.JSONDecodeError as error:
            place = max(place, error.pos)  # what was read as JSON up to here isn't read again
            failures += 1
        except RecursionError:
            place = start + _DEPTH
            failures += 1
        else:
            # [1] and the like are references, and {} is nothing.
            if end - start >= _SHORTEST_JSON and value:
                yield Span(start, end, Kind.JSON)
            place = end
        work.step((place - start) // 64)


def _code_lines(text: str, skip: Sequence[tuple[int, int]], work: Work) -> Iterator[Span]:
    """Stretches of lines that look like code, with the few lines between that don't but are no sentences."""
    start: int | None = None
    last, between, place = 0, 0, 0
    for line in text.split("\n"):
        work.step(1 + len(line) // 64)
        begin, place = place, place + len(line) + 1
        bare = line.rstrip()
        closed = inside(begin, skip)
        if bare and len(bare) < _LONGEST_LINE and not closed and _STRONG_LINE.match(bare):
            start, last, between = begin if start is None else start, begin + len(bare), 0
        elif start is not None:
            between += not _WEAK_LINE.match(line)
            long = len(bare) >= _LONGEST_LINE
            if closed or between > _MOST_BETWEEN or long or (bare[-1:] in ".?!:" and _SENTENCE.match(bare)):
                yield Span(start, last, Kind.CODE)
                start = None
    if start is not None:
        yield Span(start, last, Kind.CODE)


def is_natural(text: str, fixed: Sequence[Span], *, share: float = 0.5, loose: float = 0.1) -> bool:
    """Whether at least `share` of the characters, blanks aside, are outside of code, mark-up and formulas.

    Code without fences may go on where its lines no longer look like code, so no more than `loose` of the
    characters may be such code.
    """
    size = max(1, len("".join(text.split())))
    closed = _size(text, (f for f in fixed if f.kind is not Kind.JSON))
    unfenced = _size(text, (f for f in fixed if f.kind is Kind.CODE and text[f.start] not in "`~"))
    return closed <= (1 - share) * size and unfenced <= loose * size


def _size(text: str, spans: Iterable[Span]) -> int:
    return sum(len("".join(text[s:e].split())) for s, e in merged(spans))
