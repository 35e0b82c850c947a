"""No text is slow: the work grows with the size, and ends when the time is up."""

from __future__ import annotations

from itertools import chain, repeat

import pytest

from tenantgate.bench.slow_texts import FAMILIES, text_of
from tenantgate.checkpoints import checked_by
from tenantgate.compress.config import CompressConfig
from tenantgate.compress.core.fillers import FillerPruner
from tenantgate.compress.core.pipeline import Compressor
from tenantgate.compress.core.protected_words import protected
from tenantgate.compress.core.task import MOST_CHARACTERS
from tenantgate.compress.core.time_budget import OutOfTimeError, Work

SMALL, LARGE = 5_000, 20_000
PER_CHARACTER = 4
"""Steps: several passes, each of which looks at each line, match and word once."""


class Bytes:
    """A token for each four bytes."""

    name = "bytes"

    def count(self, text: str) -> int:
        return len(text.encode()) // 4


def compressor(**more: object) -> Compressor:
    config = CompressConfig(min_tokens=0)
    return Compressor(config, Bytes(), FillerPruner(), english=lambda text: 1.0, **more)  # type: ignore[arg-type]


def steps(family: str, size: int) -> int:
    work = Work()
    compressor().text(text_of(family, size), work.deadline, work)
    return work.steps


@pytest.mark.parametrize("family", FAMILIES)
def test_four_times_the_text_is_about_four_times_the_work(family: str) -> None:
    small, large = steps(family, SMALL), steps(family, LARGE)  # a runaway expression would take minutes
    assert large <= 5 * small + 200
    assert large <= PER_CHARACTER * LARGE


@pytest.mark.parametrize("family", FAMILIES)
def test_what_talk_is_searched_for_is_found_in_one_pass(family: str) -> None:
    small, large = Work(), Work()
    protected(text_of(family, SMALL), small)
    protected(text_of(family, LARGE), large)
    assert large.steps <= 5 * small.steps + 200
    assert large.steps <= PER_CHARACTER * LARGE


def test_what_is_larger_than_any_deadline_allows_is_not_read() -> None:
    text = text_of("talk", 2 * MOST_CHARACTERS)
    work = Work()
    assert compressor().text(text, work.deadline, work).text == text
    assert work.steps == 0


@pytest.mark.parametrize(
    "family", ["talk", "open tags", "open fences", "quotes on lines", "lines of one letter"]
)
def test_the_clock_is_asked_all_along_and_ends_the_work(family: str) -> None:
    looks = 8
    ticks = chain(repeat(0.0, looks), repeat(2.0))
    work = Work(1.0, lambda: next(ticks))
    with pytest.raises(OutOfTimeError):
        compressor().text(text_of(family, 100_000), 1.0, work)
    assert work.steps <= looks * 2_000


@pytest.mark.parametrize("count", [1, 100, 100_000])
def test_steps_are_counted_and_the_clock_is_not_asked_at_each(count: int) -> None:
    asked: list[int] = []
    work = Work(1.0, lambda: asked.append(1) or 0.0)  # type: ignore[func-returns-value]
    for _ in range(1_000):
        work.step(count)
    assert work.steps == 1_000 * count
    assert len(asked) <= 1_000
    assert len(asked) <= work.steps // 256


def test_each_look_at_the_clock_is_a_checkpoint() -> None:
    asked = []
    with checked_by(lambda: asked.append(1)):
        compressor().text(text_of("talk", SMALL), float("inf"), work := Work())
    assert len(asked) >= work.steps // 300
