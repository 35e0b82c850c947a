"""What a request asks for, as far as it decides how much may be done to its texts.

Recognised are summaries of, and questions about, the content, in English. Whatever else is asked, in whatever
language, is either about the wording or the layout of a text, or may be: then no word goes.
"""

from __future__ import annotations

import enum
import re
from typing import Any, Final

from tenantgate.compress.core.blocks import json_spans
from tenantgate.compress.core.tags import sections
from tenantgate.compress.core.time_budget import Work
from tenantgate.compress.core.transcript import English, transcripts
from tenantgate.compress.core.wording_tasks import about_wording
from tenantgate.llm.chat import ChatRequest

__all__ = ["MOST_CHARACTERS", "Task", "asked", "asked_of_request", "asked_of_text", "together"]


class Task(enum.Enum):
    """How a text is dealt with."""

    CONTENT = "content"
    """A summary or an answer from the content: folded, and talk is pruned."""

    NOTHING = "nothing"
    """Nothing is asked here: an empty text, or one that only introduces another."""

    UNKNOWN = "unknown"
    """Folded without touching a word."""

    WORDING = "wording"
    """Wording, layout or number of something may matter: left to the letter."""


MOST_CHARACTERS: Final = 200_000
"""Above this a text stays as it is: about 50,000 tokens, more than any deadline allows."""
_MOST_CHARACTERS: Final = 3000  # of instructions that are understood; longer ones are documents
_MOST_SENTENCES: Final = 24
_EDGE: Final = 600  # characters
_SHORT_PARAGRAPH: Final = 300

_SENTENCE: Final = re.compile(r"[^.?!\n]+[.?!]*")
_LEAD: Final = re.compile(
    r"(?:(?:please|and|also|then|now|so|finally|hi|hello|thanks|thank you|ok|okay|question|task|request)\b"
    r"[,:;.!]?\s+|(?:could|can|would|will)\s+you\s+(?:please\s+)?|[-*#>•]+\s*|\d{1,2}[.)]\s+|i\s+(?:want|need)\s+you\s+to\s+)"
)
_NAMED: Final = (
    r"(?:transcript|meeting|conversation|discussion|call|interview|talk|chat|debate|session|minutes|notes|dialogue|"
    r"hearing|standup|retrospective|podcast|context|document)"
)
_PART: Final = rf"(?:{_NAMED}|text|material|below|above|following|this|it|that)"
# Whatever the topic is: these ask for words.
_VERBATIM: Final = re.compile(
    r"\b(?:verbatim|word[- ](?:for|by)[- ]word|exact(?:ly)?|literal(?:ly)?|quot(?:e|es|ed|ing)|translat\w*|rhym\w*|"
    r"poem|laugh\w*|cough\w*|sigh\w*|paus\w*|silen\w*|noise\w*|interrupt\w*|nervous\w*|confident\w*|"
    r"talk(?:s|ed)?\s+(?:the\s+)?(?:most|more|less|least|too)|stammer\w*|mumbl\w*|mistakes?|(?:use|uses|instances?|"
    r"mentions?|occurrences?)\s+of|how\s+(?:do|does|did)\s+(?:\w+\s+){1,4}(?:talk|speak|sound|express|phrase|put|say)|"
    r"(?:['’]s|s['’]|his|her|their|my|your)\s+(?:voice|style|tone|words|manner|english)|voice\s+of|"
    r"as[- ](?:is|it\s+is|they\s+are)|leave|intact|untouched|(?:n['’]t|not|without)\s+chang\w+|"
    r"(?:own|same|original|very|exact)\s+(?:words?|phras\w*|wording|terms)|how\s+many\s+(?:times|words)|how\s+often|"
    r"in\s+(?:the\s+)?(?:style|voice|tone|language|french|german|spanish|italian|dutch|portuguese|russian|chinese|"
    r"japanese|korean|arabic|hindi|polish|turkish|latin|greek|swedish|danish|norwegian|finnish|czech|hungarian|thai))\b"
)
_AUXILIARY: Final = r"(?:did|do|does|was|were|is|are|has|have|had|will|would|should|could|can)"
# Says outright that an opinion or a topic is asked for, so that the topic may be anything.
_ABOUT: Final = re.compile(
    rf"(?:what|why|how)\s+{_AUXILIARY}\s+(?:[\w.'’-]+\s+){{1,6}}?(?:think|say|talk|discuss|feel|propose|suggest|recommend|"
    r"decide|agree|disagree|learn|mention|argue|believe|respond|want|plan|conclude|hope|see|comment|explain|report|know)\s+"
    r"(?:about|of|on|over|to|regarding|with|when|for|towards)\b"
    r"|(?:please\s+)?(?:summari[sz]e|sum\s+up|outline|recap)\s+(?:[\w'’-]+\s+){0,6}?"
    r"(?:discussions?|opinions?|views?|positions?|presentation|decisions?|debates?|plans?|perspectives?|evaluations?|"
    r"arguments?|thoughts?|ideas?|suggestions?|proposals?)\s+(?:about|of|on|over|towards|regarding|when|concerning)\b"
    r"|what\s+(?:was|were|is|are)\s+(?:the|their|his|her)\s+(?:[\w'’-]+\s+){0,2}?(?:discussions?|debates?|opinions?|views?|"
    r"decisions?|plans?|conclusions?|thoughts?)\s+(?:about|of|on|over|towards|regarding)\b"
)
_QUOTED: Final = re.compile(r"(?<!\w)['‘\"“«„`]\S")
_FORM: Final = re.compile(
    r"\b(?:as|like)\s+(?:an?|if|though)\b|\bin\s+(?:the\s+)?form\s+of\b|\bpretend\w*|\bimagin\w+"
)
# A second thing to do, in the same sentence.
_CLAUSE: Final = re.compile(
    r"(?:[,;:]\s+|\s+(?:and|then|but|or)\s+)(?:(?:and|then|but|also|please|now|finally)\s+)*(\w+)"
)
_VERBS: Final = frozenset(
    "act add answer apply ask be begin bold book bring build call change check choose classify clean colour color "
    "combine compare complete compose compute contrast convert copy count create cut delete describe do draft "
    "draw drop edit end estimate exclude expand express extend extract fill find finish fix follow forget format "
    "generate get give grade group guess highlight identify ignore imagine improve include insert invent join "
    "judge keep leave let list locate look make map mark match mention merge name note number omit order output "
    "parse paste phrase pick place play polish post predict prepare pretend print produce put quote rank rap rate "
    "read refine remove render repeat replace reply respond return reverse rewrite say schedule search select "
    "send show simplify sing skip soften solve sort speak split spot start state stop strip style swap tag take "
    "tell translate trim try turn underline use verify wrap write".split()
)
_SUMMARISES: Final = re.compile(
    r"\b(?:summari[sz]es?|summaries|minutes\s+of|answers?\s+questions)\b", re.IGNORECASE
)
_SHARED: Final = re.compile(r"(?:was|is|has|list|name|note|find)\b")
_SURE: Final = 0.5
_LIKELY: Final = 0.3
_CONTENT: Final = re.compile(
    r"(?:summari[sz]e|sum\s+up|recap|outline)\b"
    r"|(?:give|write|provide|make|create|prepare|produce|generate)\s+(?:me\s+|us\s+)?(?:a|an|the)\s+(?:[\w-]+\s+){0,3}(?:summary|"
    r"recap|overview|synopsis)\b"
    r"|(?:list|name|give|find|identify|note|tell\s+me|explain|describe)\s+(?:all\s+|me\s+)?(?:the\s+|any\s+|our\s+|their\s+)?"
    r"(?:[\w-]+\s+){0,2}(?:decisions?|action\s+items?|actions|points|takeaways|topics|risks|concerns|open\s+questions|"
    r"conclusions?|next\s+steps|agreements?|results?|reasons?|arguments?|problems?|issues?)\b"
    rf"|(?:what|what's|what’s|who|who's|whom|whose|when|where|why|which)\s+.*|how\s+{_AUXILIARY}\b.*"
    r"|(?:did|does|was|were|is|are|has|have)\s+.*\?$"
    r"|tell\s+me\s+(?:about|what|why|who|when|where)\b|explain\s+(?:what|why|who|when|where)\b"
)
_FRAME: Final = re.compile(
    rf"(?:here\s+(?:is|are)|here's|below\s+(?:is|are)|this\s+is|(?:the\s+)?following\s+(?:is|are)|attached\s+is)\s+"
    rf"(?:\w+\s+){{0,6}}{_PART}\b.{{0,60}}"
    rf"|(?:the\s+)?(?:\w+\s+){{0,2}}{_PART}(?:\s+(?:transcript|notes|below|follows))?\s*:?"
    rf"|(?:use|read|based\s+on|from|given|with|using|answer)\s+(?:\w+\s+){{0,4}}{_NAMED}\b.{{0,60}}"
    r"|you\s+are\s+(?:a|an)\s+(?:\w+\s+){0,3}assistant|be\s+(?:brief|concise|short)|keep\s+it\s+(?:brief|concise|short)"
    r"|question|thanks|thank\s+you|[-=_*#~\s]+|answer\s+(?:briefly|concisely|in\s+(?:one|two|three)\s+sentences?)"
    r"|(?:use|in)\s+(?:\w+\s+)?(?:bullets?|bullet\s+points)"
)


def asked(text: str, english: English, work: Work) -> Task:
    """What `text` asks for: the part of a message that is no material."""
    if not any(map(str.isalpha, text)):
        return Task.NOTHING
    if len(text) > _MOST_CHARACTERS:
        return Task.WORDING if about_wording(_where_instructions_stand(text, work), work) else Task.UNKNOWN
    found = Task.NOTHING
    sentences = [m.group().strip() for m in _SENTENCE.finditer(text) if any(map(str.isalpha, m.group()))]
    work.step(len(sentences) * 8)
    for sentence in sentences[:_MOST_SENTENCES]:
        kind = _sentence(sentence, english, work)
        if kind is Task.WORDING:
            return kind
        found = together(found, kind)
    return found if len(sentences) <= _MOST_SENTENCES else together(found, Task.UNKNOWN)


def _where_instructions_stand(text: str, work: Work) -> str:
    """The beginning and the end of a long text, and its short paragraphs but for tables."""
    found, paragraph = [text[:_EDGE], text[-_EDGE:]], list[str]()
    for line in [*text.split("\n"), ""]:
        work.step()
        if line.strip():
            paragraph.append(line)
        elif paragraph:
            if sum(map(len, paragraph)) <= _SHORT_PARAGRAPH and not paragraph[0].lstrip().startswith("|"):
                found += paragraph
            paragraph = []
    return "\n".join(found)


def together(first: Task, second: Task) -> Task:
    """The more careful of two; a text that asks for nothing changes nothing."""
    order = (Task.NOTHING, Task.CONTENT, Task.UNKNOWN, Task.WORDING)
    return max(first, second, key=order.index)


def asked_of_text(text: str, english: English, work: Work) -> Task:
    """What a message of this text asks for: what is left of it without transcripts and what the client marked."""
    if len(text) > MOST_CHARACTERS:
        return Task.UNKNOWN
    found = Task.NOTHING
    for section in sections(text, work):
        rest, place = [], 0
        for passage in transcripts(section.text, english, work):
            rest.append(section.text[place : passage.start])
            place = passage.end
        left = _without_data("\n".join([*rest, section.text[place:]]), work)
        if not section.marked:
            found = together(found, asked(left, english, work))
        elif about_wording(left, work):
            return Task.WORDING
    return found


def _without_data(text: str, work: Work) -> str:
    """`text` without JSON, which asks for nothing."""
    out, place = [], 0
    for span in json_spans(text, (), work):
        out.append(text[place : span.start])
        place = span.end
    return "\n".join([*out, text[place:]])


def asked_of_request(request: ChatRequest, english: English, work: Work) -> Task:
    """What a request asks for: in its last message of a user; the others may forbid it to be understood so."""
    users = [i for i, message in enumerate(request.messages) if message.get("role") == "user"]
    last = users[-1] if users else -1
    found, others = Task.NOTHING, Task.NOTHING
    for i, message in enumerate(request.messages):
        work.step()
        role = message.get("role")
        if role not in ("system", "developer", "user"):
            continue  # material, whatever it says
        text = "\n\n".join(_texts(message.get("content")))
        if i == last:
            found = asked_of_text(text, english, work)
        elif role == "user":
            task = asked_of_text(text, english, work)
            others = together(
                others, Task.NOTHING if task is Task.CONTENT else _unless_foreign(task, text, english)
            )
        else:
            others = together(others, _instructed(text, english, work))
    if others is Task.CONTENT:
        return together(found, others)
    return found if others is Task.NOTHING else together(Task.UNKNOWN, together(found, others))


def _texts(content: Any) -> list[str]:
    if isinstance(content, str):
        return [content]
    if not isinstance(content, list):
        return []
    return [p["text"] for p in content if isinstance(p, dict) and isinstance(p.get("text"), str)]


def _instructed(text: str, english: English, work: Work) -> Task:
    """What a system message means for a request: as a rule it describes a role, in words that aren't all understood."""
    if about_wording(text, work):
        return Task.WORDING
    task = _unless_foreign(Task.UNKNOWN, text, english)
    return Task.CONTENT if task is Task.NOTHING and _SUMMARISES.search(text) else task


def _unless_foreign(task: Task, text: str, english: English) -> Task:
    """English that isn't understood is no obstacle beside a task that is; another language is."""
    if task is not Task.UNKNOWN:
        return task
    return Task.NOTHING if not any(map(str.isalpha, text)) or english(text) >= _SURE else Task.UNKNOWN


def _asks_more(low: str) -> bool:
    """Whether a sentence goes on with something else to do, that isn't about the content as well."""
    return any(m[1] in _VERBS and not _CONTENT.match(low, m.start(1)) for m in _CLAUSE.finditer(low))


def _sentence(sentence: str, english: English, work: Work) -> Task:
    low = " ".join(sentence.lower().split())
    for _ in range(4):
        lead = _LEAD.match(low)
        if not lead or lead.end() == len(low):
            break
        low = low[lead.end() :]
    if not low.isascii() and english(sentence) < 0.5:
        return Task.WORDING if about_wording(low, work) else Task.UNKNOWN
    about = _ABOUT.match(low)
    if about_wording(low[: about.end()] if about else low, work) or _VERBATIM.search(low):
        return Task.WORDING
    # `Was`, `is` and `has` begin questions in Dutch and German, too.
    if _QUOTED.search(low) or _FORM.search(low) or _asks_more(low):
        return Task.UNKNOWN
    if about or (_CONTENT.match(low) and (not _SHARED.match(low) or english(sentence) >= _LIKELY)):
        return Task.CONTENT
    return Task.NOTHING if _FRAME.fullmatch(low.rstrip(".!: ")) else Task.UNKNOWN
