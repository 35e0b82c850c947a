"""A pruner by rules for English talk: hesitations and repeated words, empty assent and phrases that fill, then `the`.

Everything else stays at every rate: `a` (in "a few" or "vitamin a"), `is` and `not`, `just`, `and`, pronouns,
prepositions, modal verbs.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from tenantgate.compress.core.spans import merged, spans_of
from tenantgate.compress.core.transcript import CLEARLY, HESITATIONS, LABEL, MARKS

__all__ = ["FillerPruner", "Token", "noted", "rank_fillers", "tokens_of", "without_orphans"]

# {vocalsound} is a mark of a transcript.
_TOKEN: Final = re.compile(r"\{[a-z]+\}|[^\W_]+(?:['’-][^\W_]+)*['’-]?|[^\w\s]+|_+")
_LABEL: Final = re.compile(rf"^{LABEL}(?=\s|$)", re.MULTILINE)
_ASSENTS: Final = frozenset("yeah yep yup okay ok right alright exactly absolutely mm-hmm uh-huh mhm".split())
"""These and hesitations alone are no turn, unless they answer something."""
_SOUNDS: Final = frozenset("mm mmm hmm hm ah oh".split())
_SCRAPS: Final = frozenset(
    "so well the a an i we it it's that that's you they he she there is was like".split()
)
_OPENINGS: Final = frozenset("yeah yep okay ok alright".split())
_STARTS: Final = _OPENINGS | {"well"}
_BEFORE_HEDGE: Final = frozenset("is are was were be been it's that's we're they're i'm you're".split())
_PERSONS: Final = frozenset("him her you me them us it this that those these the a an".split())
_PROPOSALS: Final = frozenset(
    "should shall let let's must propose proposed suggest suggested agree agreed want prefer decide decided "
    "vote".split()
)
_OFFERS: Final = frozenset("can could will would".split())
_OFFERING: Final = frozenset("i we you".split())
_TWICE: Final = frozenset(
    "the a an we i you they he she it to of and but or for with if this what our my your their i'm we're it's "
    "that's they're you're he's she's there's because when where as at from be can yeah okay ok right yep".split()
)
"""Said twice they are a slip; `that that`, `had had`, `in in` or `very very` may be meant."""
_LETTER_AFTER: Final = frozenset(
    "vitamin plan type option letter letters class grade group team section part point appendix hepatitis drive "
    "unit version number variable exhibit model series category level phase figure table item column row key note "
    "size channel block line route room gate platform schedule".split()
)
_PHRASES: Final = frozenset(("you know", "i mean", "sort of", "kind of"))
_CLAUSES: Final = frozenset(
    "i i'm we we're it it's that's you they they're he she there there's if so but and what maybe yeah then "
    "actually the this".split()
)
_AFTER_I_MEAN: Final = frozenset("it's that's we're they're you're i'm there's we they i if".split())
_THE_STAYS: Final = frozenset(
    "the one ones two more less most least few little many other others rest whole only same former latter who "
    "band better worse fewer latest first last next previous following above below".split()
)
_NEAR: Final = 3  # words
_AMBIGUOUS: Final = frozenset("um er eh ah oh huh".split())
"""Words of other languages, a digit, a question: hesitations only near English words, or between signs."""
_ENDS: Final = re.compile(r"[.!?\n]")
_CLOSING: Final = frozenset(",;:.!…")
_KEEP: Final = 99
_LAST_RANK: Final = 2
_VOWELS: Final = frozenset("aeiou")


@dataclass(slots=True)
class Token:
    """A word, a sign, or a transcript's mark; `rank` says how soon it goes, 0 first."""

    start: int
    end: int
    text: str
    rank: int = _KEEP
    protected: bool = False
    label: int = -1  # the number of the speaker's label that it belongs to

    @property
    def is_word(self) -> bool:
        """Whether it is no sign."""
        return self.text[0].isalnum() or self.text[0] == "{"


class FillerPruner:
    """`Pruner` by rules; safe for threads."""

    fingerprint = "fillers-2"

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock

    def keep(
        self, text: str, protected: Sequence[tuple[int, int]], rate: float, deadline: float
    ) -> Sequence[tuple[int, int]] | None:
        """Spans to keep; None: out of time, or nothing to drop."""
        tokens = tokens_of(text)
        words = [t for t in tokens if t.is_word]
        labels = noted(tokens, text, protected)
        rank_fillers(words, text)
        if self._clock() >= deadline:
            return None
        gone = _chosen(words, round(len(words) * (1 - rate)))
        if not gone or self._clock() >= deadline:
            return None
        stay = without_orphans(tokens, gone, text, labels)
        return merged(spans_of([*protected, *stay]))


def tokens_of(text: str) -> list[Token]:
    """The words and signs of `text`, in order."""
    return [Token(*m.span(), m.group().lower()) for m in _TOKEN.finditer(text)]


def noted(tokens: Sequence[Token], text: str, protected: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Note which tokens are protected and which are speakers' labels; gives the labels' spans."""
    labels = [m.span() for m in _LABEL.finditer(text)]
    p = n = 0  # all are in order, so one look at each is enough
    for token in tokens:
        while p < len(protected) and protected[p][1] <= token.start:
            p += 1
        while n < len(labels) and labels[n][1] <= token.start:
            n += 1
        token.protected = p < len(protected) and protected[p][0] < token.end
        if n < len(labels) and labels[n][0] < token.end:
            token.label = n
    return labels


def rank_fillers(words: Sequence[Token], text: str) -> None:
    """Note how soon each word goes: 0 first; those that aren't named here stay as they are.

    0: hesitations, marks of a transcript, a word that is said again at once. 1: assent that nothing asked for, and
    phrases that fill. 2: `the`.
    """
    for i, word in enumerate(words):
        if word.protected or word.label >= 0:
            continue
        before = words[i - 1] if i else None
        after = words[i + 1] if i + 1 < len(words) else None
        gap = text[word.end : after.start] if after else "\n"
        if word.text in MARKS:
            word.rank = 0
        elif word.text in HESITATIONS:
            word.rank = 0 if _is_hesitation(words, i, text) else _KEEP
        elif _is_restarted(words, i, text):
            word.rank = 0  # of "the the" and "d decide" the last goes on
        elif (
            word.text == "well"
            and _begins(word, before, text)
            and (gap.strip() == "," or _goes_on(after, gap))
        ):
            word.rank = 1
        elif (
            word.text == "the"
            and after
            and not _is_partitive(words, i)
            and _may_lose_the(word, before, after, text)
        ):
            word.rank = 2
    _rank_assents(words, text)
    _rank_phrases(words, text)


def _is_hesitation(words: Sequence[Token], i: int, text: str) -> bool:
    """Whether `um`, `er` and the like are no words of another language, `oh` no digit, and `huh` no question."""
    word = words[i]
    before, after = words[i - 1] if i else None, words[i + 1] if i + 1 < len(words) else None
    if word.text in _ASSENTS:
        return False
    left = text[before.end : word.start] if before else "\n"
    right = text[word.end : after.start] if after else "\n"
    if word.text not in _AMBIGUOUS:
        return True
    if word.text == "oh" and any(t is not None and t.protected for t in (before, after)):
        return False
    if "?" in right:
        return False
    near = any(t is not None and t.text in MARKS for t in (before, after))
    near = near or any(
        t.text in CLEARLY for t in (*words[max(0, i - _NEAR) : i], *words[i + 1 : i + 1 + _NEAR])
    )
    return near or bool(right.strip() and (left.strip() or "\n" in left))


def _is_restarted(words: Sequence[Token], i: int, text: str) -> bool:
    """Whether a word is said again at once, or behind a hesitation, or only its first letters were said."""
    word, before = words[i], words[i - 1] if i else None
    j = i + 1
    while (
        j < min(len(words), i + 4)
        and words[j].label < 0
        and (words[j].text in HESITATIONS or words[j].text in MARKS)
    ):
        j += 1
    if j >= len(words) or words[j].label >= 0:
        return False
    after, between = words[j], text[word.end : words[j].start]
    if word.text == after.text:
        if word.text in _ASSENTS and not (
            _begins(word, before, text) or (before and text[before.end : word.start].strip())
        ):
            return False  # "turn right, right?"
        slip = word.text in _TWICE or (j > i + 1 and word.text not in _ASSENTS)
        return slip and not _ENDS.search(between)
    return (
        j == i + 1
        and word.text.isalpha()
        and len(word.text) <= 3
        and _VOWELS.isdisjoint(word.text)
        and text[word.start].islower()
        and between == " "
        and len(after.text) > max(2, len(word.text))
        and after.text.startswith(word.text)
        and not (
            before
            and (
                before.text in _LETTER_AFTER
                or before.text[0].isdigit()
                or (len(before.text) == 1 and before.text != "i")
            )
        )
    )


def _goes_on(after: Token | None, gap: str) -> bool:
    """Whether a new clause begins behind `well`: `Well we think …`, but not `Well done`."""
    return gap == " " and after is not None and (after.text in _CLAUSES or after.text in HESITATIONS)


def _begins(word: Token, before: Token | None, text: str) -> bool:
    """Whether a sentence or a turn begins here."""
    return before is None or before.label >= 0 or bool(_ENDS.search(text, before.end, word.start))


def _may_lose_the(word: Token, before: Token | None, after: Token, text: str) -> bool:
    return (
        text[word.end : after.start] == " "
        and (text[word.start].islower() or _begins(word, before, text))
        and (text[after.start].islower() or _is_acronym(text[after.start : after.end]))
        and after.text not in _THE_STAYS
        and (text[word.start].islower() or not after.text.endswith("er"))  # "The sooner the better"
        and len(after.text) > 1
    )


def _is_partitive(words: Sequence[Token], i: int) -> bool:
    """Whether it is `the` of "a few of the", "most of the", "three of the"."""
    return i > 1 and words[i - 1].text == "of" and words[i - 2].protected


def _is_acronym(word: str) -> bool:
    return len(word) > 1 and word[:2].isupper()


def _rank_phrases(words: Sequence[Token], text: str) -> None:
    """Rank `you know` and the like where nothing hangs on them: between signs, hesitations and line ends."""
    for i, (first, second) in enumerate(pairwise(words)):
        if f"{first.text} {second.text}" not in _PHRASES or text[first.end : second.start] != " ":
            continue
        if first.protected or second.protected or first.label >= 0 or second.label >= 0:
            continue
        before = words[i - 1] if i else None
        after = words[i + 2] if i + 2 < len(words) else None
        left = (
            before is None
            or before.label >= 0
            or before.rank == 1
            or _parts(before, text[before.end : first.start])
        )
        right = after is None or _parts(after, text[second.end : after.start])
        meant = (
            first.text == "i"
            and after is not None
            and (
                after.text in _AFTER_I_MEAN
                or (after.text == "it" and i + 3 < len(words) and words[i + 3].text in ("is", "was"))
            )
        )
        hedge = second.text == "of" and before is not None and before.text in _BEFORE_HEDGE
        hedge = (
            hedge
            and after is not None
            and after.text not in _PERSONS
            and text[second.end : after.start] == " "
        )
        told = (
            first.text == "you" and before is not None and bool(text[before.end : first.start].strip(" \n"))
        )
        told = told and not _begins(first, before, text) and after is not None and after.text in _AFTER_I_MEAN
        if (left and (right or meant or told)) or hedge:
            first.rank = min(first.rank, 1)
            second.rank = min(second.rank, 1)


def _parts(beside: Token, gap: str) -> bool:
    """Whether a sign, a line end, a hesitation or a mark parts a phrase from the words beside it."""
    return bool(gap.strip()) or "\n" in gap or beside.text in HESITATIONS or beside.text in MARKS


def _rank_assents(words: Sequence[Token], text: str) -> None:
    """Rank the words of sentences that are assent only, where the sentence before neither asks nor proposes."""
    open_before = True
    for sentence in _sentences(words, text):
        end = text[sentence[-1].end : sentence[-1].end + 3]
        said = [t for t in sentence if t.label < 0 and t.text not in MARKS]
        # Broken off before anything was said.
        scraps = _SCRAPS if sentence[-1].text == "{disfmarker}" else frozenset[str]()
        empty = all(t.text in _ASSENTS or t.text in HESITATIONS or t.text in scraps for t in said)
        if empty and said and not open_before and "?" not in end:
            for token in said:
                if not token.protected:
                    token.rank = min(token.rank, 1)
        elif empty:
            for token in said:  # an answer, whatever it sounds like
                if token.text in _ASSENTS or token.text in _SOUNDS:
                    token.rank = _KEEP
        else:
            if not open_before:
                _rank_opening(said, text)
            open_before = "?" in end or _proposes(said)


def _proposes(said: Sequence[Token]) -> bool:
    """Whether somebody may say yes to it: `we should`, `I could do that`, `let's vote`."""
    return any(t.text in _PROPOSALS for t in said) or any(
        {a.text, b.text} & _OFFERS and {a.text, b.text} & _OFFERING and {a.text, b.text} != {"i", "would"}
        for a, b in pairwise(said)
    )


def _rank_opening(said: Sequence[Token], text: str) -> None:
    """Rank what a sentence begins with, as `okay well` or `yeah ,`, where a clause of its own comes behind."""
    for i, token in enumerate(said[:-1]):
        after, gap = said[i + 1], text[token.end : said[i + 1].start]
        if token.text in HESITATIONS:
            continue
        opens = token.text in _OPENINGS or (i > 0 and token.text == "well")
        if (
            not opens
            or token.protected
            or not (gap.strip() == "," or _goes_on(after, gap) or after.text in _STARTS)
        ):
            return
        token.rank = min(token.rank, 1)


def _sentences(words: Sequence[Token], text: str) -> Iterator[list[Token]]:
    """The words by lines and by signs that end sentences."""
    current: list[Token] = []
    for word in words:
        if current and _ENDS.search(text, current[-1].end, word.start):
            yield current
            current = []
        current.append(word)
    if current:
        yield current


def _chosen(words: Sequence[Token], budget: int) -> set[int]:
    """Starts of the words that go: rank by rank, of the last one as many as are still wanted, evenly spread."""
    gone: set[int] = set()
    for rank in range(_LAST_RANK + 1):
        group = [w.start for w in words if w.rank == rank]
        left = budget - len(gone)
        # Hesitations go whatever the rate is: nobody wants them.
        if rank == 0 or len(group) <= left:
            gone.update(group)
        elif left > 0:
            gone.update(group[i * len(group) // left] for i in range(left))
    return gone


def without_orphans(
    tokens: Sequence[Token], gone: set[int], text: str, labels: Sequence[tuple[int, int]]
) -> list[tuple[int, int]]:
    """What stays, without signs that nothing is left for, and without labels of turns of which nothing is left.

    A turn that now follows one of the same speaker goes on in a line of its own, without the label.
    """
    stay: list[tuple[int, int]] = []
    label: tuple[int, int] | None = None  # whose turn has no word yet
    speaker = last_speaker = ""
    # Whether nothing is there yet for a sign to close, and whether something went since then.
    fresh, dropped, place = True, False, 0
    for token in tokens:
        if "\n" in text[place : token.start]:
            label, fresh, dropped = None, True, False
        place = token.end
        if token.label >= 0:
            label, fresh, dropped = labels[token.label], True, False
            speaker = text[slice(*label)]
            if speaker == last_speaker and not token.protected:
                label = None
        elif token.start in gone:
            dropped = True
        elif fresh and dropped and not token.protected and token.text[0] in _CLOSING:
            if token.text == "," and stay and text[slice(*stay[-1])] == ",":
                stay.pop()  # ", you know," goes with both
        else:
            if label and (token.is_word or token.protected or not dropped):
                stay.append(label)
                label = None
            stay.append((token.start, token.end))
            last_speaker = speaker
            fresh = token.text[0] in _CLOSING
            dropped = dropped and fresh
    return stay
