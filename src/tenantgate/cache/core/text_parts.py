"""A text taken apart for the rules: its words by what they do, its signs, figures, literals and sentences.

The English closed lists are in `tenantgate.cache.core.lexicon`. Everything that isn't recognised stays as it was
written, as content or as a sign, so that a text in another language, or code, differs in whatever differs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple

from tenantgate.cache.core.asking import (
    ASKS,
    FIRST,
    MODAL,
    MODALS,
    Question,
    acting,
    asked,
    forms,
    meant,
    quantities,
)
from tenantgate.cache.core.lexicon import (
    CAPITALS,
    CONTRACTIONS,
    COURTESY,
    EXISTENCE,
    IDLE,
    NEARBY,
    NEGATIONS,
    NUMBER_WORDS,
    OPENINGS,
    PHRASES,
    UNITS,
)
from tenantgate.cache.core.stems import stem

__all__ = ["PERSONS", "Term", "Wording", "read"]


class Term(NamedTuple):
    """One thing of a text that means something."""

    key: str
    """A word's stem; a figure after ``#``, a sign, code or a name in capitals after ``=``, a literal after ``"``."""

    before: str = ""
    """The preposition before it, with nothing but articles and the like between."""

    tight: bool = False
    """Whether it follows another such thing immediately."""


@dataclass(frozen=True, slots=True)
class Wording:
    """What the rules compare of one text."""

    terms: tuple[Term, ...]
    """In their order. Persons (`PERSONS`) are among them, though one text may have more of these."""

    words: frozenset[str]
    """All words in lower case, for the names of what differs."""

    names: frozenset[str]
    """Stems of words that are written as names."""

    proper: frozenset[str]
    """Those of them that aren't in capitals throughout."""

    negations: int
    sentences: int
    """That have anything but idle words."""

    question: Question

    marked: bool
    """Whether a sentence has a question mark and none of the words by which one asks first."""

    persons: tuple[str, ...]
    """Who is spoken of, in order: "1" the one who asks, "2" the one who is asked."""

    modals: frozenset[str]
    """What says whether something can, may or must be."""

    quantities: frozenset[str]
    """What says, in a question to be answered with yes or no, of how many or how often."""

    forms: frozenset[tuple[str, str]]
    """Keys of terms with the form that they are written in (`tenantgate.cache.core.asking.forms`)."""

    acts: frozenset[str]
    """Stems of words that say what "who" or "what" does, as in "who marks"; and after a "~" of those that say who or
    what that is, as in "who is mark"."""


PERSONS: Final = frozenset(("=i",))
"""Keys of terms that say who does or to whom it is done, where that is the one who asks."""

_LITERAL: Final = re.compile(
    r"```.*?(?:```|\Z)|`[^`\n]+`|\"[^\"\n]{1,400}\"|“[^”\n]{1,400}”|«[^»\n]{1,400}»|„[^“”\n]{1,400}[“”]"
    r"|(?<!\w)'[^'\n]{2,200}'(?!\w)|(?<!\w)‘[^’\n]{2,200}’(?!\w)|https?://\S+|[^\s@]{1,64}@[^\s@]{1,255}",
    re.DOTALL,
)
_LITERAL_MARKS: Final = ("`", '"', "“", "«", "„", "'", "‘", "://", "@")
_NUMBER: Final = re.compile(r"([$€£₹¥])?(-?\d+(?:[.,:/-]\d+)*)([^\W\d_]{0,3}|%|°[CFcf]?)")
_WORDS: Final = re.compile(r"[^\W\d_]+(?:['-][^\W\d_]+)*'?")
_SUFFIXES: Final = frozenset(("st", "nd", "rd", "th"))  # 1st: no other number than without
_THOUSANDS: Final = re.compile(r",(?=\d{3}(?!\d))")
_BITS: Final = frozenset("Kb Mb Gb Tb kB mW mA mV MHz mHz".split())
"""Units that another one is written like, but for capitals."""
_MARKS: Final = ".,;:?!…"
_ENDS: Final = frozenset(".?!;:…")
_IDLE_NOT: Final = re.compile(
    r"\bwhether or not\b|\bnot (?:only|just|to mention)\b|\bno (?:matter|longer than)\b", re.IGNORECASE
)

_PREPOSITIONS: Final = frozenset(
    "of in at on for to as by from with into onto than over per against before after about minus divided through "
    "under above below between until since via".split()
)
_PRONOUNS: Final = {
    "i": "=i",
    "me": "=i",
    "myself": "=i",
    "we": "=i",
    "us": "=i",
    "ourselves": "=i",
    "your": "you",
    "yours": "you",
    "yourself": "you",
    "him": "he",
    "his": "he",
    "himself": "he",
    "her": "she",
    "hers": "she",
    "herself": "she",
    "them": "they",
    "their": "they",
    "theirs": "they",
    "whom": "who",
    "whose": "who",
    "an": "a",
}
_PERSON: Final = dict.fromkeys(FIRST, "1") | dict.fromkeys("you your yours yourself".split(), "2")


_JOINED: Final = frozenset(
    "i me we us mine ours myself you yours it this that these those some any one ones here there".split()
)
"""Words that mean little alone, and one thing, person or place more after "and"."""


_ASKING: Final = ASKS.keys() | MODALS | frozenset("is are am was were do does did has have had any".split())
"""Words that a sentence begins with if it asks, with or without its mark."""

_HAILS: Final = (COURTESY | frozenset("so and but well now then yes no".split())) - {"you"}

_INFINITIVE: Final = frozenset("how where what when want like need must going able try trying".split())
"""Words after which "to" is no preposition."""


_PARTICLES: Final = frozenset(("on", "in", "by", "for"))
_PHRASAL: Final = frozenset(
    "turn turned turning switch switched switching put putting shut log logged".split()
)


def _by_first(
    phrases: Iterable[tuple[tuple[str, ...], tuple[str, ...]]],
) -> dict[str, list[tuple[tuple[str, ...], tuple[str, ...]]]]:
    found: dict[str, list[tuple[tuple[str, ...], tuple[str, ...]]]] = {}
    for words, instead in sorted(phrases, key=lambda row: -len(row[0])):
        found.setdefault(words[0], []).append((words, instead))
    return found


_PHRASES: Final = _by_first(PHRASES.items())
# "How do you" asks how one does; not where the one who asks is in the sentence, too.
_PERSONAL: Final = _by_first((words, instead) for words, instead in PHRASES.items() if "you" not in words)
_EXISTENCE: Final = _by_first(EXISTENCE.items())
_OPENINGS: Final = _by_first((words, ()) for words in OPENINGS)

_Phrases = Mapping[str, Sequence[tuple[tuple[str, ...], tuple[str, ...]]]]


@lru_cache(maxsize=512)
def read(text: str) -> Wording:
    """A text taken apart; linear in its length: 2 µs a character.

    No checkpoint stops it, so it is for texts that an embedder reads to their end, which bounds them.
    """
    lines = _Lines(text)
    terms: list[Term] = []
    sentences, negations = 0, 0
    question: Question | None = None
    modals: set[str] = set()
    persons: list[str] = []
    counts: set[str] = set()
    inflected: set[tuple[str, str]] = set()
    acts: set[str] = set()
    marked = False
    for i, found in enumerate(lines.sentences):
        words = meant(found)
        personal = not FIRST.isdisjoint(words)
        words = _replaced(words, _PERSONAL if personal else _PHRASES)
        if ("there" in words or "any" in words) and (personal or not NEARBY.isdisjoint(words)):
            words = _replaced(words, _EXISTENCE)
        sentence = _opened(words)
        marked |= i in lines.asking and next((w for w in words if w not in _HAILS), "") not in _ASKING
        if any(len(word) == 1 and word not in "ai" for word in sentence):
            sentence = ["=a" if word == "a" else word for word in sentence]  # a letter among letters
        acts.update(_acts(sentence))
        persons.extend(_PERSON[word] for word in sentence if word in _PERSON)
        if sentence:
            kind = asked(words, sentence)
            counts.update(quantities(sentence, kind))
            question = kind if question in (None, Question.OTHER) else question
        modals.update(MODALS.intersection(sentence))
        negations += sum(word in NEGATIONS for word in sentence)
        inflected.update(forms(sentence))
        _collect(acting(sentence), terms)
        sentences += any(word not in COURTESY for word in sentence)
    return Wording(
        terms=tuple(terms),
        words=frozenset(lines.words),
        names=frozenset(map(stem, lines.names)),
        proper=frozenset(map(stem, lines.proper)),
        negations=negations,
        sentences=sentences,
        question=question or Question.OTHER,
        marked=marked,
        modals=frozenset(modals),
        persons=tuple(persons),
        quantities=frozenset(counts),
        forms=frozenset(inflected),
        acts=frozenset(acts),
    )


class _Lines:
    """Splits a text into sentences of tokens: words in lower case, and `Term` keys of what is no word."""

    def __init__(self, text: str) -> None:
        self.sentences: list[list[str]] = [[]]
        self.words: set[str] = set()
        self.names: set[str] = set()
        self.proper: set[str] = set()
        self.asking: set[int] = set()  # sentences with a question mark
        text = text.replace("’", "'") if "’" in text and "‘" not in text else text
        if "no" in text.lower():
            text = _IDLE_NOT.sub(" ", text)
        self._shouting = text.isupper()
        self._titled = _titled(text)
        at = 0
        if any(mark in text for mark in _LITERAL_MARKS):
            for match in _LITERAL.finditer(text):
                self._prose(text[at : match.start()])
                self._token('"' + match.group())
                at = match.end()
        self._prose(text[at:])

    def _prose(self, text: str) -> None:
        for i, line in enumerate(text.split("\n") if "\n" in text else (text,)):
            if i:
                self._end()
            for chunk in line.split():
                self._chunk(chunk)

    def _token(self, token: str) -> None:
        self.sentences[-1].append(token)

    def _end(self) -> None:
        if self.sentences[-1]:
            self.sentences.append([])

    def _chunk(self, chunk: str) -> None:
        if chunk.isalpha():
            if chunk.isascii() and chunk.islower() and chunk != "i" and chunk not in CONTRACTIONS_OF:
                self.words.add(chunk)  # most words, for which `_word` does nothing else
                self.sentences[-1].append(chunk)
            else:
                self._word(chunk)
            return
        while chunk[:1] in ("(", "[", "{"):
            self._token("=" + chunk[0])
            chunk = chunk[1:]
        core = chunk.rstrip(_MARKS)
        closing: list[str] = []
        while core[-1:] in (")", "]", "}") and core.count(core[-1]) > core.count(_OPENED[core[-1]]):
            closing.append("=" + core[-1])
            core = core[:-1].rstrip(_MARKS)
        if core:
            self._core(core)
        self.sentences[-1].extend(reversed(closing))
        marks = chunk[len(core) :]
        if "?" in marks:
            self.asking.add(len(self.sentences) - 1)
        if not _ENDS.isdisjoint(marks):
            self._end()

    def _core(self, core: str) -> None:
        if core.isalpha():
            self._word(core)
        elif (number := _NUMBER.fullmatch(core)) is not None:
            self.sentences[-1].extend(_figure(number))
        elif _WORDS.fullmatch(core):
            if core.lower() in CONTRACTIONS_OF:
                self._word(core)
            else:
                for part in core.split("-"):
                    self._word(part)
        elif core[0] != "-" and core.replace("-", "").isalnum():
            self._token("=" + core.lower())  # w2, GPT-4: as one writes it
        else:
            self._token("=" + core)  # code, paths, options: to the letter

    def _word(self, word: str) -> None:
        low = word.lower()
        sentence = self.sentences[-1]
        if word in _BITS:
            self._token("=" + word)
            return
        instead = CONTRACTIONS_OF.get(low)
        if instead is not None:
            sentence.extend(instead)
            self.words.update(instead)
            return
        low = low.removesuffix("'s").rstrip("'")
        capital = word[0].isupper() and not self._shouting
        # The US, an A: what is written so inside a sentence is no pronoun and no article.
        if capital and low in _SMALL and word.isupper() and (len(word) > 1 or sentence):
            self._token("=" + word)
            return
        if capital and sentence and not self._titled:
            if low in _TITLES:
                self._token("=" + word)  # Just Eat, Xbox One, Will Smith
                return
            if not word.isupper():
                self.proper.add(low)
        if capital and (sentence or (len(word) > 1 and word.isupper())) and low != "i":
            self.names.add(low)
            if low in CAPITALS and not self._titled:
                self.words.add(low)
                self._token("=" + low)  # Polish, to polish
                return
        elif low == "i" and len(sentence) > 1 and sentence[-1] in self.names and not self._titled:
            low = "=I"  # a numeral: World War I
        self.words.add(low)
        sentence.append(low)


_SMALL: Final = (IDLE | NEGATIONS | ASKS.keys() | MODAL) - {"i", "ok"}
_TITLES: Final = (_SMALL | frozenset("name title kind type".split())) - frozenset(
    "the a an please kindly thank thanks ok okay".split()
)
_SMALL_IN_TITLES: Final = frozenset("a an the of in on at to for and or with by".split())


def _titled(text: str) -> bool:
    """Whether all words begin with capitals, as in a headline."""
    words = [word for word in text.split() if word[0].isalpha() and word not in _SMALL_IN_TITLES]
    return len(words) > 1 and all(word[0].isupper() for word in words)


_OPENED: Final = {")": "(", "]": "[", "}": "{"}
CONTRACTIONS_OF: Final = {words[0]: instead for words, instead in CONTRACTIONS.items()}


def _figure(match: re.Match[str]) -> list[str]:
    """A number as its value, and its unit if one is written to it."""
    sign, number, after = match.groups()
    number, low = _THOUSANDS.sub("", number), after.lower()
    if after in _BITS:
        return ["#" + number, "=" + after]
    if low == "k":
        number, low = number + "000", ""
    found = ["#" + number]
    unit = UNITS.get(low) or UNITS.get(after)
    if sign:
        found.append(sign)
    if unit:
        found.append(low)
    elif low and low not in _SUFFIXES:
        found[0] += low
    return found


def _replaced(words: list[str], phrases: _Phrases) -> list[str]:
    if phrases.keys().isdisjoint(words):
        return words
    found: list[str] = []
    i = 0
    while i < len(words):
        word = words[i]
        for phrase, instead in phrases.get(word, ()):
            if tuple(words[i : i + len(phrase)]) == phrase:
                found.extend(instead)
                i += len(phrase)
                break
        else:
            found.append(word)
            i += 1
    return found


def _opened(words: list[str]) -> list[str]:
    """The sentence without what opens it."""
    start = 0
    while start < len(words):
        for phrase, _ in _OPENINGS.get(words[start], ()):
            end = start + len(phrase)
            if tuple(words[start:end]) == phrase and not _joined(words, end - 1):
                start = end
                break
        else:
            break
    return words[start:]


def _acts(words: list[str]) -> Iterable[str]:
    for i, word in enumerate(words[:-1]):
        if word not in ("who", "what", "which"):
            continue
        after = words[i + 1]
        if after in ("is", "are", "was", "were"):
            yield from ("~" + stem(later) for later in words[i + 2 : i + 3] if not later.endswith("s"))
        elif after.endswith("s") or word == "who":
            yield stem(after)


def _joined(words: list[str], i: int) -> bool:
    """Whether the word is joined to another by "and": my wife and I, you and my wife."""
    return words[i] in _JOINED and "and" in (*words[max(0, i - 1) : i], *words[i + 1 : i + 2])


_ONE_AFTER: Final = frozenset("which this that the each every any some another other no".split())
_ONE_ALONE: Final = frozenset("does can could should would must may might".split())


def _counts(words: list[str], i: int) -> bool:
    """Whether this "one" is a number, as in "a table for one", "one way", and not "which one", "does one"."""
    if words[i] != "one" or (i and words[i - 1] in _ONE_ALONE):
        return False
    after = words[i + 1] if i + 1 < len(words) else "is"
    ends = after in _PREPOSITIONS or (after in IDLE and after not in ("way", "thing", "things"))
    return not (i and words[i - 1] in _ONE_AFTER and ends)


def _collect(words: list[str], terms: list[Term]) -> None:
    before, tight = "", False
    for i, word in enumerate(words):
        after = words[i - 1] if i else ""
        if word in _PARTICLES and (i == len(words) - 1 or after in _PHRASAL):
            terms.append(Term(word, "", tight))  # turn it on, put it in
            continue
        if word in _PREPOSITIONS and not (word == "to" and after in _INFINITIVE):
            before = word
            tight = False
            if word in IDLE:
                continue
        if word in _JOINED and _joined(words, i):
            key: str | None = "=&" + word
        else:
            key = "#1" if word == "one" and _counts(words, i) else _key(word)
        if key is None:
            tight = False
            continue
        terms.append(Term(key, before, tight))
        if key not in PERSONS:
            before = "" if word not in _PREPOSITIONS else before
            tight = True


_LISTED: Final[Mapping[str, str | None]] = {
    **{word: "#" + number for word, number in NUMBER_WORDS.items()},
    **dict.fromkeys(IDLE),
    **{word: None if instead == "a" else instead for word, instead in _PRONOUNS.items()},
}
"""The keys of the words in closed lists; None of those that mean nothing."""


def _key(word: str) -> str | None:
    if word in _LISTED:
        return _LISTED[word]
    return word if word[0] in '#="' else stem(word)
