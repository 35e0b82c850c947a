"""A pruner by rules: hesitations, repeated words, phrases that fill, then articles and the like, in that order.

Made for English talk, reports and mail. What carries meaning between words stays at every rate: prepositions,
conjunctions, modal verbs, pronouns.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from tenantgate.compress.spans import merged, spans_of

__all__ = ["FillerPruner", "Token", "is_english", "noted", "rank_fillers", "tokens_of", "without_orphans"]

# {vocalsound} is a mark of a transcript.
_TOKEN: Final = re.compile(r"\{[a-z]+\}|[^\W_]+(?:['’-][^\W_]+)*['’-]?|[^\w\s]+|_+")
_LABEL: Final = re.compile(r"^[ \t>*]*[^\W\d_][\w .'’()&-]{0,40}:(?=\s|$)", re.MULTILINE)
_HESITATIONS: Final = frozenset(
    "uh um uhm erm er eh mm mmm hm hmm mhm mm-hmm uh-huh huh ah oh ooh ahem".split()
)
_ASSENTS: Final = frozenset("yeah yep yup yes ok okay right alright sure exactly absolutely".split())
_EMPTY: Final = (
    "well basically actually literally really quite very simply obviously essentially honestly frankly anyway anyways "
    "just pretty rather somewhat indeed please kindly"
)
# Not `it`, `have`, `do`, `be`: without them "you don't have it like this" says something else.
_RANKED: Final = (
    " ".join(_HESITATIONS),
    _EMPTY,
    "the a an",
    "is are was were it's that's there's so",
    "and of that then also too",
)
_RANKS: Final = {word: rank for rank, words in enumerate(_RANKED) for word in words.split()}
_PHRASES: Final = (
    "or something like that", "thank you very much", "and stuff like that", "at the end of the day", "you know",
    "as a matter of fact", "i mean", "sort of", "kind of", "you see", "and so on", "and so forth", "or something",
    "or whatever", "and stuff", "in a way", "let's say", "to be honest", "thank you",
)  # fmt: skip
_LONGEST_PHRASE: Final = max(len(p.split()) for p in _PHRASES)
_BY_LAST_WORD: Final[dict[str, list[tuple[str, ...]]]] = {}
for _phrase in _PHRASES:  # the longer ones first
    _BY_LAST_WORD.setdefault(_phrase.split()[-1], []).append(tuple(_phrase.split()))
_KNOWN: Final = frozenset(
    "the a an and of to in is that it for on was with as are this be you i we they he she have not at or from by but "
    "what so if there do can will would about my your our".split()
)
_LEAST_KNOWN: Final = 0.12  # of the words; English text has a third to a half
_CLOSING: Final = frozenset(",;:.!…")
_KEEP: Final = 99


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

    fingerprint = "fillers-1"

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock

    def keep(
        self, text: str, protected: Sequence[tuple[int, int]], rate: float, deadline: float
    ) -> Sequence[tuple[int, int]] | None:
        """Spans to keep; None: out of time, nothing to drop, or no English."""
        tokens = tokens_of(text)
        words = [t for t in tokens if t.is_word]
        if not is_english(words):
            return None
        labels = noted(tokens, text, protected)
        rank_fillers(words, text, labels)
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


def is_english(words: Sequence[Token]) -> bool:
    """Whether enough of the words are the commonest of English."""
    return bool(words) and sum(t.text in _KNOWN for t in words) >= _LEAST_KNOWN * len(words)


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


def rank_fillers(words: Sequence[Token], text: str, labels: Sequence[tuple[int, int]]) -> None:
    """Note how soon each word goes: 0 first; those that aren't named here stay as they are."""
    for i, word in enumerate(words):
        last = words[i - 1] if i else None
        gap = text[last.end : word.start] if last else "\n"
        if last and last.label >= 0:  # the first word of a turn: what the turn before ended with
            start = labels[last.label][0]
            gap = text[max(0, start - 4) : start]
        if not word.protected and word.label < 0:
            # A word that agrees is an answer behind a question.
            word.rank = _RANKS.get(word.text, _KEEP)
            if word.text[0] == "{":
                word.rank = 0
            elif word.text in _ASSENTS and "?" not in gap:
                word.rank = 1
        if last and not last.protected and last.label < 0 and _is_restarted(last, word, gap):
            last.rank = 0  # the last of "the the", "d decide" goes on
        _rank_phrase(words[max(0, i + 1 - _LONGEST_PHRASE) : i + 1], text)


def _rank_phrase(words: Sequence[Token], text: str) -> None:
    """Rank the words of a phrase that ends here as fillers."""
    for phrase in _BY_LAST_WORD.get(words[-1].text, ()):
        part = words[-len(phrase) :]
        if tuple(w.text for w in part) == phrase and "\n" not in text[part[0].start : part[-1].end]:
            for each in part:
                if not each.protected and each.label < 0:
                    each.rank = min(each.rank, 1)
            return


def _is_restarted(word: Token, following: Token, gap: str) -> bool:
    """Whether a word is said again at once, or only its first letter was said."""
    if word.text == following.text:
        return not gap.strip(" ,.…-")
    return (
        len(word.text) == 1
        and word.text.isalpha()
        and word.text not in "ai"
        and following.text.startswith(word.text)
    )


def _chosen(words: Sequence[Token], budget: int) -> set[int]:
    """Starts of the words that go: rank by rank, of the last one as many as are still wanted, evenly spread."""
    gone: set[int] = set()
    for rank in range(len(_RANKED)):
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
    """What stays, without signs and speakers' labels that nothing is left for."""
    stay: list[tuple[int, int]] = []
    label: tuple[int, int] | None = None  # whose turn has no word yet
    fresh, dropped, place = (
        True,
        False,
        0,
    )  # nothing to close with a sign yet; whether something went since then
    for token in tokens:
        if "\n" in text[place : token.start]:
            label, fresh, dropped = None, True, False
        place = token.end
        if token.label >= 0:
            label, fresh, dropped = labels[token.label], True, False
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
            fresh = token.text[0] in _CLOSING
            dropped = dropped and fresh
    return stay
