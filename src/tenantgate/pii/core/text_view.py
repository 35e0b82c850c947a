"""A text made from another, and where each of its characters comes from."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from heapq import merge
from typing import Final

__all__ = ["PLAIN", "Unit", "View"]

Unit = tuple[int, int, str]
"""A piece ``start:end`` of a text, and what it stands for; that may be nothing."""
PLAIN: Final[Sequence[int]] = ()


@dataclass(frozen=True, slots=True)
class View:
    """A text, and the units of the text before it that it reads differently.

    Unit i is ``starts[i]:ends[i]`` here and ``starts_before[i]:ends_before[i]`` in the text before. What lies between
    two units is the same in both. Without units and `before`, this is the original.
    """

    text: str
    starts: Sequence[int] = PLAIN
    ends: Sequence[int] = PLAIN
    starts_before: Sequence[int] = PLAIN
    ends_before: Sequence[int] = PLAIN
    before: View | None = None

    @classmethod
    def of(cls, before: View, units: Iterable[Unit]) -> View:
        """The text of `before` with each unit as what it stands for; units are in order and don't overlap.

        `before` itself where there are none.
        """
        text, at, here = before.text, 0, 0
        parts: list[str] = []
        starts: list[int] = []
        ends: list[int] = []
        starts_before: list[int] = []
        ends_before: list[int] = []
        for start, end, plain in units:
            here += start - at
            parts += text[at:start], plain
            starts.append(here)
            here += len(plain)
            ends.append(here)
            starts_before.append(start)
            ends_before.append(end)
            at = end
        if not starts:
            return before
        parts.append(text[at:])
        return cls("".join(parts), starts, ends, starts_before, ends_before, before)

    @property
    def original(self) -> bool:
        """Whether this is the original itself."""
        return self.before is None

    def altered(self, since: View | None = None) -> Iterator[tuple[int, int]]:
        """Where this text has what is written differently in an earlier one, or in the original; in order.

        A place where only something is left out is an empty span.
        """
        if self.before is None or self is since:
            return
        own = zip(self.starts, self.ends, strict=True)
        if self.before is since or self.before.original:
            yield from own
            return
        earlier = ((self.ahead(a), max(self.ahead(a), self.ahead(b))) for a, b in self.before.altered(since))
        yield from merge(earlier, own)

    def differs(self, other: View) -> list[tuple[int, int]]:
        """Where this text differs from another that was made from the same text before; in order."""
        mine, others = dict(self._units()), dict(other._units())
        spans = [span for unit, span in mine.items() if unit not in others]
        spans += ((self.ahead(a), self.ahead(b)) for a, b, plain in others if (a, b, plain) not in mine)
        return sorted(spans)

    def _units(self) -> Iterator[tuple[Unit, tuple[int, int]]]:
        """The units, each with its span in this text."""
        for start, end, a, b in zip(
            self.starts, self.ends, self.starts_before, self.ends_before, strict=True
        ):
            yield (a, b, self.text[start:end]), (start, end)

    def ahead(self, at: int) -> int:
        """Where in this text the place `at` of the text before is; the end of a unit, if it is inside one."""
        i = bisect_right(self.starts_before, at) - 1
        return at if i < 0 else self.ends[i] + max(0, at - self.ends_before[i])

    def span(self, start: int, end: int) -> tuple[int, int]:
        """The original's span for a span of this text, which isn't empty; units count as a whole."""
        view: View | None = self
        while view is not None and view.before is not None:
            start, end = view.start_before(start), view.end_before(end)
            view = view.before
        return start, end

    def start_before(self, at: int) -> int:
        """Where in the text before the character at `at` begins."""
        # Units that stand for nothing lie before the character at their place.
        i = bisect_right(self.starts, at) - 1
        if i < 0:
            return at
        return self.starts_before[i] if at < self.ends[i] else self.ends_before[i] + at - self.ends[i]

    def end_before(self, at: int) -> int:
        """Where in the text before the character before `at` ends."""
        i = bisect_right(self.starts, at - 1) - 1
        if i < 0:
            return at
        return self.ends_before[i] if at <= self.ends[i] else self.ends_before[i] + at - self.ends[i]

    def inside(self, start: int, end: int) -> tuple[int, int]:
        """The span of this text whose characters lie wholly in ``start:end`` of the original; it may be empty."""
        if self.before is None:
            return start, end
        start, end = self.before.inside(start, end)
        i = bisect_right(self.starts_before, start - 1) - 1  # the last unit that begins before
        first = start if i < 0 else self.ends[i] + max(0, start - self.ends_before[i])
        i = bisect_right(self.starts_before, end - 1) - 1
        if i < 0:
            last = end
        elif end < self.ends_before[i]:
            last = self.starts[i]
        else:
            last = self.ends[i] + end - self.ends_before[i]
        return first, max(first, last)

    def around(self, start: int, end: int) -> tuple[int, int]:
        """The span of this text whose characters touch ``start:end`` of the original, which isn't empty."""
        if self.before is None:
            return start, end
        start, end = self.before.around(start, end)
        i = bisect_right(self.starts_before, start) - 1
        if i < 0:
            first = start
        elif start < self.ends_before[i]:
            first = self.starts[i]
        else:
            first = self.ends[i] + start - self.ends_before[i]
        i = bisect_right(self.starts_before, end - 1) - 1
        last = end if i < 0 else self.ends[i] + max(0, end - self.ends_before[i])
        return first, last
