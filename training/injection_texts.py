"""The project's own attacks and honest texts for `train_injection.py`, made of its TOML files; and doubtful labels."""

from __future__ import annotations

import random
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["doubtful", "own"]

HERE = Path(__file__).resolve().parent
HIDDEN = 600  # documents with an attack in them, and with an honest sentence
# Rows that a public set counts as attacks and that ask for nothing but knowledge: what remains of a benchmark's case when
# it has no secret to protect. They are told by their words, without regard to what a model says of them.
_HARMLESS = re.compile(
    r"(?i)neural network|quantum physics|model used in ai|moon|omelette|mousak|μουσακ|zauberfl|garota de|寿司|"
    r"ancient civili|breakfast|artificial intelligence\?|intelligenza artificiale\?|reti neurali|state of modern politics|"
    r"global temperature|theory of evolution|quadratic|standard cake|car tire|hello, world|python\?|algebra|bitcoin"
)
_LOADED = re.compile(
    r"(?i)ignor|forget|password|secret|user\b|override|system|birth|address|instruct|dan\b|liv(e|es|ing)\b"
)


def doubtful(text: str) -> bool:
    """Whether a text that counts as an attack asks for nothing that anybody would mind."""
    return len(text) < 1400 and bool(_HARMLESS.search(text)) and not _LOADED.search(text)


def filled(template: str, slots: dict[str, list[str]], rng: random.Random) -> str:
    """A template with its slots filled."""
    for _ in range(5):
        template = re.sub(
            r"\{(\w+)\}", lambda m: rng.choice(slots[m[1]]) if m[1] in slots else m[0], template
        )
    return template


def cased(text: str, rng: random.Random) -> str:
    """Now and then in other case, without the last stop, or with a slip of the finger."""
    r = rng.random()
    if r < 0.08:
        return text.lower()
    if r < 0.12:
        return text.upper()
    if r < 0.2:
        return text.rstrip(".!")
    if r < 0.24 and len(text) > 12:
        at = rng.randrange(1, len(text) - 1)
        return text[:at] + text[at + 1 :]
    return text[:1].upper() + text[1:] if r < 0.7 else text


def _load(name: str) -> dict[str, Any]:
    return tomllib.loads((HERE / name).read_text("utf-8"))


def own(rng: random.Random, documents: list[str]) -> Iterator[tuple[str, int, str]]:
    """Text, whether it is an attack, and where it is from: ``own-attack``, ``own-hidden``, …; no text twice.

    Args:
        rng: chooses.
        documents: honest texts in which sentences are hidden.
    """
    seen: set[str] = set()
    for text, attack, source in _own(rng, documents):
        if text not in seen and text.strip():
            seen.add(text)
            yield text, attack, source


def _own(rng: random.Random, documents: list[str]) -> Iterator[tuple[str, int, str]]:
    attacks, honest = _from_templates(rng, "injection_examples.toml", 6)
    more = _from_templates(rng, "injection_more.toml", 12)
    attacks, honest = attacks + more[0], honest + more[1]
    lines: list[str] = []
    for texts in _load("injection_languages.toml").values():
        lines += texts["attack"]
        for sentence in texts["attack"]:
            attacks += [sentence, cased(sentence, rng)]
        for sentence in texts["honest"]:
            honest += [sentence, cased(sentence, rng)]
        for _ in range(25):
            attacks.append(" ".join(rng.sample(texts["attack"], 2)))
            attacks.append(" ".join((rng.choice(texts["honest"]), rng.choice(texts["attack"]))))
            honest.append(
                " ".join(rng.sample(texts["honest"], min(len(texts["honest"]), rng.choice((2, 3)))))
            )
    hidden = list(attacks)
    kinds = _from_templates(rng, "injection_kinds.toml", 8)
    attacks, honest = attacks + kinds[0], honest + kinds[1]
    yield from ((t, 1, "own-attack") for t in attacks)
    yield from ((t, 0, "own-honest") for t in honest)
    yield from ((_long(honest, rng), 0, "own-honest") for _ in range(400))
    # A question for a password is an attack by itself, not in the midst of somebody's story: those techniques aren't hidden.
    plain = {1: [t for t in hidden if len(t) < 300], 0: [t for t in honest if len(t) < 300]}
    long_documents = [t for t in documents if 300 < len(t) < 4000]
    for _ in range(HIDDEN if long_documents else 0):
        sentences = re.split(r"(?<=[.!?\n])\s", rng.choice(long_documents)[:1800])
        at = rng.randrange(len(sentences) + 1)
        for attack, source in ((1, "own-hidden"), (0, "own-woven")):
            yield " ".join((*sentences[:at], rng.choice(plain[attack]), *sentences[at:])), attack, source
    for text in rng.sample(lines, min(len(lines), 120)):
        yield rng.choice(("\n", " \n", "\n\n")).join(text.split()), 1, "own-attack"


def _from_templates(rng: random.Random, name: str, each: int) -> tuple[list[str], list[str]]:
    """Attacks and honest texts of a file, each template filled so often."""
    file = _load(name)
    attacks, honest = (
        [
            cased(filled(template, file["slots"], rng), rng)
            for templates, times in ((file[kind]["templates"], each), (file[kind].get("languages", ()), 3))
            for template in templates
            for _ in range(times)
        ]
        for kind in ("attack", "benign")
    )
    return attacks, honest


def _long(honest: list[str], rng: random.Random) -> str:
    chosen = rng.sample(honest, rng.choice((3, 4, 6, 9)))
    return rng.choice((" ", "\n", "\n\n")).join(chosen)
