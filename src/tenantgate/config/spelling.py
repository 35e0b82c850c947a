r"""Values of tenants.yaml whose spelling means something else than it looks like.

YAML 1.1, which PyYAML reads, takes ``0600`` for 384 and ``1:00`` for 60; YAML 1.2 takes them for 600 and a text
(yaml.org/type/int.html; yaml.org/spec/1.2.2, section 10.3.2). In double quotes ``"\bfoo"`` is a backspace and ``foo``.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import urlsplit

import yaml

__all__ = ["names_googles_operation", "names_no_operation", "problem"]

# What YAML 1.1 and 1.2 read alike, and a person, too.
_NUMBER: Final = re.compile(r"[-+]?(0|[1-9][0-9]*)?(\.[0-9]*)?([eE][-+]?[0-9]+)?")
_NUMBER_TAGS: Final = frozenset({"tag:yaml.org,2002:int", "tag:yaml.org,2002:float"})
_BEYOND: Final = re.compile(r"[-+]?\.(inf|nan)", re.IGNORECASE)  # the field's own check refuses these
# Control characters but tab and line feed; and line and paragraph separators, which YAML writes \L and \P.
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")
_ESCAPES: Final = {
    "\b": r"\b",
    "\a": r"\a",
    "\v": r"\v",
    "\f": r"\f",
    "\0": r"\0",
    "\x1b": r"\e",
    "\u0085": r"\N",
    "\u2028": r"\L",
    "\u2029": r"\P",
}
# The last step of a base address, after which the operation would come.
_BASE: Final = re.compile(r"(|api|openai|v[0-9]+(alpha|beta)?[0-9]*)")


def problem(node: yaml.ScalarNode) -> str | None:
    """Why a value can't be meant as YAML reads it, or None."""
    if node.tag in _NUMBER_TAGS:
        if _NUMBER.fullmatch(node.value) or _BEYOND.fullmatch(node.value):
            return None
        # Without the value: where a secret belongs it may be one.
        return "is a number in another base to YAML; write a number in decimal, and a text in quotes"
    if (found := _CONTROL.search(node.value)) is not None:
        return f"holds the control character U+{ord(found[0]):04X}" + _advice(found[0], node.style)
    return None


def names_no_operation(url: str) -> bool:
    """Whether an upstream's address ends where its operation would begin, as in ``https://host/v1``."""
    path = urlsplit(url).path.rstrip("/")
    return _BASE.fullmatch(path.rpartition("/")[2].lower()) is not None


def names_googles_operation(url: str) -> bool:
    """Whether an upstream's address is one of Gemini's own operations, as in ``…/models/gemini:generateContent``."""
    return urlsplit(url).path.endswith((":generateContent", ":streamGenerateContent"))


def _advice(character: str, style: str | None) -> str:
    if style != '"' or character not in _ESCAPES:
        return ""
    return f": in double quotes YAML reads {_ESCAPES[character]} as that; write the text in single quotes"
