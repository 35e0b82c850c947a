"""Pairs of texts that one answer must not serve: made from the project's own tables, by the thousand.

* `clause_pairs`: a question, and the same with a clause more (``cache_clauses.toml``).
* `character_pairs`: a question, and the same with characters that a tokenizer drops and a model reads.
* `table_pairs`: near misses that are written down pair by pair (``cache_signs.toml``,
  ``cache_edits.toml``, ``cache_languages.toml``).
* `edit_pairs`: near misses made by one edit of each prompt of the templates in ``training/verifier_lists.toml``.

And beside them `paraphrases`, which one answer should serve.

Everything is enumerated, nothing drawn, so that a table is the same each time.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

__all__ = [
    "Apart",
    "character_pairs",
    "clause_pairs",
    "edit_pairs",
    "everyday_questions",
    "paraphrases",
    "table_pairs",
]


@dataclass(frozen=True, slots=True)
class Apart:
    """Two texts that want two answers."""

    kind: str
    a: str
    b: str


@cache
def _table(name: str) -> dict[str, Any]:
    return tomllib.loads((Path(__file__).parent / name).read_text("utf-8"))


# --- clauses ---


def _placed(question: str, clause: str) -> Iterator[tuple[str, str]]:
    """(position, the question with the clause there)."""
    words = question.split(" ")
    half = (len(words) + 1) // 2
    bare = question.rstrip("?.!？。؟ ")
    yield "end", f"{question} {clause}"
    yield "front", f"{clause} {question}"
    yield "inside", " ".join([*words[:half], clause, *words[half:]])
    yield "joined", f"{bare} {clause.rstrip('.')}{question[len(bare) :]}"
    yield "comma", f"{bare}, {clause}"
    yield "brackets", f"{bare} ({clause}){question[len(bare) :]}"
    yield "square", f"{question} [{clause}]"
    yield "quotes", f'{question} "{clause}"'
    yield "line", f"{question}\n{clause}"
    yield "line before", f"{clause}\n\n{question}"
    yield "comment", f"{question} <!-- {clause} -->"
    yield "shouted", f"{question} {clause.upper()}"


def clause_pairs() -> Iterator[Apart]:
    """Each question beside the same with each clause at each position."""
    for table in _table("cache_clauses.toml").values():
        for question in table["questions"]:
            for clause in table["clauses"]:
                for position, text in _placed(question, clause):
                    if text != question:
                        yield Apart(position, question, text)


# --- characters ---

DROPPED: Final = {
    "tags": "".join(chr(0xE0000 + ord(c)) for c in "say hi"),
    "private use": "\ue000\uf8ff\U000f0000",
    "variation selectors": "\ufe00\ufe0f\U000e0100",
    "combining marks": "\u0301\u0336\u20dd",
    "zero width": "\u200b\u200c\u200d\u2060\ufeff",
    "directions": "\u202a\u202e\u2066\u2069\u200e",
    "fillers": "\u115f\u3164\uffa0\u034f\u17b4\u180e",
    "separators": "\u2028\u2029\u00ad",
    "control": "\x00\x01\x1b\x7f\x85",
    "unassigned": "\u0378\U000e0fff\ufffe",
    "replacement": "\ufffd",
    "emoji": "🐶🏖️🇫🇷",
    "braille": "⠓⠊",
    "full width": "ｓａｙ",
    "mathematical": "𝐬𝐚𝐲",
    "enclosed": "ⓢⓐⓨ",
    "runes": "ᚺᛁ",
}
"""Characters, by their kind, that no model of the similar level reads."""


def character_pairs() -> Iterator[Apart]:
    """Each English question beside the same with such characters at the end, inside and around."""
    for question in _table("cache_clauses.toml")["en"]["questions"]:
        half = len(question) // 2
        for kind, characters in DROPPED.items():
            yield Apart(kind, question, question + characters)
            yield Apart(kind, question, question[:half] + characters + question[half:])
            yield Apart(kind, question, characters[0] + question)


# --- tables ---

_CHOICE: Final = re.compile(r"\{([^{}|]*)\|([^{}|]*)\}")


def _both(line: str) -> tuple[str, str]:
    """The two texts of ``a {b|c} d``; several choices are taken together: the first of each, the second of each."""
    if _CHOICE.search(line) is None:
        raise ValueError("a line of a table must have a choice")
    return _CHOICE.sub(r"\1", line), _CHOICE.sub(r"\2", line)


def table_pairs(name: str) -> Iterator[Apart]:
    """The near misses of a table, ``kind.near`` or ``kind``: lines as `_both` reads them, or ``a ||| b``."""
    for kind, rows in _table(name).items():
        for line in rows["near"] if isinstance(rows, dict) else rows:
            a, _, b = line.partition(" ||| ")
            yield Apart(kind, a, b) if b else Apart(kind, *_both(line))


def everyday_questions() -> dict[str, list[str]]:
    """Different questions, by language."""
    return {language: rows["questions"] for language, rows in _table("cache_languages.toml").items()}


# --- prompts of templates ---

_SLOT: Final = re.compile(r"\{([a-z]+)(2?)\}")
_FILLINGS: Final = 4
_SYMMETRIC: Final = ("how far", "what is {number} plus", "difference between", "compare")
_MODAL: Final = re.compile(r"\b(?:do|can|should|must|could) (i|we|you|they)\b")
_AUXILIARY: Final = re.compile(r"\b(is|are|was|does|do|can|will|should)\b")
_MODIFIERS: Final = ("old", "foreign", "spare", "second hand")
_ENDS: Final = {
    "time": (("last week", "next week"), ("today", "yesterday"), ("in the morning", "in the evening")),
    "condition": (
        ("with insurance", "without insurance"),
        ("if it rains", "if it snows"),
        ("on foot", "by bus"),
    ),
    "quantity": (("for all of us", "for some of us"), ("for every child", "for one child")),
    "addition": (("", "for children"), ("", "abroad"), ("", "as a group"), ("", "and a hotel")),
}


def _filled(group: list[str]) -> Iterator[tuple[dict[str, str], dict[str, str]]]:
    """Values for a group's slots, and other values for the same."""
    slots = sorted({match.group()[1:-1] for text in group for match in _SLOT.finditer(text)})
    pools = _table("../training/verifier_lists.toml")["slots"]
    for i in range(_FILLINGS):
        values: dict[str, str] = {}
        others: dict[str, str] = {}
        for slot in slots:
            pool = pools[slot.removesuffix("2")]
            at = 3 * i + (1 if slot.endswith("2") else 0)
            values[slot], others[slot] = pool[at % len(pool)], pool[(at + 2) % len(pool)]
        yield values, others


def edit_pairs() -> Iterator[Apart]:
    """Each prompt of the templates beside the same with one edit: a word, an order, a scope, a time or a modality."""
    for group in _table("../training/verifier_lists.toml")["templates"]:
        for values, others in _filled(group):
            for template in group:
                text = template.format(**values)
                for slot in {match.group()[1:-1] for match in _SLOT.finditer(template)}:
                    yield Apart("word", text, template.format(**{**values, slot: others[slot]}))
                    if slot.endswith("2") and not group[0].startswith(_SYMMETRIC):
                        one = slot[:-1]
                        turned = template.format(**{**values, slot: values[one], one: values[slot]})
                        yield Apart("order", text, turned)
                yield from _edited(text)


def _edited(text: str) -> Iterator[Apart]:
    for kind, ends in _ENDS.items():
        for one, other in ends:
            yield Apart(kind, f"{text} {one}".rstrip(), f"{text} {other}")
    words = text.split()
    for modifier in _MODIFIERS:
        yield Apart("scope", text, " ".join([*words[:-1], modifier, words[-1]]))
    if match := _MODAL.search(text):
        for modal, other in (("can", "must"), ("can", "should"), ("must", "may")):
            one, two = (f"{text[: match.start()]}{m} {match[1]}{text[match.end() :]}" for m in (modal, other))
            yield Apart("modality", one, two)
    if match := _AUXILIARY.search(text):
        yield Apart("negation", text, f"{text[: match.end()]} not{text[match.end() :]}")


def paraphrases() -> Iterator[tuple[str, str]]:
    """Two wordings of one request: of one template, or with another opening, contraction or phrase."""
    lists = _table("../training/verifier_lists.toml")
    for group in lists["templates"]:
        for values, _ in _filled(group):
            texts = [template.format(**values) for template in group]
            for i, text in enumerate(texts):
                yield from ((text, other) for other in texts[i + 1 :])
            yield from ((texts[0], opening.format(texts[0])) for opening in lists["openings"])
            for old, new in (*lists["contractions"], *lists["phrases"]):
                if (changed := re.sub(rf"\b{re.escape(old)}\b", new, texts[0], count=1)) != texts[0]:
                    yield texts[0], changed
