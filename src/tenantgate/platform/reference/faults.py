"""What the reference platform does to requests that a test names, in place of answering them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final

__all__ = ["FAULTS", "Fault", "Faults"]

FAULTS: Final[Mapping[str, str]] = {
    "": "answers with `status`, where that isn't 200",
    "close": "closes the connection without an answer, and without doing anything",
    "hang": "takes the request and never answers",
    "lost_answer": "does what is asked, and closes the connection without an answer",
    "malformed": "answers 200 with a body that isn't JSON",
    "short": "announces a longer body than it sends",
    "large": "answers with a body that never ends",
}


@dataclass(slots=True, kw_only=True)
class Fault:
    """A fault for the requests that match; an empty `path` matches all.

    Raises:
        ValueError: there is no such fault.
    """

    fault: str = ""
    path: str = ""
    """Beginning of the path."""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    latency_ms: float = 0.0
    skip: int = 0
    """So many matching requests are let pass first."""
    times: int = 0
    """How many requests it is for; 0: all."""
    seen: int = 0

    def __post_init__(self) -> None:
        if self.fault not in FAULTS:
            raise ValueError(f"fault: must be one of {', '.join(FAULTS)}")

    def takes(self, path: str) -> bool:
        """Count a request, if it matches; whether the fault is for it."""
        if not path.startswith(self.path):
            return False
        self.seen += 1
        return self.seen > self.skip and (not self.times or self.seen <= self.skip + self.times)


class Faults:
    """The first fault that is for a request decides."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []

    def set(self, tables: Any) -> None:
        """Replace all by those in a list of JSON objects.

        Raises:
            ValueError, TypeError: it holds something else.
        """
        known = {f.name for f in fields(Fault)} - {"seen"}
        made = []
        for table in tables:
            if unknown := set(table) - known:
                raise ValueError(f"a fault has no {', '.join(sorted(unknown))}")
            made.append(Fault(**table))
        self._faults = made

    def choose(self, path: str) -> Fault | None:
        """The fault for the next request to `path`."""
        return next((fault for fault in self._faults if fault.takes(path)), None)
