"""The rules of secrets as secret_keys.toml, secret_forms.toml and secret_names.toml have them, made ready to use."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Final

from tenantgate.pii.core.secret_checks import CHECKS

__all__ = ["NAMES", "RULES", "Name", "Rule", "joints", "names", "rules"]

_START: Final = r"(?<![A-Za-z0-9_])"
_END: Final = r"(?![A-Za-z0-9_])"


@dataclass(frozen=True, slots=True)
class Rule:
    """A credential with a form of its own.

    Attributes:
        kind: such as ``GITHUB_TOKEN``.
        literals: one of these is in every text that has it.
        form: the whole expression; its group ``value`` is the finding, or all of it.
        check: what the value must pass beside the form.
        score: 0 to 1.
    """

    kind: str
    literals: tuple[str, ...]
    form: re.Pattern[str]
    check: Callable[[str], bool]
    score: float


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
    return Rule(
        row["kind"], tuple(row["literals"]), re.compile(expression), CHECKS[row.get("check", "")], row["score"]
    )  # fmt: skip


RULES: Final = tuple(_rule(row) for row in rules())
NAMES: Final = tuple(
    Name(
        row["kind"], tuple(row["words"]), row["test"], row.get("whole", False), row.get("joined", False)
    )
    for row in names()
)  # fmt: skip


def joints() -> tuple[str, ...]:
    """The words that tie a value to a name: "is" in ten languages."""
    return tuple(_raw("secret_names")["is"])
