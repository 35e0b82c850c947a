"""Credentials in a text: keys with a form of their own, and values that a word beside them gives away.

Rules are data: secret_keys.toml and secret_forms.toml have the forms, secret_names.toml the words. Each form first
looks for its literal, so a text without any costs one plain search per literal.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from tenantgate.pii.core.finding import Finding, lower_in_place, outermost
from tenantgate.pii.core.named_secrets import find_named
from tenantgate.pii.core.secret_checks import entropy
from tenantgate.pii.core.secret_rules import NAMES, RULES, Rule
from tenantgate.time_left import check_time

__all__ = ["SECRET_KINDS", "find_secrets"]

_AWS_SECRET: Final = re.compile(r"(?<![A-Za-z0-9+/=])[A-Za-z0-9+/]{40}(?![A-Za-z0-9+/=])")
_AWS_WORDS: Final = re.compile(r"(?i)aws|secret[_ -]?access|akia|asia")
_AWS_NEAR: Final = 200  # characters between the word and the key
_ALL: Final = tuple((literal, i) for i, rule in enumerate(RULES) for literal in rule.literals)
# Prose has no underscore, and is spared a third of the searches.
_WITH_UNDERSCORE: Final = tuple(row for row in _ALL if "_" in row[0])
_LITERALS: Final = tuple(row for row in _ALL if "_" not in row[0])
_MANY: Final = 64  # matches between two looks at the clock

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
    if "_" in text:
        rules.update(i for literal, i in _WITH_UNDERSCORE if literal in text)
    for i in sorted(rules):
        yield from _matches(RULES[i], text)
    lower = lower_in_place(text)
    if "aws" in lower or "access" in lower or "akia" in lower or "asia" in lower:
        yield from _aws_secrets(text)
    yield from find_named(text, lower)


def _matches(rule: Rule, text: str) -> Iterator[Finding]:
    check_time()
    valued = "value" in rule.form.groupindex
    tested = "secret" if "secret" in rule.form.groupindex else "value" if valued else 0
    for n, m in enumerate(rule.form.finditer(text), 1):
        if n % _MANY == 0:
            check_time()
        if rule.check(m[tested]):
            start, end = m.span("value" if valued else 0)
            yield Finding(start, end, rule.kind, rule.score)


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
