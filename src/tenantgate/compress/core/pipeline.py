"""The way of a text: marks, what is asked for, folding, pruning, and a check after each step. Under a deadline.

Nothing here raises for a text, and nothing comes out longer in tokens than it went in. Words go only from transcripts
of talk in English, and from English prose that the client marked, where a summary or an answer from the content is
asked for; what stands around them is copied, not rebuilt.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from tenantgate.compress.config import CompressConfig
from tenantgate.compress.core.blocks import blocks, is_natural
from tenantgate.compress.core.checking import Problem, check_folded, check_pruned
from tenantgate.compress.core.folding import HARMLESS, STEPS, fold
from tenantgate.compress.core.plan import Part, is_text, parts, rate_for
from tenantgate.compress.core.ports import Pruner, TokenCounter
from tenantgate.compress.core.prose import marked_prose
from tenantgate.compress.core.protected_words import protected
from tenantgate.compress.core.spans import Span, merged
from tenantgate.compress.core.tags import Section, sections
from tenantgate.compress.core.task import MOST_CHARACTERS, Task, asked_of_request, asked_of_text
from tenantgate.compress.core.time_budget import OutOfTimeError, Work
from tenantgate.compress.core.transcript import English, Transcript, transcripts
from tenantgate.llm.chat import ChatRequest

__all__ = ["Compressed", "Compressor", "OutOfTimeError", "Steps", "joined"]


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


def _no_english(_text: str) -> float:
    return 0.0


def remembering(english: English) -> English:
    """`english` for one request, whose sentences are looked at more than once."""
    known: dict[str, float] = {}

    def ask(text: str) -> float:
        if text not in known:
            known[text] = english(text)
        return known[text]

    return ask


class Compressor:
    """The pipeline of one configuration. Safe for threads if the ports are.

    `english` says how likely a text is English, 0 to 1; without it no text is, and none is pruned.
    """

    def __init__(
        self,
        config: CompressConfig,
        counter: TokenCounter,
        pruner: Pruner | None,
        *,
        english: English = _no_english,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config = config
        self._counter = counter
        self._pruner = pruner if config.prune else None
        self._english = english
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
        found = parts(request, self._config)
        if not found:
            return
        work = self._work(deadline)
        work.check()
        short = all(
            len(part.text.encode()) < self._config.min_tokens and "<llmlingua" not in part.text.lower()
            for part in found
        )
        english = remembering(self._english)
        task = Task.UNKNOWN if short else asked_of_request(request, english, work)
        for part in found:
            yield part, self._text(part.text, task, english, work)

    def text(self, text: str, deadline: float, work: Work | None = None) -> Compressed:
        """The shorter text, or the same, for a request that is this text alone.

        Raises:
            OutOfTimeError: the deadline has passed.
        """
        work = work or self._work(deadline)
        work.check()
        english = remembering(self._english)
        return self._text(text, asked_of_text(text, english, work), english, work)

    def _work(self, deadline: float) -> Work:
        return Work(deadline, self._clock)

    def _text(self, text: str, task: Task, english: English, work: Work) -> Compressed:
        work.check()
        before = self._counter.count(text)
        same = Compressed(text, before, before)
        if len(text) > MOST_CHARACTERS or not text.strip() or not is_text(text):
            return same
        found = sections(text, work)
        marked = any(section.marked for section in found) or "".join(s.text for s in found) != text
        if before < self._config.min_tokens and not marked:
            return same
        texts, steps = [], Steps()
        for section in found:
            result, done = self._section(section, task, before, english, work)
            texts.append(result)
            steps += done
        out = "".join(texts)
        after = self._counter.count(out)
        # Where sections meet, two tokens may be needed for what was one.
        if out == text or after >= before or not out.strip():
            return replace(same, steps=Steps(refused=steps.refused))
        return Compressed(out, before, after, steps)

    def _section(
        self, section: Section, task: Task, size: int, english: English, work: Work
    ) -> tuple[str, Steps]:
        text = section.text
        if not section.compress or task is Task.WORDING:
            return text, Steps()
        fixed = blocks(text, work)
        if not section.marked and not is_natural(text, fixed):
            return text, Steps()
        folded, steps = self._folded(text, fixed, task, work)
        work.check()
        # A client that marks a text asks for it to be pruned, but not for a task whose words may matter.
        passages: Sequence[Transcript] = ()
        if self._pruner is not None and (task is Task.CONTENT or (section.marked and task is Task.NOTHING)):
            passages = transcripts(folded, english, work)
            if section.marked and not passages:
                passages = marked_prose(folded, english, work)
        pruned, more = self._pruned(folded, passages, size, work)
        work.check()
        return pruned, steps + more

    def _folded(self, text: str, fixed: tuple[Span, ...], task: Task, work: Work) -> tuple[str, Steps]:
        steps = [name for name in self._fold_steps if task is Task.CONTENT or name in HARMLESS]
        if not steps:
            return text, Steps()
        out = fold(text, steps, work)
        if out == text:
            return text, Steps()
        before, after = self._counter.count(text), self._counter.count(out)
        problem = check_folded(text, out, fixed, before=before, after=after)
        if problem:
            return text, Steps(refused=(problem,) if problem is not Problem.LONGER else ())
        return out, Steps(folded=before - after)

    def _pruned(self, text: str, passages: Sequence[Transcript], size: int, work: Work) -> tuple[str, Steps]:
        """`text` with its passages pruned; all else is copied."""
        rate = rate_for(size, self._config)
        if rate is None or not passages:
            return text, Steps()
        out, place, steps = [], 0, Steps()
        for passage in passages:
            result, done = self._passage(text[passage.start : passage.end], passage, rate, work)
            out += [text[place : passage.start], result]
            place, steps = passage.end, steps + done
        return "".join([*out, text[place:]]), steps

    def _passage(self, text: str, passage: Transcript, rate: float, work: Work) -> tuple[str, Steps]:
        free = [(start - passage.start, end - passage.start) for start, end in passage.free]
        spans = merged([*protected(text, work), *_between(text, free)])
        work.check()
        kept = self._pruner.keep(text, spans, rate, work.deadline) if self._pruner else None
        if kept is None:
            return text, Steps()
        out = joined(text, kept)
        if out is None:
            return text, Steps(refused=(Problem.LOST,))
        before = self._counter.count(text)
        problem = check_pruned(text, out, spans, count=self._counter.count, before=before)
        if problem:
            return text, Steps(refused=(problem,) if problem is not Problem.LONGER else ())
        return out, Steps(pruned=before - self._counter.count(out))


def _between(text: str, free: Sequence[tuple[int, int]]) -> Iterator[Span]:
    """What is outside of the free spans; the line ends between them go and stay with the lines."""
    place = 0
    for start, end in [*free, (len(text), len(text))]:
        if text[place:start].strip():
            yield Span(place, start)
        place = end


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
