"""The rules of secrets as secret_keys.toml, secret_forms.toml and secret_names.toml have them, made ready to use."""

from __future__ import annotations

import re
import string
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Final

from tenantgate.pii.core.secret_checks import CHECKS

__all__ = ["NAMES", "RULES", "Name", "Rule", "joints", "long_words", "names", "rules", "sentence_words"]

# An underscore parts a value from its name, and marks emphasis: token_ghp_…, _ghp_…_.
_START: Final = r"(?<![A-Za-z0-9])"
_END: Final = r"(?![A-Za-z0-9])"
_LONG: Final = 15  # characters of the shortest key
_WORD_CODES: Final = frozenset(map(ord, string.ascii_letters + string.digits + "_+/=.~%:@-"))
_TO_SIGNS: Final = bytes(98 if code in _WORD_CODES else 32 for code in range(256))
_LONG_WORD: Final = b"b" * _LONG


@dataclass(frozen=True, slots=True)
class Rule:
    """A credential with a form of its own.

    Attributes:
        kind: such as ``GITHUB_TOKEN``.
        literals: one of these is in every text that has it.
        also: this follows one of the literals, a few hundred characters behind at most; empty where nothing must.
        form: the whole expression; its group ``value`` is the finding, or all of it.
        check: what the value must pass beside the form.
        score: 0 to 1.
        word: whether it lies within one of `long_words`.
    """

    kind: str
    literals: tuple[str, ...]
    also: str
    form: re.Pattern[str]
    check: Callable[[str], bool]
    score: float
    word: bool


@dataclass(frozen=True, slots=True)
class Name:
    """Words that name a credential.

    Attributes:
        kind: ``PASSWORD`` or ``TOKEN``.
        words: in lower case.
        test: how a value is tested: ``password``, ``pin`` or ``key``.
        whole: whether the word must not be part of another.
        joined: whether a sign must tie the value to the name.
    """

    kind: str
    words: tuple[str, ...]
    test: str
    whole: bool
    joined: bool


@cache
def _raw(name: str) -> dict[str, Any]:
    """A file of rules as it is written, with examples and counter-examples."""
    return tomllib.loads(files("tenantgate.pii.core").joinpath(f"{name}.toml").read_text("utf-8"))


def rules() -> list[dict[str, Any]]:
    """All rules of forms as they are written."""
    found: list[dict[str, Any]] = [*_raw("secret_keys")["rule"], *_raw("secret_forms")["rule"]]
    return found


def names() -> list[dict[str, Any]]:
    """All names of credentials as they are written."""
    found: list[dict[str, Any]] = _raw("secret_names")["name"]
    return found


def _rule(row: dict[str, Any]) -> Rule:
    expression = row["expression"] if row.get("loose") else f"{_START}{row['expression']}{_END}"
    form = re.compile(expression)
    check = CHECKS[row.get("check", "")]
    literals, also = tuple(row["literals"]), row.get("also", "")
    return Rule(row["kind"], literals, also, form, check, row["score"], _is_word(row["expression"]))


def _is_word(expression: str) -> bool:
    """Whether all that an expression may match lies within one of `long_words`."""
    import re._parser as parser  # type: ignore[import-not-found]

    parsed = parser.parse(expression)
    return bool(parsed.getwidth()[0] >= _LONG) and all(map(_in_word, parsed))


def _in_word(node: tuple[Any, Any]) -> bool:
    """Whether a part of an expression matches characters of words alone; one that isn't known doesn't."""
    name, inner = str(node[0]), node[1]
    match name:
        case "ASSERT" | "ASSERT_NOT" | "AT":
            return True
        case "LITERAL":
            return inner in _WORD_CODES
        case "RANGE":
            return all(code in _WORD_CODES for code in range(inner[0], inner[1] + 1))
        case "IN":
            return all(map(_in_word, inner))
        case "BRANCH":
            return all(_in_word(part) for branch in inner[1] for part in branch)
        case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT":
            return all(map(_in_word, inner[2]))
        case "SUBPATTERN":
            return not inner[1] and all(map(_in_word, inner[3]))
        case _:
            return False


def long_words(text: str) -> bytes:
    """The words of a text that are as long as a key, with blanks between them."""
    raw = text.encode("ascii", "replace")
    signs = raw.translate(_TO_SIGNS)
    words = []
    at = signs.find(_LONG_WORD)
    while at >= 0:
        end = signs.find(b" ", at)
        words.append(raw[at : end if end >= 0 else len(raw)])
        at = signs.find(_LONG_WORD, end) if end >= 0 else -1
    return b" ".join(words)


RULES: Final = tuple(_rule(row) for row in rules())
NAMES: Final = tuple(
    Name(row["kind"], tuple(row["words"]), row["test"], row.get("whole", False), row.get("joined", False))
    for row in names()
)


def joints() -> tuple[str, ...]:
    """The words that tie a value to a name: "is" in ten languages."""
    return tuple(_raw("secret_names")["is"])


def sentence_words() -> frozenset[str]:
    """Words that sentences have and phrases that are passwords don't."""
    return frozenset(_raw("secret_names")["sentence"].split())
