"""The work on one request: how much of it was done, and whether there is time for more."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from tenantgate.checkpoints import checkpoint

__all__ = ["OutOfTimeError", "Work"]

_BETWEEN_LOOKS: Final = 256  # steps between two looks at the clock: some 0.1 ms


class OutOfTimeError(Exception):
    """The deadline has passed; the original goes out."""


class Work:
    """Counts the steps of all loops over a text, so that tests can tell linear from quadratic; ends them in time.

    `deadline` is in seconds of `clock`. For one thread.
    """

    def __init__(self, deadline: float = float("inf"), clock: Callable[[], float] = time.monotonic) -> None:
        self.deadline = deadline
        self.steps = 0
        """Steps so far: a step looks at one line, match, word or span."""
        self._clock = clock
        self._next_look = _BETWEEN_LOOKS

    def step(self, count: int = 1) -> None:
        """Note `count` steps.

        Raises:
            OutOfTimeError: the deadline has passed; noticed within some hundred steps.
        """
        self.steps += count
        if self.steps >= self._next_look:
            self.check()

    def check(self) -> None:
        """Look at the clock now; a checkpoint, too (`tenantgate.checkpoints`).

        Raises:
            OutOfTimeError: the deadline has passed.
        """
        self._next_look = self.steps + _BETWEEN_LOOKS
        checkpoint()
        if self._clock() >= self.deadline:
            raise OutOfTimeError
