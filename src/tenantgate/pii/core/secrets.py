"""Credentials in a text: keys with a form of their own, and values that a word beside them gives away.

Rules are data: secret_keys.toml and secret_forms.toml have the forms, secret_names.toml the words. Each form first
looks for its literal, so a text without any costs one plain search per literal.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from tenantgate.pii.core.finding import Finding, Reach, lower_in_place, outermost
from tenantgate.pii.core.named_secrets import find_named
from tenantgate.pii.core.secret_checks import entropy
from tenantgate.pii.core.secret_rules import NAMES, RULES, Rule, long_words
from tenantgate.time_left import check_time

__all__ = ["SECRETS_REACH", "SECRET_KINDS", "find_secrets"]

_AWS_SECRET: Final = re.compile(r"(?<![A-Za-z0-9+/=])[A-Za-z0-9+/]{40}(?![A-Za-z0-9+/=])")
_AWS_WORDS: Final = re.compile(r"(?i)aws|secret[_ -]?access|akia|asia")
_AWS_STEMS: Final = ("aws", "access", "akia", "asia")
_AWS_LENGTH: Final = 40
_AWS_NEAR: Final = 200  # characters between the word and the key
# A key is one long word, of which most texts have few: their literals are looked for in these alone.
_IN_WORDS: Final = tuple(
    (literal.encode(), i) for i, rule in enumerate(RULES) if rule.word for literal in rule.literals
)
_LITERALS: Final = tuple(
    (literal, i) for i, rule in enumerate(RULES) if not rule.word for literal in rule.literals
)
_ALSO_NEAR: Final = 400  # characters between a literal and what must follow it
_LEAD: Final = 40  # characters before such a literal
_LONGEST: Final = 720  # … and after it
_MANY: Final = 64  # matches between two looks at the clock

SECRETS_REACH: Final = Reach(600, 208)
"""Of `find_secrets`: a value in quotes is the longest, the secret of an AWS key is told from farthest."""

SECRET_KINDS: Final = tuple(
    dict.fromkeys((*(rule.kind for rule in RULES), "AWS_SECRET_KEY", *(name.kind for name in NAMES)))
)
"""All kinds that `find_secrets` gives."""


def find_secrets(text: str) -> tuple[Finding, ...]:
    """Credentials in the text, in order, without overlaps.

    Raises:
        OutOfTimeError: the text is longer than there is time for (`time_left.limited`).
    """
    return outermost(_find(text))


def _find(text: str) -> Iterator[Finding]:
    rules = {i for literal, i in _LITERALS if literal in text}
    words = long_words(text)
    if words:
        rules.update(i for literal, i in _IN_WORDS if literal in words)
    for i in sorted(rules):
        yield from _matches(RULES[i], text)
    lower = lower_in_place(text)
    if any(len(word) >= _AWS_LENGTH for word in words.split()) and any(w in lower for w in _AWS_STEMS):
        yield from _aws_secrets(text)
    yield from find_named(text, lower)


def _matches(rule: Rule, text: str) -> Iterator[Finding]:
    check_time()
    valued = "value" in rule.form.groupindex
    tested = "secret" if "secret" in rule.form.groupindex else "value" if valued else 0
    near = _near(rule, text) if rule.also else ((0, len(text)),)
    for n, m in enumerate((m for a, b in near for m in rule.form.finditer(text, a, b)), 1):
        if n % _MANY == 0:
            check_time()
        if rule.check(m[tested]):
            start, end = m.span("value" if valued else 0)
            yield Finding(start, end, rule.kind, rule.score)


def _near(rule: Rule, text: str) -> Iterator[tuple[int, int]]:
    """Where a rule's form may be, which holds a literal and something else soon after it; in order and apart."""
    low = high = -1
    for literal in rule.literals:
        at = text.find(literal)
        while at >= 0:
            if text.find(rule.also, at, at + _ALSO_NEAR) >= 0:
                if at - _LEAD > high:
                    if high >= 0:
                        yield low, high
                    low = max(0, at - _LEAD)
                high = min(len(text), at + _LONGEST)
            at = text.find(literal, at + len(literal))
    if high >= 0:
        yield low, high


def _aws_secrets(text: str) -> Iterator[Finding]:
    hints = [m.start() for m in _AWS_WORDS.finditer(text)]
    if not hints:
        return
    at = 0
    for m in _AWS_SECRET.finditer(text):
        while at + 1 < len(hints) and hints[at + 1] <= m.start():
            at += 1
        near = abs(hints[at] - m.start()) <= _AWS_NEAR or (
            at + 1 < len(hints) and 0 <= hints[at + 1] - m.end() <= _AWS_NEAR
        )
        value = m.group()
        if near and entropy(value) > 4 and any(c.isdecimal() for c in value) and value.lower() != value:
            yield Finding(m.start(), m.end(), "AWS_SECRET_KEY", 0.95)
