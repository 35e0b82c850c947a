"""Texts that are made to be slow to read, by family and size: for tests and benchmarks of every stage."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

__all__ = ["FAMILIES", "text_of"]

_TURNS: Final = ("Anna: um so we {} the thing , you know\n", "Bob: uh yeah {} it is the other one\n")


def _repeated(piece: str) -> Callable[[int], str]:
    return lambda size: (piece * (size // len(piece) + 1))[:size]


def _talk(piece: str) -> Callable[[int], str]:
    """A transcript with a question, whose turns hold `piece`."""

    def make(size: int) -> str:
        turns = "".join(turn.format(piece) for turn in _TURNS)
        return turns * (size // len(turns)) + "\nWhat did Anna say about the thing?"

    return make


FAMILIES: Final[dict[str, Callable[[int], str]]] = {
    "open tags": _repeated("<LLMLINGUA>"),
    "closing tags": _repeated("</LLMLINGUA>"),
    "tags in pairs": _repeated("<LLMLINGUA>a</LLMLINGUA>"),
    "tags in tags": lambda size: "<LLMLINGUA>" * (size // 24) + "x" + "</LLMLINGUA>" * (size // 24),
    "tags with options": _repeated("<llmlingua, compress=False"),
    "open fences": _repeated("```\n"),
    "fences of growing length": lambda size: "".join(
        "\n" + "`" * n for n in range(3, int((2 * size) ** 0.5))
    ),
    "fences behind words": _repeated("a ```python\n"),
    "backticks": _repeated("` "),
    "brackets": _repeated("["),
    "braces": _repeated("{"),
    "open JSON": _repeated('{"a":['),
    "long JSON list": lambda size: "[" + "[1]," * (size // 4),
    "JSON with an error": _repeated('{"a": 1, "b" 2}'),
    "quotes": _repeated('"'),
    "curly quotes": _repeated("“"),
    "quotes on lines": _repeated('"a\n'),
    "apostrophes": _repeated(" 'a"),
    "backslashes": _repeated("\\"),
    "formulas": _repeated("\\["),
    "environments": _repeated("\\begin{a}"),
    "dollars": _repeated("$"),
    "dollars and signs": _repeated("$a="),
    "comments": _repeated("<!--"),
    "mark-up": _repeated("<a "),
    "one line of letters": _repeated("a"),
    "one line of capitals": _repeated("A"),
    "one line of digits": _repeated("1"),
    "digits and signs": _repeated("1."),
    "one line of blanks": lambda size: " " * size + "x",
    "blanks at line ends": _repeated("a" + " " * 50 + "\n"),
    "blank lines of blanks": _repeated("   \n"),
    "a letter and a full stop": _repeated("a."),
    "lines of one letter": _repeated("a\n"),
    "line ends": _repeated("\n"),
    "carriage returns": _repeated("\r\n"),
    "quote marks": _repeated("> "),
    "deep quotes": _repeated(">" * 40 + " a\n"),
    "table rows": _repeated("| a |\n|---|\n"),
    "bars": _repeated("|"),
    "labels": _repeated("Anna: \n"),
    "colons": _repeated(": "),
    "labels without end": _repeated("Anna "),
    "rulers": _repeated("=" * 30 + "\n"),
    "underscores": _repeated("_"),
    "slashes": _repeated("/a"),
    "at signs": _repeated("@a."),
    "hyphens": _repeated("a-"),
    "calls": _repeated("f("),
    "code lines": _repeated("public a   b\n"),
    "numbers in words": _repeated("one "),
    "negations": _repeated("not "),
    "surrogates of tags": _repeated("\U000e0041"),
    "combining marks": _repeated("e\u0301"),
    "talk": _talk("see"),
    "talk with quotes": _talk("“"),
    "talk with hesitations": _talk("uh " * 40),
    "talk with digits": _talk("1 " * 40),
    "talk with brackets": _talk("[{( "),
    "talk on long lines": _talk("we have seen it , " * 25),
}
"""What makes a text of about so many characters."""


def text_of(family: str, size: int) -> str:
    """About `size` characters of a family."""
    return FAMILIES[family](size)
