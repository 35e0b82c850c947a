"""Finds the transcripts of talk in a text: the only passages that words are taken out of without being marked.

A transcript is a run of lines that each begin with a speaker's label, of at least two speakers who come again, in
English talk that sounds spoken (hesitations) or is speeches. A line with a colon alone is no turn; labels of
dialogues with a model, of records, logs and lists are no speakers.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from tenantgate.compress.core.time_budget import Work
from tenantgate.compress.core.wording_tasks import about_wording

__all__ = [
    "CLEARLY",
    "HESITATIONS",
    "LABEL",
    "MARKS",
    "English",
    "Transcript",
    "Turn",
    "english_parts",
    "transcripts",
]

English = Callable[[str], float]
"""How likely a text is English, 0 to 1; little for a few words."""

HESITATIONS: Final = frozenset(
    "uh um uhm umm uhh erm er eh mm mmm hm hmm mhm mm-hmm uh-huh huh ah oh ooh ahem".split()
)
MARKS: Final = frozenset(
    "{vocalsound} {nonvocalsound} {disfmarker} {gap} {pause} {noise} {breath} {breathing} {cough}".split()
)
"""Marks that transcripts of the AMI and ICSI meetings are full of; https://groups.inf.ed.ac.uk/ami/corpus/"""

_LONGEST_LABEL: Final = 110
_LONGEST_TURN: Final = 8000  # characters: minutes of talk without a break
_FEWEST_TURNS: Final = 4
_LEAST_SPOKEN: Final = 0.005  # of the words are hesitations: written dialogues have none
_LEAST_ENGLISH: Final = 0.7  # of the letters are in English sentences
_SURE: Final = 0.6
_SHORT: Final = 24  # letters that say hardly anything about their language
_WINDOW: Final = 200  # characters that are told apart at once
_SHORT_TURN: Final = 8  # words
_SPEECH: Final = 300  # characters, more than an instruction about a transcript has
_LONG_TURN: Final = 25  # words, on average: speeches

_STAMP: Final = re.compile(r"[\[(]?\d{1,2}:\d\d(?::\d\d)?(?:[.,]\d{1,3})?[\])]?[ \t]+(?:-[ \t]+)?")
LABEL: Final = r"[^\W\d_][\w .'’()&-]{0,40}:"
"""A label that may go together with its turn."""

_PLAIN_LABEL: Final = re.compile(LABEL)
_BESIDE_NAME: Final = re.compile(r" \(.*\)$")
_NAME_WORD: Final = re.compile(r"[^\W\d_][\w.'’-]*|\d{1,3}|&")
_SMALL_NAME_WORDS: Final = frozenset("of de del della di da van von der den la le the and &".split())
_NO_SPEAKERS: Final = frozenset(
    "user assistant human ai bot system model gpt claude chatgpt gemini llm developer tool function q question "
    "questions answer answers input inputs output outputs prompt response reply request completion example "
    "examples note notes nb tip tips hint warning caution error info debug warn notice critical trace fatal step "
    "steps item task tasks instruction instructions context text texts article title subject from to cc bcc date "
    "sent time name names address email mail phone tel fax city country state zip price cost total amount status "
    "summary abstract section chapter verse act scene stanza refrain chorus bridge line lines row column key keys "
    "value values english french german spanish italian dutch portuguese russian chinese japanese korean arabic "
    "word words term terms definition meaning translation original source target premise hypothesis label labels "
    "sentence sentences review tweet headline category tags tag before after correct incorrect wrong right good "
    "bad yes no pro pros con cons option options rule rules law clause ingredients ingredient method directions "
    "serves problem solution issue description details type id url link file version author editor reviewer page "
    "paragraph figure table claim evidence entailment sentiment positive negative neutral expected actual true "
    "false todo done important reminder remark remarks comment comments requirement requirements goal goals "
    "objective constraint constraints caveat attention aside format style tone language length audience "
    "background scenario topic persona purpose deadline owner priority role content message messages thought "
    "action observation result results plan strengths weaknesses ps p.s re fwd fw draft old new first second "
    "third".split()
)
_SENTENCE: Final = re.compile(r"[^.?!]+[.?!]*\s*")
_MARK: Final = re.compile("|".join(map(re.escape, sorted(MARKS))))
_WORD: Final = re.compile(r"\{[a-z]+\}|[^\W\d_]+(?:['’-][^\W\d_]+)*")
# The commonest words of English talk, by which turns count as English that are too short to tell a language by. Without
# those that are as common in another language: die, man, am, an, in, den, of, was, me, no, son, pour …
COMMON: Final = HESITATIONS | frozenset(
    "yeah yep yup yes okay ok right alright sure exactly absolutely well so and but the that that's it it's is i "
    "i'm i've i'll i'd we we're we've we'll you you're you've you'll they they're they've he's she he she's what "
    "what's this these those there there's here think thinking thought know known knows mean means meant see say "
    "said saying says good great fine nice cool thanks thank then now just not don't didn't doesn't isn't wasn't "
    "aren't can't couldn't won't wouldn't maybe because or if have had has having do did does doing would could "
    "should can will might like likes really very much many some something anything everything someone everyone "
    "thing things one ones two three first other others another about with without from into out over again also "
    "already always never need needs want wants wanted make makes making made take takes look looks looking get "
    "gets getting got go goes going gone come comes put use used using work works working way ways people time "
    "day today week point points idea ideas question questions problem actually basically probably definitely "
    "obviously anyway anyways still even only more most less least little bit lot kind sort how why when where "
    "who which whether while were been being by for on at as be my your our their his her its them us let let's "
    "try talk talking ask tell feel find give keep start stop call called show shown before after than too up "
    "down back off all any each both same different new old big small better best enough every".split()
)
CLEARLY: Final = (
    COMMON
    - HESITATIONS
    - frozenset(
        "so is we he on at as be or had were by for not all me made use sort much us even over do here met back "
        "same bit also still i one call off her his point question old".split()
    )
)
_LEAST_COMMON: Final = 0.35
_LIKELY: Final = 0.2


@dataclass(frozen=True, slots=True)
class Turn:
    """A line of a transcript, from `start` to `end`; `said` is where its label ends."""

    start: int
    said: int
    end: int
    speaker: str
    bare: bool
    """Whether the label is a `LABEL`: nothing stands before the name, no time."""


@dataclass(frozen=True, slots=True)
class Transcript:
    """A run of turns; `free` are spans, sorted and without overlap, whose words may go, labels included."""

    start: int
    end: int
    free: tuple[tuple[int, int], ...]


def transcripts(text: str, english: English, work: Work) -> tuple[Transcript, ...]:
    """The transcripts in `text`, in order; none if one label that comes again can be no speaker's."""
    if text.count(": ") < _FEWEST_TURNS:
        return ()
    lines = list(_lines(text, work))
    turns = [turn for turn in lines if isinstance(turn, Turn)]
    often = Counter(turn.speaker for turn in turns)
    if any(n > 1 and _can_t_be(speaker) for speaker, n in often.items()):
        return ()
    found = []
    for is_turn, group in groupby(lines, key=lambda line: isinstance(line, Turn)):
        if is_turn:
            run = _trimmed(text, [turn for turn in group if isinstance(turn, Turn)], often, work)
            if made := _transcript(text, run, often, english, work):
                found.append(made)
    return tuple(found)


def _lines(text: str, work: Work) -> Iterator[Turn | None]:
    """Each line that isn't empty, as a turn if it begins with a label."""
    place = 0
    for line in text.split("\n"):
        work.step()
        if line.strip():
            yield _turn(line, place)
        place += len(line) + 1


def _turn(line: str, place: int) -> Turn | None:
    stamp = _STAMP.match(line)
    begin = stamp.end() if stamp else 0
    colon = line.find(":", begin, begin + _LONGEST_LABEL)
    if colon < 0 or len(line) > _LONGEST_TURN or line[colon + 1 : colon + 2].strip():
        return None
    speaker = _BESIDE_NAME.sub("", line[begin:colon])
    words = speaker.split(" ")
    if not words[0][:1].isupper() or len(words) > 6:
        return None
    for word in words:
        if not _NAME_WORD.fullmatch(word) or not (
            word[0].isupper() or not word[0].isalpha() or word in _SMALL_NAME_WORDS
        ):
            return None
    bare = begin == 0 and bool(_PLAIN_LABEL.fullmatch(line, 0, colon + 1))
    return Turn(place, place + colon + 1, place + len(line), speaker, bare)


def _can_t_be(speaker: str) -> bool:
    bare = speaker.lower().rstrip(" 0123456789.")
    return bare in _NO_SPEAKERS or bare.rpartition(" ")[2] in _NO_SPEAKERS or bare == "q"


def _trimmed(text: str, run: list[Turn], often: Counter[str], work: Work) -> list[Turn]:
    """The turns from the first to the last of those who speak again, and the speeches next to them.

    A short line whose label comes once, before or behind a transcript, may well be about the transcript.
    """
    places = [i for i, turn in enumerate(run) if often[turn.speaker] > 1]
    if not places:
        return []
    first, last = places[0], places[-1]
    while first > 0 and _is_speech(text, run[first - 1], run[first], work):
        first -= 1
    while last + 1 < len(run) and _is_speech(text, run[last + 1], run[last], work):
        last += 1
    return run[first : last + 1]


def _is_speech(text: str, turn: Turn, beside: Turn, work: Work) -> bool:
    work.step()
    gap = text[turn.end : beside.start] if turn.end < beside.start else text[beside.end : turn.start]
    said = text[turn.said : turn.end]
    asks = said.rstrip().endswith(
        "?"
    )  # an instruction may be a question, but then its label is none of two names
    return (
        gap == "\n" and " " in turn.speaker and (asks or len(said) > _SPEECH or not about_wording(said, work))
    )


def _transcript(
    text: str, run: Sequence[Turn], often: Counter[str], english: English, work: Work
) -> Transcript | None:
    speakers = {turn.speaker for turn in run if often[turn.speaker] > 1}
    if len(run) < _FEWEST_TURNS or len(speakers) < 2 or any(_can_t_be(turn.speaker) for turn in run):
        return None
    free: list[tuple[int, int]] = []
    letters = sure = words = spoken = 0
    met: set[str] = set()
    for turn in run:
        parts = english_parts(text, turn.said, turn.end, english, work)
        letters += _letters(text[turn.said : turn.end])
        sure += sum(_letters(text[start:end]) for start, end in parts)
        said = _WORD.findall(text[turn.said : turn.end].lower())
        words += len(said)
        spoken += sum(word in HESITATIONS or word in MARKS for word in said)
        whole = bool(parts) and parts[0][0] <= turn.said and parts[-1][1] >= turn.end
        if turn.speaker not in met:  # who took part must be told, so nobody's first turn goes as a whole
            met.add(turn.speaker)
            parts = parts if len(said) > _SHORT_TURN else []
            whole = False
        if whole and turn.bare and often[turn.speaker] > 1:
            free.append((turn.start, turn.end))
        else:
            free += parts
            free += (
                m.span() for m in _MARK.finditer(text, turn.said, turn.end) if not _covered(m.start(), parts)
            )
    if sure < _LEAST_ENGLISH * letters:
        return None
    if spoken < _LEAST_SPOKEN * words and words < _LONG_TURN * len(run):
        return None
    return Transcript(run[0].start, run[-1].end, tuple(sorted(free)))


def _covered(place: int, parts: Sequence[tuple[int, int]]) -> bool:
    return any(start <= place < end for start, end in parts)


def english_parts(text: str, start: int, end: int, english: English, work: Work) -> list[tuple[int, int]]:
    """The sentences between `start` and `end` that are surely English, those that touch joined.

    Sentences too short to tell are taken together with what follows; alone, they count only if each word is one of
    the commonest of English talk.
    """
    found: list[tuple[int, int]] = []
    begin = start
    for m in _SENTENCE.finditer(text, start, end):
        work.step(1 + (m.end() - m.start()) // 64)
        if m.end() < end and _letters(text[begin : m.end()]) < _SHORT:
            continue
        if _is_english(text[begin : m.end()], english):
            if found and found[-1][1] == begin:
                found[-1] = (found[-1][0], m.end())
            else:
                found.append((begin, m.end()))
        begin = m.end()
    return found


def _letters(text: str) -> int:
    return sum(map(str.isalpha, _MARK.sub("", text)))


def _is_english(text: str, english: English) -> bool:
    """Whether all of `text` is: a sentence without end may go on in another language."""
    said = _MARK.sub("", text)
    cuts = range(0, max(1, len(said) - _SHORT), _WINDOW)  # what is left behind the last goes with it
    ends = [*cuts[1:], len(said)]
    return all(_is_english_piece(said[start:end], english) for start, end in zip(cuts, ends, strict=True))


def _is_english_piece(said: str, english: English) -> bool:
    words = _WORD.findall(said.lower())
    if _letters(said) < _SHORT:
        spoken = [word for word in words if len(word) > 1]
        return all(word in COMMON for word in spoken) and (
            any(word in CLEARLY for word in spoken) or all(word in HESITATIONS for word in spoken)
        )
    likely = english(said)
    if likely >= _SURE:
        return True
    # Talk with slips and names looks like no language much, but then it is no other either.
    return likely >= _LIKELY and sum(word in CLEARLY for word in words) >= _LEAST_COMMON * len(words)
