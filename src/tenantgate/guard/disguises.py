"""Other readings of a text: what is spelled out, turned round, shifted in the alphabet, in figures, or encoded."""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["disguises"]


def disguises(text: str) -> Iterator[tuple[int, int, str]]:
    """Each disguised part of the text: start, end, and what it says."""
    yield from ()
