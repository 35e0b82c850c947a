"""The way of a text: marks, folding, pruning, and a check after each step. Under a deadline.

Nothing here raises for a text, and nothing comes out longer in tokens than it went in.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from tenantgate.chat import ChatRequest
from tenantgate.compress.checking import Problem, check_folded, check_pruned
from tenantgate.compress.config import CompressConfig
from tenantgate.compress.folding import STEPS, fold
from tenantgate.compress.plan import Part, Section, is_text, parts, rate_for, sections
from tenantgate.compress.ports import Pruner, TokenCounter
from tenantgate.compress.spans import Span, blocks, is_natural, merged, protected

__all__ = ["Compressed", "Compressor", "OutOfTimeError", "Steps", "joined"]

# Above this a text's patterns alone would take longer than any deadline: about 50,000 tokens.
MOST_CHARACTERS: Final = 200_000
_SHORTEST_PRUNED: Final = 40  # characters


class OutOfTimeError(Exception):
    """The deadline has passed; the original goes out."""


@dataclass(frozen=True, slots=True)
class Steps:
    """What the steps did: tokens saved by each, and results that a check threw away."""

    folded: int = 0
    pruned: int = 0
    refused: tuple[Problem, ...] = ()

    def __add__(self, other: Steps) -> Steps:
        return Steps(self.folded + other.folded, self.pruned + other.pruned, (*self.refused, *other.refused))


@dataclass(frozen=True, slots=True)
class Compressed:
    """A text and what became of it; `before` and `after` in tokens, the marks' own included in `before`."""

    text: str
    before: int
    after: int
    steps: Steps = field(default_factory=Steps)


class Compressor:
    """The pipeline of one configuration. Safe for threads if the ports are."""

    def __init__(
        self,
        config: CompressConfig,
        counter: TokenCounter,
        pruner: Pruner | None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config = config
        self._counter = counter
        self._pruner = pruner if config.prune else None
        self._clock = clock
        self._fold_steps = tuple(name for name in STEPS if getattr(config, name))

    @property
    def fingerprint(self) -> str:
        """What pruned, for records; empty if nothing prunes."""
        return self._pruner.fingerprint if self._pruner else ""

    def request(self, request: ChatRequest, deadline: float) -> Iterator[tuple[Part, Compressed]]:
        """Each text that may be compressed, in order, and its result, changed or not.

        `deadline` is in seconds of the clock.

        Raises:
            OutOfTimeError: it has passed.
        """
        for part in parts(request, self._config):
            yield part, self.text(part.text, deadline)

    def text(self, text: str, deadline: float) -> Compressed:
        """The shorter text, or the same.

        Raises:
            OutOfTimeError: the deadline has passed.
        """
        self._check_time(deadline)
        before = self._counter.count(text)
        same = Compressed(text, before, before)
        if len(text) > MOST_CHARACTERS or not text.strip() or not is_text(text):
            return same
        found = sections(text)
        marked = len(found) != 1 or found[0].text != text
        if before < self._config.min_tokens and not marked:
            return same
        texts, steps = [], Steps()
        for section in found:
            result, done = self._section(section, deadline, marked=marked)
            texts.append(result)
            steps += done
        out = "".join(texts)
        after = self._counter.count(out)
        # Where sections meet, two tokens may be needed for what was one.
        if out == text or after >= before or not out.strip():
            return replace(same, steps=Steps(refused=steps.refused))
        return Compressed(out, before, after, steps)

    def _section(self, section: Section, deadline: float, *, marked: bool) -> tuple[str, Steps]:
        if not section.compress:
            return section.text, Steps()
        text = section.text
        fixed = blocks(text)
        if not marked and not is_natural(text, fixed):
            return text, Steps()
        folded, steps, fixed = self._folded(text, fixed, deadline)
        self._check_time(deadline)
        pruned, more = self._pruned(folded, fixed, deadline)
        self._check_time(deadline)
        return pruned, steps + more

    def _folded(
        self, text: str, fixed: tuple[Span, ...], deadline: float
    ) -> tuple[str, Steps, tuple[Span, ...]]:
        if not self._fold_steps:
            return text, Steps(), fixed
        out = fold(text, self._fold_steps, lambda: self._check_time(deadline))
        if out == text:
            return text, Steps(), fixed
        before, after = self._counter.count(text), self._counter.count(out)
        problem = check_folded(text, out, protected(text, fixed), before=before, after=after)
        if problem:
            return text, Steps(refused=(problem,) if problem is not Problem.LONGER else ()), fixed
        return out, Steps(folded=before - after), blocks(out)

    def _pruned(self, text: str, fixed: tuple[Span, ...], deadline: float) -> tuple[str, Steps]:
        if self._pruner is None or len(text) < _SHORTEST_PRUNED:
            return text, Steps()
        before = self._counter.count(text)
        rate = rate_for(before, self._config)
        if rate is None:
            return text, Steps()
        spans = merged(protected(text, fixed))
        self._check_time(deadline)
        kept = self._pruner.keep(text, spans, rate, deadline)
        if kept is None:
            return text, Steps()
        out = joined(text, kept)
        if out is None:
            return text, Steps(refused=(Problem.LOST,))
        problem = check_pruned(text, out, spans, count=self._counter.count, before=before)
        if problem:
            return text, Steps(refused=(problem,) if problem is not Problem.LONGER else ())
        return out, Steps(pruned=before - self._counter.count(out))

    def _check_time(self, deadline: float) -> None:
        if self._clock() >= deadline:
            raise OutOfTimeError


def joined(text: str, kept: Sequence[tuple[int, int]]) -> str | None:
    """What stays of `text`, with a blank or a line end where something between two words went.

    None if the spans are no spans of the text in order.
    """
    out: list[str] = []
    place = 0
    for start, end in kept:
        if not place <= start <= end <= len(text):
            return None
        if start == end:
            continue
        gap = text[place:start]
        if gap.isspace():
            out.append(gap)
        elif gap and place:
            out.append(_mended(text, place, start, gap))
        out.append(text[start:end])
        place = end
    tail = text[place:]
    return "".join(out) + (tail if tail.isspace() else "")


def _mended(text: str, left: int, right: int, gap: str) -> str:
    """What takes the place of a gap between two kept spans."""
    blank = text[left - 1].isspace() or text[right : right + 1].isspace()
    lines = "\n\n" if "\n\n" in gap else "\n" if "\n" in gap else ""
    if lines:
        return "" if blank and "\n" in (text[left - 1] + text[right : right + 1]) else lines
    if blank:
        return ""
    if text[right] in ",.;:!?)]}…":
        return ""
    # Words that nothing stood between but signs must not grow together.
    return (
        " " if any(c.isspace() for c in gap) or (text[left - 1].isalnum() and text[right].isalnum()) else ""
    )
