"""What stays of talk that is pruned: the words that carry its meaning, found by patterns.

All patterns take time in proportion to the text: none has two parts that may take the same characters, and what runs
up to a closing sign is looked for with `str.find`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Final

from tenantgate.compress.core.blocks import blocks, enclosed
from tenantgate.compress.core.spans import Kind, Span, inside, merged
from tenantgate.compress.core.time_budget import Work

__all__ = ["protected"]

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
    r"couple|pair|first|second|fourth|sixth|seventh|eighth|ninth|tenth|percent(?:age)?)\b"
)
_MONTH: Final = (
    r"(?:January|February|March|April|May|June|July|August|September|October|November|December|"
    r"Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec)\b\.?"
)
_DATE: Final = re.compile(
    rf"\b(?:\d{{1,2}}(?:st|nd|rd|th|\.)?\s+(?:of\s+)?)?{_MONTH}(?:\s+\d{{1,2}}(?:st|nd|rd|th)?\b)?(?:,?\s+\d{{4}}\b)?"
)
_DAY: Final = re.compile(
    r"\b(?:mon|tues|wednes|thurs|fri|satur|sun)days?\b|\b(?:today|tomorrow|yesterday|tonight|noon|midnight)\b"
    r"|\b(?:last|next|this|every|each)\s+(?:week|month|year|quarter|day|hour|morning|evening|night|spring|summer|autumn|"
    r"fall|winter)\b"
)
_QUOTES: Final = (('"', '"'), ("“", "”"), ("„", "“"), ("„", "”"), ("«", "»"), ("»", "«"), ("‘", "’"))
_LONGEST_QUOTE: Final = 400
_SINGLE_QUOTE: Final = re.compile(r"(?<!\w)'(?=\S)[^'\n]{1,300}'(?!\w)")
_NEGATION: Final = re.compile(
    r"\b(?:(?:am|is|are|was|were|do|does|did|have|has|had|can|could|will|would|shall|should|may|might|must)\s+)?"
    r"(?:not|no|nor|none|never|neither|nobody|nothing|nowhere|without|cannot|hardly|barely|scarcely|rarely|seldom|lacks?|"
    r"lacking|excludes?|excluding|except|unless|avoid|refuse[ds]?|den(?:y|ies|ied)|fail(?:s|ed)?|nope|nah)\b(?:\s+[\w'’-]+)?"
    r"|\b\w+n['’]t\b(?:\s+[\w'’-]+)?|\b(?:do|does|did|is|was|are|were|would|could|should|have|had|has|ca|wo)nt\b"
)
_CONDITION: Final = re.compile(
    r"\b(?:if|unless|whether|when|whenever|while|until|till|once|because|although|though|since|provided|providing|assuming|"
    r"suppose|supposed|in\s+case|as\s+long\s+as|as\s+soon\s+as|so\s+that|in\s+order|otherwise|else|then|or|but|and|"
    r"can|could|may|might|must|shall|should|will|would|ought|need|needs|needed|(?:have|has|had)\s+to|want|wants|wanted|"
    r"let|maybe|perhaps|probably|possibly|likely|unlikely|"
    r"(?:a\s+|the\s+|quite\s+a\s+|very\s+)?(?:few|little)|a\s+(?:lot|bit|couple|number|hundred|thousand|million|dozen)|some|any|"
    r"many|much|several|enough|less|least|more|most|fewer|fewest|either|just|even|almost|nearly|about|around|"
    r"approximately|roughly|quite|too|very|rather|pretty|somewhat|sure|certain|certainly|definitely|always|usually|"
    r"sometimes|often|the\s+(?:same|other|others|only|whole|rest|former|latter|more|less|most|least|few|one|ones))\b"
)
_LIMIT: Final = re.compile(
    r"\b(?:only|must|at\s+(?:least|most)|no\s+more|up\s+to|(?:more|less|fewer|greater|larger|smaller|higher|lower|older|"
    r"younger|longer|shorter|heavier|taller|faster|slower|cheaper)(?:\s+\w+){0,2}\s+than|until|before|after|per|each|every|"
    r"all|both|between|remaining|left|total|altogether|instead|however|otherwise|maximum|minimum|exactly)\b"
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


def protected(text: str, work: Work | None = None) -> tuple[Span, ...]:
    """All that stays in `text`, sorted; spans may overlap."""
    work = work or Work()
    found = list(blocks(text, work))
    low = _lower(text)  # expressions that ignore case are several times slower
    for pattern, kind, where in (
        (_NUMBER, Kind.NUMBER, text),
        (_DATE, Kind.DATE, text),
        (_SINGLE_QUOTE, Kind.QUOTE, text),
        (_PLACE, Kind.NAME, text),
        (_NUMBER_WORDS, Kind.NUMBER, low),
        (_DAY, Kind.DATE, low),
        (_NEGATION, Kind.NEGATION, low),
        (_CONDITION, Kind.CONDITION, low),
        (_LIMIT, Kind.LIMIT, low),
    ):
        work.check()
        for m in pattern.finditer(where):
            work.step()
            found.append(Span(*m.span(), kind))
    for opening, closing in _QUOTES:
        pairs = enclosed(text, opening, closing, _LONGEST_QUOTE, work, one_line=True)
        found += (Span(start, end, Kind.QUOTE) for start, end in pairs)
    for find in (_addresses, _odd_words, _names, _placeholders):
        work.check()
        for span in find(text):
            work.step()
            found.append(span)
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
        if start in common or inside(start, speakers):
            continue
        # Two words of one name, with the blank between them.
        yield Span(last[0] if last and text[last[1] : start] == " " else start, end, Kind.NAME)
        last = (start, end)


def _placeholders(text: str) -> Iterator[Span]:
    """`{name}` of a template, but not the marks that transcripts are full of (`{vocalsound}`)."""
    found = list(_PLACEHOLDER.finditer(text))
    often = {word for word, n in Counter(m.group(1) for m in found).items() if n > 3 and word.islower()}
    yield from (Span(*m.span(), Kind.NAME) for m in found if m.group(1) not in often)
