"""What compression needs from outside: a pruner of natural language and a count of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

__all__ = ["Pruner", "TokenCounter"]


class Pruner(Protocol):
    """Chooses the words of a text that stay, as LLMLingua-2 does by the classes of its tokens."""

    @property
    def fingerprint(self) -> str:
        """Names the rules or weights, so that figures and records can be told apart."""

    def keep(
        self, text: str, protected: Sequence[tuple[int, int]], rate: float, deadline: float
    ) -> Sequence[tuple[int, int]] | None:
        """Character spans of `text` to keep: in order, without overlap, holding every span of `protected`.

        `protected` is sorted and without overlap. About `rate` (0 to 1) of the words stay. `deadline` is in
        seconds of `time.monotonic`. White space around what goes is mended by the caller. A speaker's label
        (``Name:`` at the start of a line) isn't protected as such, so that an empty turn can go as a whole.

        None: out of time, nothing to gain, or a language that the pruner doesn't know.
        """


class TokenCounter(Protocol):
    """Counts a text's tokens as a family of models does."""

    @property
    def name(self) -> str:
        """The vocabulary, such as `o200k_base`."""

    def count(self, text: str) -> int:
        """Tokens of `text`, 0 for an empty one. Never raises, whatever the text."""
