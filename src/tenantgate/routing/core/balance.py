"""Balance: which of several healthy targets comes first.

Each algorithm gives a target a cost; the lower one comes first. Targets of about equal cost are in the order of the
request's affinity, so that a conversation stays where its prompt is cached already.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tenantgate.routing.core.affinity import score

__all__ = ["ALGORITHMS", "Load", "Option", "Rotation", "ranked"]

_EQUAL: Final = 0.2  # of the lowest latency: less than what measurements of one target differ by

PRIORITY: Final = "priority"
ROUND_ROBIN: Final = "round-robin"
LEAST_BUSY: Final = "least-busy"
LOWEST_LATENCY: Final = "lowest-latency"
LOWEST_COST: Final = "lowest-cost"
CONSISTENT_HASHING: Final = "consistent-hashing"


@dataclass(frozen=True, slots=True)
class Load:
    """Size of a request: tokens of its prompt, and those expected of its reply."""

    prompt_tokens: float = 0.0
    reply_tokens: float = 0.0


@dataclass(frozen=True, slots=True)
class Option:
    """A target as the algorithms see it.

    Attributes:
        index: its place in the model's list.
        name: its id.
        weight: its share; 0: only after the others.
        in_flight: requests that it is working on.
        latency_s: expected time to the first byte; 0: not measured lately, so it is worth a try.
        input_cost, output_cost: for a million tokens; None: not known.
    """

    index: int
    name: str
    weight: int = 100
    in_flight: int = 0
    latency_s: float = 0.0
    input_cost: float | None = None
    output_cost: float | None = None


class Rotation:
    """Turns of round-robin in one process: smooth weighted rotation, as nginx has it.

    Source: https://github.com/nginx/nginx/commit/52327e0627f49dbda1e8db695e63a4b0af4448b1
    """

    def __init__(self) -> None:
        self._current: dict[str, float] = {}

    def next(self, options: Sequence[Option]) -> str:
        """The name of the target whose turn it is; `options` isn't empty."""
        names = {option.name for option in options}
        for gone in self._current.keys() - names:
            del self._current[gone]
        total = 0.0
        for option in options:
            weight = max(option.weight, 0) or 1e-9
            total += weight
            self._current[option.name] = self._current.get(option.name, 0.0) + weight
        chosen = max(options, key=lambda o: (self._current[o.name], -o.index))
        self._current[chosen.name] -= total
        return chosen.name


def ranked(
    balance: str, options: Sequence[Option], *, key: bytes, load: Load, rotation: Rotation
) -> list[Option]:
    """The options in the order in which they are tried.

    Args:
        balance: an algorithm of `ALGORITHMS`; an unknown one is taken as ``priority``.
        options: healthy targets.
        key: of the request's affinity.
        load: of the request, for the lowest cost.
        rotation: of the model, for round-robin; it moves on.
    """
    if not options:
        return []
    cost = ALGORITHMS.get(balance, _priority)(options, load, rotation)

    def place(option: Option) -> tuple[bool, float, float, int]:
        return option.weight <= 0, cost[option.name], -score(key, option.name, option.weight), option.index

    return sorted(options, key=place)


def _priority(options: Sequence[Option], _load: Load, _rotation: Rotation) -> Mapping[str, float]:
    return {option.name: float(option.index) for option in options}


def _round_robin(options: Sequence[Option], _load: Load, rotation: Rotation) -> Mapping[str, float]:
    first = rotation.next(options)
    return {option.name: float(option.name != first) for option in options}


def _least_busy(options: Sequence[Option], _load: Load, _rotation: Rotation) -> Mapping[str, float]:
    return {option.name: option.in_flight / max(option.weight, 1) for option in options}


def _lowest_latency(options: Sequence[Option], _load: Load, _rotation: Rotation) -> Mapping[str, float]:
    lowest = min(option.latency_s for option in options)
    equal = lowest * (1 + _EQUAL)
    return {o.name: lowest if o.latency_s <= equal else o.latency_s for o in options}


def _lowest_cost(options: Sequence[Option], load: Load, _rotation: Rotation) -> Mapping[str, float]:
    def cost(option: Option) -> float:
        if option.input_cost is None or option.output_cost is None:
            return math.inf  # what isn't known may be dear
        return load.prompt_tokens * option.input_cost + load.reply_tokens * option.output_cost

    return {option.name: cost(option) for option in options}


def _consistent_hashing(options: Sequence[Option], _load: Load, _rotation: Rotation) -> Mapping[str, float]:
    return dict.fromkeys((option.name for option in options), 0.0)


ALGORITHMS: Final[Mapping[str, Callable[[Sequence[Option], Load, Rotation], Mapping[str, float]]]] = {
    PRIORITY: _priority,
    ROUND_ROBIN: _round_robin,
    LEAST_BUSY: _least_busy,
    LOWEST_LATENCY: _lowest_latency,
    LOWEST_COST: _lowest_cost,
    CONSISTENT_HASHING: _consistent_hashing,
}
"""By the name in tenants.yaml a function that gives each target its cost."""
