"""What of a text is never taken out: found by patterns, as spans of characters.

Two kinds of spans. Blocks (code, JSON, mark-up, formulas) are also closed to folding. The rest (numbers, dates,
names, negations …) may stand in text that is folded or pruned, but stays.
"""

from __future__ import annotations

import enum
import json
import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

__all__ = ["Kind", "Span", "blocks", "is_natural", "merged", "protected", "spans_of", "touches"]


class Kind(enum.Enum):
    """Why a span stays."""

    CODE = "code"
    JSON = "json"
    MARKUP = "markup"
    FORMULA = "formula"
    ADDRESS = "address"
    NUMBER = "number"
    DATE = "date"
    QUOTE = "quote"
    NEGATION = "negation"
    LIMIT = "limit"
    NAME = "name"
    INSTRUCTION = "instruction"
    MARKED = "marked"


@dataclass(frozen=True, slots=True)
class Span:
    """Characters from `start` up to `end` of a text."""

    start: int
    end: int
    kind: Kind = Kind.MARKED


def merged(spans: Iterable[Span]) -> tuple[tuple[int, int], ...]:
    """The spans sorted, those that touch or overlap joined."""
    out: list[tuple[int, int]] = []
    for start, end in sorted((s.start, s.end) for s in spans if s.end > s.start):
        if out and start <= out[-1][1]:
            out[-1] = (out[-1][0], max(out[-1][1], end))
        else:
            out.append((start, end))
    return tuple(out)


def spans_of(pairs: Iterable[tuple[int, int]]) -> list[Span]:
    """Pairs of start and end as spans."""
    return [Span(start, end) for start, end in pairs]


def touches(start: int, end: int, spans: Sequence[tuple[int, int]]) -> bool:
    """Whether some of the `merged` spans shares a character with `start` to `end`."""
    i = bisect_right(spans, (start, 1 << 62)) - 1
    return (i >= 0 and spans[i][1] > start) or (i + 1 < len(spans) and spans[i + 1][0] < end)


# -- blocks ----------------------------------------------------------------------------------------------

# An opened fence that nobody closes runs to the end, as in CommonMark. People open them behind words, too, where
# CommonMark knows none: "the code: ```python", or all in one line.
_FENCE: Final = re.compile(
    r"^[ \t>]*(?P<f>`{3,}|~{3,})[^\n]*(?:\n|\Z)(?:.*?^[ \t>]*(?P=f)[`~]*[ \t]*$|.*)"
    r"|(?<!`)(?P<l>`{3,})(?!`)(?:[\w+#.-]*[ \t]*\n.*?(?:(?P=l)|\Z)|[^`\n]{1,2000}(?P=l))",
    re.MULTILINE | re.DOTALL,
)
_INLINE_CODE: Final = re.compile(r"(?<!`)(?P<t>`{1,2})(?!`)[^`\n]{1,2000}(?P=t)(?!`)")
_MARKUP: Final = re.compile(r"<!--.{0,500}?-->|</?[A-Za-z][\w:.-]{0,60}(?:\s[^<>\n]{0,300})?/?>", re.DOTALL)
_FORMULA: Final = re.compile(
    r"\$\$.{1,500}?\$\$|\\\[.{1,500}?\\\]|\\\(.{1,500}?\\\)|\\begin\{(\w{1,20}\*?)\}.{0,1000}?\\end\{\1\}"
    r"|\$(?=[^$\n]*[\\=^_{}+<>])[^\s$][^$\n]{0,300}(?<!\s)\$(?!\d)|\\[A-Za-z]{2,20}\{[^{}\n]{0,300}\}",
    re.DOTALL,
)
_STRONG_LINE: Final = re.compile(
    r"^[ \t>]*(?:"
    r"(?:from\s+[\w.]+\s+import|import\s+[\w.*{]+|#\s*(?:include|define|ifn?def|endif|pragma)\b|using\s+[\w.:]+;|package\s+[\w.]+;?$)"
    r"|(?:async\s+)?(?:def|class|func|fn|function|interface|struct|enum|impl|trait|namespace)\b[^.?!\n]*[({:]\s*\S*$"
    r"|(?:public|private|protected|static|final|const|let|var|export|extern|typedef)\s+[\w<>\[\],* ]+\s*[=({;:].*$"
    r"|(?:if|for|while|switch|elif|else\s+if|except|catch|with|try|else|finally|do)\b.*[{:]\s*$"
    r"|(?:SELECT|INSERT|UPDATE|DELETE|CREATE|ALTER|DROP|FROM|WHERE|JOIN|GROUP\s+BY|ORDER\s+BY)\b.*$(?<![.?!])"
    r"|[$#>%]\s+(?:sudo|cd|ls|git|pip|npm|docker|kubectl|curl|python3?|make|apt|ssh|cat|echo|export)\b.*"
    r"|@\w+(?:\(.*\))?\s*$|(?:return|print|console\.log|printf|raise|throw)\b\s*[\w(\"'].*[)\];]?\s*$(?<![.?!,])"
    r"|[+-]{3}\s+[ab]/\S+|@@ .* @@.*|(?:Traceback \(most recent|File \"[^\"]+\", line \d+|at [\w.$<>]+\([^)]*:\d+\)).*"
    r"|\w[\w.\[\]'\"]*\s*(?:[-+*/|&]?=|:=)\s*[\w\[\](){}\"'.].*$(?<![.?!])"
    r"|[\w.]+\((?:[^()\n]|\([^()\n]*\))*\)\s*[;{]?\s*$"
    r"|\}[\])};,]*\s*$|.*(?:[;{]|;\s*\}|=>|\(\)|&&|\|\|)\s*(?://.*|#.*)?$"
    r"|(?://|/\*|\*/).*"
    r")"
)
_WEAK_LINE: Final = re.compile(r"^(?:[ \t]{2,}\S|\t\S|[\])}]|\s*$|\s*#|\s*--)")
_SENTENCE: Final = re.compile(r"^[ \t]*(?:[-*•\d.)]+\s+)?[^\W\d_][\w'’-]*(?:,?\s[\w'’-]+){4,}.*[.?!:]\s*$")
_MOST_BETWEEN: Final = 8  # lines that don't look like code, between lines that do
_JSON_START: Final = re.compile(r"[{\[]\s*(?=[\"{\[\]}\-\dtfn])")
_DECODER: Final = json.JSONDecoder(strict=True)
_SHORTEST_JSON: Final = 8
_MOST_JSON_TRIES: Final = 200


def blocks(text: str) -> tuple[Span, ...]:
    """Code (fenced, inline or by the look of its lines), JSON, mark-up and formulas: sorted, none within another."""
    found: list[Span] = [Span(*m.span(), Kind.CODE) for m in _FENCE.finditer(text)]
    fenced = merged(found)
    for pattern, kind in (
        (_INLINE_CODE, Kind.CODE),
        (_FORMULA, Kind.FORMULA),
        (_MARKUP, Kind.MARKUP),
    ):
        found += (Span(*m.span(), kind) for m in pattern.finditer(text) if not _inside(m.start(), fenced))
    json_spans = list(_json_spans(text, fenced))
    found += json_spans
    found += _code_lines(text, merged([Span(s, e) for s, e in fenced] + json_spans))
    out: list[Span] = []
    for span in sorted(found, key=_order):
        if not out or span.start >= out[-1].end:
            out.append(span)
        elif span.end > out[-1].end:  # they cross: one block of both
            out[-1] = Span(out[-1].start, span.end, Kind.CODE)
    return tuple(out)


def _inside(place: int, spans: Sequence[tuple[int, int]]) -> bool:
    i = bisect_right(spans, (place, 1 << 62)) - 1
    return i >= 0 and spans[i][0] <= place < spans[i][1]


def _json_spans(text: str, skip: Sequence[tuple[int, int]]) -> Iterator[Span]:
    place, tries = 0, 0
    while tries < _MOST_JSON_TRIES and (m := _JSON_START.search(text, place)):
        place = m.start() + 1
        if _inside(m.start(), skip):
            continue
        tries += 1
        try:
            value, end = _DECODER.raw_decode(text, m.start())
        except (ValueError, RecursionError):
            continue
        # [1] and the like are references, and {} is nothing.
        if end - m.start() >= _SHORTEST_JSON and value:
            yield Span(m.start(), end, Kind.JSON)
            place = end


def _code_lines(text: str, skip: Sequence[tuple[int, int]]) -> Iterator[Span]:
    """Stretches of lines that look like code, with the few lines between that don't but are no sentences."""
    start: int | None = None
    last, between, place = 0, 0, 0
    for line in text.splitlines(keepends=True):
        begin, place = place, place + len(line)
        bare = line.rstrip()
        closed = _inside(begin, skip)
        if bare and len(bare) < 300 and not closed and _STRONG_LINE.match(bare):
            start, last, between = begin if start is None else start, begin + len(bare), 0
        elif start is not None:
            between += not _WEAK_LINE.match(line)
            if closed or between > _MOST_BETWEEN or len(bare) >= 300 or _SENTENCE.match(bare):
                yield Span(start, last, Kind.CODE)
                start = None
    if start is not None:
        yield Span(start, last, Kind.CODE)


# -- what stays inside natural language ------------------------------------------------------------------

_ADDRESS: Final = re.compile(
    r"\b(?:[a-z][a-z0-9+.-]{1,20}://|www\.)[^\s<>\"'`]{1,2000}|@[\w-]{1,63}(?:\.[\w-]{1,63})+"
    r"|(?<![\w/])(?:~|\.{1,2})?/(?:[\w.@-]+/)*[\w.@-]+|\b[A-Za-z]:\\[^\s\"'<>|]{1,300}"
    r"|(?<=\w)\.(?:com|org|net|io|dev|ai|de|uk|py|js|ts|json|ya?ml|txt|csv|md|html?|pdf|docx?|xlsx?)\b",
    re.IGNORECASE,
)
_UNIT: Final = (
    r"(?:\s?(?:%|‰|°\s?[CF]?|[€$£¥₹])|\s?[-\s]?(?:percent|per\s+cent|euros?|dollars?|cents?|pounds?|bucks|million|billion|"
    r"trillion|thousand|hundred|dozen|[kmg]?hz|[kmgt]i?b|k?bps|mbps|[munµ]?s|ms|sec(?:ond)?s?|min(?:ute)?s?|h(?:ou)?rs?|h|"
    r"days?|weeks?|months?|years?|yrs?|quarters?|[ckmn]?m|met(?:er|re)s?|miles?|feet|foot|ft|inch(?:es)?|yards?|"
    r"[km]?g|grams?|kilos?|tons?|oz|ounces?|lbs?|lit(?:er|re)s?|ml|l|gallons?|cups?|volts?|v|watts?|k?w|kwh|"
    r"degrees?|points?|pages?|times|people|persons?|px|pt|em|dpi|tokens?|chars?|words?|lines?|rows?|columns?|a\.?m\.?|"
    r"p\.?m\.?|o'clock)\b)"
)
_NUMBER: Final = re.compile(
    r"(?:[-+±~≈<>≤≥]\s?)?(?:[$€£¥₹#§]\s?|No\.\s?)?(?<!\w)\w*\d\w*(?:[.,:/×x*^'’–-]+\w*\d\w*)*(?:st|nd|rd|th)?"
    + _UNIT
    + "?",
    re.IGNORECASE,
)
_WORD_NUMBER: Final = (
    r"(?:zero|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen|sixteen|"
    r"seventeen|eighteen|nineteen|twenty|thirty|forty|fou?rty|fifty|sixty|seventy|eighty|ninety|hundred|thousand|million|"
    r"billion|dozen)"
)
_NUMBER_WORDS: Final = re.compile(
    rf"\b{_WORD_NUMBER}s?(?:(?:\s+|-|\s+and\s+|\s+point\s+){_WORD_NUMBER}s?)*\b{_UNIT}?"
    r"|\b(?:half|halves|thirds?|quarters?|fourths?|fifths?|once|twice|thrice|double[ds]?|triple[ds]?|quadruple[ds]?|"
    r"couple|pair|first|second|fourth|sixth|seventh|eighth|ninth|tenth|percent(?:age)?)\b",
)
_MONTH: Final = (
    r"(?:January|February|March|April|May|June|July|August|September|October|November|December|"
    r"Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec)\b\.?"
)
_DATE: Final = re.compile(
    rf"\b(?:\d{{1,2}}(?:st|nd|rd|th|\.)?\s+(?:of\s+)?)?{_MONTH}(?:\s+\d{{1,2}}(?:st|nd|rd|th)?\b)?(?:,?\s+\d{{4}}\b)?"
)  # fmt: skip
_DAY: Final = re.compile(
    r"\b(?:mon|tues|wednes|thurs|fri|satur|sun)days?\b|\b(?:today|tomorrow|yesterday|tonight|noon|midnight)\b"
    r"|\b(?:last|next|this|every|each)\s+(?:week|month|year|quarter|day|hour|morning|evening|night|spring|summer|autumn|"
    r"fall|winter)\b",
)
_QUOTE: Final = re.compile(
    r"\"[^\"\n]{1,400}\"|“[^”\n]{1,400}”|„[^“”\n]{1,400}[“”]|«[^»\n]{1,400}»|‘[^’\n]{1,400}’(?!\w)|(?<!\w)'[^'\n]{1,300}'(?!\w)"
)
_NEGATION: Final = re.compile(
    r"\b(?:not|no|nor|none|never|neither|nobody|nothing|nowhere|without|cannot|hardly|barely|lacks?|lacking|"
    r"excludes?|excluding|except|unless|avoid|refuse[ds]?|den(?:y|ies|ied)|fail(?:s|ed)?|"
    r"nicht|kein\w{0,2}|nie|niemals|ohne|pas|jamais|sans|rien|nunca|sin|non|mai|senza|não|nem)\b"
    r"|\b\w+n['’]t\b|\b(?:do|does|did|is|was|are|were|would|could|should|have|had|has|ca|wo)nt\b",
)
_LIMIT: Final = re.compile(
    r"\b(?:only|must|at\s+(?:least|most)|no\s+more|up\s+to|(?:more|less|fewer|greater|larger|smaller|higher|lower|older|"
    r"younger|longer|shorter|heavier|taller|faster|slower|cheaper)(?:\s+\w+){0,2}\s+than|until|before|after|per|each|every|"
    r"all|both|between|remaining|left|total|altogether|instead|however|otherwise|maximum|minimum|exactly)\b",
)
_BEFORE_ADDRESS: Final = re.compile(r"[\w.+%-]{1,64}\Z")
# In the midst of acronyms, camelCase, words with two capitals or an underscore, a::b …
_ODD: Final = re.compile(r"[a-z][A-Z]|[A-Z]{2}|\b[A-Z]\.[A-Z]\b\.?|_|\w::(?=\w)|[@#](?=\w)")
_WORD_END: Final = re.compile(r"(?:\w|(?<=[A-Z])\.(?=[A-Z]\b)|(?<=\b[A-Z])\.|::(?=\w))*")
# Places that something else fills in: $x, ${x}, {{ x }}, [EMAIL_ADDRESS_1], [2]
_PLACE: Final = re.compile(r"\$\{?\w+\}?|\{\{.{1,80}?\}\}|\[[\w .:/-]{1,60}\]")
_PLACEHOLDER: Final = re.compile(r"\{(\w{1,60})\}")
_CAPITAL: Final = re.compile(r"\b[^\W\d_a-z][^\W\d_]*(?:['’-][^\W\d_]+)*")
_SMALL: Final = re.compile(r"\b[a-zß-ÿ][^\W\d_]*(?:['’-][^\W\d_]+)*")
_AFTER_START: Final = re.compile(r"(?:^|[\n.!?:;•*\"“”‘(\[>|#-]|\d[.)])\s*$")
_SPEAKER: Final = re.compile(r"^[ \t>*]*[^\W\d_][\w .'’()&-]{0,40}:(?=\s)", re.MULTILINE)
# Words that start sentences, fillers and greetings: no names wherever they stand.
_NO_NAMES: Final = frozenset(
    "i i'm i've i'll i'd i’m i’ve i’ll i’d the a an and but so or if it it's it’s he she we you they this "
    "that these those there there's here what what's when where why how who which whose yes yeah yep yup no "
    "nope okay ok oh ooh ah aha uh um well now then hm hmm mm mmm mhm huh right my your his her our their its "
    "in on at to for from with as by of is are was were do does did don't can could would should will shall "
    "may might must just because also maybe perhaps let let's please thanks thank sure like mr mrs ms dr "
    "that's we're we've we'll you're you've you'll they're they've he's she's actually basically anyway "
    "anyways alright absolutely exactly good great fine nice hi hello hey bye sorry wow cool one two three "
    "four five six first second third next finally last after before since while until unless although though "
    "however therefore thus hence moreover furthermore besides instead otherwise still yet even only both "
    "either neither not never none all any some most many much more less few each every another other others "
    "such same everyone everybody everything someone somebody something anyone anybody anything nobody "
    "nothing people things today tomorrow yesterday sometimes usually often always once again about above "
    "across against along among around behind below between beyond despite during except inside into near off "
    "onto out outside over past through throughout toward towards under up upon within without have has had "
    "having be been being am go going get got make see look think know mean say said tell want need try use "
    "take give come put keep find show ask call help note mm-hmm uh-huh ".split()
)


def protected(
    text: str, fixed: Sequence[Span] | None = None, *, instruction: bool = True
) -> tuple[Span, ...]:
    """All that stays in `text`, sorted; spans may overlap.

    `fixed` are the text's `blocks`, if they are known. `instruction`: also keep what asks for something: its first
    line, its last paragraph or sentence.
    """
    found = list(blocks(text) if fixed is None else fixed)
    low = _lower(text)  # expressions that ignore case are several times slower
    for pattern, kind, where in (
        (_NUMBER, Kind.NUMBER, text),
        (_DATE, Kind.DATE, text),
        (_QUOTE, Kind.QUOTE, text),
        (_PLACE, Kind.NAME, text),
        (_NUMBER_WORDS, Kind.NUMBER, low),
        (_DAY, Kind.DATE, low),
        (_NEGATION, Kind.NEGATION, low),
        (_LIMIT, Kind.LIMIT, low),
    ):
        found += (Span(*m.span(), kind) for m in pattern.finditer(where))
    for find in (_addresses, _odd_words, _names, _placeholders):
        found += find(text)
    if instruction:
        found += _instructions(text)
    return tuple(sorted(found, key=_order))


def _order(span: Span) -> tuple[int, int]:
    return span.start, -span.end


def _lower(text: str) -> str:
    """`text` in lower case, each character at its place."""
    low = text.lower()
    return low if len(low) == len(text) else "".join(c.lower() if len(c.lower()) == 1 else c for c in text)


def _addresses(text: str) -> Iterator[Span]:
    for m in _ADDRESS.finditer(text):
        start = m.start()
        if text[start] in "@.":  # what is before the sign, for which each word would have to be tried
            before = _BEFORE_ADDRESS.search(text, max(0, start - 64), start)
            start = before.start() if before else start
        yield Span(start, m.end(), Kind.ADDRESS)


def _odd_words(text: str) -> Iterator[Span]:
    end = 0
    for m in _ODD.finditer(text):
        if m.start() < end:
            continue
        start = m.start()
        while start > end and (text[start - 1].isalnum() or text[start - 1] == "_"):
            start -= 1
        ending = _WORD_END.match(text, m.end())
        end = ending.end() if ending else m.end()
        if text[start:end].lower() not in _NO_NAMES:
            yield Span(start, end, Kind.NAME)


def _names(text: str) -> Iterator[Span]:
    """Capitalised words, except those that are so only because a sentence starts.

    At a start a word counts as a name if it starts no sentences as a rule and is nowhere in lower case.
    """
    speakers = merged(Span(*m.span()) for m in _SPEAKER.finditer(text))
    words = [m for m in _CAPITAL.finditer(text) if m.group().lower() not in _NO_NAMES]
    starts = [m for m in words if _AFTER_START.search(text, max(0, m.start() - 12), m.start())]
    small = set(_SMALL.findall(text)) if starts else set()
    common = {m.start() for m in starts if m.group().lower() in small}
    last: tuple[int, int] | None = None
    for m in words:
        start, end = m.span()
        if start in common or _inside(start, speakers):
            continue
        # Two words of one name, with the blank between them.
        yield Span(last[0] if last and text[last[1] : start] == " " else start, end, Kind.NAME)
        last = (start, end)


def _placeholders(text: str) -> Iterator[Span]:
    """`{name}` of a template, but not the marks that transcripts are full of (`{vocalsound}`)."""
    found = list(_PLACEHOLDER.finditer(text))
    often = {word for word, n in Counter(m.group(1) for m in found).items() if n > 3 and word.islower()}
    yield from (Span(*m.span(), Kind.NAME) for m in found if m.group(1) not in often)


_QUESTION: Final = re.compile(r"[^.!?\n]{1,400}\?")
_MOST_QUESTIONS: Final = 3
_SENTENCE_END: Final = re.compile(r"[.!?…。！？](?:[\"'”’)\]]*)(?:\s+|$)|\n+")
_LONGEST_INSTRUCTION: Final = 400


def _instructions(text: str) -> Iterator[Span]:
    end = len(text.rstrip())
    begin = len(text) - len(text.lstrip())
    if begin >= end:
        return
    # The end: a short last paragraph as a whole, else its last sentences.
    paragraph = max(text.rfind("\n\n", begin, end), begin)
    if end - paragraph > _LONGEST_INSTRUCTION:
        paragraph = max(text.rfind("\n", begin, end), end - _LONGEST_INSTRUCTION)
        cuts = [m.end() for m in _SENTENCE_END.finditer(text, paragraph, end) if m.end() < end]
        paragraph = cuts[0] if cuts and text[paragraph : paragraph + 1] != "\n" else paragraph
    yield Span(paragraph, end, Kind.INSTRUCTION)
    # The start: its first sentence or line, as `Summarize the following:`.
    first = _SENTENCE_END.search(text, begin, min(end, begin + _LONGEST_INSTRUCTION))
    head = text[begin : first.end() if first else begin]
    if first and not _SPEAKER.match(head):
        yield Span(begin, first.end(), Kind.INSTRUCTION)
    # Few questions are likely to be the user's; many are a conversation's.
    questions = list(islice(_QUESTION.finditer(text), _MOST_QUESTIONS + 1))
    if len(questions) <= _MOST_QUESTIONS:
        yield from (Span(*m.span(), Kind.INSTRUCTION) for m in questions)


# -- what kind of text it is -----------------------------------------------------------------------------


def is_natural(text: str, fixed: Sequence[Span], *, share: float = 0.5, loose: float = 0.1) -> bool:
    """Whether at least `share` of the characters, blanks aside, are outside of code, mark-up and formulas.

    Code without fences may go on where its lines no longer look like code, so no more than `loose` of the
    characters may be such code.
    """
    size = max(1, len("".join(text.split())))
    inside = _size(text, (f for f in fixed if f.kind is not Kind.JSON))
    unfenced = _size(text, (f for f in fixed if f.kind is Kind.CODE and text[f.start] not in "`~"))
    return inside <= (1 - share) * size and unfenced <= loose * size


def _size(text: str, spans: Iterable[Span]) -> int:
    return sum(len("".join(text[s:e].split())) for s, e in merged(spans))
